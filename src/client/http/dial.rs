//! Connections to one server, for requests that are somebody else's and are passed on as they are.

use std::io;

use bytes::Bytes;
use hyper::client::conn::http1::SendRequest;
use tokio_rustls::TlsConnector;

use super::{Endpoint, HttpsEndpoint, RequestError, connect};

/// The way to a server whose authority is known.
pub struct Dial {
    endpoint: Endpoint,
    tls: TlsConnector,
}

impl Dial {
    /// The way to this server; its token, if it has one, is not shown by anything here.
    ///
    /// # Errors
    /// When its authority cannot be read.
    pub fn new(endpoint: HttpsEndpoint) -> io::Result<Self> {
        let tls = connect::trust(&endpoint)?;
        Ok(Self { endpoint: Endpoint::Https(endpoint), tls })
    }

    /// A new connection to it, once it has proved who it is.
    ///
    /// # Errors
    /// [`RequestError::Unreachable`], also when it is somebody else.
    pub async fn open<B>(&self) -> Result<SendRequest<B>, RequestError>
    where
        B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        connect::open(&self.endpoint, Some(&self.tls)).await
    }
}
