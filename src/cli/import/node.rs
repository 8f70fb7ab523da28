//! What a JavaScript file exports, by way of node. The file is run, as PM2 runs it: whoever imports it trusts it.

use std::{
    io::{ErrorKind, Read as _},
    path::{Path, absolute},
    process::{Command, Stdio},
};

use super::super::error::{CliError, Exit};

/// As much as is taken of it.
const MOST: u64 = 8 << 20;
/// Prints what a module exports; its own output goes to standard error.
const PRINT: &str = "\
const out = process.stdout; console.log = console.info = console.error; \
import('file://' + process.argv[1]).then((m) => out.write(JSON.stringify(m.default ?? m)), \
(e) => { process.stderr.write(String(e && e.stack || e)); process.exitCode = 1; });";

/// The file's exports as JSON.
///
/// # Errors
/// If there is no node, or it fails.
pub(super) fn exported(file: &Path) -> Result<String, CliError> {
    let path = absolute(file).map_err(|e| CliError::io("cannot make a path absolute", &e))?;
    let name = file.display();
    if !path.is_file() {
        return Err(CliError::failed(format!("cannot read {name}: there is no such file")));
    }
    let started = Command::new("node")
        .args(["--input-type=module", "-e", PRINT, "--"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut node = started.map_err(|e| match e.kind() {
        ErrorKind::NotFound => CliError::failed(format!("{name} is JavaScript, and there is no node here")).help(
            "where there is one: node -p 'JSON.stringify(require(\"./ecosystem.config.js\"))' | appm import pm2 -",
        ),
        _ => CliError::io("cannot start node", &e),
    })?;
    let mut text = String::new();
    let read = node.stdout.take().expect("it is piped").take(MOST).read_to_string(&mut text);
    let status = node.wait().map_err(|e| CliError::io("cannot wait for node", &e))?;
    read.map_err(|e| CliError::io("cannot read what node prints", &e))?;
    match status.success() && !text.is_empty() {
        true => Ok(text),
        false => Err(CliError::new(Exit::InvalidInput, format!("node cannot read {name}"))),
    }
}
