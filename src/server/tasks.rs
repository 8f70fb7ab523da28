//! `…/apps/NAME/task`: send work into an App's processes, look at it, cancel it.
//!
//! Bytes in, bytes out, each in the pieces in which they came; or the parts of the result as they are made ([`parts`]). Whoever waits for a result and goes away has cancelled the task.

use std::{sync::Arc, time::Duration};

use hyper::{Method, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use super::{
    accept, body,
    call::Call,
    documents::not_allowed,
    metrics::RequestLabels,
    parts,
    path::Resource,
    query::Params,
    respond::{self, Answer},
    state::State,
};
use crate::{
    admission::TaskOrder,
    api::{App, GoDuration, Key, Kind, Reason, Status, TASK_HEADER, TASK_INSTANCE_HEADER, TASK_LIMIT, TaskList},
    broker::{Done, Kept},
};

const BYTES: &str = "application/octet-stream";

/// Answers what is asked of the tasks of an App.
pub(super) async fn answer(
    state: &Arc<State>,
    mut call: Call,
    resource: &Resource<'_>,
    labels: &mut RequestLabels,
) -> Result<Answer, Status> {
    let app = Key::of::<App>(resource.namespace, resource.name);
    let (caller, task) = (call.caller(), resource.below);
    let verb = match (&call.method, task.is_empty()) {
        (&Method::POST, true) => "create",
        (&Method::GET | &Method::HEAD, _) => "get",
        (&Method::DELETE, false) => "delete",
        _ => return Err(not_allowed()),
    };
    verb.clone_into(&mut labels.verb);
    labels.resource = format!("{}/{}", App::INFO.plural, resource.subresource);
    let admission = &state.admission;
    match (verb, task) {
        ("create", _) => {
            if call.params.has("dryRun") {
                return Err(Status::bad_request("a task cannot be tried: leave `dryRun` out, or do not send it"));
            }
            let kept = call.params.flag("async")?;
            let (timeout, idempotent) = (timeout(&call.params)?, call.params.flag("idempotent")?);
            // Whoever may not send anything does not fill the memory with it.
            admission.may_send_task(&caller, &app)?;
            let payload = body::payload(&mut call.body, TASK_LIMIT, &state.turnstile).await?;
            let streamed = wants_parts(call.header(header::ACCEPT));
            if streamed && kept {
                return Err(Status::bad_request("`async` does not go with a result that is told as it is made"));
            }
            let order = TaskOrder { payload, timeout, idempotent, streamed };
            if streamed {
                let sent = admission.send_task(&caller, &app, order)?;
                return Ok(parts::told(sent, app, state.stopping.clone()));
            }
            if kept {
                return told(&call, StatusCode::ACCEPTED, &admission.send_task_and_keep(&caller, &app, order)?);
            }
            let done = tokio::select! {
                done = admission.do_task(&caller, &app, order) => done?,
                () = state.stopping.cancelled() => return Err(stopping()),
            };
            Ok(result(done))
        }
        ("get", "") => told(&call, StatusCode::OK, &TaskList::of(admission.tasks(&caller, &app)?)),
        ("get", task) if call.params.flag("result")? => {
            let patience = timeout(&call.params)?.unwrap_or_default();
            let outcome = tokio::select! {
                outcome = admission.task_outcome(&caller, &app, task, patience) => outcome?,
                () = state.stopping.cancelled() => return Err(stopping()),
            };
            match outcome {
                Ok(Kept { outcome: Ok(done), .. }) => Ok(result(done)),
                Ok(Kept { outcome: Err(failure), .. }) => Err(Status::from(&failure)),
                Err(task) => {
                    let message = format!("task \"{}\" is not over yet: {}", task.metadata.name, task.state);
                    Err(Status::new(Reason::Timeout, message))
                }
            }
        }
        ("get", task) => told(&call, StatusCode::OK, &admission.task(&caller, &app, task)?),
        (_, task) => {
            admission.cancel_task(&caller, &app, task)?;
            Ok(respond::ok(&respond::success(&json!({"name": task, "kind": "task"}))))
        }
    }
}

/// The first that the caller would have is documents, one a line.
fn wants_parts(accept: &str) -> bool {
    accept::entries(accept).next().is_some_and(|first| first.name == parts::LINES)
}

/// Nobody learns of it: the server's memory goes with it.
pub(super) fn stopping() -> Status {
    let message = "the server stops: nobody can say what became of the task, the work may have begun";
    Status::new(Reason::ServiceUnavailable, message)
}

/// A duration, or seconds.
fn timeout(params: &Params) -> Result<Option<Duration>, Status> {
    let text = params.get("timeout");
    if text.is_empty() {
        return Ok(None);
    }
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    let read = seconds.map(Ok).unwrap_or_else(|| text.parse::<GoDuration>().map(|duration| duration.0));
    read.map(Some).map_err(|why| Status::bad_request(format!("timeout: {why}")))
}

fn result(done: Done) -> Answer {
    let mut answer = respond::pieces(BYTES, done.result.len() as u64, done.result.into_pieces());
    respond::header(&mut answer, TASK_HEADER, &done.task);
    respond::header(&mut answer, TASK_INSTANCE_HEADER, &done.instance);
    answer
}

fn told(call: &Call, code: StatusCode, what: &impl Serialize) -> Result<Answer, Status> {
    let json = serde_json::to_vec(what).map_err(|_| Status::internal("the tasks cannot be told"))?;
    respond::encoded(code, json.into(), call.form()?.encoding)
}
