//! Frames: how they are read as they come, and written.
//!
//! ```text
//!  4 how many bytes follow │ 1 kind │ 4 number │ 2 length of the head │ head: JSON │ body
//! ```

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::super::bounds::{Taken, Turnstile};
use crate::{
    api::{Status, TASK_LIMIT},
    broker::Payload,
};

/// With what a connection begins that speaks in frames. No method of HTTP begins so.
pub(super) const PREFACE: &[u8] = b"\0appm/1\n";
/// Length, kind, number, length of the head.
const FIXED: usize = 11;
/// The longest head.
const LONGEST_HEAD: usize = u16::MAX as usize;
/// A piece that is shorter is put together with what is before it, into one write.
const SMALL: usize = 16 << 10;
/// So much is kept ready for a frame that is likely to be as long as the one before.
const LIKELY: usize = 128 << 10;
/// How many pieces are written at a time.
const AT_ONCE: usize = 16;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A task.
    Send,
    /// It is given up.
    Cancel,
    /// The peer takes tasks.
    Work,
    /// A result.
    Give,
    /// A part of one.
    Part,
    /// There is none.
    Fail,
}

impl Said {
    fn of(kind: u8) -> Option<Said> {
        [Said::Send, Said::Cancel, Said::Work, Said::Give, Said::Part, Said::Fail]
            .get(usize::from(kind.checked_sub(1)?))
            .copied()
    }
}

/// What is told by a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Told {
    Result = 129,
    Part = 130,
    Refused = 131,
    Task = 132,
    Gone = 133,
}

/// A frame that has come.
#[derive(Debug)]
pub(super) struct Frame {
    pub said: Said,
    pub number: u32,
    head: Bytes,
    /// Its bytes, or why there is no room for them.
    pub body: Result<Payload, Status>,
}

impl Frame {
    /// The head; nothing is an empty one.
    ///
    /// # Errors
    /// 400 with what is wrong with it.
    pub(super) fn head<T: DeserializeOwned>(&self) -> Result<T, Status> {
        let head = if self.head.is_empty() { b"{}" } else { &self.head[..] };
        serde_json::from_slice(head).map_err(|e| Status::bad_request(format!("the head of the frame: {e}")))
    }
}

/// A frame whose body is on its way.
struct Coming {
    frame: Frame,
    left: usize,
    taken: Taken,
}

/// What has come and was not read yet.
#[derive(Default)]
pub(super) struct Intake {
    pub bytes: BytesMut,
    greeted: bool,
    coming: Option<Coming>,
    /// How long the frame before was: the next one is likely to be as long.
    before: usize,
}

impl Intake {
    /// True in the middle of a frame.
    pub(super) fn is_partial(&self) -> bool {
        self.coming.is_some() || !self.bytes.is_empty()
    }

    /// How much more there is to come of what is on its way, as far as it says, or is likely to.
    pub(super) fn wanted(&self) -> usize {
        let next = self.before.min(LIKELY).saturating_sub(self.bytes.len());
        self.coming.as_ref().map_or(next, |coming| coming.left)
    }

    /// The next frame, once all of it is there.
    ///
    /// # Errors
    /// When what comes are no frames: then there is nothing more to be read.
    pub(super) fn next(&mut self, turnstile: &Turnstile) -> Result<Option<Frame>, Status> {
        if !self.greeted {
            if self.bytes.len() < PREFACE.len() {
                return Ok(None);
            }
            if !self.bytes.starts_with(PREFACE) {
                return Err(Status::bad_request(
                    "the connection begins otherwise: `\\0appm/1\\n` is what is spoken here",
                ));
            }
            self.bytes.advance(PREFACE.len());
            self.greeted = true;
        }
        let mut coming = match self.coming.take() {
            Some(coming) => coming,
            None => match self.begun()? {
                Some(coming) => coming,
                None => return Ok(None),
            },
        };
        let piece = self.bytes.split_to(self.bytes.len().min(coming.left)).freeze();
        coming.left -= piece.len();
        if let Ok(body) = &mut coming.frame.body
            && !piece.is_empty()
        {
            match turnstile.room(&mut coming.taken, piece.len()) {
                Ok(()) => body.push(piece),
                // The rest is passed over.
                Err(full) => coming.frame.body = Err(full),
            }
        }
        if coming.left > 0 {
            self.coming = Some(coming);
            return Ok(None);
        }
        let Coming { frame, taken, .. } = coming;
        self.before = FIXED + frame.head.len() + frame.body.as_ref().map_or(0, Payload::len);
        let body = frame.body.map(|body| if body.is_empty() { body } else { body.holding(taken) });
        Ok(Some(Frame { body, ..frame }))
    }

    /// A frame of which all but the body is there.
    fn begun(&mut self) -> Result<Option<Coming>, Status> {
        let Some((mut fixed, rest)) = self.bytes.split_at_checked(FIXED) else { return Ok(None) };
        let (length, kind, number) = (fixed.get_u32() as usize, fixed.get_u8(), fixed.get_u32());
        let head = usize::from(fixed.get_u16());
        let body = (length + 4).checked_sub(FIXED + head);
        let body = body.ok_or_else(|| Status::bad_request("a frame is shorter than its head"))?;
        if body > TASK_LIMIT {
            return Err(Status::too_large(format!("Request entity too large: limit is {TASK_LIMIT}")));
        }
        let said = Said::of(kind).ok_or_else(|| Status::bad_request(format!("there is no frame of kind {kind}")))?;
        if rest.len() < head {
            return Ok(None);
        }
        self.bytes.advance(FIXED);
        let head = self.bytes.split_to(head).freeze();
        let frame = Frame { said, number, head, body: Ok(Payload::default()) };
        Ok(Some(Coming { frame, left: body, taken: Taken::default() }))
    }
}

