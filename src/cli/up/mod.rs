//! `appm up`: a server if none runs, manifests applied, and a live picture of what becomes of them.
//!
//! ```text
//! socket answers? ── yes ─► use it            ctrl-C: the picture ends, nothing else does
//!        │ no
//!        └─► daemon in this process           ctrl-C: asks whether the Apps shall go on; the server ends
//!        └─► with --detach, in another one    returns when all is applied
//! ```

mod board;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use futures::{Stream, StreamExt};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api::{App, GoDuration, Instance, Kind, Outcome},
    client::http::{Request, RequestError},
    daemon::{Apps, Running},
};

use super::{
    apply::{self, Options},
    canvas::Canvas,
    context::{Context, Selection, Where, served},
    error::{CliError, Exit},
    follow, logging,
    logs::{self, LogOptions},
    manifests::{self, Manifests},
    screen,
    server::{self, ServerOptions},
    settings::Global,
};
use board::{Board, Happening};

/// Start a server if none runs, apply manifests, and show what happens
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm up manifests/quickstart     apply a directory, and watch
  appm up                          just the server, and what runs
  appm up -d web.yaml              the server in the background
  appm up --wait web.yaml          the same, and return when every App is ready

Ctrl-C ends the server and asks whether the Apps shall go on without it; the next `appm up` finds
them again. Without a terminal nothing is asked, and they go on. `appm server stop --apps` ends
everything.")]
pub(super) struct UpArgs {
    /// Files or directories with manifests, or - for stdin
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Start the server in the background, apply, and return
    #[arg(short, long)]
    detach: bool,
    /// Return when every App of the manifests is ready; the server is in the background
    #[arg(long, alias = "exit-after-ready")]
    wait: bool,
    /// How long --wait waits
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    timeout: GoDuration,
    /// Take fields that other managers own
    #[arg(long)]
    force_conflicts: bool,
    #[command(flatten)]
    pub(super) server: ServerOptions,
}

pub(super) fn run(args: UpArgs, global: &Global) -> Result<(), CliError> {
    let global = &global.here();
    let manifests = manifests::read(&args.paths, args.recursive, global.namespace.as_deref())?;
    server::server_runtime()?.block_on(async {
        let context = Context::new(global)?;
        let mut running = None;
        if answers(&context).await? {
            screen::remark(format_args!("using the server that answers at {}", context.client.endpoint()));
        } else if args.detach || args.wait {
            let address = server::start_detached(&args.server, global)?;
            screen::remark(format_args!("server started: {address}"));
        } else {
            let (log, verbosity) = logging::to_file(&global.data_dir())?;
            let mut started = server::start(&args.server, global, verbosity).await?;
            started.ready().await;
            screen::remark(format_args!("server started: {} (log: {})", started.url(), log.display()));
            running = Some(started);
        }
        // The socket may be new, and the kubeconfig too.
        let context = Context::new(global)?;
        let result = work(&args, &context, &manifests, running.as_mut()).await;
        match (running, result) {
            (None, result) => result.map(|_| ()),
            (Some(running), result) => {
                end(running, *result.as_ref().unwrap_or(&Apps::Leave)).await;
                result.map(|_| ())
            }
        }
    })
}

