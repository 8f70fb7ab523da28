//! What is judged: who owns what, what goes, and what is said.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{
    claims::{Claims, News},
    decide::{Act, Observed, Plan, decide},
    declared_kinds,
    ledger::{Around, Ledger},
};
use crate::{
    api::{
        Body, ConfigMap, Key, Kind, Namespace, Object, Rev, SOURCE_LABEL, SOURCE_NAMESPACE_LABEL, Source, StoredObject,
    },
    client::{ChangeType, Listing},
    policy::{
        fleet::{Files, Fleet},
        manifest::Home,
    },
    runtime::{Caches, Delta},
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
    Fleet::of(&Files::read(None, &names.iter().map(file).collect(), HOME), None).unwrap()
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

fn of(name: &str) -> Key {
    Key::of::<Source>("default", name)
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

    /// What is there, and who declares what.
    fn around(&self) -> (Caches, Claims) {
        let caches = Caches::new(declared_kinds().chain([Source::INFO]));
        let sources = self.others.iter().map(|(name, _)| *name).chain(["fleet"]);
        let there = sources.map(|name| object(Source::INFO, name, "", |_| {})).chain(self.live.iter().cloned());
        there.for_each(|object| put(&caches, &object));
        let claims = Claims::default();
        for (name, fleet) in &self.others {
            claims.declare(&of(name), fleet.clone().map(Arc::new));
        }
        claims.declare(&of("fleet"), Some(Arc::new(self.fleet.clone())));
        (caches, claims)
    }

    fn decide(&self, source: &Object<Source>) -> Plan {
        let (caches, claims) = self.around();
        let around = Around { source, fleet: &self.fleet, revision: "sha256:now", caches: &caches, claims: &claims };
        let mut ledger = Ledger::default();
        for object in self.live.iter().filter(|_| self.applied) {
            if let Some(origin) = self.fleet.declared().get(&object.key) {
                ledger.remember(&object.key, origin, object, Vec::new());
            }
        }
        ledger.catch_up(&around, News::All, &BTreeSet::new());
        self.plan(source, &ledger)
    }

    fn plan(&self, source: &Object<Source>, ledger: &Ledger) -> Plan {
        let (incomplete, waits_for) = (self.incomplete.as_deref(), &self.waits_for);
        decide(source, &Observed { fleet: &self.fleet, ledger, incomplete, waits_for })
    }
}

fn put(caches: &Caches, object: &Arc<StoredObject>) {
    caches.of(object.key.kind).apply(&Delta::Change(ChangeType::Modified, object.clone()));
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
    insta::assert_snapshot!(held.message, @"it would delete 3 of 4 objects, and maxPrunePercent is 50: configmap default/b; configmap default/c; configmap default/d; bring them back, or set spec.maxPrunePercent to 75 until they are deleted");
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
    let plan = world.decide(&source("fleet", json!({})));
    assert_eq!(names(&plan.apply), ["c"]);
    let (repair, report) = (source("fleet", json!({})), source("fleet", json!({"drift": "Report"})));
    let changed = |source: &Object<Source>, after: Option<Arc<StoredObject>>| {
        let world = World::new(&["a"], configs(&["a"], "fleet"));
        let (caches, claims) = world.around();
        let around = Around { source, fleet: &world.fleet, revision: "sha256:now", caches: &caches, claims: &claims };
        let mut ledger = Ledger::default();
        ledger.remember(&key("a"), &world.fleet.declared()[&key("a")], &world.live[0], Vec::new());
        match after {
            Some(object) => put(&caches, &object),
            None => {
                drop(caches.of(ConfigMap::INFO).apply(&Delta::Replace(Listing { revision: Rev(9), items: vec![] })))
            }
        }
        ledger.catch_up(&around, News::All, &BTreeSet::new());
        world.plan(source, &ledger)
    };
    let other = || Some(object(ConfigMap::INFO, "a", "fleet", |o| o["metadata"]["generation"] = json!(2)));
    assert_eq!(names(&changed(&repair, other()).apply), ["a"]);
    assert_eq!(names(&changed(&repair, None).apply), ["a"]);
    assert_eq!(names(&changed(&report, other()).compare), ["a"]);
    assert_eq!(names(&changed(&report, None).gone), ["a"]);
    world.waits_for = vec!["base".to_owned()];
    let plan = world.decide(&repair);
    assert_eq!((plan.held.unwrap().message, plan.apply), ("waits for source base".to_owned(), vec![]));
}

#[test]
fn what_changed_is_looked_at_and_nothing_else() {
    let world = World::new(&["a", "b"], configs(&["a", "b", "gone"], "fleet"));
    let ((caches, claims), source) = (world.around(), source("fleet", json!({})));
    let around = Around { source: &source, fleet: &world.fleet, revision: "", caches: &caches, claims: &claims };
    let mut ledger = Ledger::default();
    let nothing = BTreeSet::new();
    assert_eq!(claims.take(&of("fleet")), News::All);
    ledger.catch_up(&around, News::All, &nothing);
    let strays = |ledger: &Ledger| names(ledger.strays.keys());
    assert_eq!((ledger.acts.len(), ledger.owned(), strays(&ledger)), (2, 3, vec!["gone".to_owned()]));
    for object in &world.live[..2] {
        ledger.remember(&object.key, &world.fleet.declared()[&object.key], object, Vec::new());
        ledger.look(&object.key, &around);
    }
    assert!(ledger.acts.is_empty());
    // Both change, and one of them is told of.
    let changed = |name: &str, of: &str| {
        let object = object(ConfigMap::INFO, name, of, |o| o["metadata"]["generation"] = json!(2));
        put(&caches, &object);
        object
    };
    changed("a", "fleet");
    assert_eq!(claims.concerned(&changed("b", "fleet")), BTreeSet::from([of("fleet")]));
    let news = claims.take(&of("fleet"));
    assert_eq!(news, News::Of(BTreeSet::from([key("b")])));
    // What is not declared is looked at each time: it is another one's by now.
    changed("gone", "other");
    ledger.catch_up(&around, news, &nothing);
    assert_eq!(ledger.acts.iter().collect::<Vec<_>>(), [(&key("b"), &Act::Apply)]);
    assert_eq!((ledger.owned(), strays(&ledger)), (2, vec![]));
    // A Source that was changed itself looks at everything.
    let mut source = source.clone();
    source.metadata.generation = 2;
    ledger.catch_up(&Around { source: &source, ..around }, claims.take(&of("fleet")), &nothing);
    assert_eq!(names(ledger.acts.keys()), ["a", "b"]);
}

#[test]
fn whoever_declares_the_same_is_told_of_claims_that_come_and_go_and_nobody_else_is() {
    let claims = Claims::default();
    let declare = |source: &str, names: &[&str]| claims.declare(&of(source), Some(Arc::new(fleet(names))));
    for source in ["x", "y", "z"] {
        claims.take(&of(source));
    }
    assert_eq!(declare("x", &["a", "b"]), BTreeSet::new());
    assert_eq!(declare("z", &["c"]), BTreeSet::new());
    assert_eq!(declare("y", &["b", "c"]), BTreeSet::from([of("x"), of("z")]));
    assert_eq!(claims.take(&of("x")), News::Of(BTreeSet::from([key("b")])));
    assert_eq!((claims.other(&of("y"), &key("b")), claims.other(&of("y"), &key("d"))), (Some(of("x")), None));
    assert_eq!(declare("y", &["c"]), BTreeSet::from([of("x")]));
    assert!(claims.gave_up(&of("y"), &key("b")) && !claims.gave_up(&of("nobody"), &key("b")));
    // Whoever is in dispute looks at everything when a Source comes or goes.
    claims.set_disputing(&of("x"), true);
    claims.take(&of("x"));
    assert_eq!(claims.forget(&of("y")), BTreeSet::from([of("x"), of("z")]));
    assert_eq!((claims.take(&of("x")), claims.other(&of("z"), &key("c"))), (News::All, None));
    // Nothing is noted for who does not look.
    assert_eq!(claims.rest(&of("x")), BTreeSet::new());
    assert_eq!(claims.concerned(&object(ConfigMap::INFO, "a", "x", |_| {})), BTreeSet::from([of("x")]));
    assert_eq!(claims.take(&of("x")), News::All);
}
