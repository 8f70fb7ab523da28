//! Ports (L2): the clock, the client of the API, the store.

#[path = "../../src/client/mod.rs"]
pub mod client;
#[path = "../../src/clock/mod.rs"]
pub mod clock;
#[path = "../../src/store/mod.rs"]
pub mod store;

use appm_api::api;
use appm_policy::policy;
