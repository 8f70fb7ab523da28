//! One controller per kind that has one; each judges purely and acts through the client.

pub mod app;
pub mod gc;
pub mod namespace;
