//! The prober on a simulated machine and a clock that a test moves, and questions to real sockets.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    agent::Drivers,
    api::{Instance, IntOrString, Object},
    clock::{Clock, SharedClock, Virtual},
    drivers::{
        LogLimits, Notify, Program, Start,
        sim::{Faults, Machine},
    },
};

fn place(key: &StartKey, spec: &Value) -> Place {
    let mut all = json!({"nodeName": "host-a", "revision": "web-1", "process": {"command": ["a"]}});
    spec.as_object().into_iter().flatten().for_each(|(field, value)| all[field] = value.clone());
    let object = json!({"metadata": {"name": "web-1-0", "namespace": "default", "uid": key.uid}, "spec": all});
    let instance: Object<Instance> = serde_json::from_value(object).expect("valid");
    Place { instance: Arc::new(instance), key: key.clone(), own: None, address: "127.0.0.1".to_owned() }
}

fn key(uid: &str) -> StartKey {
    StartKey { uid: uid.into(), attempt: 1 }
}

/// A machine on which instances run, and what the prober says of them.
struct World {
    clock: Virtual,
    machine: Machine,
    driver: SharedDriver,
    probing: Probing,
}

impl World {
    fn new() -> Self {
        let clock = Virtual::new("2026-11-21T08:00:00Z".parse().expect("a time"), 7);
        let shared: SharedClock = Arc::new(clock.clone());
        let machine = Machine::new(shared.clone(), Faults::default());
        let driver = machine.driver();
        let drivers = Drivers { process: driver.clone(), container: driver.clone() };
        let probing = Probing::start(drivers, shared);
        Self { clock, machine, driver, probing }
    }

    async fn run(&self, uid: &str, spec: Value) {
        let key = key(uid);
        let start = Start {
            key: key.clone(),
            env: Vec::new(),
            secrets: Vec::new(),
            logs: LogLimits { max_size: 1, max_files: 1, redact: false },
            limits: Default::default(),
            notify: Some(Notify::default()),
            step: None,
            program: Program::Process(Box::default()),
        };
        self.driver.start(start).await.expect("it starts");
        self.watch(uid, spec);
    }

    fn heard(&self, uid: &str, said: Notified) {
        self.probing.tell(Command::Heard(key(uid), said));
    }

    fn watch(&self, uid: &str, spec: Value) {
        let place = place(&key(uid), &spec);
        let probes = Probes::of(&place.instance.spec);
        let subject = Subject { place, probes, age: Duration::ZERO, fresh: true, started: false, ready: false };
        self.probing.tell(Command::Watch(Box::new(subject)));
    }

