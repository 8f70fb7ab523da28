//! A WorkflowRun as a tree of jobs and steps: what passed is one line, what goes on shows its steps, of what failed the output is below it.
//! A function of the run alone; who draws it again and again is `live`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    super::{
        ages::span,
        screen::{self, Screen},
    },
    graph::cells_in_order,
};
use crate::api::{Condition, JobStatus, StepStatus, Time, WORKSPACE_KEPT, WorkState, WorkflowRunStatus, WorkflowSpec};

/// What is drawn.
pub(super) struct Tree<'a> {
    /// The run's name.
    pub(super) name: &'a str,
    /// How it goes, in a word.
    pub(super) word: &'a str,
    /// What is run.
    pub(super) spec: Option<&'a WorkflowSpec>,
    /// How it goes.
    pub(super) status: &'a WorkflowRunStatus,
    /// The output of steps that failed, in lines, by the name of their Runs.
    pub(super) logs: &'a BTreeMap<String, Vec<String>>,
    /// Now.
    pub(super) now: Timestamp,
}

/// A line of the picture.
struct Row {
    rank: Rank,
    indent: &'static str,
    mark: Option<WorkState>,
    text: String,
    /// Said more quietly behind it.
    remark: String,
}

/// What is left out first where there is no room is at the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Head,
    Running,
    Failed,
    Log,
    Waiting,
    Done,
}

impl Row {
    fn shown(&self, screen: &Screen) -> String {
        let (text, remark) = (screen::harmless(&self.text), screen::harmless(&self.remark));
        // So that no line is wrapped: whoever draws it again counts lines.
        let mut room = screen.width.map_or(usize::MAX, |width| width.saturating_sub(self.indent.len() + 3));
        let mut cut = |text: String| {
            let cut: String = text.chars().take(room).collect();
            room -= cut.chars().count();
            cut
        };
        let (text, remark) = (cut(text), cut(remark));
        let mark = self.mark.map(|state| format!("{} ", mark(state, screen))).unwrap_or_default();
        format!("{}{mark}{text}{}", self.indent, screen.paint(screen::DIM, &remark))
    }
}

