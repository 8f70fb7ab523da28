//! One request after the door: who asks, with which parameters, for which form, with which body.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, header};

use super::{
    accept::{self, Encoding, Form, MediaType},
    body::{self, Lent, OBJECT_LIMIT, Parsed, Syntax},
    bounds::{Seat, Taken, Work},
    protobuf,
    query::Params,
    state::State,
};
use crate::{
    admission::{Caller, FieldValidation, WriteOptions},
    api::{Durability, FieldPath, Problem, Reason, Status, Violation},
    auth::Identity,
};

/// Longest name of a field manager, as in Kubernetes.
const MANAGER_MAX: usize = 128;

/// A request.
pub(super) struct Call {
    pub method: Method,
    pub params: Params,
    pub headers: HeaderMap,
    pub who: Identity,
    pub request_id: String,
    pub body: Lent,
    pub state: Arc<State>,
    /// Room for the body, and a seat, once it is read.
    #[allow(dead_code, reason = "held, not read")]
    pub taken: (Taken, Option<Seat<String>>),
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
        let form = accept::negotiate(self.header(header::ACCEPT))?;
        let pretty = form.encoding == Encoding::Json && matches!(self.params.get("pretty"), "true" | "1");
        Ok(if pretty { Form { encoding: Encoding::Pretty, ..form } } else { form })
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
        let manager = manager.chars().filter(|c| !c.is_control()).take(MANAGER_MAX).collect();
        Caller {
            who: self.who.clone(),
            manager,
            request_id: self.request_id.clone(),
            cause: None,
            reason: String::new(),
        }
    }

    fn field_validation(&self, options: &str) -> Result<Option<FieldValidation>, Status> {
        match self.params.get("fieldValidation") {
            "" => Ok(None),
            "Strict" => Ok(Some(FieldValidation::Strict)),
            "Warn" => Ok(Some(FieldValidation::Warn)),
            "Ignore" => Ok(Some(FieldValidation::Ignore)),
            other => Err(unsupported_value(options, "fieldValidation", other, &["Ignore", "Warn", "Strict"])),
        }
    }

    /// The options of a write. Whoever comes over the wire is always durable.
    ///
    /// # Errors
    /// 422 for values that do not exist, in the name of `options` (`CreateOptions` …).
    pub(super) fn write_options(&self, options: &str) -> Result<WriteOptions, Status> {
        check_manager(options, self.params.get("fieldManager"))?;
        Ok(WriteOptions {
            dry_run: self.params.dry_run(options)?,
            field_validation: self.field_validation(options)?,
            durability: Durability::Durable,
            ..WriteOptions::default()
        })
    }

    /// A patch says in its content type what kind of patch it is; everything else is JSON, YAML or protobuf.
    fn written(&self) -> Result<Written, Status> {
        match (MediaType::parse(self.header(header::CONTENT_TYPE)).name, self.method == Method::PATCH) {
            ("application/apply-patch+yaml", true) => Ok(Written::Text(Syntax::Yaml)),
            (_, true) | ("" | "application/json", _) => Ok(Written::Text(Syntax::Json)),
            ("application/yaml" | "application/x-yaml" | "text/yaml", _) => Ok(Written::Text(Syntax::Yaml)),
            ("application/vnd.kubernetes.protobuf", _) => Ok(Written::Protobuf),
            (other, _) => Err(unsupported(other)),
        }
    }

    /// The bytes of the body. From then on the request has a seat.
    ///
    /// # Errors
    /// 413 if there are more than `limit`, 429 if there is no room.
    async fn bytes(&mut self, limit: usize) -> Result<Bytes, Status> {
        let (bytes, room) = body::read(&mut self.body, limit, &self.state.turnstile).await?;
        let seat = self.state.turnstile.seat(&self.who.name, Work::Writing, bytes.len()).await?;
        self.taken = (room, Some(seat));
        Ok(bytes)
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
            Written::Text(syntax) => body::parse(&bytes, syntax, limit).map(Some),
            Written::Protobuf => match protobuf::decode(&bytes) {
                Some(value) => Ok(Some(Parsed { value, duplicates: Vec::new() })),
                None => Err(unsupported("application/vnd.kubernetes.protobuf")),
            },
        }
    }

    /// The value in the body, and the fields that its text has twice.
    ///
    /// # Errors
    /// 400 for an empty body; 413; 415.
    pub(super) async fn object(&mut self) -> Result<Parsed, Status> {
        let parsed = self.parsed(OBJECT_LIMIT).await?;
        parsed.ok_or_else(|| Status::bad_request("the request needs a body"))
    }
}

/// Kubernetes' bounds for the name of a manager that was given in so many words.
fn check_manager(options: &str, name: &str) -> Result<(), Status> {
    let at = FieldPath::of("fieldManager");
    let why = match name {
        long if long.len() > MANAGER_MAX => format!("may not be longer than {MANAGER_MAX} bytes"),
        odd if odd.chars().any(char::is_control) => "should only contain printable characters".to_owned(),
        _ => return Ok(()),
    };
    Err(Status::invalid_option(options, &Violation::new(at, Problem::Invalid, why)))
}

/// Whether stages of a dry run ask for one: there is only `All`.
///
/// # Errors
/// 422 for any other.
pub(super) fn dry_run<'a>(options: &str, stages: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let stages: Vec<&str> = stages.collect();
    match stages.iter().find(|stage| **stage != "All") {
        Some(other) => Err(unsupported_value(options, "dryRun", other, &["All"])),
        None => Ok(!stages.is_empty()),
    }
}

/// 422 for a parameter whose values are known.
pub(super) fn unsupported_value(options: &str, field: &str, given: &str, known: &[&str]) -> Status {
    let known: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
    let message = format!("\"{given}\": supported values: {}", known.join(", "));
    Status::invalid_option(options, &Violation::new(FieldPath::of(field), Problem::NotSupported, message))
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
