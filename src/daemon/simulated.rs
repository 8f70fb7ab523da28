//! The parts of a daemon that judge and act, on a simulated machine and a clock that somebody moves: for a forecast, and for the simulated world of
//! the tests. They are the real ones; only the machine and the time are not.
//!
//! Schedules, Workflows, triggers and Sources are left out: they make Apps and Runs, and do nothing to processes.

use std::{io, sync::Arc};

use futures::FutureExt;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::local;
use crate::{
    admission::Admission,
    agent::{Account, Agent, AgentConfig, Drivers, Signals, node::NodeFacts},
    client::SharedClient,
    clock::SharedClock,
    controllers::{
        Turns,
        app::{self, Ports},
        gc,
        namespace::NamespaceController,
        run,
    },
    runtime::{self, EventRecorder},
};

/// What the parts stand on.
pub struct Cast {
    /// The way to all objects.
    pub admission: Admission,
    /// Time and chance.
    pub clock: SharedClock,
    /// The machine, as its agent tells of it.
    pub node: NodeFacts,
    /// What runs on it.
    pub drivers: Drivers,
    /// Looks up OS users.
    pub account: fn(Option<&str>) -> Option<Account>,
}

impl Cast {
    /// The client of a part of appm.
    pub fn local(&self, part: &str) -> SharedClient {
        local(&self.admission, part)
    }

    /// Starts the controllers of Apps, Runs and namespaces, the collector and the agent, on the runtime that is current.
    pub fn play(
        &self,
        ports: Ports,
        turns: &Turns,
        recorder: EventRecorder,
        shutdown: &CancellationToken,
    ) -> Vec<JoinHandle<()>> {
        let clock = || self.clock.clone();
        let ready = || watch::channel(false).0;
        let reporter = |component| recorder.reporter(component, &self.node.name);
        let app = app::run(
            self.local("app"),
            clock(),
            ports,
            turns.clone(),
            reporter("appm.dev/app"),
            ready(),
            shutdown.clone(),
        );
        let shared = (turns.clone(), run::Steps::default());
        let runs = run::run(self.local("run"), clock(), shared, reporter("appm.dev/run"), ready(), shutdown.clone());
        let namespaces = Arc::new(NamespaceController::new(self.local("namespace"), clock()));
        let namespaces = runtime::run(namespaces, self.local("namespace"), clock(), ready(), shutdown.clone());
        let config = AgentConfig {
            node: self.node.clone(),
            address: "127.0.0.1".to_owned(),
            account: self.account,
            machine: None,
            broker: None,
            socket: None,
        };
        let (client, drivers) = (self.local("agent"), self.drivers.clone());
        let agent = Agent::new(config, client, drivers, clock(), reporter("appm.dev/agent"));
        let signals = Signals { ready: ready(), shutdown: shutdown.clone(), drain: CancellationToken::new() };
        vec![
            tokio::spawn(app),
            tokio::spawn(agent.run(signals)),
            tokio::spawn(recorder.run(shutdown.clone())),
            tokio::spawn(gc::run(self.local("gc"), clock(), ready(), shutdown.clone())),
            tokio::spawn(runs),
            tokio::spawn(namespaces),
        ]
    }
}

/// Tells when everybody on a runtime waits for something: nothing more happens until the clock moves.
pub struct Stillness(Arc<Notify>);

impl Stillness {
    /// A runtime of one thread, which has neither timers nor sockets, and how to see that it is still.
    ///
    /// # Errors
    /// When the operating system has no room for it.
    pub fn runtime() -> io::Result<(Runtime, Self)> {
        let still = Arc::new(Notify::new());
        let parked = still.clone();
        // The thread parks only when no task can go on.
        let runtime = Builder::new_current_thread().on_thread_park(move || parked.notify_one()).build()?;
        Ok((runtime, Self(still)))
    }

    /// Resolves when nothing goes on by itself any more. For the future that the runtime blocks on.
    pub async fn wait(&self) {
        // That it was still once before says nothing.
        let _ = self.0.notified().now_or_never();
        self.0.notified().await;
    }
}
