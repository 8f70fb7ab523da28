//! "What may I do?" and "who am I?": `authorization.k8s.io` and `authentication.k8s.io` reviews of oneself. Nothing is stored.
//!
//! The access review asks the very function that requests are decided by.

use serde_json::{Map, Value, json};

use crate::{
    api::Status,
    auth::{Attributes, Identity, MASTERS, authorize},
};

/// The plural names that are answered here.
pub(super) fn serves(group: &str, version: &str, plural: &str) -> bool {
    matches!(
        (group, version, plural),
        ("authentication.k8s.io", "v1", "selfsubjectreviews")
            | ("authorization.k8s.io", "v1", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
    )
}

/// Answers a review.
///
/// # Errors
/// 400 for another kind than the URL's; 404 for a plural that [`serves`] denies.
pub(super) fn answer(plural: &str, who: &Identity, body: Value) -> Result<Value, Status> {
    let (api_version, kind) = match plural {
        "selfsubjectreviews" => ("authentication.k8s.io/v1", "SelfSubjectReview"),
        "selfsubjectaccessreviews" => ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
        "selfsubjectrulesreviews" => ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
        _ => return Err(Status::no_route()),
    };
    let named = |field: &str, expected: &str| body.get(field).is_none_or(|v| v == expected);
    if !body.is_object() || !named("kind", kind) || !named("apiVersion", api_version) {
        return Err(Status::bad_request(format!("the body must be a {kind} of {api_version}")));
    }
    let status = match kind {
        "SelfSubjectReview" => json!({"userInfo": {"username": who.name, "groups": who.groups}}),
        "SelfSubjectAccessReview" => access(who, &body["spec"]),
        _ => rules(who),
    };
    let mut answer = json!({"kind": kind, "apiVersion": api_version, "metadata": {}});
    if body["spec"].is_object() {
        answer["spec"] = asked(&body["spec"]);
    }
    answer["status"] = status;
    Ok(answer)
}

/// What was understood of the question: nothing else is said back.
fn asked(spec: &Value) -> Value {
    let texts = |value: &Value, names: &[&str]| -> Value {
        let known = names.iter().filter(|name| value[**name].is_string());
        known.map(|name| ((*name).to_owned(), value[*name].clone())).collect::<Map<String, Value>>().into()
    };
    let mut asked = texts(spec, &["namespace"]);
    for (part, names) in [("resourceAttributes", RESOURCE), ("nonResourceAttributes", &["path", "verb"])] {
        if spec[part].is_object() {
            asked[part] = texts(&spec[part], names);
        }
    }
    asked
}

const RESOURCE: &[&str] = &["namespace", "verb", "group", "version", "resource", "subresource", "name"];

fn access(who: &Identity, spec: &Value) -> Value {
    let wanted = &spec["resourceAttributes"];
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let what = Attributes {
        verb: text("verb"),
        group: text("group"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
    };
    match authorize(who, &what) {
        Ok(()) => json!({"allowed": true, "reason": ""}),
        Err(refusal) => json!({"allowed": false, "reason": refusal.message}),
    }
}

fn rules(who: &Identity) -> Value {
    if !who.groups.iter().any(|g| g == MASTERS) {
        return json!({"resourceRules": [], "nonResourceRules": [], "incomplete": false});
    }
    json!({
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        "incomplete": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_may_everything_and_a_stranger_nothing() {
        let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {"resourceAttributes": {"verb": "get", "group": "appm.dev", "resource": "apps"}}});
        let ask = |who: &Identity| answer("selfsubjectaccessreviews", who, review.clone()).expect("answered");
        assert_eq!(ask(&Identity::admin())["status"]["allowed"], true);
        let stranger = Identity { name: "bob".into(), groups: vec![] };
        assert_eq!(ask(&stranger)["status"]["allowed"], false);
        assert!(answer("selfsubjectreviews", &stranger, review).is_err());
    }
}
