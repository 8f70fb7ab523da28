//! Command lines as words, and App Mesh's durations.

use crate::policy::expand::expand;

/// The words of a command line without a shell: blanks part them, quotes and backslashes keep them together.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some('\''), letter) => word.get_or_insert_default().push(letter),
            (Some(_), '\\') => match letters.next() {
                Some(next @ ('"' | '\\')) => word.get_or_insert_default().push(next),
                Some(next) => word.get_or_insert_default().extend(['\\', next]),
                None => break,
            },
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if quote.is_some() { Err(format!("a quote is not closed in `{line}`")) } else { Ok(words) }
}

/// The command line of words.
pub(super) fn join<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "_-./:=,@%+$(){}[]*?!&|;<>~#^".contains(letter);
    let quoted = |word: &str| match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A text in which nothing is expanded, as it stands where `$(NAME)` is.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        out.push(letter);
        if letter == '$' && matches!(letters.peek(), Some('$' | '(')) {
            out.push('$');
        }
    }
    out
}

/// What a text says that stands where `$(NAME)` is expanded; one that is more than letters is shown as it is.
pub(super) fn literal(text: &str) -> String {
    let plain = expand(text, |_| None);
    if escaped(&plain) == text { plain } else { text.to_owned() }
}

/// Seconds: a number of them, or a duration of ISO 8601 in weeks, days, hours, minutes and seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is neither a number of seconds nor a duration such as P1DT12H");
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let rest = text.strip_prefix('P').filter(|rest| !rest.is_empty()).ok_or_else(wrong)?;
    let (mut total, mut number, mut in_time) = (0u64, None::<u64>, false);
    for letter in rest.chars() {
        let scale = match (letter, in_time) {
            ('0'..='9', _) => {
                let digit = u64::from(u32::from(letter) - u32::from('0'));
                number =
                    Some(number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit)).ok_or_else(wrong)?);
                continue;
            }
            ('T', false) if number.is_none() => {
                in_time = true;
                continue;
            }
            ('W', false) => 7 * 86_400,
            ('D', false) => 86_400,
            ('H', true) => 3600,
            ('M', true) => 60,
            ('S', true) => 1,
            ('Y' | 'M', false) => return Err(format!("`{text}`: years and months have no fixed length")),
            _ => return Err(wrong()),
        };
        let amount = number.take().and_then(|number| number.checked_mul(scale)).ok_or_else(wrong)?;
        total = total.checked_add(amount).ok_or_else(wrong)?;
    }
    if number.is_some() || rest.ends_with('T') { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_line_is_read_as_a_shell_would_without_expanding_anything() {
        for (line, words) in [
            ("echo  hi\tthere\n", &["echo", "hi", "there"][..]),
            (r#"a 'b c' "d \" e \n" f\ g "" 'x'y"#, &["a", "b c", r#"d " e \n"#, "f g", "", "xy"]),
            ("", &[]),
        ] {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
        assert!(split("echo 'oops").is_err());
    }

    #[test]
    fn durations_are_seconds_or_iso_8601() {
        for (text, expected) in [
            ("30", Some(30)),
            ("P1DT1H30M", Some(91_800)),
            ("P2W", Some(1_209_600)),
            ("PT5M", Some(300)),
            ("P0D", Some(0)),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in ["", "P", "PT", "P1", "P1M", "P1Y", "PT1D", "1h", "-5", "P99999999999999999999D"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn words_survive_being_joined(words in prop::collection::vec(".{0,12}", 0..6)) {
            let line = join(words.iter().map(String::as_str));
            prop_assert_eq!(split(&line).expect("our own quotes"), words);
        }

        #[test]
        fn nothing_is_expanded_in_what_is_escaped(text in "[a$()\\\\N]{0,12}") {
            let escaped = escaped(&text);
            prop_assert_eq!(expand(&escaped, |_| Some("oops")), text.clone());
            prop_assert_eq!(literal(&escaped), text);
        }
    }
}
