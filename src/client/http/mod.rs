//! The client over HTTP: the Unix socket of a local server, or HTTPS with a CA and a bearer token.
//!
//! HTTP/1.1, one connection for each request in flight; finished ones are kept for the next request. Beside the [`Client`] trait it
//! gives raw calls, for what only a command line wants: tables, logs, DELETE with options.

mod connect;
mod deliver;
mod dial;
mod fetch;
mod introduce;
mod unverified;
mod upload;
mod wire;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream, stream::BoxStream};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Response, StatusCode, body::Incoming, client::conn::http1::SendRequest, header};
use serde_json::Value;

use super::{Client, Done, Listing, Message, Query, WatchStream};
use crate::api::{
    App, GoDuration, Key, Kind, KindInfo, Plan, Reason, Rev, Status, StoredObject, Transaction, TransactionResult,
};

pub use deliver::{Told, deliver};
pub use dial::Dial;
pub use fetch::{FetchError, Fetched, Wanted, fetch};
pub use introduce::introduce;
pub use unverified::unverified;
pub use wire::{object_path, path_of, percent_decode, percent_encode, query_string, served_path};

/// Where a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket; the peer's uid is the credential.
    Unix(PathBuf),
    /// HTTPS.
    Https(HttpsEndpoint),
}

/// An HTTPS server, and what it takes to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpsEndpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The certificates, in PEM, that the server's must descend from.
    pub ca_pem: Vec<u8>,
    /// The bearer token.
    pub token: Option<String>,
    /// The host that the certificate is for, if that is not `host`.
    pub server_name: Option<String>,
    /// What is shown in the handshake.
    pub client: Option<Box<ClientKey>>,
}

/// A client certificate with its chain, and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// The certificate first.
    pub certificates_pem: Vec<u8>,
    /// Its key.
    pub key_pem: Vec<u8>,
}

impl HttpsEndpoint {
    /// Host and port as they stand in a URL.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl std::fmt::Debug for HttpsEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
            Endpoint::Https(https) => write!(f, "{https:?}"),
        }
    }
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody answers there.
    #[error("no server answers at {endpoint}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke in the middle.
    #[error("the connection to the server broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server said no.
    #[error(transparent)]
    Refused(#[from] Status),
}

impl From<hyper::Error> for RequestError {
    fn from(error: hyper::Error) -> Self {
        RequestError::Broken(Box::new(error))
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(status) => status,
            RequestError::Unreachable { source, .. } => {
                Status::new(Reason::ServiceUnavailable, format!("{error}: {source}", error = "no server answers"))
            }
            RequestError::Broken(_) => Status::new(Reason::ServiceUnavailable, error.to_string()),
        }
    }
}

/// A request: method, path with query, and what goes with it.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    path: String,
    accept: &'static str,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// What kubectl asks for when it wants rows instead of objects.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const JSON: &str = "application/json";
/// Content type of a JSON merge patch.
pub const MERGE_PATCH: &str = "application/merge-patch+json";

impl Request {
    /// A GET.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    /// A POST of JSON; of nothing, if it is null.
    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path, json(body))
    }

    /// A PUT of JSON; of nothing, if it is null.
    pub fn put(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::PUT, path, json(body))
    }

    /// A JSON merge patch.
    pub fn merge_patch(path: impl Into<String>, patch: &Value) -> Self {
        Self::patch(path, MERGE_PATCH, patch)
    }

    /// A patch in any dialect.
    pub fn patch(path: impl Into<String>, content_type: &'static str, patch: &Value) -> Self {
        Self { content_type, ..Self::new(Method::PATCH, path, patch.to_string().into()) }
    }

    /// A DELETE with options; with none, if they are null.
    pub fn delete(path: impl Into<String>, options: &Value) -> Self {
        Self::new(Method::DELETE, path, json(options))
    }

    /// A POST of bytes that say nothing of themselves.
    pub fn post_bytes(path: impl Into<String>, body: Bytes) -> Self {
        Self { accept: "*/*", content_type: "application/octet-stream", ..Self::new(Method::POST, path, body) }
    }

    /// The same request, asking for another form of the answer.
    #[must_use]
    pub fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// The same request with another header; values have no control characters.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn new(method: Method, path: impl Into<String>, body: Bytes) -> Self {
        Self { method, path: path.into(), accept: JSON, content_type: JSON, headers: Vec::new(), body }
    }
}

/// A good answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The body.
    pub body: Bytes,
    /// What the server warns of.
    pub warnings: Vec<String>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value, RequestError> {
        serde_json::from_slice(&self.body).map_err(|e| RequestError::Broken(Box::new(e)))
    }
}

/// Somebody else, in whose name requests are made; the caller must hold the verb `impersonate` on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acting {
    /// The user's name.
    pub user: String,
    /// Their groups, beside those that the server knows of.
    pub groups: Vec<String>,
}

