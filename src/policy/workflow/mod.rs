//! Workflows judged: what is wrong with one before it runs, what its jobs are, and what a run of it is told.
//!
//! Admission and `appm workflow lint` ask the same questions here, so that what was linted is applied. Everything is a function of
//! the Workflow alone: whether an App or another Workflow exists is not asked, because it may exist by the time of the run.
//!
//! ```text
//! as written ── spelling ──► as stored ── schema ──► check ── judge, contexts ──► findings
//!                                                      ├── graph: circles of needs
//!                                                      └── matrix: cells
//! ```

mod beyond;
mod check;
mod contexts;
mod graph;
pub mod inputs;
mod judge;
pub mod matrix;
mod spelling;
#[cfg(test)]
mod tests;
pub mod uses;

pub use beyond::beyond;
pub use check::{Finding, MOST_JOBS, check_shell};
pub use spelling::{canonical, machine_label};
