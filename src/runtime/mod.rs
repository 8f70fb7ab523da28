//! What every controller runs on: work queue, cache, informers, and the pump that turns keys into passes.
//!
//! ```text
//!  client.list/watch ─► informer ─► Cache ─► map ─► WorkQueue ─► reconcile(key) ─► client.transact
//!                                     ▲                 ▲              │   │
//!                                     └── own writes ───┼──────────────┘   │
//!                                                       └── requeue / backoff
//! ```
//!
//! Queues hold keys, never events: whatever happened is read again from the cache when the key's turn comes. What a
//! controller writes goes into its caches at once, so that its next pass sees it without waiting for the watch.

pub mod batch;
mod cache;
mod controller;
mod events;
mod informer;
mod queue;

pub use cache::{Cache, Caches};
pub use controller::{Controller, Map, Requeue, Watched, run};
pub use events::{EventRecorder, EventType, Reporter};
pub use informer::{Delta, follow};
pub use queue::{Next, WorkQueue};
