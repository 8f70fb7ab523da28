//! The spellings of a Workflow that are brought into one before anything else looks at it: those where another type is written,
//! so that neither merging nor the schema would know what to make of them.

use serde_json::{Map, Value, json};

/// Triggers that may be written without particulars.
const BARE: &[&str] = &["manual", "workflow_dispatch", "workflow_call"];
/// What GitHub calls its machines, and the labels that nodes have.
const MACHINES: &[(&str, Option<(&str, &str)>)] = &[
    ("self-hosted", None),
    ("linux", Some(("kubernetes.io/os", "linux"))),
    ("macos", Some(("kubernetes.io/os", "darwin"))),
    ("windows", Some(("kubernetes.io/os", "windows"))),
    ("x64", Some(("kubernetes.io/arch", "amd64"))),
    ("arm64", Some(("kubernetes.io/arch", "arm64"))),
];
/// The label that a word means which only the run knows.
const OS: &str = "kubernetes.io/os";
/// App Mesh's word for the label of a node's name.
const HOST: &str = "kubernetes.io/hostname";

/// Brings the body of a Workflow into the spelling in which it is stored. Returns what its author should know.
pub fn canonical(object: &mut Value) -> Vec<String> {
    let mut told = Vec::new();
    let Some(Value::Object(spec)) = object.get_mut("spec") else { return told };
    if let Some(on) = spec.shift_remove("true") {
        told.push(
            "spec.true: the key `on` was read as a boolean (YAML 1.1), and is taken for `on`; write it in quotes"
                .to_owned(),
        );
        spec.insert("on".to_owned(), on);
    }
    spec.get_mut("on").into_iter().for_each(triggers);
    scope(spec);
    let jobs = spec.get_mut("jobs").and_then(Value::as_object_mut);
    for job in jobs.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        scope(job);
        job.get_mut("runs-on").into_iter().for_each(machine);
        if let Some(Value::Object(labels)) = job.get_mut("node_label")
            && let Some(host) = labels.shift_remove("host")
        {
            labels.insert(HOST.to_owned(), host);
        }
        let services = job.get_mut("services").and_then(Value::as_object_mut);
        services.into_iter().flat_map(Map::values_mut).filter_map(|service| service.get_mut("ports")).for_each(ports);
        for word in ["steps", "finally"] {
            let steps = job.get_mut(word).and_then(Value::as_array_mut);
            for step in steps.into_iter().flatten().filter_map(Value::as_object_mut) {
                blank(step);
                // App Mesh's `shell: true` is how every command is run.
                if step.get("shell") == Some(&Value::Bool(true)) {
                    step.shift_remove("shell");
                }
            }
        }
    }
    told
}

/// What Workflows and jobs have alike.
fn scope(map: &mut Map<String, Value>) {
    blank(map);
    if let Some(group @ Value::String(_)) = map.get_mut("concurrency") {
        *group = json!({"group": group.take()});
    }
}

/// A variable without a value is empty.
fn blank(map: &mut Map<String, Value>) {
    let env = map.get_mut("env").and_then(Value::as_object_mut);
    env.into_iter().flat_map(Map::values_mut).filter(|value| value.is_null()).for_each(|value| *value = json!(""));
}

fn triggers(on: &mut Value) {
    let bare = |words: Vec<Value>| {
        let words = words.into_iter().filter_map(|word| word.as_str().map(|word| (word.to_owned(), json!({}))));
        Value::Object(words.collect())
    };
    match on {
        Value::String(_) => *on = bare(vec![on.take()]),
        Value::Array(words) if words.iter().all(Value::is_string) => *on = bare(std::mem::take(words)),
        Value::Object(triggers) => {
            for (_, value) in
                triggers.iter_mut().filter(|(word, value)| BARE.contains(&word.as_str()) && value.is_null())
            {
                *value = json!({});
            }
        }
        _ => {}
    }
}

/// `5432`, `5432/udp`: a port by its number, by which expressions find it.
fn ports(ports: &mut Value) {
    for port in ports.as_array_mut().into_iter().flatten() {
        let said = match &*port {
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.clone(),
            _ => continue,
        };
        let (number, protocol) = said.split_once('/').unwrap_or((&said, "tcp"));
        if let Ok(number) = number.parse::<u16>() {
            *port = json!({"name": format!("port-{number}"), "containerPort": number});
            if !protocol.eq_ignore_ascii_case("tcp") {
                port["protocol"] = json!(protocol.to_ascii_uppercase());
            }
        }
    }
}

