//! What a step of a workflow left behind: the files that it was given to write to, and what it printed.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::libc;

use super::{StartKey, artifacts};
use crate::{
    api::{AnnotationLevel, RunStep, StepAnnotation, StepResult},
    logger::{
        Stream, masks,
        read::{Attempts, Query, Reader, logs_dir},
        redact::{Known, Redactors, SECRETS},
        veil::veil,
    },
    policy::{
        redact::Redactor,
        steps::{self, ChannelFault, Listener},
    },
};

/// The directory of a data directory in which the steps of runs work together.
pub const WORKSPACES: &str = "workspaces";
/// The files that a step is given to write to.
pub const STEP_FILES: [&str; 4] = ["output", "env", "path", "summary"];

/// Most bytes of what it printed.
const LONGEST_OUTPUT: usize = 1 << 20;
/// Bytes of output in which commands are looked for.
const LONGEST_TALK: u64 = 16 << 20;
/// An agent began after the step's end was acknowledged, and before this was read.
const FORGOTTEN: &str = "what it wrote for later steps is withheld: the secret values that are to be taken out of it are not known any more";

/// Reads the files that it was given. What cannot be read is told as its fault, and nothing is in it that the step was given out of
/// a Secret. `guarded`: it was given some, so without knowing them nothing is told.
pub(super) async fn files(data_dir: &Path, key: &StartKey, step: &RunStep, guarded: bool) -> StepResult {
    if left_nothing(data_dir, key, step, guarded) {
        return StepResult::default();
    }
    let (data_dir, key, step) = (data_dir.to_owned(), key.clone(), step.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut result = StepResult::default();
        let attempt = attempt_dir(&data_dir, &key);
        let known = Known::of(&attempt, &mut Redactors::default());
        // The keeper makes the attempt's directory before it starts anything, and it goes when the end was acknowledged.
        if matches!(known, Known::Gone) || guarded && !attempt.exists() {
            FORGOTTEN.clone_into(&mut result.fault);
            return result;
        }
        let dir = files_dir(&data_dir, &key, &step);
        match take(&dir, &mut result) {
            Ok(()) => {}
            // It was never started, or is a container.
            Err(Fault::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => result.fault = fault.to_string(),
        }
        if (step.keep.is_some() || !step.fetch.is_empty()) && result.fault.is_empty() {
            artifacts::carry(&data_dir, &key, &step, &mut result);
        }
        if let Known::Values(redactor) = known {
            steps::cover(&mut result, |text| covered(&redactor, text));
        }
        result
    });
    read.await.unwrap_or_default()
}

fn attempt_dir(data_dir: &Path, key: &StartKey) -> PathBuf {
    data_dir.join("instances").join(key.uid.as_str()).join(key.attempt.to_string())
}

fn files_dir(data_dir: &Path, key: &StartKey, step: &RunStep) -> PathBuf {
    data_dir.join(WORKSPACES).join(&step.workspace).join("steps").join(key.uid.as_str())
}

/// True if there is nothing to read, as of most steps: all its files are empty. To see that costs less than to have another thread look.
fn left_nothing(data_dir: &Path, key: &StartKey, step: &RunStep, guarded: bool) -> bool {
    let carries = step.keep.is_some() || !step.fetch.is_empty();
    let dir = files_dir(data_dir, key, step);
    let is_empty = |name: &str| dir.join(name).symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    let has_secrets = || attempt_dir(data_dir, key).join(SECRETS).symlink_metadata().is_ok();
    !guarded && !carries && !has_secrets() && STEP_FILES.iter().all(|name| is_empty(name))
}

