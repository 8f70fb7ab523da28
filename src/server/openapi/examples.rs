//! Examples of objects, as a person would write them. A test holds each against its kind's closed schema.

use serde_json::{Value, json};

/// An example of a component, if there is one.
pub(super) fn of(component: &str) -> Option<Value> {
    Some(match component {
        "App" => json!({
            "apiVersion": "appm.dev/v1", "kind": "App",
            "metadata": {"name": "web", "labels": {"tier": "front"}},
            "spec": {
                "replicas": 2,
                "process": {"command": ["python3", "-m", "http.server", "$(PORT)"], "workingDir": "/srv/web"},
                "env": [{"name": "LOG_LEVEL", "value": "info"}],
                "ports": [{"name": "http"}],
            },
        }),
        "Namespace" => json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": {"purpose": "example"}},
        }),
        "ConfigMap" => json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"log.level": "info"},
        }),
        "Secret" => json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "type": "Opaque",
            "stringData": {"password": "correct horse battery staple"},
        }),
        "Lease" => json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"},
            "spec": {"holderIdentity": "worker-1", "leaseDurationSeconds": 15},
        }),
        "Event" => json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "web."}, "type": "Normal",
            "involvedObject": {"apiVersion": "appm.dev/v1", "kind": "App", "namespace": "default", "name": "web"},
            "reason": "Deployed", "message": "version 1.4 is live", "reportingComponent": "ci",
        }),
        _ => return None,
    })
}

/// A merge patch and a JSON patch of a component.
pub(super) fn patches(component: &str) -> (Value, Value) {
    let replicas = ["App", "Scale"].contains(&component);
    if replicas {
        (
            json!({"spec": {"replicas": 3}}),
            json!([
                {"op": "test", "path": "/spec/replicas", "value": 2},
                {"op": "replace", "path": "/spec/replicas", "value": 3},
            ]),
        )
    } else {
        (
            json!({"metadata": {"labels": {"tier": "front", "old": null}}}),
            json!([{"op": "add", "path": "/metadata/labels", "value": {"tier": "front"}}]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{kinds::served, schema};

    #[test]
    fn examples_are_valid() {
        for served in served() {
            let name = schema::component_name(served);
            let Some(example) = of(&name) else { continue };
            let validator = jsonschema::validator_for(&schema::of(served)).expect("a schema");
            let wrong: Vec<String> = validator.iter_errors(&example).map(|e| e.to_string()).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}");
            assert_eq!(example["kind"], served.name());
        }
    }
}
