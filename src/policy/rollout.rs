//! Which instances of an App to make, to delete and to restart now, so that it comes nearer to what is declared.
//!
//! An ordinal has at most one instance at any time: it names ports and directories, so the old one must be gone before
//! its replacement is made. A rolling change therefore takes one instance at a time out of service, the next one when
//! the one before is back; what is out of service anyway is replaced at once.

use std::collections::BTreeMap;

use crate::api::StrategyType;

/// An instance that exists, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place.
    pub ordinal: u32,
    /// True if it was made from the current template.
    pub current: bool,
    /// How it is doing.
    pub health: Health,
    /// True if it has yet to be restarted in place.
    pub restart_due: bool,
    /// True once its deletion was asked for.
    pub deleting: bool,
}

/// How a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Ready,
    /// It ended as it should, and will not run again.
    Finished,
    /// It does not serve, now or for good.
    Unready,
}

/// One step towards what is declared. Members are named by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make an instance of the current template.
    Create {
        /// Its place.
        ordinal: u32,
        /// Why.
        because: &'static str,
    },
    /// Delete that instance.
    Delete {
        /// Which member.
        member: usize,
        /// Why.
        because: &'static str,
    },
    /// Restart that instance in place.
    Restart {
        /// Which member.
        member: usize,
        /// Why.
        because: &'static str,
    },
}

/// The steps that may be taken now, at most one for each member and each ordinal.
pub fn steps(replicas: u32, strategy: StrategyType, members: &[Member]) -> Vec<Step> {
    let kept = keep_one_per_ordinal(members);
    let mut steps = surplus(replicas, members, &kept);
    let staying = |i: &usize| members[*i].ordinal < replicas && !members[*i].deleting;
    let staying: Vec<usize> = kept.values().copied().filter(staying).collect();
    steps.extend(replacements(replicas, strategy, members, &staying));
    let old_there = members.iter().any(|m| !m.current);
    if strategy == StrategyType::RollingUpdate || !old_there {
        let free = (0..replicas).filter(|ordinal| members.iter().all(|m| m.ordinal != *ordinal));
        steps.extend(free.map(|ordinal| Step::Create { ordinal, because: "an instance is missing" }));
    }
    steps
}

/// For each ordinal the one member that counts: not deleting before deleting, current before old, then the first.
fn keep_one_per_ordinal(members: &[Member]) -> BTreeMap<u32, usize> {
    let mut kept: BTreeMap<u32, usize> = BTreeMap::new();
    let rank = |i: usize| (members[i].deleting, !members[i].current, i);
    for (i, member) in members.iter().enumerate() {
        let best = kept.entry(member.ordinal).or_insert(i);
        if rank(i) < rank(*best) {
            *best = i;
        }
    }
    kept
}

