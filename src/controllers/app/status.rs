//! What an App's status says of its Instances.

use jiff::Timestamp;

use super::{
    Observed,
    endpoints::{self, Leaving},
    instance,
    progress::{PAUSED, Progress, ROLLED_BACK},
    quota,
    revision::{Held, Target},
};
use crate::{
    api::{App, AppStatus, Condition, ConditionStatus, Instance, Object, Time},
    policy::{
        depends::NOT_READY,
        restart::{COMPLETED, CRASH_LOOPING, STOPPED},
        rollout::{Health, Member},
        window::OUTSIDE,
    },
};

/// The counts that everything else follows from. Instances that are being deleted do not count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) wanted: i32,
    pub(super) there: i32,
    pub(super) ready: i32,
    pub(super) available: i32,
    /// Of the spec's template.
    pub(super) updated: i32,
    pub(super) updated_ready: i32,
    pub(super) updated_available: i32,
    /// Of another template.
    pub(super) old: i32,
    /// Of the spec's template, and through with their work.
    pub(super) finished: i32,
    pub(super) crash_looping: bool,
    /// Waiting for other Apps, or for their window.
    pub(super) waiting: i32,
}

impl Counts {
    /// Counts the Instances of `app`, of which `members` says how they do.
    pub(super) fn of(app: &App, observed: &Observed, members: &[Member], target: &Target) -> Self {
        let mut counts = Self { wanted: app.spec.replicas, ..Self::default() };
        for (instance, member) in observed.instances.iter().zip(members).filter(|(_, m)| !m.deleting) {
            let updated = target.revision.as_ref() == Some(&instance.spec.revision);
            let ready = Condition::holds(&instance.status.conditions, "Ready");
            let available = member.health == Health::Available;
            counts.there += 1;
            counts.ready += i32::from(ready);
            counts.available += i32::from(available);
            counts.updated += i32::from(updated);
            counts.updated_ready += i32::from(updated && ready);
            counts.updated_available += i32::from(updated && available);
            counts.old += i32::from(!updated);
            counts.finished += i32::from(updated && member.health == Health::Finished);
            counts.waiting += i32::from(is_waiting(instance));
            counts.crash_looping |= exited(instance) == Some(CRASH_LOOPING);
        }
        counts
    }

    /// The same, with so many new ones.
    pub(super) fn with_made(self, made: i32, updated: bool) -> Self {
        let (new, old) = if updated { (made, 0) } else { (0, made) };
        Self { there: self.there + made, updated: self.updated + new, old: self.old + old, ..self }
    }

    fn ready_of(&self) -> String {
        format!("{} of {} instances are ready", self.ready, self.wanted)
    }
}

/// Everything that a status is made of, beside what is observed.
pub(super) struct Judged<'a> {
    pub(super) target: &'a Target,
    pub(super) counts: Counts,
    pub(super) progress: Progress,
    /// How many may be unavailable.
    pub(super) unavailable: u32,
    /// A port that an old and a new instance would both hold.
    pub(super) clash: Option<u16>,
    pub(super) leaving: Leaving,
}

/// The status of `app`. Equal inputs but for `now` give equal statuses: a time is written only where a condition flips.
pub(super) fn status(app: &Object<App>, observed: &Observed, judged: &Judged<'_>, now: Timestamp) -> AppStatus {
    let Judged { target, counts, progress, .. } = judged;
    let there: Vec<&Object<Instance>> =
        observed.instances.iter().map(AsRef::as_ref).filter(|i| !i.metadata.is_deleting()).collect();
    let before = &app.status;
    let update = target.revision.as_ref().unwrap_or(&before.update_revision);
    let asked = instance::restarted_at(app);
    // Nothing was proved where nothing was wanted.
    let proven = progress.done && (counts.wanted > 0 || before.current_revision.is_empty());
    let mut status = AppStatus {
        observed_generation: app.metadata.generation,
        replicas: counts.there,
        ready_replicas: counts.ready,
        updated_replicas: counts.updated,
        available_replicas: counts.available,
        restarts: there.iter().map(|i| i64::from(i.status.restarts)).sum(),
        current_revision: if proven { update } else { &before.current_revision }.clone(),
        update_revision: update.clone(),
        progress_time: progress.since.map(Time),
        progress_count: progress.count,
        restarted_at: if there.iter().all(|i| i.status.restarted_at == asked) { asked } else { &before.restarted_at }
            .to_owned(),
        endpoints: endpoints::endpoints(app, &there, &judged.leaving),
        selector: format!("{}={}", crate::api::APP_LABEL, app.metadata.name),
        conditions: before.conditions.clone(),
    };
    if target.held != Some(Held::RolledBack) && before.update_revision != *update {
        status.conditions.retain(|c| c.kind != ROLLED_BACK);
    }
    let ready = ready(app, observed, judged, &there);
    let available = i64::from(counts.available) >= i64::from(counts.wanted) - i64::from(judged.unavailable);
    let available = available && (counts.available > 0 || counts.wanted == 0);
    let of_wanted = format!("{} of {} instances are available", counts.available, counts.wanted);
    let conditions = [
        ("Available", available.into(), if available { "Available" } else { "TooFewReady" }.to_owned(), of_wanted),
        ("Progressing", progress.status, progress.reason.to_owned(), moving(app, judged)),
        ("Ready", ready.0.into(), ready.1, ready.2),
        suspended(app),
    ];
    for (kind, holds, reason, message) in conditions {
        Condition::set(&mut status.conditions, condition(app, kind, holds, &reason, message, now));
    }
    status
}

