//! Every setting of each program's own reference has a fate, and a reason of its own; docs/import-settings.md says the same.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{files, violations};
use crate::exchange::{
    import::{
        compose, kubernetes, pm2, supervisor, systemd,
        words::{COMPOSE, KUBERNETES, PM2, SUPERVISOR, SYSTEMD, Words},
    },
    report::{Fate, Outcome},
};

/// What became of one setting: fates and remarks.
type Told = Vec<(Fate, String)>;

/// A section of a reference, and what became of each of its words.
struct Section {
    title: String,
    told: Vec<(&'static str, Told)>,
}

/// How a remark begins that is a fault of the reader's, so that all are found at once.
const FAULT: &str = "FAULT";

/// What a reader tells of a setting, by any of the names that it may have in a report.
fn told(outcome: Outcome<Value>, names: &[String]) -> Told {
    let fault = |what: String| vec![(Fate::Dropped, format!("{FAULT} {names:?}: {what}"))];
    let report = match outcome {
        Ok(report) => report,
        Err(refusals) => return fault(format!("{refusals:?}")),
    };
    if let Some(wrong) = violations(&report) {
        return fault(wrong);
    }
    let of = |name: &String| -> Told {
        let is_it = |setting: &str| {
            setting == name || [".", "="].iter().any(|sign| setting.starts_with(&format!("{name}{sign}")))
        };
        report.all().filter(|note| is_it(&note.setting)).map(|note| (note.fate, note.remark.clone())).collect()
    };
    let mut told = names.iter().map(of).find(|told| !told.is_empty()).unwrap_or_default();
    told.sort();
    told.dedup();
    let unsaid = |(fate, remark): &(Fate, String)| {
        remark.contains("that is known") || (*fate != Fate::Carried && remark.is_empty())
    };
    if told.is_empty() || told.iter().any(unsaid) {
        return fault(format!("{told:?} of {:?}", report.all().map(ToString::to_string).collect::<Vec<_>>()));
    }
    told
}

fn section(words: Words, section: &str, title: &str, of: impl Fn(&'static str) -> Told) -> Section {
    let told: Vec<_> = words.of(section).map(|word| (word, of(word))).collect();
    assert!(!told.is_empty(), "{section}");
    Section { title: title.to_owned(), told }
}

fn of_systemd() -> Vec<Section> {
    let unit = |section: &'static str| {
        move |word: &'static str| {
            let value = match word {
                "Description" | "Documentation" => "x",
                "StartLimitBurst" => "5",
                "Type" => "exec",
                "Restart" => "always",
                "Environment" => "A=1",
                "EnvironmentFile" => "-/nope",
                "WorkingDirectory" => "/",
                "UMask" => "022",
                "CPUQuota" => "50%",
                "KillMode" => "control-group",
                "KillSignal" => "SIGINT",
                "StandardInput" => "tty",
                "StandardOutput" | "StandardError" => "journal",
                "OnCalendar" => "daily",
                "PIDFile" => "/run/x.pid",
                "Unit" => "a.service",
                "ExitType" => "main",
                "MemoryMax" | "MemoryLimit" => "64M",
                "MemorySwapMax" => "1G",
                "RestartMode" => "direct",
                "DynamicUser" => "yes",
                _ if word.starts_with("Exec") => "/bin/true",
                _ if section == "Unit" && SYSTEMD.is_list("Unit", word) => "other.service",
                _ => "10",
            };
            let line = format!("[{section}]\n{word}={value}\n");
            let named = if section == "Timer" { "/u/a.timer" } else { "/u/a.service" };
            let service = "[Service]\nExecStart=/bin/x\n";
            let timer = format!("[Timer]\nOnUnitActiveSec=1h\n{line}");
            let service = if section == "Timer" { service.to_owned() } else { format!("{service}{line}") };
            let mut all = vec![("/u/a.service", service.as_str())];
            if section == "Timer" {
                all.push((named, timer.as_str()));
            }
            told(systemd::read(&[PathBuf::from("/u")], &[], &files(&all)), &[word.to_owned()])
        }
    };
    let one = |name: &'static str| section(SYSTEMD, name, &format!("[{name}]"), unit(name));
    vec![one("Unit"), one("Service"), one("Timer"), one("Install")]
}

