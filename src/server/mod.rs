//! The REST API in Kubernetes' shape, over TLS and the Unix socket.

mod accept;
mod body;
mod discovery;
mod files;
mod health;
mod kubeconfig;
mod logs;
mod metrics;
pub mod openapi;
mod path;
mod pki;
mod protobuf;
mod query;
mod respond;
mod reviews;
mod table;

pub use health::Readiness;
