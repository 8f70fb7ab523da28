//! `get` and `list`, assembled from the bytes that the store keeps ready.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use serde_json::json;

use super::{
    accept::{Encoding, Form, Shape},
    bounds::{Seat, Work},
    call::{Call, unsupported_value},
    pages::{self, Page, Which},
    path::Resource,
    respond::{self, Answer},
    state::State,
    table::{self, IncludeObject},
};
use crate::{
    api::{FieldPath, Problem, Rev, Served, Status, StoredObject, Violation},
    client::Query,
};

/// How long a list waits for a revision that a client has seen elsewhere.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much of a list is put together at a time.
const PIECE: usize = 128 * 1024;

/// One object, or the part of it that a subresource of the same form shows.
pub(super) async fn get(state: &State, call: &Call, served: Served, resource: &Resource<'_>) -> Result<Answer, Status> {
    let form = call.form()?;
    if let Some(at_least) = call.params.resource_version()? {
        caught_up(state, at_least).await?;
    }
    let _seat = seat(state, call).await?;
    let object = state.admission.get_part(&call.caller(), served, resource.subresource, &resource.key(served))?;
    show(state, call, served, &object, StatusCode::OK, form)
}

/// A seat for what is work for a processor from here to the answer: whoever waits for something takes none meanwhile.
async fn seat(state: &State, call: &Call) -> Result<Seat<String>, Status> {
    state.turnstile.seat(&call.who.name, Work::Reading, 0).await
}

/// An object in the form that the client wants.
pub(super) fn show(
    state: &State,
    call: &Call,
    served: Served,
    object: &StoredObject,
    code: StatusCode,
    form: Form,
) -> Result<Answer, Status> {
    let json = match form.shape {
        Shape::Object => object.served_as(served),
        Shape::Metadata => table::metadata_only(&object.served_as(served)).into(),
        Shape::Table => {
            let include = IncludeObject::parse(call.params.get("includeObject"));
            let row = table::row(served, object, include, state.clock.now());
            table_text(served, &json!({"resourceVersion": object.revision.to_string()}).to_string(), &row).into()
        }
    };
    respond::encoded(code, json, form.encoding)
}

fn table_text(served: Served, metadata: &str, rows: &str) -> String {
    let columns = table::columns(served);
    format!(
        r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"columnDefinitions":{columns},"rows":[{rows}]}}"#
    )
}

/// The objects that the parameters select.
pub(super) fn selection(call: &Call, served: Served, resource: &Resource<'_>) -> Query {
    let given = call.params.get("fieldSelector");
    let implied = served.view.map_or("", |view| view.only);
    let mut field_selector = [implied, given].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(",");
    if resource.watched && !resource.name.is_empty() {
        let others = if field_selector.is_empty() { "" } else { "," };
        field_selector = format!("metadata.name={}{others}{field_selector}", resource.name);
    }
    Query {
        namespace: (!resource.namespace.is_empty()).then(|| resource.namespace.to_owned()),
        label_selector: call.params.get("labelSelector").to_owned(),
        field_selector,
    }
}

/// Which revision a list may be of.
enum AsOf {
    AtLeast(Rev),
    Exactly(Rev),
}

