//! The one writer: takes what waits, judges each commit, has the group written, and only then shows it.
//!
//! While a group is being synced, the next one gathers in the queue: the more writers there are, the more commits
//! share one sync. A commit whose expectations do not hold fails alone. When the engine fails, the whole group fails,
//! memory stays as it was, and the group's revisions are burned, because the disk may have them all the same.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{
    Batch, Bounds, Change, Commit, CommitError, Committed, Core, EngineError, Expect, Group, Oldest, Remembered,
    RotateError, Row, Sealing, Testimony, Touched, Txn, Write, history::without_status, index::Index,
};
use crate::{
    api::{ChangeLog, Durability, Key, KindInfo, Rev, StoredObject},
    clock::SharedClock,
    policy::quota::{Counted, Sums},
};

type Answer = Result<Committed, CommitError>;
type Reply = oneshot::Sender<Answer>;

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Message {
    /// To do this.
    Commit { commit: Box<Commit>, reply: Reply },
    /// To seal with new keys.
    Rotate { data_keys: bool, reply: oneshot::Sender<Result<Sealing, RotateError>> },
    /// To end.
    Close { reply: oneshot::Sender<()> },
}

/// The writer's own state: revisions handed out and reserved.
pub(super) struct Writer {
    core: Arc<Core>,
    clock: SharedClock,
    newest: Rev,
    reserved: Rev,
    compaction: Compaction,
    /// Up to where rows were removed.
    removed: Bounds,
}

/// Where the removal of old rows stands.
enum Compaction {
    /// Nothing to remove until the timer says so.
    Waiting,
    /// Rows up to these bounds are going, batch by batch.
    Removing(Bounds),
    /// Bodies are being sealed with new data keys, batch by batch, if any must be.
    Resealing,
}

/// A commit that was judged, with its revision.
struct Accepted {
    txn: Txn,
    objects: Vec<Arc<StoredObject>>,
    durability: Durability,
}

/// The commits that are to be done, and the answers to the others.
type Judged = (Vec<(Accepted, Reply)>, Vec<(Reply, Answer)>);

/// What a group has written so far; `None` for what is gone.
type Overlay = HashMap<Key, Option<Arc<StoredObject>>>;

