//! Request bodies, parsed from their bytes: clients send JSON without a content type, empty JSON, YAML and protobuf.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::bounds::{Taken, Turnstile};
use crate::{
    api::{FieldPath, Reason, Status, TRANSACTION_LIMIT},
    broker::Payload,
    policy::json_patch::MAX_DEPTH,
};

/// The largest body of a request about one object, as in kube-apiserver.
pub(super) const OBJECT_LIMIT: usize = 3 * 1024 * 1024;
/// The longest body that is taken in though its request was refused at the sight of its head, as in Go's server.
const UNREAD_LIMIT: usize = 256 * 1024;
/// How long the rest of a body that is too large is waited for.
const SWALLOWING: Duration = Duration::from_secs(5);

/// Reads a whole body, and takes room for it.
///
/// # Errors
/// 413 if it is longer than `limit`, 429 if there is no room, 400 if the client breaks off, 504 if it dawdles.
pub(super) async fn read<B>(body: B, limit: usize, turnstile: &Turnstile) -> Result<(Bytes, Taken), Status>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (whole, taken) = take_in(body, limit, turnstile).await?;
    Ok((whole.to_bytes(), taken))
}

/// Reads a body in the pieces in which it comes, and takes room for it for as long as it is held.
///
/// # Errors
/// As [`read`].
pub(super) async fn payload<B>(body: B, limit: usize, turnstile: &Turnstile) -> Result<Payload, Status>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (whole, taken) = take_in(body, limit, turnstile).await?;
    Ok(whole.holding(taken))
}

/// A body that comes in time, and room for it.
async fn take_in<B>(mut body: B, limit: usize, turnstile: &Turnstile) -> Result<(Payload, Taken), Status>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let patience = turnstile.bounds().body;
    let Ok(read) = tokio::time::timeout(patience, pieces(&mut body, limit, turnstile)).await else {
        return Err(Status::new(Reason::Timeout, "the request's body did not come in time"));
    };
    if read.is_err() {
        swallow(&mut body, TRANSACTION_LIMIT).await;
    }
    read
}

async fn pieces<B>(body: &mut B, limit: usize, turnstile: &Turnstile) -> Result<(Payload, Taken), Status>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || Status::too_large(format!("Request entity too large: limit is {limit}"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let (mut whole, mut taken) = (Payload::default(), Taken::default());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Status::bad_request("the request's body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(too_large());
        }
        turnstile.room(&mut taken, data.len())?;
        whole.push(data);
    }
    Ok((whole, taken))
}

/// Takes in what a client still sends, at most `limit` bytes: many read no answer before they have sent everything, and
/// take a connection that is cut off under their hands for a failure of the network.
async fn swallow<B>(body: &mut B, limit: usize)
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut taken = 0;
        while taken < limit
            && let Some(Ok(frame)) = body.frame().await
        {
            taken += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whoever dawdles is cut off.
    let _ = tokio::time::timeout(SWALLOWING, rest).await;
}

/// The body of a request while the request is worked on. What nobody has read by then goes back to the connection.
pub(super) struct Lent {
    body: Option<Incoming>,
    back: Option<oneshot::Sender<(Incoming, usize)>>,
    /// How much of it is taken in if it is refused.
    unread: usize,
}

/// What comes back of a body, and how much of it is taken in.
pub(super) struct Rest(oneshot::Receiver<(Incoming, usize)>);

impl Lent {
    pub(super) fn new(body: Incoming) -> (Lent, Rest) {
        let (back, rest) = oneshot::channel();
        (Lent { body: Some(body), back: Some(back), unread: UNREAD_LIMIT }, Rest(rest))
    }

    /// Who sends it is known: more of it is taken in, should it be refused, so that they read why.
    pub(super) fn is_of_somebody(&mut self) {
        self.unread = TRANSACTION_LIMIT;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take().filter(|body| !body.is_end_stream()), self.back.take()) {
            // The connection may be gone.
            let _ = back.send((body, self.unread));
        }
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Rest {
    /// Takes in the rest of a body that was refused unread, so that the connection can be used again. False if there is
    /// more than is worth it.
    pub(super) async fn swallowed(mut self) -> bool {
        let Ok((mut body, limit)) = self.0.try_recv() else { return true };
        if body.size_hint().lower() <= limit as u64 {
            swallow(&mut body, limit).await;
        }
        body.is_end_stream()
    }
}

/// A parsed body.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    /// The value; of a key that is there twice, the last one.
    pub value: Value,
    /// The paths of keys that were there twice.
    pub duplicates: Vec<FieldPath>,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// JSON.
    Json,
    /// YAML, of which JSON is a part.
    Yaml,
}

