//! The committed files: `openapi/appm.json`, the same in 3.0, and `schemas/KIND.schema.json` for each kind.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::api::{kinds::served, schema};

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", path.display())]
pub struct GenerateError {
    path: PathBuf,
    source: io::Error,
}

/// A committed file that is not what would be generated now.
pub type Stale = PathBuf;

/// Every generated file, by its path below the project's root.
fn files() -> BTreeMap<PathBuf, String> {
    let pretty = |value: &serde_json::Value| format!("{value:#}\n");
    let kinds = served().filter(|s| s.view.is_none());
    let mut all: BTreeMap<PathBuf, String> =
        kinds.map(|s| (format!("schemas/{}.schema.json", s.name()).into(), pretty(&schema::of(s)))).collect();
    all.insert("openapi/appm.json".into(), pretty(&super::document()));
    all.insert("openapi/appm-3.0.json".into(), pretty(&super::document_3_0()));
    all
}

/// Writes them below `root` and returns their paths.
///
/// # Errors
/// When one cannot be written.
pub fn generate(root: &Path) -> Result<Vec<PathBuf>, GenerateError> {
    let mut written = Vec::new();
    for (path, text) in files() {
        let full = root.join(&path);
        let dir = full.parent().unwrap_or(root).to_owned();
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&full, text))
            .map_err(|source| GenerateError { path: full, source })?;
        written.push(path);
    }
    Ok(written)
}

/// `appm generate [--root DIR]`, for developers: writes the files and names them.
pub fn main(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let root = match (words.next(), words.next()) {
        (None, None) => PathBuf::from("."),
        (Some(flag), Some(root)) if flag == "--root" => root.into(),
        _ => {
            let _ = writeln!(io::stderr(), "error: expected `appm generate [--root DIR]`");
            return ExitCode::from(2);
        }
    };
    match generate(&root) {
        Ok(written) => {
            let mut out = io::stdout().lock();
            let named = written.iter().try_for_each(|path| writeln!(out, "{}", path.display()));
            if named.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}: {}", error.source);
            ExitCode::FAILURE
        }
    }
}

/// The files below `root` that are missing, out of date, or left over from a kind that is gone.
pub fn stale(root: &Path) -> Vec<Stale> {
    let files = files();
    let changed = files.iter().filter(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(*text));
    let mut stale: Vec<Stale> = changed.map(|(path, _)| path.clone()).collect();
    let committed = fs::read_dir(root.join("schemas")).into_iter().flatten().flatten();
    stale.extend(committed.map(|e| Path::new("schemas").join(e.file_name())).filter(|p| !files.contains_key(p)));
    stale
}
