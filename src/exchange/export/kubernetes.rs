//! Manifests of Kubernetes: Apps with containers become Deployments with their Services, Schedules CronJobs, Runs Jobs.

use serde_json::{Map, Value, json};

use super::super::{
    report::{Fate, Report},
    tree::entries,
};
use super::{
    File, Source,
    container::{self, some},
    part, unit,
};

/// Files of manifests, one for each object.
pub fn write(objects: &[Value]) -> Report<File> {
    let mut report = Report::default();
    for object in objects {
        let mut source = Source::of(object);
        let kind = object["kind"].as_str().unwrap_or_default();
        let made = match kind {
            "App" if container::is_contained(object) => deployment(&mut source),
            "Schedule" if container::is_contained(object) => cron_job(&mut source),
            "Run" if container::is_contained(object) => vec![job(&mut source)],
            "ConfigMap" | "Secret" | "Namespace" => {
                source.carried(kind);
                vec![object.clone()]
            }
            "App" | "Schedule" | "Run" => {
                let remark = "only containers are written; a Pod has no processes of the machine";
                report.note(&source.spot, "spec", Fate::Dropped, remark);
                continue;
            }
            _ => {
                report.note(&source.spot, kind, Fate::Dropped, "there is nothing like it there");
                continue;
            }
        };
        let text: Vec<String> = made.iter().map(|one| serde_saphyr::to_string(one).expect("JSON is YAML")).collect();
        let name = format!("{}-{}.yaml", kind.to_lowercase(), source.name);
        report.parts.push(part(name, text.join("---\n"), source.notes));
    }
    report
}

const POD_FIELDS: [&str; 4] =
    ["terminationGracePeriodSeconds", "nodeSelector", "restartPolicy", "activeDeadlineSeconds"];

/// Labels by which a Deployment finds its Pods.
fn labels(source: &Source<'_>) -> Value {
    let mut labels = source.object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    labels.insert("app.kubernetes.io/name".to_owned(), json!(source.name));
    Value::Object(labels)
}

fn metadata(source: &mut Source<'_>) -> Value {
    let mut kept = Map::new();
    for field in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = source.object["metadata"].get(field) {
            kept.insert(field.to_owned(), value.clone());
            source.carried(&format!("metadata.{field}"));
        }
    }
    Value::Object(kept)
}

