//! Whoever is to be told what becomes of a Source is told, once for each thing that happens, though somebody dies meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{Repository, SOURCES, config, sync, until_said};
use crate::{
    harness::{World, wait_for},
    manifests::appm,
};

const TOKEN: &str = "what-the-receiver-and-we-know";

/// A receiver that takes everything, or nothing.
struct Receiver {
    url: String,
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct State {
    refuses: bool,
    refused: usize,
    taken: Vec<Value>,
}

impl Receiver {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/hook?x=y", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let ours = state.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = ours.clone();
                tokio::spawn(async move {
                    let answer = service_fn(|request| answer(&state, request));
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), answer).await);
                });
            }
        });
        Self { url, state, _runtime: runtime }
    }

    fn refuses(&self, refuses: bool) {
        self.state.lock().unwrap().refuses = refuses;
    }

    /// What was taken since, as `EVENT: REASON`, without what was only sent again.
    fn said(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let mut seen = BTreeMap::new();
        for one in &state.taken {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            let number: u64 = text("id").rsplit('-').next().unwrap().parse().unwrap();
            let before = seen.insert(number, format!("{}: {}", text("event"), text("reason")));
            assert!(before.is_none_or(|before| before == seen[&number]), "{one}");
        }
        seen.into_values().collect()
    }

    fn until(&self, expected: &[&str]) {
        wait_for(&format!("{expected:?}"), || match self.said() {
            said if said == expected => Ok(()),
            said => Err(format!("{said:?}")),
        });
    }
}

async fn answer(
    state: &Mutex<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN.as_bytes());
    let signed = format!("sha256={}", hex::encode(hmac::sign(&key, &body)));
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("POST", "/hook?x=y"));
    let mut state = state.lock().unwrap();
    let good = header("x-appm-signature-256") == signed
        && header("x-appm-delivery") == said["id"]
        && header("x-appm-event") == said["event"];
    let code = if state.refuses || !good { 503 } else { 200 };
    match code {
        200 => state.taken.push(said),
        _ => state.refused += 1,
    }
    Ok(Response::builder().status(code).body(Full::default()).unwrap())
}

#[test]
fn what_becomes_of_a_source_is_told_once_though_the_server_is_killed_before_anybody_listens() {
    let mut world = World::new();
    world.start();
    let (receiver, bad_news) = (Receiver::new(), Receiver::new());
    let repository = Repository::new(world.root().join("fleet"));
    repository.commit(&[("a.yaml", Some(&config("a", "1")))]);
    let write = |world: &World, object: Value| {
        fs::write(world.root().join("object.json"), object.to_string()).unwrap();
        world.command(&["apply", "-f", &world.root().join("object.json").display().to_string()])
    };
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "told"}, "stringData": {"token": TOKEN}});
    assert!(write(&world, secret).status.success());
    let source = |drift: &str| {
        json!({"apiVersion": "appm.dev/v1", "kind": "Source", "metadata": {"name": "fleet"}, "spec": {
            "git": {"url": format!("file://{}", repository.0.display()), "ref": {"branch": "main"}},
            "interval": "1h", "drift": drift, "notifications": [
                {"name": "all", "url": receiver.url, "secretRef": {"name": "told"}},
                {"name": "bad", "url": bad_news.url, "secretRef": {"name": "told"}, "events": ["Failed", "Drifted"]}]}})
    };
    assert!(write(&world, source("Repair")).status.success());
    let mut expected = vec!["Applied: Applied", "Healthy: Applied"];
    receiver.until(&expected);
    // A look that finds nothing new tells nothing.
    for _ in 0..3 {
        sync(&world, "fleet").unwrap();
    }
    // Broken: told to both, once, though nobody takes it for now and the server dies; and what is mended meanwhile is told after it.
    receiver.refuses(true);
    let broken = repository.commit(&[("a.yaml", Some("kind: ["))]);
    sync(&world, "fleet").unwrap_err();
    bad_news.until(&["Failed: InvalidManifest"]);
    wait_for("somebody to be refused", || match receiver.state.lock().unwrap().refused {
        0 => Err("nobody asked".to_owned()),
        _ => Ok(()),
    });
    world.kill_server();
    world.start();
    until_said(&world, "fleet", "Ready", "InvalidManifest");
    repository.commit(&[("a.yaml", Some(&config("a", "2")))]);
    sync(&world, "fleet").unwrap();
    receiver.refuses(false);
    expected.extend(["Failed: InvalidManifest", "Stalled: InvalidManifest", "Applied: Applied", "Healthy: Applied"]);
    receiver.until(&expected);
    let failed = receiver.state.lock().unwrap().taken.iter().find(|one| one["event"] == "Failed").unwrap().clone();
    assert!(failed["message"].as_str().unwrap().contains("a.yaml:1:7"), "{failed}");
    assert_eq!(failed["source"], json!({"namespace": "default", "name": "fleet"}));
    assert!(
        failed["text"].as_str().unwrap().starts_with("source default/fleet: Failed: nothing was applied"),
        "{failed}"
    );
    assert!(!broken.is_empty());
    // A server that begins anew knows what was told.
    world.kill_server();
    world.start();
    until_said(&world, "fleet", "Ready", "Applied");
    assert!(write(&world, source("Report")).status.success());
    appm(&world, &["patch", "configmap", "a", "-p", r#"{"data": {"value": "mine"}}"#]);
    expected.push("Drifted: ChangedByOthers");
    receiver.until(&expected);
    bad_news.until(&["Failed: InvalidManifest", "Drifted: ChangedByOthers"]);
    // Nothing is left to tell, and the token stands nowhere.
    wait_for("nothing to be left", || {
        let source = world.api().get(&format!("{SOURCES}/fleet")).unwrap().unwrap();
        assert!(!source.to_string().contains(TOKEN));
        if source["status"]["notifications"].is_null() { Ok(()) } else { Err(source["status"].to_string()) }
    });
    assert!(!world.stderr().contains(TOKEN));
}

#[test]
fn whom_the_server_asks_from_its_own_place_only_a_host_power_says() {
    let mut world = World::new();
    world.start();
    let user = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "dev"}, "spec": {"roles": [{"name": "edit"}]}});
    let source = json!({"apiVersion": "appm.dev/v1", "kind": "Source", "metadata": {"name": "fleet"}, "spec": {
        "git": {"url": "https://127.0.0.1:1/a.git"},
        "notifications": [{"name": "all", "url": "http://169.254.169.254/latest"}]}});
    for (name, object) in [("user", user), ("source", source)] {
        fs::write(world.root().join(name), object.to_string()).unwrap();
    }
    let path = |name: &str| world.root().join(name).display().to_string();
    appm(&world, &["apply", "-f", &path("user")]);
    let refused = world.command(&["--as", "dev", "apply", "-f", &path("source")]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("spec.notifications[0].url"), "{said}");
    assert!(said.contains("host power `host-network`"), "{said}");
}
