//! The files that a step may write to: `NAME=value` in lines, or `NAME<<END`, lines, `END`.

use std::{borrow::Cow, collections::BTreeMap};

/// The largest file that is read, and so the most that a step's outputs are together.
pub const LARGEST: usize = 1 << 20;
/// The most names in one file.
pub const MOST_NAMES: usize = 1000;

/// What is wrong with such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ChannelFault {
    /// The line, from 1.
    pub line: usize,
    /// What, in words, with the name that it is about.
    pub message: String,
}

/// What is in `$GITHUB_OUTPUT`. Of a name that is written twice, the last value counts.
pub fn outputs(file: &[u8]) -> Result<BTreeMap<String, String>, ChannelFault> {
    pairs(file, |_, _| Ok(()))
}

/// What is in `$GITHUB_ENV`: variables for the steps that follow.
///
/// Refused are those by which a step would take over the programs of later ones (`LD_*`, `NODE_OPTIONS`…), `PATH`, which has a
/// file of its own, and what says where a step runs (`GITHUB_*`, `RUNNER_*`, `APPM_*`).
pub fn env(file: &[u8]) -> Result<BTreeMap<String, String>, ChannelFault> {
    pairs(file, |name, value| {
        if value.contains('\0') {
            return Err(format!("the value of `{name}` has a zero byte, which no variable can have"));
        }
        match refused(name) {
            Some(why) => Err(format!("`{name}` cannot be set by a step: {why}")),
            None => Ok(()),
        }
    })
}

fn refused(name: &str) -> Option<&'static str> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if name == "PATH" {
        return Some("directories are added through `$GITHUB_PATH`");
    }
    if begins(&["LD_", "DYLD_"]) || ["NODE_OPTIONS", "BASH_ENV", "ENV"].contains(&name) {
        return Some("it would change the programs of later steps");
    }
    begins(&["GITHUB_", "RUNNER_", "APPM_"]).then_some("it says where a step runs")
}

/// What is in `$GITHUB_PATH`: directories, as they are to stand before the others in `PATH`, the last one written first.
pub fn path(file: &[u8]) -> Result<Vec<String>, ChannelFault> {
    let text = bounded(file)?;
    let mut directories: Vec<String> = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        if line.contains([':', '\0']) {
            let message = format!("`{}` is not one directory", shown(line));
            return Err(ChannelFault { line: at + 1, message });
        }
        directories.retain(|known| known != line);
        directories.insert(0, line.to_owned());
    }
    match directories.len() {
        0..=MOST_NAMES => Ok(directories),
        _ => Err(ChannelFault { line: 1, message: format!("there are more than {MOST_NAMES} directories") }),
    }
}

/// What is in `$GITHUB_STEP_SUMMARY`, in Markdown.
pub fn summary(file: &[u8]) -> Result<String, ChannelFault> {
    Ok(bounded(file)?.into_owned())
}

/// The text of a file. What is not UTF-8 in it is replaced, and a byte order mark left out.
fn bounded(file: &[u8]) -> Result<Cow<'_, str>, ChannelFault> {
    if file.len() > LARGEST {
        let message = format!("the file has more than {LARGEST} bytes");
        return Err(ChannelFault { line: 1, message });
    }
    Ok(String::from_utf8_lossy(file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file)))
}

