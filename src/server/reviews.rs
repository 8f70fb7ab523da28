//! "What may I do?" and "who am I?": `authorization.k8s.io` and `authentication.k8s.io` reviews of oneself. Nothing is stored.
//!
//! The access review asks the very function that requests are decided by.

use serde_json::{Map, Value, json};

use crate::{
    api::{PolicyRule, Status},
    auth::{Attributes, Authority, Identity, May},
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
pub(super) fn answer(plural: &str, authority: &Authority, who: &Identity, body: Value) -> Result<Value, Status> {
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
        "SelfSubjectReview" => user_info(who),
        "SelfSubjectAccessReview" => access(authority, who, &body["spec"]),
        _ => rules(authority, who),
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

fn user_info(who: &Identity) -> Value {
    let mut info = json!({"username": who.name, "groups": who.groups});
    if let Some(uid) = &who.uid {
        info["uid"] = json!(uid.as_str());
    }
    json!({"userInfo": info})
}

fn access(authority: &Authority, who: &Identity, spec: &Value) -> Value {
    let (wanted, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let text = |name: &str| wanted[name].as_str().unwrap_or_default();
    let what = match path["path"].as_str() {
        Some(path) if !wanted.is_object() => {
            let verb = spec["nonResourceAttributes"]["verb"].as_str().unwrap_or_default();
            Attributes { verb, path, ..Attributes::default() }
        }
        _ => Attributes {
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            path: "",
        },
    };
    match authority.may(who, &what) {
        Ok(May::Always) => json!({"allowed": true, "reason": authority.reason(who, &what)}),
        Ok(_) => {
            json!({"allowed": true, "reason": "on some objects: your own and those that are shared, or in some namespaces"})
        }
        Err(refusal) => json!({"allowed": false, "reason": refusal.message}),
    }
}

fn rules(authority: &Authority, who: &Identity) -> Value {
    let (resources, paths): (Vec<PolicyRule>, Vec<PolicyRule>) =
        authority.rules(who).into_iter().partition(|rule| rule.non_resource_urls.is_empty());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Proof, policy::powers::Host};

    #[tokio::test]
    async fn the_admin_may_everything_and_a_stranger_nothing() {
        let review = json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": {"resourceAttributes": {"verb": "get", "group": "appm.dev", "resource": "apps"}}});
        let clock: crate::clock::SharedClock = std::sync::Arc::new(crate::clock::System);
        let engine = crate::store::Memory::new().engine();
        let store =
            crate::store::Store::open(engine, clock.clone(), crate::store::Limits::default()).await.expect("empty");
        let authority = Authority::new(store, clock, Host::default());
        let ask =
            |who: &Identity| answer("selfsubjectaccessreviews", &authority, who, review.clone()).expect("answered");
        assert_eq!(ask(&Identity::admin(Proof::Peer))["status"]["allowed"], true);
        let stranger = Identity::of("bob", Proof::Peer);
        assert_eq!(ask(&stranger)["status"]["allowed"], false);
        assert!(answer("selfsubjectreviews", &authority, &stranger, review).is_err());
    }
}
