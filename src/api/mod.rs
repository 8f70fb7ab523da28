//! The vocabulary: every kind, and the words all kinds share. Pure data, no behaviour that needs a clock, a file or a socket.
//!
//! One file per kind; [`kinds`] lists them, one word each. Routes, discovery, OpenAPI, JSON Schema, table columns,
//! completion and storage follow from that list, so adding a kind touches nothing else.
//!
//! Typed values (`Object<App>`) are for judging; the stored form is JSON ([`StoredObject`]), which keeps fields that a
//! newer binary wrote. Reading is therefore lenient (unknown fields are ignored), while admission checks every
//! write against the strict JSON Schema that is derived from these very types.

mod app;
mod condition;
mod config_map;
mod crd;
pub mod cron;
mod duration;
mod event;
mod history;
mod identity;
mod instance;
mod int_or_string;
mod key;
pub mod kinds;
mod lease;
mod meta;
mod metrics;
mod names;
mod namespace;
mod node;
mod object;
mod plan;
mod pod;
mod processes;
mod quantity;
mod resource_quota;
mod revision;
mod run;
mod schedule;
pub mod schema;
mod secret;
mod service;
mod source;
mod status;
mod stored;
mod task;
mod text_map;
mod time;
mod transaction;
mod violation;
mod workflow;
mod workflow_run;
mod zone;

pub use app::*;
pub use condition::*;
pub use config_map::ConfigMap;
pub use crd::*;
pub use duration::GoDuration;
pub use event::*;
pub use history::*;
pub use identity::*;
pub use instance::*;
pub use int_or_string::IntOrString;
pub use key::Key;
pub use kinds::{KINDS, find_kind, find_view};
pub use lease::*;
pub use meta::*;
pub use names::*;
pub use namespace::*;
pub use node::*;
pub use object::*;
pub use plan::*;
pub use pod::{Pod, container_name};
pub use processes::*;
pub use quantity::Quantity;
pub use resource_quota::*;
pub use revision::*;
pub use run::*;
pub use schedule::*;
pub use secret::{ELIDED, Secret, SecretValue};
pub use service::*;
pub use source::*;
pub use status::{Cause, Reason, Status, StatusDetails};
pub use stored::{Body, StoredObject};
pub use task::*;
pub use text_map::TextMap;
pub use time::{MicroTime, Time, age};
pub use transaction::*;
pub use violation::{FieldPath, Problem, Violation, check_label_name};
pub use workflow::*;
pub use workflow_run::*;
pub use zone::{reached, single_time, time_zone};

/// The API group of everything that is ours.
pub const GROUP: &str = "appm.dev";
/// The one version of [`GROUP`].
pub const VERSION: &str = "v1";
/// `apiVersion` of our own kinds.
pub const API_VERSION: &str = "appm.dev/v1";

/// For serde: a count that is zero is left out.
fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}
