//! The kubeconfig that the server writes for its owner: address, authority and token, the only place where the token is.

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::files::{private_dir, read_if_there, write_atomic};
use crate::{
    auth::token::{TokenHash, new_token},
    clock::Clock,
};

/// Makes `DIR/kubeconfig` fit the server at `url`, and returns the hash of the token in it. The token is kept while the
/// file has one that the stored hash knows; otherwise a new one is made, and the old one is worth nothing any more.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn refresh(data_dir: &Path, url: &str, ca_pem: &str, chance: &dyn Clock) -> io::Result<TokenHash> {
    let (config_path, hash_path) = (data_dir.join("kubeconfig"), data_dir.join("auth/admin.token.sha256"));
    let old = read_if_there(&config_path)?;
    let known = read_if_there(&hash_path)?.and_then(|text| TokenHash::parse(&text));
    let kept = old.as_deref().and_then(token_of).zip(known).filter(|(token, hash)| hash.matches(token));
    let (token, hash) = match kept {
        Some(kept) => kept,
        None => {
            let token = new_token(chance);
            let hash = TokenHash::of(&token);
            private_dir(&data_dir.join("auth"))?;
            write_atomic(&hash_path, &format!("{hash}\n"), 0o600)?;
            (token, hash)
        }
    };
    let new = text(url, ca_pem, &token);
    if old.as_deref() != Some(&new) {
        write_atomic(&config_path, &new, 0o600)?;
    }
    Ok(hash)
}

fn token_of(kubeconfig: &str) -> Option<String> {
    let config: Value = serde_saphyr::from_str(kubeconfig).ok()?;
    config["users"][0]["user"]["token"].as_str().map(str::to_owned)
}

fn text(url: &str, ca_pem: &str, token: &str) -> String {
    let ca = STANDARD.encode(ca_pem);
    format!(
        "\
# Written by appm. Whoever can read this file is admin.
apiVersion: v1
kind: Config
current-context: appm
clusters:
- name: appm
  cluster:
    server: {url}
    certificate-authority-data: {ca}
contexts:
- name: appm
  context:
    cluster: appm
    user: admin
    namespace: default
users:
- name: admin
  user:
    token: {token}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;

    #[test]
    fn the_token_survives_a_change_of_port_and_not_the_loss_of_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("kubeconfig");
        let read = || std::fs::read_to_string(&path).expect("there");
        let first = refresh(dir.path(), "https://127.0.0.1:1", "CA", &System).expect("written");
        let token = token_of(&read()).expect("token");
        assert!(first.matches(&token));

        let second = refresh(dir.path(), "https://127.0.0.1:2", "CA", &System).expect("rewritten");
        assert_eq!(first, second);
        assert!(read().contains("https://127.0.0.1:2"));
        assert_eq!(token_of(&read()), Some(token.clone()));

        std::fs::remove_file(&path).expect("removed");
        let third = refresh(dir.path(), "https://127.0.0.1:2", "CA", &System).expect("made anew");
        assert!(!third.matches(&token));
    }
}
