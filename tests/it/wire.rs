//! App Mesh's wire between machines: calls that are meant for another server, and events over TCP and the WebSocket.

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tungstenite::Message;

use crate::{
    frames::{Frames, basic, https, upgrade},
    harness::{World, app, app_path, wait_for},
};

/// A server with App Mesh's TCP and WebSocket, and where it is.
pub(crate) struct Node {
    pub(crate) world: World,
    pub(crate) https: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) wss: SocketAddr,
    pub(crate) ca: PathBuf,
}

pub(crate) fn node(password: &str, peers: &Value) -> Node {
    let mut world = World::new();
    let file = world.root().join("password");
    fs::write(&file, password).unwrap();
    world.set_env("APPM_ADMIN_PASSWORD_FILE", file.display().to_string());
    world.set_env("APPM_TCP_LISTEN", "127.0.0.1:0");
    world.set_env("APPM_WSS_LISTEN", "127.0.0.1:0");
    world.set_env("APPM_PEER", peers.to_string());
    let lines = world.spawn();
    let told = |word: &str| lines.iter().find_map(|line| line.strip_prefix(word).map(str::to_owned)).expect(word);
    let (tcp, wss) = (told("tcp "), told("wss "));
    let url = world.await_ready(&lines);
    let at = |address: &str| address.to_socket_addrs().unwrap().next().unwrap();
    let https = at(url.strip_prefix("https://").unwrap());
    let ca = world.data().join("pki/ca.pem");
    Node { https, tcp: at(&tcp), wss: at(&wss), ca, world }
}

fn peer(name: &str, at: SocketAddr, ca: &Path) -> Value {
    json!({"name": name, "address": format!("localhost:{}", at.port()), "caFile": ca})
}

impl Node {
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let (code, _, body) = https((self.https, &self.ca), method, path, headers, body);
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) fn end(self) {
        self.world.command(&["server", "stop", "--apps"]);
    }
}

