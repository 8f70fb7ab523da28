//! Ports (L2) to the host: process and container drivers, the keeper, the logger.

#[path = "../../src/drivers/mod.rs"]
pub mod drivers;
#[path = "../../src/keeper/mod.rs"]
pub mod keeper;
#[path = "../../src/logger/mod.rs"]
pub mod logger;

use appm_api::api;
use appm_policy::policy;
use appm_ports::clock;
