//! The lines of `appm shell`: at a terminal they are edited as they are typed and remembered, else read as they come.

use std::{
    io::{self, BufRead, IsTerminal},
    path::{Path, PathBuf},
};

use rustyline::{
    CompletionType, Config, Context, Editor, Helper,
    completion::{Completer, FilenameCompleter, Pair},
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::FileHistory,
    validate::Validator,
};
use tokio::sync::mpsc;

use crate::cli::{error::CliError, screen, settings::base_directory};

const PROMPT: &str = "appm> ";
/// So many lines are remembered.
const REMEMBERED: usize = 1000;

/// Where lines come from.
pub(super) enum Lines {
    /// Somebody types them.
    Typed(Box<Typing>),
    /// A thread reads them, for which nobody waits.
    Read(mpsc::Receiver<io::Result<String>>),
}

/// The editor, which is nowhere else while nobody types.
pub(super) struct Typing {
    editor: Option<Typed>,
    options: Options,
}

type Typed = Editor<Files, FileHistory>;

#[derive(Clone)]
struct Options {
    /// Where lines are kept.
    kept: Option<PathBuf>,
    /// Commands run in a directory of this machine, which is the working directory.
    here: bool,
}

/// Completes names of files.
struct Files(FilenameCompleter);

impl Completer for Files {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        self.0.complete_path(line, pos)
    }
}

impl Hinter for Files {
    type Hint = String;
}

impl Highlighter for Files {}
impl Validator for Files {}
impl Helper for Files {}

impl Lines {
    /// Of the standard input. `here`: names of files are those of the working directory.
    ///
    /// # Errors
    /// A terminal that is none.
    pub(super) fn begin(here: bool) -> Result<Self, CliError> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Read(read()));
        }
        let kept = base_directory("XDG_STATE_HOME", ".local/state").map(|base| base.join("appm/shell_history"));
        let options = Options { kept, here };
        Ok(Self::Typed(Box::new(Typing { editor: Some(editor(&options)?), options })))
    }

    /// The next line, without its end; `None` when there are no more. Not cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<String>, CliError> {
        match self {
            Self::Typed(typing) => typing.next().await,
            Self::Read(lines) => lines.recv().await.transpose().map_err(unreadable),
        }
    }
}

impl Typing {
    async fn next(&mut self) -> Result<Option<String>, CliError> {
        let mut editor = self.editor.take().map_or_else(|| editor(&self.options), Ok)?;
        let kept = self.options.kept.clone();
        let typed = tokio::task::spawn_blocking(move || {
            let line = editor.readline(PROMPT);
            if let Ok(line) = &line {
                remember(&mut editor, line, kept.as_deref());
            }
            (editor, line)
        });
        let (editor, line) = typed.await.map_err(|broke_off| unreadable(io::Error::other(broke_off)))?;
        self.editor = Some(editor);
        match line {
            Ok(line) => Ok(Some(line)),
            // ctrl-C: another line, as in every shell.
            Err(ReadlineError::Interrupted) => Ok(Some(String::new())),
            Err(ReadlineError::Eof) => {
                screen::line("")?;
                Ok(None)
            }
            Err(ReadlineError::Io(error)) => Err(unreadable(error)),
            Err(error) => Err(unreadable(io::Error::other(error))),
        }
    }
}

fn editor(options: &Options) -> Result<Typed, CliError> {
    let failed = |error| unreadable(io::Error::other(error));
    let config = Config::builder().max_history_size(REMEMBERED).map_err(failed)?;
    let config = config.history_ignore_space(true).completion_type(CompletionType::List).build();
    let mut editor = Typed::with_config(config).map_err(failed)?;
    editor.set_helper(options.here.then(|| Files(FilenameCompleter::new())));
    if let Some(kept) = &options.kept {
        // The first time there is none, and one that cannot be read is missed by nobody.
        let _ = editor.load_history(kept);
    }
    Ok(editor)
}

/// Each line at once: two shells do not forget each other's.
fn remember(editor: &mut Typed, line: &str, kept: Option<&Path>) {
    if !editor.add_history_entry(line).unwrap_or(false) {
        return;
    }
    if let Some(kept) = kept {
        if let Some(folder) = kept.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = editor.append_history(kept);
    }
}

fn read() -> mpsc::Receiver<io::Result<String>> {
    let (to, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if to.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn unreadable(error: io::Error) -> CliError {
    CliError::io("cannot read the standard input", &error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_typed_is_remembered_for_its_user_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = dir.path().join("state/appm/shell_history");
        let options = Options { kept: Some(kept.clone()), here: true };
        let mut typing = editor(&options).expect("an editor");
        for line in ["ls -l", "ls -l", " secret", "", "pwd"] {
            remember(&mut typing, line, Some(&kept));
        }
        let again = editor(&options).expect("an editor");
        assert_eq!(again.history().iter().collect::<Vec<_>>(), ["ls -l", "pwd"]);
        assert_eq!(std::fs::metadata(&kept).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
