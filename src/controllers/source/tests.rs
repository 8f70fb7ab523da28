//! What is judged: who owns what, what goes, and what is said.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};

use super::decide::{Applied, Observed, Plan, decide, witness};
use crate::{
    api::{
        Body, ConfigMap, Key, Kind, Namespace, Object, Rev, SOURCE_LABEL, SOURCE_NAMESPACE_LABEL, Source, StoredObject,
    },
    policy::{fleet::Fleet, manifest::Home},
};

const HOME: Home<'static> = Home { only: None, said_by: "the source", default: "default" };

fn source(name: &str, spec: Value) -> Object<Source> {
    let mut all = json!({"directory": {"path": "/x"}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let metadata = json!({"name": name, "namespace": "default", "uid": name, "generation": 1});
    serde_json::from_value(json!({"apiVersion": "appm.dev/v1", "kind": "Source", "metadata": metadata, "spec": all}))
        .unwrap()
}

fn key(name: &str) -> Key {
    Key::of::<ConfigMap>("default", name)
}

fn fleet(names: &[&str]) -> Fleet {
    let file = |name: &&str| {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        (Arc::from(format!("{name}.yaml")), Arc::from(text))
    };
    Fleet::read(None, &names.iter().map(file).collect(), HOME).unwrap()
}

/// An object as a Source has applied it.
fn object(
    kind: &'static crate::api::KindInfo,
    name: &str,
    of: &str,
    change: impl FnOnce(&mut Value),
) -> Arc<StoredObject> {
    let namespace = if kind.is_namespaced() { "default" } else { "" };
    let mut value = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {
        "name": name, "namespace": namespace, "uid": format!("{name}-uid"), "generation": 1,
        "labels": {SOURCE_LABEL: of, SOURCE_NAMESPACE_LABEL: "default"},
        "managedFields": [{"manager": format!("source:default/{of}"), "operation": "Apply"}],
    }});
    change(&mut value);
    Arc::new(StoredObject::new(Key::new(kind, namespace, name), Rev(7), &Body::new(value)).unwrap())
}

fn configs(names: &[&str], of: &str) -> Vec<Arc<StoredObject>> {
    names.iter().map(|name| object(ConfigMap::INFO, name, of, |_| {})).collect()
}

/// A world in which everything is applied that is there.
struct World {
    fleet: Fleet,
    live: Vec<Arc<StoredObject>>,
    others: Vec<(&'static str, Option<Fleet>)>,
    applied: bool,
    incomplete: Option<String>,
    waits_for: Vec<String>,
}

impl World {
    fn new(declared: &[&str], live: Vec<Arc<StoredObject>>) -> Self {
        Self {
            fleet: fleet(declared),
            live,
            others: Vec::new(),
            applied: true,
            incomplete: None,
            waits_for: Vec::new(),
        }
    }

