//! Understanding a body: is it what the URL says, and which of its fields are known?

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{
    FieldValidation,
    form::{self, Form},
    metadata,
    operation::{Context, Refusal, Step},
    scale,
};
use crate::api::{GROUP, Status, Subresource, Violation};

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
        let form = form::of(step.served);
        form.shape.drop_nulls(&mut body);
        let (unknown, warnings) = self.screen(form, step, &mut body, live);
        let mut object = match step.served.view.and_then(|view| view.lift) {
            Some(lift) => lift(&body),
            None => body,
        };
        (step.kind().normalize)(&mut object);
        object["apiVersion"] = json!(step.kind().api_version());
        object["kind"] = json!(step.kind().kind);
        Ok(Decoded { object, unknown, warnings })
    }

    /// Unknown fields, unless the live object has them already: a newer appm wrote those.
    fn screen(
        &self,
        form: &Form,
        step: &Step,
        body: &mut Value,
        live: Option<&Value>,
    ) -> (Vec<Violation>, Vec<String>) {
        let mut pruned = body.clone();
        let mut unknown = form.shape.take_unknown(&mut pruned);
        if unknown.is_empty() {
            return (unknown, Vec::new());
        }
        if let Some(live) = live {
            let there = form.shape.take_unknown(&mut shown(step, live).into_owned());
            unknown.retain(|v| there.iter().all(|t| t.path != v.path));
        }
        let default = if step.kind().group == GROUP { FieldValidation::Strict } else { FieldValidation::Warn };
        match self.field_validation.unwrap_or(default) {
            _ if unknown.is_empty() => (unknown, Vec::new()),
            FieldValidation::Strict => {
                *body = pruned;
                (unknown, Vec::new())
            }
            FieldValidation::Warn => {
                *body = pruned;
                let warnings = unknown.iter().map(|v| format!("unknown field \"{}\"", v.path)).collect();
                (Vec::new(), warnings)
            }
            FieldValidation::Ignore => {
                *body = pruned;
                (Vec::new(), Vec::new())
            }
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

/// `apiVersion` and `kind` must be those of the URL; where they are missing they are filled in.
fn check_type(step: &Step, body: &mut Value) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the body must be an object"));
    }
    if !matches!(body.get("metadata"), None | Some(Value::Null | Value::Object(_))) {
        return Err(Status::bad_request("metadata must be an object"));
    }
    let wanted = step.served.api_version();
    for (field, wanted) in [("apiVersion", wanted.as_str()), ("kind", step.served.name())] {
        match &body[field] {
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
    let mismatch = |what: &str| {
        Status::bad_request(format!("the {what} of the provided object does not match the {what} sent on the request"))
    };
    let metadata = metadata::of(body);
    match metadata.get("namespace").and_then(Value::as_str).unwrap_or_default() {
        "" => {}
        given if given == step.namespace => {}
        _ => return Err(mismatch("namespace")),
    }
    match metadata.get("name").and_then(Value::as_str).unwrap_or_default() {
        "" if !step.name.is_empty() => {
            metadata.insert("name".to_owned(), json!(step.name));
        }
        "" => {}
        given if step.name.is_empty() || given == step.name => {}
        _ => return Err(mismatch("name")),
    }
    Ok(())
}
