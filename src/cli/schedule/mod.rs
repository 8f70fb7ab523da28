//! `appm schedule`: declares Schedules; when their times are, what is done then now, and nothing for a while.

mod add;
mod trigger;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp, Unit, tz::TimeZone};
use serde_json::json;

use super::{
    complete,
    context::{Context, served},
    cron::times,
    error::CliError,
    of_kind::{self, ListArgs, Named, Names},
    output::{self, Format, OutputArgs},
    screen::{self, Screen},
    settings::Global,
};
use crate::{
    api::{Object, Schedule, Time, time_zone},
    policy::schedule::Times,
};

/// Declare Schedules, look at their times, trigger, pause and resume them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm schedule add nightly --cron \"30 2 * * *\" -c ./backup.sh
  appm schedule next nightly -n 10 --tz UTC
  appm schedule trigger nightly
  appm schedule pause nightly        appm schedule resume nightly

`appm describe schedule NAME` tells what happened.")]
pub(super) struct ScheduleArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Add(Box<add::AddArgs>),
    /// List Schedules
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show one Schedule, or several
    Get(Named<Schedule>),
    /// Delete Schedules, and what they made
    #[command(visible_alias = "delete")]
    Rm(Names<Schedule>),
    Next(NextArgs),
    /// Do now what it does at its times, which stay as they are; of a task, print the result
    Trigger(Named<Schedule>),
    /// Start nothing until it is resumed
    Pause(Named<Schedule>),
    /// Start again at the next time; what was missed is not made up for
    Resume(Named<Schedule>),
}

/// Say when its next times are
#[derive(Args, Debug)]
struct NextArgs {
    /// The Schedule
    #[arg(add = complete::names_of::<Schedule>())]
    name: String,
    /// So many; `-n N` says the same, for a namespace that is a number write --namespace and --number
    #[arg(long, default_value_t = 5, value_name = "N")]
    number: usize,
    /// Show them as the clocks of this zone do; default: the Schedule's
    #[arg(long, visible_alias = "time-zone", value_name = "ZONE", value_parser = time_zone)]
    tz: Option<TimeZone>,
    /// After this time; default: now
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    #[command(flatten)]
    output: OutputArgs,
}

impl ScheduleArgs {
    /// Takes the number of `next NAME -n 10` out of the flag for namespaces, before anybody reads it as one.
    pub(super) fn take_number(&mut self, global: &mut Global) {
        if let Verb::Next(args) = &mut self.verb {
            args.number = super::cron::number(global).unwrap_or(args.number);
        }
    }
}

pub(super) async fn run(args: ScheduleArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    match args.verb {
        Verb::Add(args) => add::run(&args, context).await,
        Verb::Ls(args) => of_kind::ls::<Schedule>(args, context).await,
        Verb::Get(args) => of_kind::get(args, context).await,
        Verb::Rm(args) => of_kind::rm(&args, context).await,
        Verb::Next(args) => next(&args, context, screen).await,
        Verb::Trigger(args) => trigger::run(&args, context).await,
        Verb::Pause(args) => of_kind::suspend(&args, (true, "paused"), context).await,
        Verb::Resume(args) => of_kind::suspend(&args, (false, "resumed"), context).await,
    }
}

async fn next(args: &NextArgs, context: &Context, screen: &Screen) -> Result<(), CliError> {
    let object = context.get(served::<Schedule>(), context.namespace(), &args.name).await?;
    let unreadable =
        |why: String| CliError::failed(format!("the times of schedule `{}` cannot be told: {why}", args.name));
    let schedule: Object<Schedule> = serde_json::from_value(object).map_err(|e| unreadable(e.to_string()))?;
    // The zone of the server is in the status, unless the Schedule is a moment old.
    let server = schedule.status.time_zone.as_str();
    let zone = if server.is_empty() { Ok(TimeZone::system()) } else { time_zone(server) }.map_err(unreadable)?;
    let all = Times::of(&schedule.spec, &zone, schedule.uid().as_str()).map_err(unreadable)?;
    let done = schedule.status.last_schedule_time.into_iter().chain(schedule.status.since).max();
    let from = args.from.unwrap_or_else(|| done.map_or(context.now(), |done| done.0.max(context.now())));
    let next = all.upcoming(from, args.number);
    match &args.output.output {
        Format::Table | Format::Wide => {
            let shown = match &args.tz {
                Some(zone) => zone.clone(),
                None => time_zone(&all.zone).unwrap_or(TimeZone::UTC),
            };
            if schedule.spec.suspend {
                screen::remark(format_args!("schedule `{}` is paused: nothing is started at these times", args.name));
            }
            if next.is_empty() {
                screen::remark(format_args!("schedule `{}` has no more times", args.name));
            }
            if !all.jitter().is_zero() {
                screen::remark(format_args!("each starts {} later (jitter)", told(all.jitter())));
            }
            Ok(screen::print(times(&next, &shown, context.now()).render(screen, true))?)
        }
        format => {
            let next: Vec<Time> = next.into_iter().map(Time).collect();
            output::value(format, &json!({"schedule": args.name, "timeZone": all.zone, "next": next}))
        }
    }
}

/// As exactly as anybody wants to know it: seconds, or thousandths of them if it is less than ten.
fn told(jitter: SignedDuration) -> String {
    let unit = if jitter.as_secs() < 10 { Unit::Millisecond } else { Unit::Second };
    format!("{:#}", jitter.round(unit).unwrap_or(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_told_as_exactly_as_it_matters() {
        for (nanos, expected) in [(17_183_123_456_789, "4h 46m 23s"), (9_183_923_456, "9s 184ms"), (1_500, "0s")] {
            assert_eq!(told(SignedDuration::from_nanos(nanos)), expected);
        }
    }
}