fn of_supervisor() -> Vec<Section> {
    let value = |word: &str| match word {
        "autorestart" | "autostart" | "stopasgroup" | "killasgroup" | "redirect_stderr" => "true",
        "command" => "x",
        "environment" => "A=1",
        "stopsignal" => "INT",
        "directory" => "/srv",
        "files" => "none/*.conf",
        "umask" => "022",
        "user" => "www",
        "programs" => "a",
        "process_name" => "%(program_name)s_%(process_num)d",
        _ if word.ends_with("maxbytes") => "5MB",
        _ => "1",
    };
    let one = |name: &'static str| {
        section(SUPERVISOR, name, &format!("[{name}]"), |word| {
            let is_named = !["supervisord", "supervisorctl", "include"].contains(&name) && !name.ends_with("server");
            let head = if is_named { format!("[{name}:a]") } else { format!("[{name}]") };
            let line = format!("{word}={}\n", value(word));
            let program = if name.ends_with("program") { "" } else { "[program:a]\ncommand=x\n" };
            let command = if name.ends_with("program") && word != "command" { "command=x\n" } else { "" };
            let text = format!("{program}{head}\n{command}{line}");
            let names = [format!("{} {word}", head), word.to_owned()];
            told(supervisor::read(Path::new("/s"), &files(&[("/s", &text)])), &names)
        })
    };
    let sections = [
        "program",
        "fcgi-program",
        "group",
        "include",
        "supervisord",
        "unix_http_server",
        "inet_http_server",
        "supervisorctl",
        "eventlistener",
        "rpcinterface",
    ];
    sections.map(one).into()
}

fn of_pm2() -> Vec<Section> {
    let read = |word: &'static str| {
        let value = match word {
            "apps" | "deploy" => json!({"script": "x.js"}),
            "env" => json!({"A": "1"}),
            "autorestart" | "autostart" | "disable_logs" => json!(false),
            "stop_exit_codes" => json!([3]),
            "max_memory_restart" => json!("100M"),
            "exec_mode" => json!("cluster"),
            "args" | "script" | "exec" | "cwd" | "interpreter" | "exec_interpreter" => json!("x"),
            "node_args" | "interpreter_args" | "interpreterArgs" => json!(["-x"]),
            "watch" | "source_map_support" | "treekill" => json!(true),
            "uid" | "gid" | "user" | "username" | "name" | "namespace" => json!("www"),
            _ => json!(10),
        };
        let mut file = json!({"apps": [{"script": "x.js", "name": "a"}]});
        match word {
            "apps" | "deploy" => file[word] = value,
            _ => file["apps"][0][word] = value,
        }
        let asked = pm2::Asked { dir: "/p".into(), ..Default::default() };
        pm2::read(Path::new("/e"), &asked, &files(&[("/e", &file.to_string())]))
    };
    let file = |word: &'static str| match word {
        "apps" => read(word).map(|_| vec![(Fate::Carried, String::new())]).expect("good"),
        word => told(read(word), &[word.to_owned()]),
    };
    vec![section(PM2, "file", "file", file), section(PM2, "app", "an app", |word| told(read(word), &[word.to_owned()]))]
}

/// A value that the key of a Compose service may have.
fn compose_value(word: &str) -> Value {
    match word {
        "build" => json!("."),
        "command" | "entrypoint" => json!("x y"),
        "environment" | "labels" | "annotations" | "sysctls" | "storage_opt" => json!({"A": "1"}),
        "env_file" => json!([{"path": "nope.env", "required": false}]),
        "ports" => json!(["80:80"]),
        "expose" => json!(["80"]),
        "volumes" => json!(["data:/data"]),
        "configs" | "secrets" => json!(["c"]),
        "depends_on" => json!(["b"]),
        "healthcheck" => json!({"test": "true"}),
        "deploy" => json!({"replicas": 2}),
        "logging" => json!({"driver": "json-file"}),
        "networks" => json!({"front": null}),
        "network_mode" => json!("host"),
        "extends" => json!({"service": "b"}),
        "profiles" => json!([]),
        "restart" => json!("always"),
        "stop_signal" => json!("SIGINT"),
        "stop_grace_period" => json!("5s"),
        "pull_policy" => json!("always"),
        "mem_limit" | "memswap_limit" | "mem_reservation" => json!("512m"),
        "cpus" | "cpu_count" | "pids_limit" | "scale" => json!(2),
        "privileged" | "read_only" | "tty" | "stdin_open" => json!(true),
        "post_start" | "pre_stop" => json!([{"command": "x"}]),
        "image" | "user" => json!("x"),
        "working_dir" => json!("/x"),
        _ => json!(["NET_ADMIN"]),
    }
}

