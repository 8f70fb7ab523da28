//! The Run controller: one Instance for each attempt, until one succeeds or no more may be made.
//!
//! Each pass: [`observe`] (own Instances, the nodes) → [`decide`] (pure) → [`execute`] (one transaction). What an attempt's process
//! does is the agent's business; this controller makes attempts, stops them when they are cancelled or late, and says in the Run's
//! status how it goes.
//!
//! It writes relaxed: `status.attempts` and the Instance of the attempt are written together, and the agent starts nothing before its own
//! durable write, which makes durable whatever came before it. So after a crash an attempt was made with its number, or not at all.

mod decide;
mod ends;
mod execute;
mod observe;
mod plan;
mod report;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use decide::decide;
pub(in crate::controllers) use ends::End;
pub use ends::Told;
pub use observe::Observed;
pub use plan::{Action, Plan};
pub(in crate::controllers) use report::report;
pub use steps::Steps;
pub(in crate::controllers) use steps::{conclusion, first_attempt};

use crate::{
    api::{Instance, Key, Kind, RUN_LABEL, Run, Status, StoredObject},
    client::{Query, SharedClient},
    clock::SharedClock,
    controllers::place::{Homeless, Nodes, Turns},
    policy::restart::COMPLETED,
    runtime::{Caches, Controller, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-run";

/// The controller; [`run`] drives it.
pub struct RunController {
    client: SharedClient,
    events: Reporter,
    homeless: Homeless,
    nodes: Nodes,
    turns: Turns,
    steps: Steps,
}

/// Runs the Run controller until `shutdown`. It takes `turns` with whoever else places Instances, and shares `steps` with the controller of
/// WorkflowRuns. `ready` turns true when every Run has had a pass.
pub async fn run(
    client: SharedClient,
    clock: SharedClock,
    (turns, steps): (Turns, Steps),
    events: Reporter,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let (homeless, nodes) = (Homeless::default(), Nodes::default());
    let controller = RunController { client: client.clone(), events, homeless, nodes, turns, steps };
    crate::runtime::run(Arc::new(controller), client, clock, ready, shutdown).await;
}

/// The Run of an attempt, unless there is nothing to say of it: of a step that somebody else writes down the end of, when it is begun and
/// when it has succeeded.
fn of_attempt(steps: &Steps, object: &StoredObject, caches: &Caches) -> Option<Key> {
    let owner = object.meta().controller().filter(|owner| owner.kind == Run::INFO.kind)?;
    let run = Key::of::<Run>(&object.key.namespace, &owner.name);
    let is_quiet = || {
        let present = caches.kind::<Instance>().typed::<Instance>(&object.key)?;
        let state = &present.status.state;
        let goes_on = state.running.is_some() || state.stopping.is_some() || present.metadata.is_deleting();
        let lacks = state.waiting.as_ref().is_some_and(|waiting| waiting.reason != "Starting");
        let failed = state.exited.as_ref().is_some_and(|exited| exited.reason != COMPLETED);
        Some(present.spec.step.is_some() && !goes_on && !lacks && !failed)
    };
    let quiet = steps.is_awaited(&run) && is_quiet().unwrap_or(false);
    (!quiet).then_some(run)
}

impl Controller for RunController {
    fn name(&self) -> &'static str {
        "run"
    }

    fn watches(&self) -> Vec<Watched> {
        let of_runs = Query { label_selector: RUN_LABEL.to_owned(), ..Query::default() };
        let steps = self.steps.clone();
        let attempts = Watched {
            kind: Instance::INFO,
            query: of_runs,
            map: Box::new(move |object, caches| of_attempt(&steps, object, caches).into_iter().collect()),
            kept: true,
        };
        vec![
            Watched::primary(Run::INFO),
            self.homeless.waiting_for(attempts),
            self.homeless.waiting_for_nodes(),
            self.homeless.waiting_for_quota(),
        ]
    }

    fn calls(&self) -> BoxStream<'static, Key> {
        self.steps.calls()
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            let Some(run) = caches.kind::<Run>().typed::<Run>(key) else {
                self.homeless.note(key, false);
                return Ok(Requeue::Rest);
            };
            // Before it looks: room that comes about from now on brings another turn.
            self.homeless.note(key, !run.status.is_over());
            let _turn = match run.status.is_over() {
                true => None,
                false => self.turns.take(run.spec.requests()).await,
            };
            let mut observed = observe::observe(&self.client, &run, caches, &self.nodes).await?;
            let mut plan = decide(&run, &observed, now);
            if plan.concludes(&run) && observed.has_ended(&run) && self.steps.is_awaited(key) {
                // It is said together with what follows from it.
                return Ok(Requeue::Rest);
            }
            if plan.makes() {
                // Before it is tried: what gives room from now on brings another turn.
                self.homeless.note(key, true);
            }
            let mut done = execute::execute(&self.client, caches, &run, &plan).await;
            if let Some(full) = done.as_ref().err().filter(|status| status.is_over_quota()) {
                observed.full = Some(full.message.clone());
                plan = decide(&run, &observed, now);
                done = execute::execute(&self.client, caches, &run, &plan).await;
            }
            match done {
                Ok(()) => report(&self.events, &run, &plan, now),
                // The Run goes soon, too.
                Err(status) if super::is_terminating(&status) => return Ok(Requeue::Rest),
                Err(status) => return Err(status),
            }
            self.homeless.note(key, plan.waits_for_room);
            Ok(plan.requeue)
        }
        .boxed()
    }
}
