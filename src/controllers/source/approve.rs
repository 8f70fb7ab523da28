//! What a Source would do, where somebody must agree to it first: planned, told, and done when the annotation names that very plan.

use super::{
    decide::{Held, Plan, some},
    execute::Acting,
};
use crate::{
    api::{self, APPROVED_PLAN, Approve, PendingPlan, SourceStatus, Status, Transaction, approved_hash},
    controllers::operations::is_refusal,
    policy::planned::lines,
};

/// Why a Source is not ready that waits for approval.
pub(super) const AWAITING_APPROVAL: &str = "AwaitingApproval";
/// As many lines of a plan stand in a status.
const LINES: usize = 200;
/// As long as a line may be.
const LONGEST: usize = 300;

/// Whether what is to be done may be done.
#[derive(Debug, PartialEq)]
pub(super) enum Consent {
    /// Nobody is asked.
    Free,
    /// It was approved, or changes nothing: if it is still the plan of this hash.
    To {
        /// The hash.
        hash: String,
        /// By which approval; each is good for once.
        by: Option<String>,
    },
    /// It waits.
    Awaited(Box<PendingPlan>),
}

impl Consent {
    /// Why nothing is done, if so.
    pub(super) fn held(&self, name: &str) -> Option<Held> {
        let Consent::Awaited(pending) = self else { return None };
        let PendingPlan { hash, created, changed, deleted, .. } = &**pending;
        let message = format!(
            "{created} to create, {changed} to change, {deleted} to delete: appm source diff {name}; \
             appm source approve {name} {hash:.12}"
        );
        Some(Held { reason: AWAITING_APPROVAL, message, stalled: true })
    }

    /// What alone may be done; empty: whatever it is.
    pub(super) fn only(&self) -> &str {
        match self {
            Consent::To { hash, .. } => hash,
            _ => "",
        }
    }

    /// What is to be said of it in the status of a Source, where what was agreed to is `done`.
    pub(super) fn tell(self, done: bool, status: &mut SourceStatus) {
        status.pending = None;
        match self {
            Consent::Awaited(pending) => status.pending = Some(*pending),
            Consent::To { by: Some(by), .. } if done => status.last_approval = by,
            _ => {}
        }
    }
}

impl Acting<'_> {
    /// Whether a plan may be carried out, or why it would be refused. What would change nothing needs nobody's consent.
    pub(super) async fn consent(&self, plan: &Plan) -> Result<Result<Consent, String>, Status> {
        if self.source.spec.approve == Approve::Automatic || plan.apply.is_empty() && plan.prune.is_empty() {
            return Ok(Ok(Consent::Free));
        }
        let transaction = self.of_plan(plan);
        // What it is comes first; what would become of processes is found out only for a plan that is new.
        let brief = Transaction { dry_run: true, ..transaction.clone() };
        let known = match self.planned(plan, brief).await? {
            Ok(known) => known,
            Err(why) => return Ok(Err(why)),
        };
        let approval = self.source.metadata.annotations.get(APPROVED_PLAN).unwrap_or_default();
        let fresh = approved_hash(approval) == known.hash && approval != self.source.status.last_approval;
        if known.changes_nothing() || fresh {
            let by = fresh.then(|| approval.to_owned());
            return Ok(Ok(Consent::To { hash: known.hash, by }));
        }
        if let Some(pending) = self.source.status.pending.as_ref().filter(|pending| pending.hash == known.hash) {
            let revision = self.revision.to_owned();
            return Ok(Ok(Consent::Awaited(Box::new(PendingPlan { revision, ..pending.clone() }))));
        }
        let whole = self.planned(plan, transaction).await?;
        Ok(whole.map(|whole| Consent::Awaited(Box::new(self.told_of(&whole)))))
    }

    /// What a transaction would do, or why it would be refused.
    async fn planned(&self, plan: &Plan, transaction: Transaction) -> Result<Result<api::Plan, String>, Status> {
        match self.client.plan(transaction).await {
            Ok(planned) if planned.missing_rights.is_empty() => Ok(Ok(planned)),
            Ok(planned) => {
                let all: Vec<String> = planned.missing_rights.into_iter().map(|right| right.message).collect();
                Ok(Err(some(all.len(), all.into_iter())))
            }
            Err(status) if is_refusal(&status) => Ok(Err(self.told(&plan.apply, &status))),
            Err(status) => Err(status),
        }
    }

    fn told_of(&self, plan: &api::Plan) -> PendingPlan {
        let all = lines(plan);
        let more = all.len().saturating_sub(LINES);
        let shown = all.into_iter().take(LINES).map(|line| line.text.chars().take(LONGEST).collect());
        PendingPlan {
            hash: plan.hash.clone(),
            revision: self.revision.to_owned(),
            created: plan.summary.created,
            changed: plan.summary.changed,
            deleted: plan.summary.deleted,
            lines: shown.collect(),
            more_lines: i64::try_from(more).unwrap_or(i64::MAX),
        }
    }
}
