//! `watch`: one JSON document a line, each flushed when it happens; what happens together is sent together.
//!
//! ```text
//!  initial objects (if asked for) ─► [bookmark: initial events end] ─► changes, bookmarks ─► end
//! ```
//! A watch ends cleanly after `timeoutSeconds` (or half an hour to an hour, by chance, so that not all clients come back at once) and
//! when the server stops; it ends with an `ERROR` line when its history is gone.

use std::{pin::Pin, sync::Arc, time::Duration, vec};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    accept::{self, Encoding, Form, Shape},
    bounds::Share,
    call::Call,
    lines,
    path::Resource,
    read,
    respond::{self, Answer},
    state::State,
    table::{self, IncludeObject},
};
use crate::{
    admission::{Seen, Watching},
    api::{FieldPath, Problem, Reason, Rev, Served, Status, StoredObject, Violation},
    auth::Identity,
    client::ChangeType,
};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
const PIECE: usize = 128 * 1024;

/// What a watch begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Everything there is; then, if it was asked for in so many words, a bookmark that says so.
    Everything { marked: bool, at_least: Rev },
    /// What comes after now.
    Now,
    /// What comes after a revision.
    After(Rev),
}

fn start(call: &Call) -> Result<Start, Status> {
    let version = call.params.resource_version()?;
    let refused = |message: &str| {
        let at = FieldPath::of("resourceVersionMatch");
        Err(Status::invalid_option(read::LIST_OPTIONS, &Violation::new(at, Problem::Forbidden, message)))
    };
    let matching = call.params.get("resourceVersionMatch");
    if !call.params.has("sendInitialEvents") {
        if !matching.is_empty() {
            return refused("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        return Ok(match version {
            None | Some(Rev(0)) => Start::Everything { marked: false, at_least: Rev(0) },
            Some(version) => Start::After(version),
        });
    }
    if matching != "NotOlderThan" {
        return refused("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    let at_least = version.unwrap_or_default();
    Ok(match (call.params.flag("sendInitialEvents")?, at_least) {
        (true, at_least) => Start::Everything { marked: true, at_least },
        (false, Rev(0)) => Start::Now,
        (false, version) => Start::After(version),
    })
}

/// Opens a watch.
pub(super) async fn watch(
    state: &Arc<State>,
    call: &Call,
    served: Served,
    resource: &Resource<'_>,
) -> Result<Answer, Status> {
    let form = call.form()?;
    if form.encoding == Encoding::Yaml {
        return Err(Status::new(Reason::NotAcceptable, "watches are served as application/json only"));
    }
    let (start, query, caller) = (start(call)?, read::selection(call, served, resource), call.caller());
    let ends = lifetime(state, call)?;
    let share = state.watch_of(&call.who)?;
    let (from, initial, marked) = match start {
        Start::After(version) => (version, Vec::new(), false),
        Start::Now => (state.store.revision(), Vec::new(), false),
        Start::Everything { marked, at_least } => {
            read::caught_up(state, at_least).await?;
            let listing = state.admission.list(&caller, served, &query)?;
            (listing.revision, listing.items, marked)
        }
    };
    let changes = match state.admission.watch(&caller, served, &query, from).await {
        Ok(watching) => Changes::Coming(watching),
        // As kube-apiserver does: the stream begins and says why it ends.
        Err(gone) if gone.is(Reason::Expired) => Changes::Gone(gone),
        Err(refused) => return Err(refused),
    };
    state.metrics.watchers.inc();
    let session = Session {
        state: state.clone(),
        render: Render::new(call, served, form),
        initial: initial.into_iter(),
        mark: marked.then_some(from),
        changes,
        told: from,
        bookmarks: call.params.flag("allowWatchBookmarks")?.then(bookmark_timer),
        ends: Box::pin(tokio::time::sleep_until(ends)),
        stopping: Box::pin(state.stopping.clone().cancelled_owned()),
        revoked: revoked(state, &caller.who),
        over: false,
        _share: share,
    };
    let pieces = futures::stream::unfold(session, |mut session| async move {
        let piece = session.next().await?;
        Some((Ok(piece), session))
    });
    let content_type = accept::lines(call.header(hyper::header::ACCEPT), resource.watched);
    Ok(respond::streamed(content_type, pieces.boxed()))
}

/// Resolves with the reason when an answer to somebody must not go on.
pub(super) fn revoked(state: &Arc<State>, who: &Identity) -> BoxFuture<'static, Status> {
    let (authority, who) = (state.admission.authority().clone(), who.clone());
    async move { authority.revoked(&who).await }.boxed()
}

fn lifetime(state: &State, call: &Call) -> Result<Instant, Status> {
    let seconds = match call.params.number("timeoutSeconds")? {
        None | Some(0) => 1800 + state.clock.random() % 1800,
        Some(seconds) => seconds.min(24 * 3600),
    };
    Ok(Instant::now() + Duration::from_secs(seconds))
}

fn bookmark_timer() -> Interval {
    let mut timer = tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// Where changes come from.
enum Changes {
    Coming(Watching),
    /// The history that was asked for is gone.
    Gone(Status),
}

impl Changes {
    /// The next commit's; an error ends the watch, with a line if there is something to say. Cancel-safe.
    async fn next(&mut self) -> Result<Seen, Option<Status>> {
        match self {
            Changes::Coming(watching) => watching.next().await,
            Changes::Gone(status) => Err(Some(status.clone())),
        }
    }
}

/// One watch that is open.
struct Session {
    state: Arc<State>,
    render: Render,
    /// What there was at the start and was not sent yet.
    initial: vec::IntoIter<Arc<StoredObject>>,
    /// The revision of the bookmark that ends the initial events.
    mark: Option<Rev>,
    changes: Changes,
    /// The revision of the last bookmark.
    told: Rev,
    bookmarks: Option<Interval>,
    /// Both are kept from change to change: a timer and a place in a queue, made anew for each, cost more than the change.
    ends: Pin<Box<Sleep>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Resolves when the client may not see it any longer, or may see other things.
    revoked: BoxFuture<'static, Status>,
    over: bool,
    _share: Share<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.state.metrics.watchers.dec();
    }
}

impl Session {
    /// The next piece of the body; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.begin() {
            return Some(piece);
        }
        while !self.over {
            tokio::select! {
                biased;
                () = &mut self.stopping => self.over = true,
                reason = &mut self.revoked => {
                    self.over = true;
                    return Some(lines::line("ERROR", reason.to_json().to_string().as_bytes()));
                }
                seen = self.changes.next() => match seen {
                    Ok(seen) if seen.events.is_empty() => {}
                    Ok(seen) => return Some(self.changed(&seen)),
                    Err(reason) => {
                        self.over = true;
                        return reason.map(|status| lines::line("ERROR", status.to_json().to_string().as_bytes()));
                    }
                },
                () = tick(&mut self.bookmarks) => {
                    if let Some(piece) = self.bookmark() {
                        return Some(piece);
                    }
                }
                () = &mut self.ends => {
                    self.over = true;
                    if self.bookmarks.is_some() {
                        return self.bookmark();
                    }
                }
            }
        }
        None
    }

    /// What there was at the start, and the bookmark after it.
    fn begin(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::new();
        while piece.len() < PIECE
            && let Some(object) = self.initial.next()
        {
            self.state.metrics.events.inc();
            piece.put(self.render.line(&self.state, ChangeType::Added, &object));
        }
        if self.initial.len() == 0
            && let Some(revision) = self.mark.take()
        {
            piece.put(self.render.bookmark(revision, true));
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }

    /// The changes of one commit, in one piece.
    fn changed(&mut self, seen: &Seen) -> Bytes {
        self.state.metrics.events.inc_by(seen.events.len() as u64);
        let mut lines: Vec<Bytes> =
            seen.events.iter().map(|(change, object)| self.render.line(&self.state, *change, object)).collect();
        match lines.len() {
            1 => lines.swap_remove(0),
            _ => lines.concat().into(),
        }
    }

    /// How far the client has come, if nothing waits and it does not know yet.
    fn bookmark(&mut self) -> Option<Bytes> {
        let Changes::Coming(watching) = &self.changes else { return None };
        let revision = watching.bookmark().filter(|revision| *revision > self.told)?;
        self.told = revision;
        Some(self.render.bookmark(revision, false))
    }
}

