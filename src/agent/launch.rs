//! From an Instance to the [`Start`] that a driver gets: environment, expansion, limits. Pure.

use std::collections::BTreeMap;

use super::{Account, node::NodeFacts, resolve::Given};
use crate::{
    api::{
        APP_LABEL, Container, EnvVar, Instance, InstanceField, InstanceSpec, LimitName, NodeRoom, Object, Probe,
        Process, Quantity, RUN_LABEL, RequestName, Resources, SecretValue, TaskMode,
    },
    drivers::{ContainerProgram, Limits, LogLimits, Notify, ProcessProgram, Program, Start, StartKey},
    policy::expand::expand,
};

/// What a process finds on its path when nothing else is said.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_UMASK: u32 = 0o022;
/// What a container's labels say beside its App.
const NAMESPACE_LABEL: &str = "appm.dev/namespace";
const INSTANCE_LABEL: &str = "appm.dev/instance";
/// The longest host name that Linux takes.
const HOST_NAME: usize = 63;

/// How much output of an Instance is kept.
pub(super) fn log_limits(spec: &InstanceSpec) -> LogLimits {
    LogLimits { max_size: spec.logs.max_size.units(), max_files: spec.logs.max_files, redact: spec.logs.redact_secrets }
}

/// What an Instance may use of the machine.
pub(super) fn limits(resources: &Resources) -> Limits {
    let limit = |name| resources.limits.get(&name);
    Limits {
        memory: limit(LimitName::Memory).map(Quantity::units),
        memory_swap: limit(LimitName::MemorySwap).map(Quantity::units),
        cpu: limit(LimitName::Cpu).map(Quantity::milli),
        pids: limit(LimitName::Pids).map(Quantity::units),
        io_weight: limit(LimitName::IoWeight).map(Quantity::units),
        cpu_request: resources.requests.get(&RequestName::Cpu).map(Quantity::milli),
    }
}

/// A start, and what of it nobody may be told.
pub(super) struct Launch {
    pub start: Start,
    secrets: Vec<String>,
}

impl Launch {
    /// A sentence without the values that were secret: a word of a command may hold one.
    pub(super) fn without_secrets(&self, sentence: &str) -> String {
        self.secrets.iter().fold(sentence.to_owned(), |sentence, secret| sentence.replace(secret, "…"))
    }
}

/// Shorter ones are found in every sentence.
const SHORTEST_SECRET: usize = 4;

/// The machine that an attempt is started on.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    /// Where ports of it are reached.
    pub address: &'a str,
    pub room: NodeRoom,
    /// By which the broker of tasks knows the attempt, if there is one.
    pub process_key: Option<&'a str>,
    /// Where its processes reach the server.
    pub socket: Option<&'a str>,
}

impl<'a> Here<'a> {
    pub(super) fn new(address: &'a str, node: &NodeFacts) -> Self {
        let capacity = |name: &str| node.capacity.get(name)?.parse::<Quantity>().ok();
        let room = NodeRoom {
            cpu_milli: capacity("cpu").map_or(0, |cores| cores.milli()),
            memory_bytes: capacity("memory").map_or(0, |bytes| bytes.units()),
        };
        Self { address, room, process_key: None, socket: None }
    }
}

/// The start of one attempt. `given` comes from elsewhere.
pub(super) fn launch(
    instance: &Object<Instance>,
    attempt: u32,
    here: Here<'_>,
    account: Option<&Account>,
    given: Given,
) -> Launch {
    let env = environment(instance, attempt, here, account, &given);
    let spec = &instance.spec;
    let program = match &spec.container {
        Some(container) => Program::Container(Box::new(container_program(instance, container, &env))),
        None => {
            let process = process_program(&spec.process.clone().unwrap_or_default(), &env);
            let lines = here.process_key.is_some() && spec.task_mode == TaskMode::Lines && !spec.once;
            Program::Process(Box::new(ProcessProgram { files: given.files, fed: spec.stdin_once, lines, ..process }))
        }
    };
    let secrets = given.from.iter().chain(&given.vars).filter_map(|(_, value)| text(value));
    let secrets = secrets.filter(|text| text.len() >= SHORTEST_SECRET).collect();
    let start = Start {
        secrets: given.secrets,
        key: StartKey { uid: instance.uid().clone(), attempt },
        logs: log_limits(spec),
        limits: limits(&spec.resources),
        notify: notify(spec),
        step: spec.step.clone(),
        program,
        env: env.into_iter().collect(),
    };
    Launch { start, secrets }
}

