//! The rules between an App's fields.

mod adopt;
mod probes;

use serde::Deserialize;
use serde_json::Value;

use super::{
    ANY_EXIT, ActiveWindow, AppSpec, Container, EnvFrom, EnvVar, LimitName, Port, Process, RequestName, Resources,
    Restart, RollingUpdate, TaskMode, rlimit, signal_number,
};
use crate::api::{FieldPath, IntOrString, Problem, Violation, check_label_name};

/// The rules between fields.
pub(super) fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let Ok(spec) = AppSpec::deserialize(&new["spec"]) else {
        return vec![Violation::new(FieldPath::of("spec"), Problem::Invalid, "cannot be read")];
    };
    let root = FieldPath::of("spec");
    let mut found: Vec<Violation> = check_label_name(new).into_iter().collect();
    found.extend(check_form(&spec, &root));
    found.extend(adopt::check(&spec, &new["spec"], old.map(|old| &old["spec"]), &root));
    found.extend(check_env(&spec.env, &root.field("env")));
    found.extend(check_env_from(&spec.env_from, &root.field("envFrom")));
    found.extend(check_files(&spec, &root.field("files")));
    found.extend(check_ports(&spec, &root.field("ports")));
    found.extend(probes::check(&spec, &root));
    found.extend(check_resources(&spec.resources, &root.field("resources")));
    found.extend(check_rolling_update(&spec.strategy.rolling_update, &root.field("strategy").field("rollingUpdate")));
    found.extend(check_depends_on(&spec, &new["metadata"]["name"], &root.field("dependsOn")));
    found.extend(check_window(spec.active_window.as_ref(), &root.field("activeWindow")));
    if signal_number(&spec.stop_signal).is_none() {
        let message = format!("`{}` is not a signal of this system, such as SIGTERM or SIGINT", spec.stop_signal);
        found.push(Violation::new(root.field("stopSignal"), Problem::NotSupported, message));
    }
    found.extend(check_task_mode(&spec, &root.field("task").field("mode")));
    found.extend(check_restart(&spec.restart, &root.field("restart")));
    if spec.logs.max_size.units() < 4096 {
        let at = root.field("logs").field("maxSize");
        found.push(Violation::new(at, Problem::Invalid, "must be at least 4Ki"));
    }
    if let Some(total) = &spec.logs.max_total_size
        && total.units() < spec.logs.max_size.units()
    {
        let at = root.field("logs").field("maxTotalSize");
        found.push(Violation::new(at, Problem::Invalid, "must be at least maxSize"));
    }
    found
}

/// Exactly one of process and container, each with what belongs to it.
fn check_form(spec: &AppSpec, root: &FieldPath) -> Vec<Violation> {
    match (&spec.process, &spec.container) {
        (None, None) => {
            vec![Violation::new(root.field("process"), Problem::Required, "set `process` or `container`")]
        }
        (Some(_), Some(_)) => {
            let message = "set either `process` or `container`, not both";
            vec![Violation::new(root.field("container"), Problem::Forbidden, message)]
        }
        (Some(process), None) => check_process(process, &root.field("process")),
        (None, Some(container)) => check_container(container, &root.field("container")),
    }
}

/// Exactly one of command, script and adopt; nothing that execve(2) cannot carry.
fn check_process(process: &Process, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    match (process.command.is_empty(), &process.script, &process.adopt) {
        (true, None, None) => {
            found.push(Violation::new(at.field("command"), Problem::Required, "set `command` or `script`"));
        }
        (false, Some(_), _) => {
            let message = "set either `command` or `script`, not both";
            found.push(Violation::new(at.field("script"), Problem::Forbidden, message));
        }
        (false, None, Some(_)) | (true, Some(_), Some(_)) => {
            let message = "a process that runs already has no `command` or `script`";
            found.push(Violation::new(at.field("adopt"), Problem::Forbidden, message));
        }
        _ => {}
    }
    if process.tty && process.stdin.as_ref().is_some_and(|text| !text.is_empty()) {
        let message = "a terminal is the standard input already (`tty`)";
        found.push(Violation::new(at.field("stdin"), Problem::Forbidden, message));
    }
    if process.command.first().is_some_and(String::is_empty) {
        let message = "the program's name must not be empty";
        found.push(Violation::new(at.field("command").index(0), Problem::Invalid, message));
    }
    found.extend(rlimit::check(&process.rlimits, &at.field("rlimits")));
    let texts = process.command.iter().enumerate().map(|(i, t)| (at.field("command").index(i), t));
    let texts = texts.chain(process.args.iter().enumerate().map(|(i, t)| (at.field("args").index(i), t)));
    for (path, _) in texts.filter(|(_, text)| text.contains('\0')) {
        found.push(Violation::new(path, Problem::Invalid, "must not contain a NUL character"));
    }
    found
}

