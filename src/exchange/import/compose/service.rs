//! One service: every key of the Compose specification, and what becomes of it.

use serde_json::{Value, json};

use super::{
    super::super::{
        draft::{Draft, literal},
        env_file, quantity,
        report::{Part, Refusal, Spot, brief},
        tree::{entries, step, text, texts},
    },
    Project,
};

/// One service that is being read.
struct Service<'a> {
    project: &'a Project<'a>,
    path: String,
    draft: Draft,
    refusals: Vec<Refusal>,
}

/// The App of a service.
pub(super) fn app(name: &str, body: &Value, project: &Project<'_>) -> Result<Part<Value>, Vec<Refusal>> {
    let path = step("services", name);
    let app = project.apps.get(name).map_or(name, String::as_str);
    let mut service = Service { project, path, draft: Draft::new("App", app), refusals: Vec::new() };
    let here = project.tree.spot(&service.path);
    if app != name {
        service.draft.nearly(&here, name, &format!("its name became `{app}`"));
    }
    if !body.is_object() {
        return Err(vec![Refusal::new(&here, format!("`{name}` is no mapping"))]);
    }
    match body["image"].as_str() {
        Some(image) => service.draft.put("container.image", image),
        None if body["build"].is_null() => {
            service.refusals.push(Refusal::new(&here, format!("`{name}` has neither `image` nor `build`")));
        }
        None => service.draft.put("container.image", format!("{}-{name}", project.name)),
    }
    // Files before single variables, which go before them.
    if let Some(files) = body.get("env_file") {
        service.env_files(files);
    }
    for (key, value) in entries(body).filter(|(key, _)| *key != "env_file") {
        service.setting(key, value);
    }
    service.restart_policy(body);
    match service.refusals.is_empty() {
        true => Ok(service.draft.done()),
        false => Err(service.refusals),
    }
}

/// Why a key is left out.
fn why_not(key: &str) -> Option<&'static str> {
    Some(match key {
        "hostname" | "domainname" | "mac_address" => "a container's host name is its Instance's",
        "dns" | "dns_search" | "dns_opt" | "extra_hosts" | "links" | "external_links" => {
            "names are resolved as the engine does"
        }
        "devices" | "device_cgroup_rules" | "gpus" => "no devices are handed over",
        "security_opt" | "userns_mode" | "ipc" | "pid" | "uts" | "cgroup" | "cgroup_parent" | "isolation"
        | "credential_spec" | "runtime" | "sysctls" | "group_add" => "a container is confined as the engine does",
        "shm_size" | "tmpfs" | "storage_opt" | "volumes_from" => "volumes and directories are what a container can see",
        "init" => "the image's own entrypoint is the first process",
        "platform" => "the engine's own platform is meant",
        "cpu_shares" | "cpu_quota" | "cpu_period" | "cpu_percent" | "cpu_rt_runtime" | "cpu_rt_period" | "cpuset"
        | "blkio_config" | "oom_kill_disable" | "oom_score_adj" | "mem_swappiness" => {
            "`resources.limits` has memory, memorySwap, cpu, pids and ioWeight"
        }
        "develop" | "attach" => "for developing with Compose only",
        "annotations" | "label_file" | "links_from" => "of the engine's containers, not of an App",
        "ulimits" => "limits of single processes are for Apps with a `process`",
        "post_start" => "say `lifecycle.postStart`, a single command",
        "provider" | "models" | "use_api_socket" => "for Compose itself",
        _ => return None,
    })
}

