//! Asking a person for what nobody else should see: at the terminal, without showing it. Never on the command line, which every
//! process of the machine can read.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use super::error::CliError;

/// Longer ones are no passwords.
const LONGEST: u64 = 4096;

/// The first line of the standard input: `--password-stdin`.
pub(super) fn from_stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let read = BufReader::new(io::stdin().take(LONGEST)).read_line(&mut text);
    read.map_err(|e| CliError::io("cannot read the standard input", &e))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What a person types, unseen.
pub(super) fn hidden(question: &str) -> Result<String, CliError> {
    ask(question, true)
}

/// What a person types.
pub(super) fn shown(question: &str) -> Result<String, CliError> {
    ask(question, false)
}

/// A new password, typed twice.
pub(super) fn new_password(question: &str) -> Result<String, CliError> {
    let first = hidden(question)?;
    match hidden("again: ")? == first {
        true => Ok(first),
        false => Err(CliError::usage("the two are not the same")),
    }
}

fn ask(question: &str, hide: bool) -> Result<String, CliError> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let terminal = terminal.map_err(|_| {
        CliError::usage("there is no terminal to ask at").help("--password-stdin reads from the standard input")
    })?;
    let failed = |e: io::Error| CliError::io("cannot ask at the terminal", &e);
    (&terminal).write_all(question.as_bytes()).map_err(failed)?;
    let quiet = if hide { Some(Quiet::new(&terminal).map_err(failed)?) } else { None };
    let mut text = String::new();
    let read = BufReader::new((&terminal).take(LONGEST)).read_line(&mut text);
    if quiet.is_some() {
        (&terminal).write_all(b"\n").map_err(failed)?;
    }
    drop(quiet);
    read.map_err(failed)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
