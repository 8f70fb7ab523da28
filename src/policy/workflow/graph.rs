//! Who needs whom: circles, and what comes before a job. Linear in jobs and needs.

use std::collections::BTreeMap;

use crate::api::WorkflowJob;

/// The jobs of a Workflow by number, and those that each needs.
pub(super) struct Graph<'s> {
    names: Vec<&'s str>,
    needs: Vec<Vec<usize>>,
}

impl<'s> Graph<'s> {
    /// Needs that name no job are left out.
    pub(super) fn of(jobs: &'s BTreeMap<String, WorkflowJob>) -> Self {
        let names: Vec<&str> = jobs.keys().map(String::as_str).collect();
        let number = |name: &str| names.binary_search(&name).ok();
        let needs = jobs.values().map(|job| job.needs.iter().filter_map(number).collect()).collect();
        Self { names, needs }
    }

    /// Circles, each as its jobs in the order in which one needs the next; every job is in one of them at most.
    pub(super) fn circles(&self) -> Vec<Vec<&'s str>> {
        let left = self.never_ready();
        let mut seen = vec![false; self.names.len()];
        let mut circles = Vec::new();
        for start in (0..self.names.len()).filter(|job| left[*job]) {
            let (mut way, mut place, mut at) = (Vec::new(), BTreeMap::new(), start);
            while !seen[at] {
                seen[at] = true;
                place.insert(at, way.len());
                way.push(at);
                // What is never ready needs something that is never ready.
                let Some(next) = self.needs[at].iter().copied().find(|need| left[*need]) else { break };
                at = next;
            }
            if let Some(begin) = place.get(&at) {
                circles.push(way[*begin..].iter().map(|job| self.names[*job]).collect());
            }
        }
        circles
    }

    /// The jobs that need, over however many others, one of a circle, or are in one.
    fn never_ready(&self) -> Vec<bool> {
        let mut missing: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        let mut after = vec![Vec::new(); self.names.len()];
        for (job, needs) in self.needs.iter().enumerate() {
            needs.iter().for_each(|need| after[*need].push(job));
        }
        let mut ready: Vec<usize> = (0..missing.len()).filter(|job| missing[*job] == 0).collect();
        while let Some(done) = ready.pop() {
            for job in &after[done] {
                missing[*job] -= 1;
                if missing[*job] == 0 {
                    ready.push(*job);
                }
            }
        }
        missing.into_iter().map(|missing| missing > 0).collect()
    }

    /// Whether a job comes before another, over however many others.
    pub(super) fn comes_before(&self, earlier: &str, later: &str) -> bool {
        let Ok(later) = self.names.binary_search(&later) else { return false };
        let mut seen = vec![false; self.names.len()];
        let mut open = self.needs[later].clone();
        while let Some(job) = open.pop() {
            if self.names[job] == earlier {
                return true;
            }
            if !std::mem::replace(&mut seen[job], true) {
                open.extend(&self.needs[job]);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Names;

    fn jobs(all: &[(&str, &[&str])]) -> BTreeMap<String, WorkflowJob> {
        let job = |needs: &[&str]| WorkflowJob {
            needs: Names(needs.iter().map(|need| (*need).to_owned()).collect()),
            ..WorkflowJob::default()
        };
        all.iter().map(|(name, needs)| ((*name).to_owned(), job(needs))).collect()
    }

    #[test]
    fn circles_are_found_with_their_way_and_what_only_hangs_on_one_is_not_in_it() {
        let jobs = jobs(&[
            ("a", &[]),
            ("b", &["a", "d"]),
            ("c", &["b"]),
            ("d", &["c"]),
            ("e", &["d"]),
            ("f", &["f"]),
            ("g", &["nobody"]),
        ]);
        let graph = Graph::of(&jobs);
        assert_eq!(graph.circles(), [vec!["b", "d", "c"], vec!["f"]]);
        assert!(graph.comes_before("a", "e") && !graph.comes_before("e", "a") && graph.comes_before("f", "f"));
    }

    #[test]
    fn a_thousand_jobs_that_need_all_before_them_are_no_circle() {
        let names: Vec<String> = (0..1000).map(|n| format!("j{n:04}")).collect();
        let job = |n: usize| WorkflowJob { needs: Names(names[..n].to_vec()), ..WorkflowJob::default() };
        let jobs: BTreeMap<String, WorkflowJob> =
            names.iter().enumerate().map(|(n, name)| (name.clone(), job(n))).collect();
        assert_eq!(Graph::of(&jobs).circles(), Vec::<Vec<&str>>::new());
    }
}
