//! The table of cases of server-side apply, and its laws.

//! Tables and laws of field ownership: who owns what after apply, update and conflict.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{App, Kind};

fn shape() -> Arc<Shape> {
    crate::policy::form::stored(App::INFO).shape.clone()
}

fn by<'a>(manager: &'a str) -> Writer<'a> {
    Writer { manager, api_version: "appm.dev/v1", subresource: "", now: "2026-01-01T00:00:00Z" }
}

/// One object and its managers, under a sequence of writes.
#[derive(Default, Clone)]
struct World {
    object: Value,
    managers: Managers,
}

impl World {
    fn new() -> Self {
        Self { object: json!({}), managers: Managers::default() }
    }

    fn apply(&mut self, manager: &str, spec: Value) -> Result<(), Vec<Conflict>> {
        self.apply_with(manager, spec, false)
    }

    fn apply_with(&mut self, manager: &str, spec: Value, force: bool) -> Result<(), Vec<Conflict>> {
        let applied = json!({"spec": spec});
        let mut managers = self.managers.clone();
        self.object = managers.apply(&shape(), &self.object, &applied, force, by(manager))?;
        self.managers = managers;
        Ok(())
    }

    fn update(&mut self, manager: &str, spec: Value) {
        let new = json!({"spec": spec});
        self.managers.update(&shape(), &self.object, &new, by(manager));
        self.object = new;
    }

    fn spec(&self) -> &Value {
        &self.object["spec"]
    }

    fn owners(&self) -> String {
        let line =
            |(id, entry): (&Id, &Entry)| format!("{} {}: {}", id.operation, id.manager, entry.fields.paths().join(" "));
        self.managers.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn an_applied_field_that_is_no_longer_sent_goes() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 2, "stopSignal": "SIGINT"})).expect("no conflict");
    world.apply("a", json!({"replicas": 2})).expect("no conflict");
    assert_eq!(world.spec(), &json!({"replicas": 2}));
}

#[test]
fn a_field_that_another_manager_also_applied_stays() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 2, "stopSignal": "SIGINT"})).expect("no conflict");
    world.apply("b", json!({"stopSignal": "SIGINT"})).expect("equal values are shared");
    world.apply("a", json!({"replicas": 2})).expect("no conflict");
    assert_eq!(world.spec(), &json!({"replicas": 2, "stopSignal": "SIGINT"}));
    insta::assert_snapshot!(world.owners(), @"
    Apply a: .spec.replicas
    Apply b: .spec.stopSignal
    ");
}

#[test]
fn another_value_is_a_conflict_that_names_the_owner() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 2})).expect("no conflict");
    let conflicts = world.apply("b", json!({"replicas": 3})).expect_err("a conflict");
    assert_eq!(
        conflicts,
        [Conflict { manager: "\"a\" using appm.dev/v1".to_owned(), paths: vec![".spec.replicas".to_owned()] }]
    );
    assert_eq!(world.spec(), &json!({"replicas": 2}));
}

#[test]
fn force_takes_the_field() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 2, "suspend": true})).expect("no conflict");
    world.apply_with("b", json!({"replicas": 3}), true).expect("forced");
    assert_eq!(world.spec()["replicas"], 3);
    insta::assert_snapshot!(world.owners(), @"
    Apply a: .spec.suspend
    Apply b: .spec.replicas
    ");
    world.apply("a", json!({"suspend": true})).expect("a lost the field, so leaving it out takes nothing away");
    assert_eq!(world.spec()["replicas"], 3);
}

#[test]
fn an_update_takes_what_it_changes_and_an_apply_then_conflicts() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 2})).expect("no conflict");
    world.update("scaler", json!({"replicas": 5}));
    insta::assert_snapshot!(world.owners(), @"Update scaler: .spec.replicas");
    let conflicts = world.apply("a", json!({"replicas": 2})).expect_err("a conflict");
    assert_eq!(conflicts[0].manager, "\"scaler\" using appm.dev/v1 at 2026-01-01T00:00:00Z");
    world.apply("a", json!({})).expect("giving it up is no conflict");
    assert_eq!(world.spec()["replicas"], 5);
}