/// What is to be written.
#[derive(Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Small ones, after all others.
    small: BytesMut,
    len: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a frame.
    pub(super) fn put(
        &mut self,
        told: Told,
        number: u32,
        head: &impl Serialize,
        length: usize,
        body: impl Iterator<Item = Bytes>,
    ) {
        // What is told here can be written, and is shorter than a head may be.
        let head = serde_json::to_vec(head).ok().filter(|head| head.len() <= LONGEST_HEAD).unwrap_or_default();
        let all = FIXED - 4 + head.len() + length;
        self.small.reserve(4 + all.min(SMALL));
        self.small.put_u32(u32::try_from(all).unwrap_or(u32::MAX));
        self.small.put_u8(told as u8);
        self.small.put_u32(number);
        self.small.put_u16(head.len() as u16);
        self.small.put_slice(&head);
        self.len += 4 + all;
        for piece in body {
            if piece.len() < SMALL {
                self.small.put_slice(&piece);
                continue;
            }
            self.gather();
            self.pieces.push_back(piece);
        }
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
    }

    /// What can be written next, in one go.
    pub(super) fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.gather();
        self.pieces.iter().take(AT_ONCE).map(|piece| IoSlice::new(piece)).collect()
    }

    /// So much of it was.
    pub(super) fn written(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{clock::System, server::Bounds};

    fn turnstile() -> Turnstile {
        Turnstile::new(Bounds { in_bodies: 1 << 20, ..Bounds::default() }, Arc::new(System))
    }

    fn frame(kind: u8, number: u32, head: &str, body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.put_u32((7 + head.len() + body.len()) as u32);
        frame.put_u8(kind);
        frame.put_u32(number);
        frame.put_u16(head.len() as u16);
        [frame.as_slice(), head.as_bytes(), body].concat()
    }

    proptest! {
        #[test]
        fn however_frames_are_cut_they_are_read_as_they_were_written(
            frames in prop::collection::vec((1u8..=6, any::<u32>(), prop::collection::vec(any::<u8>(), 0..3000)), 0..8),
            cuts in prop::collection::vec(1usize..2000, 1..40),
        ) {
            let mut bytes = PREFACE.to_vec();
            frames.iter().for_each(|(kind, number, body)| bytes.extend(frame(*kind, *number, "{\"a\":1}", body)));
            let (mut intake, turnstile, mut read) = (Intake::default(), turnstile(), Vec::new());
            let mut cuts = cuts.iter().cycle();
            while !bytes.is_empty() {
                let cut = bytes.len().min(*cuts.next().expect("a cycle"));
                intake.bytes.extend_from_slice(&bytes[..cut]);
                bytes.drain(..cut);
                while let Some(frame) = intake.next(&turnstile).expect("well-formed") {
                    prop_assert_eq!(frame.head::<Value>().expect("JSON"), json!({"a": 1}));
                    read.push((frame.said, frame.number, frame.body.expect("room").to_bytes().to_vec()));
                }
            }
            let expected: Vec<_> = frames.into_iter().map(|(kind, number, body)| (Said::of(kind).expect("known"), number, body)).collect();
            prop_assert_eq!(read, expected);
            prop_assert!(!intake.is_partial());
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), greeted in any::<bool>()) {
            let (mut intake, turnstile) = (Intake::default(), turnstile());
            if greeted {
                intake.bytes.extend_from_slice(PREFACE);
            }
            intake.bytes.extend_from_slice(&bytes);
            while let Ok(Some(_)) = intake.next(&turnstile) {}
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_and_what_finds_no_room_is_told_so() {
        for (bytes, code) in [
            (b"GET / HTTP/1.1".to_vec(), 400),
            ([PREFACE, &frame(9, 1, "", b"")].concat(), 400),
            ([PREFACE, &[0, 0, 0, 7, 1, 0, 0, 0, 1, 0, 9]].concat(), 400),
            ([PREFACE, &[0x7f, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0]].concat(), 413),
        ] {
            let mut intake = Intake::default();
            intake.bytes.extend_from_slice(&bytes);
            let refused = intake.next(&turnstile()).expect_err("no frame");
            assert_eq!(refused.reason.code(), code, "{}", refused.message);
        }
        let (mut intake, turnstile) = (Intake::default(), turnstile());
        intake.bytes.extend_from_slice(PREFACE);
        intake.bytes.extend_from_slice(&frame(1, 1, "", &vec![0; 2 << 20]));
        intake.bytes.extend_from_slice(&frame(1, 2, "", b"small"));
        let first = intake.next(&turnstile).expect("a frame").expect("whole");
        assert_eq!(first.body.expect_err("no room").reason.code(), 429);
        let second = intake.next(&turnstile).expect("a frame").expect("whole");
        assert_eq!(second.body.as_ref().expect("room").to_bytes(), "small");
        assert!(second.head::<Vec<u8>>().is_err() && second.head::<Value>().is_ok());
    }

    #[test]
    fn what_is_put_is_written_in_order_however_little_is_taken_at_a_time() {
        let mut out = Outbox::default();
        let large = Bytes::from(vec![7; 3 * SMALL]);
        out.put(Told::Task, 1, &json!({"task": "a-1"}), large.len(), std::iter::once(large.clone()));
        out.put(Told::Gone, 2, &json!({}), 2, std::iter::once(Bytes::from_static(b"xy")));
        let expected = [frame(132, 1, "{\"task\":\"a-1\"}", &large), frame(133, 2, "{}", b"xy")].concat();
        let (mut written, all) = (Vec::new(), out.len());
        while out.len() > 0 {
            let slices = out.slices();
            let next: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).take(1000).collect();
            out.written(next.len());
            written.extend(next);
        }
        assert_eq!((written.len(), written == expected), (all, true));
    }
}
