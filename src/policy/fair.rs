//! Who is next where many want the same few seats: a free one goes to whoever holds the fewest, so that nobody gets more by asking for more.
//!
//! A *flow* is everything that one user, or one host, asks for. Alone, a flow may take nearly all seats: a few are kept for whoever comes.
//! While others are about (they hold or want a seat, or did a moment ago) it may take `among` of them, and the rest of what it wants waits in
//! its own line; so whoever asks little finds a seat at once, however much somebody else asks for. This is Kubernetes' API Priority and
//! Fairness in the small: one level, one line a flow, fewest seats first.
//!
//! Laws, tested: never more seats than there are; never one flow beyond its bound; within a flow first come, first served; nobody waits
//! for ever while seats come back, not even who wants many at once: nobody passes it when it is its turn.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

/// How long a flow is about after its last request.
const ABOUT: Duration = Duration::from_secs(1);

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seats {
    /// All of them.
    pub all: u32,
    /// What one flow may take while no other is about.
    pub alone: u32,
    /// What one flow may take while others are about.
    pub among: u32,
    /// How many requests of one flow may wait.
    pub waiting: usize,
}

/// The seats, and the lines before them. `T` is how whoever waits is told.
#[derive(Debug)]
pub struct Fair<K, T> {
    seats: Seats,
    taken: u32,
    /// Requests in all lines.
    waiting: usize,
    flows: HashMap<K, Flow<T>>,
    /// Counts grants and tickets.
    count: u64,
    swept: Duration,
}

#[derive(Debug)]
struct Flow<T> {
    held: u32,
    line: VecDeque<Waiting<T>>,
    /// The count at its last grant.
    served: u64,
    seen: Duration,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: u64,
    seats: u32,
    told: T,
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// The line of a flow is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<K: Hash + Eq + Clone, T> Fair<K, T> {
    /// With all seats free.
    pub fn new(seats: Seats) -> Self {
        Self { seats, taken: 0, waiting: 0, flows: HashMap::new(), count: 0, swept: Duration::ZERO }
    }

    /// Puts a request for so many seats at the end of its flow's line. Whoever has a seat now is in what [`Fair::grant`] returns, which is to
    /// be called next.
    ///
    /// # Errors
    /// When too many of its flow wait.
    pub fn enter(&mut self, key: &K, seats: u32, told: T, now: Duration) -> Result<Ticket, Full> {
        self.count += 1;
        let (ticket, most, seats) = (self.count, self.seats.waiting, seats.clamp(1, self.seats.alone));
        let flow = self.about(key, now);
        if flow.line.len() >= most {
            return Err(Full);
        }
        flow.line.push_back(Waiting { ticket, seats, told });
        self.waiting += 1;
        Ok(Ticket(ticket))
    }

    /// A seat at once; false if there is none for this flow, or others of it wait.
    pub fn take(&mut self, key: &K, now: Duration) -> bool {
        self.about(key, now);
        let (bound, free, count) = (self.bound(), self.taken < self.seats.all, self.count + 1);
        let flow = self.about(key, now);
        if !free || !flow.line.is_empty() || flow.held > 0 && flow.held >= bound {
            return false;
        }
        flow.held += 1;
        flow.served = count;
        self.count = count;
        self.taken += 1;
        true
    }

    /// A flow, which is about now.
    fn about(&mut self, key: &K, now: Duration) -> &mut Flow<T> {
        self.sweep(now);
        let flow = self.flows.entry(key.clone()).or_insert_with(|| Flow {
            held: 0,
            line: VecDeque::new(),
            served: 0,
            seen: now,
        });
        flow.seen = now;
        flow
    }

    /// Whether more than one flow is about.
    pub fn is_shared(&self) -> bool {
        self.flows.len() > 1
    }

    /// How many seats a flow may have now.
    fn bound(&self) -> u32 {
        if self.is_shared() { self.seats.among } else { self.seats.alone }
    }

    /// Takes a request out of its line. False if it is in none: it has its seats, and must give them back.
    pub fn give_up(&mut self, key: &K, ticket: Ticket) -> bool {
        let Some(flow) = self.flows.get_mut(key) else { return false };
        let before = flow.line.len();
        flow.line.retain(|waiting| waiting.ticket != ticket.0);
        let gone = before - flow.line.len();
        self.waiting -= gone;
        gone > 0
    }

