//! The Run that the flags of `appm run` ask for: only what they say, so that defaults stay the server's.

use std::{fs, io::Read, path::Path};

use serde_json::{Value, json};

use crate::api::API_VERSION;

use super::{
    super::error::{CliError, Exit},
    RunArgs,
};

/// As much as a Run holds.
const LONGEST_STDIN: u64 = 256 << 10;

pub(super) fn of(args: &RunArgs) -> Result<Value, CliError> {
    if args.tty {
        let why = "a run has no terminal in which you could type";
        return Err(CliError::usage(why).help("leave -t out; -i gives it what comes in on stdin, line by line"));
    }
    if args.stdin && args.what.is_contained() && !args.feeds() {
        let why = "what runs in a container is given its input while you wait";
        return Err(CliError::usage(why).help("leave --detach and --retries out, or -i"));
    }
    let mut spec = args.what.spec(args.app.as_deref())?;
    if args.stdin {
        match args.feeds() {
            true => spec.insert("stdinOnce".into(), json!(true)),
            false => spec.insert("stdin".into(), json!(stdin()?)),
        };
    }
    if let Some(text) = &args.metadata {
        let text = match text.strip_prefix('@') {
            Some(file) => from_file(Path::new(file))?,
            None => text.clone(),
        };
        spec.insert("stdin".into(), json!(text));
    }
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

fn stdin() -> Result<String, CliError> {
    let mut text = String::new();
    let read = std::io::stdin().take(LONGEST_STDIN + 1).read_to_string(&mut text);
    read.map_err(|e| CliError::io("cannot read stdin as text", &e))?;
    bounded(text, "stdin")
}

fn from_file(path: &Path) -> Result<String, CliError> {
    let cannot = |e| CliError::io(&format!("cannot read {}", path.display()), &e);
    let mut text = String::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(LONGEST_STDIN + 1).read_to_string(&mut text).map_err(cannot)?;
    bounded(text, &path.display().to_string())
}

fn bounded(text: String, of: &str) -> Result<String, CliError> {
    if text.len() as u64 > LONGEST_STDIN {
        let why = format!("{of} is longer than the 256 KiB that a run is given beforehand");
        return Err(CliError::new(Exit::InvalidInput, why).help("-i without --detach and --retries has no limit"));
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
        of(&line.args.meant())
            .expect("a manifest")
            .to_string()
            .replace("\"apiVersion\":\"appm.dev/v1\",\"kind\":\"Run\",", "")
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
            (
                &["-i", "--image", "alpine", "-c", "wc"],
                r#"{"metadata":{"generateName":"run-"},"spec":{"container":{"image":"alpine","command":["wc"]},"stdinOnce":true}}"#,
            ),
            (
                &["--image", "alpine", "-c", "echo $1 | cat", "--", "hi"],
                r#"{"metadata":{"generateName":"run-"},"spec":{"container":{"image":"alpine","command":["/bin/sh","-c","echo $1 | cat"],"args":["sh","hi"]}}}"#,
            ),
            (
                &["-c", "cat", "-a", "job", "-m", "words", "-T", "9"],
                r#"{"metadata":{"name":"job"},"spec":{"process":{"command":["cat"]},"activeDeadlineSeconds":9,"stdin":"words"}}"#,
            ),
            (&["-a", "web"], r#"{"metadata":{"generateName":"web-"},"spec":{"app":"web"}}"#),
            (&["--", "true"], r#"{"metadata":{"generateName":"run-"},"spec":{"process":{"command":["true"]}}}"#),
        ] {
            assert_eq!(made(words), manifest);
        }
        let refused = |words: &[&str]| of(&Line::try_parse_from(words).expect("parsed").args).is_err();
        assert!(refused(&["run"]));
        // Before anything starts.
        assert!(
            refused(&["run", "-d", "-i", "--image", "alpine", "-c", "cat"]) && refused(&["run", "-it", "-c", "bash"])
        );
        assert!(Line::try_parse_from(["run", "backup", "-c", "x"]).is_err());
    }
}
