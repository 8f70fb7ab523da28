//! `appm backup`: all that a data directory has to keep, in one file, while the server goes on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes};
use clap::{Args, ValueHint};
use futures::{StreamExt, stream::BoxStream};
use tokio::runtime::Handle;

use crate::{
    client::http::{Endpoint, Request, RequestError},
    daemon::backup::{self, About, ArchiveError},
};

use super::{
    context::Context,
    error::{CliError, Exit},
    screen,
};

/// Save the store, the audit log and the keys to a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm backup /srv/backups/            a new file in that directory, named after node and time
  appm backup appm.tar                 this file, replaced when the new one is whole
  appm backup - | age -r age1… > b.age
  appm backup --no-keys appm.tar       without what opens Secrets: these are then lost without keys/seal.key
  appm restore --dry-run appm.tar      whether it is whole, and what is in it

Nothing stops meanwhile, and everything in it is of one moment. Without a server the data directory is read itself.
Not in it: output of processes, artifacts, uploaded files.")]
pub(super) struct BackupArgs {
    /// The file, a directory for it, or `-`
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    file: PathBuf,
    /// Leave out the keys and certificates
    #[arg(long)]
    no_keys: bool,
}

pub(super) async fn run(args: BackupArgs, context: &Context) -> Result<(), CliError> {
    let folder = match context.client.endpoint() {
        Endpoint::Unix(socket) => socket.parent().map(Path::to_owned),
        Endpoint::Https(_) => None,
    };
    let keys_of = folder.clone().filter(|_| !args.no_keys);
    let mut target = Target::new(args.file, context)?;
    let about = match (context.client.stream(Request::get("/backup")).await, &folder) {
        (Ok(pieces), _) => {
            let (about, out) = receive(pieces, keys_of, target.out).await?;
            target.out = out;
            about
        }
        (Err(RequestError::Unreachable { .. }), Some(folder)) if folder.join("appm.db").exists() => {
            let node = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let mut out = target.out;
            let made = backup::of_unused(folder, node, !args.no_keys, &mut out).await;
            target.out = out;
            made.map_err(|error| CliError::failed(error.to_string()))?
        }
        (Err(error), _) => return Err(error.into()),
    };
    let to = target.path.clone();
    let size = target.keep()?;
    let Some(path) = to else { return Ok(()) };
    let objects: u64 = about.objects.values().sum();
    screen::line(format_args!(
        "{}: {objects} objects at revision {}, {:.1} MiB",
        path.display(),
        about.revision,
        size as f64 / f64::from(1 << 20)
    ))?;
    screen::remark(said_of_keys(&about, args.no_keys));
    Ok(())
}

fn said_of_keys(about: &About, left_out: bool) -> &'static str {
    match (about.keys, left_out, about.sealed_with.is_some()) {
        (true, ..) => "the keys are in it: whoever has this file can read every Secret",
        (_, true, true) => "without the keys: Secrets can be read again with keys/seal.key of the data directory only",
        (_, false, true) => {
            "without the keys, which are on the server's machine only: to restore Secrets, keys/seal.key is needed too"
        }
        (_, _, false) => "without the keys",
    }
}

/// Takes what a server sends, on a thread that may wait.
async fn receive(
    pieces: BoxStream<'static, Result<Bytes, RequestError>>,
    keys_of: Option<PathBuf>,
    mut out: Out,
) -> Result<(About, Out), CliError> {
    let mut sent = Sent { pieces, piece: Bytes::new(), handle: Handle::current() };
    let taken = tokio::task::spawn_blocking(move || {
        let about = backup::pass_on(&mut sent, keys_of.as_deref(), &mut out);
        (about, out)
    });
    let (about, out) = taken.await.map_err(|error| CliError::failed(error.to_string()))?;
    Ok((about.map_err(broken_off)?, out))
}

fn broken_off(error: ArchiveError) -> CliError {
    match error {
        ArchiveError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => CliError::from(error),
        ArchiveError::CutOff => CliError::new(Exit::Failed, "the server broke off: nothing was kept"),
        error => CliError::failed(format!("the backup cannot be written: {error}")),
    }
}

/// What a server sends, for those who read and wait.
struct Sent {
    pieces: BoxStream<'static, Result<Bytes, RequestError>>,
    piece: Bytes,
    handle: Handle,
}

impl Read for Sent {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.handle.block_on(self.pieces.next()) {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let length = self.piece.len().min(into.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// A file or the standard output.
enum Out {
    File(BufWriter<File>),
    Stdout(io::Stdout),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Out::File(file) => file.write(bytes),
            Out::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::File(file) => file.flush(),
            Out::Stdout(out) => out.flush(),
        }
    }
}

/// Where it goes: beside the file first, which is replaced by a whole one only.
struct Target {
    path: Option<PathBuf>,
    out: Out,
    part: Option<Part>,
}

impl Target {
    fn new(file: PathBuf, context: &Context) -> Result<Self, CliError> {
        if file == Path::new("-") {
            return Ok(Self { path: None, out: Out::Stdout(io::stdout()), part: None });
        }
        let path = match file.is_dir() {
            true => {
                let node = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
                let (node, at) = (node.unwrap_or_default(), context.now().strftime("%Y%m%dT%H%M%SZ"));
                file.join(format!("appm-{node}-{at}.tar"))
            }
            false => file,
        };
        let part = Part(PathBuf::from(format!("{}.part", path.display())));
        let failed = |error: io::Error| CliError::io(&format!("cannot write `{}`", part.0.display()), &error);
        // One that was left by whoever was killed.
        let _ = fs::remove_file(&part.0);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part.0).map_err(failed)?;
        Ok(Self { path: Some(path), out: Out::File(BufWriter::new(made)), part: Some(part) })
    }

    /// Syncs it and gives it its name; its size.
    fn keep(self) -> Result<u64, CliError> {
        let (Some(path), Some(part), Out::File(out)) = (self.path, self.part, self.out) else { return Ok(0) };
        let kept = (|| {
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            let size = file.metadata()?.len();
            fs::rename(&part.0, &path)?;
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()?;
            Ok(size)
        })();
        kept.map_err(|error| CliError::io(&format!("cannot write `{}`", path.display()), &error))
    }
}

/// An unfinished file, which goes unless it was given its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // It is not there any more if all went well.
        let _ = fs::remove_file(&self.0);
    }
}
