//! The options of writes: `dryRun`, `fieldManager`, `fieldValidation`, `force`, and what is said of wrong ones.

use hyper::Method;
use serde_json::{Value, json};

use super::{APPLY, JSON, MERGE, failure, names, version};
use crate::api::{APPS, Api, app};

#[tokio::test]
async fn options_that_do_not_exist_are_422() {
    let api = Api::start().await;
    api.made("a").await;
    let (one, body) = (format!("{APPS}/a"), app("b").to_string());
    let long = "x".repeat(129);
    for (method, path, query, field) in [
        (Method::POST, APPS, "dryRun=Some".to_owned(), "dryRun"),
        (Method::POST, APPS, "dryRun=All&dryRun=Some".to_owned(), "dryRun"),
        (Method::POST, APPS, "fieldValidation=Loose".to_owned(), "fieldValidation"),
        (Method::POST, APPS, format!("fieldManager={long}"), "fieldManager"),
        (Method::POST, APPS, "fieldManager=a%01b".to_owned(), "fieldManager"),
        (Method::PATCH, one.as_str(), "force=true".to_owned(), "force"),
        (Method::DELETE, one.as_str(), "propagationPolicy=Maybe".to_owned(), "propagationPolicy"),
        (
            Method::DELETE,
            one.as_str(),
            "propagationPolicy=Orphan&orphanDependents=false".to_owned(),
            "propagationPolicy",
        ),
        (Method::DELETE, one.as_str(), "dryRun=None".to_owned(), "dryRun"),
        (Method::DELETE, APPS, "dryRun=None".to_owned(), "dryRun"),
    ] {
        let content_type = if method == Method::PATCH { MERGE } else { JSON };
        let body = if method == Method::DELETE { "" } else { &body };
        let path = format!("{path}?{query}");
        let reply =
            api.send(method, &path, &[("content-type", content_type)], body.to_owned()).await.expect(422).json();
        assert_eq!(failure(&reply).0, "Invalid");
        assert!(failure(&reply).1.contains("Options.meta.k8s.io \"\" is invalid: "), "{reply}");
        assert_eq!(reply["details"]["causes"][0]["field"], field, "{query}");
    }
    assert_eq!(names(&api.get(APPS).await.json()), ["a"]);
}

#[tokio::test]
async fn an_apply_needs_a_manager() {
    let api = Api::start().await;
    let refused = api.patch(&format!("{APPS}/a"), APPLY, app("a").to_string()).await.expect(422).json();
    assert_eq!(
        failure(&refused).1,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_does_nothing() {
    let api = Api::start().await;
    let made = api.made("a").await;
    let one = format!("{APPS}/a");
    let before = api.get(APPS).await.json();

    let tried = api.post(&format!("{APPS}?dryRun=All"), &app("b")).await.expect(201).json();
    assert!(tried["metadata"]["uid"].is_string());
    api.post(&format!("{APPS}?dryRun=All"), &app("a")).await.expect(409);
    let mut wrong = app("c");
    wrong["spec"]["replicas"] = json!(-1);
    api.post(&format!("{APPS}?dryRun=All"), &wrong).await.expect(422);

    let mut put = made.clone();
    put["spec"]["replicas"] = json!(8);
    let tried = api.send(Method::PUT, &format!("{one}?dryRun=All"), &[], put.to_string()).await.expect(200).json();
    assert_eq!((&tried["spec"]["replicas"], &tried["metadata"]["generation"]), (&json!(8), &json!(2)));
    for (content_type, body) in [
        (MERGE, json!({"spec": {"replicas": 5}})),
        (super::PATCH, json!([{"op": "replace", "path": "/spec/replicas", "value": 5}])),
        (
            APPLY,
            json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "a"}, "spec": {"replicas": 5}}),
        ),
    ] {
        let path = format!("{one}?dryRun=All&fieldManager=x{}", if content_type == APPLY { "&force=1" } else { "" });
        let tried = api.patch(&path, content_type, body.to_string()).await.expect(200).json();
        assert_eq!(tried["spec"]["replicas"], 5, "{content_type}");
    }
    api.patch(&format!("{one}/scale?dryRun=All"), MERGE, r#"{"spec":{"replicas":5}}"#).await.expect(200);
    api.send(Method::DELETE, &format!("{one}?dryRun=All"), &[], "").await.expect(200);
    api.send(Method::DELETE, &one, &[], r#"{"dryRun":["All"]}"#).await.expect(200);
    api.send(Method::DELETE, &format!("{APPS}?dryRun=All"), &[], "").await.expect(200);
    assert_eq!(api.get(APPS).await.json(), before);
}

#[tokio::test]
async fn the_manager_is_the_parameter_or_the_program() {
    let api = Api::start().await;
    let manager = |object: &Value| object["metadata"]["managedFields"][0]["manager"].clone();
    let agent = [("user-agent", "curl/8.5.0 (x)")];
    let made = api.send(Method::POST, APPS, &agent, app("a").to_string()).await.expect(201).json();
    assert_eq!(manager(&made), "curl");
    let path = format!("{APPS}?fieldManager=me");
    assert_eq!(manager(&api.send(Method::POST, &path, &agent, app("b").to_string()).await.json()), "me");
}

#[tokio::test]
async fn strict_decoding_names_all_that_is_wrong_in_kubernetes_words() {
    let api = Api::start().await;
    let doubled = r#"{"apiVersion":"appm.dev/v1","kind":"App","metadata":{"name":"a"},
        "spec":{"replicas":1,"replicas":2,"replcas":1,"process":{"command":["true"],"comand":1},"terminationGracePeriodSeconds":-1}}"#;
    let refused = api.send(Method::POST, APPS, &[], doubled).await.expect(400).json();
    let (reason, message) = failure(&refused);
    assert_eq!(reason, "BadRequest");
    let begin = "App in version \"v1\" cannot be handled as a App: strict decoding error: duplicate field \"spec.replicas\", \
                 unknown field \"spec.replcas\", unknown field \"spec.process.comand\"";
    assert!(message.starts_with(begin), "{message}");
    assert!(message.contains("spec.terminationGracePeriodSeconds"), "{message}");
    let causes: Vec<_> = refused["details"]["causes"].as_array().unwrap().iter().map(|c| c["field"].clone()).collect();
    assert_eq!(causes, ["spec.replicas", "spec.replcas", "spec.process.comand", "spec.terminationGracePeriodSeconds"]);
    assert!(refused["details"]["causes"][1]["message"].as_str().unwrap().contains("did you mean `replicas`"));
}

