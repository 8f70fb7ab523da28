//! The API's verbs on one object, in the words of its URL.

use serde_json::Value;

use super::{
    Admission, Caller, DeleteOptions, Patch, Target, WriteOptions, Written,
    operation::{Action, Step},
    transaction::{StepDone, only},
};
use crate::{
    api::{Preconditions, Served, Status},
    client::Query,
};

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
    /// precondition.
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
        Ok(self.run_one(caller, step(target, Action::Update(body)), options).await?.into())
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

    /// Deletes every object that the query selects, in transactions as large as the store takes.
    ///
    /// # Errors
    /// What [`Admission::delete`] says of the first that cannot be deleted; those before it are then deleted.
    pub async fn delete_collection(
        &self,
        caller: &Caller,
        served: Served,
        query: &Query,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Vec<Written>, Status> {
        self.authorize_kind(caller, served, "deletecollection", query.namespace.as_deref().unwrap_or_default())?;
        let listing = self.select(served.kind, query)?;
        let mut written = Vec::with_capacity(listing.items.len());
        for chunk in listing.items.chunks(self.store().largest().max(1)) {
            let steps: Vec<_> = chunk
                .iter()
                .map(|object| {
                    let key = &object.key;
                    let target = Target { served, namespace: &key.namespace, name: &key.name, subresource: None };
                    let mut delete = delete.clone();
                    delete.preconditions.uid = object.meta().uid.clone();
                    Ok(step(&target, Action::Delete(delete)))
                })
                .collect();
            written.extend(self.run(caller, &steps, options, only).await?.into_iter().map(Written::from));
        }
        Ok(written)
    }
}
