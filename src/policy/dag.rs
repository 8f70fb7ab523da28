//! A graph of jobs that wait for each other: which may begin, and how those before it have ended.
//!
//! ```text
//! Dag::of(needs) ─► ready() ─► a node, all of whose needs have ended ─► finish(node, end) ─► more are ready
//! ```
//!
//! A node is ready the moment its last need has ended; nothing waits for a whole layer. Going through all of a graph costs one look
//! at each edge, and a node that waits some 40 bytes beside its edges. What came before a node is told with it
//! ([`Before`]), of all its ancestors, so that whoever judges its `if` need not look for them.

use std::collections::VecDeque;

/// How a node ended, as far as those after it are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It succeeded, or counts as if it had.
    Success,
    /// It failed.
    Failure,
    /// It was ended before its time.
    Cancelled,
    /// It was not done.
    Skipped,
}

/// How everything before a node has ended: its needs, theirs, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// All succeeded.
    pub success: bool,
    /// One failed at least.
    pub failure: bool,
}

/// Nodes that need each other in a circle, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle(pub Vec<usize>);

/// The graph, and how far it is done.
#[derive(Clone, Debug)]
pub struct Dag {
    nodes: Vec<Node>,
    /// Who needs whom, all in one piece: those that need node `n` are at `first..last` of it.
    dependents: Vec<u32>,
    ready: VecDeque<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    first: u32,
    last: u32,
    /// Needs that have not ended.
    missing: u32,
    before: Before,
    ended: bool,
}

impl Dag {
    /// A graph in which node `n` needs the nodes `needs[n]`; a need that is named twice counts once.
    ///
    /// # Errors
    /// A circle, if there is one.
    ///
    /// # Panics
    /// If a need is not a node.
    pub fn of(needs: &[Vec<usize>]) -> Result<Dag, Circle> {
        let mut needs: Vec<Vec<usize>> = needs.to_vec();
        for of in &mut needs {
            of.sort_unstable();
            of.dedup();
        }
        let mut counts = vec![0_u32; needs.len()];
        needs.iter().flatten().for_each(|need| counts[*need] += 1);
        let mut first = 0;
        let start = Before { success: true, failure: false };
        let mut nodes: Vec<Node> = Vec::with_capacity(needs.len());
        for (of, count) in needs.iter().zip(&counts) {
            let missing = small(of.len());
            // `last` moves to its place while the edges are put in.
            nodes.push(Node { first, last: first, missing, before: start, ended: false });
            first += count;
        }
        let mut dependents = vec![0; first as usize];
        for (node, of) in needs.iter().enumerate() {
            for need in of {
                let need = &mut nodes[*need];
                dependents[need.last as usize] = small(node);
                need.last += 1;
            }
        }
        let ready = (0..).zip(&nodes).filter(|(_, node)| node.missing == 0).map(|(at, _)| at).collect();
        let dag = Dag { nodes, dependents, ready };
        match dag.has_circle() {
            false => Ok(dag),
            true => Err(Circle(circle(&needs))),
        }
    }

    /// The next node all of whose needs have ended, each once, and how what came before it ended.
    pub fn ready(&mut self) -> Option<(usize, Before)> {
        let node = self.ready.pop_front()? as usize;
        Some((node, self.nodes[node].before))
    }

    /// A node has ended. Said again, it changes nothing.
    pub fn finish(&mut self, node: usize, end: End) {
        let Node { first, last, before, ended, .. } = self.nodes[node];
        if std::mem::replace(&mut self.nodes[node].ended, true) || ended {
            return;
        }
        let success = before.success && end == End::Success;
        let failure = before.failure || end == End::Failure;
        for at in first..last {
            let number = self.dependents[at as usize];
            let next = &mut self.nodes[number as usize];
            next.before.success &= success;
            next.before.failure |= failure;
            next.missing -= 1;
            if next.missing == 0 {
                self.ready.push_back(number);
            }
        }
    }

    /// Nodes that have not ended.
    pub fn left(&self) -> usize {
        self.nodes.iter().filter(|node| !node.ended).count()
    }

