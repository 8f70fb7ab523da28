//! A kubeconfig that belongs to its user: read, changed and written back whole, with everything in it that is not ours.
//!
//! Several programs write it. Those of appm take a lock beside it for as long as one of them reads and writes, so that no two lose each
//! other's change; the file itself is replaced by renaming, so that nobody ever reads half of it.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::super::{
    error::{CliError, Exit},
    output::yaml,
    settings::environment,
};
use crate::policy::manifest;

/// By this extension of its cluster a context is known to be appm's, so that the current context of a Kubernetes cluster is never taken
/// for an appm server.
const MARK: &str = "appm.dev";

/// The user's kubeconfig: the first file of `$KUBECONFIG`, else `~/.kube/config`.
///
/// # Errors
/// When there is no home.
pub(in crate::cli) fn usual() -> Result<PathBuf, CliError> {
    let own = environment("KUBECONFIG").and_then(|all| all.split(':').find(|p| !p.is_empty()).map(PathBuf::from));
    let usual = || environment("HOME").map(|home| Path::new(&home).join(".kube/config"));
    own.or_else(usual).ok_or_else(|| {
        CliError::usage("where is your kubeconfig?").help("KUBECONFIG=FILE or --kubeconfig=FILE says it")
    })
}

/// What a kubeconfig says.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct Config(Value);

impl Config {
    /// Reads a file; one that is not there is empty.
    ///
    /// # Errors
    /// When it cannot be read, or is no YAML.
    pub(in crate::cli) fn load(path: &Path) -> Result<Self, CliError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::of(Value::Null)),
            Err(error) => Err(CliError::io(&format!("cannot read {}", path.display()), &error)),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it is no YAML.
    pub(in crate::cli) fn parse(path: &Path, text: &str) -> Result<Self, CliError> {
        let read = manifest::read(text);
        match (read.faults.first(), read.documents.first()) {
            (Some(fault), _) => {
                let message = format!("{}:{}: {}", path.display(), fault.place, fault.message);
                Err(CliError::new(Exit::InvalidInput, message).help("it was left as it is"))
            }
            (None, document) => Ok(Self::of(document.map(|d| d.value()).unwrap_or_default())),
        }
    }

    fn of(value: Value) -> Self {
        Self(if value.is_object() { value } else { json!({"apiVersion": "v1", "kind": "Config"}) })
    }

    /// Changes a file: what `change` makes of what is in it now is written before another program of appm reads it.
    ///
    /// # Errors
    /// When the file cannot be read or written, or `change` fails; it is as it was then.
    pub(in crate::cli) fn edit<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let failed = |e: io::Error| CliError::io(&format!("cannot write {}", path.display()), &e);
        // Behind a link lies the file that is meant; renaming over the link would leave that one as it is.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed)?;
        let beside = |suffix: &str| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            folder.join(name)
        };
        let lock =
            fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(beside(".appm-lock"));
        let lock = lock.map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;

        let mut config = Self::load(path)?;
        let before = config.clone();
        let done = change(&mut config)?;
        if config != before {
            replace(path, folder, &beside(".appm-new"), &yaml(&config.0)).map_err(failed)?;
        }
        Ok(done)
    }

    /// The whole of it.
    #[cfg(test)]
    pub(in crate::cli) fn value(&self) -> &Value {
        &self.0
    }

    fn all(&self, list: &str) -> impl Iterator<Item = &Value> {
        self.0[list].as_array().into_iter().flatten()
    }

    /// What an entry of `clusters`, `users` or `contexts` says.
    pub(in crate::cli) fn entry(&self, list: &str, name: &str) -> Option<&Value> {
        self.all(list).find(|entry| entry["name"] == name).map(|entry| &entry[field(list)])
    }

    /// The names of a list's entries, in their order.
    pub(in crate::cli) fn names(&self, list: &str) -> Vec<&str> {
        self.all(list).filter_map(|entry| entry["name"].as_str()).collect()
    }

    /// Adds an entry, or replaces what an entry says.
    pub(in crate::cli) fn put(&mut self, list: &str, name: &str, value: Value) {
        let mut all = self.0[list].as_array().cloned().unwrap_or_default();
        match all.iter_mut().find(|known| known["name"] == name) {
            Some(known) => known[field(list)] = value,
            None => all.push(json!({"name": name, field(list): value})),
        }
        self.0[list] = all.into();
    }

    /// Takes an entry out.
    pub(in crate::cli) fn take(&mut self, list: &str, name: &str) -> Option<Value> {
        let all = self.0[list].as_array_mut()?;
        let at = all.iter().position(|known| known["name"] == name)?;
        Some(all.remove(at)[field(list)].take())
    }

    /// The current context's name.
    pub(in crate::cli) fn current(&self) -> Option<&str> {
        self.0["current-context"].as_str().filter(|name| !name.is_empty())
    }

    /// Makes a context the current one, or none.
    pub(in crate::cli) fn set_current(&mut self, name: Option<&str>) {
        self.0["current-context"] = name.unwrap_or_default().into();
    }

    /// The cluster and the user that a context names.
    pub(in crate::cli) fn parts(&self, context: &str) -> Option<(&str, &str)> {
        let context = self.entry("contexts", context)?;
        Some((context["cluster"].as_str()?, context["user"].as_str().unwrap_or_default()))
    }

    /// True if the context was made by `appm context add` or `appm auth login`.
    pub(in crate::cli) fn is_ours(&self, context: &str) -> bool {
        let cluster = self.parts(context).and_then(|(cluster, _)| self.entry("clusters", cluster));
        cluster.is_some_and(|c| c["extensions"].as_array().into_iter().flatten().any(|e| e["name"] == MARK))
    }
}

