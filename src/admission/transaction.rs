//! Ordered steps, all or nothing.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    Admission, Caller, DeleteOptions, Patch, WriteOptions, circles,
    foresee::{self, Lack},
    namespace,
    operation::{Action, Context, Planned, Refusal, Step},
    plan::Plan,
    quota, targets,
};
use crate::{
    api::{
        Cause, FieldPath, Key, Kind, Namespace, Operation, OperationVerb, Outcome, Reason, Rev, Status, StoredObject,
        Subresource, Time, Transaction, find_kind, kinds,
    },
    auth::password::{Asked, Settled},
    client::Done,
    store::{Commit, CommitError, Provenance, Write},
};

/// How often a plan is made anew because something that it stood on has changed.
pub(super) const ATTEMPTS: usize = 100;
/// Largest object, a little less than a request may carry: whoever reads one must be able to send it back.
const LARGEST_OBJECT: usize = (3 << 20) - 4096;
/// How many steps are planned before others get their turn.
const STRIDE: usize = 16;

/// What one step did.
pub(super) struct StepDone {
    pub(super) object: Arc<StoredObject>,
    pub(super) outcome: Outcome,
    pub(super) warnings: Vec<String>,
    pub(super) gone: bool,
}

/// What was done in a plan, what was refused, and which rights were missing, with the places of their steps.
pub(super) type Walked = (Vec<Planned>, Vec<(usize, Refusal)>, Vec<(usize, Lack)>);

/// A step, or why a request cannot be one.
pub(super) type Parsed = Result<Step, Status>;

impl Admission {
    /// Does every operation, in order, or none. One revision; one entry of the answer for each operation.
    ///
    /// Not cancel-safe: a dropped call may or may not have been done.
    ///
    /// # Errors
    /// One `Status` that names everything that is wrong with any operation, each field under `operations[i].object`.
    pub async fn transact(&self, caller: &Caller, transaction: Transaction) -> Result<Vec<Done>, Status> {
        let Prepared { caller, steps, options } = prepared(caller, transaction);
        let done = self.run(&caller, &steps, &options, join).await?;
        Ok(done.into_iter().map(|d| Done { outcome: d.outcome, object: d.object, warnings: d.warnings }).collect())
    }

    /// The one machine behind all writes. `join` makes one answer of what is wrong.
    pub(super) async fn run(
        &self,
        caller: &Caller,
        steps: &[Parsed],
        options: &WriteOptions,
        join: fn(Vec<(usize, Refusal)>) -> Status,
    ) -> Result<Vec<StepDone>, Status> {
        let done = self.run_all(caller, steps, options, join).await?;
        let shown = |done: StepDone| {
            let object = self.eyes(caller, done.object.key.kind).show(done.object);
            StepDone { object, ..done }
        };
        Ok(done.into_iter().map(shown).collect())
    }

