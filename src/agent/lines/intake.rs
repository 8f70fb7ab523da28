//! What comes out of a process, cut into lines.
//!
//! Only what begins as an object may be an answer, and is held until its line ends, if that is not too long. Everything else is output, and goes on as it comes.

use std::io::BufRead;

use bytes::{Bytes, BytesMut};

/// The longest line that may be an answer: the longest result, in base64, and what stands around it.
pub(in crate::agent) const LONGEST: usize = 96 << 20;

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// A line that may be an answer, with its end.
    Line(Bytes),
    /// Output: lines, or a part of one.
    Output(Bytes),
}

/// Where it is in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Beginning,
    /// In one that may be an answer.
    Object,
    /// In one that is output.
    Text,
    /// In one that is too long: nothing is made of the rest of it.
    TooLong,
}

#[derive(Debug)]
pub(super) struct Intake {
    pub bytes: BytesMut,
    at: At,
    /// So much of `bytes` has no end of a line in it.
    looked: usize,
    longest: usize,
}

impl Default for Intake {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), at: At::default(), looked: 0, longest: LONGEST }
    }
}

impl Intake {
    /// The next piece, if there is one yet.
    pub(super) fn next(&mut self) -> Option<Piece> {
        loop {
            if self.bytes.is_empty() {
                return None;
            }
            if self.at == At::Beginning {
                self.at = if self.bytes[0] == b'{' { At::Object } else { At::Text };
            }
            let end = end_of_line(&self.bytes[self.looked..]).map(|end| self.looked + end);
            self.looked = if end.is_some() { 0 } else { self.bytes.len() };
            let is_too_long = end.unwrap_or(self.bytes.len()) > self.longest;
            match (self.at, end) {
                (At::Object, _) if is_too_long => self.at = At::TooLong,
                (At::Object, None) => return None,
                (At::Object, Some(end)) => return Some(Piece::Line(self.cut(end))),
                (At::TooLong, end) => {
                    self.pass_over(end);
                    if end.is_some() {
                        return Some(Piece::Output(Bytes::from_static(b"(a line was too long for an answer)\n")));
                    }
                }
                (_, Some(end)) => return Some(Piece::Output(self.cut(end))),
                (_, None) => {
                    self.looked = 0;
                    return Some(Piece::Output(self.bytes.split().freeze()));
                }
            }
        }
    }

    /// A line to its end.
    fn cut(&mut self, end: usize) -> Bytes {
        self.at = At::Beginning;
        self.bytes.split_to(end).freeze()
    }

    fn pass_over(&mut self, end: Option<usize>) {
        match end {
            Some(end) => drop(self.cut(end)),
            None => self.bytes.clear(),
        }
        self.looked = 0;
    }

    /// What there is of a line that will have no end.
    pub(super) fn rest(&mut self) -> Bytes {
        self.looked = 0;
        self.bytes.split().freeze()
    }
}

/// Where the next line begins. What is standard in reading lines looks at many bytes at a time.
fn end_of_line(mut text: &[u8]) -> Option<usize> {
    let all = text;
    let read = text.skip_until(b'\n').ok()?;
    all[..read].ends_with(b"\n").then_some(read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(intake: &mut Intake, text: &[u8], at_a_time: usize) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in text.chunks(at_a_time) {
            intake.bytes.extend_from_slice(part);
            pieces.extend(std::iter::from_fn(|| intake.next()));
        }
        pieces
    }

    fn shown(pieces: &[Piece]) -> (Vec<String>, String) {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let lines =
            pieces.iter().filter_map(|piece| if let Piece::Line(line) = piece { Some(text(line)) } else { None });
        let output =
            pieces.iter().filter_map(|piece| if let Piece::Output(out) = piece { Some(text(out)) } else { None });
        (lines.collect(), output.collect())
    }

    #[test]
    fn objects_are_held_to_their_end_and_everything_else_goes_on_as_it_comes() {
        let text = b"hello\n{\"id\":1}\n\nnot yet{\"id\":2}\n{\"id\":3}\n{\"id";
        for at_a_time in 1..text.len() {
            let mut intake = Intake::default();
            let (lines, output) = shown(&all(&mut intake, text, at_a_time));
            assert_eq!(lines, ["{\"id\":1}\n", "{\"id\":3}\n"]);
            assert_eq!(output, "hello\n\nnot yet{\"id\":2}\n");
            assert_eq!(intake.rest(), "{\"id");
        }
        let mut prompt = Intake::default();
        prompt.bytes.extend_from_slice(b"? ");
        assert_eq!(prompt.next(), Some(Piece::Output(Bytes::from_static(b"? "))));
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory_than_it_may() {
        let mut intake = Intake { longest: 100, ..Intake::default() };
        for _ in 0..50 {
            intake.bytes.extend_from_slice(b"{\"id\":1,\"data\":\"aaaaaaaa");
            assert_eq!(intake.next(), None);
            assert!(intake.bytes.len() <= 100);
        }
        let (lines, output) = shown(&all(&mut intake, b"\"}\n{\"id\":2}\n", 100));
        assert_eq!(
            (lines, output.as_str()),
            (vec!["{\"id\":2}\n".to_owned()], "(a line was too long for an answer)\n")
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(text in "[{}a\n]{0,80}", at_a_time in 1usize..20) {
            let mut intake = Intake::default();
            let pieces = all(&mut intake, text.as_bytes(), at_a_time);
            let mut whole: Vec<u8> = pieces.iter().flat_map(|piece| match piece { Piece::Line(b) | Piece::Output(b) => b.to_vec() }).collect();
            whole.extend(intake.rest());
            prop_assert_eq!(whole, text.into_bytes());
        }
    }
}
