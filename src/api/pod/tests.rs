//! What of an instance a Pod shows, case by case.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::api::Kind;

const NOW: &str = "2026-01-01T01:00:00Z";
const RUNNING: &str = r#"{"running": {"pid": 7, "startTime": "2026-01-01T00:50:00.5Z", "adopted": false}}"#;

fn instance(status: &Value) -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "Instance",
        "metadata": {
            "name": "web-1-0", "namespace": "shop", "uid": "u1", "resourceVersion": "9",
            "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "appm"}],
            "labels": {"appm.dev/app": "web"},
            "ownerReferences": [{"apiVersion": "appm.dev/v1", "kind": "App", "name": "web", "uid": "a1", "controller": true}],
        },
        "spec": {
            "nodeName": "host-a", "revision": "web-1", "process": {"command": ["/usr/bin/web", "-v"], "args": ["x"]},
            "env": [{"name": "A", "value": "b"}], "ports": [{"name": "http", "containerPort": 8080}],
        },
        "status": status,
    })
}

/// READY, STATUS, RESTARTS as kubectl prints them, and the phase.
fn row(pod: &Value) -> [String; 4] {
    let now: Timestamp = NOW.parse().expect("time");
    let cell = |i: usize| (columns::COLUMNS[i].cell)(pod, now).as_str().expect("text").to_owned();
    [cell(0), cell(1), cell(2), pod["status"]["phase"].as_str().expect("text").to_owned()]
}

fn exit(attempt: u32, more: Value) -> Value {
    let mut exit = json!({
        "attempt": attempt, "startTime": "2026-01-01T00:40:00Z", "finishTime": "2026-01-01T00:57:00Z",
    });
    exit.as_object_mut().expect("map").extend(more.as_object().expect("map").clone());
    exit
}

#[test]
fn a_pod_says_what_kubectl_prints_of_such_a_pod() {
    let running: Value = serde_json::from_str(RUNNING).expect("JSON");
    let ready = |status: &str| json!([{"type": "Ready", "status": status, "lastTransitionTime": NOW}]);
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let exited = |reason: &str| json!({"exited": {"reason": reason}});
    let crashed = exit(1, json!({"code": 3}));
    for (status, expected) in [
        (json!({}), ["0/1", "ContainerCreating", "0", "Pending"]),
        (json!({"attempt": 1, "state": waiting("Starting")}), ["0/1", "ContainerCreating", "0", "Pending"]),
        (json!({"attempt": 1, "state": running, "conditions": ready("True")}), ["1/1", "Running", "0", "Running"]),
        (json!({"attempt": 1, "state": running, "conditions": ready("False")}), ["0/1", "Running", "0", "Running"]),
        (
            json!({"attempt": 2, "state": running, "conditions": ready("True"), "restarts": 1, "lastExit": crashed}),
            ["1/1", "Running", "1 (3m ago)", "Running"],
        ),
        (
            json!({"attempt": 1, "state": waiting("BackOff"), "restarts": 1, "lastExit": crashed}),
            ["0/1", "CrashLoopBackOff", "1 (3m ago)", "Running"],
        ),
        (
            json!({"attempt": 1, "state": waiting("StartFailed"), "lastExit": exit(1, json!({"message": "no such file"}))}),
            ["0/1", "RunContainerError", "0", "Running"],
        ),
        (
            json!({"attempt": 1, "state": exited("Completed"), "lastExit": exit(1, json!({"code": 0}))}),
            ["0/1", "Completed", "0", "Succeeded"],
        ),
        (json!({"attempt": 1, "state": exited("Failed"), "lastExit": crashed}), ["0/1", "Error", "0", "Failed"]),
        (
            json!({"attempt": 1, "state": exited("Failed"), "lastExit": exit(1, json!({"signal": "SIGKILL", "oomKilled": true}))}),
            ["0/1", "OOMKilled", "0", "Failed"],
        ),
        (
            json!({"attempt": 1, "state": exited("Lost"), "lastExit": exit(1, json!({"lost": true}))}),
            ["0/1", "ContainerStatusUnknown", "0", "Failed"],
        ),
        (
            json!({"attempt": 1, "state": exited("Suspended"), "lastExit": exit(1, json!({"signal": "SIGTERM"}))}),
            ["0/1", "Suspended", "0", "Pending"],
        ),
    ] {
        assert_eq!(row(&project(&instance(&status))), expected, "{status}");
    }
    let mut deleted = instance(&json!({"attempt": 1, "state": running}));
    deleted["metadata"]["deletionTimestamp"] = json!(NOW);
    assert_eq!(row(&project(&deleted)), ["0/1", "Terminating", "0", "Running"]);
}

