//! `appm task`: work that is sent into an App's running processes.

use std::{fs, io::Read, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::{Args, Subcommand};
use futures::StreamExt;
use serde_json::{Value, json};

use super::{
    ages, complete,
    context::Context,
    error::{CliError, Exit},
    output::{self, Format, OutputArgs},
    screen,
    table::Table,
};
use crate::{
    api::{App, GoDuration, Kind, Status, Task, TaskList, TaskTarget},
    client::http::{Request, RequestError, path_of, percent_encode, query_string},
};

/// Send work into an App's running processes, and see what becomes of it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm task send resize @photo.jpg > small.jpg      the file is sent, the result is printed
  echo 'print(1+1)' | appm task send pytask - --timeout 10s
  appm task send report '{\"month\": 7}' --async      says the task's name and waits for nothing
  appm task result report bcdfg-12 --timeout 1m
  appm task ls report                               appm task cancel report bcdfg-12

The processes fetch tasks by App Mesh's protocol: `AppMeshServer` of its SDKs is one way to do it.")]
pub(super) struct TaskArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Send(SendArgs),
    /// List the tasks of an App: those that are not over, and those that were sent with --async
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    Result(ResultArgs),
    /// Cancel tasks; a process that has one already is not stopped by that
    Cancel(CancelArgs),
}

/// Send a task, wait, and print its result
#[derive(Args, Debug)]
struct SendArgs {
    /// The App
    #[arg(add = complete::apps())]
    app: String,
    /// What is sent: text, @FILE, or - for what comes on standard input
    #[arg(value_name = "DATA", allow_hyphen_values = true)]
    data: String,
    /// Wait so long; default: as long as the App says (`spec.task.timeout`)
    #[arg(long, value_name = "DURATION")]
    timeout: Option<GoDuration>,
    /// It may be done again if an instance ends in the middle of it
    #[arg(long)]
    idempotent: bool,
    /// Print the parts of the result as the process gives them
    #[arg(long, conflicts_with_all = ["kept", "json"])]
    stream: bool,
    /// Do not wait: print the task's name, by which its result is asked for later
    #[arg(long = "async", conflicts_with = "json")]
    kept: bool,
    /// Print what came of it as JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct LsArgs {
    /// The App
    #[arg(add = complete::apps())]
    app: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Print the result of a task that was sent with --async
#[derive(Args, Debug)]
struct ResultArgs {
    /// The App
    #[arg(add = complete::apps())]
    app: String,
    /// The task
    task: String,
    /// Wait so long for it; default: not at all
    #[arg(long, value_name = "DURATION")]
    timeout: Option<GoDuration>,
}

#[derive(Args, Debug)]
struct CancelArgs {
    /// The App
    #[arg(add = complete::apps())]
    app: String,
    /// The tasks
    #[arg(required = true)]
    tasks: Vec<String>,
}

pub(super) async fn run(args: TaskArgs, context: &Context) -> Result<(), CliError> {
    match args.verb {
        Verb::Send(args) => send(&args, context).await,
        Verb::Ls(args) => ls(&args, context).await,
        Verb::Result(args) => {
            let mut options = vec![("result", "true".to_owned())];
            options.extend(args.timeout.map(|timeout| ("timeout", timeout.to_string())));
            let path = path(context, &args.app, Some(&args.task)) + &query_string(&options);
            let answer = context.client.call(Request::get(path)).await.map_err(failed)?;
            Ok(screen::bytes(&context.heard(answer).body)?)
        }
        Verb::Cancel(args) => {
            for task in &args.tasks {
                context.call(Request::delete(path(context, &args.app, Some(task)), &Value::Null)).await?;
                screen::line(format_args!("task {task} cancelled"))?;
            }
            Ok(())
        }
    }
}

fn path(context: &Context, app: &str, task: Option<&str>) -> String {
    let below = task.map(|task| format!("/{}", percent_encode(task))).unwrap_or_default();
    path_of(App::INFO, Some(context.namespace()), Some(app)) + "/task" + &below
}

async fn send(args: &SendArgs, context: &Context) -> Result<(), CliError> {
    let mut options = Vec::new();
    options.extend(args.timeout.map(|timeout| ("timeout", timeout.to_string())));
    options.extend(args.idempotent.then(|| ("idempotent", "true".to_owned())));
    options.extend(args.kept.then(|| ("async", "true".to_owned())));
    let path = path(context, &args.app, None) + &query_string(&options);
    let request = Request::post_bytes(path, data(&args.data)?);
    if args.stream {
        return stream(request.accept("application/jsonl"), context).await;
    }
    let sent = context.client.call(request).await;
    if args.json {
        let (told, exit) = match &sent {
            Ok(answer) => (succeeded(&answer.body), Exit::Ok),
            Err(RequestError::Refused(status)) if !cause(status, "MayHaveBegun").is_empty() => {
                (refused(status), exit(status).unwrap_or(Exit::Failed))
            }
            Err(_) => return sent.map(drop).map_err(failed),
        };
        screen::line(format_args!("{told:#}"))?;
        return if exit == Exit::Ok { Ok(()) } else { Err(CliError::silent(exit)) };
    }
    let answer = context.heard(sent.map_err(failed)?);
    if args.kept {
        let task: Task = serde_json::from_slice(&answer.body).map_err(|e| CliError::failed(e.to_string()))?;
        return Ok(screen::line(task.metadata.name)?);
    }
    Ok(screen::bytes(&answer.body)?)
}

/// Prints what comes of a task as it comes.
async fn stream(request: Request, context: &Context) -> Result<(), CliError> {
    let mut lines = context.client.lines(request).await.map_err(failed)?;
    let unreadable = || CliError::failed("the server's answer cannot be read");
    while let Some(line) = lines.next().await {
        let line: Value = serde_json::from_slice(&line.map_err(failed)?).map_err(|_| unreadable())?;
        if line["type"] == "ERROR" {
            return Err(failed(RequestError::Refused(Status::from_json(&line["object"], 500))));
        }
        match (line["text"].as_str(), line["base64"].as_str()) {
            (Some(text), _) => screen::bytes(text.as_bytes())?,
            (None, Some(bytes)) => screen::bytes(&STANDARD.decode(bytes).map_err(|_| unreadable())?)?,
            (None, None) => return Err(unreadable()),
        }
        if line["type"] == "RESULT" && line["more"] != true {
            return Ok(());
        }
    }
    Err(CliError::failed("the answer broke off")
        .help("nobody can say what became of the task: the work may have begun"))
}

/// Sends what a Schedule sends; its result.
pub(super) async fn send_as(target: &TaskTarget, context: &Context) -> Result<Bytes, CliError> {
    let mut options = Vec::new();
    options.extend(target.timeout.map(|timeout| ("timeout", timeout.to_string())));
    options.extend(target.idempotent.then(|| ("idempotent", "true".to_owned())));
    let path = path(context, &target.app, None) + &query_string(&options);
    let sent = context.client.call(Request::post_bytes(path, target.payload.clone().into())).await;
    Ok(context.heard(sent.map_err(failed)?).body)
}

/// What is to be sent.
fn data(written: &str) -> Result<Bytes, CliError> {
    let read = |from: &str| fs::read(Path::new(from)).map_err(|e| CliError::io(&format!("cannot read {from}"), &e));
    Ok(match (written, written.strip_prefix('@')) {
        ("-", _) => {
            let mut all = Vec::new();
            std::io::stdin().read_to_end(&mut all)?;
            all.into()
        }
        (_, Some(file)) => read(file)?.into(),
        (text, None) => text.as_bytes().to_vec().into(),
    })
}

fn succeeded(result: &Bytes) -> Value {
    match std::str::from_utf8(result) {
        Ok(text) => json!({"succeeded": true, "result": text}),
        Err(_) => json!({"succeeded": true, "resultBase64": STANDARD.encode(result)}),
    }
}

fn cause<'a>(status: &'a Status, reason: &str) -> &'a str {
    status.details.causes.iter().find(|cause| cause.reason == reason).map_or("", |cause| &cause.message)
}

