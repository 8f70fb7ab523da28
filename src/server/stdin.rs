//! `POST …/runs/NAME/stdin`: what a Run with `stdinOnce` reads, sent as the body while it runs.
//!
//! The body is taken as fast as the process reads. It may be sent at once when the Run is made: it waits until the attempt runs. Answered
//! when everything is on its way, or nobody reads any more. A body that breaks off hangs the process up (docs/design/021-runs.md).

use std::{io, sync::Arc};

use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use serde_json::json;

use super::{
    call::Call,
    documents::not_allowed,
    path::Resource,
    respond::{self, Answer},
    run_log::OfRun,
    state::State,
    wait, watch,
};
use crate::{
    api::{Instance, Object, Reason, Run, Served, Status},
    drivers::{FeedError, Pieces},
};

/// Feeds a Run.
pub(super) async fn feed(
    state: &Arc<State>,
    call: Call,
    served: Served,
    resource: &Resource<'_>,
    verb: &str,
) -> Result<Answer, Status> {
    if verb != "create" {
        return Err(not_allowed());
    }
    let key = resource.key(served);
    let object = state.admission.part(&call.caller(), served, "create", resource.subresource, &key)?;
    let run = object.typed::<Run>().ok_or_else(|| Status::internal("the run cannot be read"))?;
    let refused = |why: &str| Status::new(Reason::Conflict, format!("run \"{}\": {why}", run.metadata.name));
    if !run.spec.stdin_once {
        return Err(refused("it has no `stdinOnce`, and reads nothing that is sent"));
    }
    let _share = state.watch_of(&call.who)?;
    let stopping = state.stopping.clone();
    let of_run = OfRun::new(state, key, &run);
    let begun = async {
        let (_, instance) = of_run.attempt(1).await?;
        running(state, &instance).await
    };
    let instance = tokio::select! {
        instance = begun => instance.ok_or_else(|| refused("it is over"))?,
        () = stopping.cancelled() => return Err(Status::busy("the server is stopping")),
    };
    match (state.feed)(instance, pieces(state, call)).await {
        Ok(taken) => Ok(respond::ok(&json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "message": format!("{taken} bytes were taken"),
        }))),
        Err(FeedError::NotWanted(why)) => Err(refused(&why)),
        Err(FeedError::CutOff(error)) => Err(Status::bad_request(format!("the input broke off: {error}"))),
        Err(error) => {
            tracing::error!(%error, "a run cannot be fed");
            Err(Status::internal("the run cannot be fed"))
        }
    }
}

/// The Instance when it runs; `None` when it never will.
async fn running(state: &State, instance: &Object<Instance>) -> Option<Arc<Object<Instance>>> {
    let (key, uid) = (instance.key(), instance.uid());
    let judge = || match state.store.get(&key).and_then(|object| object.typed::<Instance>()) {
        Some(found) if found.uid() == uid => match &found.status.state {
            now if now.running.is_some() => Some(Some(found)),
            now if now.exited.is_some() => Some(None),
            _ => None,
        },
        _ => Some(None),
    };
    wait::until(&state.store, &key, judge).await?
}

/// The body, which breaks off when the server stops, or when the caller is not let in any more.
fn pieces(state: &Arc<State>, call: Call) -> Pieces {
    let (stopping, revoked) = (state.stopping.clone(), watch::revoked(state, &call.who));
    let cut = Box::pin(async move {
        tokio::select! {
            () = stopping.cancelled() => "the server is stopping",
            _ = revoked => "what proved who you are has ended, or what you may do has changed",
        }
    });
    let body = call.body.into_data_stream();
    let next = |(mut body, mut cut): (http_body_util::BodyDataStream<_>, _)| async move {
        let piece = tokio::select! {
            biased;
            why = &mut cut => Some(Err(io::Error::other(why))),
            piece = body.next() => piece.map(|piece| piece.map_err(io::Error::other)),
        };
        piece.map(|piece| (piece, (body, cut)))
    };
    stream::unfold((body, cut), next).boxed()
}
