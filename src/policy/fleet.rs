//! A fleet of manifests: what all files of a source declare together, read again only where a file has changed.
//!
//! A fleet is whole or it is not there: if any file cannot be read, or two declare the same object, [`Fleet::read`] says everything that is
//! wrong and makes none, so that nobody applies half of what was meant. What is kept of a file is its text and the keys of its
//! objects; an object is read again where it is sent.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use serde_json::{Value, json};

use super::manifest::{self, Aim, Document, Fault, Home};
use crate::api::{
    App, Cause, ConfigMap, Event, Instance, Key, Kind, KindInfo, Lease, Namespace, Node, ResourceQuota, Revision, Role,
    SOURCE_LABEL, SOURCE_NAMESPACE_LABEL, Schedule, Secret, Source, User, Verbs, Workflow,
};

/// What files there are: the text of each, by its path.
pub type Texts = BTreeMap<Arc<str>, Arc<str>>;

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// The file.
    pub file: Arc<str>,
    /// Where, and what.
    pub fault: Fault,
}

impl fmt::Display for Misplaced {
    /// `apps/web.yaml:5:3: spec.replica: Unknown field`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { place, path, message } = &self.fault;
        match path.as_str() {
            "" => write!(f, "{}:{place}: {message}", self.file),
            path => write!(f, "{}:{place}: {path}: {message}", self.file),
        }
    }
}

/// Where an object is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: Arc<str>,
    /// Which of its documents.
    pub document: usize,
    /// Changes with what is declared.
    pub digest: u64,
}

/// One file.
#[derive(Clone, Debug)]
struct Read {
    text: Arc<str>,
    /// The object of each document, and its digest.
    objects: Arc<[(Key, u64)]>,
}

/// Everything that a source declares.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// The one namespace of everything, and the one where nothing is said.
    home: (Option<String>, String),
    files: BTreeMap<Arc<str>, Read>,
    declared: BTreeMap<Key, Origin>,
}

/// True for kinds whose objects somebody declares; others are made by appm itself.
pub fn can_be_declared(kind: &KindInfo) -> bool {
    let made = [Event::INFO, Lease::INFO, Instance::INFO, Revision::INFO, Node::INFO];
    kind.verbs == Verbs::All && !made.contains(&kind)
}

/// What comes first when it is applied, and goes last.
pub fn rank(kind: &KindInfo) -> usize {
    let order = [
        Namespace::INFO,
        ResourceQuota::INFO,
        Role::INFO,
        User::INFO,
        Secret::INFO,
        ConfigMap::INFO,
        Workflow::INFO,
        App::INFO,
        Schedule::INFO,
        Source::INFO,
    ];
    order.iter().position(|known| **known == *kind).unwrap_or(order.len())
}

