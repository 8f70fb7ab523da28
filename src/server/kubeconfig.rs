//! The kubeconfig that the server writes for its owner: address, authority and token, the only place where the token is.

use std::{io, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    files::{private_dir, read_if_there, write_atomic},
    tls::Shown,
};
use crate::{
    auth::token::{TokenHash, new_token},
    clock::Clock,
};

/// The kubeconfig of a server.
pub(super) struct Kubeconfig {
    /// Where it lies.
    pub data_dir: PathBuf,
    /// Where clients on this machine find the server.
    pub url: String,
}

impl Kubeconfig {
    /// Makes `DIR/kubeconfig` fit the server and what it shows, and returns the hash of the token in it. The token is kept while the
    /// file has one that the stored hash knows; otherwise a new one is made, and the old one is worth nothing any more.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub(super) fn refresh(&self, shown: &Shown, chance: &dyn Clock) -> io::Result<TokenHash> {
        let hash_path = self.data_dir.join("auth/admin.token.sha256");
        let old = read_if_there(&self.path())?;
        let known = read_if_there(&hash_path)?.and_then(|text| TokenHash::parse(&text));
        let kept = old.as_deref().and_then(token_of).zip(known).filter(|(token, hash)| hash.matches(token));
        let (token, hash) = match kept {
            Some(kept) => kept,
            None => {
                let token = new_token(chance);
                let hash = TokenHash::of(&token);
                private_dir(&self.data_dir.join("auth"))?;
                write_atomic(&hash_path, &format!("{hash}\n"), 0o600)?;
                (token, hash)
            }
        };
        self.write(old.as_deref(), shown, &token)?;
        Ok(hash)
    }

    /// Makes the file fit another authority. One that was removed stays away: its token would be a new one.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(super) fn trust_anew(&self, shown: &Shown) -> io::Result<()> {
        let old = read_if_there(&self.path())?;
        match old.as_deref().and_then(token_of) {
            Some(token) => self.write(old.as_deref(), shown, &token),
            None => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        self.data_dir.join("kubeconfig")
    }

    fn write(&self, old: Option<&str>, shown: &Shown, token: &str) -> io::Result<()> {
        let new = text(&self.url, shown.ca_pem(), shown.own_name(), token);
        if old == Some(&new) { Ok(()) } else { write_atomic(&self.path(), &new, 0o600) }
    }
}

fn token_of(kubeconfig: &str) -> Option<String> {
    let config: Value = serde_saphyr::from_str(kubeconfig).ok()?;
    config["users"][0]["user"]["token"].as_str().map(str::to_owned)
}

fn text(url: &str, ca_pem: &str, ask_for: Option<&str>, token: &str) -> String {
    let ca = STANDARD.encode(ca_pem);
    let name = ask_for.map(|name| format!("    tls-server-name: {name}\n")).unwrap_or_default();
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
{name}contexts:
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
    use super::{
        super::tls::{Tls, TlsSettings},
        *,
    };
    use crate::clock::System;

    #[test]
    fn the_token_survives_a_change_of_port_and_not_the_loss_of_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("kubeconfig");
        let read = || std::fs::read_to_string(&path).expect("there");
        let tls = Tls::open(dir.path().join("pki"), Vec::new(), TlsSettings::default(), System.now()).expect("made");
        let refresh = |url: &str| {
            let file = Kubeconfig { data_dir: dir.path().to_owned(), url: url.to_owned() };
            file.refresh(&tls.shown(), &System).expect("written")
        };
        let first = refresh("https://127.0.0.1:1");
        let token = token_of(&read()).expect("token");
        assert!(first.matches(&token));

        let second = refresh("https://127.0.0.1:2");
        assert_eq!(first, second);
        assert!(read().contains("https://127.0.0.1:2"));
        assert_eq!(token_of(&read()), Some(token.clone()));

        std::fs::remove_file(&path).expect("removed");
        let third = refresh("https://127.0.0.1:2");
        assert!(!third.matches(&token));
    }
}
