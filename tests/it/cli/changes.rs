//! `appm patch`, `label`, `annotate`, `edit`.

use super::{appm, run_with, words_of};
use crate::{api::Api, cli::objects::with_apps};

#[tokio::test]
async fn fields_are_patched_in_every_dialect() {
    let api = with_apps().await;
    assert_eq!(appm(&api, "patch app web -p {\"spec\":{\"replicas\":3}}").await.ok(), "app.appm.dev/web patched\n");
    assert_eq!(
        appm(&api, "patch app/web -p {\"spec\":{\"replicas\":3}}").await.ok(),
        "app.appm.dev/web patched (no change)\n"
    );
    let json = "patch app web --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":4}] -o json";
    assert_eq!(appm(&api, json).await.json()["spec"]["replicas"], 4);
    let words =
        ["patch", "app", "web", "-p", "spec: {replicas: 5}", "--dry-run=server", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(run_with(&api, &words, &[]).await.ok(), "5\n");
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok(), "4\n");
    let all = appm(&api, "patch apps --all -p {\"spec\":{\"replicas\":1}} -o name").await.ok();
    assert_eq!(all, "app.appm.dev/db\napp.appm.dev/web\n");
    let said = appm(&api, "patch app web -p {\"spec\":{\"replica\":1,\"restartPolicy\":\"x\"}}").await.fails(4);
    assert!(said.contains("spec.replica") && said.contains("spec.restartPolicy"), "{said}");
    appm(&api, "patch app web -p [1]").await.fails(4);
    assert!(appm(&api, "patch app wbe -p {}").await.fails(3).contains("did you mean `web`?"));
    appm(&api, "patch app web").await.fails(2);
}

#[tokio::test]
async fn labels_and_annotations_are_set_removed_and_never_overwritten_by_accident() {
    let api = with_apps().await;
    assert_eq!(appm(&api, "label app web team=a x/y=1").await.ok(), "app.appm.dev/web labeled\n");
    assert_eq!(appm(&api, "label app web team=a").await.ok(), "app.appm.dev/web not labeled (no change)\n");
    let said = appm(&api, "label app web team=b").await.fails(7);
    assert!(said.contains("`team` with another value: `a`") && said.contains("--overwrite"), "{said}");
    appm(&api, "label app web team=b x/y- --overwrite").await.ok();
    assert_eq!(appm(&api, "label app/web --list").await.ok(), "tier=front\nteam=b\n");
    appm(&api, "label apps --all team=c --overwrite --dry-run=server").await.ok();
    assert_eq!(appm(&api, "get apps -l team=b -o name").await.ok(), "app.appm.dev/web\n");
    assert_eq!(appm(&api, "annotate apps -l tier=back note=hi -o name").await.ok(), "app.appm.dev/db\n");
    assert_eq!(appm(&api, "get app db -o jsonpath={.metadata.annotations.note}").await.ok(), "hi\n");
    appm(&api, "label app web").await.fails(2);
    appm(&api, "label app web bad/label/key=x").await.fails(4);
}

async fn edit(api: &Api, line: &str, editor: &str) -> super::Said {
    run_with(api, &words_of(line), &[("APPM_EDITOR", editor), ("TMPDIR", api.dir.path().to_str().unwrap())]).await
}

#[tokio::test]
async fn an_object_is_edited_in_the_editor_of_the_environment() {
    let api = with_apps().await;
    appm(&api, "scale app/web --replicas=2").await.ok();
    let said = edit(&api, "edit app web", "sed -i 's/replicas: 2/replicas: 7/'").await;
    assert_eq!(said.ok(), "app.appm.dev/web edited\n");
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok(), "7\n");
    let same = edit(&api, "edit app web", "true").await;
    assert!(same.err.contains("no change") && same.code == 0, "{same:?}");
    let both = edit(&api, "edit app web db -o json", "sed -i 's/\"sleep\"/\"cat\"/'").await.ok();
    assert_eq!(both, "app.appm.dev/web edited\napp.appm.dev/db edited\n");
    assert_eq!(appm(&api, "get app db -o jsonpath={.spec.process.command[0]}").await.ok(), "cat\n");
    assert!(edit(&api, "edit app web", "false").await.fails(1).contains("EDITOR"));
    let drafts = std::fs::read_dir(api.dir.path()).unwrap().flatten();
    let left: Vec<_> = drafts.filter(|d| d.file_name().to_string_lossy().starts_with("appm-edit")).collect();
    assert_eq!(left.len(), 1, "only the draft of the editor that failed: {left:?}");
}

#[tokio::test]
async fn mistakes_of_an_edit_are_shown_in_the_editor_and_the_draft_is_kept() {
    let api = with_apps().await;
    appm(&api, "scale app/web --replicas=2").await.ok();
    // Wrong at first; the second time it looks for what it was told, and mends it.
    let mends =
        "sed -i -e '/# .*replicas/s/^/# seen/' -e 's/replicas: many/replicas: 4/' -e 's/replicas: 2/replicas: many/'";
    assert_eq!(edit(&api, "edit app web", mends).await.ok(), "app.appm.dev/web edited\n");
    assert_eq!(appm(&api, "get app web -o jsonpath={.spec.replicas}").await.ok(), "4\n");
    let stubborn = "sed -i 's/replicas: 4/replicas: many/'";
    let said = edit(&api, "edit app web", stubborn).await.fails(4);
    assert!(said.contains("spec.replicas"), "{said}");
    let path = said.rsplit_once("what was written is in ").unwrap().1.trim();
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(kept.contains("replicas: many") && kept.contains("#   "), "{kept}");
}
