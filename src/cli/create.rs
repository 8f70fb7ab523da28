//! `appm create` and `appm replace`: objects that must not be there yet, or must be there, all of them or none.

use std::{collections::BTreeMap, io::Read, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::api::OperationVerb;

use super::{
    apply::{self, DryRun, Options},
    context::Context,
    delete,
    error::{CliError, Exit},
    manifests::{self, Manifests},
    output::{self, Format, OutputArgs, without_managed_fields},
};

/// Create objects that are not there yet
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  appm create -f web.yaml                            fails if it is there already
  appm create namespace prod
  appm create configmap web --from-file=app.ini --from-literal=LEVEL=debug
  appm create secret generic db --from-file=password=-   asks stdin, so that no value is on a command line
  appm create quota small --hard=count/apps.appm.dev=10,limits.memory=8Gi
  appm create secret tls web --cert=cert.pem --key=key.pem
  appm create secret generic db --from-env-file=db.env --dry-run=client -o yaml"
)]
pub(super) struct CreateArgs {
    #[command(subcommand)]
    what: Option<CreateWhat>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct Files {
    /// File, directory, or - for stdin; may be given several times
    #[arg(short, long, value_name = "PATH", num_args = 1..)]
    filename: Vec<PathBuf>,
    /// Look into subdirectories too
    #[arg(short = 'R', long)]
    recursive: bool,
}

#[derive(Args, Debug)]
struct How {
    /// server: check everything, store nothing; client: do not even ask the server
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "server", hide_default_value = true, hide_possible_values = true)]
    dry_run: DryRun,
    /// Whose fields these are
    #[arg(long, value_name = "NAME", default_value = "appm")]
    field_manager: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Subcommand, Debug)]
enum CreateWhat {
    /// Create a Namespace
    #[command(visible_alias = "ns")]
    Namespace(Named),
    /// Create a ResourceQuota: how much the namespace may have
    #[command(visible_alias = "resourcequota")]
    Quota(Quota),
    /// Create a ConfigMap of files, literals and env files
    #[command(visible_alias = "cm")]
    Configmap(FromSources),
    /// Create a Secret
    Secret {
        #[command(subcommand)]
        of: SecretOf,
    },
}

#[derive(Subcommand, Debug)]
enum SecretOf {
    /// Of files, literals and env files
    Generic(Generic),
    /// Of a certificate and its key
    Tls(Tls),
}

#[derive(Args, Debug)]
struct Named {
    /// Its name
    name: String,
    #[command(flatten)]
    how: How,
}

#[derive(Args, Debug)]
struct Quota {
    #[command(flatten)]
    named: Named,
    /// The most of each: count/apps.appm.dev, pods, configmaps, secrets, cpu, memory, limits.cpu, limits.memory
    #[arg(long, value_name = "NAME=AMOUNT", value_delimiter = ',', required = true)]
    hard: Vec<String>,
}

#[derive(Args, Debug)]
struct FromSources {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    sources: Sources,
}

#[derive(Args, Debug)]
struct Generic {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    sources: Sources,
    /// The type of the Secret
    #[arg(long = "type", value_name = "TYPE", default_value = "Opaque")]
    secret_type: String,
}