fn of_compose() -> Vec<Section> {
    let read = |service: Value, top: Option<&str>| {
        let mut a = json!({"image": "x"});
        a.as_object_mut().expect("a mapping").extend(service.as_object().cloned().unwrap_or_default());
        let mut file = json!({
            "services": {"a": a, "b": {"image": "y"}}, "configs": {"c": {"file": "/c"}}, "secrets": {"c": {"file": "/c"}},
        });
        match top {
            Some("version" | "name") => file[top.unwrap_or_default()] = json!("x"),
            Some("include") => file["include"] = json!(["more"]),
            Some(key @ ("volumes" | "networks" | "models")) => file[key] = json!({"d": {"driver": "x"}}),
            _ => {}
        }
        let asked = compose::Asked { dir: "/p".into(), ..Default::default() };
        compose::read(&["/p/c".into()], &asked, &files(&[("/p/c", &file.to_string()), ("/p/more", "{services: {}}")]))
    };
    let file = |word: &'static str| {
        told(read(json!({}), Some(word)), &[word.to_owned(), format!("{word}.c"), format!("{word}.d")])
    };
    let include = |word: &'static str| {
        let mut entry = json!({"path": "more"});
        entry[word] = json!(match word {
            "project_directory" => ".",
            "env_file" => "env",
            _ => "more",
        });
        let asked = compose::Asked { dir: "/p".into(), ..Default::default() };
        let text = json!({"services": {"a": {"image": "x"}}, "include": [entry]}).to_string();
        let all = files(&[("/p/c", &text), ("/p/more", "{}"), ("/p/env", "A=1")]);
        told(compose::read(&["/p/c".into()], &asked, &all), &["include".to_owned()])
    };
    let extends = |word: &'static str| {
        let how = if word == "file" { json!({"file": "c", "service": "b"}) } else { json!({"service": "b"}) };
        told(read(json!({"extends": how}), None), &["extends".to_owned()])
    };
    let service = |word: &'static str| told(read(json!({word: compose_value(word)}), None), &[word.to_owned()]);
    let nested = |path: &'static [&'static str], list: bool, sample: fn(&str) -> Value| {
        move |word: &'static str| {
            let mut inner = sample(word);
            for (at, step) in path.iter().enumerate().rev() {
                inner = json!({*step: inner});
                if list && at == 0 {
                    inner = json!({path[0]: [inner[path[0]].clone()]});
                }
            }
            let whole = if list { format!("{}[0]", path[0]) } else { path[0].to_owned() };
            let whole = path[1..].iter().fold(whole, |whole, step| format!("{whole}.{step}"));
            let names = [format!("{whole}.{word}"), whole, path.join("."), path[0].to_owned()];
            told(read(inner, None), &names)
        }
    };
    let plain = |word: &str| json!({word: "10s"});
    let limits = |word: &str| match word {
        "memory" => json!({word: "64M"}),
        "cpus" | "pids" => json!({word: "2"}),
        _ => json!({word: []}),
    };
    let deploy = |word: &str| match word {
        "replicas" => json!({word: 2}),
        "mode" => json!({word: "global"}),
        "resources" => json!({word: {"limits": {"memory": "64M"}}}),
        _ => json!({word: {}}),
    };
    let check = |word: &str| match word {
        "disable" => json!({word: true}),
        "retries" => json!({"test": "true", word: 3}),
        "test" => json!({word: "true"}),
        _ => json!({"test": "true", word: "10s"}),
    };
    let logging = |word: &str| {
        if word == "driver" { json!({word: "syslog"}) } else { json!({word: {"max-size": "10m"}}) }
    };
    let port = |word: &str| match word {
        "host_ip" => json!({"target": 80, word: "127.0.0.1"}),
        "protocol" => json!({"target": 80, word: "udp"}),
        "target" | "published" => json!({"target": 80, word: 81}),
        _ => json!({"target": 80, word: "http"}),
    };
    let mount = |word: &str| match word {
        "type" => json!({word: "tmpfs", "target": "/t"}),
        "read_only" => json!({"type": "volume", "source": "d", "target": "/t", word: true}),
        "bind" | "volume" | "tmpfs" | "image" => json!({"type": "volume", "source": "d", "target": "/t", word: {}}),
        "target" => json!({"type": "volume", "source": "d", word: "/t"}),
        _ => json!({"type": "volume", "source": "d", "target": "/t", word: "x"}),
    };
    let bind = |word: &str| json!({"type": "bind", "source": "/", "target": "/t", "bind": {word: "x"}});
    let volume = |word: &str| json!({"type": "volume", "source": "d", "target": "/t", "volume": {word: "x"}});
    let file_mount = |word: &str| match word {
        "source" => json!({word: "c"}),
        _ => json!({"source": "c", word: "/x"}),
    };
    let network = |word: &str| if word == "aliases" { json!({word: ["other"]}) } else { json!({word: "x"}) };
    let on = |word: &str| match word {
        "condition" => json!({word: "service_healthy"}),
        _ => json!({word: true}),
    };
    let env_file = |word: &str| match word {
        "path" => json!({word: "nope.env", "required": false}),
        _ => json!({"path": "nope.env", "required": false, "format": "raw"}),
    };
    vec![
        section(COMPOSE, "file", "file", file),
        section(COMPOSE, "service", "a service", service),
        section(COMPOSE, "include", "an entry of include", include),
        section(COMPOSE, "extends", "extends", extends),
        section(COMPOSE, "deploy", "deploy", nested(&["deploy"], false, deploy)),
        section(
            COMPOSE,
            "restart_policy",
            "deploy.restart_policy",
            nested(&["deploy", "restart_policy"], false, plain),
        ),
        section(COMPOSE, "update_config", "deploy.update_config", nested(&["deploy", "update_config"], false, plain)),
        section(
            COMPOSE,
            "limits",
            "deploy.resources.limits",
            nested(&["deploy", "resources", "limits"], false, limits),
        ),
        section(
            COMPOSE,
            "reservations",
            "deploy.resources.reservations",
            nested(&["deploy", "resources", "reservations"], false, limits),
        ),
        section(COMPOSE, "healthcheck", "healthcheck", nested(&["healthcheck"], false, check)),
        section(COMPOSE, "logging", "logging", nested(&["logging"], false, logging)),
        section(COMPOSE, "port", "an entry of ports", nested(&["ports"], true, port)),
        section(COMPOSE, "mount", "an entry of volumes", nested(&["volumes"], true, mount)),
        section(COMPOSE, "bind", "bind of an entry of volumes", |word| {
            told(
                read(json!({"volumes": [bind(word)]}), None),
                &[format!("volumes[0].bind.{word}"), "volumes".to_owned()],
            )
        }),
        section(COMPOSE, "volume", "volume of an entry of volumes", |word| {
            told(
                read(json!({"volumes": [volume(word)]}), None),
                &[format!("volumes[0].volume.{word}"), "volumes".to_owned()],
            )
        }),
        section(COMPOSE, "file_mount", "an entry of configs and secrets", nested(&["secrets"], true, file_mount)),
        section(COMPOSE, "network", "an entry of networks", nested(&["networks", "front"], false, network)),
        section(COMPOSE, "depends_on", "an entry of depends_on", nested(&["depends_on", "b"], false, on)),
        section(COMPOSE, "env_file", "an entry of env_file", nested(&["env_file"], true, env_file)),
    ]
}

