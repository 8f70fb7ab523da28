//! A file of Compose: Apps with containers.

use serde_json::{Map, Value, json};

use super::super::{
    report::{Fate, Report},
    tree::{entries, text},
};
use super::{
    File, Source,
    container::{self, no_variables, some},
    left_out, part, unit, variables,
};

/// One Compose file.
pub fn write(objects: &[Value]) -> Report<File> {
    let mut report = Report::default();
    left_out(objects, &["App"], &mut report);
    let (mut services, mut volumes, mut networks, mut notes) = (Map::new(), Map::new(), Map::new(), Vec::new());
    for object in objects.iter().filter(|object| object["kind"] == "App") {
        let mut source = Source::of(object);
        if !container::is_contained(object) {
            report.note(
                &source.spot,
                "spec.process",
                Fate::Dropped,
                "only containers are written; `appm export systemd` writes processes",
            );
            continue;
        }
        let body = service(&mut source, &mut volumes, &mut networks);
        services.insert(source.name.to_owned(), Value::Object(body));
        notes.append(&mut source.notes);
    }
    if services.is_empty() {
        return report;
    }
    let file = some(vec![
        ("services", Value::Object(services)),
        ("volumes", Value::Object(volumes)),
        ("networks", Value::Object(networks)),
    ]);
    let body = serde_saphyr::to_string(&Value::Object(file)).expect("JSON is YAML");
    report.parts.push(part("compose.yaml".to_owned(), body, notes));
    report
}

fn service(
    source: &mut Source<'_>,
    volumes: &mut Map<String, Value>,
    networks: &mut Map<String, Value>,
) -> Map<String, Value> {
    let spec = source.spec;
    let container = &spec["container"];
    let known = variables(source, spec, "what it comes from is known here only: give it by `env_file`");
    let environment: Map<String, Value> =
        known.iter().map(|(name, value)| (name.clone(), json!(no_variables(value)))).collect();
    let escaped =
        |list: &Value| container::words(list, &known).iter().map(|word| no_variables(word)).collect::<Vec<_>>();
    let fields = [
        "image",
        "command",
        "args",
        "workingDir",
        "user",
        "mounts",
        "network",
        "readOnlyRootFilesystem",
        "privileged",
        "capabilities",
        "imagePullPolicy",
    ];
    container::common(source, &fields);
    let mounts = container["mounts"].as_array().into_iter().flatten().map(|mount| {
        let from = mount["source"].as_str().unwrap_or_default();
        if !from.starts_with('/') {
            volumes.insert(from.to_owned(), json!({"name": from}));
        }
        let mode = if mount["readOnly"] == true { ":ro" } else { "" };
        json!(no_variables(&format!("{from}:{}{mode}", mount["target"].as_str().unwrap_or_default())))
    });
    let mounts: Vec<Value> = mounts.collect();
    let (mut mode, mut network) = (Value::Null, Value::Null);
    match container["network"].as_str() {
        None | Some("bridge") => {}
        Some(name @ ("host" | "none")) => mode = json!(name),
        Some(name) => {
            networks.insert(name.to_owned(), json!({"name": name, "external": true}));
            network = json!([name]);
        }
    }
    let restart = match spec["restartPolicy"].as_str() {
        Some("Never") => "no".to_owned(),
        Some("OnFailure") => match spec["restart"]["maxRestarts"].as_u64() {
            Some(most @ 1..) => format!("on-failure:{most}"),
            _ => "on-failure".to_owned(),
        },
        _ => "always".to_owned(),
    };
    source.carried("restartPolicy");
    let depends: Map<String, Value> = spec["dependsOn"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|on| {
            let condition = match on["condition"].as_str() {
                Some("Started") => "service_started",
                Some("Complete") => "service_completed_successfully",
                _ => "service_healthy",
            };
            (on["app"].as_str().unwrap_or_default().to_owned(), json!({"condition": condition}))
        })
        .collect();
    let healthy = |on: &Value| on["condition"].as_str().unwrap_or("Ready") == "Ready";
    if spec["dependsOn"].as_array().is_some_and(|all| all.iter().any(healthy)) {
        source.nearly("dependsOn", "the other must have a healthcheck");
    } else if !depends.is_empty() {
        source.carried("dependsOn");
    }
    let check = container::check(source, &spec["ports"]).map(|command| {
        let command: Vec<String> =
            std::iter::once("CMD".to_owned()).chain(command.iter().map(|w| no_variables(w))).collect();
        let seconds = |field: &str, usual: i64| format!("{}s", spec["readinessProbe"][field].as_i64().unwrap_or(usual));
        json!({
            "test": command, "interval": seconds("periodSeconds", 10), "timeout": seconds("timeoutSeconds", 1),
            "retries": spec["readinessProbe"]["failureThreshold"].as_i64().unwrap_or(3),
        })
    });
    let policy = match container["imagePullPolicy"].as_str() {
        Some("Always") => json!("always"),
        Some("Never") => json!("never"),
        _ => Value::Null,
    };
    let grace = spec["terminationGracePeriodSeconds"].as_i64().map(|seconds| format!("{seconds}s"));
    let ports = ports(source);
    let (deploy, logging, labels) = (deploy(source), logging(source), labels(source));
    let pids = amount(&spec["resources"]["limits"]["pids"]).map_or(Value::Null, |pids| json!(pids.units()));
    for field in ["stopSignal", "terminationGracePeriodSeconds"] {
        if !spec[field].is_null() {
            source.carried(field);
        }
    }
    unit::rest(
        source,
        &[
            "container",
            "env",
            "envFrom",
            "ports",
            "restartPolicy",
            "restart",
            "resources",
            "replicas",
            "dependsOn",
            "logs",
        ],
    );
    let flag = |field: &str| if container[field] == true { json!(true) } else { Value::Null };
    some(vec![
        ("image", container["image"].clone()),
        ("pull_policy", policy),
        ("entrypoint", json!(escaped(&container["command"]))),
        ("command", json!(escaped(&container["args"]))),
        ("working_dir", container["workingDir"].clone()),
        ("user", container["user"].clone()),
        ("environment", Value::Object(environment)),
        ("ports", json!(ports)),
        ("volumes", json!(mounts)),
        ("network_mode", mode),
        ("networks", network),
        ("read_only", flag("readOnlyRootFilesystem")),
        ("privileged", flag("privileged")),
        ("cap_add", container["capabilities"]["add"].clone()),
        ("cap_drop", container["capabilities"]["drop"].clone()),
        ("depends_on", Value::Object(depends)),
        ("healthcheck", json!(check)),
        ("restart", json!(restart)),
        ("stop_signal", spec["stopSignal"].clone()),
        ("stop_grace_period", json!(grace)),
        ("pids_limit", pids),
        ("deploy", deploy),
        ("logging", logging),
        ("labels", labels),
    ])
}

