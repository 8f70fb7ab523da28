//! The command line: the real binary against a real server over its socket.

mod apply;
mod changes;
mod contexts;
mod declared;
mod logins;
mod objects;
mod plan;
mod roles;
mod up;
mod workflows;

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::api::Api;

/// What a command said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its stdout; it must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Its stdout as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// Its stderr; it must have failed with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }
}

/// `appm LINE` with the server's data directory, words split at blanks.
pub(crate) async fn appm(api: &Api, line: &str) -> Said {
    appm_with(api, line, "").await
}

/// The same, with a text on stdin.
pub(crate) async fn appm_with(api: &Api, line: &str, stdin: &str) -> Said {
    run(api.dir.path(), &words_of(line), stdin).await
}

/// The words of a line.
pub(crate) fn words_of(line: &str) -> Vec<&str> {
    line.split(' ').filter(|w| !w.is_empty()).collect()
}

/// `appm WORDS` with more in its environment.
pub(crate) async fn run_with(api: &Api, words: &[&str], environment: &[(&str, &str)]) -> Said {
    finish(command(api.dir.path(), words).envs(environment.iter().copied()), "").await
}

/// The binary with a data directory.
pub(crate) async fn run(data_dir: &Path, words: &[&str], stdin: &str) -> Said {
    finish(&mut command(data_dir, words), stdin).await
}

/// `appm WORDS` of somebody with a home and without a data directory.
pub(crate) async fn at_home(home: &Path, words: &[&str], stdin: &str) -> Said {
    let mut command = command(home, words);
    command.env("HOME", home).env_remove("KUBECONFIG").env_remove("APPM_DATA_DIR");
    finish(&mut command, stdin).await
}

fn command(data_dir: &Path, words: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_appm"));
    command.args(words).env("APPM_DATA_DIR", data_dir).env_remove("APPM_KUBECONFIG").env_remove("APPM_NAMESPACE");
    command
}

async fn finish(command: &mut tokio::process::Command, stdin: &str) -> Said {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.kill_on_drop(true).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[tokio::test]
async fn an_absent_server_is_exit_code_5_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["get", "apps"], "").await.fails(5);
    assert!(said.contains("no appm server answers at"), "{said}");
    assert!(said.contains("`appm up`"), "{said}");
}

#[tokio::test]
async fn a_wrong_command_line_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["get", "apz"], "").await.fails(2);
    assert!(said.contains("did you mean"), "{said}");
    assert!(run(folder.path(), &["aply"], "").await.fails(2).contains("'apply'"));
    assert!(run(folder.path(), &[], "").await.fails(2).contains("Usage"));
    assert!(run(folder.path(), &["--help"], "").await.ok().contains("appm up"));
    assert!(run(folder.path(), &["exit-codes"], "").await.ok().contains("124"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_leaves_no_keeper_behind() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(folder.path(), &["server", "--listen", &address], "").await.fails(1);
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
    assert!(said.contains("--listen"), "{said}");
    assert!(!folder.path().join("keeper").exists(), "{said}");
}
