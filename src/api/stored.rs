//! The stored form of an object: ready-to-send bytes, and the typed value beside them.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, OnceLock, Weak},
};

use bytes::Bytes;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

use super::{App, Claim, Key, Kind, Object, ObjectMeta, Rev, Served, Sharing, View};

/// An object's JSON without its `resourceVersion`, which is known only when the store commits.
///
/// The text always begins with `{"apiVersion":…,"kind":…,"metadata":{`; the revision is spliced in right there, so
/// committing costs one copy and no second serialisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    json: Bytes,
    splice: usize,
}

const OPENING: &str = r#""metadata":{"#;

impl Body {
    /// Serialises an object, dropping `metadata.resourceVersion`. See [`Body::of`].
    ///
    /// # Panics
    /// As [`Body::of`].
    pub fn new(object: Value) -> Self {
        Self::of(&object)
    }

    /// Serialises an object, dropping `metadata.resourceVersion`.
    ///
    /// # Panics
    /// If `object` is no JSON object.
    pub fn of(object: &Value) -> Self {
        Self::with_managers(object, None)
    }

    /// As [`Body::of`], with `managers` for `metadata.managedFields` if there are any: as a tree they would be half of the object.
    ///
    /// # Panics
    /// As [`Body::of`].
    pub fn with_managers(object: &Value, managers: Option<&RawValue>) -> Self {
        let map = object.as_object().expect("an API object is a JSON object");
        let mut json =
            format!(r#"{{"apiVersion":{},"kind":{},{OPENING}"#, object["apiVersion"], object["kind"]).into_bytes();
        let splice = json.len();
        let metadata = map.get("metadata").and_then(Value::as_object).into_iter().flatten();
        let written = |name: &str| name != "resourceVersion" && (name != "managedFields" || managers.is_none());
        write_fields(&mut json, metadata.filter(|(name, _)| written(name)));
        if let Some(managers) = managers {
            json.extend_from_slice(if json.len() == splice { b"" } else { b"," });
            json.extend_from_slice(br#""managedFields":"#);
            json.extend_from_slice(managers.get().as_bytes());
        }
        json.push(b'}');
        let rest = map.iter().filter(|(name, _)| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
        let before = json.len();
        json.push(b',');
        write_fields(&mut json, rest);
        if json.len() == before + 1 {
            json.pop();
        }
        json.push(b'}');
        Self { json: json.into(), splice }
    }

    /// Takes JSON that [`Body::json`] gave out, back from disk.
    ///
    /// # Errors
    /// When the text does not have the shape that `new` writes.
    pub fn from_json(json: Bytes) -> Result<Self, MalformedBody> {
        let found = json.windows(OPENING.len()).position(|w| w == OPENING.as_bytes());
        match found {
            Some(at) if json.ends_with(b"}") => Ok(Self { splice: at + OPENING.len(), json }),
            _ => Err(MalformedBody),
        }
    }

    /// The JSON without a `resourceVersion`: what goes to disk.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The JSON as clients get it at `revision`.
    pub fn at(&self, revision: Rev) -> Bytes {
        let version = format!(r#""resourceVersion":"{revision}","#);
        let (head, tail) = self.json.split_at(self.splice);
        let mut out = Vec::with_capacity(self.json.len() + version.len());
        out.extend_from_slice(head);
        out.extend_from_slice(version.as_bytes());
        out.extend_from_slice(tail);
        out.into()
    }
}

/// Fields as they stand in an object, without its braces.
fn write_fields<'a>(json: &mut Vec<u8>, fields: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut wrote = false;
    for (name, value) in fields {
        if std::mem::replace(&mut wrote, true) {
            json.push(b',');
        }
        serde_json::to_writer(&mut *json, name).expect("memory takes everything");
        json.push(b':');
        serde_json::to_writer(&mut *json, value).expect("memory takes everything");
    }
}

/// JSON on disk that is not an object's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored body is not an API object")]
pub struct MalformedBody;

/// One version of an object, immutable, shared by everybody who reads it.
pub struct StoredObject {
    /// Its key.
    pub key: Key,
    /// The revision of this version.
    pub revision: Rev,
    /// The whole JSON, `resourceVersion` included: ready to send.
    pub json: Bytes,
    meta: ObjectMeta,
    claim: Option<Box<Claim>>,
    /// Of an App, once somebody has asked.
    sharing: OnceLock<Sharing>,
    /// Shared as long as anybody holds it: at rest nobody does, and a thousand decoded objects would weigh more than
    /// all their JSON.
    typed: Mutex<Weak<dyn Any + Send + Sync>>,
    /// The bytes of each view of the kind, made when somebody first asks for that view.
    views: OnceLock<Box<[OnceLock<Bytes>]>>,
}

impl StoredObject {
    /// The version of `key` at `revision`.
    ///
    /// # Errors
    /// When the body's metadata cannot be read.
    pub fn new(key: Key, revision: Rev, body: &Body) -> serde_json::Result<Self> {
        #[derive(serde::Deserialize)]
        struct Envelope {
            metadata: ObjectMeta,
        }
        let json = body.at(revision);
        let Envelope { metadata } = serde_json::from_slice(&json)?;
        let claim = Claim::of(key.kind, &json).map(Box::new);
        let (meta, typed, views) = (metadata, Mutex::new(Weak::<()>::new() as Weak<_>), OnceLock::new());
        Ok(Self { key, revision, json, meta, claim, sharing: OnceLock::new(), typed, views })
    }

    /// The metadata, without `managedFields`.
    pub fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// What it asks of the machine, if it is an Instance.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_deref()
    }

    /// What an App's `spec.sharing` says, read once; of anything else that nothing is shared.
    pub fn sharing(&self) -> Sharing {
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Shared {
            spec: Spec,
        }
        #[derive(Default, serde::Deserialize)]
        #[serde(default)]
        struct Spec {
            sharing: Sharing,
        }
        if self.key.kind != App::INFO {
            return Sharing::default();
        }
        *self.sharing.get_or_init(|| serde_json::from_slice::<Shared>(&self.json).unwrap_or_default().spec.sharing)
    }

    /// The body again, as it stands on disk: without the revision.
    pub fn body(&self) -> Body {
        let opening = self.json.windows(OPENING.len()).position(|w| w == OPENING.as_bytes());
        let splice = opening.expect("the JSON was made by `Body::at`") + OPENING.len();
        let version = format!(r#""resourceVersion":"{}","#, self.revision).len();
        let mut json = Vec::with_capacity(self.json.len() - version);
        json.extend_from_slice(&self.json[..splice]);
        json.extend_from_slice(&self.json[splice + version..]);
        Body { json: json.into(), splice }
    }

    /// The typed value, decoded once for all who hold it at the same time; `None` if it cannot be decoded as `K` (written
    /// by another version of appm, say).
    pub fn typed<K: Kind>(&self) -> Option<Arc<Object<K>>> {
        let mut shared = self.typed.lock().expect("nobody panics while decoding");
        if let Some(typed) = shared.upgrade() {
            return typed.downcast().ok();
        }
        let typed: Arc<dyn Any + Send + Sync> = Arc::from((self.key.kind.decode)(&self.json, Some(&self.meta)).ok()?);
        *shared = Arc::downgrade(&typed);
        typed.downcast().ok()
    }

    /// Gives back the room of a typed value that nobody holds any more: who remembers it weakly keeps it.
    pub fn rest(&self) {
        let mut shared = self.typed.lock().expect("nobody panics while decoding");
        if shared.strong_count() == 0 {
            *shared = Weak::<()>::new() as Weak<_>;
        }
    }

    /// The bytes of one of the kind's views, made once for all readers.
    pub fn projected(&self, view: &'static View) -> Bytes {
        let all = self.key.kind.views;
        let make = || (view.project)(&self.value()).to_string().into();
        let views = self.views.get_or_init(|| all.iter().map(|_| OnceLock::new()).collect());
        let place = all.iter().position(|v| (v.group, v.version, v.plural) == (view.group, view.version, view.plural));
        place.map_or_else(make, |place| views[place].get_or_init(make).clone())
    }

    /// The bytes in the form that is served.
    pub fn served_as(&self, served: Served) -> Bytes {
        served.view.map_or_else(|| self.json.clone(), |view| self.projected(view))
    }

    /// The JSON tree, parsed anew.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("the store holds valid JSON")
    }

    /// The JSON tree without `metadata.managedFields`, parsed anew, and those as text: half of most objects, which admission alone
    /// judges.
    pub fn split(&self) -> (Value, Option<Box<RawValue>>) {
        let mut managers = None;
        let mut reader = serde_json::Deserializer::from_slice(&self.json);
        let map = reader.deserialize_map(Fields { managers: &mut managers, of_metadata: false });
        (Value::Object(map.expect("the store holds valid JSON")), managers)
    }
}

/// Reads an object, or its metadata, and puts the managers aside.
struct Fields<'m> {
    managers: &'m mut Option<Box<RawValue>>,
    of_metadata: bool,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an API object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<String, Value>, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "metadata" if !self.of_metadata => {
                    let metadata = map.next_value_seed(Fields { managers: &mut *self.managers, of_metadata: true })?;
                    fields.insert(name, Value::Object(metadata));
                }
                "managedFields" if self.of_metadata => *self.managers = Some(map.next_value()?),
                _ => drop(fields.insert(name, map.next_value()?)),
            }
        }
        Ok(fields)
    }
}

