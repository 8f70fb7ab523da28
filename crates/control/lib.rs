//! Control (L4): the controllers of the kinds, and the agent.

#[path = "../../src/agent/mod.rs"]
pub mod agent;
#[path = "../../src/controllers/mod.rs"]
pub mod controllers;

use appm_api::api;
use appm_host::{drivers, keeper};
#[cfg(test)]
use appm_machinery::{admission, auth};
use appm_machinery::{broker, runtime};
use appm_policy::policy;
#[cfg(test)]
use appm_ports::store;
use appm_ports::{client, clock};