    /// Lets time pass, and answers with what was said meanwhile.
    async fn pass(&mut self, seconds: i64) -> Vec<String> {
        let until = self.clock.now() + SignedDuration::from_secs(seconds);
        let mut said = Vec::new();
        loop {
            for _turn in 0..20 {
                tokio::task::yield_now().await;
            }
            while let Ok(report) = self.probing.reports.try_recv() {
                said.push(match report {
                    Report::Turn { key, turn, .. } => format!("{}: {turn:?}", key.uid),
                    Report::Failed { key, message } => format!("{}: {message}", key.uid),
                    Report::Words { key, words } => format!("{}: says {words}", key.uid),
                });
            }
            let now = self.clock.now();
            if now >= until {
                return said;
            }
            let next = self.clock.next_due().unwrap_or(until).min(until);
            self.clock.advance(next.duration_since(now).max(SignedDuration::from_millis(1)));
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn whoever_asks_for_more_time_is_not_late() {
    let mut world = World::new();
    let probe = json!({"notify": {}, "periodSeconds": 1, "failureThreshold": 2});
    let watchdog = json!({"notify": {"watchdog": "4s"}});
    world.run("a", json!({"startupProbe": probe, "livenessProbe": watchdog})).await;
    world.heard("a", Notified { extended: Some(Duration::from_secs(30)), ..Notified::default() });
    assert_eq!(world.pass(29).await, [""; 0], "its start has time");
    let ready = Notified { ready: true, extended: Some(Duration::from_secs(10)), ..Notified::default() };
    world.machine.notify(&key("a"), Notified { silent: Duration::from_secs(31), extended: None, ..ready.clone() });
    world.heard("a", ready);
    assert_eq!(world.pass(9).await, ["a: Started"], "so has its watchdog");
    let dead = world.pass(3).await;
    assert!(dead.last().is_some_and(|last| last == "a: Dead(Liveness)"), "{dead:?}");

    world.run("b", json!({"startupProbe": probe})).await;
    world.heard("b", Notified { extended: Some(Duration::from_secs(5)), ..Notified::default() });
    assert_eq!(world.pass(4).await, [""; 0]);
    let dead = world.pass(5).await;
    assert_eq!(dead.last().map(String::as_str), Some("b: Dead(Startup)"), "{dead:?}");
}

fn exec(period: i32, failures: i32) -> Value {
    json!({"exec": {"command": ["ask"]}, "periodSeconds": period, "failureThreshold": failures})
}

#[tokio::test(flavor = "current_thread")]
async fn an_instance_is_ready_when_it_is_and_not_a_period_later() {
    let mut world = World::new();
    world.machine.set_well(&"a".into(), false);
    world.run("a", json!({"readinessProbe": exec(3600, 3)})).await;
    assert_eq!(world.pass(2).await, ["a: Readiness probe failed: exit code 1"], "eager questions are not told of");
    world.machine.set_well(&"a".into(), true);
    assert_eq!(world.pass(4).await, ["a: Ready"]);
    world.machine.set_well(&"a".into(), false);
    assert_eq!(world.pass(3000).await, [""; 0], "and then once a period");
    let said = world.pass(3 * 3700).await;
    assert_eq!(said.last().expect("something is said"), "a: Unready");
    assert_eq!(said.len(), 4, "{said:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn the_startup_probe_gates_the_others_and_has_as_long_as_it_was_given() {
    let mut world = World::new();
    for uid in ["late", "never"] {
        world.machine.set_well(&uid.into(), false);
        let probes = json!({"startupProbe": exec(10, 6), "readinessProbe": exec(10, 1), "livenessProbe": exec(10, 1)});
        world.run(uid, probes).await;
    }
    let said = world.pass(49).await;
    assert!(said.iter().all(|said| said.contains("Startup probe failed")), "{said:?}");
    world.machine.set_well(&"late".into(), true);
    let said = world.pass(20).await;
    let of = |uid: &str| said.iter().filter(|said| said.starts_with(uid)).cloned().collect::<Vec<_>>();
    assert_eq!(of("late"), ["late: Started", "late: Ready"]);
    assert_eq!(of("never"), ["never: Startup probe failed: exit code 1", "never: Dead(Startup)"]);
}

#[tokio::test(flavor = "current_thread")]
async fn what_nobody_could_ask_about_counts_for_nothing() {
    let mut world = World::new();
    world.run("a", json!({"readinessProbe": exec(1, 1), "livenessProbe": exec(1, 1)})).await;
    assert_eq!(world.pass(3).await, ["a: Ready"]);
    world.machine.set_faults(Faults { unreachable: 255, ..Faults::default() });
    world.machine.set_well(&"a".into(), false);
    let said = world.pass(20).await;
    world.machine.set_faults(Faults::default());
    let after = world.pass(3).await;
    assert!(said.iter().chain(&after).any(|said| said == "a: Dead(Liveness)"), "{said:?} {after:?}");
    assert!(said.len() <= 2, "the driver let one in 256 through, and no more was said: {said:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_said_by_sd_notify_is_believed_at_once() {
    let mut world = World::new();
    let probes = json!({
        "startupProbe": {"notify": {}, "periodSeconds": 10, "failureThreshold": 30},
        "readinessProbe": {"notify": {}},
        "livenessProbe": {"notify": {"watchdog": "30s"}},
    });
    world.run("a", probes).await;
    let say = |world: &World, said: Notified| world.probing.tell(Command::Heard(key("a"), said));
    assert_eq!(world.pass(15).await, ["a: Startup probe failed: it has not said READY=1"]);
    let ready = Notified { ready: true, status: "open".into(), ..Notified::default() };
    world.machine.notify(&key("a"), ready.clone());
    say(&world, ready.clone());
    assert_eq!(world.pass(0).await, ["a: Started", "a: Ready", "a: says open"]);
    // The simulated one has always said WATCHDOG=1 just now.
    assert_eq!(world.pass(100).await, [""; 0]);
    let quiet = Notified { silent: Duration::from_secs(31), ..ready };
    world.machine.notify(&key("a"), quiet);
    let said = world.pass(31).await;
    assert_eq!(said, ["a: Liveness probe failed: it has not said WATCHDOG=1 for 31.0s", "a: Dead(Liveness)"]);
}

#[tokio::test(flavor = "current_thread")]
async fn other_probes_take_effect_and_the_forgotten_are_not_asked() {
    let mut world = World::new();
    world.machine.set_well(&"a".into(), false);
    world.run("a", json!({"readinessProbe": exec(10, 1)})).await;
    assert_eq!(world.pass(0).await, ["a: Readiness probe failed: exit code 1", "a: Unready"]);
    world.watch("a", json!({"readinessProbe": exec(10, 1), "livenessProbe": exec(5, 2)}));
    let said = world.pass(9).await;
    assert_eq!(said.last().map(String::as_str), Some("a: Dead(Liveness)"), "{said:?}");
    world.run("b", json!({"readinessProbe": exec(10, 1)})).await;
    assert_eq!(world.pass(0).await, ["b: Ready"]);
    world.probing.tell(Command::Forget("b".into()));
    world.machine.set_well(&"b".into(), false);
    assert_eq!(world.pass(100).await, [""; 0]);
}

/// A server that gives each request the next answer, and hands over what it was asked.
async fn server(answers: Vec<String>) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut bytes = vec![0; 4096];
            let length = stream.read(&mut bytes).await.expect("a request");
            asked.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
            // A probe that has read enough hangs up.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        asked
    });
    (port, asked)
}

async fn get(port: u16, more: Value) -> Answer {
    let mut action = json!({"port": "web", "path": "/health"});
    more.as_object().into_iter().flatten().for_each(|(field, value)| action[field] = value.clone());
    let place = place(&key("a"), &json!({"ports": [{"name": "web", "containerPort": port}]}));
    let machine = Machine::new(Arc::new(Virtual::new(jiff::Timestamp::UNIX_EPOCH, 1)), Faults::default());
    ask::http(&*machine.driver(), &place, &serde_json::from_value(action).expect("valid")).await
}

fn answer(head: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nok")
}

#[tokio::test]
async fn a_request_is_as_a_kubelets() {
    let (port, asked) = server(vec![answer("204 No Content")]).await;
    let headers = json!({"httpHeaders": [{"name": "Host", "value": "shop.example"}, {"name": "X-A", "value": "b"}]});
    assert_eq!(get(port, headers).await, Answer::Yes);
    let asked = asked.await.expect("it was asked").remove(0);
    let version = env!("CARGO_PKG_VERSION");
    let mut lines: Vec<_> = asked.lines().filter(|line| !line.is_empty()).map(str::to_lowercase).collect();
    assert_eq!(lines.remove(0), "get /health http/1.1");
    lines.sort();
    let agent = format!("user-agent: appm-probe/{version}");
    assert_eq!(lines, ["accept: */*", "connection: close", "host: shop.example", &agent, "x-a: b"]);
}

#[tokio::test]
async fn answers_from_200_to_399_are_a_yes_and_redirects_on_the_host_are_followed() {
    for (codes, yes) in [
        (vec!["200 OK"], true),
        (vec!["399 Odd"], true),
        (vec!["400 Bad Request"], false),
        (vec!["503 Service Unavailable"], false),
        (vec!["302 Found\r\nLocation: /next", "200 OK"], true),
        (vec!["307 Temporary Redirect\r\nLocation: next", "500 Oops"], false),
        (vec!["301 Moved\r\nLocation: http://elsewhere.invalid/"], true),
        (vec!["302 Found\r\nLocation: /loop"; 11], false),
    ] {
        let (port, asked) = server(codes.iter().map(|code| answer(code)).collect()).await;
        assert_eq!(get(port, json!({})).await == Answer::Yes, yes, "{codes:?}");
        assert_eq!(asked.await.expect("it was asked").len(), codes.len());
    }
    let (port, _asked) = server(vec![format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(10 << 20))]).await;
    assert_eq!(get(port, json!({})).await, Answer::Yes, "a large body is not read to its end");
    let (port, _asked) = server(vec!["this is no answer\r\n\r\n".to_owned()]).await;
    assert!(matches!(get(port, json!({})).await, Answer::No(_)));
    let (port, _asked) = server(vec![String::new()]).await;
    assert!(matches!(get(port, json!({"scheme": "HTTPS"})).await, Answer::No(_)));
    drop(TcpListener::bind("127.0.0.1:0").await.map(|free| free.local_addr()));
    let nobody = get(1, json!({})).await;
    assert_eq!(nobody, Answer::No("Get \"http://127.0.0.1:1/health\": connection refused".to_owned()));
}

#[test]
fn a_container_is_asked_where_it_is_published_and_else_at_its_own_address() {
    let ports = json!([{"name": "web", "containerPort": 80, "hostPort": 8080}, {"name": "admin", "containerPort": 81}]);
    let mut place = place(&key("a"), &json!({"process": null, "container": {"image": "x"}, "ports": ports}));
    let at = |place: &Place, host: &str, port: IntOrString| {
        place.target(host, &port).map(|(host, port)| format!("{host}:{port}")).expect("a port")
    };
    let name = |name: &str| IntOrString::String(name.to_owned());
    place.address = "192.0.2.1".to_owned();
    assert_eq!(at(&place, "", name("admin")), "192.0.2.1:81", "on the network of its machine");
    place.own = Some("172.17.0.2".to_owned());
    assert_eq!(at(&place, "", name("web")), "127.0.0.1:8080");
    assert_eq!(at(&place, "", name("admin")), "172.17.0.2:81");
    assert_eq!(at(&place, "", IntOrString::Int(9000)), "172.17.0.2:9000");
    assert_eq!(at(&place, "192.0.2.7", name("web")), "192.0.2.7:8080");
}

#[tokio::test]
async fn a_certificate_of_nobody_will_do() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["nobody.invalid".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = acceptor.accept(stream).await.expect("a handshake");
        assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
        stream.write_all(answer("200 OK").as_bytes()).await.expect("it is taken");
        stream.shutdown().await.expect("it is closed");
    });
    assert_eq!(get(port, json!({"scheme": "HTTPS"})).await, Answer::Yes);
}

#[test]
fn commands_are_expanded_and_ports_found_by_name_and_number() {
    let spec = json!({
        "ports": [{"name": "my-web", "containerPort": 8080, "hostPort": 30080}],
        "env": [{"name": "MODE", "value": "deep"}, {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    });
    let here = place(&key("a"), &spec);
    let words = ["ask", "$(PORT)", "$(PORT_MY_WEB)/$(MODE)", "$(TOKEN)", "$$(PORT)"].map(str::to_owned);
    assert_eq!(here.words(&words), ["ask", "8080", "8080/deep", "$(TOKEN)", "$(PORT)"]);
    let port = |place: &Place, port: Value| {
        place.target("", &serde_json::from_value(port).expect("a port")).map(|(_, port)| port)
    };
    assert_eq!(
        (port(&here, json!("my-web")), port(&here, json!(8080)), port(&here, json!(9))),
        (Ok(8080), Ok(8080), Ok(9))
    );
    assert!(port(&here, json!("admin")).is_err());
    let mut contained = spec;
    (contained["process"], contained["container"]) = (Value::Null, json!({"image": "web"}));
    assert_eq!(port(&place(&key("a"), &contained), json!("my-web")), Ok(30080));
}