/// A condition of `app` as it is judged now.
pub(super) fn condition(
    app: &Object<App>,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Condition {
    Condition::new(kind, status, reason, message, Time(now)).of(app.metadata.generation)
}

fn exited(instance: &Instance) -> Option<&str> {
    instance.status.state.exited.as_ref().map(|e| e.reason.as_str())
}

/// True if nobody's doing can help: it starts when other Apps are ready, or when its window opens.
fn is_waiting(instance: &Instance) -> bool {
    let state = &instance.status.state;
    let reason = state.waiting.as_ref().map(|w| &w.reason).or(state.exited.as_ref().map(|e| &e.reason));
    reason.is_some_and(|reason| [NOT_READY, OUTSIDE].contains(&reason.as_str()))
}

fn suspended(app: &App) -> (&'static str, ConditionStatus, String, String) {
    let (word, message) = match app.spec.suspend {
        true => ("Suspended", "nothing runs until the app is resumed"),
        false => ("Active", ""),
    };
    ("Suspended", app.spec.suspend.into(), word.to_owned(), message.to_owned())
}

/// One sentence on how far the rollout is.
fn moving(app: &App, judged: &Judged<'_>) -> String {
    let Counts { updated, wanted, .. } = judged.counts;
    let mut message = format!("{updated} of {wanted} instances are of the current revision");
    if judged.progress.is_late() {
        message += &format!("; nothing came nearer for {} s", app.spec.progress_deadline_seconds);
    }
    if judged.target.held == Some(Held::RolledBack) {
        message += "; this template was rolled back before: change it, or restart the app to try it again";
    }
    if let Some(port) = judged.clash.filter(|_| judged.counts.old > 0) {
        message += &format!("; port {port} is fixed, so an old instance must end before a new one starts");
    }
    message
}

/// Whether everything wanted serves, in the current revision; otherwise the reason that most needs somebody's eyes.
fn ready(app: &App, observed: &Observed, judged: &Judged<'_>, there: &[&Object<Instance>]) -> (bool, String, String) {
    let counts = &judged.counts;
    let ready_of = counts.ready_of();
    let no = |reason: &str, message: String| (false, reason.to_owned(), message);
    if app.spec.suspend {
        return no("Suspended", "the app is suspended".to_owned());
    }
    if counts.wanted == 0 {
        return (true, "NoReplicas".to_owned(), "no instances are wanted".to_owned());
    }
    if counts.updated_ready >= counts.wanted && counts.old == 0 {
        return (true, "AllReady".to_owned(), ready_of);
    }
    if let Some(held) = judged.target.held.filter(|_| counts.ready >= counts.wanted) {
        let reason = if held == Held::Paused { PAUSED } else { ROLLED_BACK };
        return (true, reason.to_owned(), ready_of);
    }
    if observed.leftovers > 0 {
        return no("Waiting", "what is left of a former app of this name must end first".to_owned());
    }
    if let (Err(why), true) = (&observed.place, counts.there < counts.wanted) {
        return no("Pending", why.clone());
    }
    if let (Some(why), true) = (&observed.full, counts.there < counts.wanted) {
        return no(quota::FAILED_CREATE, why.clone());
    }
    if let Some((reason, message)) = there.iter().filter_map(|i| trouble(i)).min_by_key(|t| t.0).map(|t| (t.1, t.2)) {
        return no(&reason, format!("{ready_of}; {message}"));
    }
    if counts.finished > 0 && counts.finished + counts.ready >= counts.wanted && counts.updated >= counts.wanted {
        return no(COMPLETED, format!("{} of {} instances have completed", counts.finished, counts.wanted));
    }
    if judged.target.held == Some(Held::Paused) && counts.there == 0 {
        return no(PAUSED, "the app was paused before it was rolled out".to_owned());
    }
    if counts.old > 0 {
        return no("Updating", ready_of);
    }
    no("Starting", ready_of)
}

/// What is wrong with an Instance, the worst first.
fn trouble(instance: &Object<Instance>) -> Option<(u8, String, String)> {
    let state = &instance.status.state;
    let (rank, reason, message) = match (&state.exited, &state.waiting) {
        (Some(exited), _) => {
            let rank = match exited.reason.as_str() {
                CRASH_LOOPING => 0,
                COMPLETED | STOPPED | "Suspended" => return None,
                OUTSIDE => 5,
                _ => 3,
            };
            (rank, &exited.reason, &exited.message)
        }
        (None, Some(waiting)) => {
            let rank = match waiting.reason.as_str() {
                "StartFailed" | "ConfigError" => 1,
                "BackOff" => 2,
                NOT_READY => 4,
                OUTSIDE => 5,
                "Starting" => return None,
                // An image or a value that is missing, limits that cannot be enforced, an engine that is down.
                _ => 1,
            };
            (rank, &waiting.reason, &waiting.message)
        }
        (None, None) => return None,
    };
    Some((rank, reason.clone(), format!("{}: {message}", instance.metadata.name)))
}
