//! The resources of an attempt that runs: what is in force, what is on its way, and why something is not.
//!
//! The App controller writes the resources that are wanted into the Instance's spec; what cannot be changed in place it makes a new
//! Instance for. What is in force stands in the status, so a new agent goes on where the last one was; to set the same limits twice
//! does no harm.

use jiff::{SignedDuration, Timestamp};

use super::memory::Note;
use crate::{
    api::{Condition, InstanceStatus, Resources, Time},
    drivers::LimitError,
};

/// The condition that is False while what is wanted is not in force.
pub(super) const RESIZED: &str = "Resized";
/// How long a refusal stands before it is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The same, where only a restart is likely to help.
const SELDOM: SignedDuration = SignedDuration::from_mins(10);

/// What an attempt that runs may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resizing {
    /// What its limits are made of.
    in_force: Resources,
    /// What the driver is being told.
    under_way: Option<Resources>,
    refused: Option<Refused>,
}

/// What the driver could not do.
#[derive(Clone, Debug, PartialEq)]
struct Refused {
    wanted: Resources,
    reason: &'static str,
    message: String,
    again: Timestamp,
}

impl Resizing {
    /// As a status has it.
    pub fn of(status: &InstanceStatus) -> Self {
        Self { in_force: status.resources.clone(), ..Self::default() }
    }

    /// Of an attempt that is started with these.
    pub fn started(resources: &Resources) -> Self {
        Self { in_force: resources.clone(), ..Self::default() }
    }

    /// What its limits are made of.
    pub fn in_force(&self) -> &Resources {
        &self.in_force
    }

    /// True if the driver must be told of `wanted` now; it is under way then.
    pub fn begins(&mut self, wanted: &Resources, now: Timestamp) -> bool {
        if self.under_way.is_some() {
            return false;
        }
        if self.in_force == *wanted {
            self.refused = None;
            return false;
        }
        let stands = |refused: &Refused| refused.wanted == *wanted && refused.again > now;
        let begins = !self.refused.as_ref().is_some_and(stands);
        if begins {
            self.under_way = Some(wanted.clone());
        }
        begins
    }

    /// When it is tried again, though nothing happened.
    pub fn again(&self) -> Option<Timestamp> {
        self.refused.as_ref().map(|refused| refused.again)
    }

    /// The driver's answer. What it is worth telling is told once for each change that was wanted.
    pub fn answered(&mut self, result: Result<(), LimitError>, now: Timestamp) -> Option<Note> {
        let wanted = self.under_way.take()?;
        let (reason, again) = match &result {
            Ok(()) => {
                (self.in_force, self.refused) = (wanted, None);
                return Some(Note::normal(RESIZED, "Its limits were changed while it runs"));
            }
            Err(LimitError::InUse(_)) => ("InUse", AGAIN),
            Err(LimitError::Unavailable(_)) => ("Unavailable", SELDOM),
            Err(LimitError::Unknown(_)) => ("Unknown", AGAIN),
        };
        let message = result.err().map(|error| error.to_string()).unwrap_or_default();
        let known = self.refused.as_ref().is_some_and(|refused| refused.wanted == wanted && refused.reason == reason);
        let note = (!known).then(|| Note::warning("ResizeFailed", message.clone()));
        self.refused = Some(Refused { wanted, reason, message, again: now.saturating_add(again).unwrap_or(now) });
        note
    }

    /// The clock was set.
    pub fn hurry(&mut self, now: Timestamp) {
        if let Some(refused) = &mut self.refused {
            refused.again = now;
        }
    }

    /// Says in the conditions what is refused, if something is.
    pub fn tell(&self, conditions: &mut Vec<Condition>, runs: bool, generation: i64, now: Timestamp) {
        match self.refused.as_ref().filter(|_| runs) {
            None => conditions.retain(|condition| condition.kind != RESIZED),
            Some(Refused { reason, message, .. }) => {
                let condition = Condition::new(RESIZED, false, *reason, message, Time(now));
                Condition::set(conditions, condition.of(generation));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn memory(amount: &str) -> Resources {
        serde_json::from_value(json!({"limits": {"memory": amount}})).expect("resources")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    #[test]
    fn what_is_wanted_is_asked_for_once_and_what_is_refused_again_later() {
        let mut resizing = Resizing::started(&memory("1Gi"));
        assert!(!resizing.begins(&memory("1Gi"), at(0)), "it is in force");
        assert!(resizing.begins(&memory("2Gi"), at(0)));
        assert!(!resizing.begins(&memory("2Gi"), at(0)), "it is under way");
        assert_eq!(resizing.answered(Ok(()), at(1)).map(|note| note.reason), Some("Resized"));
        assert_eq!(resizing.in_force(), &memory("2Gi"));

        let in_use = || Err(LimitError::InUse("it uses 3 MiB".to_owned()));
        assert!(resizing.begins(&memory("1Mi"), at(2)));
        assert_eq!(resizing.answered(in_use(), at(2)).map(|note| note.reason), Some("ResizeFailed"));
        assert!(!resizing.begins(&memory("1Mi"), at(3)) && resizing.begins(&memory("1Mi"), at(40)));
        assert_eq!(resizing.answered(in_use(), at(40)), None, "it was told already");
        let mut conditions = Vec::new();
        resizing.tell(&mut conditions, true, 3, at(40));
        assert_eq!((&*conditions[0].reason, &*conditions[0].message), ("InUse", "it uses 3 MiB"));
        assert!(resizing.begins(&memory("4Mi"), at(41)), "something else is wanted");
        assert_eq!(resizing.answered(Ok(()), at(41)).map(|note| note.reason), Some("Resized"));
        resizing.tell(&mut conditions, true, 4, at(41));
        assert!(conditions.is_empty() && resizing.again().is_none());
    }

    #[test]
    fn whoever_takes_back_what_was_refused_is_told_nothing_any_more() {
        let mut resizing = Resizing::started(&memory("1Gi"));
        assert!(resizing.begins(&memory("1Mi"), at(0)));
        resizing.answered(Err(LimitError::InUse(String::new())), at(0));
        assert!(!resizing.begins(&memory("1Gi"), at(1)) && resizing.again().is_none());
    }
}
