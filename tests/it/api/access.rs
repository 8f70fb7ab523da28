//! Who may do what over the wire: a table of every route and every built-in role, and what becomes of open answers.

use std::fmt::Write;

use appm::api::{Subresource, kinds};

use super::{
    doors::{self, Credential, Door, House, user},
    *,
};

async fn with_people() -> Api {
    let api = Api::start().await;
    doors::people(&api).await;
    api
}

impl Api {
    /// The answer to somebody.
    async fn by(&self, who: &str, method: Method, path: &str, body: &str) -> Reply {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        self.send(method, path, &[("impersonate-user", user(who)), ("content-type", kind)], body.to_owned()).await
    }
}

pub(super) fn path(served: appm::api::Served, name: &str, subresource: &str) -> String {
    let root = if served.group().is_empty() { "/api".to_owned() } else { format!("/apis/{}", served.group()) };
    let place = if served.kind.is_namespaced() { "/namespaces/default" } else { "" };
    let tail =
        [name, subresource].iter().filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect::<String>();
    format!("{root}/{}{place}/{}{tail}", served.version(), served.plural())
}

/// Every route that the server has for objects: verb, what it is about, method, path.
pub(super) fn routes() -> Vec<(String, Method, String)> {
    let mut routes = Vec::new();
    for served in kinds::served() {
        let mut add = |verb: &str, method: Method, name: &str, part: &str, query: &str| {
            let slash = if part.is_empty() { "" } else { "/" };
            let shown = format!("{verb} {}{slash}{part}", served.qualified());
            routes.push((shown, method, path(served, name, part) + query));
        };
        for verb in served.verbs().words() {
            match *verb {
                "get" => add(verb, Method::GET, "absent", "", ""),
                "list" => add(verb, Method::GET, "", "", ""),
                "watch" => add(verb, Method::GET, "", "", "?watch=true"),
                "create" => add(verb, Method::POST, "", "", "?dryRun=All"),
                "update" => add(verb, Method::PUT, "absent", "", "?dryRun=All"),
                "patch" => add(verb, Method::PATCH, "absent", "", "?dryRun=All"),
                "delete" => add(verb, Method::DELETE, "absent", "", "?dryRun=All"),
                _ => add(verb, Method::DELETE, "", "", "?dryRun=All&labelSelector=none"),
            }
        }
        for part in [Subresource::Status, Subresource::Scale, Subresource::Finalize, Subresource::Log] {
            if !served.has(part) {
                continue;
            }
            if part != Subresource::Finalize {
                add("get", Method::GET, "absent", part.word(), "");
            }
            if part != Subresource::Log {
                add("update", Method::PUT, "absent", part.word(), "?dryRun=All");
            }
        }
        if served.has(Subresource::Task) {
            add("create", Method::POST, "absent", "task", "");
            add("get", Method::GET, "absent", "task", "");
            add("delete", Method::DELETE, "absent", "task/none", "");
        }
    }
    for (method, path) in [(Method::GET, "/metrics"), (Method::POST, "/stop?apps=none"), (Method::GET, "/sealing")] {
        let shown = format!("{} {}", method.as_str().to_lowercase(), path.split('?').next().unwrap());
        routes.push((shown, method, path.to_owned()));
    }
    routes
}

/// Whose columns the table of routes has.
const COLUMNS: [&str; 6] = ["admin", "edit", "operator", "view", "member", "nobody"];

/// What people are answered on each route, by column; those that `asks` says (by column and row) are asked, the others are `None`.
async fn routes_by(house: &House, door: Door, asks: fn(usize) -> bool) -> Vec<Vec<Option<&'static str>>> {
    let routes = routes();
    let column = async |(at, who): (usize, &'static str)| {
        let mut guest = house.guest(who, door);
        let mut cells = Vec::with_capacity(routes.len());
        for (row, (shown, method, path)) in routes.iter().enumerate() {
            if !asks(at + row) {
                cells.push(None);
                continue;
            }
            let code = guest.code(method, path, "{}").await;
            assert_ne!(code, 401, "{who} by {door:?}: {shown}");
            if code >= 500 {
                eprintln!("{who} by {door:?}: {shown}: {code}");
            }
            cells.push(Some(match code {
                403 => "-",
                404 if who == "member" && !path.contains("/nodes/") && !path.contains("/v1/namespaces/absent") => "own",
                _ => "yes",
            }));
        }
        cells
    };
    futures::future::join_all(COLUMNS.into_iter().enumerate().map(column)).await
}

