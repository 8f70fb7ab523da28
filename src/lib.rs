//! appm: what a Kubernetes cluster is to containers, for one plain machine and its processes.
//!
//! The layers, arrows only downward (`tests/tidy.rs` checks them):
//! `main → cli → client`, `cli → daemon`; `server`, `appmesh` over `controllers`, `agent`; over `runtime`, `admission`,
//! `auth`, `audit`, `broker`; over `client`, `store`, `drivers`, `keeper`, `logger`, `clock`; over `policy`; over `api`.

pub mod admission;
pub mod agent;
pub mod api;
pub mod appmesh;
pub mod audit;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod controllers;
pub mod daemon;
pub mod drivers;
pub mod keeper;
pub mod logger;
pub mod policy;
pub mod runtime;
pub mod server;
pub mod store;
