//! Source: a directory or a git repository whose manifests are kept in the store.
//!
//! What belongs to a Source bears its name and namespace as labels ([`SOURCE_LABEL`], [`SOURCE_NAMESPACE_LABEL`]) and was applied by the field
//! manager [`manager_of`]. Nothing else is written down: whoever has the files and the objects can make the rest again.
//! docs/design/027-sources.md has the rules.

mod approve;
mod check;
mod notifications;
mod range;

pub use notifications::{Noted, PendingNotification, SourceEvent, SourceNotification};
pub use range::{BadRange, VersionRange};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Column, Condition, FieldPath, GoDuration, Key, Kind, KindInfo, LocalObjectReference, ObjectMeta, Subresource, Time,
    age, at,
};

pub use approve::{APPROVED_PLAN, Approve, PendingPlan, approved_hash};

/// The label of what a Source has applied: its name.
pub const SOURCE_LABEL: &str = "appm.dev/source";
/// The label of what a Source has applied: its namespace.
pub const SOURCE_NAMESPACE_LABEL: &str = "appm.dev/source-namespace";
/// The annotation of an object that no Source deletes: `disabled`.
pub const PRUNE: &str = "appm.dev/prune";
/// The annotation of a Source that asks for a look at once: any value that it did not have before.
pub const SYNC_REQUESTED: &str = "appm.dev/syncRequestedAt";
/// The entry of the Secret that a webhook names.
pub const WEBHOOK_TOKEN: &str = "token";
/// The longest name of a Source: its field manager has its namespace before it, and 128 characters in all.
pub const LONGEST_SOURCE_NAME: usize = 52;

/// The conditions of a Source.
pub mod source_condition {
    /// What it declares is applied and well.
    pub const READY: &str = "Ready";
    /// Waiting alone does not help: somebody has to change something.
    pub const STALLED: &str = "Stalled";
    /// `drift: Report`: objects are not as they were declared.
    pub const DRIFTED: &str = "Drifted";
    /// Another Source declares the same objects.
    pub const CONFLICTED: &str = "Conflicted";
    /// It is suspended.
    pub const SUSPENDED: &str = "Suspended";
}

/// A directory or a git repository whose manifests are kept in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// From where, and how.
    pub spec: SourceSpec,
    /// How it goes.
    #[serde(default)]
    pub status: SourceStatus,
}

/// From where, and how. Exactly one of `directory` and `git`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {
    /// A directory of the server's machine: watched, and applied at once. Needs the host power `host-mounts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectorySource>,
    /// A git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// How often is looked: for a new commit, or for what the kernel did not tell of a directory.
    #[serde(default = "minute")]
    pub interval: GoDuration,
    /// What has left the source is deleted: only what this Source has applied, and only after everything could be read.
    #[serde(default = "yes")]
    pub prune: bool,
    /// If a revision would delete a larger part of what the Source has applied, nothing is done until somebody looks.
    #[serde(default = "half")]
    #[schemars(range(min = 0, max = 100))]
    pub max_prune_percent: i32,
    /// True: nothing is read and nothing changed.
    #[serde(default)]
    pub suspend: bool,
    /// The User as whom objects are applied; default: whoever made the Source. To name somebody else needs the verb `impersonate` on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub identity: Option<String>,
    /// The one namespace of everything that is in one; default: as each manifest says, or the Source's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub target_namespace: String,
    /// What is done about objects that others have changed.
    #[serde(default)]
    pub drift: Drift,
    /// Whether somebody must agree before something is applied. To change it from `Manual` needs the verb `approve` on the Source.
    #[serde(default)]
    pub approve: Approve,
    /// Sources of the same namespace that must be ready before this one is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub depends_on: Vec<LocalObjectReference>,
    /// What opens manifests that are encrypted: files of SOPS, and whole files of `age` (`NAME.yaml.age`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SourceSecrets>,
    /// Who may say that there is something new: they send it to `…/sources/NAME/webhook`, signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<SourceWebhook>,
    /// Who is told what becomes of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub notifications: Vec<SourceNotification>,
    /// How long a look may take, and what was applied may take to become ready.
    #[serde(default = "five_minutes")]
    pub timeout: GoDuration,
}

/// A directory of the server's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DirectorySource {
    /// Its absolute path. All `.yaml`, `.yml` and `.json` files in it and below it are read; what begins with `.` is not.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
}

/// A git repository. Only what is committed counts; symbolic links and submodules are passed over, and nothing of it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// `https://…`, `ssh://…`, `git@host:path`, or `file:///…`, which needs the host power `host-mounts`.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// Which commit; default: the branch that the repository calls `HEAD`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitReference>,
    /// The directory in the repository; default: all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub path: String,
    /// A Secret of the Source's namespace. For https: `username` and `password`, and `ca.crt` if its authority is not known to the machine;
    /// for ssh: `ssh-privatekey` and `known_hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
}

/// Which commit. Exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GitReference {
    /// The newest commit of a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub branch: Option<String>,
    /// The commit of a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub tag: Option<String>,
    /// The tag with the highest version in this range: `>=1.2, <2`, `~1.4`, `1.x`. Versions before their release only if it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub semver: Option<String>,
    /// This commit: its whole name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^([0-9a-f]{40}|[0-9a-f]{64})$"))]
    pub commit: Option<String>,
}

