//! Feeds a process: the keeper holds its standard input open, this writes into it.
//!
//! The keeper is told when it begins and when it has ended. As long as neither has happened the keeper's own end of the FIFO keeps the process
//! from seeing an end. If this side goes without a word, the keeper hangs the process up.

use std::{io, path::PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use nix::libc;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::unix::pipe,
    sync::{mpsc, oneshot},
};

use super::{
    super::{FeedError, Lines, Pieces, StartKey},
    Job, ProcessDriver, unexpected,
};
use crate::keeper::{
    ANSWERS, INPUT, OUTPUT,
    protocol::{Answer, Request},
};

/// As long as this is there the attempt is ours to feed. Dropped before it was released: the input broke off.
struct Feeding {
    jobs: mpsc::UnboundedSender<Job>,
    key: Option<StartKey>,
}

impl Drop for Feeding {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            // Nobody waits for the answer; if the keeper cannot be reached, it sees that itself.
            let _ = self.jobs.send((Request::CloseInput { key, whole: false }, oneshot::channel().0));
        }
    }
}

impl ProcessDriver {
    /// The directory of an attempt, as the keeper makes it.
    fn place(&self, key: &StartKey) -> PathBuf {
        self.data_dir.join("instances").join(key.uid.as_str()).join(key.attempt.to_string())
    }

    /// Both ends of each pipe are the process's own, so it is there as long as the process is.
    pub(super) fn open_lines(&self, key: &StartKey) -> io::Result<Option<Lines>> {
        let (place, options) = (self.place(key), pipe::OpenOptions::new());
        if !place.join(ANSWERS).try_exists()? {
            return Ok(None);
        }
        Ok(Some(Lines {
            answers: options.open_receiver(place.join(ANSWERS))?,
            input: options.open_sender(place.join(INPUT))?,
            output: options.open_sender(place.join(OUTPUT))?,
        }))
    }

    pub(super) async fn feed_input(&self, key: &StartKey, pieces: Pieces) -> Result<u64, FeedError> {
        match self.ask(Request::OpenInput { key: key.clone() }).await {
            Ok(Answer::Done) => {}
            Ok(Answer::Failed(why)) => return Err(FeedError::NotWanted(why)),
            Ok(other) => return Err(FeedError::Unknown(unexpected(&other).0)),
            Err(unreachable) => return Err(FeedError::Unknown(unreachable.0)),
        }
        let mut feeding = Feeding { jobs: self.jobs.clone(), key: Some(key.clone()) };
        let place = self.place(key).join(INPUT);
        let taken = match pipe::OpenOptions::new().open_sender(place) {
            Ok(pipe) => pour(pieces, pipe).await.map_err(FeedError::CutOff)?,
            Err(e) if nobody_reads(&e) => 0,
            Err(e) => return Err(FeedError::CutOff(e)),
        };
        feeding.key = None;
        // If the keeper is gone, so is its end.
        let _ = self.ask(Request::CloseInput { key: key.clone(), whole: true }).await;
        Ok(taken)
    }
}

/// The process has ended, or has closed its standard input.
fn nobody_reads(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::BrokenPipe || matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENOENT))
}

/// Everything into the pipe, as long as somebody reads. Ends with the input, too, while there is room: nobody waits for it to be read.
async fn pour(mut pieces: Pieces, mut pipe: pipe::Sender) -> io::Result<u64> {
    let mut taken = 0;
    loop {
        let piece: Option<io::Result<Bytes>> = tokio::select! {
            biased;
            piece = pieces.next() => piece,
            // Not only at the next piece, which may be long in coming.
            _gone = pipe.ready(Interest::ERROR) => return Ok(taken),
        };
        let Some(piece) = piece else { return Ok(taken) };
        let piece = piece?;
        match pipe.write_all(&piece).await {
            Ok(()) => taken += piece.len() as u64,
            Err(e) if nobody_reads(&e) => return Ok(taken),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt, stream};
    use tokio::io::AsyncReadExt;

    use super::*;

    fn pieces(all: Vec<io::Result<Bytes>>) -> Pieces {
        stream::iter(all).boxed()
    }

    #[tokio::test]
    async fn what_is_sent_is_read_and_what_breaks_off_is_no_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = dir.path().join("in");
        nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let open = || {
            let reader = pipe::OpenOptions::new().open_receiver(&place).expect("open");
            (reader, pipe::OpenOptions::new().open_sender(&place).expect("open"))
        };
        let (mut reader, sender) = open();
        let long = Bytes::from(vec![0xff; 300_000]);
        let poured = tokio::spawn(pour(pieces(vec![Ok(long.clone()), Ok(Bytes::from_static(b"\0end"))]), sender));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).await.expect("read");
        assert_eq!((poured.await.expect("done").expect("poured"), read.len()), (300_004, 300_004));
        assert!(read.ends_with(b"\xff\0end"));
        drop(reader);

        let (reader, sender) = open();
        let broken = pour(pieces(vec![Ok(Bytes::from_static(b"a")), Err(io::Error::other("gone"))]), sender).await;
        assert_eq!(broken.expect_err("it broke off").to_string(), "gone");
        drop(reader);

        // Who stops reading ends it, though the sender is silent.
        let (reader, sender) = open();
        let silent = tokio::spawn(pour(stream::pending().boxed(), sender));
        drop(reader);
        let ended = tokio::time::timeout(Duration::from_secs(20), silent).await.expect("at once").expect("done");
        assert_eq!(ended.expect("no error"), 0);
    }
}