#[test]
fn a_pod_is_its_instance_under_kubernetes_names() {
    let running: Value = serde_json::from_str(RUNNING).expect("JSON");
    let last = exit(1, json!({"signal": "SIGTERM"}));
    let status = json!({
        "attempt": 2, "state": running, "restarts": 1, "lastExit": last, "address": "127.0.0.1",
        "conditions": [{"type": "Ready", "status": "True", "reason": "Running", "lastTransitionTime": "2026-01-01T00:50:00Z"}],
    });
    let pod = project(&instance(&status));
    let condition = |kind: &str, since: &str| json!({"type": kind, "status": "True", "reason": "", "message": "", "lastTransitionTime": since});
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-1-0", "namespace": "shop", "uid": "u1", "resourceVersion": "9",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"appm.dev/app": "web"},
            "ownerReferences": [{"apiVersion": "appm.dev/v1", "kind": "App", "name": "web", "uid": "a1", "controller": true}],
        },
        "spec": {
            "nodeName": "host-a", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "hostNetwork": true,
            "containers": [{
                "name": "web", "image": "/usr/bin/web", "command": ["/usr/bin/web", "-v"], "args": ["x"],
                "env": [{"name": "A", "value": "b"}],
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            }],
        },
        "status": {
            "phase": "Running", "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "startTime": "2026-01-01T00:00:00Z", "qosClass": "BestEffort",
            "conditions": [
                condition("Initialized", "2026-01-01T00:00:00Z"), condition("Ready", "2026-01-01T00:50:00Z"),
                condition("ContainersReady", "2026-01-01T00:50:00Z"), condition("PodScheduled", "2026-01-01T00:00:00Z"),
            ],
            "containerStatuses": [{
                "name": "web", "ready": true, "started": true, "restartCount": 1, "image": "/usr/bin/web", "imageID": "",
                "containerID": "appm://u1-2", "state": {"running": {"startedAt": "2026-01-01T00:50:00Z"}},
                "lastState": {"terminated": {
                    "exitCode": 143, "signal": 15, "reason": "Error", "startedAt": "2026-01-01T00:40:00Z",
                    "finishedAt": "2026-01-01T00:57:00Z", "containerID": "appm://u1-1",
                }},
            }],
        },
    });
    assert_eq!(pod, expected);
}

#[test]
fn a_script_shows_its_interpreter_and_its_text() {
    for (script, command) in
        [("echo hi", vec!["sh", "-eu"]), ("#!/usr/bin/env python3\nx", vec!["/usr/bin/env", "python3"])]
    {
        let mut of_script = instance(&json!({}));
        of_script["spec"]["process"] = json!({"script": script});
        let container = &project(&of_script)["spec"]["containers"][0];
        assert_eq!((&container["command"], &container["args"]), (&json!(command), &json!([script])));
    }
}

#[test]
fn what_cannot_be_read_is_still_a_pod_of_that_name() {
    let mut strange = instance(&json!({}));
    strange["spec"]["process"] = json!("what a later appm may write");
    let pod = project(&strange);
    assert_eq!((&pod["kind"], &pod["metadata"]["name"]), (&json!("Pod"), &json!("web-1-0")));
    assert!(Instance::INFO.views.iter().any(|view| view.kind == "Pod"));
}
