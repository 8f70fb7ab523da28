//! What `patch`, `label`, `annotate` and `edit` have in common: which objects, and how one of them is changed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    api::{Reason, Served},
    client::http::{Request, RequestError, query_string, served_path},
};

use super::{
    context::{Context, Selection, name_of, namespace_of},
    error::{CliError, Exit},
    manifests,
    output::{self, Format, OutputArgs, without_managed_fields},
    resources::{self, Target, qualified},
    screen,
};

/// Who the command line is where it changes single fields.
pub(super) const MANAGER: &str = "appm-cli";

/// Objects by name, by manifest, by label, or all.
#[derive(Args, Debug)]
pub(super) struct Objects {
    /// What these manifests declare; may be given several times
    #[arg(short, long, value_name = "PATH", num_args = 1..)]
    pub(super) filename: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Every object of the resource in the namespace
    #[arg(long)]
    pub(super) all: bool,
}

/// An object as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) served: Served,
    pub(super) object: Value,
}

impl Found {
    pub(super) fn path(&self) -> String {
        served_path(self.served, Some(&namespace_of(&self.object)), Some(&name_of(&self.object)))
    }

    /// `app.appm.dev/web`
    pub(super) fn qualified(&self) -> String {
        qualified(self.served, &name_of(&self.object))
    }
}

impl Objects {
    /// True if the objects are not chosen by words.
    pub(super) fn by_manifest(&self) -> bool {
        !self.filename.is_empty()
    }

    /// The objects that the words, or the flags, choose.
    ///
    /// # Errors
    /// When none is chosen, or one that is named is not there.
    pub(super) async fn find(&self, words: &[String], context: &Context) -> Result<Vec<Found>, CliError> {
        if words.is_empty() != self.by_manifest() {
            let error = CliError::usage("which objects?");
            return Err(error.help("name them, `app/web` or `app web` say, or give manifests by -f"));
        }
        let mut found = Vec::new();
        if self.by_manifest() {
            let manifests = manifests::read(&self.filename, self.recursive, context.global.namespace.as_deref())?;
            for declared in manifests.sound(context, "nothing was changed")?.objects {
                let object = context.get(declared.served, &declared.namespace, &declared.name).await?;
                found.push(Found { served: declared.served, object });
            }
            return Ok(found);
        }
        let listed = self.all || !self.selection.is_empty();
        for Target { served, names } in resources::targets(words)? {
            if names.is_empty() != listed {
                let error = CliError::usage(format!("which {}?", served.plural()));
                return Err(error.help("name them, or choose by -l or --all"));
            }
            if listed {
                let objects = context.list(served, context.place(false), &self.selection).await?.1;
                found.extend(objects.into_iter().map(|mut object| {
                    // Members of lists do not say what they are.
                    object["apiVersion"] = json!(served.api_version());
                    object["kind"] = json!(served.name());
                    Found { served, object }
                }));
            }
            for name in names {
                found.push(Found { served, object: context.get(served, context.namespace(), &name).await? });
            }
        }
        Ok(found)
    }
}

/// `--dry-run` of commands that change one object at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DryRun {
    /// Do it.
    #[default]
    None,
    /// Let the server check everything, and store nothing.
    #[value(alias = "client")]
    Server,
}

/// How a change is written and told.
#[derive(Args, Debug)]
pub(super) struct WriteArgs {
    /// server: check everything, store nothing
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "server", hide_default_value = true, hide_possible_values = true)]
    pub(super) dry_run: DryRun,
    /// Whose fields these are then
    #[arg(long, value_name = "NAME", default_value = MANAGER, hide_default_value = true)]
    pub(super) field_manager: String,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl WriteArgs {
    /// Query parameters.
    pub(super) fn query(&self) -> String {
        let mut query = vec![("fieldManager", self.field_manager.clone())];
        query.extend((self.dry_run == DryRun::Server).then(|| ("dryRun", "All".to_owned())));
        query_string(&query)
    }

    /// Says what was done to an object: in a line, or by showing it.
    pub(super) fn told(&self, found: &Found, word: &str, now: Value) -> Result<(), CliError> {
        let dry = if self.dry_run == DryRun::Server { " (dry run)" } else { "" };
        match &self.output.output {
            Format::Table | Format::Wide => Ok(screen::line(format_args!("{} {word}{dry}", found.qualified()))?),
            format => output::objects(format, vec![without_managed_fields(now)], false),
        }
    }
}

/// How often a change is made anew when somebody else was faster.
const TRIES: usize = 50;

/// Changes an object by a merge patch that depends on what it is now; an empty patch changes nothing.
/// Gives the object as it is then.
pub(super) async fn modify(
    context: &Context,
    found: &mut Found,
    write: &WriteArgs,
    patch: impl Fn(&Value) -> Result<Value, CliError>,
) -> Result<Option<Value>, CliError> {
    let path = found.path();
    for attempt in 1.. {
        let mut change = patch(&found.object)?;
        if change.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(None);
        }
        if !change["metadata"].is_object() {
            change["metadata"] = json!({});
        }
        change["metadata"]["resourceVersion"] = found.object["metadata"]["resourceVersion"].clone();
        match context.client.call(Request::merge_patch(path.clone() + &write.query(), &change)).await {
            Ok(answer) => return Ok(Some(context.heard(answer).json()?)),
            Err(RequestError::Refused(status)) if status.is(Reason::Conflict) && attempt < TRIES => {
                found.object = context.get(found.served, &namespace_of(&found.object), &name_of(&found.object)).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(CliError::new(Exit::Conflict, format!("{} is changed by somebody all the time", found.qualified())))
}

/// The merge patch that makes `new` of `old`; none if they are equal.
pub(super) fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (old, new) if old == new => None,
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = new.iter().filter_map(|(key, value)| match old.get(key) {
                None => Some((key.clone(), value.clone())),
                Some(before) => merge_patch(before, value).map(|patch| (key.clone(), patch)),
            });
            Some(gone.chain(changed).collect())
        }
        (_, new) => Some(new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_holds_the_difference_and_nothing_else() {
        for (old, new, patch) in [
            (json!({"a": 1}), json!({"a": 1}), None),
            (
                json!({"a": 1, "b": {"c": 1, "d": 2}}),
                json!({"a": 1, "b": {"c": 3}}),
                Some(json!({"b": {"d": null, "c": 3}})),
            ),
            (json!({"l": [1, 2]}), json!({"l": [1]}), Some(json!({"l": [1]}))),
            (json!({}), json!({"x": {"y": 1}}), Some(json!({"x": {"y": 1}}))),
            (json!({"x": 1}), json!({"x": {"y": 1}}), Some(json!({"x": {"y": 1}}))),
        ] {
            assert_eq!(merge_patch(&old, &new), patch, "{old} {new}");
        }
    }
}
