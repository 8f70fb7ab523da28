//! What a process proves by that it is a certain attempt of a certain instance: `APP_MESH_PROCESS_KEY`.
//!
//! The key names the attempt and bears a code over it, so that nothing is kept of it: whoever restarts the server knows the keys of the
//! processes that run on.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::drivers::StartKey;

/// So many bytes of the code: nobody guesses them.
const CODE: usize = 16;
const SEED: usize = 32;

/// Makes keys and reads them.
#[derive(Debug)]
pub struct Keys(hmac::Key);

impl Keys {
    /// Keys that another process cannot read.
    pub fn of_this_process() -> Self {
        let mut seed = [0; SEED];
        aws_lc_rs::rand::fill(&mut seed).expect("the operating system gives randomness");
        Self::of(&seed)
    }

    fn of(seed: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, seed))
    }

    /// Keys that whoever has this file can read; it is made if it is not there.
    ///
    /// # Errors
    /// When the file can be neither read nor made.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(seed) if seed.len() == SEED => return Ok(Self::of(&seed)),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it has not 32 bytes")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut seed = [0; SEED];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no randomness"))?;
        let beside = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&seed)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        if let Some(dir) = path.parent() {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(Self::of(&seed))
    }

    /// The key of an attempt.
    pub(super) fn of_attempt(&self, attempt: &StartKey) -> String {
        let name = format!("{}.{}", attempt.uid, attempt.attempt);
        let code = hmac::sign(&self.0, name.as_bytes());
        format!("{name}.{}", URL_SAFE_NO_PAD.encode(&code.as_ref()[..CODE]))
    }

    /// A code over bytes, in hexadecimal digits, that nobody can make or guess at who cannot read the keys.
    pub(super) fn seal(&self, purpose: &str, bytes: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        // No attempt's name begins so.
        context.update(b"\0");
        context.update(purpose.as_bytes());
        context.update(b"\0");
        context.update(bytes);
        hex::encode(context.sign().as_ref())
    }

    /// The attempt of a key; `None` if it is none of ours.
    pub(super) fn read(&self, key: &str) -> Option<StartKey> {
        let (name, _) = key.rsplit_once('.')?;
        let (uid, attempt) = name.rsplit_once('.')?;
        let attempt = StartKey { uid: uid.into(), attempt: attempt.parse().ok()? };
        let right = self.of_attempt(&attempt);
        aws_lc_rs::constant_time::verify_slices_are_equal(right.as_bytes(), key.as_bytes()).ok()?;
        Some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_key_is_read() {
        let keys = Keys::of_this_process();
        let attempt = StartKey { uid: "0b7e-1".into(), attempt: 7 };
        let key = keys.of_attempt(&attempt);
        assert_eq!(keys.read(&key), Some(attempt));
        let (name, code) = key.rsplit_once('.').expect("three parts");
        for wrong in
            ["", "a", "a.b.c", name, &format!("0b7e-1.8.{code}"), &format!("{key}A"), &format!("0b7e-1.07.{code}")]
        {
            assert_eq!(keys.read(wrong), None, "{wrong}");
        }
        assert_eq!(Keys::of_this_process().read(&key), None);
    }

    #[test]
    fn a_file_keeps_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("worker.key");
        let attempt = StartKey { uid: "u".into(), attempt: 1 };
        let key = Keys::open(&path).expect("made").of_attempt(&attempt);
        assert_eq!(Keys::open(&path).expect("read").read(&key), Some(attempt));
        fs::write(&path, "short").expect("written");
        Keys::open(&path).expect_err("damaged");
    }
}
