//! What is said twice: by a service and by what it extends, by a file and by one that goes over it.

use serde_json::{Map, Value, json};

use super::super::super::tree::{entries, text, texts};

/// A service over another one.
pub(super) fn service(base: &Value, over: &Value) -> Value {
    let (Some(under), Some(over)) = (base.as_object(), over.as_object()) else { return merged(base, over) };
    let mut all = under.clone();
    for (key, value) in over {
        let made = match (key.as_str(), all.get(key)) {
            (_, None) | ("command" | "entrypoint", _) => value.clone(),
            (_, Some(there)) if value.is_null() => there.clone(),
            ("environment" | "labels" | "annotations" | "sysctls" | "extra_hosts", Some(there)) => {
                let (mut all, more) = (pairs(there), pairs(value));
                all.extend(more);
                Value::Object(all)
            }
            ("depends_on" | "networks", Some(there)) => merged(&named(key, there), &named(key, value)),
            ("volumes" | "configs" | "secrets" | "devices", Some(there)) => by_target(there, value),
            ("env_file" | "dns" | "dns_search" | "tmpfs" | "label_file", Some(there)) => {
                Value::Array([there, value].into_iter().flat_map(listed).collect())
            }
            (_, Some(there)) => merged(there, value),
        };
        all.insert(key.clone(), made);
    }
    Value::Object(all)
}

/// A file over another one: services one by one, anything else as it comes.
pub(super) fn file(base: &Value, over: &Value) -> Value {
    let mut all = merged(base, over);
    for (name, body) in entries(&over["services"]) {
        if let Some(there) = base["services"].get(name) {
            all["services"][name] = service(there, body);
        }
    }
    all
}

/// Mappings come together, lists follow one another, anything else is the second's.
fn merged(base: &Value, over: &Value) -> Value {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            let mut all = base.clone();
            for (key, value) in over {
                let value = match all.get(key).filter(|_| key != "test") {
                    Some(there) => merged(there, value),
                    None => value.clone(),
                };
                all.insert(key.clone(), value);
            }
            Value::Object(all)
        }
        (Value::Array(base), Value::Array(over)) => {
            let new = over.iter().filter(|item| !base.contains(item));
            Value::Array(base.iter().chain(new).cloned().collect())
        }
        (base, Value::Null) => base.clone(),
        (_, over) => over.clone(),
    }
}

/// `[A=1, B]` as `{A: 1, B: null}`.
fn pairs(value: &Value) -> Map<String, Value> {
    let Value::Array(list) = value else { return value.as_object().cloned().unwrap_or_default() };
    let pair = |item: &Value| {
        let item = text(item)?;
        Some(match item.split_once('=') {
            Some((name, value)) => (name.to_owned(), json!(value)),
            None => (item, Value::Null),
        })
    };
    list.iter().filter_map(pair).collect()
}

/// `[a, b]` as a mapping of them.
fn named(key: &str, value: &Value) -> Value {
    let Value::Array(_) = value else { return value.clone() };
    let plain = if key == "depends_on" { json!({"condition": "service_started"}) } else { Value::Null };
    Value::Object(texts(value).into_iter().map(|name| (name, plain.clone())).collect::<Map<_, _>>())
}

fn listed(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.clone(),
        other => vec![other.clone()],
    }
}

/// What a container sees at a place is the second's, if both put something there.
fn by_target(base: &Value, over: &Value) -> Value {
    let place = |item: &Value| match item {
        Value::Object(_) => text(&item["target"]).or_else(|| text(&item["source"])),
        other => text(other).map(|text| text.split(':').nth(1).map_or(text.clone(), str::to_owned)),
    };
    let (mut all, over) = (listed(base), listed(over));
    let taken: std::collections::BTreeSet<_> = over.iter().filter_map(place).collect();
    all.retain(|item| place(item).is_none_or(|place| !taken.contains(&place)));
    all.extend(over);
    Value::Array(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_goes_over_what_it_extends_as_compose_has_it() {
        let base = json!({
            "image": "a", "command": ["x"], "environment": ["A=1", "B=2"], "depends_on": {"db": {"condition": "service_healthy"}},
            "volumes": ["./a:/a", "b:/b:ro"], "ports": ["80:80"], "env_file": "one.env", "labels": {"x": 1},
            "healthcheck": {"test": ["CMD", "a"], "retries": 2}, "networks": {"front": {"aliases": ["w"]}},
        });
        let over = json!({
            "image": "b", "command": ["y"], "environment": {"B": 3}, "depends_on": ["init"], "ports": ["80:80", "81:81"],
            "volumes": [{"type": "volume", "source": "c", "target": "/b"}], "env_file": ["two.env"], "labels": ["y=2"],
            "healthcheck": {"test": ["CMD", "b"]}, "networks": ["back"], "restart": null,
        });
        assert_eq!(
            service(&base, &over),
            json!({
                "image": "b", "command": ["y"], "environment": {"A": "1", "B": 3}, "env_file": ["one.env", "two.env"],
                "depends_on": {"db": {"condition": "service_healthy"}, "init": {"condition": "service_started"}},
                "volumes": ["./a:/a", {"type": "volume", "source": "c", "target": "/b"}], "ports": ["80:80", "81:81"],
                "labels": {"x": 1, "y": "2"}, "healthcheck": {"test": ["CMD", "b"], "retries": 2},
                "networks": {"front": {"aliases": ["w"]}, "back": null}, "restart": null,
            })
        );
    }
}
