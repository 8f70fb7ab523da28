//! What is wrong with a Workflow: everything at once, each with its field and, within a text, the place.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    contexts::{Place, Setting, unknown_job},
    graph::Graph,
    inputs,
    judge::Judge,
    matrix::{self, MOST_CELLS, Outline},
    uses,
};
use crate::{
    api::{
        Concurrency, Defaults, FieldPath, InputType, JobService, JobStrategy, Problem, Scalar, ScheduleTrigger,
        SecretEnv, Violation, WorkflowInput, WorkflowJob, WorkflowSpec, WorkflowStep, check_label, check_subdomain,
        cron::{Cron, CronError},
        time_zone,
    },
    policy::label_names::check_key,
};

/// Jobs of a Workflow; of a run, its cells counted.
pub const MOST_JOBS: usize = 1024;
/// Steps of a Workflow.
const MOST_STEPS: usize = 10_000;
/// `needs` of a Workflow, all jobs together.
const MOST_NEEDS: usize = 10_000;
/// Minutes that anything may be told to take: 30 days.
const MOST_MINUTES: i32 = 30 * 24 * 60;
/// What the engine itself sets.
const RESERVED: &[&str] = &["GITHUB_", "APPM_"];
/// Shells that are known by name.
const SHELLS: &[&str] = &["bash", "sh", "python", "pwsh"];
/// Shells of another system.
const FOREIGN_SHELLS: &[&str] = &["cmd", "powershell"];

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, and in which field, from `spec` on.
    pub violation: Violation,
    /// The byte of the field's text at which it begins, where that is known.
    pub offset: Option<usize>,
}

/// Everything that is wrong with a Workflow, as far as the Workflow alone can tell.
pub(super) fn check(spec: &WorkflowSpec) -> Vec<Finding> {
    let mut judge = Judge::default();
    let root = FieldPath::of("spec");
    if too_large(&mut judge, spec, &root) {
        return judge.found;
    }
    let graph = Graph::of(&spec.jobs);
    let setting = Setting { place: Place::Workflow, spec, graph: &graph, job: None, matrix: None, steps: &[] };
    triggers(&mut judge, setting, &root.field("on"));
    variables(&mut judge, setting, &root, &spec.env, &spec.sec_env);
    concurrency(&mut judge, setting, &root, spec.concurrency.as_ref());
    defaults(&mut judge, setting, &root, spec.defaults.as_ref());
    for (name, value) in
        [("timeout-minutes", &spec.timeout_minutes), ("queue-timeout-minutes", &spec.queue_timeout_minutes)]
    {
        judge.number(setting, &root.field(name), value.as_ref(), 1..=MOST_MINUTES);
    }
    needs(&mut judge, spec, &graph, &root.field("jobs"));
    let mut cells = 0;
    for (name, job) in &spec.jobs {
        cells += one_job(&mut judge, setting, name, job, &root.field("jobs").field(name));
    }
    if cells > MOST_JOBS {
        let message = format!("the matrices make {cells} jobs of them; a run has at most {MOST_JOBS}");
        judge.say(&root.field("jobs"), Problem::TooLong, message);
    }
    judge.found
}

/// What is refused before it is looked at any closer.
fn too_large(judge: &mut Judge, spec: &WorkflowSpec, root: &FieldPath) -> bool {
    let steps = spec.jobs.values().map(|job| job.steps.len() + job.finally.len()).sum();
    let needs = spec.jobs.values().map(|job| job.needs.0.len()).sum();
    for (what, count, most) in [
        ("jobs", spec.jobs.len(), MOST_JOBS),
        ("steps", steps, MOST_STEPS),
        ("needs, all together,", needs, MOST_NEEDS),
    ] {
        if count > most {
            judge.say(&root.field("jobs"), Problem::TooLong, format!("{count} {what} are too many; at most {most}"));
        }
    }
    !judge.found.is_empty()
}

/// Of two words for the same, one.
fn either(judge: &mut Judge, at: &FieldPath, first: (&str, bool), second: (&str, bool)) {
    if first.1 && second.1 {
        let message = format!("`{}` and `{}` are the same; write one of them", first.0, second.0);
        judge.say(&at.field(second.0), Problem::Forbidden, message);
    }
}

