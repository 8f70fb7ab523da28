//! Several people over one store: who sees what, who changes what, and who can make themselves more than they are.

use serde_json::{Value, json};

use super::{
    tests::{World, served},
    *,
};
use crate::{
    api::{Key, Operation, OperationVerb, Reason, Status, Transaction, kinds},
    auth::{Proof, built_in_roles},
    client::Query,
};

/// Ada and Bob are in `devs`, Eve is not; Ann has the role `admin`. Whoever is a `member` has what is theirs.
pub(super) async fn people() -> World {
    let world = World::new().await;
    let part = Caller::new(Identity::system("bootstrap"), "appm-bootstrap");
    for role in built_in_roles() {
        let role = json!({"metadata": {"name": role.metadata.name}, "spec": role.spec});
        world.admission.create(&part, served("roles"), "", role, &WriteOptions::default()).await.expect("made");
    }
    for (name, spec) in [
        ("ada", json!({"groups": ["devs"], "roles": [{"name": "member"}], "execUser": "ada"})),
        ("bob", json!({"groups": ["devs"], "roles": [{"name": "member"}]})),
        ("eve", json!({"roles": [{"name": "member"}]})),
        ("ed", json!({"roles": [{"name": "edit", "namespaces": ["default"]}]})),
        ("vic", json!({"roles": [{"name": "view"}]})),
        ("ann", json!({"roles": [{"name": "admin"}]})),
        ("zoe", json!({})),
        ("una", json!({"roles": [{"name": "users"}, {"name": "view"}]})),
    ] {
        let user = json!({"metadata": {"name": name}, "spec": spec});
        world.make("users", user).await.expect("made");
    }
    let users = json!({"metadata": {"name": "users"}, "spec": {"rules": [
        {"apiGroups": ["appm.dev"], "resources": ["users", "roles"], "verbs": ["*"], "resourceNames": []},
    ]}});
    let mut users = users;
    users["spec"]["rules"][0]["verbs"] = json!(["get", "list", "create", "update", "patch"]);
    world.make("roles", users).await.expect("made");
    world
}

impl World {
    async fn make(&self, word: &str, body: Value) -> Result<Written, Status> {
        self.admission.create(&self.caller, served(word), "", body, &WriteOptions::default()).await
    }

    pub(super) fn who(&self, name: &str) -> Caller {
        let identity = self.admission.authority().user(name, Proof::Peer).expect("a user");
        Caller::new(identity, "tester")
    }

    async fn create_as(&self, name: &str, word: &str, body: Value) -> Result<Written, Status> {
        let namespace = if served(word).kind.is_namespaced() { "default" } else { "" };
        self.admission.create(&self.who(name), served(word), namespace, body, &WriteOptions::default()).await
    }

    async fn merge(&self, name: &str, word: &str, object: &str, patch: Value) -> Result<Written, Status> {
        let served = served(word);
        let namespace = if served.kind.is_namespaced() { "default" } else { "" };
        let target = Target { served, namespace, name: object, subresource: None };
        self.admission.patch(&self.who(name), &target, Patch::Merge(patch), &WriteOptions::default()).await
    }

    fn get(&self, name: &str, word: &str, object: &str) -> Result<Arc<StoredObject>, Status> {
        let key = Key::new(served(word).kind, if served(word).kind.is_namespaced() { "default" } else { "" }, object);
        self.admission.get(&self.who(name), served(word), &key)
    }

    fn listed(&self, name: &str, word: &str) -> Result<Vec<String>, Reason> {
        let listing = self.admission.list(&self.who(name), served(word), &Query::default());
        listing.map(|l| l.items.iter().map(|o| o.key.name.to_string()).collect()).map_err(|status| status.reason)
    }
}

fn app(name: &str, sharing: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"process": {"command": ["sleep", "1"]}, "sharing": sharing}})
}

fn reason(result: Result<Written, Status>) -> Option<Reason> {
    result.err().map(|status| status.reason)
}

