//! Paths, queries and bodies as Kubernetes' API has them.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use hyper::header::{HeaderMap, WARNING};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use super::RequestError;
use crate::{
    api::{Body, Key, KindInfo, Rev, Served, Status, StoredObject, kinds},
    client::{ChangeType, Query, WatchEvent},
};

/// The path of a resource, or of one object of it. `namespace` is left out for cluster-scoped kinds.
pub fn path_of(kind: &'static KindInfo, namespace: Option<&str>, name: Option<&str>) -> String {
    served_path(Served { kind, view: None }, namespace, name)
}

/// The path of what is served, or of one object of it.
pub fn served_path(served: Served, namespace: Option<&str>, name: Option<&str>) -> String {
    let root = if served.group().is_empty() { "/api/" } else { "/apis/" };
    let mut path = format!("{root}{}", served.api_version());
    if let Some(namespace) = namespace.filter(|n| served.kind.is_namespaced() && !n.is_empty()) {
        path += &format!("/namespaces/{}", percent_encode(namespace));
    }
    path += &format!("/{}", served.plural());
    if let Some(name) = name {
        path += &format!("/{}", percent_encode(name));
    }
    path
}

/// The path of an object.
pub fn object_path(key: &Key) -> String {
    path_of(key.kind, Some(&key.namespace), Some(&key.name))
}

/// `?a=b&c=d`, or nothing.
pub fn query_string(options: &[(&str, String)]) -> String {
    let all: Vec<String> = options.iter().map(|(name, value)| format!("{name}={}", percent_encode(value))).collect();
    if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
}

/// All but RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// RFC 3986: everything but the unreserved characters as `%XX`.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// What [`percent_encode`] wrote, or anybody else; what is not valid stays as it is. In queries a plus sign is a space.
pub fn percent_decode(text: &str, plus: bool) -> Cow<'_, str> {
    if plus && text.contains('+') {
        let spaced = text.replace('+', " ");
        return percent_decode_str(&spaced).decode_utf8().map_or(Cow::Borrowed(text), |read| read.into_owned().into());
    }
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

pub(super) fn selection(query: &Query) -> Vec<(&'static str, String)> {
    let options = [("labelSelector", &query.label_selector), ("fieldSelector", &query.field_selector)];
    options.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k, v.clone())).collect()
}

/// The texts of `Warning: 299 - "…"` headers.
pub(super) fn warnings(headers: &HeaderMap) -> Vec<String> {
    let text = |value: &str| {
        let quoted = value.splitn(3, ' ').nth(2)?;
        Some(quoted.strip_prefix('"')?.strip_suffix('"')?.replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    headers.get_all(WARNING).iter().filter_map(|v| text(v.to_str().ok()?)).collect()
}

/// Cuts a stream of pieces at line ends. An unfinished last line is dropped: the writer was cut off in it.
pub(super) fn lines(
    pieces: impl Stream<Item = Result<Bytes, RequestError>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, RequestError>> + Send + 'static {
    struct State<S> {
        pieces: S,
        rest: BytesMut,
        ready: VecDeque<Bytes>,
    }
    let state = State { pieces: Box::pin(pieces), rest: BytesMut::new(), ready: VecDeque::new() };
    stream::unfold(state, |mut state| async move {
        loop {
            if let Some(line) = state.ready.pop_front() {
                return Some((Ok(line), state));
            }
            match state.pieces.next().await? {
                Err(error) => return Some((Err(error), state)),
                Ok(piece) => {
                    let mut scanned = state.rest.len();
                    state.rest.extend_from_slice(&piece);
                    while let Some(end) = state.rest[scanned..].iter().position(|b| *b == b'\n') {
                        let line = state.rest.split_to(scanned + end + 1).freeze();
                        scanned = 0;
                        if line.len() > 1 {
                            state.ready.push_back(line.slice(..line.len() - 1));
                        }
                    }
                }
            }
        }
    })
}

pub(super) fn revision(object: &Value) -> Result<Rev, Status> {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    Rev::parse(text).ok_or_else(|| Status::internal("the server's answer has no resourceVersion"))
}

pub(super) fn unreadable(error: &serde_json::Error) -> Status {
    Status::internal(format!("the server's answer cannot be read: {error}"))
}

/// An object as it came over the wire.
pub(super) fn stored(object: Value) -> Result<Arc<StoredObject>, Status> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let metadata = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let served = kinds::find_served(text("apiVersion"), text("kind"))
        .ok_or_else(|| Status::internal(format!("the server sent a `{}`, which is unknown here", text("kind"))))?;
    let key = Key::new(served.kind, metadata("namespace"), metadata("name"));
    // A dry run of a create has no revision.
    let revision = revision(&object).unwrap_or_default();
    StoredObject::new(key, revision, &Body::new(object)).map(Arc::new).map_err(|e| unreadable(&e))
}

/// One line of a watch.
pub(super) fn watch_event(line: &[u8]) -> Result<WatchEvent, Status> {
    let mut event: Value = serde_json::from_slice(line).map_err(|e| unreadable(&e))?;
    let object = event["object"].take();
    let change = match event["type"].as_str() {
        Some("ADDED") => ChangeType::Added,
        Some("MODIFIED") => ChangeType::Modified,
        Some("DELETED") => ChangeType::Deleted,
        Some("BOOKMARK") => return Ok(WatchEvent::Bookmark(revision(&object)?)),
        _ => {
            let code = object["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
            return Err(Status::from_json(&object, code));
        }
    };
    Ok(WatchEvent::Change(change, stored(object)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{App, Kind, Node};

    #[test]
    fn paths_are_kubernetes_paths() {
        assert_eq!(path_of(App::INFO, Some("a b"), Some("x/y")), "/apis/appm.dev/v1/namespaces/a%20b/apps/x%2Fy");
        assert_eq!(path_of(App::INFO, None, None), "/apis/appm.dev/v1/apps");
        assert_eq!(path_of(Node::INFO, Some("default"), Some("n")), "/api/v1/nodes/n");
        assert_eq!(query_string(&[("labelSelector", "a in (b,c)".into())]), "?labelSelector=a%20in%20%28b%2Cc%29");
    }

    #[test]
    fn what_stands_in_a_url_is_read_and_what_is_not_valid_stays() {
        for (text, plus, read) in [
            ("/a%20b/%C3%A9%", false, "/a b/é%"),
            ("a+b%2Bc", false, "a+b+c"),
            ("a+b%2Bc", true, "a b+c"),
            ("%zz%4%+1", false, "%zz%4%+1"),
            ("%ff%20", false, "%ff%20"),
        ] {
            assert_eq!(percent_decode(text, plus), read, "{text}");
        }
        let odd = "a b/ü%+&=?#\u{0}";
        assert_eq!(percent_decode(&percent_encode(odd), true), odd);
    }

    #[test]
    fn lines_are_cut_wherever_the_pieces_end() {
        let pieces =
            ["{\"a\":1}\n{\"b\"", ":2}", "\n\n{\"c\":3}\n{\"cut"].map(|p| Ok(Bytes::from_static(p.as_bytes())));
        let all: Vec<_> =
            futures::executor::block_on(lines(stream::iter(pieces)).map(|l| l.expect("a line")).collect());
        assert_eq!(all, [r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#]);
    }

    #[test]
    fn warnings_are_unquoted() {
        let mut headers = HeaderMap::new();
        headers.append(WARNING, r#"299 - "unknown field \"spec.x\"""#.parse().expect("a header"));
        assert_eq!(warnings(&headers), [r#"unknown field "spec.x""#]);
    }
}