#[tokio::test]
async fn unknown_and_doubled_fields_are_dropped_with_or_without_a_warning() {
    let api = Api::start().await;
    let json = r#"{"apiVersion":"appm.dev/v1","kind":"App","metadata":{"name":"NAME"},
        "spec":{"replicas":1,"replicas":2,"replcas":1,"process":{"command":["true"]}}}"#;
    let yaml = "apiVersion: appm.dev/v1\nkind: App\nmetadata: {name: NAME}\nspec:\n  replicas: 1\n  replicas: 2\n  replcas: 1\n  \
                process: {command: ['true']}\n";
    for (at, (content_type, text)) in [(JSON, json), ("application/yaml", yaml)].into_iter().enumerate() {
        let headers = [("content-type", content_type)];
        api.send(Method::POST, APPS, &headers, text.to_owned()).await.expect(400);
        let warn = text.replace("NAME", &format!("warn{at}"));
        let warned = api.send(Method::POST, &format!("{APPS}?fieldValidation=Warn"), &headers, warn).await.expect(201);
        let warnings: Vec<_> =
            warned.headers.get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
        assert_eq!(
            warnings,
            [r#"299 - "duplicate field \"spec.replicas\"""#, r#"299 - "unknown field \"spec.replcas\"""#],
            "{content_type}"
        );
        let stored = warned.json();
        assert_eq!((&stored["spec"]["replicas"], stored["spec"].get("replcas")), (&json!(2), None));
        let ignored = text.replace("NAME", &format!("ignore{at}"));
        let path = format!("{APPS}?fieldValidation=Ignore");
        assert_eq!(api.send(Method::POST, &path, &headers, ignored).await.expect(201).headers.get("warning"), None);
    }
    // Patches are judged too.
    let unknown = r#"{"spec":{"replcas":1}}"#;
    api.patch(&format!("{APPS}/warn0"), MERGE, unknown).await.expect(400);
    let warned = api.patch(&format!("{APPS}/warn0?fieldValidation=Warn"), MERGE, unknown).await.expect(200);
    assert!(warned.headers.contains_key("warning"));
    // Kubernetes' own kinds warn unless asked otherwise.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}, "spec": {"x": 1}});
    assert!(api.post("/api/v1/namespaces", &namespace).await.expect(201).headers.contains_key("warning"));
    assert!(!version(&api.get(&format!("{APPS}/warn0")).await.json()).is_empty());
}
