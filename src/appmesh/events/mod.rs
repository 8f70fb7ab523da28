//! Event subscriptions: what happens to applications, told on the connection on which somebody asked to be told.
//!
//! ```text
//!  the store's changes of Instances, Apps, Schedules, Runs ─┐
//!  new output (the kernel's word) ──────────────────────────┼─► one task of a subscription ─► Push ─► the connection
//!  what the listener may do has changed ─► the end          ┘
//! ```
//! For each start of a process: START, its STDOUT, EXIT, and REMOVED after all of these. A subscription is the connection's: it ends with it, and if
//! it cannot go on (the listener's rights or token ended, the connection takes nothing in) the connection ends, which is the only sign that App
//! Mesh's clients know. Nothing of it is kept; one that comes back subscribes again and reads the output from where it was.

mod follow;
mod news;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::follow::Following;
use super::{Call, NAMESPACE, Reply, Route, Sdk, caller, names};
use crate::{
    admission::{Admission, Caller},
    api::{App, Kind, Reason, Status},
    auth::{Attributes, Identity},
    clock,
};

/// Where App Mesh's clients know an event by.
pub const EVENT_PATH: &str = "/appmesh/event";
/// Subscriptions of one connection.
const MOST: usize = 64;
/// What a subscription is to, if not to one application.
const ALL: &str = "*";

/// What can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Start,
    Stdout,
    Exit,
    Health,
    Status,
    Removed,
}

use Happening::{Exit, Health, Removed, Start, Status as Turned, Stdout};

const HAPPENINGS: [(&str, Happening); 6] = [
    ("START", Start),
    ("STDOUT", Stdout),
    ("EXIT", Exit),
    ("HEALTH", Health),
    ("STATUS", Turned),
    ("REMOVED", Removed),
];