/// What runs, as the spec of a Pod.
fn pod(source: &mut Source<'_>, spec: &Value, at: &str, restart: &str) -> Value {
    let said = &spec["container"];
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    for mount in said["mounts"].as_array().into_iter().flatten() {
        let from = mount["source"].as_str().unwrap_or_default();
        let name = super::super::names::label(&format!("v-{from}"), 50);
        let made = match from.starts_with('/') {
            true => json!({"name": name, "hostPath": {"path": from}}),
            false => {
                source.nearly(
                    &format!("{at}container.mounts"),
                    "a volume of the engine became a claim, which must be there",
                );
                json!({"name": name, "persistentVolumeClaim": {"claimName": super::super::names::label(from, 50)}})
            }
        };
        if !volumes.contains(&made) {
            volumes.push(made);
        }
        mounts.push(Value::Object(some(vec![
            ("name", json!(name)),
            ("mountPath", mount["target"].clone()),
            ("readOnly", if mount["readOnly"] == true { json!(true) } else { Value::Null }),
        ])));
    }
    let ports: Vec<Value> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let protocol = if port["protocol"] == "UDP" { json!("UDP") } else { Value::Null };
            Value::Object(some(vec![
                ("name", port["name"].clone()),
                ("containerPort", port["containerPort"].clone()),
                ("protocol", protocol),
            ]))
        })
        .collect();
    if !ports.is_empty() {
        source.carried("ports");
    }
    let user = said["user"].as_str().map(|user| user.split_once(':').unwrap_or((user, "")));
    let number = |text: &str| text.parse::<i64>().map_or(Value::Null, |id| json!(id));
    if user.is_some_and(|(user, _)| user.parse::<i64>().is_err()) {
        source.dropped(&format!("{at}container.user"), "a Pod's user is a number");
    }
    let flag = |field: &str| if said[field] == true { json!(true) } else { Value::Null };
    let security = some(vec![
        ("runAsUser", user.map_or(Value::Null, |(user, _)| number(user))),
        ("runAsGroup", user.map_or(Value::Null, |(_, group)| number(group))),
        ("privileged", flag("privileged")),
        ("readOnlyRootFilesystem", flag("readOnlyRootFilesystem")),
        ("capabilities", said["capabilities"].clone()),
    ]);
    let resources = resources(source, &spec["resources"], at);
    let probe = |source: &mut Source<'_>, field: &str| match (spec[field].is_null(), spec[field]["notify"].is_null()) {
        (true, _) => Value::Null,
        (false, true) => {
            source.carried(field);
            spec[field].clone()
        }
        _ => {
            source.dropped(field, "sd_notify is not heard there");
            Value::Null
        }
    };
    let (startup, ready, alive) =
        (probe(source, "startupProbe"), probe(source, "readinessProbe"), probe(source, "livenessProbe"));
    for field in [
        "image",
        "command",
        "args",
        "workingDir",
        "imagePullPolicy",
        "imagePullSecrets",
        "user",
        "privileged",
        "readOnlyRootFilesystem",
        "capabilities",
        "mounts",
    ] {
        let told = source.notes.iter().any(|note| note.setting == format!("{at}container.{field}"));
        if !said[field].is_null() && !told {
            source.carried(&format!("{at}container.{field}"));
        }
    }
    let host = said["network"] == "host";
    match said["network"].as_str() {
        None | Some("bridge" | "host") => {}
        Some(_) => source.dropped(&format!("{at}container.network"), "a cluster has one network"),
    }
    if said["runtime"].as_str().is_some_and(|runtime| runtime != "auto") {
        source.dropped(&format!("{at}container.runtime"), "the node's own runs it");
    }
    for field in ["env", "envFrom", "lifecycle"] {
        if !spec[field].is_null() {
            source.carried(&format!("{at}{field}"));
        }
    }
    let container = some(vec![
        ("name", json!(super::super::names::label(source.name, 50))),
        ("image", said["image"].clone()),
        ("imagePullPolicy", said["imagePullPolicy"].clone()),
        ("command", said["command"].clone()),
        ("args", spec.get("args").unwrap_or(&said["args"]).clone()),
        ("workingDir", said["workingDir"].clone()),
        ("env", spec["env"].clone()),
        ("envFrom", spec["envFrom"].clone()),
        ("ports", json!(ports)),
        ("resources", resources),
        ("volumeMounts", json!(mounts)),
        ("securityContext", Value::Object(security)),
        ("startupProbe", startup),
        ("readinessProbe", ready),
        ("livenessProbe", alive),
        ("lifecycle", spec["lifecycle"].clone()),
        ("terminationMessagePolicy", spec["terminationMessagePolicy"].clone()),
    ]);
    for field in POD_FIELDS.iter().filter(|field| !spec[**field].is_null()) {
        source.carried(&format!("{at}{field}"));
    }
    let grace = &spec["terminationGracePeriodSeconds"];
    Value::Object(some(vec![
        ("restartPolicy", json!(restart)),
        ("terminationGracePeriodSeconds", grace.clone()),
        ("hostNetwork", if host { json!(true) } else { Value::Null }),
        ("nodeSelector", spec["nodeSelector"].clone()),
        ("imagePullSecrets", said["imagePullSecrets"].clone()),
        ("containers", json!([container])),
        ("volumes", json!(volumes)),
    ]))
}

fn resources(source: &mut Source<'_>, said: &Value, at: &str) -> Value {
    let mut made = json!({});
    for side in ["limits", "requests"] {
        for (name, amount) in entries(&said[side]) {
            match name.as_str() {
                "cpu" | "memory" => {
                    made[side][name] = amount.clone();
                    source.carried(&format!("{at}resources.{side}.{name}"));
                }
                _ => source.dropped(&format!("{at}resources.{side}.{name}"), "a Pod has memory and cpu"),
            }
        }
    }
    made
}

