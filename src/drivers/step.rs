//! What a step of a workflow left behind: the files that it was given to write to, and what it printed.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::libc;

use super::StartKey;
use crate::{
    api::{RunStep, StepResult},
    logger::{
        Stream,
        read::{Attempts, Query, Reader, logs_dir},
    },
};

/// The directory of a data directory in which the steps of runs work together.
pub const WORKSPACES: &str = "workspaces";
/// The files that a step is given to write to.
pub const STEP_FILES: [&str; 4] = ["output", "env", "path", "summary"];

/// Most bytes of one of them.
const LONGEST_FILE: u64 = 256 << 10;
/// Most bytes of what it printed.
const LONGEST_OUTPUT: usize = 1 << 20;

/// Reads what is there. What cannot be read is told as its fault.
pub(super) async fn result(data_dir: &Path, key: &StartKey, step: &RunStep) -> StepResult {
    let (data_dir, key, step) = (data_dir.to_owned(), key.clone(), step.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut result = StepResult::default();
        if step.stdout {
            let printed = printed(&logs_dir(&data_dir, &key.uid), key.attempt);
            result.stdout = String::from_utf8_lossy(&printed.unwrap_or_default()).into_owned();
        }
        let dir = data_dir.join(WORKSPACES).join(&step.workspace).join("steps").join(key.uid.as_str());
        match take(&dir, &mut result) {
            Ok(()) => {}
            // It was never started, or is a container.
            Err(Fault::Io(e)) if e.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => result.fault = fault.to_string(),
        }
        result
    });
    read.await.unwrap_or_default()
}

/// Why a file cannot be taken for what it says.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot read what the step wrote: {0}")]
    Io(#[from] io::Error),
    #[error("the file ${0} is longer than 256 KiB")]
    TooLong(&'static str),
    #[error("the file ${0} is no UTF-8")]
    NoText(&'static str),
    #[error("the file ${0}: line {1} is neither NAME=VALUE nor NAME<<END")]
    NoPair(&'static str, usize),
    #[error("the file ${0}: `{1}`, which ends the value that begins in line {2}, is missing")]
    NoEnd(&'static str, String, usize),
}

fn take(dir: &Path, result: &mut StepResult) -> Result<(), Fault> {
    let [output, env, path, summary] = ["GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"];
    result.outputs = pairs(output, &text(output, dir.join("output"))?)?;
    result.env = pairs(env, &text(env, dir.join("env"))?)?;
    let lines = text(path, dir.join("path"))?;
    result.path = lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    result.summary = text(summary, dir.join("summary"))?;
    Ok(())
}

/// A file that its writer cannot have replaced by something else.
fn text(variable: &'static str, path: PathBuf) -> Result<String, Fault> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Fault::TooLong(variable));
    }
    String::from_utf8(bytes).map_err(|_| Fault::NoText(variable))
}

/// `NAME=VALUE`, or `NAME<<END` with the value on the lines up to `END`.
fn pairs(variable: &'static str, text: &str) -> Result<BTreeMap<String, String>, Fault> {
    let mut found = BTreeMap::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (equals, here) = (line.find('='), line.find("<<"));
        let (name, value) = match (equals, here) {
            (Some(equals), here) if here.is_none_or(|here| equals < here) => {
                (&line[..equals], line[equals + 1..].to_owned())
            }
            (_, Some(here)) => {
                let end = &line[here + 2..];
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == end => break,
                        Some((_, line)) => value.push(line),
                        None => return Err(Fault::NoEnd(variable, end.to_owned(), at + 1)),
                    }
                }
                (&line[..here], value.join("\n"))
            }
            _ => return Err(Fault::NoPair(variable, at + 1)),
        };
        if name.trim().is_empty() {
            return Err(Fault::NoPair(variable, at + 1));
        }
        found.insert(name.trim().to_owned(), value);
    }
    Ok(found)
}

/// The beginning of what an attempt wrote on standard output.
fn printed(logs: &Path, attempt: u32) -> io::Result<Vec<u8>> {
    let query = Query { stream: Some(Stream::Out), ..Query::of(Attempts::Only(attempt)) };
    let mut reader = Reader::open(logs, Query { limit_bytes: Some(LONGEST_OUTPUT as u64), ..query })?;
    let mut all = Vec::new();
    while let Some(line) = reader.next_line()? {
        all.extend(line.bytes);
    }
    all.extend(reader.rest().into_iter().flat_map(|line| line.bytes));
    all.truncate(LONGEST_OUTPUT);
    Ok(all)
}

/// Removes a workspace, wherever it is. One that is not there is no error.
pub(super) fn remove_workspace(data_dir: &Path, name: &str) -> io::Result<()> {
    let inside = data_dir.join(WORKSPACES).join(name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_pairs_in_one_line_or_in_several() {
        let told = |text: &str| match pairs("GITHUB_OUTPUT", text) {
            Ok(pairs) => pairs.iter().map(|(k, v)| format!("{k}={v:?}")).collect::<Vec<_>>().join(" "),
            Err(fault) => fault.to_string(),
        };
        assert_eq!(told("a=1\n\nb=x=y\n"), r#"a="1" b="x=y""#);
        assert_eq!(
            told("a<<EOF\n1\n2=3\nEOF\nb<<=\n"),
            "the file $GITHUB_OUTPUT: `=`, which ends the value that begins in line 5, is missing"
        );
        assert_eq!(told("a<<EOF\n1\n2\nEOF\nb=a<<EOF\n"), r#"a="1\n2" b="a<<EOF""#);
        assert_eq!(told("nothing\n"), "the file $GITHUB_OUTPUT: line 1 is neither NAME=VALUE nor NAME<<END");
        assert_eq!(told("=x\n"), "the file $GITHUB_OUTPUT: line 1 is neither NAME=VALUE nor NAME<<END");
    }
}
