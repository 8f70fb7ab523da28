//! `appm logs`: what processes print, of one instance byte for byte, of several line by line in the order of their times,
//! under coloured names.

mod merge;

use std::{
    collections::{BTreeSet, VecDeque},
    io::{self, Write},
};

use anstyle::Style;
use bytes::Bytes;
use clap::Args;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use serde_json::Value;

use crate::{
    api::{APP_LABEL, App, GoDuration, Instance, Kind, KindInfo, Run},
    client::http::{Request, RequestError},
};

use self::merge::{Line, Merge};
use super::{
    context::{Context, Selection, Where, log_path, name_of, namespace_of, served},
    error::CliError,
    follow, resources, screen, steady,
};

/// Show what processes print
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm logs web                       every instance of the App web
  appm logs -f web                    and go on, instances that come later included
  appm logs web-6f9c-0 --previous     the run before the last start
  appm logs web --tail 20 --since 5m
  appm logs -f -l tier=front --timestamps
  appm logs -f run/backup-x7k2p       a Run, attempt by attempt, to its end

The lines of several instances come in the order of their times; -f holds a line for a tenth of a second for that.")]
pub(super) struct LogsArgs {
    /// Names of Apps or instances, or of one Run: `web`, `app/web`, `instance/web-6f9c-0`, `run/backup-x7k2p`
    #[arg(value_name = "NAME", add = super::complete::apps_and_instances())]
    words: Vec<String>,
    #[command(flatten)]
    options: LogOptions,
    /// The instances with these labels
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "words")]
    selector: Option<String>,
    /// Go on and show what is printed
    #[arg(short, long)]
    follow: bool,
    /// Begin each line with the instance's name, even if there is one only
    #[arg(long)]
    prefix: bool,
}

impl LogsArgs {
    /// All that Apps print, and go on to print.
    pub(super) fn following(apps: Vec<String>) -> Self {
        let options = LogOptions::default();
        Self { words: apps, options, selector: None, follow: true, prefix: false }
    }
}

/// Which part of an output.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct LogOptions {
    /// Of the run before the last start
    #[arg(short, long)]
    previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only what is younger than this
    #[arg(long, value_name = "DURATION")]
    since: Option<GoDuration>,
    /// Begin each line with its time
    #[arg(long)]
    pub(super) timestamps: bool,
    /// stdout or stderr alone
    #[arg(long, value_name = "STREAM", value_parser = ["stdout", "stderr"])]
    stream: Option<String>,
}

impl LogOptions {
    /// The last lines of the present or the previous run.
    pub(super) fn last_lines(lines: u64, previous: bool) -> Self {
        Self { tail: Some(lines), previous, ..Self::default() }
    }

    /// Everything of one stream.
    pub(super) fn of_stream(stream: &str) -> Self {
        Self { stream: Some(stream.to_owned()), ..Self::default() }
    }

    /// The query of a follower: lines with their times, from `since` on if it has seen some already.
    pub(super) fn resumed(&self, since: Option<String>) -> Vec<(&'static str, String)> {
        let mut query = Self { timestamps: true, ..self.clone() }.query(true);
        if let Some(since) = since {
            query.retain(|(name, _)| !matches!(*name, "tailLines" | "sinceSeconds"));
            query.push(("sinceTime", since));
        }
        query
    }

    fn query(&self, follow: bool) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        let flags = [("follow", follow), ("previous", self.previous), ("timestamps", self.timestamps)];
        query.extend(flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".to_owned())));
        query.extend(self.tail.map(|lines| ("tailLines", lines.to_string())));
        // Whole seconds on the wire; rounded up, so that nothing wanted is left out.
        query.extend(self.since.map(|since| ("sinceSeconds", since.0.as_millis().div_ceil(1000).max(1).to_string())));
        // Kubernetes' own words for the streams.
        let word = |s: &String| if s == "stdout" { "Stdout" } else { "Stderr" };
        query.extend(self.stream.as_ref().map(|stream| ("stream", word(stream).to_owned())));
        query
    }
}

type Pieces<'a> = BoxStream<'a, Result<Bytes, RequestError>>;

/// Opens an object's log.
pub(super) async fn open(
    context: &Context,
    kind: &'static KindInfo,
    namespace: &str,
    name: &str,
    options: &LogOptions,
    follow: bool,
) -> Result<Pieces<'static>, RequestError> {
    let path = log_path(kind, namespace, name, &options.query(follow));
    context.client.stream(Request::get(path).accept("text/plain, application/json")).await
}

