//! The way back: an archive is unpacked and proved beside what is there, and then put in its place by renames that can be
//! repeated.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use super::{AUDIT, About, ArchiveError, DATABASE, KEYS, PKI, Visitor, read};
use crate::store::{Engine, EngineError, OpenError, Sqlite, lock::DirLock, seal::KeyFile};

/// What is being unpacked. It counts for nothing.
const PART: &str = "restore.part";
/// What was proved: from the moment at which this is there, it is what the data directory holds.
const READY: &str = "restore.ready";
/// The file in it that says where to put what stood there before.
const ASIDE: &str = "aside";
/// Revisions begin anew so far behind those of the backup: clients may have seen some that it does not know.
const JUMP: i64 = 1_000_000_000;

/// Why nothing was restored. The data directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The data directory is in use, or what is in the archive cannot be opened as a store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// There is a store already.
    #[error("`{}` has a store of its own", dir.display())]
    Occupied {
        /// The data directory.
        dir: PathBuf,
    },
    /// Nothing opens the Secrets.
    #[error("the Secrets in it are sealed with the key `{key}`, which is neither in it nor in the data directory")]
    NoKey {
        /// The name of the key.
        key: String,
    },
    /// A file cannot be made, written or moved.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    move |source| RestoreError::File { action, path: path.to_owned(), source }
}

/// An archive that was unpacked into a data directory, and is not in its place.
pub struct Staged {
    dir: PathBuf,
    about: About,
    _lock: DirLock,
}

impl Staged {
    /// Unpacks an archive into a data directory that no server uses. `over`: a store that is there may be replaced.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn unpack(dir: &Path, archive: &mut dyn Read, over: bool) -> Result<Self, RestoreError> {
        let lock = DirLock::take(dir)?;
        complete(dir)?;
        if dir.join(DATABASE).exists() && !over {
            return Err(RestoreError::Occupied { dir: dir.to_owned() });
        }
        let part = dir.join(PART);
        remove(&part)?;
        for folder in [part.clone(), part.join(PKI), part.join(AUDIT), part.join("keys")] {
            DirBuilder::new().mode(0o700).create(&folder).map_err(failed("make the directory", &folder))?;
        }
        let about = read(archive, &mut Unpacker { part: &part }).and_then(|about| match part.join(DATABASE).exists() {
            true => Ok(about),
            false => Err(ArchiveError::Damaged(format!("`{DATABASE}` is missing"))),
        });
        match about {
            Ok(about) => Ok(Self { dir: dir.to_owned(), about, _lock: lock }),
            Err(error) => {
                remove(&part)?;
                Err(error.into())
            }
        }
    }

    /// What it is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Opens what was unpacked as a server would: migrations, the key, every object. `key_file`: where the key is, if it is neither in
    /// the archive nor in the data directory. Then makes sure that no revision is handed out twice.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub async fn prove(&self, key_file: Option<&Path>) -> Result<(), RestoreError> {
        let part = self.dir.join(PART);
        let there = |path: &Path| path.exists().then(|| KeyFile { path: path.to_owned(), ours: false });
        let ours = self.dir.join(KEYS[0]);
        let key = match key_file {
            Some(path) => Some(KeyFile { path: path.to_owned(), ours: false }),
            None if part.join(KEYS[0]).exists() => None,
            None => there(&ours),
        };
        if let (None, false, Some(name)) = (&key, part.join(KEYS[0]).exists(), &self.about.sealed_with) {
            return Err(RestoreError::NoKey { key: name.clone() });
        }
        check(&part.join(DATABASE)).await?;
        let engine = Sqlite::open_to_prove(&part, key).await?;
        engine.load().await?;
        engine.close().await.map_err(OpenError::Engine)?;
        jump(&part.join(DATABASE)).await?;
        Ok(())
    }

    /// Puts it in its place; what stood there goes to the directory that is returned, if anything did.
    ///
    /// # Errors
    /// When a file cannot be moved. What was begun is finished by the next server that starts, or by trying again.
    pub fn install(self, now: Timestamp) -> Result<Option<PathBuf>, RestoreError> {
        let (part, ready) = (self.dir.join(PART), self.dir.join(READY));
        let aside = format!("before-restore-{}", now.strftime("%Y%m%dT%H%M%SZ"));
        let note = part.join(ASIDE);
        fs::write(&note, &aside).map_err(failed("write", &note))?;
        sync_below(&part)?;
        fs::rename(&part, &ready).map_err(failed("rename", &part))?;
        sync(&self.dir)?;
        complete(&self.dir)?;
        let aside = self.dir.join(aside);
        Ok(aside.exists().then_some(aside))
    }

    /// Leaves the data directory as it was.
    ///
    /// # Errors
    /// When what was unpacked cannot be removed.
    pub fn discard(self) -> Result<(), RestoreError> {
        remove(&self.dir.join(PART))
    }
}