impl Tree<'_> {
    /// All of it.
    pub(super) fn lines(&self, screen: &Screen) -> Vec<String> {
        self.rows(usize::MAX).iter().map(|row| row.shown(screen)).collect()
    }

    /// As much of it as fits into so many lines: what runs and what failed before what waits and what is done.
    pub(super) fn picture(&self, screen: &Screen, height: usize) -> String {
        const TAIL: usize = 5;
        let mut rows = self.rows(TAIL);
        let most = height.saturating_sub(2).max(2);
        let all = rows.len();
        if all > most {
            let mut ranks: Vec<(Rank, usize)> = rows.iter().enumerate().map(|(at, row)| (row.rank, at)).collect();
            ranks.sort_unstable();
            let mut kept: Vec<usize> = ranks.into_iter().take(most - 1).map(|(_, at)| at).collect();
            kept.sort_unstable();
            let mut at = 0;
            rows.retain(|_| {
                at += 1;
                kept.binary_search(&(at - 1)).is_ok()
            });
            let text = format!("… {} more lines", all - rows.len());
            rows.push(Row { rank: Rank::Done, indent: "", mark: None, text: String::new(), remark: text });
        }
        rows.iter().map(|row| row.shown(screen) + "\n").collect()
    }

    fn rows(&self, tail: usize) -> Vec<Row> {
        let took = self.took(self.status.start_time, self.status.completion_time);
        let head = format!("{}  {}{took}", self.name, self.word);
        let mut rows = vec![Row { rank: Rank::Head, indent: "", mark: None, text: head, remark: String::new() }];
        if let Some(anew) = Condition::find(&self.status.conditions, WORKSPACE_KEPT).filter(|c| !c.message.is_empty()) {
            let (rank, remark) = (Rank::Running, format!("  {}", anew.message));
            rows.push(Row { rank, indent: "", mark: None, text: String::new(), remark });
        }
        for (name, job) in cells_in_order(self.spec, self.status) {
            match job {
                Some(job) => self.job(name, job, tail, &mut rows),
                None => rows.push(Row {
                    rank: Rank::Waiting,
                    indent: "",
                    mark: Some(WorkState::Pending),
                    text: name.to_owned(),
                    remark: self.waits(name),
                }),
            }
        }
        rows
    }

    fn waits(&self, name: &str) -> String {
        let over = |key: &str| {
            let mut cells = self.status.jobs.iter().filter(|(name, job)| *name == key || job.job == key).peekable();
            cells.peek().is_some() && cells.all(|(_, job)| job.state.is_over())
        };
        let job = self.spec.and_then(|spec| spec.jobs.get(name));
        let needs: Vec<&str> = job.into_iter().flat_map(|job| job.needs.iter()).filter(|need| !over(need)).collect();
        if needs.is_empty() { String::new() } else { format!("  waits for {}", needs.join(", ")) }
    }

    fn job(&self, name: &str, job: &JobStatus, tail: usize, rows: &mut Vec<Row>) {
        let took = self.took(job.start_time, job.completion_time);
        let text = format!("{name}{took}{}", also(job.state, job.conclusion));
        let remark = match job.state {
            WorkState::Pending => self.waits(if job.job.is_empty() { name } else { &job.job }),
            WorkState::Skipped | WorkState::Cancelled | WorkState::Failure if !job.message.is_empty() => {
                format!("  {}", job.message)
            }
            _ => String::new(),
        };
        rows.push(Row { rank: rank(job.state), indent: "", mark: Some(job.state), text, remark });
        if matches!(job.state, WorkState::Running | WorkState::Failure | WorkState::Cancelled) {
            job.steps.iter().for_each(|step| self.step(step, tail, rows));
        }
    }

    fn step(&self, step: &StepStatus, tail: usize, rows: &mut Vec<Row>) {
        let took = self.took(step.start_time, step.completion_time);
        let mut text = format!("{}{took}", step.id);
        if let Some(code) = step.exit_code.filter(|code| *code != 0) {
            text += &format!("  exit code {code}");
        }
        if step.attempts > 1 {
            text += &format!("  {} attempts", step.attempts);
        }
        if let Some(next) = step.next_attempt_time.filter(|_| !step.state.is_over()) {
            text += &format!("  again in {}", span(next.0.duration_since(self.now).as_secs()));
        }
        text += &also(step.state, step.conclusion);
        let tells = !step.message.is_empty() && step.state != WorkState::Success;
        let remark = if tells { format!("  {}", step.message) } else { String::new() };
        rows.push(Row { rank: rank(step.state), indent: "  ", mark: Some(step.state), text, remark });
        let log = self.logs.get(&step.run).filter(|_| step.state == WorkState::Failure);
        for line in log.into_iter().flat_map(|log| &log[log.len().saturating_sub(tail)..]) {
            rows.push(Row {
                rank: Rank::Log,
                indent: "    ",
                mark: None,
                text: format!("│ {line}"),
                remark: String::new(),
            });
        }
    }

    /// How long something took, or takes until now.
    fn took(&self, start: Option<Time>, end: Option<Time>) -> String {
        let end = end.map_or(self.now, |end| end.0);
        start.map(|start| format!("  {}", span(end.duration_since(start.0).as_secs()))).unwrap_or_default()
    }
}

fn rank(state: WorkState) -> Rank {
    match state {
        WorkState::Running => Rank::Running,
        WorkState::Failure | WorkState::Cancelled => Rank::Failed,
        WorkState::Pending => Rank::Waiting,
        WorkState::Success | WorkState::Skipped => Rank::Done,
    }
}

/// What the state counts as, where that differs.
fn also(state: WorkState, conclusion: Option<WorkState>) -> String {
    let counts = conclusion.filter(|conclusion| *conclusion != state);
    counts.map(|conclusion| format!("  counts as {}", conclusion.word())).unwrap_or_default()
}

