//! The keeper's state file: what was started, how it ended, what may be forgotten.
//!
//! Append-only lines of JSON, no fsync: it matters only while this boot lasts, and says so in its first line. A line is
//! written before the child that it tells of is released, so that a successor knows of every process that ever ran.
//! Lines that are not understood (a newer keeper's, or torn) are passed over. Compacted by rename at the start and when
//! most of it is history. Only the keeper that holds the lock may open it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{cgroup::Group, pump::DEFAULT_LIMITS};
use crate::{
    api::Uid,
    drivers::{End, Ended, LogLimits, Notified, StartKey},
};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The boot that the file belongs to.
    Boot(String),
    /// A child was forked and is about to be released.
    Start {
        key: StartKey,
        pid: i32,
        ticks: u64,
        at: Timestamp,
        logs: LogLimits,
        #[serde(default, skip_serializing_if = "Group::is_none")]
        group: Group,
    },
    /// An attempt's main process is another one now.
    Main { key: StartKey, pid: i32, ticks: u64 },
    /// An attempt may speak by sd_notify, and has said so much.
    Notified { key: StartKey, said: Notified },
    /// An attempt ended, or could not be started.
    End { key: StartKey, ended: Ended },
    /// Its end was acknowledged.
    Forget { key: StartKey },
    /// This attempt and all before it were started.
    Used { key: StartKey },
    /// The Instance is gone.
    Remove { uid: Uid },
    /// How much output is kept.
    Logs { uid: Uid, limits: LogLimits },
    /// The process that pumps output.
    Logger { pid: i32, ticks: u64 },
}

/// An attempt on record.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recorded {
    pub pid: i32,
    pub ticks: u64,
    pub at: Timestamp,
    pub group: Group,
    pub ended: Option<Ended>,
    /// What it has said by sd_notify, if it may.
    pub said: Option<Notified>,
}

/// What the lines add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Book {
    pub attempts: BTreeMap<StartKey, Recorded>,
    /// The highest attempt ever started, by Instance: no attempt up to it is ever started again.
    pub used: BTreeMap<Uid, u32>,
    pub logs: BTreeMap<Uid, LogLimits>,
    pub logger: Option<(i32, u64)>,
}

impl Book {
    fn turn(&mut self, line: Line) {
        match line {
            Line::Boot(_) => {}
            Line::Start { key, pid, ticks, at, logs, group } => {
                self.mark_used(&key);
                self.logs.insert(key.uid.clone(), logs);
                self.attempts.insert(key, Recorded { pid, ticks, at, group, ended: None, said: None });
            }
            Line::Main { key, pid, ticks } => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    (attempt.pid, attempt.ticks) = (pid, ticks);
                }
            }
            Line::Notified { key, said } => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    attempt.said = Some(said);
                }
            }
            Line::End { key, ended } => {
                self.mark_used(&key);
                let unseen = Recorded {
                    pid: 0,
                    ticks: 0,
                    at: ended.start_time,
                    group: Group::default(),
                    ended: None,
                    said: None,
                };
                self.attempts.entry(key).or_insert(unseen).ended = Some(ended);
            }
            Line::Forget { key } => {
                self.attempts.remove(&key);
            }
            Line::Used { key } => self.mark_used(&key),
            Line::Remove { uid } => {
                self.attempts.retain(|key, _| key.uid != uid);
                self.used.remove(&uid);
                self.logs.remove(&uid);
            }
            Line::Logs { uid, limits } => {
                self.logs.insert(uid, limits);
            }
            Line::Logger { pid, ticks } => self.logger = Some((pid, ticks)),
        }
    }

    fn mark_used(&mut self, key: &StartKey) {
        let used = self.used.entry(key.uid.clone()).or_default();
        *used = key.attempt.max(*used);
    }

    /// After another boot nothing of the former one runs, and nobody saw how it ended.
    fn all_lost(&mut self, now: Timestamp) {
        self.logger = None;
        for attempt in self.attempts.values_mut() {
            let lost = Ended { end: End::Lost, oom_killed: false, start_time: attempt.at, finish_time: now };
            attempt.ended.get_or_insert(lost);
            (attempt.pid, attempt.ticks, attempt.group) = (0, 0, Group::default());
        }
    }

    /// The fewest lines that add up to this book.
    fn lines(&self, boot: &str) -> Vec<Line> {
        let mut lines = vec![Line::Boot(boot.to_owned())];
        lines.extend(self.logger.map(|(pid, ticks)| Line::Logger { pid, ticks }));
        for (key, attempt) in &self.attempts {
            let logs = self.logs.get(&key.uid).copied().unwrap_or(DEFAULT_LIMITS);
            let Recorded { pid, ticks, at, group, ended, said } = attempt.clone();
            lines.push(Line::Start { key: key.clone(), pid, ticks, at, logs, group });
            lines.extend(said.map(|said| Line::Notified { key: key.clone(), said }));
            lines.extend(ended.map(|ended| Line::End { key: key.clone(), ended }));
        }
        for (uid, limits) in &self.logs {
            lines.push(Line::Logs { uid: uid.clone(), limits: *limits });
        }
        for (uid, attempt) in &self.used {
            lines.push(Line::Used { key: StartKey { uid: uid.clone(), attempt: *attempt } });
        }
        lines
    }
}

/// The file and what it says.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    boot: String,
    file: File,
    length: u64,
    lines: usize,
    book: Book,
}

