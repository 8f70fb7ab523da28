//! Workflows and their runs in the shapes of App Mesh's engine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::{
    COMPLETE, Condition, GoDuration, JobStatus, OWNER, Object, RUN_FAILED, StepStatus, Time, WorkState, Workflow,
    WorkflowInput, WorkflowRun, WorkflowRunStatus,
};

/// The engine's word for how a run goes.
pub(super) fn word(status: &WorkflowRunStatus) -> &'static str {
    let failed = || Condition::find(&status.conditions, RUN_FAILED).map(|failed| failed.reason.as_str());
    match () {
        () if Condition::holds(&status.conditions, COMPLETE) => "success",
        () if status.is_over() && failed() == Some("Canceled") => "cancelled",
        () if status.is_over() => "failure",
        () if status.start_time.is_some() => "running",
        () => "pending",
    }
}

/// One line of the list of Workflows.
pub(super) fn listed(workflow: &Object<Workflow>) -> Value {
    let (meta, last) = (&workflow.metadata, workflow.status.last_run.as_ref());
    json!({
        "name": meta.name, "owner": meta.annotations.get(OWNER).unwrap_or_default(),
        "last_run_status": last.map_or("", |last| last.state.word()),
        "last_run_at": last.and_then(|last| last.start_time).map_or_else(String::new, |at| at.to_string()),
    })
}

/// What a run of a Workflow is told, with the names that the engine's own type has.
pub(super) fn inputs(asked: &BTreeMap<String, WorkflowInput>) -> Value {
    let shown = asked.iter().map(|(name, input)| {
        let default = input.default.as_ref().map_or_else(String::new, text);
        let shown = json!({
            "Type": input.kind, "Required": input.required, "Default": default, "Description": input.description,
        });
        (name.clone(), shown)
    });
    Value::Object(shown.collect())
}

/// A text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One line of the list of runs.
pub(super) fn run(run: &Object<WorkflowRun>, now: Timestamp) -> Value {
    let (spec, status) = (&run.spec, &run.status);
    let told: Map<String, Value> = spec.inputs.iter().map(|(name, value)| (name.clone(), json!(text(value)))).collect();
    let lasted = status.start_time.map(|start| status.completion_time.map_or(now, |end| end.0).duration_since(start.0));
    let lasted =
        lasted.and_then(|lasted| lasted.try_into().ok()).map_or_else(String::new, |d| GoDuration(d).to_string());
    json!({
        "run_id": run.metadata.name, "workflow": spec.workflow, "status": word(status), "source": spec.event.name.word(),
        "actor": spec.identity, "started_at": time(status.start_time), "duration": lasted, "inputs": told,
    })
}

/// All of a run. `printed`: what steps wrote on standard output, by job and step.
pub(super) fn detail(of: &Object<WorkflowRun>, printed: &BTreeMap<(String, String), String>, now: Timestamp) -> Value {
    let jobs = of.status.jobs.iter().map(|(name, job)| {
        let steps = job.steps.iter().map(|step| {
            let stdout = printed.get(&(name.clone(), step.id.clone())).map_or("", String::as_str);
            let shown = json!({
                "stdout": stdout, "exit_code": step.exit_code.unwrap_or(0), "status": state(step.state),
                "response": step.outputs.get("response").map_or("", String::as_str), "outputs": step.outputs,
            });
            (step.id.clone(), shown)
        });
        let shown = json!({
            "status": state(job.state), "node": job.node, "finished_at": time(job.completion_time),
            "steps": steps.collect::<Map<String, Value>>(),
        });
        (name.clone(), shown)
    });
    let jobs: Map<String, Value> = jobs.collect();
    let mut all = run(of, now);
    all["jobs"] = Value::Object(jobs);
    all
}

fn state(state: WorkState) -> &'static str {
    state.word()
}

fn time(at: Option<Time>) -> String {
    at.map_or_else(String::new, |at| at.to_string())
}

