//! Artifacts: which files of a workspace one is made of, and the form in which it is kept. Pure; `drivers/artifacts.rs` reads and writes.

mod search;
mod tar;

pub use self::tar::{Entry, Packer, TarError, unpack};
pub use search::{Search, matches_name};
