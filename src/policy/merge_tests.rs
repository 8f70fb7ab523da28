//! The table of cases of merging, and its laws.

//! Tables and laws of merging: lists by key, sets, atomic values.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn shape() -> std::sync::Arc<Shape> {
    Shape::compile(&json!({
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "s": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "deep": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
            "args": {"type": "array", "items": {"type": "string"}},
            "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "env": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            },
            "whole": {
                "type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"},
            },
            "free": true,
        },
    }))
}

#[test]
fn merging_follows_the_list_and_map_types() {
    let table = [
        ("scalars are replaced", json!({"n": 1}), json!({"n": 2}), json!({"n": 2})),
        ("what is not applied stays", json!({"n": 1, "s": "x"}), json!({"n": 2}), json!({"n": 2, "s": "x"})),
        ("objects merge", json!({"deep": {"a": 1}}), json!({"deep": {"b": 2}}), json!({"deep": {"a": 1, "b": 2}})),
        (
            "maps merge",
            json!({"labels": {"a": "1"}}),
            json!({"labels": {"b": "2"}}),
            json!({"labels": {"a": "1", "b": "2"}}),
        ),
        ("lists are atomic", json!({"args": ["a", "b"]}), json!({"args": ["c"]}), json!({"args": ["c"]})),
        ("sets unite", json!({"set": ["a", "b"]}), json!({"set": ["c", "b"]}), json!({"set": ["a", "c", "b"]})),
        (
            "keyed items merge in place",
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}),
            json!({"env": [{"name": "B", "value": "2"}]}),
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
        ),
        (
            "the applied order wins",
            json!({"env": [{"name": "A"}, {"name": "B"}, {"name": "C"}]}),
            json!({"env": [{"name": "C"}, {"name": "A"}]}),
            json!({"env": [{"name": "C"}, {"name": "A"}, {"name": "B"}]}),
        ),
        (
            "atomic maps are replaced",
            json!({"whole": {"a": "1"}}),
            json!({"whole": {"b": "1"}}),
            json!({"whole": {"b": "1"}}),
        ),
        (
            "free objects merge",
            json!({"free": {"x": {"a": 1}}}),
            json!({"free": {"x": {"b": [1]}}}),
            json!({"free": {"x": {"a": 1, "b": [1]}}}),
        ),
    ];
    for (what, live, applied, expected) in table {
        assert_eq!(merge(&shape(), &live, &applied), expected, "{what}");
    }
}

#[test]
fn the_fields_of_an_object_are_its_leaves_and_items() {
    let value = json!({
        "n": 1, "labels": {"a": "1"}, "deep": {"a": 1}, "args": ["x"], "set": ["v"], "whole": {"k": "1"},
        "env": [{"name": "A", "value": "1"}],
    });
    insta::assert_snapshot!(fields_of(&shape(), &value), @r#"
    .args
    .deep.a
    .env[name="A"]
    .env[name="A"].name
    .env[name="A"].value
    .labels.a
    .n
    .set[="v"]
    .whole
    "#);
}

#[test]
fn a_difference_names_what_changed_and_what_is_gone() {
    let old = json!({"n": 1, "s": "x", "env": [{"name": "A", "value": "1"}, {"name": "B"}], "deep": {"a": 1}});
    let new = json!({"n": 2, "env": [{"name": "A", "value": "2"}, {"name": "C"}]});
    let difference = compare(&shape(), &old, &new);
    insta::assert_snapshot!(difference.changed, @r#"
    .env[name="A"].value
    .env[name="C"]
    .env[name="C"].name
    .n
    "#);
    insta::assert_snapshot!(difference.removed, @r#"
    .deep
    .deep.a
    .env[name="B"]
    .env[name="B"].name
    .s
    "#);
}

#[test]
fn removing_keeps_the_way_to_what_others_own() {
    let value =
        json!({"n": 1, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}], "labels": {"a": "1"}});
    let gone = fields_of(&shape(), &value);
    let kept = fields_of(&shape(), &json!({"env": [{"name": "B"}]}));
    let left = remove(&shape(), &value, &gone.difference(&kept), &kept);
    assert_eq!(left, Some(json!({"env": [{"name": "B"}]})));
}

#[test]
fn merge_patch_passes_the_examples_of_rfc_7386() {
    let table = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (mut target, patch, expected) in table {
        merge_patch(&mut target, &patch);
        assert_eq!(target, expected, "{patch}");
    }
}

fn objects() -> impl Strategy<Value = Value> {
    let text = || "[a-c]";
    let env = prop::collection::btree_map(text(), prop::option::of(text()), 0..3).prop_map(|items| {
        let item = |(name, value): (String, Option<String>)| match value {
            Some(value) => json!({"name": name, "value": value}),
            None => json!({"name": name}),
        };
        Value::Array(items.into_iter().map(item).collect())
    });
    let labels = prop::collection::btree_map(text(), text(), 1..3).prop_map(|m| json!(m));
    let set = prop::collection::btree_set(text(), 0..3).prop_map(|s| json!(s));
    let args = prop::collection::vec(text(), 0..3).prop_map(|l| json!(l));
    let number = (0..3i64).prop_map(|n| json!(n));
    let fields = (
        prop::option::of(number.clone()),
        prop::option::of(labels),
        prop::option::of(set),
        prop::option::of(args),
        prop::option::of(env),
        prop::option::of(number),
    );
    fields.prop_map(|(n, labels, set, args, env, a)| {
        let pairs = [("n", n), ("labels", labels), ("set", set), ("args", args), ("env", env)];
        let mut map: Map<String, Value> =
            pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        if let Some(a) = a {
            map.insert("deep".to_owned(), json!({"a": a}));
        }
        Value::Object(map)
    })
}

proptest! {
    #[test]
    fn merging_twice_changes_nothing(live in objects(), applied in objects()) {
        let once = merge(&shape(), &live, &applied);
        prop_assert_eq!(merge(&shape(), &once, &applied), once);
    }

    #[test]
    fn what_was_applied_is_there(live in objects(), applied in objects()) {
        let merged = merge(&shape(), &live, &applied);
        let there = fields_of(&shape(), &merged);
        prop_assert!(fields_of(&shape(), &applied).difference(&there).is_empty());
        let changed = compare(&shape(), &live, &merged);
        prop_assert!(changed.removed.is_empty(), "a merge removes nothing: {}", changed.removed);
        prop_assert!(changed.changed.difference(&fields_of(&shape(), &applied)).is_empty());
    }

    #[test]
    fn equal_objects_have_no_difference(a in objects()) {
        prop_assert_eq!(compare(&shape(), &a, &a), Difference::default());
    }
}
