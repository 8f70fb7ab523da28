//! What a service's processes find in their environment: `Environment`, `EnvironmentFile`, and the directories that systemd makes.

use std::{collections::BTreeMap, path::Path};

use super::{
    super::super::{
        draft::Draft,
        env_file,
        files::Files,
        report::{Refusal, Spot, brief},
    },
    exec,
    find::Unit,
};

/// Variables of `Environment` and of the files, by name.
pub(super) type Variables = BTreeMap<String, String>;

/// `(setting, where it lies, the variable that names it)` of directories that systemd makes before a start.
const DIRECTORIES: [(&str, &str, &str); 5] = [
    ("RuntimeDirectory", "/run", "RUNTIME_DIRECTORY"),
    ("StateDirectory", "/var/lib", "STATE_DIRECTORY"),
    ("CacheDirectory", "/var/cache", "CACHE_DIRECTORY"),
    ("LogsDirectory", "/var/log", "LOGS_DIRECTORY"),
    ("ConfigurationDirectory", "/etc", "CONFIGURATION_DIRECTORY"),
];

/// The directories of a service: setting, paths, mode.
pub(super) fn directories(unit: &Unit) -> Vec<(&'static str, Vec<String>, String)> {
    let paths = |key: &str, base: &str| {
        let words = unit.all("Service", key).filter_map(|entry| exec::specifiers(&entry.value, unit).ok());
        let words: Vec<String> =
            words.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
        // Behind a colon stands a second name of it.
        words.iter().map(|word| format!("{base}/{}", word.split(':').next().unwrap_or_default())).collect::<Vec<_>>()
    };
    let mode = |key: &str| unit.value("Service", &format!("{key}Mode")).unwrap_or("0755").to_owned();
    let all = DIRECTORIES.iter().map(|(key, base, _)| (*key, paths(key, base), mode(key)));
    all.filter(|(_, paths, _)| !paths.is_empty()).collect()
}

/// True if it runs as root, who may make directories anywhere.
pub(super) fn is_root(unit: &Unit) -> bool {
    let dynamic = unit.value("Service", "DynamicUser").is_some_and(super::service::is_true);
    !dynamic && matches!(unit.value("Service", "User"), None | Some("root" | "0"))
}

/// Every variable, which the App has from now on.
///
/// # Errors
/// For what is no variable, and files that cannot be read.
pub(super) fn environment(unit: &Unit, draft: &mut Draft, files: &Files) -> Result<Variables, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut variables = Variables::new();
    for (key, paths, _) in directories(unit) {
        let named = DIRECTORIES.iter().find(|(setting, ..)| *setting == key).map_or(key, |(_, _, name)| *name);
        variables.insert(named.to_owned(), paths.join(":"));
        draft.env(named, &paths.join(":"));
    }
    // What stands in files goes before what stands in the unit.
    let mut put = |draft: &mut Draft, name: &str, value: &str| {
        variables.insert(name.to_owned(), value.to_owned());
        draft.env(name, value);
    };
    for entry in unit.all("Service", "Environment") {
        let words = exec::split(&entry.value).and_then(|words| {
            words.into_iter().map(|(word, _)| exec::specifiers(&word, unit)).collect::<Result<Vec<_>, _>>()
        });
        match words {
            Ok(words) => {
                for word in words {
                    match word.split_once('=').filter(|(name, _)| env_file::is_name(name)) {
                        Some((name, value)) => put(draft, name, value),
                        None => {
                            let message = format!("Environment: `{}` is no NAME=value", brief(&word));
                            refusals.push(Refusal::new(&entry.spot, message));
                        }
                    }
                }
                draft.carried(&entry.spot, "Environment");
            }
            Err(why) => refusals.push(Refusal::new(&entry.spot, format!("Environment: {why}"))),
        }
    }
    for entry in unit.all("Service", "EnvironmentFile") {
        let path = match exec::specifiers(&entry.value, unit) {
            Ok(path) => path,
            Err(why) => {
                refusals.push(Refusal::new(&entry.spot, format!("EnvironmentFile: {why}")));
                continue;
            }
        };
        let (optional, path) = path.strip_prefix('-').map_or((false, path.as_str()), |path| (true, path));
        let path = Path::new(path);
        if optional && !files.is_file(path) {
            draft.nearly(
                &entry.spot,
                "EnvironmentFile",
                &format!("`{}` is not there now; what it says later is not read", path.display()),
            );
            continue;
        }
        match super::super::text(path, files).and_then(|text| env_file::read(&text, &Spot::new(path, 0))) {
            Ok(all) => {
                for variable in all {
                    put(draft, &variable.name, &variable.value);
                }
                draft.nearly(
                    &entry.spot,
                    "EnvironmentFile",
                    "its variables as they are now; systemd reads them at every start",
                );
            }
            Err(more) => refusals.extend(more),
        }
    }
    if refusals.is_empty() { Ok(variables) } else { Err(refusals) }
}
