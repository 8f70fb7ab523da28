//! `POST /apis/appm.dev/v1/transactions?plan`: what a transaction would change and bring about. Nothing is changed by asking.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GROUP, VERSION};

/// What a transaction would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `appm.dev/v1`.
    pub api_version: String,
    /// `Plan`.
    pub kind: String,
    /// The name of what would be changed, and of the state that it stands on; no time counts. Empty if rights are missing.
    /// A transaction with this `planHash` is done only if it is still that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// The store's revision that was looked at.
    pub resource_version: String,
    /// How much of what.
    pub summary: PlanSummary,
    /// What becomes of the object of each operation, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<PlannedObject>,
    /// The rights that whoever asks lacks: all of them. Nothing else is foretold then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_rights: Vec<MissingRight>,
    /// What becomes of processes and containers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<PlannedAction>,
    /// How the Apps fare that something becomes of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<PlannedApp>,
    /// What `actions` and `apps` take for granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assumptions: Vec<String>,
    /// Why `actions` may not be all; empty if they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incomplete: String,
}

impl Plan {
    /// Of a state, with nothing in it.
    pub fn at(resource_version: String) -> Self {
        Self { api_version: format!("{GROUP}/{VERSION}"), kind: "Plan".to_owned(), resource_version, ..Self::default() }
    }

    /// Whether the store would stay as it is.
    pub fn changes_nothing(&self) -> bool {
        let PlanSummary { created, changed, deleted, .. } = self.summary;
        created + changed + deleted == 0 && self.missing_rights.is_empty()
    }
}

/// How much of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PlanSummary {
    /// Objects that would be made.
    pub created: i64,
    /// Objects that would become different.
    pub changed: i64,
    /// Objects that would be deleted.
    pub deleted: i64,
    /// Objects that are so already.
    pub unchanged: i64,
    /// Instances that would be started and take nobody's place.
    pub starts: i64,
    /// Instances that would be stopped and leave their place to nobody.
    pub stops: i64,
    /// Instances that would be stopped and started again as they are.
    pub restarts: i64,
    /// Instances that would be started in place of one of another revision.
    pub replacements: i64,
    /// Instances that would get other limits while they run.
    pub resizes: i64,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlannedChange {
    /// It is not there yet.
    Created,
    /// Some fields become different.
    Changed,
    /// It goes.
    Deleted,
    /// It is so already.
    Unchanged,
}

/// One object of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; absent if it is in none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name; empty if the server will make one.
    pub name: String,
    /// What becomes of it.
    pub change: PlannedChange,
    /// The fields that become different, in order. The status is nobody's wish, and not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_fields: i64,
    /// What its writer should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// One field that becomes different.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Its path: `spec.env[name=MODE].value`.
    pub path: String,
    /// As it is; absent if it is not there, or secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// As it becomes; absent if it goes, or is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// True if it is a value of a Secret: that it becomes different is all that is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// A right that whoever asks lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissingRight {
    /// Which operation needs it, from 0.
    pub operation: i64,
    /// `create`, `patch`, `use` …
    pub verb: String,
    /// The group of the resource.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `apps`, `hostpowers` …
    pub resource: String,
    /// The namespace; absent: at the cluster scope.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Why it is refused, in one sentence.
    pub message: String,
    /// Built-in Roles that grant it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted_by: Vec<String>,
}

/// What becomes of an Instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PlannedVerb {
    /// It is started, and takes nobody's place.
    Start,
    /// It is told to end.
    Stop,
    /// It is started again, as it is.
    Restart,
    /// It is started in place of one of another revision.
    Replace,
    /// It gets other limits while it runs.
    Resize,
}

/// One thing that becomes of an Instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedAction {
    /// When, in seconds from the change on.
    pub after_seconds: f64,
    /// What.
    pub verb: PlannedVerb,
    /// The kind of its owner: `App`, `Run`.
    pub owner_kind: String,
    /// The namespace of both.
    pub namespace: String,
    /// The name of its owner.
    pub owner: String,
    /// The Instance.
    pub instance: String,
    /// Which of its attempts.
    pub attempt: i64,
    /// Why.
    pub because: String,
    /// True if it would happen without the change, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
}

/// How an App fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedApp {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Instances that are ready before the change.
    pub ready_before: i64,
    /// The fewest that are ready at any time.
    pub ready_at_least: i64,
    /// Instances that are ready in the end.
    pub ready_after: i64,
    /// For how long none is ready, of an App that had one and will have one again.
    pub unavailable_seconds: f64,
    /// For how long fewer are ready than before and wanted.
    pub below_seconds: f64,
    /// When the last thing becomes of it, in seconds from the change on.
    pub settled_after_seconds: f64,
}
