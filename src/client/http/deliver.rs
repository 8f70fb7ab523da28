//! Something that a server that is not ours is told: one POST within a time, to where it was meant for and nowhere else.

use std::{io, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Uri, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::fetch::{FetchError, trust};

/// What is told, and to whom.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// `https://…` or `http://…`
    pub url: &'a str,
    /// Who may vouch for the server, in PEM; none: whom this machine trusts.
    pub authority: Option<&'a [u8]>,
    /// Beside those that every request has.
    pub headers: &'a [(&'static str, String)],
    /// JSON.
    pub body: Bytes,
    /// For all of it.
    pub patience: Duration,
}

/// Tells it by one POST. What is answered is not read, but for its code; nobody is sent elsewhere.
///
/// # Errors
/// See [`FetchError`]; whatever is not 2xx is [`FetchError::Refused`].
pub async fn deliver(told: &Told<'_>) -> Result<(), FetchError> {
    let no_url = || FetchError::NotHttps(told.url.to_owned());
    let uri: Uri = told.url.parse().map_err(|_| no_url())?;
    let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(no_url)?;
    if !matches!(uri.scheme_str(), Some("https" | "http")) || authority.host().is_empty() {
        return Err(no_url());
    }
    let host = authority.as_str().to_owned();
    match timeout(told.patience, posted(told, &uri, &host)).await {
        Ok(done) => done,
        Err(_) => Err(FetchError::Late(host)),
    }
}

async fn posted(told: &Told<'_>, uri: &Uri, host: &str) -> Result<(), FetchError> {
    let unreachable = |source: io::Error| FetchError::Unreachable { host: host.to_owned(), source };
    let name = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = TcpStream::connect((name.as_str(), port)).await.map_err(unreachable)?;
    if !secure {
        return sent(told, uri, host, tcp).await;
    }
    let name = ServerName::try_from(name).map_err(|e| unreachable(io::Error::other(e)))?;
    let tls = trust(told.authority).map_err(unreachable)?;
    sent(told, uri, host, tls.connect(name, tcp).await.map_err(unreachable)?).await
}

async fn sent(
    told: &Told<'_>,
    uri: &Uri,
    host: &str,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), FetchError> {
    let broken = || FetchError::Broken(host.to_owned());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| broken())?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        // Whoever waits for the answer is told of the error.
        let _ = connection.await;
    }));
    let mut request = hyper::Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("appm/", env!("CARGO_PKG_VERSION")));
    for (name, value) in told.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(told.body.clone())).map_err(|_| broken())?;
    let answer = sender.send_request(request).await.map_err(|_| broken())?;
    drop(connection);
    match answer.status() {
        good if good.is_success() => Ok(()),
        status => Err(FetchError::Refused { host: host.to_owned(), status }),
    }
}