impl Service<'_> {
    fn spot(&self, key: &str) -> Spot {
        self.project.tree.spot(&step(&self.path, key))
    }

    fn refuse(&mut self, key: &str, why: impl Into<String>) {
        let spot = self.spot(key);
        let why = why.into();
        self.refusals.push(Refusal::new(&spot, format!("{}.{key}: {why}", self.path)));
    }

    fn setting(&mut self, key: &str, value: &Value) {
        let spot = self.spot(key);
        let draft = &mut self.draft;
        match key {
            _ if value.is_null() => draft.carried(&spot, key),
            "image" | "profiles" | "extends" | "scale" | "restart" if key != "scale" => draft.carried(&spot, key),
            "build" => {
                draft.nearly(&spot, key, "nothing is built: build and tag the image yourself (`docker compose build`)")
            }
            "container_name" => draft.nearly(&spot, key, "a container is called after its Instance"),
            "command" => self.words(key, "container.args", value),
            "entrypoint" => self.words(key, "container.command", value),
            "working_dir" => self.plain(key, "container.workingDir", value),
            "user" => self.plain(key, "container.user", value),
            "privileged" => draft.set(&spot, key, "container.privileged", value == true),
            "read_only" => draft.set(&spot, key, "container.readOnlyRootFilesystem", value == true),
            "cap_add" => draft.set(&spot, key, "container.capabilities.add", texts(value)),
            "cap_drop" => draft.set(&spot, key, "container.capabilities.drop", texts(value)),
            "tty" | "stdin_open" if value == false => draft.carried(&spot, key),
            "tty" | "stdin_open" => draft.dropped(&spot, key, "a container reads nothing and has no terminal"),
            "environment" => self.environment(value),
            "ports" => self.ports(value),
            "expose" => draft.nearly(
                &spot,
                key,
                "every port can be reached in a network; `ports` declares those that others ask for",
            ),
            "volumes" => self.volumes(value),
            "configs" | "secrets" => self.files(key, value),
            "depends_on" => self.depends_on(value),
            "healthcheck" => self.healthcheck(value),
            "stop_signal" => {
                let name = text(value).unwrap_or_default().to_ascii_uppercase();
                let name = name.parse::<i32>().map_or(name, crate::api::signal_name);
                let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
                match crate::api::signal_number(&name) {
                    Some(_) => draft.set(&spot, key, "stopSignal", name),
                    None => self.refuse(key, "no signal"),
                }
            }
            "stop_grace_period" => match text(value).as_deref().and_then(quantity::duration) {
                Some(millis) => {
                    draft.set(&spot, key, "terminationGracePeriodSeconds", quantity::seconds(millis).min(86400))
                }
                None => self.refuse(key, "no duration such as 1m30s"),
            },
            "network_mode" => self.network_mode(value),
            "networks" => self.networks(value),
            "deploy" => self.deploy(value),
            "scale" => self.plain(key, "replicas", value),
            "mem_limit" => self.bytes(key, "memory", value),
            "memswap_limit" => self.bytes(key, "memorySwap", value),
            "mem_reservation" => self.request("memory", key, value),
            "cpus" => self.cpus(key, "limits", value),
            "cpu_count" => self.cpus(key, "limits", value),
            "pids_limit" => draft.set(&spot, key, "resources.limits.pids", text(value).unwrap_or_default()),
            "labels" => self.labels(value),
            "logging" => self.logging(value),
            "pull_policy" => match value.as_str() {
                Some("always") => draft.set(&spot, key, "container.imagePullPolicy", "Always"),
                Some("never") => draft.set(&spot, key, "container.imagePullPolicy", "Never"),
                Some("missing" | "if_not_present") => draft.carried(&spot, key),
                _ => draft.nearly(&spot, key, "an image is pulled if the engine does not have it"),
            },
            "pre_stop" => draft.dropped(&spot, key, "say `lifecycle.preStop`, a single command"),
            _ if key.starts_with("x-") => draft.carried(&spot, key),
            _ => match why_not(key) {
                Some(why) => draft.dropped(&spot, key, why),
                None => draft.dropped(&spot, key, "nothing that is known of a Compose service"),
            },
        }
    }

    fn plain(&mut self, key: &str, field: &str, value: &Value) {
        let spot = self.spot(key);
        self.draft.set(&spot, key, field, if field == "replicas" { value.clone() } else { json!(text(value)) });
    }

    /// A list of words, or a line that is split as a shell would.
    fn words(&mut self, key: &str, field: &str, value: &Value) {
        let words = match value {
            Value::String(line) => shlex::split(line),
            other => Some(texts(other)),
        };
        let spot = self.spot(key);
        match words {
            Some(words) if words.is_empty() => self.draft.nearly(&spot, key, "an empty list leaves the image's own"),
            Some(words) => {
                let words: Vec<String> = words.iter().map(|word| literal(word)).collect();
                self.draft.set(&spot, key, field, words);
            }
            None => self.refuse(key, "a quote is not closed"),
        }
    }

    fn bytes(&mut self, key: &str, limit: &str, value: &Value) {
        match text(value).as_deref().and_then(quantity::bytes) {
            Some(size) => {
                let spot = self.spot(key);
                self.draft.set(&spot, key, &format!("resources.limits.{limit}"), size);
            }
            None => self.refuse(key, "no size such as 512m"),
        }
    }

    fn request(&mut self, what: &str, key: &str, value: &Value) {
        match text(value).as_deref().and_then(quantity::bytes) {
            Some(size) => {
                let spot = self.spot(key);
                self.draft.set(&spot, key, &format!("resources.requests.{what}"), size);
            }
            None => self.refuse(key, "no size such as 512m"),
        }
    }

    fn cpus(&mut self, key: &str, side: &str, value: &Value) {
        match text(value)
            .and_then(|number| number.parse::<f64>().ok())
            .filter(|number| (0.01..=10_000.0).contains(number))
        {
            Some(number) => {
                let spot = self.spot(key);
                let cores = quantity::cores((number * 1000.0).round() as u64);
                self.draft.set(&spot, key, &format!("resources.{side}.cpu"), cores);
            }
            None => self.refuse(key, "no number of cores"),
        }
    }

    fn env_files(&mut self, value: &Value) {
        let list = match value {
            Value::Array(list) => list.clone(),
            other => vec![other.clone()],
        };
        for (at, item) in list.iter().enumerate() {
            let key = format!("env_file[{at}]");
            let spot = self.spot(&key);
            let Some(path) = item.as_str().or(item["path"].as_str()) else {
                self.refuse("env_file", "a path, or a mapping with `path`");
                continue;
            };
            let path = self.project.asked.dir.join(path);
            if item["required"] == false && !self.project.files.is_file(&path) {
                let remark = format!("`{}` is not there now; what it says later is not read", path.display());
                self.draft.nearly(&spot, "env_file", &remark);
                continue;
            }
            let read = super::super::text(&path, self.project.files);
            match read.and_then(|text| env_file::read(&text, &Spot::new(&path, 0))) {
                Ok(variables) => {
                    for variable in variables {
                        if variable.value.contains('$') && !variable.verbatim {
                            self.draft.nearly(&variable.spot, &variable.name, "a `$` in it stands for itself");
                        }
                        self.draft.env(&variable.name, &variable.value);
                    }
                    self.draft.nearly(&spot, "env_file", "its variables as they are now");
                }
                Err(more) => self.refusals.extend(more),
            }
        }
    }

    fn environment(&mut self, value: &Value) {
        let pairs: Vec<(String, Option<String>)> = match value {
            Value::Array(_) => texts(value)
                .into_iter()
                .map(|pair| match pair.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (pair, None),
                })
                .collect(),
            other => entries(other).map(|(name, value)| (name.clone(), text(value))).collect(),
        };
        let spot = self.spot("environment");
        for (name, value) in pairs {
            match value {
                _ if !env_file::is_name(&name) => {
                    self.refuse("environment", format!("`{}` is no name of a variable", brief(&name)))
                }
                Some(value) => self.draft.env(&name, &value),
                None => self.draft.dropped(&spot, &name, "its value is of whoever starts Compose: give it in `env`"),
            }
        }
        self.draft.carried(&spot, "environment");
    }

    fn ports(&mut self, value: &Value) {
        let list = value.as_array().cloned().unwrap_or_default();
        for (at, item) in list.iter().enumerate() {
            let key = format!("ports[{at}]");
            let spot = self.spot(&key);
            let made = match item {
                Value::Object(_) => {
                    let target = text(&item["target"]).unwrap_or_default();
                    let protocol = text(&item["protocol"]).unwrap_or_else(|| "tcp".to_owned());
                    port(&text(&item["published"]).unwrap_or_default(), &target, &protocol)
                }
                other => short_port(&text(other).unwrap_or_default()),
            };
            let Some(ports) = made else {
                self.refuse(&key, "no port such as 8080:80, 127.0.0.1:8080:80/udp or 9000-9003");
                continue;
            };
            let address = item["host_ip"].as_str().map(str::to_owned);
            let address =
                address.or_else(|| item.as_str().and_then(|text| text.rsplitn(3, ':').nth(2)).map(str::to_owned));
            match address.as_deref() {
                Some("127.0.0.1" | "::1" | "[::1]" | "localhost") => self.draft.carried(&spot, "ports"),
                _ => self.draft.nearly(
                    &spot,
                    "ports",
                    "published on 127.0.0.1 only: whom to let in is a gateway's to say",
                ),
            }
            for (host, container, protocol) in ports {
                let taken = |draft: &Draft, name: &str| {
                    draft.get("ports").as_array().is_some_and(|all| all.iter().any(|port| port["name"] == name))
                };
                let suffix = if protocol == "UDP" { "-udp" } else { "" };
                let mut name = format!("p{container}{suffix}");
                let mut number = 2;
                while taken(&self.draft, &name) {
                    name = format!("p{container}{suffix}-{number}");
                    number += 1;
                }
                let mut made = json!({"name": name, "containerPort": container, "hostPort": host});
                if protocol == "UDP" {
                    made["protocol"] = json!("UDP");
                }
                self.draft.push("ports", made);
            }
        }
    }

    fn volumes(&mut self, value: &Value) {
        let list = value.as_array().cloned().unwrap_or_default();
        for (at, item) in list.iter().enumerate() {
            let key = format!("volumes[{at}]");
            let spot = self.spot(&key);
            let (kind, source, target, mode) = match item {
                Value::Object(_) => {
                    let word = |field: &str| text(&item[field]).unwrap_or_default();
                    let mode = if item["read_only"] == true { "ro" } else { "" };
                    (word("type"), word("source"), word("target"), mode.to_owned())
                }
                other => {
                    let whole = text(other).unwrap_or_default();
                    let mut parts = whole.split(':').map(str::to_owned);
                    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
                    match second {
                        Some(target) => (String::new(), first, target, third.unwrap_or_default()),
                        None => ("volume".to_owned(), String::new(), first, String::new()),
                    }
                }
            };
            let is_path = source.starts_with(['/', '.', '~']);
            if kind == "tmpfs" || kind == "npipe" || kind == "cluster" || kind == "image" {
                self.draft.dropped(&spot, "volumes", "volumes and directories are what a container can see");
                continue;
            }
            if !target.starts_with('/') {
                self.refuse(&key, format!("`{}` is no absolute path in the container", brief(&target)));
                continue;
            }
            let source = match () {
                () if source.starts_with('~') => {
                    self.refuse(&key, "`~` is the home directory of whoever starts Compose: write the path");
                    continue;
                }
                () if is_path || kind == "bind" => super::super::plain_path(&self.project.asked.dir.join(&source)),
                () if source.is_empty() => {
                    self.draft.nearly(&spot, "volumes", "a volume without a name got one, and is kept");
                    format!("{}_{}{}", self.project.name, self.draft.name, target.replace('/', "_"))
                }
                () => volume_name(&source, self.project),
            };
            let read_only = mode.split(',').any(|option| option == "ro");
            let other: Vec<&str> = mode
                .split(',')
                .filter(|o| !matches!(*o, "ro" | "rw" | "" | "z" | "Z" | "cached" | "delegated" | "consistent"))
                .collect();
            let mut mount = json!({"source": source, "target": target});
            if read_only {
                mount["readOnly"] = json!(true);
            }
            self.draft.push("container.mounts", mount);
            match other.is_empty() {
                true => self.draft.carried(&spot, "volumes"),
                false => self.draft.nearly(&spot, "volumes", &format!("without {}", other.join(","))),
            }
        }
    }

    /// Configs and secrets: files of this machine that the container sees.
    fn files(&mut self, key: &str, value: &Value) {
        let list = value.as_array().cloned().unwrap_or_default();
        for (at, item) in list.iter().enumerate() {
            let path = format!("{key}[{at}]");
            let spot = self.spot(&path);
            let Some(source) = item.as_str().or(item["source"].as_str()) else {
                self.refuse(&path, "a name, or a mapping with `source`");
                continue;
            };
            let usual = if key == "secrets" { format!("/run/secrets/{source}") } else { format!("/{source}") };
            let target = match item["target"].as_str() {
                Some(target) if target.starts_with('/') => target.to_owned(),
                Some(target) => format!("/run/secrets/{target}"),
                None => usual,
            };
            match self.project.top[key][source]["file"].as_str() {
                Some(file) => {
                    let file = super::super::plain_path(&self.project.asked.dir.join(file));
                    self.draft.push("container.mounts", json!({"source": file, "target": target, "readOnly": true}));
                    self.draft.carried(&spot, key);
                }
                None => self.draft.dropped(&spot, source, "only those of a file are carried over, as a mount of it"),
            }
        }
    }

    fn depends_on(&mut self, value: &Value) {
        let all: Vec<(String, Value)> = match value {
            Value::Array(_) => texts(value).into_iter().map(|name| (name, json!({}))).collect(),
            other => entries(other).map(|(name, how)| (name.clone(), how.clone())).collect(),
        };
        for (name, how) in all {
            let spot = self.spot(&step("depends_on", &name));
            let Some(app) = self.project.apps.get(&name).cloned() else {
                match how["required"] == false {
                    true => self.draft.dropped(&spot, "depends_on", "it is not among the services, and need not be"),
                    false => self.refuse("depends_on", format!("`{}` is no service of this file", brief(&name))),
                }
                continue;
            };
            let condition = match how["condition"].as_str() {
                None | Some("service_started") => "Started",
                Some("service_healthy") => "Ready",
                Some("service_completed_successfully") => "Complete",
                Some(other) => {
                    self.refuse("depends_on", format!("`{}` is no condition", brief(other)));
                    continue;
                }
            };
            self.draft.push("dependsOn", json!({"app": app, "condition": condition}));
            match how["restart"] == true {
                true => self.draft.nearly(&spot, "depends_on", "it is not restarted with what it depends on"),
                false => self.draft.carried(&spot, "depends_on"),
            }
        }
    }

    fn healthcheck(&mut self, value: &Value) {
        let spot = self.spot("healthcheck");
        let test = match &value["test"] {
            Value::String(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            other => texts(other),
        };
        if value["disable"] == true || test.first().is_some_and(|word| word == "NONE") {
            return self.draft.dropped(
                &spot,
                "healthcheck",
                "the image's own check counts where there is no `readinessProbe`",
            );
        }
        let command = match test.split_first() {
            Some((word, rest)) if word == "CMD" && !rest.is_empty() => rest.to_vec(),
            Some((word, [line])) if word == "CMD-SHELL" => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            None => {
                return self.draft.dropped(
                    &spot,
                    "healthcheck",
                    "without `test`; the image's own check counts as it is",
                );
            }
            _ => {
                return self
                    .refuse("healthcheck", "`test` is a text, or a list that begins with CMD, CMD-SHELL or NONE");
            }
        };
        let mut probe = json!({"exec": {"command": command}});
        for (key, field) in [("interval", "periodSeconds"), ("timeout", "timeoutSeconds"), ("start_interval", "")] {
            let Some(said) = value.get(key) else { continue };
            match text(said).as_deref().and_then(quantity::duration) {
                Some(millis) if !field.is_empty() => probe[field] = json!(quantity::seconds(millis).clamp(1, 86400)),
                Some(_) => {
                    self.draft.dropped(&spot, "healthcheck.start_interval", "a `startupProbe` has a period of its own")
                }
                None => return self.refuse("healthcheck", format!("`{key}` is no duration such as 10s")),
            }
        }
        if value["interval"].is_null() {
            probe["periodSeconds"] = json!(30);
        }
        if value["timeout"].is_null() {
            probe["timeoutSeconds"] = json!(30);
        }
        if let Some(retries) = value["retries"].as_u64() {
            probe["failureThreshold"] = json!(retries.clamp(1, 1_000_000));
        }
        self.draft.put("readinessProbe", probe);
        if value.get("start_period").is_some() {
            self.draft.nearly(
                &spot,
                "healthcheck.start_period",
                "an App that is not ready is not ended: it has as long as it needs",
            );
        }
        self.draft.carried(&spot, "healthcheck");
    }

    fn network_mode(&mut self, value: &Value) {
        let spot = self.spot("network_mode");
        match value.as_str().unwrap_or_default() {
            mode @ ("host" | "none" | "bridge") => self.draft.set(&spot, "network_mode", "container.network", mode),
            mode => self.draft.dropped(
                &spot,
                "network_mode",
                &format!("`{}`: an App shares no network with a single container", brief(mode)),
            ),
        }
    }

    fn networks(&mut self, value: &Value) {
        let names: Vec<String> = match value {
            Value::Array(_) => texts(value),
            other => entries(other).map(|(name, _)| name.clone()).collect(),
        };
        let spot = self.spot("networks");
        let Some(first) = names.first() else { return self.draft.carried(&spot, "networks") };
        let top = &self.project.top["networks"][first];
        let made = match top["name"].as_str() {
            Some(name) => name.to_owned(),
            None if top["external"] == true => first.clone(),
            None => format!("{}_{first}", self.project.name),
        };
        self.draft.put("container.network", made);
        let more = if names.len() > 1 { "; an App is in one network only" } else { "" };
        let remark = format!(
            "the engine's network must be there, and others are found there by address, not by service name{more}"
        );
        self.draft.nearly(&spot, "networks", &remark);
    }

    fn deploy(&mut self, value: &Value) {
        for (key, body) in entries(value) {
            let path = format!("deploy.{key}");
            let spot = self.spot(&path);
            match key.as_str() {
                "replicas" => self.draft.set(&spot, &path, "replicas", body.clone()),
                "resources" => self.resources(body),
                "restart_policy" => self.deployed_restart(body, &spot),
                "labels" | "mode" if key == "labels" || body == "replicated" => self.draft.carried(&spot, &path),
                "update_config" => {
                    let parallel = body["parallelism"].as_u64().unwrap_or(1).max(1);
                    let surge = body["order"] == "start-first";
                    let (most_more, most_less) = if surge { (parallel, 0) } else { (0, parallel) };
                    self.draft
                        .put("strategy.rollingUpdate", json!({"maxSurge": most_more, "maxUnavailable": most_less}));
                    if body["failure_action"] == "rollback" {
                        self.draft.put("strategy.autoRollback", true);
                    }
                    self.draft.nearly(&spot, &path, "parallelism, order and rollback; a rollout has no pauses");
                }
                "placement" => self.draft.dropped(&spot, &path, "`nodeSelector` names labels of nodes"),
                _ => self.draft.dropped(&spot, &path, "of Docker Swarm"),
            }
        }
    }

    fn resources(&mut self, value: &Value) {
        for (side, ours) in [("limits", "limits"), ("reservations", "requests")] {
            for (key, amount) in entries(&value[side]) {
                let path = format!("deploy.resources.{side}.{key}");
                match key.as_str() {
                    "cpus" => self.cpus(&path, ours, amount),
                    "memory" if ours == "limits" => self.bytes(&path, "memory", amount),
                    "memory" => self.request("memory", &path, amount),
                    "pids" if ours == "limits" => {
                        let spot = self.spot(&path);
                        self.draft.set(&spot, &path, "resources.limits.pids", text(amount).unwrap_or_default());
                    }
                    _ => {
                        let spot = self.spot(&path);
                        self.draft.dropped(&spot, &path, "no devices are handed over");
                    }
                }
            }
        }
    }

    fn deployed_restart(&mut self, value: &Value, spot: &Spot) {
        match value["condition"].as_str() {
            Some("none") => self.draft.put("restartPolicy", "Never"),
            Some("on-failure") => self.draft.put("restartPolicy", "OnFailure"),
            _ => {}
        }
        if let Some(millis) = text(&value["delay"]).as_deref().and_then(quantity::duration) {
            self.draft.put("restart.backoff.initial", quantity::go(millis));
        }
        if let Some(most) = value["max_attempts"].as_u64().filter(|most| *most > 0) {
            self.draft.put("restart.maxRestarts", most.min(1_000_000));
        }
        self.draft.nearly(spot, "deploy.restart_policy", "restarts back off, up to `restart.backoff.max`");
    }

    /// What happens after an exit: nothing, if nothing is said.
    fn restart_policy(&mut self, body: &Value) {
        if !body["deploy"]["restart_policy"].is_null() {
            return;
        }
        let spot = self.spot("restart");
        match text(&body["restart"]).unwrap_or_default().as_str() {
            "always" | "unless-stopped" => {}
            "" | "no" | "false" => self.draft.put("restartPolicy", "Never"),
            other => match other.strip_prefix("on-failure") {
                Some(most) => {
                    self.draft.put("restartPolicy", "OnFailure");
                    if let Some(most) =
                        most.strip_prefix(':').and_then(|most| most.parse::<u32>().ok()).filter(|n| *n > 0)
                    {
                        self.draft.put("restart.maxRestarts", most.min(1_000_000));
                        self.draft.nearly(&spot, "restart", "counts restarts without a stable run between them");
                    }
                }
                None => self.refuse("restart", format!("`{}` is no policy", brief(other))),
            },
        }
    }

    fn labels(&mut self, value: &Value) {
        let pairs: Vec<(String, String)> = match value {
            Value::Array(_) => texts(value)
                .iter()
                .map(|pair| {
                    pair.split_once('=').map_or((pair.clone(), String::new()), |(k, v)| (k.to_owned(), v.to_owned()))
                })
                .collect(),
            other => entries(other).map(|(key, value)| (key.clone(), text(value).unwrap_or_default())).collect(),
        };
        for (key, value) in pairs {
            let spot = self.spot(&step("labels", &key));
            let names = crate::policy::label_names::check_key(&key).is_ok();
            if names && crate::policy::label_names::check_value(&value).is_ok() {
                self.draft.label(&key, &value);
                self.draft.carried(&spot, "labels");
            } else if names {
                self.draft.annotate(&key, &value);
                self.draft.nearly(&spot, "labels", &format!("`{}` became an annotation", brief(&key)));
            } else {
                self.draft.dropped(&spot, "labels", &format!("`{}` is no key of a label", brief(&key)));
            }
        }
    }

    fn logging(&mut self, value: &Value) {
        let spot = self.spot("logging");
        if let Some(size) = text(&value["options"]["max-size"]).as_deref().and_then(quantity::bytes) {
            self.draft.put("logs.maxSize", size);
        }
        if let Some(files) = text(&value["options"]["max-file"]).and_then(|n| n.parse::<u32>().ok()) {
            self.draft.put("logs.maxFiles", files.clamp(1, 1000));
        }
        match value["driver"].as_str() {
            None | Some("json-file" | "local") => self.draft.carried(&spot, "logging"),
            Some(driver) => {
                self.draft.nearly(&spot, "logging", &format!("`appm logs` has the output, not {}", brief(driver)))
            }
        }
    }
}

