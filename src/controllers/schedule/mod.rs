//! The Schedule controller: makes a Run when a time has come.
//!
//! Each pass: look (own Runs, from caches) → [`decide`](decide::decide) (pure) → one transaction, in which the Run of a time and
//! `lastScheduleTime` stand together, on disk before anything else happens. The key of a Schedule waits in the pump's queue for its next
//! time; nothing ticks. When the clock is set, every key gets its turn.

mod decide;
mod execute;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use self::decide::{Observed, decide};
use crate::{
    api::{Key, Kind, ObjectReference, Reason, Run, Schedule, Status},
    client::SharedClient,
    runtime::{Caches, Controller, EventType, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-schedule";
/// How long a time that could not be started waits before it is tried again.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// The controller. Run it with [`crate::runtime::run`].
pub struct ScheduleController {
    client: SharedClient,
    events: Reporter,
    zone: TimeZone,
}

impl ScheduleController {
    /// A controller that acts through `client`; `zone` is meant where a Schedule names none.
    pub fn new(client: SharedClient, events: Reporter, zone: TimeZone) -> Self {
        Self { client, events, zone }
    }
}

impl Controller for ScheduleController {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn watches(&self) -> Vec<Watched> {
        vec![Watched::primary(Schedule::INFO), Watched::controlled(Run::INFO, Schedule::INFO)]
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            let found = caches.kind::<Schedule>().get(key).and_then(|o| Some((o.clone(), o.typed::<Schedule>()?)));
            let Some((stored, schedule)) = found else { return Ok(Requeue::Rest) };
            let runs = caches.kind::<Run>().controlled_by(&key.namespace, Schedule::INFO.kind, &key.name);
            let runs = runs.iter().filter_map(|run| run.typed::<Run>());
            let owned = |run: &Arc<_>| decide::is_of(run, &schedule);
            let observed = Observed { runs: runs.filter(owned).collect(), zone: self.zone.clone() };
            let mut plan = decide(&schedule, &observed, now);
            let about = || ObjectReference::to(&*schedule);
            match execute::execute(&self.client, caches, &stored, &schedule, &plan).await {
                Ok(()) => {}
                // The Schedule goes soon, too.
                Err(status) if super::is_terminating(&status) => return Ok(Requeue::Rest),
                // Its author, or whoever made it late, has to do something; what is not started stays due.
                Err(status) if plan.starts() && is_refusal(&status) => {
                    let message = format!("no run was made: {}", status.message);
                    if plan.refuse(&schedule, message.clone(), now) {
                        self.events.record(about(), EventType::Warning, "FailedCreate", message, now);
                    }
                    execute::execute(&self.client, caches, &stored, &schedule, &plan).await?;
                    return Ok(Requeue::At(now.saturating_add(TRY_AGAIN).unwrap_or(Timestamp::MAX)));
                }
                Err(status) => return Err(status),
            }
            for (kind, reason, message) in plan.told() {
                self.events.record(about(), kind, reason, message, now);
            }
            Ok(plan.requeue)
        }
        .boxed()
    }
}

/// True if the same Run will be refused again, until somebody changes something; `AlreadyExists`: a Run that is not of this time has its name.
fn is_refusal(status: &Status) -> bool {
    use Reason::{AlreadyExists, BadRequest, Forbidden, Invalid, NotFound};
    matches!(status.reason, Forbidden | Invalid | NotFound | BadRequest | AlreadyExists)
}