impl Fleet {
    /// What these files declare, with all that did not change taken from `earlier`.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn read(earlier: Option<&Fleet>, texts: &Texts, home: Home<'_>) -> Result<Fleet, Vec<Misplaced>> {
        let place = (home.only.map(str::to_owned), home.default.to_owned());
        let earlier = earlier.filter(|earlier| earlier.home == place);
        let (mut files, mut wrong) = (BTreeMap::new(), Vec::new());
        for (path, text) in texts {
            let known = earlier.and_then(|earlier| earlier.files.get(path));
            let known = known.filter(|known| Arc::ptr_eq(&known.text, text) || known.text == *text);
            let read = match known {
                Some(known) => known.clone(),
                None => Read { text: text.clone(), objects: read_file(path, text, home, &mut wrong) },
            };
            files.insert(path.clone(), read);
        }
        let mut fleet = Fleet { home: place, files, declared: BTreeMap::new() };
        fleet.index(&mut wrong);
        if wrong.is_empty() { Ok(fleet) } else { Err(wrong) }
    }

    /// The same object twice is a mistake, not a sequence of changes.
    fn index(&mut self, wrong: &mut Vec<Misplaced>) {
        for (path, read) in &self.files {
            for (document, (key, digest)) in read.objects.iter().enumerate() {
                let origin = Origin { file: path.clone(), document, digest: *digest };
                let Some(first) = self.declared.insert(key.clone(), origin) else { continue };
                let at = self.document(&first).map_or_else(String::new, |first| format!(":{}", first.start()));
                let message =
                    format!("this {} is declared twice; the first is at {}{at}", key.kind.singular, first.file);
                let second = manifest::read(&read.text).documents.into_iter().nth(document);
                wrong.extend(
                    second
                        .map(|second| Misplaced { file: path.clone(), fault: second.fault("metadata.name", message) }),
                );
            }
        }
    }

    /// The objects, and where each is declared.
    pub fn declared(&self) -> &BTreeMap<Key, Origin> {
        &self.declared
    }

    /// True if it was read for this place.
    pub fn is_at(&self, home: Home<'_>) -> bool {
        (self.home.0.as_deref(), self.home.1.as_str()) == (home.only, home.default)
    }

    /// True if both declare some object.
    pub fn meets(&self, other: &Fleet) -> bool {
        let (few, many) = if self.declared.len() < other.declared.len() { (self, other) } else { (other, self) };
        few.declared.keys().any(|key| many.declared.contains_key(key))
    }

    fn document(&self, origin: &Origin) -> Option<Document> {
        let read = self.files.get(&origin.file)?;
        manifest::read(&read.text).documents.into_iter().nth(origin.document)
    }

    fn home(&self) -> Home<'_> {
        Home { only: self.home.0.as_deref(), default: &self.home.1, said_by: SAID_BY }
    }

    /// An object as it is applied by `source`, whose labels it bears.
    pub fn object(&self, key: &Key, source: &Key) -> Option<Value> {
        let document = self.document(self.declared.get(key)?)?;
        let mut value = document.identity(self.home(), &mut Vec::new())?.value;
        let metadata = value["metadata"].as_object_mut()?;
        // What only the server says, in manifests that were once read from one.
        ["resourceVersion", "uid", "managedFields", "generation", "creationTimestamp", "deletionTimestamp"]
            .into_iter()
            .for_each(|name| drop(metadata.shift_remove(name)));
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if labels.is_null() {
            *labels = json!({});
        }
        // Labels that are no mapping are refused by the server, at their place.
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(SOURCE_LABEL.to_owned(), json!(&*source.name));
            labels.insert(SOURCE_NAMESPACE_LABEL.to_owned(), json!(&*source.namespace));
        }
        if let Some(whole) = value.as_object_mut() {
            whole.shift_remove("status");
        }
        Some(value)
    }

    /// What the server found wrong, at the place where it is written. `sent`: the objects of the transaction, in order.
    pub fn locate(&self, sent: &[Key], cause: &Cause) -> Option<Misplaced> {
        let (index, path) = cause.field.strip_prefix("operations[")?.split_once(']')?;
        let origin = self.declared.get(sent.get(index.parse::<usize>().ok()?)?)?;
        let path = path.strip_prefix(".object").unwrap_or(path).trim_start_matches('.');
        let aim = if cause.reason == "FieldUnknown" { Aim::Key } else { Aim::Value };
        let mut fault = Fault { place: self.document(origin)?.place(path, aim), ..fault_of(path, &cause.message) };
        fault.place.line = fault.place.line.max(1);
        Some(Misplaced { file: origin.file.clone(), fault })
    }
}

const SAID_BY: &str = "the source";

fn fault_of(path: &str, message: &str) -> Fault {
    let place = manifest::Place { line: 1, column: 1 };
    Fault { place, path: crate::api::FieldPath::of(path), message: message.to_owned() }
}

