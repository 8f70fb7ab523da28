//! The in-process form of [`Client`]: controllers and the agent speak to admission as any client does, without a wire.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};

use super::{Admission, Caller, TaskOrder};
use crate::{
    api::{App, Key, KindInfo, Plan, Reason, Rev, Status, StoredObject, Transaction},
    auth::{Identity, OWNER_NAME, Proof},
    client::{Client, Done, Listing, Message, Query, WatchStream},
};

/// A client of one identity.
#[derive(Clone)]
pub struct LocalClient {
    admission: Admission,
    caller: Arc<Caller>,
}

impl LocalClient {
    /// A client for `who`; `manager` owns the fields that are written without naming another.
    pub fn new(admission: Admission, who: Identity, manager: &str) -> Self {
        Self { admission, caller: Arc::new(Caller::new(who, manager)) }
    }

    /// This part of appm, as a User: judged by that one's roles, and with none of the part's own rights.
    fn acting_as(&self, user: &str) -> Result<Caller, Status> {
        let proof = Proof::Impersonated(self.caller.who.name.clone());
        let known = self.admission.authority().user(user, proof.clone());
        // The owner of the server needs no User.
        let who = known.or_else(|| (user == OWNER_NAME).then(|| Identity::admin(proof)));
        let unknown = || Status::new(Reason::Forbidden, format!("there is no user `{user}`, or it is locked"));
        Ok(Caller { who: who.ok_or_else(unknown)?, ..(*self.caller).clone() })
    }
}

impl Client for LocalClient {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Arc<StoredObject>>, Status>> {
        let found = match self.admission.get(&self.caller, key.kind.stored_form(), key) {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is(Reason::NotFound) => Ok(None),
            Err(status) => Err(status),
        };
        ready(found).boxed()
    }

    fn list<'a>(&'a self, kind: &'static KindInfo, query: &'a Query) -> BoxFuture<'a, Result<Listing, Status>> {
        ready(self.admission.list(&self.caller, kind.stored_form(), query)).boxed()
    }

    fn watch<'a>(
        &'a self,
        kind: &'static KindInfo,
        query: &'a Query,
        from: Rev,
    ) -> BoxFuture<'a, Result<WatchStream, Status>> {
        let served = kind.stored_form();
        async move { Ok(self.admission.watch(&self.caller, served, query, from).await?.into_stream()) }.boxed()
    }

    fn transact(&self, transaction: Transaction) -> BoxFuture<'_, Result<Vec<Done>, Status>> {
        async move {
            match &transaction.user {
                None => self.admission.transact(&self.caller, transaction).await,
                Some(user) => self.admission.transact(&self.acting_as(user)?, transaction).await,
            }
        }
        .boxed()
    }

    fn plan(&self, transaction: Transaction) -> BoxFuture<'_, Result<Plan, Status>> {
        async move {
            match &transaction.user {
                None => self.admission.plan(&self.caller, transaction).await,
                Some(user) => self.admission.plan(&self.acting_as(user)?, transaction).await,
            }
        }
        .boxed()
    }

    fn send_task(&self, message: Message) -> BoxFuture<'_, Result<Bytes, Status>> {
        async move {
            let caller = self.admission.in_the_name_of(&self.caller, message.user.as_deref())?;
            let app = Key::of::<App>(&message.namespace, &message.app);
            let (timeout, idempotent) = (message.timeout, message.idempotent);
            let order = TaskOrder { payload: message.payload.into(), timeout, idempotent, streamed: false };
            Ok(self.admission.do_task(&caller, &app, order).await?.result.to_bytes())
        }
        .boxed()
    }
}
