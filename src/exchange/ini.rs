//! INI files as systemd and as Supervisor read them, each entry with its line.
//!
//! The lines are `ini_core`'s affair; what it leaves open, because every program has its own rules, is here: which lines belong together.

use std::path::Path;

use ini_core::{Item, Parser};

use super::report::{Refusal, Spot};

/// Entries of one file at most.
const MOST: usize = 200_000;

/// Whose rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `\` at a line's end goes on; comments begin a line.
    Systemd,
    /// An indented line goes on; ` ;` begins a comment anywhere; `:` will do for `=`.
    Supervisor,
}

/// `key = value` in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) spot: Spot,
}

/// Every entry of a text, and of each section where it begins.
pub(super) struct Ini {
    pub(super) sections: Vec<(String, Spot)>,
    pub(super) entries: Vec<Entry>,
}

/// Reads a text.
///
/// # Errors
/// Every line that is neither a section nor an entry nor a comment.
pub(super) fn read(text: &str, file: &Path, dialect: Dialect) -> Result<Ini, Vec<Refusal>> {
    let (joined, lines) = logical_lines(text.trim_start_matches('\u{feff}'), dialect);
    let spot = Spot::new(file, 1);
    let mut ini = Ini { sections: Vec::new(), entries: Vec::new() };
    let mut refusals = Vec::new();
    let mut parser = Parser::new(&joined).comment_char(b'#').auto_trim(true);
    loop {
        let at = lines.get(parser.line() as usize).copied().unwrap_or(1);
        let Some(item) = parser.next() else { break };
        let here = spot.at(at);
        match item {
            Item::Section(name) => ini.sections.push((name.to_owned(), here)),
            // Something stands behind the bracket.
            Item::Error(line) => match line.trim_start_matches('[').split_once(']') {
                Some((name, rest)) if rest.trim().is_empty() || rest.trim_start().starts_with([';', '#']) => {
                    ini.sections.push((name.to_owned(), here));
                }
                _ => refusals.push(Refusal::new(&here, format!("`{line}` is no section: `[name]` is one"))),
            },
            Item::Property(key, _) if key.starts_with(';') => {}
            Item::Property(key, value) => {
                let whole = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
                match (entry(&whole, dialect), ini.sections.last()) {
                    (Some((key, value)), Some((section, _))) => {
                        let entry = Entry { section: section.clone(), key, value, spot: here };
                        ini.entries.push(entry);
                    }
                    (Some((key, _)), None) => {
                        refusals.push(Refusal::new(&here, format!("`{key}` stands before the first section")));
                    }
                    (None, _) => {
                        refusals.push(Refusal::new(&here, format!("`{whole}` is no entry: `key=value` is one")))
                    }
                }
            }
            Item::SectionEnd | Item::Comment(_) | Item::Blank => {}
        }
        if ini.entries.len() + refusals.len() > MOST {
            refusals.truncate(10);
            refusals.push(Refusal::new(&spot.at(at), format!("there are more than {MOST} entries: split the file")));
            break;
        }
    }
    if refusals.is_empty() { Ok(ini) } else { Err(refusals) }
}

fn entry(line: &str, dialect: Dialect) -> Option<(String, String)> {
    let delimiters: &[char] = if dialect == Dialect::Supervisor { &['=', ':'] } else { &['='] };
    let (key, value) = line.split_once(delimiters)?;
    let key = key.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!key.is_empty() && key.chars().all(plain)).then(|| (key.to_owned(), value.trim().to_owned()))
}

/// The text with what belongs together in one line each, and the number of each line.
fn logical_lines(text: &str, dialect: Dialect) -> (String, Vec<usize>) {
    let (mut out, mut numbers) = (String::with_capacity(text.len()), Vec::new());
    let mut goes_on = false;
    for (at, line) in text.lines().enumerate() {
        // A lone carriage return would end a line for the parser, and not for us.
        let line = line.trim_end_matches('\r').replace('\r', " ");
        let trimmed = line.trim();
        let is_comment = trimmed.starts_with(['#', ';']);
        match dialect {
            Dialect::Systemd => {
                if goes_on && is_comment {
                    continue;
                }
                if !goes_on {
                    begin(&mut out, &mut numbers, at + 1);
                }
                let more = !is_comment && line.ends_with('\\');
                let kept = if more { &line[..line.len() - 1] } else { line.as_str() };
                out.push_str(if goes_on { kept } else { kept.trim_start() });
                if more {
                    out.push(' ');
                }
                goes_on = more;
            }
            Dialect::Supervisor => {
                let indented = line.starts_with([' ', '\t']) && !trimmed.is_empty();
                let kept = without_comment(&line);
                if indented && goes_on {
                    if !is_comment {
                        out.push(' ');
                        out.push_str(kept.trim());
                    }
                    continue;
                }
                begin(&mut out, &mut numbers, at + 1);
                out.push_str(kept.trim());
                goes_on = !trimmed.is_empty() && !is_comment && !trimmed.starts_with('[');
            }
        }
    }
    (out, numbers)
}

fn begin(out: &mut String, numbers: &mut Vec<usize>, line: usize) {
    if !numbers.is_empty() {
        out.push('\n');
    }
    numbers.push(line);
}

/// A line up to a `;` that has a blank before it.
fn without_comment(line: &str) -> &str {
    let begins = |at: usize| at == 0 || line[..at].ends_with([' ', '\t']);
    line.match_indices(';').find(|(at, _)| begins(*at)).map_or(line, |(at, _)| &line[..at])
}
