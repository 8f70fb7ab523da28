//! What comes on a connection, read so that whoever sent it is not woken by that.
//!
//! A peer that has sent and waits for an answer sleeps in the kernel. Whoever takes a message out of a Unix socket gives room for the next one, and the
//! kernel tells the sender so: it wakes up, finds no answer, and goes back to sleep. With eight callers on two processors these wake-ups were a fifth of
//! what a task cost here, and more of what it cost in switching between processes. So a short message is looked at and left where it is; it is taken
//! when something was written to the peer, who is awake by then. What is left so is no more than a short message, and taken before anything else is read.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::{
    io::Interest,
    net::{UnixStream, unix::OwnedReadHalf},
};

use super::frame::Intake;

/// What is shorter is a short message.
const SHORT: usize = 2 << 10;
/// What is read at a time.
const READ: usize = 16 << 10;
/// The same where more is to come.
const READ_MORE: usize = 256 << 10;
/// So much more than what is to come, or the runtime asks the kernel once more whether there is nothing behind it.
const SPARE: usize = 64;

/// The reading half of a connection.
pub(super) struct Source {
    half: OwnedReadHalf,
    /// So much was read and is still in the socket.
    left: usize,
}

impl Source {
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        Self { half, left: 0 }
    }

    /// Reads what has come, and says how much that was: 0 at the end. Memory is taken as it comes, not as it is announced. Cancel-safe.
    pub(super) async fn more(&mut self, intake: &mut Intake) -> io::Result<usize> {
        loop {
            self.half.readable().await?;
            match self.try_more(intake) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    fn try_more(&mut self, intake: &mut Intake) -> io::Result<usize> {
        self.take()?;
        let mut message = [0; SHORT];
        if intake.wanted() < SHORT {
            let count = look(self.half.as_ref(), &mut message)?;
            if count < SHORT {
                intake.bytes.extend_from_slice(&message[..count]);
                self.left = count;
                return Ok(count);
            }
        }
        intake.bytes.reserve((intake.wanted() + SPARE).clamp(READ, READ_MORE));
        self.half.try_read_buf(&mut intake.bytes)
    }

    /// Takes what was read out of the socket.
    ///
    /// # Errors
    /// When the connection has broken.
    pub(super) fn take(&mut self) -> io::Result<()> {
        let mut message = [0; SHORT];
        while self.left > 0 {
            let (count, _) = recv(self.half.as_ref(), &mut message[..self.left], RecvFlags::DONTWAIT)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.left -= count;
        }
        Ok(())
    }
}

impl Drop for Source {
    /// A connection that is closed with something in it is broken off for its peer, who might not read what was written last.
    fn drop(&mut self) {
        // It has broken before.
        let _ = self.take();
    }
}

/// Reads without taking. What is shorter than `message` was all: the runtime waits for more.
fn look(stream: &UnixStream, message: &mut [u8]) -> io::Result<usize> {
    let mut seen = None;
    let waits = stream.try_io(Interest::READABLE, || {
        let (count, _) = recv(stream, &mut *message, RecvFlags::PEEK)?;
        seen = Some(count);
        if (1..message.len()).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    });
    seen.map_or(waits, Ok)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures::FutureExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;
    use crate::{
        clock::System,
        server::{Bounds, bounds::Turnstile, lane::frame::PREFACE},
    };

    /// A frame of kind 1 with so many bytes.
    fn frame(number: u32, length: usize) -> Vec<u8> {
        let mut frame = (7 + length as u32).to_be_bytes().to_vec();
        frame.push(1);
        frame.extend_from_slice(&number.to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.resize(frame.len() + length, b'x');
        frame
    }

    fn pair() -> (Source, tokio::net::unix::OwnedWriteHalf, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (reader, writer) = ours.into_split();
        (Source::new(reader), writer, theirs)
    }

    /// The numbers of the frames until the peer closes.
    async fn heard(source: &mut Source) -> Vec<(u32, usize)> {
        let turnstile = Turnstile::new(Bounds::default(), Arc::new(System));
        let (mut intake, mut frames) = (Intake::default(), Vec::new());
        loop {
            let count =
                timeout(Duration::from_secs(30), source.more(&mut intake)).await.expect("it is told of what comes");
            while let Some(frame) = intake.next(&turnstile).expect("frames") {
                frames.push((frame.number, frame.body.expect("room").len()));
            }
            if count.expect("read") == 0 {
                return frames;
            }
        }
    }

    #[tokio::test]
    async fn everything_is_read_once_however_long_it_is_and_however_it_comes() {
        let lengths =
            [0, 1, 100, SHORT - 12, SHORT - 11, SHORT - 10, SHORT, 5000, READ, 40, 300_000, 7, 7, 3 * READ, 0];
        for at_a_time in [1, 700, SHORT - 1, SHORT, SHORT + 1, 1 << 20] {
            let (mut source, _writer, mut theirs) = pair();
            let expected: Vec<_> = (0..).zip(lengths).collect();
            let frames = expected.iter().flat_map(|(number, length)| frame(*number, *length));
            let all: Vec<u8> = PREFACE.iter().copied().chain(frames).collect();
            let sends = tokio::spawn(async move {
                for part in all.chunks(at_a_time) {
                    theirs.write_all(part).await.expect("sent");
                    if at_a_time > 1 {
                        tokio::task::yield_now().await;
                    }
                }
            });
            assert_eq!(heard(&mut source).await, expected, "{at_a_time} bytes at a time");
            sends.await.expect("it ends");
        }
    }

    #[tokio::test]
    async fn a_short_message_stays_until_it_is_taken_and_an_answer_is_read_though_it_never_was() {
        let (mut source, mut writer, mut theirs) = pair();
        let mut intake = Intake::default();
        theirs.write_all(b"hello").await.expect("sent");
        assert_eq!(source.more(&mut intake).await.expect("read"), 5);
        assert_eq!((&intake.bytes[..], source.left), (&b"hello"[..], 5));
        // Nothing new has come: it is not read twice.
        assert!(source.more(&mut intake).now_or_never().is_none());
        source.take().expect("taken");
        theirs.write_all(b", you").await.expect("sent");
        assert_eq!(source.more(&mut intake).await.expect("read"), 5);
        assert_eq!(&intake.bytes[..], b"hello, you");
        writer.write_all(b"bye").await.expect("sent");
        drop((source, writer));
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.expect("the end, and no break");
        assert_eq!(answer, "bye");
    }
}
