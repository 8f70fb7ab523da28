//! From a [`Start`] to everything that the child needs: directories, FIFOs, script, user, vectors.
//!
//! An Instance's directory is `instances/<uid>`, relative to the data directory, which is the keeper's own:
//! `work` (the process's, 0700), `logs` (the logger's), `<attempt>/{out,err}.fifo` and `<attempt>/script`.
//! Only `work` belongs to the process's user, so nothing above it can be moved away under the keeper's feet.

use std::{
    borrow::Cow,
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
    files,
    input::{self, ANSWERS, INPUT},
    memory::Memory,
    notify::socket_name,
    pty,
    spawn::{Failure, Prepared, SCRIPT, Stage, Switch, WATCHDOG_PID},
    users::{self, Login, Users},
    workspace::Workspace,
};
use crate::{
    api::{RlimitName, Uid},
    drivers::{ProcessProgram, Start, StartKey},
};

/// The name of the FIFO for what an attempt writes to standard output, in its directory.
pub const OUTPUT: &str = "out.fifo";
/// Where programs are looked for if the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The field of the words of an attempt.
pub(super) const COMMAND: &str = "spec.process.command";

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
    /// The writing end of its standard input, if that is fed; of its output, if that is given by lines.
    pub input: Option<OwnedFd>,
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
    memory: &mut Memory,
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
    directories(&start.key, &own_dir(start, process), switch.as_ref()).map_err(|e| short(&dir, e))?;
    let workspace = start.step.as_ref().map(|step| Workspace::make(step, &start.key.uid, switch.as_ref()));
    let workspace = workspace.transpose().map_err(|e| short(Path::new("the workspace"), e))?;
    let workspace = workspace.as_ref();
    memory.keep_values(start).map_err(|e| short(Path::new("secret values"), e))?;
    let in_memory = memory.files(start, switch.as_ref()).map_err(|e| short(Path::new("secret files"), e))?;
    let [out, err] = [OUTPUT, "err.fifo"].map(|name| fifo(&dir.join(name), switch.as_ref()));
    let ((out, out_tap), (err, err_tap)) = (out?, err?);
    let form = match &process.script {
        Some(text) => {
            let text = workspace.map_or(Cow::Borrowed(text.as_str()), |workspace| workspace.settle(text));
            script_form(&dir.join("script"), &text, start, &process.argv, switch.as_ref())?
        }
        None => command_form(start, process)?,
    };
    let mut input = None;
    let streams = if process.lines {
        // Both ends of each are the process's: whoever speaks to it comes and goes. Whoever does finds the way to its log open.
        let [tasks, answers] = [INPUT, ANSWERS].map(|name| fifo(&dir.join(name), switch.as_ref()).map(|(end, _)| end));
        let (tasks, answers) = (tasks?, answers?);
        [&tasks, &answers].into_iter().for_each(input::widen);
        input = Some(out);
        Ok([tasks, answers, err])
    } else if process.fed {
        input::open(&dir).map(|(theirs, ours)| {
            input = Some(ours);
            [theirs, out, err]
        })
    } else if process.tty {
        let terminal = pty::open(out, switch.as_ref());
        terminal.and_then(|slave| Ok([slave.try_clone()?, slave.try_clone()?, slave]))
    } else {
        stdin(process.stdin.as_deref()).map(|stdin| [stdin, out, err])
    };
    let streams = streams.map_err(|e| short(Path::new("standard streams"), e))?;
    let mut child = assemble(start, process, form, streams, switch, own, workspace)?;
    child.files = files::prepare_all(&start.key, &process.files, in_memory.as_deref()).map_err(refused)?;
    // Last, because from here on there is something to undo.
    let made = groups.make(&start.key, &start.limits);
    let (group, entrances) = made.map_err(|why| PrepareError::Unavailable(why.to_string()))?;
    child.groups = entrances;
    Ok(Ready { child, tap: [out_tap, err_tap], input, group })
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
    let streams = stdin(None).and_then(|stdin| Ok([stdin, output.try_clone()?, output]));
    let streams = streams.map_err(|e| short(Path::new("standard streams"), e))?;
    let workspace = start.step.as_ref().map(|step| Workspace::of(step, &start.key.uid));
    let workspace = workspace.transpose().map_err(|e| short(Path::new("the workspace"), e))?;
    let form = command_form(start, process)?;
    Ok(Prepared { groups, ..assemble(start, process, form, streams, switch, own, workspace.as_ref())? })
}

