//! The schemas that the document refers to: those of the kinds, their lists, and the few shapes of Kubernetes' own that the
//! server speaks beside them.

use serde_json::{Map, Value, json};

use crate::api::{
    Served,
    kinds::served,
    schema::{component_name, components},
};

/// The name of a list's component.
pub(super) fn list_name(served: Served) -> String {
    let name = component_name(served);
    match name.split_once('.') {
        Some((kind, rest)) => format!("{kind}List.{rest}"),
        None => format!("{name}List"),
    }
}

/// Every component, sorted.
pub(super) fn all() -> Map<String, Value> {
    let mut all = components();
    for served in served() {
        all.insert(list_name(served), list(served));
    }
    for (name, schema) in shared() {
        all.insert(name.to_owned(), schema);
    }
    all.sort_keys();
    all
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(served: Served) -> Value {
    json!({
        "type": "object", "description": format!("{}s, from one snapshot.", served.name()), "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "enum": [served.api_version()]},
            "kind": {"type": "string", "enum": [format!("{}List", served.name())]},
            "metadata": reference("ListMeta"),
            "items": {"type": "array", "items": reference(&component_name(served))},
        },
        "x-kubernetes-group-version-kind":
            [{"group": served.group(), "version": served.version(), "kind": format!("{}List", served.name())}],
    })
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn shared() -> [(&'static str, Value); 7] {
    [
        ("ListMeta", list_meta()),
        ("Status", status()),
        ("WatchEvent", watch_event()),
        ("DeleteOptions", delete_options()),
        (
            "Patch",
            json!({"type": "object", "description": "A merge patch or an apply configuration; a JSON patch is an array."}),
        ),
        ("Scale", scale()),
        ("Review", review()),
    ]
}

fn list_meta() -> Value {
    json!({
        "type": "object", "description": "What a list says of itself.",
        "properties": {
            "resourceVersion": text("Revision of the snapshot; watch from here."),
            "continue": text("Ask with this for the next page of the same snapshot."),
            "remainingItemCount": {"type": "integer", "format": "int64", "description": "Objects that are not on this page."},
        },
    })
}

fn status() -> Value {
    let cause = json!({
        "type": "object", "description": "One cause.",
        "properties": {
            "reason": text("A CamelCase word."), "message": text("One sentence."), "field": text("Path of the field."),
        },
    });
    let details = json!({
        "type": "object", "description": "What it is about.",
        "properties": {
            "name": text("Name of the object."), "group": text("Group of the resource."), "kind": text("Plural of the resource."),
            "uid": text("Uid of the object."), "causes": {"type": "array", "items": cause},
            "retryAfterSeconds": {"type": "integer", "format": "int32"},
        },
    });
    json!({
        "type": "object", "description": "The outcome of a request that has no object to show: every error, and some deletions.",
        "properties": {
            "apiVersion": {"type": "string", "enum": ["v1"]}, "kind": {"type": "string", "enum": ["Status"]},
            "metadata": reference("ListMeta"), "status": {"type": "string", "enum": ["Success", "Failure"]},
            "message": text("One sentence."), "reason": text("Why, in one CamelCase word; clients decide by it."),
            "details": details, "code": {"type": "integer", "format": "int32", "description": "HTTP status code."},
        },
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}],
    })
}

fn watch_event() -> Value {
    json!({
        "type": "object", "description": "One line of a watch.", "required": ["type", "object"],
        "properties": {
            "type": {"type": "string", "enum": ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]},
            "object": {"type": "object", "description": "The object; for ERROR a Status."},
        },
    })
}

fn delete_options() -> Value {
    json!({
        "type": "object", "description": "How to delete.",
        "properties": {
            "apiVersion": text("v1"), "kind": {"type": "string", "enum": ["DeleteOptions"]},
            "gracePeriodSeconds": {"type": "integer", "format": "int64", "description": "In place of the object's own."},
            "propagationPolicy": {"type": "string", "enum": ["Background", "Foreground", "Orphan"]},
            "preconditions": {
                "type": "object", "description": "What must hold.",
                "properties": {"uid": text("Uid of the object."), "resourceVersion": text("Revision of the object.")},
            },
            "dryRun": {"type": "array", "items": {"type": "string", "enum": ["All"]}},
        },
    })
}

fn scale() -> Value {
    json!({
        "type": "object", "description": "How many replicas there should be, and how many there are.",
        "properties": {
            "apiVersion": {"type": "string", "enum": ["autoscaling/v1"]}, "kind": {"type": "string", "enum": ["Scale"]},
            "metadata": reference("ObjectMeta"),
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "format": "int32"}}},
            "status": {"type": "object", "properties": {
                "replicas": {"type": "integer", "format": "int32"}, "selector": text("Label selector of the replicas."),
            }},
        },
        "x-kubernetes-group-version-kind": [{"group": "autoscaling", "version": "v1", "kind": "Scale"}],
    })
}

fn review() -> Value {
    json!({
        "type": "object", "description": "A question about oneself, and its answer in `status`.",
        "properties": {
            "apiVersion": text("Group and version."), "kind": text("The review's kind."),
            "metadata": reference("ObjectMeta"),
            "spec": {"type": "object", "description": "The question."}, "status": {"type": "object", "description": "The answer."},
        },
    })
}
