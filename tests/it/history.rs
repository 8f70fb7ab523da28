//! What was can be read, told of, kept and brought back: by whoever may, over `kill -9`, and never beyond what is known.

use std::fs;

use serde_json::{Value, json};

use crate::{
    harness::{APPS, World, app_path, wait_for},
    manifests::appm,
};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{value: \"{value}\"}}\n")
}

/// Applies documents as a person does.
fn apply(world: &World, text: &str) -> String {
    let file = world.root().join("applied.yaml");
    fs::write(&file, text).unwrap();
    appm(world, &["apply", "-f", file.to_str().unwrap()])
}

/// The exit code, and everything that was said.
fn said(world: &World, args: &[&str]) -> (i32, String) {
    let output = world.command(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

fn value(world: &World, name: &str) -> Option<String> {
    let found = world.api().get(&format!("{CONFIG_MAPS}/{name}")).unwrap()?;
    Some(found["data"]["value"].as_str().unwrap().to_owned())
}

fn revision(world: &World, name: &str) -> String {
    let found = world.api().get(&format!("{CONFIG_MAPS}/{name}")).unwrap().unwrap();
    found["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn history(world: &World, path: &str) -> Vec<Value> {
    world.api().list(&format!("{path}/history")).unwrap()
}

#[test]
fn what_was_is_read_as_it_stood_by_revision_and_time_over_a_restart() {
    let mut world = World::new();
    world.start();
    apply(&world, &(config("a", "1") + "---\n" + &config("b", "1")));
    let first = revision(&world, "a");
    apply(&world, &config("a", "2"));
    let second = revision(&world, "a");
    appm(&world, &["delete", "configmap", "b"]);
    apply(&world, &config("c", "1"));
    world.kill_server();
    world.start();
    let names = |query: &str| -> String {
        let items = world.api().list(&format!("{CONFIG_MAPS}?{query}")).unwrap();
        let told = items.iter().map(|item| {
            assert!(item.get("status").is_none());
            format!("{}={}", item["metadata"]["name"].as_str().unwrap(), item["data"]["value"].as_str().unwrap())
        });
        told.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&format!("atRevision={first}")), "a=1 b=1");
    assert_eq!(names(&format!("atRevision={second}")), "a=2 b=1");
    assert_eq!(names("at=0"), "a=2 c=1");
    assert_eq!(names(&format!("atRevision={first}&fieldSelector=metadata.name=b")), "b=1");
    // Page by page, all of one revision.
    let page = world.api().get(&format!("{CONFIG_MAPS}?atRevision={first}&limit=1")).unwrap().unwrap();
    let next = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&format!("atRevision={first}&limit=9&continue={next}")), "b=1");
    // One object, in the words of a person.
    let yaml = appm(&world, &["get", "configmap", "a", "--revision", &first, "-o", "yaml"]);
    assert!(yaml.contains("value: \"1\""), "{yaml}");
    let table = appm(&world, &["get", "configmaps", "--at", "0"]);
    assert!(table.starts_with("NAME ") && table.contains("REVISION") && !table.contains("READY"), "{table}");
    let (code, text) = said(&world, &["get", "configmap", "b", "--at", "0"]);
    assert!(code == 3 && text.contains("configmap/b was not there then"), "{text}");
    // What cannot be is refused before anything is asked, or by the server, in words.
    for (args, code, words) in [
        (["get", "apps", "--at", "yesterday"], 2, "expected how long ago"),
        (["get", "apps", "--at", "2026-11-21T08:00"], 2, "it lacks its zone"),
        (["get", "apps", "--revision", "x"], 2, "a revision is a number"),
        (["get", "apps", "--revision", "999999"], 4, "is still to come"),
        (["get", "events", "--at", "1m"], 4, "events have no history"),
        (["get", "apps", "--at", "9999h"], 1, "is too long ago: the past is known from"),
    ] {
        let (found, text) = said(&world, &args);
        assert!(found == code && text.contains(words), "{args:?}: {found} {text}");
    }
    for (query, code) in
        [("at=1m&atRevision=3", 400), ("at=", 400), ("atRevision=-1", 400), ("at=2000-01-01T00:00:00Z", 410)]
    {
        let answer = world.api().ask("GET", &format!("{CONFIG_MAPS}?{query}"), "", b"").unwrap();
        assert_eq!(answer.code, code, "{query}: {}", String::from_utf8_lossy(&answer.body));
    }
}

