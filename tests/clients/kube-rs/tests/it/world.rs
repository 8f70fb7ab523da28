//! What the tests share: our App as kube-rs sees it, a namespace for each test, waiting.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, CustomResource, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use serde::{Deserialize, Serialize};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(group = "appm.dev", version = "v1", kind = "App", namespaced, status = "AppStatus", schema = "disabled")]
#[kube(scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas"))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppSpec {
    pub(crate) replicas: u32,
    #[serde(default)]
    pub(crate) suspend: bool,
    pub(crate) process: Process,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) command: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AppStatus {
    pub(crate) ready_replicas: u32,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
}

impl App {
    /// Is it as it was declared?
    pub(crate) fn is_ready(&self) -> bool {
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|c| c.kind == "Ready" && c.status == "True")
    }
}

/// An App; suspended, nothing of it runs.
pub(crate) fn app(name: &str, suspend: bool) -> App {
    let command = vec!["sleep".to_owned(), "1000".to_owned()];
    App::new(name, AppSpec { replicas: 2, suspend, process: Process { command } })
}

/// A map with one entry.
pub(crate) fn map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some([("value".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// A client whose own namespace was made for this test. The server goes with all of them.
pub(crate) async fn world() -> Result<(Client, String)> {
    let client = Client::try_default().await?;
    let namespace = Namespace {
        metadata: ObjectMeta { generate_name: Some("kube-rs-".to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let made = Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    Ok((client, made.name_any()))
}

/// Looks until `look` finds something.
pub(crate) async fn wait_for<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let patience = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, patience).await.with_context(|| format!("gave up waiting for {what}"))?
}

/// Expects a refusal with this reason, and gives its message.
pub(crate) fn refused<T>(result: kube::Result<T>, reason: &str) -> Result<String> {
    match result {
        Err(kube::Error::Api(status)) if status.reason == reason => Ok(status.message.clone()),
        Err(other) => bail!("refused for another reason than {reason}: {other}"),
        Ok(_) => bail!("it was not refused, and should have been for {reason}"),
    }
}
