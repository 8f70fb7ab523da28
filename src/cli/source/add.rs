//! `appm source add`: declares a Source by flags; the same one that a manifest would declare, through the same apply.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::{add, context::Context, error::CliError, output::OutputArgs};
use crate::api::{API_VERSION, GoDuration};

/// Declare a Source by flags
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm source add local --directory ./manifests
  appm source add fleet --git https://git.example.org/fleet.git --branch main --path prod --secret git
  appm source add fleet --git git@example.org:fleet.git --semver '>=1.2, <2' --secret git       the highest tag in a range
  appm source add fleet --git git@example.org:fleet.git --tag v1.2.0 --interval 5m --dry-run    write the manifest instead

Adding a Source that is there changes it to what the flags say. What it applies is applied as you, or as --identity.")]
pub(super) struct AddArgs {
    /// Its name
    name: String,
    /// A directory of the server's machine
    #[arg(short, long, value_name = "DIR", required_unless_present = "git", conflicts_with_all = ["git", "branch", "tag", "semver", "commit", "path", "secret"])]
    directory: Option<PathBuf>,
    /// A git repository: https://…, git@host:path, ssh://…, file:///…
    #[arg(long, value_name = "URL")]
    git: Option<String>,
    /// The newest commit of this branch [default: the one that the repository calls HEAD]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tag", "semver", "commit"])]
    branch: Option<String>,
    /// The commit of this tag
    #[arg(long, value_name = "NAME", conflicts_with_all = ["semver", "commit"])]
    tag: Option<String>,
    /// The tag with the highest version in this range: '>=1.2, <2', '~1.4', 1.x
    #[arg(long, value_name = "RANGE", conflicts_with = "commit")]
    semver: Option<String>,
    /// This commit
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// The directory in the repository [default: all of it]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The Secret with what the repository asks for
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// The Secret with the keys (AGE-SECRET-KEY-1…) of manifests that age or SOPS has encrypted
    #[arg(long, value_name = "NAME")]
    age_secret: Option<String>,
    /// The Secret with the `token` that a git server signs with when it says that there is something new
    #[arg(long, value_name = "NAME")]
    webhook_secret: Option<String>,
    /// Tell this URL what becomes of it; may be given several times. Needs the host power host-network
    #[arg(long, value_name = "NAME=URL", value_parser = receiver)]
    notify: Vec<(String, String)>,
    /// Tell them of these only: Applied, Failed, Stalled, Drifted, Healthy, Unhealthy, ApprovalNeeded [default: of all]
    #[arg(long, value_name = "EVENT", value_delimiter = ',', requires = "notify")]
    notify_on: Vec<String>,
    /// The Secret with the `token` that what they are told is signed with
    #[arg(long, value_name = "NAME", requires = "notify")]
    notify_secret: Option<String>,
    /// How often is looked
    #[arg(long, value_name = "DURATION")]
    interval: Option<GoDuration>,
    /// Delete nothing that has left the source
    #[arg(long)]
    no_prune: bool,
    /// The User as whom objects are applied [default: you]
    #[arg(long, value_name = "USER")]
    identity: Option<String>,
    /// The one namespace of everything
    #[arg(long, value_name = "NAMESPACE")]
    target_namespace: Option<String>,
    /// Leave what others changed, and name the fields
    #[arg(long)]
    report_drift: bool,
    /// Wait for this Source of the namespace; may be given several times
    #[arg(long, value_name = "NAME")]
    depends_on: Vec<String>,
    /// Apply nothing until its plan is approved: appm source diff, approve
    #[arg(long)]
    approve: bool,
    /// Declare it suspended
    #[arg(long)]
    suspend: bool,
    /// Show what would be declared; the server is not asked
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: &AddArgs, context: &Context) -> Result<(), CliError> {
    let manifest = manifest(args, context.global.namespace.as_deref());
    add::declare(&manifest, args.dry_run, &args.output.output, context).await
}

