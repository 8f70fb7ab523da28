//! Machinery (L3): the controller runtime, admission, authentication, audit, the task broker.

#[path = "../../src/admission/mod.rs"]
pub mod admission;
#[path = "../../src/audit/mod.rs"]
pub mod audit;
#[path = "../../src/auth/mod.rs"]
pub mod auth;
#[path = "../../src/broker/mod.rs"]
pub mod broker;
#[path = "../../src/runtime/mod.rs"]
pub mod runtime;

use appm_api::api;
use appm_host::{drivers, keeper};
use appm_policy::policy;
use appm_ports::{client, clock, store};