/// What opens manifests that are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceSecrets {
    /// Keys of `age`.
    pub age: AgeKeys,
}

/// Keys of `age`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgeKeys {
    /// A Secret of the Source's namespace. Each line `AGE-SECRET-KEY-1…` in any of its entries is a key, as age-keygen writes it.
    pub key_secret: LocalObjectReference,
}

/// Who may say that there is something new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceWebhook {
    /// A Secret of the Source's namespace, whose entry `token` is the secret that the sender was given, too.
    pub secret_ref: LocalObjectReference,
}

/// What is done about objects that others have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Drift {
    /// They become again what was declared.
    #[default]
    Repair,
    /// They stay so, and the condition `Drifted` names the fields.
    Report,
}

fn minute() -> GoDuration {
    GoDuration::secs(60)
}

fn five_minutes() -> GoDuration {
    GoDuration::secs(300)
}

fn yes() -> bool {
    true
}

fn half() -> i32 {
    50
}

/// How it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The generation that this status speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// What was applied last: `main@sha1:…`, or `sha256:…` of all manifests of a directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_applied_revision: String,
    /// When something was last applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_applied_time: Option<Time>,
    /// What was read last, if it was not applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_attempted_revision: String,
    /// The last request for a look that was heard.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_handled_sync: String,
    /// `approve: Manual`: what waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingPlan>,
    /// The approval that was used last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_approval: String,
    /// How many objects it declares.
    #[serde(default)]
    pub objects: i64,
    /// What somebody is still to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub notifications: Vec<PendingNotification>,
    /// Of what somebody was told, or would have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noted: Option<Noted>,
    /// `Ready`, `Stalled`, `Drifted`, `Conflicted`, `Suspended`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The field manager of what a Source applies.
pub fn manager_of(source: &Key) -> String {
    format!("source:{}/{}", source.namespace, source.name)
}

/// The Source that has applied an object, as its labels say.
pub fn source_of(object: &ObjectMeta) -> Option<Key> {
    let name = object.labels.get(SOURCE_LABEL)?;
    Some(Key::of::<Source>(object.labels.get(SOURCE_NAMESPACE_LABEL)?, name))
}

impl Kind for Source {
    const INFO: &'static KindInfo = &INFO;
}

fn ready(object: &Value, field: &str) -> Value {
    let all = at(object, &["status", "conditions"]).as_array();
    let ready = all.into_iter().flatten().find(|condition| condition["type"] == source_condition::READY);
    ready.map_or(Value::Null, |condition| condition[field].clone())
}

/// Where it comes from, as a person would say it.
fn from(object: &Value) -> String {
    let spec = &object["spec"];
    let directory = || at(spec, &["directory", "path"]).as_str().map(ToOwned::to_owned);
    let git = &spec["git"];
    git["url"].as_str().map(|url| without_password(url).to_owned()).or_else(directory).unwrap_or_default()
}

/// Nobody should write one into a URL, and whoever did should not see it in every table.
fn without_password(url: &str) -> &str {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) if scheme.starts_with("http") => host,
        _ => url,
    }
}

/// The Sources that it waits for.
fn waits_for(object: &Value) -> Vec<(FieldPath, String)> {
    let path = FieldPath::of("spec.dependsOn");
    let all = at(object, &["spec", "dependsOn"]).as_array();
    let names = all.into_iter().flatten().enumerate();
    names.filter_map(|(i, other)| Some((path.index(i).field("name"), other["name"].as_str()?.to_owned()))).collect()
}

static INFO: KindInfo = KindInfo {
    short_names: &["src"],
    categories: &["all"],
    subresources: &[Subresource::Status],
    columns: &[
        Column {
            name: "From",
            data_type: "string",
            description: "where its manifests are",
            wide: false,
            cell: |o, _| from(o).into(),
        },
        Column {
            name: "Ready",
            data_type: "string",
            description: "whether what it declares is applied and well",
            wide: false,
            cell: |o, _| ready(o, "status"),
        },
        Column {
            name: "Objects",
            data_type: "integer",
            description: "how many objects it declares",
            wide: false,
            cell: |o, _| at(o, &["status", "objects"]).clone(),
        },
        Column {
            name: "Applied",
            data_type: "string",
            description: "how long ago something was applied",
            wide: false,
            cell: |o, now| {
                let time = at(o, &["status", "lastAppliedTime"]).as_str().and_then(|time| time.parse().ok());
                time.map_or(Value::Null, |time| age(now, time).into())
            },
        },
        Column {
            name: "Status",
            data_type: "string",
            description: "why it is, or is not, ready",
            wide: false,
            cell: |o, _| ready(o, "message"),
        },
        Column {
            name: "Revision",
            data_type: "string",
            description: "what was applied last",
            wide: true,
            cell: |o, _| at(o, &["status", "lastAppliedRevision"]).clone(),
        },
    ],
    check: check::check,
    waits_for,
    ..KindInfo::of::<Source>("Source", "sources", "source")
};