#[test]
fn a_call_for_a_declared_peer_is_done_there_by_the_callers_own_right_and_for_others_nowhere() {
    let b = node("password-of-b", &json!([]));
    // Where `stranger` should be answers one whose certificate another authority has signed.
    let other = World::new();
    let other_ca = other.root().join("ca.pem");
    let pem = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
    fs::write(&other_ca, pem).unwrap();
    let a = node("password-of-a", &json!([peer("node-b", b.https, &b.ca), peer("stranger", b.https, &other_ca)]));

    // Over HTTP: the peer knows its own people, and nobody of this server's.
    let there = ("X-Target-Host", "node-b");
    let login = |password: &str, target| {
        a.ask("POST", "/appmesh/login", &[("Authorization", &basic("admin", password)), target], b"")
    };
    assert_eq!(login("password-of-a", there).0, 401);
    let (code, token) = login("password-of-b", there);
    assert_eq!(code, 200, "{token}");
    let token: Value = serde_json::from_str(&token).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let bearer = ("Authorization", bearer.as_str());
    let definition = json!({"name": "far", "command": "sleep 1000", "status": 0}).to_string();
    let put = a.ask("PUT", "/appmesh/app/far", &[bearer, there], definition.as_bytes());
    assert_eq!(put.0, 200, "{}", put.1);
    assert!(b.world.api().get(&app_path("far")).unwrap().is_some());
    assert!(a.world.api().get(&app_path("far")).unwrap().is_none());
    assert_eq!(a.ask("GET", "/appmesh/applications", &[bearer], b"").0, 401, "it is nobody's token here");
    let (code, head, _) = https((a.https, &a.ca), "GET", "/appmesh/app/far", &[bearer, there], b"");
    assert!(code == 200 && head.contains("content-type: application/json"), "{head}");

    // Nobody else is reached, whatever is declared or written.
    let port = format!("node-b:{}", b.https.port());
    for (target, code) in [
        (port.as_str(), 200),
        ("NODE-B", 200),
        ("node-b:22", 502),
        ("stranger", 502),
        ("localhost:22", 502),
        ("169.254.169.254", 502),
    ] {
        let answer = a.ask("GET", "/appmesh/app/far", &[bearer, ("X-Target-Host", target)], b"");
        assert_eq!(answer.0, code, "{target}: {}", answer.1);
    }
    let stranger = a.ask("GET", "/appmesh/app/far", &[bearer, ("X-Target-Host", "stranger")], b"");
    assert!(stranger.1.contains("did not prove who it is"), "{}", stranger.1);
    let both = a.ask("GET", "/appmesh/app/far", &[bearer, there, ("X-Target-Host", "stranger")], b"");
    assert_eq!(both.0, 502, "{}", both.1);
    assert_eq!(
        a.ask("GET", "/appmesh/app/far/task?process_key=x", &[there], b"").0,
        502,
        "a process asks its own server"
    );
    // Only this wire's calls.
    assert_eq!(a.ask("GET", &app_path("far"), &[bearer, there], b"").0, 401);

    // Over TCP; the clients add the port by which they have come.
    let mut tcp = Frames::connect(a.tcp, &a.ca);
    tcp.target = format!("node-b:{}", a.tcp.port());
    assert_eq!(tcp.login("admin", "password-of-a").code, 401);
    assert_eq!(tcp.login("admin", "password-of-b").code, 200);
    let far = tcp.ask("GET", "/appmesh/app/far", &[], &[], b"");
    assert_eq!((far.code, far.json()["name"].as_str()), (200, Some("far")));
    assert_eq!(tcp.ask("PUT", "/appmesh/app/long", &[], &[], &vec![b'x'; 4 << 20]).code, 413);
    let up = tcp.ask("POST", "/appmesh/file/upload", &[("X-Send-File-Socket", "1"), ("X-File-Path", "sent")], &[], b"");
    assert_eq!(up.code, 200, "{up:?}");
    for block in [&b"one "[..], b"two", b""] {
        tcp.block(block);
    }
    wait_for("the file to be there", || {
        fs::read(b.world.data().join("files/sent")).map_err(|e| e.to_string()).map(|text| assert_eq!(text, b"one two"))
    });
    let down =
        tcp.ask("GET", "/appmesh/file/download", &[("X-Recv-File-Socket", "1"), ("X-File-Path", "sent")], &[], b"");
    assert_eq!((down.code, down.header("X-File-Mode")), (200, "420"), "{down:?}");
    let mut file = Vec::new();
    while let Ok(block) = tcp.raw()
        && !block.is_empty()
    {
        file.extend(block);
    }
    assert_eq!(file, b"one two");
    // Events stay with the connections of whoever tells them, and the app that they were wanted of is not put in silence.
    let put = definition.as_bytes();
    for (method, path, query, body) in [
        ("POST", "/appmesh/subscribe", &[][..], &b""[..]),
        ("POST", "/appmesh/app/far/subscribe", &[], b""),
        ("PUT", "/appmesh/app/listened", &[("subscribe_events", "EXIT")], put),
    ] {
        let answer = tcp.ask(method, path, &[], query, body);
        assert!(answer.code == 405 && answer.body.windows(6).any(|word| word == b"node-b"), "{path}: {answer:?}");
    }
    assert_eq!(tcp.ask("DELETE", "/appmesh/app/far", &[], &[], b"").code, 200);
    tcp.target = "stranger".to_owned();
    assert_eq!(tcp.ask("GET", "/appmesh/applications", &[], &[], b"").code, 502);

    // Whoever keeps this server knows what went through it.
    let audit = a.world.command(&["audit", "-o", "json"]);
    let audit = String::from_utf8_lossy(&audit.stdout);
    for line in ["/appmesh/login", "/appmesh/app/far", "/appmesh/file/upload"] {
        let is_there =
            audit.lines().any(|l| l.contains(line.trim_start_matches('/')) && l.contains("passed on to node-b"));
        assert!(is_there, "{line}: {audit}");
    }
    a.end();
    b.end();
}

#[test]
fn a_listener_that_reads_slowly_is_told_everything_in_order() {
    let a = node("password-of-a", &json!([]));
    reads_slowly(&a, Frames::connect(a.tcp, &a.ca), "framed");
    reads_slowly(&a, Frames::web_socket((a.wss, &a.ca), &[]), "upgraded");
    a.end();
}

