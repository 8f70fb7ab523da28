//! `appm workflow import github`: a workflow file of GitHub's as a manifest. What changes what the workflow does is an error with its place; what
//! only says where GitHub runs it is a comment.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::super::{
    error::{CliError, Exit},
    output, screen,
    settings::Global,
};
use crate::policy::{
    expr::{Condition, Expression, Fault, Template},
    manifest::{self, Aim, Document, Place},
    workflow::uses::Action,
};

/// Print a Workflow for what another program runs; needs no server
#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Github(GithubArgs),
}

/// Print a Workflow for a workflow file of GitHub's
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm workflow import github .github/workflows/ci.yml --repository https://git.example.com/me/it > ci.yaml
  appm workflow import github release.yml --secret release | appm apply -f -

Steps with `run`, and with the actions checkout, upload-artifact and download-artifact are carried over; another action is an error that
names its line.
Read what it prints before you apply it: a line that begins with `#!` says what is different, or was left out.")]
struct GithubArgs {
    /// The file; `-` is stdin
    file: PathBuf,
    /// The Workflow's name; default: the file's
    #[arg(long)]
    name: Option<String>,
    /// What actions/checkout fetches, where it does not name a repository
    #[arg(long, value_name = "URL")]
    repository: Option<String>,
    /// The Secret in which what GitHub calls `secrets.KEY` will be; default: the Workflow's name
    #[arg(long)]
    secret: Option<String>,
}

pub(super) fn run(args: &ImportArgs, global: &Global) -> Result<(), CliError> {
    let What::Github(args) = &args.what;
    let file = args.file.display().to_string();
    let text = match file.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()),
        _ => fs::read_to_string(&args.file),
    };
    let text = text.map_err(|e| CliError::io(&format!("cannot read {file}"), &e))?;
    let stem = args.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).filter(|stem| stem != "-");
    let name = args.name.clone().unwrap_or_else(|| label(&stem.unwrap_or_else(|| "workflow".into())));
    let wanted = Wanted {
        secret: args.secret.clone().unwrap_or_else(|| name.clone()),
        name,
        repository: args.repository.clone(),
        namespace: global.namespace.clone(),
    };
    match import(&text, &wanted) {
        Ok(manifest) => Ok(screen::print(manifest)?),
        Err(faults) => {
            let details = faults.into_iter().map(|(place, message)| format!("  {file}:{place}: {message}")).collect();
            Err(CliError { details, ..CliError::new(Exit::InvalidInput, format!("{file} cannot be carried over")) })
        }
    }
}

/// A name as objects have them.
fn label(text: &str) -> String {
    let dashed: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let cut: String = dashed.trim_matches('-').chars().take(50).collect();
    if cut.is_empty() { "workflow".to_owned() } else { cut.trim_end_matches('-').to_owned() }
}

/// What the command line says of the Workflow.
struct Wanted {
    name: String,
    secret: String,
    repository: Option<String>,
    namespace: Option<String>,
}

type Said = Vec<(Place, String)>;

fn import(text: &str, wanted: &Wanted) -> Result<String, Said> {
    let read = manifest::read(text);
    if !read.faults.is_empty() {
        return Err(read.faults.into_iter().map(|fault| (fault.place, fault.message)).collect());
    }
    let [document] = &read.documents[..] else {
        return Err(vec![(
            Place { line: 1, column: 1 },
            "a workflow file is one mapping, with `on:` and `jobs:`".into(),
        )]);
    };
    let mut importer = Importer { document, wanted, remarks: Said::new(), faults: Said::new() };
    let spec = importer.workflow(&document.value());
    if !importer.faults.is_empty() {
        importer.faults.sort();
        return Err(importer.faults);
    }
    importer.remarks.sort();
    let mut out = String::new();
    let mut told = BTreeSet::new();
    for (place, remark) in importer.remarks {
        // The same of many lines is said once, of the first.
        if told.insert(remark.clone()) {
            let _ = writeln!(out, "#! line {}: {remark}", place.line);
        }
    }
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(wanted.name));
    metadata.extend(wanted.namespace.as_ref().map(|namespace| ("namespace".to_owned(), json!(namespace))));
    let object = json!({"apiVersion": "appm.dev/v1", "kind": "Workflow", "metadata": metadata, "spec": spec});
    Ok(out + &output::yaml(&object))
}

struct Importer<'a> {
    document: &'a Document,
    wanted: &'a Wanted,
    remarks: Said,
    faults: Said,
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

