//! The schemas that the document refers to: those of the kinds with their lists and watch events, and the shapes of
//! Kubernetes' own that the server speaks beside them.

use serde_json::{Map, Value, json};

use super::{clients, examples, shapes};
use crate::api::{
    Served,
    kinds::served,
    schema::{component_name, components},
};

/// The name of a list's component.
pub(super) fn list_name(served: Served) -> String {
    format!("{}List", component_name(served))
}

/// The name of a watch event's component.
pub(super) fn watch_event_name(served: Served) -> String {
    format!("{}WatchEvent", component_name(served))
}

/// The name of the component of what a deletion answers.
pub(super) fn deleted_name(served: Served) -> String {
    format!("Deleted{}", component_name(served))
}

/// Every component, sorted.
pub(super) fn all() -> Map<String, Value> {
    let mut all = components();
    for served in served() {
        let name = component_name(served);
        if let Some(example) = examples::of(&name) {
            all[&name]["examples"] = json!([example]);
        }
        all.insert(list_name(served), list(served));
        all.insert(watch_event_name(served), watch_event(served));
        if served.verbs().words().contains(&"delete") {
            all.insert(deleted_name(served), deleted(served));
        }
    }
    all.extend(shapes::all());
    let mut all = clients::suited(all);
    all.sort_keys();
    all
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(served: Served) -> Value {
    let kind = format!("{}List", served.name());
    json!({
        "type": "object", "description": format!("{}s, all of one snapshot.", served.name()),
        "required": ["metadata", "items"],
        "properties": {
            "apiVersion": {"type": "string", "enum": [served.api_version()]},
            "kind": {"type": "string", "enum": [kind]},
            "metadata": reference("ListMeta"),
            "items": {"type": "array", "items": reference(&component_name(served)), "description": "The objects."},
        },
        "x-kubernetes-group-version-kind": [{"group": served.group(), "version": served.version(), "kind": kind}],
    })
}

fn deleted(served: Served) -> Value {
    json!({
        "description": format!("A Status when the {0} is gone; the {0} when it waits for its finalizers.", served.name()),
        "anyOf": [reference("Status"), reference(&component_name(served))],
    })
}

/// The object is named last but one: readers that take the first schema that fits must not take a `Status` for it, nor it for a
/// bookmark.
fn watch_event(served: Served) -> Value {
    let name = component_name(served);
    json!({
        "type": "object", "description": format!("One line of a watch of {}s.", served.name()),
        "required": ["type", "object"],
        "properties": {
            "type": {
                "type": "string", "enum": ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"],
                "description": "What happened. `ADDED` and `DELETED` also say that an object came to be selected, or is not \
                    selected any more.",
            },
            "object": {
                "anyOf": [reference("Status"), reference(&name), reference("Bookmark")],
                "description": format!(
                    "The {} as it is now, or was last; for `BOOKMARK` nothing but the revision; for `ERROR` a Status.",
                    served.name()
                ),
            },
        },
    })
}
