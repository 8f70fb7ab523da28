//! The App controller: keeps Instances and Revisions equal to what an App declares.
//!
//! Each pass: [`observe`] (own dependents and the nodes, from caches) → [`decide`] (pure) → [`execute`] (one transaction).
//! Restarting a process in place is the agent's business; this controller makes, replaces and deletes Instances, keeps
//! their live fields in step, and says in the App's status how it goes.
//!
//! Whatever it writes is relaxed: its owner, the App, is durable, and a lost write is simply decided again.

mod decide;
mod execute;
mod instance;
mod observe;
mod plan;
mod ports;
mod status;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use decide::decide;
pub use instance::Live;
pub use observe::Observed;
pub use plan::{Action, Plan};
pub use ports::Ports;

use crate::{
    api::{App, Instance, Key, Kind, Node, Revision, Status, StoredObject},
    client::{Query, SharedClient},
    clock::SharedClock,
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
    let controller = AppController { client: client.clone(), clock: clock.clone(), ports, events };
    crate::runtime::run(Arc::new(controller), client, clock, ready, shutdown).await;
}

impl Controller for AppController {
    fn name(&self) -> &'static str {
        "app"
    }

    fn watches(&self) -> Vec<Watched> {
        vec![
            Watched::primary(App::INFO),
            Watched::controlled(Instance::INFO, App::INFO),
            Watched::controlled(Revision::INFO, App::INFO),
            Watched { kind: Node::INFO, query: Query::default(), map: Box::new(every_app) },
        ]
    }

    fn reconcile<'a>(&'a self, key: &'a Key, caches: &'a Caches) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            let Some((stored, app)) = caches.kind::<App>().get(key).and_then(|o| Some((o.clone(), o.typed::<App>()?)))
            else {
                return Ok(Requeue::Rest);
            };
            let observed = observe::observe(&stored, caches);
            let wanted = observed.ports_wanted(&app);
            let reserved = self.ports.reserve(wanted, || observe::taken_ports(caches), self.clock.random());
            let plan = decide(&app, &observed, reserved.numbers(), self.clock.now());
            execute::execute(&self.client, caches, &app, &plan).await?;
            execute::report(&self.events, &app, &plan, self.clock.now());
            Ok(plan.requeue)
        }
        .boxed()
    }
}

/// A node that comes or goes matters to every App.
fn every_app(_: &StoredObject, caches: &Caches) -> Vec<Key> {
    let keys: BTreeSet<Key> = caches.kind::<App>().list().iter().map(|app| app.key.clone()).collect();
    keys.into_iter().collect()
}
