//! Doors for the fuzzer (`fuzz/`) to what reads requests. Nobody else comes in here.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::{
    appmesh::{line::PIECE, msgpack, ws},
    body::{self, OBJECT_LIMIT, Syntax},
    bounds::{Bounds, Taken, Turnstile},
    pages,
    path::{self, Target},
    protobuf,
    query::Params,
};
use crate::{
    api::{App, Kind},
    client::Query,
    clock::Virtual,
};

/// A body, and how many of its keys are there twice; `None` if it is refused.
pub fn body(bytes: &[u8], yaml: bool) -> Option<(Value, usize)> {
    let parsed = body::parse(bytes, if yaml { Syntax::Yaml } else { Syntax::Json }, OBJECT_LIMIT).ok()?;
    Some((parsed.value, parsed.duplicates.len()))
}

/// A body in protobuf.
pub fn protobuf(bytes: &[u8]) -> Option<Value> {
    protobuf::decode(bytes)
}

/// What stands in a request's first line, the continue token included.
pub fn request_line(path: &str, query: &str) {
    if let Some(Target::Resource(resource)) = path::parse(path) {
        let _ = resource.served().map(|served| resource.key(served));
    }
    let params = Params::parse(Some(query));
    let _ = (params.flag("watch"), params.number("limit"), params.resource_version(), params.dry_run("Options"));
    let of =
        pages::Which { kind: App::INFO, query: Query::default(), viewer: None, eyes: crate::admission::Eyes::Open };
    let _ = pages::place(params.get("continue"), &of).map(|place| pages::expired(place, &of));
}

/// What came of bytes on a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// The messages that were read.
    pub messages: Vec<Vec<u8>>,
    /// What was sent back at once: the answers to pings.
    pub told: Vec<Bytes>,
    /// The number of the Close, if it ended in one of ours.
    pub end: Option<u16>,
}

/// Reads a WebSocket whose client writes these bytes, so many at a time, and goes. There is room for what comes, and for one piece.
pub fn web_socket(bytes: &[u8], at_a_time: usize) -> Heard {
    let clock = Arc::new(Virtual::new(jiff::Timestamp::UNIX_EPOCH, 1));
    let turnstile = Turnstile::new(Bounds { in_bodies: bytes.len() + PIECE, ..Bounds::default() }, clock);
    let (mut client, mut stream) = tokio::io::duplex(at_a_time);
    let sent = async move {
        // Whoever is refused is read no more.
        let _ = client.write_all(bytes).await;
    };
    let heard = async move {
        let mut heard = Heard { messages: Vec::new(), told: Vec::new(), end: None };
        let (send, mut outs) = mpsc::channel(1 + bytes.len());
        loop {
            let next = ws::message_within(&mut stream, &turnstile, &mut Taken::default(), || false, &send).await;
            heard.told.extend(std::iter::from_fn(|| outs.try_recv().ok()).map(|out| out.head));
            match next {
                Ok(Some(message)) => heard.messages.push(message.into()),
                Ok(None) => return heard,
                Err(end) => {
                    heard.end = end.code;
                    return heard;
                }
            }
        }
    };
    futures::executor::block_on(async { futures::join!(sent, heard).1 })
}

/// A message of App Mesh's clients: what it asks, by which method, how much of it is headers and query, and its body; `None` if it is none.
pub fn message(bytes: &[u8]) -> Option<(String, String, usize, Bytes)> {
    let request = msgpack::Request::read(&Bytes::copy_from_slice(bytes))?;
    Some((request.method, request.uri, request.headers.len() + request.query.len(), request.body))
}
