//! Host powers: what an App could do to its machine, or as whom. One list, read off the object as it would run.

use serde_json::Value;

use crate::api::FieldPath;

/// The resource that stands for host powers in rules: `{apiGroups: [appm.dev], resources: [hostpowers], verbs: [use]}`.
pub const RESOURCE: &str = "hostpowers";

/// The first port that anybody may listen on.
const FIRST_FREE_PORT: i64 = 1024;

/// One host power, and where an object asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Power {
    /// The field.
    pub at: FieldPath,
    /// `user:www-data`, `group:adm`, `adopt`, `privileged`, `capabilities`, `host-mounts`, `host-network`, `low-ports`.
    pub name: String,
}

/// Who runs the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// True for root: what an App does not say otherwise runs as root.
    pub root: bool,
    /// The user's name and number, as an App may name them.
    pub names: Vec<String>,
}

/// The host powers that a spec with `process`, `container` and `ports` needs.
pub fn needed(spec: &Value, host: &Host) -> Vec<Power> {
    let mut found = Vec::new();
    let mut need = |at: &str, name: &str| found.push(Power { at: FieldPath::of(at), name: name.to_owned() });
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (process, container) = (&spec["process"], &spec["container"]);
    if process.is_object() {
        match text(&process["user"]) {
            Some(user) if host.names.contains(&user) && !host.root => {}
            Some(user) => need("spec.process.user", &format!("user:{}", if user == "0" { "root" } else { &user })),
            None if host.root => need("spec.process.user", "user:root"),
            None => {}
        }
        if let Some(group) = text(&process["group"]) {
            need("spec.process.group", &format!("group:{group}"));
        }
        if !process["adopt"].is_null() {
            need("spec.process.adopt", "adopt");
        }
    }
    if container.is_object() {
        if container["privileged"] == true {
            need("spec.container.privileged", "privileged");
        }
        if container["capabilities"]["add"].as_array().is_some_and(|add| !add.is_empty()) {
            need("spec.container.capabilities.add", "capabilities");
        }
        for (i, mount) in container["mounts"].as_array().into_iter().flatten().enumerate() {
            if mount["source"].as_str().is_some_and(|source| source.starts_with('/')) {
                need(&format!("spec.container.mounts[{i}].source"), "host-mounts");
            }
        }
        // `container:NAME` is the network of somebody else. No engine should take another spelling for `host`.
        let network = text(&container["network"]).unwrap_or_default();
        if network.trim().eq_ignore_ascii_case("host") || network.contains(':') {
            need("spec.container.network", "host-network");
        }
    }
    // What a Source reads of the server's machine.
    if spec["directory"].is_object() {
        need("spec.directory", "host-mounts");
    }
    if spec["git"]["url"].as_str().is_some_and(|url| url.starts_with("file:")) {
        need("spec.git.url", "host-mounts");
    }
    // Whom a Source tells: the server asks there itself, from its own place in the network.
    for i in 0..spec["notifications"].as_array().map_or(0, Vec::len) {
        need(&format!("spec.notifications[{i}].url"), "host-network");
    }
    for (i, port) in spec["ports"].as_array().into_iter().flatten().enumerate() {
        let low = |name: &str| port[name].as_i64().is_some_and(|port| (1..FIRST_FREE_PORT).contains(&port));
        if low("hostPort") {
            need(&format!("spec.ports[{i}].hostPort"), "low-ports");
        }
        if process.is_object() && low("containerPort") {
            need(&format!("spec.ports[{i}].containerPort"), "low-ports");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(spec: &Value, host: &Host) -> Vec<String> {
        needed(spec, host).into_iter().map(|p| format!("{} {}", p.at, p.name)).collect()
    }

    #[test]
    fn every_power_is_found_where_it_is_asked_for() {
        let root = Host { root: true, names: vec!["root".to_owned(), "0".to_owned()] };
        let ada = Host { root: false, names: vec!["ada".to_owned(), "1000".to_owned()] };
        let process = |fields: Value| json!({"process": fields});
        let none: [&str; 0] = [];
        assert_eq!(named(&process(json!({"command": ["a"]})), &root), ["spec.process.user user:root"]);
        assert_eq!(named(&process(json!({"command": ["a"]})), &ada), none);
        assert_eq!(named(&process(json!({"user": "1000"})), &ada), none);
        assert_eq!(named(&process(json!({"user": "root"})), &ada), ["spec.process.user user:root"]);
        assert_eq!(named(&process(json!({"user": "0"})), &root), ["spec.process.user user:root"]);
        assert_eq!(
            named(&process(json!({"user": "www-data", "group": "adm", "adopt": {"pid": 7}})), &root),
            ["spec.process.user user:www-data", "spec.process.group group:adm", "spec.process.adopt adopt"]
        );
        let container = json!({"container": {
            "privileged": true, "network": "container:other", "capabilities": {"add": ["NET_ADMIN"]},
            "mounts": [{"source": "data", "target": "/d"}, {"source": "/etc", "target": "/e"}],
        }, "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 80, "hostPort": 80}]});
        assert_eq!(
            named(&container, &root),
            [
                "spec.container.privileged privileged",
                "spec.container.capabilities.add capabilities",
                "spec.container.mounts[1].source host-mounts",
                "spec.container.network host-network",
                "spec.ports[1].hostPort low-ports",
            ]
        );
        assert_eq!(named(&json!({"directory": {"path": "/etc"}}), &ada), ["spec.directory host-mounts"]);
        assert_eq!(named(&json!({"git": {"url": "file:///srv/a"}}), &ada), ["spec.git.url host-mounts"]);
        assert_eq!(named(&json!({"git": {"url": "https://example.org/a"}}), &ada), none);
        let told = json!({"git": {"url": "https://example.org/a"}, "notifications": [{"name": "a", "url": "http://127.0.0.1"}]});
        assert_eq!(named(&told, &ada), ["spec.notifications[0].url host-network"]);
        let ports = json!({"process": {"user": "ada"}, "ports": [{"containerPort": 80}, {"containerPort": 0}]});
        assert_eq!(named(&ports, &ada), ["spec.ports[0].containerPort low-ports"]);
        assert_eq!(named(&json!({"container": {"network": "bridge"}}), &root), none);
    }
}
