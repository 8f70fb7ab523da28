//! What clients do: operations, how they are written as requests, and how they are drawn by lot.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    content::{Fields, Key, State, object, place, revision},
    rules::{Change, Edit, Sent},
    selector::Selector,
};
use crate::harness::Dice;

/// One request, or several for the pages of one list.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Write {
        key: Key,
        change: Change,
        manager: String,
    },
    DeleteCollection {
        namespace: String,
        selector: Selector,
        manager: String,
    },
    /// All or nothing; each key at most once.
    Transaction {
        steps: Vec<(Key, Change)>,
        manager: String,
    },
    Get(Key),
    List {
        namespace: Option<String>,
        selector: Selector,
        limit: Option<u64>,
    },
}

/// A request as it goes over the wire.
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) media: &'static str,
    pub(super) body: String,
}

/// The path of a collection, of one namespace or of all.
pub(super) fn collection(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("/apis/appm.dev/v1/namespaces/{namespace}/apps"),
        None => "/apis/appm.dev/v1/apps".to_owned(),
    }
}

fn item(key: &Key) -> String {
    format!("{}/{}", collection(Some(&key.namespace)), key.name)
}

const JSON: &str = "application/json";

impl Op {
    /// The keys that may change.
    pub(super) fn keys(&self) -> Vec<&Key> {
        match self {
            Self::Write { key, .. } | Self::Get(key) => vec![key],
            Self::Transaction { steps, .. } => steps.iter().map(|(key, _)| key).collect(),
            Self::DeleteCollection { .. } | Self::List { .. } => Vec::new(),
        }
    }

    pub(super) fn request(&self) -> Request {
        match self {
            Self::Write { key, change, manager } => write(key, change, manager),
            Self::DeleteCollection { namespace, selector, manager } => {
                let query = selector.query();
                let path = format!("{}?fieldManager={manager}{query}", collection(Some(namespace)));
                Request { method: "DELETE", path, media: "", body: String::new() }
            }
            Self::Transaction { steps, manager } => {
                let operations: Vec<Value> = steps.iter().map(|(key, change)| operation(key, change)).collect();
                let body = json!({"fieldManager": manager, "operations": operations}).to_string();
                Request { method: "POST", path: "/apis/appm.dev/v1/transactions".to_owned(), media: JSON, body }
            }
            Self::Get(key) => Request { method: "GET", path: item(key), media: "", body: String::new() },
            Self::List { namespace, selector, limit } => {
                let limit = limit.map(|n| format!("&limit={n}")).unwrap_or_default();
                let path = format!("{}?{}{limit}", collection(namespace.as_deref()), selector.query());
                Request { method: "GET", path, media: "", body: String::new() }
            }
        }
    }
}

fn write(key: &Key, change: &Change, manager: &str) -> Request {
    let request = |method, path: String, media, body: Value| Request {
        method,
        path: format!("{path}{}fieldManager={manager}", if path.contains('?') { "&" } else { "?" }),
        media,
        body: body.to_string(),
    };
    match change {
        Change::Create(fields) => request("POST", collection(Some(&key.namespace)), JSON, object(key, fields)),
        Change::Put { .. } => request("PUT", item(key), JSON, whole(key, change)),
        Change::Edit { edits, tests, json_patch: true, .. } => {
            request("PATCH", item(key), "application/json-patch+json", json_patch(edits, tests))
        }
        Change::Edit { edits, status, .. } => {
            let path = if *status { format!("{}/status", item(key)) } else { item(key) };
            request("PATCH", path, "application/merge-patch+json", merge_patch(edits))
        }
        Change::Apply { force, .. } => {
            let path = format!("{}?force={force}", item(key));
            request("PATCH", path, "application/apply-patch+yaml", whole(key, change))
        }
        Change::Scale { replicas, version } => {
            let mut scale = json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": replicas},
                "metadata": {"name": key.name, "namespace": key.namespace},
            });
            versioned(&mut scale, *version, &None);
            request("PUT", format!("{}/scale", item(key)), JSON, scale)
        }
        Change::Delete { uid, version } => {
            let options =
                json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions(uid, *version)});
            request("DELETE", item(key), JSON, options)
        }
    }
}

fn preconditions(uid: &Option<String>, version: Option<u64>) -> Value {
    let mut asked = json!({});
    if let Some(uid) = uid {
        asked["uid"] = json!(uid);
    }
    if let Some(version) = version {
        asked["resourceVersion"] = json!(version.to_string());
    }
    asked
}

fn versioned(object: &mut Value, version: Option<u64>, uid: &Option<String>) {
    if let Some(version) = version {
        object["metadata"]["resourceVersion"] = json!(version.to_string());
    }
    if let Some(uid) = uid {
        object["metadata"]["uid"] = json!(uid);
    }
}

/// The object that a put or an apply sends.
fn whole(key: &Key, change: &Change) -> Value {
    match change {
        Change::Put { body: Some(Sent(body)), .. } => body.clone(),
        Change::Put { fields, version, uid, .. } => {
            let mut object = object(key, fields);
            versioned(&mut object, *version, uid);
            object
        }
        Change::Apply { fields, version, .. } => {
            let mut object = object(key, fields);
            versioned(&mut object, *version, &None);
            object
        }
        Change::Create(fields) => object(key, fields),
        _ => object(key, &Fields::new()),
    }
}

