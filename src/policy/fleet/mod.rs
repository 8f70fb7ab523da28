//! A fleet of manifests: what all files of a source declare together, read again only where a file has changed.
//!
//! A fleet is whole or it is not there: if any file cannot be read, or two declare the same object, [`Fleet::of`] says everything that is
//! wrong and makes none, so that nobody applies half of what was meant. What is kept of a file is its text and the keys of its
//! objects; an object is read again where it is sent.

mod files;

use std::{cmp::Ordering, collections::BTreeMap, fmt, sync::Arc};

use serde_json::{Value, json};

pub use self::files::Files;
use self::files::Written;
use super::manifest::{self, Aim, Document, Fault, Home};
use crate::api::{
    App, Cause, ConfigMap, Event, FieldPath, Instance, Key, Kind, KindInfo, Lease, Namespace, Node, ResourceQuota,
    Revision, Role, SOURCE_LABEL, SOURCE_NAMESPACE_LABEL, Schedule, Secret, Source, User, Verbs, Workflow,
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

/// Everything that a source declares.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    files: Files,
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
    /// What these files declare. Where it differs from `earlier` only in some files, only those are looked at.
    ///
    /// # Errors
    /// Everything that is wrong with any of them: the same object twice is a mistake, too, not a sequence of changes.
    pub fn of(files: &Files, earlier: Option<&Fleet>) -> Result<Fleet, Vec<Misplaced>> {
        earlier.and_then(|earlier| earlier.changed_to(files)).map_or_else(|| Self::of_all(files), Ok)
    }

    /// Nothing if it is not at once clear that nothing is wrong.
    fn changed_to(&self, files: &Files) -> Option<Fleet> {
        if !files.is_at(self.files.home()) {
            return None;
        }
        let mut declared = self.declared.clone();
        let changes = self.files.differing(files);
        for object in changes.iter().filter_map(|(_, before, _)| *before).flat_map(|before| &before.objects) {
            declared.remove(&object.key);
        }
        for (path, read) in changes.iter().filter_map(|(path, _, after)| Some((*path, (*after)?))) {
            if !read.faults.is_empty() {
                return None;
            }
            for object in &read.objects {
                if declared.insert(object.key.clone(), object.origin(path)).is_some() {
                    return None;
                }
            }
        }
        Some(Fleet { files: files.clone(), declared })
    }

    fn of_all(files: &Files) -> Result<Fleet, Vec<Misplaced>> {
        let mut wrong = Vec::new();
        let mut all: Vec<(&Arc<str>, &Written)> = Vec::new();
        for (path, read) in &*files.all {
            wrong.extend(read.faults.iter().map(|fault| Misplaced { file: path.clone(), fault: fault.clone() }));
            all.extend(read.objects.iter().map(|object| (path, object)));
        }
        // In the order of files and documents where it is declared more than once.
        all.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        let same = |a: &(&Arc<str>, &Written), b: &(&Arc<str>, &Written)| a.1.key == b.1.key;
        let mut twice: Vec<Misplaced> = all.chunk_by(same).flat_map(declared_twice).collect();
        twice.sort_by(|a, b| (&a.file, a.fault.place).cmp(&(&b.file, b.fault.place)));
        wrong.append(&mut twice);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let origin = |(path, object): (&Arc<str>, &Written)| (object.key.clone(), object.origin(path));
        Ok(Fleet { files: files.clone(), declared: all.into_iter().map(origin).collect() })
    }

    /// The objects, and where each is declared.
    pub fn declared(&self) -> &BTreeMap<Key, Origin> {
        &self.declared
    }

    /// True if it was read for this place.
    pub fn is_at(&self, home: Home<'_>) -> bool {
        self.files.is_at(home)
    }

    /// The objects that only one of both declares, or each in another way.
    pub fn differing<'a>(&'a self, other: &'a Fleet) -> impl Iterator<Item = &'a Key> {
        self.differing_by(other, |a, b| a.digest == b.digest)
    }

    /// The objects that only one of both declares.
    pub fn exclusive<'a>(&'a self, other: &'a Fleet) -> impl Iterator<Item = &'a Key> {
        self.differing_by(other, |_, _| true)
    }

    /// Walks through both at once.
    fn differing_by<'a>(
        &'a self,
        other: &'a Fleet,
        same: impl Fn(&Origin, &Origin) -> bool,
    ) -> impl Iterator<Item = &'a Key> {
        let (mut ours, mut theirs) = (self.declared.iter().peekable(), other.declared.iter().peekable());
        std::iter::from_fn(move || {
            loop {
                let order = match (ours.peek(), theirs.peek()) {
                    (Some((a, _)), Some((b, _))) => a.cmp(b),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => return None,
                };
                match order {
                    Ordering::Less => return ours.next().map(|(key, _)| key),
                    Ordering::Greater => return theirs.next().map(|(key, _)| key),
                    Ordering::Equal => {
                        let ((key, a), (_, b)) = ours.next().zip(theirs.next())?;
                        if !same(a, b) {
                            return Some(key);
                        }
                    }
                }
            }
        })
    }

    fn document(&self, origin: &Origin) -> Option<Document> {
        let read = self.files.all.get(&origin.file)?;
        manifest::read(&read.text).documents.into_iter().nth(origin.document)
    }

    /// Objects as they are applied by `source`, whose labels they bear, in the order of `keys`. Each file is read once, however many
    /// of them are in it. What is not declared is left out.
    pub fn objects(&self, keys: &[Key], source: &Key) -> Vec<Value> {
        let mut by_file: BTreeMap<&Arc<str>, Vec<(usize, usize)>> = BTreeMap::new();
        for (at, origin) in keys.iter().enumerate().filter_map(|(at, key)| Some((at, self.declared.get(key)?))) {
            by_file.entry(&origin.file).or_default().push((origin.document, at));
        }
        let mut found = vec![None; keys.len()];
        for (file, wanted) in by_file {
            let Some(read) = self.files.all.get(file) else { continue };
            let documents = manifest::read(&read.text).documents;
            for (document, at) in wanted {
                found[at] = documents.get(document).and_then(|document| self.applied_by(source, document));
            }
        }
        found.into_iter().flatten().collect()
    }

    fn applied_by(&self, source: &Key, document: &Document) -> Option<Value> {
        let mut value = document.identity(self.files.home(), &mut Vec::new())?.value;
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
    Fault { place, path: FieldPath::of(path), message: message.to_owned() }
}

