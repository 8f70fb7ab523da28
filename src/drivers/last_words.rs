//! The end of what an attempt wrote, as text for a status.

use std::path::Path;

use super::StartKey;
use crate::logger::{read::logs_dir, tail};

/// As much as a kubelet takes.
const BYTES: usize = 2048;
const LINES: usize = 80;

/// Reads it from the logs of a data directory. What cannot be read is empty: the exit itself is told in any case.
pub(super) async fn last_words(data_dir: &Path, key: &StartKey) -> String {
    let (logs, attempt) = (logs_dir(data_dir, &key.uid), key.attempt);
    let read = tokio::task::spawn_blocking(move || tail::tail(&logs, attempt, BYTES, LINES)).await;
    plain(&read.ok().and_then(Result::ok).unwrap_or_default())
}

/// Text that harms no terminal and no YAML.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let kept: String = text.chars().filter(|c| !c.is_control() || ['\n', '\t'].contains(c)).collect();
    kept.trim_end().to_owned()
}
