//! A git server says that there is something new: signed, it is heard; anybody else learns nothing.

use std::{collections::BTreeSet, fs, sync::Arc, time::Instant};

use aws_lc_rs::hmac;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsConnector, rustls};

use super::{Repository, SOURCES, config, until, until_said};
use crate::{harness::World, manifests::appm};

const TOKEN: &str = "a-long-and-random-token-of-the-fleet";
const BODY: &str = r#"{"ref": "refs/heads/main", "after": "…"}"#;

fn signature(token: &str, body: &str) -> String {
    hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), body.as_bytes()))
}

/// A request over TLS, without credentials: code and body of the answer.
fn told(world: &World, address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n{lines}Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut roots = rustls::RootCertStore::empty();
    let pem = fs::read(world.data().join("pki/ca.pem")).unwrap();
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        // Not every server says goodbye.
        drop(stream.read_to_end(&mut said).await);
        String::from_utf8(said).unwrap()
    });
    let code = said.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    (code, said.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn a_signed_call_lets_a_source_look_and_whoever_cannot_sign_learns_nothing() {
    let mut world = World::new();
    let url = world.start();
    let address = url.rsplit('/').next().unwrap().trim().to_owned();
    let repository = Repository::new(world.root().join("fleet"));
    repository.commit(&[("a.yaml", Some(&config("a", "0")))]);
    let from = format!("file://{}", repository.0.display());
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook"}, "stringData": {"token": TOKEN}});
    fs::write(world.root().join("secret.json"), secret.to_string()).unwrap();
    appm(&world, &["apply", "-f", &world.root().join("secret.json").display().to_string()]);
    let add = |name: &str, webhook: &[&str]| {
        let args = ["source", "add", name, "--git", &from, "--branch", "main", "--interval", "1h"];
        appm(&world, &[&args, webhook].concat());
    };
    add("fleet", &["--webhook-secret", "hook"]);
    add("silent", &["--suspend"]);
    add("poor", &["--suspend", "--webhook-secret", "none"]);
    until_said(&world, "fleet", "Ready", "Applied");
    let hook = |name: &str| format!("{SOURCES}/{name}/webhook");
    let good = signature(TOKEN, BODY);
    let hub = format!("sha256={good}");

    // Who cannot sign is answered as if there was no such Source.
    let (code, nobody) = told(&world, &address, "POST", &hook("nothing"), &[("X-Hub-Signature-256", &hub)]);
    assert_eq!(code, 401, "{nobody}");
    let wrong = format!("sha256={}", signature("another", BODY));
    for (name, headers) in [
        ("fleet", &[][..]),
        ("fleet", &[("X-Hub-Signature-256", wrong.as_str())]),
        ("fleet", &[("X-Hub-Signature-256", hub.as_str()), ("X-Hub-Signature-256", wrong.as_str())]),
        ("fleet", &[("X-Gitlab-Token", "another")]),
        ("fleet", &[("Authorization", "Bearer x")]),
        ("silent", &[("X-Hub-Signature-256", hub.as_str())]),
        ("poor", &[("X-Hub-Signature-256", hub.as_str())]),
    ] {
        assert_eq!(told(&world, &address, "POST", &hook(name), headers), (401, nobody.clone()), "{name} {headers:?}");
    }
    let other = hook("fleet").replace("/default/", "/nowhere/");
    assert_eq!(told(&world, &address, "POST", &other, &[("X-Hub-Signature-256", &hub)]), (401, nobody));
    assert_eq!(told(&world, &address, "GET", &hook("fleet"), &[]).0, 405);

    // As the three servers sign it; the interval would be an hour.
    for (value, header) in [
        ("1", ("X-Hub-Signature-256", hub.as_str())),
        ("2", ("X-Gitea-Signature", good.as_str())),
        ("3", ("X-Gitlab-Token", TOKEN)),
    ] {
        repository.commit(&[("a.yaml", Some(&config("a", value)))]);
        assert_eq!(told(&world, &address, "POST", &hook("fleet"), &[header]).0, 202, "{header:?}");
        until(&world, &[("a", value)]);
    }

    // Said again and again, it is a look a second; and the last word is heard.
    let source = || world.api().get(&format!("{SOURCES}/fleet")).unwrap().unwrap();
    let before = source();
    let begun = Instant::now();
    for i in 0..8 {
        repository.commit(&[("a.yaml", Some(&config("a", &format!("last {i}"))))]);
        let (code, said) = told(&world, &address, "POST", &hook("fleet"), &[("X-Hub-Signature-256", &hub)]);
        assert_eq!(code, 202, "{said}");
    }
    let took = begun.elapsed().as_secs() as usize;
    until(&world, &[("a", "last 7")]);
    let after = source();
    assert_eq!(before["metadata"]["generation"], after["metadata"]["generation"]);
    let since = before["metadata"]["resourceVersion"].as_str().unwrap();
    let watched = format!("{SOURCES}?watch=true&resourceVersion={since}&timeoutSeconds=1");
    let looks: BTreeSet<String> = world
        .api()
        .watch(&watched)
        .unwrap()
        .filter(|event| event["object"]["metadata"]["name"] == "fleet")
        .map(|event| event["object"]["metadata"]["annotations"]["appm.dev/syncRequestedAt"].to_string())
        .collect();
    assert!(looks.len() <= took + 3, "{} looks in {took} s", looks.len());
    // What it was told with stands nowhere.
    let said = format!("{after}{}", world.stderr());
    assert!(!said.contains(TOKEN) && !said.contains(&good), "{said}");
}
