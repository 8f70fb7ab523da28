//! What was last heard of each driver: an Instance's form decides which one makes it real.
//!
//! Each driver is looked at on its own. One that cannot be reached says nothing of its Instances, and nothing at all of
//! those of the other.

use jiff::Timestamp;

use crate::{
    api::{Condition, ConditionStatus, Instance, InstanceStatus, Object, Time},
    drivers::SharedDriver,
};

/// The reason in conditions while the engine of containers does not answer.
pub(super) const ENGINE_UNAVAILABLE: &str = "EngineUnavailable";

/// The forms of an Instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Process,
    Container,
}

impl Form {
    pub(super) const ALL: [Form; 2] = [Form::Process, Form::Container];

    pub(super) fn of(instance: &Object<Instance>) -> Self {
        if instance.spec.container.is_some() { Form::Container } else { Form::Process }
    }
}

/// The drivers of one machine.
#[derive(Clone)]
pub struct Drivers {
    /// Of processes.
    pub process: SharedDriver,
    /// Of containers.
    pub container: SharedDriver,
}

impl Drivers {
    pub(super) fn of(&self, form: Form) -> &SharedDriver {
        match form {
            Form::Process => &self.process,
            Form::Container => &self.container,
        }
    }
}

/// What was last heard of one driver.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// It has told what it knows, once at least.
    pub(super) known: bool,
    /// It is being asked.
    pub(super) under_way: bool,
    /// Something happened since it was asked: once more.
    pub(super) once_more: bool,
    /// When to ask again.
    pub(super) again: Option<Timestamp>,
    /// Why the last look saw nothing.
    pub(super) trouble: Option<String>,
}

impl Sight {
    /// True if nobody has asked yet, nor will by itself.
    pub(super) fn is_fresh(&self) -> bool {
        !self.known && !self.under_way && self.again.is_none()
    }

    /// True if it has been heard, or is known to be silent.
    pub(super) fn is_settled(&self) -> bool {
        self.known || self.trouble.is_some()
    }
}

/// What was heard of each.
#[derive(Debug, Default)]
pub(super) struct Sights([Sight; 2]);

impl Sights {
    pub(super) fn of(&mut self, form: Form) -> &mut Sight {
        &mut self.0[form as usize]
    }

    pub(super) fn at(&self, form: Form) -> &Sight {
        &self.0[form as usize]
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|sight| sight.again).min()
    }

    /// Why nothing is known of the containers now. A keeper that is away comes back within the blink of an eye, so of
    /// processes nothing is said.
    pub(super) fn doubt(&self, form: Form) -> Option<&str> {
        if form == Form::Container { self.at(form).trouble.as_deref() } else { None }
    }

    /// Whether there is all that can be known: of processes everything, of containers what their engine says.
    pub(super) fn are_settled(&self) -> bool {
        self.at(Form::Process).known && self.at(Form::Container).is_settled()
    }
}

/// How statuses are shown while their driver cannot be asked: as they were, but nobody knows whether it is ready.
pub(super) fn doubted(
    mut told: Vec<InstanceStatus>,
    before: &InstanceStatus,
    why: &str,
    generation: i64,
    now: Timestamp,
) -> Vec<InstanceStatus> {
    if told.is_empty() {
        told.push(before.clone());
    }
    if let Some(last) = told.last_mut() {
        let condition = Condition::new("Ready", ConditionStatus::Unknown, ENGINE_UNAVAILABLE, why, Time(now));
        Condition::set(&mut last.conditions, condition.of(generation));
    }
    told
}
