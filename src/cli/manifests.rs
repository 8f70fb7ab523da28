//! Manifests from files, directories and stdin: everything is read before anything is done, and every fault is kept.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    api::{Cause, Kind, Namespace, Operation, OperationVerb, Served, Status, TRANSACTION_LIMIT, Transaction},
    policy::manifest::{self, Aim, Document, Fault, Home, Identity, NAMELESS},
};

use super::{
    context::Context,
    diagnostics::{self, Diagnostic, SourceFile},
    error::{CliError, Exit},
};

/// One object that a manifest declares.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    file: usize,
    document: Document,
    pub(super) served: Served,
    pub(super) namespace: String,
    /// Empty if the server makes it, of `generateName`: then each time is another object.
    pub(super) name: String,
    /// With its namespace filled in.
    pub(super) value: Value,
}

/// Everything that was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Manifests {
    pub(super) files: Vec<SourceFile>,
    /// Namespaces first, then as they were written.
    pub(super) objects: Vec<Declared>,
    pub(super) faults: Vec<Diagnostic>,
}

/// Reads files, directories (`-`: stdin).
///
/// # Errors
/// When a file cannot be read. What is wrong inside of files is in [`Manifests::faults`].
pub(super) fn read(paths: &[PathBuf], recursive: bool, namespace: Option<&str>) -> Result<Manifests, CliError> {
    let mut manifests = Manifests::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| CliError::io("cannot read stdin", &e))?;
            manifests.add("<stdin>".into(), text, namespace);
            continue;
        }
        let cannot = |e: std::io::Error| CliError::io(&format!("cannot read {}", path.display()), &e);
        let mut found = Vec::new();
        if fs::metadata(path).map_err(cannot)?.is_dir() {
            collect(path, recursive, &mut found).map_err(cannot)?;
            if found.is_empty() {
                let error = CliError::new(Exit::InvalidInput, format!("there is no manifest in {}", path.display()));
                return Err(error.help("manifests end in .yaml, .yml or .json; -R looks into subdirectories too"));
            }
        } else {
            found.push(path.clone());
        }
        for file in found {
            let bytes = fs::read(&file).map_err(|e| CliError::io(&format!("cannot read {}", file.display()), &e))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| CliError::new(Exit::InvalidInput, format!("{} is not UTF-8 text", file.display())))?;
            manifests.add(file, text, namespace);
        }
    }
    manifests.refuse_twins();
    // An App may be declared in the same breath as its namespace.
    manifests.objects.sort_by_key(|o| o.served.kind != Namespace::INFO);
    Ok(manifests)
}

/// Manifests that are there as text, under the name of a file.
pub(super) fn of_text(name: &str, text: String, namespace: Option<&str>) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.add(name.into(), text, namespace);
    manifests.refuse_twins();
    manifests
}

/// The manifests in a directory, sorted by name.
fn collect(folder: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if entry.is_dir() {
            if recursive && !hidden {
                collect(&entry, recursive, found)?;
            }
        } else if !hidden && entry.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            found.push(entry);
        }
    }
    Ok(())
}

impl Manifests {
    /// Reads one text.
    pub(super) fn add(&mut self, name: PathBuf, text: String, namespace: Option<&str>) {
        let file = self.files.len();
        let read = manifest::read(&text);
        self.files.push(SourceFile { name, text });
        self.faults.extend(read.faults.into_iter().map(|fault| placed(file, fault)));
        for document in read.documents {
            let home = Home { only: namespace, said_by: "the command line", default: "default" };
            let mut faults = Vec::new();
            let identity = document.identity(home, &mut faults);
            self.faults.extend(faults.into_iter().map(|fault| placed(file, fault)));
            if let Some(Identity { served, namespace, name, value }) = identity {
                self.objects.push(Declared { file, document, served, namespace, name, value });
            }
        }
    }

