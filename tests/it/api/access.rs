//! Who may do what over the wire: a table of every route and every built-in role, and what becomes of open answers.

use std::fmt::Write;

use appm::api::{Subresource, kinds};

use super::*;

/// Somebody who has just the role of the same name, and `mate` and `other`, who are members as `member` is.
const PEOPLE: [&str; 8] = ["admin", "edit", "operator", "view", "member", "mate", "other", "nobody"];

async fn with_people() -> Api {
    let api = Api::start().await;
    let part = Caller::new(Identity::system("bootstrap"), "appm-bootstrap");
    for role in appm::auth::built_in_roles() {
        let served = kinds::find_by_word("roles").unwrap();
        let role = json!({"metadata": {"name": role.metadata.name}, "spec": role.spec});
        api.admission.create(&part, served, "", role, &appm::admission::WriteOptions::default()).await.unwrap();
    }
    for name in PEOPLE {
        let (role, groups) = match name {
            "mate" => (Some("member"), json!(["devs"])),
            "other" => (Some("member"), json!([])),
            "nobody" => (None, json!([])),
            "member" => (Some("member"), json!(["devs"])),
            name => (Some(name), json!([])),
        };
        let roles: Vec<Value> = role.into_iter().map(|name| json!({ "name": name })).collect();
        let user = json!({"metadata": {"name": format!("{name}-user")}, "spec": {"groups": groups, "roles": roles}});
        api.post("/apis/appm.dev/v1/users", &user).await.expect(201);
    }
    api
}

impl Api {
    /// The answer to somebody.
    async fn by(&self, who: &str, method: Method, path: &str, body: &str) -> Reply {
        let who = format!("{who}-user");
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        self.send(method, path, &[("impersonate-user", &who), ("content-type", kind)], body.to_owned()).await
    }
}

fn path(served: appm::api::Served, name: &str, subresource: &str) -> String {
    let root = if served.group().is_empty() { "/api".to_owned() } else { format!("/apis/{}", served.group()) };
    let place = if served.kind.is_namespaced() { "/namespaces/default" } else { "" };
    let tail =
        [name, subresource].iter().filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect::<String>();
    format!("{root}/{}{place}/{}{tail}", served.version(), served.plural())
}

/// Every route that the server has for objects: verb, what it is about, method, path.
fn routes() -> Vec<(String, Method, String)> {
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
    }
    for (method, path) in [(Method::GET, "/metrics"), (Method::POST, "/stop?apps=none"), (Method::GET, "/sealing")] {
        let shown = format!("{} {}", method.as_str().to_lowercase(), path.split('?').next().unwrap());
        routes.push((shown, method, path.to_owned()));
    }
    routes
}

/// The table is the server's whole policy: a new kind or route is a line of it, and somebody has to look at it.
#[tokio::test]
async fn every_route_is_open_to_whom_the_table_says_and_to_nobody_else() {
    let api = with_people().await;
    let people = ["admin", "edit", "operator", "view", "member", "nobody"];
    let mut table = format!("{:52}{}\n", "", people.map(|name| format!("{name:10}")).concat().trim_end());
    for (shown, method, path) in routes() {
        let mut cells = String::new();
        for name in people {
            // The head is enough: a watch would go on.
            let who = format!("{name}-user");
            let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
            let headers = [("impersonate-user", who.as_str()), ("content-type", kind)];
            let code = api.request(method.clone(), &path, &headers, "{}").await.status().as_u16();
            assert_ne!(code, 401, "{shown}");
            let cell = match code {
                403 => "-",
                404 if name == "member" && !path.contains("/nodes/") && !path.contains("/v1/namespaces/absent") => {
                    "own"
                }
                _ => "yes",
            };
            write!(cells, "{cell:10}").unwrap();
        }
        writeln!(table, "{shown:52}{}", cells.trim_end()).unwrap();
    }
    insta::assert_snapshot!("routes", table);
    api.server.stop().await;
}

#[tokio::test]
async fn an_app_is_open_to_its_owner_and_to_whom_it_is_shared_with() {
    let api = with_people().await;
    let mut table = String::new();
    for (group, others) in
        [("None", "None"), ("Read", "None"), ("ReadWrite", "None"), ("ReadWrite", "Read"), ("None", "ReadWrite")]
    {
        let name = format!("app-{}-{}", group.to_lowercase(), others.to_lowercase());
        let mut app = app(&name);
        app["spec"]["sharing"] = json!({"group": group, "others": others});
        api.by("member", Method::POST, APPS, &app.to_string()).await.expect(201);
        let one = format!("{APPS}/{name}");
        for who in ["member", "mate", "other", "nobody", "view", "edit"] {
            let listed = api.by(who, Method::GET, APPS, "").await;
            let listed = listed.code == 200 && listed.text().contains(&format!("\"name\":\"{name}\""));
            let get = api.by(who, Method::GET, &one, "").await.code;
            let scale =
                api.by(who, Method::PATCH, &format!("{one}/scale?dryRun=All"), r#"{"spec":{"replicas":2}}"#).await.code;
            let patch = api
                .by(who, Method::PATCH, &format!("{one}?dryRun=All"), r#"{"metadata":{"labels":{"a":"b"}}}"#)
                .await
                .code;
            let delete = api.by(who, Method::DELETE, &format!("{one}?dryRun=All"), "").await.code;
            writeln!(table, "group {group:9} others {others:9} {who:7} listed {listed:5} get {get} scale {scale} patch {patch} delete {delete}").unwrap();
        }
    }
    insta::assert_snapshot!("sharing", table);
    api.server.stop().await;
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
        let user = json!({"metadata": {"name": format!("{name}-user")}, "spec": {"roles": [{"name": name}]}});
        api.post("/apis/appm.dev/v1/users", &user).await.expect(201);
    }
    for name in ["a", "b"] {
        api.made(name).await;
    }
    api.by("picker", Method::DELETE, APPS, "").await.expect(403);
    api.by("sweeper", Method::DELETE, &format!("{APPS}/a"), "").await.expect(403);
    api.by("picker", Method::DELETE, &format!("{APPS}/a"), "").await.expect(200);
    let swept = api.by("sweeper", Method::DELETE, APPS, "").await.expect(200).json();
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
    assert_eq!(who["status"]["userInfo"]["username"], "mate-user");
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
            .request(Method::GET, &format!("{APPS}?watch=true"), &[("impersonate-user", "view-user")], Bytes::new())
            .await;
        assert_eq!(watch.status(), 200);
        api.patch("/apis/appm.dev/v1/users/view-user", "application/merge-patch+json", patch.to_string())
            .await
            .expect(200);
        let mut said = String::new();
        let patience = std::time::Duration::from_secs(60);
        while let Some(frame) = tokio::time::timeout(patience, watch.body_mut().frame()).await.expect("it ends") {
            said += &String::from_utf8_lossy(frame.unwrap().data_ref().unwrap());
        }
        assert!(said.contains(r#""type":"ERROR""#), "{patch}: {said}");
        api.server.stop().await;
    }
}
