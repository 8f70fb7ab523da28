//! What whoever means harm tries over the wire, by the classes of holes that other servers had (docs/testing.md names them).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    access::routes,
    doors::{Credential, House, user},
    tls, *,
};

/// Sends text as it is to the socket of the server's owner, and reads up to the end of the first head.
async fn head_of(api: &Api, text: &str) -> String {
    let mut stream = tokio::net::UnixStream::connect(api.socket()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    let read = async {
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap() > 0 {
            head.truncate(head.windows(4).position(|at| at == b"\r\n\r\n").map_or(head.len(), |at| at + 4));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("an answer before any body");
    String::from_utf8_lossy(&head).into_owned()
}

#[tokio::test]
async fn what_has_no_route_is_refused_before_its_body_is_read() {
    let api = Api::start().await;
    for path in [
        // Supervisor's nested methods, and other servers' doors.
        "/RPC2",
        "/RPC2/supervisor.supervisord.options.warnings.linecache.os.system",
        "/supervisor.options.execve",
        "/cgi-bin/sh",
        "/api/v1/nodes/n/proxy/run",
        "/api/jobs/",
        "/script",
        // An engine's API is nobody's but the server's own.
        "/plugins",
        "/v1.41/plugins/pull",
        "/containers/json",
        "/v1.41/containers/create",
        "/v1.41/exec/a/start",
        "/v1.41/volumes/create",
        "/services/create",
        "/images/load",
        "/libpod/containers/create",
        "/api/endpoints/1/docker/containers/json",
        // Names that begin as ours do.
        "/apis/appm.dev/v1/appsx",
        "/apis/appm.devx/v1/apps",
        "/apis/appm.dev/v1/namespaces/default/APPS",
        "/apis/appm.dev/v1/namespaces/default/credentials",
        "/apis/appm.dev/v1/sessions",
        "/apis/appm.dev/v1/signingkeys",
        "/stopp",
        "/auditx",
    ] {
        for method in ["POST", "PUT"] {
            let text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n");
            let head = head_of(&api, &text).await;
            assert!(head.starts_with("HTTP/1.1 404"), "{method} {path}: {head}");
        }
        api.get(path).await.expect(404);
    }
    for method in ["PROPFIND", "DEBUG", "TRACE", "MKCOL", "get", "__import__"] {
        let text = format!("{method} {APPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n");
        let head = head_of(&api, &text).await;
        assert!(head.starts_with("HTTP/1.1 405"), "{method}: {head}");
    }
    api.server.stop().await;
}

#[tokio::test]
async fn without_credentials_every_route_is_401_whatever_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let authority = tls::Authority::new("anybody");
    let (certificate, key) = authority.signs("web", "it", &["localhost"]);
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let files = [file("ca.pem", &authority.pem), file("tls.crt", &certificate), file("tls.key", &key)];
    for settings in 0..3 {
        let api = Api::configured(Limits::default(), Arc::new(System), |config| match settings {
            0 => {}
            1 => config.tls.client_ca = Some(files[0].clone()),
            _ => {
                config.tls.brought = Some((files[1].clone(), files[2].clone()));
                config.tls.allowed_hosts = vec!["*.example".to_owned()];
            }
        })
        .await;
        let mut roots = tls::trusting(&api);
        roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let config = tls::builder(tls::BOTH).with_root_certificates(roots).with_no_client_auth();
        let stream = tls::connected(api.server.address, "localhost", config).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut all = routes();
        for path in ["/auth/v1/tokens", "/auth/v1/password", "/auth/v1/logout", "/auth/v1/totp/enroll"] {
            all.push((path.to_owned(), Method::POST, path.to_owned()));
        }
        for path in ["/audit", "/audit/verify", "/api", "/apis", "/nothing"] {
            all.push((path.to_owned(), Method::GET, path.to_owned()));
        }
        // Nothing, and what those show who believe that there is a default.
        for (shown, method, path) in &all {
            for given in ["", "Basic YWRtaW46YWRtaW4=", "Bearer ", "Bearer null", "Bearer appm__", "Negotiate x"] {
                if !given.is_empty() && shown != "list apps.appm.dev" {
                    continue;
                }
                let mut request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
                if !given.is_empty() {
                    request = request.header("authorization", given);
                }
                sender.ready().await.unwrap();
                let answer = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
                assert_eq!(answer.status(), 401, "{shown} with `{given}`, settings {settings}");
                answer.into_body().collect().await.unwrap();
            }
        }
        api.server.stop().await;
    }
}

#[tokio::test]
async fn a_page_of_another_site_may_use_no_method_and_no_header() {
    let api = Api::start().await;
    api.made("web").await;
    let path = format!("{APPS}/web");
    for origin in ["https://evil.example", "null", "http://localhost", "https://localhost.evil.example", "file://"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "MERGE", "PURGE"] {
            for (name, value) in [
                ("content-type", "text/plain"),
                ("content-type", "application/x-www-form-urlencoded"),
                ("x-http-method-override", "GET"),
                ("sec-fetch-site", "cross-site"),
            ] {
                let headers = [("host", "localhost:6060"), ("origin", origin), (name, value)];
                let code = api.send(method.parse().unwrap(), &path, &headers, "{}").await.code;
                assert_eq!(code, 403, "{method} of {origin} with {name}: {value}");
            }
        }
    }
    // What overrides a method overrides nothing.
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        api.send(Method::GET, &path, &[("host", "localhost"), (name, "DELETE")], "").await.expect(200);
        api.send(Method::GET, &format!("{path}?_method=DELETE"), &[("host", "localhost")], "").await.expect(200);
    }
    api.get(&path).await.expect(200);
    api.server.stop().await;
}

