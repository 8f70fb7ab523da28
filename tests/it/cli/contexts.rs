//! Several servers in one kubeconfig, each believed for a reason.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use appm::{clock::System, store::Limits};

use super::*;
use crate::api::app;

/// A server, the address that others know it by, its fingerprint as its owner sees it, and a token.
async fn server() -> (Api, String, String, String) {
    let api = Api::start().await;
    let address = format!("https://{}", api.server.address);
    let shown = appm(&api, "context show local -o json").await.json();
    let fingerprint = shown["authorities"][0]["fingerprint"].as_str().unwrap().to_owned();
    let config = std::fs::read_to_string(api.dir.path().join("kubeconfig")).unwrap();
    let token = config.lines().find_map(|l| l.trim().strip_prefix("token: ")).unwrap().to_owned();
    (api, address, fingerprint, token)
}

#[tokio::test]
async fn a_server_is_believed_by_its_fingerprint_and_then_meant_until_another_is() {
    let (api, address, fingerprint, token) = server().await;
    api.post("/apis/appm.dev/v1/namespaces/default/apps", &app("there")).await.expect(201);
    let home = tempfile::tempdir().unwrap();
    let appm = async |line: &str, stdin: &str| at_home(home.path(), &words_of(line), stdin).await;

    let unknown = appm(&format!("context add prod --server {address}"), "").await.fails(2);
    assert!(unknown.contains(&fingerprint) && unknown.contains("--ca-fingerprint"), "{unknown}");
    let other =
        format!("context add prod --server {address} --token-file - --ca-fingerprint sha256:{}", "0".repeat(64));
    let refused = appm(&other, &token).await.fails(6);
    assert!(refused.contains("another authority"), "{refused}");
    assert!(!home.path().join(".kube/config").exists());

    let add = format!("context add prod --server {address} --token-file - --ca-fingerprint {fingerprint}");
    appm(&add, &token).await.ok();
    let file = home.path().join(".kube/config");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(appm("get apps --context prod", "").await.ok().contains("there"));
    appm("get apps", "").await.fails(5);

    appm("context use prod", "").await.ok();
    assert!(appm("get apps", "").await.ok().contains("there"));
    assert_eq!(appm("context current", "").await.ok(), "prod\n");
    let shown = appm("context show", "").await.ok();
    assert!(shown.contains(&fingerprint) && shown.contains("token") && !shown.contains(&token), "{shown}");
    assert!(appm("context refresh", "").await.ok().contains("already"));
    // What is about this machine does not go there.
    appm("server stop", "").await.fails(5);

    appm("context rename prod far", "").await.ok();
    assert!(appm("get apps", "").await.ok().contains("there"));
    let list = appm("context list -o json", "").await.json();
    let names: Vec<_> =
        list.as_array().unwrap().iter().map(|c| (c["name"].as_str().unwrap(), c["current"] == true)).collect();
    assert_eq!(names, [("local", false), ("far", true)]);
    appm("context use local", "").await.ok();
    appm("get apps", "").await.fails(5);
    assert!(appm("context use prod", "").await.fails(3).contains("no context `prod`"));
    appm("context remove far", "").await.ok();
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&token));
    api.server.stop().await;
}

#[tokio::test]
async fn the_current_context_of_kubectl_is_not_taken_for_ours() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".kube")).unwrap();
    let kubernetes = "\
current-context: cluster
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: eA==}}]
contexts: [{name: cluster, context: {cluster: c, user: u}}]
";
    std::fs::write(home.path().join(".kube/config"), kubernetes).unwrap();
    let said = at_home(home.path(), &["get", "apps"], "").await.fails(5);
    assert!(said.contains("appm.sock"), "{said}");
    at_home(home.path(), &["context", "use", "cluster"], "").await.fails(2);
    assert_eq!(at_home(home.path(), &["context", "current"], "").await.ok(), "local\n");
}

#[tokio::test]
async fn a_server_with_a_certificate_of_another_authority_is_met_by_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let api = Api::configured(Limits::default(), Arc::new(System), |config| {
        config.tls.brought = Some((certificate.clone(), key.clone()));
    })
    .await;
    let address = format!("https://{}", api.server.address);
    let shown = appm(&api, "context show local -o json").await.json();
    let fingerprint = shown["authorities"][0]["fingerprint"].as_str().unwrap().to_owned();
    let words = ["context", "add", "a", "--server", &address];
    at_home(dir.path(), &[&words[..], &["--ca-fingerprint", &fingerprint]].concat(), "").await.ok();
    assert!(at_home(dir.path(), &words_of("version --context a"), "").await.ok().contains("server"));
    // Or by the other one.
    let by_file = [&words[..], &["--ca-file", certificate.to_str().unwrap()]].concat();
    at_home(dir.path(), &by_file, "").await.ok();
    assert!(at_home(dir.path(), &words_of("version --context a"), "").await.ok().contains("server"));
    api.server.stop().await;
}