#[tokio::test]
async fn a_list_shows_what_is_ones_own_and_what_is_shared() {
    let world = people().await;
    world.create_as("ada", "apps", app("alone", json!({}))).await.expect("made");
    world.create_as("ada", "apps", app("group", json!({"group": "Read"}))).await.expect("made");
    world.create_as("ada", "apps", app("all", json!({"group": "ReadWrite", "others": "Read"}))).await.expect("made");
    let apps = |name| world.listed(name, "apps").expect("allowed");
    assert_eq!(apps("ada"), ["all", "alone", "group"]);
    assert_eq!(apps("bob"), ["all", "group"]);
    assert_eq!(apps("eve"), ["all"]);
    assert_eq!(apps("vic"), ["all", "alone", "group"], "the role view has no owner in it");
    assert_eq!(world.listed("zoe", "apps"), Err(Reason::Forbidden), "without roles there is nothing");
    assert_eq!(world.listed("eve", "users"), Err(Reason::Forbidden));

    assert_eq!(
        world.get("eve", "apps", "alone").map_err(|s| s.reason).err(),
        Some(Reason::NotFound),
        "not even that it is there"
    );
    let patch = || json!({"spec": {"replicas": 2}});
    assert_eq!(reason(world.merge("eve", "apps", "alone", patch()).await), Some(Reason::NotFound));
    assert_eq!(reason(world.merge("eve", "apps", "all", patch()).await), Some(Reason::Forbidden), "it may be read");
    assert_eq!(reason(world.merge("bob", "apps", "group", patch()).await), Some(Reason::Forbidden));
    assert_eq!(reason(world.merge("bob", "apps", "all", patch()).await), None);
    assert_eq!(reason(world.merge("vic", "apps", "all", patch()).await), Some(Reason::Forbidden));
    assert_eq!(reason(world.merge("ed", "apps", "alone", patch()).await), None);
    let owner =
        world.get("ada", "apps", "all").expect("there").meta().annotations.get("appm.dev/owner").map(str::to_owned);
    assert_eq!(owner.as_deref(), Some("ada"), "whoever changes it does not own it");
}

#[tokio::test]
async fn a_watcher_is_told_of_what_they_may_see_and_when_they_may_no_longer() {
    let world = people().await;
    world.create_as("ada", "apps", app("web", json!({"others": "Read"}))).await.expect("made");
    let (listing, mut watching) =
        world.admission.list_and_watch(&world.who("eve"), served("apps"), &Query::default()).expect("allowed");
    assert_eq!(listing.items.len(), 1);
    world.create_as("ada", "apps", app("other", json!({}))).await.expect("made");
    world.merge("ada", "apps", "web", json!({"spec": {"sharing": {"others": "None"}}})).await.expect("written");
    let mut told = Vec::new();
    while told.is_empty() {
        let seen = watching.next().await.expect("goes on");
        told.extend(seen.events.into_iter().map(|(change, object)| format!("{change:?} {}", object.key.name)));
    }
    assert_eq!(told, ["Deleted web"]);
}