    async fn run_all(
        &self,
        caller: &Caller,
        steps: &[Parsed],
        options: &WriteOptions,
        join: fn(Vec<(usize, Refusal)>) -> Status,
    ) -> Result<Vec<StepDone>, Status> {
        let largest = self.inner.store.largest();
        if steps.len() > largest {
            return Err(store_status(&CommitError::TooLarge { writes: steps.len(), largest }));
        }
        let refused: Vec<(usize, Refusal)> = steps
            .iter()
            .enumerate()
            .filter_map(|(i, step)| {
                Some((i, step.as_ref().ok()?.authorize(&self.inner.authority, caller).err()?.into()))
            })
            .collect();
        if !refused.is_empty() {
            return Err(join(refused));
        }
        let provenance = Provenance { rule: self.rule(caller, steps), ..provenance(caller) };
        let mut settled = HashMap::new();
        for _ in 0..ATTEMPTS {
            let gate = self.gate(steps).await;
            let (mut plan, mut unsettled) = (Plan::new(&self.inner.store), Vec::new());
            let (planned, refused, _) = self.walk(caller, steps, options, &mut plan, &settled, &mut unsettled).await;
            if !unsettled.is_empty() {
                // Nobody waits at the gate for a hash.
                drop(gate);
                self.settle(unsettled, &mut settled).await?;
                continue;
            }
            if !refused.is_empty() {
                return Err(join(refused));
            }
            let writes = plan.writes();
            writes.iter().try_for_each(check_size)?;
            if !options.plan_hash.is_empty() && options.plan_hash != self.hash(&plan) {
                return Err(foresee::changed_since(&options.plan_hash));
            }
            let quota::Judged { ceilings } = self.judge_quotas(&plan, &writes, &planned).map_err(join)?;
            if writes.is_empty() || options.dry_run {
                let revision = self.inner.store.revision();
                return Ok(planned.into_iter().map(|p| finish(p, &HashMap::new(), &plan, revision)).collect());
            }
            let commit = Commit {
                writes,
                given: plan.given(planned.iter().map(|p| &p.key)),
                ceilings,
                durability: options.durability,
                provenance: provenance.clone(),
                at: self.inner.clock.now(),
            };
            match self.inner.store.commit(commit).await {
                Ok(committed) => {
                    let written = committed.objects.iter().map(|object| (&object.key, object)).collect();
                    let done = planned.into_iter().map(|p| finish(p, &written, &plan, committed.revision));
                    return Ok(done.collect());
                }
                Err(CommitError::Conflict(key)) => tracing::debug!(%key, "planning anew"),
                Err(CommitError::Crowded) => tracing::debug!("counting anew"),
                Err(error) => return Err(store_status(&error)),
            }
        }
        Err(Status::busy("the objects change too fast; try again later"))
    }

    /// Keeps namespaces in place while something is made in them.
    pub(super) async fn gate(&self, steps: &[Parsed]) -> Gate<'_> {
        let steps = || steps.iter().filter_map(|step| step.as_ref().ok());
        let is_namespace = |step: &Step| step.served.kind == Namespace::INFO;
        let makes = |step: &Step| {
            step.served.kind.is_namespaced()
                && matches!(step.action, Action::Create(_) | Action::Patch(Patch::Apply { .. }))
        };
        if steps().any(is_namespace) {
            Gate::Exclusive { _guard: self.inner.namespaces.write().await }
        } else if steps().any(makes) {
            Gate::Shared { _guard: self.inner.namespaces.read().await }
        } else {
            Gate::Open
        }
    }

    /// What allows it all, for the audit log; what appm does by itself is not recorded.
    fn rule(&self, caller: &Caller, steps: &[Parsed]) -> String {
        if caller.request_id.is_empty() {
            return String::new();
        }
        let rules = steps.iter().flatten().map(|step| step.rule(&self.inner.authority, caller));
        rules.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(", ")
    }

    /// Finds out what becomes of passwords that are set.
    pub(super) async fn settle(&self, all: Vec<Asked>, settled: &mut HashMap<Asked, Settled>) -> Result<(), Status> {
        for asked in all {
            if let Entry::Vacant(place) = settled.entry(asked) {
                let outcome = self.inner.passwords.settle(place.key().clone()).await?;
                place.insert(outcome);
            }
        }
        Ok(())
    }

    /// Does every step in the plan; tells which were done, which were refused, and which rights were missing.
    pub(super) async fn walk(
        &self,
        caller: &Caller,
        steps: &[Parsed],
        options: &WriteOptions,
        plan: &mut Plan<'_>,
        settled: &HashMap<Asked, Settled>,
        unsettled: &mut Vec<Asked>,
    ) -> Walked {
        let context = Context {
            store: &self.inner.store,
            authority: &self.inner.authority,
            clock: &*self.inner.clock,
            caller,
            field_validation: options.field_validation,
            repeated: &options.repeated,
            settled,
            unsettled: RefCell::default(),
            lacks: RefCell::default(),
            now: Time(self.inner.clock.now()).to_string(),
        };
        let (mut planned, mut refused, mut lacks) = (Vec::with_capacity(steps.len()), Vec::new(), Vec::new());
        for (i, step) in steps.iter().enumerate() {
            if i % STRIDE == STRIDE - 1 {
                tokio::task::yield_now().await;
            }
            let done = match step {
                Ok(step) => context.run(step, plan),
                Err(status) => Err(status.clone().into()),
            };
            lacks.extend(context.lacks.take().into_iter().map(|lack| (i, lack)));
            match done {
                Ok(done) => planned.push(done),
                Err(refusal) => refused.push((i, refusal)),
            }
        }
        unsettled.append(&mut context.unsettled.into_inner());
        if refused.is_empty() {
            refused = circles::check(plan, &planned);
            targets::warn(plan, &mut planned, &self.inner.authority, caller);
        }
        (planned, refused, lacks)
    }
}

