//! Logs as a stream of bytes, for whoever sends them over a network.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::Timespec,
    pipe::{PipeFlags, pipe_with},
};
use tokio::sync::mpsc;

use super::{
    files::Stream,
    read::{Changes, Line, Query, Reader},
};

/// A piece is sent when it is this long, or when there is nothing more for now.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for a slow receiver.
const WAITING: usize = 4;
/// How long a follower sleeps at most, so that it notices that nobody listens any more. New output wakes it at once.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// After the end, how long the logs must be quiet, and how often they are looked at if they never are.
const SETTLING: Duration = Duration::from_millis(50);
const LAST_LOOKS: u32 = 20;

/// How lines are given out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Form {
    /// Go on with what is written later, until the Instance's directory is removed or nobody listens.
    pub follow: bool,
    /// Begin each line with its time, as `kubectl logs --timestamps` does.
    pub timestamps: bool,
    /// The end is told when everything is on disk: then nothing more is waited for. Else the logs must be quiet for a moment.
    pub exact: bool,
}

/// Streams the lines that `query` wants from a directory of logs. It is read by a thread of its own, because files
/// block; the thread ends soon after the stream is dropped.
///
/// A follower goes on until `end` resolves, and then until what was written before that is read.
pub fn pieces(
    logs: PathBuf,
    query: Query,
    form: Form,
    end: Option<BoxFuture<'static, ()>>,
) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let (end, ended) = match end.map(|end| Ok::<_, io::Error>((end, pipe_with(PipeFlags::CLOEXEC)?))).transpose()? {
        Some((end, (reader, writer))) => (Some((end, writer)), Some(reader)),
        None => (None, None),
    };
    let work = move || {
        let outlet = Outlet { sender, form, ended, piece: Vec::new(), inside: None };
        let sender = outlet.sender.clone();
        if let Err(Stop::Failed(e)) = send(logs, query, outlet) {
            // If nobody listens, nobody needs to know.
            let _ = sender.blocking_send(Err(e));
        }
    };
    std::thread::Builder::new().name("logs".to_owned()).spawn(work)?;
    let mut end = end;
    Ok(Box::pin(futures::stream::poll_fn(move |cx| {
        // Closing the pipe wakes the thread. The future is polled here, so that it ends with the stream.
        if end.as_mut().is_some_and(|(end, _)| end.as_mut().poll(cx).is_ready()) {
            end = None;
        }
        receiver.poll_recv(cx)
    })))
}

/// Why a stream ends before its time.
enum Stop {
    NobodyListens,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Stop::Failed(e)
    }
}

struct Outlet {
    sender: mpsc::Sender<io::Result<Bytes>>,
    form: Form,
    /// Hung up when nothing more is to be waited for.
    ended: Option<OwnedFd>,
    piece: Vec<u8>,
    /// Whose line was given out last, if it has no end yet.
    inside: Option<(u32, Stream)>,
}

impl Outlet {
    /// True if the end was told.
    fn is_over(&self) -> io::Result<bool> {
        let Some(ended) = &self.ended else { return Ok(false) };
        Ok(poll(&mut [PollFd::new(ended, PollFlags::IN)], Some(&Timespec::default()))? > 0)
    }

    /// With times, a line that another one interrupts is ended first, and has its time again when it goes on.
    fn put(&mut self, line: &Line) -> Result<(), Stop> {
        let whose = (line.attempt, line.stream);
        if self.form.timestamps && (line.begins || self.inside != Some(whose)) {
            if self.inside.is_some() {
                self.piece.push(b'\n');
            }
            self.piece.extend_from_slice(line.at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string().as_bytes());
        }
        self.inside = (!line.bytes.ends_with(b"\n")).then_some(whose);
        self.piece.extend_from_slice(&line.bytes);
        if self.piece.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.sender.blocking_send(Ok(piece)).map_err(|_| Stop::NobodyListens)
    }
}

