//! How one finds out how an instance is doing, and what is done at the turns of its life.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{GoDuration, IntOrString};

/// A question that is asked again and again. Exactly one of `exec`, `httpGet`, `tcpSocket` and `notify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// A command that succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// A request that is answered with a status from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// A connection that is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// What the process says by itself, by sd_notify(3): `READY=1`, and as a liveness probe `WATCHDOG=1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<NotifyAction>,
    /// Seconds from the start of the process to the first question.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86400))]
    pub initial_delay_seconds: i32,
    /// Seconds between questions.
    #[serde(default = "ten_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub period_seconds: i32,
    /// Seconds to wait for an answer.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: i32,
    /// Successes in a row that make it good again; 1 for startup and liveness.
    #[serde(default = "once")]
    #[schemars(range(min = 1, max = 1000000))]
    pub success_threshold: i32,
    /// Failures in a row that make it bad.
    #[serde(default = "thrice")]
    #[schemars(range(min = 1, max = 1000000))]
    pub failure_threshold: i32,
    /// Seconds between the stop signal and SIGKILL if this probe ends the instance; default: the App's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub termination_grace_period_seconds: Option<i64>,
}

fn ten_seconds() -> i32 {
    10
}
fn once() -> i32 {
    1
}
fn thrice() -> i32 {
    3
}

/// A command, run beside the instance as the same user, in its directory and with its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecAction {
    /// Program and arguments, no shell.
    #[schemars(length(min = 1, max = 4096))]
    pub command: Vec<String>,
}

/// A request to the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGetAction {
    /// Path and query; default `/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub path: String,
    /// A port's number, or its name in `ports`.
    pub port: IntOrString,
    /// Where; default: the instance's address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub host: String,
    /// The protocol. A certificate is not verified, as by a kubelet.
    #[serde(default)]
    pub scheme: UriScheme,
    /// Headers beside `Host`, `User-Agent` and `Accept`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub http_headers: Vec<HttpHeader>,
}

/// Protocols of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum UriScheme {
    /// In the clear.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpHeader {
    /// Its name.
    #[schemars(regex(pattern = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"), length(max = 256))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 8192))]
    pub value: String,
}

/// A connection to the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpSocketAction {
    /// A port's number, or its name in `ports`.
    pub port: IntOrString,
    /// Where; default: the instance's address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub host: String,
}

/// What the process says by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotifyAction {
    /// Of a liveness probe: the longest silence between two `WATCHDOG=1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<GoDuration>,
}

/// What is done at the turns of an instance's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// Right after the start; the instance is not ready before it has succeeded, and is ended if it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<LifecycleHandler>,
    /// Before the stop signal; its time counts as grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<LifecycleHandler>,
}

impl Lifecycle {
    /// True if nothing is done.
    pub fn is_empty(&self) -> bool {
        self.post_start.is_none() && self.pre_stop.is_none()
    }
}

/// Something to do, once. A request must be answered with a status from 200 to 399. Exactly one of `exec`, `httpGet` and `sleep`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleHandler {
    /// Run a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecAction>,
    /// Send a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGetAction>,
    /// Wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepAction>,
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SleepAction {
    /// How long.
    #[schemars(range(min = 0, max = 86400))]
    pub seconds: i64,
}
