//! Commands in a step's output: `::name key=value,key=value::data`, one a line, and `##[name key=value;…]data`, their older form.

use serde::{Deserialize, Serialize};

/// What a line of output asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What follows is folded under this title.
    Group(String),
    /// The fold ends.
    EndGroup,
    /// This value is not to be shown from here on.
    AddMask(String),
    /// Something that the run's page shows.
    Annotate(Annotation),
    /// What is shown to those only who asked for more.
    Debug(String),
    /// The older way to say an output: it still counts, and a warning says that `$GITHUB_OUTPUT` is the way.
    SetOutput {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Nothing is a command until `::token::`.
    Stop,
    /// Commands count again.
    Resume,
    /// One that the runner takes and that means nothing here (`echo`, `add-matcher`, `save-state`…).
    Ignored,
    /// One that is known and not done, and why: the step fails by it, as there.
    Refused(String),
}

/// An annotation's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something to know.
    Notice,
    /// Something to look at.
    Warning,
    /// Something to mend.
    Error,
}

/// A message with a place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// How grave it is.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Its title.
    pub title: Option<String>,
    /// The file that it is about.
    pub file: Option<String>,
    /// Its first line there, from 1.
    pub line: Option<u32>,
    /// Its last line.
    pub end_line: Option<u32>,
    /// Its first column.
    pub column: Option<u32>,
    /// Its last column.
    pub end_column: Option<u32>,
}

/// Longer lines are no commands.
pub(super) const LONGEST: usize = 64 << 10;

/// Reads a step's output line by line. All it remembers is whether commands are stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    /// The word that ends `stop-commands`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Commands {
    /// What this line asks for, without its end. `None`: it is output as any other.
    ///
    /// Of a line that is none only the first bytes are looked at.
    pub fn line(&mut self, line: &[u8]) -> Option<Command> {
        let line = line.trim_ascii_start();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !(line.starts_with(b"::") || line.starts_with(b"##[")) || line.len() > LONGEST {
            return None;
        }
        let line = String::from_utf8_lossy(line);
        let Raw { name, properties, data } = Raw::split(&line)?;
        if let Some(token) = &self.token {
            let ends = name.eq_ignore_ascii_case(token);
            return ends.then(|| {
                self.token = None;
                Command::Resume
            });
        }
        let property = |wanted: &str| {
            let found = properties.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let number = |wanted| property(wanted)?.parse().ok();
        let annotate = |level, message| {
            Command::Annotate(Annotation {
                level,
                message,
                title: property("title"),
                file: property("file"),
                line: number("line"),
                end_line: number("endLine"),
                column: number("col"),
                end_column: number("endColumn"),
            })
        };
        Some(match &*name.to_ascii_lowercase() {
            "group" => Command::Group(data),
            "endgroup" => Command::EndGroup,
            "add-mask" if data.trim().is_empty() => Command::Ignored,
            "add-mask" => Command::AddMask(data),
            "notice" => annotate(Level::Notice, data),
            "warning" => annotate(Level::Warning, data),
            "error" => annotate(Level::Error, data),
            "debug" => Command::Debug(data),
            "set-output" => match property("name") {
                Some(name) => Command::SetOutput { name, value: data },
                None => Command::Refused("`set-output` without a name".into()),
            },
            "stop-commands" => match data.trim() {
                "" => Command::Refused("`stop-commands` without a word to go on by".into()),
                token => {
                    self.token = Some(token.to_owned());
                    Command::Stop
                }
            },
            "set-env" => Command::Refused("`set-env` is not done: write to `$GITHUB_ENV`".into()),
            "add-path" => Command::Refused("`add-path` is not done: write to `$GITHUB_PATH`".into()),
            "echo" | "add-matcher" | "remove-matcher" | "save-state" => Command::Ignored,
            _ => return None,
        })
    }
}

/// A command before it is known which.
struct Raw<'a> {
    name: &'a str,
    properties: Vec<(&'a str, String)>,
    data: String,
}

impl Raw<'_> {
    fn split(line: &str) -> Option<Raw<'_>> {
        let (head, data, between, escapes) = match line.strip_prefix("::") {
            Some(rest) => {
                let (head, data) = rest.split_once("::")?;
                (head, data, ',', &PROPERTY[..])
            }
            None => {
                let (head, data) = line.strip_prefix("##[")?.split_once(']')?;
                (head, data, ';', &OLDER[..])
            }
        };
        let data = unescape(data, if between == ',' { &DATA } else { escapes });
        let (name, listed) = head.split_once(' ').unwrap_or((head, ""));
        let pairs = listed.split(between).filter_map(|pair| pair.split_once('='));
        let properties = pairs.map(|(key, value)| (key.trim(), unescape(value, escapes))).collect();
        Some(Raw { name, properties, data })
    }
}

