//! `appm wait`: returns when objects are as they should be.

use std::{collections::BTreeMap, str::FromStr};

use clap::Args;
use futures::{TryStreamExt, future::try_join_all};
use serde_json::Value;

use crate::api::{GoDuration, Served, Uid, at};

use super::{
    context::{Context, Selection, Where, name_of},
    error::{CliError, Exit},
    follow,
    jsonpath::{self, JsonPath},
    output::{self, Format, OutputArgs, without_managed_fields},
    resources::{self, Target, qualified},
    screen,
};

/// Wait until objects are as they should be
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm wait app/web --for=condition=Ready
  appm wait app web db --for=condition=Ready --timeout 2m
  appm wait apps --all --for=condition=Ready
  appm wait app/web --for=delete
  appm wait app/web --for=jsonpath='{.status.readyReplicas}'=3

The exit code is 124 when the time runs out.")]
pub(super) struct WaitArgs {
    /// `app web`, `app/web`, or `apps` with -l or --all
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    /// condition=TYPE[=STATUS] | delete | create | jsonpath=PATH=VALUE
    #[arg(long = "for", value_name = "WHAT")]
    what: Goal,
    /// How long to wait; 0: look once
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: GoDuration,
    #[command(flatten)]
    selection: Selection,
    /// Every object of the resource in the namespace
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    Condition { kind: String, status: String },
    Delete,
    Create,
    Path { path: JsonPath, wanted: Option<String> },
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(condition) = text.strip_prefix("condition=") {
            let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
            if kind.is_empty() {
                return Err("which condition?".to_owned());
            }
            return Ok(Goal::Condition { kind: kind.to_owned(), status: status.to_owned() });
        }
        if let Some(path) = text.strip_prefix("jsonpath=") {
            // The path itself may hold `==` in a filter, so the value is what follows the closing brace.
            let (path, wanted) = match path.rfind('}') {
                Some(end) => (&path[..=end], path[end + 1..].strip_prefix('=')),
                None => path.split_once('=').map_or((path, None), |(p, w)| (p, Some(w))),
            };
            return Ok(Goal::Path { path: path.parse()?, wanted: wanted.map(str::to_owned) });
        }
        match text {
            "delete" => Ok(Goal::Delete),
            "create" => Ok(Goal::Create),
            _ => Err("expected condition=TYPE[=STATUS], delete, create or jsonpath=PATH=VALUE".to_owned()),
        }
    }
}

