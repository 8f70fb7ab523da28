//! `appm add`: declares an App by flags; the same App that a manifest would declare, through the same apply.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::api::{API_VERSION, GoDuration};

use super::{
    apply::{self, Options},
    command::{self, ProcessFlags},
    context::Context,
    error::CliError,
    habits::application::{self, ApplicationArgs, Said},
    manifests::Manifests,
    output::{self, Format, OutputArgs, without_managed_fields},
    settings::environment,
};

/// Declare an App by flags
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm add -a ping -c \"ping www.baidu.com\"                    or without the -a
  appm add -a web --port http -- python3 -m http.server '$(PORT)'
  appm add -a hello -c 'while true; do date; sleep 1; done'     run by sh
  appm add -a job --script job.sh --restart OnFailure -e LEVEL=debug -w /srv
  appm add -a web -c ./serve --dry-run -o yaml > web.yaml       write the manifest instead
  appm add -a tick -c date -i 60 -z TOKEN -Q standby            App Mesh's options: a Schedule, a Secret

Adding an App that is there changes it to what the flags say.")]
pub(super) struct AddArgs {
    /// Its name
    #[arg(value_name = "NAME", required_unless_present = "app", conflicts_with = "app")]
    name: Option<String>,
    /// The same, as App Mesh has it
    #[arg(short, long = "app", value_name = "NAME")]
    app: Option<String>,
    /// Program and arguments, split as a shell would; run by `sh` if it needs one. $(NAME) is left to appm
    #[arg(short, long, value_name = "COMMAND", required_unless_present_any = ["script", "words", "docker_image", "pid", "stdin"], conflicts_with_all = ["script", "words"])]
    command: Option<String>,
    /// Program and arguments, as they are
    #[arg(last = true, value_name = "PROGRAM", conflicts_with = "script")]
    words: Vec<String>,
    /// A script from a file, or - for stdin
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// A variable of the environment; may be given several times
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// The working directory [default: one of the instance's own]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// The OS user
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The OS group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// How many instances
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=10_000))]
    replicas: Option<i32>,
    /// A port it listens on; without a number each instance gets a free one, in $PORT
    #[arg(long, value_name = "NAME[=NUMBER]", value_parser = port)]
    port: Vec<(String, u16)>,
    /// When it is started again: Always, OnFailure or Never
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "OnFailure", "Never"], ignore_case = true)]
    restart: Option<String>,
    /// How many restarts in a row are allowed
    #[arg(long, value_name = "N")]
    max_restarts: Option<u32>,
    /// The first pause before a restart, which doubles from there
    #[arg(long, value_name = "DURATION")]
    backoff: Option<GoDuration>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// A label; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// Declare it stopped
    #[arg(long)]
    suspend: bool,
    /// Show what would be declared; the server is not asked
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) application: Option<ApplicationArgs>,
    #[command(flatten)]
    output: OutputArgs,
}

impl AddArgs {
    fn name(&self) -> &str {
        self.name.as_ref().or(self.app.as_ref()).expect("clap asks for one")
    }

    /// What App Mesh's options are beside.
    pub(super) fn said(&self) -> Said<'_> {
        Said {
            name: self.name(),
            command: self.command.as_deref(),
            words: &self.words,
            env: &self.env,
            workdir: self.workdir.as_deref(),
        }
    }
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() { Err("expected NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}

/// `NAME=VALUE`, or the value that the variable `NAME` has here.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    if text.contains('=') {
        return pair(text);
    }
    let value = environment(text).ok_or_else(|| format!("the variable `{text}` has no value here"))?;
    Ok((text.to_owned(), value))
}

fn port(text: &str) -> Result<(String, u16), String> {
    match text.split_once('=') {
        None => Ok((text.to_owned(), 0)),
        Some((name, number)) => {
            number.parse().map(|n| (name.to_owned(), n)).map_err(|_| format!("`{number}` is no port"))
        }
    }
}

pub(super) async fn run(args: AddArgs, context: &Context) -> Result<(), CliError> {
    if let Some(application) = &args.application {
        return application::add(&args.said(), application, &args.output.output, context).await;
    }
    let manifest = manifest(&args, context.global.namespace.as_deref())?;
    declare(&manifest, args.dry_run, &args.output.output, context).await
}

