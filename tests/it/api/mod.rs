//! The API over its own wire: a real server on a random port and a socket, over a store in memory.

mod access;
mod appmesh;
mod conformance;
mod documents;
mod doors;
mod generated;
mod hostile;
mod issuer;
mod kubectl;
mod kubectl_pods;
mod login;
mod mutations;
mod objects;
mod oidc;
mod own;
mod tls;
mod watches;

use std::{path::PathBuf, sync::Arc};

use appm::{
    admission::{Admission, Caller, WriteOptions},
    api::{Kind, Namespace},
    auth::Identity,
    clock::{SharedClock, System},
    policy::powers::Host,
    server::{self, Bounds, Foundation, LogQuery, Readiness, RunningServer, ServerConfig, TlsSettings},
    store::{Limits, Memory, Store},
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

/// A server for one test.
pub(crate) struct Api {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) server: RunningServer,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) admission: Admission,
}

/// A whole answer.
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer, which must have this code.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.text());
        self
    }
}

pub(crate) const APPS: &str = "/apis/appm.dev/v1/namespaces/default/apps";

/// A small App.
pub(crate) fn app(name: &str) -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name, "labels": {"team": "a"}},
        "spec": {"replicas": 2, "process": {"command": ["sleep", "1000"]}},
    })
}

/// Output that says what was asked for.
fn fake_logs() -> server::LogSource {
    Arc::new(|instance, query: LogQuery, _| {
        async move {
            let text = format!("{} tail={:?}\n", instance.metadata.name, query.tail);
            let pieces = futures::stream::iter([Ok(Bytes::from(text))]);
            Ok(match query.follow {
                true => pieces.chain(futures::stream::pending()).boxed(),
                false => pieces.boxed(),
            })
        }
        .boxed()
    })
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server whose store has other limits.
    pub(crate) async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::open(limits, Bounds::default()).await
    }

    /// A server with its limits.
    pub(crate) async fn open(limits: Limits, bounds: Bounds) -> Self {
        Self::configured(limits, Arc::new(System), |config| config.bounds = bounds).await
    }

    /// A server with its limits, its clock and everything that can be set.
    pub(crate) async fn configured(limits: Limits, clock: SharedClock, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let store = Store::open(Memory::new().engine(), clock.clone(), limits).await.unwrap();
        let admission = Admission::new(store, clock.clone(), Host::default());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        let served = Namespace::INFO.served().next().unwrap();
        let caller = Caller::new(Identity::system("daemon"), "appm");
        admission.create(&caller, served, "", namespace, &WriteOptions::default()).await.unwrap();
        let readiness = Arc::new(Readiness::new());
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig {
            verbosity: Default::default(),
            data_dir: dir.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            frames: None,
            wss: None,
            files: dir.path().join("files"),
            hostname: "test-host".to_owned(),
            tls: TlsSettings::default(),
            peers: Vec::new(),
            oidc: Vec::new(),
            bounds: Bounds::default(),
        };
        change(&mut config);
        let on = Foundation {
            audit: None,
            admission: admission.clone(),
            clock,
            logs: fake_logs(),
            output: Arc::new(|_, _| Box::pin(async { Ok(None) })),
            notices: Arc::new(|| Err(std::io::Error::other("there is no output"))),
            readiness: readiness.clone(),
            stop: Arc::new(|_| {}),
            look: Arc::new(|| Box::pin(async {})),
            processes: Arc::new(|_| Box::pin(async { None })),
            feed: Arc::new(|_, _| Box::pin(async { Ok(0) })),
        };
        let server = server::start(config, on).await.unwrap();
        Self { dir, server, readiness, admission }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("appm.sock")
    }

    /// Sends a request over the socket; the answer's body is still to be read.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let stream = tokio::net::UnixStream::connect(self.socket()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = hyper::Request::builder().method(method).uri(path);
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let (head, body) = self.request(method, path, headers, body).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { code: head.status.as_u16(), headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Method::PATCH, path, &[("content-type", content_type)], body).await
    }

    /// An App that exists now.
    pub(crate) async fn made(&self, name: &str) -> Value {
        self.post(APPS, &app(name)).await.expect(201).json()
    }
}