    /// The same object twice is a mistake, not a sequence of changes.
    fn refuse_twins(&mut self) {
        let mut seen: BTreeMap<(Served2, &str, &str), &Declared> = BTreeMap::new();
        for object in self.objects.iter().filter(|o| !o.name.is_empty() && o.name != NAMELESS) {
            let key = ((object.served.group(), object.served.name()), object.namespace.as_str(), object.name.as_str());
            if let Some(first) = seen.get(&key) {
                let at = format!("{}:{}", self.files[first.file].name.display(), first.document.start());
                let message = format!("this {} is declared twice; the first is at {at}", object.served.singular());
                let place = object.document.place("metadata.name", Aim::Value);
                self.faults.push(Diagnostic { file: object.file, place, path: "metadata.name".into(), message });
            } else {
                seen.insert(key, object);
            }
        }
    }

    /// Everything could be read.
    ///
    /// # Errors
    /// With every fault, where it is written, and what came of it.
    pub(super) fn sound(self, context: &Context, outcome: &str) -> Result<Self, CliError> {
        if self.faults.is_empty() {
            return Ok(self);
        }
        let mut error = CliError::new(Exit::InvalidInput, format!("the manifests cannot be understood; {outcome}"));
        error.details = diagnostics::render(self.faults, &self.files, &context.screen);
        Err(error)
    }

    /// The objects as operations of a transaction.
    pub(super) fn operations(&self, verb: OperationVerb, force: bool) -> Vec<Operation> {
        let operation = |o: &Declared| match (verb, o.name.is_empty()) {
            (OperationVerb::Apply, true) => Operation::new(OperationVerb::Create, o.value.clone()),
            _ => Operation { force, ..Operation::new(verb, o.value.clone()) },
        };
        self.objects.iter().map(operation).collect()
    }

    /// All of it goes to the server at once, which takes no more than a certain size.
    ///
    /// # Errors
    /// With the largest files, before anything is sent.
    pub(super) fn fit(&self, transaction: &Transaction) -> Result<(), CliError> {
        let mut size = Size(0);
        serde_json::to_writer(&mut size, transaction).expect("transactions are plain data");
        if size.0 <= TRANSACTION_LIMIT {
            return Ok(());
        }
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let message = format!(
            "these manifests are {} MiB as they would be sent, and {} MiB are taken at once; nothing was sent",
            mib(size.0),
            TRANSACTION_LIMIT >> 20
        );
        let mut files: Vec<&SourceFile> = self.files.iter().collect();
        files.sort_by_key(|file| Reverse(file.text.len()));
        let mut error = CliError::new(Exit::InvalidInput, message);
        let largest = files.iter().take(5).filter(|file| file.text.len() >= 1 << 20);
        error.details =
            largest.map(|file| format!("  {}: {} MiB", file.name.display(), mib(file.text.len()))).collect();
        Err(error.help(
            "apply them in parts; what an App reads in bulk belongs into files of the machine, not into its manifests",
        ))
    }

    /// What the server finds wrong, at the places where it is written; and what belongs to no place.
    pub(super) fn locate(&self, status: &Status) -> (Vec<Diagnostic>, Vec<String>) {
        let mut placed = Vec::new();
        let mut rest = Vec::new();
        for cause in &status.details.causes {
            match self.locate_cause(cause) {
                Some(diagnostic) => placed.push(diagnostic),
                None if cause.field.is_empty() => rest.push(cause.message.clone()),
                None => rest.push(format!("{}: {}", cause.field, cause.message)),
            }
        }
        placed.retain(|d: &Diagnostic| !d.message.contains(NAMELESS));
        (placed, rest)
    }

    fn locate_cause(&self, cause: &Cause) -> Option<Diagnostic> {
        let (index, path) = match cause.field.strip_prefix("operations[") {
            Some(tail) => {
                let (index, tail) = tail.split_once(']')?;
                (index.parse().ok()?, tail.strip_prefix(".object").unwrap_or(tail))
            }
            None if self.objects.len() == 1 => (0, cause.field.as_str()),
            None => return None,
        };
        let object = self.objects.get(index)?;
        let path = path.trim_start_matches('.');
        let aim = if cause.reason == "FieldUnknown" { Aim::Key } else { Aim::Value };
        let place = object.document.place(path, aim);
        Some(Diagnostic { file: object.file, place, path: path.to_owned(), message: cause.message.clone() })
    }
}

/// How much is written.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is wrong with a file, and where.
fn placed(file: usize, fault: Fault) -> Diagnostic {
    Diagnostic { file, place: fault.place, path: fault.path.to_string(), message: fault.message }
}

