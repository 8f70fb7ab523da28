//! The parameters of URLs, each described once.

use serde_json::{Map, Value, json};

/// The component's name: the parameter's own.
pub(super) fn component(name: &str) -> String {
    name.to_owned()
}

/// Those of every write.
pub(super) const WRITE: &[&str] = &["fieldManager", "fieldValidation", "dryRun"];
/// Those of a patch.
pub(super) const PATCH: &[&str] = &["fieldManager", "fieldValidation", "dryRun", "force"];
/// Those of deletions.
pub(super) const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "propagationPolicy", "orphanDependents"];
/// Which objects.
pub(super) const SELECT: &[&str] = &["labelSelector", "fieldSelector"];
/// Those of a list.
pub(super) const LIST: &[&str] = &[
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "watch",
    "includeObject",
    "at",
    "atRevision",
];
/// Those of a watch.
pub(super) const WATCH: &[&str] = &[
    "labelSelector",
    "fieldSelector",
    "resourceVersion",
    "resourceVersionMatch",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "timeoutSeconds",
];
/// Those of a log.
pub(super) const LOG: &[&str] = &[
    "follow",
    "previous",
    "timestamps",
    "tailLines",
    "sinceSeconds",
    "sinceTime",
    "limitBytes",
    "stream",
    "container",
];

/// All of them, by component name.
pub(super) fn all() -> Map<String, Value> {
    let path = [
        ("namespace", "The namespace that the objects are in.", "default"),
        ("name", "The object's name.", "web"),
        ("group", "An API group, `appm.dev` say.", "appm.dev"),
        ("version", "A version of an API group.", "v1"),
        ("task", "The name of a task.", "bcdfg-1"),
        ("pin", "What a version is called that is kept.", "baseline"),
        ("revision", "A revision.", "4711"),
    ]
    .map(|(name, description, example)| {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 253});
        let parameter = json!({"name": name, "in": "path", "required": true, "description": description,
            "schema": schema, "example": example});
        (component(name), parameter)
    });
    let query = queries().into_iter().map(|(name, schema, description)| {
        let parameter =
            json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema});
        (component(name), parameter)
    });
    path.into_iter().chain(query).collect()
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn count(least: u64) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": least})
}

fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn queries() -> Vec<(&'static str, Value, &'static str)> {
    let writing = [
        (
            "fieldManager",
            json!({"type": "string", "maxLength": 128}),
            "Who owns the fields that this request sets. A server-side apply must say it; for other writes the program's name \
             in `User-Agent` stands in.",
        ),
        (
            "fieldValidation",
            one_of(&["Strict", "Warn", "Ignore"]),
            "What becomes of fields that do not exist, or are there twice: the request is refused, they are dropped with a \
             `Warning` header, or dropped silently. Absent: `Strict` for appm's own kinds, `Warn` for Kubernetes'.",
        ),
        (
            "timeout",
            text(),
            "How long to wait for the result of a task, `30s` or seconds; absent: as long as the App says.",
        ),
        ("idempotent", flag(), "The task may be done again when an instance ends in the middle of it."),
        ("async", flag(), "Answer at once; the result is asked for later."),
        ("artifact", text(), "Which artifact; absent: the only one that there is."),
        ("result", flag(), "Answer with the result, as soon as it is there."),
        ("dryRun", one_of(&["All"]), "`All`: do everything except store the result."),
        (
            "plan",
            flag(),
            "Change nothing, and answer with a Plan: what would be changed, and what would become of processes.",
        ),
        ("force", flag(), "Server-side apply only: take over the fields that other managers own."),
        (
            "gracePeriodSeconds",
            count(0),
            "How long processes may take to end, in place of the object's own grace period.",
        ),
        (
            "propagationPolicy",
            one_of(&["Background", "Foreground", "Orphan"]),
            "What becomes of the objects that the deleted one owns: they go after it, before it, or stay.",
        ),
        (
            "orphanDependents",
            flag(),
            "The older way to say `propagationPolicy`: true means `Orphan`, false `Background`.",
        ),
    ];
    let reading = [
        (
            "at",
            text(),
            "As it stood then: how long ago (`10m`, `2d`) or a point in time (`2026-11-21T08:00:00Z`). The past has no status, and is 410 \
             where it is forgotten.",
        ),
        (
            "atRevision",
            json!({"type": "string", "pattern": "^[1-9][0-9]*$"}),
            "As it stood at this revision, which may be any that `at` could mean, or that of a pinned version.",
        ),
        ("labelSelector", text(), "Only objects with such labels: `tier=front,env in (prod,test),!legacy`."),
        ("fieldSelector", text(), "Only objects with such fields: `metadata.name=web`, `metadata.namespace!=default`."),
        (
            "limit",
            count(0),
            "At most so many objects in one answer; `metadata.continue` then leads to the next page of the same snapshot. \
             0: all.",
        ),
        (
            "continue",
            text(),
            "The next page of a list: `metadata.continue` of the page before it, with the same selectors. A snapshot is held \
             for five minutes; after that the answer is 410.",
        ),
        (
            "resourceVersion",
            json!({"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}),
            "For reading: at least this revision. For watching: what comes after it. `0`: whatever there is.",
        ),
        ("resourceVersionMatch", one_of(&["NotOlderThan", "Exact"]), "How `resourceVersion` is meant."),
        (
            "watch",
            flag(),
            "True turns the list into a watch: the answer is then the stream that the `watch…` operation of the same objects \
             describes, and its parameters apply.",
        ),
        (
            "allowWatchBookmarks",
            flag(),
            "Say once a minute, and at the end, how far the watch has come, so that it can be resumed from there.",
        ),
        (
            "sendInitialEvents",
            flag(),
            "Begin with an `ADDED` event for each object that there is, then a bookmark with the annotation \
             `k8s.io/initial-events-end`. Needs `resourceVersionMatch=NotOlderThan`.",
        ),
        (
            "timeoutSeconds",
            count(0),
            "End the watch after so long. Absent or 0: after half an hour to an hour, by chance.",
        ),
    ];
    let output = [
        ("follow", flag(), "Go on with what is written later, until the instance ends."),
        ("previous", flag(), "What the attempt before the last one wrote."),
        ("timestamps", flag(), "Begin each line with its time."),
        ("tailLines", count(0), "At most so many lines, counted from the end."),
        ("sinceSeconds", count(1), "Nothing that is older than so many seconds. Not together with `sinceTime`."),
        (
            "sinceTime",
            json!({"type": "string", "format": "date-time"}),
            "Nothing that is older than this time. Not together with `sinceSeconds`.",
        ),
        ("limitBytes", count(1), "At most so many bytes."),
        ("stream", one_of(&["All", "Stdout", "Stderr"]), "Which output."),
        (
            "container",
            text(),
            "A Pod's one container, which bears the name of its App; without meaning for an Instance.",
        ),
    ];
    let others = [
        ("verbose", flag(), "Name each check."),
        ("apps", flag(), "End every process of every App first; otherwise they go on running without the server."),
        ("user", text(), "Of this user only."),
        ("verb", text(), "With this verb only."),
        ("resource", text(), "Of these resources only, by their plural; `instances/log` for a part."),
        ("inNamespace", text(), "In this namespace only."),
        ("object", text(), "Of objects of this name only."),
        ("requestId", text(), "Of this request only."),
        ("denied", flag(), "Only what was refused."),
        ("level", text(), "`error`, `warn`, `info`, `debug`, `trace`, or directives: `info,appm_edges=debug`."),
        ("dataKeys", flag(), "Replace the data keys too, and encrypt everything that is sealed anew."),
        (
            "includeObject",
            one_of(&["Metadata", "Object", "None"]),
            "For tables: how much of each object goes with its row.",
        ),
    ];
    writing.into_iter().chain(reading).chain(output).chain(others).collect()
}
