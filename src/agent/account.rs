//! Whose name, home and shell a process sees.

use nix::unistd::{Uid, User};

/// An OS user, as far as an environment speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// `USER` and `LOGNAME`.
    pub name: String,
    /// `HOME`.
    pub home: String,
    /// `SHELL`.
    pub shell: String,
}

/// Looks up a user by name or number; `None` is the daemon's own. A user that does not exist has no account: the driver
/// will refuse the start with a better sentence than an environment could.
pub fn system_account(user: Option<&str>) -> Option<Account> {
    let found = match user {
        None => User::from_uid(Uid::effective()),
        Some(name) => match name.parse::<u32>() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(name),
        },
    };
    let user = found.ok().flatten()?;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    Some(Account { home: text(&user.dir), shell: text(&user.shell), name: user.name })
}
