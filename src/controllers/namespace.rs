//! Empties a namespace that is being deleted, and lets it go when nothing is left in it.
//!
//! Admission lets nothing new into such a namespace, so the work ends. What is in it is deleted like by anybody else:
//! finalizers are waited for, and each object that goes brings the namespace's turn again.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use serde_json::json;

use crate::{
    api::{
        ChangeLog, Durability, KINDS, Key, Kind, KindInfo, Namespace, Operation, OperationVerb, Reason, Status,
        StoredObject,
    },
    client::{Query, SharedClient},
    runtime::{Caches, Controller, Requeue, Watched, batch::Batch},
};

/// Most deletions in one transaction.
const TOGETHER: usize = 256;

/// The controller. Run it with [`crate::runtime::run`].
pub struct NamespaceController {
    client: SharedClient,
}

impl NamespaceController {
    /// A controller that acts through `client`.
    pub fn new(client: SharedClient) -> Self {
        Self { client }
    }

    /// Deletes until nothing is left, or nothing that is not waiting for somebody else. Ends, because nothing new comes in.
    async fn empty(&self, namespace: &StoredObject, caches: &Caches) -> Result<(), Status> {
        loop {
            let left = self.content(&namespace.key.name).await?;
            if left.is_empty() {
                return self.release(namespace, caches).await;
            }
            let staying = left.iter().filter(|object| !object.meta().is_deleting());
            let groups: Vec<Vec<Operation>> = staying.map(|object| vec![delete(object)]).collect();
            if groups.is_empty() {
                return Ok(());
            }
            self.delete_all(groups, caches).await?;
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

    async fn delete_all(&self, groups: Vec<Vec<Operation>>, caches: &Caches) -> Result<(), Status> {
        let batch =
            Batch { manager: "appm-namespace", reason: "the namespace is deleted", durability: Durability::Relaxed };
        for chunk in groups.chunks(TOGETHER) {
            for result in batch.write(&*self.client, chunk.to_vec()).await {
                match result {
                    Ok(done) => caches.written(&done),
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
        let transaction = batch.transaction(vec![Operation::new(OperationVerb::Update, value)]);
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

fn namespaced() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().copied().filter(|kind| kind.is_namespaced())
}

fn delete(object: &StoredObject) -> Operation {
    let key = &object.key;
    let metadata = json!({"name": &*key.name, "namespace": &*key.namespace});
    let named = json!({"apiVersion": key.kind.api_version(), "kind": key.kind.kind, "metadata": metadata});
    let mut operation = Operation::new(OperationVerb::Delete, named);
    operation.preconditions.uid = object.meta().uid.clone();
    operation
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
        });
        std::iter::once(Watched::primary(Namespace::INFO)).chain(inside).collect()
    }

    fn reconcile<'a>(&'a self, key: &'a Key, caches: &'a Caches) -> BoxFuture<'a, Result<Requeue, Status>> {
        async move {
            match caches.kind::<Namespace>().get(key) {
                Some(namespace) if namespace.meta().is_deleting() => self.empty(&namespace, caches).await?,
                _ => {}
            }
            Ok(Requeue::Rest)
        }
        .boxed()
    }
}
