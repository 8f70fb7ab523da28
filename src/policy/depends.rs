//! What an App waits for before it starts, and circles of Apps that wait for each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Dependency, DependencyCondition};

/// The reason of an instance that does not start yet because of what it depends on.
pub const NOT_READY: &str = "DependencyNotReady";

/// How far an App has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Instances that are wanted.
    pub wanted: usize,
    /// Instances that are ready.
    pub ready: usize,
    /// Instances that run.
    pub running: usize,
    /// Instances that ended as they should.
    pub complete: usize,
}

impl Progress {
    fn counted(&self, condition: DependencyCondition) -> usize {
        match condition {
            DependencyCondition::Ready => self.ready,
            // What has run to its end was started.
            DependencyCondition::Started => self.running + self.complete,
            DependencyCondition::Complete => self.complete,
        }
    }
}

/// Who of them is not as far as is wanted. `look` as for [`unmet`].
pub fn unmet_names(dependencies: &[Dependency], look: impl Fn(&str) -> Option<Progress>) -> impl Iterator<Item = &str> {
    let is_met = move |on: &&Dependency| look(&on.app).is_some_and(|p| p.counted(on.condition) >= p.wanted);
    dependencies.iter().filter(move |on| !is_met(on)).map(|on| on.app.as_str())
}

/// What is waited for, in one sentence; empty if it is all there. `look` knows Apps by name, `None` is one that does not
/// exist, which is waited for too.
pub fn unmet(dependencies: &[Dependency], look: impl Fn(&str) -> Option<Progress>) -> String {
    let waits = dependencies.iter().filter_map(|Dependency { app, condition }| match look(app) {
        None => Some(format!("app {app}, which does not exist")),
        Some(progress) if progress.counted(*condition) >= progress.wanted => None,
        Some(progress) => {
            Some(format!("app {app} to be {condition:?} ({} of {})", progress.counted(*condition), progress.wanted))
        }
    });
    match waits.collect::<Vec<_>>().join(" and ") {
        none if none.is_empty() => none,
        waits => format!("waits for {waits}"),
    }
}

/// A way from `start` back to itself, or into a circle: the names in the order in which each waits for the next, the first
/// one again at the end. `next` says whom one waits for.
pub fn circle<N: Ord + Clone>(start: &N, mut next: impl FnMut(&N) -> Vec<N>) -> Option<Vec<N>> {
    let mut cleared = BTreeSet::new();
    let mut path = vec![start.clone()];
    let mut ways = vec![next(start).into_iter()];
    while let Some(way) = ways.last_mut() {
        let Some(name) = way.next() else {
            ways.pop();
            cleared.extend(path.pop());
            continue;
        };
        if let Some(at) = path.iter().position(|before| *before == name) {
            path.push(name);
            return Some(path.split_off(at));
        }
        if !cleared.contains(&name) {
            ways.push(next(&name).into_iter());
            path.push(name);
        }
    }
    None
}

/// Who waits for whom, looked up from the side of the awaited.
#[derive(Clone, Debug)]
pub struct Dependents<N, D> {
    waits_for: BTreeMap<D, Vec<N>>,
    awaited_by: BTreeMap<N, BTreeSet<D>>,
}

impl<N, D> Default for Dependents<N, D> {
    fn default() -> Self {
        Self { waits_for: BTreeMap::new(), awaited_by: BTreeMap::new() }
    }
}

impl<N: Ord + Clone, D: Ord + Clone> Dependents<N, D> {
    /// From now on `dependent` waits for these.
    pub fn set(&mut self, dependent: &D, waits_for: Vec<N>) {
        if waits_for.is_empty() && self.waits_for.is_empty() {
            return;
        }
        for name in self.waits_for.remove(dependent).unwrap_or_default() {
            if let Some(of) = self.awaited_by.get_mut(&name) {
                of.remove(dependent);
                if of.is_empty() {
                    self.awaited_by.remove(&name);
                }
            }
        }
        for name in &waits_for {
            self.awaited_by.entry(name.clone()).or_default().insert(dependent.clone());
        }
        if !waits_for.is_empty() {
            self.waits_for.insert(dependent.clone(), waits_for);
        }
    }

