//! Leader election over a Lease by kube-lease-manager: three candidates, one leader, another one when it dies.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::{sync::watch::Receiver, task::AbortHandle};

use crate::world::{wait_for, world};

#[tokio::test]
async fn three_candidates_have_one_leader_at_a_time() -> Result<()> {
    let (client, namespace) = world().await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
    let mut candidates: BTreeMap<String, (Receiver<bool>, AbortHandle)> = BTreeMap::new();
    for name in ["anna", "ben", "cleo"] {
        let manager = LeaseManagerBuilder::new(client.clone(), "leader").with_namespace(&namespace).with_identity(name);
        let (leads, task) = manager.with_duration(3).with_grace(1).build().await?.watch().await;
        candidates.insert(name.to_owned(), (leads, task.abort_handle()));
    }
    while !candidates.is_empty() {
        let leading = || {
            candidates
                .iter()
                .filter(|(_, (leads, _))| *leads.borrow())
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>()
        };
        let leader = wait_for("a leader", async || Ok(leading().pop())).await?;
        let holder = leases.get("leader").await?.spec.and_then(|spec| spec.holder_identity);
        assert_eq!((leading(), holder.as_deref()), (vec![leader.clone()], Some(leader.as_str())));
        // It dies without a word: the others wait until its time has run out.
        let (leads, task) = candidates.remove(&leader).expect("it was among them");
        task.abort();
        drop(leads);
    }
    Ok(())
}