impl Goal {
    /// Whether an object that is there is as it should be.
    fn reached(&self, object: &Value) -> bool {
        match self {
            Goal::Create => true,
            Goal::Delete => false,
            Goal::Path { path, wanted } => match wanted {
                Some(wanted) => path.find(object).into_iter().any(|found| jsonpath::plain(found) == *wanted),
                None => !path.find(object).is_empty(),
            },
            Goal::Condition { kind, status } => {
                let conditions = at(object, &["status", "conditions"]).as_array().map_or(&[][..], Vec::as_slice);
                let holds = |c: &&Value| c["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind));
                conditions.iter().find(holds).is_some_and(|condition| {
                    let judged = condition["observedGeneration"].as_i64();
                    let judged = judged.or(at(object, &["status", "observedGeneration"]).as_i64());
                    let current = at(object, &["metadata", "generation"]).as_i64().unwrap_or(0);
                    condition["status"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(status))
                        && judged.is_none_or(|judged| judged >= current)
                })
            }
        }
    }

    /// What stands in the way, for whoever waited in vain.
    fn state_of(&self, object: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match self {
            Goal::Create => "is not there".to_owned(),
            Goal::Delete if object["metadata"]["deletionTimestamp"].is_null() => {
                "is there, and nobody deletes it".to_owned()
            }
            Goal::Delete => {
                let held = &object["metadata"]["finalizers"];
                let held = held.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
                if held.is_empty() { "is going".to_owned() } else { format!("is going, and held by {held}") }
            }
            Goal::Path { path, .. } => {
                let found: Vec<String> = path.find(object).into_iter().map(jsonpath::plain).collect();
                if found.is_empty() { "has nothing there".to_owned() } else { format!("has {}", found.join(" ")) }
            }
            Goal::Condition { kind, .. } => {
                let conditions = at(object, &["status", "conditions"]).as_array().map_or(&[][..], Vec::as_slice);
                let named = |c: &&Value| c["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(kind));
                match conditions.iter().find(named) {
                    None => format!("has no condition {kind}"),
                    Some(c) => {
                        format!("has {kind}={} ({}): {}", text(&c["status"]), text(&c["reason"]), text(&c["message"]))
                    }
                }
            }
        }
    }

    fn done_word(&self) -> &'static str {
        match self {
            Goal::Delete => "gone",
            Goal::Create => "there",
            Goal::Condition { .. } | Goal::Path { .. } => "condition met",
        }
    }
}

pub(super) async fn run(args: WaitArgs, context: &Context) -> Result<(), CliError> {
    let mut waits = Vec::new();
    let mut awaited = Vec::new();
    for Target { served, mut names } in resources::targets(&args.words)? {
        let listed = args.all || !args.selection.is_empty();
        if names.is_empty() && !listed {
            let error = CliError::usage(format!("which {}?", served.plural()));
            return Err(error.help("name them, or choose by -l or --all"));
        }
        if listed {
            names = context.list(served, context.place(false), &args.selection).await?.1.iter().map(name_of).collect();
        }
        awaited.extend(names.iter().map(|name| (served, name.clone())));
        waits.extend(names.into_iter().map(|name| until(context, served, name, &args)));
    }
    let limit = args.timeout.0.max(std::time::Duration::from_millis(1));
    // Looking once takes a round trip, however short the wait.
    let limit = if args.timeout.0.is_zero() { std::time::Duration::from_secs(10) } else { limit };
    match tokio::time::timeout(limit, try_join_all(waits)).await {
        Ok(done) => done.map(|_| ()),
        Err(_) => {
            let mut error = CliError::new(Exit::Timeout, format!("not so after {}", args.timeout));
            for (served, name) in awaited {
                if let Ok(object) = context.get(served, context.namespace(), &name).await
                    && !args.what.reached(&object)
                {
                    let line = format!("  {} {}", qualified(served, &name), args.what.state_of(&object));
                    error.details.push(screen::harmless(&line));
                }
            }
            Err(error)
        }
    }
}

async fn until(context: &Context, served: Served, name: String, args: &WaitArgs) -> Result<(), CliError> {
    let object = reach(context, served, &name, &args.what, args.timeout.0.is_zero()).await?;
    match (&args.output.output, object) {
        (Format::Table | Format::Wide, _) => {
            screen::line(format_args!("{} {}", qualified(served, &name), args.what.done_word()))?;
        }
        (format, Some(object)) => output::objects(format, vec![without_managed_fields(object)], false)?,
        (_, None) => {}
    }
    Ok(())
}

/// Waits for one object; gives it as it is then, if it is there.
async fn reach(
    context: &Context,
    served: Served,
    name: &str,
    goal: &Goal,
    once: bool,
) -> Result<Option<Value>, CliError> {
    let place = Where::Namespace(context.namespace());
    let only = Selection::by_fields(format!("metadata.name={name}"));
    let (revision, mut items) = context.list(served, place, &only).await?;
    let object = items.pop();
    match (&object, goal) {
        (None, Goal::Delete) => return Ok(None),
        (None, Goal::Create) => {}
        (None, _) => return Err(context.absent(served, context.namespace(), name).await),
        (Some(found), _) if goal.reached(found) => return Ok(object),
        (Some(_), _) => {}
    }
    if once {
        return Err(CliError::new(Exit::Timeout, format!("{} is not so", qualified(served, name))));
    }
    let start = follow::Start::of_list(revision, object.as_slice());
    let changes = follow::changes(context, served, place, only, start, "application/json");
    futures::pin_mut!(changes);
    while let Some((change, object)) = changes.try_next().await? {
        match (change.as_str(), goal) {
            ("DELETED", Goal::Delete) => return Ok(None),
            ("DELETED", Goal::Create) => {}
            ("DELETED", _) => {
                let message = format!("{} was deleted meanwhile", qualified(served, name));
                return Err(CliError::new(Exit::NotFound, message));
            }
            _ if goal.reached(&object) => return Ok(Some(object)),
            _ => {}
        }
    }
    Err(CliError::failed("the server ended the watch"))
}

/// Looks at an object as it is, and then whenever it changes, until `look` has an answer.
pub(super) async fn see<T>(
    context: &Context,
    served: Served,
    name: &str,
    mut look: impl FnMut(&Value) -> Option<T>,
) -> Result<T, CliError> {
    let place = Where::Namespace(context.namespace());
    let only = Selection::by_fields(format!("metadata.name={name}"));
    let (revision, items) = context.list(served, place, &only).await?;
    let Some(object) = items.first() else { return Err(context.absent(served, context.namespace(), name).await) };
    if let Some(answer) = look(object) {
        return Ok(answer);
    }
    let start = follow::Start::of_list(revision, &items);
    let changes = follow::changes(context, served, place, only, start, "application/json");
    futures::pin_mut!(changes);
    while let Some((change, object)) = changes.try_next().await? {
        if change == "DELETED" {
            let message = format!("{} was deleted meanwhile", qualified(served, name));
            return Err(CliError::new(Exit::NotFound, message));
        }
        if let Some(answer) = look(&object) {
            return Ok(answer);
        }
    }
    Err(CliError::failed("the server ended the watch"))
}

/// Returns when none of these objects is there any more; one of the same name that was made anew is another one.
pub(super) async fn until_gone(
    context: &Context,
    served: Served,
    namespace: &str,
    mut pending: BTreeMap<String, Uid>,
) -> Result<(), CliError> {
    let place = if namespace.is_empty() { Where::Everywhere } else { Where::Namespace(namespace) };
    let is = |uid: &Uid, object: &Value| object["metadata"]["uid"] == uid.as_str();
    let (revision, items) = context.list(served, place, &Selection::default()).await?;
    let there: BTreeMap<String, &Value> = items.iter().map(|i| (name_of(i), i)).collect();
    pending.retain(|name, uid| there.get(name).is_some_and(|object| is(uid, object)));
    if pending.is_empty() {
        return Ok(());
    }
    let start = follow::Start::of_list(revision, &items);
    let changes = follow::changes(context, served, place, Selection::default(), start, "application/json");
    futures::pin_mut!(changes);
    while let Some((change, object)) = changes.try_next().await? {
        let name = name_of(&object);
        let gone = |uid: &Uid| change == "DELETED" || !is(uid, &object);
        if pending.get(&name).is_some_and(gone) {
            pending.remove(&name);
        }
        if pending.is_empty() {
            return Ok(());
        }
    }
    Err(CliError::failed("the server ended the watch"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn goals_are_judged_as_kubectl_judges_them() {
        let object = json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": 2, "readyReplicas": 3, "conditions": [
                {"type": "Ready", "status": "True", "observedGeneration": 2},
                {"type": "Old", "status": "True", "observedGeneration": 1},
                {"type": "Plain", "status": "False"},
            ]},
        });
        for (goal, reached) in [
            ("condition=Ready", true),
            ("condition=ready=true", true),
            ("condition=Ready=False", false),
            ("condition=Old", false),
            ("condition=Plain=False", true),
            ("condition=Absent", false),
            ("jsonpath={.status.readyReplicas}=3", true),
            ("jsonpath={.status.readyReplicas}=4", false),
            ("jsonpath=.status.readyReplicas=3", true),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("jsonpath={.status.readyReplicas}", true),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(goal.parse::<Goal>().expect(goal).reached(&object), reached, "{goal}");
        }
        assert!("ready".parse::<Goal>().is_err());
    }
}
