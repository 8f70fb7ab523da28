//! Files of Compose.

use serde_json::{Value, json};

use super::{assert_valid, files, made, refusals, with_fate};
use crate::exchange::{
    import::compose::{self, Asked},
    report::{Fate, Outcome},
};

fn read(text: &str, more: &[(&str, &str)], profiles: &[&str]) -> Outcome<Value> {
    let mut all = vec![("/p/compose.yaml", text)];
    all.extend(more);
    let profiles = profiles.iter().map(ToString::to_string).collect();
    let asked = Asked { dir: "/p".into(), profiles, ..Asked::default() };
    compose::read(&["/p/compose.yaml".into()], &asked, &files(&all))
}

const SHOP: &str = r#"
name: shop
services:
  web:
    image: registry.example/web:${TAG:-1}
    command: serve --port 80 "$$HOME"
    ports: ["127.0.0.1:8080:80", "9000-9001:9000-9001/udp", {target: 81}]
    environment: [A=1, NOBODY]
    env_file: web.env
    volumes: [data:/data, ./conf:/conf:ro, /tmp]
    depends_on:
      db: {condition: service_healthy}
    restart: unless-stopped
    deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 256M}}}
    stop_grace_period: 1m30s
    hostname: x
    labels: {tier: front, com.example/long: "a b"}
  db:
    image: postgres:17
    healthcheck: {test: "pg_isready -U x", interval: 5s, retries: 5}
  debug:
    image: debug
    profiles: [dev]
    extends: {service: db}
    depends_on: [web]
volumes: {data: {}}
"#;

#[test]
fn services_become_apps_with_containers() {
    let report = read(SHOP, &[("/p/.env", "TAG=7\n"), ("/p/web.env", "B='x$y'\n")], &[]).expect("good");
    assert_valid(&report);
    assert_eq!(report.parts.len(), 2, "debug is of a profile");
    assert_eq!(
        made(&report, "web")["spec"],
        json!({
            "container": {
                "image": "registry.example/web:7",
                "args": ["serve", "--port", "80", "$HOME"],
                "mounts": [
                    {"source": "shop_data", "target": "/data"},
                    {"source": "/p/conf", "target": "/conf", "readOnly": true},
                    {"source": "shop_web_tmp", "target": "/tmp"},
                ],
                "network": "shop_default",
            },
            "env": [{"name": "B", "value": "x$y"}, {"name": "A", "value": "1"}],
            "ports": [
                {"name": "p80", "containerPort": 80, "hostPort": 8080},
                {"name": "p9000-udp", "containerPort": 9000, "hostPort": 9000, "protocol": "UDP"},
                {"name": "p9001-udp", "containerPort": 9001, "hostPort": 9001, "protocol": "UDP"},
                {"name": "p81", "containerPort": 81, "hostPort": 0},
            ],
            "dependsOn": [{"app": "db", "condition": "Ready"}],
            "replicas": 2,
            "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}},
            "terminationGracePeriodSeconds": 90,
        })
    );
    assert_eq!(made(&report, "web")["metadata"]["labels"], json!({"tier": "front"}));
    let db = &made(&report, "db")["spec"];
    assert_eq!(
        db["readinessProbe"],
        json!({"exec": {"command": ["/bin/sh", "-c", "pg_isready -U x"]}, "periodSeconds": 5, "timeoutSeconds": 30, "failureThreshold": 5})
    );
    assert_eq!(db["restartPolicy"], "Never", "Compose restarts nothing if nothing is said");
    let dropped = with_fate(&report, Fate::Dropped);
    assert_eq!(
        dropped,
        ["/p/compose.yaml:21 services.debug", "/p/compose.yaml:8 NOBODY", "/p/compose.yaml:16 hostname"],
        "{dropped:?}"
    );
    let debug = read(SHOP, &[("/p/web.env", "")], &["dev"]).expect("good");
    assert_eq!(made(&debug, "debug")["spec"]["readinessProbe"], db["readinessProbe"], "it extends db");
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    let text = "services:\n  a:\n    image: ${NO:?say which}\n";
    assert_eq!(
        refusals(read(text, &[], &[])),
        ["/p/compose.yaml:3: services.a.image: `NO`: say which; set it in `.env` or in a file of `--env-file`"]
    );
    let text = "services:\n  a: {extends: b}\n  b: {extends: a}\n  c: {command: x}\n  d: {image: x, ports: [a], depends_on: [e], restart: never}\n";
    assert_eq!(
        refusals(read(text, &[], &[])),
        [
            "/p/compose.yaml:3: `extends` goes in a circle: a → b → a",
            "/p/compose.yaml:2: `extends` goes in a circle: b → a → b",
            "/p/compose.yaml:4: `c` has neither `image` nor `build`",
            "/p/compose.yaml:5: services.d.ports[0]: no port such as 8080:80, 127.0.0.1:8080:80/udp or 9000-9003",
            "/p/compose.yaml:5: services.d.depends_on: `e` is no service of this file",
            "/p/compose.yaml:5: services.d.restart: `never` is no policy",
        ]
    );
}

