//! Where the steps of a workflow's run work together, and the files by which one tells something to those after it.
//!
//! `workspaces/<name>` of the data directory holds `work` and `temp` (shared by all steps of the run), `places/<place>` (a job's own) and
//! `steps/<uid>/{output,env,path,summary}`. Only the working directories and the files belong to the process's user: nobody
//! can put a link in the place of what is read later with the rights of root.
//!
//! The data directory is closed to others. Where processes run as another user, `workspaces/<name>` is a link to a
//! directory outside of it.

use std::{
    borrow::Cow,
    fs::{DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
};

use nix::libc;

use super::spawn::Switch;
use crate::{
    api::{MACHINE_MARK, RunStep, TEMP_MARK, Uid, WORKSPACE_MARK},
    drivers::{STEP_FILES, WORKSPACES},
};

/// Where workspaces are if the data directory is closed to those who work in them.
const OUTSIDE: &str = "/var/lib/appm-workspaces";

/// The places of one step, absolute.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The job's directory.
    root: PathBuf,
    /// Where the step begins.
    pub directory: PathBuf,
    files: PathBuf,
    /// For what is needed for a while, of the run.
    temp: PathBuf,
}

impl Workspace {
    /// Where a step works, whether that is there or not.
    pub(super) fn of(step: &RunStep, uid: &Uid) -> io::Result<Workspace> {
        let inside = Path::new(WORKSPACES).join(plain(&step.workspace)?);
        let base = match inside.read_link() {
            Ok(target) => target,
            Err(_) => std::path::absolute(inside)?,
        };
        let root = match step.place.as_str() {
            "" => base.join("work"),
            place => base.join("places").join(plain(place)?),
        };
        let files = base.join("steps").join(uid.as_str());
        Ok(Workspace { directory: root.join(&step.directory), root, files, temp: base.join("temp") })
    }

    /// Makes what is not there yet, for this user; its files are empty then.
    pub(super) fn make(step: &RunStep, uid: &Uid, switch: Option<&Switch>) -> io::Result<Workspace> {
        let mut workspace = Self::of(step, uid)?;
        // Of all steps but a run's first, what is above it is there.
        let made = DirBuilder::new().mode(0o711).create(&workspace.files);
        if made.is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists) {
            directory(Path::new(WORKSPACES), 0o711)?;
            let inside = Path::new(WORKSPACES).join(plain(&step.workspace)?);
            if switch.is_some() && !is_open(&std::path::absolute(".")?)? {
                outside(&inside)?;
            } else {
                directory(&inside, 0o711)?;
            }
            workspace = Self::of(step, uid)?;
            directory(workspace.files.parent().unwrap_or(Path::new("/")), 0o711)?;
            directory(&workspace.files, 0o711)?;
        }
        if !step.place.is_empty() {
            directory(workspace.root.parent().unwrap_or(Path::new("/")), 0o711)?;
        }
        for dir in [&workspace.root, &workspace.temp] {
            directory(dir, 0o700)?;
            give(dir, switch)?;
        }
        for name in STEP_FILES {
            let path = workspace.files.join(name);
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            options.open(&path)?;
            give(&path, switch)?;
        }
        Ok(workspace)
    }

    /// A text of a step with what only this machine knows put in.
    pub(super) fn settle<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if ![WORKSPACE_MARK, TEMP_MARK, MACHINE_MARK].iter().any(|mark| text.contains(mark)) {
            return Cow::Borrowed(text);
        }
        let text = text.replace(WORKSPACE_MARK, &self.root.display().to_string());
        let text = text.replace(TEMP_MARK, &self.temp.display().to_string());
        Cow::Owned(text.replace(MACHINE_MARK, &machine()))
    }

    /// The variables by which a step finds all that.
    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.files.join(name).display().to_string();
        let root = self.root.display().to_string();
        let files = [
            ("GITHUB_OUTPUT", "APPM_OUTPUT", "output"),
            ("GITHUB_ENV", "APPM_ENV", "env"),
            ("GITHUB_PATH", "APPM_PATH", "path"),
            ("GITHUB_STEP_SUMMARY", "APPM_STEP_SUMMARY", "summary"),
        ];
        let files = files.into_iter().flat_map(|(theirs, ours, name)| [(theirs, file(name)), (ours, file(name))]);
        let temp = self.temp.display().to_string();
        let own = [("RUNNER_TEMP", temp), ("RUNNER_NAME", machine()), ("GITHUB_WORKSPACE", root.clone())];
        files.chain(own).chain([("APPM_WORKSPACE", root)]).collect()
    }
}

/// The machine's name.
fn machine() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A name that leads nowhere else.
fn plain(name: &str) -> io::Result<&str> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match !name.is_empty() && name.bytes().all(good) {
        true => Ok(name),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no name of a workspace"))),
    }
}

fn directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        // Whatever the umask is.
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(mode)),
    }
}

fn give(path: &Path, switch: Option<&Switch>) -> io::Result<()> {
    let Some(switch) = switch else { return Ok(()) };
    let meta = path.symlink_metadata()?;
    match (meta.uid(), meta.gid()) == (switch.uid, switch.gid) {
        true => Ok(()),
        false => lchown(path, Some(switch.uid), Some(switch.gid)),
    }
}

/// Whether everybody can get there.
fn is_open(dir: &Path) -> io::Result<bool> {
    for dir in dir.ancestors() {
        if dir.metadata()?.mode() & 0o001 == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A directory outside of the data directory, and the link to it.
fn outside(inside: &Path) -> io::Result<()> {
    if inside.symlink_metadata().is_ok() {
        return Ok(());
    }
    directory(Path::new(OUTSIDE), 0o711)?;
    let data = std::path::absolute(".")?.metadata()?;
    let target = Path::new(OUTSIDE).join(format!("{:x}-{:x}", data.dev(), data.ino()));
    directory(&target, 0o711)?;
    let target = target.join(inside.file_name().unwrap_or_default());
    directory(&target, 0o711)?;
    symlink(target, inside)
}