/// Members beyond the number of replicas, highest first, and second ones of an ordinal.
fn surplus(replicas: u32, members: &[Member], kept: &BTreeMap<u32, usize>) -> Vec<Step> {
    let mut found: Vec<(u32, usize, &'static str)> = Vec::new();
    for (i, member) in members.iter().enumerate().filter(|(_, m)| !m.deleting) {
        if member.ordinal >= replicas {
            found.push((member.ordinal, i, "it is beyond the number of replicas"));
        } else if kept[&member.ordinal] != i {
            found.push((member.ordinal, i, "there are two of its ordinal"));
        }
    }
    found.sort_by_key(|(ordinal, i, _)| (std::cmp::Reverse(*ordinal), *i));
    found.into_iter().map(|(_, member, because)| Step::Delete { member, because }).collect()
}

/// Old members to delete and members to restart: all that do not serve, and one that does if all others serve.
fn replacements(replicas: u32, strategy: StrategyType, members: &[Member], staying: &[usize]) -> Vec<Step> {
    let serving = staying.iter().filter(|i| members[**i].health != Health::Unready).count();
    let mut may_disturb = serving >= replicas as usize;
    let mut steps = Vec::new();
    for &member in staying {
        let Member { current, health, restart_due, .. } = members[member];
        let due = !current || restart_due;
        let at_once = health != Health::Ready || (!current && strategy == StrategyType::Recreate);
        if !due || !(at_once || may_disturb) {
            continue;
        }
        may_disturb &= at_once;
        steps.push(if current {
            Step::Restart { member, because: "a restart was asked for" }
        } else {
            Step::Delete { member, because: "the template changed" }
        });
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `n`ew or `o`ld; `+` ready, `.` unready, `=` finished; `x` deleting, `r` restart due. Ordinals count up unless given.
    fn members(text: &str) -> Vec<Member> {
        let member = |(i, word): (usize, &str)| Member {
            ordinal: word.chars().find_map(|c| c.to_digit(10)).unwrap_or(i as u32),
            current: word.contains('n'),
            health: match word {
                w if w.contains('+') => Health::Ready,
                w if w.contains('=') => Health::Finished,
                _ => Health::Unready,
            },
            restart_due: word.contains('r'),
            deleting: word.contains('x'),
        };
        text.split_whitespace().enumerate().map(member).collect()
    }

    fn shown(replicas: u32, strategy: StrategyType, text: &str) -> String {
        let steps = steps(replicas, strategy, &members(text));
        let words = steps.iter().map(|step| match step {
            Step::Create { ordinal, .. } => format!("create {ordinal}"),
            Step::Delete { member, .. } => format!("delete {member}"),
            Step::Restart { member, .. } => format!("restart {member}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_situation_has_its_steps() {
        use StrategyType::{Recreate, RollingUpdate as Rolling};
        for (replicas, strategy, there, expected) in [
            (2, Rolling, "", "create 0, create 1"),
            (2, Rolling, "n+ n+", ""),
            (3, Rolling, "n+ n2+", "create 1"),
            (1, Rolling, "n+ n+ n+", "delete 2, delete 1"),
            (0, Rolling, "n+ n+x", "delete 0"),
            (2, Rolling, "n+ n.x", ""),
            // One at a time, the next when the one before is back.
            (3, Rolling, "o+ o+ o+", "delete 0"),
            (3, Rolling, "o+x o+ o+", ""),
            (3, Rolling, "o1+ o2+", "create 0"),
            (3, Rolling, "n. o+ o+", ""),
            (3, Rolling, "n+ o+ o+", "delete 1"),
            (3, Rolling, "n= o+ o+", "delete 1"),
            (3, Rolling, "o+ o. o+", "delete 1"),
            (3, Rolling, "o. o. o.", "delete 0, delete 1, delete 2"),
            (3, Recreate, "o+ o+ o+", "delete 0, delete 1, delete 2"),
            (3, Recreate, "o+x", ""),
            (3, Recreate, "n+ n+", "create 2"),
            // Restarts in place take the same care.
            (3, Rolling, "nr+ nr+ nr+", "restart 0"),
            (3, Rolling, "n. nr+ nr+", ""),
            (3, Rolling, "n+ nr. nr+", "restart 1"),
            (3, Rolling, "n+ nr= nr+", "restart 1, restart 2"),
            (1, Rolling, "o+ n0+", "delete 0"),
        ] {
            assert_eq!(shown(replicas, strategy, there), expected, "{replicas} {strategy:?}: {there}");
        }
    }

    fn any_member() -> impl Strategy<Value = Member> {
        let health = prop_oneof![Just(Health::Ready), Just(Health::Finished), Just(Health::Unready)];
        (0u32..6, any::<bool>(), health, any::<bool>(), any::<bool>()).prop_map(
            |(ordinal, current, health, restart_due, deleting)| Member {
                ordinal,
                current,
                health,
                restart_due,
                deleting,
            },
        )
    }

    fn touched(steps: &[Step]) -> Vec<usize> {
        let member = |step: &Step| match step {
            Step::Delete { member, .. } | Step::Restart { member, .. } => Some(*member),
            Step::Create { .. } => None,
        };
        steps.iter().filter_map(member).collect()
    }

    proptest! {
        #[test]
        fn at_most_one_step_for_each_member_and_never_one_that_goes_already(
            replicas in 0u32..6, members in prop::collection::vec(any_member(), 0..8), recreate: bool
        ) {
            let strategy = if recreate { StrategyType::Recreate } else { StrategyType::RollingUpdate };
            let steps = steps(replicas, strategy, &members);
            let touched = touched(&steps);
            let mut once = touched.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), touched.len());
            prop_assert!(touched.iter().all(|i| !members[*i].deleting));
            for step in &steps {
                if let Step::Create { ordinal, .. } = step {
                    prop_assert!(*ordinal < replicas && members.iter().all(|m| m.ordinal != *ordinal));
                }
            }
        }

        #[test]
        fn a_rolling_change_takes_at_most_one_serving_instance_and_only_if_all_serve(
            replicas in 0u32..6, members in prop::collection::vec(any_member(), 0..8)
        ) {
            let kept = keep_one_per_ordinal(&members);
            let serves = |m: &Member| !m.deleting && m.ordinal < replicas && m.health == Health::Ready;
            let steps = steps(replicas, StrategyType::RollingUpdate, &members);
            let taken = touched(&steps).into_iter().filter(|i| serves(&members[*i]) && kept[&members[*i].ordinal] == *i);
            let taken = taken.count();
            prop_assert!(taken <= 1);
            if taken == 1 {
                let there = kept.values().map(|i| &members[*i]);
                let fine = there.filter(|m| !m.deleting && m.ordinal < replicas && m.health != Health::Unready).count();
                prop_assert_eq!(fine, replicas as usize);
            }
        }

        #[test]
        fn in_a_perfect_world_it_converges_and_then_rests(
            replicas in 0u32..6, start in prop::collection::vec(any_member(), 0..8), recreate: bool
        ) {
            let strategy = if recreate { StrategyType::Recreate } else { StrategyType::RollingUpdate };
            let mut members = start;
            for _ in 0..40 {
                let plan = steps(replicas, strategy, &members);
                if plan.is_empty() && members.iter().all(|m| !m.deleting) { break; }
                for step in &plan {
                    match step {
                        Step::Create { ordinal, .. } => members.push(Member {
                            ordinal: *ordinal, current: true, health: Health::Ready, restart_due: false, deleting: false,
                        }),
                        Step::Delete { member, .. } => members[*member].deleting = true,
                        Step::Restart { member, .. } => members[*member].restart_due = false,
                    }
                }
                members.retain(|m| !m.deleting);
                for member in &mut members { if member.health == Health::Unready { member.health = Health::Ready; } }
            }
            prop_assert_eq!(steps(replicas, strategy, &members), vec![]);
            let mut ordinals: Vec<u32> = members.iter().map(|m| m.ordinal).collect();
            ordinals.sort_unstable();
            prop_assert_eq!(ordinals, (0..replicas).collect::<Vec<_>>());
            prop_assert!(members.iter().all(|m| m.current && !m.restart_due));
        }
    }
}
