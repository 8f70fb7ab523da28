//! Manifests of Kubernetes: what runs containers becomes Apps, Runs and Schedules; ConfigMaps, Secrets and Namespaces are the same here.
//!
//! Fields that exist in both keep name and meaning, so a probe is copied as it is. What there is no machine for on a plain host (load balancers, claims,
//! affinities) is said.

mod pod;
mod workload;

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use super::super::{
    draft::Draft,
    files::Files,
    names::Names,
    report::{Fate, Outcome, Part, Refusal, Report, brief},
    tree::{Tree, entries, step},
};
use super::words::KUBERNETES;
use crate::api::check_subdomain;

/// An object of a file.
struct Object {
    tree: Tree,
    value: Value,
}

impl Object {
    fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().or(self.value["metadata"]["generateName"].as_str()).unwrap_or("app")
    }
}

/// Services by the labels that they select: what is published.
type Services<'a> = Vec<&'a Object>;

/// Reads manifests.
///
/// # Errors
/// Everything that cannot be read.
pub fn read(paths: &[PathBuf], files: &Files) -> Outcome<Value> {
    let (mut report, mut refusals, mut objects) = (Report::default(), Vec::new(), Vec::new());
    for path in paths {
        match Tree::all(path, files) {
            Ok(trees) => objects.extend(trees.into_iter().map(|tree| Object { value: tree.value(), tree })),
            Err(more) => refusals.extend(more),
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    if let Some(first) = objects.first() {
        super::too_many(objects.len(), "objects", &first.tree.spot(""))?;
    }
    let services: Services<'_> = objects.iter().filter(|object| object.kind() == "Service").collect();
    // Objects of one kind and name in two namespaces are two.
    let mut names = BTreeMap::new();
    for object in &objects {
        let namespace = object.value["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let names: &mut Names = names.entry(namespace).or_default();
        match object.kind() {
            "" => refusals.push(Refusal::new(&object.tree.spot(""), "an object has `apiVersion` and `kind`")),
            "Deployment"
            | "StatefulSet"
            | "DaemonSet"
            | "ReplicaSet"
            | "ReplicationController"
            | "Pod"
            | "Job"
            | "CronJob" => match workload::parts(object, &services, names) {
                Ok(parts) => report.parts.extend(parts),
                Err(more) => refusals.extend(more),
            },
            "ConfigMap" | "Secret" | "Namespace" if check_subdomain(object.name()).is_err() => {
                let message = format!("`{}` is no name of a {}", brief(object.name()), object.kind());
                refusals.push(Refusal::new(&object.tree.spot("metadata.name"), message));
            }
            "ConfigMap" | "Secret" | "Namespace" => report.parts.push(same(object)),
            "Service" => service(object, &objects, &mut report),
            "PersistentVolumeClaim" => {
                let remark =
                    format!("a volume `{}` of the engine is made by the first container that mounts it", object.name());
                report.note(&object.tree.spot("kind"), object.name(), Fate::Approximated, &remark);
            }
            kind => {
                report.note(&object.tree.spot("kind"), &format!("{kind}/{}", object.name()), Fate::Dropped, other(kind))
            }
        }
    }
    if report.parts.is_empty() && report.notes.is_empty() && refusals.is_empty() {
        let spot = super::super::report::Spot::named(&paths.first().map_or(String::new(), |p| p.display().to_string()));
        refusals.push(Refusal::new(&spot, "there is no object in it"));
    }
    if refusals.is_empty() { Ok(report) } else { Err(refusals) }
}

/// Why an object of another kind is left out.
fn other(kind: &str) -> &'static str {
    match kind {
        "Ingress" | "IngressClass" | "Gateway" | "HTTPRoute" | "TLSRoute" | "GRPCRoute" | "TCPRoute" => {
            "ports are published on 127.0.0.1; what stands before them is set up beside appm"
        }
        "PersistentVolume" | "StorageClass" | "VolumeSnapshot" => "volumes are the engine's",
        "HorizontalPodAutoscaler" | "VerticalPodAutoscaler" => "nothing scales by itself: `appm scale`",
        "PodDisruptionBudget" => "`strategy.rollingUpdate` keeps instances during a rollout",
        "NetworkPolicy" => "networks are the engine's",
        "ServiceAccount" => "what an App may do here is its owner's",
        "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => "roles are appm's own: `appm role add`",
        "ResourceQuota" | "LimitRange" => "apply it as it is: appm serves ResourceQuota, and `resources` of each App",
        "CustomResourceDefinition" => "there are no kinds of others",
        _ => "no kind that appm can run",
    }
}

/// An object that is the same here, without what a server put into it.
fn same(object: &Object) -> Part<Value> {
    let kind = match object.kind() {
        "ConfigMap" => "ConfigMap",
        "Secret" => "Secret",
        _ => "Namespace",
    };
    let mut draft = Draft::new(kind, object.name());
    metadata(object, &mut draft);
    for (key, value) in entries(&object.value) {
        let spot = object.tree.spot(key);
        match key.as_str() {
            "apiVersion" | "kind" | "metadata" | "status" => {}
            "spec" if kind == "Namespace" => draft.carried(&spot, key),
            "data" | "binaryData" | "stringData" | "immutable" | "type" => {
                draft.body.insert(key.clone(), value.clone());
                draft.carried(&spot, key);
            }
            _ => draft.dropped(&spot, key, "no field of it that is known"),
        }
    }
    draft.done()
}

/// Name, namespace, labels and annotations.
fn metadata(object: &Object, draft: &mut Draft) {
    for (key, value) in entries(&object.value["metadata"]) {
        let spot = object.tree.spot(&step("metadata", key));
        match key.as_str() {
            "name" | "creationTimestamp" | "uid" | "resourceVersion" | "generation" | "managedFields" | "selfLink" => {}
            "generateName" => draft.nearly(&spot, key, "a name of its own"),
            "namespace" | "labels" => {
                draft.metadata.insert(key.clone(), value.clone());
                draft.carried(&spot, key);
            }
            "annotations" => {
                let mut kept = value.clone();
                if let Some(map) = kept.as_object_mut() {
                    map.retain(|key, _| {
                        !key.starts_with("kubectl.kubernetes.io/") && !key.starts_with("deployment.kubernetes.io/")
                    });
                    if !map.is_empty() {
                        draft.metadata.insert(key.clone(), kept);
                    }
                }
                draft.carried(&spot, key);
            }
            _ => draft.dropped(&spot, key, "of the server that it came from"),
        }
    }
}

/// What a Service says beside the ports that its Apps publish.
fn service(object: &Object, objects: &[Object], report: &mut Report<Value>) {
    let spec = &object.value["spec"];
    let is_used = objects.iter().any(|other| selects(object, other));
    for (key, _) in entries(spec) {
        let spot = object.tree.spot(&step("spec", key));
        let setting = format!("Service/{} {key}", object.name());
        match key.as_str() {
            "selector" | "ports" if is_used => report.note(&spot, &setting, Fate::Carried, ""),
            "selector" | "ports" => report.note(&spot, &setting, Fate::Dropped, "it selects nothing that is imported"),
            "type" if spec["type"] == "ClusterIP" || spec["type"] == "NodePort" => {
                report.note(&spot, &setting, Fate::Carried, "")
            }
            "type" => report.note(&spot, &setting, Fate::Approximated, "the port is published on 127.0.0.1"),
            "clusterIP"
            | "clusterIPs"
            | "ipFamilies"
            | "ipFamilyPolicy"
            | "internalTrafficPolicy"
            | "trafficDistribution"
            | "sessionAffinity"
            | "sessionAffinityConfig" => {
                report.note(
                    &spot,
                    &setting,
                    Fate::Dropped,
                    "there are no addresses of Services; `status.endpoints` of the App has each instance",
                );
            }
            "publishNotReadyAddresses" => {
                report.note(&spot, &setting, Fate::Dropped, "`status.endpoints` of the App has who is ready");
            }
            _ if KUBERNETES.knows("ServiceSpec", key) => {
                report.note(&spot, &setting, Fate::Dropped, "what stands before the machine is set up beside appm");
            }
            _ => report.note(&spot, &setting, Fate::Dropped, &KUBERNETES.stranger("ServiceSpec", key)),
        }
    }
    if is_used {
        let remark = "its name is no host name here: others find the App by its published port, or `status.endpoints`";
        report.note(
            &object.tree.spot("metadata.name"),
            &format!("Service/{}", object.name()),
            Fate::Approximated,
            remark,
        );
    }
}

/// True if a Service is about the Pods of a workload.
fn selects(service: &Object, other: &Object) -> bool {
    let labels = match other.kind() {
        "Pod" => &other.value["metadata"]["labels"],
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" => {
            &other.value["spec"]["template"]["metadata"]["labels"]
        }
        _ => return false,
    };
    let here = |object: &Object| object.value["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let mut wanted = entries(&service.value["spec"]["selector"]).peekable();
    wanted.peek().is_some() && here(service) == here(other) && wanted.all(|(key, value)| labels[key] == *value)
}

/// The ports that Services publish of a workload's container: name or number, and where.
fn published(object: &Object, services: &Services<'_>) -> Vec<(Value, Value)> {
    let mine = services.iter().filter(|service| selects(service, object));
    let ports = mine.flat_map(|service| service.value["spec"]["ports"].as_array().into_iter().flatten());
    ports
        .map(|port| {
            (port.get("targetPort").unwrap_or(&port["port"]).clone(), port.get("nodePort").cloned().unwrap_or(json!(0)))
        })
        .collect()
}