/// `linux`, `[self-hosted, linux, x64]`, `ubuntu-latest`: labels, if every word is known. What is an expression (`${{ matrix.os }}`) is one of
/// these words, too: see [`machine_label`].
fn machine(runs_on: &mut Value) {
    let words: Vec<&str> = match &*runs_on {
        Value::String(word) => vec![word],
        Value::Array(words) if words.iter().all(Value::is_string) => words.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let label = |word: &str| match word.contains("${{") {
        true => Some(Some((OS, word.to_owned()))),
        false => known(word).map(|label| label.map(|(name, value)| (name, value.to_owned()))),
    };
    let Some(labels) = words.into_iter().map(label).collect::<Option<Vec<_>>>() else { return };
    *runs_on =
        labels.into_iter().flatten().map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>().into();
}

/// The label that a word of GitHub's for a machine means; `Some(None)`: none.
fn known(word: &str) -> Option<Option<(&'static str, &'static str)>> {
    let word = word.to_ascii_lowercase();
    let (family, _) = word.split_once('-').filter(|_| word != "self-hosted").unwrap_or((&word, ""));
    let family = if family == "ubuntu" { "linux" } else { family };
    MACHINES.iter().find(|(name, _)| *name == family).map(|(_, label)| *label)
}

/// A label that a node must have, once expressions have been put in: `kubernetes.io/os: ubuntu-24.04` came out of `runs-on: ${{ matrix.os }}`.
/// `None`: any node will do.
pub fn machine_label(name: &str, value: String) -> Option<(String, String)> {
    match known(&value).filter(|_| name == OS) {
        Some(label) => label.map(|(name, value)| (name.to_owned(), value.to_owned())),
        None => Some((name.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(spec: Value) -> Value {
        let mut object = json!({"spec": spec});
        assert_eq!(canonical(&mut object), Vec::<String>::new());
        object["spec"].take()
    }

    #[test]
    fn a_bare_on_that_yaml_1_1_took_for_true_is_meant_as_on() {
        let mut object = json!({"spec": {"true": {"manual": null}, "jobs": {}}});
        let told = canonical(&mut object);
        assert_eq!(object, json!({"spec": {"jobs": {}, "on": {"manual": {}}}}));
        assert!(told[0].contains("write it in quotes"), "{told:?}");
    }

    #[test]
    fn words_stand_for_triggers_groups_and_machines() {
        assert_eq!(spec(json!({"on": "manual"})), json!({"on": {"manual": {}}}));
        assert_eq!(
            spec(json!({"on": ["workflow_dispatch", "push"], "concurrency": "a"})),
            json!({"on": {"workflow_dispatch": {}, "push": {}}, "concurrency": {"group": "a"}})
        );
        let job = |job: Value| spec(json!({"jobs": {"a": job}}))["jobs"]["a"].clone();
        assert_eq!(job(json!({"runs-on": "ubuntu-24.04"})), json!({"runs-on": {"kubernetes.io/os": "linux"}}));
        assert_eq!(
            job(json!({"runs-on": ["self-hosted", "Linux", "X64"]})),
            json!({"runs-on": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}})
        );
        assert_eq!(
            job(json!({"runs-on": ["x64", "${{ matrix.os }}"]})),
            json!({"runs-on": {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "${{ matrix.os }}"}})
        );
        let label = |name: &str, value: &str| machine_label(name, value.to_owned());
        let of = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(label(OS, "ubuntu-latest"), of(OS, "linux"));
        assert_eq!(label(OS, "ARM64"), of("kubernetes.io/arch", "arm64"));
        assert_eq!(label(OS, "self-hosted"), None);
        assert_eq!(label(OS, "plan9"), of(OS, "plan9"), "no node has it");
        assert_eq!(label("role", "linux"), of("role", "linux"));
        assert_eq!(job(json!({"runs-on": "gpu"})), json!({"runs-on": "gpu"}), "said by the schema");
        assert_eq!(job(json!({"node_label": {"host": "n1"}})), json!({"node_label": {HOST: "n1"}}));
        assert_eq!(
            job(json!({"env": {"A": null}, "steps": [{"shell": true, "env": {"B": null}, "concurrency": "x"}]})),
            json!({"env": {"A": ""}, "steps": [{"env": {"B": ""}, "concurrency": "x"}]})
        );
    }

    #[test]
    fn ports_of_services_are_numbers_or_said_in_full() {
        let full = json!({"name": "http", "containerPort": 80});
        let said = json!({"jobs": {"a": {"services": {"db": {"ports": [5432, "53/udp", "6379:6379", full]}}}}});
        let ports = json!([
            {"name": "port-5432", "containerPort": 5432}, {"name": "port-53", "containerPort": 53, "protocol": "UDP"}, "6379:6379", full,
        ]);
        assert_eq!(spec(said)["jobs"]["a"]["services"]["db"]["ports"], ports);
    }

    #[test]
    fn what_is_something_else_is_left_alone() {
        for odd in [
            json!(null),
            json!([]),
            json!({"on": 1, "jobs": [1], "env": 2}),
            json!({"jobs": {"a": 1, "b": {"steps": {}}}}),
        ] {
            assert_eq!(spec(odd.clone()), odd);
        }
    }
}
