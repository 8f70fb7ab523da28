//! Workflows from files, as manifests or as the bare body that GitHub and App Mesh know, and everything that is wrong with them.

use std::{fs, io::Read as _, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    api::{API_VERSION, Kind, Workflow, kinds::find_served},
    cli::{
        diagnostics::{Diagnostic, SourceFile},
        error::CliError,
    },
    policy::{
        form,
        manifest::{self, Aim, Document, Place},
        workflow::{self, Finding},
    },
};

/// What App Mesh's files say beside the body: the name is the object's, the others are not asked for here.
const BESIDE: &[&str] = &["name", "owner", "permission"];
/// What GitHub knows and appm does not, and what is done instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("uses", "a step calls a workflow: `steps: [{workflow: NAME, with: {…}}]`"),
    ("with", "stands in the step that calls the workflow"),
    ("secrets", "a Secret comes in through `sec_env: {NAME: {secret: …, key: …}}`, also in a workflow that is called"),
    ("run-name", "a run is named after its Workflow; `kubectl annotate` it, or say what it is about in an input"),
    ("permissions", "a run may do what its `execution_identity` may"),
    ("container", "make an App with a container, and run it by `app:`"),
    (
        "environment",
        "there are none: whose rights a run has says its `execution_identity`, and what is to be known of a place an input",
    ),
    ("options", "an engine's own options are not passed on; when a service is ready says its `readinessProbe`"),
    ("credentials", "registries are known to the engine: `docker login`, or `podman login`, as who runs the server"),
];

/// What starts a workflow at GitHub.
const EVENTS: &[&str] = &[
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "fork",
    "gollum",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "status",
    "watch",
    "workflow_run",
];
/// How the schema puts it where an object is wanted.
const NO_OBJECT: &str = "must be of type object";
const NO_REPOSITORY: &str =
    "there is no repository whose changes start it; `manual`, `schedule`, `app_event` and `workflow_call` do";

/// What is done instead of what GitHub knows and appm does not.
fn instead(path: &str) -> Option<(&str, &'static str)> {
    let field = path.rsplit('.').next().unwrap_or_default();
    match path.strip_prefix("spec.on.").filter(|event| EVENTS.contains(event)) {
        Some(event) => Some((event, NO_REPOSITORY)),
        None => ELSEWHERE.iter().find(|(word, _)| *word == field).map(|(_, instead)| (field, *instead)),
    }
}

/// What is taken in the place of what GitHub takes there.
fn taken(path: &str) -> Option<&'static str> {
    let field = path.rsplit('.').next()?.split('[').next()?;
    match field {
        "runs-on" => Some(
            "a node is chosen by its labels, `runs-on: {disk: ssd}`; of words `linux`, `ubuntu-24.04`, `self-hosted`, `x64`, `arm64` and their like are known",
        ),
        "ports" => Some(
            "a port is the number that the service itself listens at, `6379`; `${{ job.services.NAME.ports['6379'] }}` is where it is reached",
        ),
        _ => None,
    }
}

/// One Workflow of a file.
pub(super) struct Declared {
    file: usize,
    document: Document,
    /// The file has the body alone, without `apiVersion`, `kind` and `spec`.
    bare: bool,
    /// As it is stored.
    pub(super) object: Value,
    pub(super) warnings: Vec<String>,
}

/// Everything that was read.
#[derive(Default)]
pub(super) struct Files {
    pub(super) files: Vec<SourceFile>,
    pub(super) workflows: Vec<Declared>,
    pub(super) faults: Vec<Diagnostic>,
}

