//! What the objects are called that a run makes: for the same step and attempt always the same, so that none is made twice.

use crate::{
    api::{Object, WorkflowRun},
    policy::backoff::spread,
};

/// The longest beginning of a name: what is made of it in turn has more behind it.
const READABLE: usize = 38;

/// The name of what an attempt of a step runs as: readable, and nobody else's.
pub(super) fn child(run: &Object<WorkflowRun>, job: &str, step: &str, attempt: u32) -> String {
    let identity = format!("{}/{job}/{step}", run.uid());
    let words: String = format!("{}-{step}", run.metadata.name).chars().map(plain).take(READABLE).collect();
    format!("{}-{:010x}", words.trim_matches(['-', '.']), spread(&identity, attempt) & 0xff_ffff_ffff)
}

/// The name of what a step runs as that is made ahead, behind the Run `before`.
pub(super) fn ahead(run: &Object<WorkflowRun>, job: &str, step: &str, before: &str) -> String {
    child(run, &format!("{job}/after/{before}"), step, 1)
}

/// The directory of its own that a cell has in the run's workspace.
pub(super) fn place(cell: &str) -> String {
    let words: String = cell.chars().map(plain).take(READABLE).collect();
    format!("{}-{:08x}", words.trim_matches(['-', '.']), spread(cell, 0) & 0xffff_ffff)
}

fn plain(letter: char) -> char {
    match letter.to_ascii_lowercase() {
        letter if letter.is_ascii_lowercase() || letter.is_ascii_digit() => letter,
        _ => '-',
    }
}
