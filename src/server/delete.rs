//! `delete` and `deletecollection`, with their options in the body or in the URL.

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    accept::Shape,
    body::{OBJECT_LIMIT, Parsed},
    call::{self, Call},
    path::Resource,
    read,
    respond::{self, Answer},
    state::State,
};
use crate::{
    admission::{DeleteOptions, Target, WriteOptions},
    api::{FieldPath, Preconditions, Problem, PropagationPolicy, Served, Status, Violation},
};

const OPTIONS: &str = "DeleteOptions";

/// `DeleteOptions` as it is written. What is misspelt in a precondition must not be overlooked, so types are checked.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    kind: Option<String>,
    preconditions: Option<GivenPreconditions>,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    dry_run: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenPreconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Given {
    async fn read(call: &mut Call) -> Result<Self, Status> {
        let refused = |why: &str| Status::bad_request(format!("the body must be DeleteOptions{why}"));
        let value = match call.parsed(OBJECT_LIMIT).await? {
            None | Some(Parsed { value: Value::Null, .. }) => return Ok(Self::default()),
            Some(Parsed { value, .. }) => value,
        };
        let given: Self =
            serde_path_to_error::deserialize(value).map_err(|e| refused(&format!(": {}: {}", e.path(), e.inner())))?;
        match given.kind.as_deref() {
            None | Some(OPTIONS) => Ok(given),
            Some(other) => Err(refused(&format!(", not {other}"))),
        }
    }
}

/// The options of a delete, those of the URL where the body says nothing; and how it is done.
async fn options(call: &mut Call) -> Result<(DeleteOptions, WriteOptions), Status> {
    let given = Given::read(call).await?;
    let grace_period_seconds = match given.grace_period_seconds {
        Some(seconds) => Some(seconds.max(0)),
        None => call.params.number("gracePeriodSeconds")?.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
    };
    let orphan = match given.orphan_dependents {
        None if call.params.has("orphanDependents") => Some(call.params.flag("orphanDependents")?),
        stated => stated,
    };
    let policy = given.propagation_policy.unwrap_or_else(|| call.params.get("propagationPolicy").to_owned());
    let preconditions = given.preconditions.unwrap_or_default();
    let delete = DeleteOptions {
        preconditions: Preconditions {
            uid: preconditions.uid.map(Into::into),
            resource_version: preconditions.resource_version,
        },
        propagation_policy: propagation(&policy, orphan)?,
        grace_period_seconds,
    };
    let stages = given.dry_run.unwrap_or_default();
    let dry_run = call::dry_run(OPTIONS, stages.iter().map(String::as_str))?;
    let write = call.write_options(OPTIONS)?;
    Ok((delete, WriteOptions { dry_run: dry_run || write.dry_run, ..write }))
}

/// The policy; `orphanDependents` is the older way to say it.
fn propagation(name: &str, orphan: Option<bool>) -> Result<Option<PropagationPolicy>, Status> {
    match (name, orphan) {
        ("", None) => Ok(None),
        ("", Some(true)) | ("Orphan", None) => Ok(Some(PropagationPolicy::Orphan)),
        ("", Some(false)) | ("Background", None) => Ok(Some(PropagationPolicy::Background)),
        ("Foreground", None) => Ok(Some(PropagationPolicy::Foreground)),
        ("Orphan" | "Background" | "Foreground", Some(_)) => {
            let message = "orphanDependents and deletionPropagation cannot be both set";
            let at = FieldPath::of("propagationPolicy");
            Err(Status::invalid_option(OPTIONS, &Violation::new(at, Problem::Invalid, message)))
        }
        (other, _) => {
            Err(call::unsupported_value(OPTIONS, "propagationPolicy", other, &["Foreground", "Background", "Orphan"]))
        }
    }
}

/// `DELETE` of one object: a `Status` when it is gone, or the object that waits for its finalizers.
pub(super) async fn one(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    let form = call.form()?;
    let (options, write) = options(call).await?;
    let (done, gone) = state.admission.delete(&call.caller(), &target, &options, &write).await?;
    if !gone || form.shape != Shape::Object {
        return read::show(state, call, target.served, &done.object, StatusCode::OK, form);
    }
    let details = json!({
        "name": target.name, "group": target.served.group(), "kind": target.served.plural(),
        "uid": done.object.meta().uid,
    });
    respond::encoded(StatusCode::OK, respond::success(&details).to_string().into(), form.encoding)
}

/// `DELETE` of a collection, or of one page of it: the list of what was deleted.
pub(super) async fn collection(
    state: &State,
    call: &mut Call,
    served: Served,
    resource: &Resource<'_>,
) -> Result<Answer, Status> {
    let form = call.form()?;
    let (options, write) = options(call).await?;
    let page = read::page(state, call, served, resource, "deletecollection").await?;
    let done = state
        .admission
        .delete_collection(&call.caller(), served, resource.namespace, page.items(), &options, &write)
        .await?;
    let items: Vec<Value> =
        done.iter().map(|w| serde_json::from_slice(&w.object.served_as(served)).unwrap_or_default()).collect();
    let mut list = json!({
        "kind": format!("{}List", served.name()), "apiVersion": served.api_version(),
        "metadata": {"resourceVersion": state.store.revision().to_string()}, "items": items,
    });
    if let Some(next) = page.next {
        list["metadata"]["continue"] = json!(next);
    }
    respond::encoded(StatusCode::OK, list.to_string().into(), form.encoding)
}
