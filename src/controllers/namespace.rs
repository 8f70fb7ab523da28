//! Empties a namespace that is being deleted, and lets it go when nothing is left in it.
//!
//! Admission lets nothing new into such a namespace, so the work ends. What is in it is deleted like by anybody else:
//! finalizers are waited for, and each object that goes brings the namespace's turn again.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::{BoxFuture, FutureExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    api::{
        ChangeLog, Condition, Durability, KINDS, Key, Kind, KindInfo, Namespace, Operation, OperationVerb, Reason,
        Status, StoredObject, Time,
    },
    client::{Query, SharedClient},
    clock::SharedClock,
    controllers::operations::delete,
    runtime::{Caches, Controller, Requeue, Watched, batch::Batch},
};

/// Most deletions in one transaction.
const TOGETHER: usize = 256;
/// When what is left is looked at again, where its kind is not watched because it changes all the time.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// The controller. Run it with [`crate::runtime::run`].
pub struct NamespaceController {
    client: SharedClient,
    clock: SharedClock,
}

impl NamespaceController {
    /// A controller that acts through `client`.
    pub fn new(client: SharedClient, clock: SharedClock) -> Self {
        Self { client, clock }
    }

    /// Deletes until nothing is left, or nothing that is not waiting for somebody else. Ends, because nothing new comes in.
    async fn empty(&self, namespace: &StoredObject, caches: &Caches, now: Timestamp) -> Result<Requeue, Status> {
        loop {
            let left = self.content(&namespace.key.name).await?;
            if left.is_empty() {
                self.release(namespace, caches).await?;
                return Ok(Requeue::Rest);
            }
            let staying = left.iter().filter(|object| !object.meta().is_deleting());
            let groups: Vec<Vec<Operation>> =
                staying.map(|object| vec![delete(&object.key, object.meta().uid())]).collect();
            if groups.is_empty() {
                self.tell(namespace, &left).await?;
                let unwatched = left.iter().any(|object| object.key.kind.log == ChangeLog::Short);
                return Ok(if unwatched { Requeue::At(now + LOOK_AGAIN) } else { Requeue::Rest });
            }
            self.delete_all(groups).await?;
        }
    }

    /// Says what is left, if that is not said yet.
    async fn tell(&self, namespace: &StoredObject, left: &[Arc<StoredObject>]) -> Result<(), Status> {
        let before = namespace.typed::<Namespace>().map(|n| n.status.conditions.clone()).unwrap_or_default();
        let mut conditions = before.clone();
        for condition in judge(left, Time(self.clock.now())) {
            Condition::set(&mut conditions, condition);
        }
        if conditions == before {
            return Ok(());
        }
        let mut value = namespace.value();
        value["status"]["conditions"] = json!(conditions);
        let batch = Batch { manager: "appm-namespace", reason: "something is left", durability: Durability::Relaxed };
        // Not taken into the caches, which take an object that is deleted and has no finalizers in its metadata for gone.
        match self.client.transact(batch.transaction(vec![Operation::new(OperationVerb::Status, value)])).await {
            Err(status) if !status.is(Reason::NotFound) => Err(status),
            _ => Ok(()),
        }
    }

    async fn content(&self, namespace: &str) -> Result<Vec<Arc<StoredObject>>, Status> {
        let query = Query { namespace: Some(namespace.to_owned()), ..Query::default() };
        let mut found = Vec::new();
        for kind in namespaced() {
            found.extend(self.client.list(kind, &query).await?.items);
        }
        Ok(found)
    }

    async fn delete_all(&self, groups: Vec<Vec<Operation>>) -> Result<(), Status> {
        let batch =
            Batch { manager: "appm-namespace", reason: "the namespace is deleted", durability: Durability::Relaxed };
        for chunk in groups.chunks(TOGETHER) {
            for result in batch.write(&*self.client, chunk.to_vec()).await {
                match result {
                    Ok(_) => {}
                    Err(status) if status.is(Reason::NotFound) => {}
                    Err(status) => return Err(status),
                }
            }
        }
        Ok(())
    }

    async fn release(&self, namespace: &StoredObject, caches: &Caches) -> Result<(), Status> {
        let mut value = namespace.value();
        value["spec"]["finalizers"] = json!([]);
        let batch =
            Batch { manager: "appm-namespace", reason: "the namespace is empty", durability: Durability::Relaxed };
        let transaction = batch.transaction(vec![Operation::new(OperationVerb::Finalize, value)]);
        match self.client.transact(transaction).await {
            Ok(done) => {
                caches.written(&done);
                Ok(())
            }
            Err(status) if status.is(Reason::NotFound) => Ok(()),
            Err(status) => Err(status),
        }
    }
}

/// What Kubernetes says of a namespace that cannot go yet, in its own words.
fn judge(left: &[Arc<StoredObject>], now: Time) -> Vec<Condition> {
    let (mut kinds, mut finalizers) = (BTreeMap::new(), BTreeMap::new());
    for object in left {
        let kind = object.key.kind;
        *kinds.entry(format!("{}.{}", kind.plural, kind.group)).or_insert(0) += 1;
        for name in &object.meta().finalizers {
            *finalizers.entry(name.clone()).or_insert(0) += 1;
        }
    }
    let listed = |counts: &BTreeMap<String, i32>, word: &str| {
        let each: Vec<String> =
            counts.iter().map(|(what, n)| format!("{what} {word} {n} resource instances")).collect();
        each.join(", ")
    };
    let condition =
        |kind: &str, status: bool, reason: &str, message: String| Condition::new(kind, status, reason, message, now);
    let fine = |kind, reason, message: &str| condition(kind, false, reason, message.to_owned());
    let remaining = format!("Some resources are remaining: {}", listed(&kinds, "has"));
    let held = format!("Some content in the namespace has finalizers remaining: {}", listed(&finalizers, "in"));
    vec![
        fine("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
        fine(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        fine(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        condition("NamespaceContentRemaining", true, "SomeResourcesRemain", remaining),
        match finalizers.is_empty() {
            false => condition("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", held),
            true => fine(
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        },
    ]
}

fn namespaced() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().copied().filter(|kind| kind.is_namespaced() && kind.verbs.allow("delete"))
}

/// The namespace of an object, if it is going.
fn going(object: &StoredObject, caches: &Caches) -> Option<Key> {
    let key = Key::of::<Namespace>("", &object.key.namespace);
    let namespace = caches.kind::<Namespace>().get(&key)?;
    namespace.meta().is_deleting().then_some(key)
}

impl Controller for NamespaceController {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn watches(&self) -> Vec<Watched> {
        let inside = namespaced().filter(|kind| kind.log == ChangeLog::Main).map(|kind| Watched {
            kind,
            query: Query::default(),
            map: Box::new(|object, caches| going(object, caches).into_iter().collect()),
            kept: false,
        });
        std::iter::once(Watched::primary(Namespace::INFO)).chain(inside).collect()
    }

    fn reconcile<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            match caches.kind::<Namespace>().get(key) {
                Some(namespace) if namespace.meta().is_deleting() => self.empty(&namespace, caches, now).await,
                _ => Ok(Requeue::Rest),
            }
        }
        .boxed()
    }
}
