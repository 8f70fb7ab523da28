//! `appm label` and `appm annotate`: sets and removes entries of `metadata.labels` and `metadata.annotations`.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    change::{self, Objects, WriteArgs},
    context::Context,
    error::{CliError, Exit},
    screen,
};

/// Which of the two maps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    field: &'static str,
    one: &'static str,
    done: &'static str,
}

pub(super) const LABELS: Entries = Entries { field: "labels", one: "label", done: "labeled" };
pub(super) const ANNOTATIONS: Entries = Entries { field: "annotations", one: "annotation", done: "annotated" };

/// What both commands are given.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples (`annotate` works alike):
  appm label app web tier=front team=a
  appm label app web tier-                       removes it
  appm label app/web app/db tier=back --overwrite
  appm label apps --all team=a
  appm label app web --list

An entry that has another value already is left alone unless --overwrite is given.")]
pub(super) struct LabelArgs {
    /// Objects (`app web`, `app/web`, `apps` with -l or --all), then KEY=VALUE to set, KEY- to remove
    #[arg(value_name = "RESOURCE… KEY=VALUE", add = super::complete::resources())]
    words: Vec<String>,
    #[command(flatten)]
    objects: Objects,
    /// Replace values that are there
    #[arg(long)]
    overwrite: bool,
    /// Show what is there
    #[arg(long)]
    list: bool,
    /// Only if the object is still at this resourceVersion
    #[arg(long, value_name = "REVISION")]
    resource_version: Option<String>,
    #[command(flatten)]
    write: WriteArgs,
}

impl LabelArgs {
    /// What stands behind `-l`, and bare words.
    pub(super) fn named(&self) -> Vec<&str> {
        let chosen = self.objects.selection.selector.iter().flat_map(|some| some.split(','));
        self.words.iter().map(String::as_str).chain(chosen).collect()
    }
}

/// Keys, and their values; none: to be removed.
type Changes = Vec<(String, Option<String>)>;

pub(super) async fn run(args: LabelArgs, context: &Context, entries: Entries) -> Result<(), CliError> {
    let (words, changes) = split(&args.words)?;
    if changes.is_empty() && !args.list {
        let error = CliError::usage(format!("which {}?", entries.one));
        return Err(error.help("write KEY=VALUE to set one, KEY- to remove one, or --list to see them"));
    }
    for mut found in args.objects.find(words, context).await? {
        if let Some(wanted) = &args.resource_version
            && found.object["metadata"]["resourceVersion"] != wanted.as_str()
        {
            let message = format!("{} is not at resourceVersion {wanted} any more", found.qualified());
            return Err(CliError::new(Exit::Conflict, message));
        }
        let name = found.qualified();
        let patch = |object: &Value| {
            let there = &object["metadata"][entries.field];
            patch(there, &changes, args.overwrite)
                .map_err(|(key, value)| {
                    let message = format!("{name} has {} `{key}` with another value: `{value}`", entries.one);
                    CliError::new(Exit::Conflict, message).help("--overwrite replaces it")
                })
                .map(|patch| if patch.is_empty() { json!({}) } else { json!({"metadata": {entries.field: patch}}) })
        };
        let now =
            if changes.is_empty() { None } else { change::modify(context, &mut found, &args.write, patch).await? };
        if args.list {
            let shown = now.as_ref().unwrap_or(&found.object);
            for (key, value) in shown["metadata"][entries.field].as_object().into_iter().flatten() {
                screen::line(screen::harmless(&format!("{key}={}", value.as_str().unwrap_or_default())))?;
            }
            continue;
        }
        match now {
            Some(now) => args.write.told(&found, entries.done, now)?,
            None => args.write.told(&found, &format!("not {} (no change)", entries.done), found.object.clone())?,
        }
    }
    Ok(())
}

/// Objects first, then changes: names hold no equals sign and do not end in a hyphen.
fn split(words: &[String]) -> Result<(&[String], Changes), CliError> {
    let is_change = |word: &String| word.contains('=') || word.ends_with('-');
    let (objects, rest) = words.split_at(words.iter().position(is_change).unwrap_or(words.len()));
    let read = |word: &String| match (word.split_once('='), word.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => Ok((key.to_owned(), Some(value.to_owned()))),
        (None, Some(key)) if !key.is_empty() => Ok((key.to_owned(), None)),
        _ => Err(CliError::usage(format!("`{word}` is neither KEY=VALUE nor KEY-"))),
    };
    let changes: Changes = rest.iter().map(read).collect::<Result<_, _>>()?;
    for (index, (key, _)) in changes.iter().enumerate() {
        if changes[..index].iter().any(|(other, _)| other == key) {
            return Err(CliError::usage(format!("`{key}` is there twice")));
        }
    }
    Ok((objects, changes))
}

/// What has to change.
///
/// # Errors
/// With the key and the value that are in the way.
fn patch(there: &Value, changes: &Changes, overwrite: bool) -> Result<Map<String, Value>, (String, String)> {
    let mut patch = Map::new();
    for (key, wanted) in changes {
        match (there[key].as_str(), wanted) {
            (Some(now), Some(wanted)) if now == wanted => {}
            (Some(now), Some(_)) if !overwrite => return Err((key.clone(), now.to_owned())),
            (None, None) => {}
            (_, wanted) => {
                patch.insert(key.clone(), json!(wanted));
            }
        }
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_objects_and_then_changes() {
        let read = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            split(&words).map(|(objects, changes)| (objects.join(" "), changes)).map_err(|e| e.message)
        };
        let set = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(read("app web a=b c/d="), Ok(("app web".to_owned(), vec![set("a", "b"), set("c/d", "")])));
        assert_eq!(read("app/web a-"), Ok(("app/web".to_owned(), vec![("a".to_owned(), None)])));
        assert_eq!(read("app/web x=y-"), Ok(("app/web".to_owned(), vec![set("x", "y-")])));
        assert_eq!(read("app web a=b db"), Err("`db` is neither KEY=VALUE nor KEY-".to_owned()));
        assert_eq!(read("app web a=b a-"), Err("`a` is there twice".to_owned()));
    }

    #[test]
    fn only_what_differs_is_changed_and_nothing_is_overwritten_by_accident() {
        let there = json!({"a": "1", "b": "2"});
        let changes = |text: &str| split(&[text.to_owned()]).expect(text).1;
        let patched = |text, overwrite| patch(&there, &changes(text), overwrite).map(Value::Object);
        assert_eq!(patched("a=1", false), Ok(json!({})));
        assert_eq!(patched("a=3", false), Err(("a".to_owned(), "1".to_owned())));
        assert_eq!(patched("a=3", true), Ok(json!({"a": "3"})));
        assert_eq!(patched("b-", false), Ok(json!({"b": null})));
        assert_eq!(patched("c-", false), Ok(json!({})));
    }
}
