//! The log of a server that runs in this process: where it goes, in which form, and how much of it while it runs.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use clap::{Args, ValueEnum};
use serde_json::Value;
use tracing_subscriber::{
    EnvFilter,
    filter::{Directive, LevelFilter},
    fmt::MakeWriter,
    reload::{self, Handle},
};

use crate::{
    client::http::{Request, query_string},
    daemon::Verbosity,
};

use super::{
    context::Context,
    error::CliError,
    screen,
    settings::{self, Global},
};

/// Form of the server's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Show or change how much a running server logs
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm server log-level                          info
  appm server log-level debug                    more, at once
  appm server log-level info,appm_edges=trace    more of one part
  appm server log-level info                     as before

It holds until it is changed again or the server ends; the next one begins with APPM_LOG.")]
pub(super) struct LevelArgs {
    /// error, warn, info, debug, trace, or directives; nothing: how much it is now
    #[arg(value_name = "LEVEL")]
    level: Option<String>,
}

pub(super) async fn level(args: &LevelArgs, global: &Global) -> Result<(), CliError> {
    let context = Context::new(global)?;
    let request = match &args.level {
        None => Request::get("/log-level"),
        Some(level) => Request::post(format!("/log-level{}", query_string(&[("level", level.clone())])), &Value::Null),
    };
    let answer = context.call(request).await?.json()?;
    Ok(screen::line(answer["level"].as_str().unwrap_or_default())?)
}

/// Of the protocols beneath appm, each frame is a line of `debug`: they are logged where somebody asks for them by name.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,rustls=info,sqlx=info";

/// The filter that directives make. More of bollard is what an engine says of containers, whole: the values of Secrets in their
/// environment too.
fn quieted(directives: &str) -> (String, Directive) {
    (format!("{QUIET},{directives}"), "bollard=info".parse().expect("a directive"))
}

/// What is logged, by directives.
fn filter(directives: &str) -> Result<EnvFilter, String> {
    let refused = |part: &str| {
        format!(
            "`{part}` is no log level: it is error, warn, info, debug, trace, off, or `part=level` with commas between"
        )
    };
    // A word alone would be a part of the program, of which everything is logged.
    let is_level = |part: &&str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
    if let Some(part) = directives.split(',').find(|part| !is_level(part)) {
        return Err(refused(part));
    }
    let (all, secret) = quieted(directives);
    let filter = EnvFilter::builder().parse(all).map_err(|_| refused(directives))?;
    Ok(filter.add_directive(secret))
}

/// What is logged at the start.
fn first() -> String {
    settings::environment("APPM_LOG").unwrap_or_else(|| "info".to_owned())
}

/// The same as a filter: what of it can be understood.
fn first_filter() -> EnvFilter {
    let (all, secret) = quieted(&first());
    EnvFilter::new(all).add_directive(secret)
}

/// A log on the standard error output.
pub(super) fn to_stderr(format: LogFormat) -> Verbosity {
    begin(format, io::stderr)
}

/// The log of a server that shares its terminal with a picture.
pub(super) fn to_file(data_dir: &Path) -> Result<(PathBuf, Verbosity), CliError> {
    let path = data_dir.join("server.log");
    let opened =
        std::fs::create_dir_all(data_dir).and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
    let file = opened.map_err(|e| CliError::io(&format!("cannot write {}", path.display()), &e))?;
    Ok((path, begin(LogFormat::Text, Mutex::new(file))))
}

fn begin<W>(format: LogFormat, to: W) -> Verbosity
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    for<'w> <W as MakeWriter<'w>>::Writer: Write,
{
    let builder = tracing_subscriber::fmt().with_env_filter(first_filter()).with_writer(to).with_ansi(false);
    // A second subscriber in one process is a test's affair.
    match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let verbosity = verbosity(builder.reload_handle());
            let _ = builder.try_init();
            verbosity
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let verbosity = verbosity(builder.reload_handle());
            let _ = builder.try_init();
            verbosity
        }
    }
}

fn verbosity<S: 'static>(handle: Handle<EnvFilter, S>) -> Verbosity {
    Verbosity::new(&first(), move |directives| {
        let filter = filter(directives)?;
        handle.reload(filter).map_err(|error: reload::Error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_refused_in_words() {
        for good in ["debug", "info,appm_edges=trace", "warn"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["loud", "info,appm_edges=loud"] {
            assert!(filter(bad).is_err_and(|why| why.contains("no log level")), "{bad}");
        }
        assert!(filter("trace").is_ok_and(|filter| filter.to_string().contains("bollard=info")));
    }

    #[test]
    fn a_protocol_speaks_up_only_when_it_is_named() {
        let shown = |directives: &str| filter(directives).expect("directives").to_string();
        assert!(shown("debug").contains("h2=info"));
        assert!(shown("info,h2=debug").contains("h2=debug") && !shown("info,h2=debug").contains("h2=info"));
    }
}
