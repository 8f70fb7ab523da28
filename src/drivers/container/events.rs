//! Listening to an engine: who ended, who disappeared, how the checks of images go.

use std::{sync::Arc, time::Duration};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use futures::StreamExt;
use jiff::Timestamp;

use super::{Shared, engine::Engine, names};
use crate::{
    clock::{Clock, System},
    drivers::{Attempt, DriverEvent},
};

/// How long after an engine broke off it is spoken to again.
const AGAIN: Duration = Duration::from_secs(1);
/// How far back a new ear listens, so that nothing falls between the last look and the first word.
const BACK: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
/// Podman says that a container died a moment before its state says so.
const SETTLES: Duration = Duration::from_millis(20);

/// Listens to an engine from now on, unless somebody does already.
pub(super) fn listen(shared: &Arc<Shared>, engine: &Engine) {
    if !shared.listened().insert(engine.host.to_string()) {
        return;
    }
    let (shared, engine) = (shared.clone(), engine.clone());
    tokio::spawn(async move {
        let life = shared.life.clone();
        life.run_until_cancelled(hear(shared, engine)).await;
    });
}

async fn hear(shared: Arc<Shared>, engine: Engine) {
    let mut since = System.now() - BACK;
    let host = engine.host.clone();
    let mut engine = Some(engine);
    loop {
        if let Some(engine) = &engine {
            let heard = hear_once(&shared, engine, since).await;
            since = heard - BACK;
            shared.forget(&host);
            shared.report(DriverEvent::Resync);
        }
        tokio::time::sleep(AGAIN).await;
        // The agent looks again and again by itself; a successful look is what it learns the return from.
        engine = shared.connected(&host).await.ok();
    }
}

/// Listens until the engine breaks off; returns when that was.
async fn hear_once(shared: &Arc<Shared>, engine: &Engine, since: Timestamp) -> Timestamp {
    let mut filters = names::filters(&shared.register.node, None);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let options = EventsOptionsBuilder::default().since(&since.as_second().to_string()).filters(&filters).build();
    let mut events = Box::pin(engine.docker.events(Some(options)));
    while let Some(Ok(event)) = events.next().await {
        take(shared, engine, event).await;
    }
    System.now()
}

async fn take(shared: &Arc<Shared>, engine: &Engine, event: EventMessage) {
    let labels = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
    let Some(key) = names::key_of(&labels, &shared.register.node) else { return };
    // Labels pass from a container to an image that is made of it, and on to others' containers.
    if labels.get("name").is_some_and(|name| *name != names::container_name(&key)) {
        return;
    }
    match event.action.as_deref() {
        // `health_status: healthy`. Which, and why, is asked.
        Some(action) if action.starts_with("health_status") => {
            // An engine that does not answer breaks off, and is looked at when it is back.
            let _ = shared.inspect(engine, &key).await;
        }
        // Perhaps a check, which has not turned anything yet: what it says is worth knowing while one waits for it.
        Some("exec_die") if shared.awaits_check(&key) => {
            let (shared, engine) = (shared.clone(), engine.clone());
            tokio::spawn(async move {
                tokio::time::sleep(SETTLES).await;
                let _ = shared.inspect(&engine, &key).await;
            });
        }
        Some("die" | "died") => {
            for _look in 0..100 {
                match shared.inspect(engine, &key).await {
                    Ok(Some(Attempt::Ended(ended))) => {
                        shared.running().remove(&key);
                        let (shared, engine) = (shared.clone(), engine.clone());
                        tokio::spawn(async move {
                            shared.output.last_words_read(&engine, &key).await;
                            shared.report(DriverEvent::Ended(key, ended));
                        });
                        return;
                    }
                    // Started anew by somebody, or not yet over.
                    Ok(Some(Attempt::Running(_))) => tokio::time::sleep(SETTLES).await,
                    Ok(None) | Err(_) => break,
                }
            }
            shared.report(DriverEvent::Resync);
        }
        // Behind our back, if we still thought that it was there.
        Some("destroy" | "remove") if shared.running().remove(&key).is_some() => shared.report(DriverEvent::Resync),
        _ => {}
    }
}
