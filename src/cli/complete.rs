//! What a shell offers while a command line is written: resources, names of objects that are there, fields, forms of output.
//!
//! clap_complete's engine does the flags and asks here for values. It is behind a feature named unstable, because its Rust API
//! may still change; its protocol with the shells is in the script that `appm completion` prints and calls this very binary,
//! so both are always of one version. Names come from the server, which has a moment to answer; whatever fails is silent, because a
//! shell would print it into the line that is being written.

use std::{ffi::OsStr, time::Duration};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde_json::Value;

use crate::{
    api::{App, Instance, Kind, Namespace, Role, Run, Schedule, Served, User, Workflow, kinds, schema},
    client::http::{Request, served_path},
};

use super::{
    context::served,
    contexts::file::{self, Config},
    explain, output, resources,
    settings::Global,
};

/// The variable by which a shell says that it wants candidates.
pub(super) const VARIABLE: &str = "APPM_COMPLETE";
/// Whoever waits for a Tab does not wait long.
const DEADLINE: Duration = Duration::from_millis(700);
/// Nobody reads more.
const MOST: usize = 1000;

fn completer(candidates: fn(&Line, &str) -> Vec<String>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let mut found = candidates(&Line::of_process(), current);
        found.retain(|word| word.starts_with(current));
        found.truncate(MOST);
        found.into_iter().map(CompletionCandidate::new).collect()
    })
}

/// `apps`, then `app web`; or `app/web`; or `apps,instances`.
pub(super) fn resources() -> ArgValueCompleter {
    completer(|line, current| {
        if let Some((kind, _)) = current.split_once('/') {
            return qualified(line, kind);
        }
        let first = line.words.get(1).map(String::as_str).filter(|word| *word != current);
        match first {
            Some(word) if word.contains('/') => kinds::served().map(|s| format!("{}/", s.singular())).collect(),
            Some(word) => resources::resource(word).map(|served| line.names(served)).unwrap_or_default(),
            None => {
                let done = current.rfind(',').map_or("", |at| &current[..=at]);
                kinds::served().map(|s| s.plural()).chain(["all"]).map(|word| format!("{done}{word}")).collect()
            }
        }
    })
}

/// Names of Apps, bare or with their resource.
pub(super) fn apps() -> ArgValueCompleter {
    completer(|line, current| match current.split_once('/') {
        Some((kind, _)) => qualified(line, kind),
        None => line.names(served::<App>()),
    })
}

/// Names of what App Mesh calls an application: Apps and Schedules.
pub(super) fn applications() -> ArgValueCompleter {
    completer(|line, _| [line.names(served::<App>()), line.names(served::<Schedule>())].concat())
}

/// Names of Apps and Instances.
pub(super) fn apps_and_instances() -> ArgValueCompleter {
    completer(|line, current| match current.split_once('/') {
        Some((kind, _)) => qualified(line, kind),
        None => [line.names(served::<App>()), line.names(served::<Instance>())].concat(),
    })
}

/// Names of Runs.
pub(super) fn runs() -> ArgValueCompleter {
    completer(|line, current| match current.split_once('/') {
        Some((kind, _)) => qualified(line, kind),
        None => line.names(served::<Run>()),
    })
}

/// `app/web`
pub(super) fn qualified_names() -> ArgValueCompleter {
    completer(|line, current| match current.split_once('/') {
        Some((kind, _)) => qualified(line, kind),
        None => kinds::served().map(|s| format!("{}/", s.singular())).collect(),
    })
}

/// Namespaces.
pub(super) fn namespaces() -> ArgValueCompleter {
    completer(|line, _| line.names(served::<Namespace>()))
}

/// Names of the objects of a kind.
pub(super) fn names_of<K: Kind>() -> ArgValueCompleter {
    completer(|line, _| line.names(served::<K>()))
}

/// Names of Workflows.
pub(super) fn workflows() -> ArgValueCompleter {
    completer(|line, _| line.names(served::<Workflow>()))
}

/// Names of users.
pub(super) fn users() -> ArgValueCompleter {
    completer(|line, _| line.names(served::<User>()))
}

