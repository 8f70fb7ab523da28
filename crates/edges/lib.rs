//! Edges (L5): what translates a protocol.

#[path = "../../src/appmesh/mod.rs"]
pub mod appmesh;
#[path = "../../src/server/mod.rs"]
pub mod server;

use appm_api::api;
use appm_host::{drivers, logger};
use appm_machinery::{admission, audit, auth, broker};
use appm_policy::policy;
use appm_ports::{client, clock, store};
