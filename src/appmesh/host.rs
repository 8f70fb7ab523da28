//! The machine and the server in App Mesh's words: labels, resources, settings.

use std::{net::SocketAddr, path::PathBuf};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Call, Reply, Sdk, Verbosity, caller, permission};
use crate::{
    admission::{Caller, Patch, Target, WriteOptions},
    api::{Key, Kind, Node, Object, Reason, Status},
    auth::Identity,
};

/// What is known of the server when it starts.
#[derive(Clone, Debug)]
pub struct Here {
    /// The name of its Node.
    pub node: String,
    /// Where HTTPS is served.
    pub address: SocketAddr,
    /// The directory for files that go up and down.
    pub files: PathBuf,
    /// How much it logs.
    pub verbosity: Verbosity,
    /// Since when.
    pub since: Timestamp,
}

impl Sdk {
    pub(super) fn labels(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        Ok(Reply::json(200, self.labels_of(&caller(who, call))?))
    }

    fn labels_of(&self, caller: &Caller) -> Result<Value, Status> {
        let key = Key::of::<Node>("", &self.here.node);
        let node = self.admission.get(caller, Node::INFO.stored_form(), &key)?;
        Ok(node.meta().labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>().into())
    }

    /// A label of the machine; `None` takes it away.
    pub(super) async fn label(&self, name: &str, set: bool, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let value = match set {
            true if call.query.iter().any(|(given, _)| given == "value") => json!(call.query("value")),
            true => return Err(Status::bad_request("the parameter `value` is missing")),
            false => Value::Null,
        };
        self.relabel(&caller(who, call), json!({name: value})).await?;
        Ok(Reply::message(200, if set { "Add label success" } else { "Label delete success" }))
    }

    async fn relabel(&self, caller: &Caller, labels: Value) -> Result<(), Status> {
        let target =
            Target { served: Node::INFO.stored_form(), namespace: "", name: &self.here.node, subresource: None };
        let change = Patch::Merge(json!({"metadata": {"labels": labels}}));
        self.admission.patch(caller, &target, change, &WriteOptions::default()).await.map(drop)
    }

    /// The settings, in App Mesh's words. None of them is a secret.
    pub(super) fn config(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        self.admission.authority().must(who, &permission::attributes("get", "/appmesh/config"))?;
        Ok(Reply::json(200, self.settings(&caller(who, call))?))
    }

    /// Labels can be changed, and how much is logged; whatever else is to be another is set where the server is started.
    pub(super) async fn set_config(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        self.admission.authority().must(who, &permission::attributes("post", "/appmesh/config"))?;
        let caller = caller(who, call);
        let mut json = Value::Object(call.json()?);
        let labels = json.as_object_mut().and_then(|json| json.shift_remove("Labels"));
        let base = json.get_mut("BaseConfig").and_then(Value::as_object_mut);
        let level = base.and_then(|base| base.shift_remove("LogLevel"));
        let level = level.map(|level| level_of(&level)).transpose()?;
        let now = self.settings(&caller)?;
        if let Some(odd) = differs(&json, &now, "") {
            return Err(Status::bad_request(format!(
                "`{odd}` cannot be changed while the server runs: see `appm server --help`"
            )));
        }
        if let Some(labels) = labels {
            self.relabel(&caller, labels).await?;
        }
        // What is said already is not said again: directives that somebody has set stay.
        if let Some(level) = level.filter(|level| *level != self.here.verbosity.level()) {
            self.here.verbosity.set(level).map_err(|why| Status::new(Reason::Conflict, why))?;
        }
        Ok(Reply::json(200, self.settings(&caller)?))
    }

    fn settings(&self, caller: &Caller) -> Result<Value, Status> {
        let level = self.here.verbosity.level().to_uppercase();
        Ok(json!({
            "BaseConfig": {
                "Description": self.here.node, "LogLevel": level, "DefaultExecUser": "", "DisableExecUser": false,
                "ScheduleIntervalSeconds": 0, "WorkingDirectory": "", "PosixTimezone": "",
            },
            "Labels": self.labels_of(caller)?,
            "REST": {
                "RestEnabled": true, "RestListenAddress": self.here.address.ip().to_string(),
                "RestListenPort": self.here.address.port(), "CorsDisabled": true, "CsrfAllowedOrigins": [],
                "PasswordComplexityEnabled": false, "FileAllowedBaseDir": self.here.files.display().to_string(), "PrometheusExporterListenPort": 0,
                "JWT": {"Algorithm": "EdDSA", "Audience": ["appmesh-service"], "SecurityInterface": "local"},
                "SSL": {"VerifyClient": false, "VerifyServer": true},
            },
        }))
    }

