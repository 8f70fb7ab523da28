//! What the listener shows to clients and asks of them, and how that changes while it listens.
//!
//! ```text
//!  pki/ (own authority) ──────────────┐                        ┌─ of the name that our kubeconfig asks for: the own certificate
//!  --tls-cert-file, -private-key-file ┼─► Shown ── handshake ──┤
//!  --client-ca-file ──────────────────┘   swapped whole        └─ otherwise the one that was brought, if there is one
//! ```
//! Looked at again when something of it is due, when a file changes, and on SIGHUP. Each of the three parts that cannot be used stays
//! as it was, and the log and `/metrics` say so: a broken new file never shuts anybody out who could get in before. At the start there is
//! nothing to stay with, and the server does not start.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use tokio::sync::watch;

use super::{
    hosts::Hosts,
    pki::{self, PkiError},
};
use crate::{clock::Clock, policy::certificate::Certificate};

/// By this name clients ask for the certificate of the server's own authority, whatever else it shows.
pub(super) const OWN_NAME: &str = "appm.localhost";

/// When to look again where looking failed.
const RETRY: SignedDuration = SignedDuration::from_hours(1);

/// What can be set of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// A certificate that somebody else has made, with its chain, and its key: two files.
    pub brought: Option<(PathBuf, PathBuf)>,
    /// The authorities of client certificates; none are asked for without.
    pub client_ca: Option<PathBuf>,
    /// Host names and addresses for the own certificate, beside those of the machine.
    pub names: Vec<String>,
    /// More names that requests may be addressed to; `*.` stands for one label.
    pub allowed_hosts: Vec<String>,
}

impl TlsSettings {
    /// The files that somebody else writes.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let brought = self.brought.iter().flat_map(|(certificate, key)| [certificate, key]);
        brought.chain(&self.client_ca).cloned().collect()
    }
}

/// A certificate that was brought.
struct Brought {
    key: Arc<CertifiedKey>,
    facts: Certificate,
}

/// The parts; each is replaced when a new one is there and can be used.
#[derive(Clone)]
struct Parts {
    own: Arc<pki::Own>,
    own_key: Arc<CertifiedKey>,
    brought: Option<Arc<Brought>>,
    clients: Option<Arc<RootCertStore>>,
}

/// What is shown at this moment.
pub(super) struct Shown {
    parts: Parts,
    /// For the next handshake.
    pub config: Arc<ServerConfig>,
    /// Which hosts requests may name.
    pub hosts: Hosts,
    /// Judges client certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Shown {
    /// What clients trust.
    pub(super) fn ca_pem(&self) -> &str {
        &self.parts.own.ca_pem
    }

    /// The name that clients who trust our own authority must ask for, if others get another certificate.
    pub(super) fn own_name(&self) -> Option<&'static str> {
        self.parts.brought.as_ref().map(|_| OWN_NAME)
    }

    /// Whether `port` and certificate are those of the host's web site, so that its browsers never need another door. Elsewhere
    /// such a promise would shut the doors of whatever else the host serves.
    pub(super) fn is_the_hosts_own_site(&self, port: u16) -> bool {
        port == 443 && self.parts.brought.is_some()
    }

    /// Whether an authority of today vouches for a client certificate, the first of `chain`.
    fn knows(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let (Some(verifier), Some((leaf, rest))) = (&self.verifier, chain.split_first()) else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap_or_default()));
        verifier.verify_client_cert(leaf, rest, now).is_ok()
    }

    /// When the certificates end: ours, and the one that was brought.
    pub(super) fn ends(&self) -> (Timestamp, Option<Timestamp>) {
        (self.parts.own.expires, self.parts.brought.as_ref().map(|b| b.facts.expires))
    }
}

/// What is shown, and what it is made of.
pub(super) struct Tls {
    dir: PathBuf,
    settings: TlsSettings,
    /// The machine's names, and where it listens.
    names: Vec<String>,
    shown: watch::Sender<Arc<Shown>>,
}

/// What came of looking again.
pub(super) struct Looked {
    /// Whether clients must be told of another authority.
    pub other_authority: bool,
    /// What could not be used.
    pub faults: Vec<PkiError>,
    /// When to look again.
    pub due: Timestamp,
}

impl Tls {
    /// Reads everything, and makes what is missing. `names` are the host's.
    ///
    /// # Errors
    /// When something cannot be used.
    pub(super) fn open(
        dir: PathBuf,
        names: Vec<String>,
        settings: TlsSettings,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let own = own(&dir, &names, &settings, now)?;
        let parts = Parts {
            own_key: certified(own.chain.clone(), &own.key)?,
            own: Arc::new(own),
            brought: brought(&settings)?.map(Arc::new),
            clients: clients(&settings)?.map(Arc::new),
        };
        let shown = watch::Sender::new(Arc::new(show(parts, &names, &settings)?));
        Ok(Self { dir, settings, names, shown })
    }

    /// What is shown now.
    pub(super) fn shown(&self) -> Arc<Shown> {
        self.shown.borrow().clone()
    }

    /// Resolves when no authority vouches any more for the certificate that a client has shown.
    pub(super) async fn disowned(&self, chain: &[CertificateDer<'_>], clock: &dyn Clock) {
        let mut shown = self.shown.subscribe();
        loop {
            let now = shown.borrow_and_update().clone();
            if !now.knows(chain, clock.now()) {
                return;
            }
            // The sender is this one's own.
            shown.changed().await.expect("it is there as long as this is");
        }
    }

    /// The files to watch.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.settings.files()
    }