/// A value that a field of Kubernetes may have.
fn kubernetes_value(word: &str) -> Value {
    let probe = json!({"exec": {"command": ["true"]}});
    match word {
        "args" | "command" => json!(["x"]),
        "env" => json!([{"name": "A", "value": "1"}]),
        "envFrom" => json!([{"configMapRef": {"name": "c"}}]),
        "imagePullPolicy" => json!("Always"),
        "livenessProbe" | "readinessProbe" | "startupProbe" => probe,
        "lifecycle" => json!({"stopSignal": "SIGINT"}),
        "ports" => json!([{"name": "http", "containerPort": 80}]),
        "volumeMounts" => json!([{"name": "v", "mountPath": "/v"}]),
        "resources" => json!({"limits": {"memory": "64Mi"}}),
        "securityContext" | "strategy" | "updateStrategy" | "selector" => json!({}),
        "template" | "jobTemplate" => Value::Null,
        "capabilities" => json!({"drop": ["ALL"]}),
        "imagePullSecrets" => json!([{"name": "s"}]),
        "nodeSelector" => json!({"a": "b"}),
        "restartPolicy" => json!("Always"),
        "terminationMessagePolicy" => json!("FallbackToLogsOnError"),
        "terminationMessagePath" | "workingDir" => json!("/x"),
        "schedule" => json!("@daily"),
        "timeZone" => json!("Europe/Berlin"),
        "concurrencyPolicy" => json!("Forbid"),
        "completionMode" => json!("Indexed"),
        "podManagementPolicy" => json!("OrderedReady"),
        "image" => json!("x"),
        "name" => json!("c"),
        "privileged" | "readOnlyRootFilesystem" | "paused" | "suspend" | "hostNetwork" | "hostPID" | "runAsNonRoot" => {
            json!(true)
        }
        "exec" => json!({"command": ["true"]}),
        "httpGet" | "tcpSocket" | "grpc" => json!({"port": 80}),
        "postStart" | "preStop" => json!({"exec": {"command": ["true"]}}),
        "stopSignal" => json!("SIGINT"),
        "type" => json!("LoadBalancer"),
        "containers" | "volumes" | "initContainers" | "volumeClaimTemplates" | "ephemeralContainers" => json!([]),
        "mountPath" => json!("/v"),
        "successThreshold" => json!(1),
        "progressDeadlineSeconds" => json!(700),
        _ => json!(10),
    }
}