#[test]
fn a_history_says_who_did_what_through_what_and_names_objects_by_their_uids() {
    let mut world = World::new();
    world.start();
    apply(&world, &config("a", "1"));
    apply(&world, &config("a", "2"));
    appm(&world, &["label", "configmap", "a", "tier=front"]);
    appm(&world, &["delete", "configmap", "a"]);
    apply(&world, &config("a", "3"));
    let told = history(&world, &format!("{CONFIG_MAPS}/a"));
    let words =
        |field: &str| told.iter().map(|v| v[field].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>().join(" ");
    assert_eq!(words("change"), "Recreated Deleted Changed Changed Created");
    assert_eq!(words("user"), "admin admin admin admin admin");
    assert_eq!(words("manager"), "appm appm appm-cli appm appm");
    assert_ne!(told[0]["uid"], told[1]["uid"]);
    assert_eq!(told[1]["uid"], told[4]["uid"]);
    assert_eq!(told[3]["fields"], json!([{"path": "data.value", "old": "1", "new": "2"}]));
    assert_eq!(told[2]["fields"][0]["path"], "metadata.labels.tier");
    assert!(told.iter().all(|version| version["requestId"].as_str().is_some_and(|id| !id.is_empty())));
    let table = appm(&world, &["history", "configmap/a"]);
    assert!(table.contains("changed data.value 1 → 2") && table.contains("UID"), "{table}");
    let diff = appm(&world, &["history", "configmap", "a", "--diff", "--limit", "4"]);
    assert!(diff.contains("\n  data.value 1 → 2\n"), "{diff}");
    let (code, text) = said(&world, &["history", "configmap/aa"]);
    assert!(code == 3 && text.contains("nothing is remembered of one") && text.contains("did you mean `a`"), "{text}");
    // Page by page.
    let page = world.api().get(&format!("{CONFIG_MAPS}/a/history?limit=2")).unwrap().unwrap();
    let next = page["metadata"]["continue"].as_str().unwrap();
    let rest = world.api().list(&format!("{CONFIG_MAPS}/a/history?continue={next}")).unwrap();
    assert_eq!(rest, told[2..]);
}

#[test]
fn the_past_is_shown_to_whom_the_present_would_be_and_secrets_to_nobody_without_leave() {
    let mut world = World::new();
    world.start();
    for (name, role) in [("ann", "member"), ("bob", "member"), ("eve", "view")] {
        let user = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": name}, "spec": {"roles": [{"name": role}]}});
        apply(&world, &user.to_string());
    }
    let file = world.root().join("hers.yaml");
    for text in ["1", "2"] {
        fs::write(&file, config("hers", text)).unwrap();
        let (code, text) = said(&world, &["--as", "ann", "apply", "-f", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{text}");
    }
    appm(&world, &["--as", "ann", "delete", "configmap", "hers"]);
    let asked = |who: &str| said(&world, &["--as", who, "history", "configmap/hers"]).0;
    assert_eq!((asked("ann"), asked("bob"), asked("eve")), (0, 3, 0), "what is deleted is told to whose it was");
    let told = history(&world, &format!("{CONFIG_MAPS}/hers"));
    let oldest = told.last().unwrap()["revision"].as_str().unwrap();
    let then = |who: &str| said(&world, &["--as", who, "get", "configmap", "hers", "--revision", oldest]).0;
    assert_eq!((then("ann"), then("bob"), then("eve")), (0, 3, 0));
    let pin = |who: &str| said(&world, &["--as", who, "history", "pin", "configmap/hers", "--revision", oldest]).0;
    assert_eq!((pin("ann"), pin("bob"), pin("eve")), (0, 3, 6), "to keep it takes the right to change it");
    // Values of Secrets.
    for value in ["aHVudGVy", "aHVudGVyMg=="] {
        apply(&world, &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: door}}\ndata: {{key: {value}}}\n"));
    }
    for who in ["admin", "eve"] {
        let (_, text) = said(&world, &["--as", who, "history", "secret/door", "-o", "json"]);
        assert!(!text.contains("aHVudGVy"), "{who}: {text}");
    }
    let told = history(&world, "/api/v1/namespaces/default/secrets/door");
    assert_eq!(told[0]["fields"], json!([{"path": "data.key", "secret": true}]));
    let first = told[1]["revision"].as_str().unwrap();
    let shown = appm(&world, &["get", "secret", "door", "--revision", first, "-o", "json"]);
    assert!(shown.contains("\"aHVudGVy\""), "whoever may reveal sees it as by `get`: {shown}");
}

#[test]
fn a_rollback_is_a_change_like_any_other_and_agrees_with_rollout_undo() {
    let mut world = World::new();
    world.start();
    let app = |script: &str| {
        json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web"},
            "spec": {"replicas": 1, "process": {"script": script}}})
        .to_string()
    };
    let revision_of = || -> String {
        wait_for("one instance, of the present template", || {
            let app = world.api().get(&app_path("web")).unwrap().unwrap();
            let status = &app["status"];
            let settled = status["observedGeneration"] == app["metadata"]["generation"];
            match settled && status["updatedReplicas"] == 1 && status["replicas"] == 1 {
                true => Ok(status["updateRevision"].as_str().unwrap_or_default().to_owned()),
                false => Err(app["status"].to_string()),
            }
        })
    };
    apply(&world, &app("sleep 1000"));
    let first = revision_of();
    apply(&world, &app("sleep 2000"));
    let second = revision_of();
    assert_ne!(first, second);
    let diff = appm(&world, &["rollback", "app/web", "--diff"]);
    assert!(diff.contains("-    script: sleep 2000") && diff.contains("+    script: sleep 1000"), "{diff}");
    let dry = appm(&world, &["rollback", "app/web", "--dry-run=server"]);
    assert!(dry.contains("(dry run)") && revision_of() == second, "{dry}");
    let done = appm(&world, &["rollback", "app/web"]);
    assert!(done.contains("rolled back to revision"), "{done}");
    assert_eq!(revision_of(), first);
    // It is the manager's own again: the next apply meets nobody.
    apply(&world, &app("sleep 3000"));
    appm(&world, &["rollback", "app/web"]);
    assert_eq!(revision_of(), first);
    assert!(appm(&world, &["rollback", "app/web", "--at", "0"]).contains("unchanged"));
    // What is deleted comes back as another object.
    appm(&world, &["delete", "app", "web"]);
    let done = appm(&world, &["rollback", "app/web"]);
    assert!(done.contains("made anew") && done.contains("uid"), "{done}");
    let back = world.api().get(&app_path("web")).unwrap().unwrap();
    assert_eq!(back["spec"]["process"]["script"], "sleep 1000");
    // Another manager's fields.
    let path = format!("{}?fieldManager=conductor&force=true", app_path("web"));
    let theirs = json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web"},
        "spec": {"process": {"script": "sleep 4000"}}});
    assert!(
        world.api().ask("PATCH", &path, "application/apply-patch+yaml", theirs.to_string().as_bytes()).unwrap().is_ok()
    );
    let (code, text) = said(&world, &["rollback", "app/web"]);
    assert!(code == 7 && text.contains("spec.process.script is conductor's"), "{code} {text}");
    assert!(appm(&world, &["rollback", "app/web", "--force-conflicts"]).contains("rolled back"));
    let (code, text) = said(&world, &["rollback", "app/web", "--to", "basline"]);
    assert!(code == 3 && text.contains("has no pin `basline`"), "{text}");
}

