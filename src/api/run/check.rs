//! The rules between a Run's fields, and what of it never changes.

use serde_json::{Value, json};

use super::{NOT_AT_A_TERMINAL, NOT_TO_A_CONTAINER};
use crate::api::{FieldPath, Problem, Violation};

/// Fields that may change while the Run is there.
const CHANGEABLE: &[&str] = &["suspend", "cancel", "ttlSecondsAfterFinished"];
/// What an App brings along whole.
const OF_THE_APP: &[&str] = &["envFrom", "files"];
/// What a Run and an App say alike, and with the same rules.
const SHARED: &[&str] = &["process", "container", "env", "envFrom", "files", "resources", "stopSignal", "logs"];

pub(super) fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let (spec, root) = (&new["spec"], FieldPath::of("spec"));
    let mut found = Vec::new();
    found.extend(check_form(spec, &root));
    found.extend(crate::api::app::check_app(&as_app(new)));
    let process = &spec["process"];
    if !process["adopt"].is_null() {
        let message = "a run starts its process itself";
        found.push(Violation::new(root.field("process").field("adopt"), Problem::Forbidden, message));
    }
    if !spec["args"].is_null() && !at_args(process).is_empty() {
        let message = "set either `args` or `process.args`, not both";
        found.push(Violation::new(root.field("args"), Problem::Forbidden, message));
    }
    let forbidden = |field: &str, message: &str| Violation::new(root.field(field), Problem::Forbidden, message);
    let at_a_terminal = process["tty"] == true;
    if spec["stdin"].as_str().is_some_and(|text| !text.is_empty()) {
        found.extend(at_a_terminal.then(|| forbidden("stdin", NOT_AT_A_TERMINAL)));
        found.extend((!spec["container"].is_null()).then(|| forbidden("stdin", NOT_TO_A_CONTAINER)));
    }
    if spec["stdinOnce"] == true {
        found.extend(at_a_terminal.then(|| forbidden("stdinOnce", NOT_AT_A_TERMINAL)));
        found.extend(check_once(spec, &root));
    }
    if let Some(old) = old {
        found.extend(check_change(spec, &old["spec"], &root));
    }
    found
}

/// What was read is gone: nothing may be there to be read by another attempt.
fn check_once(spec: &Value, root: &FieldPath) -> Vec<Violation> {
    let wrong = |name: &str, message: &str| Violation::new(root.field(name), Problem::Forbidden, message);
    let mut found = Vec::new();
    if !spec["stdin"].is_null() {
        found.push(wrong("stdin", "set either `stdin` or `stdinOnce`, not both"));
    }
    if spec["backoffLimit"].as_i64().unwrap_or(0) > 0 {
        found.push(wrong("backoffLimit", "input that is sent once cannot be read by a second attempt"));
    }
    if spec["suspend"] == true {
        found.push(wrong("suspend", "input that is sent once cannot be read again when it is resumed"));
    }
    found
}

fn at_args(process: &Value) -> &[Value] {
    process["args"].as_array().map_or(&[], Vec::as_slice)
}

/// Exactly one of app, process and container.
fn check_form(spec: &Value, root: &FieldPath) -> Vec<Violation> {
    let given = |name: &&str| !spec[*name].is_null();
    let forms: Vec<&str> = ["app", "process", "container"].into_iter().filter(given).collect();
    match forms.as_slice() {
        [] => vec![Violation::new(root.field("app"), Problem::Required, "set `app`, `process` or `container`")],
        ["app"] => {
            let more = OF_THE_APP.iter().copied().filter(given);
            let message = "a run of an app has the app's";
            more.map(|name| Violation::new(root.field(name), Problem::Forbidden, message)).collect()
        }
        [_] => Vec::new(),
        ["app", second, ..] => {
            let message = format!("set either `app` or `{second}`, not both");
            vec![Violation::new(root.field(second), Problem::Forbidden, message)]
        }
        // Said by the App's own rules.
        _ => Vec::new(),
    }
}