const DATA: [(&str, char); 3] = [("%0D", '\r'), ("%0A", '\n'), ("%25", '%')];
const PROPERTY: [(&str, char); 5] = [("%0D", '\r'), ("%0A", '\n'), ("%3A", ':'), ("%2C", ','), ("%25", '%')];
const OLDER: [(&str, char); 5] = [("%3B", ';'), ("%0D", '\r'), ("%0A", '\n'), ("%5D", ']'), ("%25", '%')];

fn unescape(text: &str, escapes: &[(&str, char)]) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let (letter, length) = match escapes.iter().find(|(escape, _)| rest.starts_with(escape)) {
            Some((escape, letter)) => (*letter, escape.len()),
            None => ('%', 1),
        };
        plain.push(letter);
        rest = &rest[length..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Option<Command> {
        Commands::default().line(line.as_bytes())
    }

    #[test]
    fn lines_that_begin_like_commands_are_read() {
        let said = |lines: &[&str]| lines.iter().map(|line| format!("{line} -> {:?}", one(line))).collect::<Vec<_>>();
        let said = said(&[
            "::group::Build it",
            "  ::endgroup::",
            "::add-mask::hunter2",
            "::add-mask:: ",
            "::debug::a%0Ab%25",
            "::set-output name=digest::a::b",
            "::set-output::x",
            "::set-env name=A::b",
            "::save-state name=x::1",
            "##[group]older",
            "##[warning file=a;line=3]watch%5D out",
            "::stop-commands::",
            "::unknown::x",
            "::group",
            ": :group::",
            "say ::group::x",
        ]);
        insta::assert_snapshot!(said.join("\n"), @r#"
        ::group::Build it -> Some(Group("Build it"))
          ::endgroup:: -> Some(EndGroup)
        ::add-mask::hunter2 -> Some(AddMask("hunter2"))
        ::add-mask::  -> Some(Ignored)
        ::debug::a%0Ab%25 -> Some(Debug("a\nb%"))
        ::set-output name=digest::a::b -> Some(SetOutput { name: "digest", value: "a::b" })
        ::set-output::x -> Some(Refused("`set-output` without a name"))
        ::set-env name=A::b -> Some(Refused("`set-env` is not done: write to `$GITHUB_ENV`"))
        ::save-state name=x::1 -> Some(Ignored)
        ##[group]older -> Some(Group("older"))
        ##[warning file=a;line=3]watch%5D out -> Some(Annotate(Annotation { level: Warning, message: "watch] out", title: None, file: Some("a"), line: Some(3), end_line: None, column: None, end_column: None }))
        ::stop-commands:: -> Some(Refused("`stop-commands` without a word to go on by"))
        ::unknown::x -> None
        ::group -> None
        : :group:: -> None
        say ::group::x -> None
        "#);
    }

    #[test]
    fn an_annotation_has_a_place() {
        let line = "::error file=src/a%2Cb.rs,line=3,endLine=5,col=x,title=Oh%3A no::it: broke%0Ahere";
        let wanted = Annotation {
            level: Level::Error,
            message: "it: broke\nhere".into(),
            title: Some("Oh: no".into()),
            file: Some("src/a,b.rs".into()),
            line: Some(3),
            end_line: Some(5),
            column: None,
            end_column: None,
        };
        assert_eq!(one(line), Some(Command::Annotate(wanted)));
    }

    #[test]
    fn nothing_is_a_command_until_the_word_comes() {
        let mut commands = Commands::default();
        let mut read = |line: &str| commands.line(line.as_bytes());
        assert_eq!(read("::stop-commands::pause-1"), Some(Command::Stop));
        assert_eq!(read("::error::not one"), None);
        assert_eq!(read("::stop-commands::other"), None);
        assert_eq!(read("::Pause-1::"), Some(Command::Resume));
        assert_eq!(read("::endgroup::"), Some(Command::EndGroup));
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "[a%0-9A-D:,;\n\r]{0,30}") {
            let escaped = text.replace('%', "%25").replace('\n', "%0A").replace('\r', "%0D");
            prop_assert_eq!(unescape(&escaped, &DATA), text.clone());
            let property = escaped.replace(':', "%3A").replace(',', "%2C");
            prop_assert_eq!(unescape(&property, &PROPERTY), text);
        }

        #[test]
        fn no_bytes_do_harm(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let mut commands = Commands::default();
            for line in lines {
                commands.line(&[b"::", &line[..]].concat());
                commands.line(&[b"##[", &line[..]].concat());
            }
        }
    }
}
