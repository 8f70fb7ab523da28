//! Command lines and texts of units: quotes, `%` specifiers, `$` variables.

use std::path::Path;

use super::{super::super::draft::literal, find::Unit};

/// What `$NAME` and `${NAME}` may mean.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One command of an `Exec…` line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// The signs before the program.
    pub(super) prefix: String,
    /// Program and arguments, `$(NAME)` for variables.
    pub(super) words: Vec<String>,
    /// Variables that nobody here knows.
    pub(super) unknown: Vec<String>,
}

/// The commands of a line; `;` stands between them.
///
/// # Errors
/// A sentence for the unit's author.
pub(super) fn commands(line: &str, unit: &Unit, variables: Variables<'_>) -> Result<Vec<Command>, String> {
    let mut all = Vec::new();
    let mut current = Command::default();
    for (word, bare) in split(line)? {
        if bare && word == ";" {
            all.push(std::mem::take(&mut current));
            continue;
        }
        let mut word = word;
        if current.words.is_empty() {
            let end = word.find(|c| !"-@:+!|".contains(c)).unwrap_or(word.len());
            current.prefix = word[..end].to_owned();
            word = word[end..].to_owned();
        }
        let word = if bare && word == "\\;" { ";".to_owned() } else { word };
        let word = specifiers(&word, unit)?;
        if current.prefix.contains(':') || current.words.is_empty() {
            current.words.push(literal(&word));
        } else {
            substitute(&word, variables, &mut current);
        }
    }
    all.push(current);
    for command in &mut all {
        if command.prefix.contains('@') && command.words.len() > 1 {
            command.words.remove(1);
        }
    }
    match all.iter().any(|command| command.words.first().is_none_or(String::is_empty)) {
        true => Err("there is no program to run".to_owned()),
        false => Ok(all),
    }
}

/// `${NAME}` within a word, `$NAME` as a word of its own, which becomes as many as its value has.
fn substitute(word: &str, variables: Variables<'_>, command: &mut Command) {
    let is_name = |name: &str| super::super::super::env_file::is_name(name) && !name.contains(['.', '-']);
    if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
        match variables(name) {
            Some(value) => {
                let words = value.split_whitespace().map(literal);
                command.words.extend(words);
            }
            // Of one that is not set nothing is left, as there; a hook is asked for this one by name.
            None => {
                command.unknown.push(name.to_owned());
                if is_set_by_systemd(name) {
                    command.words.push(format!("$({name})"));
                }
            }
        }
        return;
    }
    let (mut out, mut plain) = (String::new(), String::new());
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}')).filter(|(name, _)| is_name(name));
        rest = match braced {
            Some((name, tail)) => {
                if variables(name).is_none() {
                    command.unknown.push(name.to_owned());
                }
                if variables(name).is_some() || is_set_by_systemd(name) {
                    out.push_str(&literal(&plain));
                    // Before an expansion a dollar sign of its own would take it back.
                    if (plain.len() - plain.trim_end_matches('$').len()) % 2 == 1 {
                        out.push('$');
                    }
                    plain.clear();
                    out.push_str(&format!("$({name})"));
                }
                tail
            }
            None => {
                plain.push('$');
                after.strip_prefix('$').unwrap_or(after)
            }
        };
    }
    plain.push_str(rest);
    out.push_str(&literal(&plain));
    command.words.push(out);
}