/// Nothing that is not text came this far.
fn text(value: &SecretValue) -> Option<String> {
    String::from_utf8(value.bytes()?).ok()
}

fn process_program(process: &Process, env: &BTreeMap<String, String>) -> ProcessProgram {
    let umask = process.umask.as_deref().and_then(|text| u32::from_str_radix(text, 8).ok());
    ProcessProgram {
        argv: process.command.iter().chain(&process.args).map(|word| expanded(word, env)).collect(),
        script: process.script.clone(),
        working_dir: process.working_dir.as_ref().map(|dir| expanded(dir, env)),
        user: process.user.clone(),
        group: process.group.clone(),
        umask: umask.unwrap_or(DEFAULT_UMASK),
        nice: process.nice.unwrap_or(0),
        rlimits: process.rlimits.clone(),
        adopt: process.adopt.map(|adopt| adopt.pid),
        stdin: process.stdin.clone(),
        fed: false,
        lines: false,
        login: process.login,
        tty: process.tty,
        files: Vec::new(),
    }
}

fn container_program(
    instance: &Object<Instance>,
    container: &Container,
    env: &BTreeMap<String, String>,
) -> ContainerProgram {
    let (meta, spec) = (&instance.metadata, &instance.spec);
    let words = |words: &[String]| words.iter().map(|word| expanded(word, env)).collect();
    let app = meta.labels.get(APP_LABEL).unwrap_or_default();
    let labels = [(APP_LABEL, app), (NAMESPACE_LABEL, &meta.namespace), (INSTANCE_LABEL, &meta.name)];
    ContainerProgram {
        container: Container { command: words(&container.command), args: words(&container.args), ..container.clone() },
        ports: spec.ports.clone(),
        hostname: meta.name.chars().take(HOST_NAME).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.termination_grace_period_seconds,
        fed: spec.stdin_once,
    }
}

fn expanded(text: &str, env: &BTreeMap<String, String>) -> String {
    expand(text, |name| env.get(name).map(String::as_str))
}

