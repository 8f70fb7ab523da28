//! Quotas: how much a namespace and a user may have, judged where everything else is judged, and told in each ResourceQuota's status.
//!
//! ```text
//!   plan ─► what grows, in whose accounts ─► which bounds hold there ─► enough room? ─► Store::commit, which looks again:
//!                                             ResourceQuotas, User.spec.limits,         of two that reach for the last
//!                                             the server's settings                     room one gets it
//! ```
//! Whoever is over a bound can delete, lower and report; only what would grow is refused, all of it at once, in Kubernetes' words. Where
//! nothing is bounded nothing is looked at but an empty list.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Admission, Caller,
    operation::{Planned, Refusal},
    plan::Plan,
};
use crate::{
    api::{
        Cause, Claim, Durability, Instance, Key, Kind, Measure, OVER_QUOTA, OWNER, Object, Operation, OperationVerb,
        Quantity, Reason, ResourceQuota, ResourceQuotaStatus, Status, StoredObject, Transaction, UserLimits, at,
    },
    auth::{Identity, OWNER_NAME, Proof},
    policy::quota::{Account, Ceiling, Counted, Sums},
    store::Write,
};

/// The most of one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// What it is called where it was said.
    pub name: String,
    /// What is counted.
    pub measure: Measure,
    /// As it was written.
    pub hard: Quantity,
}

impl Bound {
    fn new(name: &str, measure: Measure, hard: &Quantity) -> Self {
        Self { name: name.to_owned(), measure, hard: hard.clone() }
    }

    fn most(&self) -> i128 {
        self.measure.amount(&self.hard)
    }
}

/// What holds wherever nobody has said anything else. By default nobody notices it who does not run wild.
#[derive(Clone, Debug, PartialEq)]
pub struct Quotas {
    /// Of each namespace, beside its ResourceQuotas.
    pub namespace: Vec<Bound>,
    /// Of each user; a User's own `limits` come before it. The owner of the server (`admin`) has none unless their User says so.
    pub user: UserLimits,
}

impl Default for Quotas {
    fn default() -> Self {
        let limits = |objects, instances| UserLimits {
            objects: Some(objects),
            instances: Some(instances),
            ..UserLimits::default()
        };
        let user = UserLimits { requests_per_second: Some(2000), ..limits(50_000, 10_000) };
        Self { namespace: bounds(&limits(50_000, 10_000)), user }
    }
}

/// What of a user's limits is about objects.
pub fn bounds(limits: &UserLimits) -> Vec<Bound> {
    let count = |name, measure, most: Option<u32>| {
        most.map(|most| Bound { name, measure, hard: measure.quantity(most.into()) })
    };
    let amount = |name: &str, resource, most: &Option<Quantity>| {
        Some(Bound::new(name, Measure::Requests(resource), most.as_ref()?))
    };
    let all = [
        count("objects".to_owned(), Measure::Objects, limits.objects),
        count("instances".to_owned(), Measure::Instances, limits.instances),
        amount("cpu", crate::api::RequestName::Cpu, &limits.cpu),
        amount("memory", crate::api::RequestName::Memory, &limits.memory),
    ];
    all.into_iter().flatten().collect()
}

/// Bounds that somebody has set for an account.
struct Quota {
    name: String,
    account: Account,
    bounds: Vec<Bound>,
    /// An Instance must name what is bounded.
    demands: bool,
}

impl Quota {
    /// What is bounded and an Instance does not name.
    fn missing(&self, claim: &Claim) -> Vec<&str> {
        let names = |bound: &&Bound| match bound.measure {
            Measure::Requests(name) => !claim.requests.contains_key(&name),
            Measure::Limits(name) => !claim.limits.contains_key(&name),
            _ => false,
        };
        self.bounds.iter().filter(|_| self.demands).filter(names).map(|bound| bound.name.as_str()).collect()
    }
}

/// Everything that a transaction stands before.
pub(super) struct Judged {
    /// For the store's writer to look at again.
    pub(super) ceilings: Vec<Ceiling>,
}

