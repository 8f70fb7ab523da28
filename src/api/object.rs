//! `Object<K>`, and what one kind says of itself: [`KindInfo`] and the [`View`]s it is served as.

use std::{borrow::Cow, fmt, ops};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{FieldPath, Key, ObjectMeta, StoredObject, Uid, Violation};

/// A kind: the fields that objects of it have beside `apiVersion`, `kind` and `metadata`.
pub trait Kind:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// Everything the machinery needs to know. A `static` of the kind's file, so that there is one in the program: a constant
    /// would be built, with the code it names, by each crate that asks for it.
    const INFO: &'static KindInfo;
}

/// An object of kind `K`. Dereferences to `K`, so that `app.spec` reads as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Object<K> {
    /// Group and version, `appm.dev/v1` for our own kinds.
    #[serde(default)]
    pub api_version: String,
    /// The kind's name.
    #[serde(default)]
    pub kind: String,
    /// Name, labels and what the server keeps.
    pub metadata: ObjectMeta,
    /// The kind's own fields.
    #[serde(flatten)]
    pub body: K,
}

impl<K: Kind> Object<K> {
    /// A new object that is not stored yet.
    pub fn new(metadata: ObjectMeta, body: K) -> Self {
        Self { api_version: K::INFO.api_version(), kind: K::INFO.kind.to_owned(), metadata, body }
    }

    /// Reads an object leniently: unknown fields are ignored.
    ///
    /// # Errors
    /// When a known field has a value of another type.
    pub fn from_slice(json: &[u8]) -> serde_json::Result<Self> {
        // Twice over the text costs less than `flatten`, which first builds a tree.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope {
            #[serde(default)]
            api_version: String,
            #[serde(default)]
            kind: String,
            metadata: ObjectMeta,
        }
        let Envelope { api_version, kind, metadata } = serde_json::from_slice(json)?;
        Ok(Self { api_version, kind, metadata, body: serde_json::from_slice(json)? })
    }

    /// The JSON tree.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("kinds are plain data with text keys")
    }

    /// Its key in the store.
    pub fn key(&self) -> Key {
        Key::of::<K>(&self.metadata.namespace, &self.metadata.name)
    }

    /// The uid of a stored object; see [`ObjectMeta::uid`].
    pub fn uid(&self) -> &Uid {
        self.metadata.uid()
    }
}

impl<K> ops::Deref for Object<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.body
    }
}

impl<K> ops::DerefMut for Object<K> {
    fn deref_mut(&mut self) -> &mut K {
        &mut self.body
    }
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// Beside the namespaces.
    Cluster,
}

/// Which change log a kind's changes go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeLog {
    /// The long one: resume of watches over minutes to hours, and history.
    Main,
    /// The short one, of chatty kinds (Event, Lease), which must not push the others out.
    Short,
}

/// What may be done with a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbs {
    /// Everything.
    All,
    /// `get`, `list` and `watch`.
    ReadOnly,
    /// Reading and deleting: what is made or changed is made or changed in another form.
    ReadDelete,
    /// Nothing: it is not served at all.
    None,
}

impl Verbs {
    /// The words for discovery, sorted.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Verbs::All => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            Verbs::ReadOnly => &["get", "list", "watch"],
            Verbs::ReadDelete => &["delete", "deletecollection", "get", "list", "watch"],
            Verbs::None => &[],
        }
    }

    /// True if the verb is among them.
    pub fn allow(self, verb: &str) -> bool {
        self.words().contains(&verb)
    }
}

/// A part of an object that has a URL of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// `/status`: written by controllers only.
    Status,
    /// `/scale`: `autoscaling/v1` Scale.
    Scale,
    /// `/finalize`: a Namespace's `spec.finalizers`, written by whoever has emptied it.
    Finalize,
    /// `/log`: what the process wrote, as plain text.
    Log,
    /// `/processes`: who it consists of now.
    Processes,
    /// `/task`: work that is sent into what runs, and its result.
    Task,
    /// `/stdin`: what its process reads, sent while it runs.
    Stdin,
    /// `/artifacts`: files that it kept.
    Artifacts,
}

