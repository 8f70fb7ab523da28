//! Files that steps keep with their run: fetched by later steps, read by whoever may, and gone with the run.

use std::fs;

use serde_json::{Value, json};

use crate::{
    harness::{World, wait_for},
    manifests::appm,
    workflows::{WORKFLOW_RUNS, WORKFLOWS, find, make, over, states},
};

fn keep(id: &str, with: &Value) -> Value {
    json!({"id": id, "uses": "actions/upload-artifact@v4", "with": with})
}

fn fetch(id: &str, with: &Value) -> Value {
    json!({"id": id, "uses": "actions/download-artifact@v4", "with": with})
}

fn kept(world: &World) -> usize {
    let runs = fs::read_dir(world.data().join("artifacts")).into_iter().flatten();
    runs.filter_map(|run| fs::read_dir(run.ok()?.path()).ok()).map(Iterator::count).sum()
}

#[test]
fn what_a_step_keeps_is_fetched_by_later_jobs_and_by_people_and_goes_with_the_run() {
    let mut world = World::new();
    world.start();
    let api = world.api();
    let spec = json!({"jobs": {
        "build": {
            "strategy": {"matrix": {"os": ["linux", "bsd"]}},
            "steps": [
                {"run": "mkdir -p out/lib; echo ${{ matrix.os }} > out/name; echo lib > out/lib/a.so; echo no > out/x.tmp"},
                keep("keep", &json!({"name": "dist-${{ matrix.os }}", "path": "out\n!**/*.tmp", "retention-days": 1})),
            ],
        },
        "check": {
            "needs": "build",
            "outputs": {"digest": "${{ steps.again.outputs.artifact-digest }}"},
            "steps": [
                fetch("one", &json!({"name": "dist-bsd", "path": "got"})),
                fetch("all", &json!({"pattern": "dist-*", "path": "all"})),
                {"id": "read", "run": "[ $(cat got/name) = bsd ] && [ ! -e got/x.tmp ] && cat all/dist-linux/lib/a.so > report; pwd > where"},
                keep("again", &json!({"name": "report", "path": "report"})),
                keep("taken", &json!({"name": "report", "path": "report"})),
            ],
            "finally": [
                fetch("absent", &json!({"name": "nothing"})),
                keep("empty", &json!({"name": "none", "path": "no/such/*", "if-no-files-found": "error"})),
                keep("warns", &json!({"name": "none", "path": "no/such/*"})),
            ],
        },
    }});
    make(&api, WORKFLOWS, "Workflow", "keeps", &spec);
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "keeps-1", &json!({"workflow": "keeps"}));
    let (_, status) = over(&api, "keeps-1");
    let words = "Failure one:Success all:Success read:Success again:Success taken:Failure absent:Failure empty:Failure warns:Success";
    assert_eq!(states(&status)["check"], words, "{status}");
    let step = |at: usize| status["jobs"]["check"]["steps"][at].clone();
    assert!(step(4)["message"].as_str().unwrap().contains("has kept an artifact `report`"), "{status}");
    assert!(step(5)["message"].as_str().unwrap().starts_with("there is no artifact `nothing`; there is `dist-bsd`"));
    assert_eq!(step(6)["message"], "no file was found with `no/such/*`");
    assert_eq!(step(7)["annotations"][0]["message"], "no file was found with `no/such/*`; nothing is kept");
    let artifacts = status["artifacts"].as_object().unwrap();
    assert_eq!(artifacts.keys().collect::<Vec<_>>(), ["dist-bsd", "dist-linux", "report"]);
    assert!(artifacts["dist-bsd"]["expirationTime"].is_string() && artifacts["report"]["expirationTime"].is_null());
    let digest = artifacts["report"]["digest"].as_str().unwrap();
    assert_eq!(status["jobs"]["check"]["outputs"]["digest"], digest.trim_start_matches("sha256:"));

    world.kill_server();
    world.start();
    let api = world.api();
    let path = format!("{WORKFLOW_RUNS}/keeps-1/artifacts");
    let answer = api.ask("GET", &format!("{path}?artifact=report"), "", b"").unwrap();
    let size = u64::try_from(answer.body.len()).unwrap();
    assert_eq!((answer.is_ok(), Some(size)), (true, artifacts["report"]["size"].as_u64()));
    assert!(answer.body.starts_with(b"report\0"));
    let absent = api.ask("GET", &path, "", b"").unwrap();
    assert!(!absent.is_ok() && String::from_utf8_lossy(&absent.body).contains("say which with `artifact`"));
    let out = tempfile::tempdir().unwrap();
    let dir = out.path().display().to_string();
    let said = appm(&world, &["workflow", "artifacts", "keeps-1"]);
    assert!(said.contains("dist-linux") && said.contains("check / again") && said.contains(digest), "{said}");
    appm(&world, &["workflow", "artifacts", "keeps-1", "-o", &dir]);
    let read = |name: &str| fs::read_to_string(out.path().join(name)).unwrap();
    assert_eq!(
        [read("dist-bsd/name"), read("dist-linux/lib/a.so"), read("report/report")],
        ["bsd\n", "lib\n", "lib\n"]
    );
    appm(&world, &["workflow", "artifacts", "keeps-1", "report", "-o", &format!("{dir}/one")]);
    assert_eq!(read("one/report"), "lib\n");

    // What stays of the earlier run is fetched from there.
    let again = json!({"rerun": {"of": "keeps-1", "from": {"job": "check"}}});
    make(&api, WORKFLOW_RUNS, "WorkflowRun", "keeps-2", &again);
    let (_, status) = over(&api, "keeps-2");
    assert_eq!(states(&status)["check"], words, "{status}");
    assert_eq!(status["artifacts"]["dist-bsd"], artifacts["dist-bsd"], "{status}");
    assert_ne!(status["artifacts"]["report"]["file"], artifacts["report"]["file"], "{status}");
    assert!(kept(&world) >= 4, "two of cells, and the report of each run");
    for name in ["keeps-1", "keeps-2"] {
        assert!(api.ask("DELETE", &format!("{WORKFLOW_RUNS}/{name}"), "", b"").unwrap().is_ok());
    }
    wait_for("the artifacts to go", || match kept(&world) {
        0 => Ok(()),
        left => Err(format!("{left}, {}", find(&api, "keeps-1"))),
    });
}
