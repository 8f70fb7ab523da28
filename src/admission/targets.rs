//! What an object says is to be done later, to which another object is needed that is not there: whoever misspelt its name should hear of it now.
//!
//! A warning and no refusal, because it may be made later; and only for those who may see whether it is there.

use serde_json::Value;

use super::{Caller, operation::Planned, plan::Plan};
use crate::{
    api::{App, FieldPath, Key, Kind, KindInfo, Schedule, Workflow},
    auth::Authority,
    policy::access::{Attributes, May},
};

/// Adds the warnings, when all operations are planned: one transaction may bring both.
pub(super) fn warn(plan: &mut Plan<'_>, planned: &mut [Planned], authority: &Authority, caller: &Caller) {
    // What appm does by itself is read by nobody.
    if caller.request_id.is_empty() {
        return;
    }
    for done in planned.iter_mut().filter(|done| !done.gone) {
        let Some(value) = plan.live(&done.key).cloned() else { continue };
        for (at, kind, name) in targets(done.key.kind, &value) {
            let target = Key::new(kind, &done.key.namespace, &name);
            if plan.live(&target).is_none() && may_see(authority, caller, &target) {
                let word = kind.singular;
                done.warnings
                    .push(format!("{at}: there is no {word} \"{name}\" in namespace \"{}\"", target.namespace));
            }
        }
    }
}

fn may_see(authority: &Authority, caller: &Caller, target: &Key) -> bool {
    let what = Attributes {
        verb: "get",
        group: target.kind.group,
        resource: target.kind.plural,
        namespace: &target.namespace,
        name: &target.name,
        ..Attributes::default()
    };
    matches!(authority.may(&caller.who, &what), Ok(May::Always))
}

/// The objects that are needed for what it says, each with the field that names it.
fn targets(kind: &KindInfo, value: &Value) -> Vec<(FieldPath, &'static KindInfo, String)> {
    let named: &[(&[&str], &'static KindInfo)] = if *kind == *Schedule::INFO {
        &[(&["run", "app"], App::INFO), (&["workflow", "name"], Workflow::INFO), (&["task", "app"], App::INFO)]
    } else if *kind == *Workflow::INFO {
        &[(&["on", "app_event", "app"], App::INFO)]
    } else {
        &[]
    };
    let found = named.iter().filter_map(|(path, kind)| {
        let name = path.iter().fold(&value["spec"], |at, field| &at[*field]).as_str()?;
        let at = path.iter().fold(FieldPath::of("spec"), |at, field| at.field(field));
        Some((at, *kind, name.to_owned()))
    });
    found.collect()
}
