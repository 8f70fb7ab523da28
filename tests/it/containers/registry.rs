//! A registry with one image and one user, on the loopback.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, header},
    routing::any,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What it serves, and to whom.
struct Shelf {
    user: String,
    manifest: Bytes,
    config: Bytes,
    layer: Bytes,
    /// The second half of the layer comes when this is true.
    open: watch::Receiver<bool>,
    asked: Mutex<Vec<String>>,
}

/// One that answers as long as it is not dropped.
pub(super) struct Registry {
    address: String,
    shelf: Arc<Shelf>,
    gate: watch::Sender<bool>,
    _runtime: Runtime,
}

impl Registry {
    /// With an image of one layer, for one user.
    pub(super) fn start(layer: &Path, user: &str, password: &str) -> Self {
        let layer = Bytes::from(fs::read(layer).unwrap());
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({
            "architecture": machine, "os": "linux", "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = Bytes::from(config.to_string());
        let blob =
            |media: &str, bytes: &Bytes| json!({"mediaType": media, "size": bytes.len(), "digest": digest(bytes)});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": blob(CONFIG, &config), "layers": [blob(LAYER, &layer)],
        });
        let (gate, open) = watch::channel(false);
        let shelf = Arc::new(Shelf {
            user: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            manifest: Bytes::from(manifest.to_string()),
            config,
            layer,
            open,
            asked: Mutex::default(),
        });
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let paths = Router::new().fallback(any(answer)).with_state(shelf.clone());
        runtime.spawn(async move { axum::serve(listener, paths).await });
        Self { address, shelf, gate, _runtime: runtime }
    }

    /// The name of its image.
    pub(super) fn image(&self) -> String {
        format!("{}/team/web:1", self.address)
    }

    /// A Secret with a password for it, as `kubectl create secret docker-registry` makes one.
    pub(super) fn secret(&self, name: &str, user: &str, password: &str) -> serde_json::Value {
        let config = json!({"auths": {&self.address: {"username": user, "password": password}}});
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": config.to_string()},
        })
    }

    /// From now on layers come whole.
    pub(super) fn open(&self) {
        self.gate.send_replace(true);
    }

    /// How often the right user has asked for the image.
    pub(super) fn pulls(&self) -> usize {
        let asked = self.shelf.asked.lock().unwrap();
        asked.iter().filter(|what| what.contains("/manifests/")).count()
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}

async fn answer(State(shelf): State<Arc<Shelf>>, request: Request) -> Response<Body> {
    let empty = |status: StatusCode| Response::builder().status(status);
    let user = request.headers().get(header::AUTHORIZATION);
    if user.is_none_or(|user| user.as_bytes() != shelf.user.as_bytes()) {
        let challenge = empty(StatusCode::UNAUTHORIZED).header(header::WWW_AUTHENTICATE, "Basic realm=\"test\"");
        return challenge.body(Body::empty()).unwrap();
    }
    let path = request.uri().path();
    shelf.asked.lock().unwrap().push(format!("{} {path}", request.method()));
    let of = |media: &str, bytes: &Bytes| {
        let found = Response::builder().header(header::CONTENT_TYPE, media).header(header::CONTENT_LENGTH, bytes.len());
        found.header("Docker-Content-Digest", digest(bytes))
    };
    let (media, bytes) = match path.rsplit('/').next().unwrap_or_default() {
        "" if path == "/v2/" => return empty(StatusCode::OK).body(Body::empty()).unwrap(),
        tag if tag == "1" || tag == digest(&shelf.manifest) => (MANIFEST, &shelf.manifest),
        blob if blob == digest(&shelf.config) => (CONFIG, &shelf.config),
        blob if blob == digest(&shelf.layer) => {
            let mut open = shelf.open.clone();
            let (first, second) =
                (shelf.layer.slice(..shelf.layer.len() / 2), shelf.layer.slice(shelf.layer.len() / 2..));
            let rest = stream::once(async move {
                // Nobody opens any more: the test has ended.
                let _ = open.wait_for(|open| *open).await;
                second
            });
            let halves = stream::once(async move { first }).chain(rest).map(Ok::<_, std::convert::Infallible>);
            return of(LAYER, &shelf.layer).body(Body::from_stream(halves)).unwrap();
        }
        _ => return empty(StatusCode::NOT_FOUND).body(Body::empty()).unwrap(),
    };
    of(media, bytes).body(Body::from(bytes.clone())).unwrap()
}
