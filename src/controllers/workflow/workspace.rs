//! Where the steps of a run work: in a workspace of its own; those of a run that goes on with an earlier one in the workspace that this one left.
//!
//! A workspace is there as long as an Instance is that worked in it, whatever run that is of. Two runs that both go on do not share one.

use super::pass::Pass;
use crate::{
    api::{
        Instance, Object, RerunJobs, StoredObject, WORKFLOW_LABEL, WORKFLOW_RUN_LABEL, WORKSPACE_KEPT, WorkflowRun,
        WorkflowSpec,
    },
    runtime::Caches,
};

/// The workspace that an earlier run left, or why a run that goes on with it begins in an empty one. `None`: it does all anew, or
/// nothing of the earlier one worked in a workspace.
pub(super) fn left(
    caches: &Caches,
    run: &Object<WorkflowRun>,
    earlier: &Object<WorkflowRun>,
) -> Option<Result<String, String>> {
    let rerun = run.spec.rerun.as_ref()?;
    let goes_on = rerun.from.is_some() || rerun.jobs == RerunJobs::Failed;
    if !goes_on || !run.spec.template.as_deref().is_some_and(works_in_files) {
        return None;
    }
    let (name, known) = (earlier.workspace(), &earlier.metadata.name);
    if earlier.spec.identity != run.spec.identity {
        let (theirs, own) = (&earlier.spec.identity, &run.spec.identity);
        return Some(Err(format!("that of `{known}` is `{theirs}`'s, and this run acts as `{own}`")));
    }
    let labelled = |object: &StoredObject, label: &str, value: &str| {
        *object.key.namespace == *run.metadata.namespace && object.meta().labels.get(label) == Some(value)
    };
    let instances = caches.kind::<Instance>().list();
    let worked = instances.iter().filter(|object| labelled(object, WORKFLOW_RUN_LABEL, known));
    let worked = worked.filter(|object| !object.meta().is_deleting());
    let mut places =
        worked.filter_map(|object| Some(object.typed::<Instance>()?.spec.step.as_ref()?.workspace.clone()));
    if !places.any(|place| place == name) {
        return Some(Err(format!("that of `{known}` went with its steps")));
    }
    let runs = caches.kind::<WorkflowRun>().list();
    let same = runs.iter().filter(|other| labelled(other, WORKFLOW_LABEL, &run.spec.workflow));
    let same = same.filter_map(|other| other.typed::<WorkflowRun>()).filter(|other| other.uid() != run.uid());
    let begun = |other: &Object<WorkflowRun>| other.status.start_time.is_some() && !other.status.is_over();
    let other = same.filter(|other| begun(other) && other.workspace() == name).map(|other| other.metadata.name.clone());
    Some(match other.min() {
        Some(other) => Err(format!("`{other}` works in that of `{known}`")),
        None => Ok(name.to_owned()),
    })
}

/// Whether a step of it has a workspace at all.
fn works_in_files(template: &WorkflowSpec) -> bool {
    let steps = template.jobs.values().flat_map(|job| job.steps.iter().chain(&job.finally));
    steps.into_iter().any(|step| step.workflow.is_none() && step.message.is_none())
}

impl Pass<'_> {
    /// Settles where the steps work, and says so before the first begins.
    pub(super) fn enter_workspace(&mut self) {
        match &self.observed.workspace {
            None => {}
            Some(Ok(name)) => {
                self.status.workspace.clone_from(name);
                self.say(WORKSPACE_KEPT, true, "Kept", String::new());
            }
            Some(Err(why)) => {
                self.say(WORKSPACE_KEPT, false, "Empty", format!("it begins in an empty workspace: {why}"))
            }
        }
    }

    /// The workspace, by name.
    pub(super) fn workspace(&self) -> &str {
        match self.status.workspace.as_str() {
            "" => self.run.uid().as_str(),
            of_another => of_another,
        }
    }
}
