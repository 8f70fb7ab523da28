//! What `get --at`, `history`, `rollback`, `undo` and `why` have in common: asking for what was, and telling of a change in a line.

use clap::Args;
use serde_json::Value;

use crate::{
    api::{FieldChange, History, Reason, Rev, Served, Status, Version, VersionChange},
    client::http::{Request, RequestError, query_string, served_path},
    policy::moment::Moment,
};

use super::{
    context::Context,
    error::{CliError, Exit, did_you_mean},
    resources::{self, Target, qualified},
    screen,
};

/// So much of a value is shown in a line.
const SHOWN: usize = 60;

/// A moment of the past, as flags say it.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct AtArgs {
    /// As it was: how long ago, 10m or 2d, or a point in time, 2026-11-21T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "revision")]
    pub(super) at: Option<String>,
    /// As it was at this revision (`appm history` tells them)
    #[arg(long, value_name = "NUMBER", value_parser = revision)]
    pub(super) revision: Option<Rev>,
}

/// A moment, checked here so that a mistake is told before anything is asked.
pub(super) fn moment(text: &str) -> Result<String, String> {
    Moment::parse(text).map(|_| text.to_owned())
}

/// A revision.
pub(super) fn revision(text: &str) -> Result<Rev, String> {
    Rev::parse(text)
        .filter(|rev| rev.0 > 0)
        .ok_or_else(|| "a revision is a number, as `appm history` tells them".to_owned())
}

impl AtArgs {
    pub(super) fn is_asked(&self) -> bool {
        self.at.is_some() || self.revision.is_some()
    }

    /// Query parameters.
    pub(super) fn options(&self) -> Vec<(&'static str, String)> {
        let at = self.at.iter().map(|at| ("at", at.clone()));
        at.chain(self.revision.iter().map(|revision| ("atRevision", revision.to_string()))).collect()
    }
}

