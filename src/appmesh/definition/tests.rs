//! The table, by example and by law: what a client says is what it reads, and what comes back as it was shown changes nothing.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Definition, Of, types};

fn map(json: Value) -> Map<String, Value> {
    json.as_object().expect("an object").clone()
}

fn made(json: Value) -> Value {
    let json = map(json);
    let of = Of::said(&json);
    let mut definition = Definition::new(of, "x");
    definition.update(&json, true).expect("it can be said");
    definition.into_object()
}

fn refused(json: Value) -> String {
    let json = map(json);
    let mut definition = Definition::new(Of::said(&json), "x");
    definition.update(&json, true).expect_err("it cannot be said")
}

#[test]
fn what_app_mesh_runs_all_the_time_is_an_app() {
    let app = made(json!({
        "name": "x", "command": "echo hello; sleep 2", "shell": true, "description": "fixture", "metadata": {"k": [1, 2]},
        "permission": 33, "behavior": {"exit": "standby", "control": {"1": "restart"}}, "env": {"E1": "$(v1)"},
        "start_time": 1_700_000_000u64, "end_time": 4_000_000_000u64, "stdout_cache_num": 2, "health_check_cmd": "true",
        "daily_limitation": {"daily_start": 1_700_000_000u64, "daily_end": 1_700_030_000u64}, "working_dir": "/tmp",
        "resource_limit": {"cpu_shares": 100, "memory_mb": 200, "memory_virt_mb": 300},
    }));
    assert_eq!(
        app["spec"],
        json!({
            "process": {
                "script": "#!/bin/bash\nset -e\necho hello; sleep 2\n", "stdin": "{\"k\":[1,2]}", "workingDir": "/tmp",
            },
            "env": [{"name": "E1", "value": "$$(v1)"}],
            "sharing": {"group": "ReadWrite", "others": "ReadWrite"},
            "logs": {"maxFiles": 3},
            "readinessProbe": {
                "exec": {"command": ["/bin/sh", "-c", "true"]}, "periodSeconds": 2, "timeoutSeconds": 10, "failureThreshold": 1,
            },
            "activeWindow": {
                "notAfter": "2096-10-02T07:06:40Z", "daily": {"from": "22:13", "to": "06:33"}, "notBefore": "2023-11-14T22:13:20Z",
            },
            "restartPolicy": "Never",
            "restart": {"exitCodes": {"1": "Restart"}},
            "resources": {"limits": {"memory": "200Mi", "memorySwap": "300Mi"}, "requests": {"cpu": "98m"}},
        })
    );
    assert_eq!(app["metadata"]["annotations"], json!({"kubernetes.io/description": "fixture"}));
    let spec = made(json!({"command": "sleep '1 000'", "status": 0, "behavior": {"exit": "REMOVE"}}))["spec"].clone();
    assert_eq!(
        spec,
        json!({
            "process": {"command": ["sleep", "1 000"]}, "suspend": true, "restartPolicy": "Never",
            "restart": {"exitCodes": {"*": "Remove"}},
        })
    );
    let image = made(json!({"docker_image": "redis:7", "command": "redis-server --save ''", "env": {"A": "b"}}));
    assert_eq!(image["spec"]["container"], json!({"image": "redis:7", "args": ["redis-server", "--save", ""]}));
    assert_eq!(made(json!({"pid": 77}))["spec"]["process"], json!({"adopt": {"pid": 77}}));
}

#[test]
fn what_it_runs_by_time_is_a_schedule() {
    let schedule = made(
        json!({"command": "date", "start_interval_seconds": "P1DT1H30M", "start_time": 1_767_225_600u64, "retention": "PT5M"}),
    );
    assert_eq!(schedule["kind"], "Schedule");
    assert_eq!(
        schedule["spec"],
        json!({
            "run": {"process": {"command": ["date"]}},
            "every": {"interval": "25h30m", "anchor": "2026-01-01T00:00:00Z"},
            "concurrencyPolicy": "Replace", "replaceGrace": "5m",
        })
    );
    let cron =
        made(json!({"command": "date", "cron": true, "start_interval_seconds": "0 */5 * * * *", "permission": 21}));
    assert_eq!(
        cron["spec"],
        json!({"run": {"process": {"command": ["date"]}}, "cron": "0 */5 * * * *", "concurrencyPolicy": "Replace"})
    );
    // As the third generation says it.
    let third = made(json!({"command": "date", "cron_schedule": "0 */5 * * * *", "permission": 21, "enabled": true}));
    assert_eq!(third, cron);
    let first = made(json!({"command": "date", "interval": "0 */5 * * * *", "cron": true, "permission": 21}));
    assert_eq!(first, cron);
}

