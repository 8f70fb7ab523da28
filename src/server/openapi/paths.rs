//! Every path and verb, for everything that is served.

use serde_json::json;
use utoipa::openapi::Required;
use utoipa::openapi::{
    HttpMethod, Ref,
    content::ContentBuilder,
    extensions::ExtensionsBuilder,
    path::{OperationBuilder, ParameterBuilder, ParameterIn, PathItemBuilder, Paths, PathsBuilder},
    request_body::RequestBodyBuilder,
    response::ResponseBuilder,
    schema::{ObjectBuilder, SchemaType, Type},
};

use super::components::list_name;
use crate::api::{GROUP, Served, Subresource, Verbs, kinds::served, schema::component_name};
use crate::server::logs;

/// All of them.
pub(super) fn all() -> Paths {
    let objects =
        served().flat_map(of_served).fold(PathsBuilder::new(), |paths, (path, item)| paths.path(path, item.build()));
    others().into_iter().fold(objects, |paths, (path, item)| paths.path(path, item.build())).build()
}

/// One query parameter: name, type, meaning.
type Query = (&'static str, Type, &'static str);

const FIELD_MANAGER: Query = ("fieldManager", Type::String, "who owns the fields that are set");
const FIELD_VALIDATION: Query =
    ("fieldValidation", Type::String, "Strict, Warn or Ignore: what becomes of fields that do not exist");
const DRY_RUN: Query = ("dryRun", Type::String, "All: check everything, store nothing");
const FORCE: Query = ("force", Type::Boolean, "apply: take fields that others own");
const LABELS: Query = ("labelSelector", Type::String, "only objects with such labels");
const FIELDS: Query = ("fieldSelector", Type::String, "only objects with such fields");
const WRITE: &[Query] = &[FIELD_MANAGER, FIELD_VALIDATION, DRY_RUN];
const PATCH: &[Query] = &[FIELD_MANAGER, FIELD_VALIDATION, DRY_RUN, FORCE];
const DELETE: &[Query] = &[
    DRY_RUN,
    ("gracePeriodSeconds", Type::Integer, "in place of the object's own"),
    ("propagationPolicy", Type::String, "Background, Foreground or Orphan"),
];
const LIST: &[Query] = &[
    LABELS,
    FIELDS,
    ("limit", Type::Integer, "at most so many objects a page"),
    ("continue", Type::String, "the next page of the same snapshot"),
    ("resourceVersion", Type::String, "at least this revision; 0 means any"),
    ("resourceVersionMatch", Type::String, "NotOlderThan or Exact"),
    ("watch", Type::Boolean, "stream changes as WatchEvents, one a line"),
    ("allowWatchBookmarks", Type::Boolean, "watch: say now and then how far it has come"),
    ("sendInitialEvents", Type::Boolean, "watch: begin with what there is"),
    ("timeoutSeconds", Type::Integer, "watch: end after so long"),
];
const LOG: &[Query] = &[
    ("follow", Type::Boolean, "go on with what is written later"),
    ("previous", Type::Boolean, "the attempt before the last one"),
    ("timestamps", Type::Boolean, "each line begins with its time"),
    ("tailLines", Type::Integer, "at most so many lines from the end"),
    ("sinceSeconds", Type::Integer, "nothing older"),
    ("sinceTime", Type::String, "nothing older"),
    ("limitBytes", Type::Integer, "at most so many bytes"),
    ("stream", Type::String, "All, Stdout or Stderr"),
];

/// `AppmV1`, `CoreV1`, `EventsV1`: the first part of operation names, as in Kubernetes.
fn family(group: &str, version: &str) -> String {
    let first = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
    let upper = |word: &str| word[..1].to_uppercase() + &word[1..];
    upper(first) + &upper(version)
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// An operation that is being described.
struct Described {
    operation: OperationBuilder,
}

impl Described {
    fn new(group: &str, version: &str, id: String, summary: String) -> Self {
        let tag = family(group, version).to_lowercase();
        let refused = status_answer("what was wrong");
        let operation =
            OperationBuilder::new().tag(tag).operation_id(Some(id)).summary(Some(summary)).response("default", refused);
        Self { operation }
    }

    fn about(mut self, action: &str, group: &str, version: &str, kind: &str) -> Self {
        let extensions = ExtensionsBuilder::new()
            .add("x-kubernetes-action", json!(action))
            .add("x-kubernetes-group-version-kind", json!({"group": group, "version": version, "kind": kind}))
            .build();
        self.operation = self.operation.extensions(Some(extensions));
        self
    }

    fn queries(mut self, queries: &[Query]) -> Self {
        for (name, data_type, description) in queries {
            let schema = ObjectBuilder::new().schema_type(SchemaType::Type(data_type.clone())).build();
            let parameter = ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(*description))
                .schema(Some(schema));
            self.operation = self.operation.parameter(parameter);
        }
        self
    }

    fn in_path(mut self, names: &[&str]) -> Self {
        for name in names {
            let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build();
            let parameter = ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some(format!("{name} of the object")))
                .schema(Some(schema));
            self.operation = self.operation.parameter(parameter);
        }
        self
    }

    fn body(mut self, content_types: &[&str], schema: &str, required: bool) -> Self {
        let body = content_types.iter().fold(RequestBodyBuilder::new(), |body, content_type| {
            body.content(*content_type, ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build())
        });
        let required = if required { Required::True } else { Required::False };
        self.operation = self.operation.request_body(Some(body.required(Some(required)).build()));
        self
    }

    fn answer(mut self, code: &str, description: &str, schema: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content);
        self.operation = self.operation.response(code, response.build());
        self
    }

    fn text_answer(mut self, content_type: &str, description: &str) -> Self {
        let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build();
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(description).content(content_type, content);
        self.operation = self.operation.response("200", response.build());
        self
    }
}