    pub(super) fn resources(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let key = Key::of::<Node>("", &self.here.node);
        let node = self.admission.get(&caller(who, call), Node::INFO.stored_form(), &key)?;
        let node = node.typed::<Node>().ok_or_else(|| Status::internal("the node cannot be read"))?;
        Ok(Reply::json(200, self.resources_of(&node)))
    }

    fn resources_of(&self, node: &Object<Node>) -> Value {
        let (status, now) = (&node.status, self.clock.now());
        let host = status.host.clone().unwrap_or_default();
        let usage = status.usage.clone().unwrap_or_default();
        let (memory, load) = (host.memory, host.load);
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S+00").to_string();
        let interfaces = host.interfaces.iter().flat_map(|interface| {
            let named =
                |address: &String| json!({"name": interface.name, "ipv6": address.contains(':'), "address": address});
            interface.addresses.iter().map(named)
        });
        let disks = host.filesystems.iter().map(|disk| {
            let used = disk.size_bytes.saturating_sub(disk.available_bytes);
            json!({
                "device": disk.device, "mount_point": disk.mount_point, "size": disk.size_bytes, "used": used,
                "available": disk.available_bytes, "usage": used as f64 / disk.size_bytes.max(1) as f64,
            })
        });
        json!({
            "schema_version": 3, "collected_at_unix_seconds": usage.time.map_or(now, |at| at.0).as_second(),
            "appmesh_version": concat!("appm_", env!("CARGO_PKG_VERSION")), "host_name": node.metadata.name,
            "host_description": node.metadata.name, "os": status.node_info.os_image,
            "architecture": status.node_info.architecture, "cgroup_version": host.cgroup_version,
            "cpu_cores": host.cpu_cores, "cpu_sockets": host.cpu_sockets, "cpu_processors": host.cpu_processors,
            "cpu_effective_processors": host.cpu_processors, "mem_total_bytes": memory.total_bytes,
            "mem_available_bytes": memory.available_bytes, "mem_swap_total_bytes": memory.swap_total_bytes,
            "mem_swap_free_bytes": memory.swap_free_bytes, "mem_applications": usage.memory_bytes, "fd": usage.fds,
            "load": {"1min": load.one_minute, "5min": load.five_minutes, "15min": load.fifteen_minutes},
            "net": interfaces.collect::<Vec<_>>(), "fs": disks.collect::<Vec<_>>(), "systime": time(now),
            "appmesh_start_time": time(self.here.since), "appmesh_start_time_unix_seconds": self.here.since.as_second(),
            "pid": std::process::id(), "fd_daemon": open_files(), "collector_errors": [],
            "cpu_source": "host", "memory_source": "host", "swap_source": "host",
        })
    }
}

/// How many files the server has open.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1))
}

/// Our word for one of App Mesh's levels.
fn level_of(level: &Value) -> Result<&'static str, Status> {
    match level.as_str().unwrap_or_default().to_uppercase().as_str() {
        "TRACE" => Ok("trace"),
        "DEBUG" => Ok("debug"),
        "INFO" | "NOTICE" => Ok("info"),
        "WARN" | "WARNING" => Ok("warn"),
        "ERROR" => Ok("error"),
        _ => Err(Status::bad_request(format!("`LogLevel` is DEBUG, INFO, NOTICE, WARN or ERROR, not {level}"))),
    }
}

/// The first setting that is wanted otherwise than it is.
fn differs(wanted: &Value, now: &Value, path: &str) -> Option<String> {
    match wanted {
        Value::Object(wanted) => wanted.iter().find_map(|(name, wanted)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            differs(wanted, &now[name.as_str()], &path)
        }),
        wanted => (wanted != now).then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_otherwise_is_named() {
        let now = json!({"a": {"b": 1, "c": [2]}});
        assert_eq!(differs(&json!({"a": {"b": 1}}), &now, ""), None);
        assert_eq!(differs(&json!({"a": {"c": [2], "b": 2}}), &now, ""), Some("a.b".to_owned()));
        assert_eq!(differs(&json!({"x": true}), &now, ""), Some("x".to_owned()));
    }
}
