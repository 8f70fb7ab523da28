//! App Mesh's calls over HTTPS: who may make which, for whom tokens are, and what is not passed on.

use std::fmt::Write;

use super::*;
use crate::api::doors::{people, user};

const COLUMNS: [&str; 6] = ["admin", "edit", "operator", "view", "member", "nobody"];

/// Not in the table: they wait for a process to end, and there is none here; they stand behind the same door as the call that does not wait.
const WAITS: [(&str, &str); 1] = [("POST", "app/syncrun")];

/// A body that is judged by who sends it, not by what it says.
fn body(method: &str, path: &str, who: &str) -> String {
    match (method, path) {
        // Turned off, so that nobody waits for its process. Each has their own.
        ("PUT", "app/*") => json!({"name": format!("of-{who}"), "command": "true", "status": 0}),
        ("POST", "app/run") => json!({"command": "true"}),
        ("POST", "role/*") => json!(["app-view"]),
        ("POST", "principal/*") => json!({"roles": []}),
        ("PUT", "user/*") => json!({"email": "a@example.org", "roles": []}),
        ("POST", "user/*/passwd") => json!({"old_password": "QQ==", "new_password": "TG9uZy1lbm91Z2gtMQ=="}),
        ("POST", "config") => json!({"Labels": {"a": "b"}}),
        ("POST", "totp/validate") => json!({}),
        _ => return String::new(),
    }
    .to_string()
}

async fn by(api: &Api, who: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers: Vec<(&str, &str)> =
        [("impersonate-user", user(who))].into_iter().chain(headers.iter().copied()).collect();
    api.send(method.parse().unwrap(), path, &headers, body.to_owned()).await
}

/// Every call is a line, and somebody has to look at it: `yes` is everything but a refusal for want of a right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_app_mesh_is_open_to_whom_the_table_says() {
    let api = Api::start().await;
    people(&api).await;
    for who in COLUMNS {
        let (path, body) = (format!("/appmesh/app/there-{who}"), json!({"command": "true", "status": 0}));
        by(&api, "admin", "PUT", &path, &[], &body.to_string()).await.expect(200);
    }
    let mut table = format!("{:36}{}\n", "", COLUMNS.map(|name| format!("{name:10}")).concat().trim_end());
    for (method, pattern) in appm::appmesh::routes().filter(|route| !WAITS.contains(route)) {
        let mut cells = String::new();
        for who in COLUMNS {
            // Labels are the Node's; what the others are about is the admin's.
            let name = if pattern.starts_with("label/") { "absent?value=x".to_owned() } else { format!("there-{who}") };
            let path = format!("/appmesh/{}", pattern.replace('*', &name));
            let reply = by(&api, who, method, &path, &[], &body(method, pattern, who)).await;
            let cell = match reply.code {
                403 => "-".to_owned(),
                404 if who == "member" => "own".to_owned(),
                200 | 204 | 400 | 404 | 409 => "yes".to_owned(),
                // Who has no session, no key or no connection to be told on.
                code => code.to_string(),
            };
            write!(cells, "{cell:10}").unwrap();
        }
        writeln!(table, "{:36}{}", format!("{} {pattern}", method.to_lowercase()), cells.trim_end()).unwrap();
    }
    insta::assert_snapshot!("app_mesh_calls", table);
    api.server.stop().await;
}

#[tokio::test]
async fn nobody_logs_in_for_what_app_mesh_keeps_and_a_request_is_passed_on_to_nobody() {
    let api = Api::start().await;
    people(&api).await;
    for odd in ["appmesh-file-service", "appmesh-refresh", "appm.dev/v1", "a b"] {
        let headers = [("authorization", "Basic YWRtaW46eA=="), ("x-audience", odd)];
        for (path, headers) in [("/appmesh/login", &headers[..]), ("/appmesh/auth", &headers[1..])] {
            let reply = by(&api, "admin", "POST", path, headers, "").await;
            assert_eq!(reply.code, 400, "{}", reply.text());
            assert!(reply.text().contains("is no audience that a token can be for"), "{}", reply.text());
        }
    }
    // Neither to another host nor to another port of this one; a metadata service of a cloud least of all.
    let port = api.server.address.port();
    for target in
        ["node-b", "node-b:6060", "127.0.0.1:22", "localhost:1", "169.254.169.254", "[fe80::1]:6060", "a b", ""]
    {
        for (method, path) in
            [("GET", "/appmesh/applications"), ("POST", "/appmesh/login"), ("DELETE", "/appmesh/app/x")]
        {
            let reply = by(&api, "admin", method, path, &[("x-target-host", target)], "").await;
            assert_eq!(reply.code, 502, "{method} {path} to {target}: {}", reply.text());
        }
    }
    for target in ["127.0.0.1".to_owned(), format!("localhost:{port}")] {
        let reply = by(&api, "admin", "GET", "/appmesh/applications", &[("x-target-host", &target)], "").await;
        assert_eq!((reply.code, reply.json()), (200, json!([])), "{target} is this server");
    }
    api.server.stop().await;
}

