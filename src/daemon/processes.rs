//! Gives the server the processes of Instances, as the drivers see them, and their standard input.

use std::sync::{Arc, OnceLock};

use crate::{
    agent::Drivers,
    drivers::{FeedError, StartKey},
    server::{FeedSink, ProcessSource},
};

/// The processes of the Instances that these drivers run. The server begins before there are drivers: until they are set,
/// nothing is seen.
pub(super) fn source(drivers: Arc<OnceLock<Drivers>>) -> ProcessSource {
    Arc::new(move |instance| {
        let drivers = drivers.clone();
        Box::pin(async move {
            let driver = match &instance.spec.container {
                Some(_) => drivers.get()?.container.clone(),
                None => drivers.get()?.process.clone(),
            };
            let key = StartKey { uid: instance.uid().clone(), attempt: instance.status.attempt };
            tokio::task::spawn_blocking(move || driver.processes(&key)).await.ok()?
        })
    })
}

/// The standard input of the processes that these drivers run.
pub(super) fn feed(drivers: Arc<OnceLock<Drivers>>) -> FeedSink {
    Arc::new(move |instance, pieces| {
        let drivers = drivers.clone();
        Box::pin(async move {
            let drivers = drivers.get().ok_or_else(|| FeedError::Unknown("the server has just begun".to_owned()))?;
            let key = StartKey { uid: instance.uid().clone(), attempt: instance.status.attempt };
            let driver = if instance.spec.container.is_some() { &drivers.container } else { &drivers.process };
            driver.feed(&key, pieces).await
        })
    })
}
