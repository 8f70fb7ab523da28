//! `appm schedule add`: declares a Schedule by flags; the same one that a manifest would declare, through the same apply.

use std::fs;

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::{
    add,
    command::{OnceArgs, seconds},
    complete,
    context::Context,
    error::CliError,
    output::OutputArgs,
};
use crate::api::{API_VERSION, GoDuration, cron::Cron, time_zone};

/// Declare a Schedule by flags
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm schedule add nightly --cron \"30 2 * * *\" --tz Europe/Berlin -c ./backup.sh
  appm schedule add poll --every 15m --app poller -- --once
  appm schedule add etl --cron @daily --workflow etl -i day=today
  appm schedule add tick --every 10s --task worker --payload tick
  appm schedule add party --at 2026-12-31T23:59:59 -c 'echo happy new year'
  appm schedule add nightly --cron @daily -c ./backup.sh --dry-run      write the manifest instead

Adding a Schedule that is there changes it to what the flags say. `appm cron explain EXPRESSION` says what one means.")]
pub(super) struct AddArgs {
    /// Its name
    name: String,
    /// When: minute, hour, day of the month, month, day of the week; six fields with seconds first; or @daily and its like
    #[arg(long, value_name = "EXPRESSION", required_unless_present_any = ["every", "at"], conflicts_with_all = ["every", "at"], value_parser = cron)]
    cron: Option<String>,
    /// When: at each multiple of this time, 15m say
    #[arg(long, value_name = "DURATION", conflicts_with = "at")]
    every: Option<GoDuration>,
    /// When: once, then; may be given several times
    #[arg(long, value_name = "TIME")]
    at: Vec<String>,
    /// By the clocks of this time zone, Europe/Berlin say [default: the server's]
    #[arg(long, visible_alias = "time-zone", value_name = "ZONE", value_parser = zone)]
    tz: Option<String>,
    /// What: this App's process or container, once more beside it
    #[arg(long, value_name = "APP", add = complete::apps(), conflicts_with_all = ["command", "image"])]
    app: Option<String>,
    #[command(flatten)]
    what: OnceArgs,
    /// What: this Workflow
    #[arg(long, value_name = "WORKFLOW", add = complete::workflows(), conflicts_with_all = ["app", "command", "image", "words"])]
    workflow: Option<String>,
    /// What the Workflow is told; may be given several times
    #[arg(short = 'i', long = "input", value_name = "NAME=VALUE", value_parser = add::pair)]
    inputs: Vec<(String, String)>,
    /// What: a task is sent into this App's running processes
    #[arg(long, value_name = "APP", add = complete::apps(), conflicts_with_all = ["app", "command", "image", "words", "workflow"])]
    task: Option<String>,
    /// What is sent: text, or @FILE
    #[arg(long, value_name = "DATA", allow_hyphen_values = true)]
    payload: Option<String>,
    /// Start up to so much later, always by the same share
    #[arg(long, value_name = "DURATION")]
    jitter: Option<GoDuration>,
    /// What happens when an earlier one goes on: Allow, Forbid or Replace
    #[arg(long, value_name = "POLICY", value_parser = ["Allow", "Forbid", "Replace"], ignore_case = true)]
    concurrency: Option<String>,
    /// A time that was missed starts at most so late [default: however late]
    #[arg(long, value_name = "DURATION")]
    deadline: Option<GoDuration>,
    /// Declare it paused
    #[arg(long)]
    suspend: bool,
    /// Show what would be declared; the server is not asked
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

fn cron(text: &str) -> Result<String, String> {
    text.parse::<Cron>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn zone(text: &str) -> Result<String, String> {
    time_zone(text).map(|_| text.to_owned())
}

pub(super) async fn run(args: &AddArgs, context: &Context) -> Result<(), CliError> {
    let manifest = manifest(args, context.global.namespace.as_deref())?;
    add::declare(&manifest, args.dry_run, &args.output.output, context).await
}

/// The Schedule that the flags declare; only what they say, so that defaults stay the server's.
fn manifest(args: &AddArgs, namespace: Option<&str>) -> Result<Value, CliError> {
    let mut metadata = json!({"name": args.name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let mut spec = Map::new();
    let mut set = |name: &str, value: Option<Value>| spec.extend(value.map(|value| (name.to_owned(), value)));
    set("cron", args.cron.as_ref().map(|cron| json!(cron)));
    set("every", args.every.as_ref().map(|interval| json!({"interval": interval})));
    set("at", (!args.at.is_empty()).then(|| json!(args.at)));
    set("timeZone", args.tz.as_ref().map(|zone| json!(zone)));
    set("jitter", args.jitter.as_ref().map(|jitter| json!(jitter)));
    set("suspend", args.suspend.then(|| json!(true)));
    let policies = ["Allow", "Forbid", "Replace"];
    let policy = args.concurrency.as_ref();
    let policy = policy.and_then(|word| policies.into_iter().find(|known| known.eq_ignore_ascii_case(word)));
    set("concurrencyPolicy", policy.map(|policy| json!(policy)));
    set("startingDeadlineSeconds", args.deadline.as_ref().map(|deadline| json!(seconds(deadline))));
    let (name, target) = target(args)?;
    set(name, Some(target));
    Ok(json!({"apiVersion": API_VERSION, "kind": "Schedule", "metadata": metadata, "spec": spec}))
}

/// What is done then.
fn target(args: &AddArgs) -> Result<(&'static str, Value), CliError> {
    // Not said to clap, which asks for no flag that another one excludes.
    if !args.inputs.is_empty() && args.workflow.is_none() {
        return Err(CliError::usage("--input goes with --workflow"));
    }
    if args.payload.is_some() && args.task.is_none() {
        return Err(CliError::usage("--payload goes with --task"));
    }
    let beside = "how it runs is said by itself, not by its schedule";
    if let Some(workflow) = &args.workflow {
        if args.what.says_how() || args.what.timeout.is_some() {
            return Err(CliError::usage(format!("a workflow: {beside}")));
        }
        let mut target = json!({"name": workflow.strip_prefix("workflow/").unwrap_or(workflow)});
        if !args.inputs.is_empty() {
            target["inputs"] = args.inputs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        }
        return Ok(("workflow", target));
    }
    if let Some(app) = &args.task {
        if args.what.says_how() {
            return Err(CliError::usage(format!("a task: {beside}")));
        }
        let mut target = json!({"app": app.strip_prefix("app/").unwrap_or(app)});
        if let Some(payload) = &args.payload {
            target["payload"] = json!(text(payload)?);
        }
        if let Some(timeout) = &args.what.timeout {
            target["timeout"] = json!(timeout);
        }
        return Ok(("task", target));
    }
    if args.app.is_none() && args.what.is_empty() {
        let error = CliError::usage("what is to be done?");
        return Err(error.help("give a command by -c or behind --, or --app, --image, --workflow or --task"));
    }
    Ok(("run", Value::Object(args.what.spec(args.app.as_deref())?)))
}

/// What is to be sent, which a manifest holds as text.
fn text(written: &str) -> Result<String, CliError> {
    match written.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).map_err(|e| CliError::io(&format!("cannot read {file} as text"), &e)),
        None => Ok(written.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::api::{Kind, Schedule};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AddArgs,
    }

    fn declared(words: &[&str]) -> String {
        let line = Line::try_parse_from(["add", "job"].iter().chain(words)).expect("a good command line");
        let manifest = manifest(&line.args, None).expect("a manifest");
        assert_eq!((Schedule::INFO.check)(&manifest, None), [], "{manifest}");
        manifest["spec"].to_string()
    }

    #[test]
    fn flags_become_the_schedule_that_a_person_would_write() {
        for (words, spec) in [
            (
                &["--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--concurrency", "forbid", "-c", "./backup.sh -v"][..],
                r#"{"cron":"30 2 * * *","timeZone":"Europe/Berlin","concurrencyPolicy":"Forbid","run":{"process":{"command":["./backup.sh","-v"]}}}"#,
            ),
            (
                &["--every", "15m", "--deadline", "90s", "--app", "poller", "--timeout", "1m", "--", "--once"],
                r#"{"every":{"interval":"15m"},"startingDeadlineSeconds":90,"run":{"app":"poller","args":["--once"],"activeDeadlineSeconds":60}}"#,
            ),
            (
                &["--at", "2026-12-24T18:00:00", "--at", "2026-12-31", "--image", "alpine", "-e", "A=b", "--", "true"],
                r#"{"at":["2026-12-24T18:00:00","2026-12-31"],"run":{"container":{"image":"alpine","args":["true"]},"env":[{"name":"A","value":"b"}]}}"#,
            ),
            (
                &["--cron", "@daily", "--workflow", "etl", "-i", "day=today", "--suspend"],
                r#"{"cron":"@daily","suspend":true,"workflow":{"name":"etl","inputs":{"day":"today"}}}"#,
            ),
            (
                &["--every", "10s", "--task", "worker", "--payload", "tick", "--timeout", "5s", "--jitter", "2s"],
                r#"{"every":{"interval":"10s"},"jitter":"2s","task":{"app":"worker","payload":"tick","timeout":"5s"}}"#,
            ),
        ] {
            assert_eq!(declared(words), spec);
        }
    }

    #[test]
    fn what_makes_no_sense_is_said_before_anything_is_declared() {
        for words in [
            &["-c", "true"][..],
            &["--cron", "60 * * * *", "-c", "true"],
            &["--cron", "@daily", "--tz", "Berlin", "-c", "true"],
            &["--cron", "@daily", "--every", "1m", "-c", "true"],
            &["--cron", "@daily", "--app", "a", "--workflow", "b"],
        ] {
            assert!(Line::try_parse_from(["add", "job"].iter().chain(words)).is_err(), "{words:?}");
        }
        for words in [
            &["--cron", "@daily"][..],
            &["--cron", "@daily", "--workflow", "b", "-e", "A=b"],
            &["--cron", "@daily", "-c", "true", "-i", "a=b"],
            &["--cron", "@daily", "--app", "a", "--payload", "b"],
        ] {
            let line = Line::try_parse_from(["add", "job"].iter().chain(words)).expect("parsed");
            assert!(manifest(&line.args, None).is_err(), "{words:?}");
        }
    }
}
