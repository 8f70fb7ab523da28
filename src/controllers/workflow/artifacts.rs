//! Steps that keep files with the run, and fetch them again.
//!
//! Such a step is a Run like any other, whose process does nothing: at its end the agent keeps or fetches, and tells that together with
//! the exit. Which name stands for which archive is decided here, where the results of all steps come one after the other.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    pass::{Cell, Pass},
    scope::Here,
    steps::Outcome,
};
use crate::{
    api::{
        ArtifactStatus, FetchedArtifact, JobStatus, KeptFiles, Object, Run, Time, WorkState, WorkflowRun, WorkflowStep,
    },
    policy::{
        artifacts::matches_name,
        workflow::uses::{Action, Download, Upload, Which, Wrong},
    },
};

/// Artifacts of a run.
const MOST: usize = 500;

/// Writes what is to be done into the `step` of the Run of such a step.
///
/// # Errors
/// What of `with` cannot be done.
pub(super) fn of_step(
    pass: &Pass<'_>,
    here: &Here<'_>,
    step: &WorkflowStep,
    uses: &str,
    of_run: &mut Value,
) -> Result<(), String> {
    let with: BTreeMap<String, Value> = step
        .with
        .iter()
        .map(|(field, value)| Ok((field.clone(), here.json(value).map_err(|why| format!("with.{field}: {why}"))?)))
        .collect::<Result<_, String>>()?;
    let wrong = |(field, why): Wrong| field.map_or_else(|| why.clone(), |field| format!("with.{field}: {why}"));
    match Action::parse(uses)? {
        Action::Upload => {
            let Upload { name, path, absent, hidden, overwrite, days } = Upload::read(&with).map_err(wrong)?;
            let (if_no_files_found, include_hidden_files, retention_days) = (absent, hidden, days);
            let kept = KeptFiles { name, path, if_no_files_found, include_hidden_files, overwrite, retention_days };
            of_run["keep"] = json!(kept);
        }
        Action::Download => of_run["fetch"] = json!(fetched(pass, Download::read(&with).map_err(wrong)?)?),
    }
    Ok(())
}

fn fetched(pass: &Pass<'_>, wanted: Download) -> Result<Vec<FetchedArtifact>, String> {
    let expired = |artifact: &ArtifactStatus| artifact.expiration_time.is_some_and(|at| at.0 <= pass.now);
    let all = &pass.status.artifacts;
    let path = wanted.path.split('/').filter(|step| !matches!(*step, "" | ".")).collect::<Vec<_>>().join("/");
    match wanted.which {
        Which::Named(name) => {
            let Some(found) = all.get(&name).filter(|artifact| !expired(artifact)) else {
                let known: Vec<String> = all.keys().map(|name| format!("`{name}`")).collect();
                let there = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(format!("there is no artifact `{name}`; there is {there}"));
            };
            Ok(vec![FetchedArtifact { file: found.file.clone(), directory: path }])
        }
        Which::Like(pattern) => {
            let found = all.iter().filter(|(name, artifact)| matches_name(&pattern, name) && !expired(artifact));
            let directory = |name: &str| match (wanted.merge, path.is_empty()) {
                (true, _) => path.clone(),
                (false, true) => name.to_owned(),
                (false, false) => format!("{path}/{name}"),
            };
            Ok(found
                .map(|(name, kept)| FetchedArtifact { file: kept.file.clone(), directory: directory(name) })
                .collect())
        }
    }
}

impl Pass<'_> {
    /// Notes what a step has kept; its outcome, if the name is taken.
    pub(super) fn note_artifact(&mut self, of: Cell<'_>, run: &Object<Run>, step: &str, outcome: Outcome) -> Outcome {
        let wanted = run.spec.step.as_ref().and_then(|step| step.keep.as_ref());
        let kept = run.status.result.as_ref().and_then(|result| result.artifact.as_ref());
        let (Some(wanted), Some(kept)) = (wanted, kept) else { return outcome };
        if outcome.state != WorkState::Success {
            return outcome;
        }
        let known = &self.status.artifacts;
        match known.get(&wanted.name) {
            Some(other) if !wanted.overwrite => {
                let (name, job, step) = (&wanted.name, &other.job, &other.step);
                let message = format!(
                    "the step `{step}` of the job `{job}` has kept an artifact `{name}`; give this one another name, or say \
                     `overwrite: true`"
                );
                return Outcome::failure("Duplicate", message, outcome.at);
            }
            None if known.len() >= MOST => {
                return Outcome::failure("TooMany", format!("a run has at most {MOST} artifacts"), outcome.at);
            }
            _ => {}
        }
        let days = wanted.retention_days.map(|days| SignedDuration::from_hours(24 * i64::from(days)));
        let until = days.and_then(|days| outcome.at.checked_add(days).ok());
        let artifact = ArtifactStatus {
            job: of.name.to_owned(),
            step: step.to_owned(),
            time: Some(Time(outcome.at)),
            expiration_time: until.map(Time),
            files: kept.files,
            size: kept.size,
            digest: kept.digest.clone(),
            file: kept.file.clone(),
        };
        self.status.artifacts.insert(wanted.name.clone(), artifact);
        outcome
    }
}

/// The artifacts of an earlier run whose steps are not done again.
pub(super) fn carried(
    jobs: &BTreeMap<String, JobStatus>,
    earlier: Option<&Object<WorkflowRun>>,
) -> BTreeMap<String, ArtifactStatus> {
    let stays = |kept: &ArtifactStatus| {
        jobs.get(&kept.job).is_some_and(|cell| cell.steps.iter().any(|step| step.id == kept.step))
    };
    let all = earlier.into_iter().flat_map(|earlier| &earlier.status.artifacts);
    all.filter(|(_, kept)| stays(kept)).map(|(name, kept)| (name.clone(), kept.clone())).collect()
}
