//! From a [`ContainerProgram`] to what the engine is asked to create. Pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount,
    MountBindOptions, MountType, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};

use super::{engine::Brand, names, veil};
use crate::{
    api::{APP_LABEL, Port, Protocol},
    drivers::{ContainerProgram, Limits, LogLimits, Start},
};

/// Networks that take no host name of their own.
const HOST: &str = "host";
const NONE: &str = "none";
/// Where a container says its namespace.
const NAMESPACE_LABEL: &str = "appm.dev/namespace";
/// Networks in which an engine finds nobody by a name.
const NAMELESS: [&str; 5] = [HOST, NONE, "bridge", "default", "podman"];
/// What the engine keeps of output must outlive a daemon that is away: at least as much as the App keeps, and this much.
const LEAST_KEPT: u64 = 16 << 20;
/// What an engine writes beside each line (time, lengths, names of streams) may be more than the line itself.
const OVERHEAD: u64 = 2;
/// The share of the disks' time that others have.
const USUAL_IO_WEIGHT: u64 = 100;

/// What is created for a start on an engine of this brand, by the data directory `node`.
pub(super) fn create(start: &Start, program: &ContainerProgram, brand: Brand, node: &str) -> ContainerCreateBody {
    let container = &program.container;
    let some = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let shares_name = container.network == HOST || container.network.starts_with("container:");
    let ports = program.ports.iter().map(port_name);
    ContainerCreateBody {
        image: Some(container.image.clone()),
        entrypoint: some(&container.command),
        cmd: some(&container.args),
        env: Some(start.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: container.working_dir.clone(),
        user: container.user.clone(),
        hostname: (!shares_name && !program.hostname.is_empty()).then(|| program.hostname.clone()),
        labels: Some(labels(start, program, node)),
        exposed_ports: (!shares_name && container.network != NONE).then(|| ports.collect()),
        stop_signal: Some(program.stop_signal.clone()),
        stop_timeout: Some(program.stop_timeout),
        host_config: Some(host(start, program, brand)),
        networking_config: found_by(program),
        // It waits for its input; the end of what is attached is the end of that.
        attach_stdin: program.fed.then_some(true),
        open_stdin: program.fed.then_some(true),
        stdin_once: program.fed.then_some(true),
        ..ContainerCreateBody::default()
    }
}

/// In a network that somebody made, others find its instances by the App's name, and by `NAME.NAMESPACE`.
fn found_by(program: &ContainerProgram) -> Option<NetworkingConfig> {
    let network = &program.container.network;
    let app = program.labels.get(APP_LABEL).filter(|app| !app.is_empty())?;
    if NAMELESS.contains(&network.as_str()) || network.contains(':') {
        return None;
    }
    let namespace = program.labels.get(NAMESPACE_LABEL).map(|namespace| format!("{app}.{namespace}"));
    let aliases = std::iter::once(app.clone()).chain(namespace).collect();
    let settings = EndpointSettings { aliases: Some(aliases), ..EndpointSettings::default() };
    Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network.clone(), settings)])) })
}

fn labels(start: &Start, program: &ContainerProgram, node: &str) -> HashMap<String, String> {
    let mut labels = names::labels(&start.key, node, &program.labels);
    labels.insert(names::LOGS.to_owned(), names::write_limits(start.logs));
    labels.extend(veil::variables(start).map(|names| (veil::LABEL.to_owned(), names)));
    labels
}

fn host(start: &Start, program: &ContainerProgram, brand: Brand) -> HostConfig {
    let container = &program.container;
    let some = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let mut host = HostConfig {
        network_mode: Some(container.network.clone()),
        mounts: Some(container.mounts.iter().map(mount).collect()),
        readonly_rootfs: Some(container.read_only_root_filesystem),
        cap_add: some(&container.capabilities.add),
        cap_drop: some(&container.capabilities.drop),
        privileged: Some(container.privileged),
        port_bindings: Some(program.ports.iter().filter_map(binding).collect()),
        log_config: Some(log_config(start.logs, brand)),
        // The agent alone restarts.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        auto_remove: Some(false),
        ..HostConfig::default()
    };
    limit(&mut host, &start.limits);
    host
}

