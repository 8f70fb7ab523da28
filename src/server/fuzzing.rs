//! Doors for the fuzzer (`fuzz/`) to what reads requests. Nobody else comes in here.

use serde_json::Value;

use super::{
    body::{self, OBJECT_LIMIT, Syntax},
    pages,
    path::{self, Target},
    protobuf,
    query::Params,
};
use crate::{
    api::{App, Kind},
    client::Query,
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
