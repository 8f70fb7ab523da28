//! Which unit files there are, with their drop-ins and instances, and which of their entries count.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    super::super::{
        files::Files,
        ini::{self, Dialect, Entry},
        report::{Fate, Refusal, Report, Spot},
    },
    super::words::SYSTEMD,
    timer,
};

/// Files of one unit, its drop-ins included.
const MOST_FILES: usize = 200;
/// Entries of one unit.
const MOST_ENTRIES: usize = 5000;
const TYPES: [&str; 11] =
    ["service", "timer", "socket", "path", "target", "mount", "automount", "swap", "device", "slice", "scope"];

/// One unit, its drop-ins put in.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// `web@1.service`.
    pub(super) name: String,
    /// `service`.
    pub(super) kind: String,
    pub(super) spot: Spot,
    pub(super) path: PathBuf,
    /// Those that count: of single settings the last, of lists all since the last empty one.
    pub(super) entries: Vec<Entry>,
}

impl Unit {
    /// The name without its type.
    pub(super) fn stem(&self) -> &str {
        self.name.rsplit_once('.').map_or(&self.name, |(stem, _)| stem)
    }

    pub(super) fn entry(&self, section: &str, key: &str) -> Option<&Entry> {
        self.all(section, key).last()
    }

    pub(super) fn value(&self, section: &str, key: &str) -> Option<&str> {
        self.entry(section, key).map(|entry| entry.value.as_str())
    }

    pub(super) fn all(&self, section: &str, key: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.section == section && entry.key == key)
    }
}

#[derive(Default)]
pub(super) struct Found {
    pub(super) units: Vec<Unit>,
    pub(super) refusals: Vec<Refusal>,
}

/// Every unit that is meant.
pub(super) fn all(named: &[PathBuf], search: &[PathBuf], files: &Files, report: &mut Report<Value>) -> Found {
    let mut found = Found::default();
    let mut wanted: BTreeMap<String, (PathBuf, Vec<PathBuf>)> = BTreeMap::new();
    let mut refuse = |path: &Path, why: String| found.refusals.push(Refusal::new(&Spot::new(path, 0), why));
    for path in named {
        if files.is_dir(path) {
            match of_directory(path, files, report) {
                Ok(units) => {
                    for (name, file) in units {
                        wanted.entry(name).or_insert_with(|| (file, vec![path.clone()]));
                    }
                }
                Err(why) => refuse(path, why),
            }
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if kind_of(&name).is_some() { name } else { format!("{name}.service") };
        let is_name = path.components().count() == 1;
        let beside = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut places = vec![beside];
        if is_name {
            places.extend(search.iter().cloned());
        }
        match file_of(&name, &places, files) {
            Some(file) if name.contains("@.") => {
                let message =
                    format!("{} is a template: name an instance, `{}` say", file.display(), name.replace("@.", "@1."));
                refuse(path, message);
            }
            Some(file) => drop(wanted.entry(name).or_insert((file, places))),
            None => {
                let looked: Vec<String> = places.iter().map(|dir| dir.join(&name).display().to_string()).collect();
                refuse(path, format!("there is no such unit; looked for {}", looked.join(", ")));
            }
        }
    }
    if let Err(more) = super::super::too_many(wanted.len(), "units", &Spot::named("systemd")) {
        found.refusals.extend(more);
        return found;
    }
    let named_so_far: BTreeSet<String> = wanted.keys().cloned().collect();
    let mut started = BTreeMap::new();
    for (name, (file, places)) in wanted {
        match unit(&name, &file, &places, files, report) {
            Ok(unit) => {
                if unit.kind == "timer" {
                    let mut all = places;
                    all.extend(search.iter().cloned());
                    started.entry(timer::starts(&unit)).or_insert(all);
                }
                found.units.push(unit);
            }
            Err(more) => found.refusals.extend(more),
        }
    }
    // What a timer starts comes with it; a name is no path.
    let is_new = |name: &String| !named_so_far.contains(name) && !name.contains('/');
    for (name, places) in started.into_iter().filter(|(name, _)| is_new(name)) {
        let Some(file) = file_of(&name, &places, files) else { continue };
        match unit(&name, &file, &places, files, report) {
            Ok(unit) => found.units.push(unit),
            Err(more) => found.refusals.extend(more),
        }
    }
    found
}

/// The file of a unit. An instance's own comes before its template, wherever that lies.
fn file_of(name: &str, places: &[PathBuf], files: &Files) -> Option<PathBuf> {
    let own = places.iter().map(|dir| dir.join(name)).find(|file| files.is_file(file));
    let template = template(name);
    let shared = || places.iter().find_map(|dir| Some(dir.join(template.as_ref()?)).filter(|file| files.is_file(file)));
    own.or_else(shared)
}

fn kind_of(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, kind)| kind).filter(|kind| TYPES.contains(kind))
}

