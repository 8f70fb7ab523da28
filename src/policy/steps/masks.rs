//! The values that a step asks to have hidden (`::add-mask::VALUE`), heard while it goes on, piece by piece.
//!
//! A line that may be such a request is held back until all of it is there, so its value is known before a byte of it is shown. What is to be
//! kept between two pieces, and handed to a successor, is [`Masks`] itself. To hear a piece twice is to hear it once.

use serde::{Deserialize, Serialize};

use super::commands::{Command, Commands, LONGEST};
use crate::policy::redact::End;

/// Values that are masked.
pub(super) const MOST: usize = 100;
/// Bytes of all values together.
const LARGEST: usize = 64 << 10;
/// How the request is spelt. Case does not matter.
const REQUESTS: [&[u8]; 2] = [b"::add-mask", b"##[add-mask"];

/// What was heard so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Masks {
    /// What is not to be shown; also as it is written in the request, where that differs.
    pub values: Vec<String>,
    commands: Commands,
}

/// What a piece of output said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// So many of its bytes may be shown; what follows is to be heard again, together with what comes after it.
    pub until: usize,
    /// The masks are others than before.
    pub is_news: bool,
}

impl Masks {
    /// Listens to a piece of one stream. `begins`: its first byte is the first of a line.
    pub fn hear(&mut self, piece: &[u8], begins: bool, end: End) -> Heard {
        let (mut at, mut is_news) = (0, false);
        if !begins {
            match newline(piece) {
                Some(length) => at = length + 1,
                None => return Heard { until: piece.len(), is_news },
            }
        }
        while at < piece.len() {
            let rest = &piece[at..];
            let line = match newline(rest) {
                Some(length) => &rest[..length],
                None if end == End::Over => rest,
                None if may_be_a_request(rest, end) => return Heard { until: at, is_news },
                None => break,
            };
            is_news |= self.line(line);
            at += line.len() + 1;
        }
        Heard { until: piece.len(), is_news }
    }

    /// True if that changed anything.
    fn line(&mut self, line: &[u8]) -> bool {
        match self.commands.line(line) {
            Some(Command::AddMask(value)) => {
                // Decoded it is another text than the one that stands there.
                let as_written = written(line).filter(|written| *written != value);
                let is_new = self.add(value);
                as_written.is_some_and(|value| self.add(value)) || is_new
            }
            Some(Command::Stop | Command::Resume) => true,
            _ => false,
        }
    }

    fn add(&mut self, value: String) -> bool {
        let total: usize = self.values.iter().map(String::len).sum();
        let is_new = self.values.len() < MOST && total + value.len() <= LARGEST && !self.values.contains(&value);
        if is_new {
            self.values.push(value);
        }
        is_new
    }
}

fn newline(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'\n')
}

/// Whether the beginning of a line may be that of a request, as far as it is known. While the rest may come at any moment, whatever looks like a
/// command is waited for, so that it is heard when commands are stopped.
fn may_be_a_request(text: &[u8], end: End) -> bool {
    let line = text.trim_ascii_start();
    let begins_like = |mark: &[u8]| {
        let common = mark.len().min(line.len());
        line[..common].eq_ignore_ascii_case(&mark[..common])
    };
    text.len() <= LONGEST
        && match end {
            End::Open => begins_like(b"::") || begins_like(b"##["),
            End::Pause | End::Over => REQUESTS.into_iter().any(begins_like),
        }
}

