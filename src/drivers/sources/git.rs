//! Manifests of a git repository, by the machine's own `git`.
//!
//! Nothing is ever checked out: a commit is fetched into a bare repository of the Source's own, and its files are read out of that by their
//! names in git. So there is no half of a checkout, no symbolic link that leads out of it, no submodule, no filter and no hook, and a
//! file that did not change is known by its name alone. A fetch moves one reference when all of it is there; whatever dies before,
//! the commit of before is still whole. What is broken beyond that is thrown away and fetched anew: it is a copy.
//!
//! `git` runs in a process group of its own, with an environment that is made here, a time limit, no terminal to ask at, and four protocols.
//! Credentials are in files that only the server can read, or in its environment; never in its arguments.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::Engine as _;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

use super::{ReadError, Room, Stamp, Tree, is_manifest, text_of};
use crate::{
    api::{GitReference, SecretValue},
    clock::SharedClock,
};

/// The one reference in our copy: what was fetched last.
const CURRENT: &str = "refs/appm/current";
/// What git itself is told. `safe.directory`: a repository of another user may be read, since nothing of it is run.
const CONFIG: &str = "\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
[safe]
\tdirectory = *
[protocol \"ext\"]
\tallow = never
[submodule]
\trecurse = false
[gc]
\tautoDetach = false
[advice]
\tdetachedHead = false
";
/// Why our own copy cannot be read: it is thrown away, and made anew.
const BROKEN: &str = "BrokenCopy";
/// As much of what git says as is shown.
const SHOWN: usize = 300;
/// Variables of the server's environment that git is given, too.
pub const PASSED_ON: &[&str] = &["PATH", "http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"];

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the repository is.
    pub url: String,
    /// Which commit.
    pub reference: GitReference,
    /// The directory in it.
    pub path: String,
}

/// What a repository is shown, out of a Secret.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// For https.
    pub username: Option<SecretValue>,
    /// For https.
    pub password: Option<SecretValue>,
    /// Certificates of authorities, in PEM.
    pub ca: Option<SecretValue>,
    /// A private key for ssh.
    pub ssh_key: Option<SecretValue>,
    /// The keys of hosts that are known, for ssh.
    pub known_hosts: Option<SecretValue>,
}

/// A Source's own copy of a repository.
pub struct Git {
    dir: PathBuf,
    clock: SharedClock,
    passed_on: Arc<[(OsString, OsString)]>,
}

/// Ends git and all that it has started, unless it has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

impl Git {
    /// The copy in `dir`, which is made when it is needed. `passed_on`: what of the server's environment git is given ([`PASSED_ON`]).
    pub fn new(dir: PathBuf, clock: SharedClock, passed_on: Arc<[(OsString, OsString)]>) -> Self {
        Self { dir, clock, passed_on }
    }

