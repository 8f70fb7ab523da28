//! `appm diff`: what `apply` would change, as a unified diff of the objects before and after.
//!
//! The server says what would be, by a dry run of the very transaction that `apply` would send.

use clap::Args;
use serde_json::Value;
use similar::TextDiff;

use super::{
    apply::{self, DeclaredArgs},
    context::Context,
    error::{CliError, Exit},
    output::yaml,
    resources::qualified,
    screen::{self, Screen},
};

/// Show what apply would change
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm diff -f manifests/ -R
  generate | appm diff -f -

The exit code is 0 if nothing would change and 1 if something would; all others are failures: 2 stands
for those that have 1 elsewhere. Values of Secrets are not shown.")]
pub(super) struct DiffArgs {
    #[command(flatten)]
    declared: DeclaredArgs,
}

pub(super) async fn run(args: DiffArgs, context: &Context) -> Result<(), CliError> {
    match differs(args, context).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(CliError::silent(Exit::Failed)),
        Err(error) if error.exit == Exit::Failed => Err(CliError { exit: Exit::Usage, ..error }),
        Err(error) => Err(error),
    }
}

async fn differs(args: DiffArgs, context: &Context) -> Result<bool, CliError> {
    let (manifests, mut options) = args.declared.read(context)?;
    options.dry_run = true;
    let results = apply::apply(context, &manifests, &options).await?;
    let mut differs = false;
    for (declared, result) in manifests.objects.iter().zip(results) {
        let there = context.get(declared.served, &declared.namespace, &declared.name).await;
        let before = match there {
            Ok(object) => Some(object),
            Err(error) if error.exit == Exit::NotFound => None,
            Err(error) => return Err(error),
        };
        let name = match declared.namespace.as_str() {
            "" => qualified(declared.served, &declared.name),
            namespace => format!("{} in {namespace}", qualified(declared.served, &declared.name)),
        };
        let text = difference(&name, before, result.object, &context.screen);
        differs |= !text.is_empty();
        screen::print(text)?;
    }
    Ok(differs)
}

/// A unified diff of what is and what is declared; empty if there is no difference.
fn difference(name: &str, before: Option<Value>, after: Value, screen: &Screen) -> String {
    between([&format!("{name} (live)"), &format!("{name} (declared)")], before, after, screen)
}

/// A unified diff under these titles; empty if there is no difference.
pub(super) fn between(titles: [&str; 2], before: Option<Value>, mut after: Value, screen: &Screen) -> String {
    let fresh = before.is_none();
    let mut before = before.unwrap_or_default();
    mask(&mut before, &mut after);
    let shown = |object: Value| if object.is_null() { String::new() } else { yaml(&without_noise(object)) };
    let (before, after) = (shown(before), shown(after));
    let old = if fresh { "/dev/null" } else { titles[0] };
    let diff = TextDiff::from_lines(&before, &after);
    let text = diff.unified_diff().header(old, titles[1]).to_string();
    let paint = |line: &str| {
        let style = match line.as_bytes().first() {
            _ if line.starts_with("---") || line.starts_with("+++") => screen::BOLD,
            Some(b'+') => screen::GOOD,
            Some(b'-') => screen::BAD,
            Some(b'@') => screen::DIM,
            _ => anstyle::Style::new(),
        };
        screen.paint(style, &screen::harmless(line)) + "\n"
    };
    text.lines().map(paint).collect()
}

/// What the server keeps for itself is no part of what was declared.
fn without_noise(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"] {
            metadata.shift_remove(field);
        }
    }
    object
}

/// Of a Secret's values only is shown whether they are the same.
fn mask(before: &mut Value, after: &mut Value) {
    if after["kind"] != "Secret" {
        return;
    }
    for field in ["data", "stringData"] {
        let old = before.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        let new = after.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
        for (object, own, other, which) in
            [(before as &mut Value, &old, &new, "before"), (after as &mut Value, &new, &old, "after")]
        {
            for (key, value) in own {
                let changed = other.get(key).is_some_and(|other| other != value);
                object[field][key] = if changed { format!("*** ({which})").into() } else { "***".into() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_and_creations_are_shown_and_what_the_server_keeps_is_not() {
        let before = json!({"kind": "App", "metadata": {"name": "web", "generation": 1, "managedFields": []}, "spec": {"replicas": 1}});
        let after = json!({"kind": "App", "metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 2}});
        insta::assert_snapshot!(difference("app/web", Some(before), after.clone(), &Screen::plain()), @r"
        --- app/web (live)
        +++ app/web (declared)
        @@ -2,4 +2,4 @@
         metadata:
           name: web
         spec:
        -  replicas: 1
        +  replicas: 2
        ");
        assert_eq!(difference("app/web", Some(after.clone()), after.clone(), &Screen::plain()), "");
        assert!(difference("app/web", None, after, &Screen::plain()).starts_with("--- /dev/null\n+++ app/web"));
    }

    #[test]
    fn values_of_secrets_are_not_shown() {
        let before = json!({"kind": "Secret", "data": {"same": "cw==", "other": "b25l", "gone": "Zw=="}});
        let after = json!({"kind": "Secret", "data": {"same": "cw==", "other": "dHdv", "fresh": "Zg=="}});
        let text = difference("secret/s", Some(before), after, &Screen::plain());
        for value in ["cw==", "b25l", "dHdv", "Zg=="] {
            assert!(!text.contains(value), "{text}");
        }
        assert!(
            text.contains("-  other: '*** (before)'")
                || text.contains("-  other: \"*** (before)\"")
                || text.contains("-  other: *** (before)"),
            "{text}"
        );
    }
}
