//! The operations on objects: every path and verb of everything that is served, from its row in the table of kinds.

use serde_json::{Value, json};
use utoipa::openapi::{HttpMethod, path::PathItemBuilder};

use super::{
    answers,
    components::{deleted_name, list_name, watch_event_name},
    examples,
    operation::{Described, Form, JSON, Shape, form},
    parameters,
};
use crate::api::{
    History, HistoryPin, InstanceProcesses, Served, Subresource, Task, TaskList, kinds::served, schema::component_name,
};

const YAML: &str = "application/yaml";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
/// One JSON document a line.
pub(super) const LINES: &str = "application/jsonl";

/// A path with its operations.
pub(super) type Path = (String, PathItemBuilder);

/// All of them.
pub(super) fn all() -> Vec<Path> {
    served().flat_map(|served| Words::new(served).paths()).collect()
}

/// The words with which one form's operations are described.
struct Words {
    served: Served,
    /// The component's name; also the tag, and the last part of operation names.
    name: String,
    scope: &'static str,
    /// `an App`
    one: String,
    /// `Apps`
    many: String,
}

impl Words {
    fn new(served: Served) -> Self {
        let kind = served.name();
        let article = if kind.starts_with(['A', 'E', 'I', 'O']) { "an" } else { "a" };
        Self {
            served,
            name: component_name(served),
            scope: if served.kind.is_namespaced() { "Namespaced" } else { "" },
            one: format!("{article} {kind}"),
            many: format!("{kind}s"),
        }
    }

    fn may(&self, verb: &str) -> bool {
        self.served.verbs().words().contains(&verb)
    }