/// Reads what it printed, as far as that is wanted, and puts it to what its files said.
pub(super) async fn output(data_dir: &Path, key: &StartKey, step: &RunStep, result: StepResult) -> StepResult {
    let (data_dir, key, step) = (data_dir.to_owned(), key.clone(), step.clone());
    let read = tokio::task::spawn_blocking(move || {
        let (logs, mut result) = (logs_dir(&data_dir, &key.uid), result);
        if step.stdout {
            let mut printed = printed(&logs, key.attempt).unwrap_or_default();
            if printed.len() > LONGEST_OUTPUT {
                printed.truncate(LONGEST_OUTPUT);
                let message =
                    format!("`stdout` has the first {LONGEST_OUTPUT} bytes of what it printed; its log has all");
                let level = AnnotationLevel::Warning;
                result.annotations.push(StepAnnotation { level, message, ..StepAnnotation::default() });
            }
            result.stdout = String::from_utf8_lossy(&printed).into_owned();
        }
        if step.commands {
            let mut listener = Listener::default();
            // What cannot be read was rotated away or never written.
            let _ = listen(&logs, key.attempt, &mut listener);
            let said = listener.end();
            let known = masks::of(&data_dir, &key).unwrap_or_default();
            // What stands there was hidden by somebody who knew the value.
            if known.is_none() && said.is_masked() {
                return StepResult { fault: FORGOTTEN.to_owned(), ..StepResult::default() };
            }
            let mut masks = known.unwrap_or_default().values;
            masks.extend(said.masks.iter().cloned());
            said.join(&mut result);
            if let Some(redactor) = Redactor::new(masks.iter().map(String::as_bytes)) {
                if let Err(error) = veil(&logs, key.attempt, &redactor) {
                    tracing::warn!(%key, %error, "what a step masked stays in its log");
                }
                steps::cover(&mut result, |text| covered(&redactor, text));
            }
        }
        result
    });
    read.await.unwrap_or_default()
}

fn covered(redactor: &Redactor, text: &str) -> String {
    String::from_utf8_lossy(&redactor.redacted(text.as_bytes())).into_owned()
}

/// Why a file cannot be taken for what it says.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot read what the step wrote: {0}")]
    Io(#[from] io::Error),
    #[error("the file ${0}: {1}")]
    Content(&'static str, ChannelFault),
}

fn take(dir: &Path, result: &mut StepResult) -> Result<(), Fault> {
    let [output, env, path, summary] = STEP_FILES.map(|name| bytes(dir.join(name)));
    let content = |variable| move |fault| Fault::Content(variable, fault);
    result.outputs = steps::outputs(&output?).map_err(content("GITHUB_OUTPUT"))?;
    result.env = steps::env(&env?).map_err(content("GITHUB_ENV"))?;
    result.path = steps::path(&path?).map_err(content("GITHUB_PATH"))?;
    result.summary = steps::summary(&summary?).map_err(content("GITHUB_STEP_SUMMARY"))?;
    Ok(())
}

/// A file that its writer cannot have replaced by something else, and one byte more than may be in it.
fn bytes(path: PathBuf) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(steps::LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The beginning of what an attempt wrote on standard output, and one byte more than is wanted.
fn printed(logs: &Path, attempt: u32) -> io::Result<Vec<u8>> {
    let query = Query { stream: Some(Stream::Out), ..Query::of(Attempts::Only(attempt)) };
    let mut reader = Reader::open(logs, Query { limit_bytes: Some(LONGEST_OUTPUT as u64 + 1), ..query })?;
    let mut all = Vec::new();
    while let Some(line) = reader.next_line()? {
        all.extend(line.bytes);
    }
    all.extend(reader.rest().into_iter().flat_map(|line| line.bytes));
    Ok(all)
}

/// Has an attempt's output listened to, both streams, up to a bound.
fn listen(logs: &Path, attempt: u32, listener: &mut Listener) -> io::Result<()> {
    let query = Query { limit_bytes: Some(LONGEST_TALK), ..Query::of(Attempts::Only(attempt)) };
    let mut reader = Reader::open(logs, query)?;
    while let Some(line) = reader.next_line()? {
        if line.begins {
            listener.line(line.bytes.trim_ascii_end());
        }
    }
    reader.rest().into_iter().filter(|line| line.begins).for_each(|line| listener.line(line.bytes.trim_ascii_end()));
    Ok(())
}

/// Removes a workspace, wherever it is. One that is not there is no error.
pub(super) fn remove_workspace(data_dir: &Path, name: &str) -> io::Result<()> {
    let inside = data_dir.join(WORKSPACES).join(name);
    artifacts::remove(data_dir, name)?;
    let gone = |result: io::Result<()>| match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    match inside.read_link() {
        Ok(target) => {
            gone(std::fs::remove_dir_all(target))?;
            gone(std::fs::remove_file(inside))
        }
        Err(_) => gone(std::fs::remove_dir_all(inside)),
    }
}