fn of_kubernetes() -> Vec<Section> {
    let read = |file: &Value| kubernetes::read(&["/k".into()], &files(&[("/k", &file.to_string())]));
    let container = json!({"name": "c", "image": "x"});
    let spec = json!({"containers": [container], "volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
    let workload = |kind: &str| {
        let spec = match kind {
            "CronJob" => json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
            "Pod" => spec.clone(),
            _ => json!({"template": template}),
        };
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
    };
    let of_spec = |kind: &'static str| {
        move |word: &'static str| {
            let mut file = workload(kind);
            if !kubernetes_value(word).is_null() {
                file["spec"][word] = kubernetes_value(word);
            }
            told(read(&file), &[word.to_owned()])
        }
    };
    let at = |pointer: &'static str| {
        move |word: &'static str| {
            let mut file = workload("Deployment");
            let place = file.pointer_mut(pointer).expect("a place");
            // What has a section of its own is told there.
            let is_told_below = ["containers", "volumes", "securityContext"].contains(&word)
                || (word == "resources" && pointer.ends_with("/0"));
            if !is_told_below {
                place[word] = kubernetes_value(word);
            }
            match is_told_below {
                true => vec![(Fate::Carried, String::new())],
                false => told(read(&file), &[word.to_owned()]),
            }
        }
    };
    let inside = |field: &'static str, list: bool, sample: fn(&str) -> Value| {
        move |word: &'static str| {
            let mut file = workload("Deployment");
            let value = sample(word);
            file["spec"]["template"]["spec"]["containers"][0][field] = if list { json!([value]) } else { value };
            told(read(&file), &[format!("{field}.{word}"), field.to_owned()])
        }
    };
    let service = |word: &'static str| {
        let mut file = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}});
        file["spec"][word] = kubernetes_value(word);
        told(read(&file), &[format!("Service/s {word}")])
    };
    fn mount(word: &str) -> Value {
        let mut value = json!({"name": "v", "mountPath": "/v"});
        if !["name", "mountPath"].contains(&word) {
            value[word] = if word == "readOnly" { json!(true) } else { json!("x") };
        }
        value
    }
    fn port(word: &str) -> Value {
        let mut value = json!({"containerPort": 80});
        value[word] = match word {
            "name" => json!("http"),
            "protocol" => json!("UDP"),
            "hostIP" => json!("10.0.0.1"),
            _ => json!(80),
        };
        value
    }
    fn probe(word: &str) -> Value {
        let mut value = if matches!(word, "httpGet" | "tcpSocket" | "grpc") {
            json!({})
        } else {
            json!({"exec": {"command": ["true"]}})
        };
        value[word] = kubernetes_value(word);
        value
    }
    const SPEC: &str = "/spec/template/spec";
    const CONTAINER: &str = "/spec/template/spec/containers/0";
    vec![
        section(KUBERNETES, "DeploymentSpec", "Deployment", of_spec("Deployment")),
        section(KUBERNETES, "StatefulSetSpec", "StatefulSet", of_spec("StatefulSet")),
        section(KUBERNETES, "DaemonSetSpec", "DaemonSet", of_spec("DaemonSet")),
        section(KUBERNETES, "ReplicaSetSpec", "ReplicaSet, ReplicationController", of_spec("ReplicaSet")),
        section(KUBERNETES, "JobSpec", "Job", of_spec("Job")),
        section(KUBERNETES, "CronJobSpec", "CronJob", of_spec("CronJob")),
        section(KUBERNETES, "ServiceSpec", "Service", service),
        section(KUBERNETES, "PodSpec", "Pod", at(SPEC)),
        section(KUBERNETES, "Container", "a container", at(CONTAINER)),
        section(KUBERNETES, "ContainerPort", "an entry of ports", inside("ports", true, port)),
        section(KUBERNETES, "VolumeMount", "an entry of volumeMounts", inside("volumeMounts", true, mount)),
        section(KUBERNETES, "Probe", "a probe", inside("readinessProbe", false, probe)),
        section(
            KUBERNETES,
            "Lifecycle",
            "lifecycle",
            inside("lifecycle", false, |word| json!({word: kubernetes_value(word)})),
        ),
        section(KUBERNETES, "PodSecurityContext", "securityContext of a Pod", |word| {
            let mut file = workload("Deployment");
            file["spec"]["template"]["spec"]["securityContext"] = json!({word: kubernetes_value(word)});
            told(read(&file), &[word.to_owned()])
        }),
        section(KUBERNETES, "SecurityContext", "securityContext of a container", |word| {
            let mut file = workload("Deployment");
            file["spec"]["template"]["spec"]["containers"][0]["securityContext"] =
                json!({word: kubernetes_value(word)});
            told(read(&file), &[word.to_owned()])
        }),
    ]
}

