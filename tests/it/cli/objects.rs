//! `appm get`, `describe`, `scale`, `stop`, `start`, `restart`, `wait`, `delete`, `ls`, `logs`, `version`.

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::{appm, appm_with};
use crate::api::Api;

pub(super) async fn with_apps() -> Api {
    let api = Api::start().await;
    let app = |name: &str, tier: &str| {
        json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name, "labels": {"tier": tier}},
            "spec": {"process": {"command": ["sleep", "1000"]}}})
    };
    let text = format!("{}\n---\n{}\n", app("web", "front"), app("db", "back"));
    appm_with(&api, "apply -f -", &text).await.ok();
    api
}

/// An Instance of `web`, as the agent would leave it.
async fn with_instance(api: &Api) {
    let instance = json!({
        "apiVersion": "appm.dev/v1", "kind": "Instance",
        "metadata": {"name": "web-1-0", "namespace": "default", "labels": {"appm.dev/app": "web"}},
        "spec": {"nodeName": "n", "revision": "web-1", "process": {"command": ["sleep", "1000"]}},
    });
    appm_with(api, "apply -f -", &instance.to_string()).await.ok();
    let status = json!({
        "attempt": 2, "state": {"running": {"pid": 1, "startTime": "2026-01-01T00:00:00.000000Z"}},
        "lastExit": {"attempt": 1, "signal": "SIGKILL"}, "usage": {"cpuCores": 0.02, "memoryBytes": 6_189_056},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Started", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    let path = "/apis/appm.dev/v1/namespaces/default/instances/web-1-0/status";
    let patch = json!({"status": status}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    api.send(hyper::Method::PATCH, path, &headers, patch).await.expect(200);
}

#[tokio::test]
async fn objects_are_shown_in_every_form() {
    let api = with_apps().await;
    let table = appm(&api, "get apps").await.ok();
    let mut lines = table.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert!(lines.next().unwrap().starts_with("db     0/1     Pending   0"), "{table}");
    assert_eq!(appm(&api, "get apps -o name").await.ok(), "app.appm.dev/db\napp.appm.dev/web\n");
    assert_eq!(appm(&api, "get apps -l tier=front -o name").await.ok(), "app.appm.dev/web\n");
    assert_eq!(appm(&api, "get app --field-selector metadata.name=db -o name").await.ok(), "app.appm.dev/db\n");
    assert_eq!(appm(&api, "get app/web app/db -o name").await.ok(), "app.appm.dev/web\napp.appm.dev/db\n");
    let list = appm(&api, "get apps -o json").await.json();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("List"), 2));
    let one = appm(&api, "get app web -o json").await.json();
    assert_eq!(one["kind"], "App");
    assert!(one["metadata"]["managedFields"].is_null() && one["items"].is_null());
    assert!(
        appm(&api, "get app web -o json --show-managed-fields").await.json()["metadata"]["managedFields"].is_array()
    );
    assert!(appm(&api, "get app web -o yaml").await.ok().contains("\nkind: App\n"));
    assert!(appm(&api, "get apps -A --show-labels --no-headers").await.ok().starts_with("default   db"));
    assert!(appm(&api, "get all").await.ok().contains("app.appm.dev/web"));
    assert!(appm(&api, "get ns,nodes").await.ok().contains("namespace/default"));
    assert_eq!(
        appm(&api, "get apps --sort-by=.spec.process.command[0] -o name").await.ok(),
        appm(&api, "get apps -o name --chunk-size=1").await.ok()
    );
    let sorted = appm(&api, "get apps --sort-by=.metadata.labels.tier --no-headers -L tier").await.ok();
    let last = |line: &str| line.split_whitespace().last().unwrap().to_owned();
    assert_eq!(sorted.lines().map(last).collect::<Vec<_>>(), ["back", "front"], "{sorted}");
    assert!(appm(&api, "get apps --sort-by=.metdata.name").await.fails(2).contains("did you mean `metadata`?"));
    let columns = appm(&api, "get apps -o custom-columns=N:.metadata.name,R:.spec.replicas --no-headers").await.ok();
    assert_eq!(columns, "db    <none>\nweb   <none>\n");
    let range = "get apps -o jsonpath={range}{.items[*]}";
    assert!(appm(&api, range).await.fails(2).contains("{range} wants a path"));
    assert!(appm(&api, "get apps -o go-template={{.x}}").await.fails(2).contains("jsonpath"));
    assert!(appm(&api, "get --raw /version").await.json()["gitVersion"].is_string());
    let from_file = "{apiVersion: appm.dev/v1, kind: App, metadata: {name: web}}";
    assert_eq!(appm_with(&api, "get -f - -o name", from_file).await.ok(), "app.appm.dev/web\n");
    appm(&api, "get app web -A").await.fails(2);
    let nothing = appm(&api, "get instances").await;
    assert_eq!((nothing.out.as_str(), nothing.code), ("", 0));
    assert!(nothing.err.contains("nothing found in namespace `default`"));
}

#[tokio::test]
async fn what_is_yaml_can_be_applied_again() {
    let api = with_apps().await;
    let yaml = appm(&api, "get apps -o yaml").await.ok();
    appm_with(&api, "apply --force-conflicts --field-manager other -f -", &yaml).await.ok();
}

#[tokio::test]
async fn an_absent_object_is_exit_code_3_with_the_name_that_was_meant() {
    let api = with_apps().await;
    for line in [
        "get app wbe",
        "describe app wbe",
        "logs wbe",
        "scale wbe --replicas=1",
        "stop wbe",
        "delete app wbe",
        "wait app/wbe --for=condition=Ready",
        "ls -a wbe",
    ] {
        let said = appm(&api, line).await.fails(3);
        assert!(said.contains("there is no app `wbe` in namespace `default`"), "{line}: {said}");
        assert!(said.contains("did you mean `web`?"), "{line}: {said}");
    }
    let both = appm(&api, "get app web wbe -o name").await;
    assert_eq!((both.code, both.out.as_str()), (3, "app.appm.dev/web\n"));
    appm(&api, "get app wbe --ignore-not-found").await.ok();
}

#[tokio::test]
async fn apps_are_scaled_stopped_started_and_restarted() {
    let api = with_apps().await;
    assert_eq!(appm(&api, "scale web --replicas=3").await.ok(), "app.appm.dev/web scaled\n");
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok(), "3\n");
    assert_eq!(appm(&api, "stop app/web").await.ok(), "app.appm.dev/web stopped\n");
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.suspend}").await.ok(), "true\n");
    assert_eq!(appm(&api, "start web -o json").await.json()["spec"]["suspend"], false);
    assert_eq!(appm(&api, "restart --all").await.ok(), "app.appm.dev/db restarted\napp.appm.dev/web restarted\n");
    let app = appm(&api, "get app web -o json").await.json();
    assert!(app["metadata"]["annotations"]["appm.dev/restartedAt"].is_string());
    appm(&api, "scale web --replicas=-1").await.fails(2);
    appm(&api, "stop").await.fails(2);
}