fn send(logs: PathBuf, query: Query, mut outlet: Outlet) -> Result<(), Stop> {
    // Before the first look, so that nothing is missed between the two.
    let mut changes = outlet.form.follow.then(|| Changes::watch(&logs)).transpose()?;
    let mut reader = Reader::open(&logs, query)?;
    let mut was_there = false;
    let mut last_looks = LAST_LOOKS;
    loop {
        while let Some(line) = reader.next_line()? {
            outlet.put(&line)?;
        }
        let Some(changes) = changes.as_mut().filter(|_| !reader.is_over()) else { break };
        outlet.flush()?;
        // The directory of logs may be removed by anybody, and comes back with the next output; that of the Instance
        // goes with it.
        let is_there = logs.parent().is_none_or(Path::exists);
        if was_there && !is_there {
            break;
        }
        was_there = is_there;
        if outlet.is_over()? {
            if outlet.form.exact {
                while let Some(line) = reader.next_line()? {
                    outlet.put(&line)?;
                }
                break;
            }
            // What a process wrote last comes out of its pipe at about the time at which its end is told.
            last_looks -= 1;
            if last_looks == 0 || !changes.wait(SETTLING, None)? {
                break;
            }
            continue;
        }
        if !changes.wait(LONGEST_SLEEP, outlet.ended.as_ref())? {
            // A prompt, say: nothing more has come for a while, so it is shown as it is.
            for part in reader.rest() {
                outlet.put(&part)?;
            }
            outlet.flush()?;
        }
        if outlet.sender.is_closed() {
            return Err(Stop::NobodyListens);
        }
    }
    for part in reader.rest() {
        outlet.put(&part)?;
    }
    outlet.flush()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures::StreamExt;

    use super::{
        super::{files::Record, read::Attempts},
        *,
    };

    /// As the logger does: bytes first, record second.
    fn write(logs: &Path, offset: u64, text: &str) {
        use std::io::Write;
        let open = |name: &str| fs::OpenOptions::new().append(true).create(true).open(logs.join(name)).unwrap();
        let record = Record { nanos: 1_500_000_000, stream: Stream::Out, offset, length: text.len() as u32 };
        open("1.1.out").write_all(text.as_bytes()).unwrap();
        open("1.1.idx").write_all(&record.to_bytes()).unwrap();
    }

    #[tokio::test]
    async fn a_follower_gets_what_comes_later_until_the_instance_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("instance/logs");
        fs::create_dir_all(&logs).unwrap();
        write(&logs, 0, "one\n");
        let form = Form { follow: true, timestamps: true, exact: false };
        let mut stream = pieces(logs.clone(), Query::of(Attempts::From(1)), form, None).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "1970-01-01T00:00:01.500000000Z one\n");
        write(&logs, 4, "two\nthr");
        assert_eq!(stream.next().await.unwrap().unwrap(), "1970-01-01T00:00:01.500000000Z two\n");
        // Somebody tidies up; what comes then is shown, in files that are counted anew.
        fs::remove_dir_all(&logs).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "1970-01-01T00:00:01.500000000Z thr");
        fs::create_dir(&logs).unwrap();
        write(&logs, 0, "ee\nfour\n");
        let rest = stream.next().await.unwrap().unwrap();
        assert_eq!(rest, "ee\n1970-01-01T00:00:01.500000000Z four\n");
        fs::remove_dir_all(dir.path().join("instance")).unwrap();
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_line_that_is_shown_in_parts_has_one_time() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(600 << 10);
        write(dir.path(), 0, &format!("{long}\nshort\n"));
        let form = Form { follow: false, timestamps: true, exact: false };
        let stream = pieces(dir.path().to_owned(), Query::of(Attempts::All), form, None).unwrap();
        let all: Vec<_> = stream.map(Result::unwrap).collect().await;
        let time = "1970-01-01T00:00:01.500000000Z";
        assert!(all.concat() == format!("{time} {long}\n{time} short\n").as_bytes());
        assert!(all.iter().all(|piece| piece.len() <= 512 << 10), "in parts");
    }

    #[tokio::test]
    async fn a_follower_that_is_told_the_end_still_gets_what_was_written_before_it() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0, "one\n");
        let form = Form { follow: true, ..Form::default() };
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let end = async { told.await.unwrap() };
        let logs = dir.path().to_owned();
        let mut stream = pieces(logs, Query::of(Attempts::From(1)), form, Some(Box::pin(end))).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "one\n");
        write(dir.path(), 4, "two\nthr");
        tell.send(()).unwrap();
        let rest: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(rest.concat(), b"two\nthr");
    }

    #[tokio::test]
    async fn without_following_it_ends_with_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0, "one\ntw");
        let stream = pieces(dir.path().to_owned(), Query::of(Attempts::All), Form::default(), None).unwrap();
        let all: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(all.concat(), b"one\ntw");
    }
}