/// Whatever is written by whichever verb in whichever order: what is stored needs no host power that its writers lack.
#[tokio::test]
async fn no_order_of_writes_ends_in_a_power_that_no_writer_has() {
    const FIELDS: [&str; 12] = [
        r#"{"container": {"image": "a", "privileged": true}, "process": null}"#,
        r#"{"container": {"image": "a", "network": "host"}, "process": null}"#,
        r#"{"container": {"image": "a", "capabilities": {"add": ["SYS_ADMIN"]}}, "process": null}"#,
        r#"{"container": {"image": "a", "mounts": [{"source": "/", "target": "/host"}]}, "process": null}"#,
        r#"{"container": {"image": "a"}, "process": null}"#,
        r#"{"process": {"command": ["a"], "user": "root"}, "container": null}"#,
        r#"{"process": {"command": ["a"], "group": "shadow"}, "container": null}"#,
        r#"{"process": {"adopt": {"pid": 1}}, "container": null}"#,
        r#"{"process": {"command": ["a"]}, "container": null}"#,
        r#"{"ports": [{"name": "web", "containerPort": 80, "hostPort": 80}]}"#,
        r#"{"ports": []}"#,
        r#"{"replicas": 2}"#,
    ];
    let world = people().await;
    let (apps, host) = (served("apps"), Host::default());
    let mut seed: u64 = 0x5eed;
    let mut below = |bound: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % bound
    };
    let (mut done, mut refused) = (0, 0);
    for _ in 0..600 {
        let (name, who) = (["a", "b"][below(2)], ["ed", "bob"][below(2)]);
        let fields: Value = serde_json::from_str(FIELDS[below(FIELDS.len())]).expect("JSON");
        let target = Target { served: apps, namespace: "default", name, subresource: None };
        let mut whole = json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": {}});
        let spec = fields.as_object().expect("an object").iter().filter(|(_, value)| !value.is_null());
        spec.for_each(|(field, value)| whole["spec"][field] = value.clone());
        let (caller, options) = (world.who(who), WriteOptions::default());
        let outcome = match below(7) {
            0 => world.admission.create(&caller, apps, "default", whole, &options).await.map(drop),
            1 => world.admission.update(&caller, &target, whole, &options).await.map(drop),
            2 => {
                let patch = Patch::Merge(json!({ "spec": fields }));
                world.admission.patch(&caller, &target, patch, &options).await.map(drop)
            }
            3 => {
                let adds = fields.as_object().expect("an object").iter();
                let adds: Vec<Value> = adds
                    .map(|(field, value)| json!({"op": "add", "path": format!("/spec/{field}"), "value": value}))
                    .collect();
                world.admission.patch(&caller, &target, Patch::Json(json!(adds)), &options).await.map(drop)
            }
            4 => {
                let patch = Patch::Apply { object: whole, force: true };
                world.admission.patch(&caller, &target, patch, &options).await.map(drop)
            }
            5 => {
                let verb = [OperationVerb::Apply, OperationVerb::Update, OperationVerb::Create][below(3)];
                let operations = vec![Operation { force: true, ..Operation::new(verb, whole) }];
                world.admission.transact(&caller, Transaction::new("t", operations)).await.map(drop)
            }
            _ => world.admission.delete(&caller, &target, &DeleteOptions::default(), &options).await.map(drop),
        };
        if outcome.is_ok() {
            done += 1
        } else {
            refused += 1
        }
        for stored in world.admission.store().list(apps.kind, None).items {
            let needed = crate::policy::powers::needed(&stored.value()["spec"], &host);
            assert_eq!(needed, [], "{}", String::from_utf8_lossy(&stored.json));
        }
    }
    assert!(done > 30 && refused > 30, "{done} were done, {refused} refused");
}