fn reads_slowly(a: &Node, mut slow: Frames, name: &str) {
    assert_eq!(slow.login("admin", "password-of-a").code, 200);
    let events = [("events", "START,STDOUT,EXIT")];
    let subscribed = slow.ask("POST", "/appmesh/subscribe", &[], &events, b"");
    assert_eq!(subscribed.code, 200, "{subscribed:?}");
    // More than the connection holds of it.
    const LONG: usize = 16 << 20;
    let script = format!("head -c {LONG} /dev/zero | tr '\\0' x; exit 3");
    let mut web = app(&a.world, name, 1, &script);
    web["spec"]["restartPolicy"] = json!("Never");
    assert!(a.world.api().apply(&web).unwrap().is_ok());
    wait_for("the process to end, which waits for no listener", || {
        let instances = a.world.api().list("/apis/appm.dev/v1/namespaces/default/instances").unwrap();
        let own = instances.iter().find(|i| i["metadata"]["labels"]["appm.dev/app"] == name);
        let exit = own.map(|instance| instance["status"]["lastExit"]["code"].clone()).unwrap_or_default();
        if exit == 3 { Ok(()) } else { Err(format!("{instances:?}")) }
    });
    let (mut words, mut written, mut sequence) = (Vec::new(), 0, 0);
    loop {
        let event = slow.next().unwrap();
        assert_eq!(event.uri, "/appmesh/event");
        let (word, body) = (event.header("X-Event-Type").to_owned(), event.json());
        let next = body["sequence"].as_u64().unwrap();
        assert!(next > sequence, "{body}");
        sequence = next;
        if word == "STDOUT" {
            let output = body["data"]["output"].as_str().unwrap();
            assert_eq!(body["data"]["position"].as_u64(), Some(written as u64));
            assert!(output.bytes().all(|byte| byte == b'x'));
            written += output.len();
        }
        if words.last() != Some(&word) {
            words.push(word);
        }
        if words.last().is_some_and(|word| word == "EXIT") {
            assert_eq!(body["data"]["exit_code"], 3);
            break;
        }
    }
    assert_eq!(words, ["START", "STDOUT", "EXIT"]);
    assert_eq!(written, LONG);
}