fn table(columns: &[Vec<Option<&'static str>>]) -> String {
    let mut table = format!("{:52}{}\n", "", COLUMNS.map(|name| format!("{name:10}")).concat().trim_end());
    for (row, (shown, ..)) in routes().iter().enumerate() {
        let cells: String = columns.iter().map(|column| format!("{:10}", column[row].unwrap())).collect();
        writeln!(table, "{shown:52}{}", cells.trim_end()).unwrap();
    }
    table
}

/// A verb without a route: what each of the columns is shown of a Secret of `member`, as a row of the table.
async fn revealed_by(house: &House, door: Door, of: &str) -> String {
    let (secrets, name) = ("/api/v1/namespaces/default/secrets", format!("known-{of}"));
    let secret = json!({"metadata": {"name": name}, "stringData": {"password": "correct-horse"}});
    house.guest("member", door).reply(&Method::POST, secrets, &secret.to_string()).await.expect(201);
    let mut cells = String::new();
    for who in COLUMNS {
        let shown = house.guest(who, door).reply(&Method::GET, &format!("{secrets}/{name}"), "").await;
        let cell = match shown.code {
            200 if shown.text().contains("Y29ycmVjdC1ob3JzZQ==") => "yes",
            200 => "keys",
            _ => "-",
        };
        write!(cells, "{cell:10}").unwrap();
    }
    format!("{:52}{}\n", "reveal secrets", cells.trim_end())
}

/// What becomes of Apps of `member` that are shared in every way, by each of the people.
async fn sharing_by(house: &House, door: Door, of: &str) -> String {
    const PEOPLE: [&str; 6] = ["member", "mate", "other", "nobody", "view", "edit"];
    const SHARED: [(&str, &str); 5] =
        [("None", "None"), ("Read", "None"), ("ReadWrite", "None"), ("ReadWrite", "Read"), ("None", "ReadWrite")];
    let name = |(group, others)| format!("app-{of}-{group}-{others}").to_lowercase();
    let mut member = house.guest("member", door);
    for (group, others) in SHARED {
        let mut app = app(&name((group, others)));
        app["spec"]["sharing"] = json!({"group": group, "others": others});
        member.reply(&Method::POST, APPS, &app.to_string()).await.expect(201);
    }
    let lines = async |who: &'static str| {
        let mut guest = house.guest(who, door);
        let listed = guest.reply(&Method::GET, APPS, "").await;
        let mut lines = Vec::new();
        for shared in SHARED {
            let (group, others) = shared;
            let (name, one) = (name(shared), format!("{APPS}/{}", name(shared)));
            let listed = listed.code == 200 && listed.text().contains(&format!("\"name\":\"{name}\""));
            let get = guest.code(&Method::GET, &one, "").await;
            let scale = r#"{"spec":{"replicas":2}}"#;
            let scale = guest.code(&Method::PATCH, &format!("{one}/scale?dryRun=All"), scale).await;
            let patch = r#"{"metadata":{"labels":{"a":"b"}}}"#;
            let patch = guest.code(&Method::PATCH, &format!("{one}?dryRun=All"), patch).await;
            let delete = guest.code(&Method::DELETE, &format!("{one}?dryRun=All"), "").await;
            lines.push(format!("group {group:9} others {others:9} {who:7} listed {listed:5} get {get} scale {scale} patch {patch} delete {delete}\n"));
        }
        lines
    };
    let by_people = futures::future::join_all(PEOPLE.map(lines)).await;
    (0..SHARED.len()).flat_map(|at| by_people.iter().map(move |lines| lines[at].as_str())).collect()
}

/// The tables are the server's whole policy: a new kind or route is a line, and somebody has to look at it. They are the same
/// however somebody comes in: each credential is asked for all of it, one half by each version of HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_is_open_to_whom_the_table_says_and_to_nobody_else_by_whatever_door() {
    let house = House::open().await;
    let base = (Credential::Impersonated, 1);
    let (columns, sharing) = (routes_by(&house, base, |_| true).await, sharing_by(&house, base, "base").await);
    let revealed = revealed_by(&house, base, "base").await;
    insta::assert_snapshot!("routes", table(&columns) + &revealed);
    insta::assert_snapshot!("sharing", sharing);
    for (at, door) in doors::doors().into_iter().enumerate() {
        let half: fn(usize) -> bool = if door.1 == 1 { |at| at % 2 == 1 } else { |at| at % 2 == 0 };
        let answers = routes_by(&house, door, half).await;
        for (row, (shown, ..)) in routes().iter().enumerate() {
            for (column, who) in COLUMNS.into_iter().enumerate() {
                if let Some(cell) = answers[column][row] {
                    assert_eq!(Some(cell), columns[column][row], "{shown}: {who} by {door:?}");
                }
            }
        }
        if at % 2 == 0 {
            assert_eq!(sharing_by(&house, door, &at.to_string()).await, sharing, "{door:?}");
            assert_eq!(revealed_by(&house, door, &at.to_string()).await, revealed, "{door:?}");
        }
    }
    house.api.server.stop().await;
}