impl Files {
    /// Reads files; `-` is stdin.
    ///
    /// # Errors
    /// When one cannot be read. What is wrong inside of them is in [`Files::faults`].
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut files = Self::default();
        for path in paths {
            let mut text = String::new();
            let (name, read) = match path.as_os_str() == "-" {
                true => ("<stdin>".into(), std::io::stdin().read_to_string(&mut text).map(|_| text)),
                false => (path.clone(), fs::read_to_string(path)),
            };
            let text = read.map_err(|e| CliError::io(&format!("cannot read {}", path.display()), &e))?;
            files.add(name, text);
        }
        Ok(files)
    }

    fn add(&mut self, name: PathBuf, text: String) {
        let file = self.files.len();
        let read = manifest::read(&text);
        let placed = |fault: manifest::Fault| {
            let (place, path, message) = (fault.place, fault.path.to_string(), fault.message);
            Diagnostic { file, place, path, message }
        };
        self.faults.extend(read.faults.into_iter().map(placed));
        let stem = name.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        self.files.push(SourceFile { name, text });
        for document in read.documents {
            let value = document.value();
            let bare = value["kind"].is_null() && value["apiVersion"].is_null() && !value["jobs"].is_null();
            let mut object = if bare { whole(value, &stem) } else { value };
            if object["kind"] != Workflow::INFO.kind {
                continue;
            }
            let warnings = workflow::canonical(&mut object);
            self.workflows.push(Declared { file, document, bare, object, warnings });
        }
    }

    /// Everything that is wrong, as far as that can be told without a server.
    pub(super) fn judge(&mut self) {
        let mut found = std::mem::take(&mut self.faults);
        for declared in &self.workflows {
            let text = &self.files[declared.file].text;
            found.extend(declared.findings().iter().map(|finding| declared.diagnostic(finding, text)));
        }
        self.faults = found;
    }
}

/// A body as an object. A name that is no name of an object is made one.
fn whole(mut body: Value, stem: &str) -> Value {
    let said = body["name"].as_str().unwrap_or(stem).to_ascii_lowercase();
    let name: String = said.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if let Value::Object(body) = &mut body {
        BESIDE.iter().for_each(|word| drop(body.shift_remove(*word)));
    }
    json!({
        "apiVersion": API_VERSION, "kind": Workflow::INFO.kind, "metadata": {"name": name.trim_matches('-')}, "spec": body,
    })
}

impl Declared {
    fn findings(&self) -> Vec<Finding> {
        let of_field = |violation| Finding { violation, offset: None };
        let Some(served) = find_served(API_VERSION, Workflow::INFO.kind) else { return Vec::new() };
        let form = form::of(served);
        let mut object = self.object.clone();
        form.shape.drop_nulls(&mut object);
        let mut found: Vec<Finding> = form.shape.take_unknown(&mut object).into_iter().map(of_field).collect();
        for finding in &mut found {
            let message = instead(finding.violation.path.as_str()).map(|(field, why)| format!("`{field}`: {why}"));
            finding.violation.message = message.unwrap_or_else(|| std::mem::take(&mut finding.violation.message));
        }
        let (mut broken, rest) = form.judge(served.kind, &object, None);
        let beyond = workflow::beyond(rest.as_ref().unwrap_or(&object), &broken);
        for violation in &mut broken {
            let taken = taken(violation.path.as_str());
            if let Some((said, why)) = violation.message.strip_suffix(NO_OBJECT).zip(taken) {
                violation.message = format!("{said}{why}");
            }
        }
        found.extend(broken.into_iter().map(of_field).chain(beyond));
        found
    }

    /// Where it is written.
    fn diagnostic(&self, finding: &Finding, text: &str) -> Diagnostic {
        let path = finding.violation.path.as_str();
        let path = if self.bare { path.strip_prefix("spec.").unwrap_or(path) } else { path };
        let aim = if finding.violation.undecodable().is_some() { Aim::Key } else { Aim::Value };
        let place = self.document.place(path, aim);
        let place = finding.offset.and_then(|offset| self.inside(path, offset, place, text)).unwrap_or(place);
        Diagnostic { file: self.file, place, path: path.to_owned(), message: finding.violation.sentence() }
    }

    /// The place of a byte of a field's text: where what stands there on its line stands in the file, at the field or below it.
    fn inside(&self, path: &str, offset: usize, from: Place, text: &str) -> Option<Place> {
        let value = self.document.value();
        let pointer = pointer(path);
        let said = value.pointer(&pointer)?.as_str()?;
        let line = said.get(offset..)?.lines().next().filter(|line| !line.is_empty())?;
        // So many times the same stands before it.
        let before = said.get(..offset)?.matches(line).count();
        let start: usize = text.split_inclusive('\n').take(from.line - 1).map(str::len).sum();
        let start = start + text[start..].char_indices().nth(from.column - 1).map_or(0, |(at, _)| at);
        let (at, _) = text.get(start..)?.match_indices(line).nth(before)?;
        let above = &text[..start + at];
        let column = above.rsplit('\n').next()?.chars().count() + 1;
        Some(Place { line: above.matches('\n').count() + 1, column })
    }
}

/// `spec.jobs.a.steps[0].run` as a JSON pointer.
fn pointer(path: &str) -> String {
    let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
    steps.map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect()
}
