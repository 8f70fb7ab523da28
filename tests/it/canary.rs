//! Secrets that are planted, and everything that appm writes, says and shows searched for them; and the log of who read them.

use std::fs;

use appm::{
    api::kinds,
    client::http::{Endpoint, HttpClient, HttpsEndpoint, Request},
    clock::{Clock, System},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::{World, app, files_with, wait_for};

const CANARY: &str = "canary-4f1c9b7e2d";

/// A secret as it may be written.
fn forms(secret: &str) -> Vec<String> {
    let hex =
        |upper: bool| secret.bytes().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect();
    // Of base64 within other text, what does not depend on its neighbours.
    let within = |pad: usize| {
        let text = BASE64_STANDARD.encode(format!("{}{secret}", "x".repeat(pad)));
        text[4..text.len() - 4].to_owned()
    };
    vec![secret.to_owned(), hex(false), hex(true), within(0), within(1), within(2)]
}

/// appm's own processes neither have any of these in their arguments nor in their environment, nor do they leave a core dump.
fn no_process_shows(world: &World, texts: &[&str]) {
    for role in ["server", "keeper", "logger"] {
        let Some(pid) = world.own_process(role) else { panic!("no {role} runs") };
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!texts.iter().any(|canary| text.contains(canary)), "{role}: {file}");
        }
        // Its memory is nobody's to read but root's: such a process leaves no core.
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0, "{role}");
    }
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
    let mut web = app(&world, "web", 1, "echo \"as it is: $PASSWORD\"; while :; do sleep 0.05; done");
    web["spec"]["logs"] = json!({"redactSecrets": true});
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

    wait_for("what it prints", || {
        let logs = ok(&world, &["logs", "web"]);
        if logs.contains("as it is: ***\n") { Ok(()) } else { Err(logs) }
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

    let forms = forms(CANARY);
    let texts: Vec<&str> = forms.iter().map(String::as_str).collect();
    let seen: Vec<_> = texts.iter().filter(|text| said.contains(**text)).collect();
    assert!(seen.is_empty(), "{seen:?} in {said}");
    no_process_shows(&world, &texts);
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
    // Of a transaction that is refused, the operation that may not be done is named.
    let file = world.data().join("refused.yaml");
    fs::write(&file, "{apiVersion: v1, kind: ConfigMap, metadata: {name: hers}}").unwrap();
    assert!(!world.command(&["apply", "-f", file.to_str().unwrap(), "--as", "stranger"]).status.success());
    assert!(ok(&world, &["audit", "--denied"]).contains("configmaps/hers"));
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

/// A client over TLS, as other people's are.
fn client(world: &World, url: &str, token: Option<&str>) -> HttpClient {
    let (host, port) = url.trim_start_matches("https://").rsplit_once(':').unwrap();
    let ca_pem = fs::read(world.data().join("pki/ca.pem")).unwrap();
    let (host, port, token) = (host.to_owned(), port.parse().unwrap(), token.map(str::to_owned));
    HttpClient::new(Endpoint::Https(HttpsEndpoint { host, port, ca_pem, token, server_name: None, client: None }))
        .unwrap()
}

async fn post(client: &HttpClient, path: &str, body: Value) -> Value {
    client.call(Request::post(path, &body)).await.unwrap_or_else(|e| panic!("{path}: {e}")).json().unwrap()
}

/// What an authenticator app shows for a secret that was typed into it (RFC 6238).
fn code(typed: &str) -> String {
    let bits: String = typed
        .bytes()
        .map(|letter| {
            let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter).unwrap();
            format!("{value:05b}")
        })
        .collect();
    let secret: Vec<u8> = bits
        .as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect();
    let step = u64::try_from(System.now().as_second() / 30).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
    let tag = aws_lc_rs::hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn passwords_tokens_and_second_factors_are_told_once_and_found_nowhere_else() {
    let mut world = World::new();
    world.set_env("APPM_LOG", "debug");
    let url = world.start();
    let (first, second) = ("correct-horse-4f1c9b", "battery-staple-e2d71a");
    let user =
        json!({"metadata": {"name": "ada"}, "spec": {"password": {"plain": first}, "roles": [{"name": "admin"}]}});
    let made =
        world.api().ask("POST", "/apis/appm.dev/v1/users", "application/json", user.to_string().as_bytes()).unwrap();
    assert_eq!(made.code, 201);
    let mut said = String::from_utf8(made.body).unwrap();
    let open = client(&world, &url, None);
    let login = |password: &str, code: &str| json!({"username": "ada", "password": password, "code": code});
    let granted = post(&open, "/auth/v1/login", json!({"username": "ada", "password": first})).await;
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned();
    let ada = client(&world, &url, Some(&text(&granted["accessToken"])));
    let refreshed = post(&open, "/auth/v1/refresh", json!({"refreshToken": granted["refreshToken"]})).await;
    let token = post(&ada, "/auth/v1/tokens", json!({"description": "ci"})).await;
    let factor = post(&ada, "/auth/v1/totp/enroll", json!({})).await;
    let typed = text(&factor["secret"]);
    let codes = post(&ada, "/auth/v1/totp/confirm", json!({"code": code(&typed)})).await;
    let codes: Vec<String> = codes["recoveryCodes"].as_array().unwrap().iter().map(text).collect();
    // Wrong ones, a used one and a change: each may leave a trace.
    let changed = json!({"old": first, "new": second, "code": codes[1]});
    post(&ada, "/auth/v1/password", changed).await;
    for (password, code) in [("wrong-horse-4f1c9b7", ""), (second, codes[0].as_str()), (second, codes[0].as_str())] {
        if let Err(refused) = open.call(Request::post("/auth/v1/login", &login(password, code))).await {
            said += &refused.to_string();
        }
    }

    // What each route shows.
    for served in kinds::served() {
        let root = if served.group().is_empty() { "/api".to_owned() } else { format!("/apis/{}", served.group()) };
        let list =
            world.api().ask("GET", &format!("{root}/{}/{}", served.version(), served.plural()), "", b"").unwrap();
        said += &String::from_utf8_lossy(&list.body);
    }
    for path in ["/metrics", "/openid/v1/jwks", "/sealing", "/version", "/healthz?verbose"] {
        said += &String::from_utf8_lossy(&world.api().ask("GET", path, "", b"").unwrap().body);
    }
    for command in [
        &["audit", "-o", "json", "--tail", "0"][..],
        &["describe", "user", "ada"],
        &["get", "tokens", "-o", "yaml"],
        &["events"],
    ] {
        said += &ok(&world, command);
    }

    // The end of each: what comes before it may be a name.
    let last = |token: &Value| text(token).split_at(text(token).len() - 24).1.to_owned();
    let mut secrets = vec![first.to_owned(), second.to_owned(), "wrong-horse-4f1c9b7".to_owned(), typed];
    secrets.extend(
        [
            &granted["accessToken"],
            &refreshed["accessToken"],
            &granted["refreshToken"],
            &refreshed["refreshToken"],
            &token["token"],
        ]
        .map(last),
    );
    secrets.extend(codes.iter().flat_map(|code| [code.clone(), code.replace('-', ""), code.to_ascii_uppercase()]));
    assert!(secrets.iter().all(|secret| secret.len() >= 16), "{secrets:?}");
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let texts: Vec<&str> = forms.iter().map(String::as_str).collect();
    let seen: Vec<_> = texts.iter().filter(|text| said.contains(**text)).collect();
    assert!(seen.is_empty(), "{seen:?} in {said}");
    let log = world.stderr();
    let seen: Vec<_> = texts.iter().filter(|text| log.contains(**text)).collect();
    assert!(seen.is_empty(), "{seen:?} in {log}");
    no_process_shows(&world, &texts);
    let mut found = Vec::new();
    files_with(&world.data(), &texts, &mut found);
    assert_eq!(found, [""; 0], "files that hold one of them");
}