impl Subresource {
    /// The last step of its path.
    pub fn word(self) -> &'static str {
        match self {
            Subresource::Status => "status",
            Subresource::Scale => "scale",
            Subresource::Finalize => "finalize",
            Subresource::Log => "log",
            Subresource::Processes => "processes",
            Subresource::Task => "task",
            Subresource::Stdin => "stdin",
            Subresource::Artifacts => "artifacts",
        }
    }
}

/// What a kind says of itself. One `const` in the kind's file.
#[derive(Debug)]
pub struct KindInfo {
    /// The API group of the stored form; empty for the core group.
    pub group: &'static str,
    /// The version of the stored form.
    pub version: &'static str,
    /// CamelCase name.
    pub kind: &'static str,
    /// Lower-case plural: the name in URLs.
    pub plural: &'static str,
    /// Lower-case singular.
    pub singular: &'static str,
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// Discovery categories; `all` is what `get all` lists.
    pub categories: &'static [&'static str],
    /// Namespaced or not.
    pub scope: Scope,
    /// What clients may do.
    pub verbs: Verbs,
    /// Which subresources there are.
    pub subresources: &'static [Subresource],
    /// Which change log its changes go to.
    pub log: ChangeLog,
    /// True if its bodies are encrypted on disk.
    pub sealed: bool,
    /// Table columns beside NAME, which comes first, and AGE, which comes before the wide ones.
    pub columns: &'static [Column],
    /// What field selectors may ask for.
    pub fields: &'static [SelectableField],
    /// Other groups and versions under which the same objects are served.
    pub views: &'static [View],
    /// The JSON Schema of the stored form.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Brings what clients may write in several ways into the one way in which it is stored (a Secret's `stringData`,
    /// times). Called on every body, in the stored form, before it is merged; adds nothing that the client did not say.
    pub normalize: fn(&mut Value),
    /// Puts in the defaults that are stored, where Kubernetes stores them (a Secret's `type`). Called on the whole object
    /// before it is judged. An applied object does not own them.
    pub defaults: fn(&mut Value),
    /// What the schema cannot say: rules between fields, and against the old object. Called with schema-valid JSON. Says nothing of
    /// `status`, which only programs write: a write of that alone is not judged by it.
    pub check: fn(new: &Value, old: Option<&Value>) -> Vec<Violation>,
    /// The objects of the same kind and namespace that this one waits for, by name, each with the field that says so.
    /// Admission lets no circle of them come about. Called with schema-valid JSON.
    pub waits_for: fn(&Value) -> Vec<(FieldPath, String)>,
    /// Decodes the stored form into an `Object` of this kind, leniently; with its metadata, where that was read before.
    pub decode: fn(&[u8], Option<&ObjectMeta>) -> serde_json::Result<Decoded>,
}

impl KindInfo {
    /// What most kinds are: namespaced, in appm's own group, written by clients, shown by name and age, without rules beyond their
    /// schema. The others say what is different.
    #[must_use]
    pub const fn of<K: Kind>(kind: &'static str, plural: &'static str, singular: &'static str) -> Self {
        Self {
            group: super::GROUP,
            version: super::VERSION,
            kind,
            plural,
            singular,
            short_names: &[],
            categories: &[],
            scope: Scope::Namespaced,
            verbs: Verbs::All,
            subresources: &[],
            log: ChangeLog::Main,
            sealed: false,
            columns: &[],
            fields: &[],
            views: &[],
            schema: schema_of::<K>,
            normalize: as_written,
            defaults: as_written,
            check: no_check,
            waits_for: for_nobody,
            decode: decode_as::<K>,
        }
    }
}

impl PartialEq for KindInfo {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.group, self.kind) == (other.group, other.kind)
    }
}

impl Eq for KindInfo {}

impl PartialOrd for KindInfo {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KindInfo {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if std::ptr::eq(self, other) {
            return std::cmp::Ordering::Equal;
        }
        (self.group, self.kind).cmp(&(other.group, other.kind))
    }
}

