//! `appm rollout status`: how far a change is, until it has arrived or failed.

use clap::Args;
use futures::TryStreamExt;

use crate::{
    api::{App, Condition, GoDuration, Object, RESTARTED_AT},
    cli::{
        choice::AppChoice,
        context::{Context, Selection, Where, name_of, namespace_of, served},
        error::{CliError, Exit},
        follow,
        resources::qualified,
        screen,
    },
};

/// Show how a change of Apps goes, until it has arrived or failed
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm apply -f web.yaml && appm rollout status web --timeout=2m
  appm rollout status web --watch=false      how it is now

The exit code is 0 when every instance is of the present template, available, and restarted if that was asked for; 1 when the rollout failed (it exceeded
spec.progressDeadlineSeconds, was rolled back, keeps crashing, or the App is stopped), and 124 when --timeout runs out.")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    choice: AppChoice,
    /// Go on until the end
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    watch: bool,
    /// How long to wait; 0: as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "0")]
    timeout: GoDuration,
}

/// How a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Arrived(String),
    OnItsWay(String),
    Failed(String),
}

pub(super) async fn run(args: StatusArgs, context: &Context) -> Result<(), CliError> {
    let all = async {
        for app in args.choice.apps(context).await? {
            follow_one(&args, context, &name_of(&app), &namespace_of(&app)).await?;
        }
        Ok(())
    };
    if args.timeout.0.is_zero() {
        return all.await;
    }
    match tokio::time::timeout(args.timeout.0, all).await {
        Ok(done) => done,
        Err(_) => Err(CliError::new(Exit::Timeout, format!("not rolled out after {}", args.timeout))),
    }
}

async fn follow_one(args: &StatusArgs, context: &Context, name: &str, namespace: &str) -> Result<(), CliError> {
    let place = Where::Namespace(namespace);
    let only = Selection::by_fields(format!("metadata.name={name}"));
    let (revision, items) = context.list(served::<App>(), place, &only).await?;
    let Some(app) = items.first() else { return Err(context.absent(served::<App>(), namespace, name).await) };
    let mut said = String::new();
    if let Some(end) = say(judge(&super::typed(app)?), &mut said)? {
        return end;
    }
    if !args.watch {
        return Ok(());
    }
    let start = follow::Start::of_list(revision, &items);
    let changes = follow::changes(context, served::<App>(), place, only, start, "application/json");
    futures::pin_mut!(changes);
    while let Some((change, app)) = changes.try_next().await? {
        if change == "DELETED" {
            let message = format!("{} was deleted meanwhile", qualified(served::<App>(), name));
            return Err(CliError::new(Exit::NotFound, message));
        }
        if let Some(end) = say(judge(&super::typed(&app)?), &mut said)? {
            return end;
        }
    }
    Err(CliError::failed("the server ended the watch"))
}

/// Prints what is new; gives the end, if this is one.
fn say(verdict: Verdict, said: &mut String) -> Result<Option<Result<(), CliError>>, CliError> {
    match verdict {
        Verdict::Failed(message) => Ok(Some(Err(CliError::failed(screen::harmless(&message))))),
        Verdict::Arrived(message) => {
            screen::line(screen::harmless(&message))?;
            Ok(Some(Ok(())))
        }
        Verdict::OnItsWay(message) => {
            if *said != message {
                screen::line(screen::harmless(&message))?;
            }
            *said = message;
            Ok(None)
        }
    }
}