fn operation(key: &Key, change: &Change) -> Value {
    let object = whole(key, change);
    match change {
        Change::Create(_) => json!({"verb": "Create", "object": object}),
        Change::Apply { force, .. } => json!({"verb": "Apply", "object": object, "force": force}),
        Change::Delete { uid, version } => {
            json!({"verb": "Delete", "object": object, "preconditions": preconditions(uid, *version)})
        }
        _ => json!({"verb": "Update", "object": object}),
    }
}

fn merge_patch(edits: &[Edit]) -> Value {
    let mut patch = json!({});
    for edit in edits {
        match edit {
            Edit::Set(path, value) => *place(&mut patch, path) = value.clone(),
            Edit::Unset(path) => *place(&mut patch, path) = Value::Null,
            Edit::Env(items) => patch["spec"]["env"] = env(items),
            Edit::Finalizers(names) => patch["metadata"]["finalizers"] = json!(names),
        }
    }
    patch
}

fn json_patch(edits: &[Edit], tests: &[(String, Value)]) -> Value {
    let pointer = |path: &str| match path.split_once(':') {
        Some((kind, name)) => format!("/metadata/{kind}s/{}", name.replace('~', "~0").replace('/', "~1")),
        None => format!("/{}", path.replace('.', "/")),
    };
    let tests = tests.iter().map(|(path, value)| json!({"op": "test", "path": pointer(path), "value": value}));
    let edits = edits.iter().map(|edit| match edit {
        Edit::Set(path, value) => json!({"op": "add", "path": pointer(path), "value": value}),
        Edit::Unset(path) => json!({"op": "remove", "path": pointer(path)}),
        Edit::Env(items) => json!({"op": "add", "path": "/spec/env", "value": env(items)}),
        Edit::Finalizers(names) => json!({"op": "add", "path": "/metadata/finalizers", "value": names}),
    });
    tests.chain(edits).collect()
}

