//! Runs that went on since they were last written down.
//!
//! What a message leads to that may be sent twice needs no journal: whoever finds an older one sends it again and comes to the same. So
//! a chain of such messages is written down every [`LONGEST`], and not at each step: a write costs as much as the run is long. All
//! else is written with the pass that comes to it, and what was held back goes with it; so nothing acts on what nobody wrote down but
//! messages that may be sent twice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::{SignedDuration, Timestamp};

use super::{Action, Observed, Plan, turns};
use crate::api::{Key, Object, WorkflowRun};

/// How long something is held back at most; and so how late others see it.
const LONGEST: SignedDuration = SignedDuration::from_millis(25);

/// Of all runs.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<BTreeMap<Key, Held>>);

#[derive(Debug)]
struct Held {
    stored: Arc<Object<WorkflowRun>>,
    run: Arc<Object<WorkflowRun>>,
    since: Timestamp,
}

/// A run as it stands, and as it stands in the store.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub stored: Arc<Object<WorkflowRun>>,
    pub run: Arc<Object<WorkflowRun>>,
    /// Since when the one is ahead of the other.
    since: Option<Timestamp>,
}

impl Standing {
    /// Until when nobody has to write down what `plan` leads to; nothing if it is to be done now. The messages that were under way may all
    /// be sent twice if `again`.
    pub(super) fn may_wait(&self, observed: &Observed, plan: &Plan, again: bool, now: Timestamp) -> Option<Timestamp> {
        let status = &plan.status;
        let harmless = |action: &Action| matches!(action, Action::Send(sending) if sending.message.idempotent);
        let may = again
            && !plan.under_way.is_empty()
            && plan.actions.iter().all(harmless)
            && observed.ended.is_empty()
            && observed.told.is_empty()
            && self.stored.status.start_time.is_some()
            && !status.is_over()
            // Others look for its claims.
            && !turns::takes_turns(status)
            && *status != self.stored.status;
        let until = self.since.unwrap_or(now).saturating_add(LONGEST).unwrap_or(Timestamp::MAX);
        Some(until).filter(|until| may && now < *until)
    }
}

