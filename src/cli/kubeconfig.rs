//! `appm kubeconfig`: how kubectl gets in.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use crate::policy::manifest;

use super::{
    error::{CliError, Exit},
    output::yaml,
    screen,
    settings::{Global, environment},
};

/// Show the kubeconfig that the server wrote for kubectl, or add it to one's own
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  export KUBECONFIG=$(appm kubeconfig --path)
  kubectl get apps

  appm kubeconfig --merge                    into $KUBECONFIG, else ~/.kube/config; other contexts stay as they are
  kubectl --context appm get apps
  appm kubeconfig --merge --name=home --current")]
pub(super) struct KubeconfigArgs {
    /// Show where it is, not what is in it: it holds a token
    #[arg(long)]
    path: bool,
    /// Add it to the kubeconfig of kubectl, in place of an earlier one of that name
    #[arg(long, conflicts_with = "path")]
    merge: bool,
    /// What context, cluster and user are called there
    #[arg(long, value_name = "NAME", default_value = "appm", requires = "merge")]
    name: String,
    /// Make it the current context there
    #[arg(long, requires = "merge")]
    current: bool,
}

pub(super) fn run(args: &KubeconfigArgs, global: &Global) -> Result<(), CliError> {
    let file = global.kubeconfig.clone().unwrap_or_else(|| global.data_dir().join("kubeconfig"));
    if !file.exists() {
        let error = CliError::new(Exit::NotFound, format!("there is no kubeconfig at {}", file.display()));
        return Err(error.help("the server writes it when it starts: `appm up` or `appm server`"));
    }
    if args.path {
        return Ok(screen::line(file.display())?);
    }
    let text = fs::read_to_string(&file).map_err(|e| CliError::io(&format!("cannot read {}", file.display()), &e))?;
    if args.merge { merge(args, &file, &text) } else { Ok(screen::print(text)?) }
}

fn merge(args: &KubeconfigArgs, from: &Path, text: &str) -> Result<(), CliError> {
    let own = environment("KUBECONFIG").and_then(|all| all.split(':').find(|p| !p.is_empty()).map(PathBuf::from));
    let usual = || environment("HOME").map(|home| Path::new(&home).join(".kube/config"));
    let into = own.or_else(usual).ok_or_else(|| {
        CliError::usage("where is your kubeconfig?").help("KUBECONFIG=FILE appm kubeconfig --merge says it")
    })?;
    if into == from {
        return Ok(screen::line(format_args!("{} is it already", into.display()))?);
    }
    let there = match fs::read_to_string(&into) {
        Ok(text) => read(&into, &text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(CliError::io(&format!("cannot read {}", into.display()), &error)),
    };
    let merged = merged(there, &read(from, text)?, &args.name, args.current);
    write(&into, &yaml(&merged))?;
    let current = if merged["current-context"] == args.name.as_str() { ", which is the current one" } else { "" };
    Ok(screen::line(format_args!("{} has a context `{}`{current}", into.display(), args.name))?)
}

fn read(path: &Path, text: &str) -> Result<Value, CliError> {
    let read = manifest::read(text);
    match (read.faults.first(), read.documents.first()) {
        (Some(fault), _) => {
            let message = format!("{}:{}: {}", path.display(), fault.place, fault.message);
            Err(CliError::new(Exit::InvalidInput, message).help("it was left as it is"))
        }
        (None, document) => Ok(document.map(|d| d.value()).unwrap_or_default()),
    }
}

/// `there` with the current context of `ours` under a name.
fn merged(mut there: Value, ours: &Value, name: &str, make_current: bool) -> Value {
    if !there.is_object() {
        there = json!({"apiVersion": "v1", "kind": "Config"});
    }
    let first = |list: &str, field: &str| ours[list][0][field].clone();
    let context = json!({"cluster": name, "user": name});
    let parts = [
        ("clusters", "cluster", first("clusters", "cluster")),
        ("contexts", "context", context),
        ("users", "user", first("users", "user")),
    ];
    for (list, field, value) in parts {
        let entry = json!({"name": name, field: value});
        let mut all = there[list].as_array().cloned().unwrap_or_default();
        match all.iter_mut().find(|known| known["name"] == name) {
            Some(known) => *known = entry,
            None => all.push(entry),
        }
        there[list] = all.into();
    }
    let has_current = there["current-context"].as_str().is_some_and(|current| !current.is_empty());
    if make_current || !has_current {
        there["current-context"] = name.into();
    }
    there
}

/// Writes a file that nobody else may read, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let beside = path.with_extension(format!("appm-{}", std::process::id()));
    let written = (|| {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(|e| CliError::io(&format!("cannot write {}", path.display()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_added_or_replaced_and_others_stay() {
        let ours = json!({"clusters": [{"name": "x", "cluster": {"server": "https://b"}}], "users": [{"name": "x", "user": {"token": "t"}}]});
        let fresh = merged(Value::Null, &ours, "appm", false);
        assert_eq!(fresh["current-context"], "appm");
        assert_eq!(fresh["users"], json!([{"name": "appm", "user": {"token": "t"}}]));
        let there = json!({
            "kind": "Config", "current-context": "prod", "preferences": {"colors": true},
            "clusters": [{"name": "prod", "cluster": {}}, {"name": "appm", "cluster": {"server": "https://a"}}],
            "contexts": [{"name": "prod", "context": {}}], "users": [],
        });
        let both = merged(there.clone(), &ours, "appm", false);
        assert_eq!(both["current-context"], "prod");
        assert_eq!(both["preferences"], there["preferences"]);
        assert_eq!(both["clusters"][1]["cluster"]["server"], "https://b");
        assert_eq!(both["contexts"][1], json!({"name": "appm", "context": {"cluster": "appm", "user": "appm"}}));
        assert_eq!(merged(both.clone(), &ours, "appm", true)["current-context"], "appm");
        assert_eq!(merged(both.clone(), &ours, "appm", false), both);
    }
}
