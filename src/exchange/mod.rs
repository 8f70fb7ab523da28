//! What other engines' files say, and the same in appm's manifests; and back.
//!
//! Everything here is a translation: texts in, manifests and a [`report`] out, or every refusal at once, each with its file and line.
//! Whatever stands in a file is in the report: carried over, approximated, or dropped, with the reason. A reader that does not know a setting says so;
//! none passes over one. Nothing is asked of a server, of the environment or of the machine but the files that are named ([`files`]).
//!
//! ```text
//! systemd, supervisor, pm2, compose, Procfile, Kubernetes ──import──► manifests + report
//!                                                manifests ──export──► systemd, quadlet, compose, Procfile, Kubernetes + report
//! ```
//!
//! docs/import.md has the tables; docs/design/033 says why it is so.

pub mod export;
pub mod files;
pub mod import;
pub mod report;

mod draft;
mod env_file;
mod ini;
mod names;
mod quantity;
mod tree;

#[cfg(test)]
mod tests;
