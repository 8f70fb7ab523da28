//! Does what a plan says, in one transaction, as the Source's identity.

use super::{
    decide::{Plan, named, some},
    ledger::Ledger,
    withheld::told,
};
use crate::{
    api::{Cause, Key, OWNER, Object, Operation, OperationVerb, Source, Status, StoredObject, Transaction, manager_of},
    client::{Done, SharedClient},
    controllers::operations::{delete, is_refusal},
    drivers::sources::Tree,
    policy::{field_changes::changes, fleet::Fleet},
    runtime::Caches,
};

/// How a warning begins that a field of one of Kubernetes' own kinds is unknown.
const UNKNOWN: &str = "unknown field \"";

/// What came of it.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// All of it was done.
    Done,
    /// None of it: the same will be refused again until somebody changes something. Why, and at which places of which files.
    Refused(String),
}

/// By whom and on what it is done.
pub(super) struct Acting<'a> {
    pub(super) client: &'a SharedClient,
    pub(super) caches: &'a Caches,
    pub(super) source: &'a Object<Source>,
    pub(super) fleet: &'a Fleet,
    /// What that was made of.
    pub(super) tree: Option<&'a Tree>,
    pub(super) revision: &'a str,
    /// Nothing but the plan of this hash is done; empty: whatever it is.
    pub(super) only: &'a str,
}

impl Acting<'_> {
    /// As whom: the User that the Source names, or whoever made it.
    fn user(&self) -> String {
        let owner = || self.source.metadata.annotations.get(OWNER).unwrap_or_default().to_owned();
        self.source.spec.identity.clone().unwrap_or_else(owner)
    }

    fn transaction(&self, keys: &[Key], more: Vec<Operation>) -> Transaction {
        let me = self.source.key();
        let objects = self.fleet.objects(keys, &me).into_iter();
        let apply = |object| Operation { force: true, ..Operation::new(OperationVerb::Apply, object) };
        let operations = objects.map(apply).chain(more).collect();
        let mut transaction = Transaction::new(&manager_of(&me), operations);
        transaction.user = Some(self.user());
        transaction.reason = format!("source {}/{} at {}", me.namespace, me.name, self.revision);
        transaction
    }

    /// What a plan comes to.
    pub(super) fn of_plan(&self, plan: &Plan) -> Transaction {
        let pruned = plan.prune.iter().map(|(key, uid)| delete(key, uid)).collect();
        self.transaction(&plan.apply, pruned)
    }

    /// Applies and deletes; remembers what became of each object.
    pub(super) async fn apply(&self, plan: &Plan, ledger: &mut Ledger) -> Result<Outcome, Status> {
        if plan.apply.is_empty() && plan.prune.is_empty() {
            return Ok(Outcome::Done);
        }
        let transaction = Transaction { plan_hash: self.only.to_owned(), ..self.of_plan(plan) };
        let done = match self.client.transact(transaction).await {
            Ok(done) => done,
            Err(status) if is_refusal(&status) => return Ok(Outcome::Refused(self.told(&plan.apply, &status))),
            Err(status) => return Err(status),
        };
        self.caches.written(&done);
        for (key, done) in plan.apply.iter().zip(&done) {
            self.remember(key, &done.object, Vec::new(), ledger);
            ledger.warn(key, &done.warnings);
        }
        Ok(Outcome::Done)
    }

    /// Finds out in which fields objects differ from what is declared, and changes none.
    pub(super) async fn compare(&self, plan: &Plan, ledger: &mut Ledger) -> Result<Outcome, Status> {
        if plan.compare.is_empty() {
            return Ok(Outcome::Done);
        }
        let transaction = Transaction { dry_run: true, ..self.transaction(&plan.compare, Vec::new()) };
        let done: Vec<Done> = match self.client.transact(transaction).await {
            Ok(done) => done,
            Err(status) if is_refusal(&status) => return Ok(Outcome::Refused(self.told(&plan.compare, &status))),
            Err(status) => return Err(status),
        };
        for (key, done) in plan.compare.iter().zip(&done) {
            let Some(live) = self.caches.of(key.kind).get(key) else { continue };
            let changed = changes(Some(&live.value()), Some(&done.object.value()));
            let drift = changed.into_iter().map(|change| change.path).collect();
            self.remember(key, &live, drift, ledger);
        }
        Ok(Outcome::Done)
    }

    fn remember(&self, key: &Key, object: &StoredObject, drift: Vec<String>, ledger: &mut Ledger) {
        if let Some(origin) = self.fleet.declared().get(key) {
            ledger.remember(key, origin, object, drift);
        }
    }

    /// What the server said, at the places where it is written.
    pub(super) fn told(&self, sent: &[Key], status: &Status) -> String {
        let cause_told = |cause: &Cause| match self.fleet.locate(sent, cause) {
            Some(placed) => told(&placed, self.tree),
            None => cause.message.clone(),
        };
        let causes = &status.details.causes;
        if causes.is_empty() { status.message.clone() } else { some(causes.len(), causes.iter().map(cause_told)) }
    }
}

/// What the server warned of when it took objects, at the places where it is written; nothing if it warned of nothing.
pub(super) fn warnings(fleet: &Fleet, tree: Option<&Tree>, ledger: &Ledger) -> String {
    let all = || ledger.warned.iter().flat_map(|(key, warnings)| warnings.iter().map(move |warning| (key, warning)));
    let cause = |field: &str| Cause {
        reason: "FieldUnknown".to_owned(),
        message: "unknown field; it is ignored".to_owned(),
        field: format!("operations[0].object.{field}"),
    };
    let is_sealed = |key: &Key| {
        let file = fleet.declared().get(key).map(|origin| &origin.file);
        file.zip(tree).is_some_and(|(file, tree)| tree.is_sealed(file))
    };
    let say = |(key, warning): (&Key, &String)| {
        let field = warning.strip_prefix(UNKNOWN).and_then(|rest| rest.strip_suffix('"'));
        match field.and_then(|field| fleet.locate(std::slice::from_ref(key), &cause(field))) {
            Some(placed) => told(&placed, tree),
            None if is_sealed(key) => format!("{}: a warning is not shown, because its file is encrypted", named(key)),
            None => format!("{}: {warning}", named(key)),
        }
    };
    some(all().count(), all().map(say))
}
