//! Reading the audit log: what a filter wants, what comes next, and whether all of it is what was written.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    record::{BEGINNING, Decision, Record, hash},
    trail::files,
};
use crate::store::Anchor;

/// Which records are wanted. What is empty wants all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this user.
    pub user: String,
    /// With this verb.
    pub verb: String,
    /// Of these resources, by their plural; of one part with `/part`.
    pub resource: String,
    /// In this namespace.
    pub namespace: String,
    /// Of objects of this name.
    pub name: String,
    /// Of this request.
    pub request_id: String,
    /// Not older.
    pub since: Option<Timestamp>,
    /// Refused ones only.
    pub denied: bool,
}

impl Filter {
    fn wants(&self, record: &Record) -> bool {
        let same = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        let resource = || match record.subresource.as_str() {
            "" => self.resource == record.resource,
            part => self.resource == format!("{}/{part}", record.resource) || self.resource == record.resource,
        };
        // Of a transaction the objects are in the changes only.
        let touched = |wants: &dyn Fn(&super::Changed) -> bool| record.changes.iter().any(wants);
        let plural = |kind: &str| kind.split('.').next() == Some(self.resource.as_str());
        same(&self.user, &record.user)
            && same(&self.verb, &record.verb)
            && same(&self.request_id, &record.request_id)
            && (self.resource.is_empty() || resource() || touched(&|c| plural(&c.kind)))
            && (same(&self.namespace, &record.namespace) || touched(&|c| c.namespace == self.namespace))
            && (same(&self.name, &record.name) || touched(&|c| c.name == self.name))
            && (!self.denied || record.decision == Decision::Deny)
            && self.since.is_none_or(|since| record.time.parse::<Timestamp>().is_ok_and(|time| time >= since))
    }
}

/// What a look at the whole log has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// How many records are there.
    pub records: u64,
    /// The number of the oldest one.
    pub first: u64,
    /// The number of the newest one.
    pub last: u64,
    /// The first place where it is not what was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// Where the log is not what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The file's name.
    pub file: String,
    /// Its line, from 1.
    pub line: u64,
    /// The number of the record that must be there.
    pub seq: u64,
    /// What is wrong.
    pub what: String,
}

/// Goes through all files: each record must name the hash of the one before, and what the store and the running server
/// remember must be among them.
pub(super) fn verify(dir: &Path, anchor: Option<&Anchor>, head: Option<&Anchor>) -> io::Result<Verdict> {
    let known: Vec<&Anchor> = anchor.into_iter().chain(head).filter(|known| known.seq > 0).collect();
    let mut verdict = Verdict::default();
    let mut prev: Option<String> = None;
    let mut at = (String::new(), 0);
    for (_, path) in files(dir)? {
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let mut reader = BufReader::new(File::open(&path)?);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            // A last line without an end is being written just now.
            if reader.read_until(b'\n', &mut text)? == 0 || text.pop() != Some(b'\n') {
                break;
            }
            at = (file.clone(), line);
            let expected = if prev.is_some() { verdict.last + 1 } else { 0 };
            let fault = |what: &str| Some(Fault { file: file.clone(), line, seq: expected, what: what.to_owned() });
            let Ok(record) = serde_json::from_slice::<Record>(&text) else {
                return Ok(Verdict { fault: fault("it is no record"), ..verdict });
            };
            let wrong = match &prev {
                None if known.iter().any(|known| known.first > 0 && record.seq > known.first) => {
                    Some("older records are missing")
                }
                None if record.seq == 1 && record.prev != BEGINNING => Some("the first record names one before it"),
                None => None,
                Some(_) if record.seq != expected => Some("records are missing, or one was put in"),
                Some(hash) if record.prev != *hash => Some("the record before it was changed"),
                Some(_) => None,
            };
            if let Some(what) = wrong {
                return Ok(Verdict { fault: fault(what), ..verdict });
            }
            let own = hash(&text);
            verdict = Verdict { records: verdict.records + 1, last: record.seq, ..verdict };
            if verdict.records == 1 {
                verdict.first = record.seq;
            }
            if known.iter().any(|known| known.seq == record.seq && known.hash != own) {
                return Ok(Verdict { fault: fault("it is not the record that the server has written"), ..verdict });
            }
            prev = Some(own);
        }
    }
    if known.iter().any(|known| known.seq > verdict.last) {
        let (file, line) = at;
        let what = "the newest records are missing from here on".to_owned();
        verdict.fault = Some(Fault { file, line: line + 1, seq: verdict.last + 1, what });
    }
    Ok(verdict)
}

/// Whoever reads on.
pub struct Follower {
    dir: PathBuf,
    filter: Filter,
    /// Where it is: the file's number, and the byte.
    at: (u64, u64),
    written: watch::Receiver<u64>,
}

/// The last `tail` records that are wanted, oldest first.
pub(super) fn last(
    dir: &Path,
    filter: Filter,
    tail: usize,
    written: watch::Receiver<u64>,
) -> io::Result<(Vec<String>, Follower)> {
    let mut follower = Follower { dir: dir.to_owned(), filter, at: (0, 0), written };
    let mut found = VecDeque::new();
    follower.read(|line| {
        found.push_back(line);
        if found.len() > tail {
            found.pop_front();
        }
    })?;
    Ok((found.into(), follower))
}

impl Follower {
    /// What was written since. Waits for something; empty when the log has ended.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn next(&mut self) -> io::Result<Vec<String>> {
        loop {
            if self.written.changed().await.is_err() {
                return Ok(Vec::new());
            }
            let mut found = Vec::new();
            self.read(|line| found.push(line))?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }

    /// Reads on to the end.
    fn read(&mut self, mut each: impl FnMut(String)) -> io::Result<()> {
        self.written.mark_unchanged();
        for (number, path) in files(&self.dir)? {
            if number < self.at.0 {
                continue;
            }
            let mut file = match File::open(&path) {
                // It was the oldest one, and went just now.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                file => BufReader::new(file?),
            };
            let mut from = if number == self.at.0 { self.at.1 } else { 0 };
            file.seek(SeekFrom::Start(from))?;
            let mut line = Vec::new();
            while file.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                from += line.len() as u64;
                line.pop();
                let record = serde_json::from_slice::<Record>(&line);
                if record.is_ok_and(|record| self.filter.wants(&record)) {
                    each(String::from_utf8_lossy(&line).into_owned());
                }
                line.clear();
            }
            self.at = (number, from);
        }
        Ok(())
    }
}
