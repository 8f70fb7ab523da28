//! `appm workflow logs` and `output`: what the steps of a run printed, and what they go on to print.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Buf, Bytes, BytesMut};
use clap::Args;
use futures::{
    StreamExt, pin_mut,
    stream::{self, BoxStream, SelectAll},
};
use serde_json::json;

use super::{
    super::{
        complete,
        context::{Context, Selection, Where, log_path, name_of, served},
        error::{CliError, Exit},
        follow,
        logs::LogOptions,
        screen, steady,
    },
    graph::cells_in_order,
    runs::{self, OfWorkflow},
};
use crate::{
    api::{JobStatus, Kind, Object, Reason, Run, StepStatus, WorkflowRun, workflow_run_word},
    client::http::{Request, RequestError},
    policy::{
        meant::closest,
        steps::{Annotation, Command, Commands, Level},
    },
};

/// A line that is longer is shown in several.
const LONGEST_LINE: usize = 64 << 10;

/// Show what the steps of a run printed, both streams
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm workflow logs release-x7k2p                  all, step by step
  appm workflow logs release-x7k2p -j build         one job
  appm workflow logs release-x7k2p -f               as it comes, to the end of the run

With -f each line begins with its job and step. Of each job the steps come one after the other.")]
pub(in crate::cli) struct LogsArgs {
    /// The run
    #[arg(add = complete::names_of::<WorkflowRun>())]
    run: String,
    #[command(flatten)]
    of: OfWorkflow,
    /// Only this job, or this cell of one
    #[arg(short, long, value_name = "JOB")]
    job: Option<String>,
    /// Only this step
    #[arg(short, long, value_name = "STEP")]
    step: Option<String>,
    /// Go on and show what is printed, until the run is over
    #[arg(short, long)]
    follow: bool,
}

/// Show the standard output of one step, byte for byte
#[derive(Args, Debug)]
pub(in crate::cli) struct OutputOfArgs {
    /// The run
    #[arg(add = complete::names_of::<WorkflowRun>())]
    run: String,
    #[command(flatten)]
    of: OfWorkflow,
    /// The job, or the cell of one
    #[arg(short, long, value_name = "JOB")]
    job: String,
    /// The step
    #[arg(short, long, value_name = "STEP")]
    step: String,
}

impl LogsArgs {
    /// The jobs that are asked for, as far as they have begun, each after those that it waits for.
    fn jobs<'r>(&self, run: &'r Object<WorkflowRun>) -> impl Iterator<Item = (&'r str, &'r JobStatus)> {
        let is_it = |name: &str, cell: &JobStatus| self.job.as_ref().is_none_or(|job| job == name || *job == cell.job);
        let begun = cells_in_order(run.spec.template.as_deref(), &run.status).into_iter();
        begun.filter_map(|(name, cell)| Some((name, cell?))).filter(move |(name, cell)| is_it(name, cell))
    }

    /// Its steps that are asked for and were begun.
    fn steps<'r>(&self, cell: &'r JobStatus) -> impl Iterator<Item = &'r StepStatus> {
        let is_it = |step: &&StepStatus| self.step.as_ref().is_none_or(|asked| *asked == step.id);
        cell.steps.iter().filter(|step| !step.run.is_empty()).filter(is_it)
    }

    /// Nothing of what is asked for was found.
    fn nothing(&self, run: &Object<WorkflowRun>) -> CliError {
        let jobs = &run.status.jobs;
        let has = |asked: &str| jobs.iter().any(|(name, cell)| name == asked || cell.job == asked);
        let asked = self.job.as_deref().filter(|asked| !has(asked));
        let why = asked.map_or_else(
            || "nothing was run that this names".to_owned(),
            |asked| {
                let known = jobs.iter().flat_map(|(name, cell)| [name.as_str(), cell.job.as_str()]);
                format!("no job `{asked}` of the run has begun{}", meant(asked, known))
            },
        );
        CliError::new(Exit::NotFound, why)
    }

    /// Whether nothing more can come of what is asked for.
    fn is_over(&self, run: &Object<WorkflowRun>) -> bool {
        let mut asked = self.jobs(run).peekable();
        run.status.is_over()
            || self.job.is_some() && asked.peek().is_some() && asked.all(|(_, job)| job.state.is_over())
    }
}