/// A sign for a state.
pub(super) fn mark(state: WorkState, screen: &Screen) -> String {
    let (mark, style) = match state {
        WorkState::Pending => ("·", screen::DIM),
        WorkState::Running => ("●", screen::WARN),
        WorkState::Success => ("✓", screen::GOOD),
        WorkState::Failure => ("✗", screen::BAD),
        WorkState::Cancelled => ("⊘", screen::WARN),
        WorkState::Skipped => ("-", screen::DIM),
    };
    screen.paint(style, mark)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn release() -> (WorkflowSpec, WorkflowRunStatus, BTreeMap<String, Vec<String>>) {
        let spec = serde_json::from_value(json!({"jobs": {
            "build": {"strategy": {"matrix": {"rust": ["1.94", "1.95"]}}},
            "lint": {}, "docs": {},
            "deploy": {"needs": ["build", "lint"]},
            "tell": {"needs": "deploy"},
        }}));
        let at = |seconds: i64| format!("2026-11-21T08:00:{seconds:02}Z");
        let status = serde_json::from_value(json!({"startTime": at(0), "jobs": {
            "build (1.94)": {"job": "build", "state": "Success", "startTime": at(0), "completionTime": at(9),
                "steps": [{"id": "compile", "state": "Success"}]},
            "build (1.95)": {"job": "build", "state": "Failure", "startTime": at(0), "completionTime": at(12), "steps": [
                {"id": "compile", "state": "Success", "startTime": at(0), "completionTime": at(5)},
                {"id": "pack", "state": "Failure", "exitCode": 2, "attempts": 3, "run": "r-pack", "startTime": at(5), "completionTime": at(12)},
                {"id": "publish", "state": "Skipped", "message": "`success()` is false"}]},
            "docs": {"state": "Skipped", "message": "`inputs.docs` is false"},
            "lint": {"state": "Running", "startTime": at(10), "steps": [
                {"id": "fmt", "state": "Failure", "conclusion": "Success", "exitCode": 1, "startTime": at(10), "completionTime": at(11)},
                {"id": "clippy", "state": "Running", "attempts": 1, "startTime": at(11), "nextAttemptTime": at(40)}]},
            "deploy": {"state": "Pending"},
        }}));
        let log = ["tar: no such file", "make: *** [pack]"].map(str::to_owned).to_vec();
        (spec.expect("a spec"), status.expect("a status"), [("r-pack".to_owned(), log)].into())
    }

    #[test]
    fn what_passed_is_a_line_and_what_failed_shows_everything() {
        let (spec, status, logs) = release();
        let now = "2026-11-21T08:00:30Z".parse().expect("a time");
        let tree = Tree { name: "release-1", word: "Running", spec: Some(&spec), status: &status, logs: &logs, now };
        insta::assert_snapshot!(tree.lines(&Screen::plain()).join("\n"), @r"
        release-1  Running  30s
        ✓ build (1.94)  9s
        ✗ build (1.95)  12s
          ✓ compile  5s
          ✗ pack  7s  exit code 2  3 attempts
            │ tar: no such file
            │ make: *** [pack]
          - publish  `success()` is false
        - docs  `inputs.docs` is false
        ● lint  20s
          ✗ fmt  1s  exit code 1  counts as success
          ● clippy  19s  again in 10s
        · deploy  waits for lint
        · tell  waits for deploy
        ");
    }

    #[test]
    fn a_picture_fits_and_shows_what_runs_before_what_is_done() {
        let (spec, status, logs) = release();
        let now = "2026-11-21T08:00:30Z".parse().expect("a time");
        let tree = Tree { name: "release-1", word: "Running", spec: Some(&spec), status: &status, logs: &logs, now };
        let screen = Screen { colour: false, width: Some(30) };
        insta::assert_snapshot!(tree.picture(&screen, 9), @r"
        release-1  Running  30s
        ✗ build (1.95)  12s
          ✗ pack  7s  exit code 2  3 
        ● lint  20s
          ✗ fmt  1s  exit code 1  cou
          ● clippy  19s  again in 10s
        … 8 more lines
        ");
    }
}
