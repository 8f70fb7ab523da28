//! The server's own certificate authority and certificate.
//!
//! TLS from the first start, because kubectl sends no credentials over plain HTTP. The authority lasts ten years and is
//! what clients trust; the server's certificate lasts one and is made anew at a start when less than ninety days are left, when the
//! names change, or when the authority does. What it was made for stands as text above it in `server.pem`, where every
//! PEM reader skips it.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};

use super::files::{private_dir, read_if_there, write_atomic};

const DAY: i64 = 24 * 3600;
const CA_DAYS: i64 = 3650;
const SERVER_DAYS: i64 = 365;
const RENEW_DAYS: i64 = 90;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("`{}` is not what appm wrote there; remove the directory `pki` to have it made anew", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
    },
    /// The library refused.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("cannot use the certificate")]
    Tls(#[from] rustls::Error),
}

/// What clients trust, and what the listener shows them.
pub(super) struct Pki {
    /// The authority's certificate, for kubeconfigs.
    pub ca_pem: String,
    /// The listener's configuration: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub tls: Arc<rustls::ServerConfig>,
}

/// Reads `dir`, making or renewing what is missing or due. `names` are the host names and addresses beside localhost
/// under which the server is reached.
///
/// # Errors
/// When a file cannot be read or written, or holds something else.
pub(super) fn open(dir: &Path, names: &[String], now: Timestamp) -> Result<Pki, PkiError> {
    private_dir(dir).map_err(|source| PkiError::File { path: dir.to_owned(), source })?;
    let (ca_pem, ca_key) = authority(dir, now)?;
    let (chain, key) = server(dir, &ca_pem, ca_key, &all_names(names), now)?;
    Ok(Pki { tls: tls(&chain, &key, dir)?, ca_pem })
}

fn all_names(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    all.extend(names.iter().filter(|n| n.is_ascii() && !n.is_empty()).cloned());
    all.sort();
    all.dedup();
    all
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    read_if_there(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    write_atomic(path, text, 0o600).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), PkiError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(PkiError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The authority's parameters: always the same, so that they need not be read back from its certificate.
fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "appm CA");
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, CA_DAYS);
    params
}

/// From yesterday, so that a client whose clock is a little behind believes it.
fn valid(params: &mut CertificateParams, now: Timestamp, days: i64) {
    params.not_before = (std::time::SystemTime::from(now - SignedDuration::from_secs(DAY))).into();
    params.not_after = (std::time::SystemTime::from(now + SignedDuration::from_secs(days * DAY))).into();
}

fn authority(dir: &Path, now: Timestamp) -> Result<(String, KeyPair), PkiError> {
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    if let (Some(cert), Some(key)) = (read(&cert_path)?, read(&key_path)?) {
        let key = KeyPair::from_pem(&key).map_err(|_| PkiError::Malformed { path: key_path })?;
        return Ok((cert, key));
    }
    let key = KeyPair::generate()?;
    let cert = authority_params(now).self_signed(&key)?.pem();
    // The certificate comes last: whoever sees it finds the key too.
    write(&key_path, &key.serialize_pem())?;
    write(&cert_path, &cert)?;
    Ok((cert, key))
}

/// The text above the certificate: for which authority and names it was made, and when it is due.
struct Made {
    purpose: String,
    renew: Timestamp,
}

impl Made {
    fn for_names(ca_pem: &str, names: &[String], now: Timestamp) -> Self {
        let ca: String = Sha256::digest(ca_pem.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect();
        let renew = now + SignedDuration::from_secs((SERVER_DAYS - RENEW_DAYS) * DAY);
        Self { purpose: format!("made by {ca} for {}", names.join(" ")), renew }
    }

    fn text(&self) -> String {
        format!("{}\nrenewed after {}\n", self.purpose, self.renew)
    }

    /// True if a certificate with `text` above it was made for the same and is not due.
    fn still_serves(&self, text: &str, now: Timestamp) -> bool {
        let mut lines = text.lines();
        let same = lines.next() == Some(self.purpose.as_str());
        let renew = lines.next().and_then(|l| l.strip_prefix("renewed after ")).and_then(|t| t.parse().ok());
        same && renew.is_some_and(|at: Timestamp| now < at)
    }
}

fn server(
    dir: &Path,
    ca_pem: &str,
    ca_key: KeyPair,
    names: &[String],
    now: Timestamp,
) -> Result<(String, String), PkiError> {
    let (cert_path, key_path) = (dir.join("server.pem"), dir.join("server.key"));
    let made = Made::for_names(ca_pem, names, now);
    if let (Some(cert), Some(key)) = (read(&cert_path)?, read(&key_path)?)
        && made.still_serves(&cert, now)
    {
        return Ok((cert, key));
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "appm");
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, SERVER_DAYS);
    let cert = params.signed_by(&key, &Issuer::new(authority_params(now), ca_key))?;
    let (cert, key) = (format!("{}{}", made.text(), cert.pem()), key.serialize_pem());
    // Without a certificate the pair is made anew, so a crash in between leaves no key that fits no certificate.
    remove(&cert_path)?;
    write(&key_path, &key)?;
    write(&cert_path, &cert)?;
    Ok((cert, key))
}

fn tls(chain: &str, key: &str, dir: &Path) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let malformed = |file: &str| PkiError::Malformed { path: dir.join(file) };
    let certs: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| malformed("server.pem"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| malformed("server.key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// True if `host` needs to stand in the certificate: an address that is not the unspecified one, or a name.
pub(super) fn is_nameable(host: &str) -> bool {
    !host.is_empty() && host.parse::<IpAddr>().map_or(true, |ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn certificates_are_kept_until_they_are_due_or_the_names_change() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("file");
        let start = at("2026-01-01T00:00:00Z");
        open(dir.path(), &["host-a".to_owned()], start).expect("made");
        let (ca, first) = (read("ca.pem"), read("server.pem"));

        open(dir.path(), &["host-a".to_owned()], at("2026-08-01T00:00:00Z")).expect("kept");
        assert_eq!((read("ca.pem"), read("server.pem")), (ca.clone(), first.clone()));

        open(dir.path(), &["host-a".to_owned()], at("2026-11-01T00:00:00Z")).expect("renewed");
        let renewed = read("server.pem");
        assert_ne!(renewed, first);

        open(dir.path(), &["host-b".to_owned()], at("2026-11-02T00:00:00Z")).expect("other name");
        assert_ne!(read("server.pem"), renewed);
        assert_eq!(read("ca.pem"), ca);
    }

    #[test]
    fn keys_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary directory");
        open(dir.path(), &[], at("2026-01-01T00:00:00Z")).expect("made");
        for name in ["ca.key", "server.key"] {
            let mode = std::fs::metadata(dir.path().join(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
