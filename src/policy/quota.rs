//! Quotas: what an object counts as, in whose accounts, and whether a change stays within bounds.
//!
//! An account is a namespace's or an owner's. A transaction counts as a whole: what it adds less what it takes away. Only what
//! grows is held against a bound, so whoever is over one can still delete, lower and report.

use std::{collections::HashMap, sync::Arc};

use crate::api::{Claim, Event, Instance, Kind, KindInfo, Measure, OWNER, Revision, StoredObject, Verbs};

/// Whose amounts are added up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// A namespace's.
    Namespace(Arc<str>),
    /// A user's: of everything that bears their name as its owner.
    Owner(Arc<str>),
}

/// An object as it is counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted<'a> {
    /// Its kind.
    pub kind: &'static KindInfo,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Whose it is.
    pub owner: &'a str,
    /// What it asks of the machine.
    pub claim: Option<&'a Claim>,
}

impl<'a> Counted<'a> {
    /// A stored object.
    pub fn of(object: &'a StoredObject) -> Self {
        let owner = object.meta().annotations.get(OWNER).unwrap_or_default();
        Self { kind: object.key.kind, namespace: &object.key.namespace, owner, claim: object.claim() }
    }

    /// The accounts that it is in. Appm's own parts have none.
    fn accounts(&self) -> impl Iterator<Item = Account> {
        let namespace = (!self.namespace.is_empty()).then(|| Account::Namespace(self.namespace.into()));
        let is_somebodys = !self.owner.is_empty() && !self.owner.starts_with("system:");
        let owner = is_somebodys.then(|| Account::Owner(self.owner.into()));
        namespace.into_iter().chain(owner)
    }

    /// What it counts as.
    fn amounts(&self) -> Vec<(Measure, i128)> {
        let mut amounts = vec![(Measure::Kind(self.kind), 1)];
        let is_made_for_others = [Event::INFO, Revision::INFO, Instance::INFO].contains(&self.kind);
        if !is_made_for_others && self.kind.verbs != Verbs::None {
            amounts.push((Measure::Objects, 1));
        }
        if let Some(claim) = self.claim.filter(|claim| !claim.over) {
            amounts.push((Measure::Instances, 1));
            amounts.extend(claim.requests.iter().map(|(name, amount)| (Measure::Requests(*name), *amount)));
            amounts.extend(claim.limits.iter().map(|(name, amount)| (Measure::Limits(*name), *amount)));
        }
        amounts
    }
}

/// Amounts by account: all that there is, or what a transaction adds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums(HashMap<(Account, Measure), i128>);

impl Sums {
    /// Takes one version of an object for another; `None` where there was or is none. What they have in common costs nothing.
    pub fn replace(&mut self, old: Option<&Counted<'_>>, new: Option<&Counted<'_>>) {
        if old == new {
            return;
        }
        for (counted, sign) in [(old, -1), (new, 1)] {
            let Some(counted) = counted else { continue };
            let amounts = counted.amounts();
            for account in counted.accounts() {
                for (measure, amount) in &amounts {
                    self.add(&account, *measure, sign * amount);
                }
            }
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        for ((account, measure), amount) in &other.0 {
            self.add(account, *measure, *amount);
        }
    }

    fn add(&mut self, account: &Account, measure: Measure, amount: i128) {
        let place = (account.clone(), measure);
        let sum = self.0.entry(place.clone()).or_default();
        *sum += amount;
        if *sum == 0 {
            self.0.remove(&place);
        }
    }

    /// One sum.
    pub fn get(&self, account: &Account, measure: Measure) -> i128 {
        self.0.get(&(account.clone(), measure)).copied().unwrap_or_default()
    }

    /// The accounts in which something is more than before, each once.
    pub fn grown(&self) -> Vec<Account> {
        let mut grown: Vec<Account> = self.0.iter().filter(|(_, sum)| **sum > 0).map(|((a, _), _)| a.clone()).collect();
        grown.sort();
        grown.dedup();
        grown
    }

    /// The accounts in which anything is different.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.0.keys().map(|(account, _)| account)
    }
}

/// The most that an account may have of something.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Whose.
    pub account: Account,
    /// Of what.
    pub measure: Measure,
    /// How much.
    pub most: i128,
}

impl Ceiling {
    /// Whether `more` on top of what is `used` stays below it.
    pub fn admits(&self, used: i128, more: &Sums) -> bool {
        let more = more.get(&self.account, self.measure);
        more <= 0 || used + more <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{App, ConfigMap, RequestName};

    fn namespace() -> Account {
        Account::Namespace("prod".into())
    }

    fn counted<'a>(kind: &'static KindInfo, owner: &'a str, claim: Option<&'a Claim>) -> Counted<'a> {
        Counted { kind, namespace: "prod", owner, claim }
    }

    #[test]
    fn an_instance_counts_in_its_namespace_and_with_its_owner_until_it_is_over() {
        let claim = Claim { requests: [(RequestName::Cpu, 500)].into(), ..Claim::default() };
        let over = Claim { over: true, ..claim.clone() };
        let (running, ended) =
            (counted(Instance::INFO, "ann", Some(&claim)), counted(Instance::INFO, "ann", Some(&over)));
        let mut sums = Sums::default();
        sums.replace(None, Some(&running));
        let of =
            |sums: &Sums, measure| (sums.get(&namespace(), measure), sums.get(&Account::Owner("ann".into()), measure));
        assert_eq!(of(&sums, Measure::Instances), (1, 1));
        assert_eq!(of(&sums, Measure::Requests(RequestName::Cpu)), (500, 500));
        assert_eq!(of(&sums, Measure::Objects), (0, 0), "whoever made the App is not counted twice");
        sums.replace(Some(&running), Some(&ended));
        assert_eq!(of(&sums, Measure::Instances), (0, 0));
        assert_eq!(of(&sums, Measure::Kind(Instance::INFO)), (1, 1));
        sums.replace(Some(&ended), None);
        assert_eq!(sums, Sums::default());
    }

    #[test]
    fn only_what_grows_is_held_against_a_bound() {
        let full = Ceiling { account: namespace(), measure: Measure::Objects, most: 3 };
        let (app, map) = (counted(App::INFO, "ann", None), counted(ConfigMap::INFO, "ann", None));
        let change = |steps: &[(Option<&Counted<'_>>, Option<&Counted<'_>>)]| {
            let mut sums = Sums::default();
            steps.iter().for_each(|(old, new)| sums.replace(*old, *new));
            sums
        };
        let (more, same, less) = (
            change(&[(None, Some(&app))]),
            change(&[(None, Some(&app)), (Some(&map), None)]),
            change(&[(Some(&app), None)]),
        );
        assert!(full.admits(2, &more) && !full.admits(3, &more));
        assert!(full.admits(9, &same) && full.admits(9, &less));
        assert_eq!(same.grown(), [namespace(), Account::Owner("ann".into())], "Apps grow, ConfigMaps shrink");
        assert!(less.grown().is_empty());
    }

    #[test]
    fn what_appm_makes_for_itself_is_in_nobodys_account() {
        let event = Counted { kind: Event::INFO, namespace: "", owner: "system:appm:events", claim: None };
        let mut sums = Sums::default();
        sums.replace(None, Some(&event));
        assert_eq!(sums, Sums::default());
    }
}
