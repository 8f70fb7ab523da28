//! Who reads: one task for each Source that is not suspended, which reads it when its turn comes and leaves what it read here.
//!
//! A pass never waits for a disk or a network: it takes what was read last, and is called when there is something new. A directory is read
//! when the kernel says that it has changed and come to rest, and at each interval; a repository at each interval, a little
//! later each time by chance, so that a hundred servers do not ask at once. What could not be read leaves what was read before.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    api::{GitSource, Key, LocalObjectReference, Object, SYNC_REQUESTED, Secret, SecretValue, Source, Uid},
    client::SharedClient,
    clock::SharedClock,
    drivers::sources::{
        Credentials, DirectoryWatch, Git, Keys, Noticed, ReadError, Tree, Wanted, read_again, read_directory,
    },
};

/// A file that changes while it is read is tried again after this.
const AGAIN: Duration = Duration::from_millis(50);
/// How much later than its interval a repository is asked, at most: a part of it.
const JITTER: u64 = 10;

/// Where repositories are copied to, and what of the server's environment git is given.
#[derive(Clone, Debug)]
pub struct Copies {
    /// The directory, which is made when it is needed.
    pub dir: PathBuf,
    /// Variables that git is given.
    pub env: Arc<[(OsString, OsString)]>,
}

/// What was read of a Source.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// The last that could be read whole.
    pub(super) tree: Option<Arc<Tree>>,
    /// Why there is nothing newer.
    pub(super) trouble: Option<ReadError>,
    /// The last request that was heard before that was read.
    pub(super) heard: String,
}

/// What is read, and how: when any of it changes, a reader begins anew.
#[derive(Clone, PartialEq)]
struct Task {
    uid: Uid,
    directory: Option<PathBuf>,
    git: Option<GitSource>,
    /// Where the keys are that open what is encrypted.
    keys: Option<LocalObjectReference>,
    interval: Duration,
    timeout: Duration,
}

struct Reader {
    task: Task,
    shared: Arc<Shared>,
    _end: DropGuard,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    asked: Mutex<String>,
    wake: Notify,
}

/// All readers.
pub(super) struct Readers {
    client: SharedClient,
    clock: SharedClock,
    copies: Copies,
    readers: Mutex<BTreeMap<Key, Reader>>,
    call: mpsc::UnboundedSender<Key>,
    called: Mutex<Option<mpsc::UnboundedReceiver<Key>>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readers {
    pub(super) fn new(client: SharedClient, clock: SharedClock, copies: Copies) -> Self {
        let (call, called) = mpsc::unbounded_channel();
        Self { client, clock, copies, readers: Mutex::default(), call, called: Mutex::new(Some(called)) }
    }

    /// The Sources of which something new was read, or that others speak for. The first who asks gets them.
    pub(super) fn calls(&self) -> BoxStream<'static, Key> {
        let called = lock(&self.called).take();
        stream::iter(called)
            .flat_map(|called| stream::unfold(called, |mut called| async move { Some((called.recv().await?, called)) }))
            .boxed()
    }

    /// What gives a Source its turn, for others.
    pub(super) fn caller(&self) -> mpsc::UnboundedSender<Key> {
        self.call.clone()
    }

    /// Gives a Source its turn.
    pub(super) fn call(&self, source: &Key) {
        // Whoever listens is gone only when the server stops.
        let _ = self.call.send(source.clone());
    }

    /// What was read of a Source; from now on it is read.
    pub(super) fn seen(&self, source: &Object<Source>) -> Seen {
        let task = Task::of(source);
        let asked = source.metadata.annotations.get(SYNC_REQUESTED).unwrap_or_default();
        let mut readers = lock(&self.readers);
        let known = readers.remove(&source.key()).filter(|known| known.task == task);
        let reader = known.unwrap_or_else(|| self.begin(source.key(), task, asked));
        {
            let mut known = lock(&reader.shared.asked);
            if *known != asked {
                asked.clone_into(&mut known);
                reader.shared.wake.notify_one();
            }
        }
        let seen = lock(&reader.shared.seen).clone();
        readers.insert(source.key(), reader);
        seen
    }