/// Gives the bearer token of a request; asked again with a token that was refused, it gives another one, or says why there is none.
pub type TokenSource = Arc<dyn Fn(Option<String>) -> BoxFuture<'static, Result<String, RequestError>> + Send + Sync>;

/// A client. Cheap to share; safe from any task.
pub struct HttpClient {
    endpoint: Endpoint,
    acting: Option<Acting>,
    tls: Option<tokio_rustls::TlsConnector>,
    tokens: Option<TokenSource>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl HttpClient {
    /// A client of the server at `endpoint`. Nothing is connected yet.
    ///
    /// # Errors
    /// When the CA certificates cannot be read.
    pub fn new(endpoint: Endpoint) -> Result<Self, RequestError> {
        let tls = match &endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Https(https) => {
                let trust = connect::trust(https);
                Some(trust.map_err(|source| RequestError::Unreachable { endpoint: endpoint.clone(), source })?)
            }
        };
        Ok(Self { endpoint, acting: None, tls, tokens: None, idle: Mutex::default() })
    }

    /// The same client, whose requests are made in somebody else's name.
    #[must_use]
    pub fn acting_as(self, acting: Acting) -> Self {
        Self { acting: Some(acting), ..self }
    }

    /// The same client with tokens that end and are followed by others, in place of the endpoint's own.
    #[must_use]
    pub fn bearing(self, tokens: TokenSource) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Where it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error.
    pub async fn call(&self, request: Request) -> Result<Answer, RequestError> {
        let (response, sender) = self.send(request).await?;
        let warnings = wire::warnings(response.headers());
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        self.idle.lock().expect("no holder panics").push(sender);
        if status.is_success() { Ok(Answer { body, warnings }) } else { Err(refusal(status, &body).into()) }
    }

    /// Sends a request and gives the answer's body piece by piece, for logs and watches.
    ///
    /// # Errors
    /// When nobody answers, or the answer is an error. The stream itself ends with an error when the connection breaks.
    pub async fn stream(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Bytes, RequestError>>, RequestError> {
        Ok(self.pieces(request).await?.1)
    }

    /// The headers of an answer, and its body piece by piece.
    ///
    /// # Errors
    /// As [`HttpClient::stream`].
    pub async fn pieces(
        &self,
        request: Request,
    ) -> Result<(HeaderMap, BoxStream<'static, Result<Bytes, RequestError>>), RequestError> {
        let (response, _) = self.send(request).await?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            let body = body.collect().await?.to_bytes();
            return Err(refusal(head.status, &body).into());
        }
        let pieces = stream::unfold(body, |mut body| async move {
            loop {
                match body.frame().await? {
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => return Some((Ok(data), body)),
                        Err(_trailers) => continue,
                    },
                    Err(error) => return Some((Err(error.into()), body)),
                }
            }
        });
        Ok((head.headers, pieces.boxed()))
    }

    /// The lines of an answer, without their ends; for watches.
    ///
    /// # Errors
    /// As [`HttpClient::stream`].
    pub async fn lines(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Bytes, RequestError>>, RequestError> {
        Ok(self.lines_and_warnings(request).await?.0)
    }

    /// The lines of an answer, and what the server warns of.
    ///
    /// # Errors
    /// As [`HttpClient::stream`].
    pub async fn lines_and_warnings(
        &self,
        request: Request,
    ) -> Result<(BoxStream<'static, Result<Bytes, RequestError>>, Vec<String>), RequestError> {
        let (headers, pieces) = self.pieces(request).await?;
        Ok((wire::lines(pieces).boxed(), wire::warnings(&headers)))
    }

    /// Sends a request; once more with another token if the first one is refused and there is one.
    async fn send(&self, request: Request) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), RequestError> {
        let Some(tokens) = &self.tokens else {
            let token = match &self.endpoint {
                Endpoint::Https(https) => https.token.as_deref(),
                Endpoint::Unix(_) => None,
            };
            return self.send_as(&request, token).await;
        };
        let token = tokens(None).await?;
        let sent = self.send_as(&request, Some(&token)).await?;
        if sent.0.status() != StatusCode::UNAUTHORIZED {
            return Ok(sent);
        }
        let other = tokens(Some(token)).await?;
        self.send_as(&request, Some(&other)).await
    }

    /// What every request says of itself and of who asks.
    fn head(&self, method: &Method, path: &str, token: Option<&str>) -> hyper::http::request::Builder {
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost".to_owned(),
            Endpoint::Https(https) => https.authority(),
        };
        let mut built = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("appm/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            built = built.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(Acting { user, groups }) = &self.acting {
            built = built.header("impersonate-user", user);
            built = groups.iter().fold(built, |built, group| built.header("impersonate-group", group));
        }
        built
    }

    async fn send_as(
        &self,
        request: &Request,
        token: Option<&str>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), RequestError> {
        let mut built = self.head(&request.method, &request.path, token).header(header::ACCEPT, request.accept);
        if !request.body.is_empty() {
            built = built.header(header::CONTENT_TYPE, request.content_type);
        }
        built = request.headers.iter().fold(built, |built, (name, value)| built.header(*name, value));
        let request = built.body(Full::new(request.body.clone())).map_err(|e| RequestError::Broken(Box::new(e)))?;
        // A kept connection may have been closed by the server meanwhile; a request that was never sent comes back.
        let kept = self.idle.lock().expect("no holder panics").pop();
        let unsent = match kept {
            None => request,
            Some(mut sender) => match sender.ready().await {
                Err(_closed) => request,
                Ok(()) => match sender.try_send_request(request).await {
                    Ok(response) => return Ok((response, sender)),
                    Err(mut failed) => match failed.take_message() {
                        Some(request) => request,
                        None => return Err(failed.into_error().into()),
                    },
                },
            },
        };
        let mut sender = connect::open(&self.endpoint, self.tls.as_ref()).await?;
        let response = sender.send_request(unsent).await?;
        Ok((response, sender))
    }
}