/// What marks a cluster as appm's.
pub(in crate::cli) fn mark() -> Value {
    json!([{"name": MARK, "extension": {}}])
}

/// `clusters` have a `cluster`.
fn field(list: &str) -> &str {
    list.trim_end_matches('s')
}

/// Writes a file that nobody else may read, whole or not at all.
pub(in crate::cli) fn replace(path: &Path, folder: &Path, beside: &Path, text: &str) -> io::Result<()> {
    let written = (|| {
        // Left over from a program that died; whoever holds the lock is the only one who writes.
        let _ = fs::remove_file(beside);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(beside, path)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_not_ours_stays_and_the_file_is_closed_to_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("real"), folder.path().join("config"));
        fs::write(&path, "preferences: {colors: true}\nclusters: [{name: k, cluster: {server: 'https://k'}, x: 1}]\n")
            .expect("written");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        Config::edit(&link, |config| {
            config.put("clusters", "a", json!({"server": "https://a", "extensions": mark()}));
            config.put("clusters", "k", json!({"server": "https://k2"}));
            config.put("contexts", "a", json!({"cluster": "a", "user": "a"}));
            config.put("contexts", "k", json!({"cluster": "k"}));
            config.set_current(Some("a"));
            Ok(())
        })
        .expect("changed");
        let config = Config::load(&path).expect("read");
        assert_eq!(config.value()["preferences"], json!({"colors": true}));
        assert_eq!(config.value()["clusters"][0], json!({"name": "k", "cluster": {"server": "https://k2"}, "x": 1}));
        assert_eq!((config.current(), config.names("contexts")), (Some("a"), vec!["a", "k"]));
        assert!(config.is_ours("a") && !config.is_ours("k") && !config.is_ours("none"));
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let refused = Config::edit(&link, |config| {
            config.take("clusters", "a");
            Err::<(), _>(CliError::failed("no"))
        });
        assert!(refused.is_err());
        assert_eq!(Config::load(&path).expect("read"), config);
    }

    #[test]
    fn two_who_change_it_at_once_lose_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sub/config");
        std::thread::scope(|scope| {
            for who in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    Config::edit(path, |config| {
                        config.put("users", &format!("u{who}"), json!({}));
                        Ok(())
                    })
                    .expect("changed");
                });
            }
        });
        assert_eq!(Config::load(&path).expect("read").names("users").len(), 8);
    }
}