/// A request's value as it stands in its line.
fn written(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line.trim_ascii());
    let value = match line.strip_prefix("::") {
        Some(rest) => rest.split_once("::")?.1,
        None => line.split_once(']')?.1,
    };
    Some(value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pieces<'a> = &'a [(&'a str, End)];

    /// What is shown of pieces, which values were known when each byte was, and the masks at the end.
    fn heard(pieces: Pieces<'_>) -> (String, Vec<String>) {
        let (mut masks, mut shown, mut held) = (Masks::default(), String::new(), String::new());
        for (piece, end) in pieces {
            held.push_str(piece);
            let begins = shown.is_empty() || shown.ends_with('\n');
            let until = masks.hear(held.as_bytes(), begins, *end).until;
            shown.push_str(&held[..until]);
            held.drain(..until);
        }
        (shown, masks.values)
    }

    #[test]
    fn a_request_is_shown_only_when_its_value_is_known() {
        use End::{Open, Over, Pause};
        let rows: &[(Pieces<'_>, &str, &[&str])] = &[
            (&[("::add-mask::hun", Open)], "", &[]),
            (&[("a\n  ::Add-MASK::hun", Pause)], "a\n", &[]),
            (&[("::add-mask::hun", Pause), ("ter2\nb", Open)], "::add-mask::hunter2\nb", &["hunter2"]),
            (&[("##[add-mask]hunter2\r\n", Open)], "##[add-mask]hunter2\r\n", &["hunter2"]),
            (&[("::add-mask::hunter2", Over)], "::add-mask::hunter2", &["hunter2"]),
            (&[("::add-mask::a%0Ab%25\n", Open)], "::add-mask::a%0Ab%25\n", &["a\nb%", "a%0Ab%25"]),
            (&[("::gro", Open)], "", &[]),
            (&[("::gro", Pause), ("up::add-mask::x\n", Open)], "::group::add-mask::x\n", &[]),
            (&[("50% ::add-mask::no", Open)], "50% ::add-mask::no", &[]),
            (&[("50% ", Open), ("::add-mask::no\n", Open)], "50% ::add-mask::no\n", &[]),
            (&[("::stop-commands::T\n::add-mask::no\n::T::\n::add-mask::yes\n", Open)], "", &["yes"]),
        ];
        for (pieces, shown, values) in rows {
            let (really, known) = heard(pieces);
            assert_eq!(known, *values, "{pieces:?}");
            assert!(shown.is_empty() && !known.is_empty() || really == *shown, "{pieces:?}: {really}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let lines = |length: usize| (0..2000).map(|n| format!("::add-mask::{n:0length$}\n")).collect::<String>();
        for (length, most) in [(8, MOST), (2000, LARGEST / 2000)] {
            let (_, values) = heard(&[(&lines(length), End::Open)]);
            assert_eq!(values.len(), most);
        }
        let mut masks = Masks::default();
        let endless = format!("::add-mask::{}", "x".repeat(LONGEST));
        let heard = masks.hear(endless.as_bytes(), true, End::Open);
        assert_eq!((heard.until, masks.values.len()), (endless.len(), 0), "so long a line is no command");
    }

    proptest! {
        #[test]
        fn wherever_the_stream_is_cut_the_same_is_heard_and_before_it_is_shown(
            lines in prop::collection::vec("(::add-mask::|::stop-commands::|::|##\\[add-mask\\]|)[a-c]{0,3}(::)?", 0..12),
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let whole = heard(&[(&text, End::Open)]);
            let (mut masks, mut shown, mut held, mut left) = (Masks::default(), String::new(), String::new(), text.as_str());
            for cut in cuts.iter().cycle() {
                let (piece, rest) = left.split_at((*cut).min(left.len()));
                held.push_str(piece);
                let begins = shown.is_empty() || shown.ends_with('\n');
                let until = masks.hear(held.as_bytes(), begins, End::Open).until;
                let again = masks.clone().hear(held.as_bytes(), begins, End::Open).until;
                prop_assert_eq!(until, again);
                shown.push_str(&held[..until]);
                held.drain(..until);
                // Each request that is shown is known.
                let requests = shown.lines().filter(|line| line.starts_with("::add-mask::")).count();
                prop_assert!(!masks.values.is_empty() || requests == 0 || text.contains("stop") || text.contains("add-mask::\n"));
                left = rest;
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!((shown, masks.values), whole);
        }
    }
}
