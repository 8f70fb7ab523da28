//! The server's own certificate authority and certificate.
//!
//! TLS from the first start, because kubectl sends no credentials over plain HTTP. The authority lasts ten years and is what clients
//! trust; the server's certificate lasts one year and is made anew ninety days before its end, when the names change, or when the
//! authority does. What it was made for stands as text above it in `server.pem`, where every PEM reader skips it.
//!
//! ```text
//!  years  0 ──────────────────────────── 8 ───────── 10
//!  A      ├──────── signs ───────────────┤── trusted ─┤
//!  B                                     ├──────── signs ───────────────  …   and so on
//!                                        └ B, signed by A, goes along in the handshake until A ends
//! ```
//! So the authority changes without a moment at which somebody must act: whoever pinned A trusts B through A for two years, and has
//! that long to fetch what is trusted now (`ca.pem` has both, the kubeconfig too, `GET /ca.pem` serves it, `appm context refresh` takes it).
//!
//! `ca.key` is the one file that says who the authority is: the key, its certificate, and of the one before it the certificate and
//! what it signed. One rename changes all of it. `ca.pem` is made from it.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};

use super::files::{private_dir, read_if_there, read_private, write_atomic};
use crate::policy::certificate::{Certificate, pem};

const DAY: i64 = 24 * 3600;
const CA_DAYS: i64 = 3650;
/// How long before its end an authority has a successor.
const CA_OVERLAP_DAYS: i64 = 730;
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
    /// A file that somebody brought cannot be used.
    #[error("cannot use `{}`: {why}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The library refused.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("cannot use the certificate")]
    Tls(#[from] rustls::Error),
}

/// What clients trust, and what the listener shows them.
pub(super) struct Own {
    /// The authority's certificate, and the one before it while it lasts: for kubeconfigs.
    pub ca_pem: String,
    /// The server's certificate, and what leads from it to the authority before.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    /// When something of it is to be made anew.
    pub due: Timestamp,
    /// When the server's certificate ends.
    pub expires: Timestamp,
}

/// Reads `dir`, making or renewing what is missing or due. `names` are the host names and addresses beside localhost
/// under which the server is reached.
///
/// # Errors
/// When a file cannot be read or written, or holds something else.
pub(super) fn open(dir: &Path, names: &[String], now: Timestamp) -> Result<Own, PkiError> {
    private_dir(dir).map_err(|source| PkiError::File { path: dir.to_owned(), source })?;
    let authority = authority(dir, now)?;
    let (chain, key) = server(dir, &authority, &all_names(names), now)?;
    let malformed = |file: &str| PkiError::Malformed { path: dir.join(file) };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| malformed("server.key"))?;
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|_| malformed("server.pem"))?;
    let expires = Certificate::read(&leaf).map_err(|_| malformed("server.pem"))?.expires;
    let due = Made::due(&chain).unwrap_or(now).min(authority.due()).min(authority.before_ends());
    let ca_pem = authority.trusted();
    let chain = [leaf].into_iter().chain(authority.before.map(|before| before.cross)).collect();
    Ok(Own { ca_pem, chain, key, due, expires })
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

