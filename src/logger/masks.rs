//! What a step asks to have hidden while it goes on (`::add-mask::`): what was heard is in memory beside the values that the step was given
//! ([`mod@super::redact`]), and noted there before anything of the piece that it was heard in is shown.
//!
//! The file stays when the attempt has been forgotten, and goes with the Instance: whoever reads later what the step left behind finds
//! `***` where the value stood.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::redact::VALUES;
use crate::{
    api::SecretValue,
    drivers::StartKey,
    policy::{
        redact::{End, Redactor},
        steps::{Heard, Masks},
    },
};

/// The link in the data directory that leads to the directory in memory.
pub(crate) const MEMORY: &str = "keeper/memory";
/// The file beside an attempt's values that says that it is listened to.
pub(crate) const LISTENS: &str = "listens";

/// What listens to an attempt.
#[derive(Debug)]
pub(super) struct Ear {
    /// The attempt's directory in memory.
    place: PathBuf,
    masks: Masks,
}

impl Ear {
    /// Of the attempt whose directory in memory this link leads to, if it is to be listened to. Goes on where an earlier logger was.
    pub(super) fn of(secrets: &Path) -> io::Result<Option<Ear>> {
        if !secrets.join(LISTENS).exists() {
            return Ok(None);
        }
        let place = fs::read_link(secrets)?;
        let masks = read(&file(&place))?.unwrap_or_default();
        Ok(Some(Ear { place, masks }))
    }

    /// Listens to a piece. True: there are more values than before, and they are on record.
    pub(super) fn hear(&mut self, piece: &[u8], begins: bool, end: End) -> io::Result<(usize, bool)> {
        let before = self.masks.values.len();
        let Heard { until, is_news } = self.masks.hear(piece, begins, end);
        if is_news {
            self.keep()?;
        }
        Ok((until, self.masks.values.len() > before))
    }

    /// What looks for the values that the attempt was given, and for those that it asked for.
    pub(super) fn redactor(&self) -> io::Result<Option<Redactor>> {
        let given: Vec<SecretValue> = serde_json::from_slice(&fs::read(self.place.join(VALUES))?)?;
        let given = given.iter().map(SecretValue::bytes).collect::<Option<Vec<_>>>();
        let given = given.ok_or_else(|| io::Error::other("a value is no base64"))?;
        let asked = self.masks.values.iter().map(String::as_bytes);
        Ok(Redactor::new(given.iter().map(Vec::as_slice).chain(asked)))
    }

    fn keep(&self) -> io::Result<()> {
        let file = file(&self.place);
        let mut new = OsString::from(&file);
        new.push(".new");
        let mut options = fs::OpenOptions::new();
        let written = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
        written?.write_all(&serde_json::to_vec(&self.masks)?)?;
        fs::rename(new, file)
    }
}

/// What an attempt asked to have hidden. `None`: nothing, or that is forgotten.
pub(crate) fn of(data_dir: &Path, key: &StartKey) -> io::Result<Option<Masks>> {
    let place = data_dir.join(MEMORY).join(key.uid.as_str()).join(key.attempt.to_string());
    read(&file(&place))
}

/// Beside the attempt's own directory in memory, so that it outlives that.
fn file(place: &Path) -> PathBuf {
    let mut name = OsString::from("masks.");
    name.push(place.file_name().unwrap_or_default());
    place.with_file_name(name)
}

fn read(file: &Path) -> io::Result<Option<Masks>> {
    match fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