fn limit(host: &mut HostConfig, limits: &Limits) {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    host.memory = limits.memory.map(number);
    // As with processes: memory alone means no swap.
    host.memory_swap = limits.memory_swap.or(limits.memory).map(number);
    host.nano_cpus = limits.cpu.map(|milli| number(milli.saturating_mul(1_000_000)));
    host.pids_limit = limits.pids.map(number);
    // Engines count from 10 to 1000 with 500 in the middle, as the first version of control groups does.
    let weight = |n: u64| u16::try_from((n * 500 / USUAL_IO_WEIGHT).clamp(10, 1000)).unwrap_or(1000);
    host.blkio_weight = limits.io_weight.map(weight);
    host.cpu_shares = limits.cpu_request.map(|milli| number((milli * 1024 / 1000).max(2)));
}

/// The same for a container that runs. Engines leave alone what is not said.
pub(super) fn update(limits: &Limits) -> ContainerUpdateBody {
    let mut host = HostConfig::default();
    limit(&mut host, limits);
    ContainerUpdateBody {
        memory: host.memory,
        memory_swap: host.memory_swap,
        nano_cpus: host.nano_cpus,
        pids_limit: host.pids_limit,
        blkio_weight: host.blkio_weight,
        cpu_shares: host.cpu_shares,
        ..ContainerUpdateBody::default()
    }
}

fn mount(mount: &crate::api::Mount) -> Mount {
    let is_path = mount.source.starts_with('/');
    Mount {
        source: Some(mount.source.clone()),
        target: Some(mount.target.clone()),
        typ: Some(if is_path { MountType::BIND } else { MountType::VOLUME }),
        read_only: Some(mount.read_only),
        bind_options: is_path.then(MountBindOptions::default),
        ..Mount::default()
    }
}

fn port_name(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.container_port)
}

/// Published for this machine alone: what others may reach is a gateway's to say, and an engine's own rules for ports go
/// past most firewalls.
fn binding(port: &Port) -> Option<(String, Option<Vec<PortBinding>>)> {
    let host_port = port.host_port?;
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(host_port.to_string()) };
    Some((port_name(port), Some(vec![binding])))
}

