//! Output out of which secret values are taken before it is written.
//!
//! The fast path (splice from FIFO to file) never sees a byte, so here there is a step between:
//! ```text
//!   FIFO ──splice──► stage (a file in memory) ──read, redact──► log file, index
//! ```
//! A byte is in the FIFO or in the stage, whatever is killed; the stage is kept until what became of its bytes is in the
//! index. Before a piece is written, the *cursor* says what is about to be: where the index will end then, and how far the
//! stage is done with before and after. A successor sees by the index whether the piece is there; if it is not, the bytes
//! that have no record are cut off, and it is made again. So `kill -9` at any instant loses nothing, doubles nothing and
//! writes nothing unredacted.
//!
//! All of it is in memory: `values`, `stage.out`, `stage.err` and `cursor` in a directory to which `secrets` in the attempt's
//! own directory leads. The keeper makes both before the attempt can write; where that link leads nowhere there were values
//! that nobody knows any more, and output is thrown away rather than shown.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use rustix::{
    fs::{FallocateFlags, fallocate},
    pipe::{SpliceFlags, splice},
};

use super::{
    files::Stream,
    masks::{Ear, LISTENS},
    sink::{Intent, Moved, PIECE, Sink},
};
use crate::{
    api::SecretValue,
    policy::redact::{Done, End, Redactor},
};

/// The link in an attempt's directory that says that it was given secret values.
pub(crate) const SECRETS: &str = "secrets";
/// The file with the values.
pub(crate) const VALUES: &str = "values";
const CURSOR: &str = "cursor";

/// What is written where output is thrown away.
const MARK: &[u8] =
    b"[appm: output is withheld: the secret values that are to be taken out of it are not known any more]\n";
/// So much of a stage that is done with is given back at once.
const FREED: u64 = 16 << 10;
/// The least that is redacted at once: more than is ever held back.
const LEAST: u64 = 512;
/// The same where lines are held back that may be commands.
const LEAST_HEARD: u64 = 68 << 10;

/// What is known of an attempt's secret values.
#[derive(Debug)]
pub(crate) enum Known {
    /// It was given none that can be looked for.
    Nothing,
    /// These.
    Values(Arc<Redactor>),
    /// There were some.
    Gone,
}

impl Known {
    /// By the attempt's directory. `among`: redactors that are in use, one of which may do.
    pub(crate) fn of(attempt_dir: &Path, among: &mut Redactors) -> Known {
        let link = attempt_dir.join(SECRETS);
        match link.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Known::Nothing,
            _ => {}
        }
        match std::fs::read(link.join(VALUES)) {
            Ok(text) => among.find(text),
            Err(_) => Known::Gone,
        }
    }
}

/// Redactors by what they were made of: a thousand instances of an App share one.
#[derive(Debug, Default)]
pub(crate) struct Redactors(Vec<(Vec<u8>, std::sync::Weak<Redactor>)>);

impl Redactors {
    fn find(&mut self, text: Vec<u8>) -> Known {
        self.0.retain(|(_, redactor)| redactor.strong_count() > 0);
        if let Some(redactor) = self.0.iter().find(|(of, _)| *of == text).and_then(|(_, redactor)| redactor.upgrade()) {
            return Known::Values(redactor);
        }
        let Ok(values) = serde_json::from_slice::<Vec<SecretValue>>(&text) else { return Known::Gone };
        let Some(values) = values.iter().map(SecretValue::bytes).collect::<Option<Vec<_>>>() else {
            return Known::Gone;
        };
        let Some(redactor) = Redactor::new(values.iter().map(Vec::as_slice)) else { return Known::Nothing };
        let redactor = Arc::new(redactor);
        self.0.push((text, Arc::downgrade(&redactor)));
        Known::Values(redactor)
    }
}

/// Whether secret values were taken out of this attempt's output before, or are to be when it asks for that.
pub(super) fn is_guarded(attempt_dir: &Path) -> bool {
    let secrets = attempt_dir.join(SECRETS);
    [CURSOR, LISTENS].iter().any(|name| secrets.join(name).exists())
}

/// How an attempt's output is treated.
#[derive(Debug)]
pub(super) enum Guard {
    /// It is written as it is.
    Plain,
    /// Secret values are taken out.
    Redact(Box<Stage>),
    /// It is thrown away. True: that was said in the log.
    Withhold(bool),
}

