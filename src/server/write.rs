//! Writes: `create`, `update`, `patch`, on objects and their parts. Admission does them; this is how they come over the wire.

use hyper::{StatusCode, header};
use serde_json::Value;

use super::{
    accept::MediaType,
    call::Call,
    path::Resource,
    read,
    respond::{self, Answer},
    state::State,
};
use crate::{
    admission::{Patch, Target, Written, scale},
    api::{FieldPath, Outcome, Problem, Reason, Served, Status, Subresource, Violation},
};

/// What a write is on.
pub(super) fn target<'a>(served: Served, resource: &Resource<'a>, subresource: Option<Subresource>) -> Target<'a> {
    Target { served, namespace: resource.namespace, name: resource.name, subresource }
}

/// The object as it is now, in the form that the client wants; for `/scale`, the Scale.
fn written(state: &State, call: &Call, target: &Target<'_>, done: &Written) -> Result<Answer, Status> {
    let code = if done.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    let form = call.form()?;
    let mut answer = match target.subresource {
        Some(Subresource::Scale) => {
            let json = scale::project(&done.object.value()).to_string();
            respond::encoded(code, json.into(), form.encoding)?
        }
        _ => read::show(state, call, target.served, &done.object, code, form)?,
    };
    respond::warn(&mut answer, &done.warnings);
    Ok(answer)
}

/// `POST`
pub(super) async fn create(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    call.form()?;
    let mut options = call.write_options("CreateOptions")?;
    let body = call.object().await?;
    options.repeated = body.duplicates;
    let done = state.admission.create(&call.caller(), target.served, target.namespace, body.value, &options).await?;
    written(state, call, &target, &done)
}

/// `PUT`
pub(super) async fn update(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    call.form()?;
    let mut options = call.write_options("UpdateOptions")?;
    let body = call.object().await?;
    options.repeated = body.duplicates;
    let done = state.admission.update(&call.caller(), &target, body.value, &options).await?;
    written(state, call, &target, &done)
}

/// `PATCH`
pub(super) async fn patch(state: &State, call: &mut Call, target: Target<'_>) -> Result<Answer, Status> {
    call.form()?;
    let mut options = call.write_options(PATCH_OPTIONS)?;
    let kind = PatchKind::of(MediaType::parse(call.header(header::CONTENT_TYPE)).name, target.served)?;
    let body = call.object().await?;
    options.repeated = body.duplicates;
    let patch = match (kind, body.value) {
        (PatchKind::Json, body @ Value::Array(_)) => Patch::Json(body),
        (PatchKind::Merge, body @ Value::Object(_)) => Patch::Merge(body),
        (PatchKind::Strategic, body @ Value::Object(_)) => Patch::Strategic(body),
        (PatchKind::Apply, object @ Value::Object(_)) => {
            if call.params.get("fieldManager").is_empty() {
                return Err(refused("fieldManager", Problem::Required, "is required for apply patch"));
            }
            Patch::Apply { object, force: call.params.flag("force")? }
        }
        (PatchKind::Json, _) => return Err(Status::bad_request("a JSON patch is a list of operations")),
        (PatchKind::Merge | PatchKind::Strategic | PatchKind::Apply, _) => {
            return Err(Status::bad_request("the patch must be an object"));
        }
    };
    if call.params.has("force") && !matches!(patch, Patch::Apply { .. }) {
        return Err(refused("force", Problem::Forbidden, "may not be specified for non-apply patch"));
    }
    let done = state.admission.patch(&call.caller(), &target, patch, &options).await?;
    written(state, call, &target, &done)
}

const PATCH_OPTIONS: &str = "PatchOptions";

fn refused(field: &str, problem: Problem, message: &str) -> Status {
    Status::invalid_option(PATCH_OPTIONS, &Violation::new(FieldPath::of(field), problem, message))
}

enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// The media types in which a form may be patched. Strategic merge patch is for Kubernetes' own kinds, as in Kubernetes.
fn patch_types(served: Served) -> &'static [&'static str] {
    const ALL: &[&str] = &[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
        "application/strategic-merge-patch+json",
    ];
    if served.kind.is_kubernetes_own() { ALL } else { &ALL[..3] }
}

impl PatchKind {
    fn of(content_type: &str, served: Served) -> Result<Self, Status> {
        match content_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            // Kubernetes has only `+yaml`; but many JSON encoders refuse to write a type that does not call itself JSON.
            "application/apply-patch+yaml" | "application/apply-patch+json" => Ok(Self::Apply),
            "application/strategic-merge-patch+json" if served.kind.is_kubernetes_own() => Ok(Self::Strategic),
            other => Err(Status::new(
                Reason::UnsupportedMediaType,
                format!(
                    "the body of the request was in an unsupported format (`{other}`) - accepted media types include: {}",
                    patch_types(served).join(", ")
                ),
            )),
        }
    }
}

/// `GET …/scale`
pub(super) fn get_scale(
    state: &State,
    call: &Call,
    target: Target<'_>,
    resource: &Resource<'_>,
) -> Result<Answer, Status> {
    let form = call.form()?;
    let object = state.admission.get_part(&call.caller(), target.served, "scale", &resource.key(target.served))?;
    let json = scale::project(&object.value()).to_string();
    respond::encoded(StatusCode::OK, json.into(), form.encoding)
}