#[test]
fn files_include_each_other_and_services_extend_those_of_other_files() {
    let main = r#"
name: shop
include:
  - common/db.yaml
  - {path: [sub/a.yaml, sub/b.yaml], env_file: vars.env}
  - common/db.yaml
services:
  web:
    extends: {file: common/base.yaml, service: middle}
    environment: {A: over, C: "${V-unknown outside}"}
    depends_on: {db: {condition: service_healthy}}
    stop_signal: nothing
"#;
    let more = [
        (
            "/p/common/base.yaml",
            "services:\n  base: {image: busybox, restart: always, env_file: base.env, volumes: ['./data:/data', 'named:/n']}\n  middle:\n    extends: base\n    environment: [A=1, B=2]\n  other: {image: '${NEVER:?asked}'}\n",
        ),
        ("/p/common/base.env", "FROM=file\n"),
        (
            "/p/common/db.yaml",
            "name: else\nservices: {db: {image: 'redis:7', healthcheck: {test: redis-cli ping}}}\nvolumes: {kept: {}}\n",
        ),
        ("/p/sub/a.yaml", "services: {sub: {image: 'sub:${V}', volumes: ['./x:/x']}}\n"),
        ("/p/sub/b.yaml", "services: {sub: {stop_signal: SIGINT, configs: [c]}}\nconfigs: {c: {file: ./c.txt}}\n"),
        ("/p/vars.env", "V=7\n"),
    ];
    let told = refusals(read(main, &more, &[]));
    assert_eq!(told, ["/p/compose.yaml:12: services.web.stop_signal: no signal"]);
    let report = read(&main.replace("nothing", "INT"), &more, &[]).expect("good");
    assert_valid(&report);
    let names: Vec<_> = report.parts.iter().map(|part| part.made["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["web", "db", "sub"]);
    assert_eq!(
        made(&report, "web")["spec"],
        json!({
            "container": {
                "image": "busybox",
                "mounts": [{"source": "/p/common/data", "target": "/data"}, {"source": "shop_named", "target": "/n"}],
                "network": "shop_default",
            },
            "env": [
                {"name": "FROM", "value": "file"}, {"name": "A", "value": "over"}, {"name": "B", "value": "2"},
                {"name": "C", "value": "unknown outside"},
            ],
            "dependsOn": [{"app": "db", "condition": "Ready"}],
            "stopSignal": "SIGINT",
        })
    );
    let sub = &made(&report, "sub")["spec"];
    assert_eq!(
        (&sub["container"]["image"], &sub["container"]["mounts"], &sub["stopSignal"]),
        (
            &json!("sub:7"),
            &json!([{"source": "/p/sub/x", "target": "/x"}, {"source": "/p/sub/c.txt", "target": "/c", "readOnly": true}]),
            &json!("SIGINT"),
        )
    );
    let nearly = with_fate(&report, Fate::Approximated);
    assert!(nearly.contains(&"/p/common/base.yaml:2 volumes".to_owned()), "it is told where it is written: {nearly:?}");
    assert!(nearly.contains(&"/p/common/db.yaml:1 name".to_owned()), "{nearly:?}");
}

#[test]
fn a_file_goes_over_those_before_it() {
    let asked = Asked { dir: "/p".into(), ..Asked::default() };
    let all = files(&[
        ("/p/a.yaml", "services: {web: {image: a, environment: [X=1], volumes: ['./d:/d']}, only: {image: o}}"),
        ("/q/b.yaml", "services: {web: {image: b, environment: {Y: 2}, env_file: y.env}}"),
        ("/p/y.env", "Z=3"),
    ]);
    let report = compose::read(&["/p/a.yaml".into(), "/q/b.yaml".into()], &asked, &all).expect("good");
    assert_eq!(report.parts.len(), 2);
    let web = &made(&report, "web")["spec"];
    assert_eq!(web["container"]["image"], "b");
    assert_eq!(
        web["env"],
        json!([{"name": "Z", "value": "3"}, {"name": "X", "value": "1"}, {"name": "Y", "value": "2"}])
    );
    assert_eq!(web["container"]["mounts"][0]["source"], "/p/d");
}

#[test]
fn what_is_included_is_bounded_and_a_circle_is_told() {
    let told = |text: &str, more: &[(&str, &str)]| refusals(read(text, more, &[])).join("\n");
    for (text, more, wanted) in [
        (
            "include: [a.yaml]",
            &[("/p/a.yaml", "include: compose.yaml")][..],
            "/p/a.yaml:1: `include` goes in a circle: /p/compose.yaml → /p/a.yaml → /p/compose.yaml",
        ),
        (
            "include: [no.yaml, /p/no.yml]",
            &[],
            "/p/no.yaml: cannot be read: there is no such file\n/p/no.yml: cannot be read: there is no such file",
        ),
        ("include: ['https://x/y.git']", &[], "/p/compose.yaml:1: `https://x/y.git` is no file of this machine"),
        ("include: [{pth: a}]", &[], "`include` is a list of paths, or of mappings with `path`"),
        (
            "include: [a.yaml]\nservices: {web: {image: y}}",
            &[("/p/a.yaml", "services: {web: {image: x}}")],
            "/p/compose.yaml:1: `services.web` is in this file and in what it includes, and is not the same",
        ),
        (
            "services: {a: {extends: {file: b.yaml, service: b}}}",
            &[("/p/b.yaml", "services: {b: {extends: {file: compose.yaml, service: a}}}")],
            "`extends` goes in a circle: a → b → a",
        ),
        (
            "services: {a: {extends: {file: b.yaml, service: c}}}",
            &[("/p/b.yaml", "services: {b: {image: x}}")],
            "it extends `c`, which is no service of `/p/b.yaml`",
        ),
    ] {
        let told = told(text, more);
        assert!(told.contains(wanted), "{wanted}\n{told}");
    }
    let deep: Vec<_> = (0..40).map(|n| (format!("/p/{n}.yaml"), format!("include: [{}.yaml]", n + 1))).collect();
    let deep: Vec<_> = deep.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert!(told("include: [0.yaml]", &deep).contains("more than 16 files include each other"));
    // Each names the next one ten times.
    let often = |n: u32| format!("include: [{}]", vec![format!("{}.yaml", n + 1); 10].join(", "));
    let wide: Vec<_> = (0..14).map(|n| (format!("/p/{n}.yaml"), often(n))).collect();
    let wide: Vec<_> = wide.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert!(told("include: [0.yaml]", &wide).contains("more than 200 files are included"));
    let much = format!(
        "services:\n  base: {{image: x, cap_add: {:?}}}\n",
        (0..5000).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    let many: String = (0..1000).map(|n| format!("  s{n}: {{extends: base}}\n")).collect();
    assert!(told(&(much + &many), &[]).contains("there are more than 1048576 values"));
}
