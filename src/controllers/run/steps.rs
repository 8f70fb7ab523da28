//! Runs that are steps of workflows: the controller of WorkflowRuns makes their first attempt and writes down their end, each in the
//! transaction in which it says so of the step.
//!
//! It judges as the controller of Runs does, by the same [`decide`]. All else (what waits for room, what is stopped or tried again) is
//! left to that controller, and so is the end of a step that nobody waits for any more. That both may come to the same judgement harms
//! nobody: each writes to the version that it saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{StreamExt, stream::BoxStream};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{
    Observed, Plan, decide,
    ends::{End, Told, Way},
    observe,
};
use crate::{
    api::{Instance, Key, Kind, Object, Run},
    client::Done,
    policy::place::Place,
    runtime::Caches,
};

/// The Runs whose end somebody else writes down. Shared by both controllers.
#[derive(Clone, Debug)]
pub struct Steps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    calls: mpsc::UnboundedSender<Key>,
}

#[derive(Debug)]
struct Inner {
    /// By the WorkflowRun that waits for them.
    awaited: BTreeMap<Key, BTreeSet<Key>>,
    all: BTreeSet<Key>,
    called: Option<mpsc::UnboundedReceiver<Key>>,
    way: Way,
}

impl Default for Steps {
    fn default() -> Self {
        let (calls, called) = mpsc::unbounded_channel();
        let (awaited, all, way) = (BTreeMap::new(), BTreeSet::new(), Way::default());
        let inner = Inner { awaited, all, called: Some(called), way };
        Self(Arc::new(Shared { inner: Mutex::new(inner), calls }))
    }
}

impl Steps {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().expect("no holder of the steps panics")
    }

    /// The WorkflowRun of that key is about to wait for these Runs, too.
    pub(in crate::controllers) fn will_await(&self, of: &Key, runs: &BTreeSet<Key>) {
        let mut inner = self.inner();
        inner.all.extend(runs.iter().cloned());
        inner.awaited.entry(of.clone()).or_default().extend(runs.iter().cloned());
    }

    /// The WorkflowRun of that key waits for these Runs, and for no others. Those that it waits for no more have their turn, but for those
    /// whose end it has written down.
    pub(in crate::controllers) fn awaits(&self, of: &Key, runs: BTreeSet<Key>, ended: &BTreeSet<Key>) {
        let mut inner = self.inner();
        let before = match runs.is_empty() {
            true => inner.awaited.remove(of),
            false => inner.awaited.insert(of.clone(), runs.clone()),
        };
        let before = before.unwrap_or_default();
        for gone in before.difference(&runs) {
            inner.all.remove(gone);
            if !ended.contains(gone) {
                // Nobody hears it only where nobody runs.
                let _ = self.0.calls.send(gone.clone());
            }
        }
        inner.all.extend(runs.difference(&before).cloned());
    }

    /// The WorkflowRun of that key waits for none.
    pub(in crate::controllers) fn leave(&self, of: &Key) {
        self.awaits(of, BTreeSet::new(), &BTreeSet::new());
    }

    /// Whether somebody else writes down the end of that Run.
    pub(super) fn is_awaited(&self, run: &Key) -> bool {
        self.inner().all.contains(run)
    }

    /// Hands the end of an attempt of `run` to its WorkflowRun `to`; nothing if that does not wait for it. What is answered then is in the
    /// store, and durable; if nothing is, nobody has written anything.
    pub(crate) fn hand_over(&self, run: &Key, to: Key, told: Told) -> Option<oneshot::Receiver<Vec<Done>>> {
        let inner = self.inner();
        inner.awaited.get(&to).filter(|runs| runs.contains(run))?;
        inner.way.hand_over(to, told)
    }

    /// The ends that are handed over, each with its WorkflowRun. The first who asks gets them.
    pub(in crate::controllers) fn ends(&self) -> BoxStream<'static, (Key, End)> {
        self.inner().way.ends()
    }

    /// Runs that are the Run controller's own again. The first who asks gets them.
    pub(super) fn calls(&self) -> BoxStream<'static, Key> {
        match self.inner().called.take() {
            Some(mut called) => futures::stream::poll_fn(move |cx| called.poll_recv(cx)).boxed(),
            None => futures::stream::pending().boxed(),
        }
    }
}

/// What to do of a Run that is about to be made: its first attempt, on that node.
pub(in crate::controllers) fn first_attempt(run: &Object<Run>, place: Place, now: Timestamp) -> Plan {
    let observed = Observed { attempts: BTreeMap::new(), leftovers: 0, place: Ok(place), full: None };
    decide(run, &observed, now)
}

/// How a Run has ended whose last attempt is over, be it that this was `told` and is not written down yet; nothing if it has not, or if
/// there is more to do than to say so.
pub(in crate::controllers) fn conclusion(
    run: &Object<Run>,
    caches: &Caches,
    told: &BTreeMap<Key, Told>,
    now: Timestamp,
) -> Option<Plan> {
    let (namespace, name) = (&run.metadata.namespace, &run.metadata.name);
    let instances = caches.kind::<Instance>().controlled_by(namespace, Run::INFO.kind, name);
    let (mut attempts, leftovers) = observe::attempts(run, &instances);
    for instance in attempts.values_mut() {
        if let Some(told) = told.get(&instance.key()).filter(|told| told.uid == *instance.uid()) {
            Arc::make_mut(instance).body.status = (*told.status).clone();
        }
    }
    let observed = Observed { attempts, leftovers, place: Err(String::new()), full: None };
    observed.has_ended(run).then(|| decide(run, &observed, now)).filter(|plan| plan.concludes(run))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::api::WorkflowRun;

    #[test]
    fn a_run_that_nobody_waits_for_any_more_has_its_turn() {
        let steps = Steps::default();
        let mut calls = steps.calls();
        let run = |name: &str| Key::of::<Run>("default", name);
        let (above, other) = (Key::of::<WorkflowRun>("default", "one"), Key::of::<WorkflowRun>("default", "two"));
        let nothing = BTreeSet::new();
        steps.awaits(&above, BTreeSet::from([run("a"), run("b"), run("e")]), &nothing);
        steps.will_await(&other, &BTreeSet::from([run("c")]));
        assert!(steps.is_awaited(&run("a")) && steps.is_awaited(&run("c")) && !steps.is_awaited(&run("d")));
        assert!(calls.next().now_or_never().is_none());
        steps.awaits(&above, BTreeSet::from([run("b"), run("d")]), &BTreeSet::from([run("e")]));
        assert!(!steps.is_awaited(&run("e")), "its end is written down, and it needs no turn");
        assert_eq!(calls.next().now_or_never().flatten(), Some(run("a")));
        steps.leave(&above);
        assert!(!steps.is_awaited(&run("b")) && !steps.is_awaited(&run("d")) && steps.is_awaited(&run("c")));
        assert_eq!(calls.next().now_or_never().flatten(), Some(run("b")));
    }
}
