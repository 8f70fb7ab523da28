//! Judgement (L1): pure functions over the vocabulary.

#[path = "../../src/policy/mod.rs"]
pub mod policy;

use appm_api::api;
