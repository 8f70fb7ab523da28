//! How steps ended, from the agent, until a pass writes it down: see [`run::Told`].
//!
//! A pass takes all that there is for its run. What it does not write it drops, and then the agent writes it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, stream::BoxStream};

use crate::{
    api::{Key, Object, WorkflowRun},
    client::Done,
    controllers::run::{End, Steps, Told},
};

/// Those that no pass has taken yet, by their WorkflowRuns.
#[derive(Debug, Default)]
pub(super) struct Ends(Arc<Mutex<BTreeMap<Key, Vec<End>>>>);

/// Those that a pass has taken.
#[derive(Debug)]
pub(super) struct Taken(Vec<End>);

fn lock(ends: &Mutex<BTreeMap<Key, Vec<End>>>) -> MutexGuard<'_, BTreeMap<Key, Vec<End>>> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ends {
    /// The runs for which something was handed over. The first who asks gets them.
    pub(super) fn calls(&self, steps: &Steps) -> BoxStream<'static, Key> {
        let all = self.0.clone();
        let note = move |(run, end): (Key, End)| {
            lock(&all).entry(run.clone()).or_default().push(end);
            run
        };
        steps.ends().map(note).boxed()
    }

    /// For a pass of that run. Of one that goes on no more nothing is written.
    pub(super) fn take(&self, key: &Key, run: &Object<WorkflowRun>) -> Taken {
        let ends = lock(&self.0).remove(key).unwrap_or_default();
        let goes_on = !run.metadata.is_deleting() && !run.status.is_over();
        Taken(ends.into_iter().filter(|_| goes_on).collect())
    }

    /// True if some wait for a pass of that run.
    pub(super) fn wait(&self, key: &Key) -> bool {
        lock(&self.0).contains_key(key)
    }

    /// The run is gone.
    pub(super) fn drop(&self, key: &Key) {
        lock(&self.0).remove(key);
    }
}

impl Taken {
    /// What they tell, by the names of the Instances.
    pub(super) fn told(&self) -> BTreeMap<Key, Told> {
        self.0.iter().map(|end| (end.told.key.clone(), end.told.clone())).collect()
    }

    /// All of it is on disk.
    pub(super) fn written(self, done: &[Done]) {
        self.0.into_iter().for_each(|end| end.written(done));
    }
}