#[derive(Args, Debug)]
struct Tls {
    #[command(flatten)]
    named: Named,
    /// A file with the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// A file with the private key, in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Where the entries come from.
#[derive(Args, Debug)]
struct Sources {
    /// KEY=VALUE; a process list shows it, so rather no secrets
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// FILE, KEY=FILE, KEY=- for stdin, or a directory: a key for each file in it
    #[arg(long, value_name = "[KEY=]FILE")]
    from_file: Vec<String>,
    /// A file with lines KEY=VALUE
    #[arg(long, value_name = "FILE")]
    from_env_file: Vec<PathBuf>,
}

pub(super) async fn run(args: CreateArgs, context: &Context) -> Result<(), CliError> {
    let (object, how) = match args.what {
        None if args.files.filename.is_empty() => {
            return Err(CliError::usage("what shall be created?")
                .help("`-f FILE`, or one of namespace, configmap, quota, secret"));
        }
        None => {
            let manifests =
                manifests::read(&args.files.filename, args.files.recursive, context.global.namespace.as_deref())?;
            return write(context, manifests, OperationVerb::Create, &args.how).await;
        }
        Some(CreateWhat::Namespace(named)) => (object("Namespace", &named.name, Map::new()), named.how),
        Some(CreateWhat::Quota(of)) => (quota(&of.named.name, &of.hard)?, of.named.how),
        Some(CreateWhat::Configmap(of)) => (config_map(&of.named.name, of.sources.entries()?), of.named.how),
        Some(CreateWhat::Secret { of: SecretOf::Generic(of) }) => {
            (secret(&of.named.name, &of.secret_type, of.sources.entries()?), of.named.how)
        }
        Some(CreateWhat::Secret { of: SecretOf::Tls(of) }) => {
            let entries = [("tls.crt", &of.cert), ("tls.key", &of.key)];
            let entries = entries.into_iter().map(|(key, file)| Ok((key.to_owned(), read_file(file)?)));
            let entries = entries.collect::<Result<_, CliError>>()?;
            (secret(&of.named.name, "kubernetes.io/tls", entries), of.named.how)
        }
    };
    let mut manifests = Manifests::default();
    manifests.add("<command line>".into(), object.to_string(), context.global.namespace.as_deref());
    write(context, manifests, OperationVerb::Create, &how).await
}

/// Replace objects that are there
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm replace -f web.yaml            what the manifest does not say is gone afterwards
  appm replace --force -f web.yaml    delete, and make anew
  appm get app web -o yaml | sed s/debug/info/ | appm replace -f -

A manifest with a resourceVersion replaces that very version only.")]
pub(super) struct ReplaceArgs {
    #[command(flatten)]
    files: Files,
    /// Delete the objects and make them anew, with another uid
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    how: How,
}

pub(super) async fn replace(args: ReplaceArgs, context: &Context) -> Result<(), CliError> {
    if args.files.filename.is_empty() {
        return Err(CliError::usage("what shall be replaced?").help("give manifests by -f"));
    }
    let manifests = manifests::read(&args.files.filename, args.files.recursive, context.global.namespace.as_deref())?;
    if !args.force {
        return write(context, manifests, OperationVerb::Update, &args.how).await;
    }
    let mut manifests = manifests.sound(context, "nothing was replaced")?;
    if args.how.dry_run != DryRun::None {
        return write(context, manifests, OperationVerb::Update, &args.how).await;
    }
    delete::gone(&manifests, context).await?;
    for metadata in manifests.objects.iter_mut().filter_map(|o| o.value["metadata"].as_object_mut()) {
        metadata.retain(|field, _| !matches!(field.as_str(), "resourceVersion" | "uid" | "creationTimestamp"));
    }
    write(context, manifests, OperationVerb::Create, &args.how).await
}

/// Writes every object by one transaction, and says so.
async fn write(context: &Context, manifests: Manifests, verb: OperationVerb, how: &How) -> Result<(), CliError> {
    if how.dry_run == DryRun::Client {
        let manifests = manifests.sound(context, "nothing was created")?;
        let objects: Vec<Value> = manifests.objects.into_iter().map(|o| o.value).collect();
        return match &how.output.output {
            Format::Table | Format::Wide => output::objects(&Format::Name, objects, false),
            format => output::objects(format, objects, false),
        };
    }
    let options = Options {
        dry_run: how.dry_run == DryRun::Server,
        manager: how.field_manager.clone(),
        verb,
        ..Options::default()
    };
    let results = apply::apply(context, &manifests, &options).await?;
    match &how.output.output {
        Format::Table | Format::Wide => apply::report(context, &manifests, &results, &options),
        format => {
            output::objects(format, results.into_iter().map(|r| without_managed_fields(r.object)).collect(), false)
        }
    }
}

fn object(kind: &str, name: &str, body: Map<String, Value>) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    object.as_object_mut().expect("made as an object").extend(body);
    object
}

fn quota(name: &str, hard: &[String]) -> Result<Value, CliError> {
    let bound = |text: &String| {
        let pair = text.split_once('=').filter(|(key, most)| !key.is_empty() && !most.is_empty());
        let (key, most) =
            pair.ok_or_else(|| CliError::usage("a bound is written NAME=AMOUNT").help("--hard=pods=10, say"))?;
        Ok((key.to_owned(), most.into()))
    };
    let hard: Map<String, Value> = hard.iter().map(bound).collect::<Result<_, CliError>>()?;
    Ok(object("ResourceQuota", name, [("spec".to_owned(), json!({"hard": hard}))].into_iter().collect()))
}

type Entries = BTreeMap<String, Vec<u8>>;

