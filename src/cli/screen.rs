//! The terminal: whether there is one, how wide it is, and colour, which only a terminal gets.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

use super::settings;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const BOLD: Style = Style::new().bold();
/// Colours that tell instances apart.
pub(super) const PREFIXES: [Style; 6] = [
    AnsiColor::Cyan.on_default(),
    AnsiColor::Magenta.on_default(),
    AnsiColor::Blue.on_default(),
    AnsiColor::Yellow.on_default(),
    AnsiColor::Green.on_default(),
    AnsiColor::BrightRed.on_default(),
];

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// What the output can show.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// Whether colour is wanted.
    pub(super) colour: bool,
    /// Columns of the terminal; `None` if stdout is no terminal: then nothing is ever cut.
    pub(super) width: Option<usize>,
}

impl Screen {
    /// The screen behind stdout.
    pub(super) fn of_stdout(choice: ColorChoice) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal
                    && settings::environment("NO_COLOR").is_none()
                    && settings::environment("TERM").as_deref() != Some("dumb")
            }
        };
        let size = || crossterm::terminal::size().ok().map(|(columns, _)| usize::from(columns)).filter(|c| *c > 0);
        Self { colour, width: if terminal { size() } else { None } }
    }

    /// The screen behind stderr, for errors.
    pub(super) fn of_stderr(choice: ColorChoice) -> Self {
        let colour = match choice {
            ColorChoice::Auto => io::stderr().is_terminal() && settings::environment("NO_COLOR").is_none(),
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        Self { colour, width: None }
    }

    /// No colour, no width: what scripts read.
    pub(super) fn plain() -> Self {
        Self { colour: false, width: None }
    }

    /// `text` in a style, if colour is wanted.
    pub(super) fn paint(&self, style: Style, text: &str) -> String {
        if self.colour && style != Style::new() { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// The style of a word that says how something is.
pub(super) fn judge(word: &str) -> Style {
    match word {
        "Running" | "Ready" | "True" | "AllReady" | "OK" | "Active" | "Completed" | "created" | "enabled" => GOOD,
        "CrashLooping" | "Failed" | "StartFailed" | "ConfigError" | "Lost" | "BackOff" | "Warning" | "False"
        | "deleted" => BAD,
        "Starting" | "Stopping" | "Pending" | "Progressing" | "Terminating" | "configured" | "Suspended"
        | "disabled" | "Unknown" => WARN,
        "unchanged" => DIM,
        _ => Style::new(),
    }
}

/// Writes to stdout at once.
///
/// # Errors
/// When stdout is closed or full.
pub(super) fn print(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// Writes a line to stdout.
///
/// # Errors
/// As [`print`].
pub(super) fn line(text: impl Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}

/// Writes bytes to stdout as they are.
///
/// # Errors
/// As [`print`].
pub(super) fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes a remark to stderr; where that cannot be, nobody wants it.
pub(super) fn remark(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `text` without control characters, so that no output of an app can steer the terminal through a table.
pub(super) fn harmless(text: &str) -> String {
    let show = |c: char| match c {
        '\n' => "\\n".to_owned(),
        '\t' => " ".to_owned(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(show).collect()
}