/// What happened in a run, a line each, in order.
pub(super) fn flow(run: &Object<WorkflowRun>) -> String {
    let (name, id, status) = (&run.spec.workflow, &run.metadata.name, &run.status);
    let mut lines: Vec<(Timestamp, String)> = Vec::new();
    let mut line = |at: Option<Time>, text: String| lines.extend(at.map(|at| (at.0, text)));
    line(status.start_time, format!("WORKFLOW {name} RUN {id} STARTED"));
    for (key, job) in &status.jobs {
        line(job.start_time, format!("JOB {key} STARTED"));
        job.steps.iter().for_each(|step| of_step(key, step, &mut line));
        line(job.completion_time.filter(|_| job.state.is_over()), ended("JOB", key, job));
    }
    if status.is_over() {
        line(status.completion_time, format!("WORKFLOW {name} RUN {id} {}", word(status).to_ascii_uppercase()));
    }
    // Of one second they stay as they are.
    lines.sort_by_key(|(at, _)| *at);
    let shown = |(at, text): &(Timestamp, String)| format!("[{}] {text}\n", at.strftime("%Y-%m-%d %H:%M:%S"));
    lines.iter().map(shown).collect()
}

fn of_step(job: &str, step: &StepStatus, line: &mut impl FnMut(Option<Time>, String)) {
    line(step.start_time, format!("STEP {job}/{} STARTED", step.id));
    let code = step.exit_code.map_or_else(String::new, |code| format!(" exit_code={code}"));
    let word = step.state.word().to_ascii_uppercase();
    line(step.completion_time, format!("STEP {job}/{} {word}{code}", step.id));
}

fn ended(what: &str, key: &str, job: &JobStatus) -> String {
    let why = if job.message.is_empty() { String::new() } else { format!(": {}", job.message) };
    format!("{what} {key} {}{why}", job.state.word().to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_as_app_mesh_tells_it() {
        let at = |second: u32| format!("2026-11-22T08:00:{second:02}Z");
        let object: Object<WorkflowRun> = serde_json::from_value(json!({
            "apiVersion": "appm.dev/v1", "kind": "WorkflowRun", "metadata": {"name": "release-x", "namespace": "default"},
            "spec": {"workflow": "release", "inputs": {"n": 3, "env": "prod"}, "identity": "ada"},
            "status": {
                "startTime": at(0), "completionTime": at(5),
                "jobs": {"build": {"state": "Failure", "startTime": at(0), "completionTime": at(5), "message": "step `pack` failed", "steps": [
                    {"id": "ask", "state": "Success", "startTime": at(0), "completionTime": at(1), "outputs": {"response": "4"}},
                    {"id": "pack", "state": "Failure", "exitCode": 3, "startTime": at(1), "completionTime": at(5)},
                ]}},
                "conditions": [{"type": "Failed", "status": "True", "reason": "Failure", "message": "", "lastTransitionTime": at(5)}],
            },
        }))
        .expect("a run");
        let now = at(9).parse().expect("a time");
        let printed = BTreeMap::from([(("build".to_owned(), "pack".to_owned()), "no\n".to_owned())]);
        let step = |stdout: &str, code: i32, status: &str, response: &str, outputs: Value| json!({"stdout": stdout, "exit_code": code, "status": status, "response": response, "outputs": outputs});
        let steps = json!({
            "ask": step("", 0, "success", "4", json!({"response": "4"})),
            "pack": step("no\n", 3, "failure", "", json!({})),
        });
        let jobs = json!({"build": {"status": "failure", "node": "", "finished_at": at(5), "steps": steps}});
        let expected = json!({
            "run_id": "release-x", "workflow": "release", "status": "failure", "source": "manual", "actor": "ada",
            "started_at": at(0), "duration": "5s", "inputs": {"n": "3", "env": "prod"}, "jobs": jobs,
        });
        assert_eq!(detail(&object, &printed, now), expected);
        let expected = "[2026-11-22 08:00:00] WORKFLOW release RUN release-x STARTED\n\
            [2026-11-22 08:00:00] JOB build STARTED\n\
            [2026-11-22 08:00:00] STEP build/ask STARTED\n\
            [2026-11-22 08:00:01] STEP build/ask SUCCESS\n\
            [2026-11-22 08:00:01] STEP build/pack STARTED\n\
            [2026-11-22 08:00:05] STEP build/pack FAILURE exit_code=3\n\
            [2026-11-22 08:00:05] JOB build FAILURE: step `pack` failed\n\
            [2026-11-22 08:00:05] WORKFLOW release RUN release-x FAILURE\n";
        assert_eq!(flow(&object), expected);
    }
}