fn refused(status: &Status) -> Value {
    let reason = status.details.causes.first().map(|cause| cause.reason.as_str());
    let mut told = json!({
        "succeeded": false, "reason": reason, "message": status.message,
        "mayHaveBegun": cause(status, "MayHaveBegun") == "true",
    });
    for (name, field) in [("ExitCode", "exitCode"), ("Signal", "signal")] {
        let found = cause(status, name);
        if !found.is_empty() {
            told[field] = found.parse::<i32>().map_or_else(|_| json!(found), |code| json!(code));
        }
    }
    if !cause(status, "OOMKilled").is_empty() {
        told["oomKilled"] = json!(true);
    }
    told
}

/// The exit code of a task without a result; `None`: the request was refused for another reason.
fn exit(status: &Status) -> Option<Exit> {
    match status.details.causes.first()?.reason.as_str() {
        "TaskTimedOut" => Some(Exit::Timeout),
        "TaskQueueFull" | "NoInstance" | "TaskCancelled" | "InstanceEnded" => Some(Exit::Failed),
        _ => None,
    }
}

fn failed(error: RequestError) -> CliError {
    match error {
        RequestError::Refused(status) => {
            match exit(&status) {
                // The sentence says everything.
                Some(exit) => CliError::new(exit, status.message),
                None => RequestError::Refused(status).into(),
            }
        }
        RequestError::Broken(_) => {
            CliError::from(error).help("nobody can say what became of the task: the work may have begun")
        }
        error => error.into(),
    }
}

async fn ls(args: &LsArgs, context: &Context) -> Result<(), CliError> {
    let listed = context.call(Request::get(path(context, &args.app, None))).await?.json()?;
    if !args.output.output.is_table() {
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        return output::objects(&args.output.output, items, true);
    }
    let list: TaskList = serde_json::from_value(listed).map_err(|e| CliError::failed(e.to_string()))?;
    if list.items.is_empty() {
        screen::remark(format_args!("app `{}` has no tasks", args.app));
        return Ok(());
    }
    let wide = args.output.output == Format::Wide;
    let headings = ["NAME", "STATE", "USER", "BYTES", "INSTANCE", "AGE"];
    let mut table = Table::new(headings.into_iter().chain(wide.then_some("MESSAGE"))).judge(&["STATE"]);
    for task in &list.items {
        let age = task.metadata.creation_timestamp.map(|made| ages::age(made.0, context.now())).unwrap_or_default();
        let cells = [
            task.metadata.name.clone(),
            task.state.to_string(),
            task.user.clone(),
            task.bytes.to_string(),
            task.instance.clone(),
            age,
        ];
        table.add(cells.into_iter().chain(wide.then(|| task.message.clone())));
    }
    Ok(screen::print(table.render(&context.screen, true))?)
}
