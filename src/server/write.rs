//! Writes: `create`, `update`, `patch`, `delete`, `deletecollection`, on objects and their parts. Admission does them; this is how they
//! come over the wire.

use hyper::{StatusCode, header};
use serde_json::{Value, json};

use super::{
    accept::{Encoding, MediaType, Shape},
    body::{OBJECT_LIMIT, Parsed},
    call::Call,
    path::Resource,
    read,
    respond::{self, Answer},
    state::State,
};
use crate::{
    admission::{DeleteOptions, Patch, Target, WriteOptions, Written, scale},
    api::{Outcome, Preconditions, PropagationPolicy, Reason, Served, Status, Subresource, Uid},
};

/// What a write is on.
pub(super) fn target<'a>(served: Served, resource: &Resource<'a>, subresource: Option<Subresource>) -> Target<'a> {
    Target { served, namespace: resource.namespace, name: resource.name, subresource }
}

/// The object as it is now, in the form that the client wants; for `/scale`, the Scale.
fn written(
    state: &State,
    call: &Call,
    target: &Target<'_>,
    mut warnings: Vec<String>,
    done: Written,
) -> Result<Answer, Status> {
    let code = if done.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    let form = call.form()?;
    let mut answer = match target.subresource {
        Some(Subresource::Scale) => {
            let json = scale::project(&done.object.value()).to_string();
            respond::encoded(code, json.into(), form.encoding)?
        }
        _ => read::show(state, call, target.served, &done.object, code, form)?,
    };
    warnings.extend(done.warnings);
    respond::warn(&mut answer, &warnings);
    Ok(answer)
}

/// `POST`
pub(super) async fn create(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    call.form()?;
    let options = call.write_options()?;
    let (body, warnings) = call.object(target.served).await?;
    let done = state.admission.create(&call.caller(), target.served, target.namespace, body, &options).await?;
    written(state, call, &target, warnings, done)
}

/// `PUT`
pub(super) async fn update(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    call.form()?;
    let options = call.write_options()?;
    let (body, warnings) = call.object(target.served).await?;
    let done = state.admission.update(&call.caller(), &target, body, &options).await?;
    written(state, call, &target, warnings, done)
}

/// `PATCH`
pub(super) async fn patch(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    call.form()?;
    let options = call.write_options()?;
    let content_type = MediaType::parse(call.header(header::CONTENT_TYPE)).name.to_owned();
    let kind = PatchKind::of(&content_type)?;
    let (body, warnings) = call.object(target.served).await?;
    let patch = match kind {
        PatchKind::Json if body.is_array() => Patch::Json(body),
        PatchKind::Merge if body.is_object() => Patch::Merge(body),
        PatchKind::Apply if body.is_object() => {
            if call.params.get("fieldManager").is_empty() {
                return Err(no_manager());
            }
            Patch::Apply { object: body, force: call.params.flag("force")? }
        }
        PatchKind::Json => return Err(Status::bad_request("a JSON patch is a list of operations")),
        PatchKind::Merge | PatchKind::Apply => return Err(Status::bad_request("the patch must be an object")),
    };
    let done = state.admission.patch(&call.caller(), &target, patch, &options).await?;
    written(state, call, &target, warnings, done)
}

enum PatchKind {
    Json,
    Merge,
    Apply,
}

impl PatchKind {
    fn of(content_type: &str) -> Result<Self, Status> {
        match content_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(Status::new(
                Reason::UnsupportedMediaType,
                format!(
                    "the body of the request was in an unsupported format (`{other}`) - accepted media types include: \
                     application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
                ),
            )),
        }
    }
}

fn no_manager() -> Status {
    let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
    let mut status = Status::new(Reason::Invalid, message);
    status.details.group = "meta.k8s.io".to_owned();
    status.details.kind = "PatchOptions".to_owned();
    status
}

