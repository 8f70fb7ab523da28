//! From a step to what is run for it: variables, shell, place, time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    artifacts, names,
    pass::{Cell, Pass},
    scope::{self, Here, In, NOTHING_YET, Told},
    services,
};
use crate::{
    api::{
        EventName, JOB_LABEL, JobStatus, Kind, Object, Run, STEP_ANNOTATION, Scalar, SecretEnv, StepStatus,
        WORKFLOW_LABEL, WORKFLOW_RUN_LABEL, WORKSPACE_MARK, WorkflowRun, WorkflowStep,
    },
    policy::{
        label_names::check_value,
        workflow::{check_shell, machine_label},
    },
};

/// Seconds between the stop signal and SIGKILL.
const GRACE: i64 = 10;
/// It goes when the run goes.
const FOREVER: i64 = i32::MAX as i64;
/// Workflows that call each other, one within the other.
const DEEPEST: usize = 10;

/// An attempt that is to be made.
pub(super) struct Making<'a> {
    pub of: Cell<'a>,
    pub cell: &'a JobStatus,
    pub step: &'a WorkflowStep,
    pub status: &'a StepStatus,
    /// How the steps before have ended.
    pub told: Told,
    /// When it has to be over.
    pub until: Timestamp,
}

/// What is made for it.
pub(super) struct Child {
    pub name: String,
    pub object: Value,
}

/// A variable of a step.
#[derive(Clone, Debug)]
enum Variable {
    Text(String),
    Secret(SecretEnv),
}

/// The variables of a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    variables: BTreeMap<String, Variable>,
    /// What goes before `PATH`.
    path: Vec<String>,
}

impl Environment {
    /// Those that expressions may read.
    pub(super) fn texts(&self) -> BTreeMap<String, String> {
        let texts = self.variables.iter().filter_map(|(name, variable)| match variable {
            Variable::Text(text) => Some((name.clone(), text.clone())),
            Variable::Secret(_) => None,
        });
        texts.collect()
    }

    fn add(
        &mut self,
        env: &BTreeMap<String, Scalar>,
        secret: &BTreeMap<String, SecretEnv>,
        here: &Here<'_>,
    ) -> Result<(), String> {
        let texts = self.texts();
        let mut here = *here;
        here.job = here.job.map(|place| In { env: Some(&texts), ..place });
        let said: Result<Vec<_>, String> = env
            .iter()
            .map(|(name, text)| {
                let text = here.text(text.as_str()).map_err(|why| format!("env `{name}`: {why}"))?;
                Ok((name.clone(), Variable::Text(text)))
            })
            .collect();
        self.variables.extend(said?);
        self.variables.extend(secret.iter().map(|(name, of)| (name.clone(), Variable::Secret(of.clone()))));
        Ok(())
    }

    fn has_secrets(&self) -> bool {
        self.variables.values().any(|variable| matches!(variable, Variable::Secret(_)))
    }

    /// As a Run has it, with what tells the step where it is.
    fn list(mut self, facts: Vec<(String, String)>) -> Vec<Value> {
        for (name, text) in facts {
            self.variables.entry(name).or_insert(Variable::Text(text));
        }
        let path = match self.variables.remove("PATH") {
            Some(Variable::Text(text)) => Some(escaped(&text)),
            Some(secret) => {
                self.variables.insert("PATH".to_owned(), secret);
                None
            }
            None if self.path.is_empty() => None,
            None => Some("$(PATH)".to_owned()),
        };
        let path = path.map(|after| {
            let before: Vec<String> = self.path.iter().map(|dir| escaped(dir)).collect();
            let all: Vec<&str> = before.iter().map(String::as_str).chain([after.as_str()]).collect();
            json!({"name": "PATH", "value": all.join(":")})
        });
        let variables = self.variables.into_iter().map(|(name, variable)| match variable {
            Variable::Text(text) => json!({"name": name, "value": escaped(&text)}),
            Variable::Secret(of) => {
                json!({"name": name, "valueFrom": {"secretKeyRef": {"name": of.secret, "key": of.key}}})
            }
        });
        path.into_iter().chain(variables).collect()
    }
}

/// A text that is not expanded once more.
pub(super) fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

/// The variables of a job's next step but its own: of the workflow, of the job, and what the steps before it set.
pub(super) fn environment(pass: &Pass<'_>, of: Cell<'_>, cell: &JobStatus) -> Result<Environment, String> {
    environment_of(pass.here(), pass, of, cell)
}

fn environment_of(here: Here<'_>, pass: &Pass<'_>, of: Cell<'_>, cell: &JobStatus) -> Result<Environment, String> {
    let place = In { key: of.key, job: of.job, cell: Some(cell), env: None, place: of.place };
    let here = Here { job: Some(place), told: NOTHING_YET, ..here };
    let mut made = Environment::default();
    made.add(&pass.template.env, &pass.template.sec_env, &here)?;
    made.add(&of.job.env, &of.job.sec_env, &here)?;
    let runs = cell.steps.iter().filter_map(|step| pass.observed.runs.get(&step.run));
    for result in runs.filter_map(|run| run.status.result.as_ref()) {
        let set = result.env.iter().map(|(name, text)| (name.clone(), Variable::Text(text.clone())));
        made.variables.extend(set);
        // The last that was added is looked in first.
        made.path.splice(0..0, result.path.iter().cloned());
    }
    Ok(made)
}