impl Ledger {
    /// Reads what is there, judges it by the boot id, and writes it anew.
    pub(super) fn open(path: &Path, boot: &str, now: Timestamp) -> io::Result<Ledger> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let mut book = Book::default();
        let mut of_boot = None;
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match line {
                Line::Boot(id) => of_boot = Some(id),
                other => book.turn(other),
            }
        }
        if of_boot.as_deref() != Some(boot) {
            book.all_lost(now);
        }
        let (file, length, lines) = write_anew(path, &book.lines(boot))?;
        Ok(Ledger { path: path.to_owned(), boot: boot.to_owned(), file, length, lines, book })
    }

    /// What is on record.
    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// Writes a line; then, and only then, it counts.
    pub(super) fn append(&mut self, line: Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(&line).map_err(io::Error::other)?;
        text.push(b'\n');
        if let Err(e) = self.file.write_all(&text) {
            // A part of the line may be there (disk full): take it back, so that the next one begins a line.
            self.file.set_len(self.length)?;
            return Err(e);
        }
        self.length += text.len() as u64;
        self.lines += 1;
        self.book.turn(line);
        self.compact_if_large()
    }

    /// An exit counts even if it cannot be written: it is reported, and written with the next compaction.
    pub(super) fn append_or_remember(&mut self, line: Line) {
        if self.append(line.clone()).is_err() {
            self.book.turn(line);
            self.lines = usize::MAX / 2;
        }
    }

    fn compact_if_large(&mut self) -> io::Result<()> {
        let live = 2 * self.book.attempts.len() + 2 * self.book.used.len();
        if self.lines > 4096 + 3 * live
            && let Ok((file, length, lines)) = write_anew(&self.path, &self.book.lines(&self.boot))
        {
            (self.file, self.length, self.lines) = (file, length, lines);
        }
        Ok(())
    }
}

fn write_anew(path: &Path, lines: &[Line]) -> io::Result<(File, u64, usize)> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(io::Error::other)?;
        text.push(b'\n');
    }
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(&text)?;
    std::fs::rename(&fresh, path)?;
    Ok((file, text.len() as u64, lines.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uid: &str, attempt: u32) -> StartKey {
        StartKey { uid: uid.into(), attempt }
    }

    fn started(key: StartKey, pid: i32) -> Line {
        let logs = LogLimits { max_size: 1 << 20, max_files: 3, redact: false };
        Line::Start { key, pid, ticks: 7, at: Timestamp::UNIX_EPOCH, logs, group: Group::default() }
    }

    fn ended(end: End) -> Ended {
        Ended { end, oom_killed: false, start_time: Timestamp::UNIX_EPOCH, finish_time: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn what_was_written_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let now = Timestamp::UNIX_EPOCH;
        let mut ledger = Ledger::open(&path, "boot-1", now).unwrap();
        ledger.append(started(key("a", 1), 10)).unwrap();
        ledger.append(Line::End { key: key("a", 1), ended: ended(End::Code(3)) }).unwrap();
        ledger.append(Line::Forget { key: key("a", 1) }).unwrap();
        ledger.append(started(key("a", 2), 11)).unwrap();
        ledger.append(started(key("b", 1), 12)).unwrap();
        ledger.append(Line::End { key: key("b", 1), ended: ended(End::Signal(9)) }).unwrap();
        ledger.append(Line::Logger { pid: 5, ticks: 6 }).unwrap();
        let book = ledger.book().clone();
        drop(ledger);
        std::io::Write::write_all(&mut OpenOptions::new().append(true).open(&path).unwrap(), b"{\"torn").unwrap();

        let again = Ledger::open(&path, "boot-1", now).unwrap();
        assert_eq!(again.book(), &book);
        assert_eq!(again.book().used[&Uid::from("a")], 2);
        assert_eq!(again.book().attempts.keys().cloned().collect::<Vec<_>>(), [key("a", 2), key("b", 1)]);
    }

    #[test]
    fn after_another_boot_what_ran_is_lost_and_known_ends_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut ledger = Ledger::open(&path, "boot-1", Timestamp::UNIX_EPOCH).unwrap();
        ledger.append(started(key("a", 1), 10)).unwrap();
        ledger.append(started(key("b", 1), 12)).unwrap();
        ledger.append(Line::End { key: key("b", 1), ended: ended(End::Code(0)) }).unwrap();
        drop(ledger);
        let again = Ledger::open(&path, "boot-2", Timestamp::UNIX_EPOCH).unwrap();
        let ends: Vec<_> = again.book().attempts.values().map(|a| a.ended.clone().unwrap().end).collect();
        assert_eq!(ends, [End::Lost, End::Code(0)]);
    }

    #[test]
    fn the_file_does_not_grow_with_history() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut ledger = Ledger::open(&path, "boot", Timestamp::UNIX_EPOCH).unwrap();
        for attempt in 1..=5000 {
            ledger.append(started(key("a", attempt), 10)).unwrap();
            ledger.append(Line::End { key: key("a", attempt), ended: ended(End::Code(0)) }).unwrap();
            ledger.append(Line::Forget { key: key("a", attempt) }).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 1 << 20);
        drop(ledger);
        assert_eq!(Ledger::open(&path, "boot", Timestamp::UNIX_EPOCH).unwrap().book().used[&Uid::from("a")], 5000);
    }
}
