//! Workflows judged: what is wrong with one before it runs, and what a run of it is told.
//!
//! Admission and `appm workflow lint` ask the same questions here, so that what was linted is applied. Everything is a function of
//! the Workflow alone: whether an App or another Workflow exists is not asked, because it may exist by the time of the run.

pub mod inputs;
