//! What becomes of an App whose Instances a quota has no room for: as many are made as fit, the App says why there are no more
//! (`ReplicaFailure`, as a Deployment does), and goes on when something changes that may give room.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Observed, Plan, status};
use crate::{
    api::{App, AppStatus, Condition, ConditionStatus, Object, Status},
    policy::place::Place,
    runtime::Requeue,
};

/// The condition's type, as of a Deployment.
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Its reason, and that of the Event.
pub(super) const FAILED_CREATE: &str = "FailedCreate";
/// Room that nobody is told of (a User's limits were raised, say) is found after so long.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// How many Instances to try next, if a quota refused those of a plan.
pub(super) fn less(done: &Result<(), Status>, plan: &Plan) -> Option<usize> {
    let refused = done.as_ref().err().filter(|status| status.is_over_quota());
    let made = plan.actions.iter().filter(|action| matches!(action, Action::CreateInstance { .. })).count();
    refused.filter(|_| made > 0).map(|_| made / 2)
}

/// Whether a plan makes Instances.
pub(super) fn makes(plan: &Plan) -> bool {
    plan.actions.iter().any(|action| matches!(action, Action::CreateInstance { .. }))
}

/// The world with room for so many Instances only.
pub(super) fn bound(observed: &mut Observed, room: usize, refusal: &Result<(), Status>) {
    observed.full = refusal.as_ref().err().map(|status| status.message.clone());
    if let Ok(place) = &mut observed.place {
        *place = Place { room, ..place.clone() };
    }
}

/// Says in a plan that Instances are missing because of a quota, or says it no longer.
pub(super) fn tell(app: &Object<App>, observed: &Observed, unplaced: bool, plan: &mut Plan, now: Timestamp) {
    let Some(why) = observed.full.as_ref().filter(|_| unplaced) else {
        plan.status.conditions.retain(|c| c.kind != REPLICA_FAILURE);
        return;
    };
    let failure = status::condition(app, REPLICA_FAILURE, ConditionStatus::True, FAILED_CREATE, why.clone(), now);
    Condition::set(&mut plan.status.conditions, failure);
    let again = now + LOOK_AGAIN;
    plan.requeue = Requeue::At(match plan.requeue {
        Requeue::At(at) => at.min(again),
        Requeue::Rest => again,
    });
}

/// What the condition says, if it holds.
pub(super) fn failure(status: &AppStatus) -> Option<&str> {
    Condition::find(&status.conditions, REPLICA_FAILURE).map(|c| c.message.as_str())
}
