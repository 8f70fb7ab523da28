//! `appm workflow`: what can be done without anything being run.

use super::{appm, appm_with, run};
use crate::api::Api;

const RELEASE: &str = "\
name: release
on:
  manual:
    inputs:
      env: {type: choice, options: [staging, prod], required: true, description: where to}
      note: {type: string, default: none}
jobs:
  build: {steps: [{run: make}]}
  deploy: {needs: build, if: inputs.env == 'prod', steps: [{run: ./deploy}]}
";

#[tokio::test]
async fn workflows_are_linted_added_listed_read_drawn_and_removed() {
    let api = Api::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("release.yaml");
    std::fs::write(&file, RELEASE).unwrap();
    let path = file.display().to_string();
    assert!(run(api.dir.path(), &["workflow", "lint", &path], "").await.ok().contains("1 workflow is"));
    assert_eq!(
        run(api.dir.path(), &["workflow", "add", "-f", &path], "").await.ok(),
        "workflow.appm.dev/release applied\n"
    );
    let listed = appm(&api, "workflow ls").await.ok();
    assert!(listed.lines().nth(1).unwrap().starts_with("default"), "{listed}");
    assert!(listed.contains("release") && listed.contains('2'), "{listed}");
    assert_eq!(appm(&api, "workflow get release -o json").await.json()["spec"]["jobs"]["deploy"]["needs"], "build");
    let inputs = appm(&api, "workflow inputs release").await.ok();
    assert!(inputs.contains("staging|prod") && inputs.contains("where to"), "{inputs}");
    let drawn = appm(&api, "workflow graph release -o mermaid").await.ok();
    assert!(drawn.contains("build") && drawn.contains("-->"), "{drawn}");
    assert!(appm(&api, "workflow graph release -o dot").await.ok().contains("digraph"));
    assert_eq!(appm(&api, "workflow rm release").await.ok(), "workflow.appm.dev/release deleted\n");
    appm(&api, "workflow get release").await.fails(3);
}

#[tokio::test]
async fn the_words_of_app_mesh_are_understood_and_a_run_of_another_workflow_is_not_found() {
    let api = Api::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("release.yaml");
    std::fs::write(&file, RELEASE).unwrap();
    run(api.dir.path(), &["wf", "add", "--file", &file.display().to_string()], "").await.ok();
    assert!(appm(&api, "wf list").await.ok().contains("release"));
    appm(&api, "wf run release -e env=prod --name first").await.ok();
    assert!(appm(&api, "wf detail -w release first").await.ok().starts_with("first of release"));
    for verb in ["detail", "logs", "rerun", "cancel", "output -j build -s step-1"] {
        let said = appm(&api, &format!("wf {verb} -w other first")).await.fails(3);
        assert!(said.contains("is of the workflow `release`, not of `other`"), "{said}");
    }
    assert!(appm(&api, "wf cancel -w release first").await.ok().contains("cancelled"));
    assert_eq!(appm(&api, "wf remove release").await.ok(), "workflow.appm.dev/release deleted\n");
}

#[tokio::test]
async fn what_is_wrong_with_a_workflow_is_said_with_its_place_and_nothing_is_applied() {
    let api = Api::start().await;
    let bad = RELEASE.replace("needs: build", "needs: biuld").replace("run: make", "run: 'echo ${{ inputs.note }}'");
    let said = appm_with(&api, "workflow lint -", &bad).await.fails(4);
    assert!(said.contains("biuld") && said.contains("build") && said.contains(":9:"), "{said}");
    assert!(said.contains("inputs.note") && said.contains("2 mistakes"), "{said}");
    let said = appm_with(&api, "workflow add -f -", &bad).await.fails(4);
    assert!(said.contains("nothing was applied"), "{said}");
    assert_eq!(appm(&api, "workflow ls -o name").await.ok(), "");
}

#[tokio::test]
async fn an_expression_is_evaluated_and_an_if_says_which_part_of_it_is_false() {
    let api = Api::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("contexts.yaml");
    std::fs::write(&file, "inputs: {env: staging}\nneeds: {build: {result: success}}\n").unwrap();
    let contexts = file.display().to_string();
    let eval = async |words: &[&str]| {
        run(api.dir.path(), &[&["workflow", "eval", "--contexts", contexts.as_str()], words].concat(), "").await
    };
    assert_eq!(eval(&["format('{0}-{1}', inputs.env, 1)"]).await.ok(), "staging-1\n");
    let said = eval(&["--if", "needs.build.result == 'success' && inputs.env == 'prod'"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("inputs.env == 'prod'") && !said.out.contains("needs.build"), "{said:?}");
    eval(&["inputs.env =="]).await.fails(4);
}
