//! The client against a tiny server that answers by path.

use std::{convert::Infallible, path::Path};

use futures::TryStreamExt;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixListener;

use super::*;
use crate::{
    api::{App, Kind, Operation, OperationVerb},
    client::{ChangeType, WatchEvent},
};

fn app(name: &str, revision: u64) -> Value {
    json!({
        "apiVersion": "appm.dev/v1", "kind": "App",
        "metadata": {"name": name, "namespace": "default", "uid": "u", "resourceVersion": revision.to_string()},
        "spec": {"process": {"command": ["true"]}},
    })
}

fn answer(method: &Method, uri: &str, body: &str) -> (u16, String) {
    match (method.as_str(), uri) {
        ("GET", "/apis/appm.dev/v1/namespaces/default/apps/web") => (200, app("web", 7).to_string()),
        ("GET", "/apis/appm.dev/v1/namespaces/default/apps?labelSelector=a%3Db") => {
            let list = json!({"kind": "AppList", "metadata": {"resourceVersion": "9"}, "items": [app("web", 7)]});
            (200, list.to_string())
        }
        ("GET", uri) if uri.contains("watch=true") => {
            let gone = Status::expired(Rev(3), Rev(5)).to_json();
            let events = [
                json!({"type": "ADDED", "object": app("web", 10)}),
                json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12"}}}),
                json!({"type": "ERROR", "object": gone}),
            ];
            (200, events.map(|e| format!("{e}\n")).concat())
        }
        ("POST", "/apis/appm.dev/v1/transactions") => {
            let sent: Transaction = serde_json::from_str(body).expect("a transaction");
            let results: Vec<Value> =
                sent.operations.iter().map(|o| json!({"outcome": "created", "object": o.object})).collect();
            (200, json!({"resourceVersion": "13", "results": results}).to_string())
        }
        _ => (404, Status::no_route().to_json().to_string()),
    }
}

async fn serve(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a fresh path");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: hyper::Request<Incoming>| async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a whole request").to_bytes();
                let uri = head.uri.to_string();
                let (code, text) = answer(&head.method, &uri, &String::from_utf8_lossy(&body));
                let response = Response::builder().status(code).body(Full::new(Bytes::from(text)));
                Ok::<_, Infallible>(response.expect("a response"))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

#[tokio::test]
async fn the_trait_works_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("s");
    serve(&socket).await;
    let client = HttpClient::new(Endpoint::Unix(socket)).expect("a client");

    let web = client.get(&Key::of::<App>("default", "web")).await.expect("an answer").expect("it is there");
    assert_eq!((web.revision, web.meta().name.as_str()), (Rev(7), "web"));
    assert!(client.get(&Key::of::<App>("default", "none")).await.expect("an answer").is_none());

    let query = Query { namespace: Some("default".into()), label_selector: "a=b".into(), ..Query::default() };
    let listing = client.list(App::INFO, &query).await.expect("a list");
    assert_eq!((listing.revision, listing.items.len()), (Rev(9), 1));

    let mut watch = client.watch(App::INFO, &query, Rev(9)).await.expect("a watch");
    let first = watch.try_next().await.expect("no error yet");
    assert!(matches!(first, Some(WatchEvent::Change(ChangeType::Added, o)) if o.revision == Rev(10)));
    assert!(matches!(watch.try_next().await, Ok(Some(WatchEvent::Bookmark(Rev(12))))));
    assert!(watch.try_next().await.expect_err("the history is gone").is(Reason::Expired));

    let transaction = Transaction::new("test", vec![Operation::new(OperationVerb::Apply, app("web", 14))]);
    let done = client.transact(transaction).await.expect("done");
    assert_eq!(done[0].object.revision, Rev(14));
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = HttpClient::new(Endpoint::Unix(folder.path().join("none"))).expect("a client");
    let error = client.call(Request::get("/version")).await.expect_err("nobody answers");
    assert!(matches!(error, RequestError::Unreachable { .. }), "{error:?}");
}