fn is_id(text: &str) -> bool {
    text.len() <= 100
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn id(judge: &mut Judge, at: &FieldPath, what: &str, name: &str) {
    if !is_id(name) {
        let message = format!(
            "`{name}` is no name of {what}: at most 100 letters, digits, '-' and '_', and a letter or '_' at the beginning"
        );
        judge.say(at, Problem::Invalid, message);
    }
}

fn triggers(judge: &mut Judge, setting: Setting<'_>, at: &FieldPath) {
    let spec = setting.spec;
    let on = &spec.on;
    either(judge, at, ("manual", on.manual.is_some()), ("workflow_dispatch", on.workflow_dispatch.is_some()));
    let by_hand = if on.manual.is_some() { "manual" } else { "workflow_dispatch" };
    let automatic = [("schedule", !on.schedule.is_empty()), ("app_event", on.app_event.is_some())];
    let automatic: Vec<&str> = automatic.into_iter().filter(|(_, there)| *there).map(|(word, _)| word).collect();
    for (name, input) in on.by_hand().into_iter().flat_map(|manual| &manual.inputs) {
        let at = at.field(by_hand).field("inputs").field(name);
        one_input(judge, &at, name, input);
        if let (true, Some(word)) = (input.required && input.default.is_none(), automatic.first()) {
            let message = format!("a run that `{word}` starts is told nothing, so that it needs a default");
            judge.say(&at.field("default"), Problem::Required, message);
        }
    }
    if let Some(call) = &on.workflow_call {
        let at = at.field("workflow_call");
        for (name, input) in &call.inputs {
            one_input(judge, &at.field("inputs").field(name), name, input);
        }
        for (name, output) in &call.outputs {
            let at = at.field("outputs").field(name);
            id(judge, &at, "an output", name);
            judge.text(setting.at(Place::CallOutput), &at.field("value"), output.value.as_str());
        }
    }
    for (i, trigger) in on.schedule.iter().enumerate() {
        times(judge, &at.field("schedule").index(i), trigger);
    }
    if let Some(event) = &on.app_event {
        let at = at.field("app_event");
        if let Err(why) = check_label(&event.app) {
            judge.say(&at.field("app"), Problem::Invalid, why.to_string());
        }
        if let Some(condition) = &event.condition {
            judge.condition(setting.at(Place::AppEvent), &at.field("condition"), condition);
        }
    }
    if let (Some(word), None) = (automatic.first(), &spec.execution_identity) {
        let message = format!("`{word}` starts it by itself: say which User its steps run as");
        judge.say(&FieldPath::of("spec.execution_identity"), Problem::Required, message);
    }
}

fn times(judge: &mut Judge, at: &FieldPath, trigger: &ScheduleTrigger) {
    if let Err(CronError(reasons)) = trigger.cron.parse::<Cron>() {
        reasons.into_iter().for_each(|why| judge.say(&at.field("cron"), Problem::Invalid, why));
    }
    either(judge, at, ("timeZone", trigger.time_zone.is_some()), ("timezone", trigger.timezone.is_some()));
    if let Some(Err(why)) = trigger.zone().map(time_zone) {
        let word = if trigger.time_zone.is_some() { "timeZone" } else { "timezone" };
        judge.say(&at.field(word), Problem::NotSupported, why);
    }
}

fn one_input(judge: &mut Judge, at: &FieldPath, name: &str, input: &WorkflowInput) {
    id(judge, at, "an input", name);
    match (input.kind == InputType::Choice, input.options.is_empty()) {
        (true, true) => judge.say(&at.field("options"), Problem::Required, "a choice needs something to choose from"),
        (false, false) => judge.say(&at.field("options"), Problem::Forbidden, "only a `choice` has options"),
        _ => {}
    }
    let Some(default) = &input.default else { return };
    if default.as_str().is_some_and(|text| text.contains("${{")) {
        judge.say(&at.field("default"), Problem::Invalid, "a default is a value; expressions are not put in");
    } else if (input.kind != InputType::Choice || !input.options.is_empty())
        && let Err(why) = inputs::read(input, default)
    {
        judge.say(&at.field("default"), Problem::Invalid, why);
    }
}

fn variables(
    judge: &mut Judge,
    setting: Setting<'_>,
    at: &FieldPath,
    env: &BTreeMap<String, Scalar>,
    secrets: &BTreeMap<String, SecretEnv>,
) {
    for (name, value) in env {
        let at = at.field("env").field(name);
        variable(judge, &at, name);
        judge.text(setting, &at, value.as_str());
    }
    for (name, entry) in secrets {
        let at = at.field("sec_env").field(name);
        variable(judge, &at, name);
        if env.contains_key(name) {
            judge.say(&at, Problem::Duplicate, "`env` has it, too");
        }
        if let Err(why) = check_subdomain(&entry.secret) {
            judge.say(&at.field("secret"), Problem::Invalid, why.to_string());
        }
    }
}

fn variable(judge: &mut Judge, at: &FieldPath, name: &str) {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first || name.len() > 256 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        judge.say(at, Problem::Invalid, format!("`{name}` is no name of a variable"));
    } else if let Some(prefix) = RESERVED.iter().find(|prefix| name.to_ascii_uppercase().starts_with(**prefix)) {
        judge.say(at, Problem::Forbidden, format!("variables that begin with {prefix} are set by appm"));
    }
}

