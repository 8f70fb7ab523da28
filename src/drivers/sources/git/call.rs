//! git at work: one process group for each call, which ends with it.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

use super::{BROKEN, environment::Variables};
use crate::drivers::sources::ReadError;

/// As much as git may list: a repository is somebody else's, and this is our memory.
const MOST_OUTPUT: u64 = 64 << 20;
/// As much as it may complain.
const MOST_WORDS: u64 = 1 << 20;

/// Ends git and all that it has started, unless it has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }
}

/// In which environment git runs.
pub(super) struct Call {
    pub(super) dir: PathBuf,
    pub(super) repository: PathBuf,
    pub(super) env: Variables,
}

impl Call {
    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(&self.dir).process_group(0).kill_on_drop(true);
        command
    }

    /// Runs git on our copy.
    pub(super) async fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Output, ReadError> {
        let repository = OsString::from_iter([OsString::from("--git-dir="), self.repository.clone().into()]);
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        self.run_in(&self.dir, std::iter::once(&repository).chain(&args)).await
    }

    pub(super) async fn run_in<'a>(
        &self,
        dir: &Path,
        args: impl IntoIterator<Item = &'a OsString>,
    ) -> Result<Output, ReadError> {
        let mut child = self.command().current_dir(dir).args(args).spawn().map_err(|e| not_run(&e))?;
        let mut group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = tokio::try_join!(said(stdout, MOST_OUTPUT), said(stderr, MOST_WORDS))?;
        let status = child.wait().await.map_err(|e| not_run(&e))?;
        group.0 = None;
        Ok(Output { status, stdout, stderr })
    }

    /// What is in these blobs, in order.
    pub(super) async fn blobs(&self, wanted: &[(String, String)]) -> Result<Vec<Vec<u8>>, ReadError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let broken = |what: String| ReadError::new(BROKEN, what);
        let mut command = self.command();
        command.arg("--git-dir").arg(&self.repository).args(["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| not_run(&e))?;
        let mut group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken("git has no pipes".to_owned()));
        };
        let names: String = wanted.iter().map(|(blob, _)| format!("{blob}\n")).collect();
        let sending = async move {
            // Whoever reads what comes back sees that it ends early.
            let _ = input.write_all(names.as_bytes()).await;
        };
        let reading = async {
            let (mut output, mut all) = (BufReader::new(output), Vec::with_capacity(wanted.len()));
            for (blob, path) in wanted {
                let mut head = String::new();
                output.read_line(&mut head).await.map_err(|e| broken(format!("{path} cannot be read: {e}")))?;
                let size = head.strip_prefix(blob.as_str()).and_then(|rest| rest.strip_prefix(" blob "));
                let size = size.and_then(|size| size.trim_end().parse::<usize>().ok());
                let size = size.ok_or_else(|| broken(format!("{path} is not in the copy of the repository")))?;
                let mut text = vec![0; size + 1];
                output.read_exact(&mut text).await.map_err(|e| broken(format!("{path} cannot be read: {e}")))?;
                text.pop();
                all.push(text);
            }
            Ok(all)
        };
        let ((), all) = tokio::join!(sending, reading);
        if all.is_ok() {
            let _ = child.wait().await;
            group.0 = None;
        }
        all
    }
}

fn not_run(error: &io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::new("NoGit", "there is no `git` on the server's machine"),
        _ => ReadError::new("FetchFailed", format!("git cannot be run: {error}")),
    }
}

/// All that a process writes, if that is not too much.
async fn said(from: Option<impl AsyncRead + Unpin>, most: u64) -> Result<Vec<u8>, ReadError> {
    let mut all = Vec::new();
    let Some(from) = from else { return Ok(all) };
    from.take(most + 1).read_to_end(&mut all).await.map_err(|e| not_run(&e))?;
    match all.len() as u64 > most {
        true => Err(ReadError::new("TooLarge", format!("git says more than {most} bytes of the repository"))),
        false => Ok(all),
    }
}