#[tokio::test]
async fn an_upgrade_is_never_granted_and_a_connection_carries_nobody_over() {
    let house = House::open().await;
    let config = tls::builder(tls::BOTH).with_root_certificates(tls::trusting(&house.api)).with_no_client_auth();
    let token = house.token("view");
    for protocol in ["websocket", "SPDY/3.1", "h2c", "tcp"] {
        for part in ["pods/web-0/exec?command=id", "pods/web-0/attach", "pods/web-0/portforward", "pods/web-0/log"] {
            let path = format!("/api/v1/namespaces/default/{part}");
            let mut stream = tls::connected(house.api.server.address, "localhost", config.clone()).await.unwrap();
            // Behind the upgrade comes what its author hopes that a tunnel carries on.
            let text = format!(
                "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: Upgrade\r\n\
                 upgrade: {protocol}\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                 sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n\
                 GET /api/v1/secrets HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer);
            let codes: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
            assert!(codes[0].starts_with('4'), "{path} to {protocol}: {answer}");
            assert!(codes[1..].iter().all(|code| *code == "401"), "{path} to {protocol}: {answer}");
        }
    }
    house.api.server.stop().await;
}

#[tokio::test]
async fn no_name_leads_out_of_its_place() {
    let api = Api::start().await;
    let names = [
        "../../etc/passwd",
        "..",
        ".",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "%2e%2e%2f",
        "a\0b",
        "a\nb",
        "-rf",
        "~",
        "$(id)",
        "`id`",
        "a;b",
        "a b",
        "\u{202e}a",
        "..;/",
        "con:",
    ];
    for served in appm::api::kinds::served().filter(|served| served.verbs().words().contains(&"create")) {
        let path = super::access::path(served, "", "");
        for name in names {
            for field in ["name", "generateName"] {
                let body =
                    json!({"apiVersion": served.api_version(), "kind": served.name(), "metadata": {field: name}});
                let reply = api.post(&path, &body).await;
                assert!((400..500).contains(&reply.code), "{path} {field} {name:?}: {}", reply.text());
            }
        }
    }
    for (kind, path) in [("ConfigMap", "configmaps"), ("Secret", "secrets")] {
        for name in names.iter().filter(|name| !matches!(**name, "-rf" | "con:")) {
            let body = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "m"}, "data": {*name: "eA=="}});
            let reply = api.post(&format!("/api/v1/namespaces/default/{path}"), &body).await;
            assert_eq!(reply.code, 422, "{kind} {name:?}: {}", reply.text());
        }
    }
    for name in ["../a", "/etc/passwd", "a/../../b", "", ".."] {
        let mut app = app("web");
        app["spec"]["files"] = json!([{"path": name, "configMapKeyRef": {"name": "m", "key": "k"}}]);
        let reply = api.post(APPS, &app).await;
        // A file with a whole path is written where the App's user may write; none leads elsewhere than it says.
        assert!(reply.code == 422 || name.starts_with('/'), "{name:?}: {}", reply.text());
        api.send(Method::DELETE, &format!("{APPS}/web"), &[], "").await;
    }
    for path in [
        "/console/../../../etc/passwd",
        "/docs/..%2f..%2f..%2fetc%2fpasswd",
        "/apis/appm.dev/v1/namespaces/default/apps/..%2f..%2f..%2fetc%2fpasswd",
        "/apis/appm.dev/v1/namespaces/../../../etc/passwd/apps",
        "/api/v1/namespaces/default/pods/..%2f..%2fsecret/log",
        "/openapi/v3/..%2f..%2fetc%2fpasswd",
    ] {
        let reply = api.get(path).await;
        assert!((400..500).contains(&reply.code), "{path}: {}", reply.code);
        assert!(!reply.text().contains("root:"), "{path}");
    }
    api.server.stop().await;
}

