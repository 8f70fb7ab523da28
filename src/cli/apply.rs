//! `appm apply`: declares objects, all of them or none.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::api::{Operation, OperationResult, OperationVerb, Outcome, Plan, Reason, Status, Transaction};

use super::{
    context::{Context, name_of},
    diagnostics,
    error::{CliError, Exit},
    manifests::{self, Manifests},
    output::{self, Format, OutputArgs, without_managed_fields},
    plan,
    prune::{self, PruneArgs},
    resources::qualified,
    screen,
};

/// `--dry-run`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DryRun {
    /// Do it.
    #[default]
    None,
    /// Let the server check everything, and store nothing.
    Server,
    /// Do not even ask the server.
    Client,
}

/// Which manifests, and in whose name: of `apply`, `diff` and `plan`.
#[derive(Args, Debug)]
pub(super) struct DeclaredArgs {
    /// File, directory, or - for stdin; may be given several times
    #[arg(short, long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Whose fields these are
    #[arg(long, value_name = "NAME", default_value = "appm")]
    field_manager: String,
    /// Take fields that other managers own
    #[arg(long)]
    force_conflicts: bool,
    /// Accepted for kubectl's sake: apply is always done by the server
    #[arg(long, hide = true)]
    server_side: bool,
}

impl DeclaredArgs {
    /// What the files declare, and how it is applied.
    pub(super) fn read(self, context: &Context) -> Result<(Manifests, Options), CliError> {
        let manifests = manifests::read(&self.filename, self.recursive, context.global.namespace.as_deref())?;
        Ok((manifests, Options { force: self.force_conflicts, manager: self.field_manager, ..Options::default() }))
    }
}

/// Declare objects by manifests: all of them or none
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm apply -f web.yaml                  one file, of any number of documents
  appm apply -f manifests/ -R             a directory and all below it
  generate | appm apply -f -              from stdin
  appm apply -f web.yaml --dry-run=server check everything, change nothing
  appm apply -f manifests/ --prune --all  and delete what was applied before and is declared no more
  appm apply -f web.yaml --confirm        show every change and what becomes of processes, then ask
  appm apply --plan web.plan              just what `appm plan --out web.plan` showed, or nothing

Every file is read, and every mistake is reported at once, with file, line, column and field.
If there is any, nothing is changed and the exit code is 4.")]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    declared: DeclaredArgs,
    /// server: check everything, store nothing
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "server", hide_default_value = true, hide_possible_values = true)]
    dry_run: DryRun,
    #[command(flatten)]
    prune: PruneArgs,
    /// Show first what would be done and what would become of processes, as `appm plan` does, and ask
    #[arg(long, conflicts_with = "dry_run")]
    confirm: bool,
    /// With --confirm: show it, and do not ask
    #[arg(short = 'y', long, requires = "confirm")]
    yes: bool,
    /// Do what `appm plan --out FILE` has kept, if the world is still as it was then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["filename", "recursive", "confirm", "prune", "dry_run", "force_conflicts", "field_manager"])]
    plan: Option<PathBuf>,
    /// Accepted for kubectl's sake: unknown fields are always refused
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    validate: Option<String>,
    /// There for the sake of an answer
    #[arg(short = 'k', long, hide = true, value_name = "DIR", conflicts_with = "filename")]
    kustomize: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: ApplyArgs, context: &Context) -> Result<(), CliError> {
    if let Some(folder) = &args.kustomize {
        let error = CliError::usage("kustomizations are not understood here");
        return Err(
            error.help(format!("let kustomize print them: kustomize build {} | appm apply -f -", folder.display()))
        );
    }
    if let Some(level) = args.validate.as_deref().filter(|level| matches!(*level, "false" | "ignore" | "warn")) {
        screen::remark(format_args!("--validate={level} has no effect: unknown fields are always refused"));
    }
    if let Some(file) = &args.plan {
        return plan::apply_saved(file, &args.output, context).await;
    }
    let (manifests, mut options) = args.declared.read(context)?;
    if args.dry_run == DryRun::Client {
        let objects = manifests.sound(context, "nothing was applied")?.objects.into_iter().map(|o| o.value).collect();
        let format = if args.output.output.is_table() { &Format::Name } else { &args.output.output };
        return output::objects(format, objects, false);
    }
    options.dry_run = args.dry_run == DryRun::Server;
    options.pruned = prune::operations(&args.prune, context, &manifests, &options.manager).await?;
    if args.confirm {
        let (plan, _) = plan::plan(context, &manifests, &options).await?;
        if !plan::confirmed(&plan, &context.screen, args.yes)? {
            return Ok(());
        }
        options.planned = Some(plan);
    }
    let results = apply(context, &manifests, &options).await?;
    match &args.output.output {
        Format::Table | Format::Wide => report(context, &manifests, &results, &options),
        format => {
            let objects: Vec<Value> = results.into_iter().map(|r| without_managed_fields(r.object)).collect();
            output::objects(format, objects, false)
        }
    }
}

/// Kinds that somebody who knows Kubernetes tries first, and that are others here.
const OF_KUBERNETES: [&str; 9] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job", "CronJob", "Service", "Ingress"];

