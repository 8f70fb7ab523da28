//! What expressions are asked about: the run, its jobs, the steps before, and how all that ended.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value as Json, json};

use super::pass::Ended;
use crate::{
    api::{
        Flag, IntOrString, JobStatus, MACHINE_MARK, Object, Run, StepStatus, TEMP_MARK, WORKSPACE_MARK, WorkState,
        WorkflowJob, WorkflowRun,
    },
    policy::expr::{Condition, Limits, Object as Fields, Scope, Status, Template, Value},
};

/// A place in a run from which something is asked.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub run: &'a Object<WorkflowRun>,
    /// The jobs that have ended.
    pub ended: &'a BTreeMap<&'a str, Ended>,
    /// The Runs of steps, where what they left is read.
    pub runs: &'a BTreeMap<String, Arc<Object<Run>>>,
    pub job: Option<In<'a>>,
    pub told: Told,
    /// What is asked is read on the machine of the step alone; so it may speak of what only that knows.
    pub there: bool,
}

/// The place within a job.
#[derive(Clone, Copy)]
pub(super) struct In<'a> {
    pub key: &'a str,
    pub job: &'a WorkflowJob,
    /// The cell; nothing before its cells are known.
    pub cell: Option<&'a JobStatus>,
    /// The variables that are known here.
    pub env: Option<&'a BTreeMap<String, String>>,
    /// Its place among the cells, and how many there are.
    pub place: (usize, usize),
}

/// How what came before has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub success: bool,
    pub failure: bool,
    pub cancelled: bool,
}

/// At the beginning of everything.
pub(super) const NOTHING_YET: Told = Told { success: true, failure: false, cancelled: false };

impl Scope for Here<'_> {
    fn root(&self, name: &str) -> Option<Value> {
        let spec = &self.run.spec;
        Some(match name {
            "github" => Value::from_json(&self.github()),
            "workflow" => Value::from_json(&json!({"name": spec.workflow, "run_id": self.run.metadata.name})),
            "inputs" => object(spec.inputs.iter().map(|(name, value)| (name.as_str(), Value::from_json(value)))),
            "vars" => object([]),
            "runner" => self.runner(),
            "jobs" => object(self.ended.iter().map(|(key, ended)| (*key, self.of_job(ended)))),
            "env" => {
                object(self.job?.env.into_iter().flatten().map(|(name, value)| (name.as_str(), value.as_str().into())))
            }
            "needs" => {
                let needs = self.job?.job.needs.iter();
                object(needs.filter_map(|key| Some((key, self.of_job(self.ended.get(key)?)))))
            }
            "matrix" => {
                let matrix = &self.job?.cell?.matrix;
                object(matrix.iter().map(|(name, value)| (name.as_str(), Value::from_json(value))))
            }
            "strategy" => self.strategy()?,
            "job" => {
                let status = match self.told {
                    Told { cancelled: true, .. } => WorkState::Cancelled,
                    Told { failure: true, .. } => WorkState::Failure,
                    _ => WorkState::Success,
                };
                let services = self.job?.cell.map(|cell| &cell.services).into_iter().flatten();
                let services: serde_json::Map<String, Json> = services
                    .map(|(name, service)| (name.clone(), json!({"host": service.host, "ports": service.ports})))
                    .collect();
                Value::from_json(&json!({"status": status.word(), "services": services}))
            }
            "steps" => object(self.job?.cell?.steps.iter().map(|step| (step.id.as_str(), self.of_step(step)))),
            _ => return None,
        })
    }

    fn status(&self, which: Status, jobs: &[Arc<str>]) -> Option<bool> {
        let of =
            |state: WorkState| jobs.iter().map(move |job| self.ended.get(&**job).is_some_and(|e| e.state == state));
        Some(match which {
            Status::Always => true,
            Status::Cancelled => self.told.cancelled,
            Status::Success if jobs.is_empty() => self.told.success && !self.told.cancelled,
            Status::Success => of(WorkState::Success).all(|so| so),
            Status::Failure if jobs.is_empty() => self.told.failure,
            Status::Failure => of(WorkState::Failure).any(|so| so),
        })
    }
}