    /// Gives seats back.
    pub fn leave(&mut self, key: &K, seats: u32, now: Duration) {
        let seats = seats.clamp(1, self.seats.alone);
        self.taken = self.taken.saturating_sub(seats);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.held = flow.held.saturating_sub(seats);
        }
        self.sweep(now);
    }

    /// Everybody who has seats from now on, in turn.
    pub fn grant(&mut self) -> Vec<T> {
        let mut granted = Vec::new();
        while let Some(told) = self.next() {
            granted.push(told);
        }
        granted
    }

    /// Of the flows that wait and may have more, the one that holds least; of those, the one that was served longest ago.
    fn next(&mut self) -> Option<T> {
        if self.waiting == 0 {
            return None;
        }
        let bound = self.bound();
        let may = |flow: &Flow<T>| {
            let wanted = flow.line.front()?.seats;
            // A request that wants more than the bound has it when its flow holds nothing else.
            (flow.held == 0 || flow.held + wanted <= bound).then_some(wanted)
        };
        let waiting = self.flows.values_mut().filter_map(|flow| Some((may(flow)?, flow)));
        let order =
            |(_, flow): &(u32, &mut Flow<T>)| (flow.held, flow.served, flow.line.front().map(|waiting| waiting.ticket));
        let (wanted, flow) = waiting.min_by_key(order)?;
        if self.taken + wanted > self.seats.all {
            return None;
        }
        self.count += 1;
        self.taken += wanted;
        flow.held += wanted;
        flow.served = self.count;
        self.waiting -= 1;
        Some(flow.line.pop_front()?.told)
    }

    /// Forgets flows that are no longer about; not at every step, because there may be many.
    fn sweep(&mut self, now: Duration) {
        if now >= self.swept + ABOUT {
            self.swept = now;
            self.flows.retain(|_, flow| flow.held > 0 || !flow.line.is_empty() || flow.seen + ABOUT > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEATS: Seats = Seats { all: 8, alone: 6, among: 2, waiting: 4 };
    const NOW: Duration = Duration::ZERO;

    fn ask(fair: &mut Fair<&'static str, u32>, flow: &'static str, id: u32) -> Vec<u32> {
        fair.enter(&flow, 1, id, NOW).expect("room in line");
        fair.grant()
    }

    #[test]
    fn whoever_asks_little_gets_a_seat_at_once_while_somebody_floods() {
        let mut fair = Fair::new(SEATS);
        for id in 0..6 {
            assert_eq!(ask(&mut fair, "noisy", id), [id], "alone it may have nearly all");
        }
        for id in 6..10 {
            assert!(ask(&mut fair, "noisy", id).is_empty(), "two are kept");
        }
        assert_eq!(fair.enter(&"noisy", 1, 10, NOW), Err(Full));
        assert_eq!(ask(&mut fair, "quiet", 100), [100]);
        // Four of six come back before the noisy one gets another: it is among others now.
        for _ in 0..4 {
            fair.leave(&"noisy", 1, NOW);
            assert!(fair.grant().is_empty());
        }
        fair.leave(&"noisy", 1, NOW);
        assert_eq!(fair.grant(), [6]);
        // A while later it is alone again.
        fair.leave(&"quiet", 1, NOW);
        fair.leave(&"noisy", 1, 2 * ABOUT);
        assert_eq!(fair.grant(), [7, 8, 9]);
    }

    /// Jobs of a millisecond on two processors, first come, first served among those that have a seat. The noisy one keeps 64 requests
    /// in line; the quiet one asks every now and then. Gives the longest that the quiet one took.
    fn longest(seats: Seats, noisy: usize, every: u32) -> u32 {
        let (mut fair, mut ready, mut longest) = (Fair::new(seats), VecDeque::new(), 0);
        let mut processors: [Option<(&str, u32)>; 2] = [None; 2];
        let at = |tick: u32| Duration::from_millis(tick.into());
        let mut line = noisy;
        for tick in 0..20_000 {
            for (who, _) in processors.iter_mut().filter_map(Option::take) {
                fair.leave(&who, 1, at(tick));
                line += usize::from(who == "noisy");
            }
            for (who, asked) in comers(&mut line, tick, every) {
                fair.enter(&who, 1, (who, asked), at(tick)).expect("room in line");
            }
            ready.extend(fair.grant());
            for processor in &mut processors {
                *processor = ready.pop_front();
                if let Some(("quiet", asked)) = processor {
                    longest = longest.max(tick - *asked + 1);
                }
            }
        }
        longest
    }

    /// Who asks at a tick: everybody of the noisy one's who was answered, and now and then the quiet one.
    fn comers(line: &mut usize, tick: u32, every: u32) -> Vec<(&'static str, u32)> {
        let noisy = std::iter::repeat_n(("noisy", tick), std::mem::take(line));
        noisy.chain(tick.is_multiple_of(every).then_some(("quiet", tick))).collect()
    }

    #[test]
    fn whoever_asks_little_takes_at_most_twice_as_long_while_somebody_floods() {
        let seats = Seats { all: 512, alone: 3, among: 1, waiting: 4096 };
        assert_eq!(longest(seats, 0, 50), 1, "alone");
        assert_eq!(longest(seats, 64, 50), 1, "twenty times a second: a processor is free");
        assert!(longest(seats, 64, 3000) <= 2, "so seldom that the other one thinks that it is alone");
        assert!(longest(Seats { alone: 448, ..seats }, 64, 3000) > 30, "with a seat for whoever wants one");
    }

    #[test]
    fn seats_go_round_among_those_who_all_want_more() {
        let mut fair = Fair::new(Seats { all: 2, alone: 2, among: 2, waiting: 100 });
        let mut order = Vec::new();
        for flow in ["a", "b", "c"].repeat(6) {
            fair.enter(&flow, 1, flow, NOW).expect("room");
        }
        let mut holding = VecDeque::from(fair.grant());
        while let Some(flow) = holding.pop_front() {
            order.push(flow);
            fair.leave(&flow, 1, NOW);
            holding.extend(fair.grant());
        }
        assert_eq!(order.concat(), "abc".repeat(6));
    }

    #[test]
    fn whoever_gives_up_leaves_no_gap() {
        let mut fair = Fair::new(Seats { all: 1, alone: 1, among: 1, waiting: 9 });
        assert_eq!(ask(&mut fair, "a", 0), [0]);
        let ticket = fair.enter(&"a", 1, 1, NOW).expect("room");
        assert!(ask(&mut fair, "a", 2).is_empty());
        assert!(fair.give_up(&"a", ticket));
        assert!(!fair.give_up(&"a", ticket));
        fair.leave(&"a", 1, NOW);
        assert_eq!(fair.grant(), [2]);
    }

    proptest! {
        /// Random comings and goings; what holds at every step.
        #[test]
        fn seats_are_never_more_than_there_are_and_never_idle_while_somebody_may_have_them(
            steps in prop::collection::vec((0..5u8, 0..4usize, 1..9u32), 0..200)
        ) {
            let mut fair: Fair<usize, (usize, u32)> = Fair::new(SEATS);
            let (mut holding, mut now) = (Vec::new(), NOW);
            for (step, flow, seats) in steps {
                match step {
                    0 => {
                        if fair.take(&flow, now) {
                            holding.push((flow, 1));
                        }
                    }
                    1..=2 => {
                        let _ = fair.enter(&flow, seats, (flow, seats), now);
                    }
                    3 if !holding.is_empty() => {
                        let (flow, seats) = holding.remove(flow % holding.len());
                        fair.leave(&flow, seats, now);
                    }
                    _ => now += ABOUT / 2,
                }
                holding.extend(fair.grant());
                let held = |of: usize| holding.iter().filter(|(f, _)| *f == of).map(|(_, s)| (*s).min(6)).sum::<u32>();
                prop_assert_eq!(fair.waiting, fair.flows.values().map(|flow| flow.line.len()).sum::<usize>());
                prop_assert_eq!(fair.taken, (0..4).map(held).sum::<u32>());
                prop_assert!(fair.taken <= SEATS.all);
                for of in 0..4 {
                    prop_assert!(held(of) <= SEATS.alone);
                }
            }
            // Everybody leaves: nobody is left waiting.
            while let Some((flow, seats)) = holding.pop() {
                fair.leave(&flow, seats, now);
                holding.extend(fair.grant());
            }
            prop_assert!(fair.flows.values().all(|flow| flow.line.is_empty() && flow.held == 0));
        }
    }
}
