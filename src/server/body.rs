//! Request bodies, parsed from their bytes: clients send JSON without a content type, empty JSON, YAML and protobuf.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::api::{FieldPath, Reason, Status};

/// The largest body of a request about one object, as in kube-apiserver.
pub(super) const OBJECT_LIMIT: usize = 3 * 1024 * 1024;
/// The largest transaction.
pub(super) const TRANSACTION_LIMIT: usize = 32 * 1024 * 1024;
/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the rest of a body that is too large is waited for.
const SWALLOWING: Duration = Duration::from_secs(5);

/// Reads a whole body.
///
/// # Errors
/// 413 if it is longer than `limit`, 400 if the client breaks off, 504 if it dawdles.
pub(super) async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, Status>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large =
        || Status::new(Reason::RequestEntityTooLarge, format!("Request entity too large: limit is {limit}"));
    if body.size_hint().lower() > limit as u64 {
        swallow(&mut body).await;
        return Err(too_large());
    }
    match tokio::time::timeout(PATIENCE, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            swallow(&mut body).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(Status::bad_request("the request's body broke off")),
        Err(_) => Err(Status::new(Reason::Timeout, "the request's body did not come in time")),
    }
}

/// Takes in what a client still sends, within bounds: many read no answer before they have sent everything, and take a
/// connection that is cut off under their hands for a failure of the network.
async fn swallow<B>(body: &mut B)
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await
            && taken < TRANSACTION_LIMIT
        {
            taken += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whoever dawdles is cut off.
    let _ = tokio::time::timeout(SWALLOWING, rest).await;
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

/// Parses a body. Nesting is bounded (128 levels), and so is what YAML aliases may expand to.
///
/// # Errors
/// 400 with the place of the mistake.
pub(super) fn parse(bytes: &[u8], syntax: Syntax) -> Result<Parsed, Status> {
    match (parse_json(bytes), syntax) {
        (Ok(parsed), _) => Ok(parsed),
        (Err(e), Syntax::Json) => Err(Status::bad_request(format!("the body is not valid JSON: {e}"))),
        (Err(_), Syntax::Yaml) => parse_yaml(bytes),
    }
}

fn parse_json(bytes: &[u8]) -> serde_json::Result<Parsed> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Checked { path: FieldPath::root(), duplicates: &mut duplicates }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Parsed { value, duplicates })
}

fn parse_yaml(bytes: &[u8]) -> Result<Parsed, Status> {
    let refused = |e: String| Status::bad_request(format!("the body is not valid YAML: {e}"));
    let text = std::str::from_utf8(bytes).map_err(|e| refused(e.to_string()))?;
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|e| refused(e.to_string()))?;
    if depth(&value) > 128 {
        return Err(refused("nested too deeply".to_owned()));
    }
    Ok(Parsed { value, duplicates: Vec::new() })
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Builds a `Value` and notes the keys that an object has twice, which serde_json forgets.
struct Checked<'a> {
    path: FieldPath,
    duplicates: &'a mut Vec<FieldPath>,
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
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) =
            items.next_element_seed(Checked { path: self.path.index(all.len()), duplicates: self.duplicates })?
        {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = self.path.field(&name);
            if all.contains_key(&name) && !self.duplicates.contains(&path) {
                self.duplicates.push(path.clone());
            }
            let value = fields.next_value_seed(Checked { path, duplicates: self.duplicates })?;
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicate_keys_are_noted_with_their_path() {
        let parsed = parse(br#"{"spec":{"a":1,"b":[{"x":1,"x":2}],"a":3}}"#, Syntax::Json).expect("valid");
        assert_eq!(parsed.value, json!({"spec": {"a": 3, "b": [{"x": 2}]}}));
        let paths: Vec<_> = parsed.duplicates.iter().map(FieldPath::as_str).collect();
        assert_eq!(paths, ["spec.b[0].x", "spec.a"]);
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(parse(deep.as_bytes(), Syntax::Json).is_err());
        assert!(parse(deep.as_bytes(), Syntax::Yaml).is_err());
    }

    #[test]
    fn yaml_is_read_with_its_words_as_words() {
        let parsed = parse(b"metadata:\n  labels: {on: yes}\n  n: 3\n", Syntax::Yaml).expect("valid");
        assert_eq!(parsed.value, json!({"metadata": {"labels": {"on": "yes"}, "n": 3}}));
        assert!(parse(b"a: 1\na: 2\n", Syntax::Yaml).is_err());
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_refused() {
        let body = http_body_util::Full::new(Bytes::from(vec![b' '; 11]));
        assert_eq!(read(body, 10).await.expect_err("too long").reason, Reason::RequestEntityTooLarge);
    }

    #[tokio::test]
    async fn what_comes_after_the_limit_is_taken_in_before_the_refusal() {
        let mut left = 20;
        let frames = futures::stream::poll_fn(|_| {
            left -= 1;
            let frame = hyper::body::Frame::data(Bytes::from_static(b"x"));
            std::task::Poll::Ready((left > 0).then_some(Ok::<_, std::io::Error>(frame)))
        });
        let refused = read(http_body_util::StreamBody::new(frames), 3).await.expect_err("too long");
        assert_eq!((refused.reason, left), (Reason::RequestEntityTooLarge, 0));
    }
}
