//! Who is at the other end of the Unix socket: the kernel says it, no secret is needed.
//!
//! The owner of the server and root are its admin. But what an App runs, often as the very same user, is not: whoever
//! descends from the keeper, is in a control group that it made, or lives in the namespaces of an Instance's container, is an
//! Instance, and nothing more. A peer whose ancestors cannot be read is nobody, and so is one in a container that is no Instance's: its
//! root is not the machine's.

use std::{
    fmt::Display,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use procfs::process::Process;

use super::{AUTHENTICATED, Authority, Identity, Proof};
use crate::{
    api::{Instance, Key, Kind, Uid, User},
    keeper::{self, proc},
};

/// The group of everything that runs as an Instance; with `:NAMESPACE` behind it, of those in a namespace.
pub const INSTANCES: &str = "system:instances";

/// More ancestors than anybody has.
const MOST_ANCESTORS: usize = 256;

/// What the kernel says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The user.
    pub uid: u32,
    /// The process; `None` where the kernel does not say.
    pub pid: Option<i32>,
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It is this one.
    As(Box<Identity>),
    /// It is in a container that is no Instance's, while the start of one is not recorded yet: a moment later more may be known.
    NotYet,
    /// A stranger.
    Nobody,
}

/// Names peers.
pub struct Peers {
    authority: Arc<Authority>,
    /// The user who runs the server.
    owner: u32,
    data_dir: PathBuf,
}

impl Peers {
    /// Names the peers of the socket of a server that `owner` runs in `data_dir`.
    pub fn new(authority: Arc<Authority>, owner: u32, data_dir: PathBuf) -> Self {
        Self { authority, owner, data_dir }
    }

    /// Who a peer is. Reads `/proc` and asks for the user's name: not for an async thread.
    pub fn identify(&self, peer: PeerCredentials) -> Known {
        match peer.pid.map(|pid| (pid, self.instance_around(pid))) {
            None => Known::Nobody,
            Some((_, Some(instance))) => Known::As(Box::new(instance)),
            Some((pid, None)) => match is_contained(pid) {
                Some(true) if self.awaits_a_container() => Known::NotYet,
                Some(false) => self.user(pid, peer.uid).map_or(Known::Nobody, |user| Known::As(Box::new(user))),
                Some(true) | None => Known::Nobody,
            },
        }
    }

    /// The Instance that a process is of.
    fn instance_around(&self, pid: i32) -> Option<Identity> {
        // The group first: another parent does not take anybody out of it.
        if let Some(attempt) = keeper::attempt_around(pid, &self.data_dir) {
            return Some(self.instance_of_attempt(&attempt));
        }
        let line = ancestors(pid)?;
        if let Some(place) = line.iter().position(|pid| self.is_keeper(*pid)) {
            return Some(self.instance(place.checked_sub(1).map(|below| line[below])));
        }
        self.contained_with(pid).map(|key| instance(Some(&key)))
    }

    /// True while a container is about to start, or has, and nobody has recorded it.
    fn awaits_a_container(&self) -> bool {
        let all = self.authority.store().list(Instance::INFO, None).items;
        all.iter().filter_map(|object| object.typed::<Instance>()).any(|instance| {
            let state = &instance.status.state;
            instance.spec.container.is_some() && state.pid().is_none() && state.exited.is_none()
        })
    }

    /// The User that a process of the machine itself is.
    fn user(&self, pid: i32, uid: u32) -> Option<Identity> {
        // Whose ancestors cannot be read is nobody.
        ancestors(pid)?;
        if uid == self.owner || uid == 0 {
            return Some(Identity::admin(Proof::Peer));
        }
        let account = nix::unistd::User::from_uid(uid.into()).ok()??;
        self.authority.user(&account.name, Proof::Peer).filter(|_| self.runs_as(&account.name))
    }

    /// A User is known by an account of the same name, unless it says that it runs as another.
    fn runs_as(&self, account: &str) -> bool {
        self.authority.exec_user(account).is_none_or(|user| user == account)
    }

