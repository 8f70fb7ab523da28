//! `appm kubeconfig`: how kubectl gets in.

use std::{fs, path::Path};

use clap::Args;
use serde_json::json;

use super::{
    contexts::file::{Config, usual},
    error::{CliError, Exit},
    screen,
    settings::Global,
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
    let into = usual()?;
    if into == from {
        return Ok(screen::line(format_args!("{} is it already", into.display()))?);
    }
    let ours = Config::parse(from, text)?;
    let is_current = Config::edit(&into, |there| Ok(add(there, &ours, &args.name, args.current)))?;
    let current = if is_current { ", which is the current one" } else { "" };
    Ok(screen::line(format_args!("{} has a context `{}`{current}", into.display(), args.name))?)
}

/// Adds the current context of `ours` to `there` under a name, and says whether it is the current one there.
fn add(there: &mut Config, ours: &Config, name: &str, make_current: bool) -> bool {
    let first =
        |list: &str| ours.names(list).first().and_then(|name| ours.entry(list, name)).cloned().unwrap_or_default();
    there.put("clusters", name, first("clusters"));
    there.put("contexts", name, json!({"cluster": name, "user": name}));
    there.put("users", name, first("users"));
    if make_current || there.current().is_none() {
        there.set_current(Some(name));
    }
    there.current() == Some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_context_is_added_or_replaced_and_others_stay() {
        let parse = |value: Value| Config::parse(Path::new("config"), &value.to_string()).expect("a kubeconfig");
        let merged = |there: &Value, make_current: bool| {
            let ours = json!({"clusters": [{"name": "x", "cluster": {"server": "https://b"}}], "users": [{"name": "x", "user": {"token": "t"}}]});
            let mut there = parse(there.clone());
            add(&mut there, &parse(ours), "appm", make_current);
            there.value().clone()
        };
        let fresh = merged(&json!({}), false);
        assert_eq!(fresh["current-context"], "appm");
        assert_eq!(fresh["users"], json!([{"name": "appm", "user": {"token": "t"}}]));
        let there = json!({
            "kind": "Config", "current-context": "prod", "preferences": {"colors": true},
            "clusters": [{"name": "prod", "cluster": {}}, {"name": "appm", "cluster": {"server": "https://a"}}],
            "contexts": [{"name": "prod", "context": {}}], "users": [],
        });
        let both = merged(&there, false);
        assert_eq!(both["current-context"], "prod");
        assert_eq!(both["preferences"], there["preferences"]);
        assert_eq!(both["clusters"][1]["cluster"]["server"], "https://b");
        assert_eq!(both["contexts"][1], json!({"name": "appm", "context": {"cluster": "appm", "user": "appm"}}));
        assert_eq!(merged(&both, true)["current-context"], "appm");
        assert_eq!(merged(&both, false), both);
    }
}