#[test]
fn items_of_keyed_lists_have_owners_of_their_own() {
    let mut world = World::new();
    world.apply("a", json!({"env": [{"name": "A", "value": "1"}]})).expect("no conflict");
    world.apply("b", json!({"env": [{"name": "B", "value": "1"}]})).expect("no conflict");
    assert_eq!(world.spec()["env"], json!([{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]));
    world.apply("a", json!({})).expect("no conflict");
    assert_eq!(world.spec(), &json!({"env": [{"name": "B", "value": "1"}]}));
}

#[test]
fn an_item_keeps_its_key_while_anybody_owns_something_in_it() {
    let mut world = World::new();
    world.apply("a", json!({"env": [{"name": "A", "value": "1"}]})).expect("no conflict");
    world.update("b", json!({"env": [{"name": "A", "value": "2"}]}));
    world.apply("a", json!({})).expect("no conflict");
    assert_eq!(world.spec()["env"], json!([{"name": "A", "value": "2"}]));
}

#[test]
fn an_atomic_list_has_one_owner() {
    let mut world = World::new();
    world.apply("a", json!({"process": {"command": ["x"]}})).expect("no conflict");
    let conflicts = world.apply("b", json!({"process": {"command": ["x", "y"]}})).expect_err("a conflict");
    assert_eq!(conflicts[0].paths, [".spec.process.command"]);
}

#[test]
fn an_update_that_removes_a_field_takes_it_from_its_owner() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 2, "env": [{"name": "A", "value": "1"}]})).expect("no conflict");
    world.update("b", json!({"replicas": 2}));
    insta::assert_snapshot!(world.owners(), @"Apply a: .spec.replicas");
}

#[test]
fn at_most_ten_updaters_are_told_apart() {
    let mut world = World::new();
    for i in 0..15 {
        let names: Vec<Value> = (0..=i).map(|n| json!({"name": format!("N{n:02}"), "value": "1"})).collect();
        world.update(&format!("m{i:02}"), json!({"env": names}));
    }
    assert_eq!(world.managers.0.len(), MAX_UPDATERS);
    let all = world.managers.0.values().fold(FieldSet::default(), |all, e| all.union(&e.fields));
    assert_eq!(all, ownable(fields_of(&shape(), &world.object)), "no field lost its owner");
}

#[test]
fn entries_read_back_as_they_were_written() {
    let mut world = World::new();
    world.apply("a", json!({"replicas": 2, "env": [{"name": "A", "value": "1"}]})).expect("no conflict");
    world.update("b", json!({"replicas": 3, "env": [{"name": "A", "value": "1"}]}));
    let text = world.managers.to_json();
    assert!(Managers::read(Some(&*text)).expect("readable").own_the_same(&world.managers));
}

fn specs() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[A-C]", prop::option::of("[12]"), 1..3).prop_map(|items| {
        let item = |(name, value): (String, Option<String>)| match value {
            Some(value) => json!({"name": name, "value": value}),
            None => json!({"name": name}),
        };
        Value::Array(items.into_iter().map(item).collect())
    });
    let field = (
        prop::option::of(0..3i32),
        prop::option::of(env),
        prop::option::of(prop::collection::vec("[xy]", 0..3)),
        prop::option::of(prop::collection::btree_map("[0-9]", "Stop|Restart", 1..3)),
    );
    field.prop_map(|(replicas, env, args, exits)| {
        let mut spec = json!({});
        if let Some(replicas) = replicas {
            spec["replicas"] = json!(replicas);
        }
        if let Some(env) = env {
            spec["env"] = env;
        }
        if let Some(args) = args {
            spec["process"] = json!({"args": args});
        }
        if let Some(exits) = exits {
            spec["restart"] = json!({"exitCodes": exits});
        }
        spec
    })
}

proptest! {
    #[test]
    fn applying_again_changes_nothing(before in specs(), spec in specs()) {
        let mut world = World::new();
        world.update("other", before);
        world.apply_with("a", spec.clone(), true).expect("forced");
        let once = world.clone();
        world.apply("a", spec).expect("it is all a's already");
        prop_assert_eq!(&world.object, &once.object);
        prop_assert!(world.managers.own_the_same(&once.managers));
    }

    #[test]
    fn applying_what_another_applied_shares_it(spec in specs(), other in specs()) {
        let mut world = World::new();
        world.apply("a", spec.clone()).expect("nobody else is there");
        let once = world.clone();
        world.apply("b", spec.clone()).expect("equal values are shared");
        prop_assert_eq!(&world.object, &once.object);
        world.apply("a", other).ok();
        prop_assert_eq!(merge(&shape(), &world.object, &json!({"spec": spec})), world.object, "b's fields stay");
    }

    #[test]
    fn an_apply_always_gets_what_it_asked_for(before in specs(), spec in specs()) {
        let mut world = World::new();
        world.apply("other", before).expect("nobody else is there");
        if world.apply("a", spec.clone()).is_ok() {
            prop_assert_eq!(merge(&shape(), &world.object, &json!({"spec": spec})), world.object.clone());
        }
    }

    #[test]
    fn leaving_everything_out_undoes_an_apply(before in specs(), spec in specs()) {
        let mut world = World::new();
        world.apply("other", before).expect("nobody else is there");
        let before = world.object.clone();
        if world.apply("a", spec).is_ok() {
            world.apply("a", json!({})).expect("giving up is no conflict");
            let left = compare(&shape(), &before, &world.object);
            prop_assert!(left.changed.is_empty() && left.removed.is_empty(), "{} | {}", left.changed, left.removed);
        }
    }
}
