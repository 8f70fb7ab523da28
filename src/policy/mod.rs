//! Judgement: pure functions of values. Same inputs, same answer, on any machine, at any hour.

pub mod access;
#[cfg(test)]
mod app_mesh_tests;
pub mod artifacts;
pub mod backoff;
pub mod certificate;
pub mod dag;
pub mod depends;
pub mod expand;
pub mod expr;
pub mod fair;
pub mod fields;
pub mod form;
pub mod image;
pub mod json_patch;
pub mod label_names;
pub mod manifest;
pub mod merge;
pub mod place;
pub mod powers;
pub mod probe;
pub mod quota;
pub mod rate;
pub mod redact;
pub mod resize;
pub mod restart;
pub mod rollout;
pub mod schedule;
pub mod selector;
pub mod shape;
pub mod steps;
pub mod strategic;
pub mod tasks;
pub mod template;
pub mod window;
pub mod workflow;