fn meant<'n>(asked: &str, known: impl Iterator<Item = &'n str>) -> String {
    closest(asked, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

pub(super) async fn logs(args: &LogsArgs, context: &Context) -> Result<(), CliError> {
    let run = args.of.get(context, &args.run).await?;
    if args.follow {
        return Following::new(args, context).go(&run).await;
    }
    let mut found = false;
    for (job, cell) in args.jobs(&run) {
        for step in args.steps(cell) {
            found = true;
            screen::line(format_args!("== {} / {}", screen::harmless(job), screen::harmless(&step.id)))?;
            for line in log_lines(context, &step.run, None).await {
                screen::line(screen::harmless(&line))?;
            }
        }
    }
    if found { Ok(()) } else { Err(args.nothing(&run)) }
}

/// What comes of the output of one job.
enum Came {
    Line(String),
    /// The step that is shown has printed all, or cannot be read.
    End(Option<RequestError>),
}

type Lines<'a> = BoxStream<'a, (String, Came)>;

/// The output of a run's steps while it goes on: of each job one step after the other, of several jobs side by side.
struct Following<'a> {
    args: &'a LogsArgs,
    context: &'a Context,
    /// The Runs of steps that are known.
    known: BTreeSet<String>,
    /// Of each job the steps that are yet to be shown, the first of which is: the step, and its Run.
    queues: BTreeMap<String, VecDeque<(String, String)>>,
    lines: SelectAll<Lines<'a>>,
    /// Of each step which commands were said.
    commands: Commands,
}

impl<'a> Following<'a> {
    fn new(args: &'a LogsArgs, context: &'a Context) -> Self {
        let (known, queues, lines) = (BTreeSet::new(), BTreeMap::new(), SelectAll::new());
        Self { args, context, known, queues, lines, commands: Commands::default() }
    }

    async fn go(mut self, first: &Object<WorkflowRun>) -> Result<(), CliError> {
        let (name, context) = (self.args.run.as_str(), self.context);
        if let (Some(asked), Some(template)) = (&self.args.job, &first.spec.template)
            && self.args.jobs(first).next().is_none()
            && !template.jobs.contains_key(asked)
            // It may be a cell that has not begun.
            && (first.status.is_over() || !asked.ends_with(')'))
        {
            let why = format!("the run has no job `{asked}`{}", meant(asked, template.jobs.keys().map(String::as_str)));
            return Err(CliError::new(Exit::NotFound, why));
        }
        let selection = Selection::by_fields(format!("metadata.name={name}"));
        let (start, place) = (follow::Start::of(&json!(first)), Where::Namespace(context.namespace()));
        let changes = follow::changes(context, served::<WorkflowRun>(), place, selection, start, "application/json");
        pin_mut!(changes);
        let mut run = first.clone();
        self.take(&run);
        loop {
            let over = self.args.is_over(&run);
            if over && self.lines.is_empty() {
                break;
            }
            tokio::select! {
                Some((job, came)) = self.lines.next() => self.show(&job, came).await?,
                change = changes.next(), if !over => {
                    let (change, object) = change.ok_or_else(|| CliError::failed("the server ended the watch"))??;
                    if change == "DELETED" {
                        return Err(CliError::new(Exit::NotFound, format!("the run `{name}` was deleted meanwhile")));
                    }
                    run = runs::read(name, object)?;
                    self.take(&run);
                }
                // It is over, and the last output has ended.
                else => {}
            }
        }
        if self.known.is_empty() {
            return Err(self.args.nothing(&run));
        }
        if run.status.is_over() {
            screen::remark(format_args!("{name}: {}", workflow_run_word(&json!(run))));
        }
        Ok(())
    }

    /// Takes up steps that were begun since.
    fn take(&mut self, run: &Object<WorkflowRun>) {
        for (job, cell) in self.args.jobs(run) {
            for step in self.args.steps(cell) {
                if !self.known.insert(step.run.clone()) {
                    continue;
                }
                let queue = self.queues.entry(job.to_owned()).or_default();
                queue.push_back((step.id.clone(), step.run.clone()));
                if queue.len() == 1 {
                    self.lines.push(lines(self.context, job.to_owned(), step.run.clone()));
                }
            }
        }
    }

    async fn show(&mut self, job: &str, came: Came) -> Result<(), CliError> {
        let Some(queue) = self.queues.get_mut(job) else { return Ok(()) };
        let (step, run) = queue.front().cloned().unwrap_or_default();
        let said = match came {
            Came::Line(line) => in_words(&mut self.commands, &line),
            Came::End(why) => {
                queue.pop_front();
                if let Some((_, run)) = queue.front() {
                    self.lines.push(lines(self.context, job.to_owned(), run.clone()));
                }
                match why {
                    None => None,
                    Some(RequestError::Refused(status)) if status.is(Reason::NotFound) => {
                        called(self.context, &run).await
                    }
                    Some(error) => return Err(error.into()),
                }
            }
        };
        let Some(line) = said else { return Ok(()) };
        let at = self.queues.keys().position(|known| known == job).unwrap_or_default();
        let style = screen::PREFIXES[at % screen::PREFIXES.len()];
        let prefix = screen::harmless(&format!("{job} / {step} | "));
        Ok(screen::line(format_args!("{}{}", self.context.screen.paint(style, &prefix), screen::harmless(&line)))?)
    }
}

/// Where the output of a step is that called a Workflow: it printed nothing itself.
async fn called(context: &Context, run: &str) -> Option<String> {
    let run = context.get(served::<WorkflowRun>(), context.namespace(), run).await.ok()?;
    Some(format!("it is the run {0}: `appm workflow logs {0}`", name_of(&run)))
}

/// The lines of a step's Run as they come, and that there are no more.
fn lines(context: &Context, job: String, run: String) -> Lines<'_> {
    let opened = async move {
        let options = LogOptions::default();
        match steady::follow(context, Run::INFO, context.namespace(), &run, &options).await {
            Ok(pieces) => in_lines(pieces).left_stream(),
            Err(error) => stream::iter([Came::End(Some(error))]).right_stream(),
        }
    };
    stream::once(opened).flatten().map(move |came| (job.clone(), came)).boxed()
}

