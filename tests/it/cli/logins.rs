//! Logins: a context whose tokens come and go, for appm and for kubectl.

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::*;

const PASSWORD: &str = "correct horse";

/// A server with a user, its address, its fingerprint, and a home with the password in a file.
async fn server() -> (Api, String, tempfile::TempDir) {
    let api = Api::start().await;
    let user = serde_json::json!({"metadata": {"name": "ada"}, "spec": {"password": {"plain": PASSWORD}}});
    api.post("/apis/appm.dev/v1/users", &user).await.expect(201);
    let shown = appm(&api, "context show local -o json").await.json();
    let fingerprint = shown["authorities"][0]["fingerprint"].as_str().unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    let login =
        format!("auth login --server https://{} --name prod --ca-fingerprint {fingerprint}", api.server.address);
    (api, login, home)
}

fn credentials(home: &Path) -> String {
    home.join("password").display().to_string()
}

/// The one file of the one login.
fn session(home: &Path) -> std::path::PathBuf {
    let folder = home.join(".local/state/appm/sessions");
    let mut all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.find(|path| path.extension().is_some_and(|e| e == "json")).unwrap()
}

fn saved(home: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(session(home)).unwrap()).unwrap()
}

/// Makes the access token end.
fn end(home: &Path) {
    let mut saved = saved(home);
    saved["expirationTime"] = "2020-01-01T00:00:00Z".into();
    std::fs::write(session(home), saved.to_string()).unwrap();
}

async fn kubectl(home: &Path, words: &[&str]) -> Option<Said> {
    let program = std::env::var("APPM_KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let mut command = tokio::process::Command::new(&program);
    if command.args(["version", "--client"]).output().await.is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no kubectl: install kubernetes-client");
        eprintln!("skipped: there is no kubectl");
        return None;
    }
    let mut command = tokio::process::Command::new(program);
    command.args(words).env("HOME", home).env_remove("KUBECONFIG");
    Some(finish(&mut command, "").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_lets_in_appm_and_kubectl_until_the_logout() {
    let (api, login, home) = server().await;
    let at_home = async |line: &str, stdin: &str| at_home(home.path(), &words_of(line), stdin).await;

    let wrong = at_home(&format!("{login} --username ada --password-file -"), "wrong horse\n").await.fails(6);
    assert!(wrong.contains("are wrong"), "{wrong}");
    assert!(!home.path().join(".kube/config").exists());
    at_home(&format!("{login} --username ada --password-file -"), "correct horse\n").await.ok();
    let config = std::fs::read_to_string(home.path().join(".kube/config")).unwrap();
    for secret in ["accessToken", "refreshToken"] {
        assert!(!config.contains(saved(home.path())[secret].as_str().unwrap()), "no secret is in the kubeconfig");
    }
    assert_eq!(std::fs::metadata(session(home.path())).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(at_home("whoami", "").await.ok().lines().next(), Some("ada"));
    assert!(at_home("context show", "").await.ok().contains("login of ada"));
    let folder = session(home.path()).parent().unwrap().to_owned();
    assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);

    if let Some(said) = kubectl(home.path(), &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await {
        assert_eq!(said.ok(), "ada");
        // The next one: kubectl asks our plugin, which refreshes.
        end(home.path());
        let before = saved(home.path());
        let said = kubectl(home.path(), &["auth", "whoami"]).await.unwrap().ok();
        assert!(said.contains("ada"), "{said}");
        assert_ne!(saved(home.path())["refreshToken"], before["refreshToken"]);
    }

    // Again, by the context: another session takes the place of the first.
    let first = session(home.path());
    let again = format!("auth login --context prod --username ada --password-file {}", credentials(home.path()));
    at_home(&again, "").await.ok();
    assert_ne!(session(home.path()), first);
    let token = saved(home.path())["accessToken"].as_str().unwrap().to_owned();
    at_home("auth logout", "").await.ok();
    let out = at_home("whoami", "").await.fails(6);
    assert!(out.contains("not logged in") && out.contains("auth login"), "{out}");
    std::fs::write(home.path().join("token"), token).unwrap();
    let shown = appm(&api, "context show local -o json").await.json();
    let fingerprint = shown["authorities"][0]["fingerprint"].as_str().unwrap().to_owned();
    let file = home.path().join("token").display().to_string();
    let stale = format!("context add stale --server https://{} --token-file {file}", api.server.address);
    at_home(&format!("{stale} --ca-fingerprint {fingerprint}"), "").await.ok();
    at_home("whoami --context stale", "").await.fails(6);
    if let Some(said) = kubectl(home.path(), &["--context", "prod", "auth", "whoami"]).await {
        assert!(said.fails(1).contains("not logged in"));
    }
    api.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_refresh_at_once_are_not_taken_for_thieves() {
    let (api, login, home) = server().await;
    let login = format!("{login} --username ada --password-file {}", credentials(home.path()));
    at_home(home.path(), &words_of(&login), "").await.ok();
    for _ in 0..2 {
        end(home.path());
        let all = (0..6).map(|_| at_home(home.path(), &["whoami"], ""));
        for said in futures::future::join_all(all).await {
            assert_eq!(said.ok().lines().next(), Some("ada"));
        }
    }
    // A token that the server refuses before its time is followed by another one, too.
    let mut spoilt = saved(home.path());
    spoilt["accessToken"] = "spoilt".into();
    std::fs::write(session(home.path()), spoilt.to_string()).unwrap();
    assert_eq!(at_home(home.path(), &["whoami"], "").await.ok().lines().next(), Some("ada"));
    // Lock: out, with the reason.
    let lock = r#"{"spec":{"locked":true}}"#;
    api.patch("/apis/appm.dev/v1/users/ada", "application/merge-patch+json", lock).await.expect(200);
    assert!(at_home(home.path(), &["whoami"], "").await.fails(6).contains("not logged in"));
    api.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_second_factor_is_asked_for_its_code() {
    let (api, login, home) = server().await;
    let login = format!("{login} --username ada --password-file {}", credentials(home.path()));
    let at_home = async |line: &str| at_home(home.path(), &words_of(line), "").await;
    at_home(&login).await.ok();
    let shown = at_home("user mfa enroll --no-confirm").await.ok();
    let secret = shown.lines().find_map(|line| line.strip_prefix("or type this into the app: ")).unwrap().to_owned();
    let confirmed = at_home(&format!("user mfa confirm --code {}", crate::harness::totp(&secret))).await.ok();
    let recovery = confirmed.lines().find(|line| line.starts_with("  ")).unwrap().trim().to_owned();
    let refused = at_home(&login).await.fails(2);
    assert!(refused.contains("--code"), "{refused}");
    at_home(&format!("{login} --code 000000")).await.fails(6);
    at_home(&format!("{login} --code {recovery}")).await.ok();
    assert_eq!(at_home("whoami").await.ok().lines().next(), Some("ada"));
    at_home(&format!("{login} --code {recovery}")).await.fails(6);
    api.server.stop().await;
}
