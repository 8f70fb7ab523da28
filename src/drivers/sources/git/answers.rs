//! What git and ssh say when they fail, in words that tell who can mend it.

use std::process::Output;

use super::{Credentials, Wanted};
use crate::drivers::sources::ReadError;

/// As much of what git says as is shown.
const SHOWN: usize = 300;
/// What git adds to everything that ssh says.
const NOISE: &[&str] = &[
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

/// An error with what git said, unless it went well.
pub(super) fn succeeded(output: &Output, reason: &'static str, what: &str) -> Result<(), ReadError> {
    match output.status.success() {
        true => Ok(()),
        false => Err(ReadError::new(reason, format!("{what}: {}", said(output)))),
    }
}

/// What git said, in one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !NOISE.contains(line));
    let lines: Vec<&str> = lines.collect();
    lines.join("; ").chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Why a repository could not be asked.
pub(super) fn refused(output: &Output, wanted: &Wanted, credentials: &Credentials) -> ReadError {
    let text = String::from_utf8_lossy(&output.stderr);
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let failed =
        |reason: &'static str, why: &str| ReadError::new(reason, format!("{} cannot be fetched: {why}", wanted.url));
    match () {
        () if any(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) => failed(
            "HostKeyRefused",
            "its host has another key than the secret's `known_hosts` says: somebody stands in between, or it was \
             given a new one; compare `ssh-keyscan HOST` with what its operator says",
        ),
        () if any(&["Host key verification failed", "host key is known for"]) => failed(
            "HostKeyRefused",
            "the secret's `known_hosts` has no key of its host; `ssh-keyscan HOST` prints it: compare it with what \
             its operator says",
        ),
        () if any(&["Load key"]) => failed(
            "AuthenticationFailed",
            "the secret's `ssh-privatekey` is no private key that can be used without a passphrase",
        ),
        () if any(&["Permission denied ("]) => failed(
            "AuthenticationFailed",
            match credentials.ssh_key {
                Some(_) => "the host does not let in whoever has the secret's `ssh-privatekey`",
                None => {
                    "the host asks for a key, and there is no `ssh-privatekey` in a secret that `git.secretRef` names"
                }
            },
        ),
        () if any(&["Authentication failed", "could not read Username", "could not read Password", "error: 403"]) => {
            failed(
                "AuthenticationFailed",
                match credentials.password {
                    Some(_) => "`username` and `password` of the secret are not accepted",
                    None => {
                        "it asks for a password, and `git.secretRef` names no secret with `username` and `password`"
                    }
                },
            )
        }
        () if any(&["certificate problem", "certificate verification failed", "SSL certificate"]) => failed(
            "CertificateRefused",
            "nobody who is trusted vouches for its certificate; if its authority is your own, put its certificate \
             into `ca.crt` of the secret that `git.secretRef` names",
        ),
        () if any(&["couldn't find remote ref"]) => failed("NoReference", &said(output)),
        () if any(&["not found", "does not exist", "does not appear to be a git repository"]) => {
            failed("NotFound", &said(output))
        }
        () => failed("FetchFailed", &said(output)),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use super::*;

    #[test]
    fn what_git_says_has_a_reason_and_tells_who_can_mend_it() {
        let wanted = Wanted { url: "git@h:a".to_owned(), reference: Default::default(), path: String::new() };
        let reason = |stderr: &str| {
            let stderr = stderr.as_bytes().to_vec();
            let output = Output { status: ExitStatus::from_raw(128 << 8), stdout: Vec::new(), stderr };
            refused(&output, &wanted, &Credentials::default()).reason
        };
        for (said, expected) in [
            ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "HostKeyRefused"),
            ("No ED25519 host key is known for h and you have requested strict checking.", "HostKeyRefused"),
            ("git@h: Permission denied (publickey).", "AuthenticationFailed"),
            ("Load key \"/x\": error in libcrypto\ngit@h: Permission denied (publickey).", "AuthenticationFailed"),
            ("fatal: could not read Username for 'https://h': terminal prompts disabled", "AuthenticationFailed"),
            ("fatal: unable to access 'https://h/': SSL certificate problem: self-signed", "CertificateRefused"),
            ("fatal: couldn't find remote ref refs/heads/x", "NoReference"),
            ("fatal: repository 'https://h/a/' not found", "NotFound"),
            ("fatal: early EOF", "FetchFailed"),
        ] {
            assert_eq!(reason(said), expected, "{said}");
        }
    }

    #[test]
    fn what_is_shown_is_one_short_line_without_what_git_always_says() {
        let stderr = format!("first\n\n  second\x1b[1m\n{}\n{}", NOISE.join("\n"), "x".repeat(1000)).into_bytes();
        let output = Output { status: ExitStatus::from_raw(1 << 8), stdout: Vec::new(), stderr };
        let told = said(&output);
        assert!(told.starts_with("first; second[1m; xxx") && told.len() == SHOWN, "{told}");
    }
}
