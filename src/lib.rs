//! appm: what a Kubernetes cluster is to containers, for one plain machine and its processes.
//!
//! The layers, arrows only downward (`tests/tidy.rs` checks them):
//! `main → cli → client`, `cli → daemon`; `server`, `appmesh`, `exchange` over `controllers`, `agent`; over `runtime`, `admission`,
//! `auth`, `audit`, `broker`; over `client`, `store`, `drivers`, `keeper`, `logger`, `clock`; over `policy`; over `api`.
//!
//! Each layer is compiled for itself (`crates/`), from the folders beside this file: what one changes in a layer is paid
//! for in it and above it. A folder names another as `crate::other` wherever it stands.

pub mod cli;
pub mod daemon;

pub use appm_api::api;
pub use appm_control::{agent, controllers};
pub use appm_edges::{appmesh, server};
pub use appm_exchange::exchange;
pub use appm_host::{drivers, keeper, logger};
pub use appm_machinery::{admission, audit, auth, broker, runtime};
pub use appm_policy::policy;
pub use appm_ports::{client, clock, store};
