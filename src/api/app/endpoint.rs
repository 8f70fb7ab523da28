//! Where an App is reached: one entry for each instance that serves, in the words of Kubernetes' EndpointSlice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Protocol;

/// One instance that serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// The Instance's name.
    pub instance: String,
    /// Where it is reached.
    pub address: String,
    /// Its ports there.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<EndpointPort>,
    /// True: send it what is new.
    pub ready: bool,
    /// True: it is being taken away. It serves for a moment yet; end what was begun, and begin nothing there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminating: bool,
}

/// A port of an instance, as it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointPort {
    /// Its name in the App's `ports`.
    pub name: String,
    /// Its number: of a container with a `hostPort` that one.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
}