#[tokio::test]
async fn nobody_makes_themselves_more_than_they_are() {
    let world = people().await;
    let rule = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let forbidden = Some(Reason::Forbidden);
    let everything = json!({"metadata": {"name": "all"}, "spec": {"rules": [rule]}});
    assert_eq!(reason(world.create_as("una", "roles", everything.clone()).await), forbidden);
    assert_eq!(reason(world.create_as("ann", "roles", everything).await), None, "an admin may");
    let own = json!({"metadata": {"name": "own"}, "spec": {"rules": [
        {"apiGroups": ["appm.dev"], "resources": ["users"], "verbs": ["get"]}]}});
    assert_eq!(reason(world.create_as("una", "roles", own).await), None);
    assert_eq!(reason(world.merge("una", "roles", "own", json!({"spec": {"rules": [rule]}})).await), forbidden);
    assert_eq!(
        reason(
            world.merge("una", "roles", "all", json!({"spec": {"subjects": [{"kind": "User", "name": "una"}]}})).await
        ),
        forbidden
    );
    for name in ["una", "zoe", "new"] {
        let spec = json!({"roles": [{"name": "admin"}]});
        let done = match name {
            "new" => world.create_as("una", "users", json!({"metadata": {"name": name}, "spec": spec})).await,
            name => world.merge("una", "users", name, json!({"spec": spec})).await,
        };
        assert_eq!(reason(done), forbidden, "{name}");
    }
    let absent = json!({"spec": {"roles": [{"name": "comes-later"}]}});
    assert_eq!(reason(world.merge("una", "users", "zoe", absent).await), forbidden, "who knows what it will be");
    assert_eq!(reason(world.merge("una", "users", "zoe", json!({"spec": {"roles": [{"name": "view"}]}})).await), None);
    // Whoever sets the password of an admin is one.
    for patch in [
        json!({"displayName": "x"}),
        json!({"password": {"plain": "12345678"}}),
        json!({"oidc": {"issuer": "a", "subject": "b"}}),
    ] {
        assert_eq!(reason(world.merge("una", "users", "ann", json!({ "spec": patch })).await), forbidden);
    }
    world.make("roles", json!({"metadata": {"name": "ops"}, "spec": {"subjects": [{"kind": "Group", "name": "ops"}], "rules": [rule]}})).await.expect("made");
    assert_eq!(
        reason(world.merge("una", "users", "una", json!({"spec": {"groups": ["ops"]}})).await),
        forbidden,
        "by a group"
    );
    assert_eq!(reason(world.merge("una", "users", "una", json!({"spec": {"groups": ["others"]}})).await), None);
    assert_eq!(reason(world.merge("una", "users", "zoe", json!({"spec": {"execUser": "root"}})).await), forbidden);
    // What built-in roles allow is nobody's to change, an admin's neither. Who has them is, for those who have what they give.
    assert_eq!(reason(world.merge("ann", "roles", "view", json!({"spec": {"rules": []}})).await), forbidden);
    let devs = json!({"spec": {"subjects": [{"kind": "Group", "name": "devs"}]}});
    assert_eq!(reason(world.merge("una", "roles", "admin", devs.clone()).await), forbidden);
    world.merge("una", "roles", "view", devs).await.expect("una has the role `view`");
    world.listed("bob", "nodes").expect("bob is in `devs`");
    let transaction: Transaction = serde_json::from_value(json!({"fieldManager": "x", "operations": [
        {"verb": "Apply", "force": true, "object": {"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "una"},
            "spec": {"roles": [{"name": "admin"}]}}}]})).expect("valid");
    let refused =
        world.admission.transact(&world.who("una"), transaction).await.expect_err("a transaction is no way round");
    assert_eq!(refused.reason, Reason::Forbidden);
}

#[tokio::test]
async fn a_host_power_is_needed_by_whatever_verb_it_is_asked_for() {
    let world = people().await;
    let forbidden = Some(Reason::Forbidden);
    let container = |spec: Value| json!({"metadata": {"name": "box"}, "spec": {"container": spec}});
    for spec in [
        json!({"image": "a", "privileged": true}),
        json!({"image": "a", "network": "host"}),
        json!({"image": "a", "mounts": [{"source": "/etc", "target": "/etc"}]}),
        json!({"image": "a", "capabilities": {"add": ["SYS_ADMIN"]}}),
    ] {
        assert_eq!(reason(world.create_as("ed", "apps", container(spec.clone())).await), forbidden, "{spec}");
        let plain = container(json!({"image": "a"}));
        world.create_as("ed", "apps", plain).await.expect("made");
        assert_eq!(
            reason(world.merge("ed", "apps", "box", json!({"spec": {"container": spec}})).await),
            forbidden,
            "{spec}"
        );
        world.merge("ann", "apps", "box", json!({"spec": {"container": spec}})).await.expect("an admin may");
        assert_eq!(
            reason(world.merge("ed", "apps", "box", json!({"spec": {"replicas": 2}})).await),
            None,
            "it is as it was"
        );
        let other = json!({"spec": {"container": {"image": "mine"}}});
        assert_eq!(
            reason(world.merge("ed", "apps", "box", other).await),
            forbidden,
            "another's power is not one's own"
        );
        let target = Target { served: served("apps"), namespace: "default", name: "box", subresource: None };
        world
            .admission
            .delete(&world.caller, &target, &DeleteOptions::default(), &WriteOptions::default())
            .await
            .expect("deleted");
    }
    // As whom: the User says it, and nobody else.
    let mine = world.create_as("ada", "apps", app("mine", json!({}))).await.expect("made");
    assert_eq!(mine.object.value()["spec"]["process"]["user"], "ada");
    let as_root = json!({"spec": {"process": {"user": "root"}}});
    assert_eq!(reason(world.merge("ada", "apps", "mine", as_root.clone()).await), forbidden);
    assert_eq!(
        reason(world.merge("ed", "apps", "mine", json!({"spec": {"process": {"command": ["id"]}}})).await),
        forbidden
    );
    assert_eq!(reason(world.merge("ann", "apps", "mine", as_root).await), None);
}