/// An event on its way to a client.
#[derive(Debug)]
pub struct Event {
    /// Its own name.
    pub uuid: String,
    /// `X-Subscription-Id`, `X-Event-Type` and `X-App-Name`.
    pub headers: [(&'static str, String); 3],
    /// JSON.
    pub body: String,
}

/// Sends an event on a connection; false when it takes no more.
pub type Push = Arc<dyn Fn(Event) -> BoxFuture<'static, bool> + Send + Sync>;
/// A place for one more who listens, as long as it is held.
pub type Seat = Box<dyn Any + Send + Sync>;
/// Gives out places.
type Seats = Box<dyn Fn(&Identity) -> Result<Seat, Status> + Send + Sync>;

/// What the clients of one connection have subscribed to.
pub struct Listener {
    push: Push,
    seat: Seats,
    subscriptions: Mutex<BTreeMap<String, AbortOnDropHandle<()>>>,
    broken: CancellationToken,
}

impl Listener {
    /// Nobody listens yet. Events go where `push` sends them, and `seat` says who may listen.
    pub fn new(push: Push, seat: impl Fn(&Identity) -> Result<Seat, Status> + Send + Sync + 'static) -> Self {
        Self { push, seat: Box::new(seat), subscriptions: Mutex::default(), broken: CancellationToken::new() }
    }

    /// Whether somebody listens.
    pub fn is_listening(&self) -> bool {
        !self.subscriptions().is_empty()
    }

    /// Resolves when one of the subscriptions cannot go on.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Ends a subscription, if there is one of that name.
    pub(super) fn forget(&self, subscription: &str) -> bool {
        self.subscriptions().remove(subscription).is_some()
    }

    fn subscriptions(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, AbortOnDropHandle<()>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What everybody is told has one order.
#[derive(Clone, Default)]
pub(super) struct Sequence(Arc<AtomicU64>);

impl Sequence {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// What a subscription is to.
#[derive(Clone, Debug)]
struct Subscribed {
    id: String,
    /// The name here of the one application, and what its client calls it; `None`: all that the listener sees.
    app: Option<(String, String)>,
    happenings: BTreeSet<Happening>,
}

impl Subscribed {
    fn shown(&self) -> Value {
        let words = HAPPENINGS.iter().filter(|(_, happening)| self.happenings.contains(happening));
        let words: Vec<&str> = words.map(|(word, _)| *word).collect();
        let app = self.app.as_ref().map_or(ALL, |(_, said)| said);
        json!({"subscription_id": self.id, "app_name": app, "events": words})
    }
}

impl Sdk {
    /// What happens to an application from now on, or to all of them.
    pub(super) fn subscribe(&self, app: Option<&str>, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let listener = call.listener.as_ref().ok_or_else(not_over_http)?;
        let happenings = happenings(call.query("events"))?;
        let caller = caller(who, call);
        let of = match app {
            Some(app) => Some(self.may_follow(&caller, app, happenings.contains(&Stdout))?),
            None => {
                may_watch_apps(&self.admission, &caller, "list")?;
                None
            }
        };
        let subscribed = self.begin(listener, caller, of, happenings)?;
        Ok(Reply::json(200, subscribed.shown()))
    }

    /// The same for an application that is about to be put. There may be none yet.
    pub(super) fn subscribe_to_put(&self, said: &str, caller: &Caller, call: &Call) -> Result<Option<String>, Status> {
        let Some(listener) = call.listener.as_ref().filter(|_| !call.query("subscribe_events").is_empty()) else {
            return Ok(None);
        };
        let happenings = happenings(call.query("subscribe_events"))?;
        let of = match self.may_follow(caller, said, happenings.contains(&Stdout)) {
            Err(status) if status.is(Reason::NotFound) => {
                may_watch_apps(&self.admission, caller, "watch")?;
                (names::stored(said)?, said.to_owned())
            }
            of => of?,
        };
        Ok(Some(self.begin(listener, caller.clone(), Some(of), happenings)?.id))
    }

    /// Ends a subscription of this connection.
    pub(super) fn unsubscribe(&self, call: &Call) -> Result<Reply, Status> {
        let listener = call.listener.as_ref().ok_or_else(not_over_http)?;
        Ok(match listener.forget(call.query("subscription_id")) {
            true => Reply::message(200, "unsubscribed"),
            false => Reply::message(404, "No such subscription"),
        })
    }

    /// Whether somebody may be told of an application, and of what it writes.
    fn may_follow(&self, caller: &Caller, said: &str, output: bool) -> Result<(String, String), Status> {
        let found = self.find(caller, said)?;
        let served = found.of.info().stored_form();
        self.admission.part(caller, served, "watch", "", &found.object.key)?;
        if output {
            self.may_read(caller, &found)?;
        }
        Ok((found.object.key.name.to_string(), said.to_owned()))
    }

    fn begin(
        &self,
        listener: &Arc<Listener>,
        caller: Caller,
        app: Option<(String, String)>,
        happenings: BTreeSet<Happening>,
    ) -> Result<Subscribed, Status> {
        let seat = (listener.seat)(&caller.who)?;
        let mut subscriptions = listener.subscriptions();
        // Those that have ended end the connection, and count until then.
        if subscriptions.len() >= MOST {
            return Err(Status::busy(format!("a connection has {MOST} subscriptions at most")));
        }
        let subscribed = Subscribed { id: clock::new_uid(&*self.clock).to_string(), app, happenings };
        let following = Following::new(self, caller.clone(), subscribed.clone(), listener.push.clone())?;
        let (authority, broken) = (self.admission.authority().clone(), listener.broken.clone());
        let task = tokio::spawn(async move {
            let _seat = seat;
            let why = tokio::select! {
                why = following.run() => why,
                status = authority.revoked(&caller.who) => status.message,
            };
            tracing::debug!(user = caller.who.name, why, "a subscription ends, and its connection with it");
            broken.cancel();
        });
        subscriptions.insert(subscribed.id.clone(), AbortOnDropHandle::new(task));
        Ok(subscribed)
    }
}

/// Whether a call wants events on its connection.
pub fn are_events_wanted(route: &Route, call: &Call) -> bool {
    let subscribes = matches!(route, Route::Subscribe(_) | Route::SubscribeAll | Route::Unsubscribe);
    // Over HTTP nothing comes of it, here as there.
    subscribes || (call.listener.is_some() && !call.query("subscribe_events").is_empty())
}

/// Calls are passed on to a peer one by one, and events need a connection that stays.
pub fn events_of_a_peer(peer: &str) -> Status {
    let message = format!(
        "`{peer}` tells its events on connections to itself: subscribe there, over its TCP or its WebSocket (--tcp-listen, --wss-listen)"
    );
    Status::new(Reason::MethodNotAllowed, message)
}

fn not_over_http() -> Status {
    let message = "events are pushed over App Mesh's TCP and WebSocket; over HTTP ask for the output with a timeout";
    Status::new(Reason::MethodNotAllowed, message)
}

/// Which ones are meant; nothing means all of them.
fn happenings(said: &str) -> Result<BTreeSet<Happening>, Status> {
    let words = said.split(',').map(str::trim).filter(|word| !word.is_empty());
    let known = words.map(|word| {
        let found = HAPPENINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word));
        let all = HAPPENINGS.map(|(known, _)| known).join(", ");
        found
            .map(|(_, happening)| *happening)
            .ok_or_else(|| Status::bad_request(format!("there is no event `{word}`: there are {all}")))
    });
    let known: BTreeSet<Happening> = known.collect::<Result<_, _>>()?;
    Ok(if known.is_empty() { HAPPENINGS.map(|(_, happening)| happening).into() } else { known })
}

/// Whether somebody may watch Apps at all, and this.
fn may_watch_apps(admission: &Admission, caller: &Caller, verb: &'static str) -> Result<(), Status> {
    for verb in ["watch", verb] {
        let what = Attributes {
            verb,
            group: App::INFO.group,
            resource: App::INFO.plural,
            namespace: NAMESPACE,
            ..Attributes::default()
        };
        admission.authority().may(&caller.who, &what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_known_by_their_names_and_nothing_means_all() {
        assert_eq!(happenings("EXIT, start"), Ok(BTreeSet::from([Start, Exit])));
        assert_eq!(happenings("").map(|all| all.len()), Ok(6));
        assert!(happenings("START,process_start").is_err());
    }
}
