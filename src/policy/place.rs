//! Which machine an App's new Instances go to, and how many it has room for.
//!
//! As Kubernetes' scheduler filters: a machine must be ready and open, have the labels of `nodeSelector`, and have as much left of
//! what is requested. Of several the first by name is taken.

use std::collections::BTreeMap;

use crate::api::{Quantity, RequestName, TextMap};

/// Amounts of what can be requested: bytes of memory, thousandths of a core.
pub type Amounts = BTreeMap<RequestName, u64>;

/// Requests as numbers.
pub fn amounts(requests: &BTreeMap<RequestName, Quantity>) -> Amounts {
    requests.iter().map(|(name, quantity)| (*name, amount(*name, quantity))).collect()
}

/// A quantity as a number.
pub fn amount(name: RequestName, quantity: &Quantity) -> u64 {
    match name {
        RequestName::Memory => quantity.units(),
        RequestName::Cpu => quantity.milli(),
    }
}

/// A machine, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// It is ready, and new Instances may be placed on it.
    pub open: bool,
    /// Its labels.
    pub labels: &'a TextMap,
    /// What it has for Instances; what is not named is not limited.
    pub allocatable: Amounts,
    /// What its Instances request, all together.
    pub requested: Amounts,
}

/// A machine with room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub node: String,
    /// How many more such Instances fit.
    pub room: usize,
}

/// The first machine with room for at least one Instance.
///
/// # Errors
/// Why there is none, in the words of Kubernetes' scheduler.
pub fn place(
    candidates: &[Candidate<'_>],
    selector: &BTreeMap<String, String>,
    wanted: &Amounts,
) -> Result<Place, String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for candidate in candidates {
        match room(candidate, selector, wanted) {
            Ok(room) => return Ok(Place { node: candidate.name.to_owned(), room }),
            Err(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let why = if reasons.is_empty() { "no nodes registered".to_owned() } else { reasons.join(", ") };
    Err(format!("0/{} nodes are available: {why}", candidates.len()))
}

fn room(
    candidate: &Candidate<'_>,
    selector: &BTreeMap<String, String>,
    wanted: &Amounts,
) -> Result<usize, &'static str> {
    if !candidate.open {
        return Err("not ready or unschedulable");
    }
    if selector.iter().any(|(name, value)| candidate.labels.get(name) != Some(value)) {
        return Err("didn't match the node selector");
    }
    let mut room = usize::MAX;
    for (name, amount) in wanted.iter().filter(|(_, amount)| **amount > 0) {
        let Some(all) = candidate.allocatable.get(name) else { continue };
        let left = all.saturating_sub(candidate.requested.get(name).copied().unwrap_or(0));
        match usize::try_from(left / amount).unwrap_or(usize::MAX) {
            0 if *name == RequestName::Memory => return Err("insufficient memory"),
            0 => return Err("insufficient cpu"),
            fits => room = room.min(fits),
        }
    }
    Ok(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_machine_with_labels_and_room_is_taken() {
        let zone = |zone: &str| TextMap::from_iter([("zone", zone)]);
        let (a, b) = (zone("a"), zone("b"));
        let node = |name, labels, open, requested: u64| Candidate {
            name,
            open,
            labels,
            allocatable: Amounts::from([(RequestName::Memory, 1000), (RequestName::Cpu, 4000)]),
            requested: Amounts::from([(RequestName::Memory, requested)]),
        };
        let nodes = [node("one", &a, false, 0), node("three", &a, true, 950), node("two", &b, true, 300)];
        let selector = |zone: &str| BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
        let memory = |amount| Amounts::from([(RequestName::Memory, amount)]);
        let found = |node: &str, room| Ok(Place { node: node.to_owned(), room });
        assert_eq!(place(&nodes, &BTreeMap::new(), &Amounts::new()), found("three", usize::MAX));
        assert_eq!(place(&nodes, &selector("b"), &memory(100)), found("two", 7));
        assert_eq!(place(&nodes, &BTreeMap::new(), &memory(100)), found("two", 7));
        let none = "0/3 nodes are available: 1 didn't match the node selector, 1 insufficient memory, \
                    1 not ready or unschedulable";
        assert_eq!(place(&nodes, &selector("b"), &memory(701)), Err(none.to_owned()));
        assert_eq!(
            place(&[], &BTreeMap::new(), &memory(1)),
            Err("0/0 nodes are available: no nodes registered".to_owned())
        );
    }
}
