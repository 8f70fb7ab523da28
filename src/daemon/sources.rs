//! What Sources need of this machine, and the one that a flag declares.

use std::path::Path;

use serde_json::json;

use super::DEFAULT_NAMESPACE;
use crate::{
    api::{API_VERSION, Key, Operation, OperationVerb, Source, Status, Transaction},
    auth::OWNER_NAME,
    client::SharedClient,
    controllers::source::Copies,
    drivers::sources::PASSED_ON,
};

/// The Source of `--sync-dir`.
const NAME: &str = "sync-dir";
/// The annotation by which it is known that nobody but the flag declares it.
const BY_FLAG: &str = "appm.dev/declared-by";

/// Where repositories are copied to, and what git is told of the server's environment.
#[allow(clippy::disallowed_methods, reason = "git finds ssh and proxies by them")]
pub(super) fn copies(data_dir: &super::DataDir) -> Copies {
    let env = PASSED_ON.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)));
    Copies { dir: data_dir.sources(), env: env.collect() }
}

/// Declares the Source of the directory that the server was told of; without one, it goes, and what it has applied stays.
pub(super) async fn keep(client: &SharedClient, dir: Option<&Path>) -> Result<(), Status> {
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": "Source", "metadata": {"name": NAME, "namespace": DEFAULT_NAMESPACE},
    });
    let operation = match dir {
        Some(dir) => {
            object["metadata"]["annotations"] = json!({BY_FLAG: "--sync-dir"});
            object["spec"] = json!({"directory": {"path": dir.to_string_lossy()}, "identity": OWNER_NAME});
            Operation { force: true, ..Operation::new(OperationVerb::Apply, object) }
        }
        None => {
            let known = client.get(&Key::of::<Source>(DEFAULT_NAMESPACE, NAME)).await?;
            match known.filter(|known| known.meta().annotations.get(BY_FLAG).is_some()) {
                Some(_) => Operation::new(OperationVerb::Delete, object),
                None => return Ok(()),
            }
        }
    };
    client.transact(Transaction::new("appm-bootstrap", vec![operation])).await.map(drop)
}