/// The objects of a file.
fn read_file(path: &Arc<str>, text: &str, home: Home<'_>, wrong: &mut Vec<Misplaced>) -> Arc<[(Key, u64)]> {
    let read = manifest::read(text);
    let mut faults = read.faults;
    let mut objects = Vec::new();
    for document in &read.documents {
        let home = Home { said_by: SAID_BY, ..home };
        let Some(identity) = document.identity(home, &mut faults) else { continue };
        let kind = identity.served.kind;
        if identity.served.view.is_some() || !can_be_declared(kind) {
            let message = format!("no source declares a {}: appm makes it by itself", identity.served.name());
            faults.push(document.fault("kind", message));
        }
        if identity.name.is_empty() {
            faults.push(
                document.fault("metadata.generateName", "a source names its objects, so that they are found again"),
            );
        }
        let mut hasher = DefaultHasher::new();
        identity.value.to_string().hash(&mut hasher);
        objects.push((Key::new(kind, &identity.namespace, &identity.name), hasher.finish()));
    }
    wrong.extend(faults.into_iter().map(|fault| Misplaced { file: path.clone(), fault }));
    objects.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: Home<'static> = Home { only: None, said_by: SAID_BY, default: "default" };

    fn texts(files: &[(&str, &str)]) -> Texts {
        files.iter().map(|(path, text)| (Arc::from(*path), Arc::from(*text))).collect()
    }

    fn app(name: &str) -> String {
        format!("apiVersion: appm.dev/v1\nkind: App\nmetadata: {{name: {name}}}\nspec: {{process: {{command: [a]}}}}\n")
    }

    fn wrong(files: &[(&str, &str)]) -> Vec<String> {
        Fleet::read(None, &texts(files), HOME).err().into_iter().flatten().map(|m| m.to_string()).collect()
    }

    #[test]
    fn one_broken_file_is_no_fleet_and_every_mistake_has_its_place() {
        let (a, twice) = (app("a"), app("b") + "---\n" + &app("a"));
        let generated = "apiVersion: appm.dev/v1\nkind: Run\nmetadata: {generateName: x-}\nspec: {}\n";
        let made = "apiVersion: appm.dev/v1\nkind: Instance\nmetadata: {name: x}\n";
        let view = "apiVersion: v1\nkind: Pod\nmetadata: {name: y}\n";
        insta::assert_snapshot!(wrong(&[("a.yaml", &a), ("b/c.yaml", &twice), ("d.yaml", "kind: [\n"), ("e.yaml", generated),
            ("f.yaml", made), ("g.yaml", view)]).join("\n"), @r"
        d.yaml:1:7: not valid YAML: unclosed bracket '['
        e.yaml:3:26: metadata.generateName: a source names its objects, so that they are found again
        f.yaml:2:7: kind: no source declares a Instance: appm makes it by itself
        g.yaml:2:7: kind: no source declares a Pod: appm makes it by itself
        b/c.yaml:8:18: metadata.name: this app is declared twice; the first is at a.yaml:1:1
        ");
    }

    #[test]
    fn only_what_changed_is_read_again_and_a_document_keeps_its_digest() {
        let two = app("a") + "---\n" + &app("b");
        let first = Fleet::read(None, &texts(&[("a.yaml", &two), ("c.yaml", &app("c"))]), HOME).unwrap();
        let changed = two.replace("name: b", "name: b, labels: {x: y}");
        let second = Fleet::read(Some(&first), &texts(&[("a.yaml", &changed), ("c.yaml", &app("c"))]), HOME).unwrap();
        let digests = |fleet: &Fleet| fleet.declared().values().map(|origin| origin.digest).collect::<Vec<_>>();
        let same: Vec<bool> = digests(&first).iter().zip(digests(&second)).map(|(a, b)| *a == b).collect();
        assert_eq!(same, [true, false, true]);
        assert!(Arc::ptr_eq(&first.files["c.yaml"].objects, &second.files["c.yaml"].objects));
        // In another namespace everything is another object.
        let home = Home { only: Some("prod"), ..HOME };
        let third = Fleet::read(Some(&second), &texts(&[("c.yaml", &app("c"))]), home).unwrap();
        assert_eq!(third.declared().keys().map(ToString::to_string).collect::<Vec<_>>(), ["apps.appm.dev prod/c"]);
    }

    #[test]
    fn an_object_bears_the_labels_of_its_source_and_its_mistakes_are_found_in_its_file() {
        let text = app("a").replace("name: a", "name: a, uid: x, labels: {tier: front}").replace("[a]", "7");
        let fleet = Fleet::read(None, &texts(&[("a.yaml", &text)]), HOME).unwrap();
        let (key, source) = (Key::of::<App>("default", "a"), Key::of::<Source>("ops", "fleet"));
        let labels = json!({"tier": "front", SOURCE_LABEL: "fleet", SOURCE_NAMESPACE_LABEL: "ops"});
        let expected = json!({"name": "a", "labels": labels, "namespace": "default"});
        assert_eq!(fleet.object(&key, &source).unwrap()["metadata"], expected);
        let cause = Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: "7 is no list".to_owned(),
            field: "operations[0].object.spec.process.command".to_owned(),
        };
        let found = fleet.locate(&[key], &cause).unwrap().to_string();
        assert_eq!(found, "a.yaml:4:27: spec.process.command: 7 is no list");
    }
}