/// One object that a person names.
#[derive(Clone, Debug)]
pub(super) struct One {
    pub(super) served: Served,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl One {
    /// What `app/web` or `app web` names.
    ///
    /// # Errors
    /// When it is not exactly one object.
    pub(super) fn of(words: &[String], context: &Context) -> Result<Self, CliError> {
        let wrong = || CliError::usage("which object?").help("name one: `app/web` or `app web`");
        let mut targets = resources::targets(words)?;
        let (Some(Target { served, mut names }), true) = (targets.pop(), targets.is_empty()) else {
            return Err(wrong());
        };
        let (Some(name), true) = (names.pop(), names.is_empty()) else { return Err(wrong()) };
        let namespace = if served.kind.is_namespaced() { context.namespace().to_owned() } else { String::new() };
        Ok(Self { served, namespace, name })
    }

    /// `app.appm.dev/web`
    pub(super) fn qualified(&self) -> String {
        qualified(self.served, &self.name)
    }

    pub(super) fn path(&self) -> String {
        served_path(self.served, Some(&self.namespace), Some(&self.name))
    }

    /// The object as it is; `None` if it is not there.
    pub(super) async fn live(&self, context: &Context) -> Result<Option<Value>, CliError> {
        there(context.client.call(Request::get(self.path())).await.map(|answer| answer.json()))
    }

    /// The object as it was at a revision; `None` if there was none.
    pub(super) async fn at(&self, context: &Context, revision: Rev) -> Result<Option<Value>, CliError> {
        self.asked(context, &format!("?atRevision={revision}")).await
    }

    /// The object as it was, by query parameters; `None` if there was none.
    pub(super) async fn asked(&self, context: &Context, query: &str) -> Result<Option<Value>, CliError> {
        there(context.client.call(Request::get(self.path() + query)).await.map(|answer| answer.json()))
    }

    /// Versions, newest first: at most `limit` before a revision.
    ///
    /// # Errors
    /// When nothing is known of it, with the name that was meant.
    pub(super) async fn history(&self, context: &Context, below: &str, limit: usize) -> Result<History, CliError> {
        let mut options = vec![("limit", limit.to_string())];
        options.extend((!below.is_empty()).then(|| ("continue", below.to_owned())));
        match context.client.call(Request::get(self.path() + "/history" + &query_string(&options))).await {
            Ok(answer) => {
                let told = answer.json()?;
                serde_json::from_value(told).map_err(|e| CliError::failed(format!("the history cannot be read: {e}")))
            }
            Err(RequestError::Refused(status)) if status.is(Reason::NotFound) => {
                let mut error = context.absent(self.served, &self.namespace, &self.name).await;
                error.message += ", and nothing is remembered of one";
                Err(error)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The revision that a word names: a number, or a pin.
    pub(super) async fn named(&self, context: &Context, word: &str) -> Result<Rev, CliError> {
        if let Some(revision) = Rev::parse(word) {
            return Ok(revision);
        }
        let mut below = String::new();
        let mut pins: Vec<String> = Vec::new();
        loop {
            let page = self.history(context, &below, 500).await?;
            for version in &page.items {
                if version.pins.iter().any(|pin| pin == word) {
                    return Ok(revision_of(version));
                }
                pins.extend(version.pins.iter().cloned());
            }
            below = page.metadata.next;
            if below.is_empty() {
                break;
            }
        }
        let error = CliError::new(Exit::NotFound, format!("{} has no pin `{word}`", self.qualified()));
        let known = if pins.is_empty() {
            format!("`appm history pin {} --name {word}` keeps the version that stands", short(self))
        } else {
            format!("there are {}", pins.join(", "))
        };
        Err(error.help(known).maybe_help(did_you_mean(word, pins.iter().map(String::as_str))))
    }
}

/// `app/web`
pub(super) fn short(one: &One) -> String {
    format!("{}/{}", one.served.singular(), one.name)
}

fn there<E: Into<CliError>>(answer: Result<Result<Value, E>, RequestError>) -> Result<Option<Value>, CliError> {
    match answer {
        Ok(object) => object.map(Some).map_err(Into::into),
        Err(RequestError::Refused(status)) if status.is(Reason::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The revision of a version.
pub(super) fn revision_of(version: &Version) -> Rev {
    Rev::parse(&version.revision).unwrap_or_default()
}

/// A refusal of a change that was to bring the past back.
pub(super) fn refused(status: Status) -> CliError {
    let mut error = CliError::from(status);
    error.message += "; nothing was changed";
    error
}

/// What a version is: `created`, `changed spec.replicas 2 → 3 and 1 more field`.
pub(super) fn told(version: &Version) -> String {
    match version.change {
        VersionChange::Created => "created".to_owned(),
        VersionChange::Recreated => "created anew".to_owned(),
        VersionChange::Deleting => "asked to go".to_owned(),
        VersionChange::Deleted => "deleted".to_owned(),
        VersionChange::Kept => "stood so when the history begins".to_owned(),
        VersionChange::Changed => match (version.fields.first(), version.changed_fields) {
            (None, _) => "changed who owns which fields".to_owned(),
            (Some(field), 1) => format!("changed {}", field_text(field)),
            (Some(field), 2) => format!("changed {} and 1 more field", field_text(field)),
            (Some(field), n) => format!("changed {} and {} more fields", field_text(field), n - 1),
        },
    }
}

/// `spec.replicas 2 → 3`
pub(super) fn field_text(field: &FieldChange) -> String {
    if field.secret {
        return format!("{} (not shown)", field.path);
    }
    match (&field.old, &field.new) {
        (None, Some(new)) => format!("{} = {}", field.path, value_text(new)),
        (Some(old), Some(new)) => format!("{} {} → {}", field.path, value_text(old), value_text(new)),
        (_, None) => format!("{} removed", field.path),
    }
}

fn value_text(value: &Value) -> String {
    let text = match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        value => value.to_string(),
    };
    let short: String = text.chars().take(SHOWN).collect();
    screen::harmless(&if short.len() < text.len() { short + "…" } else { text })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_in_a_line() {
        let field = |path: &str, old, new| FieldChange { path: path.to_owned(), old, new, secret: false };
        for (field, expected) in [
            (field("spec.replicas", Some(json!(2)), Some(json!(3))), "spec.replicas 2 → 3"),
            (field("spec.suspend", None, Some(json!(true))), "spec.suspend = true"),
            (field("metadata.labels.tier", Some(json!("front")), None), "metadata.labels.tier removed"),
            (field("spec.text", Some(json!("a b")), Some(json!(""))), r#"spec.text "a b" → """#),
            (FieldChange { secret: true, ..field("data.key", None, None) }, "data.key (not shown)"),
        ] {
            assert_eq!(field_text(&field), expected);
        }
    }
}
