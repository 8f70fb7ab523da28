//! How one state of an object becomes another, field by field, for people.
//!
//! What the server says by itself is left out, and the status, which is nobody's wish. Items of a list that have names are compared by
//! their names, so that one that comes in front does not make all others look different. Of a Secret's values is told only that they
//! become different.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::api::{FieldChange, FieldPath, OWNER};

/// What the server says of an object by itself, in its metadata.
const OF_THE_SERVER: &[&str] = &[
    "managedFields",
    "resourceVersion",
    "generation",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "name",
    "namespace",
];
/// What says which object it is.
const OF_THE_TYPE: &[&str] = &["apiVersion", "kind", "status"];
/// Where the values of a Secret are.
const SECRET: &[&str] = &["data", "stringData"];
/// kubectl puts the whole object in here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields in which two states of an object are different, in order.
pub fn changes(old: Option<&Value>, new: Option<&Value>) -> Vec<FieldChange> {
    let secret = [old, new].into_iter().flatten().any(|object| object["kind"] == "Secret");
    let mut walk = Walk { secret, found: Vec::new() };
    walk.object(fields(old), fields(new), &FieldPath::root());
    walk.found
}

/// An object as its author could have written it: what counts when two states are compared.
pub fn wishes(object: &Value) -> Value {
    let mut wished = object.clone();
    if let Value::Object(all) = &mut wished {
        all.retain(|name, _| name != "status");
    }
    if let Some(Value::Object(metadata)) = wished.get_mut("metadata") {
        metadata.retain(|name, _| !OF_THE_SERVER.contains(&name.as_str()));
    }
    wished
}

fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

struct Walk {
    secret: bool,
    found: Vec<FieldChange>,
}

impl Walk {
    fn object(&mut self, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>, at: &FieldPath) {
        let before = old.into_iter().flat_map(Map::keys);
        let later = new.into_iter().flat_map(Map::keys).filter(|name| old.is_none_or(|old| !old.contains_key(*name)));
        for name in before.chain(later) {
            let ignored = match at.as_str() {
                "" => OF_THE_TYPE,
                "metadata" => OF_THE_SERVER,
                "metadata.annotations" => &[OWNER],
                _ => &[],
            };
            if !ignored.contains(&name.as_str()) {
                let of = |map: Option<&'_ Map<String, Value>>| map.and_then(|map| map.get(name).cloned());
                self.value(of(old).as_ref(), of(new).as_ref(), &at.field(name));
            }
        }
    }

    fn value(&mut self, old: Option<&Value>, new: Option<&Value>, at: &FieldPath) {
        if old == new {
            return;
        }
        let filled = |value: &Value| value.as_object().is_some_and(|map| !map.is_empty());
        let named = |value: Option<&Value>| value.is_none_or(|value| names(value).is_some());
        match (old, new) {
            (Some(a), Some(b)) if a.is_object() && b.is_object() => self.object(fields(old), fields(new), at),
            (Some(one), None) | (None, Some(one)) if filled(one) => self.object(fields(old), fields(new), at),
            _ if [old, new].into_iter().flatten().all(Value::is_array) && named(old) && named(new) => {
                self.items(old, new, at);
            }
            _ => self.leaf(old, new, at),
        }
    }