impl Here<'_> {
    fn github(&self) -> Json {
        let (spec, meta) = (&self.run.spec, &self.run.metadata);
        let job = self.job.map(|place| place.key);
        json!({
            "workflow": spec.workflow, "run_id": meta.name, "actor": spec.identity, "job": job,
            "run_attempt": attempt(self.run), "workspace": self.mark(WORKSPACE_MARK),
            "event_name": spec.event.name.word(), "event": spec.event.payload,
        })
    }

    fn runner(&self) -> Value {
        object([
            ("os", OS.into()),
            ("arch", architecture().into()),
            ("temp", self.mark(TEMP_MARK).into()),
            ("name", self.mark(MACHINE_MARK).into()),
        ])
    }

    /// Where only the machine knows what is meant, what it will put something else in the place of.
    fn mark(&self, mark: &'static str) -> &'static str {
        if self.there { mark } else { "" }
    }

    fn strategy(&self) -> Option<Value> {
        let place = self.job?;
        let strategy = place.job.strategy.as_ref();
        let fail_fast = strategy.and_then(|s| s.fail_fast.as_ref()).and_then(Flag::known).unwrap_or(true);
        let (index, total) = place.place;
        let most = match strategy.and_then(|s| s.max_parallel.as_ref()) {
            Some(IntOrString::Int(most)) => usize::try_from(*most).unwrap_or(total),
            _ => total,
        };
        let all = json!({"fail-fast": fail_fast, "job-index": index, "job-total": total, "max-parallel": most});
        Some(Value::from_json(&all))
    }

    fn of_job(&self, ended: &Ended) -> Value {
        let outputs = texts(&ended.outputs);
        let word = ended.state.word();
        object([("result", word.into()), ("status", word.into()), ("outputs", outputs)])
    }

    fn of_step(&self, step: &StepStatus) -> Value {
        let mut fields = vec![("outputs", texts(&step.outputs))];
        if step.state.is_over() {
            let conclusion = step.conclusion.unwrap_or(step.state);
            fields.push(("outcome", step.state.word().into()));
            fields.push(("conclusion", conclusion.word().into()));
            fields.push(("status", step.state.word().into()));
        }
        fields.extend(step.exit_code.map(|code| ("exit_code", Value::Number(f64::from(code)))));
        let result = self.runs.get(&step.run).and_then(|run| run.status.result.as_ref());
        fields.extend(result.map(|result| ("stdout", result.stdout.as_str().into())));
        fields.extend(step.outputs.get("response").map(|response| ("response", response.as_str().into())));
        object(fields)
    }

    /// A text with what its expressions say put in.
    pub(super) fn text(&self, text: &str) -> Result<String, String> {
        if !text.contains("${{") {
            return Ok(text.to_owned());
        }
        Ok(self.value(text)?.to_text().to_string())
    }

    /// A text with what its expressions say put in; of one lone expression the value.
    pub(super) fn value(&self, text: &str) -> Result<Value, String> {
        let template = Template::parse(text).map_err(|fault| fault.to_string())?;
        template.evaluate(self, Limits::default()).map_err(|fault| fault.to_string())
    }

    /// JSON with what its expressions say put in.
    pub(super) fn json(&self, json: &Json) -> Result<Json, String> {
        Ok(match json {
            Json::String(text) if text.contains("${{") => self.value(text)?.to_json(),
            Json::Array(items) => items.iter().map(|item| self.json(item)).collect::<Result<_, _>>()?,
            Json::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| Ok((name.clone(), self.json(value)?)));
                Json::Object(fields.collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    /// True or false.
    pub(super) fn flag(&self, flag: Option<&Flag>) -> Result<bool, String> {
        match flag {
            None => Ok(false),
            Some(flag) => match (flag.known(), flag) {
                (Some(known), _) => Ok(known),
                (None, Flag::Expression(text)) => Ok(self.value(text)?.is_truthy()),
                (None, Flag::Is(flag)) => Ok(*flag),
            },
        }
    }

    /// The same; of nothing, and of what cannot be evaluated, `otherwise`.
    pub(super) fn flag_or(&self, flag: Option<&Flag>, otherwise: bool) -> bool {
        flag.map_or(otherwise, |flag| self.flag(Some(flag)).unwrap_or(otherwise))
    }

    /// A number, if one is said.
    pub(super) fn number(&self, number: Option<&IntOrString>) -> Result<Option<f64>, String> {
        let said = match number {
            None => return Ok(None),
            Some(IntOrString::Int(number)) => f64::from(*number),
            Some(IntOrString::String(text)) => {
                let value = self.value(text)?;
                let number = value.to_number();
                if number.is_nan() {
                    return Err(format!("`{}` is no number", value.to_text()));
                }
                number
            }
        };
        Ok(Some(said))
    }

    /// Why an `if` does not hold; nothing if it does.
    pub(super) fn why_not(&self, condition: &Condition) -> Result<Option<String>, String> {
        condition.explain_false(self, Limits::default()).map_err(|fault| fault.to_string())
    }
}

/// The system that steps run on, in GitHub's words.
pub(super) const OS: &str = "Linux";

/// What machine steps run on, in GitHub's words.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        "x86" => "X86",
        "arm" => "ARM",
        other => other,
    }
}

/// How often a run was tried, with this time.
pub(super) fn attempt(run: &WorkflowRun) -> String {
    run.spec.attempt.unwrap_or(1).to_string()
}

fn object<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    Value::Object(Fields::new(fields))
}

fn texts(texts: &BTreeMap<String, String>) -> Value {
    object(texts.iter().map(|(name, text)| (name.as_str(), text.as_str().into())))
}
