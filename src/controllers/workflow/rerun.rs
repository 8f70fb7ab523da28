//! A run that is done again: what of the earlier one stays what it was.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{JobStatus, Object, Rerun, RerunJobs, WorkState, WorkflowRun, WorkflowSpec, step_by_number};

/// The jobs, cells and steps that are not done again, with their results.
///
/// # Errors
/// If the earlier run is gone, or had no such job or step.
pub(super) fn carried(
    rerun: &Rerun,
    template: &WorkflowSpec,
    earlier: Option<&Object<WorkflowRun>>,
) -> Result<BTreeMap<String, JobStatus>, String> {
    if rerun.from.is_none() && rerun.jobs == RerunJobs::All {
        return Ok(BTreeMap::new());
    }
    let earlier = earlier.ok_or_else(|| format!("the run `{}` is gone", rerun.of))?;
    let before = &earlier.status.jobs;
    let key = |name: &str, cell: &JobStatus| if cell.job.is_empty() { name.to_owned() } else { cell.job.clone() };
    let from = match &rerun.from {
        None => None,
        Some(from) => {
            let cell = before.get(&from.job).ok_or_else(|| format!("it had no job `{}`", from.job))?;
            Some((from, cell))
        }
    };
    let first: BTreeSet<String> = match from {
        Some((from, cell)) => BTreeSet::from([key(&from.job, cell)]),
        None => {
            let bad = |cell: &JobStatus| {
                let state = cell.conclusion.unwrap_or(cell.state);
                !matches!(state, WorkState::Success | WorkState::Skipped)
            };
            let known: BTreeSet<String> = before.iter().map(|(name, cell)| key(name, cell)).collect();
            let never = template.jobs.keys().filter(|job| !known.contains(*job)).cloned();
            before.iter().filter(|(_, cell)| bad(cell)).map(|(name, cell)| key(name, cell)).chain(never).collect()
        }
    };
    let again = with_dependents(template, &first);
    let mut jobs = BTreeMap::new();
    for (name, cell) in before {
        let of = key(name, cell);
        if !again.contains(&of) {
            jobs.insert(name.clone(), cell.clone());
        } else if first.contains(&of) && !cell.job.is_empty() {
            // The cells stay the same, and those that succeeded stay as they are.
            let done = from.is_none() && cell.state == WorkState::Success;
            let kept = if done { cell.clone() } else { fresh(cell) };
            jobs.insert(name.clone(), kept);
        }
    }
    if let Some((from, cell)) = from
        && let Some(wanted) = &from.step
    {
        let of = key(&from.job, cell);
        let steps = template.jobs.get(&of).map_or(&[][..], |job| &job.steps);
        let id = |(at, step): (usize, &crate::api::WorkflowStep)| {
            step.identity().map_or_else(|| step_by_number(at + 1), str::to_owned)
        };
        let at = steps.iter().enumerate().map(id).position(|id| id == *wanted);
        let at = at.ok_or_else(|| format!("the job `{of}` has no step `{wanted}`"))?;
        if cell.steps.len() < at {
            return Err(format!("the run `{}` did not come as far as the step `{wanted}`", rerun.of));
        }
        jobs.insert(from.job.clone(), JobStatus { steps: cell.steps[..at].to_vec(), ..fresh(cell) });
    }
    Ok(jobs)
}

fn fresh(cell: &JobStatus) -> JobStatus {
    JobStatus { job: cell.job.clone(), matrix: cell.matrix.clone(), ..JobStatus::default() }
}

fn with_dependents(template: &WorkflowSpec, first: &BTreeSet<String>) -> BTreeSet<String> {
    let mut dependents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, job) in &template.jobs {
        job.needs.iter().for_each(|need| dependents.entry(need).or_default().push(key));
    }
    let mut all = first.clone();
    let mut look: Vec<String> = first.iter().cloned().collect();
    while let Some(key) = look.pop() {
        for next in dependents.get(key.as_str()).into_iter().flatten() {
            if all.insert((*next).to_owned()) {
                look.push((*next).to_owned());
            }
        }
    }
    all
}