/// Applies what flags amount to, or prints it.
pub(super) async fn declare(
    manifest: &Value,
    dry_run: bool,
    format: &Format,
    context: &Context,
) -> Result<(), CliError> {
    if dry_run {
        let format = if *format == Format::Json { Format::Json } else { Format::Yaml };
        return output::value(&format, manifest);
    }
    let mut manifests = Manifests::default();
    // A manifest in YAML, so that what the server finds wrong is shown in what the flags amount to.
    manifests.add("<flags>".into(), output::yaml(manifest), context.global.namespace.as_deref());
    let results = apply::apply(context, &manifests, &Options::default()).await?;
    match format {
        Format::Table | Format::Wide => apply::report(context, &manifests, &results, &Options::default()),
        format => {
            let objects = results.into_iter().map(|r| without_managed_fields(r.object)).collect();
            output::objects(format, objects, false)
        }
    }
}

/// The App that the flags declare; only what they say, so that defaults stay the server's.
fn manifest(args: &AddArgs, namespace: Option<&str>) -> Result<Value, CliError> {
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(args.name()));
    metadata.extend(namespace.map(|n| ("namespace".to_owned(), json!(n))));
    if !args.label.is_empty() {
        metadata.insert("labels".into(), args.label.iter().map(|(k, v)| (k.clone(), json!(v))).collect());
    }
    let mut spec = Map::new();
    let mut set = |name: &str, value: Option<Value>| spec.extend(value.map(|v| (name.to_owned(), v)));
    set("replicas", args.replicas.map(|n| json!(n)));
    set("suspend", args.suspend.then(|| json!(true)));
    set("process", Some(process(args)?));
    set("env", command::env(&args.env));
    let ports: Vec<Value> =
        args.port.iter().map(|(name, number)| json!({"name": name, "containerPort": number})).collect();
    set("ports", (!ports.is_empty()).then(|| json!(ports)));
    let policies = ["Always", "OnFailure", "Never"];
    let policy = args.restart.as_ref().and_then(|p| policies.into_iter().find(|known| known.eq_ignore_ascii_case(p)));
    set("restartPolicy", policy.map(|p| json!(p)));
    let mut restart = Map::new();
    restart.extend(args.max_restarts.map(|n| ("maxRestarts".to_owned(), json!(n))));
    restart.extend(args.backoff.map(|b| ("backoff".to_owned(), json!({"initial": b}))));
    set("restart", (!restart.is_empty()).then(|| Value::Object(restart)));
    set("terminationGracePeriodSeconds", args.grace_period.map(|s| json!(s)));
    set("stopSignal", args.stop_signal.as_ref().map(|s| json!(s)));
    Ok(json!({"apiVersion": API_VERSION, "kind": "App", "metadata": metadata, "spec": spec}))
}

fn process(args: &AddArgs) -> Result<Value, CliError> {
    let flags = ProcessFlags {
        command: args.command.as_deref(),
        script: args.script.as_deref(),
        words: &args.words,
        workdir: args.workdir.as_deref(),
        user: args.user.as_deref(),
        group: args.group.as_deref(),
    };
    flags.process()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AddArgs,
    }

    fn declared(words: &[&str]) -> String {
        let line = Line::try_parse_from(std::iter::once(&"add").chain(words)).expect("a good command line");
        output::yaml(&manifest(&line.args, None).expect("a manifest"))
    }

    #[test]
    fn flags_become_the_manifest_that_a_person_would_write() {
        insta::assert_snapshot!(declared(&["-a", "ping", "-c", "ping www.baidu.com"]), @r"
        apiVersion: appm.dev/v1
        kind: App
        metadata:
          name: ping
        spec:
          process:
            command:
            - ping
            - www.baidu.com
        ");
        insta::assert_snapshot!(declared(&[
            "-a", "web", "-c", "serve | tee log", "-e", "A=b=c", "-w", "/srv", "-u", "www-data", "--replicas", "2", "--port",
            "http", "--port", "admin=9000", "--restart", "onfailure", "--max-restarts", "3", "--label", "tier=front",
        ]), @r"
        apiVersion: appm.dev/v1
        kind: App
        metadata:
          name: web
          labels:
            tier: front
        spec:
          replicas: 2
          process:
            script: serve | tee log
            workingDir: /srv
            user: www-data
          env:
          - name: A
            value: b=c
          ports:
          - name: http
            containerPort: 0
          - name: admin
            containerPort: 9000
          restartPolicy: OnFailure
          restart:
            maxRestarts: 3
        ");
        assert!(declared(&["-a", "x", "--", "a", "b c"]).contains("- b c"));
        assert_eq!(Line::try_parse_from(["add", "x", "-c", "y"]).expect("a name alone").args.name(), "x");
        assert!(Line::try_parse_from(["add", "x", "-a", "x", "-c", "y"]).is_err());
        assert!(Line::try_parse_from(["add", "-a", "x"]).is_err());
        assert!(Line::try_parse_from(["add", "-a", "x", "-c", "y", "--script", "z"]).is_err());
    }
}
