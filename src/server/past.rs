//! What was: objects and collections as they stood (`?at=`, `?atRevision=`), `…/NAME/history` with its pins, and one's own transactions.

use std::fmt::Write as _;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;

use super::{
    body::OBJECT_LIMIT,
    bounds::Work,
    call::Call,
    documents::not_allowed,
    metrics::RequestLabels,
    path::Resource,
    query::Params,
    read,
    respond::{self, Answer},
    state::State,
};
use crate::{
    admission::{PastPage, When},
    api::{HistoryPin, Rev, Served, Status},
    policy::moment::Moment,
};

/// So many objects or versions are told at once, unless fewer are asked for.
const MOST: usize = 500;

/// The part of an object that tells of its past.
pub(super) const HISTORY: &str = "history";

/// Said with every object of the past.
const NO_STATUS: &str = "this is what was wished then: the history keeps no status";

/// Whether a request asks for what was.
pub(super) fn is_asked(params: &Params) -> bool {
    params.has("at") || params.has("atRevision")
}

fn when(state: &State, params: &Params) -> Result<When, Status> {
    match (params.get("at"), params.get("atRevision")) {
        ("", "") => Err(Status::bad_request("`at` or `atRevision` lacks its value")),
        (at, "") => {
            let moment = Moment::parse(at).and_then(|moment| moment.at(state.clock.now()));
            moment.map(When::Time).map_err(|why| Status::bad_request(format!("at: {why}")))
        }
        ("", _) => Ok(When::Revision(revision(params, "atRevision")?.unwrap_or_default())),
        _ => Err(Status::bad_request("`at` and `atRevision` are two ways to say the same: give one of them")),
    }
}

fn revision(params: &Params, name: &str) -> Result<Option<Rev>, Status> {
    match params.get(name) {
        "" => Ok(None),
        text => {
            let read = Rev::parse(text).filter(|rev| rev.0 < 1 << 48);
            read.map(Some)
                .ok_or_else(|| Status::bad_request(format!("{name}: \"{text}\" is no revision: a decimal number")))
        }
    }
}

fn limit(params: &Params) -> Result<usize, Status> {
    let asked = params.number("limit")?.filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    Ok(asked.unwrap_or(MOST).min(MOST))
}

/// One object as it was.
pub(super) async fn get(state: &State, call: &Call, served: Served, resource: &Resource<'_>) -> Result<Answer, Status> {
    let form = call.form()?;
    let when = when(state, &call.params)?;
    let _seat = state.turnstile.seat(&call.who.name, Work::Reading, 0).await?;
    let object = state.admission.past(&call.caller(), served, &resource.key(served), when).await?;
    let mut answer = respond::encoded(StatusCode::OK, object.served_as(served), form.encoding)?;
    respond::warn(&mut answer, &[NO_STATUS.to_owned()]);
    Ok(answer)
}

/// A part of a collection as it was.
pub(super) async fn list(
    state: &State,
    call: &Call,
    served: Served,
    resource: &Resource<'_>,
) -> Result<Answer, Status> {
    let form = call.form()?;
    let (mut when, limit) = (when(state, &call.params)?, limit(&call.params)?);
    let mut after = None;
    let token = call.params.get("continue");
    if !token.is_empty() {
        let (at, place) = place(token).ok_or_else(|| Status::bad_request("continue key is not valid"))?;
        (when, after) = (When::Revision(at), Some(place));
    }
    let _seat = state.turnstile.seat(&call.who.name, Work::Reading, 0).await?;
    let query = read::selection(call, served, resource);
    let page = state.admission.past_page(&call.caller(), served, &query, when, after, limit).await?;
    let mut answer = respond::encoded(StatusCode::OK, listed(served, &page), form.encoding)?;
    respond::warn(&mut answer, &[NO_STATUS.to_owned()]);
    Ok(answer)
}

fn listed(served: Served, page: &PastPage) -> Bytes {
    let mut metadata = serde_json::json!({"resourceVersion": page.at.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = token(page.at, next).into();
    }
    let mut text = String::new();
    let _ = write!(
        text,
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
        served.name(),
        served.api_version()
    );
    let mut text = text.into_bytes();
    for (at, item) in page.items.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&item.served_as(served));
    }
    text.extend_from_slice(b"]}");
    text.into()
}

