//! A document of a server that is not ours: over TLS, within a size and a time, and from where it was asked for and nowhere else.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{StatusCode, Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// What is fetched, and how much of it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// `https://…`
    pub url: &'a str,
    /// Who may vouch for the server, in PEM; none: whom this machine trusts.
    pub authority: Option<&'a [u8]>,
    /// The tag of what is known already.
    pub etag: Option<&'a str>,
    /// More of it is not read.
    pub limit: usize,
    /// For all of it.
    pub patience: Duration,
}

/// What has come.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The document; none: it is the one that is known.
    pub body: Option<Bytes>,
    /// What tells it from later ones.
    pub etag: Option<String>,
    /// How long the server says that it is good.
    pub max_age: Option<Duration>,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Only what TLS protects is believed; and told things are sent to a host.
    #[error("`{0}` is not https://HOST…")]
    NotHttps(String),
    /// Nobody answers there, or nobody who can prove who it is.
    #[error("`{host}` cannot be reached")]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// It answers with something else; a redirect is not followed.
    #[error("`{host}` answers with {status}")]
    Refused {
        /// Who.
        host: String,
        /// With what.
        status: StatusCode,
    },
    /// It takes too long.
    #[error("`{0}` did not answer in time")]
    Late(String),
    /// It broke off, or would not end.
    #[error("the answer of `{0}` broke off, or is too long")]
    Broken(String),
}

/// Fetches a document by one GET.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(wanted: &Wanted<'_>) -> Result<Fetched, FetchError> {
    let not_https = || FetchError::NotHttps(wanted.url.to_owned());
    let uri: Uri = wanted.url.parse().map_err(|_| not_https())?;
    let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(not_https)?;
    if uri.scheme_str() != Some("https") || authority.host().is_empty() {
        return Err(not_https());
    }
    let host = authority.as_str().to_owned();
    match timeout(wanted.patience, asked(wanted, &uri, &host)).await {
        Ok(done) => done,
        Err(_) => Err(FetchError::Late(host)),
    }
}

async fn asked(wanted: &Wanted<'_>, uri: &Uri, host: &str) -> Result<Fetched, FetchError> {
    let unreachable = |source| FetchError::Unreachable { host: host.to_owned(), source };
    let broken = || FetchError::Broken(host.to_owned());
    let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let tls = trust(wanted.authority).map_err(unreachable)?;
    let connected = async {
        let tcp = TcpStream::connect((name.as_str(), uri.port_u16().unwrap_or(443))).await?;
        let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
        tls.connect(name, tcp).await
    };
    let stream = connected.await.map_err(unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| broken())?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        // Whoever waits for the answer is told of the error.
        let _ = connection.await;
    }));
    let mut request = hyper::Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("appm/", env!("CARGO_PKG_VERSION")));
    if let Some(etag) = wanted.etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| broken())?;
    let (head, body) = sender.send_request(request).await.map_err(|_| broken())?.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let etag = text(header::ETAG).map(str::to_owned);
    let max_age = text(header::CACHE_CONTROL).and_then(max_age);
    let body = match head.status {
        StatusCode::OK => Some(Limited::new(body, wanted.limit).collect().await.map_err(|_| broken())?.to_bytes()),
        StatusCode::NOT_MODIFIED if wanted.etag.is_some() => None,
        status => return Err(FetchError::Refused { host: host.to_owned(), status }),
    };
    drop(connection);
    Ok(Fetched { body, etag, max_age })
}

/// Trust in these authorities and no others, or in those of the machine.
pub(super) fn trust(authority: Option<&[u8]>) -> io::Result<TlsConnector> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut roots = RootCertStore::empty();
    match authority {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|e| invalid(e.to_string()))?).map_err(io::Error::other)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(invalid("there is no authority to trust".to_owned()));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = versions.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Of `Cache-Control`; zero where nothing may be kept.
fn max_age(text: &str) -> Option<Duration> {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    if words.iter().any(|word| matches!(word.to_ascii_lowercase().as_str(), "no-store" | "no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = words.iter().find_map(|word| word.to_ascii_lowercase().strip_prefix("max-age=")?.parse().ok());
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_caching_is_understood() {
        for (text, seconds) in [
            ("max-age=300", Some(300)),
            ("public, Max-Age=60, must-revalidate", Some(60)),
            ("no-cache, max-age=300", Some(0)),
            ("no-store", Some(0)),
            ("public", None),
            ("max-age=soon", None),
        ] {
            assert_eq!(max_age(text), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[tokio::test]
    async fn whoever_does_not_answer_is_not_waited_for() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/", silent.local_addr().expect("bound"));
        let pem = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).expect("made").cert.pem();
        let patience = Duration::from_millis(20);
        let wanted = Wanted { url: &url, authority: Some(pem.as_bytes()), etag: None, limit: 1, patience };
        assert!(matches!(fetch(&wanted).await, Err(FetchError::Late(_))));
    }

    #[tokio::test]
    async fn nothing_is_fetched_but_over_tls() {
        for url in ["http://127.0.0.1/", "ftp://a/", "https://", "127.0.0.1", "https://u:p@127.0.0.1/", ""] {
            let wanted = Wanted { url, authority: None, etag: None, limit: 1, patience: Duration::from_secs(1) };
            assert!(matches!(fetch(&wanted).await, Err(FetchError::NotHttps(_))), "{url}");
        }
    }
}