fn deployment(source: &mut Source<'_>) -> Vec<Value> {
    let spec = source.spec;
    let labels = labels(source);
    let selector = json!({"app.kubernetes.io/name": source.name});
    if spec["restartPolicy"].as_str().is_some_and(|policy| policy != "Always") {
        source.nearly("restartPolicy", "a Deployment restarts after every exit");
    }
    let replicas = if spec["suspend"] == true { json!(0) } else { spec["replicas"].clone() };
    if spec["suspend"] == true {
        source.nearly("suspend", "no replicas");
    }
    let mut strategy = spec["strategy"].clone();
    if let Some(map) = strategy.as_object_mut()
        && map.shift_remove("autoRollback").is_some_and(|value| value == true)
    {
        source.dropped("strategy.autoRollback", "`kubectl rollout undo` takes a rollout back");
    }
    if strategy["type"] == "Recreate" {
        strategy = json!({"type": "Recreate"});
    }
    let template = json!({"metadata": {"labels": labels}, "spec": pod(source, spec, "", "Always")});
    let body = some(vec![
        ("replicas", replicas),
        ("selector", json!({"matchLabels": selector})),
        ("strategy", strategy),
        ("minReadySeconds", spec["minReadySeconds"].clone()),
        ("progressDeadlineSeconds", spec["progressDeadlineSeconds"].clone()),
        ("revisionHistoryLimit", spec["revisionHistoryLimit"].clone()),
        ("paused", if spec["paused"] == true { json!(true) } else { Value::Null }),
        ("template", template),
    ]);
    for field in
        ["replicas", "strategy", "minReadySeconds", "progressDeadlineSeconds", "revisionHistoryLimit", "paused"]
    {
        if !spec[field].is_null() {
            source.carried(field);
        }
    }
    let metadata = metadata(source);
    let mut made = vec![json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": body})];
    let ports: Vec<Value> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|port| !port["hostPort"].is_null())
        .map(|port| {
            let node = port["hostPort"].as_u64().filter(|port| (30000..32768).contains(port));
            let number = &port["containerPort"];
            Value::Object(some(vec![
                ("name", port["name"].clone()),
                ("port", number.clone()),
                ("targetPort", port["name"].clone()),
                ("protocol", port.get("protocol").cloned().unwrap_or(Value::Null)),
                ("nodePort", node.map_or(Value::Null, |node| json!(node))),
            ]))
        })
        .collect();
    if !ports.is_empty() {
        let by_node = ports.iter().any(|port| port["nodePort"].is_u64());
        let kind = if by_node { "NodePort" } else { "ClusterIP" };
        let mut about = json!({"name": source.name});
        if let Some(namespace) = source.object["metadata"].get("namespace") {
            about["namespace"] = namespace.clone();
        }
        let body = json!({"type": kind, "selector": selector, "ports": ports});
        made.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": body}));
        source.nearly("ports.hostPort", "a Service of the App's name");
    }
    unit::rest(
        source,
        &["container", "env", "envFrom", "ports", "resources", "replicas", "suspend", "terminationMessagePolicy"],
    );
    made
}

/// The spec of a Job.
fn job_spec(source: &mut Source<'_>, run: &Value, at: &str) -> Value {
    let backoff = run.get("backoffLimit").cloned().unwrap_or(json!(0));
    let pod = pod(source, run, at, "Never");
    for field in ["backoffLimit", "ttlSecondsAfterFinished", "suspend", "args"] {
        if !run[field].is_null() {
            source.carried(&format!("{at}{field}"));
        }
    }
    Value::Object(some(vec![
        ("backoffLimit", backoff),
        ("activeDeadlineSeconds", run["activeDeadlineSeconds"].clone()),
        ("ttlSecondsAfterFinished", run["ttlSecondsAfterFinished"].clone()),
        ("suspend", if run["suspend"] == true { json!(true) } else { Value::Null }),
        ("template", json!({"spec": pod})),
    ]))
}

fn job(source: &mut Source<'_>) -> Value {
    let spec = job_spec(source, source.spec, "");
    let metadata = metadata(source);
    unit::rest(source, &["container", "env", "envFrom", "resources", "template"]);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
}

fn cron_job(source: &mut Source<'_>) -> Vec<Value> {
    let spec = source.spec;
    let Some(cron) = spec["cron"].as_str().filter(|cron| cron.split_whitespace().count() != 6) else {
        source.dropped("spec", "a CronJob has a `schedule` of five fields, to the minute");
        return Vec::new();
    };
    source.carried("cron");
    let run = job_spec(source, &spec["run"], "run.");
    let fields = [
        ("timeZone", "timeZone"),
        ("concurrencyPolicy", "concurrencyPolicy"),
        ("startingDeadlineSeconds", "startingDeadlineSeconds"),
        ("suspend", "suspend"),
        ("successfulRunsHistoryLimit", "successfulJobsHistoryLimit"),
        ("failedRunsHistoryLimit", "failedJobsHistoryLimit"),
    ];
    let mut body = some(vec![("schedule", json!(cron)), ("jobTemplate", json!({"spec": run}))]);
    for (ours, theirs) in fields {
        if !spec[ours].is_null() {
            body.insert(theirs.to_owned(), spec[ours].clone());
            source.carried(ours);
        }
    }
    let metadata = metadata(source);
    unit::rest(source, &["run"]);
    vec![json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": body})]
}
