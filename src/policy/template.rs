//! An App's template: the fields of its spec whose change replaces instances.
//!
//! A Revision keeps them as the author wrote them; whether two templates are the same is judged after the running binary
//! has put its defaults into both, so that a release with other defaults, or one that knows more fields, restarts nothing.
//!
//! Resources are of the template, so that the way back brings them back; but a change of them alone makes no new Revision where it
//! can be made in place: the Revision remembers what it was last given.

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::resize;
use crate::api::{AppSpec, FIELDS};

/// The field that may be changed in place.
const RESOURCES: &str = "resources";

/// The names of its fields.
fn fields() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().filter(|(_, class)| class.is_of_template()).map(|(name, _)| *name)
}

/// The template in a spec as it is stored.
pub fn of(spec: &Value) -> Value {
    let there = fields().filter_map(|name| Some((name.to_owned(), spec.get(name)?.clone())));
    Value::Object(there.collect())
}

/// Puts a template in the place of the one in a spec.
pub fn put(spec: &mut Value, template: &Value) {
    let Some(spec) = spec.as_object_mut() else { return };
    for name in fields() {
        match template.get(name) {
            Some(value) => spec.insert(name.to_owned(), value.clone()),
            None => spec.shift_remove(name),
        };
    }
}

/// True if both templates make the same instances. A template that this binary cannot read equals only its own text.
pub fn same(a: &Value, b: &Value) -> bool {
    let typed = |template: &Value| AppSpec::deserialize(template).ok();
    a == b || typed(a).zip(typed(b)).is_some_and(|(a, b)| a == b)
}

/// True if instances that were made of `from` can be made those of `to` without a restart: only resources differ, and they can
/// be changed in place.
pub fn fits(from: &Value, to: &Value) -> bool {
    let typed = |template: &Value| AppSpec::deserialize(template).ok();
    let Some((mut from, to)) = typed(from).zip(typed(to)) else { return false };
    let in_place = resize::in_place(&from.resources, &to.resources, to.container.is_some());
    from.resources = to.resources.clone();
    in_place && from == to
}

/// Puts the resources of a template into another, which is the same otherwise.
pub fn resize(template: &mut Value, like: &Value) {
    let Some(template) = template.as_object_mut() else { return };
    match like.get(RESOURCES) {
        Some(resources) => template.insert(RESOURCES.to_owned(), resources.clone()),
        None => template.shift_remove(RESOURCES),
    };
}

/// Six hexadecimal digits for the name of a Revision. Only a name: never compared, never computed again.
pub fn hash(template: &Value, salt: u32) -> String {
    let mut text = sorted(template).to_string();
    if salt > 0 {
        text.push_str(&salt.to_string());
    }
    hex::encode(&Sha256::digest(text)[..3])
}

/// The same tree with every map sorted by key, so that the order of fields in a manifest makes no difference.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_revision_fields_are_in_the_template() {
        let spec = json!({"replicas": 3, "process": {"command": ["a"]}, "restart": {"maxRestarts": 1}, "env": []});
        assert_eq!(of(&spec), json!({"process": {"command": ["a"]}, "env": []}));
    }

    #[test]
    fn a_template_takes_the_place_of_another_and_leaves_the_rest() {
        let mut spec = json!({"replicas": 3, "process": {"command": ["b"]}, "env": [{"name": "A"}]});
        put(&mut spec, &json!({"process": {"command": ["a"]}}));
        assert_eq!(spec, json!({"replicas": 3, "process": {"command": ["a"]}}));
    }

    #[test]
    fn templates_are_compared_after_defaulting() {
        let bare = json!({"process": {"command": ["a"]}, "ports": [{"name": "http"}]});
        let full = json!({
            "env": [], "ports": [{"protocol": "TCP", "containerPort": 0, "name": "http"}],
            "process": {"command": ["a"], "args": []},
        });
        let other = json!({"process": {"command": ["a"]}, "ports": [{"name": "http", "containerPort": 80}]});
        assert!(same(&bare, &full) && !same(&bare, &other));
        let newer = json!({"container": {"image": "a"}});
        assert!(same(&newer, &newer) && !same(&newer, &bare));
    }

    #[test]
    fn a_template_fits_another_if_only_resources_differ_that_can_be_changed_in_place() {
        let with = |resources: Value| json!({"process": {"command": ["a"]}, "resources": resources});
        let small = with(json!({"limits": {"memory": "1Gi"}}));
        let large = with(json!({"limits": {"memory": "2Gi"}}));
        let more = with(json!({"limits": {"memory": "1Gi", "pids": "9"}}));
        let other = json!({"process": {"command": ["b"]}, "resources": {"limits": {"memory": "1Gi"}}});
        assert!(fits(&small, &large) && fits(&more, &small) && !same(&small, &large));
        assert!(!fits(&small, &more) && !fits(&small, &other));
        let mut resized = small.clone();
        resize(&mut resized, &large);
        assert_eq!(resized, large);
        resize(&mut resized, &json!({}));
        assert_eq!(resized, json!({"process": {"command": ["a"]}}));
    }

    #[test]
    fn the_name_does_not_depend_on_the_order_of_fields() {
        let a = json!({"process": {"command": ["a"], "umask": "022"}});
        let b = json!({"process": {"umask": "022", "command": ["a"]}});
        assert_eq!((hash(&a, 0), hash(&a, 0).len()), (hash(&b, 0), 6));
        assert_ne!(hash(&a, 0), hash(&a, 1));
    }
}
