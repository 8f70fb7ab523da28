//! What stands in an X.509 certificate: whose it is, for which hosts, and until when.
//!
//! Reading is not believing: whoever uses the answer has verified the chain (rustls does), or shows it to a person. Certificates
//! come from strangers, so whatever is odd is refused, not guessed at: a second common name, characters that no name has.

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Longest name of a user or group, in bytes.
const LONGEST: usize = 256;
/// Most groups of one certificate.
const MOST: usize = 64;

/// A certificate's facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of its subject; Kubernetes takes it for the user.
    pub common_name: Option<String>,
    /// The organizations of its subject; Kubernetes takes them for the user's groups.
    pub organizations: Vec<String>,
    /// The host names and addresses that it is for; names may begin with `*.`.
    pub hosts: Vec<String>,
    /// The first moment of its time.
    pub begins: Timestamp,
    /// The last moment of its time.
    pub expires: Timestamp,
    /// Whether it may sign others.
    pub is_authority: bool,
}

/// Why a certificate is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are no certificate, or more than one.
    #[error("it is no X.509 certificate")]
    Malformed,
    /// A name that nobody can have.
    #[error("its subject has names that are odd: empty, too long, too many, or with control characters")]
    Odd,
    /// Which of them counts is anybody's guess.
    #[error("its subject has more than one common name")]
    Ambiguous,
}

impl Certificate {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, read) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let subject = read.subject();
        let mut common_names = texts(subject.iter_common_name())?;
        if common_names.len() > 1 {
            return Err(CertificateError::Ambiguous);
        }
        let organizations = texts(subject.iter_organization())?;
        if organizations.len() > MOST {
            return Err(CertificateError::Odd);
        }
        let validity = read.validity();
        Ok(Self {
            common_name: common_names.pop(),
            organizations,
            hosts: hosts(&read),
            begins: time(validity.not_before.timestamp()),
            expires: time(validity.not_after.timestamp()),
            is_authority: read.is_ca(),
        })
    }

    /// True if it is for this host, in the way in which browsers compare: `*.` stands for exactly one label.
    pub fn serves(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| host_matches(pattern, host))
    }
}

/// True if `host` is `pattern`, or one label below it if it begins with `*.`. Case and a last dot do not count.
pub fn host_matches(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match pattern.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| {
            !label.is_empty() && rest.eq_ignore_ascii_case(parent) && host.parse::<IpAddr>().is_err()
        }),
        None => host.eq_ignore_ascii_case(pattern),
    }
}

/// The SHA-256 of a certificate, as people compare it: `sha256:` and 64 digits.
pub fn fingerprint(der: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(der)))
}

fn texts<'a>(attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Result<Vec<String>, CertificateError> {
    let sound = |text: &&str| (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control);
    attributes.map(|a| a.as_str().ok().filter(sound).map(str::to_owned).ok_or(CertificateError::Odd)).collect()
}

fn hosts(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    names.flatten().filter_map(host).collect()
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Certificates without an end say the year 9999, which the calendar has only almost.
fn time(seconds: i64) -> Timestamp {
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(end)
}

/// A certificate in PEM.
pub fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII"));
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// The certificates of a PEM text, in DER, as far as it can be read.
pub fn ders(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).map_while(Result::ok).map(|der| der.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn made(subject: &[(DnType, &str)], hosts: &[&str]) -> Vec<u8> {
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name = DistinguishedName::new();
        for (kind, text) in subject {
            params.distinguished_name.push(kind.clone(), *text);
        }
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn subject_hosts_and_time_are_read() {
        let der = made(
            &[(DnType::CommonName, "alice"), (DnType::OrganizationName, "builders")],
            &["host.example", "*.example", "127.0.0.1", "::1"],
        );
        let read = Certificate::read(&der).expect("read");
        assert_eq!(read.common_name.as_deref(), Some("alice"));
        assert_eq!(read.organizations, ["builders"]);
        assert_eq!(read.hosts, ["host.example", "*.example", "127.0.0.1", "::1"]);
        assert_eq!(read.expires, Timestamp::MAX);
        assert!(!read.is_authority && read.serves("A.EXAMPLE.") && read.serves("::1"));
        assert!(!read.serves("a.b.example") && !read.serves("example") && !read.serves(".example"));
    }

    #[test]
    fn names_that_lie_are_refused() {
        for name in ["", "admin\0.evil", "a\nb", &"x".repeat(LONGEST + 1)] {
            let read = Certificate::read(&made(&[(DnType::CommonName, name)], &[]));
            assert_eq!(read, Err(CertificateError::Odd), "{name:?}");
        }
        assert_eq!(Certificate::read(b"x"), Err(CertificateError::Malformed));
        assert_eq!(ders(format!("text\n{}", pem(b"x").repeat(2)).as_bytes()), [b"x", b"x"]);
        let mut two = made(&[], &[]);
        two.extend(two.clone());
        assert_eq!(Certificate::read(&two), Err(CertificateError::Malformed));
    }
}