/// Most values and keys in a body about one object; a transaction may have ten times as many. A value takes 20 to 100 bytes of
/// memory where it takes two in the text, so the text's length alone would bound nothing.
pub(super) const MOST_VALUES: usize = 250_000;
/// A text counts as one value more for every so many bytes: YAML's aliases repeat long ones in few.
const TEXT_AS_VALUE: usize = 64;
/// Doubled keys that are told.
const MOST_REPEATED: usize = 100;

/// Parses a body of at most `limit` bytes. Nesting is bounded (100 levels, 64 in YAML), and so are the number of values and
/// what YAML's aliases may expand to.
///
/// # Errors
/// 400 with the place of the mistake, 413 for too many values.
pub(super) fn parse(bytes: &[u8], syntax: Syntax, limit: usize) -> Result<Parsed, Status> {
    let most = MOST_VALUES * limit.div_ceil(OBJECT_LIMIT).min(10);
    match (parse_json(bytes, most), syntax) {
        (Ok(parsed), _) => Ok(parsed),
        (Err(Failure::TooMany), _) => Err(too_many(most)),
        (Err(Failure::Syntax(e)), Syntax::Json) => Err(Status::bad_request(format!("the body is not valid JSON: {e}"))),
        (Err(_), Syntax::Yaml) => parse_yaml(bytes, most),
    }
}

enum Failure {
    TooMany,
    Syntax(String),
}

fn too_many(most: usize) -> Status {
    Status::too_large(format!("Request entity too large: the body has more than {most} values"))
}

fn parse_json(bytes: &[u8], most: usize) -> Result<Parsed, Failure> {
    let mut notes = Notes { repeated: Vec::new(), left: most };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Checked { at: &Trail::Root, depth: 0, notes: &mut notes }.deserialize(&mut deserializer);
    match read.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(Parsed { value, duplicates: notes.repeated }),
        Err(_) if notes.left == 0 => Err(Failure::TooMany),
        Err(e) => Err(Failure::Syntax(e.to_string())),
    }
}

fn parse_yaml(bytes: &[u8], most: usize) -> Result<Parsed, Status> {
    let refused = |e: String| Status::bad_request(format!("the body is not valid YAML: {e}"));
    let text = std::str::from_utf8(bytes).map_err(|e| refused(e.to_string()))?;
    let options = serde_saphyr::options! {
        strict_booleans: true,
        // What is wrong may stand beside a secret.
        with_snippet: false,
        // They are noted here, as in JSON.
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        budget: serde_saphyr::budget! { max_nodes: most, max_events: 4 * most },
    };
    let mut notes = Notes { repeated: Vec::new(), left: most };
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Checked { at: &Trail::Root, depth: 0, notes: &mut notes }.deserialize(deserializer)
    });
    match read {
        Ok(value) => Ok(Parsed { value, duplicates: notes.repeated }),
        Err(_) if notes.left == 0 => Err(too_many(most)),
        Err(e) => Err(refused(e.to_string())),
    }
}

/// What is noted while a body is read.
struct Notes {
    /// Keys that an object has twice, which serde_json forgets.
    repeated: Vec<FieldPath>,
    /// How many values may still come.
    left: usize,
}

/// Where the reader is. The path is written out only where something is to be said of it: to do so for each value would
/// copy a long key as often as it has children.
enum Trail<'a> {
    Root,
    Field(&'a Trail<'a>, &'a str),
    Item(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    fn path(&self) -> FieldPath {
        match self {
            Trail::Root => FieldPath::root(),
            Trail::Field(above, name) => above.path().field(name),
            Trail::Item(above, at) => above.path().index(*at),
        }
    }
}

/// Builds a `Value`, and takes notes.
struct Checked<'a> {
    at: &'a Trail<'a>,
    depth: usize,
    notes: &'a mut Notes,
}