/// What is said of each but the first.
fn declared_twice(same: &[(&Arc<str>, &Written)]) -> Vec<Misplaced> {
    let Some(((path, first), others)) = same.split_first() else { return Vec::new() };
    let say = |(file, object): &(&Arc<str>, &Written)| {
        let kind = object.key.kind.singular;
        let message = format!("this {kind} is declared twice; the first is at {path}:{}", first.start);
        let fault = Fault { place: object.name, path: FieldPath::of("metadata.name"), message };
        Misplaced { file: Arc::clone(file), fault }
    };
    others.iter().map(say).collect()
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
        let wrong = Fleet::of(&Files::read(None, &texts(files), HOME), None).err();
        wrong.into_iter().flatten().map(|m| m.to_string()).collect()
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

    fn fleet(files: &[(&str, &str)]) -> Fleet {
        Fleet::of(&Files::read(None, &texts(files), HOME), None).unwrap()
    }

    fn names<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<String> {
        keys.into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_changed_is_read_again_and_a_document_keeps_its_digest() {
        let (two, c) = (app("a") + "---\n" + &app("b"), app("c"));
        let first = Files::read(None, &texts(&[("a.yaml", &two), ("c.yaml", &c)]), HOME);
        let broken = Files::read(Some(&first), &texts(&[("a.yaml", "kind: ["), ("c.yaml", &c)]), HOME);
        assert_eq!(Fleet::of(&broken, None).unwrap_err().len(), 1);
        let changed = two.replace("name: b", "name: b, labels: {x: y}");
        let second = Files::read(Some(&broken), &texts(&[("a.yaml", &changed), ("c.yaml", &c)]), HOME);
        assert!(Arc::ptr_eq(&first.all["c.yaml"], &second.all["c.yaml"]));
        let (was, is) = (Fleet::of(&first, None).unwrap(), Fleet::of(&second, None).unwrap());
        assert_eq!(names(was.differing(&is)), ["apps.appm.dev default/b"]);
        assert_eq!(names(was.exclusive(&is)), [""; 0]);
        // In another namespace everything is another object.
        let home = Home { only: Some("prod"), ..HOME };
        let third = Fleet::of(&Files::read(Some(&second), &texts(&[("c.yaml", &c)]), home), Some(&is)).unwrap();
        assert_eq!(names(third.declared().keys()), ["apps.appm.dev prod/c"]);
        let both = ["a", "b", "c"].map(|name| format!("apps.appm.dev default/{name}"));
        assert_eq!(names(is.exclusive(&third)), [&both[..], &["apps.appm.dev prod/c".to_owned()]].concat());
    }

    #[test]
    fn a_fleet_that_was_changed_is_the_one_that_was_read_at_once() {
        let (a, b, both) = (app("a"), app("b"), app("a") + "---\n" + &app("b"));
        let steps: [&[(&str, &str)]; 7] = [
            &[("1.yaml", &a), ("2.yaml", &b)],
            &[("1.yaml", &b), ("2.yaml", &a)],
            &[("2.yaml", &both), ("3.yaml", "")],
            &[("1.yaml", &both), ("2.yaml", &a)],
            &[("1.yaml", &both), ("4.yaml", "kind: [")],
            &[("0.yaml", &b), ("4.yaml", &a)],
            &[],
        ];
        let (mut files, mut fleet) = (Files::default(), Fleet::default());
        for step in steps {
            files = Files::read(Some(&files), &texts(step), HOME);
            let (at_once, by_and_by) = (Fleet::of(&files, None), Fleet::of(&files, Some(&fleet)));
            let said = |fleet: &Result<Fleet, Vec<Misplaced>>| {
                fleet.as_ref().map(|fleet| fleet.declared.clone()).map_err(Clone::clone)
            };
            assert_eq!(said(&at_once), said(&by_and_by), "{step:?}");
            fleet = by_and_by.unwrap_or(fleet);
        }
        assert!(fleet.declared().is_empty());
    }

    #[test]
    fn an_object_bears_the_labels_of_its_source_and_its_mistakes_are_found_in_its_file() {
        let text = app("a").replace("name: a", "name: a, uid: x, labels: {tier: front}").replace("[a]", "7");
        let fleet = fleet(&[("a.yaml", &text), ("b.yaml", &(app("c") + "---\n" + &app("b")))]);
        let (key, source) = (Key::of::<App>("default", "a"), Key::of::<Source>("ops", "fleet"));
        let of = |name: &str| Key::of::<App>("default", name);
        let labels = json!({"tier": "front", SOURCE_LABEL: "fleet", SOURCE_NAMESPACE_LABEL: "ops"});
        let expected = json!({"name": "a", "labels": labels, "namespace": "default"});
        let objects = fleet.objects(&[of("b"), of("a"), of("c")], &source);
        assert_eq!(objects[1]["metadata"], expected);
        assert_eq!((&objects[0]["metadata"]["name"], &objects[2]["metadata"]["name"]), (&json!("b"), &json!("c")));
        let cause = Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: "7 is no list".to_owned(),
            field: "operations[0].object.spec.process.command".to_owned(),
        };
        let found = fleet.locate(&[key], &cause).unwrap().to_string();
        assert_eq!(found, "a.yaml:4:27: spec.process.command: 7 is no list");
    }
}