    /// Reads it no more.
    pub(super) fn rest(&self, source: &Key) {
        lock(&self.readers).remove(source);
    }

    /// Reads it no more, because it is gone; its copy goes, too.
    pub(super) fn forget(&self, source: &Key) {
        let gone = lock(&self.readers).remove(source);
        if let Some(reader) = gone.filter(|reader| reader.task.git.is_some()) {
            Git::remove(&self.copies.dir.join(reader.task.uid.as_str()));
        }
    }

    /// Deletes the copies of Sources that went while nobody was there to hear it.
    pub(super) fn keep_only(&self, known: impl Fn(&str) -> bool) {
        for entry in std::fs::read_dir(&self.copies.dir).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(&known) {
                Git::remove(&entry.path());
            }
        }
    }

    fn begin(&self, key: Key, task: Task, asked: &str) -> Reader {
        let shared = Arc::new(Shared { asked: Mutex::new(asked.to_owned()), ..Shared::default() });
        let end = CancellationToken::new();
        let reading = Reading {
            key,
            task: task.clone(),
            shared: shared.clone(),
            client: self.client.clone(),
            clock: self.clock.clone(),
            call: self.call.clone(),
        };
        let (copies, until) = (self.copies.clone(), end.clone());
        tokio::spawn(async move { until.run_until_cancelled(reading.go_on(copies)).await });
        Reader { task, shared, _end: end.drop_guard() }
    }
}

impl Task {
    fn of(source: &Object<Source>) -> Self {
        Self {
            uid: source.uid().clone(),
            directory: source.spec.directory.as_ref().map(|directory| PathBuf::from(&directory.path)),
            git: source.spec.git.clone(),
            keys: source.spec.secrets.as_ref().map(|secrets| secrets.age.key_secret.clone()),
            interval: source.spec.interval.0,
            timeout: source.spec.timeout.0,
        }
    }
}

/// One reader at work.
struct Reading {
    key: Key,
    task: Task,
    shared: Arc<Shared>,
    client: SharedClient,
    clock: SharedClock,
    call: mpsc::UnboundedSender<Key>,
}

impl Reading {
    async fn go_on(self, copies: Copies) {
        match (&self.task.directory, &self.task.git) {
            (Some(directory), _) => self.directory(directory).await,
            (None, Some(git)) => self.git(git, copies).await,
            (None, None) => {}
        }
    }

