//! `appm export`: what people declared, as manifests that apply elsewhere, or as files of other programs.

mod elsewhere;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use serde_json::{Map, Value, json};

use crate::{
    api::{
        BUILT_IN_ROLES, ELIDED, Kind, KindInfo, Namespace, OWNER, Role, Run, SOURCE_LABEL, Secret, Served, User,
        WorkflowRun, kinds::KINDS,
    },
    policy::fleet::{can_be_declared, rank},
};

use super::{
    context::{Context, Selection, Where},
    error::{CliError, Exit, did_you_mean},
    import::ORIGIN,
    output::{self, Format, OutputArgs},
    resources::{self, Target},
    screen,
};

/// Write what was declared as manifests that apply elsewhere, or for another program
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  appm export all > everything.yaml       all namespaces, in the order in which it is to be applied
  appm export all -n prod --dir out/      a file for each object: out/prod/app-web.yaml
  appm export apps,schedules -l tier=web
  appm export app/web secret/db --secrets
  appm export all -o json
  appm export systemd -l tier=web --dir units/    for another program; also quadlet, compose, kubernetes, procfile

Left out: statuses and what else the server writes, what others made (Instances, Revisions, Events), Runs unless they
are named, the roles that every server has, passwords and tokens. Secrets come with --secrets only."
)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    elsewhere: Option<elsewhere::Elsewhere>,
    /// `all`, `apps`, `apps,secrets`, `app web`, `app/web schedule/nightly`
    #[arg(value_name = "RESOURCE", required = true, add = super::complete::resources())]
    words: Vec<String>,
    /// Secrets too, with their values in clear
    #[arg(long)]
    secrets: bool,
    /// A file for each object below this directory, in place of the standard output
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: ExportArgs, context: &Context) -> Result<(), CliError> {
    if let Some(elsewhere) = &args.elsewhere {
        return elsewhere::run(elsewhere, context).await;
    }
    let json = match &args.output.output {
        Format::Table | Format::Yaml => false,
        Format::Json => true,
        _ => return Err(CliError::usage("manifests are written with `-o yaml` or `-o json`")),
    };
    let everything = matches!(args.words.as_slice(), [word] if word.eq_ignore_ascii_case("all"));
    let meant = |error: CliError| error.maybe_help(did_you_mean(&args.words[0], elsewhere::FORMS));
    let mut targets = if everything { declarable() } else { resources::targets(&args.words).map_err(meant)? };
    if let Some(target) = targets.iter().find(|target| !can_be_declared(target.served.kind)) {
        let message = format!("{} are made by appm itself: nobody declares them", target.served.plural());
        return Err(CliError::usage(message).help("`appm get -o yaml` shows them"));
    }
    targets.sort_by_key(|target| rank(target.served.kind));
    let mut found = Found::default();
    for target in &targets {
        if target.served.kind == Secret::INFO && !args.secrets {
            found.secrets += fetch(&args, context, target).await.map_or(0, |objects| objects.len());
            continue;
        }
        for object in fetch(&args, context, target).await? {
            found.take(target, object);
        }
    }
    if let Some(Target { names, .. }) = targets.iter().find(|target| !target.names.is_empty())
        && found.objects.is_empty()
        && found.secrets == 0
    {
        return Err(CliError::new(Exit::NotFound, format!("there is nothing to export of {}", names.join(", "))));
    }
    match &args.dir {
        Some(dir) => write(dir, &found.objects, json)?,
        None if json => output::objects(&Format::Json, found.objects.clone(), true)?,
        None => {
            for object in &found.objects {
                screen::print(format_args!("---\n{}", output::yaml(object)))?;
            }
        }
    }
    found.tell(args.dir.as_deref());
    Ok(())
}

/// Every kind that somebody declares, and that is more than one execution.
fn declarable() -> Vec<Target> {
    let kinds = KINDS.iter().filter(|kind| can_be_declared(kind) && **kind != Run::INFO && **kind != WorkflowRun::INFO);
    kinds.map(|kind| Target { served: Served { kind, view: None }, names: Vec::new() }).collect()
}

async fn fetch(args: &ExportArgs, context: &Context, target: &Target) -> Result<Vec<Value>, CliError> {
    let place = match &context.global.namespace {
        Some(namespace) if target.served.kind.is_namespaced() => Where::Namespace(namespace),
        None if target.names.is_empty() => Where::Everywhere,
        _ if target.served.kind.is_namespaced() => Where::Namespace(context.namespace()),
        // Of one namespace there is nothing beside the namespaces, unless it is named.
        _ if target.names.is_empty() => return Ok(Vec::new()),
        _ => Where::Everywhere,
    };
    if target.names.is_empty() {
        return Ok(context.list(target.served, place, &args.selection).await?.1);
    }
    let mut objects = Vec::new();
    for name in &target.names {
        objects.push(context.get(target.served, place.name().unwrap_or_default(), name).await?);
    }
    Ok(objects)
}