#[test]
fn undo_takes_back_what_one_changed_last_and_then_what_was_before_it() {
    let mut world = World::new();
    world.start();
    apply(&world, &(config("a", "1") + "---\n" + &config("b", "1")));
    apply(&world, &(config("a", "2") + "---\n" + &config("c", "1")));
    // Nobody to ask.
    let (code, text) = said(&world, &["undo"]);
    assert!(code == 2 && text.contains("--yes") && text.contains("configmap/a becomes as it was before"), "{text}");
    assert_eq!(value(&world, "a").as_deref(), Some("2"));
    let done = appm(&world, &["undo", "--yes"]);
    assert!(done.contains("configmap/c is deleted: it was made then"), "{done}");
    assert_eq!((value(&world, "a").as_deref(), value(&world, "c")), (Some("1"), None));
    world.kill_server();
    world.start();
    let list = appm(&world, &["undo", "--list"]);
    assert!(list.contains("undo of ") && list.contains("undone by") && list.contains("next"), "{list}");
    // The one before it.
    appm(&world, &["undo", "--yes"]);
    assert_eq!((value(&world, "a"), value(&world, "b")), (None, None));
    let (code, text) = said(&world, &["undo", "--yes"]);
    assert!(code == 3 && text.contains("nothing of yours to undo"), "{text}");
    // An undo is taken back by its revision.
    let told = history(&world, &format!("{CONFIG_MAPS}/a"));
    let last = told[0]["revision"].as_str().unwrap();
    let done = appm(&world, &["undo", "--revision", last, "--yes"]);
    assert!(done.contains("is made anew: it was deleted then"), "{done}");
    assert_eq!((value(&world, "a").as_deref(), value(&world, "b").as_deref()), (Some("1"), Some("1")));
}