    async fn directory(&self, path: &Path) {
        let mut watch = DirectoryWatch::new(path, self.clock.clone())
            .inspect_err(|error| tracing::warn!(%error, "a directory is looked at in intervals only"))
            .ok();
        let mut noticed = Noticed::Anything;
        loop {
            let heard = lock(&self.shared.asked).clone();
            let (earlier, now, root) = (self.earlier(), self.clock.now(), path.to_owned());
            let keys = self.keys().await;
            let look = move || {
                let again = match (&noticed, &earlier, &keys) {
                    (Noticed::Files(files), Some(earlier), Ok(keys)) => read_again(&root, keys, earlier, files, now),
                    _ => Ok(None),
                };
                // What is wrong with a few is looked at with all of them.
                if let Ok(Some(tree)) = again {
                    return (watch, Ok(tree));
                }
                if let Some(watch) = &mut watch {
                    watch.arm();
                }
                (watch, keys.and_then(|keys| read_directory(&root, &keys, earlier.as_deref(), now)))
            };
            let Ok((again, read)) = tokio::task::spawn_blocking(look).await else { return };
            watch = again;
            let pause = match &read {
                Err(error) if error.reason == "Changing" => AGAIN,
                _ => self.task.interval,
            };
            let failed = read.is_err();
            self.tell(read, heard);
            noticed = Noticed::Anything;
            let changed = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = changed => match told {
                    // After a look that failed, what was noticed before it counts, too.
                    Ok(_) if failed => {}
                    Ok(told) => noticed = told,
                    Err(error) => {
                        tracing::warn!(%error, "a directory is looked at in intervals only");
                        watch = None;
                    }
                },
                () = self.clock.sleep(pause) => {}
                () = self.shared.wake.notified() => {}
            }
        }
    }

    async fn git(&self, from: &GitSource, copies: Copies) {
        let git = Git::new(copies.dir.join(self.task.uid.as_str()), self.clock.clone(), copies.env);
        let reference = from.reference.clone().unwrap_or_default();
        let wanted = Wanted { url: from.url.clone(), reference, path: from.path.clone() };
        loop {
            let heard = lock(&self.shared.asked).clone();
            let read = match (self.credentials(from).await, self.keys().await) {
                (Ok(credentials), Ok(keys)) => {
                    let shown = (&credentials, &keys);
                    git.read(&wanted, shown, self.earlier().as_deref(), self.task.timeout).await
                }
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            self.tell(read, heard);
            let jitter = self.task.interval.as_millis() as u64 / JITTER;
            let jitter = Duration::from_millis(self.clock.random() % jitter.max(1));
            tokio::select! {
                () = self.clock.sleep(self.task.interval + jitter) => {}
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// What the repository is shown: read anew each time, because it may have been changed.
    async fn credentials(&self, from: &GitSource) -> Result<Credentials, ReadError> {
        let Some(secret) = &from.secret_ref else { return Ok(Credentials::default()) };
        let found = self.secret(&secret.name).await?;
        let entry = |name: &str| -> Option<SecretValue> { found.data.get(name).cloned() };
        Ok(Credentials {
            username: entry("username"),
            password: entry("password"),
            ca: entry("ca.crt"),
            ssh_key: entry("ssh-privatekey"),
            known_hosts: entry("known_hosts"),
        })
    }

    /// What opens what is encrypted: read anew each time, too.
    async fn keys(&self) -> Result<Keys, ReadError> {
        let Some(secret) = &self.task.keys else { return Ok(Keys::default()) };
        let found = self.secret(&secret.name).await?;
        let entries = found.data.iter().filter_map(|(name, value)| Some((name.as_str(), value.bytes()?)));
        Keys::read(&secret.name, entries)
    }

    async fn secret(&self, name: &str) -> Result<Arc<Object<Secret>>, ReadError> {
        let wrong = |message: String| ReadError { reason: "NoSecret", message };
        let key = Key::of::<Secret>(&self.key.namespace, name);
        let found = self.client.get(&key).await.map_err(|status| wrong(status.message))?;
        let found = found.and_then(|object| object.typed::<Secret>());
        found.ok_or_else(|| wrong(format!("there is no secret `{name}`")))
    }

    fn earlier(&self) -> Option<Arc<Tree>> {
        lock(&self.shared.seen).tree.clone()
    }

    /// Leaves what was read, and calls the Source if that is anything new.
    fn tell(&self, read: Result<Tree, ReadError>, heard: String) {
        let mut seen = lock(&self.shared.seen);
        let before = (seen.trouble.clone(), seen.tree.as_ref().map(|tree| tree.revision.clone()), seen.heard.clone());
        match read {
            Ok(tree) => {
                seen.tree = Some(Arc::new(tree));
                seen.trouble = None;
            }
            Err(error) => seen.trouble = Some(error),
        }
        seen.heard = heard;
        let after = (seen.trouble.clone(), seen.tree.as_ref().map(|tree| tree.revision.clone()), seen.heard.clone());
        drop(seen);
        if before != after {
            // Whoever listens is gone only when the server stops.
            let _ = self.call.send(self.key.clone());
        }
    }
}
