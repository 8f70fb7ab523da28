//! Which task goes to which worker: the queue of one App, as a value.
//!
//! Tasks of one caller go in the order in which they came; callers take turns, so that nobody gets more by sending more. A worker asks for
//! one task at a time, as often as it can take one; of those that ask, the one that has the least to do gets the next, and of these the one
//! that has asked longest. No worker has more than `each` at a time.
//!
//! Laws, tested: a task is in line or handed out, never both, never twice; nobody's task waits while a worker that may have it asks; while
//! several wait, none is served twice before every other was served once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an App's queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most tasks that wait.
    pub most_waiting: usize,
    /// Most tasks that a worker has at a time.
    pub each: u32,
}

/// The queue of one App. `C` is a caller, `W` a worker; tasks and questions are numbers, of which the lower came first.
#[derive(Debug)]
pub struct Board<C, W> {
    bounds: Bounds,
    /// The callers whose tasks wait, whose turn it is first.
    lines: VecDeque<(C, BTreeSet<u64>)>,
    waiting: usize,
    asking: BTreeMap<u64, W>,
    busy: BTreeMap<W, u32>,
}

/// A task goes to a worker, in answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<W> {
    /// Which.
    pub task: u64,
    /// The question.
    pub asked: u64,
    /// Who asked it.
    pub worker: W,
}

