//! What a pass does about the triggers of one Workflow: pure.
//!
//! | `on` | |
//! |---|---|
//! | `schedule` | one Schedule for each entry, owned by the Workflow and named for what it says; those of entries that are gone go |
//! | `app_event` | one WorkflowRun for each thing that happened and fits, named for it |
//!
//! At most [`MOST`] runs of events go on at once. What happens beyond that waits until one of them is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::happened::{self, Happened, Present};
use crate::{
    api::{
        AppEvent, AppEventTrigger, Condition, EventName, Kind, Object, OwnerReference, Schedule, Time, Workflow,
        WorkflowRun, WorkflowStatus,
    },
    policy::{
        backoff::spread,
        expr::{self, Limits, Scope},
    },
    runtime::EventType,
};

/// Runs of events of one Workflow that go on at once.
pub(super) const MOST: usize = 100;
/// What starts it by itself can do so.
const READY: &str = "Ready";
/// The reason of `Ready: False` while nothing can be started.
const REFUSED: &str = "RunRefused";

/// The world as one Workflow's pass sees it.
pub(super) struct Observed {
    /// The App whose events count.
    pub(super) present: Present,
    /// The names of the runs that its events have started, and whether each is over.
    pub(super) runs: BTreeMap<String, bool>,
    /// The Schedules that are there of it.
    pub(super) schedules: Vec<Arc<Object<Schedule>>>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Make a WorkflowRun.
    Run {
        /// All of it.
        object: Box<Value>,
        /// What happened.
        because: String,
    },
    /// Make a Schedule.
    Schedule(Box<Value>),
    /// Bring a Schedule to what the Workflow says.
    Reschedule(Arc<Object<Schedule>>, Box<Value>),
    /// Take a Schedule away.
    Unschedule(Arc<Object<Schedule>>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Run { because, .. } => write!(f, "start a run, because {because}"),
            Action::Schedule(object) => write!(f, "make schedule {}", object["metadata"]["name"]),
            Action::Reschedule(schedule, _) => write!(f, "change schedule {}", schedule.metadata.name),
            Action::Unschedule(schedule) => write!(f, "delete schedule {}", schedule.metadata.name),
        }
    }
}

/// What a pass will do.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) status: WorkflowStatus,
    /// The first of the states that were heard of that was not gone through to its end.
    pub(super) untold: Option<usize>,
    /// What people are told.
    pub(super) told: Vec<(EventType, &'static str, String)>,
}

impl Plan {
    /// Nothing is done after all: the server refused it.
    pub(super) fn refuse(&mut self, workflow: &Object<Workflow>, message: String, now: Timestamp) {
        self.actions.clear();
        self.told.clear();
        self.status = workflow.status.clone();
        self.say_refused(workflow, message, now);
    }

    /// The server refused a part of it.
    pub(super) fn say_refused(&mut self, workflow: &Object<Workflow>, message: String, now: Timestamp) {
        set(&mut self.status, false, REFUSED, message, workflow, now);
    }

    /// Takes out what is done about times: by itself, it says nothing.
    pub(super) fn take_times(&mut self, workflow: &Object<Workflow>) -> Plan {
        let all = std::mem::take(&mut self.actions);
        let (runs, actions) = all.into_iter().partition(|action| matches!(action, Action::Run { .. }));
        self.actions = runs;
        Plan { actions, status: workflow.status.clone(), untold: None, told: Vec::new() }
    }
}

/// What to do for `workflow` now.
pub(super) fn decide(workflow: &Object<Workflow>, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan { actions: Vec::new(), status: workflow.status.clone(), untold: None, told: Vec::new() };
    if workflow.metadata.is_deleting() {
        return plan;
    }
    let on = &workflow.spec.on;
    schedules(workflow, &observed.schedules, &mut plan.actions);
    match &on.app_event {
        None => plan.status.app_events = None,
        Some(trigger) => app_event(workflow, trigger, observed, &mut plan),
    }
    if on.schedule.is_empty() && on.app_event.is_none() {
        plan.status.conditions.retain(|condition| condition.kind != READY);
    } else {
        set(&mut plan.status, true, "Waiting", String::new(), workflow, now);
    }
    plan
}

