//! Readers of other engines' files, one for each. All give a [`Report`](super::report::Report) of manifests.

pub mod appmesh;
pub mod compose;
pub mod crontab;
pub mod kubernetes;
pub mod pm2;
pub mod procfile;
pub mod supervisor;
pub mod systemd;
pub(super) mod words;

use std::path::{Component, Path, PathBuf};

use super::{
    files::Files,
    report::{Refusal, Spot},
};

/// The most objects that one import makes.
const MOST: usize = 5000;
/// The longest name of an App, with room for what is made of it.
const LONGEST_NAME: usize = 50;

/// A file's text.
fn text(path: &Path, files: &Files) -> Result<String, Vec<Refusal>> {
    files.read(path).map_err(|why| vec![Refusal::new(&Spot::new(path, 0), why)])
}

/// Too much of something.
fn too_many(count: usize, what: &str, spot: &Spot) -> Result<(), Vec<Refusal>> {
    if count <= MOST {
        return Ok(());
    }
    Err(vec![Refusal::new(spot, format!("{count} {what}: at most {MOST} are imported at once; split the file"))])
}

/// A path without `.` and `..`.
fn plain_path(path: &Path) -> String {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain.display().to_string()
}
