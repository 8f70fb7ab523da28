//! `appm.yaml`: what a server is told, in a file.
//!
//! It names what the flags of `appm server` name, in the spelling of manifests: `--tls-cert-file` is `tlsCertFile`. So there is one
//! list of settings, and a new flag is a new field. What the command line says comes first, then the environment, then the file.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use serde_json::Value;

use super::{
    error::{CliError, Exit, did_you_mean},
    settings::environment,
};
use crate::policy::manifest::{self, Aim, Document};

/// What the file is called in the data directory.
const NAME: &str = "appm.yaml";

/// Settings of a file, as they would be flags.
struct Settings {
    path: PathBuf,
    document: Document,
}

/// The command with what the file says in place of its defaults; `None` if there is no file, or the command line starts no server.
///
/// # Errors
/// When the file that is meant cannot be read, or says what is not understood.
pub(super) fn completed(command: Command, matches: &ArgMatches, data_dir: &Path) -> Result<Option<Command>, CliError> {
    let Some((word, inner)) =
        matches.subcommand().filter(|(word, inner)| matches!(*word, "server" | "up") && inner.subcommand().is_none())
    else {
        return Ok(None);
    };
    let named = inner.get_one::<PathBuf>("config").cloned();
    let Some(settings) = Settings::read(named, data_dir)? else { return Ok(None) };
    let all = command.find_subcommand("server").expect("there is such a command").clone();
    let mut command = command;
    for (field, value) in settings.fields() {
        let flag = all.get_arguments().find(|arg| arg.get_long().is_some_and(|long| camel(long) == field));
        let Some(flag) = flag.filter(|flag| !flag.is_hide_set() && flag.get_id() != "config") else {
            let known: Vec<String> = all.get_arguments().filter_map(|arg| arg.get_long().map(camel)).collect();
            let help = did_you_mean(&field, known.iter().map(String::as_str));
            return Err(settings.wrong(&field, &format!("there is no setting `{field}`")).maybe_help(help));
        };
        let id = flag.get_id().clone();
        let texts = texts(&settings.beside(&field, value));
        command = command.mut_subcommand(word, |inner| {
            if inner.get_arguments().all(|arg| *arg.get_id() != id) {
                return inner;
            }
            // Once in the life of a process, and for all of it.
            inner.mut_arg(&id, |arg| {
                arg.default_values(texts.into_iter().map(|text| &*Box::leak(text.into_boxed_str())))
            })
        });
    }
    Ok(Some(command))
}

/// A setting of the file of a data directory, where no command line is read.
pub(super) fn path_of(field: &str, data_dir: &Path) -> Option<PathBuf> {
    let settings = Settings::read(environment("APPM_CONFIG").map(PathBuf::from), data_dir).ok().flatten()?;
    let (_, value) = settings.fields().into_iter().find(|(known, _)| known == field)?;
    settings.beside(field, value).as_str().map(PathBuf::from)
}

impl Settings {
    fn read(named: Option<PathBuf>, data_dir: &Path) -> Result<Option<Self>, CliError> {
        let (path, must) = named.map_or_else(|| (data_dir.join(NAME), false), |path| (path, true));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must => return Ok(None),
            Err(error) => return Err(CliError::io(&format!("cannot read {}", path.display()), &error)),
        };
        let mut read = manifest::read(&text);
        if let Some(fault) = read.faults.first() {
            let message = format!("{}:{}: {}", path.display(), fault.place, fault.message);
            return Err(CliError::new(Exit::InvalidInput, message));
        }
        match read.documents.len() {
            0 => Ok(None),
            1 => Ok(Some(Self { document: read.documents.remove(0), path })),
            _ => {
                let message = format!("{}: one document has all settings", path.display());
                Err(CliError::new(Exit::InvalidInput, message))
            }
        }
    }

    fn fields(&self) -> Vec<(String, Value)> {
        match self.document.value() {
            Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Vec::new(),
        }
    }

    fn wrong(&self, field: &str, message: &str) -> CliError {
        let place = self.document.place(field, Aim::Key);
        CliError::new(Exit::InvalidInput, format!("{}:{place}: {message}", self.path.display()))
    }

    /// A value in which files are looked for where the settings lie, whatever the directory that the server is started in.
    fn beside(&self, field: &str, value: Value) -> Value {
        let folder = std::path::absolute(&self.path).ok();
        let folder = folder.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
        match value {
            Value::String(text) if field.ends_with("File") => folder.join(text).display().to_string().into(),
            Value::Array(items) => items.into_iter().map(|item| self.beside(field, item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| {
                    let value = self.beside(&name, value);
                    (name, value)
                })
                .collect(),
            value => value,
        }
    }
}

/// `tls-cert-file` is `tlsCertFile`.
fn camel(long: &str) -> String {
    let mut words = long.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut all, word| {
        let mut letters = word.chars();
        all.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        all + letters.as_str()
    })
}

/// A value as it would stand on a command line: what has fields stands there as JSON.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => items.iter().flat_map(texts).collect(),
        Value::String(text) => vec![text.clone()],
        value => vec![value.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::{
        super::{Cli, Command as Given},
        *,
    };

    /// The options of a server that is started so.
    fn started(text: &str, line: &str) -> Result<super::super::server::ServerOptions, String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(NAME), text).expect("written");
        let words: Vec<&str> = line.split(' ').collect();
        let matches = Cli::command().try_get_matches_from(&words).map_err(|e| e.to_string())?;
        let command = completed(Cli::command(), &matches, folder.path()).map_err(|e| e.message)?;
        let matches = command.unwrap_or_else(Cli::command).try_get_matches_from(&words).map_err(|e| e.to_string())?;
        match Cli::from_arg_matches(&matches).map_err(|e| e.to_string())?.command {
            Given::Server(args) => Ok(args.into_options()),
            Given::Up(args) => Ok(args.server),
            _ => Err("no server".to_owned()),
        }
    }

    #[test]
    fn the_file_says_what_nothing_else_says() {
        let text = "listen: 127.0.0.1:7000\nnodeName: a\nauditMaxSize: 3\nauditLevel: reads\nadminPasswordFile: pw\n";
        let options = started(text, "appm server --node-name b").expect("understood");
        assert_eq!((options.listen.port(), options.node_name.as_deref(), options.audit_max_size), (7000, Some("b"), 3));
        let file = options.admin_password_file.expect("named");
        assert!(file.is_absolute() && file.ends_with("pw"), "{}", file.display());
        assert_eq!(started("listen: 127.0.0.1:7000\n", "appm up").expect("understood").listen.port(), 7000);
        assert_eq!(started("", "appm server --listen [::1]:5").expect("understood").listen.port(), 5);
        assert_eq!(started("# nothing\n", "appm server").expect("understood").listen.port(), 6060);
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_place() {
        let wrong = |text: &str| started(text, "appm server").expect_err("wrong");
        assert!(wrong("nodeName: a\nlisten: nowhere\n").contains("--listen"));
        assert!(wrong("nodeName: a\nlisen: x\n").contains("appm.yaml:2:1: there is no setting `lisen`"));
        assert!(wrong("- a\n").contains("appm.yaml:1:1"));
        assert!(wrong("detached: true\n").contains("there is no setting `detached`"));
        assert!(wrong("a: 1\n---\nb: 1\n").contains("one document"));
        assert!(wrong("listen: [\n").contains("appm.yaml:"));
    }
}
