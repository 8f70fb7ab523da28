//! `appm workflow graph`: which job waits for which, as text, and for what draws: DOT, Mermaid.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::super::{
    context::{Context, served},
    error::{CliError, Exit},
    screen,
};
use crate::{
    api::{JobStatus, Workflow, WorkflowJob, WorkflowRunStatus, WorkflowSpec, WorkflowStep, step_by_number},
    policy::manifest,
};

/// Show which job waits for which
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm workflow graph release
  appm workflow graph release --steps
  appm workflow graph -f release.yaml -o mermaid      needs no server
  appm workflow graph release -o dot | dot -Tsvg > release.svg")]
pub(super) struct GraphArgs {
    /// The Workflow
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// Read it from this file; of several Workflows the first, or the one that is named
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What to write
    #[arg(short, long, value_enum, default_value_t)]
    output: Shape,
    /// Steps, too; with text
    #[arg(long)]
    steps: bool,
}

/// A way to write a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Shape {
    #[default]
    Text,
    Dot,
    Mermaid,
}

impl GraphArgs {
    /// Whether no server is asked.
    pub(super) fn is_of_a_file(&self) -> bool {
        self.file.is_some()
    }
}

/// Of a file.
pub(super) fn of_file(args: &GraphArgs) -> Result<(), CliError> {
    let file = args.file.as_ref().expect("asked before");
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|e| CliError::io(&format!("cannot read {shown}"), &e))?;
    let documents = manifest::read(&text).documents;
    let named = |object: &Value| args.name.as_deref().is_none_or(|name| object["metadata"]["name"] == name);
    let found =
        documents.iter().map(manifest::Document::value).find(|object| object["kind"] == "Workflow" && named(object));
    let Some(object) = found else {
        return Err(CliError::new(Exit::NotFound, format!("there is no such Workflow in {shown}")));
    };
    show(args, object)
}

/// Of a Workflow that is stored.
pub(super) async fn run(args: GraphArgs, context: &Context) -> Result<(), CliError> {
    let name = args.name.as_deref().unwrap_or_default();
    let object = context.get(served::<Workflow>(), context.namespace(), name).await?;
    show(&args, object)
}

fn show(args: &GraphArgs, mut object: Value) -> Result<(), CliError> {
    let name = object["metadata"]["name"].as_str().unwrap_or("workflow").to_owned();
    let spec: WorkflowSpec = serde_json::from_value(object["spec"].take())
        .map_err(|e| CliError::new(Exit::InvalidInput, format!("workflow `{name}` cannot be read: {e}")))?;
    Ok(screen::print(match args.output {
        Shape::Text => text(&spec, args.steps),
        Shape::Dot => dot(&name, &spec),
        Shape::Mermaid => mermaid(&spec),
    })?)
}

/// The jobs, each after those that it waits for. What waits in a circle comes last.
pub(super) fn in_order(spec: &WorkflowSpec) -> Vec<(&str, &WorkflowJob)> {
    let mut left: Vec<(&str, &WorkflowJob)> = spec.jobs.iter().map(|(name, job)| (name.as_str(), job)).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut order = Vec::new();
    loop {
        let is_next = |(_, job): &(&str, &WorkflowJob)| {
            job.needs.iter().all(|need| done.contains(need) || !spec.jobs.contains_key(need))
        };
        let (next, later): (Vec<_>, Vec<_>) = left.into_iter().partition(is_next);
        if next.is_empty() {
            order.extend(later);
            return order;
        }
        done.extend(next.iter().map(|(name, _)| *name));
        order.extend(next);
        left = later;
    }
}

/// The jobs of a run in that order, cells in the place of theirs; those that have not begun without a status.
pub(super) fn cells_in_order<'r>(
    spec: Option<&'r WorkflowSpec>,
    status: &'r WorkflowRunStatus,
) -> Vec<(&'r str, Option<&'r JobStatus>)> {
    let mut known: BTreeMap<&str, Vec<(&str, &JobStatus)>> = BTreeMap::new();
    for (name, job) in &status.jobs {
        let key = if job.job.is_empty() { name } else { &job.job };
        known.entry(key).or_default().push((name, job));
    }
    let mut jobs = Vec::new();
    for (key, _) in spec.into_iter().flat_map(in_order) {
        match known.remove(key) {
            Some(cells) => jobs.extend(cells.into_iter().map(|(name, job)| (name, Some(job)))),
            None => jobs.push((key, None)),
        }
    }
    jobs.extend(known.into_values().flatten().map(|(name, job)| (name, Some(job))));
    jobs
}

/// `matrix os, rust`.
fn cells(job: &WorkflowJob) -> Option<String> {
    let matrix = job.strategy.as_ref()?.matrix.as_ref()?;
    let names: Vec<&str> = matrix.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !["include", "exclude"].contains(name)).collect();
    Some(if names.is_empty() { "matrix".into() } else { format!("matrix {}", names.join(", ")) })
}

fn text(spec: &WorkflowSpec, with_steps: bool) -> String {
    let jobs = in_order(spec);
    let wide = jobs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, job) in jobs {
        let needs: Vec<&str> = job.needs.iter().collect();
        let mut said = Vec::new();
        said.extend((!needs.is_empty()).then(|| format!("after {}", needs.join(", "))));
        said.extend(cells(job));
        said.push(match job.steps.len() + job.finally.len() {
            1 => "1 step".to_owned(),
            steps => format!("{steps} steps"),
        });
        said.extend(job.condition.as_ref().map(|condition| format!("if {condition}")));
        let _ = writeln!(out, "{name:wide$}  {}", said.join("; "));
        if with_steps {
            for (at, step) in job.steps.iter().chain(&job.finally).enumerate() {
                let last = if at < job.steps.len() { "" } else { "finally " };
                let name = step.identity().map_or_else(|| step_by_number(at + 1), str::to_owned);
                let _ = writeln!(out, "{:wide$}  {last}{name}: {}", "", what(step));
            }
        }
    }
    out
}