    /// Those who wait for `name`.
    pub fn of(&self, name: &N) -> impl Iterator<Item = &D> {
        self.awaited_by.get(name).into_iter().flatten()
    }

    /// True if nobody waits for anybody.
    pub fn is_empty(&self) -> bool {
        self.waits_for.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_waited_for_is_said() {
        let wanted = [("db", "Ready"), ("cache", "Started"), ("init", "Complete"), ("gone", "Ready")];
        let wanted = wanted.map(|(app, condition)| {
            serde_json::from_value(serde_json::json!({"app": app, "condition": condition})).expect("a dependency")
        });
        let progress = |ready, running, complete| Some(Progress { wanted: 2, ready, running, complete });
        for (db, cache, init, gone, expected) in [
            (progress(2, 2, 0), progress(0, 2, 0), progress(0, 0, 2), progress(3, 3, 0), ""),
            (
                progress(1, 2, 0),
                progress(0, 2, 0),
                progress(0, 0, 2),
                progress(2, 2, 0),
                "waits for app db to be Ready (1 of 2)",
            ),
            (
                progress(2, 2, 0),
                progress(0, 1, 0),
                progress(0, 1, 1),
                None,
                "waits for app cache to be Started (1 of 2) and app init to be Complete (1 of 2) and app gone, which does not exist",
            ),
            (Some(Progress::default()), progress(0, 1, 1), progress(0, 0, 2), progress(2, 2, 0), ""),
        ] {
            let look = |name: &str| match name {
                "db" => db,
                "cache" => cache,
                "init" => init,
                _ => gone,
            };
            assert_eq!(unmet(&wanted, look), expected);
        }
    }

    #[test]
    fn circles_are_shown_from_where_they_close() {
        let ways: &[(&str, &[&str])] =
            &[("web", &["api", "log"]), ("api", &["log", "db"]), ("db", &["web"]), ("in", &["web"]), ("own", &["own"])];
        let next = |name: &&str| ways.iter().find(|(n, _)| n == name).map_or(Vec::new(), |(_, next)| next.to_vec());
        assert_eq!(circle(&"web", next), Some(vec!["web", "api", "db", "web"]));
        assert_eq!(circle(&"in", next), Some(vec!["web", "api", "db", "web"]));
        assert_eq!(circle(&"own", next), Some(vec!["own", "own"]));
        assert_eq!(circle(&"log", next), None);
    }

    proptest! {
        #[test]
        fn a_circle_is_found_exactly_if_one_can_be_reached(edges in prop::collection::btree_set((0..6u8, 0..6u8), 0..12)) {
            let next = |n: &u8| edges.iter().filter(|(from, _)| from == n).map(|(_, to)| *to).collect::<Vec<_>>();
            // Warshall's closure.
            let mut reach = [[false; 6]; 6];
            for (a, b) in &edges { reach[*a as usize][*b as usize] = true; }
            for k in 0..6 { for a in 0..6 { for b in 0..6 { reach[a][b] |= reach[a][k] && reach[k][b]; } } }
            for start in 0..6u8 {
                let expected = (0..6).any(|n| reach[n][n] && (n == start as usize || reach[start as usize][n]));
                let found = circle(&start, next);
                prop_assert_eq!(found.is_some(), expected);
                if let Some(path) = found {
                    prop_assert!(path.windows(2).all(|pair| edges.contains(&(pair[0], pair[1]))));
                    prop_assert_eq!(path.first(), path.last());
                }
            }
        }

        #[test]
        fn dependents_are_the_other_side_of_what_was_set(sets in prop::collection::vec((0..4u8, prop::collection::vec(0..4u8, 0..3)), 0..20)) {
            let mut dependents = Dependents::default();
            let mut model: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
            for (who, whom) in sets {
                dependents.set(&who, whom.clone());
                model.insert(who, whom);
            }
            for name in 0..4u8 {
                let expected: Vec<u8> = model.iter().filter(|(_, whom)| whom.contains(&name)).map(|(who, _)| *who).collect();
                prop_assert_eq!(dependents.of(&name).copied().collect::<Vec<_>>(), expected);
            }
            prop_assert_eq!(dependents.is_empty(), model.values().all(Vec::is_empty));
        }
    }
}
