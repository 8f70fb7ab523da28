//! When callers give up. All of them have one timer: to set one for each task costs more than to hand the task out, because each would end before
//! whatever the runtime waits for, which has to be told so.
//!
//! The timer is set for the first that is due, and not taken back when that task is over: then it rings once for nothing, and is set anew.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::{Broker, Inner};
use crate::clock::SharedClock;

/// What is due, by the uptime of the clock.
#[derive(Default)]
pub(super) struct Due {
    /// How long each caller waits in all.
    pub(super) at: BTreeMap<(Duration, u64), Duration>,
    /// For when the timer is set; `None`: there is none.
    set: Option<Duration>,
    /// An earlier one has come.
    earlier: Arc<Notify>,
}

impl Broker {
    /// A task is over at `at` at the latest, after `patience`.
    pub(super) fn remind(self: &Arc<Self>, inner: &mut Inner, task: u64, at: Duration, patience: Duration) {
        let due = &mut inner.due;
        due.at.insert((at, task), patience);
        match due.set {
            Some(set) if set <= at => {}
            Some(_) => {
                due.set = Some(at);
                due.earlier.notify_one();
            }
            None => {
                due.set = Some(at);
                tokio::spawn(watch(Arc::downgrade(self), self.clock.clone(), due.earlier.clone()));
            }
        }
    }

    /// Ends what is due, and sets the timer anew: in how long it rings, if there is anything to wait for.
    fn look(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock.uptime();
        let mut inner = self.inner();
        while let Some((&(at, task), &patience)) = inner.due.at.first_key_value()
            && at <= now
        {
            inner.due.at.pop_first();
            self.expire(&mut inner, task, patience);
        }
        inner.due.set = inner.due.at.first_key_value().map(|((at, _), _)| *at);
        inner.due.set.map(|at| at - now)
    }
}

impl Due {
    /// It is over before it was due.
    pub(super) fn forget(&mut self, at: Duration, task: u64) {
        self.at.remove(&(at, task));
    }
}

/// Lasts as long as there is something to wait for.
async fn watch(broker: Weak<Broker>, clock: SharedClock, earlier: Arc<Notify>) {
    loop {
        let Some(left) = broker.upgrade().and_then(|broker| broker.look()) else { return };
        tokio::select! {
            () = clock.sleep(left) => {}
            () = earlier.notified() => {}
        }
    }
}