impl std::hash::Hash for KindInfo {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.group, self.kind).hash(state);
    }
}

impl KindInfo {
    /// `group/version`, or the bare version for the core group.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// `plural.group`, or the bare plural for the core group: how messages name a resource.
    pub fn qualified(&self) -> Cow<'static, str> {
        qualified(self.plural, self.group)
    }

    /// True for kinds that are Kubernetes' own: clients know them, and send them what they send to Kubernetes (strategic merge
    /// patches, unknown fields, protobuf).
    pub fn is_kubernetes_own(&self) -> bool {
        self.group != super::GROUP
    }

    /// True for namespaced kinds.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// True if the stored form has that subresource.
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }

    /// The kind in its stored form.
    pub fn stored_form(&'static self) -> Served {
        Served { kind: self, view: None }
    }

    /// Everything this kind is served as: its stored form first, then its other views.
    pub fn served(&'static self) -> impl Iterator<Item = Served> {
        std::iter::once(self.stored_form())
            .chain(self.views.iter().map(move |view| Served { kind: self, view: Some(view) }))
    }
}

/// `group/version`, or the bare version for the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn qualified(plural: &'static str, group: &str) -> Cow<'static, str> {
    if group.is_empty() { plural.into() } else { format!("{plural}.{group}").into() }
}

/// The same objects under another group, version or kind.
#[derive(Debug)]
pub struct View {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// CamelCase name.
    pub kind: &'static str,
    /// Name in URLs.
    pub plural: &'static str,
    /// Lower-case singular.
    pub singular: &'static str,
    /// Short names.
    pub short_names: &'static [&'static str],
    /// Discovery categories; `all` is what `get all` lists.
    pub categories: &'static [&'static str],
    /// What clients may do.
    pub verbs: Verbs,
    /// Which subresources there are.
    pub subresources: &'static [Subresource],
    /// Table columns, with cells made from this form; `None`: those of the kind.
    pub columns: Option<&'static [Column]>,
    /// What field selectors may ask for, beside what the stored form has.
    pub fields: &'static [SelectableField],
    /// A field selector that every list and watch implies; empty: all objects are shown.
    pub only: &'static str,
    /// True if it shows what is measured: agents look anew before it is read.
    pub measured: bool,
    /// Stored form to this form. Pure.
    pub project: fn(&Value) -> Value,
    /// This form to the stored form, where clients may write.
    pub lift: Option<fn(&Value) -> Value>,
    /// What is wrong with an object, in its stored form, that is written as this view, beyond the kind's own `check`.
    pub check: fn(new: &Value, old: Option<&Value>) -> Vec<Violation>,
    /// The JSON Schema of this form.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// One thing that the API serves: a kind in its stored form, or in one of its views.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The kind.
    pub kind: &'static KindInfo,
    /// The view, if it is not the stored form.
    pub view: Option<&'static View>,
}

