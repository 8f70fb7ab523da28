//! `appm apply`, `add`, `delete -f`.

use super::{appm, appm_with, run};
use crate::api::Api;

const WEB: &str = "\
apiVersion: appm.dev/v1
kind: App
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 2
  process: {command: [sleep, '1000']}
";

#[tokio::test]
async fn objects_are_created_configured_and_left_unchanged() {
    let api = Api::start().await;
    assert_eq!(appm_with(&api, "apply -f -", WEB).await.ok(), "app.appm.dev/web created\n");
    assert_eq!(appm_with(&api, "apply -f -", WEB).await.ok(), "app.appm.dev/web unchanged\n");
    let more = WEB.replace("replicas: 2", "replicas: 3");
    let dry = appm_with(&api, "apply -f - --dry-run=server", &more).await.ok();
    assert_eq!(dry, "app.appm.dev/web configured (dry run)\n");
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok(), "2\n");
    assert_eq!(appm_with(&api, "apply -f -", &more).await.ok(), "app.appm.dev/web configured\n");
    assert_eq!(appm_with(&api, "apply -f - -o json", &more).await.json()["spec"]["replicas"], 3);
    assert_eq!(appm_with(&api, "apply -f - -o name", &more).await.ok(), "app.appm.dev/web\n");
}

#[tokio::test]
async fn a_namespace_and_what_is_in_it_are_applied_together_in_any_order() {
    let api = Api::start().await;
    let text = format!(
        "{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: prod}}\n",
        WEB.replace("web,", "web, namespace: prod,")
    );
    let said = appm_with(&api, "apply -f -", &text).await.ok();
    assert_eq!(said, "namespace/prod created\napp.appm.dev/web created\n");
    assert_eq!(appm(&api, "get apps -n prod -o name").await.ok(), "app.appm.dev/web\n");
    let said = appm_with(&api, "apply -n absent -f -", WEB).await.fails(3);
    assert!(said.contains("absent"), "{said}");
}

#[tokio::test]
async fn what_the_server_warns_of_is_said_with_the_object_that_it_is_about() {
    let api = Api::start().await;
    let room = "apiVersion: v1\nkind: Namespace\nmetadata: {name: room}\nspec: {finalisers: []}\n";
    let said = appm_with(&api, "apply -f -", &format!("{WEB}---\n{room}")).await;
    assert_eq!(said.err, "warning: namespace/room: unknown field \"spec.finalisers\"\n");
    assert_eq!(said.ok(), "namespace/room created\napp.appm.dev/web created\n");
}

