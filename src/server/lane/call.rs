//! A caller's task: what HTTP does of it, in other words.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use hyper::{HeaderMap, Method};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{
    admission::{Caller, TaskOrder, task_failure},
    api::{App, GoDuration, Key, Kind, Status, Subresource},
    broker::{Done, Next, Payload},
    server::{
        audit::Observed,
        handle::{self, Peer},
        login,
        metrics::RequestLabels,
        state::State,
    },
};

/// The name under which what is done here stands in an object's history.
const MANAGER: &str = "appm-lane";

/// What a caller says of a task.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    app: String,
    #[serde(default = "default_namespace")]
    namespace: String,
    timeout: Option<GoDuration>,
    #[serde(default)]
    idempotent: bool,
    /// Parts are told as they come.
    #[serde(default)]
    stream: bool,
}

fn default_namespace() -> String {
    "default".to_owned()
}

/// Its answer. Dropped, the task is given up.
pub(super) async fn answer(
    state: Arc<State>,
    peer: Peer,
    head: Head,
    body: Result<Payload, Status>,
    parts: (u32, mpsc::Sender<(u32, Payload)>),
) -> Result<Done, Status> {
    let started = state.clock.now();
    let request_id = crate::clock::new_uid(&*state.clock).to_string();
    let path = format!(
        "/apis/{}/namespaces/{}/{}/{}/task",
        App::INFO.api_version(),
        head.namespace,
        App::INFO.plural,
        head.app
    );
    let mut observed = Observed::new(&state, &peer, &request_id, &Method::POST, &path);
    let attempt = AssertUnwindSafe(async {
        let none = HeaderMap::new();
        let who = handle::known(&state, &peer, &none, &login::from(&peer, &none), &mut observed).await?;
        let caller = Caller { request_id: request_id.clone(), ..Caller::new(who, MANAGER) };
        done(&state, &caller, head, body, parts).await
    });
    let outcome = attempt.catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(request_id, "a request panicked");
        Err(Status::internal(format!("an internal error occurred; the log knows it as {request_id}")))
    });
    let code = outcome.as_ref().map_or_else(|status| status.reason.code(), |_| 200);
    let resource = format!("{}/{}", App::INFO.plural, Subresource::Task.word());
    let labels = RequestLabels { verb: "create".to_owned(), resource, code };
    observed.end(&labels, code, outcome.as_ref().err()).await;
    state.metrics.answered(labels, state.clock.now().duration_since(started).try_into().unwrap_or_default());
    outcome
}

async fn done(
    state: &State,
    caller: &Caller,
    head: Head,
    body: Result<Payload, Status>,
    (number, parts): (u32, mpsc::Sender<(u32, Payload)>),
) -> Result<Done, Status> {
    let app = Key::of::<App>(&head.namespace, &head.app);
    let timeout = head.timeout.map(|timeout| timeout.0);
    let order = TaskOrder { payload: body?, timeout, idempotent: head.idempotent, streamed: head.stream };
    if !order.streamed {
        return state.admission.do_task(caller, &app, order).await;
    }
    let mut sent = state.admission.send_task(caller, &app, order)?;
    loop {
        match sent.next().await {
            Next::Part(part) => {
                if parts.send((number, part)).await.is_err() {
                    // The connection is gone, and this with it.
                    return Err(Status::internal("nobody takes in the parts"));
                }
            }
            Next::End(outcome) => return outcome.map_err(|failure| task_failure(&failure, &app)),
        }
    }
}
