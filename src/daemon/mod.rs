//! The composition root: the only place that builds real things and joins them.

mod settings;

pub use settings::{DataDir, Settings};
