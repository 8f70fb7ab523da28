//! `GET …/runs/NAME/log`: what a Run wrote, attempt by attempt.
//!
//! Without `follow` it is the output of the last attempt (with `previous`, of the one before); whoever follows gets each
//! attempt as it comes, also one that is yet to be made, and the end when the Run is over.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{
    logs::{LogEnd, LogPieces, LogQuery, ended},
    state::State,
    wait,
};
use crate::api::{Instance, Key, Object, Run, Status, Uid, attempt_name};

/// Opens the output of a Run.
pub(super) async fn open(
    state: &Arc<State>,
    key: Key,
    run: &Object<Run>,
    query: LogQuery,
    previous: bool,
) -> Result<LogPieces, Status> {
    let (name, last) = (&run.metadata.name, run.status.attempts);
    let of_run = OfRun::new(state, key, run);
    if query.follow {
        // Whoever lost its connection may have missed attempts.
        let next = if query.since.is_some() { 1 } else { last.max(1) };
        return Ok(Following { of_run, query, next, pieces: None }.stream());
    }
    let wanted = if previous { last.saturating_sub(1) } else { last };
    if wanted == 0 {
        let which = if previous { "previous attempt" } else { "attempt" };
        return Err(Status::bad_request(format!("{which} of run \"{name}\" not found: {last} were made")));
    }
    let Some(instance) = of_run.instance(name, wanted) else {
        return Err(Status::bad_request(format!("the instance of attempt {wanted} of run \"{name}\" was deleted")));
    };
    let attempt = instance.status.attempt;
    (state.logs)(instance, LogQuery { attempt, ..query }, None).await
}

/// One Run.
pub(super) struct OfRun {
    state: Arc<State>,
    key: Key,
    uid: Uid,
}

impl OfRun {
    pub(super) fn new(state: &Arc<State>, key: Key, run: &Object<Run>) -> Self {
        Self { state: state.clone(), key, uid: run.uid().clone() }
    }

    fn run(&self) -> Option<Arc<Object<Run>>> {
        let run = self.state.store.get(&self.key)?.typed::<Run>()?;
        (*run.uid() == self.uid).then_some(run)
    }

    fn instance(&self, name: &str, attempt: u32) -> Option<Arc<Object<Instance>>> {
        let key = Key::of::<Instance>(&self.key.namespace, &attempt_name(name, attempt));
        let instance = self.state.store.get(&key)?.typed::<Instance>()?;
        let own = instance.metadata.controller().is_some_and(|owner| owner.uid == self.uid);
        own.then_some(instance)
    }
}

impl OfRun {
    /// Waits for an attempt of this number or a higher one; `None` when there will be none.
    pub(super) async fn attempt(&self, least: u32) -> Option<(u32, Arc<Object<Instance>>)> {
        let made = || {
            let Some(run) = self.run() else { return Some(None) };
            // Of some the Instance is deleted, and the output with it.
            let there = |number: u32| Some((number, self.instance(&run.metadata.name, number)?));
            let found = (least..=run.status.attempts).find_map(there);
            let ends = run.status.is_over() || run.metadata.is_deleting();
            if found.is_some() || ends { Some(found) } else { None }
        };
        wait::until(&self.state.store, &self.key, made).await?
    }
}

/// Goes through the attempts of a Run.
struct Following {
    of_run: OfRun,
    query: LogQuery,
    /// The attempt that is read, or will be.
    next: u32,
    pieces: Option<LogPieces>,
}

impl Following {
    fn stream(self) -> LogPieces {
        stream::unfold(self, |mut this| async move { Some((this.piece().await?, this)) }).boxed()
    }

    async fn piece(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(pieces) = &mut self.pieces {
                if let Some(piece) = pieces.next().await {
                    return Some(piece);
                }
                self.pieces = None;
                self.next += 1;
                // Of later attempts everything is new.
                self.query.tail = None;
            }
            let (number, instance) = self.of_run.attempt(self.next).await?;
            self.next = number;
            let end: LogEnd = Box::pin(ended(
                self.of_run.state.store.clone(),
                Key::of::<Instance>(&instance.metadata.namespace, &instance.metadata.name),
                instance.uid().clone(),
            ));
            // Whatever number it is started under, the Instance of an attempt is started once.
            let query = LogQuery { attempt: 1, ..self.query.clone() };
            match (self.of_run.state.logs)(instance, query, Some(end)).await {
                Ok(pieces) => self.pieces = Some(pieces),
                Err(status) => return Some(Err(io::Error::other(status.message))),
            }
        }
    }
}
