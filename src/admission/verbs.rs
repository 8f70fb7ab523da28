//! The API's verbs on one object, in the words of its URL.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Admission, Caller, DeleteOptions, Patch, Target, WriteOptions, Written,
    operation::{Action, Step},
    transaction::{StepDone, only},
};
use crate::api::{Preconditions, Reason, Served, Status, StoredObject, Subresource};

impl From<StepDone> for Written {
    fn from(done: StepDone) -> Self {
        Self { object: done.object, outcome: done.outcome, warnings: done.warnings }
    }
}

fn step(target: &Target<'_>, action: Action) -> Step {
    Step {
        served: target.served,
        namespace: target.namespace.to_owned(),
        name: target.name.to_owned(),
        subresource: target.subresource,
        preconditions: Preconditions::default(),
        action,
        with_status: false,
    }
}

impl Admission {
    async fn run_one(&self, caller: &Caller, step: Step, options: &WriteOptions) -> Result<StepDone, Status> {
        let mut done = self.run(caller, &[Ok(step)], options, only).await?;
        Ok(done.swap_remove(0))
    }

    /// Makes an object; its name is the body's, or made from the body's `generateName`.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid` with all violations, `NotFound` for the namespace, `Forbidden`, …
    pub async fn create(
        &self,
        caller: &Caller,
        served: Served,
        namespace: &str,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let target = Target { served, namespace, name: "", subresource: None };
        Ok(self.run_one(caller, step(&target, Action::Create(body)), options).await?.into())
    }

    /// Replaces an object, or the part that the target's subresource stands for. A `resourceVersion` in the body is a
    /// precondition; it may be left out only where [`Served::updates_unconditionally`].
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid` with all violations, …
    pub async fn update(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let versioned = target.subresource != Some(Subresource::Scale) && !target.served.updates_unconditionally();
        Ok(self.run_one(caller, step(target, Action::Update { body, versioned }), options).await?.into())
    }

    /// Patches an object or a part of it. [`Patch::Apply`] makes the object if it is not there.
    ///
    /// # Errors
    /// As [`Admission::update`]; an apply that would change fields of others gets `Conflict` with a cause for each.
    pub async fn patch(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        patch: Patch,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        Ok(self.run_one(caller, step(target, Action::Patch(patch)), options).await?.into())
    }

    /// Deletes an object. The second value is true if it is gone, false if finalizers hold it.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` if a precondition does not hold, …
    pub async fn delete(
        &self,
        caller: &Caller,
        target: &Target<'_>,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<(Written, bool), Status> {
        let done = self.run_one(caller, step(target, Action::Delete(delete.clone())), options).await?;
        let gone = done.gone;
        Ok((done.into(), gone))
    }

    /// Deletes objects that were selected ([`Admission::selected`]), in transactions as large as the store takes. Those that others have deleted
    /// meanwhile are passed over.
    ///
    /// # Errors
    /// What [`Admission::delete`] says of the first that cannot be deleted; those before it are then deleted.
    pub async fn delete_collection(
        &self,
        caller: &Caller,
        served: Served,
        namespace: &str,
        objects: &[Arc<StoredObject>],
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Vec<Written>, Status> {
        self.authorize_kind(caller, served, "deletecollection", namespace).map(drop)?;
        let mut written = Vec::with_capacity(objects.len());
        for chunk in objects.chunks(self.store().largest().max(1)) {
            written.extend(self.delete_chunk(caller, served, chunk, delete, options).await?);
        }
        Ok(written)
    }

    async fn delete_chunk(
        &self,
        caller: &Caller,
        served: Served,
        objects: &[Arc<StoredObject>],
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Vec<Written>, Status> {
        let mut before = usize::MAX;
        loop {
            let there = objects.iter().filter(|object| self.is_there(object));
            let steps: Vec<_> = there.map(|object| Ok(delete_step(served, object, delete))).collect();
            match self.run(caller, &steps, options, only).await {
                // Somebody else was faster; without those that are gone it is another transaction.
                Err(status) if (status.is(Reason::NotFound) || status.is(Reason::Conflict)) && steps.len() < before => {
                    before = steps.len();
                }
                done => return Ok(done?.into_iter().map(Written::from).collect()),
            }
        }
    }

    fn is_there(&self, object: &StoredObject) -> bool {
        self.store().get(&object.key).is_some_and(|now| now.meta().uid == object.meta().uid)
    }
}

/// A deletion of just this object, not of one that was made in its place.
fn delete_step(served: Served, object: &StoredObject, delete: &DeleteOptions) -> Step {
    let key = &object.key;
    let target = Target { served, namespace: &key.namespace, name: &key.name, subresource: None };
    let this = Preconditions { uid: object.meta().uid.clone(), ..Preconditions::default() };
    Step { preconditions: this, ..step(&target, Action::DeleteOfMany(delete.clone())) }
}
