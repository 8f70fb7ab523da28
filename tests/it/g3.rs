//! App Mesh's third generation: who issues tokens, principals, and what typed clients parse.

use serde_json::{Value, json};

use crate::{
    frames::{Frames, https},
    harness::wait_for,
    wire::{Node, node, token},
};

/// One table of them, for the property tests beside the code too.
#[path = "../../src/appmesh/definition/types.rs"]
mod types;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A body; none for `null`.
fn sent(body: &Value) -> Vec<u8> {
    if body.is_null() { Vec::new() } else { body.to_string().into_bytes() }
}

fn form(a: &Node, fields: &str) -> (u16, Value) {
    let kind = ("Content-Type", "application/x-www-form-urlencoded");
    let (code, text) = a.ask("POST", "/auth/v1/token", &[kind], fields.as_bytes());
    (code, json(&text))
}

#[test]
fn a_client_without_a_token_learns_where_to_get_one_and_it_is_good_on_every_transport() {
    let a = node("password-of-a", &json!([]));
    let own = format!("https://localhost:{}", a.https.port());
    // Everybody who is refused is told where to ask.
    let (code, head, _) = https((a.https, &a.ca), "GET", "/appmesh/applications", &[], b"");
    assert!(
        code == 401 && head.contains("www-authenticate: bearer realm=\"appm\", resource_metadata=\"https://localhost")
    );
    let mut tcp = Frames::connect(a.tcp, &a.ca);
    let mut wss = Frames::web_socket((a.wss, &a.ca), &[]);
    for line in [&mut tcp, &mut wss] {
        let refused = line.ask("GET", "/appmesh/applications", &[], &[], b"");
        assert!(refused.code == 401 && refused.header("Www-Authenticate").starts_with("Bearer"), "{refused:?}");
    }
    let host = format!("localhost:{}", a.https.port());
    let at = |path: &str| json(&a.ask("GET", path, &[("Host", &host)], b"").1);
    let resource = at("/.well-known/oauth-protected-resource");
    assert_eq!((&resource["resource"], &resource["authorization_servers"]), (&json!(own), &json!([own])), "{resource}");
    let config = at("/appmesh/auth/config");
    assert_eq!(config["flows"], json!(["password"]), "{config}");
    let described = at("/.well-known/openid-configuration");
    assert_eq!((&described["issuer"], &config["issuer"]), (&json!(own), &json!(own)), "{described}");
    assert!(described["token_endpoint"].as_str().unwrap().ends_with("/auth/v1/token"));

    // RFC 6749, with its words for what is wrong.
    for (fields, code, error) in [
        ("grant_type=password&username=admin&password=wrong", 400, "invalid_grant"),
        ("grant_type=password&username=admin", 400, "invalid_request"),
        ("grant_type=refresh_token&refresh_token=x", 400, "invalid_grant"),
        ("grant_type=client_credentials", 400, "unsupported_grant_type"),
        ("", 400, "invalid_request"),
    ] {
        let answer = form(&a, fields);
        assert_eq!((answer.0, answer.1["error"].as_str()), (code, Some(error)), "{fields}: {}", answer.1);
        assert!(!answer.1["error_description"].as_str().unwrap().is_empty(), "{fields}");
    }
    // An object of the same fields is taken too, and nothing that is neither.
    let object = |body: &Value| a.ask("POST", "/auth/v1/token", &[("Content-Type", "application/json")], &sent(body));
    let (code, text) = object(&json!({"grant_type": "password", "username": "admin", "password": "password-of-a"}));
    assert_eq!((code, json(&text)["token_type"].as_str()), (200, Some("Bearer")), "{text}");
    let (code, text) = object(&json!({"grant_type": ["password"]}));
    assert_eq!((code, json(&text)["error"].as_str()), (400, Some("invalid_request")), "{text}");
    let (code, granted) = form(&a, "grant_type=password&username=admin&password=password-of-a&scope=openid");
    assert_eq!((code, granted["token_type"].as_str()), (200, Some("Bearer")), "{granted}");
    assert!(granted["refresh_token"].is_null() && granted["expires_in"].as_i64().unwrap() > 3000, "{granted}");
    let (_, lasting) = form(&a, "grant_type=password&username=admin&password=password-of-a&scope=offline_access");
    let refresh = lasting["refresh_token"].as_str().unwrap();
    let (code, next) = form(&a, &format!("grant_type=refresh_token&refresh_token={refresh}"));
    assert_eq!(code, 200, "{next}");
    for granted in [granted, lasting, next] {
        let bearer = format!("Bearer {}", granted["access_token"].as_str().unwrap());
        let bearer = ("authorization", bearer.as_str());
        let mut wss = Frames::web_socket((a.wss, &a.ca), &[bearer]);
        let own = wss.ask("GET", "/appmesh/principal/self", &[], &[], b"");
        assert_eq!((own.code, own.json()["principal_id"].as_str()), (200, Some("admin")), "{own:?}");
        assert_eq!(tcp.ask("GET", "/appmesh/principals", &[bearer], &[], b"").code, 200);
    }
    a.end();
}

