//! Files of variables: `.env`, `env_file`, `EnvironmentFile`.
//!
//! `KEY=VALUE` in a line, with or without `export`; quotes hold a value together, also over lines; `#` begins a comment. Each program has rules of its
//! own beyond that, and they contradict each other, so nothing is expanded here: a `$` stands for itself.

use super::report::{Refusal, Spot};

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) spot: Spot,
    /// True if it stood in quotes that keep everything as it is.
    pub(super) verbatim: bool,
}

/// Every variable of a text.
///
/// # Errors
/// Every line that is none.
pub(super) fn read(text: &str, file: &Spot) -> Result<Vec<Variable>, Vec<Refusal>> {
    let (mut found, mut refusals) = (Vec::new(), Vec::new());
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let spot = file.at(at + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else {
            refusals.push(Refusal::new(&spot, "no variable: `NAME=value` is one"));
            continue;
        };
        if !is_name(name) {
            refusals.push(Refusal::new(&spot, format!("`{name}` is no name of a variable")));
            continue;
        }
        let mut push = |value: String, verbatim| {
            found.push(Variable { name: name.to_owned(), value, spot: spot.clone(), verbatim });
        };
        let Some(quote) = value.chars().next().filter(|c| ['"', '\''].contains(c)) else {
            let plain = value.find(" #").map_or(value, |at| value[..at].trim_end());
            push(plain.to_owned(), false);
            continue;
        };
        let mut text = value[1..].to_owned();
        loop {
            match closed(&text, quote) {
                Some(inside) => {
                    push(inside, quote == '\'');
                    break;
                }
                None => match lines.next() {
                    Some((_, more)) => {
                        text.push('\n');
                        text.push_str(more);
                    }
                    None => {
                        refusals.push(Refusal::new(&spot, format!("a {quote} of `{name}` is not closed")));
                        break;
                    }
                },
            }
        }
    }
    if refusals.is_empty() { Ok(found) } else { Err(refusals) }
}

/// The inside of a text in quotes; `None` if they are not closed in it.
fn closed(text: &str, quote: char) -> Option<String> {
    let mut inside = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Some(inside),
            '\\' if quote == '"' => match chars.next()? {
                'n' => inside.push('\n'),
                't' => inside.push('\t'),
                c @ ('"' | '\\' | '$' | '`') => inside.push(c),
                c => inside.extend(['\\', c]),
            },
            c => inside.push(c),
        }
    }
    None
}

/// What the environment may name.
pub(super) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}