pub(super) async fn run(args: LogsArgs, context: &Context) -> Result<(), CliError> {
    if let Some(name) = run_alone(&args, context).await? {
        return raw(context, Run::INFO, context.namespace(), &name, &args).await;
    }
    let sources = sources(&args, context).await?;
    let dynamic = sources.growing.is_some();
    if sources.instances.len() == 1 && !args.prefix && !(args.follow && dynamic) {
        let (namespace, name) = &sources.instances[0];
        return raw(context, Instance::INFO, namespace, name, &args).await;
    }
    together(context, &args, sources).await
}

/// The one Run that is named: by its kind, or because nothing else has the name.
async fn run_alone(args: &LogsArgs, context: &Context) -> Result<Option<String>, CliError> {
    let runs = |word: &String| -> Result<bool, CliError> {
        let kind = word.split_once('/').map(|(kind, _)| resources::resource(kind)).transpose()?;
        Ok(kind.is_some_and(|served| *served.kind == *Run::INFO))
    };
    match args.words.as_slice() {
        [word] if runs(word)? => Ok(word.split_once('/').map(|(_, name)| name.to_owned())),
        [word] if !word.contains('/') => {
            for known in [served::<App>(), served::<Instance>()] {
                if context.get(known, context.namespace(), word).await.is_ok() {
                    return Ok(None);
                }
            }
            Ok(context.get(served::<Run>(), context.namespace(), word).await.is_ok().then(|| word.clone()))
        }
        words => match words.iter().map(runs).collect::<Result<Vec<_>, _>>()?.contains(&true) {
            true => Err(CliError::usage("one run at a time").help("several: -l 'appm.dev/run in (a, b)'")),
            false => Ok(None),
        },
    }
}

/// Instances, and the selector by which more may come.
#[derive(Default)]
struct Sources {
    instances: Vec<(String, String)>,
    growing: Option<(String, follow::Start)>,
}

async fn sources(args: &LogsArgs, context: &Context) -> Result<Sources, CliError> {
    if let Some(selector) = &args.selector {
        return by_labels(context, selector.clone()).await;
    }
    if args.words.is_empty() {
        return Err(CliError::usage("whose output?").help("name an App or an instance, or choose by -l"));
    }
    let mut apps = Vec::new();
    let mut instances = Vec::new();
    for word in &args.words {
        match word.split_once('/') {
            Some((kind, name)) => match resources::resource(kind)?.kind {
                k if *k == *served::<App>().kind => apps.push(name.to_owned()),
                k if *k == *served::<Instance>().kind => instances.push(name.to_owned()),
                k => return Err(CliError::usage(format!("a {} has no output", k.singular))),
            },
            None => match context.get(served::<App>(), context.namespace(), word).await {
                Ok(_) => apps.push(word.clone()),
                Err(absent) => match context.get(served::<Instance>(), context.namespace(), word).await {
                    Ok(_) => instances.push(word.clone()),
                    Err(_) => return Err(absent),
                },
            },
        }
    }
    let mut sources = Sources::default();
    if !apps.is_empty() {
        sources = by_labels(context, format!("{APP_LABEL} in ({})", apps.join(","))).await?;
        if sources.instances.is_empty() && instances.is_empty() && !args.follow {
            for name in &apps {
                context.get(served::<App>(), context.namespace(), name).await?;
            }
            return Err(CliError::failed(format!("`{}` has no instance yet", apps.join("`, `"))));
        }
    }
    sources.instances.extend(instances.into_iter().map(|name| (context.namespace().to_owned(), name)));
    Ok(sources)
}

async fn by_labels(context: &Context, selector: String) -> Result<Sources, CliError> {
    let place = Where::Namespace(context.namespace());
    let (revision, items) = context.list(served::<Instance>(), place, &Selection::by_labels(&selector)).await?;
    let instances = items.iter().map(|i| (namespace_of(i), name_of(i))).collect();
    let start = follow::Start::of_list(revision, &items);
    Ok(Sources { instances, growing: Some((selector, start)) })
}

/// One object's bytes, untouched.
async fn raw(
    context: &Context,
    kind: &'static KindInfo,
    namespace: &str,
    name: &str,
    args: &LogsArgs,
) -> Result<(), CliError> {
    match args.follow {
        true => drain(steady::follow(context, kind, namespace, name, &args.options).await?).await,
        false => drain(open(context, kind, namespace, name, &args.options, false).await?).await,
    }
}

