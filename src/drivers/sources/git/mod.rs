//! Manifests of a git repository, by the machine's own `git`.
//!
//! Nothing is ever checked out: a commit is fetched into a bare repository of the Source's own, and its files are read out of that by their
//! names in git. So there is no half of a checkout, no symbolic link that leads out of it, no submodule, no filter and no hook, and a
//! file that did not change is known by its name alone. A fetch moves one reference when all of it is there; whatever dies before,
//! the commit of before is still whole. What is broken beyond that is thrown away and fetched anew: it is a copy.
//!
//! `git` runs in a process group of its own, with an environment that is made here, a time limit, no terminal to ask at, and four protocols.
//! Credentials are in files that only the server can read, or in its environment; never in its arguments.

mod answers;
mod call;
mod environment;
mod reference;

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use self::{
    answers::{refused, succeeded},
    call::Call,
    reference::{Resolved, resolve},
};
use super::{Keys, ReadError, Room, Stamp, Tree};
use crate::{
    api::{GitReference, SecretValue},
    clock::SharedClock,
};

/// The one reference in our copy: what was fetched last.
const CURRENT: &str = "refs/appm/current";
/// Why our own copy cannot be read: it is thrown away, and made anew.
const BROKEN: &str = "BrokenCopy";
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
        (credentials, keys): (&Credentials, &Keys),
        earlier: Option<&Tree>,
        timeout: Duration,
    ) -> Result<Tree, ReadError> {
        let too_long = || ReadError::new("Timeout", format!("{} did not answer in {timeout:?}", wanted.url));
        let reading = async {
            match self.look(wanted, (credentials, keys), earlier).await {
                // Our copy is broken: a disk that was full, a power cut. Once more from the beginning.
                Err(error) if error.reason == BROKEN => {
                    Self::remove(&self.repository());
                    self.look(wanted, (credentials, keys), earlier).await
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
        (credentials, keys): (&Credentials, &Keys),
        earlier: Option<&Tree>,
    ) -> Result<Tree, ReadError> {
        environment::complete(wanted, credentials)?;
        let mut env = environment::prepare(&self.dir, wanted, credentials).map_err(|e| self.unusable(&e))?;
        env.extend(self.passed_on.iter().cloned());
        let call = Call { dir: self.dir.clone(), repository: self.repository(), env };
        let (found, commit) = self.fetch(wanted, credentials, &call).await?;
        let mut tree = self.tree(&commit, wanted, &call, keys, Tree::opened_by(earlier, keys)).await?;
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        let at = if found.shown.is_empty() { "" } else { "@" };
        tree.revision = format!("{}{at}{algorithm}:{commit}", found.shown);
        Ok(tree)
    }

    fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }

    fn unusable(&self, error: &io::Error) -> ReadError {
        ReadError::new("NoRoom", format!("{} cannot be written: {error}", self.dir.display()))
    }

    /// What is wanted, and its commit, which is here then: that of this moment, if it has changed meanwhile.
    async fn fetch(
        &self,
        wanted: &Wanted,
        credentials: &Credentials,
        call: &Call,
    ) -> Result<(Resolved, String), ReadError> {
        if !self.repository().join("HEAD").exists() {
            let repository = self.repository().into_os_string();
            let made =
                call.run_in(&self.dir, [&"init".into(), &"--quiet".into(), &"--bare".into(), &repository]).await?;
            succeeded(&made, BROKEN, "no copy of the repository can be made")?;
        }
        let current = call.run(["rev-parse", "--verify", "--quiet", &format!("{CURRENT}^{{commit}}")]).await?;
        let current = String::from_utf8_lossy(&current.stdout).trim().to_owned();
        let found = resolve(call, wanted, credentials).await?;
        if found.commit == current {
            return Ok((found, current));
        }
        let refspec = format!("+{}:{CURRENT}", found.name);
        let plain =
            ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--depth=1", "--"];
        let fetched = call.run(plain.iter().copied().chain([wanted.url.as_str(), &refspec])).await?;
        if !fetched.status.success() {
            let whole = call.run(["fsck", "--connectivity-only", "--no-dangling", "--no-progress"]).await?;
            succeeded(&whole, BROKEN, "the copy of the repository is damaged")?;
            return Err(refused(&fetched, wanted, credentials));
        }
        let commit = call.run(["rev-parse", "--verify", "--quiet", &format!("{CURRENT}^{{commit}}")]).await?;
        succeeded(&commit, BROKEN, "what was fetched is no commit")?;
        Ok((found, String::from_utf8_lossy(&commit.stdout).trim().to_owned()))
    }

    async fn tree(
        &self,
        commit: &str,
        wanted: &Wanted,
        call: &Call,
        keys: &Keys,
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
        let (mut tree, mut room, mut missing) = (Tree::of(keys), Room::default(), Vec::new());
        for entry in listed.stdout.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
            let Some((blob, size, path)) = entry_of(entry, keys) else { continue };
            room.take(path, size)?;
            let stamp = Stamp::Blob(blob.to_owned());
            match earlier.and_then(|earlier| earlier.known(path, &stamp)) {
                Some(known) => tree.add(path, Ok(known), stamp),
                None => missing.push((blob.to_owned(), path.to_owned())),
            }
        }
        for ((blob, path), text) in missing.iter().zip(call.blobs(&missing).await?) {
            tree.add(path, keys.open(path, text), Stamp::Blob(blob.clone()));
        }
        tree.whole()
    }
}

fn shown_commit(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// `100644 blob NAME    SIZE\tPATH`: an ordinary file that is a manifest, and not hidden.
fn entry_of<'a>(entry: &'a [u8], keys: &Keys) -> Option<(&'a str, u64, &'a str)> {
    let (head, path) = std::str::from_utf8(entry).ok()?.split_once('\t')?;
    let mut words = head.split_ascii_whitespace();
    let (mode, kind, blob, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let ordinary = kind == "blob" && mode.starts_with("100");
    let hidden = path.split('/').any(|part| part.starts_with('.'));
    let name = path.rsplit('/').next()?;
    (ordinary && !hidden && keys.takes(name)).then_some((blob, size.parse().ok()?, path))
}