impl<'de> de::DeserializeSeed<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Map<String, Value>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl fmt::Debug for StoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} @{}", self.key, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_revision_is_spliced_in_and_left_out_on_disk() {
        let object = json!({
            "kind": "Namespace", "apiVersion": "v1", "spec": {"a": 1},
            "metadata": {"name": "x", "resourceVersion": "3", "uid": "u"},
        });
        let body = Body::new(object);
        let read: Value = serde_json::from_slice(&body.at(Rev(9))).expect("valid");
        assert_eq!(read["metadata"]["resourceVersion"], "9");
        assert_eq!(read["spec"]["a"], 1);
        assert!(!String::from_utf8_lossy(body.json()).contains("resourceVersion"));
        assert_eq!(Body::from_json(body.json().clone()), Ok(body));
    }

    #[test]
    fn a_decoded_value_is_kept_while_somebody_holds_it_and_leaves_no_room_behind() {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "uid": "u"}});
        let key = Key::of::<crate::api::Namespace>("", "x");
        let stored = StoredObject::new(key, Rev(2), &Body::new(object)).expect("valid");
        let held = stored.typed::<crate::api::Namespace>().expect("it can be decoded");
        stored.rest();
        let again = stored.typed::<crate::api::Namespace>().expect("it can be decoded");
        assert!(Arc::ptr_eq(&held, &again));
        drop((held, again));
        stored.rest();
        // One that was never made points to nothing, which no other does.
        let nothing = Weak::<()>::new() as Weak<dyn Any + Send + Sync>;
        assert!(stored.typed.lock().expect("nobody panics while decoding").ptr_eq(&nothing));
        assert!(stored.typed::<crate::api::Namespace>().is_some());
    }

    #[test]
    fn a_stored_object_gives_its_body_back() {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "uid": "u"}});
        let body = Body::new(object);
        let stored = StoredObject::new(Key::of::<crate::api::Namespace>("", "x"), Rev(12345), &body).expect("valid");
        assert_eq!(stored.body(), body);
    }

    #[test]
    fn managers_are_put_aside_and_written_back_as_they_were() {
        let managed = json!([{"manager": "a", "fieldsV1": {"f:spec": {}}}]);
        for metadata in [json!({"name": "x", "managedFields": managed}), json!({"managedFields": managed})] {
            let object =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata, "spec": {"managedFields": 1}});
            let stored = StoredObject::new(Key::of::<crate::api::Namespace>("", "x"), Rev(2), &Body::of(&object));
            let (rest, managers) = stored.expect("valid").split();
            assert!(rest["metadata"].get("managedFields").is_none());
            assert_eq!(rest["spec"]["managedFields"], 1);
            let again = Body::with_managers(&rest, managers.as_deref());
            assert_eq!(serde_json::from_slice::<Value>(again.json()).expect("valid"), object);
        }
    }

    #[test]
    fn an_object_of_metadata_only_is_valid_json() {
        let body = Body::new(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}));
        let read: Value = serde_json::from_slice(&body.at(Rev(1))).expect("valid");
        assert_eq!(read["metadata"], json!({"resourceVersion": "1", "name": "x"}));
    }
}
