//! Makes the Instances bound to this node real: starts, watches, restarts and stops their processes.
//!
//! ```text
//!   Instances of this node ─►  ┌────────────┐  decide   ┌────────┐ start, signal ┌────────┐
//!   (watch)                    │   Memory   │──────────►│  pump  │──────────────►│ driver │
//!   exits ────────────────────►│ (one each) │           └────┬───┘◄──────────────└────────┘
//!   time ─────────────────────►└────────────┘                │ status, one writer, group-committed
//!                                                            ▼
//!                                                          store
//! ```
//!
//! An exit is judged and the next attempt started without a round trip to anybody; the records follow. What holds this
//! together is one rule: *before attempt a+1 is started, the store durably holds attempt a*. After a power loss one number
//! beyond the recorded one may have been used, so one is skipped ([`node`]), and no key is ever used twice. An exit is
//! acknowledged to the driver only when it is durable in the store, so none is forgotten, whoever dies when.
//!
//! What the driver says of an attempt wins over what the store says; "could not look" is never taken for "absent".

mod account;
mod decide;
mod fetch;
mod forms;
mod health;
mod hooks;
mod launch;
mod lines;
mod looks;
mod memory;
pub mod node;
mod order;
mod probes;
mod pump;
mod resize;
mod resolve;
mod rows;
mod sources;
mod usage;
mod writer;

#[cfg(test)]
mod tests;

pub use account::{Account, system_account};
pub use decide::{Action, Around, Plan, decide};
pub use fetch::Fetch;
pub use forms::Drivers;
pub use health::{Death, Health};
pub use looks::{Looker, Questions, looker};
pub use memory::{Memory, Note, Phase, StopReason};
pub use pump::{Agent, AgentConfig, Signals};
pub use resize::Resizing;