/// Lines go through the standard streams of a process of ours, which must be free.
fn check_task_mode(spec: &AppSpec, at: &FieldPath) -> Option<Violation> {
    let process = spec.process.as_ref();
    let why = match process {
        _ if spec.task.mode == TaskMode::Requests => return None,
        None => "a container is not spoken to by lines: its processes ask for tasks",
        Some(process) if process.adopt.is_some() => "a process that runs already has its standard streams",
        Some(process) if process.tty => "a terminal is the standard input and output already (`tty`)",
        Some(process) if process.stdin.is_some() => "the standard input is a text already (`stdin`)",
        Some(_) => return None,
    };
    Some(Violation::new(at.clone(), Problem::Forbidden, why))
}

fn check_env(env: &[EnvVar], at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    for (i, var) in env.iter().enumerate() {
        let path = at.index(i);
        if env[..i].iter().any(|earlier| earlier.name == var.name) {
            found.push(Violation::new(path.field("name"), Problem::Duplicate, format!("`{}`", var.name)));
        }
        if var.value.as_ref().is_some_and(|v| v.contains('\0')) {
            found.push(Violation::new(path.field("value"), Problem::Invalid, "must not contain a NUL character"));
        }
        if let Some(source) = &var.value_from {
            if var.value.is_some() {
                let message = "set either `value` or `valueFrom`, not both";
                found.push(Violation::new(path.field("valueFrom"), Problem::Forbidden, message));
            }
            let set = [
                ("fieldRef", source.field_ref.is_some()),
                ("resourceFieldRef", source.resource_field_ref.is_some()),
                ("configMapKeyRef", source.config_map_key_ref.is_some()),
                ("secretKeyRef", source.secret_key_ref.is_some()),
            ];
            let at = path.field("valueFrom");
            found.extend(one_of(&at, &set));
            found.extend(source.field_ref.as_ref().and_then(|of| of.check(&at.field("fieldRef"))));
            found.extend(source.resource_field_ref.as_ref().and_then(|of| of.check(&at.field("resourceFieldRef"))));
        }
    }
    found
}

/// Exactly one member of a union.
fn one_of(at: &FieldPath, members: &[(&str, bool)]) -> Option<Violation> {
    let set = members.iter().filter(|(_, set)| *set).count();
    let names: Vec<String> = members.iter().map(|(name, _)| format!("`{name}`")).collect();
    match set {
        0 => Some(Violation::new(at.clone(), Problem::Required, format!("set one of {}", names.join(", ")))),
        1 => None,
        _ => Some(Violation::new(at.clone(), Problem::Forbidden, format!("set only one of {}", names.join(", ")))),
    }
}

fn check_env_from(sources: &[EnvFrom], at: &FieldPath) -> Vec<Violation> {
    let members = |s: &EnvFrom| [("configMapRef", s.config_map_ref.is_some()), ("secretRef", s.secret_ref.is_some())];
    sources.iter().enumerate().filter_map(|(i, source)| one_of(&at.index(i), &members(source))).collect()
}

fn check_files(spec: &AppSpec, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    if spec.container.is_some() && !spec.files.is_empty() {
        let message = "files are written for processes; a container gets them by `mounts`";
        found.push(Violation::new(at.clone(), Problem::Forbidden, message));
    }
    for (i, file) in spec.files.iter().enumerate() {
        let path = at.index(i);
        let keys =
            [("configMapKeyRef", file.config_map_key_ref.is_some()), ("secretKeyRef", file.secret_key_ref.is_some())];
        found.extend(one_of(&path, &keys));
        if spec.files[..i].iter().any(|earlier| earlier.path == file.path) {
            found.push(Violation::new(path.field("path"), Problem::Duplicate, format!("`{}`", file.path)));
        }
        if file.path.contains('\0') || file.path.ends_with('/') || file.path.split('/').any(|part| part == "..") {
            let message = "must name a file, without `..`";
            found.push(Violation::new(path.field("path"), Problem::Invalid, message));
        }
    }
    found
}

fn check_container(container: &Container, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    if container.image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        found.push(Violation::new(at.field("image"), Problem::Invalid, "must not contain spaces"));
    }
    for (i, mount) in container.mounts.iter().enumerate() {
        let path = at.field("mounts").index(i);
        if container.mounts[..i].iter().any(|earlier| earlier.target == mount.target) {
            found.push(Violation::new(path.field("target"), Problem::Duplicate, format!("`{}`", mount.target)));
        }
        let is_volume = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        if !mount.source.starts_with('/') && !is_volume(&mount.source) {
            let message = "must be an absolute path of this machine or the name of a volume";
            found.push(Violation::new(path.field("source"), Problem::Invalid, message));
        }
    }
    found
}