/// The same as an App, whose rules then hold. What comes from an App is judged with the App.
fn as_app(run: &Value) -> Value {
    let shared = SHARED.iter().filter_map(|name| Some(((*name).to_owned(), run["spec"].get(*name)?.clone())));
    let mut spec = Value::Object(shared.collect());
    if spec["process"].is_null() && spec["container"].is_null() {
        spec["process"] = json!({"command": ["app"]});
    }
    json!({"metadata": run["metadata"], "spec": spec})
}

fn check_change(new: &Value, old: &Value, root: &FieldPath) -> Vec<Violation> {
    let (Some(fields), Some(before)) = (new.as_object(), old.as_object()) else { return Vec::new() };
    let names = fields.keys().chain(before.keys().filter(|name| !fields.contains_key(*name)));
    let changed = names.filter(|name| !CHANGEABLE.contains(&name.as_str()) && fields.get(*name) != before.get(*name));
    let message = "a run is what it was made; make another one";
    let mut found: Vec<Violation> =
        changed.map(|name| Violation::new(root.field(name), Problem::Forbidden, message)).collect();
    if old["cancel"] == true && new["cancel"] != true {
        let message = "a run that was cancelled stays so; make another one";
        found.push(Violation::new(root.field("cancel"), Problem::Forbidden, message));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(spec: &Value, old: Option<&Value>) -> Vec<String> {
        let run = |spec: &Value| json!({"metadata": {"name": "backup-1"}, "spec": spec});
        check(&run(spec), old.map(run).as_ref()).iter().map(|v| v.path.to_string()).collect()
    }

    #[test]
    fn a_run_is_of_an_app_or_of_its_own_and_follows_the_rules_of_apps() {
        for (spec, wrong) in [
            (json!({}), &["spec.app"][..]),
            (json!({"app": "backup", "args": ["--full"], "env": [{"name": "A"}]}), &[]),
            (json!({"app": "backup", "container": {"image": "a"}}), &["spec.container"]),
            (json!({"process": {"command": ["a"]}, "container": {"image": "a"}}), &["spec.container"]),
            (json!({"app": "backup", "envFrom": [], "files": []}), &["spec.envFrom", "spec.files"]),
            (json!({"app": "backup", "env": [{"name": "A"}, {"name": "A"}]}), &["spec.env[1].name"]),
            (json!({"process": {"script": "true", "args": ["a"]}, "args": []}), &["spec.args"]),
            (json!({"process": {"adopt": {"pid": 7}}}), &["spec.process.adopt"]),
            (json!({"container": {"image": "a"}, "stdin": "x"}), &["spec.stdin"]),
            (json!({"process": {"command": ["a"]}, "stdinOnce": true}), &[]),
            (json!({"container": {"image": "a"}, "stdinOnce": true}), &[]),
            (json!({"process": {"command": ["a"], "tty": true}, "stdinOnce": true}), &["spec.stdinOnce"]),
            (
                json!({"app": "a", "stdinOnce": true, "stdin": "", "backoffLimit": 1, "suspend": true}),
                &["spec.stdin", "spec.backoffLimit", "spec.suspend"],
            ),
            (json!({"process": {"command": []}, "stopSignal": "SIGX"}), &["spec.process.command", "spec.stopSignal"]),
        ] {
            assert_eq!(paths(&spec, None), wrong, "{spec}");
        }
    }

    #[test]
    fn nothing_changes_but_that_it_is_cancelled_and_how_long_it_is_kept() {
        let old = json!({"app": "backup", "args": ["a"], "ttlSecondsAfterFinished": 5});
        for (new, wrong) in [
            (json!({"app": "backup", "args": ["a"], "cancel": true, "suspend": true}), &[][..]),
            (json!({"app": "backup", "args": ["b"], "ttlSecondsAfterFinished": 6}), &["spec.args"]),
            (json!({"app": "backup", "backoffLimit": 1}), &["spec.backoffLimit", "spec.args"]),
        ] {
            assert_eq!(paths(&new, Some(&old)), wrong, "{new}");
        }
        let cancelled = json!({"app": "backup", "cancel": true});
        assert_eq!(paths(&json!({"app": "backup"}), Some(&cancelled)), ["spec.cancel"]);
    }
}