    fn place(&self, named: bool) -> &'static [&'static str] {
        match (self.served.kind.is_namespaced(), named) {
            (true, true) => &["namespace", "name"],
            (true, false) => &["namespace"],
            (false, true) => &["name"],
            (false, false) => &[],
        }
    }

    /// Where they are: ` in one namespace`, or nothing.
    fn here(&self) -> &'static str {
        if self.served.kind.is_namespaced() { " in one namespace" } else { "" }
    }

    fn operation(&self, verb: &str, suffix: &str, action: &str, summary: &str) -> Described {
        self.named(&format!("{verb}{}{}{suffix}", self.scope, self.name), action, summary)
    }

    fn named(&self, id: &str, action: &str, summary: &str) -> Described {
        let (group, version) = (self.served.group(), self.served.version());
        Described::new(&self.name, id, summary).about(action, group, version, self.served.name())
    }

    fn whole(&self) -> Shape {
        Shape::of(&self.name)
    }

    fn paths(&self) -> Vec<Path> {
        let served = self.served;
        let root = match served.group() {
            "" => format!("/api/{}", served.version()),
            group => format!("/apis/{group}/{}", served.version()),
        };
        let place = match served.kind.is_namespaced() {
            true => format!("namespaces/{{namespace}}/{}", served.plural()),
            false => served.plural().to_owned(),
        };
        let one = format!("{root}/{place}/{{name}}");
        let mut all = vec![
            (format!("{root}/{place}"), self.collection()),
            (one.clone(), self.single()),
            (format!("{root}/watch/{place}"), item([(HttpMethod::Get, self.watch())])),
        ];
        if served.kind.is_namespaced() {
            let (list, watch) = self.everywhere();
            all.push((format!("{root}/{}", served.plural()), item([(HttpMethod::Get, list)])));
            all.push((format!("{root}/watch/{}", served.plural()), item([(HttpMethod::Get, watch)])));
        }
        if served.has(Subresource::Status) {
            all.push((format!("{one}/status"), self.status()));
        }
        if served.has(Subresource::Scale) {
            all.push((format!("{one}/scale"), self.scale()));
        }
        if served.has(Subresource::Finalize) {
            all.push((format!("{one}/finalize"), item([(HttpMethod::Put, self.finalize())])));
        }
        if served.has(Subresource::Log) {
            all.push((format!("{one}/log"), item([(HttpMethod::Get, self.log())])));
        }
        if served.has(Subresource::Stdin) {
            all.push((format!("{one}/stdin"), item([(HttpMethod::Post, self.stdin())])));
        }
        if served.has(Subresource::Artifacts) {
            all.push((format!("{one}/artifacts"), item([(HttpMethod::Get, self.artifacts())])));
        }
        if served.has(Subresource::Processes) {
            all.push((format!("{one}/processes"), item([(HttpMethod::Get, self.processes())])));
        }
        if self.remembers() {
            all.push((format!("{one}/history"), item([(HttpMethod::Get, self.history())])));
            let [put, delete] = self.pins();
            all.push((format!("{one}/history/{{pin}}"), item([(HttpMethod::Put, put), (HttpMethod::Delete, delete)])));
        }
        if served.has(Subresource::Task) {
            let (tasks, task) = self.tasks();
            all.push((format!("{one}/task"), tasks));
            all.push((format!("{one}/task/{{task}}"), task));
        }
        all
    }

    fn collection(&self) -> PathItemBuilder {
        let list = self
            .operation("list", "", "list", &format!("List {}{}", self.many, self.here()))
            .description(LIST)
            .takes(self.place(false));
        let mut all = vec![(HttpMethod::Get, self.listing(list))];
        if self.may("create") {
            let create = self
                .operation("create", "", "post", &format!("Create {}", self.one))
                .description(
                    "The name is `metadata.name`, or is made from `metadata.generateName`. `status` and the fields that the \
                     server keeps are not heard.",
                )
                .takes(self.place(false))
                .takes(parameters::WRITE)
                .body("The object as it should be.", &self.sent(), true)
                .answers_with(201, "The object that was made.", &self.shown(), WARNING)
                .refuses(answers::WRITE);
            all.push((HttpMethod::Post, create));
        }
        if self.may("deletecollection") {
            let delete = self
                .operation("deleteCollection", "", "deletecollection", &format!("Delete {}{}", self.many, self.here()))
                .description("Deletes every object that the selectors select; without selectors, all of them.")
                .takes(self.place(false))
                .takes(parameters::SELECT)
                .takes(parameters::DELETE)
                .body("How to delete.", &[form(JSON, Shape::of("DeleteOptions"))], false)
                .answers(200, "What was deleted.", &[form(JSON, Shape::Of(list_name(self.served)))])
                .refuses(answers::WRITE);
            all.push((HttpMethod::Delete, delete));
        }
        item(all)
    }

    fn everywhere(&self) -> (Described, Described) {
        let list = self
            .named(
                &format!("list{}ForAllNamespaces", self.name),
                "list",
                &format!("List {} in all namespaces", self.many),
            )
            .description(LIST);
        let id = format!("watch{}ForAllNamespaces", self.name);
        let watch = self.named(&id, "watchlist", &format!("Watch {} in all namespaces", self.many));
        (self.listing(list), self.watching(watch))
    }

    fn watch(&self) -> Described {
        let summary = format!("Watch {}{}", self.many, self.here());
        self.watching(self.operation("watch", "", "watchlist", &summary).takes(self.place(false)))
    }

    fn listing(&self, list: Described) -> Described {
        let name = list_name(self.served);
        let forms = [
            form(JSON, Shape::of(&name)),
            form(YAML, Shape::of(&name)),
            form(TABLE, Shape::of("Table")),
            form(METADATA_LIST, Shape::of("PartialObjectMetadataList")),
        ];
        // Without the two that ask for the past.
        let taken = if self.remembers() { parameters::LIST } else { &parameters::LIST[..parameters::LIST.len() - 2] };
        list.takes(taken).answers(200, "The objects, all of one snapshot.", &forms).refuses(answers::LIST)
    }

    fn watching(&self, watch: Described) -> Described {
        watch
            .description(WATCH)
            .takes(parameters::WATCH)
            .answers(
                200,
                "Events, one a line, as they happen.",
                &[form(LINES, Shape::Of(watch_event_name(self.served)))],
            )
            .refuses(answers::LIST)
    }

    fn single(&self) -> PathItemBuilder {
        let get = self
            .operation("read", "", "get", &format!("Read {}", self.one))
            .takes(self.place(true))
            .takes(if self.remembers() {
                &["resourceVersion", "includeObject", "at", "atRevision"]
            } else {
                &["resourceVersion", "includeObject"]
            })
            .answers(200, "The object.", &self.shown())
            .refuses(answers::READ);
        let mut all = vec![(HttpMethod::Get, get)];
        if self.may("update") {
            let put = self
                .operation("replace", "", "put", &format!("Replace {}", self.one))
                .description(
                    "Everything but `status` becomes as the body says. With `metadata.resourceVersion`, only if the object \
                     has not changed since: 409 otherwise.",
                )
                .takes(self.place(true))
                .takes(parameters::WRITE)
                .body("The whole object as it should be.", &self.sent(), true)
                .answers_with(200, "The object as it is now.", &self.shown(), WARNING)
                .refuses(answers::WRITE);
            all.push((HttpMethod::Put, put));
        }
        if self.may("patch") {
            let patch = self
                .operation("patch", "", "patch", &format!("Apply or patch {}", self.one))
                .description(PATCH)
                .takes(self.place(true))
                .takes(parameters::PATCH)
                .body("What should change. The media type says how.", &self.patches(&self.name), true)
                .answers_with(200, "The object as it is now.", &self.shown(), WARNING)
                .answers_with(201, "The object that was made by server-side apply.", &self.shown(), WARNING)
                .refuses(answers::WRITE);
            all.push((HttpMethod::Patch, patch));
        }
        if self.may("delete") {
            let gone = Shape::Of(deleted_name(self.served));
            let delete = self
                .operation("delete", "", "delete", &format!("Delete {}", self.one))
                .takes(self.place(true))
                .takes(parameters::DELETE)
                .body("How to delete.", &[form(JSON, Shape::of("DeleteOptions"))], false)
                .answers(
                    200,
                    "A `Status` when the object is gone; the object, with its `deletionTimestamp`, when it waits for its \
                     finalizers.",
                    &[form(JSON, gone.clone()), form(YAML, gone)],
                )
                .refuses(answers::WRITE);
            all.push((HttpMethod::Delete, delete));
        }
        item(all)
    }

    fn status(&self) -> PathItemBuilder {
        let summaries = [
            format!("Read the status of {}", self.one),
            format!("Replace the status of {}", self.one),
            format!("Apply or patch the status of {}", self.one),
        ];
        let about = (self.served.group(), self.served.version(), self.served.name());
        self.part("Status", about, &summaries, &self.name, &self.shown())
    }

    fn scale(&self) -> PathItemBuilder {
        let summaries = [
            format!("Read how many replicas {} has", self.one),
            format!("Say how many replicas {} should have", self.one),
            format!("Change how many replicas {} should have", self.one),
        ];
        let shown = [form(JSON, Shape::of("Scale")), form(YAML, Shape::of("Scale"))];
        self.part("Scale", ("autoscaling", "v1", "Scale"), &summaries, "Scale", &shown)
    }

    /// A part of an object that is read and written on its own.
    fn part(
        &self,
        part: &str,
        (group, version, kind): (&str, &str, &str),
        [read, replace, patch]: &[String; 3],
        component: &str,
        shown: &[Form],
    ) -> PathItemBuilder {
        let describe = |verb: &str, action: &str, summary: &str| {
            self.operation(verb, part, action, summary).about(action, group, version, kind).takes(self.place(true))
        };
        let get = describe("read", "get", read).answers(200, "As it is now.", shown).refuses(answers::READ);
        let sent = [form(JSON, Shape::of(component)), form(YAML, Shape::of(component))];
        let put = describe("replace", "put", replace)
            .takes(parameters::WRITE)
            .body("As it should be. The rest of the object stays as it is.", &sent, true)
            .answers_with(200, "As it is now.", shown, WARNING)
            .refuses(answers::WRITE);
        let patch = describe("patch", "patch", patch)
            .description(PATCH)
            .takes(parameters::PATCH)
            .body("What should change. The media type says how.", &self.patches(component), true)
            .answers_with(200, "As it is now.", shown, WARNING)
            .refuses(answers::WRITE);
        item([(HttpMethod::Get, get), (HttpMethod::Put, put), (HttpMethod::Patch, patch)])
    }

    fn finalize(&self) -> Described {
        self.operation("replace", "Finalize", "put", &format!("Replace the finalizers in the spec of {}", self.one))
            .takes(self.place(true))
            .takes(parameters::WRITE)
            .body("As `spec.finalizers` should be. The rest of the object stays as it is.", &self.sent(), true)
            .answers_with(200, "As it is now.", &self.shown(), WARNING)
            .refuses(answers::WRITE)
    }

    fn log(&self) -> Described {
        self.operation("read", "Log", "get", &format!("Read what {} wrote", self.one))
            .description(
                "Standard output and standard error of the last attempt, byte for byte. With `follow`, a stream.",
            )
            .takes(self.place(true))
            .takes(parameters::LOG)
            .answers(200, "The output.", &[form("text/plain", Shape::Text)])
            .refuses(answers::LOG)
    }

    fn artifacts(&self) -> Described {
        self.operation("read", "Artifacts", "get", &format!("Read an artifact of {}", self.one))
            .description(
                "The files that a step kept, as a tar archive; which there are is in `status.artifacts`. The header `ETag` is the archive's \
                 SHA-256. After an artifact's `expirationTime` the answer is 410.",
            )
            .takes(self.place(true))
            .takes(&["artifact"])
            .answers(200, "The archive.", &[form("application/x-tar", Shape::Text)])
            .refuses(answers::READ)
    }

    /// Whether versions of it can be told.
    fn remembers(&self) -> bool {
        self.served.has_history() && self.served.view.is_none()
    }

    fn history(&self) -> Described {
        let shown = Shape::of(History::KIND);
        self.operation("read", "History", "get", &format!("Read the history of {}", self.one))
            .description(
                "The versions that are remembered, newest first, each with who made it, through what, and which fields changed; also of what \
                 is deleted. They hold no status. `…?atRevision=` gives a version as a whole.",
            )
            .takes(self.place(true))
            .takes(&["limit", "continue"])
            .answers(200, "The versions.", &[form(JSON, shown.clone()), form(YAML, shown)])
            .refuses(answers::READ)
    }

    fn pins(&self) -> [Described; 2] {
        let pin = || Shape::of(HistoryPin::KIND);
        let described = |verb: &str, action: &str, summary: &str| {
            self.operation(verb, "HistoryPin", action, summary).takes(self.place(true)).takes(&["pin"])
        };
        let put = described("replace", "put", &format!("Keep a version of {}", self.one))
            .description("A version under a name: no retention removes it. Absent `revision`: the one that stands now.")
            .body("Which version.", &[form(JSON, pin()), form(YAML, pin())], false)
            .answers(200, "The pin.", &[form(JSON, pin())])
            .refuses(answers::WRITE);
        let delete = described("delete", "delete", &format!("Let go of a version of {}", self.one))
            .answers(200, "The pin that was.", &[form(JSON, pin())])
            .refuses(answers::WRITE);
        [put, delete]
    }

    fn stdin(&self) -> Described {
        self.operation("feed", "Stdin", "post", &format!("Send {} what it reads", self.one))
            .description(
                "The standard input of what has `spec.stdinOnce`, byte for byte, taken as fast as it reads. May be sent as soon as the \
                 object is made. One client sends it, once. A body that breaks off is no end: the process is hung up (SIGHUP; a \
                 container that does not end by it is killed).",
            )
            .takes(self.place(true))
            .body("What it reads.", &[form("application/octet-stream", Shape::Text)], false)
            .answers(200, "Everything was taken, or nobody reads any more.", &[form(JSON, Shape::of("Status"))])
            .refuses(answers::WRITE)
    }

    fn processes(&self) -> Described {
        let shown = Shape::of(InstanceProcesses::KIND);
        self.operation("read", "Processes", "get", &format!("Read which processes {} consists of", self.one))
            .description(
                "Each after its parent, as they are now. All who ask within a second are answered by one look.",
            )
            .about("get", self.served.group(), self.served.version(), InstanceProcesses::KIND)
            .takes(self.place(true))
            .answers(200, "As it is now.", &[form(JSON, shown.clone()), form(YAML, shown)])
            .refuses(answers::READ)
    }

    fn tasks(&self) -> (PathItemBuilder, PathItemBuilder) {
        const BYTES: &str = "application/octet-stream";
        let task = |id: &str, action: &str, summary: &str| {
            let (group, version) = (self.served.group(), self.served.version());
            self.operation(id, "Task", action, summary)
                .about(action, group, version, Task::KIND)
                .takes(self.place(true))
        };
        let shown = |name: &str| [form(JSON, Shape::of(name)), form(YAML, Shape::of(name))];
        let send = task("create", "post", &format!("Send a task into {} and wait for its result", self.one))
            .description(
                "The body is the payload, up to 64 MiB of any bytes; the answer is what an instance made of it. A refusal says whether \
                 the work may have begun (cause `MayHaveBegun`). With `async` the answer is the Task, whose result is kept for a while. Whoever \
                 accepts `application/jsonl` before anything else is told the parts of the result as they are made, one document a line.",
            )
            .takes(&["timeout", "idempotent", "async"])
            .body("The payload.", &[form(BYTES, Shape::Text)], false)
            .answers(200, "The result.", &[form(BYTES, Shape::Text), form(LINES, Shape::Text)])
            .answers(202, "With `async`: the task.", &shown(Task::KIND))
            .refuses(answers::TASK);
        let list = self
            .named(&format!("list{}{}Tasks", self.scope, self.name), "list", &format!("List the tasks of {}", self.one))
            .takes(self.place(true))
            .answers(200, "Those that are not over, and those whose result is kept.", &shown(TaskList::KIND))
            .refuses(answers::READ);
        let [json, yaml] = shown(Task::KIND);
        let get = task("read", "get", &format!("Read a task of {}, or its result", self.one))
            .takes(&["task", "result", "timeout"])
            .answers(200, "As it stands; with `result`, its result.", &[json, yaml, form(BYTES, Shape::Text)])
            .refuses(answers::TASK);
        let cancel = task("delete", "delete", &format!("Cancel a task of {}", self.one))
            .takes(&["task"])
            .answers(200, "It has no result any more.", &[form(JSON, Shape::of("Status"))])
            .refuses(answers::TASK);
        (
            item([(HttpMethod::Get, list), (HttpMethod::Post, send)]),
            item([(HttpMethod::Get, get), (HttpMethod::Delete, cancel)]),
        )
    }

    /// The forms in which an object is shown.
    fn shown(&self) -> [Form; 4] {
        [
            form(JSON, self.whole()),
            form(YAML, self.whole()),
            form(TABLE, Shape::of("Table")),
            form(METADATA, Shape::of("PartialObjectMetadata")),
        ]
    }

    /// The forms in which an object is sent.
    fn sent(&self) -> [Form; 2] {
        [form(JSON, self.whole()), form(YAML, self.whole())]
    }

    /// The forms of a patch.
    fn patches(&self, component: &str) -> Vec<Form> {
        let (merge, operations) = examples::patches(component);
        let mut all = vec![
            form("application/apply-patch+json", Shape::of(component)),
            form("application/apply-patch+yaml", Shape::of(component)),
            form("application/merge-patch+json", Shape::of("MergePatch")).example(merge.clone()),
            form("application/json-patch+json", Shape::of("JsonPatch")).example(operations),
        ];
        if self.served.kind.is_kubernetes_own() {
            all.push(form("application/strategic-merge-patch+json", Shape::of("MergePatch")).example(merge));
        }
        all
    }
}

