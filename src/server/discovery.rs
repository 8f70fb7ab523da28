//! What there is: `/api`, `/apis`, group documents, resource lists, and all of it at once in aggregated form.
//!
//! Everything follows from [`crate::api::kinds::served`]; only the few resources that store nothing (reviews, transactions) are named
//! here. `/api` and `/apis` both know the aggregated form, because clients expect it of both or of neither, and answer in exactly
//! the version that was asked for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::accept;
use crate::api::{GROUP, History, InstanceProcesses, Served, Subresource, Task, VERSION, api_version, kinds::served};

/// One resource, or a part of one, as discovery names it.
struct Entry {
    plural: &'static str,
    subresource: &'static str,
    singular: &'static str,
    namespaced: bool,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    /// Group and version of what is answered, where they differ from those of the resource.
    answers: Option<(&'static str, &'static str)>,
    verbs: &'static [&'static str],
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
}

const PART_VERBS: &[&str] = &["get", "patch", "update"];

/// Resources that store nothing.
const VIRTUAL: &[(&str, &str, &str, &str)] = &[
    (GROUP, VERSION, "transactions", "Transaction"),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
];

fn entries() -> Vec<Entry> {
    let stored = served().flat_map(|served| std::iter::once(object(served)).chain(parts(served)));
    let others = VIRTUAL.iter().map(|&(group, version, plural, kind)| Entry {
        plural,
        subresource: "",
        singular: plural.strip_suffix('s').unwrap_or(plural),
        namespaced: false,
        group,
        version,
        kind,
        answers: None,
        verbs: &["create"],
        short_names: &[],
        categories: &[],
    });
    stored.chain(others).collect()
}

fn object(served: Served) -> Entry {
    Entry {
        plural: served.plural(),
        subresource: "",
        singular: served.singular(),
        namespaced: served.kind.is_namespaced(),
        group: served.group(),
        version: served.version(),
        kind: served.name(),
        answers: None,
        verbs: served.verbs().words(),
        short_names: served.short_names(),
        categories: served.categories(),
    }
}

fn parts(served: Served) -> impl Iterator<Item = Entry> {
    let whole = move |subresource| Entry {
        subresource,
        verbs: PART_VERBS,
        short_names: &[],
        categories: &[],
        ..object(served)
    };
    let log = served.has(Subresource::Log).then(|| Entry { verbs: &["get"], ..whole("log") });
    let processes = served.has(Subresource::Processes).then(|| Entry {
        kind: InstanceProcesses::KIND,
        verbs: &["get"],
        ..whole("processes")
    });
    let task =
        served.has(Subresource::Task).then(|| Entry { kind: Task::KIND, verbs: &["create", "get"], ..whole("task") });
    let stdin = served.has(Subresource::Stdin).then(|| Entry { verbs: &["create"], ..whole("stdin") });
    let scale = served.has(Subresource::Scale).then(|| Entry {
        kind: "Scale",
        answers: Some(("autoscaling", "v1")),
        ..whole("scale")
    });
    let artifacts = served.has(Subresource::Artifacts).then(|| Entry { verbs: &["get"], ..whole("artifacts") });
    let finalize = served.has(Subresource::Finalize).then(|| Entry { verbs: &["update"], ..whole("finalize") });
    let remembers = served.has_history() && served.view.is_none();
    let history = remembers.then(|| Entry { kind: History::KIND, verbs: &["get"], ..whole("history") });
    let status = served.has(Subresource::Status).then(|| whole("status"));
    [artifacts, finalize, history, log, processes, scale, status, stdin, task].into_iter().flatten()
}

/// Every group but the core one, each with its versions; ours first.
fn groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for entry in entries().iter().filter(|e| !e.group.is_empty()) {
        match all.iter_mut().find(|(group, _)| *group == entry.group) {
            Some((_, versions)) if versions.contains(&entry.version) => {}
            Some((_, versions)) => versions.push(entry.version),
            None => all.push((entry.group, vec![entry.version])),
        }
    }
    all.sort_by_key(|(group, _)| (*group != GROUP, *group));
    all
}

