//! The manifest reader: YAML or JSON text to JSON values, each of which knows the line and column it was written at.
//!
//! The tree is composed straight from the parser's events rather than through serde, because three things are wanted
//! that a deserializer cannot give: the place of every key and value, every fault of a file at once (not only the
//! first), and scalars that mean what they say: `yes`, `on` and `y` are text, and `010`, which YAML 1.1 reads as 8 and YAML 1.2
//! as 10, is refused rather than guessed. The parser is the one below serde-saphyr, so both agree on syntax.
//!
//! ```text
//! text ── events ──► compose ──► Node tree ──► Document { value, place(path) }
//!            │ syntax error: noted, and reading goes on at the next `---`
//! ```

mod compose;
mod identity;
mod path;
mod scalar;

use std::fmt;

use serde_json::{Map, Value};

use compose::{Node, Shape};
pub use identity::{Home, Identity, NAMELESS};
use scalar::LeadingZero;

use crate::api::FieldPath;

/// Where something is written. Both count from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Something that makes a text no manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// The field, where the text can be read that far.
    pub path: FieldPath,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// Which part of a field a message points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Its name: for fields that should not be there.
    Key,
    /// Its value: for values that are wrong. Blocks that span lines are pointed at by their name.
    Value,
}

/// One object of a manifest.
#[derive(Clone, Debug)]
pub struct Document {
    root: Node,
}

/// Everything that a text holds.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The objects, in order; `List`s are taken apart.
    pub documents: Vec<Document>,
    /// Everything that is wrong with the text, in order.
    pub faults: Vec<Fault>,
}

/// Reads every document of a text. Never fails: what is wrong is in [`Manifest::faults`], what could be read is there.
pub fn read(text: &str) -> Manifest {
    read_with(text, LeadingZero::Refused)
}

/// The same for files of programs to which a number that begins with a zero is octal, as `defaultMode: 0644` is to Kubernetes.
pub fn read_octal(text: &str) -> Manifest {
    read_with(text, LeadingZero::Octal)
}

fn read_with(text: &str, zero: LeadingZero) -> Manifest {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut manifest = Manifest::default();
    for root in compose::all(text, zero, &mut manifest.faults) {
        add(root, &mut manifest);
    }
    manifest.faults.sort();
    manifest
}

/// The documents of a text as they are written, `List`s and all; nothing if any of it cannot be read.
pub fn values(text: &str) -> Option<Vec<Value>> {
    let mut faults = Vec::new();
    let roots = compose::all(text.strip_prefix('\u{feff}').unwrap_or(text), LeadingZero::Refused, &mut faults);
    faults.is_empty().then(|| roots.iter().map(to_value).collect())
}

/// Takes a `List` apart, leaves out empty documents, and refuses what is no object.
fn add(root: Node, manifest: &mut Manifest) {
    match root.shape {
        Shape::Scalar(Value::Null) => {}
        Shape::Map(entries) if is_list(&entries) => {
            let items = entries.into_iter().find(|entry| entry.key == "items").map(|entry| entry.value.shape);
            if let Some(Shape::List(items)) = items {
                items.into_iter().for_each(|item| add(item, manifest));
            }
        }
        Shape::Map(_) => manifest.documents.push(Document { root }),
        Shape::Scalar(_) | Shape::List(_) => {
            let message = "a manifest is a mapping that begins with `apiVersion:` and `kind:`".to_owned();
            manifest.faults.push(Fault { place: root.place, path: FieldPath::root(), message });
        }
    }
}

fn is_list(entries: &[compose::Entry]) -> bool {
    let ends_in_list = |entry: &compose::Entry| {
        entry.key == "kind"
            && matches!(&entry.value.shape, Shape::Scalar(Value::String(kind)) if kind.ends_with("List"))
    };
    entries.iter().any(ends_in_list) && entries.iter().any(|entry| entry.key == "items")
}

impl Document {
    /// The document as JSON.
    pub fn value(&self) -> Value {
        to_value(&self.root)
    }

    /// Where the document begins.
    pub fn start(&self) -> Place {
        self.root.place
    }

