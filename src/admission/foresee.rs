//! What a transaction would do: every field that it changes, every right that it lacks, and, by a forecaster that the daemon brings, what would
//! become of processes. Nothing is changed by asking.
//!
//! It is the very walk of [`Admission::transact`] over the same steps. The hash names what came of that: each object that would be written, as it
//! is and as it would be, without times, names and numbers that the server gives. A transaction that brings the hash along is done only if its own
//! walk comes to the same; and as each write is bound to the revision that was looked at, nothing comes in between.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    Admission, Caller, Patch, metadata,
    operation::{Action, Planned, Refusal},
    plan::Plan,
    quota,
    transaction::{ATTEMPTS, Parsed, Prepared, check_size, join, prepared, provenance},
};
use crate::{
    api::{
        self, BUILT_IN_ROLES, Cause, MissingRight, Outcome, PlannedAction, PlannedApp, PlannedChange, PlannedObject,
        PlannedVerb, Reason, Status, StoredObject, Transaction, Verbs,
    },
    auth::{Attributes, May},
    policy::field_changes::{changes, wishes},
    store::Commit,
};

/// What the hash is for, among all that the server's key is used for.
const PURPOSE: &str = "plan";
/// As many fields of an object are told.
const MOST_FIELDS: usize = 1000;

/// What becomes of processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// In order.
    pub actions: Vec<PlannedAction>,
    /// Of Apps that something becomes of.
    pub apps: Vec<PlannedApp>,
    /// What it takes for granted.
    pub assumptions: Vec<String>,
    /// Why it may not be all; empty if it is.
    pub incomplete: String,
}

/// Why there is no forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// What was to be changed has changed meanwhile.
    #[error("the objects change too fast")]
    Stale,
    /// As many are made as may be at once.
    #[error("other plans are being made")]
    Busy,
    /// The server's fault. The log knows more.
    #[error("it could not be found out what becomes of processes")]
    Failed,
}

/// Tells what becomes of processes if something is committed. Given by the daemon.
pub type Forecaster = Arc<dyn Fn(Commit) -> BoxFuture<'static, Result<Forecast, ForecastError>> + Send + Sync>;

/// A right that is missing.
#[derive(Clone, Debug)]
pub(super) struct Lack {
    verb: String,
    group: String,
    resource: String,
    namespace: String,
    name: String,
    message: String,
}