#[tokio::test]
async fn however_a_piece_of_the_host_is_spelt_a_container_does_not_get_it_without_leave() {
    let api = Api::start().await;
    super::doors::people(&api).await;
    let edit = [("impersonate-user", user("edit")), ("content-type", "application/json")];
    let make = async |fields: Value| {
        let mut container = json!({"image": "busybox"});
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let app = json!({"metadata": {"name": "box"}, "spec": {"container": container}});
        api.send(Method::POST, &format!("{APPS}?dryRun=All"), &edit, app.to_string()).await
    };
    make(json!({})).await.expect(201);
    for network in ["host", "HOST", "Host", " host", "host ", "container:other", "ns:/proc/1/ns/net", "Container:x"] {
        let reply = make(json!({ "network": network })).await;
        assert!([403, 422].contains(&reply.code), "{network:?}: {}", reply.text());
    }
    for source in ["/", "/var/run/docker.sock", "//", "/./etc", "./etc", "../etc", "~/x", "a/../../etc", "a:/b"] {
        let reply = make(json!({"mounts": [{"source": source, "target": "/x"}]})).await;
        assert!([403, 422].contains(&reply.code), "{source:?}: {}", reply.text());
    }
    for (field, value) in [
        ("privileged", json!(true)),
        ("privileged", json!("true")),
        ("Privileged", json!(true)),
        ("capabilities", json!({"add": ["SYS_ADMIN"]})),
        ("capabilities", json!({"Add": ["SYS_ADMIN"]})),
        ("pid", json!("host")),
        ("pidMode", json!("host")),
        ("hostPID", json!(true)),
        ("ipc", json!("host")),
        ("uts", json!("host")),
        ("userns", json!("host")),
        ("cgroupns", json!("host")),
        ("cgroupParent", json!("/")),
        ("devices", json!(["/dev/sda"])),
        ("securityOpt", json!(["seccomp=unconfined"])),
        ("volumesFrom", json!(["other"])),
        ("volumeOptions", json!({"type": "none", "o": "bind", "device": "/"})),
        ("hostConfig", json!({"Privileged": true})),
        ("runtime", json!("../../bin/ls")),
    ] {
        let reply = make(json!({field: value})).await;
        assert!([400, 403, 422].contains(&reply.code), "{field}: {value}: {}", reply.text());
    }
    api.server.stop().await;
}