impl Admission {
    /// Whether there is room for everything that a plan writes.
    ///
    /// # Errors
    /// For each operation that passes a bound first: which quota, what was asked for, what is used, what is allowed.
    pub(super) fn judge_quotas(
        &self,
        plan: &Plan<'_>,
        writes: &[Write],
        planned: &[Planned],
    ) -> Result<Judged, Vec<(usize, Refusal)>> {
        // Of statuses alone only an Instance that was over can come to ask for more.
        let revives = |write: &Write| {
            let (old, new) = plan.both(&write.key);
            let was_over = old.and_then(StoredObject::claim).is_some_and(|claim| claim.over);
            was_over && new.is_none_or(|new| at(new, &["status", "state", "exited"]).is_null())
        };
        if writes.iter().all(|write| write.status_only && !revives(write)) {
            return Ok(Judged { ceilings: Vec::new() });
        }
        let claims: Vec<Option<Claim>> = writes
            .iter()
            .map(|write| Claim::of(write.key.kind, write.body.as_ref().map_or(b"{}", |body| body.json())))
            .collect();
        let steps: Vec<_> = writes
            .iter()
            .zip(&claims)
            .map(|(write, claim)| {
                let (old, new) = plan.both(&write.key);
                let Key { kind, namespace, .. } = &write.key;
                let new = new.filter(|_| write.body.is_some()).map(|new| {
                    let owner = at(new, &["metadata", "annotations", OWNER]).as_str().unwrap_or_default();
                    Counted { kind, namespace, owner, claim: claim.as_ref() }
                });
                (&write.key, old.map(Counted::of), new)
            })
            .collect();
        let mut more = Sums::default();
        steps.iter().for_each(|(_, old, new)| more.replace(old.as_ref(), new.as_ref()));
        let quotas: Vec<Quota> = more.grown().into_iter().flat_map(|account| self.quotas_of(account)).collect();
        let ceilings: Vec<Ceiling> = quotas.iter().flat_map(ceilings).collect();
        let mut refused: BTreeMap<&Key, Vec<String>> = BTreeMap::new();
        for quota in quotas.iter().filter(|quota| quota.demands) {
            for (key, old, new) in &steps {
                let claim = new.as_ref().filter(|_| old.is_none() && in_account(key, quota)).and_then(|new| new.claim);
                let missing = claim.map(|claim| quota.missing(claim)).unwrap_or_default();
                if !missing.is_empty() {
                    let message = format!("failed quota: {}: must specify {}", quota.name, missing.join(","));
                    refused.entry(key).or_default().push(message);
                }
            }
        }
        for quota in &quotas {
            let used = |bound: &Bound| self.store().used(&quota.account, bound.measure);
            let over = |bound: &&Bound| !ceiling(quota, bound).admits(used(bound), &more);
            let over: Vec<&Bound> = quota.bounds.iter().filter(over).collect();
            let Some(first) = over.first() else { continue };
            let said = |amount: &dyn Fn(&Bound) -> String| {
                over.iter().map(|bound| format!("{}={}", bound.name, amount(bound))).collect::<Vec<_>>().join(",")
            };
            let message = format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.name,
                said(&|b| b.measure.quantity(more.get(&quota.account, b.measure)).to_string()),
                said(&|b| b.measure.quantity(used(b)).to_string()),
                said(&|b| b.hard.to_string()),
            );
            // The step that passes the bound answers for all.
            let mut so_far = Sums::default();
            let passes = steps.iter().find(|(_, old, new)| {
                so_far.replace(old.as_ref(), new.as_ref());
                !ceiling(quota, first).admits(used(first), &so_far)
            });
            if let Some((key, ..)) = passes {
                refused.entry(key).or_default().push(message);
            }
        }
        if refused.is_empty() {
            return Ok(Judged { ceilings });
        }
        let place = |key: &Key| planned.iter().position(|planned| planned.key == *key).unwrap_or_default();
        let mut refused: Vec<_> =
            refused.iter().map(|(key, messages)| (place(key), Refusal::Status(over_quota(key, messages)))).collect();
        refused.sort_by_key(|(place, _)| *place);
        Err(refused)
    }

    /// The quotas of an account.
    fn quotas_of(&self, account: Account) -> Vec<Quota> {
        match &account {
            Account::Namespace(namespace) => {
                let there = self.store().list(ResourceQuota::INFO, Some(namespace)).items;
                let there = there.iter().filter_map(|object| object.typed::<ResourceQuota>());
                let declared = there.map(|quota| Quota {
                    name: quota.metadata.name.clone(),
                    account: account.clone(),
                    bounds: bounds_of(&quota),
                    demands: true,
                });
                let usual = Quota {
                    name: "the server's --namespace-quota".to_owned(),
                    account: account.clone(),
                    bounds: self.inner.quotas.namespace.clone(),
                    demands: false,
                };
                declared.chain([usual]).collect()
            }
            Account::Owner(user) => {
                let bounds = bounds(&self.limits_of(user));
                vec![Quota { name: format!("limits of the user {user}"), account, bounds, demands: false }]
            }
        }
    }

    /// What a user may have and ask for.
    fn limits_of(&self, user: &str) -> UserLimits {
        let own = self.inner.authority.book().limits(user).cloned().unwrap_or_default();
        if user == OWNER_NAME { own } else { own.or(&self.inner.quotas.user) }
    }

    /// One of the limits on what somebody asks for. Appm's own parts and the owner of the server, at its socket or with its token, have none.
    pub fn limit_of(&self, who: &Identity, which: fn(&UserLimits) -> Option<u32>) -> Option<u32> {
        if who.is_master() && matches!(who.proof, Proof::Part | Proof::Peer | Proof::OwnToken) {
            return None;
        }
        let own = self.inner.authority.book().limits(&who.name).and_then(which);
        own.or_else(|| which(&self.inner.quotas.user).filter(|_| who.name != OWNER_NAME))
    }

    /// Keeps the status of every ResourceQuota equal to what is used, until `shutdown`.
    pub async fn keep_quotas(self, shutdown: CancellationToken) {
        const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);
        let caller = Caller::new(Identity::system("quota"), "appm-quota");
        let mut left: BTreeSet<_> = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                stirred = self.store().stirred() => left.extend(stirred),
                () = self.clock().sleep(AGAIN), if !left.is_empty() => {}
            }
            for namespace in std::mem::take(&mut left) {
                let all = self.store().list(ResourceQuota::INFO, Some(&namespace)).items;
                for quota in all.iter().filter_map(|object| object.typed::<ResourceQuota>()) {
                    if let Err(status) = self.tell(&caller, &quota).await {
                        tracing::warn!(%status, quota = quota.metadata.name, "cannot say what is used of a quota");
                        left.insert(namespace.clone());
                    }
                }
            }
        }
    }

    /// Writes what is used of a quota, if that is not said already.
    async fn tell(&self, caller: &Caller, quota: &Object<ResourceQuota>) -> Result<(), Status> {
        let account = Account::Namespace(quota.metadata.namespace.as_str().into());
        let used = quota.spec.hard.keys().filter_map(|key| {
            let measure = Measure::of(key)?;
            Some((key.clone(), measure.quantity(self.store().used(&account, measure))))
        });
        let status = ResourceQuotaStatus { hard: quota.spec.hard.clone(), used: used.collect() };
        if status == quota.status {
            return Ok(());
        }
        let object = json!({
            "apiVersion": ResourceQuota::INFO.api_version(), "kind": ResourceQuota::INFO.kind,
            "metadata": {"namespace": quota.metadata.namespace, "name": quota.metadata.name, "uid": quota.metadata.uid},
            "status": status,
        });
        let mut transaction = Transaction::new(&caller.manager, vec![Operation::new(OperationVerb::Status, object)]);
        // It can be counted again.
        transaction.durability = Durability::Relaxed;
        match self.transact(caller, transaction).await {
            Err(status) if !status.is(Reason::NotFound) && !status.is(Reason::Conflict) => Err(status),
            _ => Ok(()),
        }
    }
}

fn in_account(key: &Key, quota: &Quota) -> bool {
    matches!(&quota.account, Account::Namespace(namespace) if *namespace == key.namespace) && key.kind == Instance::INFO
}

fn bounds_of(quota: &ResourceQuota) -> Vec<Bound> {
    let known = quota.spec.hard.iter().filter_map(|(key, hard)| Some(Bound::new(key, Measure::of(key)?, hard)));
    known.collect()
}

fn ceiling(quota: &Quota, bound: &Bound) -> Ceiling {
    Ceiling { account: quota.account.clone(), measure: bound.measure, most: bound.most() }
}

fn ceilings(quota: &Quota) -> impl Iterator<Item = Ceiling> {
    quota.bounds.iter().map(|bound| ceiling(quota, bound))
}

fn over_quota(key: &Key, messages: &[String]) -> Status {
    let mut status = Status::forbidden(key, &messages.join("; "));
    let cause =
        |message: &String| Cause { reason: OVER_QUOTA.to_owned(), message: message.clone(), field: String::new() };
    status.details.causes = messages.iter().map(cause).collect();
    status
}