/// What there is to write, and what was left out.
#[derive(Default)]
struct Found {
    objects: Vec<Value>,
    secrets: usize,
    hidden: usize,
    passwords: usize,
    sources: BTreeSet<String>,
}

impl Found {
    fn take(&mut self, target: &Target, object: Value) {
        let made_by_another = object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| !owners.is_empty());
        let going = !object["metadata"]["deletionTimestamp"].is_null();
        if (made_by_another && target.names.is_empty()) || going {
            return;
        }
        if target.served.kind == Secret::INFO && is_elided(&object) {
            self.hidden += 1;
            return;
        }
        if let Some(source) = object["metadata"]["labels"][SOURCE_LABEL].as_str() {
            self.sources.insert(source.to_owned());
        }
        self.passwords += usize::from(target.served.kind == User::INFO && object["spec"]["password"].is_object());
        self.objects.extend(declared(target.served.kind, object));
    }

    fn tell(&self, dir: Option<&Path>) {
        let many = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        if let Some(dir) = dir {
            screen::remark(format_args!("{} in {}", many(self.objects.len(), "object"), dir.display()));
        }
        if self.secrets > 0 {
            screen::remark(format_args!("{} left out: `--secrets` writes them in clear", many(self.secrets, "Secret")));
        }
        if self.hidden > 0 {
            screen::remark(format_args!("{} left out: you may not reveal them", many(self.hidden, "Secret")));
        }
        if self.passwords > 0 {
            screen::remark(format_args!("{} without the password", many(self.passwords, "User")));
        }
        if !self.sources.is_empty() {
            let names: Vec<&str> = self.sources.iter().map(String::as_str).collect();
            screen::remark(format_args!(
                "some of it is what Sources applied ({}): they will apply it there too",
                names.join(", ")
            ));
        }
    }
}

/// Shown to somebody who may not see its values.
fn is_elided(secret: &Value) -> bool {
    secret["metadata"]["annotations"][ELIDED].is_string()
}

/// What somebody declared of an object; nothing where every server has it.
fn declared(kind: &'static KindInfo, mut object: Value) -> Option<Value> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let metadata = said_of_itself(&object["metadata"]);
    let fields = object.as_object_mut()?;
    fields.shift_remove("status");
    fields.insert("metadata".to_owned(), metadata.clone());
    if kind == User::INFO {
        object["spec"].as_object_mut()?.shift_remove("password");
    }
    if kind == Role::INFO && BUILT_IN_ROLES.contains(&name.as_str()) {
        let subjects = object["spec"]["subjects"].as_array().filter(|subjects| !subjects.is_empty())?.clone();
        object["spec"] = json!({"subjects": subjects});
    }
    let plain = metadata.as_object().is_some_and(|metadata| metadata.len() == 1);
    if kind == Namespace::INFO && plain && name == "default" {
        return None;
    }
    if kind == Namespace::INFO {
        object.as_object_mut()?.shift_remove("spec");
    }
    Some(object)
}

/// A manifest without what only a server adds to it.
fn as_written(mut object: Value) -> Value {
    let metadata = said_of_itself(&object["metadata"]);
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
        fields.insert("metadata".to_owned(), metadata);
    }
    object
}

/// Name, namespace, labels and annotations, without what the server and kubectl put among them.
fn said_of_itself(metadata: &Value) -> Value {
    const NOT_SAID: [&str; 4] =
        [OWNER, ORIGIN, "kubectl.kubernetes.io/last-applied-configuration", "kubernetes.io/metadata.name"];
    let mut said = Map::new();
    for field in ["name", "namespace"] {
        if metadata[field].is_string() {
            said.insert(field.to_owned(), metadata[field].clone());
        }
    }
    for field in ["labels", "annotations"] {
        let mut value = metadata[field].clone();
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| !NOT_SAID.contains(&key.as_str()));
        }
        if value.as_object().is_some_and(|map| !map.is_empty()) {
            said.insert(field.to_owned(), value);
        }
    }
    Value::Object(said)
}

/// A file for each object, by namespace, kind and name.
fn write(dir: &Path, objects: &[Value], json: bool) -> Result<(), CliError> {
    for object in objects {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
        let metadata = &object["metadata"];
        let folder = match text(&metadata["namespace"]) {
            namespace if namespace.is_empty() => dir.join("cluster"),
            namespace => dir.join(namespace),
        };
        // Names of objects have no `/`, but may have a `:`.
        let extension = if json { "json" } else { "yaml" };
        let path =
            folder.join(format!("{}-{}.{extension}", text(&object["kind"]), text(&metadata["name"]).replace(':', "_")));
        let body = if json { format!("{object:#}\n") } else { output::yaml(object) };
        let failed = |error| CliError::io(&format!("cannot write `{}`", path.display()), &error);
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut file = private(&path).map_err(failed)?;
        file.write_all(body.as_bytes()).map_err(failed)?;
    }
    Ok(())
}

/// Secrets may be in it.
fn private(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