impl Importer<'_> {
    fn remark(&mut self, path: &str, text: impl Into<String>) {
        self.remarks.push((self.document.place(path, Aim::Key), text.into()));
    }

    fn fault(&mut self, path: &str, text: impl Into<String>) {
        self.faults.push((self.document.place(path, Aim::Value), text.into()));
    }

    fn unknown(&mut self, path: &str) {
        let message =
            format!("`{}` is nothing that is known of GitHub's workflows", path.rsplit('.').next().unwrap_or(path));
        self.faults.push((self.document.place(path, Aim::Key), message));
    }

    fn workflow(&mut self, file: &Value) -> Value {
        let mut spec = Map::new();
        spec.insert("on".into(), self.triggers(&file["on"]));
        for (key, value) in entries(file) {
            match key.as_str() {
                "on" | "jobs" => {}
                "name" => self.remark(key, format!("its name was {value}")),
                "run-name" => self.remark(key, "`run-name` was left out: a run's name is made of the Workflow's"),
                "permissions" => self.permissions(key),
                "env" => self.env(key, value, &mut spec),
                "defaults" | "concurrency" => self.copy(key, key, value, &mut spec),
                _ => self.unknown(key),
            }
        }
        let mut jobs = Map::new();
        for (id, job) in entries(&file["jobs"]) {
            jobs.insert(id.clone(), self.job(&format!("jobs.{id}"), job));
        }
        if jobs.is_empty() {
            self.fault("jobs", "there are no jobs");
        }
        spec.insert("jobs".into(), Value::Object(jobs));
        Value::Object(spec)
    }

    fn triggers(&mut self, on: &Value) -> Value {
        let named = |names: Vec<&Value>| {
            names.into_iter().filter_map(|n| Some((n.as_str()?.to_owned(), Value::Null))).collect()
        };
        let events: Vec<(String, Value)> = match on {
            Value::String(_) => named(vec![on]),
            Value::Array(names) => named(names.iter().collect()),
            other => entries(other).map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        let mut kept = Map::new();
        for (event, config) in events {
            let path = format!("on.{event}");
            match event.as_str() {
                "workflow_dispatch" => {
                    let inputs = self.inputs(&path, &config["inputs"]);
                    kept.insert("manual".into(), if inputs.is_empty() { json!({}) } else { json!({"inputs": inputs}) });
                }
                "workflow_call" => {
                    let mut call = Map::new();
                    let inputs = self.inputs(&path, &config["inputs"]);
                    if !inputs.is_empty() {
                        call.insert("inputs".into(), Value::Object(inputs));
                    }
                    call.extend(config.get("outputs").map(|outputs| ("outputs".to_owned(), outputs.clone())));
                    if config.get("secrets").is_some() {
                        self.remark(
                            &format!("{path}.secrets"),
                            "`secrets` of a call were left out: a Workflow names its own Secrets",
                        );
                    }
                    kept.insert(event, Value::Object(call));
                }
                "schedule" => {
                    let zone = |each: &Value| each.get("timezone").cloned().unwrap_or_else(|| json!("UTC"));
                    let times = config.as_array().into_iter().flatten();
                    let times = times.map(|each| json!({"cron": each["cron"], "timeZone": zone(each)})).collect();
                    kept.insert(event, Value::Array(times));
                }
                _ => self.remark(
                    &path,
                    format!("`on: {event}` was left out: start it by hand, by a schedule or from a hook of your host"),
                ),
            }
        }
        if kept.is_empty() {
            kept.insert("manual".into(), json!({}));
        }
        Value::Object(kept)
    }

    fn inputs(&mut self, path: &str, inputs: &Value) -> Map<String, Value> {
        let mut kept = Map::new();
        for (name, input) in entries(inputs) {
            let mut made = Map::new();
            for (key, value) in entries(input) {
                let at = format!("{path}.inputs.{name}.{key}");
                match (key.as_str(), value.as_str()) {
                    ("type", Some("environment")) => {
                        self.remark(&at, "an input of the type `environment` became a string");
                    }
                    ("type" | "description" | "required" | "default" | "options", _) => {
                        made.insert(key.clone(), value.clone());
                    }
                    _ => self.remark(&at, format!("`{key}` of an input was left out")),
                }
            }
            kept.insert(name.clone(), Value::Object(made));
        }
        kept
    }

    fn permissions(&mut self, path: &str) {
        self.remark(path, "`permissions` were left out: a run may do what its identity's roles allow");
    }

    fn job(&mut self, path: &str, job: &Value) -> Value {
        let mut made = Map::new();
        for (key, value) in entries(job) {
            let at = format!("{path}.{key}");
            match key.as_str() {
                "steps" | "with" => {}
                "env" => self.env(&at, value, &mut made),
                "if" => self.condition(&at, key, value, &mut made),
                "runs-on" => {
                    self.remark(&at, format!("`runs-on: {value}` was left out: any node runs it; name labels of yours"))
                }
                "permissions" => self.permissions(&at),
                "environment" => {
                    self.remark(&at, format!("`environment: {value}` was left out: nothing waits for an approval"))
                }
                "container" => {
                    self.fault(&at, "jobs in containers are not carried over: make each step an App with a container")
                }
                "services" => self.services(&at, value, &mut made),
                "uses" => self.called(path, value, &job["with"], &mut made),
                "secrets" => self.remark(&at, "`secrets` of a call were left out: a Workflow names its own Secrets"),
                "name" | "needs" | "strategy" | "outputs" | "timeout-minutes" | "continue-on-error" | "concurrency"
                | "defaults" => {
                    self.copy(&at, key, value, &mut made);
                }
                _ => self.unknown(&at),
            }
        }
        let steps = job["steps"].as_array().into_iter().flatten().enumerate();
        let steps: Vec<Value> = steps.map(|(at, step)| self.step(&format!("{path}.steps[{at}]"), step)).collect();
        if !steps.is_empty() {
            made.insert("steps".into(), Value::Array(steps));
        }
        Value::Object(made)
    }

    /// A job that is another workflow of the same repository is one step that calls it.
    fn called(&mut self, path: &str, uses: &Value, with: &Value, made: &mut Map<String, Value>) {
        let uses = uses.as_str().unwrap_or_default();
        let local = uses.strip_prefix("./.github/workflows/").and_then(|file| file.rsplit_once('.'));
        let Some((file, _)) = local else {
            let message = format!("`uses: {uses}` is of another repository: import it, too, and call it by its name");
            return self.fault(&format!("{path}.uses"), message);
        };
        let mut step = Map::new();
        step.insert("workflow".into(), json!(label(file)));
        if with.is_object() {
            self.copy(&format!("{path}.with"), "with", with, &mut step);
        }
        made.insert("steps".into(), json!([step]));
    }

    fn step(&mut self, path: &str, step: &Value) -> Value {
        let mut made = Map::new();
        for (key, value) in entries(step) {
            let at = format!("{path}.{key}");
            match key.as_str() {
                "with" => {}
                "uses" => self.action(path, value.as_str().unwrap_or_default(), &step["with"], &mut made),
                "env" => self.env(&at, value, &mut made),
                "if" => self.condition(&at, key, value, &mut made),
                "name" | "id" | "run" | "shell" | "working-directory" | "timeout-minutes" | "continue-on-error" => {
                    self.copy(&at, key, value, &mut made);
                }
                _ => self.unknown(&at),
            }
        }
        Value::Object(made)
    }

    fn action(&mut self, path: &str, uses: &str, with: &Value, made: &mut Map<String, Value>) {
        if Action::parse(uses).is_ok() {
            made.insert("uses".into(), json!(uses));
            if with.is_object() {
                self.copy(&format!("{path}.with"), "with", with, made);
            }
            return;
        }
        if uses.split('@').next() != Some("actions/checkout") {
            let message = format!("`uses: {uses}`: actions are not run here; write what it does as `run`");
            return self.fault(&format!("{path}.uses"), message);
        }
        let text =
            |key: &str| with[key].as_str().map(str::to_owned).or_else(|| with[key].as_i64().map(|n| n.to_string()));
        for (key, value) in entries(with) {
            let at = format!("{path}.with.{key}");
            match key.as_str() {
                "repository" | "ref" | "path" | "fetch-depth" => self.check(&at, value),
                "persist-credentials" | "token" | "clean" => {}
                _ => self.remark(&at, format!("`{key}` of actions/checkout was left out")),
            }
        }
        let repository = match text("repository") {
            Some(name) if name.contains("://") => Some(name),
            Some(name) => Some(format!("https://github.com/{name}")),
            None => self.wanted.repository.clone(),
        };
        let Some(repository) = repository else {
            return self.fault(
                &format!("{path}.uses"),
                "actions/checkout names no repository: say which with --repository URL",
            );
        };
        let depth = match text("fetch-depth").as_deref() {
            Some("0") => String::new(),
            Some(depth) => format!(" --depth {depth}"),
            None => " --depth 1".to_owned(),
        };
        let script = [
            "git init --quiet \"$CHECKOUT_PATH\"",
            "cd \"$CHECKOUT_PATH\"",
            &format!("git fetch --quiet{depth} \"$CHECKOUT_REPOSITORY\" \"$CHECKOUT_REF\""),
            "git checkout --quiet --force FETCH_HEAD",
            "",
        ];
        made.entry("name").or_insert(json!("checkout"));
        made.insert("run".into(), json!(script.join("\n")));
        let env = json!({
            "CHECKOUT_REPOSITORY": repository,
            "CHECKOUT_REF": text("ref").unwrap_or_else(|| "HEAD".into()),
            "CHECKOUT_PATH": text("path").unwrap_or_else(|| ".".into()),
        });
        made.insert("env".into(), env);
    }

    fn services(&mut self, path: &str, services: &Value, made: &mut Map<String, Value>) {
        let mut kept = Map::new();
        for (name, service) in entries(services) {
            let mut each = Map::new();
            for (key, value) in entries(service) {
                let at = format!("{path}.{name}.{key}");
                match key.as_str() {
                    "image" => self.copy(&at, key, value, &mut each),
                    "env" => self.env(&at, value, &mut each),
                    "ports" => {
                        let ports: Vec<Value> = value.as_array().into_iter().flatten().filter_map(port).collect();
                        each.insert(key.clone(), Value::Array(ports));
                    }
                    _ => self.remark(
                        &at,
                        format!("`{key}` of service `{name}` was left out; `readinessProbe` says when it is ready"),
                    ),
                }
            }
            kept.insert(name.clone(), Value::Object(each));
        }
        made.insert("services".into(), Value::Object(kept));
    }

    /// Variables; those that are a secret become `sec_env`.
    fn env(&mut self, path: &str, env: &Value, made: &mut Map<String, Value>) {
        if !env.is_object() {
            return self.fault(path, "`env` is a mapping here");
        }
        let (mut plain, mut secret) = (Map::new(), Map::new());
        for (name, value) in entries(env) {
            match value.as_str().and_then(secret_key) {
                Some(key) => {
                    let of = &self.wanted.secret;
                    self.remark(path, format!("put the value of `secrets.{key}` into the Secret `{of}`"));
                    secret.insert(name.clone(), json!({"secret": self.wanted.secret, "key": key}));
                }
                None => self.copy(&format!("{path}.{name}"), name, value, &mut plain),
            }
        }
        for (key, variables) in [("env", plain), ("sec_env", secret)] {
            if !variables.is_empty() {
                made.insert(key.into(), Value::Object(variables));
            }
        }
    }

    fn condition(&mut self, path: &str, key: &str, value: &Value, made: &mut Map<String, Value>) {
        if let Some(text) = value.as_str() {
            match Condition::parse(text) {
                Ok(condition) => condition.expression().into_iter().for_each(|expression| self.known(path, expression)),
                Err(fault) => self.unreadable(path, text, &fault),
            }
        }
        made.insert(key.into(), value.clone());
    }

    fn copy(&mut self, path: &str, key: &str, value: &Value, made: &mut Map<String, Value>) {
        self.check(path, value);
        made.insert(key.into(), value.clone());
    }

    /// Every text in a value may have expressions, which must be readable.
    fn check(&mut self, path: &str, value: &Value) {
        match value {
            Value::String(text) => match Template::parse(text) {
                Ok(template) => template.splices().for_each(|splice| self.known(path, &splice.expression)),
                Err(fault) => self.unreadable(path, text, &fault),
            },
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(at, item)| self.check(&format!("{path}[{at}]"), item));
            }
            Value::Object(_) => entries(value).for_each(|(key, item)| self.check(&format!("{path}.{key}"), item)),
            _ => {}
        }
    }

    fn unreadable(&mut self, path: &str, text: &str, fault: &Fault) {
        let near: String = text[fault.offset.min(text.len())..].chars().take(20).collect();
        self.fault(path, format!("{} (at `{near}`)", fault.message));
    }

    /// Roots that are not there.
    fn known(&mut self, path: &str, expression: &Expression) {
        for used in expression.uses() {
            match &*used.root {
                "secrets" => {
                    let message = "a secret reaches a step as a variable only: `env: {NAME: ${{ secrets.KEY }}}`";
                    self.fault(path, message);
                }
                "vars" => self.fault(path, "there are no `vars` here: make it `env`, or an input"),
                _ => {}
            }
        }
    }
}

/// The key of a text that is `${{ secrets.KEY }}` and nothing else.
fn secret_key(text: &str) -> Option<String> {
    let template = Template::parse(text).ok()?;
    let expression = template.lone()?;
    let [used] = &expression.uses()[..] else { return None };
    let is_all = used.span == expression.span() && used.path.len() == 1;
    (&*used.root == "secrets" && is_all).then(|| used.key(0).map(str::to_owned))?
}

/// `8080:80` and `80`: the port of the machine, and the container's.
fn port(port: &Value) -> Option<Value> {
    let text = port.as_str().map(str::to_owned).or_else(|| port.as_i64().map(|n| n.to_string()))?;
    let text = text.split('/').next()?;
    let (host, container) = text.split_once(':').map_or((None, text), |(host, container)| (Some(host), container));
    let number = |text: &str| text.parse::<u16>().ok();
    let mut made = Map::new();
    made.insert("name".into(), json!(format!("port-{container}")));
    made.insert("containerPort".into(), json!(number(container)?));
    made.extend(host.and_then(number).map(|host| ("hostPort".to_owned(), json!(host))));
    Some(Value::Object(made))
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
