//! Edges (L5): what other engines' files say, and the same in ours.

#[path = "../../src/exchange/mod.rs"]
pub mod exchange;

use appm_api::api;
use appm_policy::policy;