/// Finishes a restore that was cut off, and removes one that had not come to count. Whoever calls this holds the directory's lock.
///
/// # Errors
/// When a file cannot be moved.
pub fn finish(dir: &Path) -> Result<(), RestoreError> {
    remove(&dir.join(PART))?;
    remove_file(&dir.join(super::STALE))?;
    complete(dir)
}

/// Moves what is ready to its place. Each step can be the last one before a crash.
fn complete(dir: &Path) -> Result<(), RestoreError> {
    let ready = dir.join(READY);
    if !ready.exists() {
        return Ok(());
    }
    let note = ready.join(ASIDE);
    let aside = dir.join(fs::read_to_string(&note).map_err(failed("read", &note))?);
    if ready.join(DATABASE).exists() {
        // A log beside another database than its own would be taken for that one's.
        for log in ["appm.db-wal", "appm.db-shm"] {
            put_aside(dir, log, &aside)?;
        }
    }
    let mut names = vec![DATABASE.to_owned()];
    names.extend(KEYS.map(str::to_owned));
    names.extend(listed(&ready, PKI)?);
    // The directory's own log says what was done to it, also what the restored store knows nothing of.
    if listed(dir, AUDIT)?.is_empty() || ready.join(AUDIT).join(ASIDE).exists() {
        let mark = ready.join(AUDIT).join(ASIDE);
        File::create(&mark).map_err(failed("make", &mark))?;
        names.extend(listed(&ready, AUDIT)?.into_iter().filter(|name| !name.ends_with(ASIDE)));
    }
    for name in names {
        let (from, to) = (ready.join(&name), dir.join(&name));
        if from.exists() {
            put_aside(dir, &name, &aside)?;
            make_parent(&to)?;
            fs::rename(&from, &to).map_err(failed("move", &from))?;
            sync(to.parent().unwrap_or(dir))?;
        }
    }
    sync(dir)?;
    remove(&ready)
}

/// Moves a file out of the way.
fn put_aside(dir: &Path, name: &str, aside: &Path) -> Result<(), RestoreError> {
    let (from, to) = (dir.join(name), aside.join(name));
    if !from.exists() {
        return Ok(());
    }
    make_parent(&to)?;
    fs::rename(&from, &to).map_err(failed("move", &from))?;
    sync(to.parent().unwrap_or(aside))
}

fn make_parent(path: &Path) -> Result<(), RestoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed("make the directory", parent))
}

/// The files of a folder, in order, with the folder before their names.
fn listed(dir: &Path, folder: &'static str) -> Result<Vec<String>, RestoreError> {
    let files = super::files_of(dir, folder).map_err(failed("read", &dir.join(folder)))?;
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

fn remove(dir: &Path) -> Result<(), RestoreError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir)(error)),
        _ => Ok(()),
    }
}

fn remove_file(file: &Path) -> Result<(), RestoreError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", file)(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), RestoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

/// Syncs every file below a directory, and the directories.
fn sync_below(dir: &Path) -> Result<(), RestoreError> {
    let entries = fs::read_dir(dir).map_err(failed("read", dir))?;
    for entry in entries {
        let path = entry.map_err(failed("read", dir))?.path();
        if path.is_dir() { sync_below(&path)? } else { sync(&path)? }
    }
    sync(dir)
}

/// All of SQLite's own checks.
async fn check(database: &Path) -> Result<(), RestoreError> {
    let damaged = |detail: String| RestoreError::Archive(ArchiveError::Damaged(format!("its database: {detail}")));
    let options = SqliteConnectOptions::new().filename(database).read_only(true).disable_statement_logging();
    let checked = async {
        let mut connection = options.connect().await?;
        let said: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(10)").fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(said)
    };
    match checked.await {
        Ok(said) if said == ["ok"] => Ok(()),
        Ok(said) => Err(damaged(said.join("; "))),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// As after a power loss, only farther: the next start begins at the end of the reserved block, and nothing can be resumed from before.
async fn jump(database: &Path) -> Result<(), RestoreError> {
    let wrong = |error: sqlx::Error| OpenError::Engine(EngineError::from(error));
    let mut connection =
        SqliteConnectOptions::new().filename(database).disable_statement_logging().connect().await.map_err(wrong)?;
    let sql = "UPDATE meta SET reserved = reserved + ?, clean = 0, boot_id = ''";
    sqlx::query(sql).bind(JUMP).execute(&mut connection).await.map_err(wrong)?;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.map_err(wrong)?;
    connection.close().await.map_err(wrong)?;
    Ok(())
}

/// Puts what an archive holds into a directory.
struct Unpacker<'p> {
    part: &'p Path,
}

impl Visitor for Unpacker<'_> {
    fn about(&mut self, _: &About) -> io::Result<()> {
        Ok(())
    }

    fn file(&mut self, name: &str, _: u64, bytes: &mut dyn Read) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.part.join(name))?;
        io::copy(bytes, &mut file).map(drop)
    }
}
