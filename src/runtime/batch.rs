//! Many independent operations in few transactions.
//!
//! A transaction is all or nothing, so one operation that can never succeed (its object is gone, say) would fail its
//! neighbours. Such a batch is halved until the culprit stands alone.

use futures::{FutureExt, future::BoxFuture};

use crate::{
    api::{Durability, Operation, Reason, Status, Transaction},
    client::{Client, Done},
};

/// Who writes a batch, why, and how durably.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// Why, for the history.
    pub reason: &'a str,
    /// When it counts as done.
    pub durability: Durability,
}

impl Batch<'_> {
    /// The operations as one transaction.
    pub fn transaction(&self, operations: Vec<Operation>) -> Transaction {
        let mut transaction = Transaction::new(self.manager, operations);
        transaction.reason = self.reason.to_owned();
        transaction.durability = self.durability;
        transaction
    }

    /// Does every operation that can be done; one result for each, in order. Groups are done all or nothing.
    pub fn write<'a>(
        &'a self,
        client: &'a dyn Client,
        groups: Vec<Vec<Operation>>,
    ) -> BoxFuture<'a, Vec<Result<Vec<Done>, Status>>> {
        async move {
            if groups.is_empty() {
                return Vec::new();
            }
            let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
            let answer = client.transact(self.transaction(groups.concat())).await;
            match answer {
                Ok(done) => {
                    let mut done = done.into_iter();
                    sizes.into_iter().map(|size| Ok(done.by_ref().take(size).collect())).collect()
                }
                Err(status) if groups.len() == 1 || is_transient(&status) => {
                    vec![Err(status); groups.len()]
                }
                Err(_) => {
                    let mut left = groups;
                    let right = left.split_off(left.len() / 2);
                    let mut results = self.write(client, left).await;
                    results.extend(self.write(client, right).await);
                    results
                }
            }
        }
        .boxed()
    }
}

/// True if the same request may succeed later without anybody's doing.
pub fn is_transient(status: &Status) -> bool {
    match status.reason {
        Reason::TooManyRequests
        | Reason::InternalError
        | Reason::ServiceUnavailable
        | Reason::Timeout
        | Reason::Unknown => true,
        Reason::BadRequest
        | Reason::Unauthorized
        | Reason::Forbidden
        | Reason::NotFound
        | Reason::MethodNotAllowed
        | Reason::NotAcceptable
        | Reason::AlreadyExists
        | Reason::Conflict
        | Reason::Expired
        | Reason::RequestEntityTooLarge
        | Reason::UnsupportedMediaType
        | Reason::MisdirectedRequest
        | Reason::Invalid => false,
    }
}
