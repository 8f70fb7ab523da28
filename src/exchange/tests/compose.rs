//! Files of Compose.

use std::path::Path;

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
    compose::read(Path::new("/p/compose.yaml"), &asked, &files(&all))
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
