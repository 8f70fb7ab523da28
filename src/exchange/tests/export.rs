//! What is written for other programs, and read again.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::files;
use crate::exchange::{
    export::{self, File},
    import::{
        compose as from_compose, kubernetes as from_kubernetes, procfile as from_procfile, systemd as from_systemd,
    },
    report::{Fate, Report},
};

fn app(spec: Value) -> Value {
    json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web"}, "spec": spec})
}

fn text<'a>(report: &'a Report<File>, name: &str) -> &'a str {
    &report
        .parts
        .iter()
        .find(|part| part.made.name == name)
        .unwrap_or_else(|| panic!("{name} of {report:#?}"))
        .made
        .text
}

/// The App that the units say, when they are read again.
fn through_systemd(object: &Value) -> Value {
    let report = export::systemd::write(std::slice::from_ref(object));
    let all: Vec<(String, String)> =
        report.parts.iter().map(|part| (format!("/u/{}", part.made.name), part.made.text.clone())).collect();
    let all: Vec<(&str, &str)> = all.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let read =
        from_systemd::read(&[PathBuf::from("/u")], &[], &files(&all)).unwrap_or_else(|e| panic!("{e:?} of {all:?}"));
    read.parts[0].made["spec"].clone()
}

#[test]
fn a_process_is_a_unit_and_what_cannot_be_said_there_is_told() {
    let object = app(json!({
        "replicas": 2,
        "process": {"command": ["/bin/serve", "--on", "$(PORT)", "100% \"sure\"", "$$(x)", "$HOME"], "user": "www", "rlimits": {"nofile": "10:unlimited"}},
        "env": [{"name": "A", "value": "two words"}, {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "ports": [{"name": "http", "containerPort": 8080}],
        "restart": {"backoff": {"initial": "2s", "max": "2s"}, "exitCodes": {"75": "Stop"}},
        "readinessProbe": {"httpGet": {"port": "http"}},
        "resources": {"limits": {"memory": "1Gi", "cpu": "1500m"}},
        "sharing": {"group": "Read"},
    }));
    let report = export::systemd::write(&[object]);
    let unit = text(&report, "web@.service");
    assert!(unit.contains(r#"ExecStart=/bin/serve --on ${PORT} "100%% \"sure\"" "$$(x)" $$HOME"#), "{unit}");
    for line in
        ["User=www", "LimitNOFILE=10:infinity", "Environment=PORT=8080", "MemoryMax=1073741824", "CPUQuota=150%"]
    {
        assert!(unit.lines().any(|other| other == line), "{line} in {unit}");
    }
    assert!(text(&report, "web.target").contains("Wants=web@1.service"));
    let dropped: Vec<&str> = report.all().filter(|n| n.fate == Fate::Dropped).map(|n| n.setting.as_str()).collect();
    assert_eq!(dropped, ["env.S", "readinessProbe", "sharing"]);
}

#[test]
fn containers_are_services_deployments_and_quadlets() {
    let object = app(json!({
        "container": {
            "image": "nginx:1", "args": ["-g", "daemon $X; $(A)"], "user": "10:20",
            "mounts": [{"source": "data", "target": "/data"}, {"source": "/etc/x", "target": "/x", "readOnly": true}],
        },
        "env": [{"name": "A", "value": "1"}],
        "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080}],
        "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 5},
        "terminationGracePeriodSeconds": 7,
    }));
    let all = [object];
    let compose = export::compose::write(&all);
    let asked = from_compose::Asked { dir: "/p".into(), ..Default::default() };
    let read = from_compose::read(&["/p/c".into()], &asked, &files(&[("/p/c", text(&compose, "compose.yaml"))]))
        .expect("good");
    let spec = &read.parts[0].made["spec"];
    assert_eq!(spec["container"]["args"], json!(["-g", "daemon $X; 1"]));
    assert_eq!(spec["container"]["mounts"], all[0]["spec"]["container"]["mounts"]);
    assert_eq!((&spec["terminationGracePeriodSeconds"], &spec["ports"][0]["hostPort"]), (&json!(7), &json!(8080)));
    let kubernetes = export::kubernetes::write(&all);
    let read =
        from_kubernetes::read(&["/k".into()], &files(&[("/k", text(&kubernetes, "app-web.yaml"))])).expect("good");
    let spec = &read.parts[0].made["spec"];
    assert_eq!(spec["container"]["args"], all[0]["spec"]["container"]["args"]);
    assert_eq!(
        (&spec["container"]["user"], &spec["readinessProbe"]),
        (&json!("10:20"), &all[0]["spec"]["readinessProbe"])
    );
    let quadlet = export::quadlet::write(&all);
    let unit = text(&quadlet, "web.container");
    for line in [
        "Image=nginx:1",
        "Exec=-g \"daemon $$X; 1\"",
        "PublishPort=127.0.0.1:8080:80",
        "Volume=/etc/x:/x:ro",
        "HealthCmd=true",
    ] {
        assert!(unit.lines().any(|other| other == line), "{line} in {unit}");
    }
    assert_eq!(export::procfile::write(&all).count(Fate::Dropped), 1, "a container has no line in a Procfile");
}

#[test]
fn a_schedule_is_a_timer_and_a_cron_job() {
    let spec = json!({
        "cron": "30 2 * * 1-5", "timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid",
        "run": {"process": {"command": ["/bin/date"]}},
    });
    let object = json!({"apiVersion": "appm.dev/v1", "kind": "Schedule", "metadata": {"name": "web"}, "spec": spec});
    assert_eq!(through_systemd(&object), spec);
}

#[test]
fn a_script_of_many_lines_is_a_line_that_says_the_same() {
    let script = "if true; then\n  printf 'a\\tb %s' \"$1\"\nfi\n";
    let object = app(json!({"process": {"script": script, "args": ["it's"]}}));
    let written = export::procfile::write(&[object]);
    let line = text(&written, "Procfile").trim_start_matches("web: ").trim_end().to_owned();
    let said = std::process::Command::new("sh").args(["-c", &line]).output().expect("there is a shell");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "a\tb it's", "{line}");
    // An interpreter that takes no script as an argument gets a file, which is gone again.
    let odd =
        app(json!({"process": {"script": "#!/usr/bin/awk -f\nBEGIN { print ARGV[1], \"$(x)\" }\n", "args": ["it's"]}}));
    let written = export::procfile::write(std::slice::from_ref(&odd));
    let line = text(&written, "Procfile").trim_start_matches("web: ").trim_end().to_owned();
    let said = std::process::Command::new("sh").args(["-c", &line]).output().expect("there is a shell");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "it's $(x)\n", "{line}: {said:?}");
    let unit = export::systemd::write(&[odd]);
    assert!(text(&unit, "web.service").contains("ExecStart=/bin/sh -ec "), "{unit:?}");
}

/// Words as people and generators write them.
fn a_word() -> impl Strategy<Value = String> {
    "[ -~]{1,12}|[a-z/-]{1,9}|ü\n\t".prop_map(|word| word.replace("$(", "$"))
}

#[test]
fn where_nothing_can_be_said_no_file_is_written() {
    let process = [app(json!({"process": {"command": ["sleep", "1"]}}))];
    let contained = [app(json!({"container": {"image": "x"}}))];
    for (report, form) in [
        (export::compose::write(&process), "compose"),
        (export::quadlet::write(&process), "quadlet"),
        (export::kubernetes::write(&process), "kubernetes"),
        (export::systemd::write(&contained), "systemd"),
    ] {
        assert!(report.parts.iter().all(|part| part.made.text.is_empty()), "{form}: {report:?}");
        assert_eq!(report.count(Fate::Dropped), 1, "{form}");
    }
}

proptest! {
    #[test]
    fn what_was_a_unit_is_the_same_app_again(
        words in proptest::collection::vec(a_word(), 0..4), value in a_word(), nice in -20..20i32, grace in 0..1000i64,
        policy in 0..3usize, memory in 20..9999u32,
    ) {
        let words: Vec<String> = std::iter::once("/bin/x".to_owned()).chain(words.iter().map(|w| w.replace("$$", "$"))).collect();
        let mut spec = json!({
            "process": {"command": words, "nice": nice, "user": "www", "umask": "027"},
            "env": [{"name": "A", "value": value.replace("$$", "$")}],
            "terminationGracePeriodSeconds": grace, "stopSignal": "SIGINT",
            "resources": {"limits": {"memory": format!("{}", u64::from(memory) << 20), "pids": "7"}},
        });
        if let Some(policy) = [None, Some("OnFailure"), Some("Never")][policy] {
            spec["restartPolicy"] = json!(policy);
        }
        let again = through_systemd(&app(spec.clone()));
        for (field, value) in spec.as_object().expect("a mapping") {
            prop_assert_eq!(&again[field], value, "{}", field);
        }
    }

    #[test]
    fn what_was_a_procfile_is_one_again(words in proptest::collection::vec("[a-z0-9 '\"|$;*-]{1,9}", 1..4), value in "[ -~]{0,12}") {
        let line = shlex::try_join(words.iter().map(String::as_str)).expect("no NUL");
        let asked = from_procfile::Asked { dir: "/p".into(), ..Default::default() };
        let env = format!("A=\"{}\"\n", value.replace('\\', "\\\\").replace('"', "\\\""));
        let read = |text: &str, env: &str| from_procfile::read(Path::new("/p/P"), &asked, &files(&[("/p/P", text), ("/p/.env", env)]));
        let Ok(first) = read(&format!("web: {line}\n"), &env) else { return Ok(()) };
        let objects: Vec<Value> = first.parts.iter().map(|part| part.made.clone()).collect();
        let written = export::procfile::write(&objects);
        let again = read(text(&written, "Procfile"), text(&written, ".env")).expect("good");
        prop_assert_eq!(&again.parts[0].made, &objects[0]);
    }
}