/// Lowest first: a sane default, then the ports, then `envFrom`, then `env` (each value that stands there expanded from those
/// before it, one that stands elsewhere as it is), then what says who this is, which nobody may change.
fn environment(
    instance: &Object<Instance>,
    attempt: u32,
    here: Here<'_>,
    account: Option<&Account>,
    given: &Given,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    if instance.spec.container.is_none() {
        // An image brings its own.
        env.insert("PATH".to_owned(), DEFAULT_PATH.to_owned());
    }
    if let Some(Account { name, home, shell }) = account {
        let facts = [("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell)];
        env.extend(facts.map(|(k, v)| (k.to_owned(), v.clone())));
    }
    env.extend(ports(&instance.spec));
    let own = identity(instance, attempt, here);
    env.extend(own.iter().cloned());
    env.extend(given.from.iter().filter_map(|(name, value)| Some((name.clone(), text(value)?))));
    for var in &instance.spec.env {
        let value = match &var.value_from {
            None => Some(expanded(var.value.as_deref().unwrap_or_default(), &env)),
            Some(_) => of_itself(instance, var, here).or_else(|| {
                let found = given.vars.iter().find(|(name, _)| *name == var.name);
                found.and_then(|(_, value)| text(value))
            }),
        };
        env.extend(value.map(|value| (var.name.clone(), value)));
    }
    env.extend(own);
    env
}

fn ports(spec: &InstanceSpec) -> impl Iterator<Item = (String, String)> {
    let first = spec.ports.first().map(|port| ("PORT".to_owned(), port.container_port.to_string()));
    let named = spec.ports.iter().map(|port| (port_variable(&port.name), port.container_port.to_string()));
    first.into_iter().chain(named)
}

/// A socket for sd_notify, if any probe listens to it.
fn notify(spec: &InstanceSpec) -> Option<Notify> {
    let of = |probe: &Option<Probe>| probe.as_ref().and_then(|probe| probe.notify);
    let liveness = of(&spec.liveness_probe);
    of(&spec.startup_probe).or(of(&spec.readiness_probe)).or(liveness)?;
    Some(Notify { watchdog: liveness.and_then(|liveness| liveness.watchdog).map(|watchdog| watchdog.0) })
}

/// The variable that holds a port of this name.
pub(super) fn port_variable(name: &str) -> String {
    format!("PORT_{}", name.to_ascii_uppercase().replace('-', "_"))
}

fn identity(instance: &Object<Instance>, attempt: u32, here: Here<'_>) -> Vec<(String, String)> {
    let meta = &instance.metadata;
    let app = meta.labels.get(APP_LABEL).unwrap_or_default().to_owned();
    // By App Mesh's names: its clients fetch tasks with them.
    let key = here.process_key.filter(|_| !app.is_empty() && !instance.spec.once);
    let worker = key.map(|key| [("PROCESS_KEY", key.to_owned()), ("APPLICATION_NAME", app.clone())]);
    let worker = worker.into_iter().flatten().map(|(name, value)| (format!("APP_MESH_{name}"), value));
    // Of a container it is outside.
    let socket = here.socket.filter(|_| key.is_some() && instance.spec.container.is_none());
    let socket = socket.map(|socket| ("SOCKET", socket.to_owned()));
    let lines = key.is_some() && instance.spec.task_mode == TaskMode::Lines;
    let mode = lines.then(|| ("TASK_MODE", "Lines".to_owned()));
    let facts = [
        ("INSTANCE_UID", instance.uid().to_string()),
        ("ATTEMPT", attempt.to_string()),
        ("APP", app),
        ("NAMESPACE", meta.namespace.clone()),
        ("INSTANCE", meta.name.clone()),
        ("NODE", instance.spec.node_name.clone()),
        ("ORDINAL", instance.spec.ordinal.to_string()),
    ];
    let run = meta.labels.get(RUN_LABEL).filter(|_| instance.spec.once).map(|run| ("RUN", run.to_owned()));
    facts
        .into_iter()
        .chain(run)
        .chain(socket)
        .chain(mode)
        .map(|(name, value)| (format!("APPM_{name}"), value))
        .chain(worker)
        .collect()
}

/// What a variable says of the Instance itself, if it is such a one.
fn of_itself(instance: &Object<Instance>, var: &EnvVar, here: Here<'_>) -> Option<String> {
    let from = var.value_from.as_ref()?;
    if let Some(of) = &from.resource_field_ref {
        return Some(of.value(&instance.spec.resources, here.room).to_string());
    }
    let meta = &instance.metadata;
    Some(match from.field_ref.as_ref()?.field()? {
        InstanceField::Name => meta.name.clone(),
        InstanceField::Namespace => meta.namespace.clone(),
        InstanceField::Uid => instance.uid().to_string(),
        InstanceField::Label(key) => meta.labels.get(key).unwrap_or_default().to_owned(),
        InstanceField::Annotation(key) => meta.annotations.get(key).unwrap_or_default().to_owned(),
        InstanceField::NodeName => instance.spec.node_name.clone(),
        InstanceField::HostAddress | InstanceField::Address => here.address.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn start(spec: serde_json::Value) -> Start {
        let mut all = json!({"nodeName": "host-a", "revision": "web-1", "ordinal": 3});
        for (field, value) in spec.as_object().expect("a map") {
            all[field] = value.clone();
        }
        let object = json!({
            "metadata": {"name": "web-1-3", "namespace": "shop", "uid": "u", "labels": {"appm.dev/app": "web"}},
            "spec": all,
        });
        let instance: Object<Instance> = serde_json::from_value(object).expect("valid");
        let account = Account { name: "ada".to_owned(), home: "/home/ada".to_owned(), shell: "/bin/sh".to_owned() };
        let room = NodeRoom { cpu_milli: 4000, memory_bytes: 8 << 30 };
        let here = Here { address: "127.0.0.1", room, process_key: Some("u.7.x"), socket: Some("/data/appm.sock") };
        launch(&instance, 7, here, Some(&account), Given::default()).start
    }

    fn env(start: &Start, name: &str) -> Option<String> {
        start.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    #[test]
    fn words_and_variables_expand_as_in_a_pod() {
        let start = start(json!({
            "process": {"command": ["serve", "$(PORT)", "$(URL)"], "args": ["$$(PORT)", "$(NOPE)"]},
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "my-admin", "containerPort": 9000}],
            "env": [
                {"name": "EARLY", "value": "$(LATE)"},
                {"name": "LATE", "value": "x"},
                {"name": "URL", "value": "http://$(IP):$(PORT_MY_ADMIN)/$(LATE)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "URL2", "value": "http://$(IP):$(PORT_MY_ADMIN)/$(LATE)"},
            ],
        }));
        let Program::Process(process) = &start.program else { panic!("a process") };
        assert_eq!(process.argv, ["serve", "8080", "http://$(IP):9000/x", "$(PORT)", "$(NOPE)"]);
        assert_eq!(env(&start, "EARLY").as_deref(), Some("$(LATE)"));
        assert_eq!(env(&start, "URL2").as_deref(), Some("http://127.0.0.1:9000/x"));
    }

    #[test]
    fn variables_tell_of_the_instance_and_of_what_it_may_use() {
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let amount = |name: &str, resource: &str, divisor: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}});
        let start = start(json!({
            "process": {"command": ["serve", "$(MEMORY)"]},
            "resources": {"limits": {"memory": "1Gi"}},
            "env": [
                field("LABEL", "metadata.labels['appm.dev/app']"),
                field("NONE", "metadata.annotations['none']"),
                field("HOST", "status.hostIP"),
                amount("MEMORY", "limits.memory", "1Mi"),
                amount("CPU", "limits.cpu", "1m"),
            ],
        }));
        let said = ["LABEL", "NONE", "HOST", "MEMORY", "CPU"].map(|name| env(&start, name).unwrap());
        assert_eq!(said, ["web", "", "127.0.0.1", "1024", "4000"]);
        let Program::Process(process) = &start.program else { panic!("a process") };
        assert_eq!(process.argv, ["serve", "1024"]);
    }

    #[test]
    fn a_process_knows_who_it_is_and_its_author_cannot_lie_about_it() {
        let start = start(json!({
            "process": {"command": ["a"]},
            "env": [{"name": "APPM_ATTEMPT", "value": "1"}, {"name": "PATH", "value": "/opt:$(PATH)"}],
        }));
        let identity: Vec<String> =
            start.env.iter().filter(|(n, _)| n.starts_with("APPM_")).map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            identity,
            [
                "APPM_APP=web",
                "APPM_ATTEMPT=7",
                "APPM_INSTANCE=web-1-3",
                "APPM_INSTANCE_UID=u",
                "APPM_NAMESPACE=shop",
                "APPM_NODE=host-a",
                "APPM_ORDINAL=3",
                "APPM_SOCKET=/data/appm.sock",
            ]
        );
        assert_eq!(env(&start, "PATH"), Some(format!("/opt:{DEFAULT_PATH}")));
        assert_eq!((env(&start, "HOME").as_deref(), env(&start, "USER").as_deref()), (Some("/home/ada"), Some("ada")));
        let worker = ["APP_MESH_PROCESS_KEY", "APP_MESH_APPLICATION_NAME"].map(|name| env(&start, name).unwrap());
        assert_eq!(worker, ["u.7.x", "web"]);
        let Program::Process(process) = &start.program else { panic!("a process") };
        assert_eq!((process.umask, process.nice, start.logs.max_files), (0o022, 0, 5));
    }
}
