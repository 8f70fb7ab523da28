//! Which instances of an App to make, to delete and to restart now, so that it comes nearer to what is declared.
//!
//! As a Deployment rolls: old and new instances stand side by side within two bounds, `maxSurge` above the number of replicas
//! and `maxUnavailable` below it. What serves nobody is replaced at once, whatever the bounds say; what is available goes only
//! while enough others are. An instance is named by its revision and its ordinal, so an ordinal is there at most once in each
//! revision, and new ones take the places of old ones from the lowest ordinal upwards.
//!
//! Differences from Kubernetes, on purpose:
//!
//! - A process that is ending still runs. Without any surge it counts until it is gone, so that there are never more processes
//!   than replicas; with surge it does not count, as in Kubernetes.
//! - Old instances that do not serve are deleted at once, not only after a new one is available: whoever mends a broken App need
//!   not wait for the broken instances.
//! - A restart in place takes one instance away even where `maxUnavailable` is 0, because nothing is made beside it.

use std::{cmp::Reverse, collections::BTreeSet};

use crate::api::{IntOrString, StrategyType};

/// What is wanted of the instances together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// How many.
    pub replicas: u32,
    /// How a new template comes in.
    pub strategy: StrategyType,
    /// How many may be there above `replicas`.
    pub surge: u32,
    /// How many may be unavailable below `replicas`.
    pub unavailable: u32,
    /// True if no instance is to be exchanged or restarted now: only their number is kept.
    pub frozen: bool,
}

impl Goal {
    /// Old and new cannot stand side by side: one is taken away before its successor is made.
    #[must_use]
    pub fn one_after_another(self) -> Self {
        Self { surge: 0, unavailable: self.unavailable.max(1), ..self }
    }
}

/// `maxSurge` and `maxUnavailable` as numbers. Percentages are of `replicas`, surge rounded up and unavailable down; both
/// zero would never move, and mean that one may be unavailable.
pub fn bounds(replicas: u32, surge: &IntOrString, unavailable: &IntOrString) -> (u32, u32) {
    let (surge, unavailable) = (resolve(surge, replicas, true), resolve(unavailable, replicas, false));
    (surge, if surge == 0 { unavailable.max(1) } else { unavailable })
}

fn resolve(value: &IntOrString, of: u32, up: bool) -> u32 {
    match value {
        IntOrString::Int(n) => u32::try_from(*n).unwrap_or(0),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
            let hundredths = percent.saturating_mul(u64::from(of));
            let whole = if up { hundredths.div_ceil(100) } else { hundredths / 100 };
            u32::try_from(whole).unwrap_or(u32::MAX)
        }
    }
}

/// An instance that exists, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place.
    pub ordinal: u32,
    /// True if it was made from the template that missing instances are made from.
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
    /// It serves, and has done so for long enough.
    Available,
    /// It serves, but not for long enough yet.
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
pub fn steps(goal: Goal, members: &[Member]) -> Vec<Step> {
    let staying: Vec<bool> = members.iter().map(|m| !m.deleting).collect();
    let available = members.iter().filter(|m| !m.deleting && counts(m)).count() as u32;
    let mut pass = Pass { goal, members, staying, available, steps: Vec::new() };
    pass.surplus();
    if !goal.frozen {
        pass.replacements();
        pass.restarts();
    }
    pass.missing();
    pass.steps
}

/// True for what counts as serving: a current one that has done its work will never serve again, and nothing waits for it.
fn counts(member: &Member) -> bool {
    member.health == Health::Available || (member.current && member.health == Health::Finished)
}

struct Pass<'a> {
    goal: Goal,
    members: &'a [Member],
    /// Members that were not asked to go, by anybody.
    staying: Vec<bool>,
    /// How many of them count as serving.
    available: u32,
    steps: Vec<Step>,
}

