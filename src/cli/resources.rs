//! What a person names on the command line: `apps`, `app web db`, `app/web node/host`, `apps,instances`, `all`.

use crate::api::{App, Kind, Served, kinds};

use super::{
    context::served,
    error::{CliError, Exit, did_you_mean},
};

/// A resource, and which objects of it; none: all.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) served: Served,
    pub(super) names: Vec<String>,
}

/// The resource that a word names.
///
/// # Errors
/// When there is none, with the one that was meant if one is close.
pub(super) fn resource(word: &str) -> Result<Served, CliError> {
    let known = || kinds::served().flat_map(|s| [s.plural(), s.singular()]);
    kinds::find_by_word(word).ok_or_else(|| {
        let close = did_you_mean(word, known());
        let help = close.unwrap_or_else(|| "`appm api-resources` lists what there is".to_owned());
        CliError::new(Exit::Usage, format!("there is no resource `{word}`")).help(help)
    })
}

/// The resources of `a,b` or `all`.
fn resources(word: &str) -> Result<Vec<Served>, CliError> {
    if word.eq_ignore_ascii_case("all") {
        let all = kinds::KINDS.iter().filter(|kind| kind.categories.contains(&"all"));
        return Ok(all.map(|kind| Served { kind, view: None }).collect());
    }
    word.split(',').filter(|w| !w.is_empty()).map(resource).collect()
}

/// Reads the words after a verb.
///
/// # Errors
/// When a word names no resource, or the two ways of writing are mixed.
pub(super) fn targets(words: &[String]) -> Result<Vec<Target>, CliError> {
    let Some(first) = words.first() else {
        return Err(CliError::usage("which resource?").help("for example `apps`, `app web`, `app/web`, `all`"));
    };
    if words.iter().any(|word| word.contains('/')) {
        return slashed(words);
    }
    let resources = resources(first)?;
    let names = words[1..].to_vec();
    Ok(resources.into_iter().map(|served| Target { served, names: names.clone() }).collect())
}

fn slashed(words: &[String]) -> Result<Vec<Target>, CliError> {
    let mut targets: Vec<Target> = Vec::new();
    for word in words {
        let Some((kind, name)) = word.split_once('/').filter(|(_, name)| !name.is_empty()) else {
            let message = format!("`{word}` stands beside words of the form resource/name");
            return Err(CliError::usage(message).help("write either `app web db` or `app/web app/db`"));
        };
        let served = resource(kind)?;
        match targets
            .iter_mut()
            .find(|t| t.served.kind == served.kind && t.served.view.is_some() == served.view.is_some())
        {
            Some(target) => target.names.push(name.to_owned()),
            None => targets.push(Target { served, names: vec![name.to_owned()] }),
        }
    }
    Ok(targets)
}

/// Names of Apps, written as `web db`, `app/web`, or `app web`.
///
/// # Errors
/// When a word names something else than an App.
pub(super) fn apps(words: &[String]) -> Result<Vec<String>, CliError> {
    let words = match words {
        [first, rest @ ..] if !rest.is_empty() && kinds::find_by_word(first).is_some_and(|s| s.kind == App::INFO) => {
            rest
        }
        words => words,
    };
    words.iter().map(|word| app(word)).collect()
}

fn app(word: &str) -> Result<String, CliError> {
    match word.split_once('/') {
        None => Ok(word.to_owned()),
        Some((kind, name)) if resource(kind)?.kind == App::INFO => Ok(name.to_owned()),
        Some((kind, _)) => Err(CliError::usage(format!("`{word}` is a {kind}, and this command works on Apps"))),
    }
}

/// The App kind as a target.
pub(super) fn apps_target(names: Vec<String>) -> Target {
    Target { served: served::<App>(), names }
}

/// `app.appm.dev/web`: how an object is named in what commands print.
pub(super) fn qualified(served: Served, name: &str) -> String {
    match served.group() {
        "" => format!("{}/{name}", served.singular()),
        group => format!("{}.{group}/{name}", served.singular()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Vec<(String, Vec<String>)>, String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let targets = targets(&words).map_err(|e| format!("{} ({})", e.message, e.help.unwrap_or_default()))?;
        Ok(targets.into_iter().map(|t| (t.served.plural().to_owned(), t.names)).collect())
    }

    #[test]
    fn resources_are_named_as_kubectl_users_name_them() {
        let one = |p: &str, n: &[&str]| (p.to_owned(), n.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&["app", "web", "db"]), Ok(vec![one("apps", &["web", "db"])]));
        assert_eq!(read(&["apps,inst"]), Ok(vec![one("apps", &[]), one("instances", &[])]));
        assert_eq!(
            read(&["App/web", "ns/x", "apps/db"]),
            Ok(vec![one("apps", &["web", "db"]), one("namespaces", &["x"])])
        );
        let all = ["apps", "instances", "runs", "schedules", "workflows", "workflowruns", "sources"]
            .map(|plural| one(plural, &[]));
        assert_eq!(read(&["all"]), Ok(all.to_vec()));
        assert_eq!(read(&["instnaces"]), Err("there is no resource `instnaces` (did you mean `instances`?)".into()));
        assert!(read(&["app/web", "db"]).is_err());
        assert!(read(&[]).is_err());
    }

    #[test]
    fn apps_may_be_named_alone() {
        for words in [&["web"][..], &["app", "web"], &["apps/web"], &["app/web"]] {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            assert_eq!(apps(&words), Ok(vec!["web".to_owned()]));
        }
        assert!(apps(&["node/x".to_owned()]).is_err());
    }
}