#[test]
fn undo_does_nothing_where_somebody_changed_an_object_since_and_names_it() {
    let mut world = World::new();
    world.start();
    let user = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "ann"}, "spec": {"roles": [{"name": "admin"}]}});
    apply(&world, &user.to_string());
    apply(&world, &(config("a", "1") + "---\n" + &config("b", "1")));
    apply(&world, &(config("a", "2") + "---\n" + &config("b", "2")));
    appm(&world, &["--as", "ann", "patch", "configmap", "b", "-p", r#"{"data": {"value": "hers"}}"#]);
    let (code, text) = said(&world, &["undo", "--yes"]);
    assert!(
        code == 7 && text.contains("configmap/b was changed since: ann") && text.contains("data.value 2 → hers"),
        "{text}"
    );
    assert_eq!((value(&world, "a").as_deref(), value(&world, "b").as_deref()), (Some("2"), Some("hers")));
    // Hers is hers alone.
    let list = said(&world, &["--as", "ann", "undo", "--list"]).1;
    assert!(list.contains("changed configmap/b") && !list.contains("configmap/a"), "{list}");
    appm(&world, &["undo", "--yes", "--force"]);
    assert_eq!((value(&world, "a").as_deref(), value(&world, "b").as_deref()), (Some("1"), Some("1")));
    let (code, text) = said(&world, &["undo", "--yes", "--revision", "1"]);
    assert!(code == 3 && text.contains("no transaction of yours"), "{text}");
}

#[test]
fn a_pinned_version_is_rolled_back_to_by_its_name_and_survives_kill_9() {
    let mut world = World::new();
    world.set_env("APPM_HISTORY_MAX_AGE", "1m");
    world.start();
    apply(&world, &config("a", "1"));
    let said_so = appm(&world, &["history", "pin", "configmap/a"]);
    assert!(said_so.contains("is kept at revision") && said_so.contains("`baseline`"), "{said_so}");
    apply(&world, &config("a", "2"));
    let second = revision(&world, "a");
    appm(&world, &["history", "pin", "configmap", "a", "--name", "other", "--revision", &second]);
    world.kill_server();
    world.start();
    let pins = appm(&world, &["history", "pins", "configmap/a"]);
    assert!(pins.contains("baseline") && pins.contains("other"), "{pins}");
    apply(&world, &config("a", "3"));
    appm(&world, &["rollback", "configmap/a", "--to", "baseline"]);
    assert_eq!(value(&world, "a").as_deref(), Some("1"));
    assert!(appm(&world, &["history", "configmap/a"]).contains("[baseline]"));
    appm(&world, &["history", "unpin", "configmap/a", "--name", "other"]);
    for (args, code, words) in [
        (["history", "unpin", "configmap/a", "--name=other"], 3, "has no pin"),
        (["history", "pin", "configmap/a", "--name=Not_A_Name"], 4, "lower-case letters"),
        (["history", "pin", "configmap/none", "--name=x"], 3, "not found"),
    ] {
        let (found, text) = said(&world, &args);
        assert!(found == code && text.contains(words), "{args:?}: {found} {text}");
    }
    assert_eq!(world.api().list(APPS).unwrap().len(), 0);
}

#[test]
fn why_follows_a_crash_back_to_the_change_and_its_author_and_says_what_may_not_be_read() {
    let mut world = World::new();
    world.start();
    let app = |script: &str| {
        json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web"},
            "spec": {"replicas": 1, "process": {"script": script}, "restart": {"backoff": {"initial": "100ms", "max": "300ms"}}}})
        .to_string()
    };
    apply(&world, &app("sleep 1000"));
    apply(&world, &app("echo starting; printf 'no such %s\\n' table; exit 3"));
    let culprit = history(&world, &app_path("web"))[0]["revision"].as_str().unwrap().to_owned();
    let told = wait_for("the chain to reach the exit", || {
        let text = appm(&world, &["why", "web", "-o", "json"]);
        let told: Value = serde_json::from_str(&text).unwrap();
        let exits =
            told["links"].as_array().unwrap().iter().any(|link| link["sort"] == "exit" && link["lines"].is_array());
        if exits { Ok(told) } else { Err(text) }
    });
    assert_eq!(told["origin"], culprit.as_str(), "{told}");
    let links = told["links"].as_array().unwrap();
    let of = |sort: &str| links.iter().filter(|link| link["sort"] == sort).cloned().collect::<Vec<_>>();
    assert!(
        of("exit").iter().any(|link| link["text"] == "ended with exit code 3"
            && link["lines"].as_array().is_some_and(|lines| lines.iter().any(|line| line == "no such table"))),
        "{told}"
    );
    assert!(of("decision").iter().any(|link| link["cause"] == culprit.as_str() && link["because"] != ""), "{told}");
    let change = of("change").into_iter().find(|link| link["revision"] == culprit.as_str()).unwrap();
    assert_eq!((&change["user"], &change["manager"]), (&json!("admin"), &json!("appm")));
    // What comes after is not what it comes from.
    appm(&world, &["label", "app", "web", "tier=front"]);
    let text = appm(&world, &["why", "app/web", "--field", "restarts"]);
    assert!(text.contains("It goes back to admin, who changed spec.process.script"), "{text}");
    let (code, text) = said(&world, &["why", "app/web", "--field", "replica"]);
    assert!(code == 2 && text.contains("did you mean"), "{text}");
    let (code, text) = said(&world, &["why", "app/wbe"]);
    assert!(code == 3 && text.contains("did you mean `web`"), "{text}");
    // Who may read Apps and nothing else is told so, and told no more.
    let rules = json!([{"apiGroups": ["appm.dev"], "resources": ["apps"], "verbs": ["get"]}]);
    apply(
        &world,
        &json!({"apiVersion": "appm.dev/v1", "kind": "Role", "metadata": {"name": "few"}, "spec": {"rules": rules}})
            .to_string(),
    );
    apply(&world, &json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "ann"}, "spec": {"roles": [{"name": "few"}]}}).to_string());
    let (code, text) = said(&world, &["--as", "ann", "why", "app/web"]);
    assert!(code == 0 && text.contains("not known: its instances") && text.contains("not known: events"), "{text}");
    assert!(!text.contains("no such table"), "{text}");
    // And when it is gone.
    appm(&world, &["delete", "app", "web"]);
    let text = appm(&world, &["why", "app/web"]);
    assert!(text.contains("app/web is not there") && text.contains("asked app/web to go"), "{text}");
}