impl Lack {
    /// Of a request.
    pub(super) fn of(what: &Attributes<'_>, message: &str) -> Self {
        let slash = if what.subresource.is_empty() { "" } else { "/" };
        Self {
            verb: what.verb.to_owned(),
            group: what.group.to_owned(),
            resource: format!("{}{slash}{}", what.resource, what.subresource),
            namespace: what.namespace.to_owned(),
            name: what.name.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// 409 for a transaction that would not do what was planned.
pub(super) fn changed_since(hash: &str) -> Status {
    let message =
        format!("this is not what was planned: what would be changed is not as it was then (plan {hash:.12})");
    let cause = Cause { reason: "PlanChanged".to_owned(), message: message.clone(), field: "planHash".to_owned() };
    let mut status = Status::new(Reason::Conflict, message);
    status.details.causes = vec![cause];
    status
}

impl Admission {
    /// What a transaction would do.
    ///
    /// # Errors
    /// As [`Admission::transact`]; rights that are missing are no error, but part of the plan. `TooManyRequests` while as many plans as may be are
    /// being made.
    pub async fn plan(&self, caller: &Caller, transaction: Transaction) -> Result<api::Plan, Status> {
        let Prepared { caller, mut steps, options } = prepared(caller, transaction);
        let largest = self.inner.store.largest();
        if steps.len() > largest {
            return Err(Status::too_large(format!("{} operations are more than {largest}", steps.len())));
        }
        let mut denied = Vec::new();
        for (i, step) in steps.iter_mut().enumerate() {
            if let Ok(known) = step
                && let Err(status) = known.authorize(&self.inner.authority, &caller)
            {
                denied.push((i, Lack::of(&known.attributes(known.verb()), &status.message)));
                // Nobody looks whether it is there: it may have to be made.
                let create = known.attributes("create");
                if matches!(known.action, Action::Patch(Patch::Apply { .. }))
                    && let Err(status) = self.inner.authority.must(&caller.who, &create)
                {
                    denied.push((i, Lack::of(&create, &status.message)));
                }
                *step = Err(status);
            }
        }
        let mut settled = HashMap::new();
        for _ in 0..ATTEMPTS {
            let gate = self.gate(&steps).await;
            let (mut plan, mut unsettled) = (Plan::new(&self.inner.store), Vec::new());
            let revision = self.inner.store.revision();
            let (planned, refused, lacks) =
                self.walk(&caller, &steps, &options, &mut plan, &settled, &mut unsettled).await;
            drop(gate);
            if !unsettled.is_empty() {
                self.settle(unsettled, &mut settled).await?;
                continue;
            }
            let mut told = api::Plan::at(revision.to_string());
            if !refused.is_empty() {
                told.missing_rights = self.missing(&steps, refused, denied.into_iter().chain(lacks).collect())?;
                return Ok(told);
            }
            let writes = plan.writes();
            writes.iter().try_for_each(check_size)?;
            let quota::Judged { ceilings } = self.judge_quotas(&plan, &writes, &planned).map_err(join)?;
            told.hash = self.hash(&plan);
            told.objects = objects(&plan, &planned);
            count_objects(&mut told);
            let given = plan.given(planned.iter().map(|p| &p.key));
            if let Some(forecaster) = self.inner.forecaster.get().filter(|_| !options.dry_run && !writes.is_empty()) {
                let (at, durability) = (self.inner.clock.now(), options.durability);
                let commit = Commit { writes, given, ceilings, durability, provenance: provenance(&caller), at };
                match forecaster(commit).await {
                    Ok(forecast) => take_in(&mut told, forecast),
                    Err(ForecastError::Stale) => continue,
                    Err(error @ ForecastError::Busy) => {
                        return Err(Status::busy(format!("{error}; try again later")));
                    }
                    Err(error @ ForecastError::Failed) => return Err(Status::internal(error.to_string())),
                }
            }
            return Ok(told);
        }
        Err(Status::busy("the objects change too fast; try again later"))
    }

    /// The name of what a plan changes and of the state that it stands on.
    pub(super) fn hash(&self, plan: &Plan<'_>) -> String {
        let mut all = Vec::new();
        for (key, base, value) in plan.changed() {
            let made = base.is_none() && value.is_some_and(has_made_name);
            let name = if made { "" } else { &*key.name };
            let [old, new] = match key.kind.verbs {
                // What proves somebody is salted, so it is another thing each time.
                Verbs::None => [Value::Null, Value::Null],
                _ => [base.map(|base| wishes(&base.value())), value.map(wishes)]
                    .map(|wish| wish.map_or(Value::Null, plain)),
            };
            let uid = base.map(|base| base.meta().uid().as_str().to_owned());
            let going = value.is_none_or(metadata::is_deleting);
            all.push(json!([key.kind.qualified(), &*key.namespace, name, uid, going, old, new]));
        }
        self.broker().seal(PURPOSE, Value::Array(all).to_string().as_bytes())
    }

    /// Every right that is missing.
    ///
    /// # Errors
    /// If something else is wrong, too, everything that is.
    fn missing(
        &self,
        steps: &[Parsed],
        refused: Vec<(usize, Refusal)>,
        lacks: Vec<(usize, Lack)>,
    ) -> Result<Vec<MissingRight>, Status> {
        let forbidden = |refusal: &Refusal| matches!(refusal, Refusal::Status(status) if status.is(Reason::Forbidden));
        let invalid = refused.iter().any(|(_, refusal)| matches!(refusal, Refusal::Invalid(..)));
        // What is not found may be what somebody may not make: it is told when that is mended.
        if invalid || !refused.iter().any(|(_, refusal)| forbidden(refusal)) {
            return Err(join(refused));
        }
        let mut all = Vec::new();
        for (i, refusal) in &refused {
            let Refusal::Status(status) = refusal else { continue };
            if !forbidden(refusal) {
                continue;
            }
            let own = lacks.iter().filter(|(of, _)| of == i).map(|(_, lack)| lack.clone());
            let mut own: Vec<Lack> = own.collect();
            if own.is_empty()
                && let Some(Ok(step)) = steps.get(*i)
            {
                own.push(Lack::of(&step.attributes(step.verb()), &status.message));
            }
            all.extend(own.into_iter().map(|lack| self.right(*i, lack)));
        }
        Ok(all)
    }

    /// A right as it is told, with the built-in Roles that grant it.
    fn right(&self, operation: usize, lack: Lack) -> MissingRight {
        let (resource, subresource) = lack.resource.split_once('/').unwrap_or((&lack.resource, ""));
        let what = Attributes {
            verb: &lack.verb,
            group: &lack.group,
            resource,
            subresource,
            namespace: &lack.namespace,
            name: &lack.name,
            path: "",
        };
        let book = self.authority().book();
        let grants = |role: &&&str| book.grant(role).may(&what) == May::Always;
        let granted_by = BUILT_IN_ROLES.iter().filter(grants).map(|role| (*role).to_owned()).collect();
        let Lack { verb, group, resource, namespace, name, message } = lack;
        let operation = i64::try_from(operation).unwrap_or(i64::MAX);
        MissingRight { operation, verb, group, resource, namespace, name, message, granted_by }
    }
}

/// In one order, whatever the order in which it was written.
fn plain(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}

/// Whether the server made the name, so that it is another one each time.
fn has_made_name(object: &Value) -> bool {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    let prefix = text("generateName");
    !prefix.is_empty() && text("name").starts_with(prefix)
}

/// What becomes of the object of each step; of several steps on one object once, what all of them come to.
fn objects(plan: &Plan<'_>, planned: &[Planned]) -> Vec<PlannedObject> {
    let mut seen = BTreeSet::new();
    let first = planned.iter().filter(|done| seen.insert(&done.key));
    first.map(|done| object(plan, done)).collect()
}

fn object(plan: &Plan<'_>, done: &Planned) -> PlannedObject {
    let key = &done.key;
    let (base, new) = plan.both(key);
    let old = base.map(StoredObject::value);
    let going = done.outcome == Outcome::Deleted;
    let mut fields = if going { Vec::new() } else { changes(old.as_ref(), new) };
    let more_fields = fields.len().saturating_sub(MOST_FIELDS);
    fields.truncate(MOST_FIELDS);
    let change = match (going, base.is_some()) {
        (true, _) => PlannedChange::Deleted,
        (false, false) => PlannedChange::Created,
        (false, true) if fields.is_empty() => PlannedChange::Unchanged,
        (false, true) => PlannedChange::Changed,
    };
    let made = base.is_none() && new.is_some_and(has_made_name);
    PlannedObject {
        api_version: key.kind.api_version(),
        kind: key.kind.kind.to_owned(),
        namespace: key.namespace.to_string(),
        name: if made { String::new() } else { key.name.to_string() },
        change,
        fields,
        more_fields: i64::try_from(more_fields).unwrap_or(i64::MAX),
        warnings: done.warnings.clone(),
    }
}

fn count_objects(plan: &mut api::Plan) {
    for object in &plan.objects {
        let count = match object.change {
            PlannedChange::Created => &mut plan.summary.created,
            PlannedChange::Changed => &mut plan.summary.changed,
            PlannedChange::Deleted => &mut plan.summary.deleted,
            PlannedChange::Unchanged => &mut plan.summary.unchanged,
        };
        *count += 1;
    }
}

/// Puts a forecast into a plan, and counts. Who is stopped to be started again, or in whose place another one is started, is counted as that.
fn take_in(plan: &mut api::Plan, forecast: Forecast) {
    let Forecast { actions, apps, assumptions, incomplete } = forecast;
    let mut stops: HashMap<(&str, &str), i64> = HashMap::new();
    for action in actions.iter().filter(|action| !action.anyway) {
        let of_owner = stops.entry((&action.namespace, &action.owner)).or_default();
        let (count, replaced) = match action.verb {
            PlannedVerb::Start => (&mut plan.summary.starts, 0),
            PlannedVerb::Restart => (&mut plan.summary.restarts, 1),
            PlannedVerb::Replace => (&mut plan.summary.replacements, 1),
            PlannedVerb::Resize => (&mut plan.summary.resizes, 0),
            PlannedVerb::Stop => {
                *of_owner += 1;
                continue;
            }
        };
        *count += 1;
        *of_owner -= replaced;
    }
    plan.summary.stops = stops.into_values().map(|left| left.max(0)).sum();
    (plan.actions, plan.apps, plan.assumptions, plan.incomplete) = (actions, apps, assumptions, incomplete);
}