#[test]
fn principals_are_users_and_roles_have_the_names_that_app_mesh_allows() {
    let a = node("password-of-a", &json!([]));
    let bearer = format!("Bearer {}", token(&a));
    let ask = |method: &str, path: &str, body: &Value| a.ask(method, path, &[("Authorization", &bearer)], &sent(body));
    assert_eq!(ask("POST", "/appmesh/role/Ops_Team", &json!(["app-view", "app-control"])).0, 200);
    let roles = json(&ask("GET", "/appmesh/roles", &Value::Null).1);
    assert_eq!(roles["Ops_Team"], json!(["app-control", "app-view"]), "{roles}");

    // Whom an issuer speaks for has to be said; somebody who is there is changed.
    let path = "/appmesh/principal/ada";
    assert_eq!(ask("POST", path, &json!({"roles": ["Ops_Team"]})).0, 404);
    let ada = json!({"issuer": "https://sso.example", "subject": "s-1", "roles": ["Ops_Team"], "status": "active"});
    let made = ask("POST", path, &ada);
    assert_eq!(made.0, 200, "{}", made.1);
    let shown = |what: &str| json(&ask("GET", "/appmesh/principals", &Value::Null).1)["ada"][what].clone();
    assert_eq!((shown("subject"), shown("status"), shown("kind")), (json!("s-1"), json!("active"), json!("user")));
    assert_eq!(ask("POST", path, &json!({"status": "disabled"})).0, 200);
    assert_eq!((shown("status"), shown("issuer")), (json!("disabled"), json!("https://sso.example")));
    assert_eq!(ask("POST", path, &json!({"status": "asleep"})).0, 400);
    assert_eq!(ask("POST", path, &json!({"roles": "all"})).0, 400);
    assert_eq!(ask("DELETE", path, &Value::Null).0, 204);
    assert_eq!(ask("DELETE", "/appmesh/principal/oidc%3Anobody", &Value::Null).0, 404);
    assert_eq!(ask("DELETE", "/appmesh/role/Ops_Team", &Value::Null).0, 200);
    let own = json(&ask("GET", "/appmesh/principal/self", &Value::Null).1);
    assert!(own["permissions"].as_array().unwrap().contains(&json!("permission-list")), "{own}");
    a.end();
}

#[test]
fn everything_that_is_shown_has_the_type_that_typed_clients_parse() {
    let a = node("password-of-a", &json!([]));
    let bearer = format!("Bearer {}", token(&a));
    let ask = |method: &str, path: &str, body: &Value| {
        let (code, text) = a.ask(method, path, &[("Authorization", &bearer)], &sent(body));
        assert_eq!(code, 200, "{method} {path}: {text}");
        json(&text)
    };
    let put = |app: Value| ask("PUT", &format!("/appmesh/app/{}", app["name"].as_str().unwrap()), &app);
    put(json!({"name": "Data_Base", "command": "sleep 1000", "enabled": false}));
    put(json!({
        "name": "Rich_App", "command": "echo $A; exit 3", "shell": true, "description": "all of it", "depends_on": ["Data_Base"],
        "env": {"A": "1"}, "secret_env": {"B": "2"}, "stdout_backup_count": 3, "permission": 12, "metadata": {"a": [1]},
        "stop_grace_period": "PT5S", "behavior": {"exit": "restart", "exit_code_actions": {"3": "standby"}},
        "resource_limit": {"cpu_shares": 512}, "start_time": 1, "end_time": 4_000_000_000_u64, "health_check_cmd": "true",
        "daily_limitation": {"daily_start": 0, "daily_end": 86_340},
    }));
    put(json!({"name": "By_Time", "command": "true", "interval": "PT1H"}));
    put(json!({"name": "By_Cron", "command": "true", "cron_schedule": "0 0 3 * * *"}));
    let run = ask("POST", "/appmesh/app/run?timeout=30&lifecycle=60", &json!({"command": "exit 7", "shell": true}));
    // It waits for one that is turned off, and begins when that is there.
    let rich = ask("GET", "/appmesh/app/Rich_App", &Value::Null);
    assert_eq!((&rich["waiting_for"], &rich["depends_on"]), (&json!(["Data_Base"]), &json!(["Data_Base"])), "{rich}");
    assert!(rich["pid"].is_null(), "{rich}");
    // What comes back as it was shown changes nothing.
    assert_eq!(put(rich.clone())["depends_on"], rich["depends_on"]);
    ask("POST", "/appmesh/app/Data_Base/enable", &Value::Null);
    wait_for("the one that waited to have run, and the run to be over", || {
        let all = ask("GET", "/appmesh/applications", &Value::Null);
        let code = |name: &Value| {
            all.as_array().unwrap().iter().find(|app| app["name"] == *name).map(|app| app["return_code"].clone())
        };
        match (code(&json!("Rich_App")), code(&run["name"])) {
            (Some(rich), Some(run)) if rich == 3 && run == 7 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let all = ask("GET", "/appmesh/applications", &Value::Null);
    for app in all.as_array().unwrap() {
        for (name, value) in app.as_object().unwrap() {
            assert!(types::is_parsed(name, value), "{name}: {value} in {app}");
        }
    }
    let rich = all.as_array().unwrap().iter().find(|app| app["name"] == "Rich_App").unwrap();
    assert!(rich["waiting_for"].is_null() && rich["secret_env"].is_null() && rich["sec_env"].is_null(), "{rich}");
    // Figures and the machine have the names that dashboards ask for.
    let (_, figures) = a.ask("GET", "/appmesh/metrics", &[("Authorization", &bearer)], b"");
    for line in ["appmesh_metrics_scrapes_total{host=", "appmesh_application_enabled{host=", "appm_store_revision "] {
        assert!(figures.contains(line), "{line}: {figures}");
    }
    assert!(figures.ends_with("# EOF\n") && figures.matches("# EOF").count() == 1, "{figures}");
    let machine = ask("GET", "/appmesh/resources", &Value::Null);
    assert!(machine["fd_daemon"].as_u64().is_some_and(|open| open > 3), "{machine}");
    a.end();
}