#[tokio::test]
async fn waiting_ends_with_the_goal_or_with_exit_code_124() {
    let api = with_apps().await;
    assert_eq!(
        appm(&api, "wait app/web --for=jsonpath={.spec.process.command[0]}=sleep").await.ok(),
        "app.appm.dev/web condition met\n"
    );
    let late = appm(&api, "wait app/web --for=condition=Ready --timeout=50ms").await.fails(124);
    assert!(late.contains("50ms") && late.contains("app.appm.dev/web has no condition Ready"), "{late}");
    let (waited, scaled) = tokio::join!(
        appm(&api, "wait app web --for=jsonpath={.spec.replicas}=4 --timeout=30s"),
        appm(&api, "scale web --replicas=4"),
    );
    scaled.ok();
    waited.ok();
    let (gone, deleted) =
        tokio::join!(appm(&api, "wait app/web --for=delete --timeout=30s"), appm(&api, "delete app web"));
    assert_eq!(gone.ok(), "app.appm.dev/web gone\n");
    assert_eq!(deleted.ok(), "app.appm.dev/web deleted\n");
}

#[tokio::test]
async fn deleting_waits_until_the_object_is_gone() {
    let api = with_apps().await;
    let finalizer = json!({"metadata": {"finalizers": ["example.com/hold"]}}).to_string();
    let headers = [("content-type", "application/merge-patch+json")];
    let path = "/apis/appm.dev/v1/namespaces/default/apps/web";
    api.send(hyper::Method::PATCH, path, &headers, finalizer).await.expect(200);
    appm(&api, "delete app web --timeout=50ms").await.fails(124);
    appm(&api, "delete app web --wait=false").await.ok();
    let released = async {
        let free = json!({"metadata": {"finalizers": null}}).to_string();
        api.send(hyper::Method::PATCH, path, &headers, free).await.expect(200);
    };
    let (gone, ()) = tokio::join!(appm(&api, "delete app web"), released);
    // It may have gone before it was looked for.
    assert!(gone.code == 0 || gone.code == 3, "{gone:?}");
    appm(&api, "delete apps").await.fails(2);
    assert_eq!(appm(&api, "delete apps --all").await.ok(), "app.appm.dev/db deleted\n");
    assert!(appm(&api, "get apps -o name").await.ok().is_empty());
}

