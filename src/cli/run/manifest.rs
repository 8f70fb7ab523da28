//! The Run that the flags of `appm run` ask for: only what they say, so that defaults stay the server's.

use std::io::Read;

use serde_json::{Map, Value, json};

use crate::api::API_VERSION;

use super::{
    super::{
        error::{CliError, Exit},
        words::{self, CommandLine},
    },
    RunArgs,
};

/// As much as a Run holds.
const LONGEST_STDIN: u64 = 256 << 10;

pub(super) fn of(args: &RunArgs) -> Result<Value, CliError> {
    let mut spec = Map::new();
    match (&args.app, &args.image) {
        (Some(app), _) => {
            let app = app.strip_prefix("app/").unwrap_or(app);
            spec.insert("app".into(), json!(app));
            if !args.words.is_empty() {
                spec.insert("args".into(), json!(args.words));
            }
        }
        (None, Some(image)) => {
            let mut container = json!({"image": image});
            if !args.words.is_empty() {
                container["args"] = json!(args.words);
            }
            spec.insert("container".into(), container);
        }
        (None, None) => drop(spec.insert("process".into(), process(args)?)),
    }
    let env: Vec<Value> = args.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    if !env.is_empty() {
        spec.insert("env".into(), json!(env));
    }
    if args.stdin {
        match args.feeds() {
            true => spec.insert("stdinOnce".into(), json!(true)),
            false => spec.insert("stdin".into(), json!(stdin()?)),
        };
    }
    if !args.limit.is_empty() {
        let limits: Map<_, _> = args.limit.iter().map(|(name, amount)| (name.clone(), json!(amount))).collect();
        spec.insert("resources".into(), json!({"limits": limits}));
    }
    spec.extend(args.retries.map(|n| ("backoffLimit".to_owned(), json!(n))));
    let seconds = |d: &crate::api::GoDuration| json!(d.0.as_millis().div_ceil(1000).max(1));
    spec.extend(args.timeout.iter().map(|d| ("activeDeadlineSeconds".to_owned(), seconds(d))));
    spec.extend(args.ttl.iter().map(|d| ("ttlSecondsAfterFinished".to_owned(), json!(d.0.as_secs()))));
    Ok(json!({"apiVersion": API_VERSION, "kind": "Run", "metadata": metadata(args), "spec": spec}))
}

fn metadata(args: &RunArgs) -> Value {
    let mut metadata = match (&args.name, &args.app) {
        (Some(name), _) => json!({"name": name}),
        (None, Some(app)) => json!({"generateName": format!("{}-", app.strip_prefix("app/").unwrap_or(app))}),
        (None, None) => json!({"generateName": "run-"}),
    };
    if !args.label.is_empty() {
        metadata["labels"] = args.label.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    }
    metadata
}

fn process(args: &RunArgs) -> Result<Value, CliError> {
    let mut process = Map::new();
    let line = match &args.command {
        Some(command) => {
            words::split(command).map_err(|why| CliError::usage(format!("cannot split the command: {why}")))?
        }
        None if args.words.is_empty() => {
            return Err(CliError::usage("run what?").help("name an App, or give a command by -c or behind --"));
        }
        None => CommandLine::Words(Vec::new()),
    };
    match line {
        CommandLine::Words(words) => {
            process.insert("command".into(), words.into_iter().chain(args.words.iter().cloned()).collect());
        }
        CommandLine::Script(script) => {
            process.insert("script".into(), json!(script));
            if !args.words.is_empty() {
                process.insert("args".into(), json!(args.words));
            }
        }
    }
    let workdir = args.workdir.as_ref().map(std::path::absolute).transpose();
    let workdir = workdir.map_err(|e| CliError::io("cannot make the working directory absolute", &e))?;
    process.extend(workdir.map(|dir| ("workingDir".to_owned(), json!(dir))));
    process.extend(args.user.as_ref().map(|user| ("user".to_owned(), json!(user))));
    Ok(Value::Object(process))
}

fn stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST_STDIN + 1).read_to_string(&mut text);
    read.map_err(|e| CliError::io("cannot read stdin as text", &e))?;
    if text.len() as u64 > LONGEST_STDIN {
        let why = "stdin is longer than the 256 KiB that a run is given beforehand";
        return Err(CliError::new(Exit::InvalidInput, why).help("without --detach and --retries there is no limit"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn made(words: &[&str]) -> String {
        let line = Line::try_parse_from(std::iter::once(&"run").chain(words)).expect("a good command line");
        of(&line.args).expect("a manifest").to_string().replace("\"apiVersion\":\"appm.dev/v1\",\"kind\":\"Run\",", "")
    }

    #[test]
    fn flags_become_the_run_that_a_person_would_write() {
        for (words, manifest) in [
            (
                &["-c", "make test", "--", "-j2"][..],
                r#"{"metadata":{"generateName":"run-"},"spec":{"process":{"command":["make","test","-j2"]}}}"#,
            ),
            (
                &["-c", "echo $1 | cat", "--", "hi"],
                r#"{"metadata":{"generateName":"run-"},"spec":{"process":{"script":"echo $1 | cat","args":["hi"]}}}"#,
            ),
            (
                &["backup", "-e", "A=b", "--retries", "2", "--timeout", "90s", "--limit", "memory=1Gi", "--", "--full"],
                r#"{"metadata":{"generateName":"backup-"},"spec":{"app":"backup","args":["--full"],"env":[{"name":"A","value":"b"}],"resources":{"limits":{"memory":"1Gi"}},"backoffLimit":2,"activeDeadlineSeconds":90}}"#,
            ),
            (
                &["--image", "alpine", "--name", "job", "--", "uname", "-a"],
                r#"{"metadata":{"name":"job"},"spec":{"container":{"image":"alpine","args":["uname","-a"]}}}"#,
            ),
            (
                &["-i", "-c", "wc"],
                r#"{"metadata":{"generateName":"run-"},"spec":{"process":{"command":["wc"]},"stdinOnce":true}}"#,
            ),
            (&["--", "true"], r#"{"metadata":{"generateName":"run-"},"spec":{"process":{"command":["true"]}}}"#),
        ] {
            assert_eq!(made(words), manifest);
        }
        assert!(of(&Line::try_parse_from(["run"]).expect("parsed").args).is_err());
        assert!(Line::try_parse_from(["run", "backup", "-c", "x"]).is_err());
    }
}