/// A snapshot is held for the pages to come, and the token that names it can be made up.
#[tokio::test]
async fn nobody_goes_on_with_a_list_of_somebody_who_sees_more() {
    let api = with_people().await;
    for name in ["a", "b", "c", "d"] {
        let who = if name == "b" { "member" } else { "edit" };
        api.by(who, Method::POST, APPS, &app(name).to_string()).await.expect(201);
    }
    let names = |reply: Reply| {
        let list = reply.expect(200).json();
        let items = list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap());
        (items.collect::<Vec<_>>().concat(), list["metadata"]["continue"].as_str().unwrap_or_default().to_owned())
    };
    let page = async |who: &str, token: &str, limit: usize| {
        names(api.by(who, Method::GET, &format!("{APPS}?limit={limit}&continue={token}"), "").await)
    };
    let (first, token) = page("edit", "", 1).await;
    assert_eq!((first.as_str(), page("member", &token, 9).await.0.as_str()), ("a", "b"));
    assert_eq!(page("edit", &token, 9).await.0, "bcd");
    // Nor with one of somebody who sees less.
    api.by("member", Method::POST, APPS, &app("e").to_string()).await.expect(201);
    let (first, token) = page("member", "", 1).await;
    assert_eq!((first.as_str(), page("edit", &token, 9).await.0.as_str()), ("b", "cde"));
    assert_eq!(page("member", &token, 9).await.0, "e");
    api.server.stop().await;
}

/// As in Kubernetes, `deletecollection` is a verb of its own: it needs no other, and no other has it.
#[tokio::test]
async fn a_collection_is_deleted_by_whoever_may_delete_collections_and_by_nobody_else() {
    let api = with_people().await;
    for (name, verb) in [("sweeper", "deletecollection"), ("picker", "delete")] {
        let rules = json!([{"apiGroups": ["appm.dev"], "resources": ["apps"], "verbs": [verb]}]);
        let role = json!({"metadata": {"name": name}, "spec": {"rules": rules}});
        api.post("/apis/appm.dev/v1/roles", &role).await.expect(201);
        let user = json!({"metadata": {"name": name}, "spec": {"roles": [{"name": name}]}});
        api.post("/apis/appm.dev/v1/users", &user).await.expect(201);
    }
    for name in ["a", "b"] {
        api.made(name).await;
    }
    let delete = async |who: &str, path: &str| {
        let headers = [("impersonate-user", who), ("content-type", "application/json")];
        api.send(Method::DELETE, path, &headers, "").await
    };
    delete("picker", APPS).await.expect(403);
    delete("sweeper", &format!("{APPS}/a")).await.expect(403);
    delete("picker", &format!("{APPS}/a")).await.expect(200);
    let swept = delete("sweeper", APPS).await.expect(200).json();
    assert_eq!(swept["items"][0]["metadata"]["name"], "b");
    assert_eq!(api.get(APPS).await.json()["items"], json!([]));
    api.server.stop().await;
}

#[tokio::test]
async fn only_who_may_speaks_as_somebody_else() {
    let api = with_people().await;
    let review = r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}"#;
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let who = api.by("mate", Method::POST, reviews, review).await.expect(201).json();
    assert_eq!(who["status"]["userInfo"]["username"], user("mate"));
    assert_eq!(who["status"]["userInfo"]["groups"], json!(["devs", "system:authenticated"]));
    let json = [("content-type", "application/json")];
    let as_group = [("impersonate-group", "system:masters"), json[0]];
    api.send(Method::POST, reviews, &as_group, review).await.expect(400);
    let as_part = [("impersonate-user", "x"), ("impersonate-uid", "y"), json[0]];
    api.send(Method::POST, reviews, &as_part, review).await.expect(400);
    let twice = [("impersonate-user", "x"), ("impersonate-user", "y"), json[0]];
    api.send(Method::POST, reviews, &twice, review).await.expect(400);
    api.server.stop().await;
}

#[tokio::test]
async fn a_watch_ends_when_its_watcher_is_locked_or_loses_a_role() {
    for patch in
        [json!({"spec": {"locked": true}}), json!({"spec": {"roles": []}}), json!({"spec": {"groups": ["other"]}})]
    {
        let api = with_people().await;
        let mut watch = api
            .request(Method::GET, &format!("{APPS}?watch=true"), &[("impersonate-user", user("view"))], Bytes::new())
            .await;
        assert_eq!(watch.status(), 200);
        let path = format!("/apis/appm.dev/v1/users/{}", user("view"));
        api.patch(&path, "application/merge-patch+json", patch.to_string()).await.expect(200);
        let mut said = String::new();
        let patience = std::time::Duration::from_secs(60);
        while let Some(frame) = tokio::time::timeout(patience, watch.body_mut().frame()).await.expect("it ends") {
            said += &String::from_utf8_lossy(frame.unwrap().data_ref().unwrap());
        }
        assert!(said.contains(r#""type":"ERROR""#), "{patch}: {said}");
        api.server.stop().await;
    }
}
