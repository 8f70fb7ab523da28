//! Ends of steps on their way to the store.
//!
//! What follows from the end of a step is decided by the controller of WorkflowRuns, and how it ended is known to the agent first. So the
//! agent hands the status that tells of it to whoever waits for that Run, who writes it down in the very transaction in which the next
//! step begins: one sync of the disk a step, not two. Whoever takes an end and cannot write it drops it; then the agent writes it by
//! itself, as it writes all else. Nothing is acknowledged to the keeper before either has happened.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::{
    api::{InstanceStatus, Key, Operation, Uid},
    client::Done,
    controllers::operations::{named, status_of},
};

/// The status of an Instance that has ended.
#[derive(Clone, Debug)]
pub struct Told {
    /// Whose.
    pub key: Key,
    /// Of that one, and no other of its name.
    pub uid: Uid,
    /// How it ended.
    pub status: Arc<InstanceStatus>,
}

impl Told {
    /// Writes it down.
    pub(in crate::controllers) fn operation(&self) -> Operation {
        status_of(named(&self.key), &self.uid, &*self.status)
    }
}

/// An end that somebody is to write down, or to drop.
#[derive(Debug)]
pub(in crate::controllers) struct End {
    pub(in crate::controllers) told: Told,
    answer: oneshot::Sender<Vec<Done>>,
}

impl End {
    /// It is on disk.
    pub(in crate::controllers) fn written(self, done: &[Done]) {
        let own = done.iter().filter(|done| done.object.key == self.told.key);
        // Whoever does not listen any more asks the keeper again.
        let _ = self.answer.send(own.cloned().collect());
    }
}

/// The way from the agent to the controller.
#[derive(Debug)]
pub(super) struct Way {
    to: mpsc::UnboundedSender<(Key, End)>,
    from: Option<mpsc::UnboundedReceiver<(Key, End)>>,
}

impl Default for Way {
    fn default() -> Self {
        let (to, from) = mpsc::unbounded_channel();
        Self { to, from: Some(from) }
    }
}

impl Way {
    /// Hands an end over to the WorkflowRun of that key. What it answers is in the store, and durable; if it answers nothing, nobody has
    /// written anything.
    pub(super) fn hand_over(&self, to: Key, told: Told) -> Option<oneshot::Receiver<Vec<Done>>> {
        let (answer, answered) = oneshot::channel();
        self.to.send((to, End { told, answer })).ok().map(|()| answered)
    }

    /// What is handed over, each with its WorkflowRun. The first who asks gets it.
    pub(super) fn ends(&mut self) -> BoxStream<'static, (Key, End)> {
        match self.from.take() {
            Some(mut from) => stream::poll_fn(move |cx| from.poll_recv(cx)).boxed(),
            None => stream::pending().boxed(),
        }
    }
}