/// `/api`
pub(super) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`
pub(super) fn group_list() -> Value {
    let all: Vec<Value> = groups().iter().map(|(name, versions)| group_body(name, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

fn group_body(name: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": api_version(name, v), "version": v})).collect();
    json!({"name": name, "preferredVersion": versions[0], "versions": versions})
}

/// `/apis/GROUP`
pub(super) fn group(name: &str) -> Option<Value> {
    let (name, versions) = groups().into_iter().find(|(group, _)| *group == name)?;
    let mut body = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(to), Value::Object(from)) = (body.as_object_mut(), group_body(name, &versions)) {
        to.extend(from);
    }
    Some(body)
}

/// `/api/VERSION` and `/apis/GROUP/VERSION`
pub(super) fn resource_list(group: &str, version: &str) -> Option<Value> {
    let all: Vec<Value> =
        entries().iter().filter(|e| (e.group, e.version) == (group, version)).map(resource_body).collect();
    (!all.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": api_version(group, version), "resources": all,
        })
    })
}

fn resource_body(entry: &Entry) -> Value {
    let name = match entry.subresource {
        "" => entry.plural.to_owned(),
        part => format!("{}/{part}", entry.plural),
    };
    let mut body = json!({
        "name": name,
        "singularName": if entry.subresource.is_empty() { entry.singular } else { "" },
        "namespaced": entry.namespaced, "kind": entry.kind, "verbs": entry.verbs,
    });
    if let Some((group, version)) = entry.answers {
        body["group"] = json!(group);
        body["version"] = json!(version);
    }
    if !entry.short_names.is_empty() {
        body["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        body["categories"] = json!(entry.categories);
    }
    if entry.subresource.is_empty() && entry.verbs.contains(&"list") {
        body["storageVersionHash"] = json!(storage_hash(entry));
    }
    body
}

fn storage_hash(entry: &Entry) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", entry.group, entry.version, entry.kind));
    STANDARD.encode(&digest[..8])
}

/// Which half of aggregated discovery.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// `/api`: the core group.
    Core,
    /// `/apis`: every other group.
    Named,
}

/// The version of aggregated discovery that an `Accept` header prefers to plain JSON, if it asks for one we have.
pub(super) fn aggregated_version(accept: &str) -> Option<&'static str> {
    let first = accept::entries(accept).find_map(|entry| {
        let plain = matches!(entry.name, "application/json" | "*/*" | "application/*");
        let ours = entry.param("g") == "apidiscovery.k8s.io" && entry.param("as") == "APIGroupDiscoveryList";
        match (plain, entry.param("as"), entry.param("v")) {
            (true, "", _) => Some(None),
            (true, _, "v2") if ours => Some(Some("v2")),
            (true, _, "v2beta1") if ours => Some(Some("v2beta1")),
            _ => None,
        }
    });
    first.flatten()
}

/// Its content type.
pub(super) fn aggregated_type(version: &str) -> &'static str {
    match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    }
}

/// Groups, versions and resources at once.
pub(super) fn aggregated(half: Half, version: &str) -> Value {
    let named = || groups().into_iter().map(|(group, versions)| aggregated_group(group, &versions)).collect();
    let items: Vec<Value> = match half {
        Half::Core => vec![aggregated_group("", &["v1"])],
        Half::Named => named(),
    };
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
}

fn aggregated_group(group: &str, versions: &[&str]) -> Value {
    let all = entries();
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let here = |e: &&Entry| (e.group, e.version) == (group, *version);
            let resources: Vec<Value> = all
                .iter()
                .filter(here)
                .filter(|e| e.subresource.is_empty())
                .map(|e| aggregated_resource(e, all.iter().filter(here)))
                .collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource<'a>(entry: &Entry, siblings: impl Iterator<Item = &'a Entry>) -> Value {
    let parts: Vec<Value> = siblings
        .filter(|e| e.plural == entry.plural && !e.subresource.is_empty())
        .map(|e| json!({"subresource": e.subresource, "responseKind": response_kind(e), "verbs": e.verbs}))
        .collect();
    let mut body = json!({
        "resource": entry.plural, "responseKind": response_kind(entry),
        "scope": if entry.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": entry.singular, "verbs": entry.verbs,
    });
    for (name, list) in [("shortNames", entry.short_names), ("categories", entry.categories)] {
        if !list.is_empty() {
            body[name] = json!(list);
        }
    }
    if !parts.is_empty() {
        body["subresources"] = parts.into();
    }
    body
}

fn response_kind(entry: &Entry) -> Value {
    let (group, version) = entry.answers.unwrap_or((entry.group, entry.version));
    json!({"group": group, "version": version, "kind": entry.kind})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_group_comes_first_and_the_core_group_has_its_own_place() {
        let list = group_list();
        let names: Vec<_> = list["groups"].as_array().expect("list").iter().map(|g| g["name"].clone()).collect();
        let expected = [
            "appm.dev",
            "apiextensions.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
            "coordination.k8s.io",
            "events.k8s.io",
            "metrics.k8s.io",
        ];
        assert_eq!(names, expected);
        assert!(resource_list("", "v1").is_some());
        assert_eq!(resource_list("appm.dev", "v2"), None);
        assert_eq!(group("nope"), None);
    }

    #[test]
    fn resources_name_their_parts() {
        let list = resource_list("appm.dev", "v1").expect("served");
        let names: Vec<_> = list["resources"].as_array().expect("list").iter().map(|r| r["name"].clone()).collect();
        let expected = [
            "apps",
            "apps/history",
            "apps/scale",
            "apps/status",
            "apps/task",
            "instances",
            "instances/history",
            "instances/log",
            "instances/processes",
            "instances/status",
            "revisions",
            "revisions/history",
            "runs",
            "runs/history",
            "runs/log",
            "runs/status",
            "runs/stdin",
            "schedules",
            "schedules/history",
            "schedules/status",
            "workflows",
            "workflows/history",
            "workflows/status",
            "workflowruns",
            "workflowruns/artifacts",
            "workflowruns/history",
            "workflowruns/status",
            "sources",
            "sources/history",
            "sources/status",
            "users",
            "users/history",
            "users/status",
            "roles",
            "roles/history",
            "tokens",
            "transactions",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_aggregated_version_is_the_one_that_is_preferred() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        for (accept, expected) in [
            (format!("{v2},{beta},application/json"), Some("v2")),
            (format!("{beta},application/json"), Some("v2beta1")),
            (format!("application/json,{v2}"), None),
            (String::new(), None),
        ] {
            assert_eq!(aggregated_version(&accept), expected, "{accept}");
        }
        assert_eq!(aggregated(Half::Core, "v2beta1")["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    }
}
