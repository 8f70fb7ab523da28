//! From a [`Start`] to everything that the child needs: directories, FIFOs, script, user, vectors.
//!
//! An Instance's directory is `instances/<uid>`, relative to the data directory, which is the keeper's own:
//! `work` (the process's, 0700), `logs` (the logger's), `<attempt>/{out,err}.fifo` and `<attempt>/script`.
//! Only `work` belongs to the process's user, so nothing above it can be moved away under the keeper's feet.

use std::{
    ffi::CString,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, lchown},
    },
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::{libc, sys::stat::Mode, unistd::mkfifo};

use super::{
    cgroup::{Group, Groups},
    notify::socket_name,
    spawn::{Prepared, SCRIPT, Stage, Switch, WATCHDOG_PID},
    users::Users,
};
use crate::{
    api::{RlimitName, Uid},
    drivers::{ProcessProgram, Start, StartKey},
};

/// Where programs are looked for if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why nothing was forked.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// The manifest's author can mend it. The attempt counts as used.
    #[error("{0}")]
    Refused(String),
    /// The machine cannot enforce the limits. The attempt counts as used.
    #[error("{0}")]
    Unavailable(String),
    /// The machine is short of something. The attempt does not count and may be tried again.
    #[error("cannot prepare `{0}`: {1}")]
    Short(String, io::Error),
}

/// What is prepared: the child's side, and the ends of the FIFOs that the keeper holds.
#[derive(Debug)]
pub(super) struct Ready {
    pub child: Prepared,
    pub tap: [OwnedFd; 2],
    pub group: Group,
}

/// What the keeper knows of itself that children must not inherit.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) struct Inherited {
    pub nofile: (u64, u64),
    pub oom_protected: bool,
}

/// The directory of an Instance, relative to the data directory.
pub(super) fn instance_dir(uid: &Uid) -> PathBuf {
    Path::new("instances").join(uid.as_str())
}

/// The directory of one attempt.
pub(super) fn attempt_dir(key: &StartKey) -> PathBuf {
    instance_dir(&key.uid).join(key.attempt.to_string())
}

/// True for a text that is a file name of its own and nothing else.
pub(super) fn is_plain(uid: &Uid) -> bool {
    let text = uid.as_str();
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Makes everything ready for the fork.
pub(super) fn prepare(
    start: &Start,
    users: &mut Users,
    groups: &mut Groups,
    own: Inherited,
    now: Timestamp,
) -> Result<Ready, PrepareError> {
    let refused = PrepareError::Refused;
    if !is_plain(&start.key.uid) {
        return Err(refused(format!("`{}` is no uid", start.key.uid)));
    }
    let process = process_of(start)?;
    let switch = users.find(process.user.as_deref(), process.group.as_deref(), now).map_err(refused)?;
    let dir = attempt_dir(&start.key);
    directories(&start.key, switch.as_ref()).map_err(|e| short(&dir, e))?;
    let [out, err] = ["out.fifo", "err.fifo"].map(|name| fifo(&dir.join(name), switch.as_ref()));
    let ((out, out_tap), (err, err_tap)) = (out?, err?);
    let (programs, argv, script) = match &process.script {
        Some(text) => script_form(&dir.join("script"), text, switch.as_ref())?,
        None => command_form(start, process)?,
    };
    let env = environment(start)?;
    let stdin = stdin(process.stdin.as_deref()).map_err(|e| short(Path::new("standard input"), e))?;
    let own_dir = text(instance_dir(&start.key.uid).join("work").display().to_string())?;
    let working_dir = process.working_dir.clone().map(text).transpose()?;
    // Last, because from here on there is something to undo.
    let made = groups.make(&start.key, &start.limits);
    let (group, entrances) = made.map_err(|why| PrepareError::Unavailable(why.to_string()))?;
    let child = Prepared {
        groups: entrances,
        programs,
        argv,
        env,
        stdin,
        stdout: out,
        stderr: err,
        script,
        own_dir,
        working_dir,
        switch,
        umask: process.umask,
        nice: process.nice,
        rlimits: rlimits(process, own),
        reset_oom: own.oom_protected,
    };
    Ok(Ready { child, tap: [out_tap, err_tap], group })
}

/// Makes ready what is run beside an attempt: all that the attempt got, with its own words, and one place for its output.
pub(super) fn beside(
    start: &Start,
    output: OwnedFd,
    groups: Vec<OwnedFd>,
    users: &mut Users,
    own: Inherited,
    now: Timestamp,
) -> Result<Prepared, PrepareError> {
    let process = process_of(start)?;
    let found = users.find(process.user.as_deref(), process.group.as_deref(), now);
    let switch = found.map_err(PrepareError::Refused)?;
    let (programs, argv, script) = command_form(start, process)?;
    let copied = |e| short(Path::new("standard streams"), e);
    Ok(Prepared {
        groups,
        programs,
        argv,
        env: environment(start)?,
        stdin: stdin(None).map_err(copied)?,
        stdout: output.try_clone().map_err(copied)?,
        stderr: output,
        script,
        own_dir: text(instance_dir(&start.key.uid).join("work").display().to_string())?,
        working_dir: process.working_dir.clone().map(text).transpose()?,
        switch,
        umask: process.umask,
        nice: process.nice,
        rlimits: rlimits(process, own),
        reset_oom: own.oom_protected,
    })
}

fn process_of(start: &Start) -> Result<&ProcessProgram, PrepareError> {
    start.process().ok_or_else(|| PrepareError::Refused("the keeper runs no containers".to_owned()))
}

fn short(what: &Path, e: io::Error) -> PrepareError {
    PrepareError::Short(what.display().to_string(), e)
}

fn text(text: String) -> Result<CString, PrepareError> {
    CString::new(text).map_err(|e| {
        let text = String::from_utf8_lossy(&e.into_vec()).replace('\0', "␀");
        PrepareError::Refused(format!("`{text}` holds a NUL character"))
    })
}

fn directories(key: &StartKey, switch: Option<&Switch>) -> io::Result<()> {
    let make = |path: &Path, mode: u32| match DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    };
    let dir = instance_dir(&key.uid);
    match make(&dir, 0o711) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(Path::new("instances"), 0o711)?;
            make(&dir, 0o711)?;
        }
        outcome => outcome?,
    }
    let work = dir.join("work");
    make(&work, 0o700)?;
    if let Some(switch) = switch {
        let meta = work.symlink_metadata()?;
        if (meta.uid(), meta.gid()) != (switch.uid, switch.gid) {
            lchown(&work, Some(switch.uid), Some(switch.gid))?;
        }
    }
    make(&dir.join("logs"), 0o700)?;
    make(&attempt_dir(key), 0o711)
}

