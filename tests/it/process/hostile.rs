//! What whoever writes an App or tries a login puts into texts, in the hope that somebody takes it for more than text.

use std::fs;

use serde_json::json;

use super::{app, apply, printed};
use crate::harness::{World, wait_for};

/// What a shell, a template, a formatter or a client would make something of.
const TEXTS: [&str; 16] = [
    "$(touch owned)",
    "`touch owned`",
    "; touch owned",
    "| touch owned",
    "&& touch owned",
    "\ntouch owned\n",
    "' ; touch owned ; '",
    "\" ; touch owned ; \"",
    "@/etc/hostname",
    "file:///etc/hostname",
    "$(cat /etc/hostname)",
    "${{ env.HOME }}",
    "{{ .Env.HOME }}",
    "%s%n%x",
    "~ * ? [a-z]",
    "--version",
];

#[test]
fn what_stands_in_a_field_is_no_command_no_file_and_no_template() {
    let mut world = World::new();
    // What would have a program do something, if it came from the server's own environment.
    for name in ["NODE_OPTIONS", "BASH_ENV", "ENV", "PYTHONSTARTUP", "PERL5OPT", "RUBYOPT", "GIT_SSH_COMMAND", "IFS"] {
        world.set_env(name, "server's own");
    }
    world.start();
    let texts = TEXTS.iter().enumerate().map(|(at, text)| json!({"name": format!("T{at}"), "value": text}));
    let env: Vec<_> = texts.chain([json!({"name": "PROOF_ROOT", "value": world.root()})]).collect();
    let script = r#"printf '<%s>' "$@"; i=0; while [ $i -lt 16 ]; do printenv T$i; i=$((i+1)); done; env; echo end; exec sleep 1000"#;
    let command: Vec<&str> = ["/bin/sh", "-c", script, "sh"].into_iter().chain(TEXTS).collect();
    let mut web = app("web", "", json!({"env": env}));
    web["spec"]["process"] = json!({ "command": command });
    let notes = TEXTS.iter().enumerate().map(|(at, text)| (format!("example.com/t{at}"), json!(text)));
    web["metadata"]["annotations"] = notes.collect::<serde_json::Map<_, _>>().into();
    apply(&world, &web);
    let said = printed(&world, "web", "end\n");
    let arguments: String = TEXTS.iter().map(|text| format!("<{text}>")).collect();
    let variables: String = TEXTS.iter().map(|text| format!("{text}\n")).collect();
    assert!(said.starts_with(&(arguments + &variables)), "{said}");
    assert!(!said.contains("server's own"), "{said}");
    for args in [&["describe", "web"][..], &["get", "apps", "-o", "wide"], &["get", "apps", "-o", "yaml"]] {
        assert!(world.command(args).status.success(), "{args:?}");
    }
    let works = fs::read_dir(world.data().join("instances")).unwrap().map(|entry| entry.unwrap().path().join("work"));
    for dir in works.chain([world.root().to_owned(), world.data(), env!("CARGO_MANIFEST_DIR").into(), "/".into()]) {
        assert!(!dir.join("owned").exists(), "{}", dir.display());
    }
}

#[test]
fn nobody_writes_to_the_terminal_of_whoever_reads_names_events_and_the_audit_log() {
    let mut world = World::new();
    world.start();
    let bad = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\u{8}\u{202e}x";
    let login = json!({"username": bad, "password": "correct horse"}).to_string();
    let refused = world.api().ask("POST", "/auth/v1/login", "application/json", login.as_bytes()).unwrap();
    assert_eq!(refused.code, 401, "{}", String::from_utf8_lossy(&refused.body));
    let long = json!({"username": "x".repeat(900), "password": "correct horse"}).to_string();
    world.api().ask("POST", "/auth/v1/login", "application/json", long.as_bytes()).unwrap();
    let mut web = app("web", "exec sleep 1000", json!({}));
    web["metadata"]["annotations"] = json!({"kubernetes.io/change-cause": bad, "example.com/note": bad});
    apply(&world, &web);
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"}, "type": "Warning",
        "involvedObject": {"apiVersion": "appm.dev/v1", "kind": "App", "namespace": "default", "name": "web"},
        "reason": "Owned", "message": bad, "source": {"component": bad},
    });
    let path = "/api/v1/namespaces/default/events";
    let made = world.api().ask("POST", path, "application/json", event.to_string().as_bytes()).unwrap();
    assert!(made.is_ok(), "{}", String::from_utf8_lossy(&made.body));
    let audit = wait_for("both logins in the log", || {
        let output = world.command(&["audit", "--denied", "-o", "wide"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.matches("denied 401").count() == 2 { Ok(said) } else { Err(said) }
    });
    assert!(
        audit.contains("owned") && audit.contains(&"x".repeat(253)) && !audit.contains(&"x".repeat(254)),
        "{audit}"
    );
    let mut shown = vec![audit.into_bytes()];
    for args in [
        &["describe", "app", "web"][..],
        &["get", "events"],
        &["get", "events", "-o", "wide"],
        &["get", "apps"],
        &["rollout", "history", "web"],
        &["audit"],
    ] {
        let output = world.command(args);
        shown.push([output.stdout, output.stderr].concat());
    }
    for text in shown {
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    let log = world.stderr();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{7}'), "{log:?}");
}
