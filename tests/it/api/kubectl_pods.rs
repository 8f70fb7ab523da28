//! What runs, through real kubectl: a whole appm with real processes, shown as Pods.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{World, app, wait_for};

/// kubectl with an empty home, for a world whose server runs.
struct Kubectl {
    world: World,
    home: tempfile::TempDir,
    program: String,
}

impl Kubectl {
    /// `None` where there is no kubectl, except in CI, where nothing may be left out silently.
    fn start() -> Option<Self> {
        let program = std::env::var("APPM_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
        if Command::new(&program).args(["version", "--client"]).output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "there is no kubectl: install kubernetes-client");
            eprintln!("skipped: there is no kubectl");
            return None;
        }
        let mut world = World::new();
        world.start();
        Some(Self { world, home: tempfile::tempdir().unwrap(), program })
    }

    /// What a command says, and whether it succeeded.
    fn run(&self, args: &str) -> (bool, String) {
        let mut command = Command::new(&self.program);
        command.args(args.split(' ')).stdin(Stdio::null()).env("HOME", self.home.path());
        let done = command.env("KUBECONFIG", self.world.data().join("kubeconfig")).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), text)
    }

    #[track_caller]
    fn ok(&self, args: &str) -> String {
        let (fine, text) = self.run(args);
        assert!(fine, "kubectl {args}: {text}");
        text
    }

    #[track_caller]
    fn says(&self, args: &str, expected: &str) {
        let text = self.ok(args);
        assert!(text.contains(expected), "kubectl {args} says\n{text}\ninstead of\n{expected}");
    }

    #[track_caller]
    fn refuses(&self, args: &str, expected: &str) {
        let (fine, text) = self.run(args);
        assert!(!fine && text.contains(expected), "kubectl {args} says\n{text}\ninstead of\n{expected}");
    }

    fn apply(&self, app: &Value) {
        assert!(self.world.api().apply(app).unwrap().is_ok());
    }

    /// The one Pod of an App, when it prints this.
    fn pod(&self, name: &str, words: &[&str]) -> String {
        wait_for(&format!("the pod of {name} to be {words:?}"), || {
            let text = self.ok(&format!("get pods -l appm.dev/app={name} --no-headers"));
            let there = words.iter().all(|word| text.contains(word));
            let pod = text.split_whitespace().next().filter(|_| there).map(str::to_owned);
            pod.ok_or(text)
        })
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        self.world.kill_everything();
    }
}

#[test]
fn kubectl_shows_what_runs_and_what_it_prints() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.apply(&app(&kubectl.world, "web", 1, "echo one; echo two; echo three; exec sleep 1000"));
    let web = kubectl.pod("web", &["1/1", "Running"]);
    kubectl.says("get pods -A -o wide", "NOMINATED NODE   READINESS GATES");
    kubectl.says("get all", &format!("pod/{web}"));
    kubectl.says(&format!("get pod {web} -o jsonpath={{.status.phase}}"), "Running");
    kubectl
        .says("get pods --field-selector=status.phase=Running,status.podIP=127.0.0.1 -o name", &format!("pod/{web}"));
    kubectl.refuses("get pods --field-selector=spec.unknown=1", "field label not supported: spec.unknown");
    kubectl.says(&format!("wait --for=condition=Ready pod/{web} --timeout=30s"), "condition met");
    let described = kubectl.ok(&format!("describe pod {web}"));
    for line in ["Controlled By:  App/web", "PROOF_ROOT:  ", "Restart Count:  0", "Started the process"] {
        assert!(described.contains(line), "{line} is not in\n{described}");
    }
    wait_for("the output", || match kubectl.ok(&format!("logs {web}")) {
        text if text == "one\ntwo\nthree\n" => Ok(()),
        text => Err(text),
    });
    assert_eq!(kubectl.ok(&format!("logs {web} --tail=1")), "three\n");
    assert_eq!(kubectl.ok(&format!("logs {web} --tail=0")), "");
    assert_eq!(kubectl.ok(&format!("logs {web} -c web --limit-bytes=5")), "one\nt");
    kubectl.says(&format!("logs {web} --timestamps --tail=1"), "Z three\n");
    kubectl.says("logs -l appm.dev/app=web --prefix --tail=1", &format!("[pod/{web}/web] three"));
    kubectl.refuses(&format!("logs {web} -c other"), "container other is not valid for pod");
    kubectl.refuses(&format!("logs {web} --previous"), "previous terminated container \"web\" in pod");
    kubectl.refuses("logs nobody", "pods \"nobody\" not found");
    kubectl.refuses(&format!("label pod {web} a=b"), "MethodNotAllowed");
    kubectl.says("auth can-i get pods/log", "yes");
    kubectl.says("explain pod.status.containerStatuses.state.terminated", "exitCode");
}

