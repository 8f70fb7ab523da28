//! Secrets that are planted, and everything that appm writes, says and shows searched for them; and the log of who read them.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use crate::harness::{World, app, files_with, wait_for};

const CANARY: &str = "canary-4f1c9b7e2d";

/// The canary as it may be written.
fn forms() -> Vec<String> {
    let hex =
        |upper: bool| CANARY.bytes().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect();
    // Of base64 within other text, what does not depend on its neighbours.
    let within = |pad: usize| {
        let text = BASE64_STANDARD.encode(format!("{}{CANARY}", "x".repeat(pad)));
        text[4..text.len() - 4].to_owned()
    };
    vec![CANARY.to_owned(), hex(false), hex(true), within(0), within(1), within(2)]
}

fn ok(world: &World, args: &[&str]) -> String {
    let output = world.command(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_secret_is_found_only_where_it_is_declared_and_whoever_read_it_is_in_the_audit_log() {
    let mut world = World::new();
    world.set_env("APPM_LOG", "debug");
    world.start();
    let key = world.data().join("keys/seal.key");
    let first_key = fs::read_to_string(&key).unwrap();
    let literal = format!("--from-literal=password={CANARY}");
    let mut said = ok(&world, &["create", "secret", "generic", "door", &literal]);
    let mut web = app(&world, "web", 1, "while :; do sleep 0.05; done");
    web["spec"]["env"] = json!([
        {"name": "PROOF_ROOT", "value": world.root()},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "door", "key": "password"}}},
    ]);
    let applied = world.api().apply(&web).unwrap();
    assert!(applied.is_ok(), "{}", String::from_utf8_lossy(&applied.body));
    wait_for("the App to run with it", || {
        let running = world.processes().into_iter().any(|process| process.variable("PASSWORD") == Some(CANARY));
        if running { Ok(()) } else { Err("it does not".to_owned()) }
    });

    // A mistake in a Secret, a dry run and a difference say nothing of what is in it.
    let other = BASE64_STANDARD.encode(format!("{CANARY}!"));
    let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "door"}, "data": {"password": other}, "typ": 1});
    let refused = world.api().ask(
        "PUT",
        "/api/v1/namespaces/default/secrets/door?fieldValidation=Strict",
        "application/json",
        body.to_string().as_bytes(),
    );
    said += &String::from_utf8_lossy(&refused.unwrap().body);
    for command in [
        &["get", "secrets"][..],
        &["get", "secrets", "-o", "wide"],
        &["describe", "secret", "door"],
        &["describe", "app", "web"],
        &["get", "apps,instances", "-o", "yaml"],
        &["events"],
        &["logs", "web"],
        &["secrets", "rotate-key", "--data-keys"],
        &["audit"],
        &["audit", "-o", "json", "--tail", "0"],
    ] {
        said += &ok(&world, command);
    }
    let metrics = world.api().ask("GET", "/metrics", "", b"").unwrap();
    said += &String::from_utf8_lossy(&metrics.body);
    assert!(ok(&world, &["get", "secret", "door", "-o", "yaml"]).contains(&BASE64_STANDARD.encode(CANARY)));

    let forms = forms();
    let texts: Vec<&str> = forms.iter().map(String::as_str).collect();
    let seen: Vec<_> = texts.iter().filter(|text| said.contains(**text)).collect();
    assert!(seen.is_empty(), "{seen:?} in {said}");
    for role in ["server", "keeper", "logger"] {
        let Some(pid) = world.own_process(role) else { panic!("no {role} runs") };
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!texts.iter().any(|canary| text.contains(canary)), "{role}: {file}");
        }
    }
    let mut found = Vec::new();
    files_with(&world.data(), &texts, &mut found);
    assert_eq!(found, [""; 0], "files that hold the secret");
    let server_log = world.stderr();
    assert!(!texts.iter().any(|canary| server_log.contains(canary)), "{server_log}");

    // The keys themselves are in their file only, and the old one nowhere.
    wait_for("everything to be sealed anew", || {
        let keys = ok(&world, &["secrets", "keys", "-o", "json"]);
        if keys.contains("\"retired\": 0") { Ok(()) } else { Err(keys) }
    });
    let mut found = Vec::new();
    files_with(&world.data(), &[first_key.trim()], &mut found);
    assert_eq!(found, [""; 0], "files that hold the old key");
    let mut found = Vec::new();
    files_with(&world.data(), &[fs::read_to_string(&key).unwrap().trim()], &mut found);
    assert_eq!(found, [key.display().to_string()]);

    // Who made it, who read it, and who might not: also after a crash of the server.
    let made = ok(&world, &["audit", "--resource", "secrets", "--verb", "create", "-o", "json"]);
    assert!(made.contains("\"user\":\"admin\"") && made.contains("\"revision\":"), "{made}");
    assert!(ok(&world, &["audit", "--resource", "secrets", "--verb", "get"]).contains("secrets/door in default"));
    let before: usize = ok(&world, &["audit", "-o", "json", "--tail", "0"]).lines().count();
    world.kill_server();
    world.start();
    assert!(ok(&world, &["audit", "-o", "json", "--tail", "0"]).lines().count() >= before);
    assert!(ok(&world, &["audit", "verify"]).contains("the log is whole"));
    let log = fs::read_dir(world.data().join("audit")).unwrap().map(|file| file.unwrap().path()).min().unwrap();
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("\"verb\":\"create\"", "\"verb\":\"delete\"", 1)).unwrap();
    let verdict = world.command(&["audit", "verify"]);
    assert!(!verdict.status.success());
    assert!(String::from_utf8_lossy(&verdict.stderr).contains("the record before it was changed"), "{verdict:?}");
}
