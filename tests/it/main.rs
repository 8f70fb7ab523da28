//! The integration tests: the real binary, real processes, real files. One module for each promise.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test fails by panicking, measures its own deadlines and may speak"
)]

mod api;
mod appmesh;
mod backup;
mod canary;
mod cli;
mod containers;
mod frames;
mod fuzz;
mod g3;
mod habits;
mod harness;
mod history;
mod import;
mod keeper;
mod kill9;
mod lane;
mod life;
mod manifests;
mod model;
mod powerloss;
mod probes;
mod process;
mod quota;
mod resources;
mod rollout;
mod runs;
mod schedule;
mod secrets;
mod sources;
mod storm;
mod tasks;
mod triggers;
mod wire;
mod workflow_again;
mod workflow_files;
mod workflow_lint;
mod workflow_parts;
mod workflow_rows;
mod workflow_steps;
mod workflow_world;
mod workflows;
mod world;