/// A commit on its way to the disk.
struct Pending {
    revision: Rev,
    objects: Vec<Arc<StoredObject>>,
    deleted: Vec<bool>,
    /// Asked for from outside: there is a request that waits for an answer.
    outside: bool,
    reply: Reply,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, clock: SharedClock, newest: Rev, reserved: Rev) -> Self {
        // A rotation of keys that was cut off goes on.
        let unfinished = core.engine.sealing().is_some_and(|sealing| sealing.retired > 0);
        let compaction = if unfinished { Compaction::Resealing } else { Compaction::Waiting };
        Self { core, clock, newest, reserved, compaction, removed: Bounds::default() }
    }

    /// Serves the queue until the store is closed or dropped.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let most = self.core.limits.group;
        let mut waiting = Vec::with_capacity(most);
        let mut timer = self.timer();
        loop {
            tokio::select! {
                biased;
                taken = queue.recv_many(&mut waiting, most) => {
                    if taken == 0 {
                        break;
                    }
                    let closing = self.serve(waiting.drain(..)).await;
                    if let Some(reply) = closing {
                        queue.close();
                        self.finish(queue).await;
                        let _ = reply.send(());
                        return;
                    }
                    self.core.engine.tidy().await;
                    self.core.committed.notify_one();
                    if matches!(self.compaction, Compaction::Resealing) {
                        timer = self.timer();
                    }
                }
                () = &mut timer => {
                    self.compact().await;
                    timer = self.timer();
                }
            }
        }
        self.core.hub().close();
    }

    fn timer(&self) -> BoxFuture<'static, ()> {
        match self.compaction {
            Compaction::Waiting => self.clock.sleep(self.core.limits.compact_every.unsigned_abs()),
            Compaction::Removing(_) | Compaction::Resealing => Box::pin(tokio::task::yield_now()),
        }
    }

    /// Writes a group; gives the reply to a close that was among it.
    async fn serve(&mut self, messages: impl Iterator<Item = Message>) -> Option<oneshot::Sender<()>> {
        let mut closing = None;
        let (mut commits, mut rotations) = (Vec::new(), Vec::new());
        for message in messages {
            match message {
                Message::Commit { commit, reply } if closing.is_none() => commits.push((*commit, reply)),
                Message::Commit { reply, .. } => drop(reply.send(Err(CommitError::Closed))),
                Message::Rotate { data_keys, reply } => rotations.push((data_keys, reply)),
                Message::Close { reply } => closing = Some(reply),
            }
        }
        if !commits.is_empty() {
            self.write(commits).await;
        }
        for (data_keys, reply) in rotations {
            let rotated = self.core.engine.rotate(data_keys).await;
            if let Ok(sealing) = &rotated {
                tracing::info!(key = sealing.key, data_keys, "a new key wraps the data keys");
                self.compaction = Compaction::Resealing;
            }
            // Whoever does not listen any more has still been served.
            let _ = reply.send(rotated);
        }
        closing
    }

    async fn finish(&mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(message) = queue.recv().await {
            match message {
                Message::Commit { reply, .. } => drop(reply.send(Err(CommitError::Closed))),
                Message::Rotate { reply, .. } => drop(reply.send(Err(RotateError::Closed))),
                Message::Close { reply } => drop(reply.send(())),
            }
        }
        if let Err(error) = self.core.engine.close().await {
            tracing::error!(%error, "the store was not closed cleanly");
        }
        self.core.hub().close();
    }

    async fn write(&mut self, commits: Vec<(Commit, Reply)>) {
        if let Err(error) = self.reserve(commits.len() as u64).await {
            self.core.counters.failures.add();
            tracing::error!(%error, "cannot reserve revisions");
            for (_, reply) in commits {
                let _ = reply.send(Err(CommitError::Unwritable(error.to_string())));
            }
            return;
        }
        let (accepted, mut answers) = self.judge(commits);
        if !accepted.is_empty() {
            let durability = accepted.iter().map(|(a, _)| a.durability).max().unwrap_or_default();
            let (txns, pending): (Vec<Txn>, _) = accepted.into_iter().map(depart).unzip();
            let witnessed = self.tell(&txns);
            // Both sync, at the same time.
            let (written, witnessed) = futures::join!(self.core.engine.commit(Group { txns, durability }), witnessed);
            self.conclude(pending, durability, written, &witnessed, &mut answers);
        }
        for (reply, answer) in answers {
            // Whoever does not listen any more has still been served.
            let _ = reply.send(answer);
        }
    }

    /// Tells the witness of what was asked for from outside.
    fn tell(&self, txns: &[Txn]) -> BoxFuture<'static, Result<(), String>> {
        let outside = || txns.iter().filter(|txn| !txn.provenance.request_id.is_empty());
        let Some(witness) = self.core.witness.get().filter(|_| outside().next().is_some()) else {
            return Box::pin(std::future::ready(Ok(())));
        };
        let index = self.core.index();
        let touched = |row: &Row| Touched {
            key: row.key.clone(),
            before: row.before,
            old: index.get(&row.key).filter(|old| old.revision == row.before).cloned(),
            new: (!row.deleted).then(|| row.body.clone()),
        };
        let testimonies = outside().map(|txn| Testimony {
            provenance: txn.provenance.clone(),
            revision: txn.revision,
            changes: txn.rows.iter().map(touched).collect(),
        });
        (witness.tell)(testimonies.collect())
    }

    /// Makes sure that `count` revisions may be handed out.
    async fn reserve(&mut self, count: u64) -> Result<(), EngineError> {
        if self.newest.0 + count <= self.reserved.0 {
            return Ok(());
        }
        let end = Rev(self.newest.0 + count + self.core.limits.block);
        let oldest = *self.core.all_oldest();
        self.core.engine.reserve(end, oldest).await?;
        self.reserved = end;
        Ok(())
    }

    /// Judges each commit against memory and what the group has done before it.
    fn judge(&mut self, commits: Vec<(Commit, Reply)>) -> Judged {
        let mut overlay = Overlay::new();
        let mut added = Sums::default();
        let (mut accepted, mut answers) = (Vec::new(), Vec::new());
        let core = self.core.clone();
        let index = core.index();
        let refusal = core.witness.get().and_then(|witness| (witness.refuses)());
        for (commit, reply) in commits {
            if let Some(why) = refusal.as_ref().filter(|_| !commit.provenance.request_id.is_empty()) {
                answers.push((reply, Err(CommitError::Unwitnessed(why.clone()))));
                continue;
            }
            match accept(commit, self.newest.next(), &index, &overlay, &mut added) {
                Ok(done) => {
                    self.newest = self.newest.next();
                    for (row, object) in done.txn.rows.iter().zip(&done.objects) {
                        overlay.insert(row.key.clone(), (!row.deleted).then(|| object.clone()));
                    }
                    accepted.push((done, reply));
                }
                Err(refused) => {
                    if matches!(refused, CommitError::Conflict(_)) {
                        core.counters.conflicts.add();
                    }
                    answers.push((reply, Err(refused)));
                }
            }
        }
        (accepted, answers)
    }

    fn conclude(
        &mut self,
        pending: Vec<Pending>,
        durability: Durability,
        written: Result<(), EngineError>,
        witnessed: &Result<(), String>,
        answers: &mut Vec<(Reply, Answer)>,
    ) {
        let counters = &self.core.counters;
        if let Err(error) = written {
            counters.failures.add();
            tracing::error!(%error, commits = pending.len(), "cannot write");
            let refusal = CommitError::Unwritable(error.to_string());
            answers.extend(pending.into_iter().map(|commit| (commit.reply, Err(refusal.clone()))));
            return;
        }
        counters.groups.add();
        if durability == Durability::Durable {
            counters.synced.add();
        }
        self.publish(&pending);
        for Pending { revision, objects, outside, reply, .. } in pending {
            counters.commits.add();
            let answer = match witnessed {
                Err(why) if outside => Err(CommitError::Unwitnessed(format!("the change was made, but {why}"))),
                _ => Ok(Committed { revision, objects }),
            };
            answers.push((reply, answer));
        }
    }

    /// Shows a written group to readers, all of it at once, and then to watchers.
    fn publish(&self, done: &[Pending]) {
        let mut hub = self.core.hub();
        let mut batches: Vec<(&'static KindInfo, Batch)> = Vec::new();
        {
            let mut index = self.core.index.write().expect("nobody panics while holding the index");
            for Pending { revision, objects, deleted, .. } in done {
                let revision = *revision;
                let mut by_kind: BTreeMap<&'static KindInfo, Batch> = BTreeMap::new();
                for (new, &deleted) in objects.iter().zip(deleted) {
                    let new = new.clone();
                    let old = if deleted { index.remove(&new.key) } else { index.put(&new) };
                    let kind = new.key.kind;
                    let batch = by_kind.entry(kind).or_insert_with(|| Batch { revision, changes: Vec::new() });
                    batch.changes.push(Change { old, new, deleted, old_known: true });
                }
                index.advance(revision);
                batches.extend(by_kind);
            }
            if index.is_stirred() {
                self.core.stirred.notify_one();
            }
        }
        for (kind, batch) in batches {
            hub.publish(kind, Arc::new(batch));
        }
    }

    /// Removes one batch of rows that are beyond the limits, or looks for such rows.
    async fn compact(&mut self) {
        let done = match self.compaction {
            Compaction::Waiting => self.plan_compaction().await,
            Compaction::Removing(bounds) => self.remove(bounds).await,
            Compaction::Resealing => self.reseal().await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "cannot compact the logs");
            self.compaction = Compaction::Waiting;
        }
    }

    async fn reseal(&mut self) -> Result<(), EngineError> {
        if !self.core.engine.reseal(self.core.limits.reseal_rows).await? {
            self.compaction = Compaction::Waiting;
        }
        Ok(())
    }

    async fn plan_compaction(&mut self) -> Result<(), EngineError> {
        let bounds = self.core.engine.beyond(&self.core.limits, self.clock.now()).await?;
        {
            // First nobody may resume from there any more, then the rows may go.
            let mut oldest = self.core.all_oldest();
            let Oldest { main, short } = bounds.oldest;
            *oldest = Oldest { main: oldest.main.max(main), short: oldest.short.max(short) };
        }
        if bounds != self.removed {
            self.compaction = Compaction::Removing(bounds);
        }
        Ok(())
    }

    async fn remove(&mut self, bounds: Bounds) -> Result<(), EngineError> {
        let more = self.core.engine.compact(bounds, self.core.limits.compact_rows).await?;
        if !more {
            self.compaction = Compaction::Waiting;
            self.removed = bounds;
        }
        Ok(())
    }
}

