//! `bench/api`: what the API does in a second, and what its objects and watchers weigh, measured from outside.
//!
//! A server of its own (release build, TLS, a real disk) is started in a temporary directory and asked by this program,
//! on the same machine: every figure is what both together make of it. Requests go over HTTP/1.1 connections that are
//! kept; watches over connections of their own, and as many streams of a few HTTP/2 connections.
//!
//! Prints a Markdown table. See `--help`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark speaks, reads the clock, and stops at the first thing that fails"
)]

mod line;
mod load;
mod memory;
mod report;
mod requests;
mod server;
mod subject;
mod watching;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use report::Report;

/// Measures the API: rates of requests, lists, watches, and memory.
#[derive(Parser)]
struct Options {
    /// The binary to measure; default: the one that cargo built beside this program.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_appm"))]
    exe: PathBuf,
    /// Where the temporary directories are made: the disk that is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Some of: requests, lists, watches, memory.
    #[arg(long, value_delimiter = ',', default_value = "requests,lists,watches,memory")]
    only: Vec<String>,
    /// How often each figure is measured.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How long each run of a rate lasts.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// How many objects a list has.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// How many watchers there are at most; they share HTTP/2 connections.
    #[arg(long, default_value_t = 10_000)]
    watchers: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    server::raise_file_limit();
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(measure(&options));
    report.print();
    ExitCode::SUCCESS
}

async fn measure(options: &Options) -> Report {
    let wants = |part: &str| options.only.iter().any(|asked| asked == part);
    let mut report = Report::default();
    if wants("requests") {
        requests::measure(options, &mut report).await;
    }
    if wants("lists") {
        requests::measure_lists(options, &mut report).await;
    }
    if wants("watches") {
        watching::measure(options, &mut report).await;
    }
    if wants("memory") {
        memory::measure(options, &mut report).await;
    }
    report
}