fn json(body: &Value) -> Bytes {
    if body.is_null() { Bytes::new() } else { body.to_string().into() }
}

fn refusal(status: StatusCode, body: &Bytes) -> Status {
    let value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let mut refusal = Status::from_json(&value, status.as_u16());
    if refusal.reason == Reason::Unknown {
        // App Mesh's calls say it by the code alone.
        let plain = [Reason::BadRequest, Reason::Unauthorized, Reason::Forbidden, Reason::NotFound, Reason::Conflict];
        let said = plain.into_iter().find(|reason| reason.code() == status.as_u16());
        refusal.reason = said.unwrap_or(Reason::Unknown);
    }
    refusal
}

impl Client for HttpClient {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Arc<StoredObject>>, Status>> {
        Box::pin(async move {
            match self.call(Request::get(object_path(key))).await {
                Ok(answer) => wire::stored(answer.json()?).map(Some),
                Err(RequestError::Refused(status)) if status.is(Reason::NotFound) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn list<'a>(&'a self, kind: &'static KindInfo, query: &'a Query) -> BoxFuture<'a, Result<Listing, Status>> {
        Box::pin(async move {
            let path = path_of(kind, query.namespace.as_deref(), None) + &query_string(&wire::selection(query));
            let mut list = self.call(Request::get(path)).await?.json()?;
            let revision = wire::revision(&list)?;
            let items = match list["items"].take() {
                Value::Array(items) => items.into_iter().map(wire::stored).collect::<Result<_, _>>()?,
                _ => Vec::new(),
            };
            Ok(Listing { revision, items })
        })
    }

    fn watch<'a>(
        &'a self,
        kind: &'static KindInfo,
        query: &'a Query,
        from: Rev,
    ) -> BoxFuture<'a, Result<WatchStream, Status>> {
        Box::pin(async move {
            let mut options = wire::selection(query);
            options.push(("watch", "true".to_owned()));
            options.push(("allowWatchBookmarks", "true".to_owned()));
            options.push(("resourceVersion", from.to_string()));
            let path = path_of(kind, query.namespace.as_deref(), None) + &query_string(&options);
            let lines = self.lines(Request::get(path)).await?;
            Ok(lines.map(|line| wire::watch_event(&line?)).boxed())
        })
    }

    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Vec<Done>, Status>> {
        Box::pin(async move {
            let body = serde_json::to_value(&transaction).expect("transactions are plain data");
            let answer = self.call(Request::post("/apis/appm.dev/v1/transactions", &body)).await?.json()?;
            let result: TransactionResult = serde_json::from_value(answer).map_err(|e| wire::unreadable(&e))?;
            let done = |r: crate::api::OperationResult| {
                Ok(Done { outcome: r.outcome, object: wire::stored(r.object)?, warnings: r.warnings })
            };
            result.results.into_iter().map(done).collect()
        })
    }

    fn plan(&self, transaction: Transaction) -> BoxFuture<'_, Result<Plan, Status>> {
        Box::pin(async move {
            let body = serde_json::to_value(&transaction).expect("transactions are plain data");
            let answer = self.call(Request::post("/apis/appm.dev/v1/transactions?plan", &body)).await?.json()?;
            serde_json::from_value(answer).map_err(|e| wire::unreadable(&e))
        })
    }

    fn send_task(&self, message: Message) -> BoxFuture<'_, Result<Bytes, Status>> {
        Box::pin(async move {
            if message.user.is_some() {
                return Err(Status::bad_request("over the wire a task is sent in one's own name"));
            }
            let Message { namespace, app, payload, timeout, idempotent, .. } = message;
            let mut options = vec![("idempotent", idempotent.to_string())];
            options.extend(timeout.map(|timeout| ("timeout", GoDuration(timeout).to_string())));
            let path = path_of(App::INFO, Some(&namespace), Some(&app)) + "/task" + &query_string(&options);
            Ok(self.call(Request::post_bytes(path, payload)).await?.body)
        })
    }
}

#[cfg(test)]
mod tests;
