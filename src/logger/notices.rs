//! Tells whose output has grown, of any number of Instances, without a thread and without looking: one inotify for all of them.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::PathBuf,
};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

use super::read::logs_dir;
use crate::api::Uid;

/// Whose output somebody waits for.
#[derive(Debug)]
pub struct Notices {
    data_dir: PathBuf,
    inotify: AsyncFd<OwnedFd>,
    /// Whose directory the kernel means.
    of: HashMap<i32, Uid>,
    watched: HashMap<Uid, Watched>,
}

/// The kernel's numbers for the directories of an Instance.
#[derive(Debug, Default)]
struct Watched {
    /// The Instance's own, in which the one of its logs may come and go.
    own: Option<i32>,
    logs: Option<i32>,
}

impl Notices {
    /// Nobody's, of the Instances in `data_dir`. Within a runtime.
    ///
    /// # Errors
    /// When the kernel has no more of them.
    pub fn new(data_dir: PathBuf) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "what took its place is unsafe: for descriptors that may be closed early, which this is not"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Self { data_dir, inotify, of: HashMap::new(), watched: HashMap::new() })
    }

    /// From now on, this one's too.
    pub fn watch(&mut self, uid: &Uid) {
        let logs = logs_dir(&self.data_dir, uid);
        let watched = self.watched.entry(uid.clone()).or_default();
        let inotify = self.inotify.get_ref();
        if watched.own.is_none()
            && let Some(own) = logs.parent()
        {
            watched.own = inotify::add_watch(inotify, own, WatchFlags::CREATE).ok();
        }
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::DELETE_SELF;
        // A directory that is there already has the same number again.
        watched.logs = inotify::add_watch(inotify, &logs, flags).ok();
        self.of.extend([watched.own, watched.logs].into_iter().flatten().map(|number| (number, uid.clone())));
    }

    /// No longer this one's.
    pub fn forget(&mut self, uid: &Uid) {
        let Some(Watched { own, logs }) = self.watched.remove(uid) else { return };
        for number in [own, logs].into_iter().flatten() {
            self.of.remove(&number);
            // Of a directory that is gone the kernel has forgotten it already.
            let _ = inotify::remove_watch(self.inotify.get_ref(), number);
        }
    }

    /// Waits until something is new, and tells whose. Cancel-safe.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn next(&mut self) -> io::Result<BTreeSet<Uid>> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
            let mut news = BTreeSet::new();
            loop {
                match events.next() {
                    Ok(event) => news.extend(self.of.get(&event.wd()).cloned()),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if news.is_empty() {
                continue;
            }
            // What has come may be the directory itself.
            news.iter().for_each(|uid| self.watch(uid));
            return Ok(news);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn output_is_noticed_before_there_is_a_directory_for_it_and_after() {
        let dir = tempfile::tempdir().expect("a directory");
        let [one, other]: [Uid; 2] = ["one".into(), "other".into()];
        for uid in [&one, &other] {
            fs::create_dir_all(dir.path().join("instances").join(uid.as_str())).expect("made");
        }
        let mut notices = Notices::new(dir.path().to_owned()).expect("made");
        notices.watch(&one);
        notices.watch(&other);
        let logs = logs_dir(dir.path(), &one);
        fs::create_dir(&logs).expect("made");
        assert_eq!(notices.next().await.expect("told"), BTreeSet::from([one.clone()]));
        fs::write(logs.join("1-1.out"), "x").expect("written");
        assert_eq!(notices.next().await.expect("told"), BTreeSet::from([one.clone()]));
        notices.forget(&one);
        fs::write(logs.join("1-1.out"), "xy").expect("written");
        fs::create_dir(logs_dir(dir.path(), &other)).expect("made");
        assert_eq!(notices.next().await.expect("told"), BTreeSet::from([other]));
    }
}