impl Checked<'_> {
    fn count<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.notes.left = self.notes.left.saturating_sub(1 + bytes / TEXT_AS_VALUE);
        if self.notes.left == 0 { Err(E::custom("too many values")) } else { Ok(()) }
    }

    fn container<E: Error>(&mut self) -> Result<(), E> {
        self.count(0)?;
        if self.depth < MAX_DEPTH { Ok(()) } else { Err(E::custom("nested too deeply")) }
    }

    fn scalar<E: Error>(mut self, value: impl Into<Value>) -> Result<Value, E> {
        self.count(0)?;
        Ok(value.into())
    }

    fn text<E: Error>(mut self, text: String) -> Result<Value, E> {
        self.count(text.len())?;
        Ok(text.into())
    }
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.scalar(())
    }
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.scalar(())
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        self.scalar(v)
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        self.scalar(v)
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        self.scalar(v)
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        self.scalar(v)
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        self.text(v.to_owned())
    }
    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        self.text(v)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        self.container()?;
        let mut all = Vec::new();
        while let Some(item) = items.next_element_seed(Checked {
            at: &Trail::Item(self.at, all.len()),
            depth: self.depth + 1,
            notes: self.notes,
        })? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Value, A::Error> {
        self.container()?;
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.count(name.len())?;
            let trail = Trail::Field(self.at, &name);
            if all.contains_key(&name) && self.notes.repeated.len() < MOST_REPEATED {
                let path = trail.path();
                if !self.notes.repeated.contains(&path) {
                    self.notes.repeated.push(path);
                }
            }
            let value = fields.next_value_seed(Checked { at: &trail, depth: self.depth + 1, notes: self.notes })?;
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::Bounds;

    fn turnstile() -> Turnstile {
        Turnstile::new(Bounds::default(), std::sync::Arc::new(crate::clock::System))
    }

    #[test]
    fn duplicate_keys_are_noted_with_their_path() {
        let parsed =
            parse(br#"{"spec":{"a":1,"b":[{"x":1,"x":2}],"a":3}}"#, Syntax::Json, OBJECT_LIMIT).expect("valid");
        assert_eq!(parsed.value, json!({"spec": {"a": 3, "b": [{"x": 2}]}}));
        let paths: Vec<_> = parsed.duplicates.iter().map(FieldPath::as_str).collect();
        assert_eq!(paths, ["spec.b[0].x", "spec.a"]);
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes(), Syntax::Json, OBJECT_LIMIT).is_err());
        assert!(parse(deep.as_bytes(), Syntax::Yaml, OBJECT_LIMIT).is_err());
    }

    #[test]
    fn yaml_is_read_with_its_words_as_words() {
        let parsed = parse(b"metadata:\n  labels: {on: yes}\n  n: 3\n", Syntax::Yaml, OBJECT_LIMIT).expect("valid");
        assert_eq!(parsed.value, json!({"metadata": {"labels": {"on": "yes"}, "n": 3}}));
        let twice = parse(b"spec: {a: 1, a: 2}\n", Syntax::Yaml, OBJECT_LIMIT).expect("read as JSON would be");
        assert_eq!((twice.value, twice.duplicates), (json!({"spec": {"a": 2}}), vec![FieldPath::of("spec.a")]));
    }

    #[test]
    fn the_number_of_values_is_bounded() {
        let reason = |text: &str, syntax| parse(text.as_bytes(), syntax, OBJECT_LIMIT).expect_err("too many").reason;
        let list = format!("[{}0]", "0,".repeat(MOST_VALUES));
        assert_eq!(reason(&list, Syntax::Json), Reason::RequestEntityTooLarge);
        // Nine times nine aliases of nine aliases … expand to 9⁹ texts.
        let lines: Vec<String> =
            (1..9).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","))).collect();
        let laughs = format!("a0: &a0 [lol,lol,lol]\n{}", lines.concat());
        assert!(parse(laughs.as_bytes(), Syntax::Yaml, OBJECT_LIMIT).is_err());
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused() {
        let body = http_body_util::Full::new(Bytes::from(vec![b' '; 11]));
        assert_eq!(read(body, 10, &turnstile()).await.expect_err("too long").reason, Reason::RequestEntityTooLarge);
    }

    #[tokio::test]
    async fn what_comes_after_the_limit_is_taken_in_before_the_refusal() {
        let mut left = 20;
        let frames = futures::stream::poll_fn(|_| {
            left -= 1;
            let frame = hyper::body::Frame::data(Bytes::from_static(b"x"));
            std::task::Poll::Ready((left > 0).then_some(Ok::<_, std::io::Error>(frame)))
        });
        let refused = read(http_body_util::StreamBody::new(frames), 3, &turnstile()).await.expect_err("too long");
        assert_eq!((refused.reason, left), (Reason::RequestEntityTooLarge, 0));
    }
}