/// The child's end is open for reading too, so that its writes never meet a broken pipe; the keeper's end keeps what is
/// in the FIFO while nobody else does.
fn fifo(path: &Path, switch: Option<&Switch>) -> Result<(OwnedFd, OwnedFd), PrepareError> {
    let make = || -> io::Result<(OwnedFd, OwnedFd)> {
        match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        if let Some(switch) = switch {
            chown(path, Some(switch.uid), Some(switch.gid))?;
        }
        let theirs = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        Ok((theirs.into(), open_tap(path)?))
    };
    make().map_err(|e| short(path, e))
}

/// The reading end of a FIFO.
pub(super) fn open_tap(path: &Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?.into())
}

type Form = (Vec<CString>, Vec<CString>, Option<OwnedFd>);

/// Run by its interpreter line, or by `sh -eu`. Another user cannot reach the file by its path (the data directory is
/// closed to others), so it gets it as an open file.
fn script_form(path: &Path, source: &str, switch: Option<&Switch>) -> Result<Form, PrepareError> {
    let write = || -> io::Result<Option<OwnedFd>> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(path)?;
        file.write_all(source.as_bytes())?;
        drop(file);
        let Some(switch) = switch else { return Ok(None) };
        chown(path, Some(switch.uid), Some(switch.gid))?;
        Ok(Some(File::open(path)?.into()))
    };
    let open = write().map_err(|e| short(path, e))?;
    let place = match open {
        Some(_) => format!("/proc/self/fd/{SCRIPT}"),
        None => std::path::absolute(path).map_err(|e| short(path, e))?.display().to_string(),
    };
    let place = text(place)?;
    if source.starts_with("#!") {
        return Ok((vec![place.clone()], vec![place], open));
    }
    Ok((vec![c"/bin/sh".into()], vec![c"sh".into(), c"-eu".into(), place], open))
}

/// As execvp(3) finds it, in the PATH of the process's own environment.
fn command_form(start: &Start, process: &ProcessProgram) -> Result<Form, PrepareError> {
    let Some(name) = process.argv.first().filter(|name| !name.is_empty()) else {
        return Err(PrepareError::Refused("the command is empty".to_owned()));
    };
    let argv = process.argv.iter().cloned().map(text).collect::<Result<_, _>>()?;
    let programs = if name.contains('/') {
        vec![text(name.clone())?]
    } else {
        let dirs = search_path(start).split(':').map(|dir| if dir.is_empty() { "." } else { dir });
        dirs.map(|dir| text(format!("{dir}/{name}"))).collect::<Result<_, _>>()?
    };
    Ok((programs, argv, None))
}

fn search_path(start: &Start) -> &str {
    start.env.iter().rev().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value)
}

