//! The objects that are measured: small, of a kind that no controller acts on.

use serde_json::{Value, json};

/// Where they are.
pub(crate) const COLLECTION: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) fn path(name: &str) -> String {
    format!("{COLLECTION}/{name}")
}

/// About half a KiB as it is written, and twice that with what the server adds.
pub(crate) fn object(name: &str, mark: usize) -> Value {
    let shard = name.bytes().map(usize::from).sum::<usize>() % 100;
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "bench", "tier": "front", "shard": format!("s{shard}")}},
        "data": {
            "mark": mark.to_string(),
            "listen": "0.0.0.0:8080",
            "database": "postgres://bench@db.internal.example:5432/bench?sslmode=require",
            "features": "rollouts,probes,autoscaling,tracing,structured-logs",
            "motd": "a value of some length, as configuration has them here and there, and a little more of it",
        },
    })
}

pub(crate) fn text(name: &str, mark: usize) -> Vec<u8> {
    object(name, mark).to_string().into_bytes()
}
