//! Free ports for Instances whose App leaves the choice to appm.
//!
//! A port is taken from a range below the kernel's ephemeral ports, so that no outgoing connection holds it by chance.
//! No two Instances have the same one, and nobody listens on it at the moment of choice.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    sync::Mutex,
};

/// Hands out ports.
pub struct Ports {
    range: RangeInclusive<u16>,
    is_free: fn(u16) -> bool,
    /// Handed out to passes that have not written them yet.
    reserved: Mutex<BTreeSet<u16>>,
}

impl Ports {
    /// The ports of this machine.
    pub fn system() -> Self {
        Self::new(20000..=29999, is_bindable)
    }

    /// The ports of `range` that `is_free` lets pass.
    pub fn new(range: RangeInclusive<u16>, is_free: fn(u16) -> bool) -> Self {
        Self { range, is_free, reserved: Mutex::default() }
    }

    /// Up to `count` free ports, beginning at a random place; fewer if there are no more.
    pub(super) fn reserve(&self, count: usize, taken: impl FnOnce() -> BTreeSet<u16>, random: u64) -> Reservation<'_> {
        let mut numbers = Vec::with_capacity(count);
        if count > 0 {
            // Locked first: whoever gives back a port has written it, so it is among those taken or still reserved.
            let mut reserved = self.reserved.lock().expect("no holder of the ports panics");
            let taken = taken();
            let offset = usize::try_from(random % self.range.len() as u64).expect("below the range's length");
            let around = self.range.clone().cycle().skip(offset).take(self.range.len());
            let free = around.filter(|p| !taken.contains(p) && !reserved.contains(p) && (self.is_free)(*p));
            numbers.extend(free.take(count));
            reserved.extend(&numbers);
        }
        Reservation { ports: self, numbers }
    }
}

fn is_bindable(port: u16) -> bool {
    let any = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok()
}

/// Ports that nobody else gets until this is dropped.
pub(super) struct Reservation<'a> {
    ports: &'a Ports,
    numbers: Vec<u16>,
}

impl Reservation<'_> {
    pub(super) fn numbers(&self) -> &[u16] {
        &self.numbers
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut reserved = self.ports.reserved.lock().expect("no holder of the ports panics");
        for number in &self.numbers {
            reserved.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_distinct_and_given_back() {
        let ports = Ports::new(10..=14, |p| p != 12);
        let taken = || BTreeSet::from([11]);
        let first = ports.reserve(2, taken, 3);
        assert_eq!(first.numbers(), [13, 14]);
        assert_eq!(ports.reserve(9, taken, 0).numbers(), [10]);
        drop(first);
        assert_eq!(ports.reserve(9, taken, 0).numbers(), [10, 13, 14]);
    }
}
