//! Meeting a server that nothing is known of: a connection that anybody could have answered, for the one question whose answer is
//! judged by a person or a fingerprint. No credential is ever sent over it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, StatusCode, header};
use tokio_rustls::TlsConnector;

use super::{Endpoint, HttpsEndpoint, RequestError, connect, unverified::unverified};

/// No authority's certificates are larger.
const LARGEST: usize = 64 * 1024;

/// What whoever answers at `endpoint` says that its authorities are. It proves nothing.
///
/// # Errors
/// When nobody answers, or not with a text.
pub async fn introduce(endpoint: &HttpsEndpoint) -> Result<Bytes, RequestError> {
    let mut config = unverified();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];

    let stranger = Endpoint::Https(HttpsEndpoint { token: None, client: None, ..endpoint.clone() });
    let mut sender = connect::open(&stranger, Some(&TlsConnector::from(Arc::new(config)))).await?;
    let request = hyper::Request::builder()
        .method(Method::GET)
        .uri("/ca.pem")
        .header(header::HOST, endpoint.authority())
        .body(Full::new(Bytes::new()))
        .map_err(|e| RequestError::Broken(Box::new(e)))?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::OK {
        return Err(RequestError::Refused(super::refusal(response.status(), &Bytes::new())));
    }
    let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(RequestError::Broken)?;
    Ok(body.to_bytes())
}
