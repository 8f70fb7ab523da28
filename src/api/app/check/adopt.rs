//! The rules of `process.adopt`: a process that runs already is taken over once, as it is.

use serde_json::Value;

use super::{AppSpec, FieldPath, Problem, Process, Violation};
use crate::api::FIELDS;

pub(super) fn check(spec: &AppSpec, new: &Value, old: Option<&Value>, root: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let Some((process, adopt)) = spec.process.as_ref().and_then(|process| Some((process, process.adopt?))) else {
        return found;
    };
    let mut forbid = |at: FieldPath, message: &str| found.push(Violation::new(at, Problem::Forbidden, message));
    if spec.replicas > 1 {
        forbid(root.field("replicas"), "a process can be taken over by one instance only");
    }
    // `command` and `script` beside it are refused with the form.
    let form = Process {
        adopt: Some(adopt),
        command: process.command.clone(),
        script: process.script.clone(),
        ..Process::default()
    };
    let set = serde_json::to_value(process).unwrap_or_default();
    let without = serde_json::to_value(form).unwrap_or_default();
    let more = set.as_object().into_iter().flatten().filter(|(name, value)| without.get(name.as_str()) != Some(*value));
    for (name, _) in more {
        forbid(root.field("process").field(name), "a process that runs already has its own");
    }
    let given = [
        ("env", spec.env.is_empty()),
        ("envFrom", spec.env_from.is_empty()),
        ("files", spec.files.is_empty()),
        ("resources", spec.resources == Default::default()),
    ];
    for (name, _) in given.into_iter().filter(|(_, empty)| !empty) {
        forbid(root.field(name), "cannot be given to a process that runs already");
    }
    for (i, _) in spec.ports.iter().enumerate().filter(|(_, port)| port.container_port == 0) {
        forbid(root.field("ports").index(i).field("containerPort"), "name the port that the process listens on");
    }
    let probes = [
        ("startupProbe", &spec.startup_probe),
        ("readinessProbe", &spec.readiness_probe),
        ("livenessProbe", &spec.liveness_probe),
    ];
    for (name, _) in probes.iter().filter(|(_, probe)| probe.as_ref().is_some_and(|probe| probe.notify.is_some())) {
        forbid(root.field(name).field("notify"), "a process that runs already was not told where to say it");
    }
    if let Some(old) = old.filter(|old| old["process"]["adopt"]["pid"] == adopt.pid) {
        let fields = FIELDS.iter().filter(|(_, class)| class.is_of_template()).map(|(name, _)| *name);
        for name in fields.filter(|name| new.get(name) != old.get(name)) {
            forbid(
                root.field(name),
                "a change would replace the instance, but its process cannot be taken over a second time; delete the app first",
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check;

    fn paths(spec: &serde_json::Value, old: Option<&serde_json::Value>) -> Vec<String> {
        let app = |spec: &serde_json::Value| json!({"metadata": {"name": "web"}, "spec": spec});
        check(&app(spec), old.map(app).as_ref()).iter().map(|v| v.path.to_string()).collect()
    }

    #[test]
    fn what_runs_already_is_taken_as_it_is() {
        let app = json!({
            "replicas": 2,
            "process": {"adopt": {"pid": 4711}, "user": "ada", "tty": true, "args": []},
            "env": [{"name": "A", "value": "b"}],
            "resources": {"limits": {"memory": "1Gi"}},
            "ports": [{"name": "http"}, {"name": "admin", "containerPort": 9000}],
            "livenessProbe": {"notify": {"watchdog": "1s"}},
        });
        let found = [
            "spec.replicas",
            "spec.process.user",
            "spec.process.tty",
            "spec.env",
            "spec.resources",
            "spec.ports[0].containerPort",
            "spec.livenessProbe.notify",
        ];
        let mut seen = paths(&app, None);
        seen.retain(|path| found.contains(&path.as_str()));
        assert_eq!(seen, found);
    }

    #[test]
    fn it_cannot_be_rolled_but_it_can_be_left_for_another() {
        let of = |pid: i32, port: i32| json!({"process": {"adopt": {"pid": pid}}, "ports": [{"name": "http", "containerPort": port}]});
        assert_eq!(paths(&of(7, 80), Some(&of(7, 80))), [""; 0]);
        assert_eq!(paths(&of(7, 81), Some(&of(7, 80))), ["spec.ports"]);
        assert_eq!(paths(&of(8, 81), Some(&of(7, 80))), [""; 0]);
        assert_eq!(paths(&of(7, 80), Some(&json!({"process": {"command": ["a"]}}))), [""; 0]);
    }
}