#[tokio::test]
async fn five_mistakes_in_three_documents_are_all_reported_and_nothing_is_applied() {
    let api = Api::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    let text = format!(
        "\
{WEB}---
apiVersion: appm.dev/v1
kind: App
metadata: {{name: typo}}
spec:
  replica: 2
  process: {{command: [sleep, '1'], workingDir: here}}
---
apiVersion: appm.dev/v1
kind: App
metadata: {{name: db}}
spec:
  replicas: many
  process: {{}}
  stopSignal: SIGNAL
"
    );
    std::fs::write(&file, text).unwrap();
    let said = run(api.dir.path(), &["apply", "-f", file.to_str().unwrap()], "").await.fails(4);
    let said = said.replace(file.to_str().unwrap(), "bad.yaml");
    for line in [
        "bad.yaml:12:3: spec.replica:",
        "bad.yaml:13:48: spec.process.workingDir:",
        "bad.yaml:19:13: spec.replicas:",
        "bad.yaml:20:3: spec.process.command:",
        "bad.yaml:21:15: spec.stopSignal:",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(said.contains("did you mean `replicas`?"), "{said}");
    assert!(said.contains("nothing was applied"), "{said}");
    assert!(appm(&api, "get apps -o name").await.ok().is_empty());
}

#[tokio::test]
async fn mistakes_of_the_text_and_of_the_fields_are_reported_together() {
    let api = Api::start().await;
    let text = format!(
        "{}\n---\na: [\n---\nkind: App\nmetadata: {{name: x}}\nspec: {{umask: 022, proces: 1}}\n",
        WEB.replace("replicas", "replicass")
    );
    let said = appm_with(&api, "apply -f -", &text).await.fails(4);
    for line in [
        "<stdin>:5:3: spec.replicass:",
        "<stdin>:9:4: not valid YAML",
        "<stdin>:11:1: apiVersion: Required",
        "<stdin>:13:15: spec.umask:",
        "<stdin>:13:20: spec.proces:",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(appm(&api, "get apps -o name").await.ok().is_empty());
}

#[tokio::test]
async fn files_directories_and_subdirectories_are_read() {
    let api = Api::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("more")).unwrap();
    std::fs::write(folder.path().join("a.yaml"), WEB).unwrap();
    std::fs::write(
        folder.path().join("b.json"),
        r#"{"apiVersion":"appm.dev/v1","kind":"App","metadata":{"name":"j"},"spec":{"process":{"script":"exit"}}}"#,
    )
    .unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no manifest").unwrap();
    std::fs::write(folder.path().join("more/c.yml"), WEB.replace("web", "deep")).unwrap();
    let path = folder.path().to_str().unwrap();
    let said = run(api.dir.path(), &["apply", "-f", path], "").await.ok();
    assert_eq!(said, "app.appm.dev/web created\napp.appm.dev/j created\n");
    let said = run(api.dir.path(), &["apply", "-R", "-f", path], "").await.ok();
    assert_eq!(said, "app.appm.dev/web unchanged\napp.appm.dev/j unchanged\napp.appm.dev/deep created\n");
    let said = run(api.dir.path(), &["delete", "-R", "-f", path], "").await.ok();
    assert_eq!(said.lines().count(), 3, "{said}");
    run(api.dir.path(), &["delete", "-f", path], "").await.fails(3);
    run(api.dir.path(), &["delete", "-f", path, "--ignore-not-found"], "").await.ok();
    run(api.dir.path(), &["apply", "-f", "/nowhere.yaml"], "").await.fails(1);
}

#[tokio::test]
async fn a_field_of_somebody_else_is_a_conflict_that_says_how_to_go_on() {
    let api = Api::start().await;
    appm_with(&api, "apply -f -", WEB).await.ok();
    appm(&api, "scale web --replicas=5").await.ok();
    let said = appm_with(&api, "apply -f -", WEB).await.fails(7);
    assert!(said.contains("<stdin>:5:13: spec.replicas"), "{said}");
    assert!(said.contains("appm-cli"), "{said}");
    assert!(said.contains("--force-conflicts"), "{said}");
    assert_eq!(appm_with(&api, "apply -f - --force-conflicts", WEB).await.ok(), "app.appm.dev/web configured\n");
}

#[tokio::test]
async fn add_declares_the_app_that_a_manifest_would() {
    let api = Api::start().await;
    assert_eq!(
        run(api.dir.path(), &["add", "-a", "ping", "-c", "ping -c 3 localhost"], "").await.ok(),
        "app.appm.dev/ping created\n"
    );
    let app = appm(&api, "get app ping -o json").await.json();
    assert_eq!(app["spec"]["process"]["command"], serde_json::json!(["ping", "-c", "3", "localhost"]));
    let said = run(api.dir.path(), &["add", "-a", "ping", "-c", "ping x | cat", "--replicas", "2"], "").await.ok();
    assert_eq!(said, "app.appm.dev/ping configured\n");
    let app = appm(&api, "get app ping -o json").await.json();
    assert_eq!(app["spec"]["process"], serde_json::json!({"script": "ping x | cat"}));
    run(api.dir.path(), &["add", "-a", "Bad_Name", "-c", "x"], "").await.fails(4);
    appm(&api, "add -a x --stop-signal SIGNO -- true").await.fails(4);
}
