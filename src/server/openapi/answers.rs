//! What a request can be refused with. Every refusal is a `Status`; which of them an operation knows is said here, once for
//! each sort of operation, so that a client knows what it must be prepared for.

use serde_json::{Map, Value, json};
use utoipa::openapi::Ref;

use crate::api::Reason;

use Reason as R;

/// One refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(Reason);

impl Refusal {
    /// The component's name.
    pub(super) fn name(self) -> String {
        format!("{:?}", self.0)
    }

    /// The status code.
    pub(super) fn code(self) -> u16 {
        self.0.code()
    }
}

macro_rules! refusals {
    ($($reason:ident)*) => { &[$(Refusal(R::$reason)),*] };
}

/// Of everything.
pub(super) const ANY: &[Refusal] = refusals![MisdirectedRequest];
/// Of everything that needs credentials.
pub(super) const DOCUMENT: &[Refusal] = refusals![Unauthorized Forbidden InternalError];
/// Of documents that there may not be.
pub(super) const SOME_DOCUMENT: &[Refusal] = refusals![Unauthorized Forbidden NotFound InternalError];
/// Of reading one object.
pub(super) const READ: &[Refusal] = refusals![
    BadRequest Unauthorized Forbidden NotFound NotAcceptable TooManyRequests InternalError ServiceUnavailable Timeout
];
/// Of reading output.
pub(super) const LOG: &[Refusal] = refusals![
    BadRequest Unauthorized Forbidden NotFound NotAcceptable Invalid TooManyRequests InternalError ServiceUnavailable
    Timeout
];
/// Of sending and looking at tasks.
pub(super) const TASK: &[Refusal] = refusals![
    BadRequest Unauthorized Forbidden NotFound NotAcceptable Conflict RequestEntityTooLarge TooManyRequests InternalError
    ServiceUnavailable Timeout
];
/// Of lists and watches.
pub(super) const LIST: &[Refusal] = refusals![
    BadRequest Unauthorized Forbidden NotAcceptable Expired Invalid TooManyRequests InternalError ServiceUnavailable
    Timeout
];
/// Of writes, deletions among them.
pub(super) const WRITE: &[Refusal] = refusals![
    BadRequest Unauthorized Forbidden NotFound NotAcceptable Conflict RequestEntityTooLarge UnsupportedMediaType
    Invalid TooManyRequests InternalError ServiceUnavailable Timeout
];
/// Of questions that change nothing.
pub(super) const REVIEW: &[Refusal] = refusals![
    BadRequest Unauthorized Forbidden NotAcceptable RequestEntityTooLarge UnsupportedMediaType TooManyRequests
    InternalError ServiceUnavailable Timeout
];
/// Of reading the audit log.
pub(super) const AUDIT: &[Refusal] = refusals![BadRequest Unauthorized Forbidden NotFound InternalError];
/// Of the request for a backup.
pub(super) const BACKUP: &[Refusal] =
    refusals![BadRequest Unauthorized Forbidden TooManyRequests InternalError ServiceUnavailable];
/// Of the request for new keys.
pub(super) const ROTATE: &[Refusal] =
    refusals![BadRequest Unauthorized Forbidden NotFound Conflict InternalError ServiceUnavailable];
/// Of what proves who somebody is, asked by whoever has not yet.
pub(super) const OPEN_LOGIN: &[Refusal] = refusals![
    BadRequest Unauthorized RequestEntityTooLarge TooManyRequests InternalError ServiceUnavailable Timeout
];
/// Of what somebody does with their own credentials.
pub(super) const LOGIN: &[Refusal] = refusals![
    BadRequest Unauthorized Forbidden NotFound Conflict RequestEntityTooLarge Invalid TooManyRequests InternalError
    ServiceUnavailable Timeout
];
/// Of the request to stop.
pub(super) const STOP: &[Refusal] = refusals![BadRequest Unauthorized Forbidden InternalError];

/// Every refusal with what it means, and with an example.
pub(super) fn all() -> Map<String, Value> {
    table()
        .into_iter()
        .map(|(reason, text, example)| (Refusal(reason).name(), response(reason, text, example)))
        .collect()
}

fn response(reason: Reason, text: &str, mut example: Value) -> Value {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": example["message"], "reason": example["reason"], "details": example["details"].take(),
        "code": reason.code(),
    });
    let mut response = json!({
        "description": text,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}, "example": status}},
    });
    match reason {
        R::Unauthorized => response["headers"] = json!({"WWW-Authenticate": header_reference("WWW-Authenticate")}),
        R::TooManyRequests | R::ServiceUnavailable | R::Timeout => {
            response["headers"] = json!({"Retry-After": header_reference("Retry-After")});
        }
        _ => {}
    }
    response
}