fn read_key(path: &Path) -> Result<Option<String>, PkiError> {
    read_private(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
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

/// Who signs.
struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    expires: Timestamp,
    before: Option<Before>,
}

/// The authority that was there before.
struct Before {
    certificate: CertificateDer<'static>,
    /// Its successor's certificate, signed by it.
    cross: CertificateDer<'static>,
    expires: Timestamp,
}

impl Authority {
    fn new(now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let params = authority_params(now, now + days(CA_DAYS));
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { key, certificate, expires: now + days(CA_DAYS), before: None })
    }

    /// The one that comes after it. What it signed lasts as long as it does itself.
    fn successor(self, now: Timestamp) -> Result<Self, PkiError> {
        let next = Self::new(now)?;
        if self.expires <= now {
            return Ok(next);
        }
        let cross = authority_params(now, self.expires).signed_by(&next.key, &self.issuer()?)?.der().clone();
        Ok(Self { before: Some(Before { certificate: self.certificate, cross, expires: self.expires }), ..next })
    }

    fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, PkiError> {
        Ok(Issuer::from_ca_cert_der(&self.certificate, &self.key)?)
    }

    fn due(&self) -> Timestamp {
        self.expires - days(CA_OVERLAP_DAYS)
    }

    fn before_ends(&self) -> Timestamp {
        self.before.as_ref().map_or(Timestamp::MAX, |before| before.expires)
    }

    fn trusted(&self) -> String {
        let before = self.before.as_ref().map(|before| pem(&before.certificate));
        [pem(&self.certificate)].into_iter().chain(before).collect()
    }

    /// `None` if the key is alone, as earlier releases wrote it.
    fn parse(text: &str) -> Option<Self> {
        let key = KeyPair::from_pem(text).ok()?;
        let all: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().ok()?;
        let ends = |certificate: &CertificateDer<'_>| Some(Certificate::read(certificate).ok()?.expires);
        let mut all = all.into_iter();
        let certificate = all.next()?;
        let before = match (all.next(), all.next()) {
            (Some(certificate), Some(cross)) => Some(Before { expires: ends(&certificate)?, certificate, cross }),
            _ => None,
        };
        Some(Self { key, expires: ends(&certificate)?, certificate, before })
    }

    fn text(&self) -> String {
        let before = self.before.iter().flat_map(|before| [pem(&before.certificate), pem(&before.cross)]);
        [self.key.serialize_pem(), pem(&self.certificate)].into_iter().chain(before).collect()
    }
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count * DAY)
}

/// Each has a name of its own, by which clients that know two tell them apart.
fn authority_params(now: Timestamp, until: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, format!("appm CA {}", now.strftime("%Y-%m-%d")));
    params.distinguished_name = subject;
    // Room for one below it: its successor.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, until);
    params
}

/// From yesterday, so that a client whose clock is a little behind believes it.
fn valid(params: &mut CertificateParams, now: Timestamp, until: Timestamp) {
    params.not_before = (std::time::SystemTime::from(now - days(1))).into();
    params.not_after = (std::time::SystemTime::from(until)).into();
}

fn authority(dir: &Path, now: Timestamp) -> Result<Authority, PkiError> {
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let (written, shown) = (read_key(&key_path)?, read(&cert_path)?);
    let known = match (&written, &shown) {
        (Some(text), _) if text.contains("-----BEGIN CERTIFICATE") => Some(text.clone()),
        (Some(key), Some(certificate)) => Some(format!("{key}{certificate}")),
        _ => None,
    };
    let mut authority = match known {
        Some(text) => Authority::parse(&text).ok_or(PkiError::Malformed { path: key_path.clone() })?,
        None => Authority::new(now)?,
    };
    if authority.due() <= now {
        authority = authority.successor(now)?;
        tracing::info!(expires = %authority.expires, "a new certificate authority; the one before is trusted to its end");
    }
    authority.before = authority.before.filter(|before| now < before.expires);
    for (path, text, there) in [(&key_path, authority.text(), written), (&cert_path, authority.trusted(), shown)] {
        if there.as_ref() != Some(&text) {
            write(path, &text)?;
        }
    }
    Ok(authority)
}

/// The text above the certificate: for which authority and names it was made, and when it is due.
struct Made {
    purpose: String,
    renew: Timestamp,
}

impl Made {
    fn for_names(ca: &[u8], names: &[String], now: Timestamp) -> Self {
        let ca = hex::encode(&Sha256::digest(ca)[..8]);
        let renew = now + days(SERVER_DAYS - RENEW_DAYS);
        Self { purpose: format!("made by {ca} for {}", names.join(" ")), renew }
    }

    fn text(&self) -> String {
        format!("{}\nrenewed after {}\n", self.purpose, self.renew)
    }

    /// When the certificate with `text` above it is to be made anew.
    fn due(text: &str) -> Option<Timestamp> {
        text.lines().nth(1)?.strip_prefix("renewed after ")?.parse().ok()
    }

    /// True if a certificate with `text` above it was made for the same and is not due.
    fn still_serves(&self, text: &str, now: Timestamp) -> bool {
        text.lines().next() == Some(self.purpose.as_str()) && Self::due(text).is_some_and(|at| now < at)
    }
}