fn status_answer(description: &str) -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Status"))).build();
    ResponseBuilder::new().description(description).content("application/json", content).build()
}

const OBJECT_TYPES: &[&str] = &["application/json", "application/yaml"];
const PATCH_TYPES: &[&str] =
    &["application/apply-patch+yaml", "application/merge-patch+json", "application/json-patch+json"];

/// The words with which one form's operations are described.
struct Words {
    served: Served,
    family: String,
    kind: &'static str,
    component: String,
    list: String,
    scope: &'static str,
}

impl Words {
    fn new(served: Served) -> Self {
        Self {
            served,
            family: family(served.group(), served.version()),
            kind: served.name(),
            component: component_name(served),
            list: list_name(served),
            scope: if served.kind.is_namespaced() { "Namespaced" } else { "" },
        }
    }

    fn operation(&self, verb: &str, suffix: &str, action: &str, summary: String) -> Described {
        let (group, version) = (self.served.group(), self.served.version());
        let id = format!("{verb}{}{}{}{suffix}", self.family, self.scope, self.kind);
        Described::new(group, version, id, summary).about(action, group, version, self.kind)
    }

    fn place(&self, named: bool) -> &'static [&'static str] {
        match (self.served.kind.is_namespaced(), named) {
            (true, true) => &["namespace", "name"],
            (true, false) => &["namespace"],
            (false, true) => &["name"],
            (false, false) => &[],
        }
    }
}

fn of_served(served: Served) -> Vec<(String, PathItemBuilder)> {
    let words = Words::new(served);
    let root = root(served.group(), served.version());
    let base = match served.kind.is_namespaced() {
        true => format!("{root}/namespaces/{{namespace}}/{}", served.plural()),
        false => format!("{root}/{}", served.plural()),
    };
    let one = format!("{base}/{{name}}");
    let mut all = vec![(base, collection(&words)), (one.clone(), single(&words))];
    if served.kind.is_namespaced() {
        all.push((format!("{root}/{}", served.plural()), everywhere(&words)));
    }
    if served.view.is_none() && served.verbs() == Verbs::All {
        if served.kind.has(Subresource::Status) {
            all.push((format!("{one}/status"), part(&words, "Status", &words.component)));
        }
        if served.kind.has(Subresource::Scale) {
            all.push((format!("{one}/scale"), part(&words, "Scale", "Scale")));
        }
    }
    if logs::serves(served) {
        let log = words
            .operation("read", "Log", "get", format!("What an {} wrote.", words.kind))
            .in_path(words.place(true))
            .queries(LOG)
            .text_answer("text/plain", "the output");
        all.push((format!("{one}/log"), PathItemBuilder::new().operation(HttpMethod::Get, log.operation)));
    }
    all
}

fn everywhere(words: &Words) -> PathItemBuilder {
    let (group, version) = (words.served.group(), words.served.version());
    let id = format!("list{}{}ForAllNamespaces", words.family, words.kind);
    let list = Described::new(group, version, id, format!("{}s of all namespaces.", words.kind))
        .about("list", group, version, words.kind)
        .queries(LIST)
        .answer("200", "the list; with `watch`, lines of WatchEvent", &words.list);
    PathItemBuilder::new().operation(HttpMethod::Get, list.operation)
}

fn collection(words: &Words) -> PathItemBuilder {
    let list = words
        .operation("list", "", "list", format!("{}s.", words.kind))
        .in_path(words.place(false))
        .queries(LIST)
        .answer("200", "the list; with `watch`, lines of WatchEvent", &words.list);
    let item = PathItemBuilder::new().operation(HttpMethod::Get, list.operation);
    if words.served.verbs() == Verbs::ReadOnly {
        return item;
    }
    let create = words
        .operation("create", "", "post", format!("Makes one {}.", words.kind))
        .in_path(words.place(false))
        .queries(WRITE)
        .body(OBJECT_TYPES, &words.component, true)
        .answer("201", "the object as it is now", &words.component);
    let delete = words
        .operation(
            "deleteCollection",
            "",
            "deletecollection",
            format!("Deletes all {}s that are selected.", words.kind),
        )
        .in_path(words.place(false))
        .queries(&[LABELS, FIELDS])
        .queries(DELETE)
        .body(&["application/json"], "DeleteOptions", false)
        .answer("200", "what was deleted", &words.list);
    item.operation(HttpMethod::Post, create.operation).operation(HttpMethod::Delete, delete.operation)
}