impl Ahead {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.0.lock().expect("no holder of what is held back panics")
    }

    /// Takes out how a run stands, for its pass.
    pub(super) fn take(&self, key: &Key, stored: Arc<Object<WorkflowRun>>) -> Standing {
        let held = self.inner().remove(key).filter(|held| held.stored.uid() == stored.uid());
        let Some(Held { stored: before, mut run, since }) = held else {
            return Standing { run: stored.clone(), stored, since: None };
        };
        if before.metadata.resource_version != stored.metadata.resource_version {
            if before.status != stored.status {
                // Somebody else says how it stands.
                return Standing { run: stored.clone(), stored, since: None };
            }
            let mut changed = (*stored).clone();
            changed.body.status = Arc::unwrap_or_clone(run).body.status;
            run = Arc::new(changed);
        }
        Standing { stored, run, since: Some(since) }
    }

    /// It went on as planned, and that is written down later.
    pub(super) fn hold(&self, key: &Key, standing: Standing, plan: Plan, now: Timestamp) {
        let Standing { stored, run, since } = standing;
        let mut run = Arc::unwrap_or_clone(run);
        run.body.status = plan.status;
        let held = Held { stored, run: Arc::new(run), since: since.unwrap_or(now) };
        self.inner().insert(key.clone(), held);
    }

    /// What was taken out could not be written.
    pub(super) fn put_back(&self, key: &Key, standing: Standing) {
        let Standing { stored, run, since } = standing;
        if let Some(since) = since {
            self.inner().insert(key.clone(), Held { stored, run, since });
        }
    }

    /// The run is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.inner().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use serde_json::json;

    use super::*;
    use crate::{
        api::{CancelMode, JobStatus, Time},
        client::Message,
        controllers::workflow::Sending,
        runtime::Requeue,
    };

    const KEY: &str = "demo-1";

    fn run(version: &str) -> Object<WorkflowRun> {
        let run = json!({
            "metadata": {"name": KEY, "namespace": "default", "uid": "u", "resourceVersion": version},
            "spec": {"workflow": "demo", "identity": "ada"}, "status": {"startTime": "2026-01-01T00:00:00Z"},
        });
        serde_json::from_value(run).expect("a run")
    }

    fn at(milliseconds: u64) -> Timestamp {
        "2026-01-01T00:00:01Z".parse::<Timestamp>().expect("a time") + Duration::from_millis(milliseconds)
    }

    /// One that sends a message, with so many jobs in the journal.
    fn plan(run: &Object<WorkflowRun>, jobs: usize, idempotent: bool) -> Plan {
        let mut status = run.status.clone();
        status.jobs = (0..jobs).map(|n| (format!("j{n}"), JobStatus::default())).collect();
        let message = Message {
            namespace: "default".into(),
            app: "a".into(),
            payload: "x".into(),
            timeout: None,
            idempotent,
            user: None,
        };
        let sending = Sending { name: "m".into(), step: "s".into(), message, again: true };
        let actions = vec![Action::Send(Box::new(sending))];
        let under_way = BTreeSet::from(["m".to_owned()]);
        Plan { actions, status, requeue: Requeue::Rest, waits: false, under_way }
    }

    #[test]
    fn what_may_be_sent_twice_is_written_down_now_and_then_and_all_else_at_once() {
        let (ahead, observed) = (Ahead::default(), Observed::default());
        let key = run("1").key();
        let standing = ahead.take(&key, Arc::new(run("1")));
        let goes_on = plan(&standing.run, 1, true);
        assert_eq!(standing.may_wait(&observed, &goes_on, true, at(0)), Some(at(25)));
        assert_eq!(standing.may_wait(&observed, &goes_on, false, at(0)), None, "one is answered that is sent once");
        assert_eq!(standing.may_wait(&observed, &plan(&standing.run, 1, false), true, at(0)), None);
        let nothing_new = plan(&standing.run, 0, true);
        assert_eq!(standing.may_wait(&observed, &nothing_new, true, at(0)), None);
        let over = Plan { under_way: BTreeSet::new(), ..goes_on.clone() };
        assert_eq!(standing.may_wait(&observed, &over, true, at(0)), None, "nothing is under way any more");
        ahead.hold(&key, standing, goes_on, at(0));
        let standing = ahead.take(&key, Arc::new(run("1")));
        assert_eq!(standing.run.status.jobs.len(), 1);
        let goes_on = plan(&standing.run, 2, true);
        assert_eq!(
            standing.may_wait(&observed, &goes_on, true, at(20)),
            Some(at(25)),
            "not longer for what came later"
        );
        assert_eq!(standing.may_wait(&observed, &goes_on, true, at(25)), None);
        ahead.put_back(&key, standing);
        assert_eq!(ahead.take(&key, Arc::new(run("1"))).run.status.jobs.len(), 1);
        assert_eq!(ahead.take(&key, Arc::new(run("2"))).run.status.jobs.len(), 0, "it was written");
    }

    #[test]
    fn a_wish_that_comes_meanwhile_is_seen_and_another_status_counts() {
        let ahead = Ahead::default();
        let key = run("1").key();
        let hold = || {
            let standing = ahead.take(&key, Arc::new(run("1")));
            let goes_on = plan(&standing.run, 1, true);
            ahead.hold(&key, standing, goes_on, at(0));
        };
        hold();
        let mut cancelled = run("2");
        cancelled.body.spec.cancel = Some(CancelMode::Stop);
        let standing = ahead.take(&key, Arc::new(cancelled));
        assert_eq!((standing.run.spec.cancel, standing.run.status.jobs.len()), (Some(CancelMode::Stop), 1));
        assert_eq!(standing.run.metadata.resource_version, standing.stored.metadata.resource_version);
        hold();
        let mut ended = run("2");
        ended.body.status.completion_time = Some(Time(at(0)));
        let standing = ahead.take(&key, Arc::new(ended));
        assert_eq!((standing.run.status.completion_time, standing.run.status.jobs.len()), (Some(Time(at(0))), 0));
        hold();
        ahead.forget(&key);
        assert_eq!(ahead.take(&key, Arc::new(run("1"))).run.status.jobs.len(), 0);
    }
}
