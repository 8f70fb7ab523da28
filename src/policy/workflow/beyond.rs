//! What is wrong with a Workflow beyond its form, also where its form is wrong: everything is said at once.
//!
//! What is broken is not judged, nor is what speaks of names that the broken part may have declared; so whatever is said is wrong
//! however that is mended.

use serde::Deserialize;
use serde_json::Value;

use super::check::{Finding, check};
use crate::api::{Problem, Violation, WorkflowSpec};

/// Fields in which names are declared that expressions may speak of.
const DECLARING: &[&str] = &[
    "finally",
    "id",
    "inputs",
    "jobs",
    "manual",
    "matrix",
    "name",
    "on",
    "outputs",
    "spec",
    "steps",
    "strategy",
    "workflow_call",
    "workflow_dispatch",
];

/// Everything that the Workflow alone can tell. `broken` is what is wrong with its form, and `object` is it without that.
pub fn beyond(object: &Value, broken: &[Violation]) -> Vec<Finding> {
    let Ok(spec) = WorkflowSpec::deserialize(&object["spec"]) else { return Vec::new() };
    let mut found = check(&spec);
    if broken.is_empty() {
        return found;
    }
    let broken: Vec<String> = broken.iter().map(|violation| violation.path.to_string()).collect();
    let jobs = broken.iter().any(|path| is_job(path));
    found.retain(|Finding { violation, offset }| {
        let path = violation.path.to_string();
        let follows = |broken: &String| {
            is_within(&path, broken)
                || violation.problem == Problem::Required && is_within(broken, &path)
                || offset.is_some() && declares(broken) && is_read(&spec, &path, broken)
        };
        !(broken.iter().any(follows) || jobs && path.contains(".needs"))
    });
    found
}

/// Whether an expression at a path may speak of names that are declared at another: those of a job are known in it, and what it hands on in those
/// that need it, and to who called.
fn is_read(spec: &WorkflowSpec, path: &str, declared: &str) -> bool {
    let Some((of, field)) = job_of(declared) else { return true };
    let hands_on = matches!(field, "" | "outputs");
    match job_of(path) {
        Some((job, _)) if job == of => true,
        Some((job, _)) => hands_on && spec.jobs.get(job).is_none_or(|job| job.needs.iter().any(|need| need == of)),
        None => hands_on,
    }
}

/// The job to which a path leads, and the field of it.
fn job_of(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("spec.jobs.")?;
    let (job, rest) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
    let field = rest.strip_prefix('.').unwrap_or(rest);
    Some((job, &field[..field.find(['.', '[']).unwrap_or(field.len())]))
}

/// Whether a path is another one, or leads on from it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether names may have been declared there.
fn declares(path: &str) -> bool {
    let fields: Vec<&str> = path.split('.').map(|step| step.split('[').next().unwrap_or_default()).collect();
    let last = fields.last().copied().unwrap_or_default();
    let above = fields.len().checked_sub(2).map_or("", |at| fields[at]);
    // What is within these are names themselves.
    DECLARING.contains(&last) || ["inputs", "jobs", "matrix", "outputs"].contains(&above)
}

/// `spec.jobs`, or a job of it.
fn is_job(path: &str) -> bool {
    path.strip_prefix("spec.jobs").is_some_and(|rest| !rest[rest.len().min(1)..].contains('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{Kind, Workflow, kinds},
        policy::form,
    };

    fn said(spec: Value) -> Vec<String> {
        let object = json!({"apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": spec});
        let served = kinds::find_served("appm.dev/v1", Workflow::INFO.kind).expect("a kind");
        let (broken, rest) = form::of(served).judge(served.kind, &object, None);
        let beyond = beyond(rest.as_ref().unwrap_or(&object), &broken);
        let beyond = beyond.into_iter().map(|found| format!("beyond {}", found.violation.path));
        let mut said: Vec<String> =
            broken.into_iter().map(|violation| violation.path.to_string()).chain(beyond).collect();
        said.sort();
        said.dedup();
        said
    }

    #[test]
    fn what_is_wrong_beyond_the_form_is_said_although_the_form_is_wrong() {
        let found = said(json!({"jobs": {
            "a": {"needs": ["x"], "timeout-minutes": {}, "steps": [{"run": 5, "if": "${{ x }} == 1"}, {"run": "a", "retry": {"max": "many"}}]},
            "b": {"if": "inputs.who ==", "steps": [{"name": "c", "message": {"payload": "x"}}, {"id": "d", "run": "${{ inputs.no }}"}]},
        }}));
        let expected = [
            "beyond spec.jobs.a.needs[0]",
            "beyond spec.jobs.a.steps[0].if",
            "beyond spec.jobs.b.if",
            "beyond spec.jobs.b.steps[1].run",
            "spec.jobs.a.steps[0].run",
            "spec.jobs.a.steps[1].retry.max",
            "spec.jobs.a.timeout-minutes",
            "spec.jobs.b.steps[0].message.app",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_broken_in_a_job_hides_no_mistake_of_another() {
        for broken in [
            json!({"steps": {}}),
            json!({"steps": ["echo"]}),
            json!({"strategy": {"matrix": []}, "steps": [{"run": "true"}]}),
            json!({"outputs": [], "steps": [{"run": "true"}]}),
            json!(5),
        ] {
            let found = said(json!({"jobs": {
                "a": broken,
                "b": {"steps": [{"run": "${{ steps.x.outputs.y }}"}]},
                "c": {"needs": "b", "if": "needs.b.outputs.no == 'x'", "steps": [{"run": "true"}]},
            }}));
            let of_others = |path: &&str| !path.starts_with("spec.jobs.a");
            let beyond = found.iter().filter_map(|path| path.strip_prefix("beyond ")).filter(of_others);
            let beyond: Vec<&str> = beyond.collect();
            assert_eq!(beyond, ["spec.jobs.b.steps[0].run", "spec.jobs.c.if"], "{broken}: {found:?}");
            assert!(found.len() > beyond.len(), "{broken}");
        }
    }

    #[test]
    fn what_only_follows_from_a_broken_part_is_not_said() {
        let rows = [
            json!({"jobs": {"a": {"steps": {}, "outputs": {"x": "${{ steps.s.outputs.x }}"}}}}),
            json!({"jobs": {"a": {"steps": ["echo"], "outputs": {"x": "${{ steps.s.outputs.x }}"}}}}),
            json!({"jobs": {"a": 5, "b": {"needs": "a", "steps": [{"run": "true"}]}}}),
            json!({"jobs": {"a": {"outputs": ["x"], "steps": [{"run": "true"}]}, "b": {"needs": "a", "if": "needs.a.outputs.x", "steps": [{"run": "true"}]}}}),
            json!({"on": {"workflow_call": {"outputs": {"x": {"value": "${{ jobs.a.outputs.x }}"}}}}, "jobs": {"a": {"outputs": ["x"], "steps": [{"run": "true"}]}}}),
            json!({"on": {"manual": {"inputs": ["who"]}}, "jobs": {"a": {"if": "inputs.who == 'x'", "steps": [{"run": "true"}]}}}),
        ];
        for spec in rows {
            let found = said(spec.clone());
            assert!(!found.is_empty() && !found.iter().any(|path| path.starts_with("beyond")), "{spec}: {found:?}");
        }
    }
}
