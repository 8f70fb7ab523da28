//! As which OS user a process runs. Looked up before the fork (name services may allocate and lock), and remembered
//! for a short while, because a thousand starts ask for the same user.

use std::{
    collections::HashMap,
    ffi::CString,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist};

use super::spawn::Switch;

/// How long an answer of the name service is trusted.
const TRUSTED: SignedDuration = SignedDuration::from_secs(10);

type Names = (Option<String>, Option<String>);

/// How a user logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub shell: PathBuf,
    pub home: PathBuf,
}

/// Looks users up.
#[derive(Debug, Default)]
pub(super) struct Users {
    known: HashMap<Names, (Timestamp, Result<Option<Switch>, String>)>,
}

impl Users {
    /// Whom to become; `None`: nobody else. The error is a sentence for the manifest's author.
    pub(super) fn find(
        &mut self,
        user: Option<&str>,
        group: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Switch>, String> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let names = (user.map(str::to_owned), group.map(str::to_owned));
        self.known.retain(|_, (at, _)| now.duration_since(*at).abs() < TRUSTED);
        self.known.entry(names).or_insert_with(|| (now, look_up(user, group))).1.clone()
    }
}

/// By what, and to where, a user logs in; `None` is the daemon's own. The error is a sentence for the manifest's author.
pub(super) fn login(user: Option<&str>) -> Result<Login, String> {
    let wrong = |why: String| format!("spec.process.login: {why}");
    let account = match user {
        Some(name) => find_user(name)?,
        None => match User::from_uid(geteuid()) {
            Ok(Some(user)) => user,
            _ => return Err(wrong("appm's own user has no account".to_owned())),
        },
    };
    let User { name, shell, dir: home, .. } = account;
    // What passwd(5) says of an empty field.
    let shell = if shell.as_os_str().is_empty() { PathBuf::from("/bin/sh") } else { shell };
    let is_none = ["nologin", "false"].iter().any(|none| shell.file_name().is_some_and(|file| file == *none));
    if is_none {
        return Err(wrong(format!("user `{name}` may not log in: its shell is `{}`", shell.display())));
    }
    if !Path::new(&home).is_dir() {
        return Err(wrong(format!("user `{name}` has no home: there is no directory `{}`", home.display())));
    }
    Ok(Login { shell, home })
}

fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Option<Switch>, String> {
    let account = user.map(find_user).transpose()?;
    let (uid, primary) = account.as_ref().map_or((geteuid(), getegid()), |user| (user.uid, user.gid));
    let gid = group.map(find_group).transpose()?.unwrap_or(primary);
    if uid == geteuid() && gid == getegid() {
        return Ok(None);
    }
    if !geteuid().is_root() {
        let (field, whom) = match (user, group) {
            (Some(user), _) => ("user", format!("user `{user}`")),
            (None, group) => ("group", format!("group `{}`", group.unwrap_or_default())),
        };
        return Err(format!("spec.process.{field}: cannot run as {whom}: appm itself does not run as root"));
    }
    let groups = match account.as_ref().map(|user| CString::new(user.name.clone())) {
        Some(Ok(name)) => getgrouplist(&name, gid)
            .map_err(|e| format!("spec.process.user: the groups of the user cannot be found: {e}"))?,
        _ => vec![gid],
    };
    let groups = groups.into_iter().map(Gid::as_raw).collect();
    Ok(Some(Switch { uid: uid.as_raw(), gid: gid.as_raw(), groups }))
}

fn find_user(name: &str) -> Result<User, String> {
    let found = match name.parse().map(Uid::from_raw) {
        Ok(uid) => User::from_uid(uid),
        Err(_) => User::from_name(name),
    };
    let wrong = |why: String| format!("spec.process.user: {why}");
    let found = found.map_err(|e| wrong(format!("user `{name}` cannot be looked up: {e}")))?;
    found.ok_or_else(|| wrong(format!("no such user `{name}`")))
}

fn find_group(name: &str) -> Result<Gid, String> {
    if let Ok(gid) = name.parse() {
        return Ok(Gid::from_raw(gid));
    }
    let wrong = |why: String| format!("spec.process.group: {why}");
    let found = Group::from_name(name).map_err(|e| wrong(format!("group `{name}` cannot be looked up: {e}")))?;
    found.map(|group| group.gid).ok_or_else(|| wrong(format!("no such group `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_explained_and_the_own_user_needs_no_switch() {
        let mut users = Users::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            users.find(Some("no-such-user"), None, now).unwrap_err(),
            "spec.process.user: no such user `no-such-user`"
        );
        let group = users.find(None, Some("no-such-group"), now).unwrap_err();
        assert_eq!(group, "spec.process.group: no such group `no-such-group`");
        assert!(users.find(Some(&geteuid().to_string()), Some(&getegid().to_string()), now).unwrap().is_none());
        assert!(users.find(None, None, now).unwrap().is_none());
    }
}
