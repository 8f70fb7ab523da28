//! What is wrong with a manifest, and where.

use std::fmt;

use serde_json::Value;

use super::check_label;

/// The path of a field as Kubernetes prints it: `spec.env[2].name`, `metadata.labels[app.kubernetes.io/name]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// The path of the document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path written out, `spec.process` say.
    pub fn of(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// A field below this path. Names that contain dots or brackets are written in brackets.
    pub fn field(&self, name: &str) -> Self {
        if name.is_empty() || name.contains(['.', '[', ']', '/']) {
            return Self(format!("{}[{name}]", self.0));
        }
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An entry of a map below this path, as Kubernetes prints it: always in brackets.
    pub fn key(&self, name: &str) -> Self {
        Self(format!("{}[{name}]", self.0))
    }

    /// An item below this path.
    pub fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    /// `other` seen from this path.
    pub fn join(&self, other: &FieldPath) -> Self {
        match (self.0.as_str(), other.0.as_str()) {
            ("", _) => other.clone(),
            (_, "") => self.clone(),
            (a, b) if b.starts_with('[') => Self(format!("{a}{b}")),
            (a, b) => Self(format!("{a}.{b}")),
        }
    }

    /// The path of a JSON pointer (`/spec/env/2/name`).
    pub fn from_pointer(pointer: &str) -> Self {
        pointer.split('/').skip(1).fold(Self::root(), |path, step| {
            let step = step.replace("~1", "/").replace("~0", "~");
            match step.parse::<usize>() {
                Ok(at) => path.index(at),
                Err(_) => path.field(&step),
            }
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kubernetes' cause reasons for an invalid field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A field that must be there is missing.
    Required,
    /// A value is not acceptable.
    Invalid,
    /// A value is not among those allowed.
    NotSupported,
    /// A field may not be set, or not be changed.
    Forbidden,
    /// A value that must be unique is there twice.
    Duplicate,
    /// A value, or several together, have too many bytes.
    TooLong,
    /// No such field.
    Unknown,
    /// A field that the text has twice.
    Repeated,
}

impl Problem {
    /// The `reason` of the cause in a `Status`.
    pub fn reason(self) -> &'static str {
        match self {
            Problem::Required => "FieldValueRequired",
            Problem::Invalid => "FieldValueInvalid",
            Problem::NotSupported => "FieldValueNotSupported",
            Problem::Forbidden => "FieldValueForbidden",
            Problem::Duplicate | Problem::Repeated => "FieldValueDuplicate",
            Problem::TooLong => "FieldValueTooLong",
            Problem::Unknown => "FieldUnknown",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Problem::Required => "Required value",
            Problem::Invalid => "Invalid value",
            Problem::NotSupported => "Unsupported value",
            Problem::Forbidden => "Forbidden",
            Problem::Duplicate => "Duplicate value",
            Problem::TooLong => "Too long",
            Problem::Unknown => "Unknown field",
            Problem::Repeated => "Duplicate field",
        }
    }
}

/// One thing that is wrong: where, what, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Where.
    pub path: FieldPath,
    /// Of which sort.
    pub problem: Problem,
    /// What was expected, and what to write instead.
    pub message: String,
}

impl Violation {
    /// A violation at `path`.
    pub fn new(path: FieldPath, problem: Problem, message: impl Into<String>) -> Self {
        Self { path, problem, message: message.into() }
    }

    /// The same violation seen from `prefix`.
    pub fn under(mut self, prefix: &FieldPath) -> Self {
        self.path = prefix.join(&self.path);
        self
    }

    /// What strict decoding says of a field that it cannot take: `unknown field "spec.x"`; `None` for everything else.
    pub fn undecodable(&self) -> Option<String> {
        match self.problem {
            Problem::Unknown => Some(format!("unknown field \"{}\"", self.path)),
            Problem::Repeated => Some(format!("duplicate field \"{}\"", self.path)),
            _ => None,
        }
    }

    /// The sentence without the path, as Kubernetes puts it into a cause.
    pub fn sentence(&self) -> String {
        match self.message.as_str() {
            "" => self.problem.prefix().to_owned(),
            message => format!("{}: {message}", self.problem.prefix()),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.to_string().as_str() {
            "" => f.write_str(&self.sentence()),
            path => write!(f, "{path}: {}", self.sentence()),
        }
    }
}

/// For kinds whose names end up in names of files, hosts or variables: the name must be an RFC 1123 label.
pub fn check_label_name(object: &Value) -> Option<Violation> {
    let name = object["metadata"]["name"].as_str().filter(|name| !name.is_empty())?;
    let wrong = check_label(name).err()?;
    Some(Violation::new(FieldPath::of("metadata.name"), Problem::Invalid, wrong.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_kubernetes_prints_them() {
        let env = FieldPath::of("spec").field("env").index(2).field("name");
        assert_eq!(env.as_str(), "spec.env[2].name");
        assert_eq!(FieldPath::of("metadata.labels").field("a.b/c").as_str(), "metadata.labels[a.b/c]");
        assert_eq!(FieldPath::from_pointer("/spec/ports/0/a~1b").as_str(), "spec.ports[0][a/b]");
        assert_eq!(FieldPath::of("operations[1]").join(&env).as_str(), "operations[1].spec.env[2].name");
    }
}
