//! `appm workflow eval`: the value of an expression, and which part of an `if` is false, without a server.

use std::{
    fs,
    io::{self, BufRead as _},
    path::PathBuf,
    sync::Arc,
};

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::super::{
    error::{CliError, Exit},
    output::{self, Format, OutputArgs},
    screen,
};
use crate::policy::{
    expr::{Condition, Expression, Fault, Limits, Object, Scope, Status, Template, Value},
    manifest,
};

/// Say what an expression gives; needs no server
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm workflow eval \"format('{0}-{1}', 'a', 1)\"
  appm workflow eval \"needs.build.result == 'success'\" --contexts contexts.yaml
  appm workflow eval --if \"inputs.env == 'prod' && !cancelled()\" --contexts contexts.yaml
  appm workflow eval 'v${{ inputs.version }}' --contexts contexts.yaml
  appm workflow eval - -o json < asked        each line {\"expression\": \"…\", \"contexts\": {…}}

The contexts are one mapping: `inputs: {env: prod}`, `needs: {build: {result: success, outputs: {}}}`, `matrix`, `github`, `env`…
With --if the exit code is 1 where it does not hold.")]
pub(super) struct EvalArgs {
    /// The expression, or text with `${{ }}`; `-` reads one from each line of stdin
    expression: String,
    /// A file with the values of `inputs`, `needs`…, YAML or JSON
    #[arg(short, long, value_name = "FILE")]
    contexts: Option<PathBuf>,
    /// It stands after `if`: say whether that holds, and which part of it does not
    #[arg(long = "if")]
    condition: bool,
    /// How what came before has ended, for success(), failure() and cancelled()
    #[arg(long, value_enum, default_value_t)]
    status: Ended,
    #[command(flatten)]
    output: OutputArgs,
}

/// How what came before has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Ended {
    #[default]
    Success,
    Failure,
    Cancelled,
}

/// What was given on the command line.
struct Given {
    contexts: Object,
    ended: Ended,
}

impl Scope for Given {
    fn root(&self, name: &str) -> Option<Value> {
        self.contexts.get(name).cloned()
    }

    fn status(&self, which: Status, jobs: &[Arc<str>]) -> Option<bool> {
        let is = |ended, result: &str| match jobs {
            [] => self.ended == ended,
            jobs => jobs.iter().any(|job| self.result(job).is_some_and(|known| known.equals(&result.into()))),
        };
        Some(match which {
            Status::Always => true,
            Status::Cancelled => is(Ended::Cancelled, "cancelled"),
            Status::Failure => is(Ended::Failure, "failure"),
            Status::Success if jobs.is_empty() => self.ended == Ended::Success,
            Status::Success => {
                jobs.iter().all(|job| self.result(job).is_some_and(|known| known.equals(&"success".into())))
            }
        })
    }
}

impl Given {
    fn result(&self, job: &str) -> Option<Value> {
        let member = |of: &Value, key: &str| match of {
            Value::Object(object) => object.get(key).cloned(),
            _ => None,
        };
        member(&member(self.contexts.get("needs")?, job)?, "result")
    }

    /// The value of a text, which is a template if there is `${{` in it.
    fn evaluate(&self, text: &str) -> Result<Value, Fault> {
        if text.contains("${{")
            && let Ok(template) = Template::parse(text)
        {
            template.splices().try_for_each(|splice| self.knows(&splice.expression))?;
            return template.evaluate(self, Limits::default());
        }
        let expression = Expression::parse(text)?;
        self.knows(&expression)?;
        expression.evaluate(self, Limits::default())
    }

    /// As a Workflow is refused that speaks of what is not there, whether it is looked at or not.
    fn knows(&self, expression: &Expression) -> Result<(), Fault> {
        match expression.uses().into_iter().find(|used| self.contexts.get(&used.root).is_none()) {
            Some(used) => Err(Fault { offset: used.span.start, message: format!("there is no `{}` here", used.root) }),
            None => Ok(()),
        }
    }
}

pub(super) fn run(args: &EvalArgs) -> Result<(), CliError> {
    if args.expression == "-" {
        return each_line(args.status);
    }
    let given = Given { contexts: contexts(args)?, ended: args.status };
    if args.condition {
        return holds(&args.expression, &given);
    }
    let value = given.evaluate(&args.expression).map_err(|fault| pointed(&args.expression, &fault))?;
    match (&args.output.output, &value) {
        (Format::Table | Format::Wide, Value::Array(_) | Value::Object(_)) => {
            output::value(&Format::Json, &value.to_json())
        }
        (Format::Table | Format::Wide, primitive) => Ok(screen::line(primitive.to_text())?),
        (format, value) => output::value(format, &told(value)),
    }
}

fn told(value: &Value) -> Json {
    json!({"kind": value.kind().name(), "text": &*value.to_text(), "value": value.to_json()})
}

fn holds(text: &str, given: &Given) -> Result<(), CliError> {
    let condition = Condition::parse(text).and_then(|condition| {
        condition.expression().map_or(Ok(()), |expression| given.knows(expression))?;
        condition.explain_false(given, Limits::default())
    });
    match condition.map_err(|fault| pointed(text, &fault))? {
        None => Ok(screen::line("true")?),
        Some(why) => {
            screen::line(format_args!("false: {why}"))?;
            Err(CliError::silent(Exit::Failed))
        }
    }
}

fn contexts(args: &EvalArgs) -> Result<Object, CliError> {
    let Some(file) = &args.contexts else { return Ok(Object::new([] as [(&str, Value); 0])) };
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|e| CliError::io(&format!("cannot read {name}"), &e))?;
    let read = manifest::read(&text);
    if let Some(fault) = read.faults.first() {
        return Err(CliError::new(Exit::InvalidInput, format!("{name}:{}: {}", fault.place, fault.message)));
    }
    let value = read.documents.first().map_or(json!({}), manifest::Document::value);
    object(&value).ok_or_else(|| CliError::new(Exit::InvalidInput, format!("{name} is no mapping of contexts")))
}

fn object(json: &Json) -> Option<Object> {
    match Value::from_json(json) {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Answers each line of stdin with one line.
fn each_line(ended: Ended) -> Result<(), CliError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|e| CliError::io("cannot read stdin", &e))?;
        let asked: Json = serde_json::from_str(&line)
            .map_err(|e| CliError::new(Exit::InvalidInput, format!("a line of stdin is not JSON: {e}")))?;
        let contexts = object(&asked["contexts"]).unwrap_or_else(|| Object::new([] as [(&str, Value); 0]));
        let given = Given { contexts, ended };
        let answer = match given.evaluate(asked["expression"].as_str().unwrap_or_default()) {
            Ok(value) => told(&value),
            Err(fault) => json!({"error": fault.message, "offset": fault.offset}),
        };
        io::Write::write_all(&mut out, format!("{answer}\n").as_bytes())?;
    }
    Ok(io::Write::flush(&mut out)?)
}

/// A fault, with its place shown below the text.
fn pointed(text: &str, fault: &Fault) -> CliError {
    let before = &text[..fault.offset.min(text.len())];
    let begin = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    let column = unicode_width::UnicodeWidthStr::width(&before[begin..]);
    CliError {
        details: vec![format!("  {line}"), format!("  {}^", " ".repeat(column))],
        ..CliError::new(Exit::InvalidInput, fault.message.clone())
    }
}