/// Names of roles.
pub(super) fn roles() -> ArgValueCompleter {
    completer(|line, _| line.names(served::<Role>()))
}

/// Names of contexts.
pub(super) fn contexts() -> ArgValueCompleter {
    completer(|line, _| {
        let file = line.global.kubeconfig.clone().or_else(|| file::usual().ok());
        let config = file.and_then(|file| Config::load(&file).ok());
        config.map(|c| c.names("contexts").into_iter().map(str::to_owned).collect()).unwrap_or_default()
    })
}

/// `app.spec.process`
pub(super) fn fields() -> ArgValueCompleter {
    completer(|_, current| {
        let Some((path, _)) = current.rsplit_once('.') else {
            return kinds::served().map(|s| s.singular().to_owned()).collect();
        };
        let word = path.split('.').next().unwrap_or_default();
        let Ok(served) = resources::resource(word) else { return Vec::new() };
        let root = schema::of(served);
        explain::fields_at(&root, path).into_iter().map(|field| format!("{path}.{field}")).collect()
    })
}

/// Values of `-o`.
pub(super) fn forms() -> ArgValueCompleter {
    completer(|_, _| output::forms().map(str::to_owned).collect())
}

fn qualified(line: &Line, kind: &str) -> Vec<String> {
    let names = resources::resource(kind).map(|served| line.names(served)).unwrap_or_default();
    names.into_iter().map(|name| format!("{kind}/{name}")).collect()
}

/// The command line so far: its words without flags, and what the flags say of the server.
struct Line {
    words: Vec<String>,
    global: Global,
}

impl Line {
    fn of_process() -> Self {
        // `appm -- appm get app w`
        Self::of(std::env::args().skip_while(|word| word != "--").skip(2))
    }

    fn of(written: impl Iterator<Item = String>) -> Self {
        let mut line = Self { words: Vec::new(), global: Global::from_environment() };
        let mut written = written;
        while let Some(word) = written.next() {
            let (flag, attached) = match word.split_once('=') {
                Some((flag, value)) if flag.starts_with('-') => (flag.to_owned(), Some(value.to_owned())),
                _ => (word.clone(), None),
            };
            let slot = match flag.as_str() {
                "--data-dir" => &mut line.global.data_dir,
                "--kubeconfig" => &mut line.global.kubeconfig,
                "-n" | "--namespace" => {
                    line.global.namespace = attached.or_else(|| written.next());
                    continue;
                }
                // Other flags with a value of their own; what is unknown is taken for one without.
                "-l" | "--selector" | "-o" | "--output" | "--field-selector" | "-f" | "--filename"
                    if attached.is_none() =>
                {
                    written.next();
                    continue;
                }
                _ if word.starts_with('-') => continue,
                _ => {
                    line.words.push(word);
                    continue;
                }
            };
            *slot = attached.or_else(|| written.next()).map(Into::into);
        }
        line
    }

    /// Names of what is there, or none.
    fn names(&self, served: Served) -> Vec<String> {
        let fetched = || {
            let client = self.global.client_at_hand().ok()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let namespace = self.global.namespace.as_deref().unwrap_or("default");
            let path = served_path(served, Some(namespace), None) + &format!("?limit={MOST}");
            let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";
            let asked = client.call(Request::get(path).accept(accept));
            let answer = runtime.block_on(async { tokio::time::timeout(DEADLINE, asked).await }).ok()?.ok()?;
            let list: Value = answer.json().ok()?;
            let names = list["items"].as_array()?.iter().filter_map(|item| item["metadata"]["name"].as_str());
            Some(names.map(str::to_owned).collect())
        };
        fetched().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_from_flags_and_their_values() {
        let read = |text: &str| Line::of(text.split(' ').map(str::to_owned));
        let line = read("get -n prod --data-dir=/d -A app -l a=b w");
        assert_eq!(line.words, ["get", "app", "w"]);
        assert_eq!(line.global.namespace.as_deref(), Some("prod"));
        assert_eq!(line.global.data_dir.as_deref(), Some("/d".as_ref()));
        assert_eq!(read("--kubeconfig k logs").global.kubeconfig.as_deref(), Some("k".as_ref()));
    }
}