/// As given; what says whom it belongs to is added if it is missing, and how it may speak to us in any case.
fn environment(start: &Start) -> Result<Vec<CString>, PrepareError> {
    let own = [("APPM_INSTANCE_UID", start.key.uid.to_string()), ("APPM_ATTEMPT", start.key.attempt.to_string())];
    let missing = own.into_iter().filter(|(name, _)| !start.env.iter().any(|(given, _)| given == name));
    let notify = notify_environment(start);
    let given = start.env.iter().filter(|(given, _)| !notify.iter().any(|(name, _)| given == name));
    let given = given.map(|(name, value)| format!("{name}={value}"));
    let added = missing.chain(notify.iter().cloned()).map(|(name, value)| format!("{name}={value}"));
    given.chain(added).map(text).collect()
}

/// The number in `WATCHDOG_PID` is the child's own, which it puts there itself: see [`super::spawn`].
fn notify_environment(start: &Start) -> Vec<(&'static str, String)> {
    let Some(notify) = start.notify else { return Vec::new() };
    let mut added = vec![("NOTIFY_SOCKET", format!("@{}", socket_name(&start.key)))];
    if let Some(watchdog) = notify.watchdog {
        added.push(("WATCHDOG_USEC", watchdog.as_micros().to_string()));
        added.push((WATCHDOG_PID, String::new()));
    }
    added
}

fn stdin(given: Option<&str>) -> io::Result<OwnedFd> {
    use std::io::{Seek, SeekFrom};
    match given.filter(|given| !given.is_empty()) {
        None => Ok(File::open("/dev/null")?.into()),
        Some(given) => {
            let mut file = File::from(rustix::fs::memfd_create("stdin", rustix::fs::MemfdFlags::CLOEXEC)?);
            file.write_all(given.as_bytes())?;
            file.seek(SeekFrom::Start(0))?;
            Ok(file.into())
        }
    }
}

fn rlimits(process: &ProcessProgram, own: Inherited) -> Vec<(u32, u64, u64)> {
    let asked = process.rlimits.iter().map(|(name, value)| (resource(*name), *value, *value));
    let nofile = (libc::RLIMIT_NOFILE, own.nofile.0, own.nofile.1);
    std::iter::once(nofile).filter(|_| !process.rlimits.contains_key(&RlimitName::Nofile)).chain(asked).collect()
}

fn resource(name: RlimitName) -> u32 {
    match name {
        RlimitName::As => libc::RLIMIT_AS,
        RlimitName::Core => libc::RLIMIT_CORE,
        RlimitName::Cpu => libc::RLIMIT_CPU,
        RlimitName::Data => libc::RLIMIT_DATA,
        RlimitName::Fsize => libc::RLIMIT_FSIZE,
        RlimitName::Memlock => libc::RLIMIT_MEMLOCK,
        RlimitName::Nofile => libc::RLIMIT_NOFILE,
        RlimitName::Nproc => libc::RLIMIT_NPROC,
        RlimitName::Stack => libc::RLIMIT_STACK,
    }
}

/// A sentence for the manifest's author about what failed between fork and exec.
pub(super) fn explain(start: &Start, stage: Stage, errno: i32) -> String {
    let why = nix::errno::Errno::from_raw(errno).desc().to_lowercase();
    let Some(process) = start.process() else { return why };
    let name = process.argv.first().map_or("", String::as_str);
    let whom = process.user.as_deref().or(process.group.as_deref()).unwrap_or("");
    match stage {
        Stage::Descriptors => format!("cannot set up the process's standard streams: {why}"),
        Stage::Group => format!("cannot enter the control group of its limits: {why}"),
        Stage::OwnDir => format!("cannot enter the instance's own directory: {why}"),
        Stage::Nice => format!("cannot set nice to {}: {why}", process.nice),
        Stage::Rlimit => format!("cannot set the resource limits {}: {why}", shown(&process.rlimits)),
        Stage::User => format!("cannot become `{whom}`: {why}"),
        Stage::WorkingDir => {
            let dir = process.working_dir.as_deref().unwrap_or("");
            match errno {
                libc::ENOENT => format!("no such working directory `{dir}`"),
                _ => format!("cannot enter the working directory `{dir}`: {why}"),
            }
        }
        Stage::Exec if process.script.is_some() && errno == libc::ENOENT => {
            "the interpreter that the script's first line names does not exist".to_owned()
        }
        Stage::Exec if process.script.is_some() => format!("cannot run the script: {why}"),
        Stage::Exec if errno != libc::ENOENT => format!("cannot run `{name}`: {why}"),
        Stage::Exec if name.contains('/') => format!("no such program `{name}` (or the interpreter it names)"),
        Stage::Exec => format!("no such program `{name}` in PATH `{}`", search_path(start)),
    }
}

fn shown(rlimits: &std::collections::BTreeMap<RlimitName, u64>) -> String {
    let each = rlimits.iter().map(|(name, value)| format!("{}={value}", format!("{name:?}").to_lowercase()));
    each.collect::<Vec<_>>().join(", ")
}