/// Everything but the control groups and the files.
fn assemble(
    start: &Start,
    process: &ProcessProgram,
    form: Form,
    [stdin, stdout, stderr]: [OwnedFd; 3],
    switch: Option<Switch>,
    own: Inherited,
    workspace: Option<&Workspace>,
) -> Result<Prepared, PrepareError> {
    let refused = PrepareError::Refused;
    let login = process.login.then(|| users::login(process.user.as_deref())).transpose().map_err(refused)?;
    let (programs, argv, script) = match &login {
        Some(login) => through(login, form)?,
        None => form,
    };
    let home = login.map(|login| login.home.display().to_string());
    let shared = workspace.map(|workspace| workspace.directory.display().to_string());
    let working_dir = process.working_dir.clone().or(shared).or(home);
    Ok(Prepared {
        groups: Vec::new(),
        programs,
        argv,
        env: environment(start, workspace)?,
        stdin,
        stdout,
        stderr,
        script,
        terminal: process.tty,
        own_dir: text(own_dir(start, process).display().to_string(), "the data directory")?,
        working_dir: working_dir.map(|dir| text(dir, "spec.process.workingDir: it")).transpose()?,
        files: Vec::new(),
        switch,
        umask: process.umask,
        nice: process.nice,
        rlimits: rlimits(process, own),
        reset_oom: own.oom_protected,
    })
}

/// Where the process begins. A step that works in its run's workspace, and nowhere else, has no directory of its own there.
fn own_dir(start: &Start, process: &ProcessProgram) -> PathBuf {
    let dir = instance_dir(&start.key.uid);
    if start.step.is_some() && process.working_dir.is_none() { dir } else { dir.join("work") }
}

fn process_of(start: &Start) -> Result<&ProcessProgram, PrepareError> {
    start.process().ok_or_else(|| PrepareError::Refused("the keeper runs no containers".to_owned()))
}

fn short(what: &Path, e: io::Error) -> PrepareError {
    PrepareError::Short(what.display().to_string(), e)
}

/// `field` is where the text comes from; the text itself may be a secret's.
fn text(text: String, field: &str) -> Result<CString, PrepareError> {
    CString::new(text).map_err(|_| PrepareError::Refused(format!("{field} holds a NUL character")))
}

