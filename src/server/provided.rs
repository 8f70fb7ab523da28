//! Objects that the server says of itself: a CustomResourceDefinition for each of our kinds, and the Service `kubernetes`.
//!
//! They are made from the list of kinds and the address at each start and put into the store's memory, where they are read
//! and watched as any object is. Nothing writes them, so they do not change while the server runs.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::openapi;
use crate::{
    api::{
        Body, Condition, CrdColumn, CrdConversion, CrdNames, CrdScale, CrdSchema, CrdSpec, CrdStatus, CrdSubresources,
        CrdVersion, CustomResourceDefinition, GROUP, KINDS, Key, Kind, KindInfo, Object, ObjectMeta, Protocol, Scope,
        Service, ServicePort, ServiceSpec, ServiceStatus, Subresource, Time,
    },
    store::Store,
};

/// Puts everything into the store's memory.
pub(super) fn provide(store: &Store, address: SocketAddr, now: Timestamp) {
    let schemas = openapi::structural::Schemas::new();
    let ours = KINDS.iter().copied().filter(|kind| kind.group == GROUP);
    let definitions = ours.map(|kind| entry(definition(kind, schemas.of(kind.stored_form()), now))).collect();
    store.provide(CustomResourceDefinition::INFO, definitions);
    store.provide(Service::INFO, vec![entry(service(address, now))]);
}

fn entry<K: Kind>(object: Object<K>) -> (Key, Body) {
    let key = Key::of::<K>(&object.metadata.namespace, &object.metadata.name);
    (key, Body::new(object.to_value()))
}

/// A uid that is the same at every start, made from the name.
fn metadata(kind: &KindInfo, namespace: &str, name: String, now: Timestamp) -> ObjectMeta {
    let digest = Sha256::digest(format!("{}/{namespace}/{name}", kind.qualified()));
    let hex = hex::encode(&digest[..16]);
    let uid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    ObjectMeta {
        name,
        namespace: namespace.to_owned(),
        uid: Some(uid.as_str().into()),
        generation: 1,
        creation_timestamp: Some(Time(now)),
        ..ObjectMeta::default()
    }
}

fn definition(kind: &'static KindInfo, schema: Value, now: Timestamp) -> Object<CustomResourceDefinition> {
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
    let names = CrdNames {
        kind: kind.kind.to_owned(),
        list_kind: format!("{}List", kind.kind),
        plural: kind.plural.to_owned(),
        singular: kind.singular.to_owned(),
        short_names: words(kind.short_names),
        categories: words(kind.categories),
    };
    let holds = |kind: &str, reason: &str, message: &str| Condition::new(kind, true, reason, message, Time(now));
    let version = CrdVersion {
        name: kind.version.to_owned(),
        served: true,
        storage: true,
        schema: CrdSchema { open_api_v3_schema: schema },
        subresources: CrdSubresources {
            status: kind.has(Subresource::Status).then(Default::default),
            scale: kind.has(Subresource::Scale).then(|| CrdScale {
                spec_replicas_path: ".spec.replicas".to_owned(),
                status_replicas_path: ".status.replicas".to_owned(),
                label_selector_path: ".status.selector".to_owned(),
            }),
        },
        additional_printer_columns: vec![CrdColumn {
            name: "Age".to_owned(),
            data_type: "date".to_owned(),
            json_path: ".metadata.creationTimestamp".to_owned(),
        }],
    };
    let body = CustomResourceDefinition {
        spec: CrdSpec {
            group: kind.group.to_owned(),
            names: names.clone(),
            scope: if kind.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" }.to_owned(),
            versions: vec![version],
            conversion: CrdConversion { strategy: "None".to_owned() },
        },
        status: CrdStatus {
            accepted_names: names,
            conditions: vec![
                holds("NamesAccepted", "NoConflicts", "no conflicts found"),
                holds("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            stored_versions: vec![kind.version.to_owned()],
        },
    };
    Object::new(metadata(CustomResourceDefinition::INFO, "", kind.qualified().into_owned(), now), body)
}

fn service(address: SocketAddr, now: Timestamp) -> Object<Service> {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        ip => ip.to_string(),
    };
    let mut metadata = metadata(Service::INFO, "default", "kubernetes".to_owned(), now);
    metadata.labels = [("component", "apiserver"), ("provider", "kubernetes")].into_iter().collect();
    let port = ServicePort {
        name: "https".to_owned(),
        port: address.port(),
        protocol: Protocol::Tcp,
        target_port: address.port(),
    };
    let spec =
        ServiceSpec { kind: "ClusterIP".to_owned(), cluster_ip: ip.clone(), cluster_ips: vec![ip], ports: vec![port] };
    Object::new(metadata, Service { spec, status: ServiceStatus::default() })
}