/// `DeleteOptions` from the body, and from the URL where the body says nothing; and whether it is a dry run.
async fn delete_options(call: &mut Call) -> Result<(DeleteOptions, bool), Status> {
    let body = match call.parsed(OBJECT_LIMIT).await? {
        Some(Parsed { value, .. }) if value.is_object() => value,
        Some(Parsed { value: Value::Null, .. }) | None => json!({}),
        Some(_) => return Err(Status::bad_request("the body must be DeleteOptions")),
    };
    if body.get("kind").is_some_and(|kind| kind != "DeleteOptions") {
        return Err(Status::bad_request("the body must be DeleteOptions"));
    }
    let grace = match &body["gracePeriodSeconds"] {
        Value::Null => call.params.number("gracePeriodSeconds")?.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
        seconds => match seconds.as_i64() {
            Some(seconds) => Some(seconds.max(0)),
            None => return Err(Status::bad_request("gracePeriodSeconds must be a whole number")),
        },
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let preconditions = Preconditions {
        uid: text(&body["preconditions"]["uid"]).map(Uid::from),
        resource_version: text(&body["preconditions"]["resourceVersion"]),
    };
    let named = text(&body["propagationPolicy"]).unwrap_or_else(|| call.params.get("propagationPolicy").to_owned());
    let orphan = match body["orphanDependents"].as_bool() {
        None if call.params.has("orphanDependents") => Some(call.params.flag("orphanDependents")?),
        stated => stated,
    };
    let options =
        DeleteOptions { preconditions, propagation_policy: policy(&named, orphan)?, grace_period_seconds: grace };
    let dry_run = call.params.dry_run()? || body["dryRun"].as_array().is_some_and(|stages| !stages.is_empty());
    Ok((options, dry_run))
}

/// The policy; `orphanDependents` is the older way to say it.
fn policy(name: &str, orphan: Option<bool>) -> Result<Option<PropagationPolicy>, Status> {
    match (name, orphan) {
        ("", None) => Ok(None),
        ("", Some(true)) | ("Orphan", _) => Ok(Some(PropagationPolicy::Orphan)),
        ("", Some(false)) | ("Background", _) => Ok(Some(PropagationPolicy::Background)),
        ("Foreground", _) => Ok(Some(PropagationPolicy::Foreground)),
        (other, _) => Err(Status::new(
            Reason::Invalid,
            format!(
                "propagationPolicy: Unsupported value: \"{other}\": supported values: \"Foreground\", \"Background\", \"Orphan\""
            ),
        )),
    }
}

/// `DELETE` of one object: a `Status` when it is gone, or the object that waits for its finalizers.
pub(super) async fn delete(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    let form = call.form()?;
    let (options, dry_run) = delete_options(call).await?;
    let write = WriteOptions { dry_run, ..call.write_options()? };
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

/// `DELETE` of a collection: the list of what was deleted.
pub(super) async fn delete_collection(
    state: &State,
    call: &mut Call,
    served: Served,
    resource: &Resource<'_>,
) -> Result<Answer, Status> {
    let (options, dry_run) = delete_options(call).await?;
    let write = WriteOptions { dry_run, ..call.write_options()? };
    let query = read::selection(call, resource);
    let done = state.admission.delete_collection(&call.caller(), served, &query, &options, &write).await?;
    let items: Vec<Value> = done
        .iter()
        .map(|w| served.view.map_or_else(|| w.object.value(), |view| (view.project)(&w.object.value())))
        .collect();
    let list = json!({
        "kind": format!("{}List", served.name()), "apiVersion": served.api_version(),
        "metadata": {"resourceVersion": state.store.revision().to_string()}, "items": items,
    });
    respond::encoded(StatusCode::OK, list.to_string().into(), Encoding::Json)
}

/// `GET …/scale`
pub(super) fn get_scale(
    state: &State,
    call: &Call,
    target: Target<'_>,
    resource: &Resource<'_>,
) -> Result<Answer, Status> {
    let form = call.form()?;
    let object = state.admission.get(&call.caller(), &resource.key(target.served))?;
    let json = scale::project(&object.value()).to_string();
    respond::encoded(StatusCode::OK, json.into(), form.encoding)
}