    fn decide(&self, source: &Object<Source>) -> Plan {
        let of = |name: &str| Key::of::<Source>("default", name);
        let remember = |object: &Arc<StoredObject>| {
            let digest = self.fleet.declared().get(&object.key)?.digest;
            let applied = Applied { digest, witness: witness(object), drift: Vec::new(), health: None };
            Some((object.key.clone(), applied))
        };
        let applied: HashMap<Key, Applied> =
            if self.applied { self.live.iter().filter_map(remember).collect() } else { HashMap::new() };
        decide(
            source,
            &Observed {
                fleet: Some(&self.fleet),
                revision: "sha256:now",
                incomplete: self.incomplete.clone(),
                live: self.live.iter().map(|object| (object.key.clone(), object.clone())).collect(),
                sources: self.others.iter().map(|(name, _)| of(name)).chain([source.key()]).collect::<BTreeSet<_>>(),
                fleets: self
                    .others
                    .iter()
                    .filter_map(|(name, fleet)| Some((of(name), Arc::new(fleet.clone()?))))
                    .collect::<BTreeMap<_, _>>(),
                waits_for: self.waits_for.clone(),
                applied: &applied,
            },
        )
    }
}

fn names<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Vec<String> {
    keys.into_iter().map(|key| key.name.to_string()).collect()
}

fn pruned(plan: &Plan) -> Vec<String> {
    names(plan.prune.iter().map(|(key, _)| key))
}

#[test]
fn nothing_is_done_at_rest_and_whoever_forgot_applies_all_once_more() {
    let mut world = World::new(&["a", "b"], configs(&["a", "b"], "fleet"));
    assert_eq!(world.decide(&source("fleet", json!({}))), Plan::default());
    world.applied = false;
    assert_eq!(names(&world.decide(&source("fleet", json!({}))).apply), ["a", "b"]);
    // Under Report that would be a repair.
    let mut report = source("fleet", json!({"drift": "Report"}));
    report.status.last_applied_revision = "sha256:now".to_owned();
    let plan = world.decide(&report);
    assert_eq!((names(&plan.compare), names(&plan.apply)), (vec!["a".to_owned(), "b".to_owned()], vec![]));
}

#[test]
fn only_what_the_source_has_applied_itself_is_pruned() {
    let mut live = configs(&["a", "b", "gone"], "fleet");
    live.push(object(ConfigMap::INFO, "copied", "fleet", |o| o["metadata"]["managedFields"] = json!([])));
    live.push(object(ConfigMap::INFO, "kept", "fleet", |o| {
        o["metadata"]["annotations"] = json!({"appm.dev/prune": "disabled"})
    }));
    live.push(object(ConfigMap::INFO, "owned", "fleet", |o| {
        o["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "u"}]);
    }));
    live.push(object(ConfigMap::INFO, "others", "other", |_| {}));
    live.push(object(Namespace::INFO, "place", "fleet", |_| {}));
    let mut world = World::new(&["a", "b"], live);
    assert_eq!(pruned(&world.decide(&source("fleet", json!({})))), ["gone"]);
    assert_eq!(pruned(&world.decide(&source("fleet", json!({"prune": false})))), [""; 0]);
    world.incomplete = Some("b.yaml is empty".to_owned());
    assert_eq!(pruned(&world.decide(&source("fleet", json!({})))), [""; 0]);
}

#[test]
fn an_empty_source_deletes_nothing_and_too_much_at_once_stops_everything() {
    let world = World::new(&[], configs(&["a", "b"], "fleet"));
    assert_eq!(pruned(&world.decide(&source("fleet", json!({"maxPrunePercent": 100})))), [""; 0]);
    let mut world = World::new(&["a", "new"], configs(&["a", "b", "c", "d"], "fleet"));
    let plan = world.decide(&source("fleet", json!({})));
    let held = plan.held.clone().unwrap();
    assert_eq!((held.reason, plan.apply, plan.prune), ("PruneLimit", vec![], vec![]));
    insta::assert_snapshot!(held.message, @"it would delete 3 of 4 objects, and maxPrunePercent is 50: configmap default/b; configmap default/c; configmap default/d");
    assert_eq!(pruned(&world.decide(&source("fleet", json!({"maxPrunePercent": 75})))), ["b", "c", "d"]);
    world.live.pop();
    world.live.pop();
    assert_eq!(pruned(&world.decide(&source("fleet", json!({})))), ["b"]);
}

#[test]
fn an_object_of_two_sources_is_its_owners_until_that_gives_it_up() {
    let declared = || Some(fleet(&["a"]));
    let judge = |live: &[&str], of: &str, others: Vec<(&'static str, Option<Fleet>)>| {
        let mut world = World::new(&["a"], configs(live, of));
        world.others = others;
        let plan = world.decide(&source("fleet", json!({})));
        (plan.held.map(|held| held.message), names(&plan.apply), plan.conflicts)
    };
    let told = vec!["configmap default/a is declared by source default/other too".to_owned()];
    let theirs = "configmap default/a belongs to source default/other".to_owned();
    // Ours, and another one wants it.
    assert_eq!(judge(&["a"], "fleet", vec![("other", declared())]), (None, vec![], told.clone()));
    // Theirs, and they declare it, or were not read yet.
    for known in [declared(), None] {
        let expected = (Some(theirs.clone()), vec![], vec![theirs.clone()]);
        assert_eq!(judge(&["a"], "other", vec![("other", known)]), expected);
    }
    // They have given it up, or are gone.
    for others in [vec![("other", Some(fleet(&["b"])))], vec![]] {
        assert_eq!(judge(&["a"], "other", others), (None, vec!["a".to_owned()], vec![]));
    }
    // Nobody's yet: the first by name.
    assert_eq!(judge(&[], "", vec![("other", declared())]), (None, vec!["a".to_owned()], told));
    assert!(judge(&[], "", vec![("a", declared())]).0.is_some());
    // What another one declares is not deleted but given up.
    let mut world = World::new(&["b"], configs(&["a", "b"], "fleet"));
    world.others = vec![("other", declared())];
    assert_eq!(world.decide(&source("fleet", json!({}))), Plan::default());
}

#[test]
fn drift_is_repaired_or_compared_and_nothing_is_done_before_what_it_waits_for() {
    let mut world = World::new(&["a", "b", "c"], configs(&["a", "b"], "fleet"));
    world.applied = true;
    let plan = world.decide(&source("fleet", json!({})));
    assert_eq!(names(&plan.apply), ["c"]);
    let applied =
        Applied { digest: fleet(&["a"]).declared()[&key("a")].digest, witness: 1, drift: vec![], health: None };
    let changed = |source: &Object<Source>, live: Vec<Arc<StoredObject>>| {
        let fleet = fleet(&["a"]);
        let applied = HashMap::from([(key("a"), applied.clone())]);
        let live = live.into_iter().map(|object| (object.key.clone(), object)).collect();
        let (sources, fleets) = (BTreeSet::from([source.key()]), BTreeMap::new());
        let (fleet, revision) = (Some(&fleet), "sha256:now");
        decide(
            source,
            &Observed {
                fleet,
                revision,
                incomplete: None,
                live,
                sources,
                fleets,
                waits_for: vec![],
                applied: &applied,
            },
        )
    };
    let (repair, report) = (source("fleet", json!({})), source("fleet", json!({"drift": "Report"})));
    assert_eq!(names(&changed(&repair, configs(&["a"], "fleet")).apply), ["a"]);
    assert_eq!(names(&changed(&repair, vec![]).apply), ["a"]);
    assert_eq!(names(&changed(&report, configs(&["a"], "fleet")).compare), ["a"]);
    assert_eq!(names(&changed(&report, vec![]).gone), ["a"]);
    world.waits_for = vec!["base".to_owned()];
    let plan = world.decide(&repair);
    assert_eq!((plan.held.unwrap().message, plan.apply), ("waits for source base".to_owned(), vec![]));
}