fn pairs(
    file: &[u8],
    check: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<BTreeMap<String, String>, ChannelFault> {
    let text = bounded(file)?;
    let mut found = BTreeMap::new();
    let mut lines = text.split('\n').enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let fault = |message| ChannelFault { line: at + 1, message };
        // The end of the last line begins no other.
        if line.is_empty() {
            continue;
        }
        let (equals, heredoc) = (line.find('='), line.find("<<"));
        let (name, value) = match (equals, heredoc) {
            (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
                (&line[..equals], line[equals + 1..].to_owned())
            }
            (_, Some(heredoc)) => {
                let (name, end) = (&line[..heredoc], &line[heredoc + 2..]);
                if end.is_empty() {
                    return Err(fault(format!("`{}<<` says no line at which the value ends", shown(name))));
                }
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == end => break,
                        Some((_, line)) => value.push(line),
                        None => {
                            let (name, end) = (shown(name), shown(end));
                            return Err(fault(format!("the value of `{name}` does not end: no line is `{end}`")));
                        }
                    }
                }
                (name, value.join("\n"))
            }
            _ => return Err(fault(format!("`{}` is neither `NAME=value` nor `NAME<<END`", shown(line)))),
        };
        if name.is_empty() || name.contains('\0') {
            return Err(fault(format!("`{}` has no name before its value", shown(line))));
        }
        check(name, &value).map_err(fault)?;
        found.insert(name.to_owned(), value);
        if found.len() > MOST_NAMES {
            return Err(fault(format!("there are more than {MOST_NAMES} names, of which `{}` is one", shown(name))));
        }
    }
    Ok(found)
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        outputs(text.as_bytes()).unwrap().into_iter().collect()
    }

    #[test]
    fn lines_and_heredocs_are_read() {
        for (text, wanted) in [
            ("", vec![]),
            ("a=1", vec![("a", "1")]),
            ("a=1\n\nb=x=y\n", vec![("a", "1"), ("b", "x=y")]),
            ("a=\n", vec![("a", "")]),
            ("a=1\na=2\n", vec![("a", "2")]),
            ("a<<E\none\n\ntwo\nE\nb=1", vec![("a", "one\n\ntwo"), ("b", "1")]),
            ("a<<E\nE\n", vec![("a", "")]),
            ("a<<E\n\nE\n", vec![("a", "")]),
            ("a<<E=\nx=y\n E\nE=\n", vec![("a", "x=y\n E")]),
            ("a=x<<E\n", vec![("a", "x<<E")]),
            ("\u{feff}a=1\r\n", vec![("a", "1\r")]),
        ] {
            let wanted: Vec<_> = wanted.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            assert_eq!(read(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_its_name() {
        let many: String = (0..=MOST_NAMES).map(|n| format!("n{n}=\n")).collect();
        for (text, line, words) in [
            ("a=1\nnonsense", 2, "`nonsense` is neither `NAME=value` nor `NAME<<END`"),
            ("=1", 1, "`=1` has no name before its value"),
            ("<<E\nE", 1, "`<<E` has no name before its value"),
            ("a<<", 1, "`a<<` says no line at which the value ends"),
            ("b=1\na<<E\nx\n", 2, "the value of `a` does not end: no line is `E`"),
            (&many, 1001, "there are more than 1000 names, of which `n1000` is one"),
        ] {
            let fault = outputs(text.as_bytes()).unwrap_err();
            assert_eq!((fault.line, &*fault.message), (line, words));
        }
        let large = vec![b'a'; LARGEST + 1];
        for fault in [outputs(&large).unwrap_err(), summary(&large).unwrap_err(), path(&large).unwrap_err()] {
            assert_eq!(fault.message, "the file has more than 1048576 bytes");
        }
    }

    #[test]
    fn a_step_cannot_take_over_those_that_follow() {
        for name in ["PATH", "LD_PRELOAD", "NODE_OPTIONS", "BASH_ENV", "GITHUB_OUTPUT", "APPM_TOKEN"] {
            let fault = env(format!("{name}=x").as_bytes()).unwrap_err();
            assert!(fault.message.starts_with(&format!("`{name}` cannot be set by a step: ")), "{fault}");
        }
        assert_eq!(env(b"Path=x\nOLD_X=1").unwrap().len(), 2);
        assert!(env(b"a=b\0c").is_err());
    }

    #[test]
    fn of_directories_the_last_one_stands_first() {
        assert_eq!(path(b"/a\n/b\n\n/a\n/c").unwrap(), ["/c", "/a", "/b"]);
        assert_eq!(path(b"/a\n/b:/c").unwrap_err().line, 2);
    }

    proptest! {
        #[test]
        fn whatever_value_is_written_as_a_heredoc_is_read_again(
            values in prop::collection::btree_map("[a-z_-]{1,8}", "[^\\x00]{0,40}", 0..6),
        ) {
            let text: String = values.iter().map(|(name, value)| format!("{name}<<ghadelimiter_7f\n{value}\nghadelimiter_7f\n")).collect();
            prop_assert_eq!(outputs(text.as_bytes()).unwrap(), values);
        }

        #[test]
        fn no_bytes_do_harm(file in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (outputs(&file), env(&file), path(&file), summary(&file));
        }
    }
}