#[tokio::test]
async fn whoever_may_not_send_a_file_is_told_so_however_long_it_is() {
    let api = Api::start().await;
    people(&api).await;
    let file = vec![b'x'; 8 << 20];
    for (who, code) in [("nobody", 403), ("admin", 403)] {
        // The one may send none; of the other's path nothing is made.
        let headers = [("impersonate-user", user(who)), ("x-file-path", "../outside")];
        let reply = api.send(Method::POST, "/appmesh/file/upload", &headers, file.clone()).await;
        assert_eq!(reply.code, code, "{who}: {}", reply.text());
    }
    api.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_nothing_in_is_cut_off() {
    let files = tempfile::tempdir().unwrap();
    let large = std::fs::File::create(files.path().join("large")).unwrap();
    large.set_len(256 << 20).unwrap();
    let stalled = std::time::Duration::from_millis(300);
    let api = Api::configured(Limits::default(), Arc::new(System), |config| {
        config.frames = Some("127.0.0.1:0".parse().unwrap());
        config.wss = Some("127.0.0.1:0".parse().unwrap());
        config.files = files.path().to_owned();
        config.bounds = Bounds { stalled, ..Bounds::default() };
    })
    .await;
    let mut big = app("big");
    big["spec"]["process"]["stdin"] = json!("x".repeat(250_000));
    api.post(APPS, &big).await.expect(201);
    let (tcp, wss, ca) = (api.server.frames.unwrap(), api.server.wss.unwrap(), api.dir.path().join("pki/ca.pem"));
    let kubeconfig = std::fs::read_to_string(api.dir.path().join("kubeconfig")).unwrap();
    let token = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    let token = format!("Bearer {}", token.trim_matches('"'));
    let read = tokio::task::spawn_blocking(move || {
        let is_cut_off = |client: &crate::frames::Frames| {
            crate::harness::wait_for("the connection to be given up", || {
                if client.is_closed() { Ok(()) } else { Err("it is open".to_owned()) }
            });
        };
        let mut client = crate::frames::Frames::connect(tcp, &ca);
        client.send(
            "GET",
            "/appmesh/file/download",
            &[("Authorization", &token), ("X-Recv-File-Socket", "1"), ("X-File-Path", "large")],
            &[],
            b"",
        );
        assert_eq!(client.next().unwrap().code, 200);
        is_cut_off(&client);
        // Answers that nobody takes in, more than the connection holds.
        let mut client = crate::frames::Frames::web_socket((wss, &ca), &[("authorization", &token)]);
        (0..64).for_each(|_| client.send("GET", "/appmesh/app/big", &[], &[], b""));
        is_cut_off(&client);
    });
    read.await.unwrap();
    api.server.stop().await;
}

#[tokio::test]
async fn a_file_is_given_to_nobody_whom_its_sender_may_not_use() {
    let files = tempfile::tempdir().unwrap();
    let api =
        Api::configured(Limits::default(), Arc::new(System), |config| config.files = files.path().to_owned()).await;
    people(&api).await;
    let role = json!({
        "apiVersion": "appm.dev/v1", "kind": "Role", "metadata": {"name": "sender"},
        "spec": {"rules": [{"nonResourceURLs": ["/appmesh/file"], "verbs": ["post"]}]},
    });
    api.post("/apis/appm.dev/v1/roles", &role).await.expect(201);
    let sender = json!({
        "apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "sender"}, "spec": {"roles": [{"name": "sender"}]},
    });
    api.post("/apis/appm.dev/v1/users", &sender).await.expect(201);
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(files.path()).unwrap());
    // Only root gives files away.
    let given = if own == 0 { 1 } else { own };
    for (who, owner) in [("sender", own), (user("admin"), given)] {
        let headers = [
            ("impersonate-user", who),
            ("x-file-path", who),
            ("x-file-user", "1"),
            ("x-file-group", "1"),
            ("x-file-mode", "2559"),
        ];
        api.send(Method::POST, "/appmesh/file/upload", &headers, "text").await.expect(200);
        let metadata = std::fs::metadata(files.path().join(who)).unwrap();
        let found =
            (std::os::unix::fs::MetadataExt::uid(&metadata), std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7777);
        assert_eq!(found, (owner, 0o777), "{who}");
    }
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 2, "nothing else is left");
    api.server.stop().await;
}