impl Pass<'_> {
    fn there(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.members.iter().enumerate().filter(|(i, _)| self.staying[*i])
    }

    fn delete(&mut self, member: usize, because: &'static str) {
        self.staying[member] = false;
        self.available -= u32::from(counts(&self.members[member]));
        self.steps.push(Step::Delete { member, because });
    }

    /// Members beyond the number of replicas, highest first. Old ones are left to the rollout, which knows what serves.
    fn surplus(&mut self) {
        let beyond = |m: &Member| m.ordinal >= self.goal.replicas && (m.current || self.goal.frozen);
        let mut found: Vec<usize> = self.there().filter(|(_, m)| beyond(m)).map(|(i, _)| i).collect();
        found.sort_by_key(|i| (Reverse(self.members[*i].ordinal), *i));
        for member in found {
            self.delete(member, "it is beyond the number of replicas");
        }
    }

    /// Old members: at once what does not serve, and of those that do as many as may be missed.
    fn replacements(&mut self) {
        let because = "the template changed";
        let floor = self.goal.replicas.saturating_sub(self.goal.unavailable);
        for member in self.old_in_order() {
            let may_go = self.goal.strategy == StrategyType::Recreate
                || match self.members[member].health {
                    Health::Unready | Health::Finished => true,
                    Health::Ready => self.available >= floor,
                    Health::Available => self.available > floor,
                };
            if may_go {
                self.delete(member, because);
            }
        }
    }

    /// Old members, first those that do not serve, then those without a place, those whose place is taken, and by their place.
    fn old_in_order(&self) -> Vec<usize> {
        let succeeded: BTreeSet<u32> =
            self.there().filter(|(_, m)| m.current && m.health == Health::Available).map(|(_, m)| m.ordinal).collect();
        let mut old: Vec<usize> = self.there().filter(|(_, m)| !m.current).map(|(i, _)| i).collect();
        old.sort_by_key(|i| {
            let Member { ordinal, health, .. } = self.members[*i];
            (health == Health::Available, ordinal < self.goal.replicas, !succeeded.contains(&ordinal), ordinal, *i)
        });
        old
    }

    /// Current members to restart in place: at once what does not serve, and of those that do as many as may be missed,
    /// at least one. While old ones are there, those that serve wait: a rollout is on its way.
    fn restarts(&mut self) {
        let floor = self.goal.replicas.saturating_sub(self.goal.unavailable.max(1));
        let rolling = self.members.iter().any(|m| !m.current && !m.deleting);
        let due: Vec<usize> = self.there().filter(|(_, m)| m.current && m.restart_due).map(|(i, _)| i).collect();
        for member in due {
            let health = self.members[member].health;
            let may_go = match health {
                Health::Unready | Health::Finished => true,
                Health::Ready => !rolling && self.available >= floor,
                Health::Available => !rolling && self.available > floor,
            };
            if may_go {
                self.available -= u32::from(health == Health::Available);
                self.steps.push(Step::Restart { member, because: "a restart was asked for" });
            }
        }
    }

    /// Instances to make, as many as there is room for.
    fn missing(&mut self) {
        let Goal { replicas, surge, strategy, frozen, .. } = self.goal;
        let old_there = self.members.iter().any(|m| !m.current);
        if strategy == StrategyType::Recreate && old_there && !frozen {
            return;
        }
        // An ending process still runs, and may hold what its successor needs.
        let present = if surge == 0 { self.members.len() } else { self.there().count() };
        let room = if frozen { usize::MAX } else { (replicas.saturating_add(surge) as usize).saturating_sub(present) };
        let mut taken: BTreeSet<u32> = self.members.iter().filter(|m| m.current).map(|m| m.ordinal).collect();
        if frozen {
            taken.extend(self.there().map(|(_, m)| m.ordinal));
        }
        let free = (0..replicas).filter(|ordinal| !taken.contains(ordinal)).take(room);
        self.steps.extend(free.map(|ordinal| Step::Create { ordinal, because: "an instance is missing" }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn goal(replicas: u32, surge: u32, unavailable: u32) -> Goal {
        Goal { replicas, strategy: StrategyType::RollingUpdate, surge, unavailable, frozen: false }
    }

    /// `n`ew or `o`ld; `+` available, `~` ready, `.` unready, `=` finished; `x` deleting, `r` restart due. Ordinals count up
    /// among the new and among the old, unless given.
    fn members(text: &str) -> Vec<Member> {
        let (mut new, mut old) = (0.., 0..);
        let member = |word: &str| {
            let current = word.contains('n');
            let next = if current { new.next() } else { old.next() };
            Member {
                ordinal: word.chars().find_map(|c| c.to_digit(10)).or(next).expect("endless"),
                current,
                health: match word {
                    w if w.contains('+') => Health::Available,
                    w if w.contains('~') => Health::Ready,
                    w if w.contains('=') => Health::Finished,
                    _ => Health::Unready,
                },
                restart_due: word.contains('r'),
                deleting: word.contains('x'),
            }
        };
        text.split_whitespace().map(member).collect()
    }

    fn shown(goal: Goal, text: &str) -> String {
        let members = members(text);
        let named = |i: usize| format!("{}{}", if members[i].current { "n" } else { "o" }, members[i].ordinal);
        let steps = steps(goal, &members);
        let words = steps.iter().map(|step| match step {
            Step::Create { ordinal, .. } => format!("create n{ordinal}"),
            Step::Delete { member, .. } => format!("delete {}", named(*member)),
            Step::Restart { member, .. } => format!("restart {}", named(*member)),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn each_situation_has_its_steps() {
        let recreate = Goal { strategy: StrategyType::Recreate, ..goal(3, 0, 1) };
        let frozen = Goal { frozen: true, ..goal(3, 1, 0) };
        for (goal, there, expected) in [
            (goal(2, 1, 0), "", "create n0, create n1"),
            (goal(2, 1, 0), "n+ n+", ""),
            (goal(3, 1, 0), "n+ n2+", "create n1"),
            (goal(1, 1, 0), "n+ n+ n+", "delete n2, delete n1"),
            (goal(0, 1, 0), "n+ n+x", "delete n0"),
            (goal(2, 1, 0), "n+ n.x", ""),
            // One more is made, then one goes, and so on.
            (goal(3, 1, 0), "o+ o+ o+", "create n0"),
            (goal(3, 1, 0), "o+ o+ o+ n.", ""),
            (goal(3, 1, 0), "o+ o+ o+ n~", ""),
            (goal(3, 1, 0), "o+ o+ o+ n+", "delete o0, create n1"),
            (goal(3, 1, 0), "o0+x o1+ o2+ n+", "create n1"),
            (goal(3, 1, 0), "o2+ n+ n+ n.", ""),
            (goal(3, 1, 0), "o2+ n+ n+ n+", "delete o2"),
            // Many at once.
            (goal(4, 2, 1), "o+ o+ o+ o+", "delete o0, create n0, create n1, create n2"),
            (goal(4, 4, 0), "o+ o+ o+ o+", "create n0, create n1, create n2, create n3"),
            (goal(4, 4, 0), "o+ o+ o+ o+ n+ n+ n. n+", "delete o0, delete o1, delete o3"),
            // One is taken away first, and its successor is made when it is gone.
            (goal(3, 0, 1), "o+ o+ o+", "delete o0"),
            (goal(3, 0, 1), "o+x o+ o+", ""),
            (goal(3, 0, 1), "o1+ o2+", "create n0"),
            (goal(3, 0, 1), "n. o1+ o2+", ""),
            (goal(3, 0, 1), "n~ o1+ o2+", ""),
            (goal(3, 0, 1), "n+ o1+ o2+", "delete o1"),
            // What does not serve goes at once.
            (goal(3, 1, 0), "o+ o. o+", "delete o1, create n0, create n1"),
            (goal(3, 0, 1), "o. o. o.", "delete o0, delete o1, delete o2"),
            (goal(3, 1, 0), "o= o= o=", "delete o0, delete o1, delete o2, create n0, create n1, create n2"),
            (goal(3, 0, 1), "n= o1+ o2+", "delete o1"),
            // Three templates: the one in the middle goes as soon as it is not needed.
            (goal(3, 1, 0), "o+ o+ o+ o0~", "delete o0, create n0"),
            (goal(3, 1, 0), "o+ o+ o+ o0.", "delete o0, create n0"),
            // Fewer replicas and another template at once: what is beyond the number goes first.
            (goal(2, 1, 0), "o+ o+ o+ o+", "delete o2, delete o3, create n0"),
            (recreate, "o+ o+ o+", "delete o0, delete o1, delete o2"),
            (recreate, "o+x", ""),
            (recreate, "n+ n+", "create n2"),
            // Restarts in place take the same care.
            (goal(3, 1, 0), "nr+ nr+ nr+", "restart n0"),
            (goal(3, 1, 0), "n. nr+ nr+", ""),
            (goal(3, 1, 0), "n~ nr+ nr+", ""),
            (goal(3, 1, 0), "n+ nr. nr+", "restart n1"),
            (goal(3, 1, 0), "n+ nr= nr+", "restart n1, restart n2"),
            (goal(4, 1, 2), "nr+ nr+ nr+ nr+", "restart n0, restart n1"),
            (goal(1, 1, 0), "nr~", "restart n0"),
            (goal(1, 1, 0), "o+ n0r+", "delete o0"),
            // Frozen: their number is kept, and nothing else is done.
            (frozen, "o+ o+ o+ nr+", ""),
            (frozen, "o1+ n0.", "create n2"),
            (frozen, "o+ o+ o+ o+ n4+", "delete n4, delete o3"),
        ] {
            assert_eq!(shown(goal, there), expected, "{goal:?}: {there}");
        }
    }

    #[test]
    fn bounds_are_rounded_as_kubernetes_rounds_them() {
        let value = |text: &str| match text.parse() {
            Ok(n) => IntOrString::Int(n),
            Err(_) => IntOrString::String(text.to_owned()),
        };
        for (replicas, surge, unavailable, expected) in [
            (3, "25%", "0", (1, 0)),
            (10, "25%", "25%", (3, 2)),
            (1, "25%", "25%", (1, 0)),
            (4, "0", "0", (0, 1)),
            (2, "0%", "49%", (0, 1)),
            (10, "100%", "10", (10, 10)),
            (0, "25%", "0", (0, 1)),
        ] {
            assert_eq!(
                bounds(replicas, &value(surge), &value(unavailable)),
                expected,
                "{replicas} {surge} {unavailable}"
            );
        }
    }

    fn any_health() -> impl Strategy<Value = Health> {
        prop_oneof![Just(Health::Available), Just(Health::Ready), Just(Health::Finished), Just(Health::Unready)]
    }

    /// Members as they can be: an ordinal once among the current ones.
    fn any_members() -> impl Strategy<Value = Vec<Member>> {
        let member = (0u32..7, any::<bool>(), any_health(), any::<bool>(), any::<bool>()).prop_map(
            |(ordinal, current, health, restart_due, deleting)| Member {
                ordinal,
                current,
                health,
                restart_due,
                deleting,
            },
        );
        prop::collection::vec(member, 0..10).prop_map(|members| {
            let mut taken = std::collections::BTreeSet::new();
            members.into_iter().filter(|m| !m.current || taken.insert(m.ordinal)).collect()
        })
    }

    fn any_goal() -> impl Strategy<Value = Goal> {
        (0u32..6, 0u32..4, 0u32..4, any::<bool>(), any::<bool>()).prop_map(
            |(replicas, surge, unavailable, recreate, frozen)| {
                let strategy = if recreate { StrategyType::Recreate } else { StrategyType::RollingUpdate };
                let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
                Goal { replicas, strategy, surge, unavailable, frozen }
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

    /// Serves, and is not beyond what is wanted.
    fn serves(goal: Goal, m: &Member) -> bool {
        let wanted = m.ordinal < goal.replicas || !(m.current || goal.frozen);
        m.health == Health::Available && !m.deleting && wanted
    }

    proptest! {
        #[test]
        fn at_most_one_step_for_each_member_and_never_one_that_goes_already(
            goal in any_goal(), members in any_members()
        ) {
            let steps = steps(goal, &members);
            let touched = touched(&steps);
            let mut once = touched.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), touched.len());
            prop_assert!(touched.iter().all(|i| !members[*i].deleting));
            for step in &steps {
                if let Step::Create { ordinal, .. } = step {
                    prop_assert!(*ordinal < goal.replicas);
                    prop_assert!(members.iter().all(|m| !m.current || m.ordinal != *ordinal), "its name is taken");
                }
            }
        }

        #[test]
        fn what_is_available_never_falls_below_the_floor(goal in any_goal(), members in any_members()) {
            let goal = Goal { strategy: StrategyType::RollingUpdate, ..goal };
            let before = members.iter().filter(|m| serves(goal, m)).count();
            let steps = steps(goal, &members);
            let gone = touched(&steps);
            let restarts = steps.iter().any(|s| matches!(s, Step::Restart { .. }));
            let unavailable = if restarts { goal.unavailable.max(1) } else { goal.unavailable };
            let finished = members.iter().filter(|m| m.current && m.health == Health::Finished && !m.deleting).count();
            let floor = (goal.replicas.saturating_sub(unavailable) as usize).saturating_sub(finished);
            let left = members.iter().enumerate().filter(|(i, m)| serves(goal, m) && !gone.contains(i)).count();
            prop_assert!(left >= before.min(floor), "{} of {} are left, {} must be: {:?}", left, before, floor, steps);
        }

        #[test]
        fn nothing_is_made_beyond_replicas_and_surge(goal in any_goal(), members in any_members()) {
            let steps = steps(goal, &members);
            let made = steps.iter().filter(|s| matches!(s, Step::Create { .. })).count();
            let deleted = steps.iter().filter(|s| matches!(s, Step::Delete { .. })).count();
            let there = match goal.surge {
                0 => members.len(),
                _ => members.iter().filter(|m| !m.deleting).count() - deleted,
            };
            prop_assert!(goal.frozen || made == 0 || there + made <= (goal.replicas + goal.surge) as usize);
        }

        #[test]
        fn frozen_only_the_number_is_kept(goal in any_goal(), members in any_members()) {
            let goal = Goal { frozen: true, ..goal };
            for step in steps(goal, &members) {
                match step {
                    Step::Restart { .. } => prop_assert!(false, "a restart"),
                    Step::Delete { member, .. } => prop_assert!(members[member].ordinal >= goal.replicas),
                    Step::Create { ordinal, .. } => {
                        prop_assert!(members.iter().all(|m| m.deleting || m.ordinal != ordinal));
                    }
                }
            }
        }

        #[test]
        fn in_a_perfect_world_it_converges_and_then_rests(goal in any_goal(), start in any_members()) {
            let mut members = start;
            for _ in 0..60 {
                let plan = steps(goal, &members);
                if plan.is_empty() && members.iter().all(|m| !m.deleting) { break; }
                for step in &plan {
                    match step {
                        Step::Create { ordinal, .. } => members.push(Member {
                            ordinal: *ordinal, current: true, health: Health::Unready, restart_due: false, deleting: false,
                        }),
                        Step::Delete { member, .. } => members[*member].deleting = true,
                        Step::Restart { member, .. } => {
                            members[*member].restart_due = false;
                            members[*member].health = Health::Unready;
                        }
                    }
                }
                members.retain(|m| !m.deleting);
                for member in &mut members {
                    member.health = match member.health {
                        Health::Unready => Health::Ready,
                        Health::Ready => Health::Available,
                        other => other,
                    };
                }
            }
            // What waits for health has done nothing and is not at rest: let everybody become available.
            for _ in 0..40 {
                for member in &mut members {
                    if matches!(member.health, Health::Unready | Health::Ready) { member.health = Health::Available; }
                }
                let plan = steps(goal, &members);
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
            }
            prop_assert_eq!(steps(goal, &members), vec![]);
            let mut ordinals: Vec<u32> = members.iter().map(|m| m.ordinal).collect();
            ordinals.sort_unstable();
            if goal.frozen {
                ordinals.dedup();
            } else {
                prop_assert!(members.iter().all(|m| m.current && !m.restart_due));
            }
            prop_assert_eq!(ordinals, (0..goal.replicas).collect::<Vec<_>>());
        }
    }
}