/// What a step does, in a line.
fn what(step: &WorkflowStep) -> String {
    let line = |text: &str| {
        let mut lines = text.trim().lines();
        let first: String = lines.next().unwrap_or_default().chars().take(60).collect();
        if lines.next().is_some() { first + " …" } else { first }
    };
    if let Some(script) = step.script() {
        return line(script);
    }
    if let Some(message) = &step.message {
        return format!("message to app {}", message.app);
    }
    match (&step.app, &step.workflow) {
        (Some(app), _) => format!("app {app}"),
        (_, Some(workflow)) => format!("workflow {workflow}"),
        _ => "nothing".into(),
    }
}

fn dot(name: &str, spec: &WorkflowSpec) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quoted(name));
    for (name, job) in in_order(spec) {
        let label = cells(job).map(|cells| format!(" [label={}]", quoted(&format!("{name} ({cells})"))));
        let _ = writeln!(out, "  {}{};", quoted(name), label.unwrap_or_default());
        for need in job.needs.iter() {
            let _ = writeln!(out, "  {} -> {};", quoted(need), quoted(name));
        }
    }
    out + "}\n"
}

fn mermaid(spec: &WorkflowSpec) -> String {
    let jobs = in_order(spec);
    let number = |wanted: &str| jobs.iter().position(|(name, _)| *name == wanted);
    let mut out = "flowchart LR\n".to_owned();
    for (at, (name, job)) in jobs.iter().enumerate() {
        let label = cells(job).map_or_else(|| (*name).to_owned(), |cells| format!("{name} ({cells})"));
        let _ = writeln!(out, "  job{at}[\"{}\"]", label.replace('"', "#quot;"));
        for need in job.needs.iter().filter_map(number) {
            let _ = writeln!(out, "  job{need} --> job{at}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> WorkflowSpec {
        serde_json::from_value(json!({"jobs": {
            "deploy": {"needs": ["build", "test"], "if": "success()", "steps": [
                {"id": "push", "workflow": "deploy-region"}, {"command": "one\ntwo"}], "finally": [{"name": "tell", "app": "teller"}]},
            "build": {"strategy": {"matrix": {"os": ["linux"], "rust": ["1.95"], "include": []}}, "steps": [{"run": "make"}]},
            "test": {"needs": "build", "steps": [{"name": "ask", "message": {"app": "py", "payload": "1"}}]},
        }}))
        .expect("a Workflow's spec")
    }

    #[test]
    fn jobs_stand_after_those_that_they_wait_for() {
        insta::assert_snapshot!(text(&spec(), true), @r"
        build   matrix os, rust; 1 step
                step-1: make
        test    after build; 1 step
                ask: message to app py
        deploy  after build, test; 3 steps; if success()
                push: workflow deploy-region
                step-2: one …
                finally tell: app teller
        ");
        insta::assert_snapshot!(dot("re\"l", &spec()), @r#"
        digraph "re\"l" {
          rankdir=LR;
          node [shape=box];
          "build" [label="build (matrix os, rust)"];
          "test";
          "build" -> "test";
          "deploy";
          "build" -> "deploy";
          "test" -> "deploy";
        }
        "#);
        insta::assert_snapshot!(mermaid(&spec()), @r#"
        flowchart LR
          job0["build (matrix os, rust)"]
          job1["test"]
          job0 --> job1
          job2["deploy"]
          job0 --> job2
          job1 --> job2
        "#);
    }

    #[test]
    fn what_waits_in_a_circle_is_shown_too() {
        let spec: WorkflowSpec =
            serde_json::from_value(json!({"jobs": {"a": {"needs": "b"}, "b": {"needs": "a"}, "c": {"needs": "none"}}}))
                .expect("a Workflow's spec");
        assert_eq!(in_order(&spec).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["c", "a", "b"]);
    }
    #[test]
    fn what_a_run_came_to_is_in_the_order_of_its_jobs() {
        let needs = json!({"jobs": {"a": {"needs": "z"}, "m": {"needs": "a"}, "z": {}}});
        let spec: WorkflowSpec = serde_json::from_value(needs).expect("a Workflow's spec");
        let cell = |job: &str| JobStatus { job: job.to_owned(), ..JobStatus::default() };
        let jobs = [("a (1)", "a"), ("a (2)", "a"), ("z", ""), ("old", "")];
        let jobs = jobs.map(|(name, job)| (name.to_owned(), cell(job))).into_iter().collect();
        let status = WorkflowRunStatus { jobs, ..WorkflowRunStatus::default() };
        let told = |spec| -> Vec<(String, bool)> {
            cells_in_order(spec, &status).into_iter().map(|(name, cell)| (name.to_owned(), cell.is_some())).collect()
        };
        let begun = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), *name != "m")).collect::<Vec<_>>();
        assert_eq!(told(Some(&spec)), begun(&["z", "a (1)", "a (2)", "m", "old"]));
        assert_eq!(told(None), begun(&["a (1)", "a (2)", "old", "z"]));
    }
}