/// Watches and followed logs, each opened by another credential, which is then taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_open_ends_with_what_proved_who_opened_it() {
    let house = House::open().await;
    let api = &house.api;
    let instances = "/apis/appm.dev/v1/namespaces/default/instances";
    let instance = json!({
        "metadata": {"name": "web-0"}, "spec": {"nodeName": "n", "revision": "web-1", "process": {"command": ["true"]}},
    });
    api.post(instances, &instance).await.expect(201);
    let token = house.token("operator");
    let token = format!("/apis/appm.dev/v1/tokens/{}", token.split('_').nth(1).unwrap());
    let user_path = |who: &str| format!("/apis/appm.dev/v1/users/{}", user(who));
    let merge = async |path: &str, patch: Value| {
        api.patch(path, "application/merge-patch+json", patch.to_string()).await.expect(200);
    };
    for (who, credential) in [
        ("view", Credential::Session),
        ("operator", Credential::Token),
        ("edit", Credential::Password),
        ("admin", Credential::Certificate),
    ] {
        let mut open = Vec::new();
        for path in [&format!("{APPS}?watch=true"), &format!("{instances}/web-0/log?follow=true")] {
            for version in [1, 2] {
                let mut guest = house.guest(who, (credential, version));
                let answer = guest.send(&Method::GET, path, "").await;
                assert_eq!(answer.status(), 200, "{who} {path}");
                open.push((guest, answer));
            }
        }
        match credential {
            Credential::Session => {
                let mut guest = house.guest(who, (credential, 1));
                guest.reply(&Method::POST, "/auth/v1/logout", r#"{"all": true}"#).await.expect(200);
            }
            Credential::Token => drop(api.send(Method::DELETE, &token, &[], "").await.expect(200)),
            Credential::Password => {
                merge(&user_path(who), json!({"spec": {"password": {"plain": "another horse"}}})).await;
            }
            _ => merge(&user_path(who), json!({"spec": {"locked": true}})).await,
        }
        for (_guest, mut answer) in open {
            let to_the_end = async { while answer.body_mut().frame().await.is_some_and(|frame| frame.is_ok()) {} };
            tokio::time::timeout(Duration::from_secs(60), to_the_end).await.expect("it ends");
        }
        assert_eq!(house.guest(who, (credential, 1)).code(&Method::GET, APPS, "").await, 401, "{who}");
    }
    house.api.server.stop().await;
}

/// Who saw an Instance because its App is shared is told that it goes, also when the App has gone first.
#[tokio::test]
async fn what_goes_after_its_app_is_told_to_those_who_saw_it() {
    let api = Api::start().await;
    super::doors::people(&api).await;
    let mut web = app("web");
    web["spec"]["sharing"] = json!({"others": "Read"});
    let headers = [("impersonate-user", user("member")), ("content-type", "application/json")];
    let web = api.send(Method::POST, APPS, &headers, web.to_string()).await.expect(201).json();
    let instances = "/apis/appm.dev/v1/namespaces/default/instances";
    let owner = json!({
        "apiVersion": "appm.dev/v1", "kind": "App", "name": "web", "uid": web["metadata"]["uid"], "controller": true,
    });
    let instance = json!({
        "metadata": {"name": "web-0", "ownerReferences": [owner]},
        "spec": {"nodeName": "n", "revision": "web-1", "process": {"command": ["true"]}},
    });
    api.post(instances, &instance).await.expect(201);
    let path = format!("{instances}?watch=true&timeoutSeconds=3600");
    let mut other = api.request(Method::GET, &path, &[("impersonate-user", user("other"))], Bytes::new()).await;
    api.send(Method::DELETE, &format!("{APPS}/web?propagationPolicy=Background"), &[], "").await.expect(200);
    api.get(&format!("{APPS}/web")).await.expect(404);
    api.send(Method::DELETE, &format!("{instances}/web-0"), &[], "").await.expect(200);
    let mut said = String::new();
    let told = async {
        while !said.contains(r#""type":"DELETED""#) {
            let frame = other.body_mut().frame().await.expect("it goes on").unwrap();
            said += &String::from_utf8_lossy(frame.data_ref().unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap_or_else(|_| panic!("not told: {said}"));
    api.server.stop().await;
}
