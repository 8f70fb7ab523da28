//! Sends the tasks of Schedules, and waits for what becomes of them.
//!
//! What is sent is not written down by whoever does it (docs/design/025-tasks.md), so nothing can be sent again safely: the Schedule's status
//! says `Sent` durably before it is. Who waits is known here alone; so a task that is `Sent`, and that nobody waits for, is one of a
//! server that ended, and lost. The end is written into the status by whoever waited.

use std::{
    collections::{BTreeMap, BTreeSet},
    str,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::MANAGER;
use crate::{
    api::{
        Durability, Key, OWNER, Object, ObjectReference, Reason, Schedule, ScheduledTask, ScheduledTaskState, Status,
        TaskTarget, Time, Uid,
    },
    client::{Message, SharedClient},
    clock::SharedClock,
    controllers::operations,
    policy::backoff,
    runtime::{
        EventType, Reporter,
        batch::{Batch, is_transient},
    },
};

/// As much of a result as the status shows.
const SHOWN: usize = 1024;
/// Tasks of one Schedule that are waited for at once. Beyond that a time stays due.
pub(super) const MOST_UNDER_WAY: usize = 100;

/// Those that are waited for.
pub(super) struct Tasks {
    inner: Arc<Inner>,
    /// When this goes, so do they.
    _end: DropGuard,
}

struct Inner {
    client: SharedClient,
    clock: SharedClock,
    events: Reporter,
    end: CancellationToken,
    under_way: Mutex<BTreeMap<Key, UnderWay>>,
}

/// Of one Schedule.
struct UnderWay {
    uid: Uid,
    tasks: BTreeMap<Timestamp, Waiter>,
}

struct Waiter {
    /// A successor was sent in its place.
    replaced: CancellationToken,
    /// Nobody wants to know any more.
    forgotten: CancellationToken,
}

/// One task, and whom to tell of it.
struct Errand {
    schedule: Key,
    uid: Uid,
    about: ObjectReference,
    at: Timestamp,
    replaced: CancellationToken,
}

impl Tasks {
    pub(super) fn new(client: SharedClient, clock: SharedClock, events: Reporter) -> Self {
        let end = CancellationToken::new();
        let guard = end.clone().drop_guard();
        Self { inner: Arc::new(Inner { client, clock, events, end, under_way: Mutex::default() }), _end: guard }
    }

    /// The times of a Schedule whose tasks are waited for.
    pub(super) fn under_way(&self, schedule: &Object<Schedule>) -> BTreeSet<Timestamp> {
        let all = self.inner.under_way();
        let own = all.get(&schedule.key()).filter(|own| own.uid == *schedule.uid());
        own.map(|own| own.tasks.keys().copied().collect()).unwrap_or_default()
    }

    /// Waits no more for those of a Schedule that is gone, or is not this one any more; they are cancelled.
    pub(super) fn forget(&self, schedule: &Key, but: Option<&Uid>) {
        let mut all = self.inner.under_way();
        if all.get(schedule).is_some_and(|own| Some(&own.uid) != but)
            && let Some(gone) = all.remove(schedule)
        {
            gone.tasks.values().for_each(|waiter| waiter.forgotten.cancel());
        }
    }

    /// Cancels one.
    pub(super) fn replace(&self, schedule: &Object<Schedule>, at: Timestamp) {
        let all = self.inner.under_way();
        if let Some(waiter) = all.get(&schedule.key()).and_then(|own| own.tasks.get(&at)) {
            waiter.replaced.cancel();
        }
    }

    /// Sends one. That it is sent must be on disk before.
    pub(super) fn send(&self, schedule: &Object<Schedule>, target: &TaskTarget, at: Timestamp) {
        let waiter = Waiter { replaced: CancellationToken::new(), forgotten: self.inner.end.child_token() };
        let (replaced, forgotten) = (waiter.replaced.clone(), waiter.forgotten.clone());
        let (key, uid) = (schedule.key(), schedule.uid().clone());
        self.forget(&key, Some(&uid));
        let known = UnderWay { uid: uid.clone(), tasks: BTreeMap::new() };
        self.inner.under_way().entry(key.clone()).or_insert(known).tasks.insert(at, waiter);
        let message = Message {
            namespace: key.namespace.to_string(),
            app: target.app.clone(),
            payload: Bytes::from(target.payload.clone()),
            timeout: target.timeout.map(|timeout| timeout.0),
            idempotent: target.idempotent,
            user: Some(schedule.metadata.annotations.get(OWNER).unwrap_or_default().to_owned()),
        };
        let errand = Errand { schedule: key, uid, about: ObjectReference::to(schedule), at, replaced };
        let inner = self.inner.clone();
        tokio::spawn(async move { forgotten.run_until_cancelled(inner.see_through(&errand, message)).await });
    }
}

impl Inner {
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<Key, UnderWay>> {
        self.under_way.lock().expect("no holder of the tasks panics")
    }

    async fn see_through(&self, errand: &Errand, message: Message) {
        let answer = tokio::select! {
            biased;
            () = errand.replaced.cancelled() => {
                Err(Status::new(Reason::Conflict, "it was cancelled, because its successor was sent; the work may have begun"))
            }
            answer = self.client.send_task(message) => answer,
        };
        if let Err(status) = &answer {
            let message = format!("The task of {}: {}", Time(errand.at), status.message);
            let now = self.clock.now();
            self.events.record(errand.about.clone(), EventType::Warning, "TaskFailed", message, now);
        }
        self.write(errand, &answer).await;
        let mut all = self.under_way();
        if let Some(own) = all.get_mut(&errand.schedule).filter(|own| own.uid == errand.uid) {
            own.tasks.remove(&errand.at);
            if own.tasks.is_empty() {
                all.remove(&errand.schedule);
            }
        }
    }

    /// Writes what became of a task, however long that takes.
    async fn write(&self, errand: &Errand, answer: &Result<Bytes, Status>) {
        let mut failures = 0;
        while let Err(status) = self.try_write(errand, answer).await {
            if !is_transient(&status) && !status.is(Reason::Conflict) {
                tracing::warn!(schedule = %errand.schedule, %status, "what became of a task cannot be written");
                return;
            }
            self.clock.sleep(backoff::retry(failures, self.clock.random())).await;
            failures += 1;
        }
    }

    async fn try_write(&self, errand: &Errand, answer: &Result<Bytes, Status>) -> Result<(), Status> {
        let stored = self.client.get(&errand.schedule).await?;
        let Some(schedule) = stored.and_then(|stored| stored.typed::<Schedule>()) else { return Ok(()) };
        let mut status = schedule.status.clone();
        let known = |task: &&mut ScheduledTask| {
            task.scheduled_time.0 == errand.at
                && task.state == ScheduledTaskState::Sent
                && *schedule.uid() == errand.uid
        };
        let Some(task) = status.tasks.iter_mut().find(known) else { return Ok(()) };
        task.finish_time = Some(Time(self.clock.now()));
        match answer {
            Ok(result) => {
                task.state = ScheduledTaskState::Succeeded;
                task.result = shown(result);
            }
            Err(status) => {
                task.state = ScheduledTaskState::Failed;
                task.message.clone_from(&status.message);
            }
        }
        let reason = format!("{} {}", task.scheduled_time, task.state);
        let batch = Batch { manager: MANAGER, reason: &reason, durability: Durability::Relaxed };
        let write = operations::status(&*schedule, &status);
        self.client.transact(batch.transaction(vec![write])).await.map(drop)
    }
}

/// The beginning of a result, if it is text.
fn shown(result: &[u8]) -> String {
    let beginning = &result[..result.len().min(SHOWN)];
    match str::from_utf8(beginning) {
        Ok(text) => text.to_owned(),
        // A letter that was cut in the middle.
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(&beginning[..error.valid_up_to()]).into_owned()
        }
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_result_its_beginning_is_shown_if_it_is_text() {
        assert_eq!(shown(b"done"), "done");
        assert_eq!(shown(&[0xff, 0xfe]), "");
        let long = "ä".repeat(SHOWN);
        assert_eq!(shown(long.as_bytes()), "ä".repeat(SHOWN / 2));
        assert_eq!(shown(format!("a{long}").as_bytes()).len(), SHOWN - 1);
    }
}
