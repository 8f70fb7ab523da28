//! Real kubectl against the server, with the kubeconfig that the server writes.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::{APPS, Api, app};

/// kubectl with an empty home; its name may be given as `APPM_KUBECTL`.
pub(super) struct Kubectl {
    api: Api,
    home: tempfile::TempDir,
    program: String,
}

impl Kubectl {
    /// `None` where there is no kubectl, except in CI, where nothing may be left out silently.
    pub(super) async fn start() -> Option<Self> {
        let program = std::env::var("APPM_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        let there = Command::new(&program).args(["version", "--client"]).output().await.is_ok();
        if !there {
            assert!(std::env::var_os("CI").is_none(), "there is no kubectl: install kubernetes-client");
            eprintln!("skipped: there is no kubectl");
            return None;
        }
        Some(Self { api: Api::start().await, home: tempfile::tempdir().unwrap(), program })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.api.dir.path().join("kubeconfig"))
            .kill_on_drop(true);
        command
    }

    async fn run_with(&self, args: &[&str], input: &str) -> (bool, String) {
        self.run_as(args, input, &[]).await
    }

    pub(super) async fn run_as(&self, args: &[&str], input: &str, env: &[(&str, &str)]) -> (bool, String) {
        let mut command = self.command(args);
        command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let done = child.wait_with_output().await.unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), text)
    }

    /// The output of a command that must succeed.
    #[track_caller]
    pub(super) fn ok(&self, args: &str, input: Option<&Value>) -> impl Future<Output = String> {
        let words: Vec<&str> = args.split(' ').collect();
        let input = input.map(Value::to_string).unwrap_or_default();
        async move {
            let (fine, text) = self.run_with(&words, &input).await;
            assert!(fine, "kubectl {}: {text}", words.join(" "));
            text
        }
    }

    pub(super) async fn says(&self, args: &str, input: Option<&Value>, expected: &str) {
        let text = self.ok(args, input).await;
        assert!(text.contains(expected), "kubectl {args} says\n{text}\ninstead of\n{expected}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_does_its_daily_work() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.says("version", None, "v1.33.0+appm").await;
    kubectl.says("api-resources", None, "apps").await;
    kubectl.says("get apps", None, "No resources found").await;
    kubectl.says("apply -f -", Some(&app("web")), "app.appm.dev/web created").await;
    kubectl.says("apply -f -", Some(&app("web")), "app.appm.dev/web unchanged").await;
    let table = kubectl.ok("get apps", None).await;
    assert!(table.starts_with("NAME") && table.contains("READY") && table.contains("web"), "{table}");
    kubectl.says("get app web -o name", None, "app.appm.dev/web").await;
    kubectl.says("get apps -A -o wide --show-labels", None, "team=a").await;
    kubectl.says("get all", None, "app.appm.dev/web").await;
    kubectl.says("scale app web --replicas=5", None, "scaled").await;
    kubectl.says("get app web -o jsonpath={.spec.replicas}", None, "5").await;
    kubectl.says("label app web tier=front", None, "labeled").await;
    kubectl.says("annotate app web note=hello", None, "annotate").await;
    kubectl.says("get apps -l tier=front -o name", None, "app.appm.dev/web").await;
    kubectl.says("describe app web", None, "Name:         web").await;
    kubectl.says("explain app.spec.replicas", None, "replicas").await;
    kubectl.says("get --raw /healthz", None, "ok").await;
    kubectl.says("auth can-i create apps.appm.dev", None, "yes").await;
    kubectl.says("create namespace blue", None, "namespace/blue created").await;
    kubectl.says("create -n blue -f -", Some(&app("other")), "app.appm.dev/other created").await;
    kubectl.says("get apps -n blue -o name", None, "app.appm.dev/other").await;
    kubectl.says("delete app web", None, "\"web\" deleted").await;
    let (fine, text) = kubectl.run_with(&["get", "app", "web"], "").await;
    assert!(!fine && text.contains("NotFound"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_applies_on_the_server_and_shows_violations() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.says("apply -f -", Some(&app("web")), "created").await;
    kubectl.says("apply --server-side --force-conflicts -f -", Some(&app("web")), "serverside-applied").await;
    kubectl.says("apply --server-side --force-conflicts -f -", Some(&app("web")), "serverside-applied").await;
    kubectl.says("patch app web --type=merge -p {\"spec\":{\"replicas\":3}}", None, "patched").await;
    let replicas = "[{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":4}]";
    kubectl.says(&format!("patch app web --type=json -p {replicas}"), None, "patched").await;
    let mut changed = app("web");
    changed["spec"]["replicas"] = json!(4);
    kubectl.says("replace -f -", Some(&changed), "replaced").await;
    let mut wrong = app("wrong");
    wrong["spec"]["replicas"] = json!(-1);
    let (fine, text) = kubectl.run_with(&["apply", "-f", "-"], &wrong.to_string()).await;
    assert!(!fine && text.contains("spec.replicas"), "{text}");
    let (fine, text) = kubectl.run_with(&["get", "apps", "--as=bob"], "").await;
    assert!(!fine && text.contains("Forbidden"), "{text}");
}

const STATUS: &str = r#"{"status":{"observedGeneration":1,"conditions":[
    {"type":"Ready","status":"True","reason":"AllReady","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_waits_by_list_and_by_streamed_list() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.api.made("web").await;
    let path = format!("{APPS}/web/status");
    // Waiting and becoming ready overlap, and `kubectl wait` sees it whichever comes first.
    for streamed in ["false", "true"] {
        let (args, env) = (
            ["wait", "--for=condition=Ready", "app/web", "--timeout=30s"],
            [("KUBE_FEATURE_WatchListClient", streamed)],
        );
        let waiting = kubectl.run_as(&args, "", &env);
        let ready = kubectl.api.patch(&path, "application/merge-patch+json", STATUS);
        let ((fine, text), reply) = tokio::join!(waiting, ready);
        reply.expect(200);
        assert!(fine && text.contains("condition met"), "streamed {streamed}: {text}");
        let reset = r#"{"status":{"conditions":null}}"#;
        kubectl.api.patch(&path, "application/merge-patch+json", reset).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_delete_waits_for_finalizers() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let mut held = app("web");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    kubectl.api.post(APPS, &held).await.expect(201);
    let web = format!("{APPS}/web");
    let release = async {
        while kubectl.api.get(&web).await.json()["metadata"]["deletionTimestamp"].is_null() {
            tokio::task::yield_now().await;
        }
        let free = r#"{"metadata":{"finalizers":null}}"#;
        kubectl.api.patch(&web, "application/merge-patch+json", free).await.expect(200);
    };
    let (text, ()) = tokio::join!(kubectl.ok("delete app web --timeout=30s", None), release);
    assert!(text.contains("\"web\" deleted"), "{text}");
    kubectl.api.get(&web).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_watches_a_table() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.api.made("first").await;
    let mut child = kubectl.command(&["get", "apps", "-w"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(next().await.starts_with("NAME"));
    assert!(next().await.starts_with("first "));
    kubectl.api.made("second").await;
    assert!(next().await.starts_with("second "));
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_differences_events_and_fields() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("apply -f -", Some(&app("web"))).await;
    let mut changed = app("web");
    changed["spec"]["replicas"] = json!(9);
    let (same, text) = kubectl.run_with(&["diff", "-f", "-"], &changed.to_string()).await;
    assert!(!same && text.contains("+  replicas: 9"), "{text}");
    kubectl.says("apply --dry-run=server -f -", Some(&changed), "configured (server dry run)").await;
    kubectl.says("get app web -o jsonpath={.spec.replicas}", None, "2").await;
    let uid = kubectl.ok("get app web -o jsonpath={.metadata.uid}", None).await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "web.1"}, "reason": "Started", "message": "it runs",
        "type": "Normal", "count": 1, "lastTimestamp": "2026-01-01T00:00:00Z", "firstTimestamp": "2026-01-01T00:00:00Z",
        "involvedObject": {"kind": "App", "name": "web", "namespace": "default", "apiVersion": "appm.dev/v1", "uid": uid},
    });
    kubectl.api.post("/api/v1/namespaces/default/events", &event).await.expect(201);
    kubectl.says("get events", None, "it runs").await;
    kubectl.says("describe app web", None, "it runs").await;
    kubectl.says("explain app.spec.process.command --api-version=appm.dev/v1", None, "command").await;
    kubectl.says("explain app --recursive", None, "restartPolicy").await;
    kubectl.says("get nodes", None, "No resources found").await;
    kubectl.says("get ns default -o yaml", None, "kind: Namespace").await;
}
