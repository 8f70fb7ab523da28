//! Watches that go on: when the server ends them, as it does from time to time, when it is restarted, and when its history
//! does not reach back far enough any more.
//!
//! ```text
//! watch from the last revision ──► events …
//!    │ ended, broken        ► the same again; nobody there: waits for the server, a minute at most
//!    │ 410                  ► list: what is new or gone becomes events, and on from there
//!    │ 401                  ► the token has ended: once more, with the one that follows it
//! ```

use std::{collections::BTreeMap, time::Duration};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use serde_json::{Value, json};

use crate::{
    api::{Reason, Rev, Served},
    client::http::{Request, RequestError},
};

use super::{
    context::{Context, Selection, Where, name_of, namespace_of},
    error::CliError,
    screen,
};

/// How long a server may be away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(300);

/// Namespace and name of what is there, with the uid.
type Known = BTreeMap<(String, String), String>;

/// Where a watch begins: a revision, and what was there at that time.
#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    revision: Rev,
    known: Known,
}

impl Start {
    /// After this answer: an object, a list or a Table.
    pub(super) fn of(answer: &Value) -> Self {
        let mut start = Self { revision: revision(answer), known: Known::new() };
        entries(answer).for_each(|object| start.note("ADDED", object));
        start
    }

    /// After a list.
    pub(super) fn of_list(revision: Rev, items: &[Value]) -> Self {
        let mut start = Self { revision, known: Known::new() };
        items.iter().for_each(|object| start.note("ADDED", object));
        start
    }

    fn note(&mut self, change: &str, object: &Value) {
        let key = (namespace_of(object), name_of(object));
        match change {
            "DELETED" => self.known.remove(&key),
            _ => self.known.insert(key, object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()),
        };
    }
}

/// The objects, or what Tables have of them, in an answer of any form.
fn entries(answer: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match (&answer["items"], &answer["rows"]) {
        (Value::Array(items), _) => Box::new(items.iter()),
        (_, Value::Array(rows)) => Box::new(rows.iter().map(|row| &row["object"])),
        _ => Box::new(std::iter::once(answer)),
    }
}

/// The revision that an object, a list or a table shows.
fn revision(answer: &Value) -> Rev {
    let own = answer["metadata"]["resourceVersion"].as_str();
    let of_row = || answer["rows"][0]["object"]["metadata"]["resourceVersion"].as_str();
    own.filter(|t| !t.is_empty()).or_else(of_row).and_then(Rev::parse).unwrap_or_default()
}

/// `(type, object)`
type Event = (String, Value);
type Events = BoxStream<'static, Result<Event, RequestError>>;

/// A watch, and how far it is.
struct Following<'a> {
    context: &'a Context,
    served: Served,
    place: Where<'a>,
    selection: Selection,
    accept: &'static str,
    seen: Start,
    open: Option<Events>,
    /// What a list has shown, to be given before the watch goes on.
    ready: Vec<Event>,
    waited: Duration,
}

/// Every change since `start`, `(type, object)`, for as long as there is a server.
pub(super) fn changes<'a>(
    context: &'a Context,
    served: Served,
    place: Where<'a>,
    selection: Selection,
    start: Start,
    accept: &'static str,
) -> impl Stream<Item = Result<Event, CliError>> + Send + 'a {
    let following = Following {
        context,
        served,
        place,
        selection,
        accept,
        seen: start,
        open: None,
        ready: Vec::new(),
        waited: Duration::ZERO,
    };
    stream::unfold(Some(following), |following| async {
        let mut following = following?;
        match following.next().await {
            Ok(event) => Some((Ok(event), Some(following))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl Following<'_> {
    async fn next(&mut self) -> Result<Event, CliError> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Ok(event);
            }
            match self.step().await {
                Ok(Some((change, object))) => {
                    self.seen.revision = self.seen.revision.max(revision(&object));
                    if change != "BOOKMARK" {
                        entries(&object).for_each(|object| self.seen.note(&change, object));
                        return Ok((change, object));
                    }
                }
                Ok(None) => self.open = None,
                Err(RequestError::Refused(status)) if status.is(Reason::Expired) => {
                    self.open = None;
                    self.list_again().await?;
                }
                // The token that it was opened with has ended; a login has another one.
                Err(RequestError::Refused(status)) if status.is(Reason::Unauthorized) && self.open.is_some() => {
                    self.open = None;
                }
                Err(error) => {
                    self.open = None;
                    self.wait(error).await?;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Event>, RequestError> {
        let events = match &mut self.open {
            Some(events) => events,
            None => {
                let Self { context, served, place, selection, seen, accept, .. } = self;
                let events = context.watch(*served, *place, selection, seen.revision, accept).await?;
                self.waited = Duration::ZERO;
                self.open.insert(events)
            }
        };
        events.next().await.transpose()
    }

    /// The server is away, or on its way.
    async fn wait(&mut self, error: RequestError) -> Result<(), CliError> {
        let away = match &error {
            RequestError::Unreachable { .. } | RequestError::Broken(_) => true,
            RequestError::Refused(status) => status.is(Reason::ServiceUnavailable),
        };
        // A server that was never there is no server that is restarted.
        if !away || self.waited >= PATIENCE {
            return Err(error.into());
        }
        if self.waited.is_zero() && matches!(error, RequestError::Unreachable { .. }) {
            screen::remark("the server is away; waiting for it to come back");
        }
        self.waited += PAUSE;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// What has happened meanwhile, told by what is there now.
    async fn list_again(&mut self) -> Result<(), CliError> {
        let path = self.context.list_path(self.served, self.place, &self.selection, &[]);
        let list = loop {
            match self.context.client.call(Request::get(path.clone()).accept(self.accept)).await {
                Ok(answer) => break answer.json()?,
                Err(error) => self.wait(error).await?,
            }
        };
        let now = Start::of(&list);
        let gone = self.seen.known.iter().filter(|(key, _)| !now.known.contains_key(*key));
        let mut events: Vec<Event> = gone.map(|(key, uid)| ("DELETED".to_owned(), self.trace_of(key, uid))).collect();
        for (object, event) in entries(&list).zip(singly(&list)) {
            let key = (namespace_of(object), name_of(object));
            let revision = object["metadata"]["resourceVersion"].as_str().and_then(Rev::parse).unwrap_or_default();
            match self.seen.known.get(&key) {
                None => events.push(("ADDED".to_owned(), event)),
                Some(_) if revision > self.seen.revision => events.push(("MODIFIED".to_owned(), event)),
                Some(_) => {}
            }
        }
        events.reverse();
        self.ready = events;
        self.seen = now;
        Ok(())
    }

    /// All that is left of an object that went while nobody looked.
    fn trace_of(&self, (namespace, name): &(String, String), uid: &str) -> Value {
        let mut metadata = json!({"name": name, "uid": uid});
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        let object = json!({"apiVersion": self.served.api_version(), "kind": self.served.name(), "metadata": metadata});
        if self.accept == "application/json" {
            return object;
        }
        json!({"kind": "Table", "rows": [{"cells": [name], "object": object}]})
    }
}

/// A list as one answer for each object of it.
fn singly(list: &Value) -> impl Iterator<Item = Value> + '_ {
    let rows = list["rows"].as_array();
    let items = list["items"].as_array().into_iter().flatten().cloned();
    let tables = rows
        .into_iter()
        .flatten()
        .map(|row| json!({"kind": "Table", "columnDefinitions": list["columnDefinitions"], "rows": [row]}));
    items.chain(tables)
}
