//! What an attempt is given out of ConfigMaps and Secrets: which it needs, and what they say. Pure.
//!
//! As in a Pod: later sources of `envFrom` win over earlier ones and `env` over both; what is optional and not there sets
//! nothing; the values are taken as they are, never expanded. All that is missing is said at once.

use std::{collections::BTreeSet, sync::Arc};

use super::sources::Found;
use crate::{
    api::{ConfigMap, EnvFrom, FileSource, InstanceSpec, Key, KeyRef, Object, ObjectRef, Rev, Secret, SecretValue},
    drivers::StartFile,
};

/// The most that all files of an attempt may hold: they travel to the keeper in one frame.
const MOST: usize = 16 << 20;

/// What an attempt is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Variables of `envFrom`, in order: of those with the same name the last one counts.
    pub from: Vec<(String, SecretValue)>,
    /// Variables of `env` whose value stands elsewhere.
    pub vars: Vec<(String, SecretValue)>,
    pub files: Vec<StartFile>,
    /// The values among all these that come out of Secrets.
    pub secrets: Vec<SecretValue>,
}

impl Given {
    fn note(&mut self, source: Source<'_>, value: &SecretValue) {
        if matches!(source, Source::Secret(_)) && !self.secrets.contains(value) {
            self.secrets.push(value.clone());
        }
    }
}

/// Why an attempt cannot be given what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lack {
    /// Sentences for the manifest's author. They name fields, objects and entries, never values.
    pub sentences: Vec<String>,
    /// Where the lack may end, and the revision that was seen there.
    pub keys: Vec<(Key, Option<Rev>)>,
}

/// One reference: where it stands, and what it names.
#[derive(Debug, Clone)]
struct Reference<'a> {
    field: String,
    source: Source<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    ConfigMap(&'a str),
    Secret(&'a str),
}

impl Source<'_> {
    fn key(self, namespace: &str) -> Key {
        match self {
            Source::ConfigMap(name) => Key::of::<ConfigMap>(namespace, name),
            Source::Secret(name) => Key::of::<Secret>(namespace, name),
        }
    }
}

/// An object that was found.
enum Entries {
    ConfigMap(Arc<Object<ConfigMap>>),
    Secret(Arc<Object<Secret>>),
}

impl Entries {
    /// One entry; of a ConfigMap's binary ones only where bytes are wanted.
    fn get(&self, key: &str, with_binary: bool) -> Option<SecretValue> {
        match self {
            Entries::Secret(secret) => secret.data.get(key).cloned(),
            Entries::ConfigMap(map) => {
                let text = map.data.get(key).map(|text| SecretValue::of(text.as_bytes()));
                let bytes = || map.binary_data.get(key).map(|bytes| SecretValue::from_base64(bytes.clone()));
                text.or_else(|| if with_binary { bytes() } else { None })
            }
        }
    }

    fn texts(&self) -> Vec<(String, SecretValue)> {
        match self {
            Entries::Secret(secret) => secret.data.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            Entries::ConfigMap(map) => {
                map.data.iter().map(|(key, text)| (key.clone(), SecretValue::of(text.as_bytes()))).collect()
            }
        }
    }
}

/// The objects that the attempts of an Instance read.
pub(super) fn needs(namespace: &str, spec: &InstanceSpec) -> BTreeSet<Key> {
    let vars = spec.env.iter().filter_map(|var| var.value_from.as_ref());
    let vars = vars.filter_map(|from| entry(from.config_map_key_ref.as_ref(), from.secret_key_ref.as_ref()));
    let files = spec.files.iter().filter_map(entry_of_file);
    let whole = spec.env_from.iter().filter_map(whole).map(|(source, _)| source);
    let sources = vars.chain(files).map(|(source, _)| source).chain(whole);
    sources.map(|source| source.key(namespace)).collect()
}

fn entry<'a>(map: Option<&'a KeyRef>, secret: Option<&'a KeyRef>) -> Option<(Source<'a>, &'a KeyRef)> {
    let map = map.map(|of| (Source::ConfigMap(&of.name), of));
    map.or_else(|| secret.map(|of| (Source::Secret(&of.name), of)))
}