#[tokio::test]
async fn whoever_runs_an_app_with_other_words_needs_what_a_change_of_it_needs() {
    let world = people().await;
    let (forbidden, invalid) = (Some(Reason::Forbidden), Some(Reason::Invalid));
    let run = |app: &str, more: Value| {
        let mut spec = json!({"app": app});
        spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        json!({"metadata": {"generateName": "run-"}, "spec": spec})
    };
    for (name, sharing) in [("all", json!({"group": "ReadWrite", "others": "Read"})), ("alone", json!({}))] {
        world.create_as("ada", "apps", app(name, sharing)).await.expect("made");
    }
    let (plain, other) = (json!({}), json!({"args": ["2"]}));
    assert_eq!(
        reason(world.create_as("ada", "runs", run("all", other.clone())).await),
        None,
        "her own, as her own user"
    );
    assert_eq!(reason(world.create_as("bob", "runs", run("all", plain.clone())).await), None, "he may change it");
    assert_eq!(reason(world.create_as("bob", "runs", run("all", other.clone())).await), forbidden, "but not as ada");
    let input = json!({"stdin": "rm -rf /"});
    assert_eq!(reason(world.create_as("bob", "runs", run("all", input)).await), forbidden);
    assert_eq!(reason(world.create_as("eve", "runs", run("all", plain.clone())).await), forbidden, "she may read it");
    assert_eq!(reason(world.create_as("eve", "runs", run("alone", plain.clone())).await), invalid, "it is not there");
    assert_eq!(reason(world.create_as("eve", "runs", run("none", plain.clone())).await), invalid);
    assert_eq!(reason(world.create_as("vic", "runs", run("all", plain.clone())).await), forbidden);
    // What runs is what was judged, whatever the maker writes and whatever becomes of the App.
    let mut sly = run("all", plain);
    sly["spec"]["template"] = json!({"process": {"command": ["id"], "user": "root"}});
    let made = world.create_as("bob", "runs", sly).await.expect("made").object;
    let name = made.key.name.to_string();
    let template = || world.get("bob", "runs", &name).expect("there").value()["spec"]["template"]["process"].clone();
    assert_eq!(template(), json!({"command": ["sleep", "1"], "user": "ada"}));
    world.merge("ann", "apps", "all", json!({"spec": {"process": {"user": "root"}}})).await.expect("an admin may");
    let patch = json!({"spec": {"cancel": true, "template": {"process": {"command": ["id"]}}}});
    world.merge("bob", "runs", &name, patch).await.expect("cancelled");
    assert_eq!(template(), json!({"command": ["sleep", "1"], "user": "ada"}));
    assert_eq!(
        reason(world.merge("eve", "runs", &name, json!({"spec": {"cancel": true}})).await),
        Some(Reason::NotFound)
    );
    // Of its own it runs as its maker, and with no power that they lack.
    let own = |process: Value| json!({"metadata": {"generateName": "run-"}, "spec": {"process": process}});
    let mine = world.create_as("ada", "runs", own(json!({"command": ["id"]}))).await.expect("made").object;
    assert_eq!(mine.value()["spec"]["process"]["user"], "ada");
    assert_eq!(
        reason(world.create_as("ada", "runs", own(json!({"command": ["id"], "user": "root"}))).await),
        forbidden
    );
}