    /// Deletes the copy.
    pub fn remove(dir: &Path) {
        if let Err(error) = fs::remove_dir_all(dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %dir.display(), "the copy of a repository stays");
        }
    }

    /// The manifests of the commit that is wanted, fetched if it is not here. Not within `timeout`: an error.
    ///
    /// # Errors
    /// When it cannot be found, fetched or read. The copy stays as it was.
    pub async fn read(
        &self,
        wanted: &Wanted,
        credentials: &Credentials,
        earlier: Option<&Tree>,
        timeout: Duration,
    ) -> Result<Tree, ReadError> {
        let too_long = || ReadError::new("Timeout", format!("{} did not answer in {timeout:?}", wanted.url));
        let reading = async {
            match self.look(wanted, credentials, earlier).await {
                // Our copy is broken: a disk that was full, a power cut. Once more from the beginning.
                Err(error) if error.reason == BROKEN => {
                    Self::remove(&self.repository());
                    self.look(wanted, credentials, earlier).await
                }
                read => read,
            }
        };
        let clock = self.clock.clone();
        tokio::select! {
            read = reading => read,
            () = clock.sleep(timeout) => Err(too_long()),
        }
    }

    async fn look(
        &self,
        wanted: &Wanted,
        credentials: &Credentials,
        earlier: Option<&Tree>,
    ) -> Result<Tree, ReadError> {
        let call = self.prepare(wanted, credentials).map_err(|e| self.unusable(&e))?;
        let commit = self.fetch(wanted, &call).await?;
        self.tree(&commit, wanted, &call, earlier).await
    }

    fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    fn unusable(&self, error: &io::Error) -> ReadError {
        ReadError::new("NoRoom", format!("{} cannot be written: {error}", self.dir.display()))
    }

    /// Writes the files that git needs; the environment in which it runs.
    fn prepare(&self, wanted: &Wanted, credentials: &Credentials) -> io::Result<Call> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.dir.join("keys"))?;
        let write = |name: &str, bytes: &[u8]| -> io::Result<PathBuf> {
            let path = self.dir.join(name);
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(bytes)?;
            Ok(path)
        };
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| env.push((name.into(), value));
        set("GIT_CONFIG_GLOBAL", write("config", CONFIG.as_bytes())?.into());
        set("HOME", self.dir.clone().into());
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("GIT_ALLOW_PROTOCOL", "https:http:ssh:file"),
            ("GIT_SSH_VARIANT", "ssh"),
            ("LC_ALL", "C"),
        ] {
            set(name, value.into());
        }
        let bytes = |value: &Option<SecretValue>| value.as_ref().and_then(SecretValue::bytes);
        let mut ssh = "ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes".to_owned();
        let known = write("keys/known_hosts", &bytes(&credentials.known_hosts).unwrap_or_default())?;
        let _ = write!(ssh, " -o UserKnownHostsFile={} -o GlobalKnownHostsFile=/dev/null", quoted(&known));
        if let Some(mut key) = bytes(&credentials.ssh_key) {
            if !key.ends_with(b"\n") {
                key.push(b'\n');
            }
            let _ = write!(ssh, " -i {}", quoted(&write("keys/identity", &key)?));
        }
        set("GIT_SSH_COMMAND", ssh.into());
        let mut config: Vec<(String, OsString)> = Vec::new();
        if let Some(ca) = bytes(&credentials.ca) {
            config.push(("http.sslCAInfo".to_owned(), write("keys/ca.pem", &ca)?.into()));
        }
        if let (Some(name), Some(password)) = (bytes(&credentials.username), bytes(&credentials.password))
            && wanted.url.starts_with("https://")
        {
            let both = [name.as_slice(), b":", &password].concat();
            let header = format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(both));
            // Nobody else is shown them.
            config.push(("http.followRedirects".to_owned(), "false".into()));
            config.push((format!("http.{}.extraHeader", wanted.url), header.into()));
        }
        env.push(("GIT_CONFIG_COUNT".into(), config.len().to_string().into()));
        for (i, (name, value)) in config.into_iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{i}").into(), name.into()));
            env.push((format!("GIT_CONFIG_VALUE_{i}").into(), value));
        }
        env.extend(self.passed_on.iter().cloned());
        Ok(Call { dir: self.dir.clone(), repository: self.repository(), env })
    }

    /// The commit that is wanted, which is here then.
    async fn fetch(&self, wanted: &Wanted, call: &Call) -> Result<String, ReadError> {
        if !self.repository().join("HEAD").exists() {
            let repository = self.repository().into_os_string();
            let made =
                call.run_in(&self.dir, [&"init".into(), &"--quiet".into(), &"--bare".into(), &repository]).await?;
            succeeded(&made, BROKEN, "no copy of the repository can be made")?;
        }
        let current = call.run(["rev-parse", "--verify", "--quiet", &format!("{CURRENT}^{{commit}}")]).await?;
        let current = String::from_utf8_lossy(&current.stdout).trim().to_owned();
        let (name, there) = call.resolve(wanted).await?;
        if there.as_deref().is_some_and(|there| there == current) {
            return Ok(current);
        }
        let refspec = format!("+{name}:{CURRENT}");
        let plain =
            ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--depth=1", "--"];
        let fetched = call.run(plain.iter().copied().chain([wanted.url.as_str(), &refspec])).await?;
        if !fetched.status.success() {
            let whole = call.run(["fsck", "--connectivity-only", "--no-dangling", "--no-progress"]).await?;
            succeeded(&whole, BROKEN, "the copy of the repository is damaged")?;
            return Err(refused(&fetched, &wanted.url));
        }
        let commit = call.run(["rev-parse", "--verify", "--quiet", &format!("{CURRENT}^{{commit}}")]).await?;
        succeeded(&commit, BROKEN, "what was fetched is no commit")?;
        Ok(String::from_utf8_lossy(&commit.stdout).trim().to_owned())
    }

    async fn tree(
        &self,
        commit: &str,
        wanted: &Wanted,
        call: &Call,
        earlier: Option<&Tree>,
    ) -> Result<Tree, ReadError> {
        let path = wanted.path.trim_start_matches("./").trim_matches('/');
        let path = if path == "." { "" } else { path };
        let listed = call.run(["ls-tree", "-r", "-z", "-l", "--full-tree", &format!("{commit}:{path}")]).await?;
        if !listed.status.success() {
            let whole = call.run(["ls-tree", "-r", "-z", "--full-tree", commit]).await?;
            succeeded(&whole, BROKEN, "the copy of the repository cannot be read")?;
            return Err(ReadError::new(
                "NoPath",
                format!("there is no directory `{path}` in {}", shown_commit(commit)),
            ));
        }
        let (mut tree, mut room, mut missing) = (Tree::default(), Room::default(), Vec::new());
        for entry in listed.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
            let Some((blob, size, path)) = entry_of(entry) else { continue };
            room.take(path, size)?;
            let stamp = Stamp::Blob(blob.to_owned());
            match earlier.and_then(|earlier| earlier.known(path, &stamp)) {
                Some(text) => tree.add(path, text, stamp),
                None => missing.push((blob.to_owned(), path.to_owned())),
            }
        }
        for ((blob, path), text) in missing.iter().zip(call.blobs(&missing).await?) {
            tree.add(path, text_of(path, text)?, Stamp::Blob(blob.clone()));
        }
        let GitReference { branch, tag, commit: exact } = &wanted.reference;
        let name = branch.as_deref().or(tag.as_deref()).unwrap_or(if exact.is_some() { "" } else { "HEAD" });
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        let at = if name.is_empty() { "" } else { "@" };
        tree.revision = format!("{name}{at}{algorithm}:{commit}");
        Ok(tree)
    }
}