fn table() -> Vec<(Reason, &'static str, Value)> {
    let web = |more: Value| {
        let mut details = json!({"name": "web", "group": "appm.dev", "kind": "apps"});
        if let (Some(details), Value::Object(more)) = (details.as_object_mut(), more) {
            details.extend(more);
        }
        details
    };
    let conflict = "conflict with \"kubectl\" using appm.dev/v1";
    vec![
        (
            R::BadRequest,
            "The request cannot be understood: bad syntax, a bad parameter or selector, unknown fields.",
            json!({
            "reason": "BadRequest", "details": {},
            "message": "the query parameter `limit` must be a number that is not negative (got \"many\")"}),
        ),
        (
            R::Unauthorized,
            "There are no credentials, or they are not known.",
            json!({
            "reason": "Unauthorized", "message": "Unauthorized", "details": {}}),
        ),
        (
            R::Forbidden,
            "Whoever asks may not do this.",
            json!({
            "reason": "Forbidden", "details": web(json!({})),
            "message": "apps.appm.dev \"web\" is forbidden: User \"bob\" cannot get resource \"apps\" in API group \
                        \"appm.dev\" in the namespace \"default\""}),
        ),
        (
            R::NotFound,
            "There is no such object, or its namespace does not exist.",
            json!({
            "reason": "NotFound", "message": "apps.appm.dev \"web\" not found", "details": web(json!({}))}),
        ),
        (
            R::NotAcceptable,
            "None of the media types in `Accept` can be served.",
            json!({
            "reason": "NotAcceptable", "details": {},
            "message": "only the following media types are accepted: application/json, application/yaml"}),
        ),
        (
            R::Conflict,
            "The object has changed since it was read, exists already (reason `AlreadyExists`), fails a \
            precondition, or a field that is applied belongs to another manager (causes of reason `FieldManagerConflict`).",
            json!({
            "reason": "Conflict", "message": format!("Apply failed with 1 conflict: {conflict}: .spec.replicas"),
            "details": {"causes":
                [{"reason": "FieldManagerConflict", "message": conflict, "field": ".spec.replicas"}]}}),
        ),
        (
            R::Expired,
            "The history or the snapshot that was asked for is gone: list again, and watch from there.",
            json!({
            "reason": "Expired", "message": "too old resource version: 5 (900)", "details": {}}),
        ),
        (
            R::RequestEntityTooLarge,
            "The body is too large.",
            json!({
            "reason": "RequestEntityTooLarge", "message": "Request entity too large: limit is 3145728", "details": {}}),
        ),
        (
            R::UnsupportedMediaType,
            "The body is in a form that is not understood here.",
            json!({
            "reason": "UnsupportedMediaType", "details": {},
            "message": "the body of the request was in an unsupported format (`text/html`) - accepted media types include: \
                        application/json, application/yaml"}),
        ),
        (
            R::MisdirectedRequest,
            "The request is addressed to a host by whose name this server is not known.",
            json!({
            "reason": "MisdirectedRequest", "details": {},
            "message": "this server is not known as `appm.example`; \
                        `appm server --allowed-host=appm.example` would make it known"}),
        ),
        (
            R::Invalid,
            "The object or an option is not valid. Every violation is a cause, with the path of its field.",
            json!({
            "reason": "Invalid", "details": {"name": "web", "group": "appm.dev", "kind": "App", "causes": [
                {"reason": "FieldValueInvalid", "message": "Invalid value: -1: must be at least 0",
                 "field": "spec.replicas"}]},
            "message": "App.appm.dev \"web\" is invalid: spec.replicas: Invalid value: -1: must be at least 0"}),
        ),
        (
            R::TooManyRequests,
            "The server is busy; try again after `Retry-After` seconds.",
            json!({
            "reason": "TooManyRequests", "details": {"retryAfterSeconds": 1},
            "message": "the objects change too fast; try again later"}),
        ),
        (
            R::InternalError,
            "A mistake of the server; its log knows the request by the id in the message.",
            json!({
            "reason": "InternalError", "details": {},
            "message": "an internal error occurred; the log knows it as 0192f0c1-2f6b-7c4e-9f3a-1b2c3d4e5f60"}),
        ),
        (
            R::ServiceUnavailable,
            "The server is shutting down or not ready yet.",
            json!({
            "reason": "ServiceUnavailable", "message": "the server is shutting down", "details": {}}),
        ),
        (
            R::Timeout,
            "What the request waits for did not come in time: the rest of its body, or the revision that it names.",
            json!({
            "reason": "Timeout", "message": "Too large resource version: 900, current: 5",
            "details": {"retryAfterSeconds": 1, "causes":
                [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}}),
        ),
    ]
}

fn header_reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// A reference to one of [`headers`].
pub(super) fn response_header(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// Headers of answers.
pub(super) fn headers() -> Map<String, Value> {
    let described = |schema: Value, description: &str| json!({"description": description, "schema": schema});
    let text = json!({"type": "string"});
    [
        (
            "Warning",
            described(text.clone(), "`299 - \"…\"`, once for each thing that was accepted and is probably a mistake."),
        ),
        ("WWW-Authenticate", described(text.clone(), "How to authenticate: `Bearer`.")),
        ("ETag", described(text, "Names this version of the document; send it as `If-None-Match`.")),
        (
            "Retry-After",
            described(json!({"type": "integer", "minimum": 0}), "Seconds after which trying again makes sense."),
        ),
    ]
    .map(|(name, header)| (name.to_owned(), header))
    .into_iter()
    .collect()
}