    fn has_circle(&self) -> bool {
        let mut tried = self.clone();
        let mut seen = 0;
        while let Some((node, _)) = tried.ready() {
            seen += 1;
            tried.finish(node, End::Success);
        }
        seen < self.nodes.len()
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("no graph has so many nodes")
}

/// A way from a node back to itself, by its needs.
fn circle(needs: &[Vec<usize>]) -> Vec<usize> {
    // Whoever is on no circle and before none is taken out, until only circles and what lies between them is left.
    let mut left: Vec<bool> = vec![true; needs.len()];
    let mut wanted: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut free: Vec<usize> = (0..needs.len()).filter(|node| wanted[*node] == 0).collect();
    let mut dependents = vec![Vec::new(); needs.len()];
    for (node, of) in needs.iter().enumerate() {
        of.iter().for_each(|need| dependents[*need].push(node));
    }
    while let Some(node) = free.pop() {
        left[node] = false;
        for next in &dependents[node] {
            wanted[*next] -= 1;
            if wanted[*next] == 0 {
                free.push(*next);
            }
        }
    }
    let Some(start) = left.iter().position(|left| *left) else { return Vec::new() };
    let (mut way, mut place) = (Vec::new(), vec![None; needs.len()]);
    let mut node = start;
    // Each that is left needs one that is left.
    while place[node].is_none() {
        place[node] = Some(way.len());
        way.push(node);
        let Some(next) = needs[node].iter().copied().find(|need| left[*need]) else { break };
        node = next;
    }
    way.split_off(place[node].unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goes through a graph as somebody would who looks at everything each time.
    fn naive(needs: &[Vec<usize>], ends: &[End]) -> Vec<(usize, Before)> {
        let mut done: Vec<usize> = Vec::new();
        let mut told = Vec::new();
        while done.len() < needs.len() {
            let next = (0..needs.len()).find(|n| !done.contains(n) && needs[*n].iter().all(|need| done.contains(need)));
            let node = next.expect("no circle");
            let (mut before, mut look) = (Vec::new(), needs[node].clone());
            while let Some(one) = look.pop() {
                before.push(ends[one]);
                look.extend(&needs[one]);
            }
            let success = before.iter().all(|end| *end == End::Success);
            told.push((node, Before { success, failure: before.contains(&End::Failure) }));
            done.push(node);
        }
        told.sort_unstable_by_key(|(node, _)| *node);
        told
    }

    fn ends() -> impl Strategy<Value = End> {
        prop_oneof![3 => Just(End::Success), 1 => Just(End::Failure), 1 => Just(End::Cancelled), 1 => Just(End::Skipped)]
    }

    prop_compose! {
        fn graphs()(size in 1_usize..24)(
            needs in (0..size).map(|n| prop::collection::vec(0..n.max(1), 0..4.min(n + 1)).prop_map(move |mut of| {
                of.retain(|need| *need < n);
                of
            })).collect::<Vec<_>>(),
            ends in prop::collection::vec(ends(), size),
        ) -> (Vec<Vec<usize>>, Vec<End>) {
            (needs, ends)
        }
    }

    proptest! {
        #[test]
        fn each_node_has_its_turn_once_after_its_needs_and_knows_how_they_ended((needs, ends) in graphs()) {
            let mut dag = Dag::of(&needs).expect("a node needs those before it only");
            let (mut told, mut done) = (Vec::new(), Vec::new());
            while let Some((node, before)) = dag.ready() {
                prop_assert!(needs[node].iter().all(|need| done.contains(need)));
                told.push((node, before));
                done.push(node);
                dag.finish(node, ends[node]);
                dag.finish(node, End::Failure);
            }
            told.sort_unstable_by_key(|(node, _)| *node);
            prop_assert_eq!(dag.left(), 0);
            prop_assert_eq!(told, naive(&needs, &ends));
        }

        #[test]
        fn a_circle_is_found_and_is_one(size in 1_usize..12, edges in prop::collection::vec((0_usize..12, 0_usize..12), 0..30)) {
            let mut needs = vec![Vec::new(); size];
            for (from, to) in edges {
                needs[from % size].push(to % size);
            }
            if let Err(Circle(way)) = Dag::of(&needs) {
                prop_assert!(!way.is_empty());
                for (at, node) in way.iter().enumerate() {
                    prop_assert!(needs[*node].contains(&way[(at + 1) % way.len()]));
                }
            }
        }
    }

    #[test]
    fn ten_thousand_jobs_cost_one_look_at_each_edge() {
        let needs: Vec<Vec<usize>> = (0..10_000_usize).map(|n| n.checked_sub(1).into_iter().collect()).collect();
        let mut dag = Dag::of(&needs).expect("a chain");
        let mut seen = 0;
        while let Some((node, _)) = dag.ready() {
            dag.finish(node, End::Success);
            seen += 1;
        }
        assert_eq!((seen, dag.left()), (10_000, 0));
        let bytes = dag.nodes.len() * size_of::<Node>() + dag.dependents.len() * 4;
        assert!(bytes / 10_000 <= 64, "{bytes} bytes");
    }
}