/// Everything that an instance has printed, untouched.
pub(super) async fn copy(
    context: &Context,
    place: Where<'_>,
    name: &str,
    options: &LogOptions,
) -> Result<(), CliError> {
    let namespace = place.name().unwrap_or(context.namespace());
    drain(open(context, Instance::INFO, namespace, name, options, false).await?).await
}

async fn drain(mut pieces: BoxStream<'_, Result<Bytes, RequestError>>) -> Result<(), CliError> {
    while let Some(piece) = pieces.next().await {
        let mut out = io::stdout().lock();
        out.write_all(&piece?)?;
        out.flush()?;
    }
    Ok(())
}

/// All at once, and more as they come.
async fn together(context: &Context, args: &LogsArgs, sources: Sources) -> Result<(), CliError> {
    let mut printer = Printer::new(context, &sources, args);
    let mut followed: BTreeSet<String> = BTreeSet::new();
    let mut waiting: VecDeque<(String, String)> = sources.instances.into();
    let mut merge = Merge::new(args.follow);
    let growing = args.follow && sources.growing.is_some();
    let (selector, start) = sources.growing.unwrap_or_default();
    let place = Where::Namespace(context.namespace());
    let selection = Selection::by_labels(selector);
    let changes = follow::changes(context, served::<Instance>(), place, selection, start, "application/json");
    futures::pin_mut!(changes);
    let mut options = LogOptions { timestamps: true, ..args.options.clone() };
    loop {
        while let Some((namespace, name)) = waiting.pop_front() {
            let opened = match args.follow {
                true => steady::follow(context, Instance::INFO, &namespace, &name, &options).await,
                false => open(context, Instance::INFO, &namespace, &name, &options, false).await,
            };
            match opened {
                Ok(pieces) => {
                    merge.add(printer.add(&name), pieces);
                    followed.insert(name);
                }
                // It has not printed anything yet; its next change is another chance.
                Err(RequestError::Refused(_)) if growing => {}
                Err(RequestError::Refused(status)) if !args.follow => {
                    screen::remark(format_args!("{name}: {}", status.message));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Whoever comes later is shown from the beginning.
        options.tail = None;
        tokio::select! {
            lines = merge.next(), if !merge.is_over() => printer.print(&lines?)?,
            change = changes.next(), if growing => {
                let (change, object): (String, Value) = match change {
                    Some(change) => change?,
                    None => return Ok(()),
                };
                let name = name_of(&object);
                match change.as_str() {
                    "DELETED" => { followed.remove(&name); }
                    _ if !followed.contains(&name) => waiting.push_back((namespace_of(&object), name)),
                    _ => {}
                }
            }
            () = std::future::ready(()).fuse(), if merge.is_over() && !growing => return Ok(()),
        }
    }
}

/// Names each line's instance.
struct Printer<'a> {
    context: &'a Context,
    width: usize,
    named: bool,
    with_times: bool,
    names: Vec<(String, Style)>,
}

impl<'a> Printer<'a> {
    fn new(context: &'a Context, sources: &Sources, args: &LogsArgs) -> Self {
        let width = sources.instances.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
        let named = args.prefix || sources.instances.len() != 1;
        Self { context, width, named, with_times: args.options.timestamps, names: Vec::new() }
    }

    /// A new instance; the number stands for it.
    fn add(&mut self, name: &str) -> usize {
        let style = screen::PREFIXES[self.names.len() % screen::PREFIXES.len()];
        self.width = self.width.max(name.len());
        self.named |= !self.names.is_empty();
        self.names.push((name.to_owned(), style));
        self.names.len() - 1
    }

    fn print(&self, lines: &[(usize, Line)]) -> io::Result<()> {
        let mut text = Vec::new();
        for (number, line) in lines {
            if self.named {
                let (name, style) = &self.names[*number];
                let prefix = format!("{name:width$} | ", width = self.width);
                text.extend_from_slice(self.context.screen.paint(*style, &prefix).as_bytes());
            }
            if self.with_times && !line.time.is_empty() {
                text.extend_from_slice(&line.time);
                text.push(b' ');
            }
            text.extend_from_slice(&line.text);
        }
        let mut out = io::stdout().lock();
        out.write_all(&text)?;
        out.flush()
    }
}