/// The directories of an attempt, its working directory of this user.
pub(super) fn directories(key: &StartKey, own: &Path, switch: Option<&Switch>) -> io::Result<()> {
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
    if own != dir {
        make(own, 0o700)?;
        if let Some(switch) = switch {
            let meta = own.symlink_metadata()?;
            if (meta.uid(), meta.gid()) != (switch.uid, switch.gid) {
                lchown(own, Some(switch.uid), Some(switch.gid))?;
            }
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

/// Run by its interpreter line, or by `sh -eu`, or as a step of a workflow wants it. Another user cannot reach the file by its path (the data directory is
/// closed to others), so it gets it as an open file.
fn script_form(
    path: &Path,
    source: &str,
    start: &Start,
    args: &[String],
    switch: Option<&Switch>,
) -> Result<Form, PrepareError> {
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
    let interpreter = start.step.as_ref().map_or_else(Vec::new, |step| match step.interpreter.as_slice() {
        [] if source.starts_with("#!") => Vec::new(),
        [] => default_shell(start),
        words => words.to_vec(),
    });
    if let Some(name) = interpreter.first() {
        let words = interpreter.iter().map(|word| text(word.replace("{0}", &place), "the shell: a word"));
        return Ok((programs(start, name)?, words.collect::<Result<_, _>>()?, open));
    }
    let place = text(place, "the data directory")?;
    let args = args.iter().map(|arg| text(arg.clone(), "spec.process.args: a word")).collect::<Result<Vec<_>, _>>()?;
    if source.starts_with("#!") {
        return Ok((vec![place.clone()], [vec![place], args].concat(), open));
    }
    Ok((vec![c"/bin/sh".into()], [vec![c"sh".into(), c"-eu".into(), place], args].concat(), open))
}

/// What runs the commands of steps where nothing is said: bash, or sh where there is none.
fn default_shell(start: &Start) -> Vec<String> {
    let found = search_path(start).split(':').any(|dir| Path::new(dir).join("bash").is_file());
    let words: &[&str] = match found {
        true => &["bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}"],
        false => &["sh", "-e", "{0}"],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// As execvp(3) finds it, in the PATH of the process's own environment.
fn command_form(start: &Start, process: &ProcessProgram) -> Result<Form, PrepareError> {
    let Some(name) = process.argv.first().filter(|name| !name.is_empty()) else {
        return Err(PrepareError::Refused("spec.process.command: it is empty".to_owned()));
    };
    let argv = process.argv.iter().cloned().map(word).collect::<Result<_, _>>()?;
    Ok((programs(start, name)?, argv, None))
}

fn word(word: String) -> Result<CString, PrepareError> {
    text(word, "spec.process.command: a word")
}

/// Where a program of this name may be.
fn programs(start: &Start, name: &str) -> Result<Vec<CString>, PrepareError> {
    if name.contains('/') {
        return Ok(vec![word(name.to_owned())?]);
    }
    let dirs = search_path(start).split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    dirs.map(|dir| word(format!("{dir}/{name}"))).collect()
}

/// By the user's shell, called as login(1) and su(1) call it: a leading `-` makes it read the user's profile. The words
/// are handed over as they are, so that no shell looks into them.
fn through(login: &Login, (_, argv, script): Form) -> Result<Form, PrepareError> {
    let shell = login.shell.display().to_string();
    let name = shell.rsplit('/').next().unwrap_or_default();
    let call = [format!("-{name}"), "-c".to_owned(), "exec \"$@\"".to_owned(), name.to_owned()];
    let call = call.into_iter().map(|word| text(word, "the user's shell")).collect::<Result<Vec<_>, _>>()?;
    Ok((vec![text(shell, "the user's shell")?], [call, argv].concat(), script))
}

fn search_path(start: &Start) -> &str {
    start.env.iter().rev().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value)
}

/// As given; what says whom it belongs to, and what a terminal is, is added if it is missing, and how it may speak to us
/// in any case.
fn environment(start: &Start, workspace: Option<&Workspace>) -> Result<Vec<CString>, PrepareError> {
    let mut own =
        vec![("APPM_INSTANCE_UID", start.key.uid.to_string()), ("APPM_ATTEMPT", start.key.attempt.to_string())];
    own.extend(start.process().is_some_and(|process| process.tty).then(|| ("TERM", "xterm".to_owned())));
    own.retain(|(name, _)| !start.env.iter().any(|(given, _)| given == name));
    own.extend(notify_environment(start));
    own.extend(workspace.iter().flat_map(|workspace| workspace.environment()));
    let given = start.env.iter().filter(|(given, _)| !own.iter().any(|(name, _)| given == name));
    let settle = |value| workspace.map_or(Cow::Borrowed(value), |workspace| workspace.settle(value));
    let given = given.map(|(name, value)| (name.as_str(), settle(value.as_str())));
    let all = given.chain(own.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_str()))));
    all.map(|(name, value)| text(format!("{name}={value}"), &format!("spec.env: the value of `{name}`"))).collect()
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
    let asked = process.rlimits.iter().map(|(name, value)| (resource(*name), value.soft, value.hard));
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
        RlimitName::Msgqueue => libc::RLIMIT_MSGQUEUE,
        RlimitName::Nice => libc::RLIMIT_NICE,
        RlimitName::Nofile => libc::RLIMIT_NOFILE,
        RlimitName::Nproc => libc::RLIMIT_NPROC,
        RlimitName::Rtprio => libc::RLIMIT_RTPRIO,
        RlimitName::Rttime => libc::RLIMIT_RTTIME,
        RlimitName::Sigpending => libc::RLIMIT_SIGPENDING,
        RlimitName::Stack => libc::RLIMIT_STACK,
    }
}