#[test]
fn what_cannot_be_said_here_is_refused_in_words() {
    for (json, word) in [
        (json!({"name": "bad"}), "no command line provide"),
        (json!({"command": "true", "behavior": {"exit": "bogus"}}), "invalid action input"),
        (json!({"command": "true", "behavior": {"control": {"SIGKILL": "restart"}}}), "no exit code"),
        (json!({"command": "echo 'x"}), "quote"),
        (json!({"command": 5}), "`command` must be a text"),
        (json!({"command": "true", "permission": 44}), "permission"),
        (json!({"command": "true", "env": {"A": 1}}), "`env.A`"),
        (json!({"command": "true", "start_interval_seconds": "soon"}), "neither a number of seconds"),
        (json!({"command": "true", "start_interval_seconds": 5, "behavior": {"exit": "restart"}}), "behavior"),
        (json!({"command": "true", "start_time": 5, "end_time": 4}), "before"),
        (json!({"command": "true", "daily_limitation": {"daily_start": 5}}), "daily_end"),
        (json!({"command": "true", "working_dir": "work"}), "working_dir"),
        (json!({"docker_image": "redis", "metadata": {"a": 1}}), "container"),
        (json!({"command": "true", "status": 7}), "status"),
    ] {
        let why = refused(json.clone());
        assert!(why.contains(word), "{json}: {why}");
    }
}

/// An App that says much that App Mesh's JSON has no words for.
fn rich() -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "App",
        "metadata": {"name": "x", "namespace": "default", "labels": {"a": "b"}, "annotations": {"other": "stays"}},
        "spec": {
            "replicas": 3,
            "process": {"command": ["sh", "-c", "exec sleep $(N)"], "args": ["x"], "user": "ada", "nice": 5, "stdin": "{ \"a\": 1 }"},
            "env": [
                {"name": "N", "value": "$(M)0"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "c"}}],
            "restartPolicy": "OnFailure",
            "restart": {"exitCodes": {"SIGKILL": "Remove", "3": "Stop"}, "maxRestarts": 7},
            "resources": {"limits": {"memory": "0.7Gi", "cpu": "1500m", "pids": "9"}, "requests": {"cpu": "0.33", "memory": "1Mi"}},
            "activeWindow": {"daily": {"from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin"}},
            "readinessProbe": {"httpGet": {"port": 80}},
            "livenessProbe": {"tcpSocket": {"port": 80}},
            "dependsOn": [{"app": "db", "condition": "Started"}],
            "logs": {"maxFiles": 7, "maxSize": "1Mi", "redactSecrets": true},
            "sharing": {"group": "Read"},
            "task": {"concurrency": 4},
        },
    })
}

#[test]
fn what_a_client_cannot_say_stays_when_it_changes_something() {
    let mut json = Definition::of(Of::App, rich()).shown();
    json.insert("description".to_owned(), json!("new"));
    json["env"]["N"] = json!("5");
    // An older client knows fewer words, and sends what it does not know of the state too.
    for name in ["depends_on", "enabled", "stdout_backup_count", "stop_grace_period"] {
        json.remove(name);
    }
    json.insert("depends_on".to_owned(), json!(["db"]));
    json.insert("pid".to_owned(), json!(4711));
    json.insert("starts".to_owned(), json!(1));
    let mut definition = Definition::of(Of::App, rich());
    definition.update(&json, false).expect("good");
    let mut expected = rich();
    expected["metadata"]["annotations"]["kubernetes.io/description"] = json!("new");
    expected["spec"]["env"][0]["value"] = json!("5");
    assert_eq!(definition.into_object(), expected);
}