/// Where the next page begins.
fn token(at: Rev, (namespace, name): &(String, String)) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{at}/{namespace}/{name}"))
}

fn place(token: &str) -> Option<(Rev, (String, String))> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let mut parts = text.splitn(3, '/');
    let at = Rev::parse(parts.next()?).filter(|at| at.0 < 1 << 48)?;
    Some((at, (parts.next()?.to_owned(), parts.next()?.to_owned())))
}

/// Answers what is asked of an object's history.
pub(super) async fn history(
    state: &State,
    mut call: Call,
    served: Served,
    resource: &Resource<'_>,
    labels: &mut RequestLabels,
) -> Result<Answer, Status> {
    labels.resource = format!("{}/{HISTORY}", resource.plural);
    let (key, caller, pin) = (resource.key(served), call.caller(), resource.below);
    let admission = &state.admission;
    match (&call.method, pin) {
        (&Method::GET | &Method::HEAD, "") => {
            "get".clone_into(&mut labels.verb);
            let (below, limit) = (revision(&call.params, "continue")?, limit(&call.params)?);
            let _seat = state.turnstile.seat(&call.who.name, Work::Reading, 0).await?;
            told(&call, &admission.history(&caller, served, &key, below, limit).await?)
        }
        (&Method::PUT, pin) if !pin.is_empty() => {
            "update".clone_into(&mut labels.verb);
            let asked = call.parsed(OBJECT_LIMIT).await?.map(|parsed| parsed.value);
            let asked: HistoryPin = serde_path_to_error::deserialize(asked.unwrap_or_else(|| serde_json::json!({})))
                .map_err(|e| {
                    Status::bad_request(format!("the body is not a HistoryPin: {}: {}", e.path(), e.inner()))
                })?;
            let at = Some(asked.revision).filter(|text| !text.is_empty());
            let at = at.map(|text| {
                let read = Rev::parse(&text).filter(|rev| rev.0 < 1 << 48);
                read.ok_or_else(|| {
                    Status::bad_request(format!("revision: \"{text}\" is no revision: a decimal number"))
                })
            });
            told(&call, &admission.pin(&caller, served, &key, pin, at.transpose()?).await?)
        }
        (&Method::DELETE, pin) if !pin.is_empty() => {
            "update".clone_into(&mut labels.verb);
            told(&call, &admission.unpin(&caller, served, &key, pin).await?)
        }
        _ => Err(not_allowed()),
    }
}

/// One's own transactions, or one of them.
pub(super) async fn transactions(
    state: &State,
    call: &Call,
    resource: &Resource<'_>,
    labels: &mut RequestLabels,
) -> Result<Answer, Status> {
    resource.plural.clone_into(&mut labels.resource);
    "get".clone_into(&mut labels.verb);
    let caller = call.caller();
    let _seat = state.turnstile.seat(&call.who.name, Work::Reading, 0).await?;
    if !resource.name.is_empty() {
        let at = Rev::parse(resource.name).filter(|rev| rev.0 < 1 << 48);
        let at =
            at.ok_or_else(|| Status::bad_request(format!("\"{}\" is no revision: a decimal number", resource.name)))?;
        return told(call, &state.admission.past_transaction(&caller, at).await?);
    }
    let (below, limit) = (revision(&call.params, "continue")?, limit(&call.params)?.min(100));
    told(call, &state.admission.past_transactions(&caller, below, limit).await?)
}

fn told(call: &Call, what: &impl Serialize) -> Result<Answer, Status> {
    let json = serde_json::to_vec(what).map_err(|_| Status::internal("the history cannot be told"))?;
    respond::encoded(StatusCode::OK, json.into(), call.form()?.encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again() {
        let at = (Rev(12), ("default".to_owned(), "web".to_owned()));
        assert_eq!(place(&token(at.0, &at.1)), Some(at));
        for bad in ["", "x", "MTI", "é"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
