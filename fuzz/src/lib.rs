//! The targets, for the small programs in `fuzz_targets/`.

pub mod targets;
