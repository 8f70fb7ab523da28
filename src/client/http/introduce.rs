//! Meeting a server that nothing is known of: a connection that anybody could have answered, for the one question whose answer is
//! judged by a person or a fingerprint. No credential is ever sent over it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, StatusCode, header};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio_rustls::TlsConnector;

use super::{Endpoint, HttpsEndpoint, RequestError, connect};

/// No authority's certificates are larger.
const LARGEST: usize = 64 * 1024;

/// What whoever answers at `endpoint` says that its authorities are. It proves nothing.
///
/// # Errors
/// When nobody answers, or not with a text.
pub async fn introduce(endpoint: &HttpsEndpoint) -> Result<Bytes, RequestError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let versions = versions.map_err(|e| RequestError::Broken(Box::new(e)))?;
    let mut config =
        versions.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth();
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

/// Takes every certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
