//! `/healthz`, `/livez`, `/readyz` and `/version`: the only answers that need no credentials.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::StatusCode;
use serde_json::{Value, json};

use super::respond::{self, Answer};

/// Whether everything is loaded and was reconciled once. Set by the daemon.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the server is ready.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// True if it is.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// `/healthz` and `/livez`: the server answers, so it is alive.
pub(super) fn live(name: &str, verbose: bool) -> Answer {
    probe(name, &[], verbose)
}

/// `/readyz`: everything was reconciled once, and changes can be recorded.
pub(super) fn ready(readiness: &Readiness, unrecorded: Option<String>, verbose: bool) -> Answer {
    let loading = (!readiness.is_ready()).then(|| "still loading".to_owned());
    probe("readyz", &[("reconciled", loading), ("audit", unrecorded)], verbose)
}

fn probe(name: &str, checks: &[(&str, Option<String>)], verbose: bool) -> Answer {
    let passed = checks.iter().all(|(_, wrong)| wrong.is_none());
    let code = if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let told = checks.iter().map(|(check, wrong)| match wrong {
        None => format!("[+]{check} ok\n"),
        Some(wrong) => format!("[-]{check} failed: {wrong}\n"),
    });
    let text = match (passed, verbose) {
        (true, false) => "ok".to_owned(),
        (true, true) => format!("{}{name} check passed\n", told.collect::<String>()),
        (false, _) => format!("{}{name} check failed\n", told.collect::<String>()),
    };
    respond::whole(code, "text/plain; charset=utf-8", text)
}

/// `/version`, in the shape that Kubernetes' clients parse; `major` and `minor` say which Kubernetes the API resembles.
pub(super) fn version() -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": "33", "gitVersion": format!("v1.33.0+appm.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
        "compiler": "rustc", "platform": format!("{}/{arch}", std::env::consts::OS),
    })
}
