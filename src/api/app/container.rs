//! The container form of an App: a container of Docker or Podman.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A container of Docker or Podman.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The image, as `docker pull` takes it: `redis:7`, `registry.example/team/web@sha256:…`.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets of type `kubernetes.io/dockerconfigjson` with credentials for registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Instead of the image's entrypoint; `$(NAME)` expands from the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub command: Vec<String>,
    /// Instead of the image's command, expanded alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub args: Vec<String>,
    /// The working directory in the container; default: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/"))]
    pub working_dir: Option<String>,
    /// User and group in the container (`999:999`, `redis`); default: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user: Option<String>,
    /// `bridge`, `host`, `none`, or the name of one of the engine's networks.
    #[serde(default = "bridge")]
    #[schemars(length(max = 256), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]*(:[A-Za-z0-9_./-]+)?$"))]
    pub network: String,
    /// Volumes and directories of this machine that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["target"]))]
    pub mounts: Vec<Mount>,
    /// True: it can write to its mounts only.
    #[serde(default)]
    pub read_only_root_filesystem: bool,
    /// The kernel's capabilities that it has.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// True: it may do what root of this machine may do.
    #[serde(default)]
    pub privileged: bool,
    /// Which engine runs it.
    #[serde(default)]
    pub runtime: ContainerRuntime,
}

fn bridge() -> String {
    "bridge".to_owned()
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Before every start.
    Always,
    /// If the engine does not have it.
    #[default]
    IfNotPresent,
    /// Never: the engine must have it.
    Never,
}

/// An object of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalObjectReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A volume or directory that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// A path of this machine if it begins with `/`, else the name of a volume. An engine may read a comma as the beginning of
    /// another option.
    #[schemars(length(max = 4096), regex(pattern = r#"^(/[^,"\n]*|[A-Za-z0-9][A-Za-z0-9_.-]*)$"#))]
    pub source: String,
    /// Where in the container.
    #[schemars(regex(pattern = r#"^/[^,"\n]*$"#), length(max = 4096))]
    pub target: String,
    /// True: it cannot write there.
    #[serde(default)]
    pub read_only: bool,
}

/// Changes to the engine's usual capabilities, without `CAP_`; `ALL` stands for each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// More.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub add: Vec<String>,
    /// Fewer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub drop: Vec<String>,
}

/// The engines that run containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContainerRuntime {
    /// The first that answers: Docker, then Podman.
    #[default]
    Auto,
    /// Docker Engine.
    Docker,
    /// Podman's service.
    Podman,
}
