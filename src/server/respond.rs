//! Answers: every error a `Status`, every body framed so that large ones are not copied twice.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::{Frame, SizeHint},
    header::{
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
        STRICT_TRANSPORT_SECURITY, WARNING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use serde_json::{Value, json};

use super::accept::Encoding;
use crate::api::{Reason, Status};

/// What breaks off a body. Only the log reads it.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BodyError>;
/// An answer.
pub(super) type Answer = Response<Body>;

/// An answer of `code` with a whole body.
pub(super) fn whole(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    with_type(code, content_type, body)
}

/// An answer whose body comes piece by piece, each flushed when it is there.
pub(super) fn streamed(content_type: &'static str, pieces: BoxStream<'static, Result<Bytes, BodyError>>) -> Answer {
    let body = http_body_util::StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync();
    with_type(StatusCode::OK, content_type, body)
}

/// An answer of known length whose pieces are made when they are sent.
pub(super) fn pieces(
    content_type: &'static str,
    length: u64,
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> Answer {
    with_type(StatusCode::OK, content_type, sized(length, pieces))
}

/// A body of known length whose pieces are made when they are sent.
pub(super) fn sized(length: u64, pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    Pieces { left: length, pieces: Box::new(pieces) }.boxed_unsync()
}

fn with_type(code: StatusCode, content_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// 200 with JSON.
pub(super) fn ok(value: &Value) -> Answer {
    whole(StatusCode::OK, "application/json", value.to_string())
}

/// JSON text in the encoding that was asked for.
pub(super) fn encoded(code: StatusCode, json: Bytes, encoding: Encoding) -> Result<Answer, Status> {
    let value = || serde_json::from_slice(&json).map_err(|_| Status::internal("the answer is not JSON"));
    match encoding {
        Encoding::Json => Ok(whole(code, "application/json", json)),
        Encoding::Pretty => {
            let value: Value = value()?;
            Ok(whole(code, "application/json", format!("{value:#}\n")))
        }
        Encoding::Yaml => {
            let value: Value = value()?;
            let yaml = serde_saphyr::to_string(&value)
                .map_err(|_| Status::internal("the answer cannot be written as YAML"))?;
            Ok(whole(code, "application/yaml", yaml))
        }
    }
}

/// An error.
pub(super) fn failure(status: &Status) -> Answer {
    let code = StatusCode::from_u16(status.reason.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = whole(code, "application/json", status.to_json().to_string());
    if let Some(seconds) = status.details.retry_after_seconds {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.is(Reason::Unauthorized) {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"appm\""));
    }
    answer
}

/// `Status` for a success that has no object to show.
pub(super) fn success(details: &Value) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Adds a `Warning` header for each text, as Kubernetes does.
pub(super) fn warn(answer: &mut Answer, warnings: &[String]) {
    for text in warnings {
        let quoted: String = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        let quoted = quoted.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(WARNING, value);
        }
    }
}

/// Sets a header that is known to be well-formed; ignored otherwise.
pub(super) fn header(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// What keeps a browser from making more of an answer than it is: it is no page, is shown in no frame, and is nobody else's to read.
/// `own_site`: browsers shall come to this host over TLS alone from now on.
pub(super) fn guard(answer: &mut Answer, own_site: bool) {
    const GUARDS: [(HeaderName, HeaderValue); 4] = [
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    let headers = answer.headers_mut();
    headers.extend(GUARDS);
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(CONTENT_SECURITY_POLICY, nothing);
    }
    if own_site {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
}

/// A body of known length over an iterator.
struct Pieces {
    left: u64,
    pieces: Box<dyn Iterator<Item = Bytes> + Send>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = self.pieces.next();
        if let Some(piece) = &piece {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|p| Ok(Frame::data(p))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