/// The sections as a page: words of one fate and one reason together.
fn page() -> String {
    let mut page = String::from(
        "# Every setting\n\n\
         What `appm import` makes of each setting that the other program knows: carried over, approximated, or dropped. A test writes this page from what \
         the importers say of an example of each (`src/exchange/tests/reference.rs`), so another value of a setting may have another fate. \
         What it becomes here: [import.md](import.md).\n",
    );
    let all = [
        ("systemd", of_systemd()),
        ("Supervisor", of_supervisor()),
        ("PM2", of_pm2()),
        ("Compose", of_compose()),
        ("Kubernetes", of_kubernetes()),
    ];
    for (program, sections) in all {
        let _ = write!(page, "\n## {program}\n");
        for Section { title, told } in sections {
            let mut rows: BTreeMap<(Fate, String), Vec<&str>> = BTreeMap::new();
            for (word, told) in told {
                // Of several the worst counts.
                let (fate, remark) = told.into_iter().max_by_key(|(fate, _)| *fate).expect("at least one");
                rows.entry((fate, remark)).or_default().push(word);
            }
            let _ = write!(page, "\n### {title}\n\n| | settings | |\n|---|---|---|\n");
            for ((fate, remark), words) in rows {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                let _ = writeln!(page, "| {fate} | {} | {} |", words.join(", "), remark.replace('|', "\\|"));
            }
        }
    }
    page
}

#[test]
fn every_setting_of_every_reference_has_a_fate_with_a_reason_of_its_own() {
    let page = page();
    let faults: Vec<&str> = page.lines().filter(|line| line.contains(FAULT)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/import-settings.md");
    if option_env!("APPM_WRITE_DOCS").is_some() {
        fs::write(&file, &page).expect("written");
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(there == page, "docs/import-settings.md says something else: run this test with APPM_WRITE_DOCS=1");
}