    /// Two lists whose items have names.
    fn items(&mut self, old: Option<&Value>, new: Option<&Value>, at: &FieldPath) {
        let (before, after) = (old.and_then(names).unwrap_or_default(), new.and_then(names).unwrap_or_default());
        let later = after.iter().filter(|(name, _)| !before.iter().any(|(known, _)| known == name));
        for (name, _) in before.iter().chain(later) {
            let of =
                |all: &[(&str, &Value)]| all.iter().find(|(known, _)| known == name).map(|(_, item)| (*item).clone());
            let (was, is) = (of(&before), of(&after));
            let at = at.key(&format!("name={name}"));
            match was.is_some() && is.is_some() {
                true => self.value(was.as_ref(), is.as_ref(), &at),
                false => self.leaf(was.as_ref(), is.as_ref(), &at),
            }
        }
        let order = |all: &[(&str, &Value)], others: &[(&str, &Value)]| {
            let kept = |name: &str| others.iter().any(|(other, _)| *other == name);
            all.iter().map(|(name, _)| (*name).to_owned()).filter(|name| kept(name)).collect::<Vec<String>>()
        };
        let (was, is) = (order(&before, &after), order(&after, &before));
        if was != is {
            // The same items in another order, which may mean something.
            let change = FieldChange {
                path: format!("{at} (order)"),
                old: Some(was.into()),
                new: Some(is.into()),
                secret: false,
            };
            self.found.push(change);
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>, at: &FieldPath) {
        let path = at.to_string();
        let holds =
            |place: &str| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        let secret = self.secret && (SECRET.iter().any(|place| holds(place)) || path.contains(LAST_APPLIED));
        let shown = |value: Option<&Value>| if secret { None } else { value.cloned() };
        self.found.push(FieldChange { path, old: shown(old), new: shown(new), secret });
    }
}

/// The items of a list with their names, if all are objects and have one of their own.
fn names(value: &Value) -> Option<Vec<(&str, &Value)>> {
    let all: Vec<(&str, &Value)> =
        value.as_array()?.iter().map(|item| Some((item.get("name")?.as_str()?, item))).collect::<Option<_>>()?;
    let distinct: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
    (distinct.len() == all.len() && !all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(old: Option<Value>, new: Option<Value>) -> Vec<String> {
        let text = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), ToString::to_string);
        let all = changes(old.as_ref(), new.as_ref());
        all.iter()
            .map(|c| {
                format!("{} {} {} {}", c.path, text(&c.old), text(&c.new), if c.secret { "secret" } else { "" })
                    .trim()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn fields_are_told_with_what_they_were_and_become_and_named_items_by_name() {
        let old = json!({"kind": "App", "metadata": {"name": "web", "generation": 3, "uid": "u", "labels": {"a": "1"}}, "status": {"n": 1},
            "spec": {"replicas": 3, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "command": ["a"]}});
        let new = json!({"kind": "App", "metadata": {"name": "web", "generation": 4, "labels": {"a": "1", "b": "2"}}, "status": {"n": 2},
            "spec": {"replicas": 5, "env": [{"name": "C", "value": "0"}, {"name": "A", "value": "9"}], "command": ["a", "b"]}});
        insta::assert_snapshot!(told(Some(old.clone()), Some(new)).join("\n"), @r#"
        metadata.labels.b - "2"
        spec.replicas 3 5
        spec.env[name=A].value "1" "9"
        spec.env[name=B] {"name":"B","value":"2"} -
        spec.env[name=C] - {"name":"C","value":"0"}
        spec.command ["a"] ["a","b"]
        "#);
        assert_eq!(told(Some(old.clone()), Some(old)), [""; 0]);
    }

    #[test]
    fn what_is_made_and_what_goes_is_told_whole() {
        let object = json!({"kind": "App", "metadata": {"name": "web", "annotations": {}}, "spec": {"process": {"command": ["a"]}}});
        assert_eq!(told(None, Some(object.clone())), ["metadata.annotations - {}", "spec.process.command - [\"a\"]"]);
        assert_eq!(told(Some(object), None), ["metadata.annotations {} -", "spec.process.command [\"a\"] -"]);
    }

    #[test]
    fn of_the_values_of_a_secret_is_told_only_that_they_become_different() {
        let secret = |value: &str, applied: &str| json!({"kind": "Secret", "metadata": {"annotations": {LAST_APPLIED: applied}}, "data": {"key": value, "same": "cw=="}});
        let all = told(Some(secret("b25l", "b25l")), Some(secret("dHdv", "dHdv")));
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.iter().all(|line| line.ends_with("- - secret")), "{all:?}");
    }

    #[test]
    fn an_order_that_changes_is_a_change() {
        let list = |names: [&str; 2]| json!({"spec": {"env": names.map(|name| json!({"name": name}))}});
        assert_eq!(told(Some(list(["A", "B"])), Some(list(["B", "A"]))), [r#"spec.env (order) ["A","B"] ["B","A"]"#]);
    }
}
