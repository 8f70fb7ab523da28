//! kube-rs against the server that `KUBECONFIG` names.

mod controller;
mod election;
mod objects;
mod watches;
mod world;
