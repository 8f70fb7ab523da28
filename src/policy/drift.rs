//! How an object differs from what it was declared to be, field by field.

use serde_json::Value;

use crate::api::FieldPath;

/// What the server says of an object by itself.
const OF_THE_SERVER: &[&str] = &["managedFields", "resourceVersion", "generation"];

/// The fields in which two states of an object differ, in order; its status is nobody's wish, and is not looked at.
pub fn differences(live: &Value, wanted: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(live, wanted, &FieldPath::root(), &mut found);
    found
}

fn compare(live: &Value, wanted: &Value, at: &FieldPath, found: &mut Vec<String>) {
    match (live, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let names: Vec<&String> = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).collect();
            for name in names {
                let ignored = match at.as_str() {
                    "" => name == "status",
                    "metadata" => OF_THE_SERVER.contains(&name.as_str()),
                    _ => false,
                };
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                if !ignored {
                    compare(&of(a), &of(b), &at.field(name), found);
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| compare(a, b, &at.index(i), found));
        }
        _ if live != wanted => found.push(at.to_string()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_somebody_wishes_differs() {
        let live = json!({"metadata": {"generation": 3, "labels": {"a.b/c": "x"}}, "status": {"n": 1},
            "spec": {"replicas": 3, "env": [{"name": "A", "value": "1"}], "command": ["a"], "new": true}});
        let wanted = json!({"metadata": {"generation": 2, "labels": {"a.b/c": "y"}}, "status": {"n": 2},
            "spec": {"replicas": 2, "env": [{"name": "A", "value": "2"}], "command": ["a", "b"]}});
        let expected = ["metadata.labels[a.b/c]", "spec.replicas", "spec.env[0].value", "spec.command", "spec.new"];
        assert_eq!(differences(&live, &wanted), expected);
    }
}