#[test]
fn a_followed_log_ends_with_its_pod_and_has_all_of_it() {
    let Some(kubectl) = Kubectl::start() else { return };
    let mut once = app(
        &kubectl.world,
        "once",
        1,
        "echo first; while [ ! -e \"$PROOF_ROOT/go\" ]; do sleep 0.05; done; printf last",
    );
    once["spec"]["restartPolicy"] = json!("Never");
    kubectl.apply(&once);
    let pod = kubectl.pod("once", &["Running"]);
    std::thread::scope(|scope| {
        let followed = scope.spawn(|| kubectl.ok(&format!("logs -f {pod}")));
        std::fs::write(kubectl.world.root().join("go"), "").unwrap();
        assert_eq!(followed.join().unwrap(), "first\nlast");
    });
    kubectl.pod("once", &["0/1", "Completed"]);
    assert_eq!(kubectl.ok(&format!("logs {pod}")), "first\nlast");
    assert_eq!(kubectl.ok(&format!("logs -f {pod}")), "first\nlast");
}

#[test]
fn a_crash_shows_in_words_that_kubectl_users_know() {
    let Some(kubectl) = Kubectl::start() else { return };
    let mut crash = app(&kubectl.world, "crash", 1, "echo attempt $APPM_ATTEMPT; exit 3");
    crash["spec"]["restart"] = json!({"backoff": {"initial": "1h", "max": "1h"}});
    kubectl.apply(&crash);
    let pod = kubectl.pod("crash", &["0/1", "CrashLoopBackOff", " ago)"]);
    let exit = "{.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_eq!(kubectl.ok(&format!("get pod {pod} -o jsonpath={exit}")), "3");
    let log = kubectl.ok(&format!("logs {pod}"));
    assert!(log.starts_with("attempt "), "{log}");
    assert_eq!(kubectl.ok(&format!("logs {pod} --previous")), log);
    crash["spec"]["restart"] = json!({});
    crash["spec"]["restartPolicy"] = json!("Never");
    crash["metadata"]["name"] = json!("fail");
    kubectl.apply(&crash);
    kubectl.pod("fail", &["0/1", "Error"]);
}

#[test]
fn a_deleted_pod_is_replaced() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.apply(&app(&kubectl.world, "web", 1, "exec sleep 1000"));
    let web = kubectl.pod("web", &["Running"]);
    let uid = || kubectl.ok(&format!("get pod {web} -o jsonpath={{.metadata.uid}}"));
    for how in ["", " --now", " --force --grace-period=0"] {
        let before = uid();
        kubectl.says(&format!("delete pod {web}{how}"), "deleted");
        kubectl.pod("web", &["1/1", "Running"]);
        let other = wait_for("another one", || Some(uid()).filter(|now| *now != before).ok_or(before.clone()));
        assert_ne!(other, before);
    }
}

#[test]
fn kubectl_finds_definitions_nodes_and_the_control_plane() {
    let Some(kubectl) = Kubectl::start() else { return };
    kubectl.says("get crd -o name", "customresourcedefinition.apiextensions.k8s.io/apps.appm.dev");
    kubectl.says("wait --for=condition=Established crd/apps.appm.dev --timeout=30s", "condition met");
    kubectl.says("describe crd apps.appm.dev", "Label Selector Path:");
    let replicas = "{.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.replicas.type}";
    assert_eq!(kubectl.ok(&format!("get crd apps.appm.dev -o jsonpath={replicas}")), "integer");
    kubectl.refuses("delete crd apps.appm.dev", "MethodNotAllowed");
    kubectl.says("get svc", "kubernetes");
    kubectl.says("cluster-info", "is running at");
    kubectl.says("get nodes -o wide", "INTERNAL-IP");
    kubectl.says("describe nodes", "Allocatable:");
    kubectl.says("api-resources --verbs=list --namespaced -o wide", "pods");
    kubectl.says("api-versions", "apiextensions.k8s.io/v1");
}
