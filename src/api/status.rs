//! The one error that clients see: Kubernetes' `Status`, with a closed set of reasons.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Key, KindInfo, Rev, Served, Violation};

/// Why a request failed. Clients decide by this word, not by the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the words are Kubernetes' own and explain themselves")]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    MisdirectedRequest,
    Invalid,
    TooManyRequests,
    InternalError,
    ServiceUnavailable,
    Timeout,
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

impl Reason {
    /// The HTTP status code that goes with the reason.
    pub fn code(self) -> u16 {
        match self {
            Reason::BadRequest => 400,
            Reason::Unauthorized => 401,
            Reason::Forbidden => 403,
            Reason::NotFound => 404,
            Reason::MethodNotAllowed => 405,
            Reason::NotAcceptable => 406,
            Reason::AlreadyExists | Reason::Conflict => 409,
            Reason::Expired => 410,
            Reason::RequestEntityTooLarge => 413,
            Reason::UnsupportedMediaType => 415,
            Reason::MisdirectedRequest => 421,
            Reason::Invalid => 422,
            Reason::TooManyRequests => 429,
            Reason::InternalError | Reason::Unknown => 500,
            Reason::ServiceUnavailable => 503,
            Reason::Timeout => 504,
        }
    }
}

/// One cause of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// A CamelCase word, `FieldValueInvalid` say.
    #[serde(default)]
    pub reason: String,
    /// One sentence.
    #[serde(default)]
    pub message: String,
    /// The path of the field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The resource's group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource's plural name (Kubernetes calls this field `kind`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid, on a successful delete.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Everything that is wrong, at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When trying again makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// A failed request: what the client is told. Internal text belongs into the log, never in here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Why.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
    /// About what.
    pub details: Box<StatusDetails>,
    /// For a page of a list that is gone (410): the token with which to go on with the rest as it is now.
    pub go_on: Option<Box<str>>,
}