/// Pieces in lines, the last of which may have no end.
fn in_lines(pieces: BoxStream<'_, Result<Bytes, RequestError>>) -> impl futures::Stream<Item = Came> {
    // It is asked again after its end, when the last line has none.
    stream::unfold(Some((pieces.fuse(), BytesMut::new())), |state| async move {
        let (mut pieces, mut rest) = state?;
        loop {
            let end = rest.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n');
            if let Some(length) = end.or_else(|| (rest.len() > LONGEST_LINE).then_some(LONGEST_LINE)) {
                let line = rest.split_to(length);
                rest.advance(usize::from(end.is_some()));
                return Some((Came::Line(text(&line)), Some((pieces, rest))));
            }
            match pieces.next().await {
                Some(Ok(piece)) => rest.extend_from_slice(&piece),
                Some(Err(error)) => return Some((Came::End(Some(error)), None)),
                None if rest.is_empty() => return Some((Came::End(None), None)),
                None => {
                    let line = text(&rest.split());
                    return Some((Came::Line(line), Some((pieces, rest))));
                }
            }
        }
    })
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

/// What the Run of a step printed, line by line, its commands in words; of what is longer than `most` lines, that it is, and the last ones.
pub(super) async fn log_lines(context: &Context, run: &str, most: Option<usize>) -> Vec<String> {
    let tail = most.map(|most| ("tailLines", (most + 1).to_string()));
    let request = Request::get(log_path(Run::INFO, context.namespace(), run, tail.as_slice()));
    let Ok(answer) = context.call(request).await else { return called(context, run).await.into_iter().collect() };
    let mut commands = Commands::default();
    let text = String::from_utf8_lossy(&answer.body);
    let mut lines = text.lines();
    let is_longer = most.is_some_and(|most| text.lines().nth(most).is_some());
    let left_out = is_longer.then(|| {
        lines.next();
        "[there is more before this: `appm workflow logs` shows it]".to_owned()
    });
    left_out.into_iter().chain(lines.filter_map(|line| in_words(&mut commands, line))).collect()
}

/// A line as people read it; nothing, if it was not meant for them.
fn in_words(commands: &mut Commands, line: &str) -> Option<String> {
    Some(match commands.line(line.as_bytes()) {
        None => line.to_owned(),
        Some(Command::Group(title)) => format!("▸ {title}"),
        Some(Command::Debug(text)) => format!("debug: {text}"),
        Some(Command::Annotate(Annotation { level, message, title, file, line, .. })) => {
            let level = match level {
                Level::Notice => "notice",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            let place = match (file, line) {
                (Some(file), Some(line)) => format!(" {file}:{line}"),
                (Some(file), None) => format!(" {file}"),
                (None, _) => String::new(),
            };
            let title = title.map(|title| format!(" {title}:")).unwrap_or_default();
            format!("{level}{place}:{title} {message}")
        }
        Some(Command::Refused(why)) => format!("error: {why}"),
        Some(
            Command::EndGroup
            | Command::AddMask(_)
            | Command::SetOutput { .. }
            | Command::Stop
            | Command::Resume
            | Command::Ignored,
        ) => return None,
    })
}

pub(super) async fn output_of(args: &OutputOfArgs, context: &Context) -> Result<(), CliError> {
    let run = args.of.get(context, &args.run).await?;
    let absent = |what: String| CliError::new(Exit::NotFound, what);
    let (jobs, asked) = (&run.status.jobs, args.job.as_str());
    let cell = jobs.get(asked).ok_or_else(|| {
        let cells: Vec<String> =
            jobs.iter().filter(|(_, cell)| cell.job == asked).map(|(name, _)| format!("`{name}`")).collect();
        absent(match cells.is_empty() {
            true => format!("the run has no job `{asked}`{}", meant(asked, jobs.keys().map(String::as_str))),
            false => format!("the job `{asked}` has cells, say which: {}", cells.join(", ")),
        })
    })?;
    let step = cell.steps.iter().find(|step| step.id == args.step && !step.run.is_empty());
    let step = step.ok_or_else(|| {
        let near = meant(&args.step, cell.steps.iter().map(|step| step.id.as_str()).filter(|id| *id != args.step));
        absent(format!("no step `{}` was run in the job `{asked}`{near}", args.step))
    })?;
    let options = [("stream", "Stdout".to_owned())];
    let answer = context.call(Request::get(log_path(Run::INFO, context.namespace(), &step.run, &options))).await?;
    Ok(screen::bytes(&answer.body)?)
}
