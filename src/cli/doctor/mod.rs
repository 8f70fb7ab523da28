//! `appm doctor`: looks at everything that appm stands on, and says what is wrong and which command mends it.
//!
//! `look` reads the world into plain facts; `judge` turns facts into findings and touches nothing. No server is needed, nor root,
//! and nothing is changed.

mod judge;
mod look;

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::{Value, json};

use super::{
    context::Context,
    error::{CliError, Exit},
    output::{self, Format, OutputArgs},
    screen,
};
use judge::{Finding, Verdict};

/// Check the data directory, the server, certificates, clock, ports, limits, cgroups and engines
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm doctor
  appm doctor --data-dir /srv/appm
  appm doctor --deep                 reads all that is stored: database, objects, logs, audit log, artifacts
  appm doctor -o json

Every line is ok, a warning or a problem, with the command that mends it. The exit code is 1 if there is a problem.")]
pub(super) struct DoctorArgs {
    /// Read everything that is stored, too; a server may run meanwhile
    #[arg(long)]
    deep: bool,
    /// Where the sealing key is, if it is not in the data directory
    #[arg(long, value_name = "FILE", env = "APPM_SEAL_KEY_FILE", hide_env_values = true, requires = "deep", value_hint = ValueHint::FilePath)]
    seal_key_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: DoctorArgs, context: &Context) -> Result<(), CliError> {
    let findings = examine(&args, context).await;
    let problems = findings.iter().filter(|f| f.verdict == Verdict::Problem).count();
    match &args.output.output {
        format @ (Format::Json | Format::Yaml) => {
            output::value(format, &findings.iter().map(as_json).collect::<Value>())?;
        }
        _ => {
            for finding in &findings {
                screen::print(line(context, finding))?;
            }
            let warnings = findings.iter().filter(|f| f.verdict == Verdict::Warning).count();
            screen::line(format_args!("problems: {problems}, warnings: {warnings}, checks: {}", findings.len()))?;
        }
    }
    if problems > 0 { Err(CliError::silent(Exit::Failed)) } else { Ok(()) }
}

/// Every check, in the order in which one thing stands on another.
async fn examine(args: &DoctorArgs, context: &Context) -> Vec<Finding> {
    let folder = context.global.data_dir();
    let now = context.now();
    let server = look::server(context).await;
    let listen = look::listen_address();
    let mut findings = Vec::new();
    findings.extend(judge::directory(&look::directory(&folder)));
    findings.push(judge::lock(&look::lock(&folder), &server));
    findings.push(judge::server(&server, env!("CARGO_PKG_VERSION")));
    findings.push(judge::keeper(&look::keeper(&folder)));
    findings.push(judge::database(&look::database(&folder, server.is_there()).await));
    if args.deep && folder.join("appm.db").exists() {
        findings.extend(judge::depth(&look::depth(&folder, args.seal_key_file.as_deref()).await));
    }
    findings.push(judge::kubeconfig(&look::kubeconfig(&folder).await, server.is_there()));
    findings.push(judge::certificate(&look::certificate(&folder), now));
    findings.push(judge::clock(&look::clock(&folder), now));
    findings.push(judge::port(listen, look::port(listen), server.is_there()));
    findings.push(judge::files(look::files()));
    findings.push(judge::processes(&look::processes()));
    findings.push(judge::cgroups(&look::cgroups()));
    findings.push(judge::engines(&look::engines().await));
    findings
}

fn line(context: &Context, finding: &Finding) -> String {
    let (word, style) = match finding.verdict {
        Verdict::Ok => ("ok", screen::GOOD),
        Verdict::Warning => ("warning", screen::WARN),
        Verdict::Problem => ("problem", screen::BAD),
    };
    let mut text = format!(
        "{}{} {}: {}\n",
        context.screen.paint(style, word),
        " ".repeat(7 - word.len()),
        context.screen.paint(screen::BOLD, finding.check),
        screen::harmless(&finding.message)
    );
    if let Some(mend) = &finding.mend {
        text += &format!("        {} {mend}\n", context.screen.paint(screen::DIM, "mend:"));
    }
    text
}

fn as_json(finding: &Finding) -> Value {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Problem => "problem",
    };
    json!({"check": finding.check, "verdict": verdict, "message": finding.message, "mend": finding.mend})
}