fn single(words: &Words) -> PathItemBuilder {
    let get = words.operation("read", "", "get", format!("One {}.", words.kind)).in_path(words.place(true)).answer(
        "200",
        "the object",
        &words.component,
    );
    let item = PathItemBuilder::new().operation(HttpMethod::Get, get.operation);
    if words.served.verbs() == Verbs::ReadOnly {
        return item;
    }
    let put = words
        .operation("replace", "", "put", format!("Replaces one {}, except its status.", words.kind))
        .in_path(words.place(true))
        .queries(WRITE)
        .body(OBJECT_TYPES, &words.component, true)
        .answer("200", "the object as it is now", &words.component);
    let patch = words
        .operation("patch", "", "patch", format!("Changes one {}, or makes it (apply).", words.kind))
        .in_path(words.place(true))
        .queries(PATCH)
        .body(PATCH_TYPES, "Patch", true)
        .answer("200", "the object as it is now", &words.component)
        .answer("201", "the object that was made", &words.component);
    let delete = words
        .operation("delete", "", "delete", format!("Deletes one {}.", words.kind))
        .in_path(words.place(true))
        .queries(DELETE)
        .body(&["application/json"], "DeleteOptions", false)
        .answer("200", "a Status when it is gone, or the object that waits for its finalizers", "Status");
    item.operation(HttpMethod::Put, put.operation)
        .operation(HttpMethod::Patch, patch.operation)
        .operation(HttpMethod::Delete, delete.operation)
}

fn part(words: &Words, part: &str, component: &str) -> PathItemBuilder {
    let lower = part.to_lowercase();
    let describe = |verb: &str, action: &str, summary: String| {
        let (group, version) =
            if part == "Scale" { ("autoscaling", "v1") } else { (words.served.group(), words.served.version()) };
        let kind = if part == "Scale" { "Scale" } else { words.kind };
        words
            .operation(verb, part, action, summary)
            .about(action, group, version, kind)
            .in_path(words.place(true))
            .answer("200", "as it is now", component)
    };
    let get = describe("read", "get", format!("The {lower} of one {}.", words.kind));
    let put = describe("replace", "put", format!("Replaces the {lower} of one {}.", words.kind)).queries(WRITE).body(
        OBJECT_TYPES,
        component,
        true,
    );
    let patch = describe("patch", "patch", format!("Changes the {lower} of one {}.", words.kind)).queries(PATCH).body(
        PATCH_TYPES,
        "Patch",
        true,
    );
    PathItemBuilder::new()
        .operation(HttpMethod::Get, get.operation)
        .operation(HttpMethod::Put, put.operation)
        .operation(HttpMethod::Patch, patch.operation)
}

fn others() -> Vec<(String, PathItemBuilder)> {
    let transact = Described::new(
        GROUP,
        "v1",
        "createAppmV1Transaction".to_owned(),
        "Several changes, all or nothing.".to_owned(),
    )
    .queries(&[FIELD_MANAGER, DRY_RUN])
    .body(OBJECT_TYPES, "Transaction", true)
    .answer("200", "what each operation did", "TransactionResult");
    let mut all = vec![(
        format!("/apis/{GROUP}/v1/transactions"),
        PathItemBuilder::new().operation(HttpMethod::Post, transact.operation),
    )];
    for (group, plural, kind) in [
        ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
        ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ] {
        let id = format!("create{}{kind}", family(group, "v1"));
        let review = Described::new(group, "v1", id, format!("Answers a {kind}; nothing is stored."))
            .about("post", group, "v1", kind)
            .body(OBJECT_TYPES, "Review", true)
            .answer("201", "the review with its answer", "Review");
        all.push((
            format!("/apis/{group}/v1/{plural}"),
            PathItemBuilder::new().operation(HttpMethod::Post, review.operation),
        ));
    }
    for (path, id, content_type, what) in [
        ("/version", "getVersion", "application/json", "the server's version"),
        ("/healthz", "getHealth", "text/plain", "ok"),
        ("/livez", "getLiveness", "text/plain", "ok"),
        ("/readyz", "getReadiness", "text/plain", "ok, once everything is loaded and was reconciled"),
        ("/metrics", "getMetrics", "application/openmetrics-text", "figures in OpenMetrics' text form"),
    ] {
        let get = Described::new("server", "v1", id.to_owned(), format!("{what}.")).text_answer(content_type, what);
        all.push((path.to_owned(), PathItemBuilder::new().operation(HttpMethod::Get, get.operation)));
    }
    all
}