#[tokio::test]
async fn processes_are_listed_in_app_meshs_columns() {
    let api = with_apps().await;
    with_instance(&api).await;
    let table = appm(&api, "ls").await.ok();
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    let headings = "ID NAME OWNER STATUS HEALTH PID USER MEMORY %CPU RETURN AGE DURATION STARTS COMMAND";
    assert_eq!(lines[0].join(" "), headings);
    assert_eq!(lines[1][..6].join(" "), "1 db admin enabled - -", "{table}");
    assert_eq!(lines[2][..11].join(" "), "2 web admin enabled OK 1 root 5.9 MiB 2.0 SIGKILL", "{table}");
    assert_eq!(lines[2][13..].join(" "), "2 \"sleep 1000\"", "{table}");
    let rows = appm(&api, "ls -a web -o json").await.json();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["instance"]), (1, &json!("web-1-0")));
    assert_eq!(appm(&api, "ls -a web -o").await.ok(), "web-1-0 tail=None\n");
}

#[tokio::test]
async fn logs_are_found_by_app_by_instance_and_by_label() {
    let api = with_apps().await;
    with_instance(&api).await;
    assert_eq!(appm(&api, "logs web --tail 5").await.ok(), "web-1-0 tail=Some(5)\n");
    assert_eq!(appm(&api, "logs instance/web-1-0").await.ok(), "web-1-0 tail=None\n");
    assert_eq!(appm(&api, "logs web-1-0 --prefix").await.ok(), "web-1-0 | web-1-0 tail=None\n");
    assert_eq!(appm(&api, "logs -l appm.dev/app=web").await.ok(), "web-1-0 tail=None\n");
    assert!(appm(&api, "logs db").await.fails(1).contains("has no instance yet"));
    appm(&api, "logs").await.fails(2);
}

#[tokio::test]
async fn a_description_has_conditions_instances_and_events() {
    let api = with_apps().await;
    with_instance(&api).await;
    let uid = appm(&api, "get instance web-1-0 -o jsonpath={.metadata.uid}").await.ok();
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e1"}, "reason": "Started", "type": "Normal",
        "message": "it began", "count": 3, "lastTimestamp": "2026-01-01T00:00:00Z",
        "involvedObject": {"kind": "Instance", "name": "web-1-0", "namespace": "default", "uid": uid.trim()},
    });
    appm_with(&api, "apply -f -", &event.to_string()).await.ok();
    let page = appm(&api, "describe web").await.ok();
    for part in ["Name:", "tier=front", "Spec:", "command:", "Instances:", "web-1-0", "Events:", "it began"] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let page = appm(&api, "describe instance web-1-0").await.ok();
    assert!(page.contains("Conditions:") && page.contains("Started"), "{page}");
    assert!(appm(&api, "events").await.ok().contains("instance/web-1-0"));
    assert!(appm(&api, "events --for app/web").await.out.is_empty());
}

#[tokio::test]
async fn a_watch_shows_changes_as_they_come() {
    let api = with_apps().await;
    let mut watch = tokio::process::Command::new(env!("CARGO_BIN_EXE_appm"))
        .args(["get", "app", "web", "-w", "-o", "jsonpath={.spec.replicas}"])
        .env("APPM_DATA_DIR", api.dir.path())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(""));
    for replicas in ["3", "4"] {
        appm(&api, &format!("scale web --replicas={replicas}")).await.ok();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(replicas));
    }
    watch.kill().await.unwrap();
}

#[tokio::test]
async fn versions_of_both_sides_are_shown() {
    let api = Api::start().await;
    assert!(appm(&api, "version").await.ok().contains("server: v"));
    let all = appm(&api, "version -o json").await.json();
    assert!(all["serverVersion"]["gitVersion"].is_string() && all["clientVersion"]["version"].is_string());
}

#[tokio::test]
async fn the_kubeconfig_is_another_way_in() {
    let api = with_apps().await;
    let file = appm(&api, "kubeconfig --path").await.ok();
    let empty = tempfile::tempdir().unwrap();
    let said = super::run(empty.path(), &["--kubeconfig", file.trim(), "get", "apps", "-o", "name"], "").await;
    assert_eq!(said.ok(), "app.appm.dev/db\napp.appm.dev/web\n");
}