/// The driver that keeps bytes as they are, and enough of them.
fn log_config(limits: LogLimits, brand: Brand) -> HostConfigLogConfig {
    let kept = limits.max_size.saturating_mul(u64::from(limits.max_files)).max(LEAST_KEPT).saturating_mul(OVERHEAD);
    let (driver, size, files) = match brand {
        Brand::Docker => ("local", kept / 4, Some(5)),
        // When its one file is full, Podman begins it anew: room for the double, so that what is lost is rarely wanted.
        Brand::Podman => ("k8s-file", kept.saturating_mul(2), None),
    };
    let mut config = HashMap::from([("max-size".to_owned(), format!("{size}"))]);
    config.extend(files.map(|files| ("max-file".to_owned(), files.to_string())));
    HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(config) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::drivers::{Program, StartKey};

    fn created(container: serde_json::Value, ports: serde_json::Value) -> serde_json::Value {
        let program = ContainerProgram {
            container: serde_json::from_value(container).expect("a container"),
            ports: serde_json::from_value(ports).expect("ports"),
            hostname: "cache-1-0".to_owned(),
            labels: [("appm.dev/app", "cache"), ("appm.dev/namespace", "shop")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            stop_signal: "SIGINT".to_owned(),
            stop_timeout: 5,
            fed: false,
        };
        let start = Start {
            key: StartKey { uid: "0b5c".into(), attempt: 2 },
            env: vec![("A".to_owned(), "b".to_owned())],
            secrets: Vec::new(),
            logs: LogLimits { max_size: 10 << 20, max_files: 5, redact: false },
            limits: Limits {
                memory: Some(64 << 20),
                cpu: Some(1500),
                pids: Some(20),
                io_weight: Some(50),
                ..Limits::default()
            },
            notify: None,
            step: None,
            program: Program::Container(Box::new(program.clone())),
        };
        let mut body = json!(create(&start, &program, Brand::Docker, "aa"));
        // A map without an order.
        body["Labels"] =
            json!(serde_json::from_value::<BTreeMap<String, String>>(body["Labels"].take()).expect("labels"));
        let config = body["HostConfig"]["LogConfig"]["Config"].take();
        body["HostConfig"]["LogConfig"]["Config"] =
            json!(serde_json::from_value::<BTreeMap<String, String>>(config).expect("texts"));
        body
    }

    #[test]
    fn every_field_reaches_the_engine() {
        let container = json!({
            "image": "redis:7", "command": ["redis-server"], "args": ["--save", ""], "workingDir": "/data", "user": "999:999",
            "network": "back", "readOnlyRootFilesystem": true, "privileged": true,
            "mounts": [{"source": "data", "target": "/data"}, {"source": "/etc/ssl", "target": "/ssl", "readOnly": true}],
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        });
        let ports = json!([
            {"name": "redis", "containerPort": 6379, "hostPort": 41000},
            {"name": "metrics", "containerPort": 9100, "protocol": "UDP"},
        ]);
        insta::assert_json_snapshot!(created(container, ports), @r#"
        {
          "Hostname": "cache-1-0",
          "User": "999:999",
          "ExposedPorts": {
            "6379/tcp": {},
            "9100/udp": {}
          },
          "Env": [
            "A=b"
          ],
          "Cmd": [
            "--save",
            ""
          ],
          "Image": "redis:7",
          "WorkingDir": "/data",
          "Entrypoint": [
            "redis-server"
          ],
          "Labels": {
            "appm.dev/app": "cache",
            "appm.dev/attempt": "2",
            "appm.dev/logs": "10485760x5",
            "appm.dev/namespace": "shop",
            "appm.dev/node-id": "aa",
            "appm.dev/uid": "0b5c"
          },
          "StopSignal": "SIGINT",
          "StopTimeout": 5,
          "HostConfig": {
            "Memory": 67108864,
            "BlkioWeight": 250,
            "MemorySwap": 67108864,
            "NanoCpus": 1500000000,
            "PidsLimit": 20,
            "LogConfig": {
              "Type": "local",
              "Config": {
                "max-file": "5",
                "max-size": "26214400"
              }
            },
            "NetworkMode": "back",
            "PortBindings": {
              "6379/tcp": [
                {
                  "HostIp": "127.0.0.1",
                  "HostPort": "41000"
                }
              ]
            },
            "RestartPolicy": {
              "Name": "no"
            },
            "AutoRemove": false,
            "Mounts": [
              {
                "Target": "/data",
                "Source": "data",
                "Type": "volume",
                "ReadOnly": false
              },
              {
                "Target": "/ssl",
                "Source": "/etc/ssl",
                "Type": "bind",
                "ReadOnly": true,
                "BindOptions": {}
              }
            ],
            "CapAdd": [
              "NET_ADMIN"
            ],
            "CapDrop": [
              "ALL"
            ],
            "Privileged": true,
            "ReadonlyRootfs": true
          },
          "NetworkingConfig": {
            "EndpointsConfig": {
              "back": {
                "Aliases": [
                  "cache",
                  "cache.shop"
                ]
              }
            }
          }
        }
        "#);
    }

    #[test]
    fn the_host_network_has_neither_a_name_nor_ports_of_its_own() {
        let body = created(json!({"image": "x", "network": "host"}), json!([{"name": "a", "containerPort": 80}]));
        assert!(body.get("Hostname").is_none() && body.get("ExposedPorts").is_none());
        assert!(body.get("NetworkingConfig").is_none());
        assert_eq!(body["HostConfig"]["NetworkMode"], "host");
    }
}