fn check_resources(resources: &Resources, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let limits = at.field("limits");
    let limit = |name| resources.limits.get(&name);
    for (name, field, least) in [(LimitName::Memory, "memory", 1 << 20), (LimitName::Pids, "pids", 1)] {
        if limit(name).is_some_and(|q| q.units() < least) {
            let message = format!("must be at least {}", if least == 1 { "1" } else { "1Mi" });
            found.push(Violation::new(limits.field(field), Problem::Invalid, message));
        }
    }
    if limit(LimitName::Cpu).is_some_and(|q| q.milli() < 10) {
        found.push(Violation::new(limits.field("cpu"), Problem::Invalid, "must be at least 10m"));
    }
    if limit(LimitName::IoWeight).is_some_and(|q| !(1..=10000).contains(&q.units())) {
        found.push(Violation::new(limits.field("ioWeight"), Problem::Invalid, "must be from 1 to 10000"));
    }
    match (limit(LimitName::Memory), limit(LimitName::MemorySwap)) {
        (None, Some(_)) => {
            found.push(Violation::new(limits.field("memorySwap"), Problem::Invalid, "set `memory` too"));
        }
        (Some(memory), Some(both)) if both.units() < memory.units() => {
            let message = "is memory and swap together, so it must not be less than `memory`";
            found.push(Violation::new(limits.field("memorySwap"), Problem::Invalid, message));
        }
        _ => {}
    }
    let pairs = [(RequestName::Memory, LimitName::Memory, "memory"), (RequestName::Cpu, LimitName::Cpu, "cpu")];
    for (request, most, field) in pairs {
        if let Some((request, most)) = resources.requests.get(&request).zip(limit(most))
            && request.milli() > most.milli()
        {
            let message = format!("must not be more than the limit ({most})");
            found.push(Violation::new(at.field("requests").field(field), Problem::Invalid, message));
        }
    }
    found
}

fn check_rolling_update(rolling: &RollingUpdate, at: &FieldPath) -> Vec<Violation> {
    let each = [("maxSurge", &rolling.max_surge), ("maxUnavailable", &rolling.max_unavailable)];
    let wrong = each.into_iter().filter(|(_, value)| match value {
        IntOrString::Int(number) => *number < 0,
        IntOrString::String(text) => text.strip_suffix('%').and_then(|n| n.parse::<u16>().ok()).is_none(),
    });
    let wrong = wrong.map(|(field, _)| {
        Violation::new(at.field(field), Problem::Invalid, "must be a number from 0 or a percentage such as 25%")
    });
    wrong.collect()
}

fn check_depends_on(spec: &AppSpec, own: &Value, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    for (i, dependency) in spec.depends_on.iter().enumerate() {
        let path = at.index(i).field("app");
        if *own == dependency.app.as_str() {
            found.push(Violation::new(path.clone(), Problem::Invalid, "an app cannot wait for itself"));
        }
        if spec.depends_on[..i].iter().any(|earlier| earlier.app == dependency.app) {
            found.push(Violation::new(path, Problem::Duplicate, format!("`{}`", dependency.app)));
        }
    }
    found
}

pub(in crate::api) fn check_window(window: Option<&ActiveWindow>, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let Some(window) = window else { return found };
    if window.not_before.zip(window.not_after).is_some_and(|(from, to)| to.0 <= from.0) {
        found.push(Violation::new(at.field("notAfter"), Problem::Invalid, "must be later than `notBefore`"));
    }
    if let Some(why) = window.daily.as_ref().and_then(|daily| daily.zone().err()) {
        found.push(Violation::new(at.field("daily").field("timeZone"), Problem::NotSupported, why));
    }
    if window.daily.as_ref().is_some_and(|daily| daily.from == daily.to) {
        let message = "must not be the same as `from`; leave `daily` out for the whole day";
        found.push(Violation::new(at.field("daily").field("to"), Problem::Invalid, message));
    }
    found
}

fn check_ports(spec: &AppSpec, at: &FieldPath) -> Vec<Violation> {
    let (ports, mut found) = (&spec.ports, Vec::new());
    for (i, port) in ports.iter().enumerate() {
        let earlier = &ports[..i];
        if earlier.iter().any(|p| p.name == port.name) {
            found.push(Violation::new(at.index(i).field("name"), Problem::Duplicate, format!("`{}`", port.name)));
        }
        let taken = |p: &Port| p.container_port == port.container_port && p.protocol == port.protocol;
        if port.container_port != 0 && earlier.iter().any(taken) {
            let message = port.container_port.to_string();
            found.push(Violation::new(at.index(i).field("containerPort"), Problem::Duplicate, message));
        }
        if spec.container.is_some() && port.container_port == 0 {
            let message = "name the port that the container listens on; `hostPort: 0` allocates one of this machine";
            found.push(Violation::new(at.index(i).field("containerPort"), Problem::Required, message));
        }
        if spec.process.is_some() && port.host_port.is_some() {
            let message = "a process listens on `containerPort` itself";
            found.push(Violation::new(at.index(i).field("hostPort"), Problem::Forbidden, message));
        }
    }
    found
}

