//! WorkflowRuns: what is run, what it is told and as whom it acts is settled when one is made.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    metadata,
    operation::{Context, Refusal},
    plan::Plan,
};
use crate::{
    api::{
        APPROVED_PLAN, EventName, FieldPath, GROUP, Key, Kind, OWNER, OwnerReference, Problem, Reason, Rerun,
        RerunFrom, Schedule, Violation, WORKFLOW_LABEL, Workflow, WorkflowRun, WorkflowRunSpec, WorkflowRunStatus,
        WorkflowSpec, WorkflowStep, at, step_by_number,
    },
    auth::{Attributes, Proof},
    policy::{meant::closest, workflow::inputs},
};

/// What the server writes, and what of a run that is done again comes from the earlier one.
const SETTLED: &[&str] = &["template", "identity", "attempt"];
/// What a Schedule does.
const TARGETS: &[&str] = &["run", "workflow", "task"];

impl Context<'_> {
    /// Puts Workflow, inputs and identity into a new WorkflowRun; in one that is there they stay.
    ///
    /// # Errors
    /// Without the Workflow or the earlier run, for who may not read it, and for inputs that do not fit.
    pub(super) fn settle_workflow_run(
        &self,
        key: &Key,
        live: Option<&Value>,
        new: &mut Value,
        plan: &mut Plan<'_>,
    ) -> Result<(), Refusal> {
        if key.kind != WorkflowRun::INFO {
            return Ok(());
        }
        if let Some(live) = live {
            if let Some(Value::Object(spec)) = new.get_mut("spec") {
                keep(spec, &live["spec"]);
            }
            return Ok(());
        }
        let who = self.maker(key, new).into_owned();
        let Some(Value::Object(spec)) = new.get_mut("spec") else { return Ok(()) };
        SETTLED.iter().for_each(|name| drop(spec.shift_remove(*name)));
        // What cannot be read is refused by the schema.
        let Ok(asked) = WorkflowRunSpec::deserialize(&Value::Object(spec.clone())) else { return Ok(()) };
        let anybody = self.acts_as_somebody(&asked, new);
        let Some(Value::Object(spec)) = new.get_mut("spec") else { return Ok(()) };
        let mut look = |kind, name: &str, field: &str| self.readable(key, &who, kind, name, field, plan);
        let wrong = |found| Err(Refusal::Invalid(key.kind, key.name.to_string(), found));
        if let Some(rerun) = &asked.rerun {
            let earlier = look(WorkflowRun::INFO, &rerun.of, "rerun.of")?;
            if let Err(violation) = again(spec, &earlier, rerun) {
                return wrong(vec![violation]);
            }
        } else {
            if asked.workflow.is_empty() {
                return Ok(());
            }
            let workflow = look(Workflow::INFO, &asked.workflow, "workflow")?;
            let Ok(template) = WorkflowSpec::deserialize(&workflow["spec"]) else {
                let why = format!("the workflow `{}` cannot be read by this appm", asked.workflow);
                return wrong(vec![invalid("workflow", why)]);
            };
            if !anybody && template.execution_identity.is_none() {
                let why = "the workflow has no execution_identity, so that nobody is there as whom it could act";
                return wrong(vec![invalid("workflow", why)]);
            }
            match told(&asked, &template, spec) {
                Ok(inputs) => drop(spec.insert("inputs".to_owned(), Value::Object(inputs))),
                Err(found) => return wrong(found),
            }
            spec.insert("template".to_owned(), workflow["spec"].clone());
            owned(new, &asked.workflow, &workflow);
        }
        let owner = metadata::owner_of(new, self.caller, self.store);
        self.somebody(key, new)?;
        let spec = &mut new["spec"];
        let identity = at(spec, &["template", "execution_identity"]).as_str().map_or(owner, str::to_owned);
        if self.caller.who.proof == Proof::Part {
            self.known(key, &identity)?;
        }
        let spec = &mut new["spec"];
        spec["identity"] = json!(identity);
        let workflow = spec["workflow"].clone();
        new["metadata"]["labels"][WORKFLOW_LABEL] = workflow;
        Ok(())
    }

    /// True if somebody is there as whom a run may act whose Workflow does not say: whoever makes it, or made the Schedule that it is of. What
    /// a Workflow's own triggers start is nobody's.
    fn acts_as_somebody(&self, asked: &WorkflowRunSpec, new: &Value) -> bool {
        let of_a_workflow = |owner: &OwnerReference| owner.kind == Workflow::INFO.kind;
        match asked.event.name {
            EventName::Manual | EventName::WorkflowCall => true,
            EventName::Schedule => metadata::made_for(new, self.caller, self.store).is_some_and(|above| {
                above.key.kind == Schedule::INFO && !above.meta().controller().is_some_and(of_a_workflow)
            }),
            EventName::AppEvent => false,
        }
    }

    /// An object of the same namespace that the maker may read.
    fn readable(
        &self,
        key: &Key,
        who: &crate::auth::Identity,
        kind: &'static crate::api::KindInfo,
        name: &str,
        field: &str,
        plan: &mut Plan<'_>,
    ) -> Result<Value, Refusal> {
        let (resource, namespace) = (kind.plural, &*key.namespace);
        let what = Attributes { verb: "get", group: GROUP, resource, namespace, name, ..Attributes::default() };
        self.authority.may(who, &what)?;
        let absent = || {
            let found = vec![invalid(field, format!("there is no {} `{name}`", kind.singular))];
            Refusal::Invalid(key.kind, key.name.to_string(), found)
        };
        let other = Key::new(kind, &key.namespace, name);
        let Some(object) = plan.live(&other).cloned() else { return Err(absent()) };
        match self.authority.on(who, &what, &other, &object) {
            Err(status) if status.is(Reason::NotFound) => Err(absent()),
            judged => judged.map(|()| (*object).clone()).map_err(Refusal::from),
        }
    }

    /// Whether the caller may have the steps of a Workflow run as somebody else.
    pub(super) fn acts_as(&self, live: Option<&Value>, new: &Value) -> Vec<Violation> {
        let identity = |object: &Value| object["spec"]["execution_identity"].as_str().map(str::to_owned);
        let same_work = || live.is_some_and(|live| live["spec"] == new["spec"]);
        let Some(name) = identity(new).filter(|name| *name != self.caller.who.name && !same_work()) else {
            return Vec::new();
        };
        match self.may_be(&name) {
            true => Vec::new(),
            false => {
                let message = format!("to have steps run as `{name}` needs the verb `impersonate` on that user");
                vec![Violation::new(FieldPath::of("spec.execution_identity"), Problem::Forbidden, message)]
            }
        }
    }

    /// Whether the caller may say what a Schedule does: that is done as whoever made it.
    pub(super) fn schedules_as(&self, live: Option<&Value>, new: &Value) -> Vec<Violation> {
        let Some(live) = live else { return Vec::new() };
        let owner = live["metadata"]["annotations"][OWNER].as_str().unwrap_or_default();
        let changed = TARGETS.iter().find(|name| live["spec"][**name] != new["spec"][**name]);
        match changed.filter(|_| owner != self.caller.who.name && !self.may_be(owner)) {
            None => Vec::new(),
            Some(name) => {
                let message = format!(
                    "it is done as `{owner}`, who made the schedule: to change it needs the verb `impersonate` on that user"
                );
                vec![Violation::new(FieldPath::of("spec").field(name), Problem::Forbidden, message)]
            }
        }
    }

    /// Whether the caller may say what a Source applies: that is done as its `identity`, or as whoever made it.
    pub(super) fn syncs_as(&self, live: Option<&Value>, new: &Value) -> Option<Violation> {
        // To stop it, or to let it go on, is no matter of what it does.
        let work = |object: &Value| {
            let mut spec = object["spec"].clone();
            spec.as_object_mut().map(|spec| spec.shift_remove("suspend"));
            spec
        };
        if live.is_some_and(|live| work(live) == work(new)) {
            return None;
        }
        let made_by = live.and_then(|live| live["metadata"]["annotations"][OWNER].as_str());
        let owner = made_by.unwrap_or(&self.caller.who.name);
        let identity = new["spec"]["identity"].as_str().unwrap_or(owner);
        (identity != self.caller.who.name && !self.may_be(identity)).then(|| {
            let message = format!("to have objects applied as `{identity}` needs the verb `impersonate` on that user");
            Violation::new(FieldPath::of("spec.identity"), Problem::Forbidden, message)
        })
    }

    /// Whether the caller may agree to what a Source would do, or have nobody asked any more.
    pub(super) fn approves(&self, key: &Key, live: Option<&Value>, new: &Value) -> Option<Violation> {
        let live = live?;
        let approved = |object: &Value| object["metadata"]["annotations"][APPROVED_PLAN].clone();
        let freed = live["spec"]["approve"] == "Manual" && new["spec"]["approve"] != "Manual";
        if !freed && (approved(live) == approved(new) || approved(new).is_null()) {
            return None;
        }
        let what = Attributes {
            verb: "approve",
            group: GROUP,
            resource: "sources",
            namespace: &key.namespace,
            name: &key.name,
            ..Attributes::default()
        };
        let status = self.authority.on(&self.caller.who, &what, key, live).err()?;
        self.lacks(&what, &status);
        let message = "to approve what a Source does needs the verb `approve` on it";
        let field = if freed { "spec.approve" } else { "metadata.annotations" };
        Some(Violation::new(FieldPath::of(field), Problem::Forbidden, message))
    }

    /// Whether the caller may act as a User.
    fn may_be(&self, user: &str) -> bool {
        let what = Attributes { verb: "impersonate", resource: "users", name: user, ..Attributes::default() };
        self.authority.must(&self.caller.who, &what).is_ok()
    }
}