/// `web@.service` for `web@1.service`.
fn template(name: &str) -> Option<String> {
    let (before, rest) = name.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{before}@.{kind}"))
}

/// The units of a directory: its files, and the instances of templates that `*.wants` name.
fn of_directory(dir: &Path, files: &Files, report: &mut Report<Value>) -> Result<Vec<(String, PathBuf)>, String> {
    let mut units = Vec::new();
    let (mut templates, mut instances) = (BTreeMap::new(), BTreeSet::new());
    for path in files.list(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if files.is_dir(&path) {
            if name.ends_with(".wants") || name.ends_with(".requires") {
                let names = files.list(&path)?.into_iter().filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()));
                instances.extend(names.filter(|name| name.contains('@') && !name.contains("@.")));
            }
        } else if kind_of(&name).is_some() && files.is_file(&path) {
            if name.contains("@.") {
                templates.insert(name, path);
            } else {
                units.push((name, path));
            }
        }
    }
    for instance in instances {
        if let Some(file) = template(&instance).and_then(|name| templates.get(&name)) {
            units.push((instance, file.clone()));
        }
    }
    let used = |name: &String| units.iter().any(|(unit, _)| template(unit).as_ref() == Some(name));
    for (name, path) in templates.iter().filter(|(name, _)| !used(name)) {
        let remark =
            format!("a template of which no instance is enabled; import it as `{}`", name.replace("@.", "@1."));
        report.note(&Spot::new(path, 0), name, Fate::Dropped, &remark);
    }
    Ok(units)
}

/// A unit's file and its drop-ins, in their order.
fn unit(
    name: &str,
    file: &Path,
    places: &[PathBuf],
    files: &Files,
    report: &mut Report<Value>,
) -> Result<Unit, Vec<Refusal>> {
    let mut paths = vec![file.to_path_buf()];
    let dirs = [template(name), Some(name.to_owned())];
    let mut dropins: BTreeMap<String, PathBuf> = BTreeMap::new();
    let beside = file.parent().map(Path::to_path_buf).unwrap_or_default();
    // What lies in the first place stands in place of what has the same name in the others.
    for dir in dirs.iter().flatten() {
        for place in places.iter().chain([&beside]).rev() {
            let listed = files
                .list(&place.join(format!("{dir}.d")))
                .map_err(|why| vec![Refusal::new(&Spot::new(place, 0), why)])?;
            for path in listed.into_iter().filter(|path| path.extension().is_some_and(|e| e == "conf")) {
                dropins.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path);
            }
        }
    }
    paths.extend(dropins.into_values());
    let spot = Spot::new(file, 0);
    if paths.len() > MOST_FILES {
        return Err(vec![Refusal::new(&spot, format!("more than {MOST_FILES} drop-ins"))]);
    }
    let mut entries = Vec::new();
    for path in &paths {
        let text = super::super::text(path, files)?;
        entries.extend(ini::read(&text, path, Dialect::Systemd)?.entries);
        if entries.len() > MOST_ENTRIES {
            return Err(vec![Refusal::new(&Spot::new(path, 0), format!("more than {MOST_ENTRIES} entries"))]);
        }
    }
    let kind = kind_of(name).unwrap_or("service").to_owned();
    Ok(Unit { name: name.to_owned(), kind, spot, path: file.to_path_buf(), entries: counting(entries, report) })
}

/// The entries that count; those that were taken back say so.
fn counting(all: Vec<Entry>, report: &mut Report<Value>) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::new();
    for entry in all {
        // No capability at all is something, too.
        let says_nothing = entry.value.is_empty() && entry.key != "CapabilityBoundingSet";
        if says_nothing || !SYSTEMD.is_list(&entry.section, &entry.key) {
            let same = |there: &Entry| there.section == entry.section && there.key == entry.key;
            for gone in kept.iter().filter(|there| same(there)) {
                report.note(&gone.spot, &gone.key, Fate::Carried, "");
            }
            kept.retain(|there| !same(there));
        }
        if says_nothing {
            report.note(&entry.spot, &entry.key, Fate::Carried, "");
        } else {
            kept.push(entry);
        }
    }
    kept
}
