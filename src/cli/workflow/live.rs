//! A run that is followed: on a terminal its tree, drawn again when something changes and each second; elsewhere a line for each step that ends.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use serde_json::Value;

use super::{
    logs::log_lines,
    runs::{job_line, step_line},
    tree::Tree,
};
use crate::api::{
    Condition, WORKSPACE_KEPT, WorkState, WorkflowRun, WorkflowRunSpec, WorkflowRunStatus, workflow_run_word,
};

use super::super::{
    canvas::Canvas,
    context::{Context, Selection, Where, name_of, served},
    error::{CliError, Exit},
    follow,
    screen::{self, Screen},
};

/// The longest between a change and its picture.
const FRAME: Duration = Duration::from_millis(100);
/// So many lines of the log of a step that failed are shown; more would bury what they are to explain.
const LONGEST_LOG: usize = 1000;

/// What is shown so far.
struct Show<'a> {
    context: &'a Context,
    screen: &'a Screen,
    canvas: Canvas,
    name: String,
    /// The output of steps that failed, by the name of their Runs.
    logs: BTreeMap<String, Vec<String>>,
    /// How many steps of each job were told of; where there is no terminal.
    told: BTreeMap<String, usize>,
    /// It was said that the workspace is empty; where there is no terminal.
    warned: bool,
}

/// Follows a run to its end. Of steps that failed the output is shown.
pub(super) async fn attend(context: &Context, screen: &Screen, made: &Value) -> Result<WorkflowRunStatus, CliError> {
    let name = name_of(made);
    let only = Selection::by_fields(format!("metadata.name={name}"));
    let place = Where::Namespace(context.namespace());
    let changes =
        follow::changes(context, served::<WorkflowRun>(), place, only, follow::Start::of(made), "application/json");
    futures::pin_mut!(changes);
    let canvas = Canvas::new();
    let mut show = Show { context, screen, canvas, name, logs: BTreeMap::new(), told: BTreeMap::new(), warned: false };
    let mut frame = tokio::time::interval(FRAME);
    frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut run, mut stale, mut second) = (made.clone(), true, 0);
    loop {
        tokio::select! {
            change = changes.next() => {
                let Some(change) = change else {
                    show.canvas.wipe()?;
                    return Err(CliError::failed("the server ended the watch"));
                };
                let (change, now) = change.inspect_err(|_| drop(show.canvas.wipe()))?;
                if change == "DELETED" {
                    show.canvas.wipe()?;
                    return Err(CliError::new(Exit::NotFound, format!("the run `{}` was deleted meanwhile", show.name)));
                }
                (run, stale) = (now, true);
                let Some(status) = status_of(&run) else { continue };
                show.read_logs(&status).await;
                if !show.canvas.is_terminal() {
                    show.tell(&status)?;
                }
                if status.is_over() {
                    show.end(&run, &status)?;
                    return Ok(status);
                }
            }
            _ = frame.tick(), if show.canvas.is_terminal() => {
                let now = context.now().as_second();
                if std::mem::take(&mut stale) || now != second {
                    second = now;
                    show.paint(&run)?;
                }
            }
        }
    }
}

fn status_of(run: &Value) -> Option<WorkflowRunStatus> {
    serde_json::from_value(run["status"].clone()).ok()
}

impl Show<'_> {
    fn tree<T>(&self, run: &Value, status: &WorkflowRunStatus, draw: impl FnOnce(&Tree<'_>) -> T) -> T {
        let spec = serde_json::from_value::<WorkflowRunSpec>(run["spec"].clone()).unwrap_or_default();
        let word = workflow_run_word(run);
        let (logs, now) = (&self.logs, self.context.now());
        draw(&Tree { name: &self.name, word: &word, spec: spec.template.as_deref(), status, logs, now })
    }

    fn paint(&mut self, run: &Value) -> Result<(), CliError> {
        let status = status_of(run).unwrap_or_default();
        // It may have been made wider or narrower.
        let screen = Screen { width: Canvas::width(), ..self.screen.clone() };
        let picture = self.tree(run, &status, |tree| tree.picture(&screen, Canvas::height()));
        Ok(self.canvas.paint(&picture)?)
    }

    /// The whole tree, to stay.
    fn end(&mut self, run: &Value, status: &WorkflowRunStatus) -> Result<(), CliError> {
        if !self.canvas.is_terminal() {
            return Ok(());
        }
        self.canvas.wipe()?;
        let screen = Screen { width: None, ..self.screen.clone() };
        for line in self.tree(run, status, |tree| tree.lines(&screen)) {
            screen::line(line)?;
        }
        Ok(())
    }

    async fn read_logs(&mut self, status: &WorkflowRunStatus) {
        let steps = status.jobs.values().flat_map(|cell| &cell.steps);
        let failed = steps.filter(|step| step.state == WorkState::Failure && !step.run.is_empty());
        for step in failed {
            if !self.logs.contains_key(&step.run) {
                self.logs.insert(step.run.clone(), log_lines(self.context, &step.run, Some(LONGEST_LOG)).await);
            }
        }
    }

    /// A line for each step that has ended since.
    fn tell(&mut self, status: &WorkflowRunStatus) -> Result<(), CliError> {
        let now = self.context.now();
        if let Some(anew) = Condition::find(&status.conditions, WORKSPACE_KEPT).filter(|kept| !kept.message.is_empty())
            && !std::mem::replace(&mut self.warned, true)
        {
            screen::line(screen::harmless(&anew.message))?;
        }
        for (job, cell) in &status.jobs {
            let known = self.told.entry(job.clone()).or_default();
            for step in cell.steps.iter().skip(*known).take_while(|step| step.state.is_over()) {
                *known += 1;
                screen::line(step_line(self.screen, job, step, now))?;
                let log = self.logs.get(&step.run).filter(|_| step.state == WorkState::Failure);
                for line in log.into_iter().flatten() {
                    screen::line(format_args!("    {}", screen::harmless(line)))?;
                }
            }
            if cell.state.is_over() && cell.steps.is_empty() && *known == 0 {
                *known = usize::MAX;
                screen::line(job_line(self.screen, job, cell, now))?;
            }
        }
        Ok(())
    }
}