fn invalid(field: &str, why: impl Into<String>) -> Violation {
    Violation::new(FieldPath::of("spec").join(&FieldPath::of(field)), Problem::Invalid, why)
}

/// What was settled stays, and what a manifest leaves to the server is as the server said.
fn keep(spec: &mut Map<String, Value>, live: &Value) {
    for name in SETTLED.iter().chain(&["workflow", "event"]) {
        match live.get(*name) {
            Some(settled) if SETTLED.contains(name) => drop(spec.insert((*name).to_owned(), settled.clone())),
            Some(settled) => drop(spec.entry(*name).or_insert_with(|| settled.clone())),
            None => {}
        }
    }
    if let Some(Value::Object(told)) = live.get("inputs") {
        let inputs = spec.entry("inputs").or_insert_with(|| json!({}));
        for (name, value) in told {
            // Said in other words, it is the same.
            let same = |given: &Value| text(given) == text(value);
            if inputs.get(name).is_none_or(same) {
                inputs[name] = value.clone();
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What an earlier run was.
fn again(spec: &mut Map<String, Value>, earlier: &Value, rerun: &Rerun) -> Result<(), Violation> {
    let status = WorkflowRunStatus::deserialize(&earlier["status"]).unwrap_or_default();
    if !status.is_over() {
        return Err(invalid("rerun.of", "the run has not ended yet"));
    }
    if let Some(from) = &rerun.from {
        came_to(from, &status, &earlier["spec"]["template"])?;
    }
    for name in ["workflow", "inputs", "event", "template"] {
        let before = &earlier["spec"][name];
        match spec.get(name) {
            Some(given) if given != before => {
                return Err(invalid(name, "is that of the run which is done again; leave it out"));
            }
            _ if before.is_null() => {}
            _ => drop(spec.insert(name.to_owned(), before.clone())),
        }
    }
    let attempt = earlier["spec"]["attempt"].as_u64().unwrap_or(1).saturating_add(1);
    spec.insert("attempt".to_owned(), json!(attempt));
    Ok(())
}

/// Whether an earlier run came as far as another is to go on from.
fn came_to(from: &RerunFrom, status: &WorkflowRunStatus, template: &Value) -> Result<(), Violation> {
    let meant = |asked: &str, known: &[String]| {
        let near = closest(asked, known.iter().map(String::as_str));
        near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    };
    let Some(cell) = status.jobs.get(&from.job) else {
        let known: Vec<String> = status.jobs.keys().cloned().collect();
        let why = format!("the run had no job `{}`{}", from.job, meant(&from.job, &known));
        return Err(invalid("rerun.from.job", why));
    };
    let key = if cell.job.is_empty() { &from.job } else { &cell.job };
    let template = WorkflowSpec::deserialize(template).unwrap_or_default();
    let (Some(wanted), Some(job)) = (&from.step, template.jobs.get(key)) else { return Ok(()) };
    let id = |(at, step): (usize, &WorkflowStep)| step.identity().map_or_else(|| step_by_number(at + 1), str::to_owned);
    let known: Vec<String> = job.steps.iter().enumerate().map(id).collect();
    match known.iter().position(|id| id == wanted) {
        None => {
            let why = format!("the job `{key}` has no step `{wanted}`{}", meant(wanted, &known));
            Err(invalid("rerun.from.step", why))
        }
        Some(at) if cell.steps.len() < at => {
            Err(invalid("rerun.from.step", format!("the run did not come as far as the step `{wanted}`")))
        }
        Some(_) => Ok(()),
    }
}

/// What the run is told.
fn told(
    asked: &WorkflowRunSpec,
    template: &WorkflowSpec,
    spec: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<Violation>> {
    let Some(inputs) = inputs::asked(&template.on, asked.event.name) else {
        let why = "the workflow is not made to be called: it has no `on.workflow_call`";
        return Err(vec![invalid("workflow", why)]);
    };
    let empty = Map::new();
    let given = spec.get("inputs").and_then(Value::as_object).unwrap_or(&empty);
    let root = FieldPath::of("spec");
    inputs::settled(inputs, given).map_err(|found| found.into_iter().map(|v| v.under(&root)).collect())
}

/// A run that nobody owns goes with its Workflow.
fn owned(new: &mut Value, name: &str, workflow: &Value) {
    let references = &mut new["metadata"]["ownerReferences"];
    if references.as_array().is_none_or(Vec::is_empty) {
        *references = json!([{
            "apiVersion": workflow["apiVersion"], "kind": workflow["kind"], "name": name, "uid": workflow["metadata"]["uid"],
        }]);
    }
}
