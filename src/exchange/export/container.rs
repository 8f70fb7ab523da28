//! What the writers of containers have in common.

use serde_json::{Map, Value, json};

use super::super::{
    draft,
    tree::{entries, text},
};
use super::{Source, unit};

/// Apps with a container, and others that are told of.
pub(super) fn is_contained(object: &Value) -> bool {
    object["spec"]["container"].is_object() || object["spec"]["run"]["container"].is_object()
}

/// Words in which `$(NAME)` of a known variable is its value: nobody else expands it.
pub(super) fn words(list: &Value, known: &[(String, String)]) -> Vec<String> {
    let lookup = |wanted: &str| known.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    unit::words(list).iter().map(|word| crate::policy::expand::expand(word, lookup)).collect()
}

/// A probe that runs a command, or asks for one by a shell of the container's.
pub(super) fn check(source: &mut Source<'_>, ports: &Value) -> Option<Vec<String>> {
    let probe = &source.spec["readinessProbe"];
    let number = |port: &Value| match port.as_str() {
        Some(name) => {
            let named = ports.as_array().into_iter().flatten().find(|port| port["name"] == name);
            named.and_then(|port| text(&port["containerPort"])).unwrap_or_default()
        }
        None => text(port).unwrap_or_default(),
    };
    if probe.is_null() {
        return None;
    }
    let command = unit::words(&probe["exec"]["command"]);
    if !command.is_empty() {
        source.carried("readinessProbe");
        return Some(command);
    }
    if probe["httpGet"].is_object() {
        let port = number(&probe["httpGet"]["port"]);
        let path = probe["httpGet"]["path"].as_str().unwrap_or("/");
        let scheme = probe["httpGet"]["scheme"].as_str().unwrap_or("HTTP").to_lowercase();
        source.nearly("readinessProbe", "by curl in the container, which must have it");
        return Some(
            ["curl", "-fsS", "-o", "/dev/null"]
                .into_iter()
                .map(str::to_owned)
                .chain([format!("{scheme}://127.0.0.1:{port}{path}")])
                .collect(),
        );
    }
    source.dropped("readinessProbe", "only commands and requests are checks there");
    None
}

/// The fields of a container that every engine has; the rest is told.
pub(super) fn common(source: &mut Source<'_>, fields: &[&str]) {
    let container = source.spec["container"].clone();
    for (field, value) in entries(&container) {
        let is_default = matches!(
            (field.as_str(), value.as_str()),
            ("network", Some("bridge")) | ("imagePullPolicy", Some("IfNotPresent")) | ("runtime", Some("auto"))
        ) || *value == json!(false);
        match fields.contains(&field.as_str()) || is_default {
            true => source.carried(&format!("container.{field}")),
            false => source.dropped(&format!("container.{field}"), "there is nothing like it there"),
        }
    }
}

/// A mapping of what is not nothing.
pub(super) fn some(pairs: Vec<(&str, Value)>) -> Map<String, Value> {
    let is_something = |value: &Value| {
        !(value.is_null()
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(Map::is_empty))
    };
    pairs.into_iter().filter(|(_, value)| is_something(value)).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A text in which Compose expands nothing.
pub(super) fn no_variables(text: &str) -> String {
    text.replace('$', "$$")
}

/// A text in which Kubernetes expands nothing.
pub(super) fn literal(text: &str) -> String {
    draft::literal(text)
}