/// Group and kind, which order.
type Served2 = (&'static str, &'static str);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{FieldPath, Problem, Violation},
        cli::screen::Screen,
    };

    fn manifests(text: &str, namespace: Option<&str>) -> Manifests {
        let mut manifests = Manifests::default();
        manifests.add("a.yaml".into(), text.into(), namespace);
        manifests.refuse_twins();
        manifests
    }

    #[test]
    fn five_mistakes_in_three_documents_are_all_placed() {
        let text = "\
apiVersion: appm.dev/v1
kind: App
metadata: {name: web}
spec:
  replica: 2
  process: {command: [true]}
---
apiVersion: appm.dev/v1
kind: App
metadata: {name: db}
spec:
  replicas: many
  process:
    workingDir: relative
---
apiVersion: appm.dev/v1
kind: Ap
metadata: {name: x}
";
        let manifests = manifests(text, None);
        let wrong = |path: &str, problem, message: &str| Violation::new(FieldPath::of(path), problem, message);
        let violations = [
            wrong("operations[0].object.spec.replica", Problem::Unknown, "did you mean `replicas`?"),
            wrong("operations[1].object.spec.replicas", Problem::Invalid, "\"many\" is not of type \"integer\""),
            wrong("operations[1].object.spec.process.workingDir", Problem::Invalid, "must be absolute"),
            wrong("operations[1].object.spec.process.command", Problem::Required, "set `command` or `script`"),
        ];
        let mut status = Status::bad_request("no");
        status.details.causes = violations.iter().map(Cause::from).collect();
        let (mut all, rest) = manifests.locate(&status);
        assert_eq!(rest, Vec::<String>::new());
        all.extend(manifests.faults.clone());
        insta::assert_snapshot!(diagnostics::render(all, &manifests.files, &Screen::plain()).join("\n"), @r#"
        a.yaml:5:3: spec.replica: Unknown field: did you mean `replicas`?
          5 |   replica: 2
            |   ^
        a.yaml:12:13: spec.replicas: Invalid value: "many" is not of type "integer"
          12 |   replicas: many
             |             ^
        a.yaml:13:3: spec.process.command: Required value: set `command` or `script`
          13 |   process:
             |   ^
        a.yaml:14:17: spec.process.workingDir: Invalid value: must be absolute
          14 |     workingDir: relative
             |                 ^
        a.yaml:17:7: kind: there is no kind `Ap`; did you mean `App`?
          17 | kind: Ap
             |       ^
        "#);
    }

    #[test]
    fn identity_is_checked_before_the_server_is_asked() {
        let text = "\
kind: App
---
apiVersion: v1
kind: App
metadata: {namespace: other, name: 75}
---
apiVersion: appm.dev/v1
kind: App
metadata: {name: a}
---
apiVersion: appm.dev/v1
kind: App
metadata: {name: a}
---
apiVersion: v1
kind: Namespace
metadata: {name: n}
";
        let manifests = manifests(text, Some("mine"));
        insta::assert_snapshot!(diagnostics::render(manifests.faults.clone(), &manifests.files, &Screen::plain()).join("\n"), @r#"
        a.yaml:1:1: apiVersion: Required value: `appm.dev/v1` say
          1 | kind: App
            | ^
        a.yaml:1:1: metadata.name: Required value: every object has a name
          1 | kind: App
            | ^
        a.yaml:3:13: apiVersion: `App` is served as `appm.dev/v1`, not `v1`
          3 | apiVersion: v1
            |             ^
        a.yaml:5:23: metadata.namespace: `other` is not the namespace of the command line, which is `mine`
          5 | metadata: {namespace: other, name: 75}
            |                       ^
        a.yaml:5:36: metadata.name: Invalid value: 75 is no text; write "75"
          5 | metadata: {namespace: other, name: 75}
            |                                    ^
        a.yaml:13:18: metadata.name: this app is declared twice; the first is at a.yaml:7:1
          13 | metadata: {name: a}
             |                  ^
        "#);
        let places: Vec<(&str, &str)> =
            manifests.objects.iter().map(|o| (o.name.as_str(), o.namespace.as_str())).collect();
        assert_eq!(places, [(NAMELESS, "mine"), (NAMELESS, "other"), ("a", "mine"), ("a", "mine"), ("n", "")]);
    }
}