fn concurrency(judge: &mut Judge, setting: Setting<'_>, at: &FieldPath, said: Option<&Concurrency>) {
    let Some(said) = said else { return };
    let at = at.field("concurrency");
    judge.text(setting, &at.field("group"), &said.group);
    judge.flag(setting, &at.field("cancel-in-progress"), said.cancel_in_progress.as_ref());
}

fn defaults(judge: &mut Judge, setting: Setting<'_>, at: &FieldPath, said: Option<&Defaults>) {
    let Some(said) = said else { return };
    let at = at.field("defaults").field("run");
    shell(judge, setting, &at, said.run.shell.as_deref());
    if let Some(directory) = &said.run.working_directory {
        judge.text(setting, &at.field("working-directory"), directory);
    }
}

fn shell(judge: &mut Judge, setting: Setting<'_>, at: &FieldPath, said: Option<&str>) {
    let Some(said) = said.filter(|said| !SHELLS.contains(said)) else { return };
    // It is a command line.
    judge.command(setting, &at.field("shell"), said);
    if let Err(why) = check_shell(said)
        && !said.contains("${{")
    {
        judge.say(&at.field("shell"), Problem::NotSupported, why);
    }
}

/// Whether a shell is one that steps can be run by, once expressions have been put in.
///
/// # Errors
/// Why it is none.
pub fn check_shell(said: &str) -> Result<(), String> {
    if SHELLS.contains(&said) || said.contains("{0}") {
        return Ok(());
    }
    Err(match FOREIGN_SHELLS.contains(&said) {
        true => format!("`{said}` is there on Windows only, and steps are run on Linux: bash, sh, python, pwsh"),
        false => format!(
            "`{said}` is no shell that is known: bash, sh, python, pwsh, or a command line with {{0}} in the place of the file"
        ),
    })
}

fn needs(judge: &mut Judge, spec: &WorkflowSpec, graph: &Graph<'_>, at: &FieldPath) {
    for (name, job) in &spec.jobs {
        let mut seen = BTreeSet::new();
        for (i, need) in job.needs.iter().enumerate() {
            let at = at.field(name).field("needs").index(i);
            if !seen.insert(need) {
                judge.say(&at, Problem::Duplicate, format!("`{need}`"));
            } else if !spec.jobs.contains_key(need) {
                judge.say(&at, Problem::Invalid, unknown_job(spec, need));
            }
        }
    }
    for circle in graph.circles() {
        let way = circle.iter().chain(circle.first()).map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let message = format!("the job waits for itself: {}", way.join(" needs "));
        judge.say(&at.field(circle[0]).field("needs"), Problem::Invalid, message);
    }
}