fn server(dir: &Path, authority: &Authority, names: &[String], now: Timestamp) -> Result<(String, String), PkiError> {
    let (cert_path, key_path) = (dir.join("server.pem"), dir.join("server.key"));
    let made = Made::for_names(&authority.certificate, names, now);
    if let (Some(cert), Some(key)) = (read(&cert_path)?, read_key(&key_path)?)
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
    valid(&mut params, now, now + days(SERVER_DAYS));
    let cert = params.signed_by(&key, &authority.issuer()?)?;
    let (cert, key) = (format!("{}{}", made.text(), cert.pem()), key.serialize_pem());
    // Without a certificate the pair is made anew, so a crash in between leaves no key that fits no certificate.
    remove(&cert_path)?;
    write(&key_path, &key)?;
    write(&cert_path, &cert)?;
    Ok((cert, key))
}

/// True if `host` needs to stand in the certificate: an address that is not the unspecified one, or a name.
pub(super) fn is_nameable(host: &str) -> bool {
    !host.is_empty() && host.parse::<IpAddr>().map_or(true, |ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use rustls::{
        client::danger::ServerCertVerifier,
        pki_types::{ServerName, UnixTime},
    };

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

    /// Whether a client that trusts `ca_pem` believes a server that shows `own`.
    fn believed(own: &Own, ca_pem: &str, now: Timestamp) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(ca_pem.as_bytes()).map(|c| c.expect("PEM")));
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let now =
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().try_into().expect("later")));
        let name = ServerName::try_from("localhost").expect("a name");
        let verifier = builder.build().expect("roots");
        verifier.verify_server_cert(&own.chain[0], &own.chain[1..], &name, &[], now).is_ok()
    }

    #[test]
    fn a_new_authority_is_believed_by_whoever_trusts_the_old_one_until_its_end() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let open = |now| open(dir.path(), &[], at(now)).expect("opened");
        let ca_of = |own: &Own| own.ca_pem.clone();
        let first = ca_of(&open("2026-01-01T00:00:00Z"));
        assert_eq!(ca_of(&open("2033-06-01T00:00:00Z")), first);

        let (now, late) = ("2034-02-01T00:00:00Z", "2035-12-01T00:00:00Z");
        let second = open(now);
        assert!(second.ca_pem.ends_with(&first) && second.ca_pem.len() > first.len());
        let alone = second.ca_pem.strip_suffix(&first).expect("both").to_owned();
        for now in [now, late] {
            let own = open(now);
            assert!(believed(&own, &first, at(now)) && believed(&own, &alone, at(now)), "{now}");
            assert!(own.due <= at("2036-01-01T00:00:00Z"), "{}", own.due);
        }

        let after = "2036-02-01T00:00:00Z";
        let own = open(after);
        assert_eq!((ca_of(&own), own.chain.len()), (alone.clone(), 1));
        assert!(believed(&own, &alone, at(after)) && !believed(&own, &first, at(after)));
    }

    #[test]
    fn an_authority_of_an_earlier_release_stays() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (now, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
        let ca = open(dir.path(), &[], now).expect("made").ca_pem;
        let path = dir.path().join("ca.key");
        let text = std::fs::read_to_string(&path).expect("there");
        let (key, _) = text.split_once("-----BEGIN CERTIFICATE").expect("both");
        std::fs::write(&path, key).expect("written");
        assert_eq!(open(dir.path(), &[], later).expect("kept").ca_pem, ca);
        std::fs::remove_file(dir.path().join("ca.pem")).expect("removed");
        assert_eq!(open(dir.path(), &[], later).expect("kept").ca_pem, ca);
    }

    #[test]
    fn a_key_behind_a_symbolic_link_is_not_read() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let now = at("2026-01-01T00:00:00Z");
        open(dir.path(), &[], now).expect("made");
        let (key, elsewhere) = (dir.path().join("ca.key"), dir.path().join("elsewhere"));
        std::fs::rename(&key, &elsewhere).expect("moved");
        std::os::unix::fs::symlink(&elsewhere, &key).expect("linked");
        let refused = open(dir.path(), &[], now).err().expect("refused");
        assert!(matches!(&refused, PkiError::File { path, .. } if *path == key), "{refused}");
    }

    #[test]
    fn keys_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary directory");
        open(dir.path(), &[], at("2026-01-01T00:00:00Z")).expect("made");
        // A backup that was unpacked carelessly, say.
        std::fs::set_permissions(dir.path().join("ca.key"), std::fs::Permissions::from_mode(0o644)).expect("changed");
        open(dir.path(), &[], at("2026-01-01T00:00:00Z")).expect("made");
        for name in ["ca.key", "server.key"] {
            let mode = std::fs::metadata(dir.path().join(name)).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