fn config_map(name: &str, entries: Entries) -> Value {
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (key, bytes) in entries {
        match String::from_utf8(bytes) {
            Ok(text) => data.insert(key, text.into()),
            Err(error) => binary.insert(key, BASE64_STANDARD.encode(error.into_bytes()).into()),
        };
    }
    let parts = [("data", data), ("binaryData", binary)].into_iter().filter(|(_, map)| !map.is_empty());
    object("ConfigMap", name, parts.map(|(field, map)| (field.to_owned(), map.into())).collect())
}

fn secret(name: &str, secret_type: &str, entries: Entries) -> Value {
    let data: Map<String, Value> =
        entries.into_iter().map(|(key, bytes)| (key, BASE64_STANDARD.encode(bytes).into())).collect();
    object(
        "Secret",
        name,
        [("type".to_owned(), secret_type.into()), ("data".to_owned(), data.into())].into_iter().collect(),
    )
}

impl Sources {
    fn entries(&self) -> Result<Entries, CliError> {
        let mut entries = Entries::new();
        let mut add = |key: String, value: Vec<u8>| match entries.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(CliError::usage(format!("the key `{key}` is given twice"))),
        };
        for literal in &self.from_literal {
            let pair = literal.split_once('=').filter(|(key, _)| !key.is_empty());
            let (key, value) = pair.ok_or_else(|| {
                CliError::usage("a literal is written KEY=VALUE").help("--from-literal=LEVEL=debug, say")
            })?;
            add(key.to_owned(), value.as_bytes().to_vec())?;
        }
        for source in &self.from_file {
            for (key, value) in files(source)? {
                add(key, value)?;
            }
        }
        for file in &self.from_env_file {
            let text = String::from_utf8(read_file(file)?)
                .map_err(|_| CliError::new(Exit::InvalidInput, format!("{} is not UTF-8 text", file.display())))?;
            for (number, line) in text.lines().map(str::trim_start).enumerate() {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let pair = line.split_once('=').filter(|(key, _)| !key.is_empty());
                let at = format!("{}:{}", file.display(), number + 1);
                let (key, value) =
                    pair.ok_or_else(|| CliError::new(Exit::InvalidInput, format!("{at}: expected KEY=VALUE")))?;
                add(key.to_owned(), value.as_bytes().to_vec())?;
            }
        }
        Ok(entries)
    }
}

/// What `[KEY=]FILE` names.
fn files(source: &str) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    if let Some((key, file)) = source.split_once('=') {
        let bytes = match file {
            "-" => {
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).map_err(|e| CliError::io("cannot read stdin", &e))?;
                // A person ends a line where a file would end.
                bytes.truncate(bytes.strip_suffix(b"\n").map_or(bytes.len(), <[u8]>::len));
                bytes
            }
            file => read_file(&PathBuf::from(file))?,
        };
        return Ok(vec![(key.to_owned(), bytes)]);
    }
    let path = PathBuf::from(source);
    let key = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !path.is_dir() {
        return Ok(vec![(key(&path), read_file(&path)?)]);
    }
    let entries = std::fs::read_dir(&path).map_err(|e| CliError::io(&format!("cannot read {}", path.display()), &e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|p| p.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| Ok((key(path), read_file(path)?))).collect()
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|e| CliError::io(&format!("cannot read {}", path.display()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_from_literals_files_folders_and_env_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).expect("written");
        file("a.ini", b"x=1\n");
        file("raw", &[0xff]);
        let env = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(env.path(), "# note\nLEVEL=debug=1\n\nEMPTY=\n").expect("written");
        let sources = Sources {
            from_literal: vec!["k=v=w".into()],
            from_file: vec![folder.path().display().to_string(), format!("b={}", folder.path().join("raw").display())],
            from_env_file: vec![env.path().to_owned()],
        };
        let entries = sources.entries().expect("entries");
        let map = config_map("c", entries.clone());
        assert_eq!(map["data"], json!({"EMPTY": "", "LEVEL": "debug=1", "a.ini": "x=1\n", "k": "v=w"}));
        assert_eq!(map["binaryData"], json!({"b": "/w==", "raw": "/w=="}));
        assert_eq!(secret("s", "Opaque", entries)["data"]["k"], "dj13");
        let twice =
            Sources { from_literal: vec!["a=1".into(), "a=2".into()], from_file: vec![], from_env_file: vec![] };
        assert!(twice.entries().is_err());
    }
}
