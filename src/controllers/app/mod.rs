//! The App controller: keeps Instances and Revisions equal to what an App declares.
//!
//! Each pass: [`observe`] (own dependents and the nodes, from caches) → [`decide`] (pure) → [`execute`] (one transaction).
//! Restarting a process in place is the agent's business; this controller makes, replaces and deletes Instances, keeps
//! their live fields in step, and says in the App's status how it goes.
//!
//! Whatever it writes is relaxed: its owner, the App, is durable, and a lost write is simply decided again.

mod decide;
mod depends;
mod endpoints;
mod execute;
mod instance;
mod observe;
mod place;
mod plan;
mod ports;
mod progress;
mod quota;
mod report;
mod revision;
#[cfg(test)]
mod rollout_tests;
mod status;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use decide::decide;
pub use instance::Live;
pub use observe::Observed;
pub use plan::{Action, Plan};
pub use ports::Ports;
pub use revision::Change;

use crate::{
    api::{App, Key, Kind, Node, Revision, Status},
    client::{Query, SharedClient},
    clock::SharedClock,
    controllers::place::{Homeless, Nodes, Turns},
    runtime::{Caches, Controller, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-app";

/// The controller; [`run`] drives it.
pub struct AppController {
    client: SharedClient,
    clock: SharedClock,
    ports: Ports,
    events: Reporter,
    /// When it began to look, or the clock was set last, in microseconds.
    since: AtomicI64,
    waiting: depends::Waiting,
    homeless: Homeless,
    nodes: Nodes,
    turns: Turns,
}

/// Runs the App controller until `shutdown`. It takes `turns` with whoever else places Instances. `ready` turns true when every App has had a pass.
pub async fn run(
    client: SharedClient,
    clock: SharedClock,
    ports: Ports,
    turns: Turns,
    events: Reporter,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let since = AtomicI64::new(clock.now().as_microsecond());
    let controller = AppController {
        client: client.clone(),
        clock: clock.clone(),
        ports,
        events,
        since,
        waiting: depends::Waiting::default(),
        homeless: Homeless::default(),
        nodes: Nodes::default(),
        turns,
    };
    crate::runtime::run(Arc::new(controller), client, clock, ready, shutdown).await;
}

impl Controller for AppController {
    fn name(&self) -> &'static str {
        "app"
    }

    fn watches(&self) -> Vec<Watched> {
        vec![
            self.waiting.apps(),
            self.homeless.waiting_for(self.waiting.instances()),
            Watched::controlled(Revision::INFO, App::INFO),
            Watched { kind: Node::INFO, query: Query::default(), map: place::every_app(), kept: true },
            self.homeless.waiting_for_quota(),
        ]
    }

    fn stepped(&self, now: Timestamp) {
        self.since.store(now.as_microsecond(), Ordering::Relaxed);
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            let found = caches.kind::<App>().get(key).and_then(|o| Some((o.clone(), o.typed::<App>()?)));
            self.waiting.note(key, found.as_ref().map(|(_, app)| &***app));
            let Some((stored, app)) = found else {
                self.homeless.note(key, false);
                return Ok(Requeue::Rest);
            };
            if !app.spec.resources.requests.is_empty() {
                // Before it looks: room that comes about from now on brings another turn.
                self.homeless.note(key, true);
            }
            let _turn = self.turns.take(&app.spec.resources.requests).await;
            let since = Timestamp::from_microsecond(self.since.load(Ordering::Relaxed)).unwrap_or(now);
            let mut observed = observe::observe(&self.client, &stored, &app, caches, &self.nodes, since).await?;
            let wanted = decide::ports_wanted(&app, &observed, now);
            let reserved = self.ports.reserve(wanted, || observe::taken_ports(caches), self.clock.random());
            let mut plan = decide(&app, &observed, reserved.numbers(), now);
            if quota::makes(&plan) {
                // Before it is tried: what gives room from now on brings another turn.
                self.homeless.note(key, true);
            }
            let mut done = execute::execute(&self.client, caches, &app, &plan).await;
            // As many as there is room for.
            while let Some(room) = quota::less(&done, &plan) {
                quota::bound(&mut observed, room, &done);
                plan = decide(&app, &observed, reserved.numbers(), now);
                done = execute::execute(&self.client, caches, &app, &plan).await;
            }
            match done {
                Ok(()) => report::report(&self.events, &app, &plan, now),
                // The App goes soon, too, and nothing can be made for it until then.
                Err(status) if super::is_terminating(&status) => return Ok(Requeue::Rest),
                Err(status) if status.is_over_quota() => {
                    report::refused(&self.events, &app, &status, now);
                    return Err(status);
                }
                Err(status) => return Err(status),
            }
            self.homeless.note(key, plan.waits_for_room);
            Ok(plan.requeue)
        }
        .boxed()
    }
}
