//! Quadlets: Apps with containers, for Podman's generator (4.4 and later).

use serde_json::Value;

use super::super::{
    report::{Fate, Part, Report},
    tree::entries,
};
use super::{
    File, Source, container, left_out, part,
    unit::{self, Unit},
    variables,
};

/// A `.container` file for each App.
pub fn write(objects: &[Value]) -> Report<File> {
    let mut report = Report::default();
    left_out(objects, &["App"], &mut report);
    for object in objects.iter().filter(|object| object["kind"] == "App") {
        let source = Source::of(object);
        if container::is_contained(object) {
            report.parts.push(app(source));
        } else {
            report.note(
                &source.spot,
                "spec.process",
                Fate::Dropped,
                "only containers are written; `appm export systemd` writes processes",
            );
        }
    }
    report
}

/// A variable of the unit that is empty.
const NOTHING: &str = "NOTHING";

/// A word as Podman's reader hands it on to systemd, which expands it.
fn plain(text: &str) -> String {
    unit::word(&container::literal(text), true)
}

fn app(mut source: Source<'_>) -> Part<File> {
    let spec = source.spec;
    let said = &spec["container"];
    let fields = [
        "image",
        "command",
        "args",
        "workingDir",
        "user",
        "mounts",
        "network",
        "readOnlyRootFilesystem",
        "capabilities",
        "imagePullPolicy",
    ];
    container::common(&mut source, &fields);
    let mut file = Unit::default();
    file.line("Unit", "Description", unit::value(source.description().unwrap_or(source.name)));
    let known =
        variables(&mut source, spec, "what it comes from is known here only: `podman secret create`, and Secret=");
    let section = "Container";
    // Podman's reader stops at an empty word; an empty variable is one for systemd, which gets the line from it.
    let mut has_nothing = false;
    let mut line = |list: &Value| {
        let words = container::words(list, &known);
        has_nothing |= words.iter().any(String::is_empty);
        let one = |word: &String| if word.is_empty() { format!("${{{NOTHING}}}") } else { plain(word) };
        words.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    file.line(section, "Image", said["image"].as_str().unwrap_or_default());
    let entrypoint = unit::words(&said["command"]);
    if let Some((program, rest)) = entrypoint.split_first() {
        file.line(section, "PodmanArgs", format!("--entrypoint {}", plain(program)));
        let args: Vec<Value> =
            rest.iter().cloned().map(Value::from).chain(said["args"].as_array().cloned().unwrap_or_default()).collect();
        if !args.is_empty() {
            file.line(section, "Exec", line(&Value::Array(args)));
        }
    } else if !unit::words(&said["args"]).is_empty() {
        file.line(section, "Exec", line(&said["args"]));
    }
    if has_nothing {
        file.line("Service", "Environment", format!("{NOTHING}="));
    }
    for (name, value) in &known {
        file.line(section, "Environment", plain(&format!("{name}={value}")));
    }
    if let Some(dir) = said["workingDir"].as_str() {
        file.line(section, "PodmanArgs", format!("--workdir {}", plain(dir)));
    }
    if let Some((user, group)) = said["user"].as_str().map(|user| user.split_once(':').unwrap_or((user, ""))) {
        file.line(section, "User", user);
        if !group.is_empty() {
            file.line(section, "Group", group);
        }
    }
    for mount in said["mounts"].as_array().into_iter().flatten() {
        let mode = if mount["readOnly"] == true { ":ro" } else { "" };
        let (from, to) = (mount["source"].as_str().unwrap_or_default(), mount["target"].as_str().unwrap_or_default());
        file.line(section, "Volume", unit::value(&format!("{from}:{to}{mode}")).replace('$', "$$"));
    }
    if let Some(network) = said["network"].as_str().filter(|network| *network != "bridge") {
        file.line(section, "Network", network);
    }
    if said["readOnlyRootFilesystem"] == true {
        file.line(section, "ReadOnly", "true");
    }
    for (side, key) in [("add", "AddCapability"), ("drop", "DropCapability")] {
        let all = unit::words(&said["capabilities"][side]);
        if !all.is_empty() {
            file.line(section, key, all.join(" ").to_lowercase());
        }
    }
    if let Some(policy) = said["imagePullPolicy"].as_str().filter(|policy| *policy != "IfNotPresent") {
        file.line(section, "PodmanArgs", format!("--pull {}", policy.to_lowercase()));
    }
    for port in spec["ports"].as_array().into_iter().flatten() {
        let protocol = if port["protocol"] == "UDP" { "/udp" } else { "" };
        match port["hostPort"].as_u64() {
            Some(0) => file.line(section, "PublishPort", format!("127.0.0.1::{}{protocol}", port["containerPort"])),
            Some(host) => {
                file.line(section, "PublishPort", format!("127.0.0.1:{host}:{}{protocol}", port["containerPort"]))
            }
            None => {}
        }
        source.carried("ports");
    }
    if let Some(command) = container::check(&mut source, &spec["ports"]) {
        // A shell of the container reads it.
        let line = shlex::try_join(command.iter().map(String::as_str)).unwrap_or_default();
        file.line(section, "HealthCmd", unit::value(&line).replace('$', "$$"));
        let seconds = |field: &str, usual: i64| format!("{}s", spec["readinessProbe"][field].as_i64().unwrap_or(usual));
        file.line(section, "HealthInterval", seconds("periodSeconds", 10));
        file.line(section, "HealthTimeout", seconds("timeoutSeconds", 1));
        file.line(
            section,
            "HealthRetries",
            spec["readinessProbe"]["failureThreshold"].as_i64().unwrap_or(3).to_string(),
        );
    }
    for (key, value) in entries(&source.object["metadata"]["labels"]) {
        file.line(section, "Label", plain(&format!("{key}={}", value.as_str().unwrap_or_default())));
        source.notes.push(super::Note::new(&source.spot, "metadata.labels", Fate::Carried, ""));
    }
    if let Some(signal) = spec["stopSignal"].as_str() {
        file.line(section, "PodmanArgs", format!("--stop-signal {signal}"));
        source.carried("stopSignal");
    }
    unit::life(&mut source, &mut file, &|app| format!("{app}.service"));
    if spec["replicas"].as_i64().unwrap_or(1) > 1 {
        source.dropped("replicas", "a quadlet is one container");
    }
    if spec["suspend"] == true {
        source.nearly("suspend", "it is not enabled: nothing starts it");
    } else {
        file.line("Install", "WantedBy", "multi-user.target");
    }
    unit::rest(&mut source, &["container", "env", "envFrom", "ports", "restart", "resources", "replicas"]);
    part(format!("{}.container", source.name), file.text(), source.notes)
}
