//! Schedules that start a program of their own, as `appm ls` shows them: with what runs of them, or ran last.

use std::collections::BTreeMap;

use super::{Row, command};
use crate::{
    api::{Instance, Kind, Object, Run, SCHEDULE_LABEL, Schedule, last_exit_word},
    cli::{
        context::{Context, Selection, Where, served},
        error::{CliError, Exit},
    },
};

/// A row for each. Whoever may not list Schedules is shown none.
pub(super) async fn rows(context: &Context, place: Where<'_>, selector: &str) -> Result<Vec<Row>, CliError> {
    let mut schedules = match context.typed::<Schedule>(place, &Selection::by_labels(selector)).await {
        Err(error) if error.exit == Exit::NotAllowed => Vec::new(),
        listed => listed?,
    };
    schedules.retain(|schedule| program(schedule).is_some());
    if schedules.is_empty() {
        return Ok(Vec::new());
    }
    let runs = context.typed::<Run>(place, &Selection::by_labels(SCHEDULE_LABEL)).await?;
    let mut of_schedule: BTreeMap<(&str, &str), Vec<&Object<Run>>> = BTreeMap::new();
    for run in &runs {
        let schedule = run.metadata.labels.get(SCHEDULE_LABEL).unwrap_or_default();
        of_schedule.entry((run.metadata.namespace.as_str(), schedule)).or_default().push(run);
    }
    let mut rows = Vec::with_capacity(schedules.len());
    for schedule in &schedules {
        let key = (schedule.metadata.namespace.as_str(), schedule.metadata.name.as_str());
        rows.push(row(context, schedule, &of_schedule.remove(&key).unwrap_or_default()).await?);
    }
    Ok(rows)
}

/// The command of what it starts itself; `None` where that is an App, a Workflow or a task.
fn program(schedule: &Object<Schedule>) -> Option<String> {
    let run = schedule.spec.run.as_ref()?;
    let (process, container) = (run.process.as_ref(), run.container.as_ref());
    (process.is_some() || container.is_some()).then(|| command(process, container))
}

async fn row(context: &Context, schedule: &Object<Schedule>, runs: &[&Object<Run>]) -> Result<Row, CliError> {
    let mut row = Row {
        kind: Schedule::INFO.kind,
        enabled: !schedule.spec.suspend,
        command: program(schedule).unwrap_or_default(),
        starts: u32::try_from(runs.len()).unwrap_or(u32::MAX),
        ..Row::of(context, &schedule.metadata)
    };
    let newest = |run: &&&Object<Run>| (run.metadata.creation_timestamp, run.metadata.name.clone());
    let ended = runs.iter().filter(|run| run.status.exit.is_some()).max_by_key(newest);
    if let Some(exit) = ended.and_then(|run| run.status.exit.as_ref()) {
        row.last_return = last_exit_word(&serde_json::to_value(exit).unwrap_or_default());
    }
    let Some(last) = runs.iter().max_by_key(newest) else { return Ok(row) };
    row.run = Some(last.metadata.name.clone());
    if last.status.instance.is_empty() {
        return Ok(row);
    }
    match context.get(served::<Instance>(), &last.metadata.namespace, &last.status.instance).await {
        Ok(instance) => {
            if let Ok(instance) = serde_json::from_value::<Object<Instance>>(instance) {
                row.runs(context, &instance);
            }
        }
        // It went while it was looked for.
        Err(error) if error.exit == Exit::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(row)
}