/// How many cells it has, as far as that is known.
fn one_job<'s>(judge: &mut Judge, setting: Setting<'s>, name: &'s str, job: &'s WorkflowJob, at: &FieldPath) -> usize {
    id(judge, at, "a job", name);
    let setting = Setting { job: Some((name, job)), ..setting };
    if let Some(condition) = &job.condition {
        judge.condition(setting.at(Place::JobIf), &at.field("if"), condition.as_str());
    }
    let outline = job.strategy.as_ref().and_then(|said| strategy(judge, setting.at(Place::Strategy), said, at));
    let setting = Setting { matrix: outline.as_ref(), ..setting };
    let on_job = setting.at(Place::Job);
    if let Some(name) = &job.name {
        judge.text(on_job, &at.field("name"), name.as_str());
    }
    either(judge, at, ("runs-on", !job.runs_on.is_empty()), ("node_label", !job.node_label.is_empty()));
    for (word, labels) in [("runs-on", &job.runs_on), ("node_label", &job.node_label)] {
        for (name, value) in labels {
            let at = at.field(word).field(name);
            if let Err(why) = check_key(name) {
                judge.say(&at, Problem::Invalid, why);
            }
            judge.text(on_job, &at, value.as_str());
        }
    }
    judge.number(on_job, &at.field("timeout-minutes"), job.timeout_minutes.as_ref(), 1..=MOST_MINUTES);
    judge.flag(on_job, &at.field("continue-on-error"), job.continue_on_error.as_ref());
    concurrency(judge, on_job, at, job.concurrency.as_ref());
    variables(judge, on_job, at, &job.env, &job.sec_env);
    defaults(judge, setting.at(Place::Defaults), at, job.defaults.as_ref());
    for (name, said) in &job.services {
        service(judge, setting, &at.field("services").field(name), name, said);
    }
    steps(judge, setting, job, at);
    let all: Vec<&WorkflowStep> = job.steps.iter().chain(&job.finally).collect();
    let after = Setting { steps: &all, place: Place::JobOutput, ..setting };
    for (name, value) in &job.outputs {
        let at = at.field("outputs").field(name);
        id(judge, &at, "an output", name);
        judge.text(after, &at, value.as_str());
    }
    outline.and_then(|outline| outline.cells).unwrap_or(1)
}

fn strategy(judge: &mut Judge, setting: Setting<'_>, said: &JobStrategy, at: &FieldPath) -> Option<Outline> {
    let at = at.field("strategy");
    judge.flag(setting, &at.field("fail-fast"), said.fail_fast.as_ref());
    judge.number(
        setting,
        &at.field("max-parallel"),
        said.max_parallel.as_ref(),
        1..=i32::try_from(MOST_CELLS).unwrap_or(1),
    );
    let at = at.field("matrix");
    let Some(matrix) = &said.matrix else {
        judge.say(&at, Problem::Required, "a strategy is for the cells of a matrix");
        return None;
    };
    judge.within(setting, &at, matrix);
    match matrix::outline(matrix) {
        Ok(outline) => {
            for name in outline.names.iter().flatten() {
                id(judge, &at.field(name), "a value of a matrix", name);
            }
            Some(outline)
        }
        Err((field, why)) => {
            let at = if field.is_empty() { at } else { at.field(&field) };
            judge.say(&at, Problem::Invalid, why);
            // So that nothing is said of what is in it.
            Some(Outline::default())
        }
    }
}

fn service(judge: &mut Judge, setting: Setting<'_>, at: &FieldPath, name: &str, said: &JobService) {
    if let Err(why) = check_label(name) {
        judge.say(at, Problem::Invalid, why.to_string());
    }
    match (said.image.is_some(), said.process.is_some()) {
        (false, false) => judge.say(&at.field("image"), Problem::Required, "set `image` or `process`"),
        (true, true) => {
            judge.say(&at.field("process"), Problem::Forbidden, "set either `image` or `process`, not both")
        }
        _ => {}
    }
    if let Some(image) = &said.image {
        judge.text(setting.at(Place::Service), &at.field("image"), image);
    }
    for (name, value) in &said.env {
        let at = at.field("env").field(name);
        variable(judge, &at, name);
        judge.text(setting.at(Place::Service), &at, value.as_str());
    }
}

fn steps(judge: &mut Judge, setting: Setting<'_>, job: &WorkflowJob, at: &FieldPath) {
    if job.steps.is_empty() {
        judge.say(&at.field("steps"), Problem::Required, "a job has at least one step");
    }
    let mut before: Vec<&WorkflowStep> = Vec::new();
    let mut seen: BTreeMap<String, FieldPath> = BTreeMap::new();
    for (word, list) in [("steps", &job.steps), ("finally", &job.finally)] {
        for (i, step) in list.iter().enumerate() {
            let at = at.field(word).index(i);
            one_step(judge, Setting { steps: &before, place: Place::Step, ..setting }, step, &at);
            if let Some(name) = step.identity() {
                let field = at.field(if step.id.is_some() { "id" } else { "name" });
                if let Some(first) = seen.get(&name.to_ascii_lowercase()) {
                    let message = format!("`{name}` is called so already ({first}); give one of them another `id`");
                    judge.say(&field, Problem::Duplicate, message);
                } else {
                    seen.insert(name.to_ascii_lowercase(), at);
                }
            }
            before.push(step);
        }
    }
}