    fn is_keeper(&self, pid: i32) -> bool {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.windows(3).any(|words| {
            words[..2] == [b"keeper".as_slice(), b"--dir"]
                && same(Path::new(std::ffi::OsStr::from_bytes(words[2])), &self.data_dir)
        })
    }

    /// The Instance whose first process has this number.
    fn instance(&self, pid: Option<i32>) -> Identity {
        let all = self.authority.store().list(Instance::INFO, None).items;
        let found = all.iter().find(|object| {
            let instance = object.typed::<Instance>();
            pid.is_some() && instance.is_some_and(|i| i.status.state.pid() == pid)
        });
        instance(found.map(|object| &object.key))
    }

    /// The Instance whose first process sees the same files as this one, if these are not the server's: a container's, by whatever way somebody
    /// came into it.
    fn contained_with(&self, pid: i32) -> Option<Key> {
        let theirs = mounts(pid).filter(|theirs| mounts("self").is_some_and(|own| own != *theirs))?;
        let all = self.authority.store().list(Instance::INFO, None).items;
        let found = all.iter().find(|object| {
            let first = object.typed::<Instance>().and_then(|i| i.status.state.pid());
            first.and_then(mounts).is_some_and(|its| its == theirs)
        });
        found.map(|object| object.key.clone())
    }

    /// The Instance that an attempt, `UID-ATTEMPT`, is of.
    fn instance_of_attempt(&self, attempt: &str) -> Identity {
        let uid = attempt.rsplit_once('-').map(|(uid, _)| Uid::from(uid));
        instance(uid.and_then(|uid| self.authority.store().find_uid(&uid)).as_ref())
    }
}

/// What runs as an Instance of that key; without one, as an Instance that nobody knows any more.
fn instance(key: Option<&Key>) -> Identity {
    let mut groups = vec![AUTHENTICATED.to_owned(), INSTANCES.to_owned()];
    let name = match key {
        Some(Key { namespace, name, .. }) => {
            groups.push(format!("{INSTANCES}:{namespace}"));
            format!("system:instance:{namespace}:{name}")
        }
        None => "system:instance".to_owned(),
    };
    Identity { groups, ..Identity::of(&name, Proof::Peer) }
}

/// The name of a process's mount namespace; `None` if it may not be known.
fn mounts(pid: impl Display) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// True for a process that has another number where it lives; `None` if there is no such process.
fn is_contained(pid: i32) -> Option<bool> {
    let numbers = Process::new(pid).and_then(|process| process.status()).ok()?.nspid;
    Some(numbers.is_some_and(|numbers| numbers.len() > 1))
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A process and its ancestors up to the first; `None` if they cannot be read.
fn ancestors(pid: i32) -> Option<Vec<i32>> {
    let mut line = vec![pid];
    while line.len() <= MOST_ANCESTORS {
        let parent = proc::stat(*line.last()?)?.ppid;
        if parent == 0 {
            return Some(line);
        }
        line.push(parent);
    }
    None
}

impl Authority {
    /// The identity of a User who proved to be one; `None` if there is none, or it is locked.
    pub fn user(&self, name: &str, proof: Proof) -> Option<Identity> {
        let stored = || self.store().get(&crate::api::Key::of::<User>("", name))?.typed::<User>();
        let user = self.users.get(self.store(), name.to_owned(), stored)?;
        if user.spec.locked || user.metadata.is_deleting() {
            return None;
        }
        let identity = Identity::of(name, proof);
        let groups = user.spec.groups.iter().cloned().chain(identity.groups).collect();
        Some(Identity {
            groups,
            uid: user.metadata.uid.clone(),
            name: name.to_owned(),
            proof: identity.proof,
            scope: None,
            expires: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_its_ancestors_up_to_the_first() {
        let own = i32::try_from(std::process::id()).expect("a number");
        let line = ancestors(own).expect("they can be read");
        assert_eq!(line[0], own);
        assert!(line.len() > 1);
        assert_eq!(ancestors(i32::MAX), None, "nobody has this number");
        assert_eq!(is_contained(i32::MAX), None);
        assert_eq!(is_contained(own), Some(false), "it has one number, which is this");
    }
}