#[test]
fn of_two_names_for_a_thing_the_one_counts_that_says_something_new() {
    let is_off = |json: Value| {
        let mut definition = Definition::of(Of::App, made(json!({"command": "true"})));
        definition.update(&map(json), false).expect("good");
        definition.into_object()["spec"]["suspend"] == true
    };
    assert!(is_off(json!({"command": "true", "status": 0, "enabled": true})));
    assert!(is_off(json!({"command": "true", "status": 1, "enabled": false})));
    assert!(is_off(json!({"command": "true", "enabled": false})));
    assert!(!is_off(json!({"command": "true"})));
}

#[test]
fn schedules_of_single_times_and_of_apps_are_not_app_meshs() {
    let said = |spec: Value| Definition::of(Of::Schedule, json!({"spec": spec})).can_be_said();
    assert!(said(json!({"cron": "* * * * *", "run": {"process": {"command": ["date"]}}})));
    assert!(!said(json!({"cron": "* * * * *", "run": {"app": "web"}})));
    assert!(!said(json!({"at": ["2026-12-24T18:00:00Z"], "run": {"process": {"command": ["date"]}}})));
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z$(){}'\" \\\\-]{0,8}[a-z]"
}

/// What a client may say, each thing as it is shown.
fn said() -> impl Strategy<Value = Value> {
    let maybe = |strategy: BoxedStrategy<Value>| prop_oneof![Just(Value::Null), strategy];
    let number = |range: std::ops::Range<u64>| range.prop_map(Value::from).boxed();
    let texts = prop::collection::btree_map("[A-Z]{1,3}", word(), 1..4).prop_map(|map| json!(map)).boxed();
    let action = || prop_oneof![Just("standby"), Just("restart"), Just("remove")];
    let control = prop::collection::btree_map((0..256u32).prop_map(|code| code.to_string()), action(), 1..4);
    let behavior = (action(), prop::option::of(control)).prop_map(|(exit, control)| match control {
        Some(control) => json!({"exit": exit, "control": control}),
        None => json!({"exit": exit}),
    });
    let metadata = prop_oneof![
        "[a-z ]{1,9}[a-z]".prop_map(Value::from),
        prop::collection::vec(0..9u8, 0..3).prop_map(|list| json!({"list": list})),
    ];
    let limits = (1..90_000u64, 1..90_000u64)
        .prop_map(|(memory, more)| json!({"memory_mb": memory, "memory_virt_mb": memory + more}));
    let program = prop_oneof![
        word().prop_map(|line| json!({"command": line.trim(), "shell": true})),
        word().prop_map(|line| json!({"command": line.trim(), "session_login": true})),
        prop::collection::vec(word(), 1..4)
            .prop_map(|words| json!({"command": super::words::join(words.iter().map(String::as_str))})),
        "[a-z]{1,9}".prop_map(|image| json!({"docker_image": image})),
    ];
    let daily = (0..1440u64, 1..1440u64)
        .prop_map(|(from, more)| json!({"daily_start": from * 60, "daily_end": (from + more) % 1440 * 60}));
    let one = (program, maybe(texts), behavior, maybe(metadata.boxed()), maybe(limits.boxed()), maybe(daily.boxed()));
    let two = (
        maybe(number(1..2_000_000_000)),
        maybe(number(2_000_000_000..4_000_000_000)),
        prop_oneof![Just(0), Just(1)],
        prop_oneof![Just(Value::Null), Just(json!(12)), Just(json!(33)), Just(json!(21))],
        maybe(number(1..900)),
        maybe(number(1..90)),
        maybe((1..100_000u64).prop_map(|n| json!(n.to_string())).boxed()),
        prop_oneof![
            Just(json!({})),
            Just(json!({"start_interval_seconds": "90"})),
            Just(json!({"start_interval_seconds": "1 * * * * *", "cron": true}))
        ],
    );
    (one, two).prop_map(|(one, two)| {
        let (program, env, behavior, metadata, limits, daily) = one;
        let (start, end, status, permission, history, version, retention, timed) = two;
        let metadata = if program["docker_image"].is_null() { metadata } else { Value::Null };
        let by_time = timed.get("start_interval_seconds").is_some();
        let mut said = json!({
            "env": env, "metadata": metadata, "resource_limit": limits, "daily_limitation": daily, "start_time": start,
            "end_time": end, "status": status, "permission": permission, "stdout_cache_num": history, "version": version,
            "retention": retention, "description": "a word", "behavior": if by_time { json!({"exit": "standby"}) } else { behavior },
            "health_check_cmd": if by_time { Value::Null } else { json!("test -f $(pwd)/x") },
        });
        let said_map = said.as_object_mut().expect("an object");
        said_map.extend(map(program));
        said_map.extend(map(timed));
        said_map.retain(|_, value| !value.is_null());
        said
    })
}