fn depart((accepted, reply): (Accepted, Reply)) -> (Txn, Pending) {
    let Accepted { txn, objects, .. } = accepted;
    let deleted = txn.rows.iter().map(|row| row.deleted).collect();
    let outside = !txn.provenance.request_id.is_empty();
    let pending = Pending { revision: txn.revision, objects, deleted, outside, reply };
    (txn, pending)
}

/// `added` is what the group has added before it to what there is.
fn accept(
    commit: Commit,
    revision: Rev,
    index: &Index,
    overlay: &Overlay,
    added: &mut Sums,
) -> Result<Accepted, CommitError> {
    let current = |key: &Key| match overlay.get(key) {
        Some(written) => written.as_ref(),
        None => index.get(key),
    };
    if let Some((key, _)) = commit.given.iter().find(|(key, expect)| !holds(expect, current(key))) {
        return Err(CommitError::Conflict(key.clone()));
    }
    let mut rows = Vec::with_capacity(commit.writes.len());
    let mut objects = Vec::with_capacity(commit.writes.len());
    let mut more = Sums::default();
    for write in commit.writes {
        let current = current(&write.key);
        let (row, object) = row(write, revision, current)?;
        more.replace(
            current.map(|old| Counted::of(old)).as_ref(),
            Some(Counted::of(&object)).filter(|_| !row.deleted).as_ref(),
        );
        rows.push(row);
        objects.push(object);
    }
    let full = commit.ceilings.iter().any(|ceiling| {
        let of = |sums: &Sums| sums.get(&ceiling.account, ceiling.measure);
        !ceiling.admits(of(index.sums()) + of(added), &more)
    });
    if full {
        return Err(CommitError::Crowded);
    }
    added.extend(&more);
    let txn = Txn { revision, at: commit.at, provenance: commit.provenance, rows };
    Ok(Accepted { txn, objects, durability: commit.durability })
}

