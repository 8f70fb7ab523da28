//! Opening a connection: Unix socket, or TCP with TLS.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{Endpoint, HttpsEndpoint, RequestError};

/// A server that does not take a connection for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Trust in the authorities of an endpoint and in no others, and what is shown to it.
pub(super) fn trust(endpoint: &HttpsEndpoint) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&endpoint.ca_pem) {
        let certificate = certificate.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no CA certificate to trust"));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(io::Error::other)?.with_root_certificates(roots);
    let mut config = match &endpoint.client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let bad = |e: &dyn std::fmt::Display| {
                io::Error::new(io::ErrorKind::InvalidData, format!("the client certificate or its key: {e}"))
            };
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&client.certificates_pem).collect();
            let key = PrivateKeyDer::from_pem_slice(&client.key_pem).map_err(|e| bad(&e))?;
            config.with_client_auth_cert(chain.map_err(|e| bad(&e))?, key).map_err(|e| bad(&e))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A body that can be sent.
pub(super) trait Sent:
    hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

impl<B> Sent for B where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static
{
}

/// A new connection. The task that drives it ends with it.
pub(super) async fn open<B: Sent>(
    endpoint: &Endpoint,
    tls: Option<&TlsConnector>,
) -> Result<SendRequest<B>, RequestError> {
    let unreachable = |source| RequestError::Unreachable { endpoint: endpoint.clone(), source };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the connection was not taken in time");
    match (endpoint, tls) {
        (Endpoint::Https(https), Some(tls)) => {
            let connecting = async {
                let tcp = TcpStream::connect((https.host.as_str(), https.port)).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from(https.server_name.as_ref().unwrap_or(&https.host).clone())
                    .map_err(io::Error::other)?;
                tls.connect(name, tcp).await
            };
            let connected = timeout(PATIENCE, connecting).await.unwrap_or_else(|_| Err(late()));
            shake_hands(connected.map_err(unreachable)?).await
        }
        (Endpoint::Unix(path), _) => {
            let connected = timeout(PATIENCE, UnixStream::connect(path)).await.unwrap_or_else(|_| Err(late()));
            shake_hands(connected.map_err(unreachable)?).await
        }
        (Endpoint::Https(_), None) => unreachable!("a client of an HTTPS endpoint is made with its trust"),
    }
}

async fn shake_hands<S, B: Sent>(stream: S) -> Result<SendRequest<B>, RequestError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Whoever waits for an answer is told of the error by `sender`.
        let _ = connection.await;
    });
    Ok(sender)
}