fn as_of(call: &Call) -> Result<AsOf, Status> {
    let at = FieldPath::of("resourceVersionMatch");
    let refused = |message: &str| {
        Err(Status::invalid_option(LIST_OPTIONS, &Violation::new(at.clone(), Problem::Forbidden, message)))
    };
    let version = call.params.resource_version()?;
    let paging = !call.params.get("continue").is_empty();
    match (call.params.get("resourceVersionMatch"), version) {
        ("", Some(version)) if paging && version != Rev(0) => {
            Err(Status::bad_request("specifying resource version is not allowed when using continue"))
        }
        ("", version) => Ok(AsOf::AtLeast(version.unwrap_or_default())),
        (_, _) if paging => refused("resourceVersionMatch is forbidden when continue is provided"),
        (_, None) => refused("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("NotOlderThan", Some(version)) => Ok(AsOf::AtLeast(version)),
        ("Exact", Some(Rev(0))) => refused("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""),
        ("Exact", Some(version)) => Ok(AsOf::Exactly(version)),
        (other, _) => Err(unsupported_value(LIST_OPTIONS, "resourceVersionMatch", other, &["Exact", "NotOlderThan"])),
    }
}

/// The options of reading collections, as Kubernetes calls them.
pub(super) const LIST_OPTIONS: &str = "ListOptions";

/// Waits until the store is at `at_least`.
///
/// # Errors
/// 504 if it is not within a few seconds, in the words that clients know.
pub(super) async fn caught_up(state: &State, at_least: Rev) -> Result<(), Status> {
    let reached = async {
        while state.store.revision() < at_least {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, reached).await;
    waited.map_err(|_| Status::too_large_version(at_least, state.store.revision()))
}

/// The objects of a collection, or one page of them.
pub(super) async fn list(
    state: &State,
    call: &Call,
    served: Served,
    resource: &Resource<'_>,
) -> Result<Answer, Status> {
    let form = call.form()?;
    let (AsOf::AtLeast(version) | AsOf::Exactly(version)) = as_of(call)?;
    if call.params.get("continue").is_empty() {
        caught_up(state, version).await?;
    }
    let _seat = seat(state, call).await?;
    let page = page(state, call, served, resource, "list").await?;
    shown(state, call, served, &page, &selection(call, served, resource), form)
}

/// The part of a collection that the parameters ask for, as far as the caller may do `verb` to it.
pub(super) async fn page(
    state: &State,
    call: &Call,
    served: Served,
    resource: &Resource<'_>,
    verb: &str,
) -> Result<Page, Status> {
    let (as_of, query, caller) = (as_of(call)?, selection(call, served, resource), call.caller());
    let limit = call.params.number("limit")?.filter(|n| *n > 0).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let (place, now) = (call.params.get("continue"), state.clock.now());
    let admission = &state.admission;
    // Whoever may not list any more gets no further page either.
    let viewer = admission.viewer(&caller, verb, served, &query)?;
    let of = Which { kind: served.kind, query, viewer, eyes: admission.eyes(&caller, served.kind) };
    let query = &of.query;
    if !place.is_empty() {
        let place = pages::place(place, &of)?;
        let listing = match place.revision {
            Rev(0) => Some(Arc::new(admission.selected(&caller, verb, served, query)?)),
            revision => match state.pages.held(revision, &of, now) {
                Some(held) => Some(held),
                None => admission.selected_at(&caller, verb, served, query, revision)?.map(Arc::new),
            },
        };
        return match listing {
            Some(listing) => Ok(state.pages.cut(listing, Some(&place), limit, &of, now)),
            None => Err(pages::expired(place, &of)),
        };
    }
    let listing = match as_of {
        AsOf::AtLeast(version) => {
            caught_up(state, version).await?;
            admission.selected(&caller, verb, served, query)?
        }
        AsOf::Exactly(version) => {
            caught_up(state, version).await?;
            let then = admission.selected_at(&caller, verb, served, query, version)?;
            then.ok_or_else(|| Status::expired(version, state.store.revision()))?
        }
    };
    Ok(state.pages.cut(Arc::new(listing), None, limit, &of, now))
}

fn list_metadata(page: &Page, query: &Query) -> String {
    let mut metadata = json!({"resourceVersion": page.listing.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = json!(next);
        if query.label_selector.is_empty() && query.field_selector.is_empty() {
            metadata["remainingItemCount"] = json!(page.remaining());
        }
    }
    metadata.to_string()
}

fn shown(state: &State, call: &Call, served: Served, page: &Page, query: &Query, form: Form) -> Result<Answer, Status> {
    let metadata = list_metadata(page, query);
    let joined = |texts: Vec<String>| texts.join(",");
    let text = match form.shape {
        Shape::Object if form.encoding == Encoding::Json => return Ok(plain(served, page, &metadata)),
        Shape::Object => {
            let items = page.items().iter().map(|o| String::from_utf8_lossy(&o.served_as(served)).into_owned());
            format!("{}{}]}}", list_head(served, &metadata), joined(items.collect()))
        }
        Shape::Metadata => {
            let items = page.items().iter().map(|o| table::metadata_only(&o.served_as(served))).collect();
            format!(
                r#"{{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{metadata},"items":[{}]}}"#,
                joined(items)
            )
        }
        Shape::Table => {
            let include = IncludeObject::parse(call.params.get("includeObject"));
            let now = state.clock.now();
            let rows = page.items().iter().map(|o| table::row(served, o, include, now)).collect();
            table_text(served, &metadata, &joined(rows))
        }
    };
    respond::encoded(StatusCode::OK, text.into(), form.encoding)
}

fn list_head(served: Served, metadata: &str) -> String {
    format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
        served.name(),
        served.api_version()
    )
}

/// A list of objects: the bytes that are kept ready, put together while they are sent.
fn plain(served: Served, page: &Page, metadata: &str) -> Answer {
    let head = Bytes::from(list_head(served, metadata));
    let items: Vec<Bytes> = page.items().iter().map(|o| o.served_as(served)).collect();
    let objects: u64 = items.iter().map(|o| o.len() as u64).sum();
    let commas = items.len().saturating_sub(1) as u64;
    let length = head.len() as u64 + objects + commas + 2;
    respond::pieces("application/json", length, Pieces { head: Some(head), items, next: 0 })
}

struct Pieces {
    head: Option<Bytes>,
    items: Vec<Bytes>,
    /// Beyond the last one when the end was sent.
    next: usize,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.next > self.items.len() {
            return None;
        }
        let mut piece = BytesMut::with_capacity(PIECE + PIECE / 4);
        if let Some(head) = self.head.take() {
            piece.put(head);
        }
        while piece.len() < PIECE
            && let Some(object) = self.items.get(self.next)
        {
            if self.next > 0 {
                piece.put_u8(b',');
            }
            piece.put_slice(object);
            self.next += 1;
        }
        if self.next == self.items.len() {
            piece.put_slice(b"]}");
            self.next += 1;
        }
        Some(piece.freeze())
    }
}