/// Whether a server is there.
///
/// # Errors
/// When something else than a server is there.
async fn answers(context: &Context) -> Result<bool, CliError> {
    match context.client.call(Request::get("/version")).await {
        Ok(_) => Ok(true),
        Err(RequestError::Unreachable { .. }) if context.global.kubeconfig.is_none() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn end(running: Running, apps: Apps) {
    if apps == Apps::Stop {
        screen::remark("stopping the Apps …");
    }
    running.stop(apps).await;
    screen::remark(match apps {
        Apps::Stop => "server and Apps stopped",
        Apps::Leave => "server stopped; its Apps go on (`appm up` finds them, `appm server stop --apps` ends them)",
    });
}

/// Applies, and watches. Returns what shall become of the Apps when the server ends.
async fn work(
    args: &UpArgs,
    context: &Context,
    manifests: &Manifests,
    running: Option<&mut Running>,
) -> Result<Apps, CliError> {
    if !args.paths.is_empty() {
        let options = Options { force: args.force_conflicts, ..Options::default() };
        let results = apply::apply(context, manifests, &options).await?;
        let (mut changed, mut unchanged) = (Vec::new(), 0);
        for (object, result) in manifests.objects.iter().zip(&results) {
            match result.outcome {
                Outcome::Unchanged => unchanged += 1,
                outcome => changed.push(format!("{} {}", apply::outcome_word(outcome), object.name)),
            }
        }
        // Each by name while they can be read; a thousand are a number.
        match changed.len() {
            0..=20 => changed.iter().for_each(screen::remark),
            many => screen::remark(format_args!("{many} objects applied")),
        }
        if unchanged > 0 {
            screen::remark(format_args!("{unchanged} unchanged"));
        }
    }
    let apps = manifests.objects.iter().filter(|o| o.served.kind == App::INFO);
    let board = Board::of(apps.map(|o| (o.namespace.clone(), o.name.clone())));
    if args.wait {
        let show = Show { context, board, canvas: Canvas::Lines, failures: BTreeMap::new(), until_ready: true };
        let shown = tokio::time::timeout(args.timeout.0, show.run(None)).await;
        return shown.unwrap_or_else(|_| {
            Err(CliError::new(Exit::Timeout, format!("not every App is ready after {}", args.timeout)))
        });
    }
    if args.detach {
        return Ok(Apps::Leave);
    }
    let show = Show { context, board, canvas: Canvas::new(), failures: BTreeMap::new(), until_ready: false };
    show.run(running).await
}

/// The picture, and what feeds it.
struct Show<'a> {
    context: &'a Context,
    board: Board,
    canvas: Canvas,
    /// Failures that were shown, by instance.
    failures: BTreeMap<String, u32>,
    until_ready: bool,
}

/// Failures of one instance whose output is shown.
const SHOWN_FAILURES: u32 = 3;
/// Between two pictures, so that a thousand changes are not a thousand pictures.
const FRAME: Duration = Duration::from_millis(100);

impl<'a> Show<'a> {
    async fn run(mut self, mut running: Option<&mut Running>) -> Result<Apps, CliError> {
        let context = self.context;
        let owned = running.is_some();
        let (revision, apps) = context.list(served::<App>(), Where::Everywhere, &Selection::default()).await?;
        let apps_start = follow::Start::of_list(revision, &apps);
        let (revision, instances) =
            context.list(served::<Instance>(), Where::Everywhere, &Selection::default()).await?;
        let start = follow::Start::of_list(revision, &instances);
        for app in apps {
            let told = self.board.app("ADDED", app);
            self.tell(told).await?;
        }
        for instance in instances {
            let told = self.board.instance("ADDED", instance);
            self.tell(told).await?;
        }
        let mut app_changes = Box::pin(changes::<App>(context, apps_start));
        let mut instance_changes = Box::pin(changes::<Instance>(context, start));
        let mut frame = tokio::time::interval(FRAME);
        frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let listen = |kind| signal(kind).map_err(|e| CliError::io("cannot listen for signals", &e));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let (mut stale, mut painted_second) = (true, 0);
        loop {
            if self.until_ready && self.board.all_ready() {
                return Ok(Apps::Leave);
            }
            tokio::select! {
                change = app_changes.next() => {
                    let (change, object) = self.changed(change)?;
                    let told = self.board.app(&change, object);
                    self.tell(told).await?;
                    stale = true;
                }
                change = instance_changes.next() => {
                    let (change, object) = self.changed(change)?;
                    let told = self.board.instance(&change, object);
                    self.tell(told).await?;
                    stale = true;
                }
                _ = frame.tick(), if self.canvas.is_terminal() => {
                    let now = context.now();
                    // Once a second the ages change, even if nothing else does.
                    if std::mem::take(&mut stale) || now.as_second() != painted_second {
                        painted_second = now.as_second();
                        let picture = self.board.picture(&context.screen, Canvas::height(), now);
                        self.canvas.paint(&picture)?;
                    }
                }
                _ = interrupt.recv() => {
                    return if owned && self.canvas.is_terminal() {
                        ask(&mut interrupt).await
                    } else if self.until_ready {
                        Err(CliError::silent(Exit::Interrupted))
                    } else {
                        Ok(Apps::Leave)
                    };
                }
                _ = terminate.recv() => return Ok(Apps::Leave),
                apps = stop_requested(&mut running) => return Ok(apps),
            }
        }
    }

    fn changed(&mut self, change: Option<Result<(String, Value), CliError>>) -> Result<(String, Value), CliError> {
        match change {
            Some(Ok(change)) => Ok(change),
            Some(Err(error)) => {
                self.canvas.wipe()?;
                Err(error)
            }
            None => Err(CliError::failed("the server ended the watch")),
        }
    }

    /// Lines in a pipe; on a terminal only failures, because the picture says the rest.
    async fn tell(&mut self, happenings: Vec<Happening>) -> Result<(), CliError> {
        for happening in happenings {
            match happening {
                Happening::Said(text) if self.canvas.is_terminal() => drop(text),
                Happening::Said(text) => self.canvas.line(&screen::harmless(&text))?,
                Happening::Failed { namespace, instance, exit, attempt, is_last } => {
                    self.failed(&namespace, &instance, &exit, attempt, is_last).await?;
                }
            }
        }
        Ok(())
    }

    /// Shows the end of what a failed run printed.
    async fn failed(
        &mut self,
        namespace: &str,
        instance: &str,
        exit: &str,
        attempt: u32,
        is_last: bool,
    ) -> Result<(), CliError> {
        let count = self.failures.entry(instance.to_owned()).or_insert(0);
        *count += 1;
        let count = *count;
        if count > SHOWN_FAILURES + 1 {
            return Ok(());
        }
        let name = self.context.screen.paint(screen::BAD, instance);
        if count == SHOWN_FAILURES + 1 {
            let hint =
                format!("{name} goes on failing; its failures are not shown any more: appm logs {instance} --previous");
            self.canvas.line(&hint)?;
            return Ok(());
        }
        self.canvas.line(&format!("{name} {} (attempt {attempt})", screen::harmless(exit)))?;
        let options = LogOptions::last_lines(10, !is_last);
        let Ok(mut pieces) =
            logs::open(self.context, crate::api::Instance::INFO, namespace, instance, &options, false).await
        else {
            return Ok(());
        };
        let mut printed = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            printed.extend_from_slice(&piece);
        }
        let bar = self.context.screen.paint(screen::DIM, "|");
        for line in String::from_utf8_lossy(&printed).lines() {
            self.canvas.line(&format!("  {bar} {}", screen::harmless(line)))?;
        }
        Ok(())
    }
}

