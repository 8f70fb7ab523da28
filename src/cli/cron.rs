//! `appm cron explain`: what an expression means, in words and as times, without a server.

use std::io::{self, BufRead as _};

use clap::{Args, Subcommand};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    error::{CliError, Exit},
    output::{self, Format, OutputArgs},
    screen::{self, Screen},
    settings::Global,
    table::Table,
};
use crate::{
    api::{
        Time, age,
        cron::{Cron, CronError},
        time_zone,
    },
    clock::{Clock as _, System},
};

/// Work with cron expressions; needs no server
#[derive(Args, Debug)]
pub(super) struct CronArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Explain(ExplainArgs),
}

/// Say in words what an expression means, and when it comes next
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm cron explain \"30 2 * * 1-5\"
  appm cron explain \"0 9 * * mon#1\" --tz Europe/Berlin -n 12
  appm cron explain \"30 2 * * *\" --tz Europe/Berlin --from 2026-03-28T12:00:00Z     where clocks are set
  appm cron explain - -o json < expressions                                        one a line

minute hour day-of-month month day-of-week, six fields with seconds first, or @hourly, @daily, @weekly, @monthly, @yearly.
If both days are given, either will do; one that begins with * restricts the other. L, LW, 15W, 5#2 and 5L are understood.")]
struct ExplainArgs {
    /// The expression; `-` reads one from each line of stdin
    #[arg(required = true)]
    expression: Vec<String>,
    /// By the clocks of this time zone, Europe/Berlin say; default: this machine's
    #[arg(long, visible_alias = "time-zone", value_name = "ZONE", value_parser = time_zone)]
    tz: Option<TimeZone>,
    /// So many times; `-n N` says the same
    #[arg(long, default_value_t = 5, value_name = "N")]
    number: usize,
    /// After this time; default: now
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: CronArgs, global: &mut Global) -> Result<(), CliError> {
    let Verb::Explain(args) = args.verb;
    let screen = &Screen::of_stdout(global.color);
    let machine = args.tz.is_none();
    let told = Told {
        zone: args.tz.unwrap_or_else(TimeZone::system),
        machine,
        from: args.from.unwrap_or_else(|| System.now()),
        now: System.now(),
        number: number(global).unwrap_or(args.number),
    };
    let text = args.expression.join(" ");
    match (&args.output.output, text.as_str()) {
        (Format::Table | Format::Wide, "-") => lines(|line| match line.parse::<Cron>() {
            Ok(cron) => Ok(screen::line(format_args!("{line}: {cron}"))?),
            Err(error) => Ok(screen::line(format_args!("{line}: error: {error}"))?),
        }),
        (_, "-") => lines(|line| {
            let shown = match line.parse() {
                Ok(cron) => told.value(line, &cron),
                Err(error) => json!({"expression": line, "error": CronError::to_string(&error)}),
            };
            Ok(screen::line(shown)?)
        }),
        (format, text) => {
            let cron: Cron = text.parse().map_err(|error: CronError| CliError {
                details: error.0,
                ..CliError::new(Exit::InvalidInput, format!("`{text}` is no cron expression"))
            })?;
            match format {
                Format::Table | Format::Wide => Ok(screen::print(told.text(&cron, screen))?),
                format => output::value(format, &told.value(text, &cron)),
            }
        }
    }
}

/// The number of `-n 10`: where times are asked for a number is not a namespace, whose flag this is everywhere.
pub(super) fn number(global: &mut Global) -> Option<usize> {
    global.namespace.take_if(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// Does something with each line of stdin that is not empty.
fn lines(mut each: impl FnMut(&str) -> Result<(), CliError>) -> Result<(), CliError> {
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|e| CliError::io("cannot read stdin", &e))?;
        if !line.trim().is_empty() {
            each(line.trim())?;
        }
    }
    Ok(())
}

/// What is told of an expression beside its words.
struct Told {
    zone: TimeZone,
    /// The zone is the machine's own, not one that was asked for.
    machine: bool,
    from: Timestamp,
    now: Timestamp,
    number: usize,
}

impl Told {
    fn next(&self, cron: &Cron) -> Vec<Timestamp> {
        let next = |at: &Timestamp| cron.next(&self.zone, *at);
        std::iter::successors(next(&self.from), next).take(self.number).collect()
    }

    fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    fn value(&self, text: &str, cron: &Cron) -> Value {
        let next: Vec<Time> = self.next(cron).into_iter().map(Time).collect();
        json!({"expression": text, "words": cron.to_string(), "timeZone": self.zone_name(), "next": next})
    }

    fn text(&self, cron: &Cron, screen: &Screen) -> String {
        let whose = if self.machine { ", this machine's time zone" } else { "" };
        let mut text = format!("{cron}, by the clocks of {}{whose}\n", self.zone_name());
        if self.zone.following(self.from).next().is_some() {
            text.push_str(match cron.follows_elapsed_time() {
                true => "where clocks are set: it goes on through an hour that comes twice, and leaves out one that is skipped\n",
                false => "where clocks are set: once, the first time, or right after what is skipped\n",
            });
        }
        text.push('\n');
        text.push_str(&times(&self.next(cron), &self.zone, self.now).render(screen, true));
        text
    }
}

/// Times as a zone's clocks show them, in UTC, and how far away they are.
pub(super) fn times(next: &[Timestamp], zone: &TimeZone, now: Timestamp) -> Table {
    let mut table = Table::new(["LOCAL", "UTC", "IN"]);
    for at in next {
        let local = at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string();
        let far = if *at < now { "past".to_owned() } else { age(*at, now) };
        table.add([local, Time(*at).to_string(), far]);
    }
    table
}