#[allow(dead_code, reason = "the guards are held, not read")]
pub(super) enum Gate<'a> {
    Open,
    Shared { _guard: tokio::sync::RwLockReadGuard<'a, ()> },
    Exclusive { _guard: tokio::sync::RwLockWriteGuard<'a, ()> },
}

fn finish(planned: Planned, written: &HashMap<&Key, &Arc<StoredObject>>, plan: &Plan<'_>, revision: Rev) -> StepDone {
    let Planned { key, outcome, warnings, gone } = planned;
    let object = written.get(&key).map_or_else(|| plan.object(&key, revision), |object| Arc::clone(object));
    StepDone { object, outcome, warnings, gone }
}

pub(super) fn provenance(caller: &Caller) -> Provenance {
    Provenance {
        actor: caller.who.name.clone(),
        manager: caller.manager.clone(),
        request_id: caller.request_id.clone(),
        cause: caller.cause,
        reason: caller.reason.clone(),
        rule: String::new(),
    }
}

/// A transaction as it is done.
pub(super) struct Prepared {
    pub(super) caller: Caller,
    pub(super) steps: Vec<Parsed>,
    pub(super) options: WriteOptions,
}

/// What a transaction says of itself, said of its caller.
pub(super) fn prepared(caller: &Caller, transaction: Transaction) -> Prepared {
    let mut caller = caller.clone();
    if !transaction.field_manager.is_empty() {
        caller.manager = transaction.field_manager;
    }
    if !transaction.reason.is_empty() {
        caller.reason = transaction.reason;
    }
    caller.cause = transaction.cause.or(caller.cause);
    let options = WriteOptions {
        dry_run: transaction.dry_run,
        durability: transaction.durability,
        plan_hash: transaction.plan_hash,
        ..WriteOptions::default()
    };
    Prepared { caller, steps: transaction.operations.into_iter().map(step_of).collect(), options }
}

/// Patches and applies add to what is there, so that a bound on requests alone bounds no object.
pub(super) fn check_size(write: &Write) -> Result<(), Status> {
    let size = write.body.as_ref().map_or(0, |body| body.json().len());
    if size <= LARGEST_OBJECT {
        return Ok(());
    }
    let Key { kind, name, .. } = &write.key;
    let message = format!("{} \"{name}\" would be {size} bytes long: limit is {LARGEST_OBJECT}", kind.qualified());
    Err(Status::too_large(message))
}

/// What a client is told of the store's troubles; the cause goes to the log.
pub(super) fn store_status(error: &CommitError) -> Status {
    match error {
        CommitError::TooLarge { .. } => Status::too_large(error.to_string()),
        CommitError::Overloaded => Status::busy("too many writes are waiting; try again later"),
        CommitError::Closed => Status::new(Reason::ServiceUnavailable, "the server is shutting down"),
        CommitError::Unwitnessed(why) => {
            Status::new(Reason::ServiceUnavailable, format!("{why}; changes are refused until it can"))
        }
        CommitError::Unwritable(_) | CommitError::Conflict(_) | CommitError::Crowded => {
            tracing::error!(%error, "a write was not stored");
            Status::internal("the change could not be written to disk, and was not made")
        }
    }
}

/// The answer to a request for one object.
pub(super) fn only(mut refused: Vec<(usize, Refusal)>) -> Status {
    match refused.swap_remove(0).1 {
        Refusal::Invalid(kind, name, violations) if violations.iter().any(|v| v.undecodable().is_some()) => {
            Status::undecodable(kind, &name, &violations)
        }
        Refusal::Invalid(kind, name, violations) => Status::invalid(kind, &name, &violations),
        Refusal::Status(status) => status,
    }
}

/// The answer to a transaction: the first reason, or `Invalid` if anything is, and every cause.
pub(super) fn join(refused: Vec<(usize, Refusal)>) -> Status {
    let operation = |i: usize| FieldPath::of("operations").index(i);
    let (mut causes, mut lines) = (Vec::new(), Vec::new());
    let mut first: Option<Status> = None;
    let mut invalid = false;
    for (i, refusal) in &refused {
        match refusal {
            Refusal::Invalid(_, _, violations) => {
                invalid = true;
                let at = operation(*i).field("object");
                let placed = violations.iter().map(|v| v.clone().under(&at));
                placed.for_each(|v| {
                    lines.push(v.to_string());
                    causes.push(Cause::from(&v));
                });
            }
            Refusal::Status(status) => {
                lines.push(format!("{}: {}", operation(*i), status.message));
                causes.extend(placed_causes(status, &operation(*i)));
                first.get_or_insert_with(|| status.clone());
            }
        }
    }
    let mut status = match (invalid, first) {
        (false, Some(only)) if refused.len() == 1 => only,
        (false, Some(first)) => Status { message: lines.join("; "), ..first },
        _ => {
            let listed = if lines.len() == 1 { lines.remove(0) } else { format!("[{}]", lines.join(", ")) };
            Status::new(Reason::Invalid, format!("the transaction is invalid: {listed}"))
        }
    };
    status.details.causes = causes;
    status
}

/// The causes of one operation's failure, seen from the transaction; at least one, so that each operation is named.
fn placed_causes(status: &Status, at: &FieldPath) -> Vec<Cause> {
    let object = at.field("object");
    let placed = |cause: &Cause| {
        let field = object.join(&FieldPath::of(cause.field.trim_start_matches('.')));
        Cause { field: field.to_string(), ..cause.clone() }
    };
    if status.details.causes.is_empty() {
        let reason = format!("{:?}", status.reason);
        return vec![Cause { reason, message: status.message.clone(), field: at.to_string() }];
    }
    status.details.causes.iter().map(placed).collect()
}

/// One operation as it came over the wire.
fn step_of(operation: Operation) -> Parsed {
    let Operation { verb, object, force, preconditions, with_status, .. } = operation;
    let (propagation_policy, grace_period_seconds) = (operation.propagation_policy, operation.grace_period_seconds);
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let Some(served) = kinds::find_served(api_version, kind) else {
        return Err(no_such_kind(api_version, kind));
    };
    let in_metadata = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let namespace = match (served.kind.is_namespaced(), in_metadata("namespace")) {
        (true, namespace) if namespace.is_empty() => namespace::DEFAULT.to_owned(),
        (true, namespace) => namespace,
        (false, _) => String::new(),
    };
    let name = if verb == OperationVerb::Create { String::new() } else { in_metadata("name") };
    if name.is_empty() && verb != OperationVerb::Create {
        return Err(Status::bad_request("metadata.name is required"));
    }
    let subresource = match verb {
        OperationVerb::Status => Some(Subresource::Status),
        OperationVerb::Finalize => Some(Subresource::Finalize),
        _ => None,
    };
    let action = match verb {
        OperationVerb::Create => Action::Create(object),
        OperationVerb::Apply => Action::Patch(Patch::Apply { object, force }),
        OperationVerb::Update | OperationVerb::Status | OperationVerb::Finalize => {
            Action::Update { body: object, versioned: false }
        }
        OperationVerb::Delete => Action::Delete(DeleteOptions {
            propagation_policy: Some(propagation_policy),
            grace_period_seconds,
            ..DeleteOptions::default()
        }),
    };
    Ok(Step { served, namespace, name, subresource, preconditions, action, with_status })
}

fn no_such_kind(api_version: &str, kind: &str) -> Status {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let hint = match find_kind(group, kind) {
        Some(known) => format!("; it is served as {}", known.api_version()),
        None => match kinds::served().find(|s| s.name() == kind) {
            Some(served) => format!("; it is served as {}", served.api_version()),
            None => String::new(),
        },
    };
    Status::bad_request(format!("no matches for kind \"{kind}\" in version \"{api_version}\"{hint}"))
}