async fn tick(timer: &mut Option<Interval>) {
    match timer {
        Some(timer) => {
            timer.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// How objects are written into the lines.
struct Render {
    served: Served,
    shape: Shape,
    include: IncludeObject,
    /// Tables name their columns in the first line only.
    columns_sent: bool,
}

impl Render {
    fn new(call: &Call, served: Served, form: Form) -> Self {
        let include = IncludeObject::parse(call.params.get("includeObject"));
        Self { served, shape: form.shape, include, columns_sent: false }
    }

    fn line(&mut self, state: &State, change: ChangeType, object: &Arc<StoredObject>) -> Bytes {
        let word = lines::word(change);
        match self.shape {
            Shape::Object => state.lines.get(self.served, change, object),
            Shape::Metadata => lines::line(word, table::metadata_only(&object.served_as(self.served)).as_bytes()),
            Shape::Table => {
                let row = table::row(self.served, object, self.include, state.clock.now());
                lines::line(word, self.table(object.revision, &row).as_bytes())
            }
        }
    }

    fn table(&mut self, revision: Rev, rows: &str) -> String {
        let columns =
            if std::mem::replace(&mut self.columns_sent, true) { json!([]) } else { table::columns(self.served) };
        format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{{"resourceVersion":"{revision}"}},"columnDefinitions":{columns},"rows":[{rows}]}}"#
        )
    }

    /// A bookmark bears the kind of the objects: clients drop it otherwise.
    fn bookmark(&self, revision: Rev, initial_events_end: bool) -> Bytes {
        let (api_version, kind) = match self.shape {
            Shape::Object => (self.served.api_version(), self.served.name()),
            Shape::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata"),
            Shape::Table => ("meta.k8s.io/v1".to_owned(), "Table"),
        };
        let mut object: Value = json!({
            "kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        lines::line("BOOKMARK", object.to_string().as_bytes())
    }
}
