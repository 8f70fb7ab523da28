//! Tasks: who may send one into an App, look at them and cancel them. What becomes of one is the broker's.
//!
//! A task is a part of its App, `apps/task`: it is sent by `create`, looked at by `get` and cancelled by `delete`.

use std::{sync::Arc, time::Duration};

use super::{Admission, Caller};
use crate::{
    api::{App, Key, Kind, Object, Status, Subresource, TASK_LIMIT, Task, Uid},
    auth::{Attributes, Identity, May, OWNER_NAME, Proof},
    broker::{Broker, Done, Failure, Kept, Order, Payload, Sent},
    policy::tasks::Bounds,
};

/// The longest time that a caller may wait.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What is sent, and how.
#[derive(Clone, Debug, Default)]
pub struct TaskOrder {
    /// The payload.
    pub payload: Payload,
    /// How long its caller waits; none: as long as the App says.
    pub timeout: Option<Duration>,
    /// It may be done again; the App may say so of all.
    pub idempotent: bool,
    /// The parts of its result are to be told as they come.
    pub streamed: bool,
}

impl Admission {
    /// Where tasks and processes meet.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.inner.broker
    }

    /// Whether the caller may send a task, before there is one.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub fn may_send_task(&self, caller: &Caller, app: &Key) -> Result<(), Status> {
        self.app_for(caller, "create", app).map(drop)
    }

    /// Sends a task.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, `BadRequest`; 503 when nobody can do it, or too many wait.
    pub fn send_task(&self, caller: &Caller, app: &Key, order: TaskOrder) -> Result<Sent, Status> {
        let order = self.task_order(caller, app, order)?;
        self.broker().send(order).map_err(|failure| task_failure(&failure, app))
    }

    /// Sends a task whose result is asked for later.
    ///
    /// # Errors
    /// As [`Admission::send_task`].
    pub fn send_task_and_keep(&self, caller: &Caller, app: &Key, order: TaskOrder) -> Result<Task, Status> {
        let order = self.task_order(caller, app, order)?;
        self.broker().send_and_keep(order).map_err(|failure| task_failure(&failure, app))
    }

    /// Sends a task and waits for its result.
    ///
    /// # Errors
    /// As [`Admission::send_task`]; what came of it, with a word on whether the work may have begun.
    pub async fn do_task(&self, caller: &Caller, app: &Key, order: TaskOrder) -> Result<Done, Status> {
        let sent = self.send_task(caller, app, order)?;
        sent.answer().await.map_err(|failure| task_failure(&failure, app))
    }

    /// The tasks of an App that are not over, and those whose outcome is kept.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub fn tasks(&self, caller: &Caller, app: &Key) -> Result<Vec<Task>, Status> {
        let found = self.app_for(caller, "get", app)?;
        Ok(self.broker().tasks_of(found.uid()))
    }

    /// One of them.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub fn task(&self, caller: &Caller, app: &Key, name: &str) -> Result<Task, Status> {
        let found = self.app_for(caller, "get", app)?;
        self.broker().task(found.uid(), name).ok_or_else(|| no_task(name))
    }

    /// What came of a task that was kept, or where it stands when `patience` ends. Only its sender is told.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub async fn task_outcome(
        &self,
        caller: &Caller,
        app: &Key,
        name: &str,
        patience: Duration,
    ) -> Result<Result<Kept, Task>, Status> {
        let uid: Uid = self.app_for(caller, "get", app)?.uid().clone();
        let theirs = self.broker().task(&uid, name).filter(|task| task.user == caller.who.name);
        theirs.ok_or_else(|| no_task(name))?;
        self.broker().outcome(&uid, name, patience.min(LONGEST)).await.ok_or_else(|| no_task(name))
    }

    /// Cancels a task.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound` also for one that is over.
    pub fn cancel_task(&self, caller: &Caller, app: &Key, name: &str) -> Result<(), Status> {
        let found = self.app_for(caller, "delete", app)?;
        let done = self.broker().cancel(found.uid(), name, &caller.who.name);
        if done { Ok(()) } else { Err(no_task(name)) }
    }

    /// Cancels what the instances of an App are at work on. How many tasks that was.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`.
    pub fn cancel_working_tasks(&self, caller: &Caller, app: &Key) -> Result<usize, Status> {
        let found = self.app_for(caller, "delete", app)?;
        Ok(self.broker().cancel_working(found.uid(), &caller.who.name))
    }

    fn task_order(&self, caller: &Caller, app: &Key, order: TaskOrder) -> Result<Order, Status> {
        if order.payload.len() > TASK_LIMIT {
            return Err(Status::too_large(format!("Request entity too large: limit is {TASK_LIMIT}")));
        }
        let found = self.app_for(caller, "create", app)?;
        let spec = &found.spec;
        if spec.suspend || spec.replicas == 0 || found.metadata.is_deleting() {
            return Err(task_failure(&Failure::Nobody, app));
        }
        let timeout = order.timeout.unwrap_or(spec.task.timeout.0);
        if timeout.is_zero() || timeout > LONGEST {
            return Err(Status::bad_request("timeout must be more than nothing, and at most 24h"));
        }
        Ok(Order {
            namespace: app.namespace.to_string(),
            app: app.name.to_string(),
            uid: found.uid().clone(),
            caller: caller.who.name.clone(),
            payload: order.payload,
            timeout,
            idempotent: order.idempotent || spec.task.idempotent,
            streamed: order.streamed,
            bounds: Bounds { most_waiting: spec.task.max_queue as usize, each: spec.task.concurrency },
            held: Some(found.clone()),
        })
    }

    /// The App, for whoever may do this with its tasks.
    fn app_for(&self, caller: &Caller, verb: &str, app: &Key) -> Result<Arc<Object<App>>, Status> {
        let what = Attributes {
            verb,
            group: App::INFO.group,
            resource: App::INFO.plural,
            subresource: Subresource::Task.word(),
            namespace: &app.namespace,
            name: &app.name,
            path: "",
        };
        let authority = &self.inner.authority;
        let may = authority.may(&caller.who, &what)?;
        let found = self.inner.store.get(app).ok_or_else(|| Status::not_found(app))?;
        if may != May::Always {
            authority.on(&caller.who, &what, app, &found.value())?;
        }
        found.typed::<App>().ok_or_else(|| Status::internal("the app cannot be read"))
    }

    /// The caller, or the User in whose name a part of appm asks.
    ///
    /// # Errors
    /// `Forbidden` for whoever is no part of appm, and when there is no such User.
    pub(super) fn in_the_name_of(&self, caller: &Caller, user: Option<&str>) -> Result<Caller, Status> {
        let Some(user) = user else { return Ok(caller.clone()) };
        let refused = || Status::new(crate::api::Reason::Forbidden, format!("nothing is done in the name of `{user}`"));
        let part = Some(&caller.who).filter(|who| who.proof == Proof::Part).ok_or_else(refused)?;
        let known = self.inner.authority.user(user, Proof::Part);
        // The owner of the server needs no User.
        let who: Identity = known.or_else(|| (user == OWNER_NAME).then(|| part.clone())).ok_or_else(refused)?;
        Ok(Caller { who, ..caller.clone() })
    }
}

/// What the caller of a task of an App is told of its failure.
pub fn task_failure(failure: &Failure, app: &Key) -> Status {
    let mut status = Status::from(failure);
    let details = &mut status.details;
    app.kind.group.clone_into(&mut details.group);
    app.kind.plural.clone_into(&mut details.kind);
    details.name = app.name.to_string();
    status
}

fn no_task(name: &str) -> Status {
    Status::new(crate::api::Reason::NotFound, format!("there is no task \"{name}\", or it is over"))
}
