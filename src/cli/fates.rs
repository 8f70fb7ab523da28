//! What became of the settings of an import or an export, for people: a table on standard error, and what `--strict` makes of it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    error::{CliError, Exit},
    screen::{self, Screen},
    table::Table,
};
use crate::exchange::report::{Fate, Note, Refusal, Report};

/// Rows that somebody reads.
const MOST: usize = 200;
/// Names of settings in one row.
const SHOWN: usize = 3;
/// Mistakes that somebody reads.
const MISTAKES: usize = 100;

/// Shows what was approximated and dropped, with its place and the reason, and counts what was carried over. Settings of one fate for one
/// reason share a row, a unit that is hardened has thirty; with `all` every setting has its own.
pub(super) fn tell<T>(report: &Report<T>, made: &str, all: bool, screen: &Screen) {
    let mut rows: BTreeMap<(Fate, &str, &str, &str), Vec<&Note>> = BTreeMap::new();
    for note in report.all().filter(|note| all || note.fate != Fate::Carried) {
        let name = if all { note.setting.as_str() } else { "" };
        rows.entry((note.fate, &note.remark, &note.spot.file, name)).or_default().push(note);
    }
    let mut table = Table::new(["SETTING", "BECAME", "WHERE", "WHY"]);
    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|((fate, ..), notes)| (Reverse(*fate), &notes[0].spot));
    for ((fate, remark, ..), notes) in sorted.into_iter().take(MOST) {
        let more = if notes.len() > 1 { format!(" and {} more", notes.len() - 1) } else { String::new() };
        table.add([settings(notes), fate.to_string(), format!("{}{more}", notes[0].spot), (*remark).to_owned()]);
    }
    if !table.is_empty() {
        screen::remark(table.render(screen, true).trim_end());
    }
    if rows.len() > MOST {
        screen::remark(format_args!("… and {} more rows; the comments have each", rows.len() - MOST));
    }
    let count = |fate| report.count(fate);
    let things = report.parts.len();
    let plural = if things == 1 { "" } else { "s" };
    screen::remark(format_args!(
        "{things} {made}{plural}: {} settings carried over, {} approximated, {} dropped",
        count(Fate::Carried),
        count(Fate::Approximated),
        count(Fate::Dropped)
    ));
}

/// Writes files, by their names, into a directory, and says which. None that is there already is replaced: then nothing is written.
///
/// # Errors
/// When one is there, or cannot be written.
pub(super) fn save(dir: &Path, files: impl IntoIterator<Item = (String, String)>) -> Result<(), CliError> {
    let failed = |path: &Path, e: std::io::Error| match e.kind() {
        ErrorKind::AlreadyExists => {
            let message = format!("`{}` is there already; nothing is replaced", path.display());
            CliError::failed(message).help("remove it, or name another directory")
        }
        _ => CliError::io(&format!("cannot write `{}`", path.display()), &e),
    };
    fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    let files: Vec<(String, String)> = files.into_iter().collect();
    if let Some((name, _)) = files.iter().find(|(name, _)| name.contains('/')) {
        return Err(CliError::failed(format!(
            "`{name}` would lie outside of `{}`; nothing was written",
            dir.display()
        )));
    }
    let files: Vec<(PathBuf, String)> = files.into_iter().map(|(name, text)| (dir.join(name), text)).collect();
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists()) {
        return Err(failed(path, ErrorKind::AlreadyExists.into()));
    }
    for (path, text) in &files {
        // Variables and Secrets may be in it.
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| failed(path, e))?;
        screen::line(path.display())?;
    }
    Ok(())
}

/// With `--strict`, only what means the same is good.
///
/// # Errors
/// If anything was approximated or dropped.
pub(super) fn strictly<T>(report: &Report<T>, strict: bool) -> Result<(), CliError> {
    if !strict || report.is_exact() {
        return Ok(());
    }
    let (near, gone) = (report.count(Fate::Approximated), report.count(Fate::Dropped));
    Err(CliError::failed(format!(
        "{near} settings would be approximated and {gone} dropped; --strict: nothing was done"
    )))
}

/// Why nothing was made.
pub(super) fn refused(mut refusals: Vec<Refusal>, what: &str) -> CliError {
    refusals.sort();
    refusals.dedup();
    let count = refusals.len();
    let mut details: Vec<String> = refusals.iter().take(MISTAKES).map(|refusal| format!("  {refusal}")).collect();
    if count > MISTAKES {
        details.push(format!("  … and {} more", count - MISTAKES));
    }
    CliError { details, ..CliError::new(Exit::InvalidInput, format!("{what}; nothing was done")) }
}

/// The names of several settings, each once; of many the first ones.
fn settings(notes: &[&Note]) -> String {
    let mut seen = BTreeSet::new();
    let names: Vec<&str> = notes.iter().map(|note| note.setting.as_str()).filter(|name| seen.insert(*name)).collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

/// The notes that stand as comments above what was made of them: every setting by name, and the reason of several once.
pub(super) fn comments(notes: &[Note]) -> String {
    let mut groups: Vec<Vec<&Note>> = Vec::new();
    let mut places: BTreeMap<(Fate, &str, &str), usize> = BTreeMap::new();
    for note in notes.iter().filter(|note| note.fate != Fate::Carried) {
        let place = *places.entry((note.fate, &note.remark, &note.spot.file)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(note),
            None => groups.push(vec![note]),
        }
    }
    groups.iter().map(|group| comment(group)).collect()
}

fn comment(group: &[&Note]) -> String {
    let [first, _, ..] = group else { return group.iter().map(|note| format!("#! {note}\n")).collect() };
    let name = |note: &&Note| match note.spot.line {
        0 => note.setting.clone(),
        line => format!("{} (line {line})", note.setting),
    };
    let each: Vec<String> = group.iter().map(name).collect();
    format!("#! {}: {} {}: {}\n#!   {}\n", first.spot, group.len(), first.fate, first.remark, each.join(", "))
}
