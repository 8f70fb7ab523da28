//! `GET …/workflowruns/NAME/artifacts?artifact=dist`: the files that a step kept, as a tar archive.
//!
//! Which there are is in the run's status, and so is where each is kept; here it is only sent. Who may read that is who may `get`
//! `workflowruns/artifacts`: to see that a run has made something is not to have it.

use std::sync::Arc;

use futures::StreamExt;

use super::{
    call::Call,
    documents::not_allowed,
    path::Resource,
    respond::{self, Answer, BodyError},
    state::State,
    watch,
};
use crate::{
    api::{ArtifactStatus, Object, Reason, Served, Status, WorkflowRun},
    drivers::{file_pieces, open_artifact},
};

/// Answers with an artifact.
pub(super) async fn read(
    state: &Arc<State>,
    call: &Call,
    served: Served,
    resource: &Resource<'_>,
    verb: &str,
) -> Result<Answer, Status> {
    if verb != "get" {
        return Err(not_allowed());
    }
    let object = state.admission.get_part(&call.caller(), served, resource.subresource, &resource.key(served))?;
    let run = object.typed::<WorkflowRun>().ok_or_else(|| Status::internal("the run cannot be read"))?;
    let artifact = one(&run, call.params.get("artifact"))?;
    if artifact.expiration_time.is_some_and(|at| at.0 <= state.clock.now()) {
        return Err(Status::new(Reason::Expired, "the artifact was kept as long as its step said"));
    }
    let share = state.watch_of(&call.who)?;
    let (data_dir, file) = (state.data_dir.clone(), artifact.file.clone());
    let opened = tokio::task::spawn_blocking(move || open_artifact(&data_dir, &file)).await;
    let opened = opened.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    let (file, length) = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Status::new(Reason::Expired, "the artifact went with the run that kept it"),
        _ => {
            tracing::error!(%error, file = artifact.file, "an artifact cannot be read");
            Status::internal("the artifact cannot be read")
        }
    })?;
    let (stopping, revoked) = (state.stopping.clone(), watch::revoked(state, &call.who));
    // Whoever gets less than was said knows that it broke off.
    let end = async move {
        tokio::select! { () = stopping.cancelled() => {}, _ = revoked => {} }
    };
    let pieces = file_pieces(file, length).map(move |piece| {
        // Held as long as something is sent.
        let _held = &share;
        piece.map_err(BodyError::from)
    });
    let mut answer = respond::streamed("application/x-tar", pieces.take_until(Box::pin(end)).boxed());
    respond::header(&mut answer, "content-length", &length.to_string());
    respond::header(&mut answer, "etag", &format!("\"{}\"", artifact.digest));
    Ok(answer)
}

/// The artifact of that name; without one, the only one.
fn one<'r>(run: &'r Object<WorkflowRun>, name: &str) -> Result<&'r ArtifactStatus, Status> {
    let (all, run) = (&run.status.artifacts, &run.metadata.name);
    let known = || all.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match (name, all.len()) {
        ("", 1) => all.values().next().ok_or_else(|| Status::internal("the artifact cannot be read")),
        (_, 0) => Err(Status::new(Reason::NotFound, format!("workflow run \"{run}\" has no artifacts"))),
        ("", _) => Err(Status::bad_request(format!("say which with `artifact`: {}", known()))),
        (name, _) => all.get(name).ok_or_else(|| {
            Status::new(
                Reason::NotFound,
                format!("workflow run \"{run}\" has no artifact `{name}`; there is {}", known()),
            )
        }),
    }
}