fn check_restart(restart: &Restart, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    for word in restart.exit_codes.keys() {
        if word != ANY_EXIT && word.parse::<u8>().is_err() && signal_number(word).is_none() {
            let message = "an exit is a code from 0 to 255, a signal such as SIGKILL, or `*` for any other";
            found.push(Violation::new(at.field("exitCodes").field(word), Problem::NotSupported, message));
        }
    }
    if restart.backoff.initial > restart.backoff.max {
        let message = format!("must not be longer than `max` ({})", restart.backoff.max);
        found.push(Violation::new(at.field("backoff").field("initial"), Problem::Invalid, message));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(spec: &Value) -> Vec<String> {
        let app = json!({"metadata": {"name": "web"}, "spec": spec});
        check(&app, None).iter().map(|v| v.path.to_string()).collect()
    }

    #[test]
    fn all_violations_are_found_at_once() {
        let app = json!({
            "process": {"command": ["a"], "script": "b", "rlimits": {"nofile": "2:1", "core": "0:unlimited"}},
            "env": [{"name": "A", "value": "1"}, {"name": "A"}],
            "ports": [{"name": "a", "containerPort": 80}, {"name": "b", "containerPort": 80}],
            "stopSignal": "SIGFOO",
            "restart": {"exitCodes": {"300": "Stop"}, "backoff": {"initial": "10s", "max": "1s"}},
            "logs": {"maxSize": "1", "maxTotalSize": "0"},
        });
        assert_eq!(
            paths(&app),
            [
                "spec.process.script",
                "spec.process.rlimits.nofile",
                "spec.env[1].name",
                "spec.ports[1].containerPort",
                "spec.stopSignal",
                "spec.restart.exitCodes.300",
                "spec.restart.backoff.initial",
                "spec.logs.maxSize",
                "spec.logs.maxTotalSize",
            ]
        );
    }

    #[test]
    fn unions_probes_and_limits_have_their_rules() {
        let app = json!({
            "container": {"image": "a", "mounts": [{"source": "./b", "target": "/b"}]},
            "env": [
                {"name": "A", "valueFrom": {}},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1Mi"}}},
            ],
            "envFrom": [{}],
            "files": [{"path": "../a", "secretKeyRef": {"name": "s", "key": "k"}}],
            "ports": [{"name": "http"}],
            "startupProbe": {"tcpSocket": {"port": "https"}, "successThreshold": 2},
            "readinessProbe": {"exec": {"command": ["a"]}, "httpGet": {"port": 0}},
            "livenessProbe": {"notify": {}},
            "lifecycle": {"preStop": {}},
            "resources": {"limits": {"memory": "1Gi", "memorySwap": "1Mi"}, "requests": {"memory": "2Gi"}},
            "strategy": {"rollingUpdate": {"maxSurge": "a"}},
            "dependsOn": [{"app": "web"}],
            "activeWindow": {"daily": {"from": "08:00", "to": "08:00", "timeZone": "Berlin"}},
        });
        assert_eq!(
            paths(&app),
            [
                "spec.container.mounts[0].source",
                "spec.env[0].valueFrom",
                "spec.env[1].valueFrom.fieldRef.fieldPath",
                "spec.env[2].valueFrom.resourceFieldRef.divisor",
                "spec.envFrom[0]",
                "spec.files",
                "spec.files[0].path",
                "spec.ports[0].containerPort",
                "spec.startupProbe.tcpSocket.port",
                "spec.startupProbe.successThreshold",
                "spec.readinessProbe",
                "spec.readinessProbe.httpGet.port",
                "spec.livenessProbe.notify",
                "spec.livenessProbe.notify.watchdog",
                "spec.lifecycle.preStop",
                "spec.resources.limits.memorySwap",
                "spec.resources.requests.memory",
                "spec.strategy.rollingUpdate.maxSurge",
                "spec.dependsOn[0].app",
                "spec.activeWindow.daily.timeZone",
                "spec.activeWindow.daily.to",
            ]
        );
        let both = json!({"process": {"command": ["a"]}, "container": {"image": "a"}});
        assert_eq!(paths(&both), ["spec.container"]);
    }
}