fn shown_commit(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// A path, for the shell that git starts ssh by.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// `100644 blob NAME    SIZE\tPATH`: an ordinary file that is a manifest, and not hidden.
fn entry_of(entry: &[u8]) -> Option<(&str, u64, &str)> {
    let (head, path) = std::str::from_utf8(entry).ok()?.split_once('\t')?;
    let mut words = head.split_ascii_whitespace();
    let (mode, kind, blob, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let ordinary = kind == "blob" && mode.starts_with("100");
    let hidden = path.split('/').any(|part| part.starts_with('.'));
    let name = path.rsplit('/').next()?;
    (ordinary && !hidden && is_manifest(name)).then_some((blob, size.parse().ok()?, path))
}

fn succeeded(output: &Output, reason: &'static str, what: &str) -> Result<(), ReadError> {
    match output.status.success() {
        true => Ok(()),
        false => Err(ReadError::new(reason, format!("{what}: {}", said(output)))),
    }
}

/// What git said last, in one line.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// Why a repository could not be asked.
fn refused(output: &Output, url: &str) -> ReadError {
    let said = said(output);
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let reason = match () {
        () if any(&[
            "Authentication failed",
            "Permission denied",
            "could not read Username",
            "Host key verification",
        ]) =>
        {
            "AuthenticationFailed"
        }
        () if any(&["not found", "does not exist", "does not appear to be a git repository"]) => "NotFound",
        () => "FetchFailed",
    };
    ReadError::new(reason, format!("{url} cannot be fetched: {said}"))
}

/// In which environment git runs.
struct Call {
    dir: PathBuf,
    repository: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl Call {
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(&self.dir).process_group(0).kill_on_drop(true);
        command
    }

    /// Runs git on our copy.
    async fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Output, ReadError> {
        let repository = OsString::from_iter([OsString::from("--git-dir="), self.repository.clone().into()]);
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        self.run_in(&self.dir, std::iter::once(&repository).chain(&args)).await
    }

    async fn run_in<'a>(&self, dir: &Path, args: impl IntoIterator<Item = &'a OsString>) -> Result<Output, ReadError> {
        let child = self.command().current_dir(dir).args(args).spawn().map_err(|e| not_run(&e))?;
        let mut group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
        let output = child.wait_with_output().await.map_err(|e| not_run(&e));
        group.0 = None;
        output
    }

    /// The name of what is wanted in the repository, and the commit that it is there, if that can be asked for.
    async fn resolve(&self, wanted: &Wanted) -> Result<(String, Option<String>), ReadError> {
        let name = match &wanted.reference {
            GitReference { commit: Some(commit), .. } => return Ok((commit.clone(), Some(commit.clone()))),
            GitReference { branch: Some(branch), .. } => format!("refs/heads/{branch}"),
            GitReference { tag: Some(tag), .. } => format!("refs/tags/{tag}"),
            _ => "HEAD".to_owned(),
        };
        let peeled = format!("{name}^{{}}");
        let listed = self.run(["ls-remote", "--quiet", "--", &wanted.url, &name, &peeled]).await?;
        if !listed.status.success() {
            return Err(refused(&listed, &wanted.url));
        }
        let listed = String::from_utf8_lossy(&listed.stdout);
        let all: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
        let of = |name: &str| all.iter().find(|(_, known)| *known == name).map(|(commit, _)| (*commit).to_owned());
        match of(&peeled).or_else(|| of(&name)) {
            Some(commit) => Ok((name, Some(commit))),
            None => {
                let what = match &wanted.reference {
                    GitReference { branch: Some(branch), .. } => format!("no branch `{branch}`"),
                    GitReference { tag: Some(tag), .. } => format!("no tag `{tag}`"),
                    _ => "nothing".to_owned(),
                };
                Err(ReadError::new("NoReference", format!("there is {what} in {}", wanted.url)))
            }
        }
    }

    /// What is in these blobs, in order.
    async fn blobs(&self, wanted: &[(String, String)]) -> Result<Vec<Vec<u8>>, ReadError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let broken = |what: String| ReadError::new(BROKEN, what);
        let mut command = self.command();
        command.arg("--git-dir").arg(&self.repository).args(["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| not_run(&e))?;
        let mut group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken("git has no pipes".to_owned()));
        };
        let names: String = wanted.iter().map(|(blob, _)| format!("{blob}\n")).collect();
        let sending = async move {
            // Whoever reads what comes back sees that it ends early.
            let _ = input.write_all(names.as_bytes()).await;
        };
        let reading = async {
            let (mut output, mut all) = (BufReader::new(output), Vec::with_capacity(wanted.len()));
            for (blob, path) in wanted {
                let mut head = String::new();
                output.read_line(&mut head).await.map_err(|e| broken(format!("{path} cannot be read: {e}")))?;
                let size = head.strip_prefix(blob.as_str()).and_then(|rest| rest.strip_prefix(" blob "));
                let size = size.and_then(|size| size.trim_end().parse::<usize>().ok());
                let size = size.ok_or_else(|| broken(format!("{path} is not in the copy of the repository")))?;
                let mut text = vec![0; size + 1];
                output.read_exact(&mut text).await.map_err(|e| broken(format!("{path} cannot be read: {e}")))?;
                text.pop();
                all.push(text);
            }
            Ok(all)
        };
        let ((), all) = tokio::join!(sending, reading);
        if all.is_ok() {
            let _ = child.wait().await;
            group.0 = None;
        }
        all
    }
}

fn not_run(error: &io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::new("NoGit", "there is no `git` on the server's machine"),
        _ => ReadError::new("FetchFailed", format!("git cannot be run: {error}")),
    }
}
