//! `appm restore`: a data directory out of a backup. Needs no server, and wants none.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};

use crate::daemon::backup::{self, About, ArchiveError, RestoreError, Restored};

use super::{
    error::{CliError, Exit},
    screen,
    settings::Global,
};

/// Put a backup in the place of the store
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm restore appm.tar                             into the usual data directory, which must be empty
  appm restore appm.tar --data-dir /srv/appm
  appm server stop && appm restore --force appm.tar over the store that is there; that one is kept aside
  appm restore --dry-run appm.tar                   only look whether it is whole, and what is in it
  age -d -i key b.age | appm restore -

Everything is read and proved before anything is changed. Apps that run go on running; the next server compares them with
what was restored.")]
pub(super) struct RestoreArgs {
    /// The backup, or `-`
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Replace a store that is there; it goes to a directory beside
    #[arg(long)]
    force: bool,
    /// Only look
    #[arg(long)]
    dry_run: bool,
    /// Where the key is that opens its Secrets, if it is neither in the backup nor in the data directory
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    seal_key_file: Option<PathBuf>,
}

pub(super) fn run(args: &RestoreArgs, global: &Global) -> Result<(), CliError> {
    let mut archive: Box<dyn Read + Send> = match args.file == Path::new("-") {
        true => Box::new(io::stdin()),
        false => {
            let failed = |e: io::Error| CliError::io(&format!("cannot read `{}`", args.file.display()), &e);
            let file = File::open(&args.file).map_err(failed)?;
            Box::new(BufReader::with_capacity(256 << 10, file))
        }
    };
    if args.dry_run {
        let about = backup::inspect(&mut archive).map_err(|error| unusable(args, &error))?;
        return Ok(describe(&about)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| CliError::io("cannot start", &e))?;
    let dir = global.data_dir();
    let restored = backup::restore(&dir, &mut *archive, args.force, args.seal_key_file.as_deref());
    let Restored { about, aside } = runtime.block_on(restored).map_err(|error| refused(args, error))?;
    describe(&about)?;
    screen::line(format_args!("restored into {}", dir.display()))?;
    if let Some(aside) = aside {
        screen::line(format_args!("what was there is in {}", aside.display()))?;
    }
    let here = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !about.node.is_empty() && about.node != here {
        screen::remark(format_args!(
            "its Apps are bound to the node `{}`: start the server with `--node-name {}`",
            screen::harmless(&about.node),
            screen::harmless(&about.node)
        ));
    }
    Ok(())
}

fn describe(about: &About) -> io::Result<()> {
    let text = |text: &str| screen::harmless(text);
    let objects: u64 = about.objects.values().sum();
    screen::line(format_args!(
        "backup of node {} at {}, revision {}, by appm {}: whole",
        text(&about.node),
        about.created,
        about.revision,
        text(&about.appm)
    ))?;
    let kinds: Vec<String> = about.objects.iter().map(|(kind, count)| format!("{count} {}", text(kind))).collect();
    screen::line(format_args!("{objects} objects: {}", kinds.join(", ")))?;
    screen::line(match (about.keys, &about.sealed_with) {
        (true, _) => "with keys and certificates".to_owned(),
        (false, Some(key)) => format!("without the keys; its Secrets are sealed with the key {}", text(key)),
        (false, None) => "without the keys; nothing in it is sealed".to_owned(),
    })
}

fn unusable(args: &RestoreArgs, error: &ArchiveError) -> CliError {
    CliError::new(Exit::InvalidInput, format!("`{}`: {error}", args.file.display()))
}

fn refused(args: &RestoreArgs, error: RestoreError) -> CliError {
    match error {
        RestoreError::Archive(error) => unusable(args, &error),
        RestoreError::Occupied { .. } => CliError::new(Exit::Conflict, error.to_string())
            .help("`--force` replaces it, and keeps it in a directory beside"),
        RestoreError::NoKey { .. } => {
            CliError::new(Exit::InvalidInput, error.to_string()).help("`--seal-key-file FILE` says where it is")
        }
        RestoreError::Store(error) => CliError::failed(format!("nothing was restored: {error}")),
        RestoreError::File { .. } => CliError::failed(error.to_string()),
    }
}
