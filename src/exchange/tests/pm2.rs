//! Ecosystem files of PM2.

use std::path::Path;

use serde_json::{Value, json};

use super::{assert_valid, files, made, refusals, with_fate};
use crate::exchange::{
    import::pm2::{self, Asked},
    report::{Fate, Outcome},
};

fn read(text: &str, environment: Option<&str>) -> Outcome<Value> {
    let asked = Asked { environment: environment.map(str::to_owned), dir: "/p".into() };
    pm2::read(Path::new("/p/e.json"), &asked, &files(&[("/p/e.json", text)]))
}

#[test]
fn apps_become_apps() {
    let text = r#"{"apps": [
  {"name": "API", "script": "dist/api.js", "node_args": "--max-old-space-size=200", "args": ["--port", "80$(x)"], "instances": 2,
   "exec_mode": "cluster", "env": {"A": "1", "N": 3}, "env_production": {"A": "2"}, "max_memory_restart": "300M",
   "kill_timeout": 1600, "cwd": "sub/..", "autorestart": false, "stop_exit_codes": [0, 3], "min_uptime": "10s", "watch": true},
  {"script": "./worker.py", "args": "-v 'a b'", "instances": "max", "deploying": 1}
], "deploy": {}}"#;
    let report = read(text, Some("production")).expect("good");
    assert_valid(&report);
    assert_eq!(
        made(&report, "api")["spec"],
        json!({
            "process": {
                "command": ["node", "--max-old-space-size=200", "dist/api.js", "--port", "80$$(x)"], "workingDir": "/p",
            },
            "stopSignal": "SIGINT",
            "replicas": 2,
            "env": [{"name": "A", "value": "2"}, {"name": "N", "value": "3"}],
            "resources": {"limits": {"memory": "300Mi"}},
            "terminationGracePeriodSeconds": 2,
            "restartPolicy": "Never",
            "restart": {"exitCodes": {"0": "Stop", "3": "Stop"}, "backoff": {"resetAfter": "10s"}},
        })
    );
    assert_eq!(made(&report, "worker")["spec"]["process"]["command"], json!(["python3", "./worker.py", "-v", "a b"]));
    assert_eq!(with_fate(&report, Fate::Dropped), ["/p/e.json:6 deploy", "/p/e.json:4 watch", "/p/e.json:5 deploying"]);
}

#[test]
fn what_cannot_be_read_is_told_with_its_line() {
    assert_eq!(refusals(read("{}", None)), ["/p/e.json:1: there are no `apps` in it"]);
    assert_eq!(
        refusals(read("[{\"name\": \"a\"},\n{\"script\": \"x\", \"args\": \"'\",\n\"max_restarts\": \"many\"}]", None)),
        [
            "/p/e.json:1: an app has a `script`",
            "/p/e.json:2: a quote of `'` is not closed",
            "/p/e.json:3: `max_restarts` of `x`: no number",
        ]
    );
}