/// True of what systemd sets when it starts something: a value that no unit says.
pub(super) fn is_set_by_systemd(name: &str) -> bool {
    let of_the_user = ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG"];
    let of_the_start =
        ["MAINPID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "INVOCATION_ID", "CREDENTIALS_DIRECTORY", "TRIGGER_UNIT"];
    of_the_user.contains(&name) || of_the_start.contains(&name)
}

/// Words as a line of a shell, which is given the variables by the environment: their values cannot end a quote.
pub(super) fn shell_line(words: &[String]) -> String {
    let quoted = |text: &str| shlex::try_quote(text).map(std::borrow::Cow::into_owned).unwrap_or_default();
    let one = |word: &String| {
        let (mut out, mut plain, mut rest) = (String::new(), String::new(), word.as_str());
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let named = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            rest = match (after.strip_prefix('$'), named) {
                (None, Some((name, tail))) => {
                    if !plain.is_empty() {
                        out.push_str(&quoted(&plain));
                    }
                    plain.clear();
                    out.push_str(&format!("\"${{{name}}}\""));
                    tail
                }
                (tail, _) => {
                    plain.push('$');
                    tail.unwrap_or(after)
                }
            };
        }
        plain.push_str(rest);
        if out.is_empty() || !plain.is_empty() {
            out.push_str(&quoted(&plain));
        }
        out
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Words, and whether they stood without quotes.
///
/// # Errors
/// When a quote is not closed.
pub(super) fn split(line: &str) -> Result<Vec<(String, bool)>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(first) = chars.peek().copied() {
        if first.is_whitespace() {
            chars.next();
            continue;
        }
        let (mut word, mut bare, mut quote) = (String::new(), true, None);
        while let Some(c) = chars.peek().copied() {
            match quote {
                None if c.is_whitespace() => break,
                None if c == '"' || c == '\'' => {
                    quote = Some(c);
                    bare = false;
                    chars.next();
                }
                Some(open) if c == open => {
                    quote = None;
                    chars.next();
                }
                _ if c == '\\' => {
                    chars.next();
                    if chars.peek() == Some(&';') && word.is_empty() && bare {
                        word.push('\\');
                    } else {
                        word.push(escape(&mut chars)?);
                    }
                }
                _ => {
                    word.push(c);
                    chars.next();
                }
            }
        }
        if let Some(open) = quote {
            return Err(format!("a {open} is not closed"));
        }
        words.push((word, bare));
    }
    Ok(words)
}

/// What stands behind a backslash, as in C.
fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, String> {
    let Some(c) = chars.next() else { return Ok('\\') };
    let (mut digits, more, radix) = match c {
        'a' => return Ok('\x07'),
        'b' => return Ok('\x08'),
        'f' => return Ok('\x0c'),
        'n' => return Ok('\n'),
        'r' => return Ok('\r'),
        't' => return Ok('\t'),
        'v' => return Ok('\x0b'),
        's' => return Ok(' '),
        '\\' | '"' | '\'' | '$' => return Ok(c),
        'x' => (String::new(), 2, 16),
        'u' => (String::new(), 4, 16),
        'U' => (String::new(), 8, 16),
        '0'..='7' => (c.to_string(), 2, 8),
        other => return Err(format!("`\\{other}` is no escape of systemd's; `\\\\` is a backslash")),
    };
    for _ in 0..more {
        digits.extend(chars.next());
    }
    let value = u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32);
    value.filter(|c| *c != '\0').ok_or_else(|| format!("`\\{digits}` is no character"))
}

/// The text with its `%` specifiers expanded.
///
/// # Errors
/// For those that are not known before the unit runs.
pub(super) fn specifiers(text: &str, unit: &Unit) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        let stem = unit.stem();
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let last = |text: &str| text.rsplit('-').next().unwrap_or_default().to_owned();
        let known = match chars.next() {
            Some('%') => "%".to_owned(),
            Some('n') => unit.name.clone(),
            Some('N') => stem.to_owned(),
            Some('p') => prefix.to_owned(),
            Some('P') => unescaped(prefix),
            Some('i') => instance.to_owned(),
            Some('I') => unescaped(instance),
            Some('j') => last(prefix),
            Some('J') => unescaped(&last(prefix)),
            Some('f') => {
                format!("/{}", unescaped(if instance.is_empty() { prefix } else { instance }).trim_start_matches('/'))
            }
            Some('t') => "/run".to_owned(),
            Some('S') => "/var/lib".to_owned(),
            Some('C') => "/var/cache".to_owned(),
            Some('L') => "/var/log".to_owned(),
            Some('E') => "/etc".to_owned(),
            Some('T') => "/tmp".to_owned(),
            Some('V') => "/var/tmp".to_owned(),
            Some('y') => unit.path.display().to_string(),
            Some('Y') => unit.path.parent().unwrap_or(Path::new("/")).display().to_string(),
            Some('u') => unit.value("Service", "User").unwrap_or("root").to_owned(),
            Some('g') => unit.value("Service", "Group").or(unit.value("Service", "User")).unwrap_or("root").to_owned(),
            Some(c) if "abBAHlmMoqvwWUGhsd".contains(c) => {
                return Err(format!(
                    "`%{c}` is known when the unit runs only; write what it stands for, or `%%` for a percent sign"
                ));
            }
            Some(c) => return Err(format!("`%{c}` is no specifier of systemd's; `%%` is a percent sign")),
            None => "%".to_owned(),
        };
        out.push_str(&known);
        rest = chars.as_str();
    }
    out.push_str(rest);
    Ok(out)
}

/// A name of a unit as the path or text that it was made of.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |tail: &[u8]| u8::from_str_radix(std::str::from_utf8(tail.get(1..3)?).ok()?, 16).ok();
        rest = tail;
        match (first, hex(tail)) {
            (b'\\', Some(byte)) if tail.first() == Some(&b'x') && byte != 0 => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            (b'-', _) => bytes.push(b'/'),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