/// A token of `admin`, as the second generation logs in, or the third brings one.
pub(crate) fn token(a: &Node) -> String {
    let (code, text) = a.ask("POST", "/appmesh/login", &[("Authorization", &basic("admin", "password-of-a"))], b"");
    assert_eq!(code, 200, "{text}");
    let granted: Value = serde_json::from_str(&text).unwrap();
    granted["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn a_web_socket_is_opened_at_its_door_alone_and_is_whose_token_opened_it() {
    let a = node("password-of-a", &json!([]));
    let bearer = format!("Bearer {}", token(&a));
    let (own, protocol) = (("authorization", bearer.as_str()), ("sec-websocket-protocol", "appmesh-ws"));
    let refused = |at, path, headers: &[(&'static str, &str)]| upgrade((at, &a.ca), path, headers).err().map(|no| no.0);
    // At the door of HTTPS it is a request like another.
    assert_eq!(refused(a.https, "/", &[own, protocol]), Some(200));
    assert_eq!(refused(a.wss, "/appmesh/applications", &[own, protocol]), Some(400));
    assert_eq!(refused(a.wss, "/", &[own, ("sec-websocket-protocol", "v5.channel.k8s.io")]), Some(400));
    assert_eq!(refused(a.wss, "/", &[own, ("host", "evil.example")]), Some(421));
    assert_eq!(
        refused(a.wss, "/", &[("cookie", "appmesh_auth_token=x"), ("origin", "https://evil.example")]),
        Some(403)
    );
    let (code, shown) = upgrade((a.wss, &a.ca), "/", &[("authorization", "Bearer x"), protocol]).unwrap_err();
    assert_eq!(code, 401, "{shown}");
    let metadata =
        format!("resource_metadata=\"https://localhost:{}/.well-known/oauth-protected-resource\"", a.wss.port());
    assert!(shown.ends_with(&metadata), "{shown}");
    assert!(upgrade((a.wss, &a.ca), "/", &[own, ("sec-websocket-protocol", "other, appmesh-ws")]).is_ok());

    // The third generation shows its token once, the second in each message; who shows none is nobody.
    let apps = ("GET", "/appmesh/applications");
    let mut third = Frames::web_socket((a.wss, &a.ca), &[own]);
    assert_eq!(third.ask(apps.0, apps.1, &[], &[], b"").code, 200);
    assert_eq!(third.ask(apps.0, apps.1, &[("Authorization", "Bearer x")], &[], b"").code, 401);
    let mut second = Frames::web_socket((a.wss, &a.ca), &[]);
    let nobody = second.ask(apps.0, apps.1, &[], &[], b"");
    assert_eq!(nobody.code, 401, "{nobody:?}");
    assert_eq!(second.login("admin", "password-of-a").code, 200);
    assert_eq!(second.ask(apps.0, apps.1, &[], &[], b"").code, 200);

    // A file is asked for in a message, and goes beside it by the token of the answer.
    let path = ("X-File-Path", "by-socket");
    let up = second.ask("POST", "/appmesh/file/upload", &[path], &[], b"");
    assert_eq!(up.code, 200, "{up:?}");
    let shown = ("Authorization", up.header("Authorization"));
    let sent = https((a.wss, &a.ca), "POST", "/appmesh/file/upload/ws", &[shown, path], b"one two");
    assert_eq!(sent.0, 200, "{sent:?}");
    assert_eq!(second.ask("POST", "/appmesh/file/upload", &[path], &[], b"").code, 403, "it is there");
    let down = second.ask("GET", "/appmesh/file/download", &[path], &[], b"");
    assert_eq!((down.code, down.header("X-File-Mode"), down.body.len()), (200, "420", 0), "{down:?}");
    let (code, head, file) = https((a.wss, &a.ca), "GET", "/appmesh/file/download/ws", &[shown, path], b"");
    assert_eq!((code, file), (200, b"one two".to_vec()));
    assert!(head.contains("content-type: application/octet-stream"), "{head}");
    let outside = second.ask("GET", "/appmesh/file/download", &[("X-File-Path", "../worker.key")], &[], b"");
    assert_eq!(outside.code, 403, "{outside:?}");

    // Whoever loses the token loses the connection, and is told why.
    let logoff = a.ask("POST", "/appmesh/self/logoff", &[("Authorization", &bearer)], b"");
    assert_eq!(logoff.0, 200, "{}", logoff.1);
    let (code, why) = third.reason();
    assert_eq!(code, 1008, "{why}");
    assert_eq!(second.ask(apps.0, apps.1, &[], &[], b"").code, 200, "another's token is as good as before");
    a.end();
}

#[test]
fn a_web_socket_that_is_against_the_rules_ends_with_a_close_that_says_why() {
    let a = node("password-of-a", &json!([]));
    let open = || Frames::web_socket((a.wss, &a.ca), &[]);
    let mut pinged = open();
    pinged.say(Message::Ping(b"are you there".to_vec().into()));
    pinged.say(Message::binary(vec![0x80]));
    assert_eq!(pinged.next().unwrap().code, 404, "an empty request, after the answer to the ping");
    let mut text = open();
    text.say(Message::text("{}"));
    assert_eq!(text.reason().0, 1003);
    let mut junk = open();
    junk.say(Message::binary(b"junk".to_vec()));
    assert_eq!(junk.reason().0, 1007);
    let mut bye = open();
    bye.say(Message::Close(None));
    assert_eq!(bye.reason().0, 1000);
    // Long ones come whole, in whatever frames; what nobody may send is told at its head.
    let mut long = open();
    assert_eq!(long.login("admin", "password-of-a").code, 200);
    assert_eq!(long.ask("PUT", "/appmesh/app/long", &[], &[], &vec![b'x'; 4 << 20]).code, 413);
    let head = [&[0x82, 0xff][..], &(66_u64 << 20).to_be_bytes(), &[0; 4]].concat();
    long.write_under(&head);
    assert_eq!(long.reason().0, 1009);
    // The server's end is told as well.
    let mut stays = open();
    assert_eq!(stays.ask("GET", "/nothing", &[], &[], b"").code, 404);
    a.world.command(&["server", "stop", "--apps"]);
    assert_eq!(stays.reason().0, 1001);
}