    /// Where the field at `path` (`spec.env[2].name`) is written. If it is not there, the nearest field above it that is.
    pub fn place(&self, path: &str, aim: Aim) -> Place {
        let mut here = self.root.place;
        let mut node = &self.root;
        let steps = path::steps(path);
        for (depth, step) in steps.iter().enumerate() {
            let last = depth + 1 == steps.len();
            match &node.shape {
                Shape::Map(entries) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == *step) else { return here };
                    let by_value = last && aim == Aim::Value && matches!(entry.value.shape, Shape::Scalar(_));
                    here = if by_value { entry.value.place } else { entry.place };
                    node = &entry.value;
                }
                Shape::List(items) => {
                    let Some(item) = step.parse::<usize>().ok().and_then(|at| items.get(at)) else { return here };
                    here = item.place;
                    node = item;
                }
                Shape::Scalar(_) => return here,
            }
        }
        here
    }

    /// The text at a path of field names, if it is there and is a text.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        let mut node = &self.root;
        for step in path {
            let Shape::Map(entries) = &node.shape else { return None };
            node = &entries.iter().find(|entry| entry.key == *step)?.value;
        }
        match &node.shape {
            Shape::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

fn to_value(node: &Node) -> Value {
    match &node.shape {
        Shape::Scalar(value) => value.clone(),
        Shape::List(items) => Value::Array(items.iter().map(to_value).collect()),
        Shape::Map(entries) => {
            let fields = entries.iter().map(|entry| (entry.key.clone(), to_value(&entry.value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WEB: &str = "\
apiVersion: appm.dev/v1
kind: App
metadata:
  name: web
  labels: {a.b/c: x, tier: front}
spec:
  replicas: 2
  process:
    command: [sleep, \"60\"]
  env:
    - {name: A, value: '1'}
    - name: B
      value: |
        two
        lines
";

    #[test]
    fn every_field_knows_its_place() {
        let manifest = read(WEB);
        assert_eq!(manifest.faults, []);
        let document = &manifest.documents[0];
        for (path, aim, place) in [
            ("spec.replicas", Aim::Value, "7:13"),
            ("spec.replicas", Aim::Key, "7:3"),
            ("spec.process", Aim::Value, "8:3"),
            ("spec.process.command[1]", Aim::Value, "9:22"),
            ("spec.env[0].value", Aim::Value, "11:24"),
            ("spec.env[1].name", Aim::Value, "12:13"),
            ("spec.env[1].value", Aim::Key, "13:7"),
            ("metadata.labels[a.b/c]", Aim::Value, "5:19"),
            ("spec.ports[3].name", Aim::Value, "6:1"),
            ("nothing", Aim::Value, "1:1"),
        ] {
            assert_eq!(document.place(path, aim).to_string(), place, "{path}");
        }
        assert_eq!(document.value()["spec"]["env"][1]["value"], "two\nlines\n");
        assert_eq!(document.text(&["metadata", "name"]), Some("web"));
    }

    #[test]
    fn scalars_mean_what_they_say() {
        let text = "{a: yes, b: on, y: y, c: 1_000, d: '010', e: 1.10, f: ~, g: true, h: 0x1F, i: -3, j: 1e3, k: 2026-01-01, \
                    l: null, m: \"\", n: .5, o: 12345678901234567890123, 75: x}";
        let manifest = read(text);
        assert_eq!(manifest.faults, []);
        assert_eq!(
            manifest.documents[0].value(),
            json!({"a": "yes", "b": "on", "y": "y", "c": "1_000", "d": "010", "e": 1.10, "f": null, "g": true, "h": 31,
                "i": -3, "j": 1000.0, "k": "2026-01-01", "l": null, "m": "", "n": 0.5, "o": 1.2345678901234568e22, "75": "x"})
        );
    }

    fn faults(text: &str) -> Vec<String> {
        read(text).faults.iter().map(|f| format!("{}: {}: {}", f.place, f.path, f.message)).collect()
    }

    #[test]
    fn all_faults_of_all_documents_are_found_at_once() {
        let text = "\
kind: App
kind: Node
spec: {umask: 022}
---
a: [1, 2
---
b: 1
  c: 2
---
- just
- a list
---
d: !secret x
e: .inf
---
fine: true
";
        insta::assert_snapshot!(faults(text).join("\n"), @r#"
        2:1: kind: `kind` is there twice; the first is at line 1
        3:15: spec.umask: `022` is octal to some readers and decimal to others; write "022" if it is text
        5:4: : not valid YAML: unclosed bracket '['
        8:4: : not valid YAML: mapping values are not allowed in this context
        10:1: : a manifest is a mapping that begins with `apiVersion:` and `kind:`
        13:12: d: the tag `!secret` has no meaning in a manifest
        14:4: e: `.inf` is no number that JSON can carry
        "#);
        assert_eq!(read(text).documents.len(), 3, "what can be read is there");
    }

    #[test]
    fn a_leading_zero_is_octal_where_its_program_means_that() {
        let read = read_octal("a: 0644\nb: -010\nc: 0890\nd: \"0644\"\ne: 0\n");
        assert_eq!(read.faults, []);
        assert_eq!(read.documents[0].value(), json!({"a": 420, "b": -8, "c": 890, "d": "0644", "e": 0}));
    }

    #[test]
    fn json_and_windows_files_are_manifests_too() {
        let json = "{\r\n\t\"kind\": \"App\",\r\n\t\"spec\": {\"a\": [1, true, null, \"x\\u00e9\\n\"]}\r\n}\r\n";
        let manifest = read(json);
        assert_eq!(manifest.faults, []);
        assert_eq!(manifest.documents[0].value(), json!({"kind": "App", "spec": {"a": [1, true, null, "xé\n"]}}));
        assert_eq!(manifest.documents[0].place("spec.a[1]", Aim::Value).line, 3);
    }

    #[test]
    fn anchors_merges_and_lists_are_taken_apart() {
        let text = "\
kind: List
items:
- &base {kind: App, metadata: {name: a}, spec: {replicas: 1}}
- <<: *base
  metadata: {name: b}
---
";
        let manifest = read(text);
        assert_eq!(manifest.faults, []);
        let values: Vec<Value> = manifest.documents.iter().map(Document::value).collect();
        assert_eq!(values[0], json!({"kind": "App", "metadata": {"name": "a"}, "spec": {"replicas": 1}}));
        assert_eq!(values[1], json!({"metadata": {"name": "b"}, "kind": "App", "spec": {"replicas": 1}}));
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb += &format!("a{level}: &a{level} [{refs}]\n");
        }
        assert!(faults(&bomb)[0].contains("too large"), "{:?}", faults(&bomb));
        let deep = "[".repeat(5000);
        assert!(!faults(&deep).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(text in "[-a: \\[\\]{}&*\"'\n|>#!,x0-9]{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_json_reads_as_that_json(words in proptest::collection::vec("\\PC{0,12}", 0..6)) {
            let value = json!({"words": words});
            let manifest = read(&value.to_string());
            proptest::prop_assert_eq!(&manifest.faults, &vec![]);
            proptest::prop_assert_eq!(manifest.documents[0].value(), value);
        }
    }
}