fn entry_of_file(file: &FileSource) -> Option<(Source<'_>, &KeyRef)> {
    entry(file.config_map_key_ref.as_ref(), file.secret_key_ref.as_ref())
}

fn whole(from: &EnvFrom) -> Option<(Source<'_>, &ObjectRef)> {
    let map = from.config_map_ref.as_ref().map(|of| (Source::ConfigMap(&of.name), of));
    map.or_else(|| from.secret_ref.as_ref().map(|of| (Source::Secret(&of.name), of)))
}

/// What an attempt is given, out of what was found.
pub(super) fn resolve(namespace: &str, spec: &InstanceSpec, found: &Found) -> Result<Given, Lack> {
    let mut desk = Desk { namespace, found, lack: Lack::default() };
    let mut given = Given::default();
    for from in &spec.env_from {
        let Some((source, of)) = whole(from) else { continue };
        let asked = Reference { field: "spec.envFrom".to_owned(), source };
        let texts = desk.object(&asked, of.optional == Some(true)).map(|entries| entries.texts());
        for (key, value) in texts.into_iter().flatten() {
            let name = format!("{}{key}", from.prefix);
            desk.check_text(&asked, &name, &value);
            given.note(source, &value);
            given.from.push((name, value));
        }
    }
    for var in &spec.env {
        let from = var.value_from.as_ref();
        let of = from.and_then(|from| entry(from.config_map_key_ref.as_ref(), from.secret_key_ref.as_ref()));
        let Some((source, of)) = of else { continue };
        let asked = Reference { field: format!("spec.env: `{}`", var.name), source };
        if let Some(value) = desk.entry(&asked, of, false) {
            desk.check_text(&asked, &var.name, &value);
            given.note(source, &value);
            given.vars.push((var.name.clone(), value));
        }
    }
    for file in &spec.files {
        let Some((source, of)) = entry_of_file(file) else { continue };
        let asked = Reference { field: format!("spec.files: `{}`", file.path), source };
        let secret = matches!(source, Source::Secret(_));
        let usual = if secret { 0o600 } else { 0o644 };
        let mode = file.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(usual);
        let Some(content) = desk.entry(&asked, of, true) else { continue };
        given.note(source, &content);
        given.files.push(StartFile { path: file.path.clone(), mode, content, secret });
    }
    let size: usize = given.files.iter().map(|file| file.content.base64_length() / 4 * 3).sum();
    if size > MOST {
        let sentence = format!("spec.files: they hold {size} bytes, and may hold {MOST} together");
        desk.lack.sentences.push(sentence);
    }
    if desk.lack.sentences.is_empty() { Ok(given) } else { Err(desk.lack) }
}

/// Where references are looked up, and what is missing is noted.
struct Desk<'a> {
    namespace: &'a str,
    found: &'a Found,
    lack: Lack,
}