/// The Run of an attempt, or the WorkflowRun that it calls.
///
/// # Errors
/// An expression that cannot be evaluated, with the field.
pub(super) fn child(pass: &Pass<'_>, making: &Making<'_>) -> Result<Child, String> {
    let Making { of, cell, step, status, .. } = making;
    let name = names::child(pass.run, of.name, &status.id, status.attempts);
    // Of commands all is read by the keeper; all else is looked at before.
    let there = step.script().is_some();
    let mut env = environment_of(Here { there, ..pass.here() }, pass, *of, cell)?;
    let place = In { key: of.key, job: of.job, cell: Some(cell), env: None, place: of.place };
    let here = Here { job: Some(place), told: making.told, there, ..pass.here() };
    env.add(&step.env, &step.sec_env, &here)?;
    let texts = env.texts();
    let here = Here { job: Some(In { env: Some(&texts), ..place }), ..here };
    let field = |field: &str, why: String| format!("{field}: {why}");
    if let Some(workflow) = &step.workflow {
        if pass.observed.depth >= DEEPEST {
            return Err(format!("workflows call each other {DEEPEST} deep at most"));
        }
        let workflow = here.text(workflow).map_err(|why| field("workflow", why))?;
        let inputs = here.json(&json!(step.with)).map_err(|why| field("with", why))?;
        let event = json!({"name": EventName::WorkflowCall});
        let spec = json!({"workflow": workflow, "inputs": inputs, "event": event});
        return Ok(Child { object: object::<WorkflowRun>(pass.run, of.key, Some(&status.id), &name, spec), name });
    }
    let mut workspace = json!({"workspace": pass.workspace()});
    if of.place.1 > 1 || !cell.matrix.is_empty() {
        workspace["place"] = json!(names::place(of.name));
    }
    let mut spec = match (&step.uses, &step.app) {
        (Some(uses), _) => {
            // It is done at the end, and by no program.
            env = Environment::default();
            artifacts::of_step(pass, &here, step, uses, &mut workspace)?;
            json!({"process": {"script": ":"}})
        }
        (None, Some(app)) => json!({"app": here.text(app).map_err(|why| field("app", why))?}),
        (None, None) => {
            let script = step.script().ok_or_else(|| "it says nothing that is to be done".to_owned())?;
            json!({"process": {"script": here.text(script).map_err(|why| field("run", why))?}})
        }
    };
    let defaults = [&of.job.defaults, &pass.template.defaults].map(|d| d.as_ref().map(|defaults| &defaults.run));
    let said = |of: fn(&crate::api::RunDefaults) -> Option<&String>| defaults.into_iter().flatten().find_map(of);
    if step.script().is_some() {
        let shell = step.shell.as_ref().or(said(|run| run.shell.as_ref())).map(String::as_str);
        let shell = shell
            .map(|shell| Here { there: false, ..here }.text(shell))
            .transpose()
            .map_err(|why| field("shell", why))?;
        workspace["interpreter"] = json!(interpreter(shell.as_deref()).map_err(|why| field("shell", why))?);
        let directory = step.directory().or(said(|run| run.working_directory.as_ref()).map(String::as_str));
        if let Some(directory) = directory {
            let directory = here.text(directory).map_err(|why| field("working-directory", why))?;
            match directory.strip_prefix(WORKSPACE_MARK) {
                None if directory.starts_with('/') => spec["process"]["workingDir"] = json!(escaped(&directory)),
                None => workspace["directory"] = json!(directory),
                Some(within) => workspace["directory"] = json!(within.trim_start_matches('/')),
            }
        }
    }
    // Whoever says commands says them in the script: what a program says by itself is not looked through for them.
    if step.script().is_some_and(says_commands) {
        workspace["commands"] = json!(true);
    }
    if pass.observed.printed.contains(&status.id) {
        workspace["stdout"] = json!(true);
    }
    spec["step"] = workspace;
    let selector = selector(&Here { there: false, ..here }, of).map_err(|why| field("runs-on", why))?;
    if !selector.is_empty() {
        spec["nodeSelector"] = json!(selector);
    }
    if env.has_secrets() && step.app.is_none() {
        spec["logs"] = json!({"redactSecrets": true});
    }
    spec["env"] = json!(env.list(facts(pass, making)));
    spec["activeDeadlineSeconds"] = json!(seconds(pass, &here, making)?);
    spec["ttlSecondsAfterFinished"] = json!(FOREVER);
    spec["terminationGracePeriodSeconds"] = json!(GRACE);
    Ok(Child { object: object::<Run>(pass.run, of.key, Some(&status.id), &name, spec), name })
}

