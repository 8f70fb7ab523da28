//! One request after the door: who asks, with which parameters, for which form, with which body.

use bytes::Bytes;
use hyper::{HeaderMap, Method, body::Incoming, header};
use serde_json::Value;

use super::{
    accept::{self, Form, MediaType},
    body::{self, OBJECT_LIMIT, Parsed, Syntax},
    protobuf,
    query::Params,
};
use crate::{
    admission::{Caller, FieldValidation, WriteOptions},
    api::{Durability, GROUP, Reason, Served, Status},
    auth::Identity,
};

/// A request.
pub(super) struct Call {
    pub method: Method,
    pub params: Params,
    pub headers: HeaderMap,
    pub who: Identity,
    pub request_id: String,
    pub body: Incoming,
}

/// How a body says that it is written.
enum Written {
    Text(Syntax),
    Protobuf,
}

impl Call {
    /// A header's text, or an empty one.
    pub(super) fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// The form that the client wants.
    ///
    /// # Errors
    /// 406 when nothing fits.
    pub(super) fn form(&self) -> Result<Form, Status> {
        accept::negotiate(self.header(header::ACCEPT))
    }

    /// Who asks, in admission's terms. The field manager is the parameter, or else the program's name.
    pub(super) fn caller(&self) -> Caller {
        let manager = match self.params.get("fieldManager") {
            "" => {
                let agent = self.header(header::USER_AGENT);
                let name = agent.split('/').next().unwrap_or_default().trim();
                if name.is_empty() { "unknown" } else { name }
            }
            named => named,
        };
        let manager = manager.chars().filter(|c| !c.is_control()).take(128).collect();
        Caller {
            who: self.who.clone(),
            manager,
            request_id: self.request_id.clone(),
            cause: None,
            reason: String::new(),
        }
    }

    fn field_validation(&self) -> Result<Option<FieldValidation>, Status> {
        match self.params.get("fieldValidation") {
            "" => Ok(None),
            "Strict" => Ok(Some(FieldValidation::Strict)),
            "Warn" => Ok(Some(FieldValidation::Warn)),
            "Ignore" => Ok(Some(FieldValidation::Ignore)),
            other => Err(Status::new(
                Reason::Invalid,
                format!(
                    "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Warn\", \"Strict\""
                ),
            )),
        }
    }

    /// The options of a write. Whoever comes over the wire is always durable.
    ///
    /// # Errors
    /// 422 for values that do not exist.
    pub(super) fn write_options(&self) -> Result<WriteOptions, Status> {
        Ok(WriteOptions {
            dry_run: self.params.dry_run()?,
            field_validation: self.field_validation()?,
            durability: Durability::Durable,
        })
    }

    fn written(&self) -> Result<Written, Status> {
        match MediaType::parse(self.header(header::CONTENT_TYPE)).name {
            "" | "application/json" => Ok(Written::Text(Syntax::Json)),
            "application/yaml" | "application/x-yaml" | "text/yaml" | "application/apply-patch+yaml" => {
                Ok(Written::Text(Syntax::Yaml))
            }
            "application/merge-patch+json" | "application/json-patch+json" => Ok(Written::Text(Syntax::Json)),
            "application/vnd.kubernetes.protobuf" => Ok(Written::Protobuf),
            other => Err(unsupported(other)),
        }
    }

    /// The bytes of the body.
    ///
    /// # Errors
    /// 413 if there are more than `limit`.
    pub(super) async fn bytes(&mut self, limit: usize) -> Result<Bytes, Status> {
        body::read(&mut self.body, limit).await
    }

    /// The body, parsed; `None` if it is empty.
    ///
    /// # Errors
    /// 400, 413 or 415.
    pub(super) async fn parsed(&mut self, limit: usize) -> Result<Option<Parsed>, Status> {
        let written = self.written();
        let bytes = self.bytes(limit).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        match written? {
            Written::Text(syntax) => body::parse(&bytes, syntax).map(Some),
            Written::Protobuf => match protobuf::decode(&bytes) {
                Some(value) => Ok(Some(Parsed { value, duplicates: Vec::new() })),
                None => Err(unsupported("application/vnd.kubernetes.protobuf")),
            },
        }
    }

    /// The object in the body, and what is to be said about keys that are there twice.
    ///
    /// # Errors
    /// 400 for an empty body, or for doubled keys under strict field validation; 413; 415.
    pub(super) async fn object(&mut self, served: Served) -> Result<(Value, Vec<String>), Status> {
        let Some(Parsed { value, duplicates }) = self.parsed(OBJECT_LIMIT).await? else {
            return Err(Status::bad_request("the request needs a body"));
        };
        let default = if served.group() == GROUP { FieldValidation::Strict } else { FieldValidation::Warn };
        let found: Vec<String> = duplicates.iter().map(|path| format!("duplicate field \"{path}\"")).collect();
        match self.field_validation()?.unwrap_or(default) {
            FieldValidation::Strict if !found.is_empty() => {
                Err(Status::bad_request(format!("strict decoding error: {}", found.join(", "))))
            }
            FieldValidation::Ignore => Ok((value, Vec::new())),
            _ => Ok((value, found)),
        }
    }
}

fn unsupported(content_type: &str) -> Status {
    Status::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unsupported format (`{content_type}`) - accepted media types include: \
             application/json, application/yaml"
        ),
    )
}
