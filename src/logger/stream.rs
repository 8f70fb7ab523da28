//! Logs as a stream of bytes, for whoever sends them over a network.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::read::{Changes, Line, Query, Reader};

/// A piece is sent when it is this long, or when there is nothing more for now.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for a slow receiver.
const WAITING: usize = 4;
/// How long a follower sleeps at most, so that it notices that nobody listens any more. New output wakes it at once.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How lines are given out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Form {
    /// Go on with what is written later, until the logs are removed or nobody listens.
    pub follow: bool,
    /// Begin each line with its time, as `kubectl logs --timestamps` does.
    pub timestamps: bool,
}

/// Streams the lines that `query` wants from a directory of logs. It is read by a thread of its own, because files
/// block; the thread ends soon after the stream is dropped.
pub fn pieces(logs: PathBuf, query: Query, form: Form) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let work = move || {
        let outlet = Outlet { sender, form, piece: Vec::new() };
        let sender = outlet.sender.clone();
        if let Err(Stop::Failed(e)) = send(logs, query, outlet) {
            // If nobody listens, nobody needs to know.
            let _ = sender.blocking_send(Err(e));
        }
    };
    std::thread::Builder::new().name("logs".to_owned()).spawn(work)?;
    let next = |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async { Some((receiver.recv().await?, receiver)) };
    Ok(Box::pin(futures::stream::unfold(receiver, next)))
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
    piece: Vec<u8>,
}

impl Outlet {
    fn put(&mut self, line: &Line) -> Result<(), Stop> {
        if self.form.timestamps {
            self.piece.extend_from_slice(line.at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string().as_bytes());
        }
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
    loop {
        while let Some(line) = reader.next_line()? {
            outlet.put(&line)?;
        }
        let Some(changes) = changes.as_mut().filter(|_| !reader.is_over()) else { break };
        outlet.flush()?;
        let is_there = logs.exists();
        if was_there && !is_there {
            break;
        }
        was_there = is_there;
        if !changes.wait(LONGEST_SLEEP)? && !outlet.form.timestamps {
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
    use std::{fs, path::Path};

    use futures::StreamExt;

    use super::{
        super::{
            files::{Record, Stream},
            read::Attempts,
        },
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
    async fn a_follower_gets_what_comes_later_until_the_logs_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        write(&logs, 0, "one\n");
        let form = Form { follow: true, timestamps: true };
        let mut stream = pieces(logs.clone(), Query::of(Attempts::From(1)), form).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "1970-01-01T00:00:01.500000000Z one\n");
        write(&logs, 4, "two\nthr");
        assert_eq!(stream.next().await.unwrap().unwrap(), "1970-01-01T00:00:01.500000000Z two\n");
        fs::remove_dir_all(&logs).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "1970-01-01T00:00:01.500000000Z thr");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn without_following_it_ends_with_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 0, "one\ntw");
        let stream = pieces(dir.path().to_owned(), Query::of(Attempts::All), Form::default()).unwrap();
        let all: Vec<_> = stream.map(Result::unwrap).collect().await;
        assert_eq!(all.concat(), b"one\ntw");
    }
}
