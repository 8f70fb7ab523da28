//! `appm file put` and `get`: files to and from the server's directory for files.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use futures::{TryStreamExt, stream};

use super::{
    ages,
    context::Context,
    error::{CliError, Exit},
    screen,
};
use crate::client::http::{Request, percent_encode};

/// As much of a file as is read at a time.
const PIECE: usize = 256 << 10;

/// Send files to the server and fetch them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm file put report.pdf                     to the server's directory for files, under the same name
  appm file put -l report.pdf -r 2026/report.pdf
  appm file get 2026/report.pdf -l /tmp/report.pdf

The directory is DATA_DIR/files, or where `appm server --files-dir` says; its subdirectories are there or not: none is made. Nothing that is there is
replaced, neither there nor here, and a file is there whole or not at all.")]
pub(super) struct FileArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Send a file
    Put(PutArgs),
    /// Fetch a file
    Get(GetArgs),
}

#[derive(Args, Debug)]
struct PutArgs {
    /// The file here
    #[arg(value_name = "FILE", required_unless_present = "local", conflicts_with = "local")]
    file: Option<PathBuf>,
    /// The same, as App Mesh has it
    #[arg(short, long, value_name = "FILE")]
    local: Option<PathBuf>,
    /// What it is called there [default: its name]
    #[arg(short, long, value_name = "PATH")]
    remote: Option<String>,
    /// Do not send along its mode and owner
    #[arg(short = 'a', long)]
    no_attr: bool,
}

#[derive(Args, Debug)]
struct GetArgs {
    /// The file there
    #[arg(value_name = "PATH", required_unless_present = "remote", conflicts_with = "remote")]
    path: Option<String>,
    /// The same, as App Mesh has it
    #[arg(short, long, value_name = "PATH")]
    remote: Option<String>,
    /// What it is called here; -: stdout [default: its name]
    #[arg(short, long, value_name = "FILE")]
    local: Option<PathBuf>,
    /// Do not give it the mode that it has there
    #[arg(short = 'a', long)]
    no_attr: bool,
}

pub(super) async fn run(args: FileArgs, context: &Context) -> Result<(), CliError> {
    match args.verb {
        Verb::Put(args) => put(&args, context).await,
        Verb::Get(args) => get(&args, context).await,
    }
}

/// The last step of a path.
fn name_of(path: &Path) -> Result<&str, CliError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| {
        CliError::usage(format!("`{}` names no file", path.display())).help("--remote and --local name one")
    })
}

async fn put(args: &PutArgs, context: &Context) -> Result<(), CliError> {
    let local = args.file.as_ref().or(args.local.as_ref()).expect("clap asks for one");
    let cannot = |e: io::Error| CliError::io(&format!("cannot read {}", local.display()), &e);
    let file = File::open(local).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err(CliError::new(Exit::InvalidInput, format!("{} is no file", local.display())));
    }
    let remote = match &args.remote {
        Some(remote) => remote,
        None => name_of(local)?,
    };
    let mut headers = vec![("x-file-path", percent_encode(remote))];
    if !args.no_attr {
        headers.push(("x-file-mode", (metadata.mode() & 0o777).to_string()));
        headers.push(("x-file-user", metadata.uid().to_string()));
        headers.push(("x-file-group", metadata.gid().to_string()));
    }
    let pieces = stream::unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Bytes::from(piece)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    });
    context.heard(context.client.upload("/appmesh/file/upload", &headers, pieces).await?);
    Ok(screen::line(format_args!("{} sent, {}", local.display(), ages::bytes(metadata.len())))?)
}

async fn get(args: &GetArgs, context: &Context) -> Result<(), CliError> {
    let remote = args.path.as_ref().or(args.remote.as_ref()).expect("clap asks for one");
    let local = match &args.local {
        Some(local) => local.as_path(),
        None => Path::new(name_of(Path::new(remote))?),
    };
    if local.exists() {
        let error = CliError::new(Exit::Conflict, format!("{} is there already", local.display()));
        return Err(error.help("--local names another file; nothing is replaced"));
    }
    let request = Request::get("/appmesh/file/download").accept("*/*").with("x-file-path", percent_encode(remote));
    let (headers, mut pieces) = context.client.pieces(request).await?;
    if local.as_os_str() == "-" {
        while let Some(piece) = pieces.try_next().await? {
            screen::bytes(&piece)?;
        }
        return Ok(());
    }
    let cannot = |e: io::Error| CliError::io(&format!("cannot write {}", local.display()), &e);
    let folder = local.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    let mut length = 0;
    while let Some(piece) = pieces.try_next().await? {
        part.write_all(&piece).map_err(cannot)?;
        length += piece.len() as u64;
    }
    let mode = headers.get("x-file-mode").and_then(|mode| mode.to_str().ok()).and_then(|mode| mode.parse().ok());
    let mode = mode.filter(|_| !args.no_attr).unwrap_or(0o644) & 0o777;
    fs::set_permissions(part.path(), Permissions::from_mode(mode)).map_err(cannot)?;
    part.persist_noclobber(local).map_err(|e| cannot(e.error))?;
    Ok(screen::line(format_args!("{} fetched, {}", local.display(), ages::bytes(length)))?)
}