fn changes<K: Kind>(
    context: &Context,
    from: follow::Start,
) -> impl Stream<Item = Result<(String, Value), CliError>> + Send + '_ {
    follow::changes(context, served::<K>(), Where::Everywhere, Selection::default(), from, "application/json")
}

/// Resolves when the server in this process is asked to stop; never, if it is another process's.
async fn stop_requested(running: &mut Option<&mut Running>) -> Apps {
    match running {
        Some(running) => running.stop_requested().await,
        None => std::future::pending().await,
    }
}

/// Ctrl-C on a terminal: shall the Apps go on? A second ctrl-C, or an end of input, means yes.
async fn ask(interrupt: &mut tokio::signal::unix::Signal) -> Result<Apps, CliError> {
    if !io::stdin().is_terminal() {
        return Ok(Apps::Leave);
    }
    loop {
        screen::print("\nLeave the Apps running, or stop them? [L/s] ")?;
        io::stdout().flush()?;
        let (tell, told) = tokio::sync::oneshot::channel();
        // A thread of its own, which the end of the runtime does not wait for.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            tell.send(read.map(|_| line).unwrap_or_default())
        });
        let line = tokio::select! {
            _ = interrupt.recv() => return Ok(Apps::Leave),
            line = told => line.unwrap_or_default(),
        };
        match line.trim().to_lowercase().as_str() {
            "" | "l" | "leave" | "y" | "yes" => return Ok(Apps::Leave),
            "s" | "stop" => return Ok(Apps::Stop),
            _ => {}
        }
    }
}
