//! How a step ended is handed to whoever decides what follows from it, and is written down together with that.
//!
//! So a step of a workflow costs one sync of the disk. What nobody takes is written as all else is, and until one of both has happened the
//! keeper remembers the end.

use futures::{future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::oneshot;

use super::{Finished, Pump};
use crate::{
    agent::writer::{Entry, What, Writer},
    api::{Durability, Instance, Key, Kind, Object, Run, WORKFLOW_RUN_LABEL, WorkflowRun},
    client::Done,
    controllers::run::{Steps, Told},
};

/// Has an entry written down: by whoever waits for it, if it is the end of a step, else by the writer. True if somebody has it now.
pub(super) fn record(
    entry: Entry,
    instance: &Object<Instance>,
    writer: &mut Writer,
    steps: &Steps,
    work: &mut FuturesUnordered<BoxFuture<'static, Finished>>,
) -> bool {
    let Some(answered) = hand_over(&entry, instance, writer, steps) else {
        writer.push(entry);
        return false;
    };
    work.push(Box::pin(async move { Finished::HandedOver(entry, answered.await.ok()) }));
    true
}

fn hand_over(
    entry: &Entry,
    instance: &Object<Instance>,
    writer: &mut Writer,
    steps: &Steps,
) -> Option<oneshot::Receiver<Vec<Done>>> {
    let What::Status(status) = &entry.what else { return None };
    // Nothing follows before its result is known.
    let is_whole = status.state.exited.is_some() && status.last_exit.is_some() && status.result.is_some();
    let meta = &instance.metadata;
    let of = meta.controller().filter(|owner| is_whole && owner.kind == Run::INFO.kind)?;
    let to = Key::of::<WorkflowRun>(&meta.namespace, meta.labels.get(WORKFLOW_RUN_LABEL)?);
    if !writer.hand_over(entry) {
        return None;
    }
    let told = Told { key: entry.key.clone(), uid: entry.uid.clone(), status: status.clone().into() };
    let answered = steps.hand_over(&Key::of::<Run>(&meta.namespace, &of.name), to, told);
    if answered.is_none() {
        writer.handed_back(&entry.uid);
    }
    answered
}

impl Pump {
    /// What was handed over was written down, and durably; or nobody did that.
    pub(super) fn handed_over(&mut self, entry: Entry, done: Option<Vec<Done>>) {
        self.writer.handed_back(&entry.uid);
        if let Some(slot) = self.slots.get_mut(&entry.uid) {
            slot.handed = false;
        }
        match done {
            Some(done) => {
                self.caches.written(&done);
                self.stored(&entry, Durability::Durable);
            }
            None => {
                let uid = entry.uid.clone();
                self.writer.put_back(entry);
                // The next one of its row goes with it.
                self.settle(&uid);
            }
        }
    }
}
