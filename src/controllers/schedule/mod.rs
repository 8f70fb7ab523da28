//! The Schedule controller: makes a Run or a WorkflowRun when a time has come, or sends a task.
//!
//! Each pass: look (own Runs, from caches) → [`decide`](decide::decide) (pure) → one transaction, in which the Run of a time and
//! `lastScheduleTime` stand together, on disk before anything else happens, the sending of a task too. The key of a Schedule waits in the
//! pump's queue for its next time; nothing ticks. When the clock is set, every key gets its turn.

mod decide;
mod execute;
mod made;
mod tasks;
#[cfg(test)]
mod tests;

use futures::{FutureExt, future::BoxFuture};
use jiff::{Timestamp, tz::TimeZone};

use self::{
    decide::{Observed, decide},
    made::{Made, is_of},
    tasks::Tasks,
};
use crate::{
    api::{Key, Kind, Object, ObjectReference, Run, Schedule, Status, WorkflowRun},
    client::SharedClient,
    clock::SharedClock,
    controllers::operations,
    runtime::{Caches, Controller, EventType, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-schedule";

/// The controller. Run it with [`crate::runtime::run`].
pub struct ScheduleController {
    client: SharedClient,
    events: Reporter,
    tasks: Tasks,
    zone: TimeZone,
}

impl ScheduleController {
    /// A controller that acts through `client`; `zone` is meant where a Schedule names none.
    pub fn new(client: SharedClient, clock: SharedClock, events: Reporter, zone: TimeZone) -> Self {
        let tasks = Tasks::new(client.clone(), clock, events.clone());
        Self { client, events, tasks, zone }
    }

    fn observe(&self, caches: &Caches, schedule: &Object<Schedule>) -> Observed {
        let (namespace, name) = (&schedule.metadata.namespace, &schedule.metadata.name);
        let of = |kind| caches.of(kind).controlled_by(namespace, Schedule::INFO.kind, name);
        let runs = of(Run::INFO).into_iter().filter_map(|run| run.typed::<Run>());
        let runs = runs.filter(|run| is_of(&run.metadata, schedule)).map(Made::Run);
        let flows = of(WorkflowRun::INFO).into_iter().filter_map(|run| run.typed::<WorkflowRun>());
        let flows = flows.filter(|run| is_of(&run.metadata, schedule)).map(Made::WorkflowRun);
        let under_way = self.tasks.under_way(schedule);
        Observed { made: runs.chain(flows).collect(), under_way, zone: self.zone.clone() }
    }
}

impl Controller for ScheduleController {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn watches(&self) -> Vec<Watched> {
        vec![
            Watched::primary(Schedule::INFO),
            Watched::controlled(Run::INFO, Schedule::INFO),
            Watched::controlled(WorkflowRun::INFO, Schedule::INFO),
        ]
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            let found = caches.kind::<Schedule>().get(key).and_then(|o| Some((o.clone(), o.typed::<Schedule>()?)));
            self.tasks.forget(key, found.as_ref().map(|(_, schedule)| schedule.uid()));
            let Some((stored, schedule)) = found else { return Ok(Requeue::Rest) };
            let observed = self.observe(caches, &schedule);
            let mut plan = decide(&schedule, &observed, now);
            let about = || ObjectReference::to(&*schedule);
            let acting = execute::Acting { client: &self.client, tasks: &self.tasks, caches };
            match acting.execute(&stored, &schedule, &plan).await {
                Ok(()) => {}
                // The Schedule goes soon, too.
                Err(status) if super::is_terminating(&status) => return Ok(Requeue::Rest),
                // Its author, or whoever made it late, has to do something; what is not started stays due.
                Err(status) if plan.starts() && operations::is_refusal(&status) => {
                    let message = format!("no run was made: {}", status.message);
                    if plan.refuse(&schedule, message.clone(), now) {
                        self.events.record(about(), EventType::Warning, "FailedCreate", message, now);
                    }
                    acting.execute(&stored, &schedule, &plan).await?;
                    return Ok(Requeue::At(plan.again(now)));
                }
                Err(status) => return Err(status),
            }
            for (kind, reason, message) in plan.told(&schedule) {
                self.events.record(about(), kind, reason, message, now);
            }
            Ok(plan.requeue)
        }
        .boxed()
    }
}
