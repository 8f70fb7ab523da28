//! Answers as App Mesh has them.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::{Value, json};

use crate::{
    api::{Reason, Status},
    broker::{Delivery, Payload},
};

/// What stands in an answer.
pub enum Content {
    /// Nothing.
    Nothing,
    /// JSON.
    Json(Value),
    /// Text of this kind, as bytes.
    Text(&'static str, Bytes),
    /// A file: so many bytes, as they are read.
    Stream {
        /// How many.
        length: u64,
        /// The bytes.
        pieces: BoxStream<'static, io::Result<Bytes>>,
    },
    /// Bytes as they came.
    Bytes(Payload),
    /// What another server has answered, of this kind.
    Passed {
        /// Its media type.
        kind: String,
        /// The bytes.
        bytes: Payload,
    },
    /// A task; it counts as taken when all of it was.
    Task(Delivery),
}

/// An answer.
pub struct Reply {
    /// HTTP's code, on every transport.
    pub code: u16,
    /// Headers, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// What stands in it.
    pub content: Content,
}

impl Reply {
    /// An answer with nothing in it.
    pub fn empty(code: u16) -> Self {
        Self { code, headers: Vec::new(), content: Content::Nothing }
    }

    /// JSON.
    pub fn json(code: u16, value: Value) -> Self {
        Self { content: Content::Json(value), ..Self::empty(code) }
    }

    /// Text, as it is.
    pub fn text(code: u16, text: impl Into<Bytes>) -> Self {
        Self { content: Content::Text("text/plain; charset=utf-8", text.into()), ..Self::empty(code) }
    }

    /// A page.
    pub fn html(page: String) -> Self {
        Self { content: Content::Text("text/html; charset=utf-8", page.into()), ..Self::empty(200) }
    }

    /// A sentence, as errors have it.
    pub fn message(code: u16, message: &str) -> Self {
        Self::json(code, json!({"message": message}))
    }

    /// The same with a header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A refusal in App Mesh's words.
    pub fn refusal(status: &Status) -> Self {
        let cause = status.details.causes.first().map_or("", |cause| cause.reason.as_str());
        let code = match (cause, status.reason) {
            ("TaskTimedOut", _) => 408,
            ("TaskCancelled" | "InstanceEnded", _) => 417,
            ("NoInstance", _) | (_, Reason::Invalid) => 400,
            (_, reason) => reason.code(),
        };
        let message = match (cause, status.reason) {
            ("NoInstance", _) => "No process running",
            (_, Reason::Unauthorized) => "Authentication failed",
            (_, Reason::NotFound) if status.details.kind == "apps" => "No such application",
            _ => &status.message,
        };
        let reply = Self::message(code, message);
        match status.details.retry_after_seconds {
            Some(seconds) => reply.with("retry-after", seconds.to_string()),
            None => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Failure;

    #[test]
    fn refusals_have_app_meshs_codes() {
        let timed_out = Failure::TimedOut { after: std::time::Duration::from_secs(2), at: None, asked: true };
        for (failure, code) in [
            (timed_out, 408),
            (Failure::Cancelled { by: "ada".to_owned(), at: None }, 417),
            (Failure::Full { waiting: 512 }, 503),
            (Failure::Nobody, 400),
        ] {
            let reply = Reply::refusal(&Status::from(&failure));
            assert_eq!(reply.code, code, "{failure}");
            assert_eq!(reply.headers.iter().any(|(name, _)| *name == "retry-after"), code == 503);
        }
        assert_eq!(Reply::refusal(&Status::new(Reason::Forbidden, "no")).code, 403);
    }
}