impl Guard {
    pub(super) fn of(attempt_dir: &Path, among: &mut Redactors) -> Guard {
        let secrets = attempt_dir.join(SECRETS);
        let opened = match (Known::of(attempt_dir, among), Ear::of(&secrets)) {
            (Known::Nothing, Ok(None)) => return Guard::Plain,
            (Known::Gone, _) | (_, Err(_)) => return Guard::Withhold(false),
            (Known::Values(redactor), Ok(None)) => Stage::open(&secrets, Some(redactor), None),
            (_, Ok(Some(ear))) => {
                ear.redactor().and_then(|redactor| Stage::open(&secrets, redactor.map(Arc::new), Some(ear)))
            }
        };
        opened.map_or(Guard::Withhold(false), |stage| Guard::Redact(Box::new(stage)))
    }

    /// Whether values may be asked to be taken out, whatever the App's manifest says.
    pub(super) fn listens(&self) -> bool {
        matches!(self, Guard::Redact(stage) if stage.ear.is_some())
    }

    /// What an earlier logger was about to write.
    pub(super) fn intent(&self) -> Option<Intent> {
        match self {
            Guard::Redact(stage) => Some(stage.cursor.intent),
            Guard::Plain | Guard::Withhold(_) => None,
        }
    }

    /// Whether something is held back.
    pub(super) fn holds(&self, stream: Stream) -> bool {
        matches!(self, Guard::Redact(stage) if stage.holds(stream))
    }
}

/// How far a stream's stage is done with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// What comes before this is not needed any more.
    at: u64,
    /// So many bytes after it are written already, but what follows is judged together with them.
    given: u64,
}

/// What was about to be written, and what holds before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    intent: Intent,
    before: [Place; 2],
    after: [Place; 2],
}

const CURSOR_LENGTH: usize = 80;

impl Cursor {
    fn words(self) -> [u64; 10] {
        let [b0, b1] = self.before;
        let [a0, a1] = self.after;
        [
            u64::from(self.intent.seq),
            self.intent.index,
            b0.at,
            b0.given,
            b1.at,
            b1.given,
            a0.at,
            a0.given,
            a1.at,
            a1.given,
        ]
    }

    fn to_bytes(self) -> [u8; CURSOR_LENGTH] {
        let mut bytes = [0; CURSOR_LENGTH];
        for (slot, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.words()) {
            *slot = word.to_le_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; CURSOR_LENGTH]) -> Cursor {
        let word = |at: usize| u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
        let place = |at: usize| Place { at: word(at), given: word(at + 1) };
        Cursor {
            intent: Intent { seq: u32::try_from(word(0)).unwrap_or(u32::MAX), index: word(1) },
            before: [place(2), place(4)],
            after: [place(6), place(8)],
        }
    }
}

/// Bytes that were taken from the FIFOs and are not done with.
#[derive(Debug)]
pub(super) struct Stage {
    /// None while there is nothing to look for.
    redactor: Option<Arc<Redactor>>,
    ear: Option<Ear>,
    streams: [File; 2],
    /// Where the next byte from the FIFO goes.
    ends: [u64; 2],
    freed: [u64; 2],
    file: File,
    cursor: Cursor,
    /// False until it was looked whether what the cursor says was done.
    is_settled: bool,
}