/// As many tasks wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<C: PartialEq + Clone, W: Ord + Clone> Board<C, W> {
    /// An empty one.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, lines: VecDeque::new(), waiting: 0, asking: BTreeMap::new(), busy: BTreeMap::new() }
    }

    /// Other bounds, from now on. What waits already stays.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// How many tasks wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// True if nothing waits, nobody asks and nobody has anything.
    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.asking.is_empty() && self.busy.is_empty()
    }

    /// Puts a new task in line.
    ///
    /// # Errors
    /// When as many wait as may.
    pub fn enter(&mut self, caller: &C, task: u64) -> Result<(), Full> {
        if self.waiting >= self.bounds.most_waiting {
            return Err(Full);
        }
        self.put_back(caller, task);
        Ok(())
    }

    /// Puts a task that was handed out back to its old place, however many wait.
    pub fn put_back(&mut self, caller: &C, task: u64) {
        let new = match self.lines.iter_mut().find(|(of, _)| of == caller) {
            Some((_, line)) => line.insert(task),
            None => {
                self.lines.push_back((caller.clone(), BTreeSet::from([task])));
                true
            }
        };
        self.waiting += usize::from(new);
    }

    /// Takes a task out of its line. False if it is in none.
    pub fn withdraw(&mut self, caller: &C, task: u64) -> bool {
        let Some(at) = self.lines.iter().position(|(of, _)| of == caller) else { return false };
        let line = &mut self.lines[at].1;
        let was = line.remove(&task);
        if line.is_empty() {
            self.lines.remove(at);
        }
        self.waiting -= usize::from(was);
        was
    }

    /// A worker can take one more task.
    pub fn ask(&mut self, worker: &W, question: u64) {
        self.asking.insert(question, worker.clone());
    }

    /// Nobody waits for the answer any more.
    pub fn unask(&mut self, question: u64) {
        self.asking.remove(&question);
    }

    /// A worker has one task less.
    pub fn freed(&mut self, worker: &W) {
        if let Some(count) = self.busy.get_mut(worker) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(worker);
            }
        }
    }

    /// A worker is no more: the questions that it had asked.
    pub fn lost(&mut self, worker: &W) -> Vec<u64> {
        self.busy.remove(worker);
        let questions: Vec<u64> = self.asking.iter().filter(|(_, by)| *by == worker).map(|(q, _)| *q).collect();
        questions.iter().for_each(|question| self.unask(*question));
        questions
    }

    /// The next task that can be handed out, which is handed out by that.
    pub fn deal(&mut self) -> Option<Match<W>> {
        let load = |worker: &W| self.busy.get(worker).copied().unwrap_or_default();
        let may = self.asking.iter().map(|(asked, worker)| (load(worker), *asked));
        let (_, asked) = may.filter(|(load, _)| *load < self.bounds.each).min()?;
        let (caller, mut line) = self.lines.pop_front()?;
        let task = line.pop_first()?;
        if !line.is_empty() {
            self.lines.push_back((caller, line));
        }
        self.waiting -= 1;
        let worker = self.asking.remove(&asked)?;
        *self.busy.entry(worker.clone()).or_default() += 1;
        Some(Match { task, asked, worker })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn board(each: u32) -> Board<&'static str, u8> {
        Board::new(Bounds { most_waiting: 4, each })
    }

    fn all(board: &mut Board<&'static str, u8>) -> Vec<(u64, u8)> {
        std::iter::from_fn(|| board.deal()).map(|m| (m.task, m.worker)).collect()
    }

    #[test]
    fn callers_take_turns_and_each_is_served_in_order() {
        let mut board = board(9);
        for (caller, task) in [("noisy", 1), ("noisy", 2), ("noisy", 3), ("quiet", 4)] {
            board.enter(&caller, task).expect("room");
        }
        assert_eq!(board.enter(&"late", 5), Err(Full));
        (0..4).for_each(|question| board.ask(&7, question));
        assert_eq!(all(&mut board), [(1, 7), (4, 7), (2, 7), (3, 7)]);
    }

    #[test]
    fn whoever_has_least_to_do_is_next_and_nobody_has_too_much() {
        let mut board = board(2);
        for (question, worker) in [(1, 1), (2, 1), (3, 1), (4, 2)] {
            board.ask(&worker, question);
        }
        (1..=4).for_each(|task| board.enter(&"a", task).expect("room"));
        assert_eq!(all(&mut board), [(1, 1), (2, 2), (3, 1)]);
        board.freed(&1);
        assert_eq!(all(&mut board), [(4, 1)]);
    }

    #[test]
    fn what_comes_back_has_its_old_place() {
        let mut board = board(1);
        board.ask(&1, 1);
        (1..=3).for_each(|task| board.enter(&"a", task).expect("room"));
        assert_eq!(all(&mut board), [(1, 1)]);
        assert!(board.withdraw(&"a", 2) && !board.withdraw(&"a", 2) && !board.withdraw(&"b", 3));
        assert_eq!(board.lost(&1), Vec::<u64>::new());
        board.put_back(&"a", 1);
        board.ask(&2, 2);
        board.ask(&3, 3);
        assert_eq!(all(&mut board), [(1, 2), (3, 3)]);
        assert_eq!(board.waiting(), 0);
    }

    #[test]
    fn whoever_asks_no_more_gets_nothing() {
        let mut board = board(1);
        [(1, 1), (2, 2), (3, 2)].iter().for_each(|(question, worker)| board.ask(worker, *question));
        board.unask(1);
        assert_eq!(board.lost(&2), [2, 3]);
        board.enter(&"a", 1).expect("room");
        assert_eq!(board.deal(), None);
        assert!(board.withdraw(&"a", 1) && board.is_idle());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enter(u8),
        Ask(u8),
        Unask(usize),
        Finish(usize),
        Undo(usize),
        Lose(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4u8).prop_map(Step::Enter),
            4 => (0..3u8).prop_map(Step::Ask),
            1 => any::<usize>().prop_map(Step::Unask),
            3 => any::<usize>().prop_map(Step::Finish),
            1 => any::<usize>().prop_map(Step::Undo),
            1 => (0..3u8).prop_map(Step::Lose),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_kept_waiting(steps in steps(), each in 1..4u32) {
            let mut board: Board<u8, u8> = Board::new(Bounds { most_waiting: 30, each });
            let (mut waiting, mut out, mut asking) = (BTreeMap::new(), Vec::new(), Vec::<(u64, u8)>::new());
            for (number, step) in (0u64..).zip(steps) {
                match step {
                    Step::Enter(caller) => {
                        let entered = board.enter(&caller, number).is_ok();
                        prop_assert_eq!(entered, waiting.len() < 30);
                        if entered {
                            waiting.insert(number, caller);
                        }
                    }
                    Step::Ask(worker) => {
                        board.ask(&worker, number);
                        asking.push((number, worker));
                    }
                    Step::Unask(at) if !asking.is_empty() => {
                        let (question, _) = asking.remove(at % asking.len());
                        board.unask(question);
                    }
                    Step::Finish(at) if !out.is_empty() => {
                        let (_, _, worker) = out.remove(at % out.len());
                        board.freed(&worker);
                    }
                    Step::Undo(at) if !out.is_empty() => {
                        let (task, caller, worker) = out.remove(at % out.len());
                        board.freed(&worker);
                        board.put_back(&caller, task);
                        waiting.insert(task, caller);
                    }
                    Step::Lose(worker) => {
                        let mut lost = board.lost(&worker);
                        lost.sort_unstable();
                        let theirs: Vec<u64> = asking.iter().filter(|(_, w)| *w == worker).map(|(q, _)| *q).collect();
                        prop_assert_eq!(lost, theirs);
                        asking.retain(|(_, w)| *w != worker);
                        for (task, caller, _) in out.extract_if(.., |(_, _, w)| *w == worker) {
                            board.put_back(&caller, task);
                            waiting.insert(task, caller);
                        }
                    }
                    _ => {}
                }
                let mut served = BTreeSet::new();
                while let Some(Match { task, asked, worker }) = board.deal() {
                    let caller = waiting.remove(&task);
                    prop_assert!(caller.is_some(), "{} was not in line", task);
                    let caller = caller.unwrap();
                    let first = waiting.iter().find(|(_, of)| **of == caller).map_or(u64::MAX, |(task, _)| *task);
                    prop_assert!(task < first, "{} passed {}", task, first);
                    let others = waiting.values().any(|of| !served.contains(of) && *of != caller);
                    prop_assert!(served.insert(caller) || !others, "{} was served before others", caller);
                    if !others {
                        served.clear();
                    }
                    prop_assert!(asking.contains(&(asked, worker)));
                    asking.retain(|(question, _)| *question != asked);
                    out.push((task, caller, worker));
                }
                prop_assert_eq!(board.waiting(), waiting.len());
                let load = |worker: u8| out.iter().filter(|(_, _, w)| *w == worker).count();
                prop_assert!((0..3).all(|worker| load(worker) <= each as usize));
                let free = asking.iter().any(|(_, worker)| load(*worker) < each as usize);
                prop_assert!(!free || waiting.is_empty(), "somebody waits for nothing");
            }
        }
    }
}
