//! Admission over a real store in memory: one test for each promise.

//! The one way in, over a store in memory: Kubernetes' semantics verb by verb.

use futures::StreamExt;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{Cause, Key, Operation, OperationVerb, Reason, Status, Transaction, kinds},
    auth::Proof,
    client::{ChangeType, Client, Query, WatchEvent},
    clock::Virtual,
    store::{Limits, Memory},
};

pub(super) struct World {
    pub(super) admission: Admission,
    pub(super) caller: Caller,
}

pub(super) fn served(word: &str) -> Served {
    kinds::find_by_word(word).expect("a kind")
}

fn app(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": spec})
}

fn sleeper() -> Value {
    json!({"process": {"command": ["sleep", "1"]}})
}

impl World {
    /// A server with the namespace `default`.
    pub(super) async fn new() -> Self {
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let clock: SharedClock = Arc::new(Virtual::new(now, 1));
        let store = Store::open(Memory::new().engine(), clock.clone(), Limits::default()).await.expect("opens");
        let world = Self {
            admission: Admission::new(store, clock, Host::default()),
            caller: Caller::new(Identity::admin(Proof::Peer), "tester"),
        };
        let namespace = json!({"metadata": {"name": "default"}});
        world.create("ns", namespace).await.expect("made");
        world
    }

    fn by(&self, manager: &str) -> Caller {
        Caller { manager: manager.to_owned(), ..self.caller.clone() }
    }

    async fn create(&self, word: &str, body: Value) -> Result<Value, Status> {
        let served = served(word);
        let namespace = if served.kind.is_namespaced() { "default" } else { "" };
        let written = self.admission.create(&self.caller, served, namespace, body, &WriteOptions::default()).await?;
        Ok(written.object.value())
    }

    async fn update(&self, word: &str, name: &str, body: Value) -> Result<Written, Status> {
        self.admission.update(&self.caller, &target(word, name), body, &WriteOptions::default()).await
    }

    async fn patch(&self, name: &str, patch: Patch) -> Result<Written, Status> {
        self.admission.patch(&self.caller, &target("app", name), patch, &WriteOptions::default()).await
    }

    async fn apply(&self, manager: &str, name: &str, spec: Value) -> Result<Written, Status> {
        let patch = Patch::Apply { object: app(name, spec), force: false };
        self.admission.patch(&self.by(manager), &target("app", name), patch, &WriteOptions::default()).await
    }

    async fn delete(&self, word: &str, name: &str) -> Result<bool, Status> {
        let delete = DeleteOptions::default();
        let options = WriteOptions::default();
        Ok(self.admission.delete(&self.caller, &target(word, name), &delete, &options).await?.1)
    }

    async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<Outcome>, Status> {
        let done = self.admission.transact(&self.caller, Transaction::new("tester", operations)).await?;
        Ok(done.into_iter().map(|d| d.outcome).collect())
    }

    fn app(&self, name: &str) -> Value {
        let key = Key::new(served("app").kind, "default", name);
        self.admission.get(&self.caller, key.kind.stored_form(), &key).expect("it is there").value()
    }

    fn revision(&self) -> Rev {
        self.admission.store().revision()
    }
}

fn target<'a>(word: &str, name: &'a str) -> Target<'a> {
    let served = served(word);
    Target { served, namespace: if served.kind.is_namespaced() { "default" } else { "" }, name, subresource: None }
}

fn fields(causes: &[Cause]) -> Vec<&str> {
    causes.iter().map(|c| c.field.as_str()).collect()
}

