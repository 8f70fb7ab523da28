//! Passwords: argon2id, with the parameters that OWASP advises (19 MiB, two passes, one lane).
//!
//! One hash costs some 20 ms of a core, on purpose. So only some cores hash at any time ([`Passwords`]), off the runtime's
//! threads, and a crowd of logins waits in a short line instead of taking the machine from everybody else; so do passwords that
//! are set. Somebody who is not known, or has no password, costs the same as somebody who is: their password is compared with
//! one that nobody has.

use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use super::secret;
use crate::{
    api::{SecretValue, Status},
    keeper,
};

/// The hash of no password, with the cost of one.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// The most that a hash from elsewhere may cost: whoever writes a User must not be able to write what eats the machine.
const MOST: Cost = Cost { memory: 128 * 1024, passes: 8, lanes: 4 };
/// How many wait for their turn.
const LINE: usize = 64;

/// What a hash costs, in KiB and passes.
struct Cost {
    memory: u32,
    passes: u32,
    lanes: u32,
}

/// The hash of a password, in the PHC format.
pub fn hash(password: &str) -> String {
    let salt = secret::random::<16>();
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    hash.expect("the parameters are right, and passwords are bounded").to_string()
}

/// A password that nobody guesses: 120 bits in 20 characters.
pub fn random() -> String {
    secret::text(&secret::random::<15>())
}

/// True if a hash is of that password. Takes the same time for every wrong one.
pub fn fits(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Whether a hash from elsewhere is one, and cheap enough.
///
/// # Errors
/// What is wrong, in words.
pub fn check_hash(hash: &str) -> Result<(), &'static str> {
    let parsed = PasswordHash::new(hash).map_err(|_| "is no hash in the PHC format")?;
    if parsed.algorithm.as_str() != "argon2id" || parsed.hash.is_none() || parsed.salt.is_none() {
        return Err("is no argon2id hash with salt and hash");
    }
    let cost = Params::try_from(&parsed).map_err(|_| "has parameters that argon2id does not know")?;
    if cost.m_cost() > MOST.memory || cost.t_cost() > MOST.passes || cost.p_cost() > MOST.lanes {
        return Err("costs too much: at most m=131072, t=8, p=4");
    }
    Ok(())
}

/// Compares and hashes passwords, a few at a time, for the whole server.
#[derive(Debug)]
pub struct Passwords {
    desks: Arc<Semaphore>,
    line: Semaphore,
}

impl Default for Passwords {
    /// Half of the machine may hash, never less than one core.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { desks: Arc::new(Semaphore::new((cores / 2).max(1))), line: Semaphore::new(LINE) }
    }
}

impl Passwords {
    /// Whether a hash is of that password; without a hash it takes as long to say no.
    ///
    /// # Errors
    /// 429 if too many wait.
    pub(super) async fn fit(&self, password: String, hash: Option<&SecretValue>) -> Result<bool, Status> {
        let known = hash.and_then(SecretValue::bytes).and_then(|bytes| String::from_utf8(bytes).ok());
        let is_known = known.is_some();
        let fits = self.at_a_desk(move || fits(&password, known.as_deref().unwrap_or(NOBODY))).await?;
        Ok(fits.unwrap_or(false) && is_known)
    }

    /// The hash of a password.
    ///
    /// # Errors
    /// 429 if too many wait.
    pub(super) async fn hash(&self, password: String) -> Result<String, Status> {
        let hashed = self.at_a_desk(move || hash(&password)).await?;
        hashed.ok_or_else(|| Status::internal("the password was not taken"))
    }

    /// Finds out what becomes of a password that is set.
    ///
    /// # Errors
    /// 429 if too many wait.
    pub async fn settle(&self, asked: Asked) -> Result<Settled, Status> {
        let Asked { plain, kept } = asked;
        let settled = self.at_a_desk(move || match kept.is_some_and(|kept| fits(&plain, &kept)) {
            true => Settled::Stays,
            false => Settled::Becomes(hash(&plain)),
        });
        settled.await?.ok_or_else(|| Status::internal("the password was not taken"))
    }

    /// Does work that takes a core for some time; `None` if it panicked.
    async fn at_a_desk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, Status> {
        let Ok(_place) = self.line.try_acquire() else {
            return Err(Status::busy("too many passwords are being looked at; try again later"));
        };
        let desk = self.desks.clone().acquire_owned().await.expect("nobody closes it");
        let worked = tokio::task::spawn_blocking(move || {
            let done = work();
            // The 19 MiB that it took: the allocator would keep them.
            keeper::release_heap();
            // Held until here: whoever goes away leaves the work behind, not the desk.
            drop(desk);
            done
        });
        Ok(worked.await.ok())
    }

    /// Takes all desks, until it is dropped.
    #[cfg(test)]
    pub(crate) async fn occupied(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(self.desks.available_permits()).expect("few");
        self.desks.clone().acquire_many_owned(all).await.expect("nobody closes it")
    }
}

/// A password that is set, and the hash that is kept: what a core must work on. Without `Debug`: it is a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    pub(super) plain: String,
    pub(super) kept: Option<String>,
}

/// What becomes of it.
pub enum Settled {
    /// It is the one that is kept.
    Stays,
    /// It is another one, with this hash.
    Becomes(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_own_password_and_no_other() {
        let kept = hash("correct horse");
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(fits("correct horse", &kept));
        assert!(!fits("correct hors", &kept) && !fits("", &kept) && !fits("correct horse", "no hash"));
        assert_ne!(kept, hash("correct horse"), "each has its own salt");
    }

    #[test]
    fn hashes_from_elsewhere_are_argon2id_and_cost_little() {
        assert_eq!(check_hash(NOBODY), Ok(()));
        assert_eq!(check_hash(&hash("x")), Ok(()));
        for bad in [
            "",
            "$argon2id$",
            "$2y$10$abcdefghijklmnopqrstuv",
            &NOBODY.replace("argon2id", "argon2i"),
            &NOBODY.replace("m=19456", "m=4194304"),
            &NOBODY.replace("t=2", "t=1000"),
        ] {
            assert!(check_hash(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn nobody_has_the_password_of_nobody() {
        let passwords = Passwords::default();
        let kept = SecretValue::of(hash("right one").as_bytes());
        assert_eq!(passwords.fit("right one".into(), Some(&kept)).await, Ok(true));
        assert_eq!(passwords.fit("wrong one".into(), Some(&kept)).await, Ok(false));
        assert_eq!(passwords.fit("right one".into(), None).await, Ok(false));
    }
}