    /// Looks at everything again. What cannot be used stays as it was.
    pub(super) fn look_again(&self, now: Timestamp) -> Looked {
        let before = self.shown();
        let mut parts = before.parts.clone();
        let mut faults = Vec::new();
        let own = own(&self.dir, &self.names, &self.settings, now);
        match own.and_then(|own| Ok((certified(own.chain.clone(), &own.key)?, own))) {
            Ok((key, own)) => (parts.own_key, parts.own) = (key, Arc::new(own)),
            Err(fault) => faults.push(fault),
        }
        match brought(&self.settings) {
            Ok(brought) => parts.brought = brought.map(Arc::new),
            Err(fault) => faults.push(fault),
        }
        match clients(&self.settings) {
            Ok(clients) => parts.clients = clients.map(Arc::new),
            Err(fault) => faults.push(fault),
        }
        let due = parts.own.due.max(if faults.is_empty() { now } else { now + RETRY });
        let other_authority = parts.own.ca_pem != before.parts.own.ca_pem;
        // Another configuration forgets the sessions that clients could go on with, so it is another one only where something is.
        if !parts.are(&before.parts) {
            match show(parts, &self.names, &self.settings) {
                Ok(shown) => drop(self.shown.send_replace(Arc::new(shown))),
                Err(fault) => faults.push(fault),
            }
        }
        Looked { other_authority, faults, due }
    }
}

impl Parts {
    fn are(&self, other: &Parts) -> bool {
        let brought = |parts: &Parts| parts.brought.as_ref().map(|b| b.key.cert.clone());
        let clients = |parts: &Parts| parts.clients.as_ref().map(|store| store.roots.clone());
        self.own.chain == other.own.chain && brought(self) == brought(other) && clients(self) == clients(other)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn own(dir: &Path, names: &[String], settings: &TlsSettings, now: Timestamp) -> Result<pki::Own, PkiError> {
    let asked = settings.brought.iter().map(|_| OWN_NAME.to_owned());
    let names: Vec<String> = names.iter().chain(&settings.names).cloned().chain(asked).collect();
    pki::open(dir, &names, now)
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, PkiError> {
    Ok(Arc::new(CertifiedKey::from_der(chain, key.clone_key(), &provider())?))
}

fn unusable(path: &Path, why: impl Into<String>) -> PkiError {
    PkiError::Unusable { path: path.to_owned(), why: why.into() }
}

fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    fs::read(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

/// Every certificate of a PEM file, with what stands in it.
fn certificates(path: &Path) -> Result<Vec<(CertificateDer<'static>, Certificate)>, PkiError> {
    let text = read(path)?;
    let mut all = Vec::new();
    for (number, der) in (1..).zip(CertificateDer::pem_slice_iter(&text)) {
        let der = der.map_err(|e| unusable(path, format!("certificate {number}: {e}")))?;
        let facts = Certificate::read(&der).map_err(|e| unusable(path, format!("certificate {number}: {e}")))?;
        all.push((der, facts));
    }
    if all.is_empty() { Err(unusable(path, "there is no certificate in it")) } else { Ok(all) }
}

fn brought(settings: &TlsSettings) -> Result<Option<Brought>, PkiError> {
    let Some((path, key_path)) = &settings.brought else { return Ok(None) };
    let all = certificates(path)?;
    let facts = all[0].1.clone();
    if facts.hosts.is_empty() {
        return Err(unusable(path, "its first certificate is for no host (it has no subject alternative names)"));
    }
    let mode = fs::metadata(key_path).map(|m| m.permissions().mode());
    if mode.map_err(|source| PkiError::File { path: key_path.clone(), source })? & 0o007 != 0 {
        return Err(unusable(key_path, "everybody on this machine may read it; `chmod 600` it"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(key_path)?)
        .map_err(|e| unusable(key_path, format!("there is no private key in it: {e}")))?;
    let chain: Vec<CertificateDer<'static>> = all.into_iter().map(|(der, _)| der).collect();
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            unusable(key_path, format!("it is not the key of the certificate in `{}`", path.display()))
        }
        other => unusable(key_path, other.to_string()),
    })?;
    Ok(Some(Brought { key: Arc::new(key), facts }))
}

fn clients(settings: &TlsSettings) -> Result<Option<RootCertStore>, PkiError> {
    let Some(path) = &settings.client_ca else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for (number, (der, facts)) in (1..).zip(certificates(path)?) {
        if !facts.is_authority {
            return Err(unusable(path, format!("certificate {number} is no authority's")));
        }
        roots.add(der).map_err(|e| unusable(path, format!("certificate {number}: {e}")))?;
    }
    Ok(Some(roots))
}

fn show(parts: Parts, names: &[String], settings: &TlsSettings) -> Result<Shown, PkiError> {
    // TLS 1.2 and 1.3, and of 1.2 only what is still sound: that is all that rustls has.
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    // Whoever shows none has another way to say who it is, or none.
    let verifying = |roots: &Arc<RootCertStore>| {
        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).allow_unauthenticated().build()
    };
    let verifier = parts.clients.as_ref().map(verifying).transpose();
    let verifier = verifier.map_err(|e| rustls::Error::General(e.to_string()))?;
    let builder = match verifier.clone() {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let choice = Choice { own: parts.own_key.clone(), brought: parts.brought.as_ref().map(|b| b.key.clone()) };
    let mut config = builder.with_cert_resolver(Arc::new(choice));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let brought = parts.brought.iter().flat_map(|b| &b.facts.hosts);
    let hosts = Hosts::new(names.iter().chain(&settings.names).chain(&settings.allowed_hosts).chain(brought));
    Ok(Shown { config: Arc::new(config), hosts, verifier, parts })
}

/// Which certificate a client gets.
#[derive(Debug)]
struct Choice {
    own: Arc<CertifiedKey>,
    brought: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match &self.brought {
            Some(brought) if hello.server_name() != Some(OWN_NAME) => Some(brought.clone()),
            _ => Some(self.own.clone()),
        }
    }
}