fn app_event(workflow: &Object<Workflow>, trigger: &AppEventTrigger, observed: &Observed, plan: &mut Plan) {
    let before = plan.status.app_events.take().filter(|seen| happened::is_of(seen, trigger));
    let Some(mut seen) = before else {
        plan.status.app_events = Some(happened::everything(trigger, &observed.present));
        return;
    };
    let mut room = MOST.saturating_sub(observed.runs.values().filter(|over| !**over).count());
    // What came of an instance that had to wait keeps what comes of it later waiting, too.
    let mut full = false;
    let mut made: BTreeSet<String> = observed.runs.keys().cloned().collect();
    for one in happened::since(trigger, &seen, &observed.present) {
        let fits = fits(trigger, &one);
        let name = name(workflow, &one);
        let wanted = fits == Ok(true) && !made.contains(&name);
        full |= wanted && room == 0;
        if full {
            plan.untold.get_or_insert(one.at);
            continue;
        }
        one.mark.put(&mut seen);
        if let Err(why) = fits {
            let message = format!("its `condition` cannot be judged: {why}");
            plan.told.push((EventType::Warning, "InvalidCondition", message));
        }
        if wanted {
            room -= 1;
            made.insert(name.clone());
            let because = told(trigger, &one);
            plan.told.push((EventType::Normal, "Started", format!("Started run {name}, because {because}")));
            plan.actions.push(Action::Run { object: Box::new(run(workflow, &name, one)), because });
        }
    }
    // Another App has the name by now, or none.
    if seen.uid.is_none()
        && let Some(app) = &observed.present.app
    {
        (seen.uid, seen.suspended) = (app.metadata.uid.clone(), app.spec.suspend);
    }
    plan.status.app_events = Some(seen);
}

/// Whether somebody asked for it.
fn fits(trigger: &AppEventTrigger, one: &Happened) -> Result<bool, String> {
    if one.identity.is_empty() || !trigger.events.contains(&one.event) {
        return Ok(false);
    }
    let text = trigger.condition.as_deref().unwrap_or_default();
    let condition = expr::Condition::parse(text).map_err(|fault| fault.to_string())?;
    condition.holds(&Facts(one), Limits::default()).map_err(|fault| fault.to_string())
}

/// What the condition is asked about.
struct Facts<'a>(&'a Happened);

impl Scope for Facts<'_> {
    fn root(&self, name: &str) -> Option<expr::Value> {
        let fact = self.0.facts.get(name).map(expr::Value::from_json);
        Some(match name {
            "event" => word(self.0.event).into(),
            // Nothing counts as 0, which would say that it went well.
            "exit_code" => fact.unwrap_or(expr::Value::Number(f64::NAN)),
            "app" | "instance" | "ready" | "signal" => fact.unwrap_or(expr::Value::Null),
            _ => return None,
        })
    }
}

fn word(event: AppEvent) -> &'static str {
    match event {
        AppEvent::Start => "START",
        AppEvent::Exit => "EXIT",
        AppEvent::Health => "HEALTH",
        AppEvent::Status => "STATUS",
        AppEvent::Removed => "REMOVED",
    }
}

/// In a sentence.
fn told(trigger: &AppEventTrigger, one: &Happened) -> String {
    let fact = |name: &str| one.facts.get(name);
    let instance = fact("instance").and_then(Value::as_str).unwrap_or(&trigger.app);
    match one.event {
        AppEvent::Start => format!("{instance} started"),
        AppEvent::Exit => match (fact("exit_code"), fact("signal")) {
            (_, Some(signal)) => format!("{instance} was ended by {}", signal.as_str().unwrap_or_default()),
            (Some(code), None) => format!("{instance} ended with code {code}"),
            (None, None) => format!("{instance} ended, and nobody could see how"),
        },
        AppEvent::Health if fact("ready") == Some(&json!(true)) => format!("{instance} became ready"),
        AppEvent::Health => format!("{instance} is not ready any more"),
        AppEvent::Status if fact("suspended") == Some(&json!(true)) => format!("{} was suspended", trigger.app),
        AppEvent::Status => format!("{} was resumed", trigger.app),
        AppEvent::Removed => format!("{} was deleted", trigger.app),
    }
}

