//! One operation, put together: its name, parameters, body and every answer that can come.

use serde_json::{Value, json};
use utoipa::openapi::{
    Content, Ref, RefOr, Required, Schema,
    content::ContentBuilder,
    extensions::ExtensionsBuilder,
    path::{Operation, OperationBuilder},
    request_body::RequestBodyBuilder,
    response::ResponseBuilder,
    schema::{ObjectBuilder, Type},
};

use super::{
    answers::{self, Refusal, response_header},
    parameters,
};

/// Plain JSON.
pub(super) const JSON: &str = "application/json";

/// What a body looks like.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A component.
    Of(String),
    /// Text.
    Text,
}

impl Shape {
    /// A component.
    pub(super) fn of(component: &str) -> Self {
        Self::Of(component.to_owned())
    }

    fn schema(&self) -> RefOr<Schema> {
        match self {
            Self::Of(component) => Ref::from_schema_name(component).into(),
            Self::Text => RefOr::T(ObjectBuilder::new().schema_type(Type::String).build().into()),
        }
    }
}

/// One form of a body.
pub(super) struct Form {
    content_type: &'static str,
    shape: Shape,
    example: Option<Value>,
}

/// A form without an example of its own: its component's example stands for it.
pub(super) fn form(content_type: &'static str, shape: Shape) -> Form {
    Form { content_type, shape, example: None }
}

impl Form {
    /// With an example.
    pub(super) fn example(mut self, example: Value) -> Self {
        self.example = Some(example);
        self
    }

    fn content(&self) -> Content {
        ContentBuilder::new().schema(Some(self.shape.schema())).example(self.example.clone()).build()
    }
}

/// An operation that is being described.
pub(super) struct Described(OperationBuilder);

impl Described {
    /// An operation of that name, shown under a tag.
    pub(super) fn new(tag: &str, id: &str, summary: &str) -> Self {
        // Whatever is asked for, it must be asked of us.
        Self(OperationBuilder::new().tag(tag).operation_id(Some(id)).summary(Some(summary))).refuses(answers::ANY)
    }

    /// More than the one sentence of the summary.
    pub(super) fn description(mut self, text: &str) -> Self {
        self.0 = self.0.description(Some(text));
        self
    }

    /// What Kubernetes' clients read: which kind, and what is done with it.
    pub(super) fn about(mut self, action: &str, group: &str, version: &str, kind: &str) -> Self {
        let extensions = ExtensionsBuilder::new()
            .add("x-kubernetes-action", json!(action))
            .add("x-kubernetes-group-version-kind", json!({"group": group, "version": version, "kind": kind}))
            .build();
        self.0 = self.0.extensions(Some(extensions));
        self
    }

    /// Takes parameters, by their names in [`parameters`].
    pub(super) fn takes(mut self, names: &[&str]) -> Self {
        for name in names {
            self.0 = self.0.parameter_ref(Ref::new(format!("#/components/parameters/{}", parameters::component(name))));
        }
        self
    }

    /// Needs no credentials.
    pub(super) fn public(mut self) -> Self {
        self.0 = self.0.securities(Some([utoipa::openapi::security::SecurityRequirement::default()]));
        self
    }

    /// Takes a body in one of some forms. Generators of clients use the first one.
    pub(super) fn body(mut self, description: &str, forms: &[Form], required: bool) -> Self {
        let body = forms
            .iter()
            .fold(RequestBodyBuilder::new(), |body, form| body.content(form.content_type, form.content()))
            .description(Some(description))
            .required(Some(if required { Required::True } else { Required::False }));
        self.0 = self.0.request_body(Some(body.build()));
        self
    }

    /// What comes when it goes well.
    pub(super) fn answers(self, code: u16, description: &str, forms: &[Form]) -> Self {
        self.answers_with(code, description, forms, &[])
    }

    /// The same, with headers by their names in [`super::answers`].
    pub(super) fn answers_with(mut self, code: u16, description: &str, forms: &[Form], headers: &[&str]) -> Self {
        let response = forms
            .iter()
            .fold(ResponseBuilder::new(), |response, form| response.content(form.content_type, form.content()));
        let response =
            headers.iter().fold(response, |response, name| response.header_ref(*name, response_header(name)));
        self.0 = self.0.response(code.to_string(), response.description(description).build());
        self
    }

    /// What comes when it does not.
    pub(super) fn refuses(mut self, refusals: &[Refusal]) -> Self {
        for refusal in refusals {
            self.0 = self.0.response(refusal.code().to_string(), Ref::from_response_name(refusal.name()));
        }
        self
    }

    /// The operation.
    pub(super) fn build(self) -> Operation {
        self.0.build()
    }
}