/// A sentence for the manifest's author about what failed between fork and exec, and the field to mend. It may name a
/// program or a path, but nothing else of what the process was to be given. `command` is the field of the words.
pub(super) fn explain(start: &Start, failure: Failure, command: &str) -> String {
    let Failure { stage, errno, index } = failure;
    let why = nix::errno::Errno::from_raw(errno).desc().to_lowercase();
    let Some(process) = start.process() else { return why };
    let index = usize::try_from(index).expect("a small number");
    match stage {
        Stage::Descriptors => format!("the process's standard streams cannot be set up: {why}"),
        Stage::Group => format!("spec.resources: the control group of its limits cannot be entered: {why}"),
        Stage::Terminal => format!("spec.process.tty: the terminal cannot be set up: {why}"),
        Stage::OwnDir => format!("the instance's own directory cannot be entered: {why}"),
        Stage::Nice => format!("spec.process.nice: {} cannot be set: {why}", process.nice),
        Stage::Rlimit if errno == libc::EPERM => format!(
            "spec.process.rlimits: {} is more than the system allows: only root raises a hard limit, and `nofile` ends at \
             /proc/sys/fs/nr_open",
            shown(process, index)
        ),
        Stage::Rlimit => format!("spec.process.rlimits: {} cannot be set: {why}", shown(process, index)),
        Stage::User => {
            let whom = process.user.as_deref().or(process.group.as_deref()).unwrap_or_default();
            format!("spec.process.user: cannot become `{whom}`: {why}")
        }
        Stage::WorkingDir if process.working_dir.is_none() && start.step.is_some() => {
            let dir = start.step.as_ref().map_or("", |step| &step.directory);
            format!("the working directory `{dir}` of the workspace cannot be entered{}: {why}", by(process))
        }
        Stage::WorkingDir => match (&process.working_dir, errno) {
            (Some(dir), libc::ENOENT) => format!("spec.process.workingDir: no such directory `{dir}`"),
            (Some(dir), _) => format!("spec.process.workingDir: `{dir}` cannot be entered{}: {why}", by(process)),
            (None, _) => format!("spec.process.login: the user's home cannot be entered{}: {why}", by(process)),
        },
        Stage::Files => {
            let path = process.files.get(index).map_or("", |file| file.path.as_str());
            files::explain(path, errno, &format!("{why}{}", by(process)))
        }
        Stage::Exec => not_executed(start, process, errno, &why, command),
    }
}

/// Who was not allowed to, if it is somebody else than expected.
fn by(process: &ProcessProgram) -> String {
    process.user.as_ref().map_or_else(String::new, |user| format!(" by user `{user}`"))
}

fn not_executed(start: &Start, process: &ProcessProgram, errno: i32, why: &str, command: &str) -> String {
    let name = process.argv.first().map_or("", String::as_str);
    match (errno, &process.script) {
        (libc::E2BIG, _) => too_large(start, process, command),
        _ if process.login => format!("spec.process.login: the user's shell cannot be run: {why}"),
        (libc::ENOENT, Some(_)) if start.step.as_ref().is_some_and(|step| !step.interpreter.is_empty()) => {
            let shell = start.step.as_ref().and_then(|step| step.interpreter.first()).map_or("", String::as_str);
            format!("the shell: no such program `{shell}` in PATH `{}`", search_path(start))
        }
        (libc::ENOENT, Some(_)) => {
            "spec.process.script: the interpreter that its first line names does not exist".to_owned()
        }
        (_, Some(_)) => format!("spec.process.script: it cannot be run{}: {why}", by(process)),
        (libc::ENOENT, None) if name.contains('/') => {
            format!("{command}: no such program `{name}` (or the interpreter it names)")
        }
        (libc::ENOENT, None) => format!("{command}: no such program `{name}` in PATH `{}`", search_path(start)),
        (_, None) => format!("{command}: `{name}` cannot be run{}: {why}", by(process)),
    }
}

/// execve(2) takes no text of 128 KiB or more, and only so much of them all.
fn too_large(start: &Start, process: &ProcessProgram, command: &str) -> String {
    const LONGEST: usize = 128 << 10;
    if let Some((name, value)) = start.env.iter().find(|(name, value)| name.len() + value.len() + 2 > LONGEST) {
        let size = value.len();
        return format!("spec.env: the value of `{name}` has {size} bytes, and the system takes less than {LONGEST}");
    }
    if let Some((index, word)) = process.argv.iter().enumerate().find(|(_, word)| word.len() + 1 > LONGEST) {
        let size = word.len();
        return format!("{command}: word {index} has {size} bytes, and the system takes less than {LONGEST}");
    }
    let env: usize = start.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let argv: usize = process.argv.iter().map(|word| word.len() + 1).sum();
    format!("{command}, spec.env: {argv} and {env} bytes are more than the system takes")
}

/// The limit of that number in [`rlimits`].
fn shown(process: &ProcessProgram, index: usize) -> String {
    let implied = usize::from(!process.rlimits.contains_key(&RlimitName::Nofile));
    let asked = index.checked_sub(implied).and_then(|index| process.rlimits.iter().nth(index));
    asked.map_or_else(|| "nofile".to_owned(), |(name, value)| format!("{name}={value}"))
}
