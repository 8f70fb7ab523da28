//! The shapes that belong to no kind: Kubernetes' `Status`, tables, patches, discovery, reviews.

use serde_json::{Map, Value, json};

use super::login;

/// All of them, by component name.
pub(super) fn all() -> Map<String, Value> {
    let groups = [lists(), outcomes(), changes(), reviews(), discovery(), texts(), login::shapes()];
    groups.into_iter().flatten().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

type Shapes = Vec<(&'static str, Value)>;

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A text.
pub(super) fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// A list of texts.
pub(super) fn texts_of(description: &str) -> Value {
    json!({"type": "array", "items": {"type": "string"}, "description": description})
}

/// A list of components.
pub(super) fn list_of(name: &str, description: &str) -> Value {
    json!({"type": "array", "items": reference(name), "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

/// An object.
pub(super) fn object(description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema = json!({"type": "object", "description": description, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// An object that says its own type.
fn typed(api_version: &str, kind: &str, description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema = object(description, required, json!({}));
    let fields = schema["properties"].as_object_mut().expect("just made");
    fields.insert("apiVersion".to_owned(), json!({"type": "string", "enum": [api_version]}));
    fields.insert("kind".to_owned(), json!({"type": "string", "enum": [kind]}));
    if let Value::Object(own) = properties {
        fields.extend(own);
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
    schema
}

fn lists() -> Shapes {
    let meta = "meta.k8s.io/v1";
    let partial = json!({"metadata": reference("ObjectMeta")});
    vec![
        (
            "ListMeta",
            object(
                "What a list says of itself.",
                &[],
                json!({
                    "resourceVersion": text("Revision of the snapshot; watch from here."),
                    "continue": text("Ask with this for the next page of the same snapshot."),
                    "remainingItemCount": {"type": "integer", "format": "int64", "description": "Objects after this page."},
                }),
            ),
        ),
        (
            "Bookmark",
            object(
                "How far a watch has come.",
                &["apiVersion", "kind", "metadata"],
                json!({
                    "apiVersion": text("That of the watched objects."), "kind": text("That of the watched objects."),
                    "metadata": reference("ObjectMeta"),
                }),
            ),
        ),
        (
            "PartialObjectMetadata",
            typed(meta, "PartialObjectMetadata", "An object's metadata alone.", &["metadata"], partial),
        ),
        (
            "PartialObjectMetadataList",
            typed(
                meta,
                "PartialObjectMetadataList",
                "The metadata of objects.",
                &["metadata", "items"],
                json!({
                    "metadata": reference("ListMeta"), "items": list_of("PartialObjectMetadata", "One for each object."),
                }),
            ),
        ),
        (
            "Table",
            typed(
                meta,
                "Table",
                "Objects as rows of cells, for people.",
                &["metadata", "columnDefinitions", "rows"],
                json!({
                    "metadata": reference("ListMeta"),
                    "columnDefinitions": list_of("TableColumnDefinition", "The columns."),
                    "rows": list_of("TableRow", "One for each object."),
                }),
            ),
        ),
        (
            "TableColumnDefinition",
            object(
                "A column.",
                &["name", "type", "format", "description", "priority"],
                json!({
                    "name": text("The heading."), "type": text("`string`, `integer`, `number` or `boolean`."),
                    "format": text("`name` for the column that names the object."), "description": text("What it shows."),
                    "priority": {"type": "integer", "format": "int32", "description": "0: always shown; more: only on wide screens."},
                }),
            ),
        ),
        (
            "TableRow",
            object(
                "One object.",
                &["cells"],
                json!({
                    "cells": {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "description": "One for each column."},
                    "object": reference("AnyObject"),
                }),
            ),
        ),
        (
            "AnyObject",
            json!({
                "type": "object", "description": "An object of any kind that is served.", "additionalProperties": true,
                "properties": {
                    "apiVersion": text("Group and version."), "kind": text("The kind."), "metadata": reference("ObjectMeta"),
                },
            }),
        ),
    ]
}

fn outcomes() -> Shapes {
    let told = "What a git server says of a push, in words of its own.";
    vec![
        ("WebhookBody", json!({"type": "object", "description": told, "additionalProperties": true})),
        (
            "Status",
            typed(
                "v1",
                "Status",
                "The outcome of a request that has no object to show: every refusal, and some \
            deletions.",
                &["status"],
                json!({
                    "metadata": reference("ListMeta"),
                    "status": {"type": "string", "enum": ["Success", "Failure"], "description": "How it went."},
                    "message": text("One sentence for people."),
                    "reason": reference("Reason"),
                    "details": reference("StatusDetails"),
                    "code": {"type": "integer", "format": "int32", "description": "HTTP status code."},
                }),
            ),
        ),
    ]
}

fn changes() -> Shapes {
    vec![
        (
            "MergePatch",
            json!({
                "type": "object", "additionalProperties": true,
                "description": "A JSON merge patch (RFC 7386): the object's fields that change, in their places; null removes one.",
            }),
        ),
        (
            "JsonPatch",
            json!({
                "type": "array", "items": reference("JsonPatchOperation"),
                "description": "A JSON patch (RFC 6902): operations that are done in order, all or none.",
            }),
        ),
        (
            "JsonPatchOperation",
            object(
                "One operation.",
                &["op", "path"],
                json!({
                    "op": {"type": "string", "enum": ["add", "remove", "replace", "move", "copy", "test"]},
                    "path": text("A JSON pointer, such as `/spec/replicas`."),
                    "from": text("For `move` and `copy`: where from."),
                    "value": {"description": "For `add`, `replace` and `test`: any JSON value."},
                }),
            ),
        ),
        (
            "DeleteOptions",
            object(
                "How to delete.",
                &[],
                json!({
                    "apiVersion": {"type": "string", "enum": ["v1", "meta.k8s.io/v1"]},
                    "kind": {"type": "string", "enum": ["DeleteOptions"]},
                    "gracePeriodSeconds": {"type": "integer", "format": "int64", "minimum": 0, "description":
                        "How long processes may take to end, in place of the object's own grace period."},
                    "propagationPolicy": reference("PropagationPolicy"),
                    "orphanDependents": flag("The older way to say `propagationPolicy`."),
                    "preconditions": reference("Preconditions"),
                    "dryRun": {"type": "array", "items": {"type": "string", "enum": ["All"]}, "description":
                        "`All`: do everything except store the result."},
                }),
            ),
        ),
        (
            "Scale",
            typed(
                "autoscaling/v1",
                "Scale",
                "How many replicas there should be, and how many there are.",
                &[],
                json!({
                    "metadata": reference("ObjectMeta"), "spec": reference("ScaleSpec"), "status": reference("ScaleStatus"),
                }),
            ),
        ),
        (
            "ScaleSpec",
            object(
                "What is wanted.",
                &[],
                json!({
                    "replicas": {"type": "integer", "format": "int32", "minimum": 0, "description": "How many there should be."},
                }),
            ),
        ),
        (
            "ScaleStatus",
            object(
                "What is.",
                &["replicas"],
                json!({
                    "replicas": {"type": "integer", "format": "int32", "description": "How many there are."},
                    "selector": text("Label selector of the replicas."),
                }),
            ),
        ),
        (
            "FieldsV1",
            json!({
                "type": "object", "additionalProperties": {"type": "object"},
                "description": "A set of fields: `f:name`, `k:{\"key\":\"value\"}`, `v:\"value\"` and `.` as keys, sets as values.",
            }),
        ),
        (
            "Quantity",
            json!({
                "description": "An amount: `512Mi`, `1.5`, `100m`. A number is an amount too.",
                "anyOf": [{"type": "string"}, {"type": "number"}], "x-kubernetes-int-or-string": true,
            }),
        ),
        (
            "IntOrString",
            json!({
                "description": "A number, or a text such as `25%` or a port's name.",
                "anyOf": [{"type": "integer", "format": "int32"}, {"type": "string"}], "x-kubernetes-int-or-string": true,
            }),
        ),
    ]
}

fn reviews() -> Shapes {
    let review = |api_version, kind, text, properties: Value| {
        let mut properties = properties;
        properties["metadata"] = reference("ObjectMeta");
        (kind, typed(api_version, kind, text, &[], properties))
    };
    vec![
        review(
            "authentication.k8s.io/v1",
            "SelfSubjectReview",
            "Who am I?",
            json!({
                "status": object("The answer.", &["userInfo"], json!({"userInfo": reference("UserInfo")})),
            }),
        ),
        (
            "UserInfo",
            object(
                "A person or a program.",
                &[],
                json!({
                    "username": text("The name."), "uid": text("The uid."), "groups": texts_of("The groups."),
                }),
            ),
        ),
        review(
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            "May I do this?",
            json!({
                "spec": reference("AccessReviewSpec"), "status": reference("AccessReviewStatus"),
            }),
        ),
        (
            "AccessReviewSpec",
            object(
                "What one would do.",
                &[],
                json!({
                    "resourceAttributes": reference("ResourceAttributes"), "nonResourceAttributes": reference("NonResourceAttributes"),
                }),
            ),
        ),
        (
            "ResourceAttributes",
            object(
                "Something done to objects.",
                &[],
                json!({
                    "verb": text("`get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`."),
                    "group": text("The API group."), "version": text("Its version."), "resource": text("The plural name."),
                    "subresource": text("`status`, `scale` or `log`."), "namespace": text("The namespace; empty: all of them."),
                    "name": text("The object's name; empty: all of them."),
                }),
            ),
        ),
        (
            "NonResourceAttributes",
            object(
                "Something done to a path that is about no object.",
                &[],
                json!({
                    "path": text("The path."), "verb": text("The method, in lower case."),
                }),
            ),
        ),
        (
            "AccessReviewStatus",
            object(
                "The answer.",
                &["allowed"],
                json!({
                    "allowed": flag("True if it may be done."), "reason": text("Why not."),
                }),
            ),
        ),
        review(
            "authorization.k8s.io/v1",
            "SelfSubjectRulesReview",
            "What may I do?",
            json!({
                "spec": object("Where.", &[], json!({"namespace": text("The namespace.")})),
                "status": reference("RulesReviewStatus"),
            }),
        ),
        (
            "RulesReviewStatus",
            object(
                "The answer.",
                &["resourceRules", "nonResourceRules", "incomplete"],
                json!({
                    "resourceRules": list_of("ResourceRule", "What may be done to objects."),
                    "nonResourceRules": list_of("NonResourceRule", "What may be done to other paths."),
                    "incomplete": flag("True if there may be more."),
                }),
            ),
        ),
        (
            "ResourceRule",
            object(
                "Verbs on resources.",
                &["verbs"],
                json!({
                    "verbs": texts_of("The verbs; `*` is all of them."), "apiGroups": texts_of("The groups."),
                    "resources": texts_of("The plural names."), "resourceNames": texts_of("The objects; absent: all of them."),
                }),
            ),
        ),
        (
            "NonResourceRule",
            object(
                "Verbs on paths.",
                &["verbs"],
                json!({
                    "verbs": texts_of("The verbs; `*` is all of them."), "nonResourceURLs": texts_of("The paths."),
                }),
            ),
        ),
    ]
}

fn discovery() -> Shapes {
    let gvk = || {
        object(
            "A type.",
            &["group", "version", "kind"],
            json!({
                "group": text("Its group."), "version": text("Its version."), "kind": text("Its kind."),
            }),
        )
    };
    vec![
        ("RootPaths", object("The documents of this server.", &["paths"], json!({"paths": texts_of("Their paths.")}))),
        (
            "APIVersions",
            object(
                "The versions of the core group.",
                &["kind", "versions", "serverAddressByClientCIDRs"],
                json!({
                    "kind": {"type": "string", "enum": ["APIVersions"]}, "versions": texts_of("The versions."),
                    "serverAddressByClientCIDRs": list_of("ServerAddressByClientCIDR", "Where clients find the server."),
                }),
            ),
        ),
        (
            "ServerAddressByClientCIDR",
            object(
                "Where some clients find the server.",
                &["clientCIDR", "serverAddress"],
                json!({
                    "clientCIDR": text("Which clients."), "serverAddress": text("Host and port."),
                }),
            ),
        ),
        (
            "APIGroupList",
            object(
                "The API groups, except the core one.",
                &["apiVersion", "kind", "groups"],
                json!({
                    "apiVersion": {"type": "string", "enum": ["v1"]}, "kind": {"type": "string", "enum": ["APIGroupList"]},
                    "groups": list_of("APIGroup", "The groups."),
                }),
            ),
        ),
        (
            "APIGroup",
            object(
                "An API group.",
                &["name", "versions", "preferredVersion"],
                json!({
                    "apiVersion": {"type": "string", "enum": ["v1"]}, "kind": {"type": "string", "enum": ["APIGroup"]},
                    "name": text("Its name."), "versions": list_of("GroupVersion", "Its versions."),
                    "preferredVersion": reference("GroupVersion"),
                }),
            ),
        ),
        (
            "GroupVersion",
            object(
                "A version of a group.",
                &["groupVersion", "version"],
                json!({
                    "groupVersion": text("`GROUP/VERSION`"), "version": text("`VERSION`"),
                }),
            ),
        ),
        (
            "APIResourceList",
            object(
                "The resources of one version of a group.",
                &["apiVersion", "kind", "groupVersion", "resources"],
                json!({
                    "apiVersion": {"type": "string", "enum": ["v1"]}, "kind": {"type": "string", "enum": ["APIResourceList"]},
                    "groupVersion": text("`GROUP/VERSION`"), "resources": list_of("APIResource", "The resources and their parts."),
                }),
            ),
        ),
        (
            "APIResource",
            object(
                "A resource, or a part of one.",
                &["name", "singularName", "namespaced", "kind", "verbs"],
                json!({
                    "name": text("`PLURAL` or `PLURAL/PART`"), "singularName": text("The singular name."),
                    "namespaced": flag("True if its objects are in namespaces."), "kind": text("The kind."),
                    "group": text("The group of what is answered, if it is another one."),
                    "version": text("The version of what is answered, if it is another one."),
                    "verbs": texts_of("What can be done."), "shortNames": texts_of("Short names for the command line."),
                    "categories": texts_of("Groups for the command line, such as `all`."),
                    "storageVersionHash": text("Changes when the stored form does."),
                }),
            ),
        ),
        (
            "APIGroupDiscoveryList",
            object(
                "Groups, versions and resources at once.",
                &["apiVersion", "kind", "metadata", "items"],
                json!({
                    "apiVersion": {"type": "string", "enum": ["apidiscovery.k8s.io/v2"]},
                    "kind": {"type": "string", "enum": ["APIGroupDiscoveryList"]},
                    "metadata": reference("ListMeta"), "items": list_of("APIGroupDiscovery", "The groups."),
                }),
            ),
        ),
        (
            "APIGroupDiscovery",
            object(
                "A group.",
                &["metadata", "versions"],
                json!({
                    "metadata": reference("ObjectMeta"), "versions": list_of("APIVersionDiscovery", "Its versions."),
                }),
            ),
        ),
        (
            "APIVersionDiscovery",
            object(
                "A version of a group.",
                &["version", "resources"],
                json!({
                    "version": text("The version."), "freshness": text("`Current`"),
                    "resources": list_of("APIResourceDiscovery", "Its resources."),
                }),
            ),
        ),
        (
            "APIResourceDiscovery",
            object(
                "A resource.",
                &["resource", "scope", "verbs"],
                json!({
                    "resource": text("The plural name."), "responseKind": reference("GroupVersionKind"),
                    "scope": {"type": "string", "enum": ["Namespaced", "Cluster"], "description": "Where its objects are."},
                    "singularResource": text("The singular name."), "verbs": texts_of("What can be done."),
                    "shortNames": texts_of("Short names for the command line."), "categories": texts_of("Groups for the command line."),
                    "subresources": list_of("APISubresourceDiscovery", "Its parts."),
                }),
            ),
        ),
        (
            "APISubresourceDiscovery",
            object(
                "A part of a resource.",
                &["subresource", "verbs"],
                json!({
                    "subresource": text("Its name."), "responseKind": reference("GroupVersionKind"), "verbs": texts_of("What can be done."),
                }),
            ),
        ),
        ("GroupVersionKind", gvk()),
    ]
}

fn texts() -> Shapes {
    vec![
        (
            "AuditVerdict",
            object(
                "What a look at the whole audit log has found.",
                &["records", "first", "last"],
                json!({
                    "records": {"type": "integer", "description": "How many records there are."},
                    "first": {"type": "integer", "description": "The number of the oldest one."},
                    "last": {"type": "integer", "description": "The number of the newest one."},
                    "fault": {
                        "type": "object", "description": "The first place where it is not what was written; absent if there is none.",
                        "required": ["file", "line", "seq", "what"],
                        "properties": {
                            "file": text("The file's name."),
                            "line": {"type": "integer", "description": "Its line, from 1."},
                            "seq": {"type": "integer", "description": "The number of the record that must be there."},
                            "what": text("What is wrong."),
                        },
                    },
                }),
            ),
        ),
        (
            "Sealing",
            object(
                "With which keys what is stored is sealed.",
                &["key", "keyFile", "dataKeys", "retired"],
                json!({
                    "key": text("The name of the key that encrypts the data keys: derived from it, of no use without it."),
                    "keyFile": text("Where it is read from."),
                    "dataKeys": {"type": "integer", "description": "Data keys in use, one for each namespace that holds something sealed."},
                    "retired": {"type": "integer", "description": "Data keys that are still needed until what they encrypt is encrypted anew."},
                }),
            ),
        ),
        (
            "LogLevel",
            object(
                "How much the server logs.",
                &["level"],
                json!({"level": text("As it was said: `info`, or directives.")}),
            ),
        ),
        (
            "Version",
            object(
                "The server's version, in the shape that Kubernetes' clients parse. `major` and `minor` say which \
            Kubernetes the API resembles.",
                &["major", "minor", "gitVersion", "platform"],
                json!({
                    "major": text("`1`"), "minor": text("Which Kubernetes the API resembles."),
                    "gitVersion": text("That, and after `+appm.` the version of appm."), "gitCommit": text("Empty."),
                    "gitTreeState": text("`clean`"), "buildDate": text("Not recorded."), "goVersion": text("Empty."),
                    "compiler": text("`rustc`"), "platform": text("`linux/amd64`, say."),
                }),
            ),
        ),
        (
            "OpenAPIPaths",
            object(
                "Where the descriptions of the groups are.",
                &["paths"],
                json!({
                    "paths": {"type": "object", "description": "By `api/v1` or `apis/GROUP/VERSION`.",
                        "additionalProperties": reference("OpenAPIPath")},
                }),
            ),
        ),
        (
            "OpenAPIPath",
            object(
                "Where one description is.",
                &["serverRelativeURL"],
                json!({
                    "serverRelativeURL": text("Its path; changes with its content."),
                }),
            ),
        ),
        (
            "OpenAPIDocument",
            json!({
                "type": "object", "additionalProperties": true, "required": ["info", "paths"],
                "description": "A description of an API, as the OpenAPI specification defines it.",
                "properties": {
                    "openapi": text("The version of the specification."), "swagger": text("The version of the specification."),
                    "info": {"type": "object", "additionalProperties": true, "description": "What the API is."},
                    "paths": {"type": "object", "additionalProperties": true, "description": "Its operations."},
                    "components": {"type": "object", "additionalProperties": true, "description": "What they refer to."},
                },
            }),
        ),
    ]
}