impl std::error::Error for Status {}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Status {
    /// A failure with nothing more to say than a sentence.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), details: Box::default(), go_on: None }
    }

    fn about(reason: Reason, kind: &KindInfo, name: &str, message: String) -> Self {
        let details = StatusDetails {
            name: name.to_owned(),
            group: kind.group.to_owned(),
            kind: kind.plural.to_owned(),
            ..StatusDetails::default()
        };
        Self { reason, message, details: Box::new(details), go_on: None }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 404 for an object.
    pub fn not_found(key: &Key) -> Self {
        let message = format!("{} \"{}\" not found", key.kind.qualified(), key.name);
        Self::about(Reason::NotFound, key.kind, &key.name, message)
    }

    /// The same about an object as it is served: a Pod's client has never heard of Instances.
    #[must_use]
    pub fn in_words_of(mut self, served: Served) -> Self {
        let details = &mut self.details;
        if served.view.is_some() && (&*details.group, &*details.kind) == (served.kind.group, served.kind.plural) {
            served.group().clone_into(&mut details.group);
            served.plural().clone_into(&mut details.kind);
            self.message = self.message.replacen(&*served.kind.qualified(), &served.qualified(), 1);
        }
        self
    }

    /// 404 for a path that nothing serves.
    pub fn no_route() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource")
    }

    /// 409: an object of that name is there.
    pub fn already_exists(key: &Key) -> Self {
        let message = format!("{} \"{}\" already exists", key.kind.qualified(), key.name);
        Self::about(Reason::AlreadyExists, key.kind, &key.name, message)
    }

    /// 409: a precondition (resourceVersion or uid) does not hold.
    pub fn conflict(key: &Key, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{}\": {why}", key.kind.qualified(), key.name);
        Self::about(Reason::Conflict, key.kind, &key.name, message)
    }

    /// 409 for a stale write, in the very words that clients know.
    pub fn stale(key: &Key) -> Self {
        Self::conflict(
            key,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403 for an object that may not be written, whoever asks.
    pub fn forbidden(key: &Key, why: &str) -> Self {
        let message = format!("{} \"{}\" is forbidden: {why}", key.kind.qualified(), key.name);
        Self::about(Reason::Forbidden, key.kind, &key.name, message)
    }

    /// 422 with every violation as a cause.
    pub fn invalid(kind: &KindInfo, name: &str, violations: &[Violation]) -> Self {
        let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
        let listed = if all.len() == 1 { all[0].clone() } else { format!("[{}]", all.join(", ")) };
        let shown = if kind.group.is_empty() { kind.kind.to_owned() } else { format!("{}.{}", kind.kind, kind.group) };
        let mut status = Self::about(Reason::Invalid, kind, name, format!("{shown} \"{name}\" is invalid: {listed}"));
        status.details.kind = kind.kind.to_owned();
        status.details.causes = violations.iter().map(Cause::from).collect();
        status
    }

    /// 400 for a body with fields that strict decoding refuses, in Kubernetes' words; whatever else is wrong with the
    /// object comes after them. Every violation is a cause.
    pub fn undecodable(kind: &KindInfo, name: &str, violations: &[Violation]) -> Self {
        let refused: Vec<String> = violations.iter().filter_map(Violation::undecodable).collect();
        let mut message = format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            kind.kind,
            kind.version,
            kind.kind,
            refused.join(", ")
        );
        let others: Vec<Violation> = violations.iter().filter(|v| v.undecodable().is_none()).cloned().collect();
        if !others.is_empty() {
            message = format!("{message}; and {}", Self::invalid(kind, name, &others).message);
        }
        let mut status = Self::about(Reason::BadRequest, kind, name, message);
        status.details.causes = violations.iter().map(Cause::from).collect();
        status
    }

    /// 422 for an option of a request (a parameter, or a field of `DeleteOptions`), in Kubernetes' words.
    pub fn invalid_option(options: &str, violation: &Violation) -> Self {
        let message = format!("{options}.meta.k8s.io \"\" is invalid: {violation}");
        let mut status = Self::new(Reason::Invalid, message);
        status.details.group = "meta.k8s.io".to_owned();
        status.details.kind = options.to_owned();
        status.details.causes = vec![Cause::from(violation)];
        status
    }

    /// 504 for a revision that the server has not come to yet, in the words that clients know.
    pub fn too_large_version(asked: Rev, current: Rev) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut status = Self::new(Reason::Timeout, message);
        status.details.retry_after_seconds = Some(1);
        status.details.causes = vec![Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }];
        status
    }

    /// 429: try again in a second.
    pub fn busy(message: impl Into<String>) -> Self {
        let mut status = Self::new(Reason::TooManyRequests, message);
        status.details.retry_after_seconds = Some(1);
        status
    }

    /// 413
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Reason::RequestEntityTooLarge, message)
    }

    /// 410: the history that was asked for is gone.
    pub fn expired(asked: Rev, oldest: Rev) -> Self {
        Self::new(Reason::Expired, format!("too old resource version: {asked} ({oldest})"))
    }

    /// 500. The text must not carry anything internal.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::InternalError, message)
    }

    /// True if the reason is `reason`.
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason
    }

    /// True if a quota has no room: the same may be done when there is.
    pub fn is_over_quota(&self) -> bool {
        self.reason == Reason::Forbidden && self.details.causes.iter().any(|cause| cause.reason == super::OVER_QUOTA)
    }

    /// The body as it goes over the wire.
    pub fn to_json(&self) -> Value {
        let metadata = self.go_on.as_ref().map_or_else(|| json!({}), |token| json!({"continue": token}));
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.reason.code(),
        })
    }

    /// Reads a `Status` from the wire; `code` stands in where there is no body that says more.
    pub fn from_json(body: &Value, code: u16) -> Self {
        let reason = body.get("reason").and_then(|r| Reason::deserialize(r).ok());
        let details = body.get("details").and_then(|d| StatusDetails::deserialize(d).ok()).unwrap_or_default();
        let message = body.get("message").and_then(Value::as_str).map(str::to_owned);
        Self {
            reason: reason.unwrap_or(Reason::Unknown),
            message: message.unwrap_or_else(|| format!("the server answered {code}")),
            details: Box::new(details),
            go_on: body["metadata"]["continue"].as_str().map(Into::into),
        }
    }
}

impl From<&Violation> for Cause {
    fn from(v: &Violation) -> Self {
        Self { reason: v.problem.reason().to_owned(), message: v.sentence(), field: v.path.to_string() }
    }
}
