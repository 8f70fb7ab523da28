//! A body that is sent as it comes.

use std::io;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Method, body::Frame, header};

use super::{Answer, Endpoint, HttpClient, RequestError, connect, refusal, wire};

impl HttpClient {
    /// Sends pieces as the body of a POST with these headers, each when it is there, over a connection of its own, and reads the whole answer. It may come
    /// before the last piece. Not sent again if a token is refused: the pieces are gone. Dropped, the body breaks off.
    ///
    /// # Errors
    /// When nobody answers, the connection breaks, or the answer is an error.
    pub async fn upload(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Answer, RequestError> {
        let given = match &self.tokens {
            Some(tokens) => Some(tokens(None).await?),
            None => None,
        };
        let token = match (&given, &self.endpoint) {
            (Some(token), _) => Some(token.as_str()),
            (None, Endpoint::Https(https)) => https.token.as_deref(),
            (None, Endpoint::Unix(_)) => None,
        };
        let head = self.head(&Method::POST, path, token).header(header::ACCEPT, super::JSON);
        let head = head.header(header::CONTENT_TYPE, "application/octet-stream");
        let head = headers.iter().fold(head, |head, (name, value)| head.header(*name, value));
        let request = head.body(StreamBody::new(pieces.map_ok(Frame::data)));
        let request = request.map_err(|e| RequestError::Broken(Box::new(e)))?;
        let mut sender = connect::open(&self.endpoint, self.tls.as_ref()).await?;
        let response = sender.send_request(request).await?;
        let (status, warnings) = (response.status(), wire::warnings(response.headers()));
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() { Ok(Answer { body, warnings }) } else { Err(refusal(status, &body).into()) }
    }
}