/// `8080:80/udp`, `127.0.0.1:80:80`, `3000-3005`, `80`.
fn short_port(text: &str) -> Option<Vec<(u16, u16, &'static str)>> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let mut parts = rest.rsplitn(3, ':');
    let container = parts.next()?;
    port(parts.next().unwrap_or_default(), container, protocol)
}

/// A port, or as many as two ranges of the same length have; without a published one the engine allocates.
fn port(published: &str, target: &str, protocol: &str) -> Option<Vec<(u16, u16, &'static str)>> {
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" | "" => "TCP",
        "udp" => "UDP",
        _ => return None,
    };
    let range = |text: &str| -> Option<(u16, u16)> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        Some((from.parse().ok()?, to.parse().ok()?)).filter(|(from, to)| from <= to)
    };
    let (from, to) = range(target)?;
    if to - from > 1000 {
        return None;
    }
    match published {
        "" => Some((from..=to).map(|port| (0, port, protocol)).collect()),
        published => {
            let (first, last) = range(published)?;
            // Any of a range will do for a single port: the first does.
            (last - first == to - from || from == to)
                .then(|| (from..=to).map(|port| (first + (port - from), port, protocol)).collect())
        }
    }
}

/// The engine's name of a volume.
fn volume_name(source: &str, project: &Project<'_>) -> String {
    let top = &project.top["volumes"][source];
    match top["name"].as_str() {
        Some(name) => name.to_owned(),
        None if top["external"] == true => source.to_owned(),
        None => format!("{}_{source}", project.name),
    }
}
