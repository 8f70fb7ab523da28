//! Which contexts may be read where, and what is known to be in them: GitHub's table, kept at apply.

use crate::{
    api::{InputType, WorkState, WorkflowInput, WorkflowJob, WorkflowSpec, WorkflowStep},
    policy::expr::{Call, Function, Use},
};

use super::{graph::Graph, matrix::Outline};

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `concurrency`, `env` and times of the Workflow.
    Workflow,
    /// `on.workflow_call.outputs`.
    CallOutput,
    /// `on.app_event.condition`.
    AppEvent,
    /// A job's `if`.
    JobIf,
    /// A job's `strategy`.
    Strategy,
    /// A job's name, labels, times, `env` and services.
    Job,
    /// A job's `defaults`.
    Defaults,
    /// `env` of a job's services.
    Service,
    /// A job's `outputs`.
    JobOutput,
    /// A step's `if`.
    StepIf,
    /// Anything else of a step.
    Step,
}

/// The results of jobs and steps.
const RESULTS: &[WorkState] = &[WorkState::Success, WorkState::Failure, WorkState::Cancelled, WorkState::Skipped];

impl Place {
    fn roots(self) -> &'static [&'static str] {
        match self {
            Place::Workflow => &["github", "inputs", "workflow"],
            Place::CallOutput => &["github", "inputs", "jobs", "workflow"],
            Place::AppEvent => &["app", "event", "exit_code", "instance", "ready", "signal"],
            Place::JobIf | Place::Strategy => &["github", "inputs", "jobs", "needs", "workflow"],
            Place::Job => &["github", "inputs", "jobs", "matrix", "needs", "strategy", "workflow"],
            Place::Defaults => &["env", "github", "inputs", "jobs", "matrix", "needs", "strategy", "workflow"],
            Place::Service => {
                &["env", "github", "inputs", "job", "jobs", "matrix", "needs", "runner", "strategy", "workflow"]
            }
            Place::JobOutput | Place::StepIf | Place::Step => &[
                "env", "github", "inputs", "job", "jobs", "matrix", "needs", "runner", "steps", "strategy", "workflow",
            ],
        }
    }

    fn words(self) -> &'static str {
        match self {
            Place::Workflow => "here",
            Place::CallOutput => "in outputs of the workflow",
            Place::AppEvent => "in the condition of an event",
            Place::JobIf => "in the `if` of a job",
            Place::Strategy => "in the `strategy` of a job",
            Place::Job => "in these fields of a job",
            Place::Defaults => "in the `defaults` of a job",
            Place::Service => "in the `env` of a service",
            Place::JobOutput => "in the `outputs` of a job",
            Place::StepIf | Place::Step => "in a step",
        }
    }
}

/// What is known at a place.
#[derive(Clone, Copy)]
pub(super) struct Setting<'s> {
    pub(super) place: Place,
    pub(super) spec: &'s WorkflowSpec,
    pub(super) graph: &'s Graph<'s>,
    /// The job in which it stands.
    pub(super) job: Option<(&'s str, &'s WorkflowJob)>,
    /// What is known of its matrix.
    pub(super) matrix: Option<&'s Outline>,
    /// The steps that came before.
    pub(super) steps: &'s [&'s WorkflowStep],
}

fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// "`x`; did you mean `y`?", or what there is.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let score = |word: &&&str| strsim::jaro_winkler(&word.to_ascii_lowercase(), &name.to_ascii_lowercase());
    let near = known.iter().max_by(|a, b| score(a).total_cmp(&score(b))).filter(|word| score(word) > 0.8);
    let all = || known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match near {
        Some(meant) => format!("there is no {what} `{name}`; did you mean `{meant}`?"),
        None if known.is_empty() => format!("there is no {what} `{name}`"),
        None if known.len() <= 12 => format!("there is no {what} `{name}`; there is {}", all()),
        None => format!("there is no {what} `{name}`"),
    }
}

impl<'s> Setting<'s> {
    /// The same with another place.
    pub(super) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Whether what is read may be read here, and is there.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub(super) fn check_use(&self, read: &Use) -> Result<(), String> {
        let root = &*read.root;
        if !self.place.roots().contains(&root) {
            return Err(self.no_root(root));
        }
        match root {
            "inputs" => self.check_input(read),
            "needs" => self.check_need(read),
            "jobs" => self.check_job(read),
            "steps" => self.check_step(read),
            "matrix" => self.check_matrix(read),
            "github" => {
                let known = &["actor", "event", "event_name", "job", "run_attempt", "run_id", "workflow", "workspace"];
                only(read, 0, "property of `github`", known)
            }
            "job" => {
                only(read, 0, "property of `job`", &["services", "status"])?;
                let services: Vec<&str> =
                    self.job.iter().flat_map(|(_, job)| job.services.keys()).map(String::as_str).collect();
                if read.key(0).is_some_and(|key| same(key, "services")) {
                    only(read, 1, "service", &services)?;
                }
                Ok(())
            }
            "runner" => only(read, 0, "property of `runner`", &["arch", "name", "os", "temp"]),
            "strategy" => {
                only(read, 0, "property of `strategy`", &["fail-fast", "job-index", "job-total", "max-parallel"])
            }
            "workflow" => only(read, 0, "property of `workflow`", &["name", "run_id"]),
            _ => Ok(()),
        }
    }

