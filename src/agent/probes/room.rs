//! How many questions may be under way: few young ones, more old ones.
//!
//! What hangs until its timeout is old after a second and takes no young one's place; there is a bound for all together too,
//! since each holds a process or a descriptor.

use std::{collections::BTreeMap, time::Duration};

/// Older questions are not young any more.
const YOUNG: Duration = Duration::from_secs(1);

/// One lane's room.
#[derive(Debug)]
pub(super) struct Room {
    most_young: usize,
    most: usize,
    /// How many were asked at a time.
    under_way: BTreeMap<Duration, usize>,
    count: usize,
}

impl Room {
    pub(super) fn new(most_young: usize, most: usize) -> Self {
        Self { most_young, most, under_way: BTreeMap::new(), count: 0 }
    }

    fn young(&self, now: Duration) -> usize {
        let since = (now + Duration::from_nanos(1)).saturating_sub(YOUNG);
        self.under_way.range(since..).map(|(_, count)| count).sum()
    }

    /// True if one more may be asked.
    pub(super) fn has_place(&self, now: Duration) -> bool {
        self.count < self.most && self.young(now) < self.most_young
    }

    /// When there will be a place although nothing is answered; `None`: only an answer can make one.
    pub(super) fn free_at(&self, now: Duration) -> Option<Duration> {
        if self.count >= self.most {
            return None;
        }
        if self.young(now) < self.most_young {
            return Some(now);
        }
        let since = (now + Duration::from_nanos(1)).saturating_sub(YOUNG);
        self.under_way.range(since..).next().map(|(at, _)| *at + YOUNG)
    }

    pub(super) fn enter(&mut self, now: Duration) {
        *self.under_way.entry(now).or_default() += 1;
        self.count += 1;
    }

    pub(super) fn leave(&mut self, entered: Duration) {
        if let Some(count) = self.under_way.get_mut(&entered) {
            *count -= 1;
            self.count -= 1;
            if *count == 0 {
                self.under_way.remove(&entered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_take_no_place_of_the_young_until_there_are_too_many() {
        let at = Duration::from_millis;
        let mut room = Room::new(2, 4);
        room.enter(at(10_000));
        assert!(room.has_place(at(10_000)));
        room.enter(at(10_300));
        assert!(!room.has_place(at(10_400)));
        assert_eq!(room.free_at(at(10_400)), Some(at(11_000)));
        assert!(room.has_place(at(11_000)));
        room.enter(at(11_000));
        assert!(!room.has_place(at(11_200)));
        room.enter(at(12_000));
        assert_eq!((room.has_place(at(20_000)), room.free_at(at(20_000))), (false, None));
        room.leave(at(10_300));
        assert!(room.has_place(at(20_000)));
        assert_eq!(room.free_at(at(20_000)), Some(at(20_000)));
    }
}