impl Stage {
    fn open(dir: &Path, redactor: Option<Arc<Redactor>>, ear: Option<Ear>) -> io::Result<Stage> {
        let open = |name: &str| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(dir.join(name))
        };
        let streams = [open("stage.out")?, open("stage.err")?];
        let ends = [streams[0].metadata()?.size(), streams[1].metadata()?.size()];
        let file = open(CURSOR)?;
        let mut bytes = [0; CURSOR_LENGTH];
        // Nothing was written yet, or all of it: a cursor is one small write.
        let cursor = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Cursor::from_bytes(&bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Cursor::default(),
            Err(e) => return Err(e),
        };
        Ok(Stage { redactor, ear, streams, ends, freed: [0; 2], file, cursor, is_settled: false })
    }

    fn holds(&self, stream: Stream) -> bool {
        let place = self.cursor.before[stream as usize];
        self.ends[stream as usize] > place.at + place.given
    }

    /// Takes what is in the FIFO, and writes what may be shown of it.
    pub(super) fn take(
        &mut self,
        sink: &mut Sink,
        fifo: &OwnedFd,
        stream: Stream,
        now: Timestamp,
    ) -> io::Result<Moved> {
        let slot = stream as usize;
        if self.ends[slot] - self.place(sink, slot)?.at >= PIECE as u64 {
            // The disk did not take it the last time.
            self.drain(sink, stream, End::Open, now)?;
        }
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = match splice(fifo, None, &self.streams[slot], Some(&mut self.ends[slot]), PIECE, flags) {
            Ok(0) => Moved::End,
            Ok(length) => Moved::Some(length),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Moved::NotYet,
            Err(e) => return Err(e.into()),
        };
        self.drain(sink, stream, if moved == Moved::End { End::Over } else { End::Open }, now)?;
        Ok(moved)
    }

    /// Where a stream stands, by what an earlier logger has left.
    fn place(&mut self, sink: &mut Sink, slot: usize) -> io::Result<Place> {
        if !self.is_settled {
            let places = if sink.is_done(self.cursor.intent)? { self.cursor.after } else { self.cursor.before };
            self.cursor.before = places;
            self.cursor.after = places;
            self.is_settled = true;
        }
        Ok(self.cursor.before[slot])
    }

    /// Writes what may be shown of what is there.
    pub(super) fn drain(&mut self, sink: &mut Sink, stream: Stream, end: End, now: Timestamp) -> io::Result<()> {
        let slot = stream as usize;
        loop {
            let place = self.place(sink, slot)?;
            let there = self.ends[slot] - place.at;
            if there == 0 || (there == place.given && end != End::Over) {
                return Ok(());
            }
            // All that fits into the log file, and always more than what is held back, so that it goes on.
            let least = if self.ear.is_some() { LEAST_HEARD } else { LEAST };
            let most = sink.room()?.clamp(least, PIECE as u64);
            let (length, end) = if there > most { (most, End::Open) } else { (there, end) };
            let is_last = length == there;
            let mut data = vec![0; usize::try_from(length).expect("a piece is small")];
            self.streams[slot].read_exact_at(&mut data, place.at)?;
            let given = usize::try_from(place.given).expect("a part of a piece");
            let until = self.listen(slot, place, &data, end)?.max(given);
            let data = &data[..until];
            let mut shown = Vec::with_capacity(data.len() + 16);
            let Done { consumed, given } = match &self.redactor {
                Some(redactor) => redactor.redact(data, given, end, &mut shown),
                None => {
                    shown.extend_from_slice(&data[given..]);
                    Done { consumed: data.len(), given: 0 }
                }
            };
            let next = Place { at: place.at + consumed as u64, given: given as u64 };
            self.commit(sink, stream, next, &shown, now)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Hears what is asked for, so that it is looked for from here on. So many of the bytes may be shown.
    fn listen(&mut self, slot: usize, place: Place, data: &[u8], end: End) -> io::Result<usize> {
        let Some(ear) = &mut self.ear else { return Ok(data.len()) };
        let mut before = [b'\n'];
        if let Some(at) = place.at.checked_sub(1) {
            self.streams[slot].read_exact_at(&mut before, at)?;
        }
        let (until, more) = ear.hear(data, before == [b'\n'], end)?;
        if more {
            self.redactor = ear.redactor()?.map(Arc::new);
        }
        Ok(until)
    }

    /// Writes a piece, and that its bytes are done with: both or neither.
    fn commit(&mut self, sink: &mut Sink, stream: Stream, next: Place, shown: &[u8], now: Timestamp) -> io::Result<()> {
        let slot = stream as usize;
        let mut after = self.cursor.before;
        after[slot] = next;
        if shown.is_empty() {
            // Both sides say the same, so it does not matter what becomes of the intent.
            if self.cursor.before != after {
                let cursor = Cursor { before: after, after, ..self.cursor };
                self.file.write_all_at(&cursor.to_bytes(), 0)?;
                self.cursor = cursor;
            }
        } else {
            let before = self.cursor.before;
            let (file, mut written) = (&self.file, self.cursor);
            sink.put_surely(stream, shown, now, |intent| {
                written = Cursor { intent, before, after };
                file.write_all_at(&written.to_bytes(), 0)
            })?;
            self.cursor = Cursor { before: after, ..written };
        }
        self.free(slot, next.at)
    }

    /// Gives the memory of what is done with back, but for the last byte, by which it is known whether a line begins. Places stay: the file
    /// gets a hole.
    fn free(&mut self, slot: usize, until: u64) -> io::Result<()> {
        const PAGE: u64 = 4096;
        if until.saturating_sub(self.freed[slot]) > FREED {
            let until = (until - 1) / PAGE * PAGE;
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&self.streams[slot], flags, 0, until)?;
            self.freed[slot] = until;
        }
        Ok(())
    }
}

/// Throws away what is in a FIFO, when that has been said.
pub(super) fn withhold(sink: &mut Sink, fifo: &OwnedFd, is_said: &mut bool, now: Timestamp) -> io::Result<Moved> {
    let mut bytes = [0; 64 << 10];
    if !*is_said {
        sink.put_surely(Stream::Err, MARK, now, |_| Ok(()))?;
        *is_said = true;
    }
    match rustix::io::read(fifo, &mut bytes) {
        Ok(0) => Ok(Moved::End),
        Ok(length) => Ok(Moved::Some(length)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Moved::NotYet),
        Err(e) => Err(e.into()),
    }
}