impl Served {
    /// API group.
    pub fn group(&self) -> &'static str {
        self.view.map_or(self.kind.group, |v| v.group)
    }

    /// API version.
    pub fn version(&self) -> &'static str {
        self.view.map_or(self.kind.version, |v| v.version)
    }

    /// CamelCase name.
    pub fn name(&self) -> &'static str {
        self.view.map_or(self.kind.kind, |v| v.kind)
    }

    /// Name in URLs.
    pub fn plural(&self) -> &'static str {
        self.view.map_or(self.kind.plural, |v| v.plural)
    }

    /// Lower-case singular.
    pub fn singular(&self) -> &'static str {
        self.view.map_or(self.kind.singular, |v| v.singular)
    }

    /// Short names.
    pub fn short_names(&self) -> &'static [&'static str] {
        self.view.map_or(self.kind.short_names, |v| v.short_names)
    }

    /// What clients may do.
    pub fn verbs(&self) -> Verbs {
        self.view.map_or(self.kind.verbs, |v| v.verbs)
    }

    /// Discovery categories.
    pub fn categories(&self) -> &'static [&'static str] {
        self.view.map_or(self.kind.categories, |v| v.categories)
    }

    /// True if this form has that subresource.
    pub fn has(&self, subresource: Subresource) -> bool {
        self.view.map_or(self.kind.subresources, |v| v.subresources).contains(&subresource)
    }

    /// True if versions of it are remembered: what was can be read.
    pub fn has_history(&self) -> bool {
        self.kind.log == ChangeLog::Main && self.verbs().allow("update")
    }

    /// Table columns: for a view with columns of its own their cells are made from this form, else from the stored one.
    pub fn columns(&self) -> &'static [Column] {
        self.view.and_then(|v| v.columns).unwrap_or(self.kind.columns)
    }

    /// What field selectors may ask for, of this name.
    pub fn field(&self, label: &str) -> Option<&'static SelectableField> {
        let own = self.view.map_or(&[][..], |v| v.fields);
        own.iter().chain(self.kind.fields).find(|field| field.label == label)
    }

    /// `plural.group`, or the bare plural for the core group: how messages name a resource.
    pub fn qualified(&self) -> Cow<'static, str> {
        qualified(self.plural(), self.group())
    }

    /// `group/version`.
    pub fn api_version(&self) -> String {
        api_version(self.group(), self.version())
    }

    /// True if an update need not name the `resourceVersion` that it replaces: so it is in Kubernetes for its own
    /// kinds but Lease, and not for custom resources.
    pub fn updates_unconditionally(&self) -> bool {
        !matches!(self.group(), super::GROUP | "coordination.k8s.io")
    }

    /// The JSON Schema of this form.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        self.view.map_or(self.kind.schema, |v| v.schema)(generator)
    }
}

/// One column of `get`.
#[derive(Debug)]
pub struct Column {
    /// The heading, as `kubectl` prints it in upper case.
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub data_type: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Shown by `-o wide` only.
    pub wide: bool,
    /// The cell of an object.
    pub cell: fn(&Value, now: Timestamp) -> Value,
}

/// A field that field selectors may ask for, beside `metadata.name` and `metadata.namespace`, which every kind has.
pub struct SelectableField {
    /// Its name in selectors.
    pub label: &'static str,
    /// Its value; `None` if the object cannot be read, which counts as empty.
    pub value: fn(&StoredObject) -> Option<String>,
}

impl PartialEq for SelectableField {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label
    }
}

impl Eq for SelectableField {}

impl fmt::Debug for SelectableField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label)
    }
}

/// The value at a path of field names, or null.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(object, |value, step| value.get(step)).unwrap_or(&Value::Null)
}

/// A kind's `schema` function.
fn schema_of<K: Kind>(generator: &mut SchemaGenerator) -> Schema {
    object_schema::<K>(generator)
}

/// The schema of an object with the fields of `T`, described by `T`'s own words.
pub(super) fn object_schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = <Object<T>>::json_schema(generator);
    if let Some(description) = T::json_schema(generator).get("description").cloned() {
        schema.insert("description".into(), description);
    }
    schema
}

/// An `Object` of some kind.
pub type Decoded = Box<dyn std::any::Any + Send + Sync>;

/// A kind's `decode` function.
fn decode_as<K: Kind>(json: &[u8], metadata: Option<&ObjectMeta>) -> serde_json::Result<Decoded> {
    Ok(Box::new(match metadata {
        None => Object::<K>::from_slice(json)?,
        Some(metadata) => Object::new(metadata.clone(), serde_json::from_slice::<K>(json)?),
    }))
}

/// A `normalize` or `defaults` for kinds that need none.
fn as_written(_: &mut Value) {}

/// A `waits_for` of kinds whose objects do not wait for each other.
fn for_nobody(_: &Value) -> Vec<(FieldPath, String)> {
    Vec::new()
}

/// A `check` that finds nothing, for kinds whose schema says everything.
pub(crate) fn no_check(_: &Value, _: Option<&Value>) -> Vec<Violation> {
    Vec::new()
}