proptest! {
    #[test]
    fn what_a_client_said_is_what_it_reads(said in said()) {
        let said = map(said);
        let of = Of::said(&said);
        let mut definition = Definition::new(of, "x");
        definition.update(&said, true).expect("it can be said");
        let (read, expected) = (Value::Object(definition.said()), Value::Object(said));
        prop_assert_eq!(&read, &expected);
        // And again, over what somebody else has made.
        if of == Of::App {
            let mut definition = Definition::of(of, rich());
            let json = map(expected.clone());
            definition.update(&json, false).expect("it can be said");
            prop_assert_eq!(Value::Object(definition.said()), expected);
        }
    }

    #[test]
    fn what_comes_back_as_it_was_shown_changes_nothing(said in said()) {
        let said = map(said);
        let of = Of::said(&said);
        let mut definition = Definition::new(of, "x");
        definition.update(&said, true).expect("it can be said");
        for object in [definition.into_object(), rich()] {
            let of = if object["kind"] == "App" { Of::App } else { Of::Schedule };
            let mut definition = Definition::of(of, object.clone());
            let shown = definition.shown();
            definition.update(&shown, false).expect("it was shown");
            prop_assert_eq!(definition.into_object(), object);
        }
    }
}

/// The same in the third generation's words alone.
fn as_third(said: &Map<String, Value>) -> Map<String, Value> {
    let mut third = Map::new();
    let is_cron = said.contains_key("cron");
    for (name, value) in said {
        let (name, value) = match name.as_str() {
            "status" => ("enabled", json!(*value == 1)),
            "retention" => ("stop_grace_period", value.clone()),
            "stdout_cache_num" => ("stdout_backup_count", value.clone()),
            "start_interval_seconds" if is_cron => ("cron_schedule", value.clone()),
            "start_interval_seconds" => ("interval", value.clone()),
            // It has none of these.
            "cron" | "version" => continue,
            "behavior" => {
                let mut behavior = json!({"exit": value["exit"]});
                if !value["control"].is_null() {
                    behavior["exit_code_actions"] = value["control"].clone();
                }
                ("behavior", behavior)
            }
            name => (name, value.clone()),
        };
        third.insert(name.to_owned(), value);
    }
    third
}

proptest! {
    #[test]
    fn what_a_client_of_the_third_generation_said_is_what_it_reads_in_the_types_that_it_parses(said in said()) {
        let third = as_third(&map(said));
        let of = Of::said(&third);
        let mut definition = Definition::new(of, "x");
        definition.update(&third, true).expect("it can be said");
        let shown = definition.shown();
        for (name, value) in &shown {
            prop_assert!(types::is_parsed(name, value), "{}: {}", name, value);
        }
        let mut read: Map<String, Value> = shown.into_iter().filter(|(name, _)| third.contains_key(name)).collect();
        if let Some(behavior) = read.get_mut("behavior").and_then(Value::as_object_mut) {
            behavior.shift_remove("control");
        }
        prop_assert_eq!(Value::Object(read), Value::Object(third.clone()));
        // And what it sends back with both generations' words changes nothing.
        let before = definition.said();
        let again = definition.shown();
        definition.update(&again, false).expect("it was shown");
        prop_assert_eq!(definition.said(), before);
    }
}