fn schedule(name: &str, target: Value) -> Value {
    let mut spec = target;
    spec["cron"] = json!("@daily");
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn what_a_schedule_does_is_said_by_whom_it_is_done_as() {
    let world = people().await;
    let command = |word: &str| json!({"process": {"command": [word]}});
    world.create_as("ada", "schedules", schedule("nightly", json!({"run": command("true")}))).await.expect("made");
    for patch in [json!({"run": command("id")}), json!({"run": null, "workflow": {"name": "etl"}})] {
        let refused = world.merge("ed", "schedules", "nightly", json!({"spec": patch})).await;
        let told = refused.map(|_| ()).expect_err("it would be done as ada");
        assert_eq!(told.reason, Reason::Forbidden);
        assert!(told.message.contains("needs the verb `impersonate`"), "{told}");
    }
    // When is another matter, and one's own are one's own.
    let times = json!({"spec": {"cron": "@hourly", "suspend": true}});
    assert_eq!(reason(world.merge("ed", "schedules", "nightly", times).await), None);
    let other = json!({"spec": {"run": command("id")}});
    assert_eq!(reason(world.merge("ada", "schedules", "nightly", other).await), None);
}

#[tokio::test]
async fn a_source_applies_as_whoever_made_it_and_reads_no_disk_for_those_who_may_not() {
    let world = people().await;
    let of = |spec: Value| json!({"metadata": {"name": "fleet"}, "spec": spec});
    let git = || json!({"git": {"url": "https://example.org/a.git"}});
    for spec in [json!({"directory": {"path": "/etc"}}), json!({"git": {"url": "file:///srv/a.git"}})] {
        let told = world.create_as("ada", "sources", of(spec)).await.map(|_| ()).expect_err("it is the server's disk");
        assert!(told.message.contains("host power `host-mounts`"), "{told}");
    }
    let mut as_ed = git();
    as_ed["identity"] = json!("ed");
    let told = world.create_as("ada", "sources", of(as_ed)).await.map(|_| ()).expect_err("ed is somebody else");
    assert!(told.message.contains("needs the verb `impersonate`"), "{told}");
    world.create_as("ada", "sources", of(git())).await.expect("made");
    for patch in
        [json!({"identity": "ed"}), json!({"git": {"url": "https://example.org/b.git"}}), json!({"prune": false})]
    {
        let told = world.merge("ed", "sources", "fleet", json!({"spec": patch})).await.map(|_| ());
        // What it becomes is applied as ada; to make it one's own would be as good as to make another one.
        match patch["identity"] == "ed" {
            true => assert!(told.is_ok(), "{told:?}"),
            false => assert_eq!(told.expect_err("it would be done as ada").reason, Reason::Forbidden),
        }
        let back = json!({"spec": {"identity": null}});
        assert_eq!(reason(world.merge("ada", "sources", "fleet", back).await), None);
    }
    assert_eq!(reason(world.merge("ed", "sources", "fleet", json!({"spec": {"suspend": true}})).await), None);
}

#[tokio::test]
async fn a_workflow_that_a_schedule_starts_acts_as_who_made_the_schedule_and_never_as_nobody() {
    let world = people().await;
    let workflow = json!({
        "metadata": {"name": "etl"},
        "spec": {"on": {"manual": {"inputs": {"day": {"default": "monday"}}}}, "jobs": {"a": {"steps": [{"run": "true"}]}}},
    });
    let workflow = world.create_as("ada", "workflows", workflow).await.expect("made").object;
    let target = || json!({"workflow": {"name": "etl"}});
    let by_ada = world.create_as("ada", "schedules", schedule("of-ada", target())).await.expect("made").object;
    let mut of_itself = schedule("of-etl", target());
    of_itself["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "appm.dev/v1", "kind": "Workflow", "name": "etl", "uid": workflow.value()["metadata"]["uid"], "controller": true,
    }]);
    let of_itself = world.create_as("ada", "schedules", of_itself).await.expect("made").object;
    let run = |name: &str, above: &StoredObject| {
        let mut owner = json!({"apiVersion": "appm.dev/v1", "kind": "Schedule", "controller": true});
        (owner["name"], owner["uid"]) = (json!(&*above.key.name), above.value()["metadata"]["uid"].clone());
        json!({
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {"workflow": "etl", "event": {"name": "schedule"}},
        })
    };
    let part = Caller::new(Identity::system("schedule"), "appm-schedule");
    let make = |caller: Caller, body: Value| {
        let admission = world.admission.clone();
        async move { admission.create(&caller, served("workflowruns"), "default", body, &WriteOptions::default()).await }
    };
    let made = make(part.clone(), run("of-ada-1", &by_ada)).await.expect("made").object.value();
    assert_eq!((&made["spec"]["identity"], &made["spec"]["inputs"]["day"]), (&json!("ada"), &json!("monday")));
    for (who, above) in [(part.clone(), &of_itself), (world.who("ed"), &by_ada)] {
        let refused = make(who, run("other", above)).await.map(|_| ()).expect_err("nobody is there");
        assert!(refused.message.contains("execution_identity"), "{refused}");
    }
    // Neither do Runs of whoever is no User: it would be appm itself.
    let of_a_stranger = Caller::new(Identity::of("system:instance:default:web-0", Proof::Part), "tester");
    let refused = make(of_a_stranger, json!({"metadata": {"name": "x"}, "spec": {"workflow": "etl"}})).await;
    assert_eq!(reason(refused), Some(Reason::Forbidden));
}

