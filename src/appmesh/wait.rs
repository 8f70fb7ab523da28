//! Waiting for a level of the store, for a while.

use std::time::Duration;

use super::Sdk;
use crate::api::KindInfo;

impl Sdk {
    /// What `judge` finds: now, or after a change of that kind, or when `patience` is over; `None` if it finds nothing until then.
    pub(super) async fn until<T>(
        &self,
        kind: &'static KindInfo,
        patience: Duration,
        mut judge: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if let Some(found) = judge() {
            return Some(found);
        }
        if patience.is_zero() {
            return None;
        }
        let looks = async {
            loop {
                let store = self.admission.store();
                // Before the look, so that no change falls between the two.
                let mut watch = store.watch(kind, store.revision()).await.ok()?;
                loop {
                    if let Some(found) = judge() {
                        return Some(found);
                    }
                    if watch.next().await.is_err() {
                        break;
                    }
                }
            }
        };
        // Its own clock: nobody judges by it.
        tokio::time::timeout(patience, looks).await.ok().flatten()
    }
}
