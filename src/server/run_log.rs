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
};
use crate::api::{Instance, Key, Kind, Object, Run, Status, Uid, attempt_name};

/// Opens the output of a Run.
pub(super) async fn open(
    state: &Arc<State>,
    key: Key,
    run: &Object<Run>,
    query: LogQuery,
    previous: bool,
) -> Result<LogPieces, Status> {
    let (name, last) = (&run.metadata.name, run.status.attempts);
    let of_run = OfRun { state: state.clone(), key, uid: run.uid().clone() };
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
struct OfRun {
    state: Arc<State>,
    key: Key,
    uid: Uid,
}

impl OfRun {
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
            let instance = self.attempt().await?;
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

    /// Waits for the next attempt; `None` when there will be none.
    async fn attempt(&mut self) -> Option<Arc<Object<Instance>>> {
        let store = self.of_run.state.store.clone();
        loop {
            // Before the look, so that no change falls between the two.
            let watch = store.watch(Run::INFO, store.revision()).await;
            let run = self.of_run.run()?;
            while self.next <= run.status.attempts {
                match self.of_run.instance(&run.metadata.name, self.next) {
                    Some(instance) => return Some(instance),
                    // Somebody has deleted it, and its output with it.
                    None => self.next += 1,
                }
            }
            if run.status.is_over() || run.metadata.is_deleting() {
                return None;
            }
            let mut watch = watch.ok()?;
            while !watch.next().await.ok()?.changes.iter().any(|change| change.new.key == self.of_run.key) {}
        }
    }
}
