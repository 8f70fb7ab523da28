//! The files of the audit log and the one thread that writes them.
//!
//! `audit/<number of its first record>.jsonl`. A line that a crash cut short was acknowledged to nobody, and is cut off.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::{
    Settings, Shared,
    flood::Floods,
    queue::{Found, Receiver},
    record::{BEGINNING, Changed, Record, hash},
};
use crate::{
    api::{Body, Time},
    clock::SharedClock,
    store::{Anchor, Touched},
};

/// What the thread is asked.
pub(super) enum Message {
    /// To write this with the next batch.
    Note {
        draft: Box<Record>,
        #[allow(dead_code, reason = "held until it is written")]
        permit: OwnedSemaphorePermit,
    },
    /// To have changes on disk when it replies.
    Deeds { deeds: Vec<(Record, Vec<Touched>)>, reply: oneshot::Sender<Result<(), String>> },
    /// To have everything on disk when it replies.
    Flush { reply: oneshot::Sender<()> },
}

/// Reserved ahead of what is written.
const RESERVE: u64 = 1 << 20;
/// A batch is written when it is so long.
const BATCH: usize = 256 << 10;
/// Changes that one record lists; more go into further ones.
const LISTED: usize = 100;
/// What nobody waits for is synced when nothing more has come for so long.
const SOON: Duration = Duration::from_millis(500);
/// How often a full disk is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The log cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the audit log `{}`", path.display())]
pub struct OpenError {
    pub(super) action: &'static str,
    pub(super) path: PathBuf,
    pub(super) source: io::Error,
}

/// The open file and the end of the chain.
pub(super) struct Trail {
    settings: Settings,
    clock: SharedClock,
    shared: Arc<Shared>,
    file: File,
    length: u64,
    reserved: u64,
    day: String,
    /// The oldest record that is kept.
    first: u64,
    /// The newest record and its hash, written or in `backlog`.
    seq: u64,
    last: String,
    /// What the disk did not take.
    backlog: Vec<u8>,
    /// Notes that were passed over meanwhile.
    passed: u64,
    /// Something was written and not synced.
    unsynced: bool,
    /// Refusals that are counted instead.
    floods: Floods,
}

/// The files, oldest first, each with the number of its first record.
pub(super) fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jsonl")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    Ok(found)
}

/// The last whole line of a file, and where it ends.
fn last_line(path: &Path) -> io::Result<(Option<Vec<u8>>, u64)> {
    let mut text = Vec::new();
    File::open(path)?.read_to_end(&mut text)?;
    let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return Ok((None, 0)) };
    let start = text[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok((Some(text[start..end].to_vec()), end as u64 + 1))
}

