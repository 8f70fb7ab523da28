//! appm: what a Kubernetes cluster is to containers, for one plain machine and its processes.

pub mod api;