/// How to apply.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) dry_run: bool,
    pub(super) force: bool,
    pub(super) manager: String,
    /// Apply, Create or Update.
    pub(super) verb: OperationVerb,
    /// Deletions of what is declared no more.
    pub(super) pruned: Vec<Operation>,
    /// Only if it is still what was planned.
    pub(super) planned: Option<Plan>,
}

impl Default for Options {
    fn default() -> Self {
        let verb = OperationVerb::Apply;
        Self { dry_run: false, force: false, manager: "appm".to_owned(), verb, pruned: Vec::new(), planned: None }
    }
}

impl Options {
    /// What was not done when something is wrong.
    fn nothing(&self) -> &'static str {
        match self.verb {
            OperationVerb::Create => "nothing was created",
            OperationVerb::Update => "nothing was replaced",
            _ => "nothing was applied",
        }
    }
}

/// Applies everything in one transaction.
///
/// # Errors
/// With every mistake of every manifest, before anything is changed.
pub(super) async fn apply(
    context: &Context,
    manifests: &Manifests,
    options: &Options,
) -> Result<Vec<OperationResult>, CliError> {
    if manifests.objects.is_empty() && manifests.faults.is_empty() {
        return Err(CliError::new(Exit::InvalidInput, "the manifests declare nothing"));
    }
    let mut operations = manifests.operations(options.verb, options.force);
    operations.extend(options.pruned.iter().cloned());
    let mut transaction = Transaction::new(&options.manager, operations);
    // With faults of our own, the server is only asked what else is wrong.
    transaction.dry_run = options.dry_run || !manifests.faults.is_empty();
    if let Some(plan) = &options.planned {
        transaction.plan_hash.clone_from(&plan.hash);
    }
    manifests.fit(&transaction)?;
    if manifests.faults.is_empty() {
        let status = match context.transact(&transaction).await? {
            Ok(done) => return Ok(done.results),
            Err(status) => status,
        };
        return match &options.planned {
            Some(plan) if plan::is_other(&status) => Err(plan::other(plan, transaction, context).await),
            _ => Err(refused(context, manifests, options, status)),
        };
    }
    let mut all = manifests.faults.clone();
    if !manifests.objects.is_empty()
        && let Ok(Err(status)) = context.transact(&transaction).await
        && status.is(Reason::Invalid)
    {
        all.extend(manifests.locate(&status).0);
    }
    Err(invalid(context, manifests, options, all, Vec::new()))
}

/// The error for what the server refused.
pub(super) fn refused(context: &Context, manifests: &Manifests, options: &Options, status: Status) -> CliError {
    let (placed, rest) = manifests.locate(&status);
    if status.is(Reason::Invalid) && !(placed.is_empty() && rest.is_empty()) {
        return invalid(context, manifests, options, placed, rest);
    }
    let conflicts = status.details.causes.iter().any(|c| c.reason == "FieldManagerConflict");
    if status.is(Reason::Conflict) && conflicts {
        let mut error = CliError::new(Exit::Conflict, "other managers own some of these fields; nothing was applied");
        error.details = diagnostics::render(placed, &manifests.files, &context.screen);
        error.details.extend(rest);
        return error.help("leave the fields out of the manifest, or take them with --force-conflicts");
    }
    let mut error = CliError::from(status);
    error.details = diagnostics::render(placed, &manifests.files, &context.screen);
    error.details.extend(rest);
    error
}

fn invalid(
    context: &Context,
    manifests: &Manifests,
    options: &Options,
    placed: Vec<diagnostics::Diagnostic>,
    rest: Vec<String>,
) -> CliError {
    let unknown = |kind: &&&str| {
        let told = format!("there is no kind `{kind}`");
        placed.iter().any(|fault| fault.path == "kind" && fault.message.starts_with(&told))
    };
    let of_kubernetes = OF_KUBERNETES.iter().find(unknown);
    let mut details = diagnostics::render(placed, &manifests.files, &context.screen);
    details.extend(rest);
    let count = details.len();
    let mistakes = if count == 1 { "1 mistake".to_owned() } else { format!("{count} mistakes") };
    let mut error = CliError::new(Exit::InvalidInput, format!("{mistakes}; {}", options.nothing()));
    error.details = details;
    error.maybe_help(of_kubernetes.map(|kind| {
        format!(
            "`appm import kubernetes FILE` says what becomes of a {kind} here; `appm api-resources` lists the kinds"
        )
    }))
}

/// One line for each object: what became of it.
pub(super) fn report(
    context: &Context,
    manifests: &Manifests,
    results: &[OperationResult],
    options: &Options,
) -> Result<(), CliError> {
    let dry = if options.dry_run { " (dry run)" } else { "" };
    let say = |name: String, word: &str| {
        let word = context.screen.paint(screen::judge(word), word);
        screen::line(format_args!("{name} {word}{dry}"))
    };
    for (object, result) in manifests.objects.iter().zip(results) {
        let word = match (options.verb, result.outcome) {
            (OperationVerb::Update, Outcome::Configured) => "replaced",
            (_, outcome) => outcome_word(outcome),
        };
        let name = if object.name.is_empty() { &name_of(&result.object) } else { &object.name };
        say(qualified(object.served, name), word)?;
    }
    for pruned in &options.pruned {
        say(output::name_line(&pruned.object), "pruned")?;
    }
    Ok(())
}

/// `created`, `configured`, `unchanged`.
pub(super) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
    }
}
