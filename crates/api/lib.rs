//! The vocabulary (L0): every kind of object, as pure data.

#[path = "../../src/api/mod.rs"]
pub mod api;