#[tokio::test]
async fn a_new_object_gets_its_identity_from_the_server() {
    let world = World::new().await;
    let mut body = app("web", sleeper());
    body["metadata"]["uid"] = json!("mine");
    body["metadata"]["generation"] = json!(7);
    body["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    body["metadata"]["annotations"] = json!({"appm.dev/owner": "somebody"});
    body["status"] = json!({"replicas": 3});
    let made = world.create("app", body).await.expect("made");
    let metadata = &made["metadata"];
    assert_ne!(metadata["uid"], "mine");
    assert_eq!((&metadata["generation"], &metadata["namespace"]), (&json!(1), &json!("default")));
    assert_eq!(metadata["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(metadata["annotations"], json!({"appm.dev/owner": "admin"}));
    assert!(metadata["deletionTimestamp"].is_null() && made["status"].is_null());
    assert_eq!(metadata["resourceVersion"], world.revision().to_string());
    insta::assert_json_snapshot!(metadata["managedFields"], @r#"
    [
      {
        "manager": "tester",
        "operation": "Update",
        "apiVersion": "appm.dev/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
          "f:spec": {
            "f:process": {
              "f:command": {}
            }
          }
        },
        "time": "2026-01-01T00:00:00Z"
      }
    ]
    "#);
}

#[tokio::test]
async fn names_are_made_from_a_prefix() {
    let world = World::new().await;
    let mut body = app("", sleeper());
    body["metadata"] = json!({"generateName": "web-"});
    let made = world.create("app", body).await.expect("made");
    let name = made["metadata"]["name"].as_str().expect("a name");
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn all_violations_are_reported_at_once() {
    let world = World::new().await;
    let body = json!({
        "metadata": {"name": "Web_1", "labels": {"-x": "a b"}, "lables": {}},
        "spec": {"replica": 2, "replicas": -1, "process": {"command": ["a"], "script": "b"}},
    });
    let error = world.create("app", body).await.expect_err("refused");
    assert_eq!(error.reason, Reason::BadRequest);
    assert_eq!(
        fields(&error.details.causes),
        [
            "metadata.lables",
            "spec.replica",
            "metadata.name",
            "metadata.labels.-x",
            "metadata.labels.-x",
            "spec.replicas",
            "spec.process.script",
        ]
    );
    assert!(
        error.message.contains("unknown field \"spec.replica\"; and App.appm.dev \"Web_1\" is invalid: ["),
        "{error}"
    );
    assert!(error.details.causes[1].message.contains("did you mean `replicas`?"), "{error}");
}

#[tokio::test]
async fn what_the_url_says_holds() {
    let world = World::new().await;
    let wrong = [
        ("another kind", json!({"kind": "Node", "metadata": {"name": "x"}})),
        ("another version", json!({"apiVersion": "appm.dev/v2", "metadata": {"name": "x"}})),
        ("another namespace", json!({"metadata": {"name": "x", "namespace": "other"}})),
        ("a resourceVersion", json!({"metadata": {"name": "x", "resourceVersion": "5"}})),
        ("no object", json!([1])),
    ];
    for (what, body) in wrong {
        let error = world.create("app", body).await.expect_err(what);
        assert_eq!(error.reason, Reason::BadRequest, "{what}: {error}");
    }
    world.create("app", app("web", sleeper())).await.expect("made");
    let error = world.update("app", "web", app("other", sleeper())).await.expect_err("another name");
    assert_eq!(error.reason, Reason::BadRequest);
    let error = world.create("app", app("web", sleeper())).await.expect_err("there already");
    assert_eq!((error.reason, error.message.as_str()), (Reason::AlreadyExists, "apps.appm.dev \"web\" already exists"));
}

#[tokio::test]
async fn writes_that_change_nothing_use_no_revision() {
    let world = World::new().await;
    world.apply("a", "web", sleeper()).await.expect("made");
    let before = world.revision();
    let again = world.apply("a", "web", sleeper()).await.expect("applied");
    assert_eq!((again.outcome, world.revision()), (Outcome::Unchanged, before));
    let same = world.update("app", "web", world.app("web")).await.expect("replaced");
    assert_eq!((same.outcome, world.revision()), (Outcome::Unchanged, before));
    let empty = world.patch("web", Patch::Merge(json!({}))).await.expect("patched");
    assert_eq!((empty.outcome, world.revision()), (Outcome::Unchanged, before));
}

#[tokio::test]
async fn generation_counts_changes_of_what_is_wanted() {
    let world = World::new().await;
    world.create("app", app("web", sleeper())).await.expect("made");
    let generation = |world: &World| world.app("web")["metadata"]["generation"].as_i64();
    world.patch("web", Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}))).await.expect("labelled");
    assert_eq!(generation(&world), Some(1));
    world.patch("web", Patch::Merge(json!({"spec": {"replicas": 2}}))).await.expect("scaled");
    assert_eq!(generation(&world), Some(2));
    let status = Target { subresource: Some(Subresource::Status), ..target("app", "web") };
    let body = Patch::Merge(json!({"status": {"replicas": 2}, "spec": {"replicas": 9}}));
    world.admission.patch(&world.caller, &status, body, &WriteOptions::default()).await.expect("reported");
    assert_eq!(generation(&world), Some(2));
    assert_eq!(world.app("web")["spec"]["replicas"], 2);
    assert_eq!(world.app("web")["status"]["replicas"], 2);
    let mut replacement = app("web", sleeper());
    replacement["metadata"]["resourceVersion"] = world.app("web")["metadata"]["resourceVersion"].clone();
    world.update("app", "web", replacement).await.expect("replaced");
    assert_eq!(world.app("web")["status"]["replicas"], 2, "the main resource leaves the status alone");
}

#[tokio::test]
async fn stale_writes_are_conflicts() {
    let world = World::new().await;
    let old = world.create("app", app("web", sleeper())).await.expect("made");
    world.patch("web", Patch::Merge(json!({"spec": {"replicas": 2}}))).await.expect("scaled");
    let error = world.update("app", "web", old.clone()).await.expect_err("stale");
    assert!(error.message.contains("the object has been modified; please apply your changes"), "{error}");
    let patch = json!({"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}, "spec": {"replicas": 3}});
    assert_eq!(world.patch("web", Patch::Merge(patch)).await.expect_err("stale").reason, Reason::Conflict);
    let mut other = world.app("web");
    other["metadata"]["uid"] = json!("other");
    assert_eq!(world.update("app", "web", other).await.expect_err("another object").reason, Reason::Conflict);
}

#[tokio::test]
async fn apply_conflicts_name_the_owner_and_every_field() {
    let world = World::new().await;
    world.apply("one", "web", json!({"replicas": 1, "process": {"command": ["a"]}})).await.expect("made");
    let error = world.apply("two", "web", json!({"replicas": 2, "process": {"command": ["b"]}})).await.expect_err("no");
    insta::assert_snapshot!(error.message, @r#"
    Apply failed with 2 conflicts: conflicts with "one" using appm.dev/v1:
    - .spec.process.command
    - .spec.replicas
    "#);
    assert_eq!(error.reason, Reason::Conflict);
    assert_eq!(error.details.causes[0].reason, "FieldManagerConflict");
    assert_eq!(fields(&error.details.causes), [".spec.process.command", ".spec.replicas"]);
}

#[tokio::test]
async fn managed_fields_may_be_written_by_a_patch_and_not_by_an_apply() {
    let world = World::new().await;
    world.apply("one", "web", sleeper()).await.expect("made");
    let renamed = json!([
        {"op": "replace", "path": "/metadata/managedFields/0/manager", "value": "two"},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": world.revision().to_string()},
    ]);
    world.patch("web", Patch::Json(renamed)).await.expect("renamed");
    assert_eq!(world.app("web")["metadata"]["managedFields"][0]["manager"], "two");
    let mut object = app("web", sleeper());
    object["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    let error = world.patch("web", Patch::Apply { object, force: false }).await.expect_err("refused");
    assert_eq!((error.reason, error.message.as_str()), (Reason::BadRequest, "metadata.managedFields must be nil"));
}

#[tokio::test]
async fn finalizers_hold_a_deleted_object() {
    let world = World::new().await;
    let mut body = app("web", sleeper());
    body["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    world.create("app", body).await.expect("made");
    assert!(!world.delete("app", "web").await.expect("asked"), "finalizers hold it");
    let held = world.app("web");
    assert_eq!(
        (&held["metadata"]["generation"], &held["metadata"]["deletionTimestamp"]),
        (&json!(2), &json!("2026-01-01T00:00:00Z"))
    );
    let before = world.revision();
    assert!(!world.delete("app", "web").await.expect("asked again"));
    assert_eq!(world.revision(), before, "asking again changes nothing");
    assert_eq!(world.create("app", app("web", sleeper())).await.expect_err("there").reason, Reason::AlreadyExists);
    let more = json!({"metadata": {"finalizers": ["example.com/a", "example.com/c"]}});
    let error = world.patch("web", Patch::Merge(more)).await.expect_err("too late");
    assert_eq!((error.reason, fields(&error.details.causes)), (Reason::Invalid, vec!["metadata.finalizers"]));
    world.patch("web", Patch::Merge(json!({"metadata": {"finalizers": ["example.com/a"]}}))).await.expect("one off");
    let last = world.patch("web", Patch::Merge(json!({"metadata": {"finalizers": null}}))).await.expect("the last");
    assert_eq!(last.outcome, Outcome::Deleted);
    assert!(
        world.admission.get(&world.caller, served("app"), &Key::new(served("app").kind, "default", "web")).is_err()
    );
}

#[tokio::test]
async fn preconditions_guard_a_delete() {
    let world = World::new().await;
    world.create("app", app("web", sleeper())).await.expect("made");
    let preconditions = Preconditions { uid: Some("other".into()), resource_version: None };
    let delete = DeleteOptions { preconditions, ..DeleteOptions::default() };
    let options = WriteOptions::default();
    let error = world.admission.delete(&world.caller, &target("app", "web"), &delete, &options).await;
    assert_eq!(error.expect_err("another object").reason, Reason::Conflict);
    assert!(world.delete("app", "web").await.expect("gone"));
    assert_eq!(world.delete("app", "web").await.expect_err("gone").reason, Reason::NotFound);
}

#[tokio::test]
async fn foreground_deletion_waits_only_where_there_are_dependents() {
    let world = World::new().await;
    let owner = world.create("app", app("web", sleeper())).await.expect("made");
    let mut dependent = app("child", sleeper());
    dependent["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "appm.dev/v1", "kind": "App", "name": "web", "uid": owner["metadata"]["uid"], "controller": true,
    }]);
    world.create("app", dependent).await.expect("made");
    let delete = DeleteOptions { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteOptions::default() };
    let options = WriteOptions::default();
    let held = world.admission.delete(&world.caller, &target("app", "web"), &delete, &options).await.expect("asked");
    assert_eq!((held.1, held.0.object.meta().finalizers.as_slice()), (false, &["foregroundDeletion".to_owned()][..]));
    let gone = world.admission.delete(&world.caller, &target("app", "child"), &delete, &options).await.expect("gone");
    assert!(gone.1);
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_not_there_or_going() {
    let world = World::new().await;
    let options = WriteOptions::default();
    let make = |namespace: &'static str| {
        world.admission.create(&world.caller, served("app"), namespace, app("web", sleeper()), &options)
    };
    let error = make("nowhere").await.expect_err("no namespace");
    assert_eq!((error.reason, error.message.as_str()), (Reason::NotFound, "namespaces \"nowhere\" not found"));
    world.create("ns", json!({"metadata": {"name": "room"}})).await.expect("made");
    make("room").await.expect("made");
    assert!(!world.delete("ns", "room").await.expect("asked"), "a namespace is emptied first");
    let error = make("room").await.expect_err("going");
    assert_eq!((error.reason, error.details.causes[0].reason.as_str()), (Reason::Forbidden, "NamespaceTerminating"));
    assert_eq!(world.delete("ns", "default").await.expect_err("never").reason, Reason::Forbidden);
}

#[tokio::test]
async fn unknown_fields_of_kubernetes_kinds_are_dropped_with_a_warning() {
    let world = World::new().await;
    let body = json!({"metadata": {"name": "room"}, "spec": {"finalisers": []}});
    let options = WriteOptions::default();
    let written = world.admission.create(&world.caller, served("ns"), "", body, &options).await.expect("made");
    assert_eq!(written.warnings, ["unknown field \"spec.finalisers\""]);
    let strict = WriteOptions { field_validation: Some(FieldValidation::Strict), ..WriteOptions::default() };
    let body = json!({"metadata": {"name": "hall"}, "spec": {"finalisers": []}});
    let error = world.admission.create(&world.caller, served("ns"), "", body, &strict).await.expect_err("strict");
    assert_eq!(error.reason, Reason::BadRequest);
}

#[tokio::test]
async fn unknown_fields_of_a_status_are_dropped_with_a_warning() {
    let world = World::new().await;
    world.create("app", app("web", sleeper())).await.expect("made");
    let status = Target { subresource: Some(Subresource::Status), ..target("app", "web") };
    let patch = Patch::Merge(json!({"status": {"progress": "half"}}));
    let options = WriteOptions::default();
    let written = world.admission.patch(&world.caller, &status, patch, &options).await.expect("written");
    assert_eq!(written.warnings, ["unknown field \"status.progress\""]);
}

#[tokio::test]
async fn a_target_that_is_not_there_is_warned_of_unless_it_comes_along() {
    let world = World::new().await;
    let person = Caller { request_id: "r1".to_owned(), ..world.caller.clone() };
    let create = async |caller: &Caller, name: &str, spec: Value| {
        let body = json!({"metadata": {"name": name}, "spec": spec});
        let written = world.admission.create(caller, served("sched"), "default", body, &WriteOptions::default()).await;
        written.expect("made").warnings
    };
    world.create("app", app("web", sleeper())).await.expect("made");
    let daily = |target: Value| {
        let mut spec = json!({"cron": "@daily"});
        spec.as_object_mut().expect("a spec").extend(target.as_object().expect("fields").clone());
        spec
    };
    for (name, target, warning) in [
        ("a", json!({"run": {"app": "web"}}), None),
        ("b", json!({"run": {"process": {"command": ["true"]}}}), None),
        ("c", json!({"run": {"app": "wbe"}}), Some("spec.run.app: there is no app \"wbe\" in namespace \"default\"")),
        ("d", json!({"task": {"app": "wbe"}}), Some("spec.task.app: there is no app \"wbe\" in namespace \"default\"")),
        (
            "e",
            json!({"workflow": {"name": "deplyo"}}),
            Some("spec.workflow.name: there is no workflow \"deplyo\" in namespace \"default\""),
        ),
    ] {
        let warned = create(&person, name, daily(target)).await;
        assert_eq!(warned.first().map(String::as_str), warning, "{name}");
    }
    // Nobody reads what appm says to itself.
    assert_eq!(create(&world.caller, "f", daily(json!({"run": {"app": "wbe"}}))).await, Vec::<String>::new());
    let both = [("Schedule", daily(json!({"run": {"app": "new"}}))), ("App", json!({"process": {"command": ["a"]}}))];
    let operations = both.map(|(kind, spec)| {
        let name = "new";
        let object = json!({"apiVersion": "appm.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        Operation::new(OperationVerb::Create, object)
    });
    let transaction = Transaction::new("tester", operations.into());
    let done = world.admission.transact(&person, transaction).await.expect("made");
    assert!(done.iter().all(|done| done.warnings.is_empty()), "{done:?}");
}

#[tokio::test]
async fn a_dry_run_answers_and_stores_nothing() {
    let world = World::new().await;
    let before = world.revision();
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let body = app("web", sleeper());
    let written = world.admission.create(&world.caller, served("app"), "default", body, &dry).await.expect("sound");
    assert_eq!((written.outcome, &*written.object.key.name), (Outcome::Created, "web"));
    assert_eq!(world.revision(), before);
}

#[tokio::test]
async fn scaling_changes_replicas_and_nothing_else() {
    let world = World::new().await;
    world.create("app", app("web", sleeper())).await.expect("made");
    let scale = Target { subresource: Some(Subresource::Scale), ..target("app", "web") };
    let patch = Patch::Merge(json!({"spec": {"replicas": 7}}));
    let options = WriteOptions::default();
    let written = world.admission.patch(&world.caller, &scale, patch, &options).await.expect("scaled");
    assert_eq!(scale::project(&written.object.value())["spec"]["replicas"], 7);
    assert_eq!(world.app("web")["spec"]["process"], json!({"command": ["sleep", "1"]}));
    assert_eq!(world.app("web")["metadata"]["managedFields"][1]["subresource"], "scale");
    let patch = Patch::Merge(json!({"spec": {"replicas": -7}}));
    let error = world.admission.patch(&world.caller, &scale, patch, &options).await.expect_err("negative");
    assert_eq!(fields(&error.details.causes), ["spec.replicas"]);
}

#[tokio::test]
async fn views_are_written_in_their_own_words() {
    let world = World::new().await;
    let view = kinds::find_view("events.k8s.io", "v1", "events").expect("a view");
    let time = "2026-01-01T00:00:00.000001Z";
    let body = json!({
        "metadata": {"name": "e"}, "regarding": {"name": "web"}, "note": "n", "reason": "R", "type": "Normal",
        "eventTime": time, "reportingController": "example.com/c", "reportingInstance": "c-1", "action": "Run",
    });
    let options = WriteOptions::default();
    let made = world.admission.create(&world.caller, view, "default", body, &options).await.expect("made");
    assert_eq!(made.object.value()["involvedObject"]["name"], "web");
    let target = Target { served: view, namespace: "default", name: "e", subresource: None };
    let patch = Patch::Merge(json!({"note": "other"}));
    let refused = world.admission.patch(&world.caller, &target, patch, &options).await.expect_err("it is said");
    assert_eq!(fields(&refused.details.causes), ["message"]);
    let patch = Patch::Strategic(json!({"series": {"count": 2, "lastObservedTime": time}}));
    let patched = world.admission.patch(&world.caller, &target, patch, &options).await.expect("patched");
    assert_eq!(patched.object.value()["series"], json!({"count": 2, "lastObservedTime": time}));
}

#[tokio::test]
async fn secrets_keep_their_values_out_of_errors() {
    let world = World::new().await;
    let body = json!({
        "metadata": {"name": "s"}, "type": "kubernetes.io/dockerconfigjson", "immutable": "hunter2",
        "data": {".dockerconfigjson": "aHVudGVyMg==", "bad": "hunter2?", "odd": ["hunter2"]},
        "stringData": {"number": {"a": "hunter2"}},
    });
    let refused = world.create("secret", body).await.expect_err("nothing in it is right");
    assert!(!refused.to_json().to_string().contains("unter2"), "{refused:?}");
    assert_eq!(
        fields(&refused.details.causes),
        ["immutable", "data.odd", "stringData.number", "data[bad]", "data[.dockerconfigjson]"]
    );
}

#[tokio::test]
async fn string_data_is_written_by_every_verb_and_never_shown() {
    let world = World::new().await;
    let key = Key::new(served("secret").kind, "default", "s");
    let now = || world.admission.get(&world.caller, key.kind.stored_form(), &key).expect("it is there").value();
    let made =
        world.create("secret", json!({"metadata": {"name": "s"}, "stringData": {"a": "1"}})).await.expect("made");
    assert_eq!((&made["data"], &made["type"]), (&json!({"a": "MQ=="}), &json!("Opaque")));
    let at_secret = target("secret", "s");
    for (patch, expected) in [
        (Patch::Merge(json!({"stringData": {"b": "2"}})), json!({"a": "MQ==", "b": "Mg=="})),
        (Patch::Strategic(json!({"stringData": {"b": "3"}})), json!({"a": "MQ==", "b": "Mw=="})),
        (
            Patch::Json(json!([{"op": "add", "path": "/stringData", "value": {"c": ""}}])),
            json!({"a": "MQ==", "b": "Mw==", "c": ""}),
        ),
    ] {
        world.admission.patch(&world.caller, &at_secret, patch, &WriteOptions::default()).await.expect("patched");
        assert_eq!((&now()["data"], now().get("stringData")), (&expected, None));
    }
    let body = json!({"metadata": {"name": "s"}, "data": {"a": "MQ=="}, "stringData": {"a": "2"}});
    world.update("secret", "s", body).await.expect("updated");
    assert_eq!(now()["data"], json!({"a": "Mg=="}));
}

#[tokio::test]
async fn who_applies_string_data_owns_the_entry_and_nobody_the_default_type() {
    let world = World::new().await;
    let apply = |manager: &str, texts: Value, force: bool| {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": texts});
        let caller = world.by(manager);
        let world = &world;
        async move {
            let patch = Patch::Apply { object, force };
            world.admission.patch(&caller, &target("secret", "s"), patch, &WriteOptions::default()).await
        }
    };
    let made = apply("one", json!({"a": "1", "b": "1"}), false).await.expect("made").object.value();
    assert_eq!(made["type"], "Opaque");
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:data": {"f:a": {}, "f:b": {}}}));
    let refused = apply("two", json!({"b": "2"}), false).await.expect_err("it is another's");
    assert_eq!(fields(&refused.details.causes), [".data.b"]);
    apply("two", json!({"c": "3"}), false).await.expect("its own");
    let left = apply("one", json!({"a": "1"}), false).await.expect("applied").object.value();
    assert_eq!(left["data"], json!({"a": "MQ==", "c": "Mw=="}));
}

#[tokio::test]
async fn strategic_merge_patch_is_for_kubernetes_own_kinds() {
    let world = World::new().await;
    world.create("app", app("web", sleeper())).await.expect("made");
    let refused = world.patch("web", Patch::Strategic(json!({}))).await.expect_err("refused");
    assert_eq!(refused.reason, Reason::UnsupportedMediaType);
    world.create("cm", json!({"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}})).await.expect("made");
    let reference = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u1"});
    let patch = |body: Value| {
        let world = &world;
        async move {
            let options = WriteOptions::default();
            world.admission.patch(&world.caller, &target("cm", "c"), Patch::Strategic(body), &options).await
        }
    };
    patch(json!({"data": {"a": null}, "metadata": {"ownerReferences": [reference]}})).await.expect("patched");
    let other =
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "m", "uid": "u2"}]}});
    let object = patch(other).await.expect("patched").object.value();
    assert_eq!(
        (&object["data"], object["metadata"]["ownerReferences"].as_array().map(Vec::len)),
        (&json!({"b": "2"}), Some(2))
    );
    let gone = json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": "u1"}]}});
    let object = patch(gone).await.expect("patched").object.value();
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u2");
    assert_eq!(patch(json!({"data": {"$patch": "burn"}})).await.expect_err("senseless").reason, Reason::BadRequest);
}

#[tokio::test]
async fn a_namespace_has_its_name_as_a_label_and_only_finalize_changes_its_finalizers() {
    let world = World::new().await;
    let made = world.create("ns", json!({"metadata": {"name": "blue"}})).await.expect("made");
    assert_eq!(made["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "blue"}));
    let body = json!({"metadata": {"name": "blue", "labels": {"kubernetes.io/metadata.name": "red"}}, "spec": {}});
    let same = world.update("ns", "blue", body).await.expect("updated").object.value();
    assert_eq!((&same["metadata"]["labels"], &same["spec"]), (&made["metadata"]["labels"], &made["spec"]));
    assert!(!world.delete("ns", "blue").await.expect("deleted"), "it is to be emptied first");
    let finalize = Target { subresource: Some(Subresource::Finalize), ..target("ns", "blue") };
    let body = json!({"metadata": {"name": "blue"}, "spec": {"finalizers": []}});
    let done =
        world.admission.update(&world.caller, &finalize, body, &WriteOptions::default()).await.expect("finalized");
    assert_eq!(done.outcome, Outcome::Deleted);
}

#[tokio::test]
async fn a_transaction_is_one_revision_and_sees_its_own_writes() {
    let world = World::new().await;
    let before = world.revision();
    let mut web = app("web", sleeper());
    web["metadata"]["namespace"] = json!("room");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "room"}});
    let mut status = web.clone();
    status["status"] = json!({"replicas": 1});
    let outcomes = world
        .transact(vec![
            Operation::new(OperationVerb::Create, namespace),
            Operation::new(OperationVerb::Apply, web),
            Operation::new(OperationVerb::Status, status),
        ])
        .await
        .expect("done");
    assert_eq!(outcomes, [Outcome::Created, Outcome::Created, Outcome::Configured]);
    assert_eq!(world.revision(), before.next());
}

#[tokio::test]
async fn a_transaction_reports_the_mistakes_of_all_operations_and_does_none() {
    let world = World::new().await;
    let before = world.revision();
    let error = world
        .transact(vec![
            Operation::new(OperationVerb::Apply, app("a", json!({"replicas": "x", "process": {}}))),
            Operation::new(OperationVerb::Apply, app("b", sleeper())),
            Operation::new(OperationVerb::Apply, app("c", json!({"proces": {}}))),
            Operation::new(OperationVerb::Apply, json!({"apiVersion": "v1", "kind": "App", "metadata": {"name": "d"}})),
        ])
        .await
        .expect_err("refused");
    assert_eq!(error.reason, Reason::Invalid);
    assert_eq!(
        fields(&error.details.causes),
        [
            "operations[0].object.spec.replicas",
            "operations[0].object.spec.process.command",
            "operations[2].object.spec.proces",
            "operations[2].object.spec.process",
            "operations[3]",
        ]
    );
    assert!(error.message.contains("it is served as appm.dev/v1"), "{error}");
    assert_eq!(world.revision(), before);
}

#[tokio::test]
async fn one_failed_precondition_fails_the_whole_transaction_with_its_reason() {
    let world = World::new().await;
    world.create("app", app("web", sleeper())).await.expect("made");
    let mut delete = Operation::new(OperationVerb::Delete, app("web", sleeper()));
    delete.preconditions.resource_version = Some("1".to_owned());
    let make = Operation::new(OperationVerb::Create, app("other", sleeper()));
    let error = world.transact(vec![make, delete]).await.expect_err("stale");
    assert_eq!((error.reason, fields(&error.details.causes)), (Reason::Conflict, vec!["operations[1]"]));
    assert!(
        world.admission.get(&world.caller, served("app"), &Key::new(served("app").kind, "default", "other")).is_err()
    );
}

#[tokio::test]
async fn writers_of_one_object_all_get_through() {
    let world = World::new().await;
    world.create("app", app("web", sleeper())).await.expect("made");
    let patches = (0..20).map(|i| {
        let label = format!("l{i}");
        world.patch("web", Patch::Merge(json!({"metadata": {"labels": {label: "1"}}})))
    });
    for done in futures::future::join_all(patches).await {
        assert_eq!(done.expect("patched").outcome, Outcome::Configured);
    }
    assert_eq!(world.app("web")["metadata"]["labels"].as_object().map(serde_json::Map::len), Some(20));
}

#[tokio::test]
async fn an_object_that_its_maker_does_not_own_belongs_to_its_owners_owner() {
    let world = World::new().await;
    let owner = world.create("app", app("web", sleeper())).await.expect("made");
    let client = LocalClient::new(world.admission.clone(), Identity::system("app"), "appm-app");
    let mut child = app("child", sleeper());
    child["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "appm.dev/v1", "kind": "App", "name": "web", "uid": owner["metadata"]["uid"], "controller": true,
    }]);
    let transaction = Transaction::new("", vec![Operation::new(OperationVerb::Create, child)]);
    let done = client.transact(transaction).await.expect("made");
    let child = done[0].object.value();
    assert_eq!(child["metadata"]["annotations"]["appm.dev/owner"], "admin");
    assert_eq!(child["metadata"]["managedFields"][0]["manager"], "appm-app");
}

#[tokio::test]
async fn a_part_makes_an_object_and_what_that_controls_in_one_transaction() {
    let world = World::new().await;
    let owner = world.create("app", app("web", sleeper())).await.expect("made");
    let of = |name: &str, uid: &Value| json!([{"apiVersion": "appm.dev/v1", "kind": "App", "name": name, "uid": uid, "controller": true}]);
    let owned = |name: &str, references: Value| {
        let mut object = app(name, sleeper());
        object["metadata"]["ownerReferences"] = references;
        Operation::new(OperationVerb::Create, object)
    };
    let operations = || vec![owned("a", of("web", &owner["metadata"]["uid"])), owned("b", of("a", &json!("")))];
    let client = LocalClient::new(world.admission.clone(), Identity::system("app"), "appm-app");
    let done = client.transact(Transaction::new("", operations())).await.expect("made");
    let (a, b) = (done[0].object.value(), done[1].object.value());
    assert_eq!(b["metadata"]["ownerReferences"][0]["uid"], a["metadata"]["uid"]);
    assert_eq!(b["metadata"]["annotations"]["appm.dev/owner"], "admin");
    // Nobody else leaves it to the server, and nobody refers to what is not there.
    let absent = Transaction::new("", vec![owned("c", of("nobody", &json!("")))]);
    assert_eq!(client.transact(absent).await.expect_err("refused").reason, Reason::Invalid);
    world.delete("app", "b").await.expect("gone");
    let refused = world.transact(vec![owned("b", of("a", &json!("")))]).await.expect_err("refused");
    assert_eq!(refused.reason, Reason::Invalid);
}

#[tokio::test]
async fn a_watch_with_a_selector_sees_objects_come_and_go() {
    let world = World::new().await;
    let query = Query { label_selector: "tier=front".to_owned(), ..Query::default() };
    let client = LocalClient::new(world.admission.clone(), Identity::admin(Proof::Peer), "tester");
    let mut events = client.watch(served("app").kind, &query, world.revision()).await.expect("watches");
    world.create("app", app("web", sleeper())).await.expect("made");
    for tier in ["front", "front", "back"] {
        let labels = json!({"metadata": {"labels": {"tier": tier, "n": world.revision().to_string()}}});
        world.patch("web", Patch::Merge(labels)).await.expect("labelled");
    }
    world.delete("app", "web").await.expect("gone");
    let last = world.revision();
    let mut seen = Vec::new();
    loop {
        match events.next().await.expect("goes on").expect("no error") {
            WatchEvent::Bookmark(revision) if revision == last => break,
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Change(kind, object) => {
                seen.push((kind, object.revision.0, object.meta().labels.get("tier").map(str::to_owned)))
            }
        }
    }
    let front = || Some("front".to_owned());
    let first = last.0 - 3;
    assert_eq!(
        seen,
        [
            (ChangeType::Added, first, front()),
            (ChangeType::Modified, first + 1, front()),
            (ChangeType::Deleted, first + 2, front()),
        ]
    );
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let world = World::new().await;
    for (name, tier) in [("a", "front"), ("b", "back"), ("c", "front")] {
        let mut body = app(name, sleeper());
        body["metadata"]["labels"] = json!({"tier": tier});
        world.create("app", body).await.expect("made");
    }
    let query =
        Query { namespace: Some("default".to_owned()), label_selector: "tier=front".to_owned(), ..Query::default() };
    let (delete, options) = (DeleteOptions::default(), WriteOptions::default());
    let listed = world.admission.list(&world.caller, served("app"), &query).expect("listed");
    // What somebody else has deleted meanwhile is passed over.
    world.create("app", app("d", sleeper())).await.expect("made");
    world.delete("app", "c").await.expect("deleted");
    let gone = world
        .admission
        .delete_collection(&world.caller, served("app"), "default", &listed.items, &delete, &options)
        .await;
    assert_eq!(gone.expect("deleted").len(), 1);
    let left = world.admission.list(&world.caller, served("app"), &Query::default()).expect("listed");
    assert_eq!(left.items.iter().map(|o| o.key.name.to_string()).collect::<Vec<_>>(), ["b", "d"]);
}

#[tokio::test]
async fn strangers_learn_nothing() {
    let world = World::new().await;
    let stranger = Caller::new(Identity::of("eve", Proof::Peer), "x");
    let key = Key::new(served("app").kind, "default", "web");
    assert_eq!(world.admission.get(&stranger, served("app"), &key).expect_err("no").reason, Reason::Forbidden);
    let bad = json!({"spec": {"nonsense": 1}});
    let options = WriteOptions::default();
    let error = world.admission.create(&stranger, served("app"), "nowhere", bad, &options).await.expect_err("no");
    assert_eq!(error.reason, Reason::Forbidden);
}

fn after(name: &str, others: &[&str]) -> Value {
    let depends_on: Vec<Value> = others.iter().map(|app| json!({"app": app})).collect();
    app(name, json!({"process": {"command": ["sleep", "1"]}, "dependsOn": depends_on}))
}

#[tokio::test]
async fn apps_that_would_wait_for_each_other_are_refused_with_the_circle() {
    let world = World::new().await;
    let apply = |apps: Vec<Value>| {
        let operations = apps.into_iter().map(|app| Operation::new(OperationVerb::Apply, app)).collect();
        world.admission.transact(&world.caller, Transaction::new("tester", operations))
    };
    apply(vec![after("web", &["log", "api"]), after("api", &["db"])]).await.expect("what is not there is waited for");
    let refused = apply(vec![after("log", &[]), after("db", &["web"])]).await.expect_err("a circle");
    insta::assert_snapshot!(refused.message, @"the transaction is invalid: operations[1].object.spec.dependsOn[0].app: Invalid value: waits for itself: `db → web → api → db`");
    // All in one transaction, whichever comes first.
    let refused = apply(vec![after("a", &["b"]), after("b", &["c"]), after("c", &["a"])]).await.expect_err("a circle");
    assert_eq!(refused.details.causes.len(), 3, "{}", refused.message);
    // A circle that the same transaction opens again is none.
    apply(vec![after("db", &["web"]), after("api", &[])]).await.expect("no circle");
    assert!(apply(vec![after("api", &["db"])]).await.is_err());
    let free = Operation::new(OperationVerb::Delete, after("db", &[]));
    world.admission.transact(&world.caller, Transaction::new("tester", vec![free])).await.expect("deleted");
    apply(vec![after("api", &["db"])]).await.expect("no circle any more");
}

#[tokio::test]
async fn of_transactions_that_close_a_circle_together_one_is_refused() {
    for _round in 0..20 {
        let world = World::new().await;
        let apply = |app: Value| {
            let operation = Operation::new(OperationVerb::Apply, app);
            world.admission.transact(&world.caller, Transaction::new("tester", vec![operation]))
        };
        let (a, b, c) = tokio::join!(apply(after("a", &["b"])), apply(after("b", &["c"])), apply(after("c", &["a"])),);
        let made = [a.is_ok(), b.is_ok(), c.is_ok()].iter().filter(|ok| **ok).count();
        assert_eq!(made, 2);
    }
}
