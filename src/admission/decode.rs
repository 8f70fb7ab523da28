//! Understanding a body: is it what the URL says, and which of its fields are known?

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{
    FieldValidation, Patch, metadata,
    operation::{Action, Context, Refusal, Step},
    scale, workflows,
};
use crate::{
    api::{Problem, Status, Subresource, Violation},
    policy::form::{self, Form},
};

/// A body in its stored form, as far as it could be understood.
pub(super) struct Decoded {
    pub(super) object: Value,
    /// Fields that the schema does not know, where that is a violation.
    pub(super) unknown: Vec<Violation>,
    /// For the client's eyes.
    pub(super) warnings: Vec<String>,
}

impl Context<'_> {
    /// A body in the form that the step speaks, checked for its type and its names, in its stored form.
    pub(super) fn decode(&self, step: &Step, mut body: Value, live: Option<&Value>) -> Result<Decoded, Refusal> {
        check_type(step, &mut body)?;
        check_names(step, &mut body)?;
        if step.subresource == Some(Subresource::Scale) {
            return Ok(Decoded { object: body, unknown: Vec::new(), warnings: Vec::new() });
        }
        let form = form::of(step.served);
        let mut warnings = workflows::spelled(step.served, &mut body);
        form.shape.drop_nulls(&mut body);
        let (unknown, more) = self.screen(form, step, &mut body, live);
        warnings.extend(more);
        let mut object = match step.served.view.and_then(|view| view.lift) {
            Some(lift) => lift(&body),
            None => body,
        };
        (step.kind().normalize)(&mut object);
        object["apiVersion"] = json!(step.kind().api_version());
        object["kind"] = json!(step.kind().kind);
        Ok(Decoded { object, unknown, warnings })
    }

    /// Fields that the body has twice, and unknown ones, unless the live object has them already: a newer appm wrote those.
    fn screen(
        &self,
        form: &Form,
        step: &Step,
        body: &mut Value,
        live: Option<&Value>,
    ) -> (Vec<Violation>, Vec<String>) {
        let mut unknown = Vec::new();
        if !form.shape.knows(body) {
            let mut pruned = body.clone();
            unknown = form.shape.take_unknown(&mut pruned);
            if let Some(live) = live {
                let there = form.shape.take_unknown(&mut shown(step, live).into_owned());
                unknown.retain(|v| there.iter().all(|t| t.path != v.path));
            }
            if !unknown.is_empty() {
                *body = pruned;
            }
        }
        let repeated = self.repeated.iter().map(|path| Violation::new(path.clone(), Problem::Repeated, ""));
        let found: Vec<Violation> = repeated.chain(unknown).collect();
        // A status is written by programs, which Kubernetes has taught that what a schema does not know is dropped.
        let by_hand = !step.kind().is_kubernetes_own() && step.subresource != Some(Subresource::Status);
        let default = if by_hand { FieldValidation::Strict } else { FieldValidation::Warn };
        match self.field_validation.unwrap_or(default) {
            FieldValidation::Strict => (found, Vec::new()),
            FieldValidation::Warn => (Vec::new(), found.iter().filter_map(Violation::undecodable).collect()),
            FieldValidation::Ignore => (Vec::new(), Vec::new()),
        }
    }
}

/// An object in the form that the step speaks.
pub(super) fn shown<'v>(step: &Step, live: &'v Value) -> Cow<'v, Value> {
    match (step.subresource, step.served.view) {
        (Some(Subresource::Scale), _) => Cow::Owned(scale::project(live)),
        (_, Some(view)) => Cow::Owned((view.project)(live)),
        (_, None) => Cow::Borrowed(live),
    }
}

/// `apiVersion` and `kind` must be those of the URL; where they are missing they are filled in, but for an apply.
fn check_type(step: &Step, body: &mut Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the body must be an object"));
    }
    if !matches!(body.get("metadata"), None | Some(Value::Null | Value::Object(_))) {
        return Err(Status::bad_request("metadata must be an object"));
    }
    let (version, kind) = match step.subresource {
        Some(Subresource::Scale) => (scale::API_VERSION.to_owned(), scale::KIND),
        _ => (step.served.api_version(), step.served.name()),
    };
    let applied = matches!(step.action, Action::Patch(Patch::Apply { .. }));
    for (field, wanted) in [("apiVersion", version.as_str()), ("kind", kind)] {
        match &body[field] {
            // What is applied says what it is, as in Kubernetes: its fields are understood by it.
            Value::Null if applied => {
                return Err(Status::bad_request(format!("{field} must be set in an apply patch (expected {wanted})")));
            }
            Value::Null => body[field] = json!(wanted),
            Value::String(given) if given == wanted => {}
            given => {
                let given = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({wanted})"
                )));
            }
        }
    }
    Ok(())
}

/// Name and namespace must be those of the URL; where they are missing they are filled in.
fn check_names(step: &Step, body: &mut Value) -> Result<(), Status> {
    let mismatch = "the namespace of the provided object does not match the namespace sent on the request";
    let metadata = metadata::of(body);
    // Kubernetes wrote it once, and old manifests have it still.
    metadata.shift_remove("selfLink");
    match metadata.get("namespace").and_then(Value::as_str).unwrap_or_default() {
        "" => {}
        given if given == step.namespace => {}
        _ => return Err(Status::bad_request(mismatch)),
    }
    match metadata.get("name").and_then(Value::as_str).unwrap_or_default() {
        "" if !step.name.is_empty() => {
            metadata.insert("name".to_owned(), json!(step.name));
        }
        "" => {}
        given if step.name.is_empty() || given == step.name => {}
        given => {
            return Err(Status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({})",
                step.name
            )));
        }
    }
    Ok(())
}