/// Kubernetes' words, as far as it has them.
fn judge(app: &Object<App>) -> Verdict {
    let (spec, status) = (&app.spec, &app.status);
    let name = qualified(served::<App>(), &app.metadata.name);
    let condition = |kind: &str| Condition::find(&status.conditions, kind);
    let reason = |kind: &str| condition(kind).map_or("", |c| c.reason.as_str());
    let message = |kind: &str| condition(kind).map_or("", |c| c.message.as_str());
    if status.observed_generation < app.metadata.generation {
        return Verdict::OnItsWay(format!("Waiting for {name}: its spec has yet to be observed"));
    }
    if let Some(told) = condition("RolledBack") {
        return Verdict::Failed(format!("{name} was rolled back: {}", told.message));
    }
    match reason("Progressing") {
        "ProgressDeadlineExceeded" => {
            let worst = message("Ready");
            return Verdict::Failed(format!("{name} exceeded its progress deadline: {worst}"));
        }
        "RolledBack" => return Verdict::Failed(format!("{name} is not rolled out: {}", message("Progressing"))),
        "CrashLooping" => return Verdict::Failed(format!("{name} keeps crashing: {}", message("Ready"))),
        _ if spec.suspend => return Verdict::Failed(format!("{name} is stopped")),
        "Paused" => return Verdict::OnItsWay(format!("Waiting for {name}: it is paused")),
        _ => {}
    }
    let (wanted, updated) = (spec.replicas, status.updated_replicas);
    if updated < wanted {
        return Verdict::OnItsWay(format!("Waiting for {name}: {updated} of {wanted} new instances are there"));
    }
    let old = status.replicas - updated;
    if old > 0 {
        return Verdict::OnItsWay(format!("Waiting for {name}: {old} old instances are there"));
    }
    let available = status.available_replicas;
    if available < updated && reason("Ready") != "Completed" {
        return Verdict::OnItsWay(format!("Waiting for {name}: {available} of {updated} new instances are available"));
    }
    let asked = app.metadata.annotations.get(RESTARTED_AT).unwrap_or_default();
    if !asked.is_empty() && status.restarted_at != asked {
        return Verdict::OnItsWay(format!("Waiting for {name}: its instances are restarted one after another"));
    }
    Verdict::Arrived(format!("{name} successfully rolled out"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(spec: Value, status: Value) -> Verdict {
        let mut spec = spec;
        spec["process"] = json!({"command": ["a"]});
        let app = json!({
            "apiVersion": "appm.dev/v1", "kind": "App",
            "metadata": {"name": "web", "generation": 2}, "spec": spec, "status": status,
        });
        judge(&serde_json::from_value(app).expect("an app"))
    }

    #[test]
    fn rollouts_are_judged_by_their_numbers_and_conditions() {
        let status = |updated: i32, there: i32, available: i32, progressing: &str| {
            json!({
                "observedGeneration": 2, "updatedReplicas": updated, "replicas": there, "availableReplicas": available,
                "conditions": [{"type": "Progressing", "status": "True", "reason": progressing,
                    "lastTransitionTime": "2026-11-21T08:00:00Z"}],
            })
        };
        let verdict = |spec: Value, status: Value| match judged(spec, status) {
            Verdict::Arrived(text) => format!("arrived: {text}"),
            Verdict::OnItsWay(text) => text,
            Verdict::Failed(text) => format!("failed: {text}"),
        };
        let of = |text: &str| format!("Waiting for app.appm.dev/web: {text}");
        let two = || json!({"replicas": 2});
        for (seen, expected) in [
            (json!({"observedGeneration": 1}), of("its spec has yet to be observed")),
            (status(1, 3, 2, "Updating"), of("1 of 2 new instances are there")),
            (status(2, 3, 2, "Updating"), of("1 old instances are there")),
            (status(2, 2, 1, "Updating"), of("1 of 2 new instances are available")),
            (status(0, 2, 2, "Paused"), of("it is paused")),
            (status(2, 2, 2, "RevisionAvailable"), "arrived: app.appm.dev/web successfully rolled out".to_owned()),
            (
                status(1, 3, 2, "ProgressDeadlineExceeded"),
                "failed: app.appm.dev/web exceeded its progress deadline: ".to_owned(),
            ),
        ] {
            assert_eq!(verdict(two(), seen.clone()), expected, "{seen}");
        }
        assert!(matches!(judged(json!({"suspend": true}), status(1, 1, 0, "Updating")), Verdict::Failed(_)));
    }
}
