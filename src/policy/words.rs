//! A command line in one string, split as a shell would split it; or kept as a script where only a shell understands it.

/// What a text to run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Program and arguments.
    Words(Vec<String>),
    /// Pipes, variables, globs and the like: for `sh`.
    Script(String),
}

/// Commands that a shell does itself and for which there is no program.
const OF_THE_SHELL: [&str; 17] = [
    ".", ":", "cd", "eval", "exec", "exit", "export", "read", "return", "set", "shift", "source", "trap", "ulimit",
    "umask", "unset", "wait",
];

/// Splits at blanks, minding quotes and backslashes. `$(NAME)` in capitals is appm's own expansion and stays.
///
/// # Errors
/// When a quote is not closed, or there is no word.
pub fn split(text: &str) -> Result<CommandLine, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        match c {
            ' ' | '\t' => {
                words.extend(word.take());
                rest = tail;
            }
            '\'' => {
                let (inside, after) = tail.split_once('\'').ok_or("a ' is not closed")?;
                word.get_or_insert_default().push_str(inside);
                rest = after;
            }
            '"' => match double_quoted(tail)? {
                Some((inside, after)) => {
                    word.get_or_insert_default().push_str(&inside);
                    rest = after;
                }
                None => return Ok(CommandLine::Script(text.to_owned())),
            },
            '\\' => {
                let next = tail.chars().next().ok_or("the last \\ has nothing behind it")?;
                word.get_or_insert_default().push(next);
                rest = &tail[next.len_utf8()..];
            }
            '$' if expansion(rest).is_some() => {
                let (own, after) = rest.split_at(expansion(rest).unwrap_or(1));
                word.get_or_insert_default().push_str(own);
                rest = after;
            }
            '#' | '~' if word.is_none() => return Ok(CommandLine::Script(text.to_owned())),
            '=' if words.is_empty() && word.as_deref().is_some_and(is_name) => {
                return Ok(CommandLine::Script(text.to_owned()));
            }
            _ if "|&;<>()$`*?[]{}!\n".contains(c) => return Ok(CommandLine::Script(text.to_owned())),
            _ => {
                word.get_or_insert_default().push(c);
                rest = tail;
            }
        }
    }
    words.extend(word);
    match words.first() {
        Some(program) if OF_THE_SHELL.contains(&program.as_str()) => Ok(CommandLine::Script(text.to_owned())),
        Some(program) if !program.is_empty() => Ok(CommandLine::Words(words)),
        _ => Err("there is no program to run".to_owned()),
    }
}

/// The inside of a double-quoted text and what follows; `None` if the shell would expand something in it.
#[allow(clippy::type_complexity, reason = "three outcomes, used once")]
fn double_quoted(text: &str) -> Result<Option<(String, &str)>, String> {
    let mut inside = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        match c {
            '"' => return Ok(Some((inside, tail))),
            '\\' => {
                let next = tail.chars().next().ok_or("a \" is not closed")?;
                if !"\\\"$`".contains(next) {
                    inside.push('\\');
                }
                inside.push(next);
                rest = &tail[next.len_utf8()..];
                continue;
            }
            '$' if expansion(rest).is_some() => {
                let (own, after) = rest.split_at(expansion(rest).unwrap_or(1));
                inside.push_str(own);
                rest = after;
                continue;
            }
            '$' | '`' => return Ok(None),
            _ => inside.push(c),
        }
        rest = tail;
    }
    Err("a \" is not closed".to_owned())
}

/// The length of `$(NAME)` at the start of `text`.
fn expansion(text: &str) -> Option<usize> {
    let inside = text.strip_prefix("$(")?;
    let end = inside.find(')')?;
    let name = &inside[..end];
    let capital = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    (!name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(capital)).then_some(end + 3)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Words as a person would have to write them, for showing.
pub fn join<T: AsRef<str>>(words: &[T]) -> String {
    let quoted = |word: &T| {
        let word = word.as_ref();
        let plain = |c: char| c.is_alphanumeric() || "-_./:,@%+".contains(c) || (c == '=' && word.starts_with('-'));
        match !word.is_empty() && word.chars().all(plain) {
            true => word.to_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_commands_are_split_as_a_shell_splits_them() {
        for (text, words) in [
            ("ping www.baidu.com", vec!["ping", "www.baidu.com"]),
            ("  a   b\tc ", vec!["a", "b", "c"]),
            (r#"sh -c "echo 'a b'""#, vec!["sh", "-c", "echo 'a b'"]),
            (r#"a '' "" x\ y"#, vec!["a", "", "", "x y"]),
            (r#"a "b\"c\d""#, vec!["a", r#"b"c\d"#]),
            ("serve --port $(PORT) a#b x~", vec!["serve", "--port", "$(PORT)", "a#b", "x~"]),
            (r#"serve ":$(PORT_HTTP)""#, vec!["serve", ":$(PORT_HTTP)"]),
            ("run --env=A=b", vec!["run", "--env=A=b"]),
            ("'my program' x", vec!["my program", "x"]),
        ] {
            let words = words.into_iter().map(str::to_owned).collect();
            assert_eq!(split(text), Ok(CommandLine::Words(words)), "{text}");
        }
    }

    #[test]
    fn what_only_a_shell_understands_becomes_a_script() {
        for text in [
            "a | b",
            "a && b",
            "echo $HOME",
            "echo \"$HOME\"",
            "ls *.txt",
            "A=1 b",
            "echo $(date)",
            "echo `date`",
            "~/bin/x",
            "sleep 1; echo",
            "a > b",
            "while true; do date; done",
            "exit 3",
            "exec sleep 5",
        ] {
            assert_eq!(split(text), Ok(CommandLine::Script(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn open_quotes_and_nothing_are_refused() {
        for text in ["a 'b", "a \"b", "", "  ", "''", "a \\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_joined_is_split_again(words in proptest::collection::vec("[ -~]{1,8}", 1..5)) {
            let joined = join(&words);
            if !words.iter().any(|w| w.contains('$')) && !OF_THE_SHELL.contains(&words[0].as_str()) {
                proptest::prop_assert_eq!(split(&joined), Ok(CommandLine::Words(words)));
            }
        }
    }
}
