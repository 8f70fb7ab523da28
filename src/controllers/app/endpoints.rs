//! Where an App is reached: what a gateway that follows the App's status needs, in the words of an EndpointSlice.
//!
//! An instance is listed from when it is ready, and is off the list in the same commit in which it is deleted or told to restart:
//! nobody can see the one without the other, the agent that sends the stop signal included. While others can take its traffic it
//! is *drained* before that: listed as terminating for [`DRAIN`], so that followers turn elsewhere and end what they have begun.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::instance;
use crate::api::{App, Endpoint, EndpointPort, Instance, Object, Port};

/// How long an instance that goes still serves those who have not heard of it. An App with a `preStop` hook chooses by that.
pub(super) const DRAIN: SignedDuration = SignedDuration::from_secs(1);
/// The most that are listed, as in Kubernetes.
const MOST: usize = 1000;

/// What is done to listed Instances in this pass, by name.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Deleted or restarted: off the list.
    pub(super) now: BTreeSet<String>,
    /// Drained, beginning now or earlier.
    pub(super) soon: BTreeSet<String>,
}

/// The list, by name of the instance. Empty for Apps without ports.
pub(super) fn endpoints(app: &App, instances: &[&Object<Instance>], leaving: &Leaving) -> Vec<Endpoint> {
    if app.spec.suspend {
        return Vec::new();
    }
    let listed = instances.iter().filter(|i| serves(i) && !leaving.now.contains(&i.metadata.name));
    let endpoint = |i: &&Object<Instance>| {
        let terminating = leaving.soon.contains(&i.metadata.name);
        Endpoint {
            instance: i.metadata.name.clone(),
            address: i.status.address.clone(),
            ports: i.spec.ports.iter().map(port).collect(),
            ready: !terminating,
            terminating,
        }
    };
    listed.take(MOST).map(endpoint).collect()
}

/// True if somebody could reach it.
pub(super) fn serves(instance: &Object<Instance>) -> bool {
    !instance.metadata.is_deleting()
        && !instance.spec.ports.is_empty()
        && !instance.status.address.is_empty()
        && instance::is_ready(instance)
}

fn port(port: &Port) -> EndpointPort {
    EndpointPort { name: port.name.clone(), port: port.reached_at(), protocol: port.protocol }
}
