//! What became of every setting: one shape for all importers and exporters.

use std::{fmt, path::Path, sync::Arc};

/// As much of a text of a file as is worth repeating.
const SHOWN: usize = 160;

/// What became of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It means the same here.
    Carried,
    /// Something close to it stands here; the remark says how it differs.
    Approximated,
    /// It stands nowhere; the remark says why.
    Dropped,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fate::Carried => "carried",
            Fate::Approximated => "approximated",
            Fate::Dropped => "dropped",
        })
    }
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The file, or the object of the store (`app/web`).
    pub file: Arc<str>,
    /// The line, from 1; 0 if it has none.
    pub line: usize,
}

impl Spot {
    /// A line of a file.
    pub fn new(file: &Path, line: usize) -> Self {
        Self { file: file.display().to_string().into(), line }
    }

    /// Another line of the same file.
    #[must_use]
    pub fn at(&self, line: usize) -> Self {
        Self { file: self.file.clone(), line }
    }

    /// A file's or an object's name, as it is.
    pub fn named(name: &str) -> Self {
        Self { file: name.into(), line: 0 }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&harmless(&self.file))?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// One setting, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Where it is written.
    pub spot: Spot,
    /// Its name there.
    pub setting: String,
    /// What became of it.
    pub fate: Fate,
    /// Why, and what to do; empty if it was carried over.
    pub remark: String,
}

impl Note {
    /// A note; what a file says is repeated without control characters, and not for ever.
    pub fn new(spot: &Spot, setting: &str, fate: Fate, remark: &str) -> Self {
        Self { spot: spot.clone(), setting: harmless(setting), fate, remark: harmless(remark) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.spot, self.setting, self.fate)?;
        if self.remark.is_empty() { Ok(()) } else { write!(f, ": {}", self.remark) }
    }
}

/// One thing that was made, with what became of the settings that went into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<T> {
    /// A manifest, or a file.
    pub made: T,
    /// Its settings.
    pub notes: Vec<Note>,
}

/// Everything that was made, and what became of everything that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Report<T> {
    /// In the order in which it stands in the files.
    pub parts: Vec<Part<T>>,
    /// Settings that belong to nothing that was made.
    pub notes: Vec<Note>,
}

impl<T> Default for Report<T> {
    fn default() -> Self {
        Self { parts: Vec::new(), notes: Vec::new() }
    }
}

impl<T> Report<T> {
    /// Every note.
    pub fn all(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().chain(self.parts.iter().flat_map(|part| &part.notes))
    }

    /// How many settings had this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.all().filter(|note| note.fate == fate).count()
    }

    /// True if every setting means the same here.
    pub fn is_exact(&self) -> bool {
        self.count(Fate::Carried) == self.all().count()
    }

    pub(super) fn note(&mut self, spot: &Spot, setting: &str, fate: Fate, remark: &str) {
        self.notes.push(Note::new(spot, setting, fate, remark));
    }
}

/// Why nothing at all is made of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Where.
    pub spot: Spot,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(spot: &Spot, message: impl Into<String>) -> Self {
        Self { spot: spot.clone(), message: harmless(&message.into()) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.spot, self.message)
    }
}

/// What reading gives: everything, or every reason why not.
pub type Outcome<T> = Result<Report<T>, Vec<Refusal>>;

/// A text of somebody's file in one line and without control characters, so that it ends no comment and moves no cursor.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == SHOWN * 2 {
            shown.push('…');
            break;
        }
        if c.is_control() || ('\u{200b}'..='\u{202e}').contains(&c) || c == '\u{2028}' || c == '\u{feff}' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The beginning of a value, for a remark.
pub(super) fn brief(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
