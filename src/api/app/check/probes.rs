//! The rules of probes and hooks.

use super::one_of;
use crate::api::{AppSpec, ExecAction, FieldPath, GoDuration, HttpGetAction, IntOrString, Probe, Problem, Violation};

pub(super) fn check(spec: &AppSpec, root: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let probes = [
        ("startupProbe", &spec.startup_probe),
        ("readinessProbe", &spec.readiness_probe),
        ("livenessProbe", &spec.liveness_probe),
    ];
    for (name, probe) in probes {
        if let Some(probe) = probe {
            found.extend(check_probe(spec, name, probe, &root.field(name)));
        }
    }
    let hooks = [("postStart", &spec.lifecycle.post_start), ("preStop", &spec.lifecycle.pre_stop)];
    for (name, handler) in hooks {
        if let Some(handler) = handler {
            let at = root.field("lifecycle").field(name);
            let members = [
                ("exec", handler.exec.is_some()),
                ("httpGet", handler.http_get.is_some()),
                ("sleep", handler.sleep.is_some()),
            ];
            found.extend(one_of(&at, &members));
            found.extend(handler.exec.iter().filter_map(|exec| check_exec(exec, &at)));
            found.extend(handler.http_get.iter().flat_map(|get| check_http(spec, get, &at)));
        }
    }
    found
}

fn check_probe(spec: &AppSpec, name: &str, probe: &Probe, at: &FieldPath) -> Vec<Violation> {
    let mut found = Vec::new();
    let members = [
        ("exec", probe.exec.is_some()),
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("notify", probe.notify.is_some()),
    ];
    found.extend(one_of(at, &members));
    found.extend(probe.exec.iter().filter_map(|exec| check_exec(exec, at)));
    found.extend(probe.http_get.iter().flat_map(|get| check_http(spec, get, at)));
    found.extend(probe.tcp_socket.iter().filter_map(|tcp| check_port(spec, &tcp.port, &at.field("tcpSocket"))));
    if name != "readinessProbe" && probe.success_threshold != 1 {
        let message = "must be 1; only a readiness probe may ask for more";
        found.push(Violation::new(at.field("successThreshold"), Problem::Invalid, message));
    }
    if name == "readinessProbe" && probe.termination_grace_period_seconds.is_some() {
        let message = "a readiness probe ends nothing";
        found.push(Violation::new(at.field("terminationGracePeriodSeconds"), Problem::Forbidden, message));
    }
    if let Some(notify) = &probe.notify {
        let at = at.field("notify");
        if spec.container.is_some() {
            let message = "a container's process cannot reach the notification socket";
            found.push(Violation::new(at.clone(), Problem::NotSupported, message));
        }
        match (name, notify.watchdog) {
            ("livenessProbe", None) => {
                found.push(Violation::new(at.field("watchdog"), Problem::Required, "set the longest silence, 30s say"));
            }
            ("livenessProbe", Some(watchdog)) if watchdog < GoDuration::secs(1) => {
                found.push(Violation::new(at.field("watchdog"), Problem::Invalid, "must be at least 1s"));
            }
            ("livenessProbe", _) | (_, None) => {}
            (_, Some(_)) => {
                let message = "belongs to a liveness probe";
                found.push(Violation::new(at.field("watchdog"), Problem::Forbidden, message));
            }
        }
    }
    found
}

fn check_exec(exec: &ExecAction, at: &FieldPath) -> Option<Violation> {
    let at = at.field("exec").field("command").index(exec.command.iter().position(|word| word.contains('\0'))?);
    Some(Violation::new(at, Problem::Invalid, "must not contain a NUL character"))
}

fn check_http(spec: &AppSpec, get: &HttpGetAction, at: &FieldPath) -> Vec<Violation> {
    let at = at.field("httpGet");
    let mut found: Vec<Violation> = check_port(spec, &get.port, &at).into_iter().collect();
    for (i, header) in get.http_headers.iter().enumerate() {
        if header.value.contains(|c: char| c.is_control() && c != '\t') {
            let at = at.field("httpHeaders").index(i).field("value");
            found.push(Violation::new(at, Problem::Invalid, "must not contain control characters"));
        }
    }
    found
}

/// A number, or a name that is in `ports`.
fn check_port(spec: &AppSpec, port: &IntOrString, at: &FieldPath) -> Option<Violation> {
    let message = match port {
        IntOrString::Int(1..=65535) => return None,
        IntOrString::Int(_) => "must be from 1 to 65535".to_owned(),
        IntOrString::String(name) if spec.ports.iter().any(|port| port.name == *name) => return None,
        IntOrString::String(name) => format!("no port of `ports` is called `{name}`"),
    };
    Some(Violation::new(at.field("port"), Problem::Invalid, message))
}
