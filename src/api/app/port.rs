//! The ports that an instance listens on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port that the process listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name; `PORT_<NAME>` in the environment.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(max = 15))]
    pub name: String,
    /// The port's number; 0 allocates a free one for each instance.
    #[serde(default)]
    #[schemars(range(min = 0, max = 65535))]
    pub container_port: u16,
    /// The transport.
    #[serde(default)]
    pub protocol: Protocol,
    /// Of a container: the port of this machine that leads to it; 0 allocates one, absent publishes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub host_port: Option<u16>,
}

impl Port {
    /// Its number for whoever wants to reach it.
    pub fn reached_at(&self) -> u16 {
        self.host_port.unwrap_or(self.container_port)
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}