impl Desk<'_> {
    fn object(&mut self, asked: &Reference<'_>, is_optional: bool) -> Option<Entries> {
        let key = asked.source.key(self.namespace);
        let stored = self.found.get(&key).and_then(Option::as_ref);
        let entries = stored.and_then(|object| match asked.source {
            Source::ConfigMap(_) => Some(Entries::ConfigMap(object.typed()?)),
            Source::Secret(_) => Some(Entries::Secret(object.typed()?)),
        });
        if entries.is_none() && !is_optional {
            self.lacks(asked, "there is no");
        }
        entries
    }

    fn entry(&mut self, asked: &Reference<'_>, of: &KeyRef, with_binary: bool) -> Option<SecretValue> {
        let is_optional = of.optional == Some(true);
        let value = self.object(asked, is_optional)?.get(&of.key, with_binary);
        if value.is_none() && !is_optional {
            self.lacks(asked, &format!("there is no `{}` in the", of.key));
        }
        value
    }

    /// A variable is text, and ends where a NUL is.
    fn check_text(&mut self, asked: &Reference<'_>, name: &str, value: &SecretValue) {
        let text = value.bytes().and_then(|bytes| String::from_utf8(bytes).ok());
        if text.is_none_or(|text| text.contains('\0')) {
            self.lacks(asked, &format!("`{name}` cannot be a variable: it is no text in the"));
        }
    }

    fn lacks(&mut self, Reference { field, source }: &Reference<'_>, what: &str) {
        let (kind, name) = match source {
            Source::ConfigMap(name) => ("ConfigMap", name),
            Source::Secret(name) => ("Secret", name),
        };
        self.lack.sentences.push(format!("{field}: {what} {kind} `{name}`"));
        let key = source.key(self.namespace);
        let known = self.found.get(&key).and_then(Option::as_ref).map(|object| object.revision);
        self.lack.keys.push((key, known));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{Body, Kind, StoredObject};

    fn stored<K: Kind>(name: &str, object: &Value) -> (Key, Option<Arc<StoredObject>>) {
        let mut all = json!({
            "apiVersion": "v1", "kind": K::INFO.kind, "metadata": {"name": name, "namespace": "shop", "uid": name},
        });
        all.as_object_mut().unwrap().extend(object.as_object().unwrap().clone());
        let key = Key::of::<K>("shop", name);
        (key.clone(), Some(Arc::new(StoredObject::new(key, Rev(7), &Body::new(all)).unwrap())))
    }

    fn resolved(spec: Value) -> Result<Given, Lack> {
        let mut all = json!({"nodeName": "host-a", "revision": "web-1", "process": {"command": ["a"]}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let spec: InstanceSpec = serde_json::from_value(all).unwrap();
        let there: Found = [
            stored::<ConfigMap>("web", &json!({"data": {"a": "1", "b": "2"}, "binaryData": {"bin": "AP8="}})),
            stored::<Secret>("db", &json!({"data": {"b": "Mw==", "raw": "/w=="}})),
        ]
        .into();
        let found = needs("shop", &spec).into_iter().map(|key| {
            let object = there.get(&key).cloned().flatten();
            (key, object)
        });
        resolve("shop", &spec, &found.collect())
    }

    fn told(vars: &[(String, SecretValue)]) -> String {
        let text = |value: &SecretValue| String::from_utf8(value.bytes().unwrap()).unwrap();
        vars.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn values_come_from_where_they_stand() {
        let given = resolved(json!({
            "envFrom": [{"configMapRef": {"name": "web"}, "prefix": "W_"}, {"secretRef": {"name": "no", "optional": true}}],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "a"}}},
                {"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "b"}}},
                {"name": "O", "valueFrom": {"secretKeyRef": {"name": "db", "key": "no", "optional": true}}},
                {"name": "V", "value": "plain"},
            ],
            "files": [
                {"path": "x", "configMapKeyRef": {"name": "web", "key": "bin"}},
                {"path": "y", "secretKeyRef": {"name": "db", "key": "raw"}},
                {"path": "z", "secretKeyRef": {"name": "db", "key": "raw"}, "mode": "0640"},
            ],
        }))
        .unwrap();
        assert_eq!(told(&given.from), "W_a=1 W_b=2");
        assert_eq!(told(&given.vars), "A=1 P=3");
        let files: Vec<_> = given.files.iter().map(|f| (f.path.as_str(), f.mode, f.content.bytes().unwrap())).collect();
        assert_eq!(files, [("x", 0o644, vec![0, 255]), ("y", 0o600, vec![255]), ("z", 0o640, vec![255])]);
    }

    #[test]
    fn all_that_is_missing_is_said_at_once_and_no_value() {
        let lack = resolved(json!({
            "envFrom": [{"secretRef": {"name": "none"}}, {"secretRef": {"name": "db"}}],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "a"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "bin"}}},
            ],
            "files": [{"path": "x", "secretKeyRef": {"name": "db", "key": "no"}}],
        }))
        .unwrap_err();
        insta::assert_snapshot!(lack.sentences.join("\n"), @r"
        spec.envFrom: there is no Secret `none`
        spec.envFrom: `raw` cannot be a variable: it is no text in the Secret `db`
        spec.env: `A`: there is no ConfigMap `none`
        spec.env: `B`: there is no `bin` in the ConfigMap `web`
        spec.files: `x`: there is no `no` in the Secret `db`
        ");
        assert_eq!(lack.keys[0], (Key::of::<Secret>("shop", "none"), None));
        assert_eq!(lack.keys[1], (Key::of::<Secret>("shop", "db"), Some(Rev(7))));
    }
}
