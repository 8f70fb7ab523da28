//! `appm create`, `replace`, `diff`, `apply --prune`, and what asks about oneself: `auth`, `whoami`, `doctor`, `kubeconfig --merge`.

use serde_json::json;

use super::{appm, appm_with, objects::with_apps, run_with, words_of};
use crate::harness::{World, wait_for};

fn web(replicas: u32) -> String {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web", "labels": {"tier": "front"}},
        "spec": {"replicas": replicas, "process": {"command": ["sleep", "1000"]}},
    })
    .to_string()
}

#[tokio::test]
async fn what_is_there_already_is_not_created_again_and_what_is_absent_is_not_replaced() {
    let api = with_apps().await;
    assert!(appm_with(&api, "create -f -", &web(1)).await.fails(7).contains("already exists"));
    let other = web(1).replace("\"web\"", "\"new\"");
    assert!(appm_with(&api, "replace -f -", &other).await.code != 0);
    assert_eq!(appm_with(&api, "create -f -", &other).await.ok(), "app.appm.dev/new created\n");
    assert_eq!(appm_with(&api, "replace -f -", &web(4)).await.ok(), "app.appm.dev/web replaced\n");
    let uid = appm(&api, "get app web -o jsonpath={.metadata.uid}").await.ok();
    let yaml = appm(&api, "get app web -o yaml").await.ok();
    assert_eq!(appm_with(&api, "replace --force -f -", &yaml).await.ok(), "app.appm.dev/web created\n");
    assert_ne!(appm(&api, "get app web -o jsonpath={.metadata.uid}").await.ok(), uid);
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok(), "4\n");
    assert_eq!(appm(&api, "create namespace prod").await.ok(), "namespace/prod created\n");
    appm(&api, "create").await.fails(2);
}

#[tokio::test]
async fn a_diff_shows_what_apply_would_do_and_does_nothing() {
    let api = with_apps().await;
    let changed = appm_with(&api, "diff -f -", &web(3)).await;
    assert_eq!(changed.code, 1, "{changed:?}");
    assert!(changed.out.contains("--- app.appm.dev/web in default (live)\n"), "{}", changed.out);
    assert!(changed.out.contains("+  replicas: 3\n") && !changed.out.contains("managedFields"), "{}", changed.out);
    assert!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok().trim().is_empty());
    appm_with(&api, "apply -f -", &web(3)).await.ok();
    assert_eq!(appm_with(&api, "diff -f -", &web(3)).await.ok(), "");
    let fresh = appm_with(&api, "diff -f -", &web(1).replace("\"web\"", "\"new\"")).await;
    assert!(fresh.code == 1 && fresh.out.starts_with("--- /dev/null\n"), "{fresh:?}");
    appm_with(&api, "diff -f -", &web(1).replace("replicas", "replica")).await.fails(4);
}

#[tokio::test]
async fn a_prune_deletes_what_was_applied_before_and_nothing_else() {
    let api = with_apps().await;
    let foreign = web(1).replace("\"web\"", "\"foreign\"");
    appm_with(&api, "create -f - --field-manager=somebody", &foreign).await.ok();
    appm_with(&api, "apply -f - --prune", &web(1)).await.fails(2);
    let dry = appm_with(&api, "apply -f - --prune --all --dry-run=server", &web(1)).await.ok();
    assert_eq!(dry, "app.appm.dev/web configured (dry run)\napp.appm.dev/db pruned (dry run)\n");
    let none = appm_with(&api, "apply -f - --prune -l tier=front", &web(1)).await.ok();
    assert_eq!(none, "app.appm.dev/web configured\n");
    let done = appm_with(&api, "apply -f - --prune --all --prune-allowlist=appm.dev/v1/App", &web(1)).await.ok();
    assert_eq!(done, "app.appm.dev/web unchanged\napp.appm.dev/db pruned\n");
    assert_eq!(appm(&api, "get apps -o name").await.ok(), "app.appm.dev/foreign\napp.appm.dev/web\n");
    assert!(appm(&api, "apply -k dir").await.fails(2).contains("kustomize build dir | appm apply -f -"));
}

#[tokio::test]
async fn one_can_ask_who_one_is_and_what_one_may_do() {
    let api = with_apps().await;
    assert!(!appm(&api, "whoami").await.ok().is_empty());
    assert_eq!(appm(&api, "auth can-i create apps").await.ok(), "yes\n");
    appm(&api, "auth can-i delete app/web -q").await.ok();
    let no = appm(&api, "auth can-i create apps --as nobody").await;
    assert_eq!((no.out.as_str(), no.code), ("no\n", 1));
    assert!(appm(&api, "auth can-i --list").await.ok().contains("*.*"));
    let few = appm(&api, "auth can-i --list --as nobody --as-group devs").await.ok();
    assert!(few.contains("RESOURCES") && !few.contains("*.*"), "{few}");
    assert!(appm(&api, "get apps --as nobody").await.fails(6).contains("nobody"));
    assert!(appm(&api, "get apps --as-group devs").await.fails(2).contains("--as"));
    assert!(appm(&api, "api-versions").await.ok().contains("appm.dev/v1\n"));
    let cluster_wide = appm(&api, "api-resources --namespaced=false --verbs=list -o name").await.ok();
    assert!(cluster_wide.contains("namespaces\n") && !cluster_wide.contains("apps"), "{cluster_wide}");
}