fn holds(expect: &Expect, current: Option<&Arc<StoredObject>>) -> bool {
    match expect {
        Expect::Absent => current.is_none(),
        Expect::At(expected) => current.is_some_and(|found| found.revision == *expected),
    }
}

fn row(
    write: Write,
    revision: Rev,
    current: Option<&Arc<StoredObject>>,
) -> Result<(Row, Arc<StoredObject>), CommitError> {
    let Write { key, expect, body, status_only } = write;
    let deleted = body.is_none();
    let Some(body) = body.or_else(|| current.map(|last| last.body())).filter(|_| holds(&expect, current)) else {
        return Err(CommitError::Conflict(key));
    };
    let unreadable = |e: serde_json::Error| CommitError::Unwritable(format!("`{key}` cannot be read back: {e}"));
    let object = StoredObject::new(key.clone(), revision, &body).map_err(unreadable)?;
    let uid = object.meta().uid.clone().unwrap_or_else(|| "".into());
    let remembered = match (deleted, key.kind.log) {
        (_, ChangeLog::Short) => Remembered::Nothing,
        (true, ChangeLog::Main) => Remembered::Deletion,
        (false, ChangeLog::Main) if status_only => Remembered::Nothing,
        (false, ChangeLog::Main) => Remembered::Version(without_status(&body)),
    };
    let before = current.map(|last| last.revision).unwrap_or_default();
    Ok((Row { key, uid, before, deleted, body, remembered }, Arc::new(object)))
}