fn ports(source: &mut Source<'_>) -> Vec<String> {
    let mut made = Vec::new();
    for port in source.spec["ports"].as_array().into_iter().flatten() {
        let number = &port["containerPort"];
        let protocol = if port["protocol"] == "UDP" { "/udp" } else { "" };
        match port["hostPort"].as_u64() {
            None => {}
            Some(0) => made.push(format!("127.0.0.1::{number}{protocol}")),
            Some(host) => made.push(format!("127.0.0.1:{host}:{number}{protocol}")),
        }
        source.carried("ports");
    }
    made
}

fn amount(value: &Value) -> Option<crate::api::Quantity> {
    text(value)?.parse().ok()
}

fn deploy(source: &mut Source<'_>) -> Value {
    let spec = source.spec;
    let mut deploy = Map::new();
    if let Some(replicas) = spec["replicas"].as_i64().filter(|replicas| *replicas != 1) {
        deploy.insert("replicas".to_owned(), json!(replicas));
        source.carried("replicas");
    }
    let mut resources = Map::new();
    for (ours, theirs) in [("limits", "limits"), ("requests", "reservations")] {
        let mut side = Map::new();
        for (name, amount) in entries(&spec["resources"][ours]) {
            let Some(amount) = self::amount(amount) else { continue };
            let field = format!("resources.{ours}.{name}");
            match name.as_str() {
                "memory" => drop(side.insert("memory".to_owned(), json!(amount.units().to_string()))),
                "cpu" => drop(side.insert("cpus".to_owned(), json!((amount.milli() as f64 / 1000.0).to_string()))),
                // As `pids_limit`, which every Compose understands.
                "pids" if ours == "limits" => {}
                _ => {
                    source.dropped(&field, "memory, cpus and pids are limited there");
                    continue;
                }
            }
            source.carried(&field);
        }
        if !side.is_empty() {
            resources.insert(theirs.to_owned(), Value::Object(side));
        }
    }
    if !resources.is_empty() {
        deploy.insert("resources".to_owned(), Value::Object(resources));
    }
    for (field, _) in entries(&spec["restart"]) {
        match field.as_str() {
            "maxRestarts" if spec["restartPolicy"] == "OnFailure" => source.carried("restart.maxRestarts"),
            _ => source.dropped(&format!("restart.{field}"), "an engine restarts by rules of its own"),
        }
    }
    Value::Object(deploy)
}

fn logging(source: &mut Source<'_>) -> Value {
    let logs = &source.spec["logs"];
    let size = logs["maxSize"].as_str().and_then(|text| text.parse::<crate::api::Quantity>().ok());
    let mut options = Map::new();
    if let Some(size) = size {
        options.insert("max-size".to_owned(), json!(size.units().to_string()));
    }
    if let Some(files) = logs["maxFiles"].as_u64() {
        options.insert("max-file".to_owned(), json!(files.to_string()));
    }
    if options.is_empty() {
        return Value::Null;
    }
    source.carried("logs");
    json!({"driver": "json-file", "options": options})
}

fn labels(source: &mut Source<'_>) -> Value {
    let mut labels = Map::new();
    for field in ["labels", "annotations"] {
        for (key, value) in entries(&source.object["metadata"][field]) {
            labels.insert(key.clone(), json!(no_variables(value.as_str().unwrap_or_default())));
            source.carried(&format!("metadata.{field}"));
        }
    }
    Value::Object(labels)
}