    fn no_root(&self, root: &str) -> String {
        let all: Vec<String> = self.place.roots().iter().map(|root| format!("`{root}`")).collect();
        let known: &[&str] = Place::Step.roots();
        match root {
            "secrets" => {
                "secrets come in by `sec_env: {NAME: {secret: …, key: …}}`, and are read as variables: $NAME".to_owned()
            }
            "vars" => "there is no context `vars`; write `env`, or an input".to_owned(),
            _ if known.contains(&root) => {
                format!("`{root}` cannot be read {}, but {} can", self.place.words(), all.join(", "))
            }
            _ => unknown("context", root, self.place.roots()),
        }
    }

    /// Every input that the Workflow asks for, however it is started.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (&'s str, &'s WorkflowInput)> + use<'s> {
        let by_hand = self.spec.on.by_hand().map(|manual| &manual.inputs);
        let called = self.spec.on.workflow_call.as_ref().map(|call| &call.inputs);
        by_hand.into_iter().chain(called).flatten().map(|(name, input)| (name.as_str(), input))
    }

    fn check_input(&self, read: &Use) -> Result<(), String> {
        let mut known: Vec<&str> = self.inputs().map(|(name, _)| name).collect();
        known.dedup();
        only(read, 0, "input", &known)
    }

    fn check_need(&self, read: &Use) -> Result<(), String> {
        let Some((_, job)) = self.job else { return Ok(()) };
        let Some(name) = read.key(0) else { return Ok(()) };
        let needs: Vec<&str> = job.needs.iter().collect();
        if !needs.iter().any(|need| same(need, name)) {
            return Err(match self.spec.jobs.keys().find(|job| same(job, name)) {
                Some(name) => format!("the job does not need `{name}`; write it into `needs`"),
                None => unknown("job in `needs`", name, &needs),
            });
        }
        only(read, 1, "property of a needed job", &["outputs", "result"])?;
        self.check_outputs(read, name)
    }

    /// Of a job its outputs are known.
    fn check_outputs(&self, read: &Use, job: &str) -> Result<(), String> {
        let known = self.spec.jobs.iter().find(|(name, _)| same(name, job)).map(|(_, job)| &job.outputs);
        match (known, read.key(1)) {
            (Some(outputs), Some(word)) if same(word, "outputs") => {
                let known: Vec<&str> = outputs.keys().map(String::as_str).collect();
                only(read, 2, &format!("output of job `{job}` called"), &known)
            }
            _ => Ok(()),
        }
    }

    fn check_job(&self, read: &Use) -> Result<(), String> {
        let Some(name) = read.key(0) else { return Ok(()) };
        let Some((name, job)) = self.spec.jobs.iter().find(|(job, _)| same(job, name)) else {
            let known: Vec<&str> = self.spec.jobs.keys().map(String::as_str).collect();
            return Err(unknown("job", name, &known));
        };
        if let Some((own, _)) = self.job.filter(|(own, _)| !self.graph.comes_before(name, own)) {
            return Err(format!("`{name}` need not have ended when `{own}` begins; write it into `needs`"));
        }
        only(read, 1, "property of a job", &["outputs", "result", "status", "steps"])?;
        if read.key(1).is_some_and(|word| same(word, "steps")) {
            let known: Vec<&str> = job.steps.iter().chain(&job.finally).filter_map(WorkflowStep::identity).collect();
            only(read, 2, "step", &known)?;
        }
        self.check_outputs(read, name)
    }

    fn check_step(&self, read: &Use) -> Result<(), String> {
        let Some(name) = read.key(0) else { return Ok(()) };
        let before: Vec<&str> = self.steps.iter().filter_map(|step| step.identity()).collect();
        if !before.iter().any(|step| same(step, name)) {
            let all = self.job.iter().flat_map(|(_, job)| job.steps.iter().chain(&job.finally));
            return Err(match all.filter_map(WorkflowStep::identity).find(|step| same(step, name)) {
                Some(step) => format!("the step `{step}` does not come before this one"),
                None => unknown("step", name, &before),
            });
        }
        let known = &["conclusion", "exit_code", "outcome", "outputs", "response", "status", "stdout"];
        only(read, 1, "property of a step", known)
    }

    fn check_matrix(&self, read: &Use) -> Result<(), String> {
        match (self.matrix, read.key(0)) {
            (None, _) => Err("the job has no matrix".to_owned()),
            (Some(Outline { names: Some(names), .. }), Some(_)) => {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                only(read, 0, "value of the matrix", &known)
            }
            _ => Ok(()),
        }
    }

    /// Whether a function may be called here.
    ///
    /// # Errors
    /// Where it may.
    pub(super) fn check_call(&self, call: &Call) -> Result<(), String> {
        match call.function {
            Function::Status(_) if !matches!(self.place, Place::JobIf | Place::StepIf) => {
                Err(format!("`{}` can be asked in an `if` only", call.function.name()))
            }
            Function::Status(_) if self.place == Place::StepIf && !call.texts.is_empty() => {
                Err(format!("in a step `{}` takes no names of jobs", call.function.name()))
            }
            Function::Status(_) => {
                let (own, _) = self.job.ok_or("there is no job here")?;
                let before = |name: &str| self.graph.comes_before(name, own);
                match call.texts.iter().flatten().find(|name| !before(name)) {
                    Some(name) => Err(format!("there is no job `{name}` that comes before this one")),
                    None => Ok(()),
                }
            }
            Function::HashFiles => {
                let instead = "a step can write an output with `sha256sum`";
                Err(format!(
                    "`hashFiles` cannot be called: what decides here does not see the files of a node; {instead}"
                ))
            }
            _ => Ok(()),
        }
    }

    /// What a value that is compared with a text may be, and is not: a comparison that always comes out the same.
    pub(super) fn never(&self, read: &Use, text: &str) -> Option<String> {
        let among = |known: Vec<&str>| {
            let all: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
            let shown = written(read);
            (!known.iter().any(|word| same(word, text)))
                .then(|| format!("`{shown}` is never '{text}': it is one of {}", all.join(", ")))
        };
        let results = || RESULTS.iter().map(|state| state.word()).collect();
        let last = read.key(read.path.len().checked_sub(1)?)?.to_ascii_lowercase();
        match (&*read.root, read.path.len(), &*last) {
            ("inputs", 1, name) => {
                let of: Vec<&WorkflowInput> =
                    self.inputs().filter(|(known, _)| same(known, name)).map(|(_, i)| i).collect();
                let [input] = of.as_slice() else { return None };
                match input.kind {
                    InputType::Boolean => Some(format!(
                        "`{}` is a boolean, and no boolean equals a text; compare it with true or false",
                        written(read)
                    )),
                    InputType::Choice => {
                        among(input.options.iter().map(crate::api::Scalar::as_str).chain([""]).collect())
                    }
                    InputType::String | InputType::Number => None,
                }
            }
            ("needs" | "jobs", 2, "result" | "status") | ("steps", 2, "outcome" | "conclusion" | "status") => {
                among(results())
            }
            ("job", 1, "status") => among(vec!["success", "failure", "cancelled"]),
            ("github", 1, "event_name") if same(text, "workflow_dispatch") => {
                Some(format!("`{}` of what GitHub calls 'workflow_dispatch' is 'manual' here", written(read)))
            }
            ("github", 1, "event_name") => among(vec!["manual", "schedule", "app_event", "workflow_call"]),
            _ => None,
        }
    }

    /// Whether anybody may have written what is read: a text that is told to the run, an event, the answer of an App.
    pub(super) fn is_untrusted(&self, read: &Use) -> bool {
        let message = |steps: Vec<&WorkflowStep>, at: usize| {
            let named =
                |name: &str| steps.iter().any(|s| s.message.is_some() && s.identity().is_some_and(|id| same(id, name)));
            let told =
                read.key(at + 1).is_none_or(|word| ["outputs", "response", "stdout"].iter().any(|w| same(w, word)));
            told && read.key(at).is_some_and(named)
        };
        match &*read.root {
            "inputs" => match read.key(0) {
                Some(name) => self.inputs().any(|(known, input)| same(known, name) && input.kind == InputType::String),
                None => self.inputs().any(|(_, input)| input.kind == InputType::String),
            },
            "github" => read.key(0).is_none_or(|word| same(word, "event")),
            "steps" => message(self.steps.to_vec(), 0),
            "jobs" => match read.key(0).and_then(|name| self.spec.jobs.iter().find(|(job, _)| same(job, name))) {
                Some((_, job)) if read.key(1).is_some_and(|word| same(word, "steps")) => {
                    message(job.steps.iter().chain(&job.finally).collect(), 2)
                }
                _ => false,
            },
            _ => false,
        }
    }
}

/// Whether the key at a place of the way is known.
fn only(read: &Use, at: usize, what: &str, known: &[&str]) -> Result<(), String> {
    match read.key(at) {
        Some(key) if !known.iter().any(|word| same(word, key)) => Err(unknown(what, key, known)),
        _ => Ok(()),
    }
}

/// A way as people write it.
pub(super) fn written(read: &Use) -> String {
    let keys = (0..read.path.len()).map(|at| read.key(at).unwrap_or("*"));
    std::iter::once(&*read.root).chain(keys).collect::<Vec<_>>().join(".")
}

/// That there is no such job, and which one may be meant.
pub(super) fn unknown_job(spec: &WorkflowSpec, name: &str) -> String {
    let known: Vec<&str> = spec.jobs.keys().map(String::as_str).collect();
    unknown("job", name, &known)
}
