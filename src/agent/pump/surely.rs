//! Calls of the driver that must be answered: asked again until they are.

use super::Finished;
use crate::{
    agent::launch::Launch,
    api::Uid,
    clock::SharedClock,
    drivers::{SharedDriver, StartError},
    policy::backoff,
};

/// Asks until the driver gives an answer that means something. Asking again is safe: a key is never started twice.
pub(super) async fn start_surely(driver: SharedDriver, clock: SharedClock, launch: Launch) -> Finished {
    let key = launch.start.key.clone();
    for failures in 0.. {
        match driver.start(launch.start.clone()).await {
            Err(StartError::Unknown(why)) => {
                let why = launch.without_secrets(&why);
                tracing::warn!(%key, why, "the driver did not answer a start");
                clock.sleep(backoff::retry(failures.min(8), clock.random())).await;
            }
            Err(StartError::Refused(why)) => {
                return Finished::Start(key, Err(StartError::Refused(launch.without_secrets(&why))));
            }
            result => return Finished::Start(key, result),
        }
    }
    unreachable!("the loop has no end")
}

pub(super) async fn remove_surely(driver: SharedDriver, clock: SharedClock, uid: Uid) -> Finished {
    for failures in 0.. {
        match driver.remove(&uid).await {
            Ok(()) => break,
            Err(why) => tracing::warn!(%uid, %why, "an instance cannot be removed yet"),
        }
        clock.sleep(backoff::retry(failures.min(8), clock.random())).await;
    }
    Finished::Remove(uid)
}
