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
mod plan;
mod ports;
mod progress;
mod report;
mod revision;
#[cfg(test)]
mod rollout_tests;
mod status;
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
pub use instance::Live;
pub use observe::Observed;
pub use plan::{Action, Plan};
pub use ports::Ports;
pub use revision::Change;

use crate::{
    api::{App, Key, Kind, Node, Reason, Revision, Status, StoredObject},
    client::{Query, SharedClient},
    clock::SharedClock,
    runtime::{Caches, Controller, Map, Reporter, Requeue, Watched},
};

/// The field manager of everything that this controller writes.
const MANAGER: &str = "appm-app";

/// The controller; [`run`] drives it.
pub struct AppController {
    client: SharedClient,
    clock: SharedClock,
    ports: Ports,
    events: Reporter,
    /// When it began to look.
    since: Timestamp,
    waiting: depends::Waiting,
}

/// Runs the App controller until `shutdown`. `ready` turns true when every App has had a pass.
pub async fn run(
    client: SharedClient,
    clock: SharedClock,
    ports: Ports,
    events: Reporter,
    ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let since = clock.now();
    let controller = AppController {
        client: client.clone(),
        clock: clock.clone(),
        ports,
        events,
        since,
        waiting: depends::Waiting::default(),
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
            self.waiting.instances(),
            Watched::controlled(Revision::INFO, App::INFO),
            Watched { kind: Node::INFO, query: Query::default(), map: every_app() },
        ]
    }

    fn reconcile<'a>(&'a self, key: &'a Key, caches: &'a Caches) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            let found = caches.kind::<App>().get(key).and_then(|o| Some((o.clone(), o.typed::<App>()?)));
            self.waiting.note(key, found.as_ref().map(|(_, app)| &***app));
            let Some((stored, app)) = found else { return Ok(Requeue::Rest) };
            let now = self.clock.now();
            let observed = observe::observe(&stored, caches, self.since);
            let wanted = decide::ports_wanted(&app, &observed, now);
            let reserved = self.ports.reserve(wanted, || observe::taken_ports(caches), self.clock.random());
            let plan = decide(&app, &observed, reserved.numbers(), now);
            match execute::execute(&self.client, caches, &app, &plan).await {
                Ok(()) => report::report(&self.events, &app, &plan, self.clock.now()),
                // The App goes soon, too, and nothing can be made for it until then.
                Err(status) if is_terminating(&status) => return Ok(Requeue::Rest),
                Err(status) => return Err(status),
            }
            Ok(plan.requeue)
        }
        .boxed()
    }
}

/// True if the namespace is going.
fn is_terminating(status: &Status) -> bool {
    status.is(Reason::Forbidden) && status.details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// Which node new Instances are placed on matters to every App; whatever else a node says of itself does not.
fn every_app() -> Map {
    let chosen = Mutex::new(None);
    Box::new(move |_: &StoredObject, caches: &Caches| {
        let node = observe::node(caches);
        let mut chosen = chosen.lock().expect("no holder of the node panics");
        if chosen.replace(node.clone()) == Some(node) {
            return Vec::new();
        }
        let keys: BTreeSet<Key> = caches.kind::<App>().list().iter().map(|app| app.key.clone()).collect();
        keys.into_iter().collect()
    })
}