const WARNING: &[&str] = &["Warning"];

const LIST: &str = "All objects of the answer are of one moment, `metadata.resourceVersion`: a watch from there misses nothing. \
    With `limit`, `metadata.continue` leads to the next page of the same snapshot.";

const WATCH: &str = "A stream that stays open: one JSON document a line, each sent when it happens. Without `resourceVersion` it \
    begins with an `ADDED` event for each object that there is. Resume from the `metadata.resourceVersion` of the last event; \
    when that history is gone, an `ERROR` event with a `Status` of code 410 says so: list again and watch from there. \
    The same stream comes from the list's path with `watch=true`.";

const PATCH: &str = "The media type of the body decides. \
    Server-side apply (`application/apply-patch+json`, or `+yaml`) takes the fields that `fieldManager` cares for, makes the \
    object if there is none, and answers 409 with the owner's name when somebody else's field would change, unless `force` is \
    set. A JSON merge patch (RFC 7386) replaces the fields that it names, null removes them. A JSON patch (RFC 6902) is a list \
    of operations.";

fn item(operations: impl IntoIterator<Item = (HttpMethod, Described)>) -> PathItemBuilder {
    operations
        .into_iter()
        .fold(PathItemBuilder::new(), |item, (method, operation)| item.operation(method, operation.build()))
}

/// The tags: one for each kind, with the kind's own description.
pub(super) fn tags(components: &serde_json::Map<String, Value>) -> Vec<Value> {
    served()
        .map(|served| {
            let name = component_name(served);
            let text = components.get(&name).and_then(|c| c["description"].as_str()).unwrap_or_default();
            json!({"name": name, "description": format!("{text}\n\n`{}`, `{}`", served.api_version(), served.plural())})
        })
        .collect()
}
