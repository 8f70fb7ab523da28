//! Revision: one past or present template of an App, as a ControllerRevision is of a StatefulSet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Column, FieldPath, Kind, KindInfo, Problem, Violation, at};

/// Kubernetes' annotation for the reason of a change: of an App, and of the Revision that it made.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// The annotation of a Revision that did not become available in time and was rolled back: when that was.
pub const ROLLED_BACK_AT: &str = "appm.dev/rolledBackAt";

/// The undefaulted `revision` fields of an App's spec. Immutable, but for `resources`, which are those that it was given last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Counts an App's templates upwards; going back to an old template raises its number.
    pub revision: i64,
    /// The template as the App's author wrote it. Two templates are compared after defaulting both with the running
    /// binary, so that a release with other defaults restarts nothing.
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    pub data: Value,
}

/// `data` never changes, but for the resources: they are changed in place.
fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let template = |revision: &Value| {
        let mut data = revision["data"].clone();
        data.as_object_mut().map(|data| data.shift_remove("resources"));
        data
    };
    match old {
        Some(old) if template(old) != template(new) => {
            vec![Violation::new(FieldPath::of("data"), Problem::Forbidden, "a revision's data is immutable")]
        }
        _ => Vec::new(),
    }
}

impl Kind for Revision {
    const INFO: &'static KindInfo = &INFO;
}

static INFO: KindInfo = KindInfo {
    short_names: &["rev"],
    columns: &[
        Column {
            name: "App",
            data_type: "string",
            description: "the App it belongs to",
            wide: false,
            cell: |o, _| at(o, &["metadata", "ownerReferences"])[0]["name"].clone(),
        },
        Column {
            name: "Revision",
            data_type: "integer",
            description: "its number",
            wide: false,
            cell: |o, _| o["revision"].clone(),
        },
    ],
    check,
    ..KindInfo::of::<Revision>("Revision", "revisions", "revision")
};
