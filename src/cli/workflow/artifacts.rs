//! `appm workflow artifacts`: the files that steps of a run kept.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufReader, Read, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use clap::Args;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};

use super::{
    super::{
        complete,
        context::Context,
        error::{CliError, Exit},
        screen,
    },
    runs,
};
use crate::{
    api::{ArtifactStatus, Kind, WorkflowRun, age},
    client::http::{Request, path_of, query_string},
    policy::artifacts::{Entry, unpack},
};

/// List the files that steps of a run kept, or fetch them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm workflow artifacts release-x7k2p                    which there are
  appm workflow artifacts release-x7k2p dist -o out        the files of one, into the directory `out`
  appm workflow artifacts release-x7k2p -o out             those of all, each in a directory of its name
  appm workflow artifacts release-x7k2p dist -o - | tar t  one as a tar archive")]
pub(in crate::cli) struct ArtifactsArgs {
    /// The run
    #[arg(add = complete::names_of::<WorkflowRun>())]
    run: String,
    /// The artifact
    name: Option<String>,
    /// The directory into which the files are put; `-`: the archive on standard output [default, with a name: here]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) async fn run(args: &ArtifactsArgs, context: &Context) -> Result<(), CliError> {
    let run = runs::get(context, &args.run).await?;
    let all = &run.status.artifacts;
    let find = |name: &String| {
        let absent = || CliError::new(Exit::NotFound, format!("the run `{}` has no artifact `{name}`", args.run));
        all.get_key_value(name).ok_or_else(absent)
    };
    let (wanted, into) = match (&args.name, &args.output) {
        (None, None) => return list(all.iter(), context),
        (Some(name), into) => (vec![find(name)?], into.clone().unwrap_or_else(|| PathBuf::from("."))),
        (None, Some(into)) => (all.iter().collect(), into.clone()),
    };
    let to_stdout = into == Path::new("-");
    if to_stdout && wanted.len() != 1 {
        return Err(CliError::usage("one archive goes to standard output: say which"));
    }
    for (name, artifact) in wanted {
        let dir = if args.name.is_none() { into.join(name) } else { into.clone() };
        if to_stdout {
            send(context, &args.run, name, artifact, &mut io::stdout()).await?;
            continue;
        }
        let failed = |what: &str, error: io::Error| CliError::failed(format!("{what} `{}`: {error}", dir.display()));
        fs::create_dir_all(&dir).map_err(|error| failed("cannot make", error))?;
        let mut archive = Part::in_dir(&dir).map_err(|error| failed("cannot write into", error))?;
        send(context, &args.run, name, artifact, &mut archive.file).await?;
        archive.file.rewind().map_err(|error| failed("cannot read in", error))?;
        unpack(&mut BufReader::new(&archive.file), &mut |entry, bytes| put(&dir, entry, bytes))
            .map_err(|error| CliError::failed(format!("the artifact `{name}` cannot be taken apart: {error}")))?;
        let files = if artifact.files == 1 { "file" } else { "files" };
        screen::line(screen::harmless(&format!("{name}: {} {files} in {}", artifact.files, dir.display())))?;
    }
    Ok(())
}

fn list<'a>(all: impl Iterator<Item = (&'a String, &'a ArtifactStatus)>, context: &Context) -> Result<(), CliError> {
    let heads = ["NAME", "FILES", "BYTES", "STEP", "EXPIRES IN", "DIGEST"].map(str::to_owned).to_vec();
    let now = context.now();
    let rows = all.map(|(name, artifact)| {
        let expires = match artifact.expiration_time {
            None => "-".to_owned(),
            Some(at) if at.0 <= now => "expired".to_owned(),
            Some(at) => age(at.0, now),
        };
        let step = format!("{} / {}", artifact.job, artifact.step);
        vec![
            name.clone(),
            artifact.files.to_string(),
            artifact.size.to_string(),
            step,
            expires,
            artifact.digest.clone(),
        ]
    });
    runs::print_rows(std::iter::once(heads).chain(rows).collect())
}

/// Writes an archive, and looks whether it is the one that was kept.
async fn send(
    context: &Context,
    run: &str,
    name: &str,
    artifact: &ArtifactStatus,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let path = path_of(WorkflowRun::INFO, Some(context.namespace()), Some(run));
    let path = format!("{path}/artifacts{}", query_string(&[("artifact", name.to_owned())]));
    let mut pieces = context.client.stream(Request::get(path)).await?;
    let mut hash = Sha256::new();
    while let Some(piece) = pieces.try_next().await? {
        hash.update(&piece);
        out.write_all(&piece).map_err(|error| CliError::failed(format!("cannot write the artifact: {error}")))?;
    }
    match artifact.digest == format!("sha256:{}", hex::encode(hash.finalize())) {
        true => Ok(()),
        false => Err(CliError::failed(format!("the artifact `{name}` did not come as it was kept"))),
    }
}

/// An archive while it comes. It goes when it was taken apart, or broke off.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn in_dir(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!(".artifact-{}.part", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a file as a new one: what a link in its place leads to stays as it is.
fn put(dir: &Path, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
    let path = dir.join(&entry.path);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display()));
    let mut write = || {
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(&path)?;
        io::copy(bytes, &mut file)?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(entry.modified))?;
        if entry.executable {
            file.set_permissions(Permissions::from_mode(0o755))?;
        }
        Ok(())
    };
    write().map_err(named)
}