impl Trail {
    pub(super) fn open(settings: &Settings, clock: SharedClock, anchor: Option<Anchor>) -> Result<Self, OpenError> {
        let dir = &settings.dir;
        let failed = |action| move |source| OpenError { action, path: dir.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("make"))?;
        let there = files(dir).map_err(failed("list"))?;
        let (mut seq, mut last) = (0, BEGINNING.to_owned());
        for (_, path) in there.iter().rev() {
            let (line, _) = last_line(path).map_err(failed("read"))?;
            if let Some(line) = line {
                seq = serde_json::from_slice::<Record>(&line).map_or(0, |record| record.seq);
                last = hash(&line);
                break;
            }
        }
        let mut note = None;
        if let Some(anchor) = anchor.filter(|anchor| anchor.seq > seq) {
            // The chain goes on where the store knows it to be, so that the gap stays to be seen.
            note = Some(format!("the records from {} to {} are missing", seq + 1, anchor.seq));
            (seq, last) = (anchor.seq, anchor.hash);
        }
        let path = there.last().map_or_else(|| dir.join(name(seq + 1)), |(_, path)| path.clone());
        let length = if there.is_empty() { 0 } else { last_line(&path).map_err(failed("read"))?.1 };
        let file = open_file(&path, length).map_err(failed("write"))?;
        let (head, written) = (Anchor { first: 0, seq, hash: last.clone() }, 0);
        let shared = Shared {
            trouble: watch::Sender::new(None),
            head: watch::Sender::new(head),
            written: watch::Sender::new(written),
        };
        let day = Time(clock.now()).to_string().chars().take(10).collect();
        let first = there.first().map_or(seq + 1, |(first, _)| *first);
        let (shared, backlog, settings) = (Arc::new(shared), Vec::new(), settings.clone());
        let mut trail = Self {
            settings,
            clock,
            shared,
            file,
            length,
            reserved: 0,
            day,
            first,
            seq,
            last,
            backlog,
            passed: 0,
            unsynced: false,
            floods: Floods::default(),
        };
        if let Some(note) = note {
            tracing::error!(note, "the audit log was cut");
            let line = trail.chain(trail.own(note));
            trail.backlog.extend_from_slice(&line);
        }
        trail.reserve();
        trail.shared.head.send_modify(|head| head.first = first);
        Ok(trail)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Serves the queue until its other end is dropped.
    pub(super) fn run(mut self, queue: &Receiver) {
        loop {
            let patience = match (self.is_troubled(), self.unsynced) {
                (true, _) => Some(AGAIN),
                (false, true) => Some(SOON),
                (false, false) => None,
            };
            let until = self.floods.next().map(|at| at.saturating_sub(self.clock.uptime()) + SOON);
            match queue.take(patience.into_iter().chain(until).min()) {
                Found::Messages(messages) => {
                    let mut messages = messages.into_iter();
                    while messages.len() > 0 {
                        self.serve(&mut messages, false);
                    }
                }
                Found::Nothing => self.serve(&mut std::iter::empty(), true),
                Found::Closed => return,
            }
        }
    }

    /// Writes what waits, and syncs it if anybody waits for that.
    fn serve(&mut self, messages: &mut impl Iterator<Item = Message>, idle: bool) {
        let (mut replies, mut flushes) = (Vec::new(), Vec::new());
        for message in messages {
            match message {
                Message::Note { .. } if self.is_troubled() => self.passed += 1,
                Message::Note { draft, .. } => {
                    let now = self.clock.uptime();
                    self.floods.pass(*draft, now).into_iter().for_each(|draft| self.put(draft));
                }
                Message::Deeds { deeds, reply } => {
                    deeds.into_iter().for_each(|(draft, changes)| self.put_deed(draft, &changes));
                    replies.push(reply);
                }
                Message::Flush { reply } => {
                    self.floods.told(None).into_iter().for_each(|draft| self.put(draft));
                    flushes.push(reply);
                }
            }
            if self.backlog.len() >= BATCH {
                break;
            }
        }
        let now = self.clock.uptime();
        self.floods.told(Some(now)).into_iter().for_each(|draft| self.put(draft));
        self.reserve();
        let written = self.write(idle || !replies.is_empty() || !flushes.is_empty());
        if let Err(error) = &written {
            self.is_in_trouble(error);
        }
        for reply in replies {
            // Whoever does not listen any more has still been recorded.
            let _ = reply.send(written.as_ref().map(drop).map_err(ToString::to_string));
        }
        for reply in flushes {
            let _ = reply.send(());
        }
    }

    fn put(&mut self, draft: Record) {
        let line = self.chain(draft);
        self.backlog.extend_from_slice(&line);
    }

    fn put_deed(&mut self, draft: Record, changes: &[Touched]) {
        for listed in changes.chunks(LISTED) {
            self.put(Record { changes: listed.iter().map(changed).collect(), ..draft.clone() });
        }
    }

    /// The next line.
    fn chain(&mut self, draft: Record) -> Vec<u8> {
        self.seq += 1;
        let record = Record { seq: self.seq, prev: std::mem::take(&mut self.last), ..draft };
        let mut line = record.line().into_bytes();
        self.last = hash(&line);
        line.push(b'\n');
        line
    }

    /// What the log says of itself.
    fn own(&self, note: String) -> Record {
        let (time, user) = (Time(self.clock.now()).to_string(), "system:appm:audit".to_owned());
        Record { time, user, verb: "note".to_owned(), source: "appm".to_owned(), note, ..Record::default() }
    }

    fn write(&mut self, sync: bool) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.rotate_if_due()?;
            if let Err(error) = self.file.write_all(&self.backlog) {
                // A part may be there; the whole comes again.
                self.file.set_len(self.length)?;
                return Err(error);
            }
            self.length += self.backlog.len() as u64;
            self.backlog.clear();
            self.unsynced = true;
            self.shared.written.send_modify(|count| *count += 1);
        }
        if sync {
            self.file.sync_data()?;
            self.unsynced = false;
            let (first, seq, hash) = (self.first, self.seq, self.last.clone());
            self.shared.head.send_replace(Anchor { first, seq, hash });
        }
        Ok(())
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        let today: String = Time(self.clock.now()).to_string().chars().take(10).collect();
        if self.length == 0 || (self.length < self.settings.max_size && self.day == today) {
            return Ok(());
        }
        self.file.sync_data()?;
        // What waits is at the end of the chain already.
        let waiting = self.backlog.iter().filter(|byte| **byte == b'\n').count() as u64;
        let path = self.settings.dir.join(name(self.seq + 1 - waiting));
        self.file = open_file(&path, 0)?;
        File::open(&self.settings.dir)?.sync_all()?;
        (self.length, self.reserved, self.day) = (0, 0, today);
        let there = files(&self.settings.dir)?;
        if self.settings.max_files > 0 {
            let surplus = there.len().saturating_sub(self.settings.max_files);
            there[..surplus].iter().try_for_each(|(_, path)| fs::remove_file(path))?;
            self.first = there.get(surplus).map_or(self.first, |(first, _)| *first);
        }
        self.reserve();
        Ok(())
    }

    /// Reserves room, so that a full disk is noticed before something must be written.
    fn reserve(&mut self) {
        let wanted = self.length + self.backlog.len() as u64 + RESERVE / 2;
        if wanted <= self.reserved && !self.is_troubled() {
            return;
        }
        let until = wanted + RESERVE / 2;
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, until - self.length) {
            Err(error @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT | rustix::io::Errno::IO)) => {
                self.is_in_trouble(&error.into());
            }
            // Some file systems cannot reserve: there a full disk is noticed when it is.
            _ => {
                self.reserved = until;
                self.is_well();
            }
        }
    }

    fn is_troubled(&self) -> bool {
        self.shared.trouble.borrow().is_some()
    }

    fn is_in_trouble(&self, error: &io::Error) {
        let text = format!("the audit log in `{}` cannot be written: {error}", self.settings.dir.display());
        // The same trouble again wakes nobody.
        let known = self.is_troubled();
        self.shared.trouble.send_if_modified(|trouble| trouble.replace(text.clone()).as_ref() != Some(&text));
        if !known {
            tracing::error!(%error, "the audit log cannot be written: changes are refused until it can");
        }
    }

    fn is_well(&mut self) {
        if self.shared.trouble.send_if_modified(|trouble| trouble.take().is_some()) {
            tracing::info!(passed = self.passed, "the audit log can be written again");
            let passed = std::mem::take(&mut self.passed);
            let note = format!("could not be written until now; {passed} records of what changes nothing are missing");
            let line = self.chain(self.own(note));
            self.backlog.extend_from_slice(&line);
        }
    }
}

fn changed(touched: &Touched) -> Changed {
    let Touched { key, before, old, new } = touched;
    // A short secret could be guessed from its hash.
    let hash_of = |body: Option<Body>| match body {
        Some(body) if !key.kind.sealed => hash(body.json()),
        _ => String::new(),
    };
    Changed {
        kind: key.kind.qualified().into_owned(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        before: before.0,
        old: hash_of(old.as_ref().map(|old| old.body())),
        new: hash_of(new.clone()),
        deleted: new.is_none(),
    }
}

fn name(first: u64) -> String {
    format!("{first:012}.jsonl")
}

/// Opens a file for more, and cuts off what a crash left of a line.
fn open_file(path: &Path, length: u64) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if file.metadata()?.len() > length {
        file.set_len(length)?;
    }
    Ok(file)
}
