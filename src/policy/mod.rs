//! Judgement: pure functions of values. Same inputs, same answer, on any machine, at any hour.

pub mod access;
pub mod backoff;
pub mod certificate;
pub mod civil;
pub mod cron;
pub mod depends;
pub mod expand;
pub mod fair;
pub mod fields;
pub mod image;
pub mod json_patch;
pub mod label_names;
pub mod manifest;
pub mod merge;
pub mod place;
pub mod powers;
pub mod probe;
pub mod redact;
pub mod resize;
pub mod restart;
pub mod rollout;
pub mod selector;
pub mod shape;
pub mod strategic;
pub mod template;
pub mod window;