/// What tells a step where it is; whatever the author says goes before it.
fn facts(pass: &Pass<'_>, making: &Making<'_>) -> Vec<(String, String)> {
    let (spec, meta) = (&pass.run.spec, &pass.run.metadata);
    let job = making.of.key.to_owned();
    let facts = [
        ("CI", "true".to_owned()),
        ("GITHUB_WORKFLOW", spec.workflow.clone()),
        ("GITHUB_RUN_ID", meta.name.clone()),
        ("GITHUB_RUN_ATTEMPT", scope::attempt(pass.run)),
        ("RUNNER_OS", scope::OS.to_owned()),
        ("RUNNER_ARCH", scope::architecture().to_owned()),
        ("GITHUB_JOB", job.clone()),
        ("GITHUB_ACTOR", spec.identity.clone()),
        ("GITHUB_EVENT_NAME", spec.event.name.word().to_owned()),
        ("APPM_WORKFLOW", spec.workflow.clone()),
        ("APPM_WORKFLOW_RUN", meta.name.clone()),
        ("APPM_JOB", job),
        ("APPM_STEP", making.status.id.clone()),
    ];
    facts.into_iter().map(|(name, text)| (name.to_owned(), text)).chain(services::variables(making)).collect()
}

/// Whether a script may say commands in what it prints.
pub(super) fn says_commands(script: &str) -> bool {
    ["::", "##["].iter().any(|mark| script.contains(mark))
}

/// How many seconds it may take.
pub(super) fn seconds(pass: &Pass<'_>, here: &Here<'_>, making: &Making<'_>) -> Result<i64, String> {
    let step = making.step;
    let own = here.number(step.timeout.as_ref()).map_err(|why| format!("timeout: {why}"))?;
    let minutes = here.number(step.timeout_minutes.as_ref()).map_err(|why| format!("timeout-minutes: {why}"))?;
    let own = own.or(minutes.map(|minutes| minutes * 60.0));
    let left = making.until.duration_since(pass.now).as_secs();
    #[expect(clippy::cast_possible_truncation, reason = "what is out of range is taken to it")]
    let own = own.map_or(i64::MAX, |own| own.ceil() as i64);
    Ok(own.min(left).clamp(1, FOREVER))
}

/// The labels that the node must have.
pub(super) fn selector(here: &Here<'_>, of: &Cell<'_>) -> Result<BTreeMap<String, String>, String> {
    let labels = of.job.runs_on.iter().chain(&of.job.node_label);
    let labels = labels.map(|(name, value)| {
        let name = if name == "host" { "kubernetes.io/hostname" } else { name };
        Ok(machine_label(name, here.text(value.as_str())?))
    });
    labels.filter_map(Result::transpose).collect()
}

/// The script as a whole, where a file's name does not say that it is one; its first error ends it, as does the last program's.
const PWSH: &str = "$ErrorActionPreference = 'stop'; . ([scriptblock]::Create((Get-Content -Raw -LiteralPath '{0}'))); \
                    if (Test-Path -LiteralPath variable:/LASTEXITCODE) { exit $LASTEXITCODE }";

/// The words that run a script, `{0}` for its file.
///
/// # Errors
/// If it is no shell, which may have come out of an expression.
fn interpreter(shell: Option<&str>) -> Result<Vec<String>, String> {
    shell.map_or(Ok(()), check_shell)?;
    let words: &[&str] = match shell {
        None => &[],
        Some("bash") => &["bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}"],
        Some("sh") => &["sh", "-e", "{0}"],
        Some("python") => &["python3", "{0}"],
        Some("pwsh") => &["pwsh", "-NoProfile", "-NonInteractive", "-Command", PWSH],
        Some(line) => return Ok(line.split_whitespace().map(str::to_owned).collect()),
    };
    Ok(words.iter().map(|word| (*word).to_owned()).collect())
}

/// An object of the run's own: of a step, or of a job.
pub(super) fn object<K: Kind>(
    run: &Object<WorkflowRun>,
    job: &str,
    step: Option<&str>,
    name: &str,
    spec: Value,
) -> Value {
    let mut labels = json!({WORKFLOW_LABEL: run.spec.workflow, WORKFLOW_RUN_LABEL: run.metadata.name});
    if check_value(job).is_ok() {
        labels[JOB_LABEL] = json!(job);
    }
    let mut object = json!({
        "apiVersion": K::INFO.api_version(),
        "kind": K::INFO.kind,
        "metadata": {
            "namespace": run.metadata.namespace,
            "name": name,
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": WorkflowRun::INFO.api_version(), "kind": WorkflowRun::INFO.kind,
                "name": run.metadata.name, "uid": run.uid(), "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": spec,
    });
    if let Some(step) = step {
        object["metadata"]["annotations"] = json!({STEP_ANNOTATION: step});
    }
    object
}