#[tokio::test]
async fn no_route_leads_to_what_is_not_served() {
    for word in ["credentials", "sessions", "throttles", "credential"] {
        assert!(kinds::find_by_word(word).is_none(), "{word}");
    }
    assert!(kinds::served().all(|served| served.group() != "internal.appm.dev"));
}

/// The value of `password` as it is shown in an object; `None` if the object is shown without values.
fn password(object: &StoredObject) -> Option<String> {
    let value = object.value();
    assert!(value["data"]["password"].is_string(), "keys are shown");
    let elided = value["metadata"]["annotations"]["appm.dev/elided"] == "true";
    assert_eq!(elided, value["data"]["password"] == "", "{value}");
    assert!(!elided || !value.to_string().contains("aG9yc2U="), "{value}");
    (!elided).then(|| value["data"]["password"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn the_values_of_secrets_are_shown_to_whom_may_reveal_them_on_every_way_out() {
    let world = people().await;
    let applied = "kubectl.kubernetes.io/last-applied-configuration";
    let secret = json!({
        "metadata": {"name": "door", "annotations": {applied: "{\"data\":{\"password\":\"aG9yc2U=\"}}"}},
        "data": {"password": "aG9yc2U="},
    });
    let made = world.create_as("ada", "secrets", secret).await.expect("made");
    assert_eq!(password(&made.object).as_deref(), Some("aG9yc2U="), "to whom it belongs");
    for (name, shown) in [("ann", true), ("ada", true), ("ed", false)] {
        let get = world.get(name, "secrets", "door").expect("there");
        let query = Query { namespace: Some("default".to_owned()), ..Query::default() };
        let list = world.admission.list(&world.who(name), served("secrets"), &query).expect("allowed");
        let watch = world.admission.list_and_watch(&world.who(name), served("secrets"), &query).expect("allowed");
        let mut watching = watch.1;
        let label = json!({"metadata": {"labels": {"by": name}}});
        let written = world.merge(name, "secrets", "door", label).await.expect("written");
        let seen = watching.next().await.expect("goes on");
        for object in [&get, &list.items[0], &watch.0.items[0], &written.object, &seen.events[0].1] {
            assert_eq!(password(object).is_some(), shown, "{name}");
        }
    }

    // What was shown without values cannot be written back; a patch leaves them as they are.
    let (ed, target) =
        (world.who("ed"), Target { served: served("secrets"), namespace: "default", name: "door", subresource: None });
    let options = WriteOptions::default();
    let read = world.get("ed", "secrets", "door").expect("there").value();
    let refused = world.admission.update(&ed, &target, read, &options).await.expect_err("it would lose its values");
    assert_eq!(refused.reason, Reason::Invalid);
    assert!(refused.message.contains("reveal"), "{}", refused.message);
    assert_eq!(password(&world.get("ann", "secrets", "door").expect("there")).as_deref(), Some("aG9yc2U="));
    for look in [
        json!([{"op": "copy", "from": "/data/password", "path": "/metadata/annotations/seen"}]),
        json!([{"op": "test", "path": "/data/password", "value": "aG9yc2U="}]),
    ] {
        let refused = world.admission.patch(&ed, &target, Patch::Json(look), &options).await;
        assert_eq!(reason(refused), Some(Reason::Forbidden));
    }
    let put = json!([{"op": "replace", "path": "/data/password", "value": "eA=="}]);
    let written = world.admission.patch(&ed, &target, Patch::Json(put), &options).await.expect("it may be changed");
    assert_eq!(password(&written.object), None);
}