#[tokio::test]
async fn the_doctor_says_how_everything_is_and_how_to_mend_it() {
    let api = with_apps().await;
    api.readiness.set(true);
    let listen = [("APPM_LISTEN", "127.0.0.1:0")];
    let said = run_with(&api, &["doctor", "-o", "json"], &listen).await;
    let findings: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let of = |check: &str| {
        let found = findings.as_array().unwrap().iter().find(|f| f["check"] == check);
        found.unwrap_or_else(|| panic!("{check}: {findings}")).clone()
    };
    assert_eq!(of("server")["verdict"], "ok", "{findings}");
    assert_eq!(of("kubeconfig")["verdict"], "ok", "{findings}");
    assert_eq!(of("certificate")["verdict"], "ok", "{findings}");
    for finding in findings.as_array().unwrap() {
        assert_eq!(finding["verdict"] == "ok", finding["mend"].is_null(), "{finding}");
    }
    let empty = tempfile::tempdir().unwrap();
    let data_dir = empty.path().to_str().unwrap();
    let said = run_with(&api, &["doctor", "--data-dir", data_dir], &listen).await;
    assert!(said.out.contains("none answers at") && said.out.contains("mend: appm up -d"), "{}", said.out);
    let kubeconfig = api.dir.path().join("kubeconfig");
    std::fs::set_permissions(&kubeconfig, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let said = run_with(&api, &["doctor"], &listen).await;
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("problem kubeconfig: others may read its token"), "{}", said.out);
}

#[tokio::test]
async fn the_kubeconfig_is_added_to_ones_own() {
    let api = with_apps().await;
    let own = api.dir.path().join("own");
    std::fs::write(
        &own,
        "apiVersion: v1\nkind: Config\ncurrent-context: prod\ncontexts:\n- {name: prod, context: {}}\n",
    )
    .unwrap();
    let environment = [("KUBECONFIG", own.to_str().unwrap())];
    let said = run_with(&api, &["kubeconfig", "--merge"], &environment).await.ok();
    assert!(said.ends_with("has a context `appm`\n"), "{said}");
    run_with(&api, &["kubeconfig", "--merge", "--current"], &environment).await.ok();
    let words = ["--kubeconfig", own.to_str().unwrap(), "get", "apps", "-o", "name"];
    assert_eq!(run_with(&api, &words, &[]).await.ok(), "app.appm.dev/db\napp.appm.dev/web\n");
    assert!(std::fs::read_to_string(&own).unwrap().contains("name: prod"));
}

#[tokio::test]
async fn a_shell_is_offered_resources_names_and_fields() {
    let api = with_apps().await;
    let offered = async |line: &str| {
        let mut words = vec!["--"];
        words.extend(line.split(' '));
        let index = (words.len() - 2).to_string();
        run_with(&api, &words, &[("APPM_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", &index)]).await.ok()
    };
    assert!(offered("appm get ap").await.lines().any(|l| l == "apps"));
    assert!(offered("appm get app w").await.lines().eq(["web"]));
    assert!(offered("appm delete app/d").await.lines().eq(["app/db"]));
    assert!(offered("appm scale w").await.lines().eq(["web"]));
    assert!(offered("appm get apps -n d").await.lines().eq(["default"]));
    assert!(offered("appm explain app.spec.repl").await.lines().eq(["app.spec.replicas"]));
    assert!(offered("appm get apps -o custom-columns").await.contains("custom-columns="));
    assert!(offered("appm get nonsense x").await.trim().is_empty());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run_with(&api, &words_of(&format!("completion {shell}")), &[]).await.ok();
        assert!(script.contains("APPM_COMPLETE"), "{shell}: {script}");
    }
}

#[test]
fn how_much_a_running_server_logs_can_be_changed() {
    let mut world = World::new();
    world.set_env("APPM_LOG", "warn");
    world.start();
    let level = |args: &[&str]| world.command(&[&["server", "log-level"], args].concat());
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(said(&level(&[])), "warn");
    let rotate = || assert!(world.command(&["secrets", "rotate-key"]).status.success());
    rotate();
    assert!(!world.stderr().contains("a new key"), "{}", world.stderr());
    assert_eq!(said(&level(&["info"])), "info");
    rotate();
    wait_for("more to be logged", || match world.stderr().contains("a new key") {
        true => Ok(()),
        false => Err(world.stderr()),
    });
    let refused = level(&["loud"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no log level"));
    assert_eq!(said(&level(&[])), "info");
}
