//! The Run controller: one Instance for each attempt, until one succeeds or no more may be made.
//!
//! Each pass: [`observe`] (own Instances, the nodes) → [`decide`] (pure) → [`execute`] (one transaction). What an attempt's process
//! does is the agent's business; this controller makes attempts, stops them when they are cancelled or late, and says in the Run's
//! status how it goes.
//!
//! It writes relaxed: `status.attempts` and the Instance of the attempt are written together, and the agent starts nothing before its own
//! durable write, which makes durable whatever came before it. So after a crash an attempt was made with its number, or not at all.

mod decide;
mod execute;
mod observe;
mod plan;
mod report;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use decide::decide;
pub use observe::Observed;
pub use plan::{Action, Plan};

use crate::{
    api::{Instance, Key, Kind, Node, RUN_LABEL, Run, Status},
    client::{Query, SharedClient},
    clock::SharedClock,
    runtime::{Caches, Controller, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-run";

/// The controller; [`run`] drives it.
pub struct RunController {
    client: SharedClient,
    events: Reporter,
    /// Runs that no node has room for. They have their turn when a node says something.
    homeless: Arc<Mutex<BTreeSet<Key>>>,
    /// Held by a pass that places by requests, so that no two give away the same room.
    placing: tokio::sync::Mutex<()>,
}

/// Runs the Run controller until `shutdown`. `ready` turns true when every Run has had a pass.
pub async fn run(
    client: SharedClient,
    clock: SharedClock,
    events: Reporter,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let controller = RunController {
        client: client.clone(),
        events,
        homeless: Arc::default(),
        placing: tokio::sync::Mutex::default(),
    };
    crate::runtime::run(Arc::new(controller), client, clock, ready, shutdown).await;
}

impl RunController {
    fn note(&self, key: &Key, waits: bool) {
        let mut homeless = self.homeless.lock().expect("no holder of the homeless panics");
        match waits {
            true => homeless.insert(key.clone()),
            false => homeless.remove(key),
        };
    }
}

impl Controller for RunController {
    fn name(&self) -> &'static str {
        "run"
    }

    fn watches(&self) -> Vec<Watched> {
        let homeless = self.homeless.clone();
        let of_runs = Query { label_selector: RUN_LABEL.to_owned(), ..Query::default() };
        vec![
            Watched::primary(Run::INFO),
            Watched { query: of_runs, ..Watched::controlled(Instance::INFO, Run::INFO) },
            Watched {
                kind: Node::INFO,
                query: Query::default(),
                map: Box::new(move |_, _| {
                    homeless.lock().expect("no holder of the homeless panics").iter().cloned().collect()
                }),
                kept: true,
            },
        ]
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            let Some(run) = caches.kind::<Run>().typed::<Run>(key) else {
                self.note(key, false);
                return Ok(Requeue::Rest);
            };
            let places = !run.spec.resources.requests.is_empty() && !run.status.is_over();
            let _turn = if places { Some(self.placing.lock().await) } else { None };
            let observed = observe::observe(&self.client, &run, caches).await?;
            let plan = decide(&run, &observed, now);
            match execute::execute(&self.client, caches, &run, &plan).await {
                Ok(()) => report::report(&self.events, &run, &plan, now),
                // The Run goes soon, too.
                Err(status) if super::is_terminating(&status) => return Ok(Requeue::Rest),
                Err(status) => return Err(status),
            }
            self.note(key, plan.waits_for_room);
            Ok(plan.requeue)
        }
        .boxed()
    }
}