/// The same for the same occurrence, so that nothing is started twice.
fn name(workflow: &Object<Workflow>, one: &Happened) -> String {
    let identity = format!("{}/{}", workflow.uid(), one.identity);
    format!("{}-{:010x}", workflow.metadata.name, spread(&identity, 0) & 0xff_ffff_ffff)
}

fn run(workflow: &Object<Workflow>, name: &str, one: Happened) -> Value {
    let mut payload = one.facts;
    payload.insert("event".to_owned(), json!(word(one.event)));
    let event = json!({"name": EventName::AppEvent, "payload": payload});
    let spec = json!({"workflow": workflow.metadata.name, "event": event});
    owned::<WorkflowRun>(workflow, name, spec)
}

fn owned<K: Kind>(workflow: &Object<Workflow>, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": K::INFO.api_version(),
        "kind": K::INFO.kind,
        "metadata": {
            "namespace": workflow.metadata.namespace,
            "name": name,
            "ownerReferences": [OwnerReference::controller_of(workflow)],
        },
        "spec": spec,
    })
}

/// What its Schedules are to be, by name.
fn wanted(workflow: &Object<Workflow>) -> BTreeMap<String, Value> {
    let spec = &workflow.spec;
    let entries = spec.on.schedule.iter().map(|trigger| {
        let identity = format!("{}/{}/{}", workflow.uid(), trigger.cron, trigger.zone().unwrap_or_default());
        let words: String = workflow.metadata.name.chars().take(40).collect();
        let name = format!("{}-{:08x}", words.trim_matches(['-', '.']), spread(&identity, 0) & 0xffff_ffff);
        let mut wanted = json!({
            "cron": trigger.cron,
            "workflow": {"name": workflow.metadata.name},
            "successfulRunsHistoryLimit": spec.runs_history_limit,
            "failedRunsHistoryLimit": spec.runs_history_limit,
        });
        if let Some(zone) = trigger.zone() {
            wanted["timeZone"] = json!(zone);
        }
        (name, wanted)
    });
    entries.collect()
}

fn schedules(workflow: &Object<Workflow>, there: &[Arc<Object<Schedule>>], actions: &mut Vec<Action>) {
    let wanted = wanted(workflow);
    let known: BTreeSet<&str> = there.iter().map(|schedule| schedule.metadata.name.as_str()).collect();
    for schedule in there.iter().filter(|schedule| !schedule.metadata.is_deleting()) {
        match wanted.get(schedule.metadata.name.as_str()) {
            None => actions.push(Action::Unschedule(schedule.clone())),
            Some(spec) => {
                let is = json!(schedule.spec);
                let same = |(name, value): (&String, &Value)| is[name.as_str()] == *value;
                if !spec.as_object().is_some_and(|spec| spec.iter().all(same)) {
                    actions.push(Action::Reschedule(schedule.clone(), Box::new(spec.clone())));
                }
            }
        }
    }
    for (name, spec) in &wanted {
        if !known.contains(name.as_str()) {
            actions.push(Action::Schedule(Box::new(owned::<Schedule>(workflow, name, spec.clone()))));
        }
    }
}

fn set(
    status: &mut WorkflowStatus,
    holds: bool,
    reason: &str,
    message: String,
    workflow: &Object<Workflow>,
    now: Timestamp,
) {
    let condition = Condition::new(READY, holds, reason, message, Time(now)).of(workflow.metadata.generation);
    Condition::set(&mut status.conditions, condition);
    status.observed_generation = workflow.metadata.generation;
}
