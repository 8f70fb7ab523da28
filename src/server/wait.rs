//! Waiting for a level of one object.

use crate::{api::Key, store::Store};

/// What `judge` finds, when it finds something: now, or after a change of this object. `None` when the store is closed.
pub(super) async fn until<T>(store: &Store, key: &Key, mut judge: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        // Before the look, so that no change falls between the two.
        let watch = store.watch(key.kind, store.revision()).await;
        if let Some(found) = judge() {
            return Some(found);
        }
        let mut watch = watch.ok()?;
        while let Ok(batch) = watch.next().await {
            if batch.changes.iter().any(|change| change.new.key == *key)
                && let Some(found) = judge()
            {
                return Some(found);
            }
        }
    }
}
