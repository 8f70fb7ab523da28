//! Who a document says it is: kind, namespace and name, judged before anybody is asked.

use serde_json::{Value, json};

use super::{Aim, Document, Fault};
use crate::{
    api::{API_VERSION, FieldPath, Served, kinds},
    policy::meant::did_you_mean,
};

/// Stands in for a name that is missing, so that others can look for the other mistakes of that object.
pub const NAMELESS: &str = "name-is-missing";

/// In which namespace objects are that are in one.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    /// In this one alone; a manifest that names another one is wrong.
    pub only: Option<&'a str>,
    /// Who says so, for messages: `the command line`.
    pub said_by: &'a str,
    /// Where nobody says anything.
    pub default: &'a str,
}

/// Who a document says it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// As what it is served.
    pub served: Served,
    /// Empty for kinds that are in no namespace.
    pub namespace: String,
    /// Empty if the server makes it, of `generateName`; [`NAMELESS`] if it is missing.
    pub name: String,
    /// The object, with its namespace filled in.
    pub value: Value,
}

impl Document {
    /// Who it says it is; nothing if that cannot be told. What is wrong is added to `faults`.
    pub fn identity(&self, home: Home<'_>, faults: &mut Vec<Fault>) -> Option<Identity> {
        let mut value = self.value();
        let served = self.served(&value, faults);
        let name = self.name(&value, faults);
        let given = value["metadata"]["namespace"].as_str().map(str::to_owned);
        if let (Some(given), Some(wanted)) = (&given, home.only)
            && given != wanted
        {
            let message = format!("`{given}` is not the namespace of {}, which is `{wanted}`", home.said_by);
            faults.push(self.fault("metadata.namespace", message));
        }
        let served = served?;
        value["apiVersion"] = json!(served.api_version());
        if !value["metadata"].is_object() {
            value["metadata"] = json!({});
        }
        if !name.is_empty() {
            value["metadata"]["name"] = json!(name);
        }
        let mut namespace = String::new();
        if served.kind.is_namespaced() {
            namespace = given.unwrap_or_else(|| home.only.unwrap_or(home.default).to_owned());
            value["metadata"]["namespace"] = json!(namespace);
        }
        Some(Identity { served, namespace, name, value })
    }

    /// Something that is wrong with the field at `path`.
    pub fn fault(&self, path: &str, message: impl Into<String>) -> Fault {
        Fault { place: self.place(path, Aim::Value), path: FieldPath::of(path), message: message.into() }
    }

    fn name(&self, value: &Value, faults: &mut Vec<Fault>) -> String {
        let message = match &value["metadata"]["name"] {
            Value::String(name) if !name.is_empty() => return name.clone(),
            Value::Null if value["metadata"]["generateName"].as_str().is_some_and(|prefix| !prefix.is_empty()) => {
                return String::new();
            }
            Value::Null => "Required value: every object has a name".to_owned(),
            Value::String(_) => "Required value: the name is empty".to_owned(),
            other => format!("Invalid value: {other} is no text; write \"{other}\""),
        };
        faults.push(self.fault("metadata.name", message));
        NAMELESS.to_owned()
    }

    fn served(&self, value: &Value, faults: &mut Vec<Fault>) -> Option<Served> {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if kind.is_empty() {
            faults.push(self.fault("kind", "Required value: which kind of object this is, `App` say"));
        }
        if version.is_empty() {
            faults.push(self.fault("apiVersion", format!("Required value: `{API_VERSION}` say")));
        }
        if let Some(served) = kinds::find_served(&version, &kind) {
            return Some(served);
        }
        match kinds::served().find(|s| s.name() == kind) {
            _ if kind.is_empty() => None,
            Some(other) => {
                if !version.is_empty() {
                    let message = format!("`{kind}` is served as `{}`, not `{version}`", other.api_version());
                    faults.push(self.fault("apiVersion", message));
                }
                // The rest is read as what was surely meant, so that its mistakes are found, too.
                Some(other)
            }
            None => {
                let hint = did_you_mean(&kind, kinds::served().map(|s| s.name()));
                let hint = hint.map(|h| format!("; {h}")).unwrap_or_default();
                faults.push(self.fault("kind", format!("there is no kind `{kind}`{hint}")));
                None
            }
        }
    }
}