fn one_step(judge: &mut Judge, setting: Setting<'_>, step: &WorkflowStep, at: &FieldPath) {
    if let Some(name) = &step.id {
        id(judge, &at.field("id"), "a step", name);
    }
    if let Some(name) = &step.name {
        judge.text(setting, &at.field("name"), name.as_str());
    }
    if let Some(condition) = &step.condition {
        judge.condition(setting.at(Place::StepIf), &at.field("if"), condition.as_str());
    }
    what(judge, setting, step, at);
    either(judge, at, ("timeout", step.timeout.is_some()), ("timeout-minutes", step.timeout_minutes.is_some()));
    judge.number(setting, &at.field("timeout"), step.timeout.as_ref(), 1..=MOST_MINUTES * 60);
    judge.number(setting, &at.field("timeout-minutes"), step.timeout_minutes.as_ref(), 1..=MOST_MINUTES);
    judge.flag(setting, &at.field("continue-on-error"), step.continue_on_error.as_ref());
    variables(judge, setting, at, &step.env, &step.sec_env);
}

/// Exactly one thing that is done, and nothing that belongs to another.
fn what(judge: &mut Judge, setting: Setting<'_>, step: &WorkflowStep, at: &FieldPath) {
    either(judge, at, ("command", step.command.is_some()), ("run", step.run.is_some()));
    let word = if step.command.is_some() { "command" } else { "run" };
    let kinds = [
        (word, step.script().is_some()),
        ("app", step.app.is_some()),
        ("message", step.message.is_some()),
        ("workflow", step.workflow.is_some()),
        ("uses", step.uses.is_some()),
    ];
    let said: Vec<&str> = kinds.into_iter().filter(|(_, said)| *said).map(|(word, _)| word).collect();
    match said.as_slice() {
        [] => judge.say(at, Problem::Required, "say what is done: `command`, `app`, `message` or `workflow`"),
        [_] => {}
        [first, rest @ ..] => rest.iter().for_each(|second| {
            judge.say(&at.field(second), Problem::Forbidden, format!("set either `{first}` or `{second}`, not both"));
        }),
    }
    if let Some(script) = step.script() {
        judge.command(setting, &at.field(word), script);
    }
    shell(judge, setting, at, step.shell.as_deref());
    either(judge, at, ("working-directory", step.working_directory.is_some()), ("workdir", step.workdir.is_some()));
    let texts = [
        ("app", &step.app),
        ("workflow", &step.workflow),
        ("working-directory", &step.working_directory),
        ("workdir", &step.workdir),
    ];
    for (word, text) in texts {
        text.iter().for_each(|text| judge.text(setting, &at.field(word), text));
    }
    if let Some(message) = &step.message {
        let at = at.field("message");
        judge.text(setting, &at.field("app"), &message.app);
        judge.text(setting, &at.field("payload"), &message.payload);
    }
    for (name, value) in &step.with {
        judge.within(setting, &at.field("with").field(name), value);
    }
    match step.uses.as_deref().map(uses::Action::parse) {
        Some(Ok(action)) => action.check(&step.with).into_iter().for_each(|(field, why)| {
            let at = field.map_or_else(|| at.field("with"), |field| at.field("with").field(&field));
            judge.say(&at, Problem::Invalid, why);
        }),
        Some(Err(why)) => judge.say(&at.field("uses"), Problem::NotSupported, why),
        None => {}
    }
    if said.len() != 1 {
        return;
    }
    let runs = step.script().is_some() || step.app.is_some();
    let of_commands = "is for commands";
    let misplaced = [
        ("shell", step.shell.is_some() && step.script().is_none(), of_commands),
        ("working-directory", step.working_directory.is_some() && step.script().is_none(), of_commands),
        ("workdir", step.workdir.is_some() && step.script().is_none(), of_commands),
        (
            "with",
            !step.with.is_empty() && step.workflow.is_none() && step.uses.is_none(),
            "is what a called workflow is told",
        ),
        ("env", !step.env.is_empty() && !runs, "is for commands and Apps"),
        ("sec_env", !step.sec_env.is_empty() && !runs, "is for commands and Apps"),
    ];
    for (field, _, why) in misplaced.into_iter().filter(|(_, wrong, _)| *wrong) {
        judge.say(&at.field(field), Problem::Forbidden, why);
    }
    if let Some(retry) = step.retry.as_ref().filter(|retry| !retry.exit_codes.is_empty() && !runs) {
        let message = format!("only commands and Apps have exit codes ({:?})", retry.exit_codes);
        judge.say(&at.field("retry").field("exit_codes"), Problem::Forbidden, message);
    }
}