/// The Source that the flags declare; only what they say, so that defaults stay the server's.
fn manifest(args: &AddArgs, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": args.name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut spec = Map::new();
    let mut set = |name: &str, value: Option<Value>| spec.extend(value.map(|value| (name.to_owned(), value)));
    set("directory", args.directory.as_ref().map(|path| json!({"path": absolute(path)})));
    set("git", args.git.as_ref().map(|url| git(args, url)));
    set("secrets", args.age_secret.as_ref().map(|name| json!({"age": {"keySecret": {"name": name}}})));
    set("webhook", args.webhook_secret.as_ref().map(|name| json!({"secretRef": {"name": name}})));
    let told: Vec<Value> = args.notify.iter().map(|(name, url)| told(args, name, url)).collect();
    set("notifications", (!told.is_empty()).then(|| json!(told)));
    set("interval", args.interval.as_ref().map(|interval| json!(interval)));
    set("prune", args.no_prune.then(|| json!(false)));
    set("approve", args.approve.then(|| json!("Manual")));
    set("identity", args.identity.as_ref().map(|name| json!(name)));
    set("targetNamespace", args.target_namespace.as_ref().map(|name| json!(name)));
    set("drift", args.report_drift.then(|| json!("Report")));
    let others: Vec<Value> = args.depends_on.iter().map(|name| json!({"name": name})).collect();
    set("dependsOn", (!others.is_empty()).then(|| json!(others)));
    set("suspend", args.suspend.then(|| json!(true)));
    json!({"apiVersion": API_VERSION, "kind": "Source", "metadata": metadata, "spec": spec})
}

/// `chat=https://…`
fn receiver(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').filter(|(name, _)| !name.contains('/')).ok_or("write it as NAME=URL")?;
    Ok((name.to_owned(), url.to_owned()))
}

fn told(args: &AddArgs, name: &str, url: &str) -> Value {
    let mut told = json!({"name": name, "url": url});
    if !args.notify_on.is_empty() {
        told["events"] = json!(args.notify_on);
    }
    if let Some(secret) = &args.notify_secret {
        told["secretRef"] = json!({"name": secret});
    }
    told
}

fn git(args: &AddArgs, url: &str) -> Value {
    // A path is meant as a person would give it to git itself.
    let url = if Path::new(url).is_absolute() { format!("file://{url}") } else { url.to_owned() };
    let mut git = json!({"url": url});
    let references = [("branch", &args.branch), ("tag", &args.tag), ("semver", &args.semver), ("commit", &args.commit)];
    for (name, value) in references.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        git["ref"] = json!({name: value});
    }
    if let Some(path) = &args.path {
        git["path"] = json!(path);
    }
    if let Some(secret) = &args.secret {
        git["secretRef"] = json!({"name": secret});
    }
    git
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::api::{Kind, Source};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AddArgs,
    }

    #[test]
    fn flags_become_the_source_that_a_person_would_write() {
        for (words, spec) in [
            (&["--directory", "/etc/appm", "--no-prune"][..], r#"{"directory":{"path":"/etc/appm"},"prune":false}"#),
            (
                &[
                    "--git",
                    "https://example.org/a.git",
                    "--branch",
                    "main",
                    "--path",
                    "prod",
                    "--secret",
                    "git",
                    "--interval",
                    "5m",
                ],
                r#"{"git":{"url":"https://example.org/a.git","ref":{"branch":"main"},"path":"prod","secretRef":{"name":"git"}},"interval":"5m"}"#,
            ),
            (
                &[
                    "--git",
                    "git@example.org:a.git",
                    "--semver",
                    "1.x",
                    "--webhook-secret",
                    "hook",
                    "--age-secret",
                    "age",
                ],
                r#"{"git":{"url":"git@example.org:a.git","ref":{"semver":"1.x"}},"secrets":{"age":{"keySecret":{"name":"age"}}},"webhook":{"secretRef":{"name":"hook"}}}"#,
            ),
            (
                &["--git", "/srv/a.git", "--notify", "chat=https://example.org/h", "--notify-on", "Failed,Stalled"],
                r#"{"git":{"url":"file:///srv/a.git"},"notifications":[{"name":"chat","url":"https://example.org/h","events":["Failed","Stalled"]}]}"#,
            ),
            (
                &["--git", "/srv/a.git", "--identity", "gitops", "--report-drift", "--depends-on", "base", "--suspend"],
                r#"{"git":{"url":"file:///srv/a.git"},"identity":"gitops","drift":"Report","dependsOn":[{"name":"base"}],"suspend":true}"#,
            ),
        ] {
            let line = Line::try_parse_from(["add", "fleet"].iter().chain(words)).expect("a good command line");
            let manifest = manifest(&line.args, None);
            assert_eq!((Source::INFO.check)(&manifest, None), [], "{manifest}");
            assert_eq!(manifest["spec"].to_string(), spec);
        }
        for words in [&[][..], &["--directory", "a", "--git", "b"], &["--git", "b", "--tag", "a", "--branch", "c"]] {
            assert!(Line::try_parse_from(["add", "fleet"].iter().chain(words)).is_err(), "{words:?}");
        }
    }
}
