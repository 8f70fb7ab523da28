//! The store: every object in memory, every change one revision, SQLite the durable log.

mod model;

pub use model::*;
