//! One service: every key of the Compose specification, and what becomes of it.

use serde_json::{Value, json};

use super::{
    super::super::{
        draft::{Draft, literal},
        env_file, quantity,
        report::{Part, Refusal, Spot, brief},
        tree::{entries, step, text, texts},
    },
    super::words::COMPOSE,
    Project,
    load::Origin,
};

/// One service that is being read.
pub(super) struct Service<'a> {
    pub(super) project: &'a Project<'a>,
    pub(super) origin: &'a Origin,
    pub(super) path: String,
    pub(super) draft: Draft,
    pub(super) refusals: Vec<Refusal>,
}

/// The App of a service.
pub(super) fn app(
    name: &str,
    body: &Value,
    origin: &Origin,
    project: &Project<'_>,
) -> Result<Part<Value>, Vec<Refusal>> {
    let path = step("services", name);
    let app = project.apps.get(name).map_or(name, String::as_str);
    let mut service = Service { project, origin, path, draft: Draft::new("App", app), refusals: Vec::new() };
    let here = origin.spot("");
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
        service.setting(key, value, body);
    }
    service.restart_policy(body);
    if body["network_mode"].is_null() && body["networks"].is_null() {
        service.default_network();
    }
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
        "annotations" | "label_file" => "of the engine's containers, not of an App",
        "ulimits" => "limits of single processes are for Apps with a `process`",
        "provider" | "models" | "use_api_socket" => "for Compose itself",
        "pull_refresh_after" => "`pull_policy: always` asks for a newer image at each start",
        _ => return None,
    })
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    List,
    Mapping,
    Either,
}

impl Form {
    fn fits(self, value: &Value) -> bool {
        value.is_null() || (self != Form::Mapping && value.is_array()) || (self != Form::List && value.is_object())
    }

    fn told(self) -> &'static str {
        match self {
            Form::List => "it is a list",
            Form::Mapping => "it is a mapping",
            Form::Either => "it is a list or a mapping",
        }
    }
}

/// The form of settings that are more than one word.
fn form(key: &str) -> Option<Form> {
    Some(match key {
        "ports" | "volumes" | "configs" | "secrets" | "expose" | "cap_add" | "cap_drop" | "post_start" | "pre_stop" => {
            Form::List
        }
        "healthcheck" | "deploy" | "logging" => Form::Mapping,
        "environment" | "labels" | "depends_on" | "networks" => Form::Either,
        _ => return None,
    })
}

impl Service<'_> {
    pub(super) fn spot(&self, key: &str) -> Spot {
        self.origin.spot(key)
    }

    pub(super) fn refuse(&mut self, key: &str, why: impl Into<String>) {
        let spot = self.spot(key);
        let why = why.into();
        self.refusals.push(Refusal::new(&spot, format!("{}.{key}: {why}", self.path)));
    }

    fn setting(&mut self, key: &str, value: &Value, body: &Value) {
        let spot = self.spot(key);
        if let Some(form) = form(key).filter(|form| !form.fits(value)) {
            return self.refuse(key, form.told());
        }
        let draft = &mut self.draft;
        match key {
            _ if value.is_null() => draft.carried(&spot, key),
            "image" | "profiles" | "extends" | "restart" => draft.carried(&spot, key),
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
            "memswap_limit" if text(value).is_some_and(|size| size == "-1") => {
                draft.dropped(&spot, key, "with a limit of memory there is one of swap: `memorySwap`");
            }
            "memswap_limit" if body["mem_limit"].is_null() => {
                draft.dropped(&spot, key, "without `mem_limit` it says nothing");
            }
            "memswap_limit" => self.bytes(key, "memorySwap", value),
            "mem_reservation" => self.request("memory", key, value),
            "cpus" => self.cpus(key, "limits", value),
            "cpu_count" => self.cpus(key, "limits", value),
            "pids_limit" if matches!(text(value).as_deref(), Some("-1" | "0")) => draft.carried(&spot, key),
            "pids_limit" => draft.set(&spot, key, "resources.limits.pids", text(value).unwrap_or_default()),
            "labels" => self.labels(value),
            "logging" => self.logging(value),
            "pull_policy" => match value.as_str() {
                Some("always") => draft.set(&spot, key, "container.imagePullPolicy", "Always"),
                Some("never") => draft.set(&spot, key, "container.imagePullPolicy", "Never"),
                Some("missing" | "if_not_present") => draft.carried(&spot, key),
                _ => draft.nearly(&spot, key, "an image is pulled if the engine does not have it"),
            },
            "post_start" => self.hook(key, "lifecycle.postStart", value),
            "pre_stop" => self.hook(key, "lifecycle.preStop", value),
            _ if key.starts_with("x-") => draft.carried(&spot, key),
            _ => match why_not(key) {
                Some(why) => draft.dropped(&spot, key, why),
                None => draft.dropped(&spot, key, &COMPOSE.stranger("service", key)),
            },
        }
    }

    /// Tells of what is not known in a mapping of a setting.
    pub(super) fn strangers(&mut self, path: &str, section: &str, value: &Value) {
        for (key, _) in entries(value).filter(|(key, _)| !key.starts_with("x-") && !COMPOSE.knows(section, key)) {
            let spot = self.spot(&step(path, key));
            self.draft.dropped(&spot, &format!("{path}.{key}"), &COMPOSE.stranger(section, key));
        }
    }

    /// Tells of settings within a setting that have no place here.
    pub(super) fn without(&mut self, path: &str, value: &Value, keys: &[&str], why: &str) {
        for key in keys.iter().filter(|key| !value[**key].is_null()) {
            let spot = self.spot(&step(path, key));
            self.draft.dropped(&spot, &format!("{path}.{key}"), why);
        }
    }

    /// A single command that is run in the container after its start, or before its stop.
    fn hook(&mut self, key: &str, field: &str, value: &Value) {
        let spot = self.spot(key);
        let hooks = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let words = hooks.first().and_then(|hook| match &hook["command"] {
            Value::String(line) => shlex::split(line),
            other => Some(texts(other)),
        });
        match (hooks, words.filter(|words| !words.is_empty())) {
            ([], _) => self.draft.carried(&spot, key),
            ([hook], Some(words)) => {
                let words: Vec<String> = words.iter().map(|word| literal(word)).collect();
                self.draft.set(&spot, key, field, json!({"exec": {"command": words}}));
                let fields = ["user", "privileged", "working_dir", "environment"];
                self.without(&format!("{key}[0]"), hook, &fields, "it runs as the container does");
            }
            (_, None) => self.refuse(key, "a hook has a `command`"),
            _ => self.draft.dropped(&spot, key, "there is one command: let a script do them all"),
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
            self.strangers(&key, "env_file", item);
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
            self.strangers(&step("depends_on", &name), "depends_on", &how);
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
        self.strangers("logging", "logging", value);
        for (key, _) in entries(&value["options"]).filter(|(key, _)| !matches!(key.as_str(), "max-size" | "max-file")) {
            let spot = self.spot(&step("logging.options", key));
            self.draft.dropped(&spot, &format!("logging.options.{key}"), "`logs` has maxSize and maxFiles");
        }
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
