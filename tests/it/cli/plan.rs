//! `appm plan`, `apply --confirm`, `apply --plan`: every change is seen before it is made.

use std::os::unix::fs::PermissionsExt as _;

use super::{appm, appm_with, run, words_of};
use crate::api::Api;

const WEB: &str = "\
apiVersion: appm.dev/v1
kind: App
metadata: {name: web}
spec:
  replicas: 1
  process: {command: [sleep, '1000']}
";

#[tokio::test]
async fn a_plan_is_shown_kept_and_done_as_it_was_shown_or_not_at_all() {
    let api = Api::start().await;
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("web.yaml");
    std::fs::write(&manifest, WEB).unwrap();
    let kept = folder.path().join("web.plan");
    let (manifest, kept) = (manifest.display().to_string(), kept.display().to_string());

    let shown = appm(&api, &format!("plan -f {manifest} --out {kept}")).await.ok();
    assert!(shown.contains("+ app/web in default is created"), "{shown}");
    assert!(shown.contains("1 to create"), "{shown}");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    appm(&api, "get app web").await.fails(3);
    appm(&api, &format!("plan -f {manifest} --detailed-exitcode")).await.fails(2);
    assert_eq!(appm(&api, &format!("apply --plan {kept}")).await.ok(), "app.appm.dev/web created\n");
    let idle = appm(&api, &format!("plan -f {manifest} --detailed-exitcode")).await.ok();
    assert_eq!(idle, "Nothing to do (1 unchanged).\n");
    // It was planned for a world without that App.
    let said = appm(&api, &format!("apply --plan {kept}")).await.fails(7);
    assert!(said.contains("app/web in default: it was to be created, and would now be unchanged"), "{said}");

    std::fs::write(&manifest, WEB.replace("replicas: 1", "replicas: 3")).unwrap();
    let more = appm(&api, &format!("plan -f {manifest} --out {kept}")).await.ok();
    assert!(more.contains("~ spec.replicas  1 → 3"), "{more}");
    appm(&api, "scale app/web --replicas=2").await.ok();
    let said = appm(&api, &format!("apply --plan {kept}")).await;
    assert_eq!(said.code, 7, "{said:?}");
    assert!(said.err.contains("spec.replicas"), "{}", said.err);
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok(), "2\n");
    appm(&api, "plan -f /nonexistent.yaml --detailed-exitcode").await.fails(1);
}

#[tokio::test]
async fn whoever_confirms_gets_what_was_shown_and_without_a_terminal_nothing_is_done() {
    let api = Api::start().await;
    let said = run(api.dir.path(), &words_of("apply -f - --confirm --yes"), WEB).await.ok();
    assert!(said.contains("is created") && said.ends_with("app.appm.dev/web created\n"), "{said}");
    let again = appm_with(&api, "apply -f - --confirm --yes", WEB).await.ok();
    assert_eq!(again, "Nothing to do (1 unchanged).\n");
    let json = appm_with(&api, "plan -f - -o json", &WEB.replace("1000", "2000")).await.json();
    assert_eq!((json["kind"].as_str(), json["objects"][0]["change"].as_str()), (Some("Plan"), Some("Changed")));
    assert_eq!(appm_with(&api, "plan -f - -o name", &WEB.replace("1000", "2000")).await.ok(), "app.appm.dev/web\n");
}

#[tokio::test]
async fn what_is_wrong_with_manifests_is_told_where_it_is_written() {
    let api = Api::start().await;
    let said = appm_with(&api, "plan -f -", &WEB.replace("replicas", "replica")).await.fails(4);
    assert!(said.contains("<stdin>:5:3: spec.replica"), "{said}");
    let said = appm(&api, "apply --plan /dev/null").await.fails(4);
    assert!(said.contains("is no plan"), "{said}");
    appm(&api, "apply --plan x --confirm").await.fails(2);
    appm(&api, "apply --yes -f x").await.fails(2);
}