fn env(items: &[(String, String)]) -> Value {
    items.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// Draws the operations of one client.
pub(super) struct Lot {
    pub(super) dice: Dice,
    client: usize,
    count: u64,
    /// The last state of each key that this client has seen: right or stale.
    known: BTreeMap<Key, Value>,
}

/// The names that everybody fights over.
pub(super) fn keys() -> Vec<Key> {
    let name = |namespace: &str, name: &str| Key { namespace: namespace.to_owned(), name: name.to_owned() };
    ["default", "other"].iter().flat_map(|ns| ["a", "b", "c"].map(|n| name(ns, n))).collect()
}

const TEAMS: [&str; 3] = ["red", "blue", "green"];
const HOLD: &str = "model.test/hold";

impl Lot {
    pub(super) fn new(seed: u64, client: usize) -> Self {
        let dice = Dice::new(seed.wrapping_mul(1000).wrapping_add(client as u64));
        Self { dice, client, count: 0, known: BTreeMap::new() }
    }

    /// Remembers what an answer showed.
    pub(super) fn learn(&mut self, object: &Value) {
        if object["kind"] == "App" {
            self.known.insert(Key::of(object), object.clone());
        }
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.dice.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.dice.below(of.len() as u64) as usize].clone()
    }

    fn updater(&self) -> String {
        format!("client-{}", self.client)
    }

    /// Unlike any other write's.
    fn token(&mut self, manager: &str) -> (String, Value) {
        self.count += 1;
        (format!("annotation:model.test/{manager}"), json!(format!("{}-{}", self.client, self.count)))
    }

    fn env(&mut self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        for name in ["A", "B", "C"] {
            if self.one_in(2) {
                env.push((name.to_owned(), self.dice.below(4).to_string()));
            }
        }
        env
    }

    fn fields(&mut self, manager: &str) -> Fields {
        let mut fields = Fields::from([self.token(manager), ("spec.suspend".to_owned(), json!(true))]);
        let seconds = if self.one_in(8) { "2000" } else { "1000" };
        fields.insert("spec.process.command".to_owned(), json!(["sleep", seconds]));
        if self.one_in(2) {
            fields.insert("spec.replicas".to_owned(), json!(self.dice.below(3)));
        }
        if self.one_in(2) {
            fields.insert("label:team".to_owned(), json!(self.pick(&TEAMS)));
        }
        for (name, value) in self.env() {
            fields.insert(format!("env:{name}"), json!(true));
            fields.insert(format!("env:{name}.value"), json!(value));
        }
        if self.one_in(10) {
            fields.insert(format!("finalizer:{HOLD}"), json!(true));
        }
        fields
    }

    /// The revision that this client saw last of the object, perhaps.
    fn version(&mut self, key: &Key, one_in: u64) -> Option<u64> {
        let seen = self.known.get(key).map(revision);
        if self.one_in(one_in) { seen } else { None }
    }

    fn create(&mut self) -> Change {
        let manager = self.updater();
        Change::Create(self.fields(&manager))
    }

    fn put(&mut self, key: &Key) -> Change {
        let manager = self.updater();
        match self.known.get(key).cloned() {
            Some(seen) if self.one_in(2) => {
                // Read, changed in one place or none, written back with everything the server said.
                let mut body = seen;
                if !self.one_in(4) {
                    let (path, token) = self.token(&manager);
                    *place(&mut body, &path) = token;
                }
                let State { mut fields, revision, uid, .. } = State::of(&body);
                fields.retain(|path, _| !path.starts_with("status."));
                Change::Put { fields, version: Some(revision), uid: Some(uid), body: Some(Sent(body)), strict: true }
            }
            _ => {
                let version = self.version(key, 1).filter(|_| !self.one_in(8));
                Change::Put { fields: self.fields(&manager), version, uid: None, body: None, strict: true }
            }
        }
    }

    fn edit(&mut self, json_patch: bool) -> Change {
        let manager = self.updater();
        let (path, token) = self.token(&manager);
        let (mut edits, mut tests) = (vec![Edit::Set(path, token)], Vec::new());
        match self.dice.below(5) {
            0 => edits.push(Edit::Env(self.env())),
            1 => edits.push(Edit::Set("spec.replicas".to_owned(), json!(self.dice.below(3)))),
            2 => edits.push(Edit::Finalizers(if self.one_in(3) { vec![HOLD.to_owned()] } else { Vec::new() })),
            3 if !json_patch && self.one_in(2) => edits.push(Edit::Unset("label:team".to_owned())),
            3 if !json_patch => edits.push(Edit::Set("label:team".to_owned(), json!(self.pick(&TEAMS)))),
            _ if json_patch => tests.push(("spec.replicas".to_owned(), json!(self.dice.below(3)))),
            _ => {}
        }
        Change::Edit { edits, tests, json_patch, status: false }
    }

    fn status(&mut self) -> Change {
        self.count += 1;
        let token = (self.client as u64 + 1) * 1_000_000 + self.count;
        let edits = vec![Edit::Set("status.restarts".to_owned(), json!(token))];
        Change::Edit { edits, tests: Vec::new(), json_patch: false, status: true }
    }

    fn apply(&mut self, key: &Key, manager: &str) -> Change {
        // The same again now and then: that must change nothing.
        let again = self.known.get(key).map(State::of).and_then(|seen| {
            let id = (manager.to_owned(), "Apply".to_owned(), String::new());
            let mine = seen.owners.get(&id)?;
            Some(mine.iter().filter_map(|p| Some((p.clone(), seen.fields.get(p)?.clone()))).collect::<Fields>())
        });
        let whole = |f: &Fields| f.contains_key("spec.process.command") && f.contains_key("spec.suspend");
        let fields = match again.filter(whole) {
            Some(again) if self.one_in(3) => again,
            _ => self.fields(manager),
        };
        Change::Apply { fields, force: self.one_in(2), version: self.version(key, 8) }
    }

    fn delete(&mut self, key: &Key) -> Change {
        let seen = self.known.get(key).and_then(|o| o["metadata"]["uid"].as_str().map(str::to_owned));
        Change::Delete { uid: seen.filter(|_| self.one_in(3)), version: self.version(key, 4) }
    }

    fn transaction(&mut self) -> Op {
        let manager = format!("applier-{}", self.dice.below(3));
        let mut keys = keys();
        let mut steps = Vec::new();
        for _ in 0..2 + self.dice.below(3) {
            let key = keys.swap_remove(self.dice.below(keys.len() as u64) as usize);
            let change = match self.dice.below(10) {
                0..6 => self.apply(&key, &manager),
                6 => Change::Create(self.fields(&manager)),
                7 | 8 => {
                    Change::Put { fields: self.fields(&manager), version: None, uid: None, body: None, strict: false }
                }
                _ => self.delete(&key),
            };
            steps.push((key, change));
        }
        Op::Transaction { steps, manager }
    }

    /// The next operation.
    pub(super) fn draw(&mut self) -> Op {
        let key = self.pick(&keys());
        let mut manager = self.updater();
        let change = match self.dice.below(100) {
            0..12 => self.create(),
            12..26 => self.put(&key),
            26..38 => self.edit(false),
            38..46 => self.edit(true),
            46..60 => {
                manager = format!("applier-{}", self.dice.below(3));
                self.apply(&key, &manager)
            }
            60..64 => Change::Scale { replicas: self.dice.below(3) as i64, version: self.version(&key, 2) },
            64..68 => self.status(),
            68..74 => self.delete(&key),
            74..76 => {
                return Op::DeleteCollection {
                    namespace: key.namespace,
                    selector: Selector::draw(&mut self.dice),
                    manager,
                };
            }
            76..84 => return self.transaction(),
            84..93 => return Op::Get(key),
            _ => {
                let limit = self.one_in(2).then(|| 1 + self.dice.below(3));
                let namespace = self.one_in(2).then_some(key.namespace);
                return Op::List { namespace, selector: Selector::draw(&mut self.dice), limit };
            }
        };
        Op::Write { key, change, manager }
    }
}
