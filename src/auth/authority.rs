//! The decision function: every user and role, as of the store's present revision.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::{Either, select};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Identity, MASTERS, Proof, authenticator, lately::Lately, oidc::Subjects, records};
use crate::{
    api::{
        App, Credential, Event, Key, Kind, KindInfo, OWNER, Object, PolicyRule, Reason, Role, Session, Sharing, Status,
        StoredObject, Token, Uid, User, user_credential,
    },
    clock::SharedClock,
    policy::{
        access::{Attributes, Book, Facts, May, Subject},
        powers::Host,
    },
    store::Store,
};

/// How many owners are asked for what they share: an Instance's App is one step away.
const STEPS: usize = 4;
/// How many names are remembered with what they may do.
const MOST_SUBJECTS: usize = 1024;

/// Knows all users and roles.
pub struct Authority {
    store: Arc<Store>,
    clock: SharedClock,
    host: Host,
    book: Mutex<Known>,
    /// Users who have shown up lately.
    pub(super) users: Lately<String, Arc<Object<User>>>,
    /// Whom issuers vouch for.
    pub(super) subjects: Subjects,
    /// Told whenever anything changes that decisions stand on.
    changed: watch::Sender<()>,
}

/// The book, and of which state of the store it is.
#[derive(Default)]
struct Known {
    at: (u64, u64),
    book: Arc<Book>,
    /// Everybody who has asked since, by name.
    subjects: HashMap<String, Arc<Subject>>,
}

/// What decisions stand on.
const KINDS: [&KindInfo; 5] = [User::INFO, Role::INFO, Token::INFO, Session::INFO, Credential::INFO];

/// What is known of an object beside what it says itself.
struct Told {
    owner: String,
    sharing: Sharing,
}

impl Authority {
    /// The authority over a store.
    pub fn new(store: Arc<Store>, clock: SharedClock, host: Host) -> Self {
        let (book, subjects) = (Mutex::default(), Subjects::default());
        Self { store, clock, host, book, users: Lately::of(User::INFO), subjects, changed: watch::Sender::new(()) }
    }

    /// Who runs the server.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The store that everything is read from.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The OS user as whom everything runs that a user makes, if their User says so.
    pub fn exec_user(&self, user: &str) -> Option<String> {
        self.store.get(&Key::of::<User>("", user))?.typed::<User>()?.spec.exec_user.clone()
    }

    /// All users and roles, as of now.
    pub fn book(&self) -> Arc<Book> {
        self.known().book.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        let at = (self.store.changes_of(User::INFO), self.store.changes_of(Role::INFO));
        let mut known = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        // The counts begin at zero, where there is nothing to read.
        if known.at != at {
            *known = Known { at, book: Arc::new(self.read()), subjects: HashMap::new() };
        }
        known
    }

    fn read(&self) -> Book {
        let (users, roles) = (self.all::<User>(), self.all::<Role>());
        Book::new(
            users.iter().map(|u| (u.metadata.name.as_str(), &u.body)),
            roles.iter().map(|r| (r.metadata.name.as_str(), &r.body)),
        )
    }

    fn all<K: Kind>(&self) -> Vec<Arc<Object<K>>> {
        self.store.list(K::INFO, None).items.iter().filter_map(|object| object.typed::<K>()).collect()
    }

    /// Everything that somebody may do.
    pub fn subject(&self, who: &Identity) -> Arc<Subject> {
        let mut known = self.known();
        let subject = match known.subjects.get(&who.name).filter(|subject| subject.groups() == who.groups) {
            Some(subject) => subject.clone(),
            None => {
                let subject = Arc::new(known.book.subject(&who.name, &who.groups));
                if known.subjects.len() >= MOST_SUBJECTS {
                    known.subjects.clear();
                }
                known.subjects.insert(who.name.clone(), subject.clone());
                subject
            }
        };
        drop(known);
        match &who.scope {
            None => subject,
            scope => Arc::new(Subject::clone(&subject).within(scope.clone())),
        }
    }

    /// Whether a request is allowed, before its object is known.
    ///
    /// # Errors
    /// `Forbidden`, in Kubernetes' words.
    pub fn may(&self, who: &Identity, what: &Attributes<'_>) -> Result<May, Status> {
        let may = if who.is_master() { May::Always } else { self.subject(who).may(what) };
        if may == May::Never { Err(forbidden(who, what)) } else { Ok(may) }
    }

    /// Whether a request is allowed whatever its object is: for what is no object.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn must(&self, who: &Identity, what: &Attributes<'_>) -> Result<(), Status> {
        match self.may(who, what)? {
            May::Always => Ok(()),
            _ => Err(forbidden(who, what)),
        }
    }

    /// Whether a request is allowed on an object that is there. To whoever may not even read it, it is not there.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound`.
    pub fn on(&self, who: &Identity, what: &Attributes<'_>, key: &Key, object: &Value) -> Result<(), Status> {
        if who.is_master() {
            return Ok(());
        }
        let subject = self.subject(who);
        match subject.may(what) {
            May::Always => return Ok(()),
            May::Never => return Err(forbidden(who, what)),
            May::Partly => {}
        }
        let told = self.told(key.kind, object, STEPS);
        let book = self.book();
        let facts = facts(key, &told, &book);
        if subject.sees(what, &facts) {
            return Ok(());
        }
        let read = Attributes { verb: "get", subresource: "", ..*what };
        if subject.sees(&read, &facts) { Err(forbidden(who, what)) } else { Err(Status::not_found(key)) }
    }

    /// What allows a request, or why nothing does; for people.
    pub fn reason(&self, who: &Identity, what: &Attributes<'_>) -> String {
        let subject = self.subject(who);
        match subject.by(what) {
            Some(role) if subject.may(what) > May::Never => format!("by the role `{role}`"),
            _ if who.is_master() => format!("by the group `{MASTERS}`"),
            Some(role) => format!("the role `{role}` allows it, the token's rules do not"),
            None => match subject.roles().as_slice() {
                [] => "there is no role".to_owned(),
                [only] => format!("the role `{only}` does not allow it"),
                several => format!("none of the roles `{}` allows it", several.join("`, `")),
            },
        }
    }

    /// Every rule that somebody has, where it holds for them.
    pub fn rules(&self, who: &Identity) -> Vec<PolicyRule> {
        if !who.is_master() {
            return self.subject(who).rules();
        }
        let all = || vec!["*".to_owned()];
        let resources = PolicyRule { verbs: all(), api_groups: all(), resources: all(), ..PolicyRule::default() };
        vec![resources, PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() }]
    }

    /// A view of everything through the eyes of somebody who lists or watches; `None` if they see all there is.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn viewer(self: &Arc<Self>, who: &Identity, what: &Attributes<'_>) -> Result<Option<Viewer>, Status> {
        if self.may(who, what)? == May::Always {
            return Ok(None);
        }
        let asked = [what.verb, what.group, what.resource, what.subresource].map(str::to_owned);
        Ok(Some(Viewer { authority: self.clone(), subject: self.subject(who), asked }))
    }

    /// The same for a verb that is asked of each object when it is shown: nobody is refused, whoever may not sees nothing.
    pub fn eyes(self: &Arc<Self>, who: &Identity, what: &Attributes<'_>) -> Option<Viewer> {
        if self.may(who, what) == Ok(May::Always) {
            return None;
        }
        let asked = [what.verb, what.group, what.resource, what.subresource].map(str::to_owned);
        Some(Viewer { authority: self.clone(), subject: self.subject(who), asked })
    }

    /// Whose an object is and what is shared of it; an Instance says what its App says, an Event what its object does.
    fn told(&self, kind: &KindInfo, object: &Value, steps: usize) -> Told {
        let owner = object["metadata"]["annotations"][OWNER].as_str().unwrap_or_default().to_owned();
        if kind == App::INFO {
            let sharing = serde_json::from_value(object["spec"]["sharing"].clone()).unwrap_or_default();
            return Told { owner, sharing };
        }
        let uid = match kind == Event::INFO {
            true => object["regarding"]["uid"].as_str().or_else(|| object["involvedObject"]["uid"].as_str()),
            false => {
                let references = object["metadata"]["ownerReferences"].as_array();
                let controller = references.into_iter().flatten().find(|r| r["controller"] == true);
                controller.and_then(|r| r["uid"].as_str())
            }
        };
        self.told_by(kind, owner, uid.map(Uid::from), steps)
    }

    /// The same of a stored object, of which most is known already.
    fn told_of(&self, object: &StoredObject, steps: usize) -> Told {
        let (kind, meta) = (object.key.kind, object.meta());
        if kind == Event::INFO {
            return self.told(kind, &object.value(), steps);
        }
        let owner = meta.annotations.get(OWNER).unwrap_or_default().to_owned();
        if kind == App::INFO {
            return Told { owner, sharing: object.sharing() };
        }
        self.told_by(kind, owner, meta.controller().map(|controller| controller.uid.clone()), steps)
    }

    /// What the object `uid` says, which is above one of `kind` and `owner`.
    fn told_by(&self, kind: &KindInfo, owner: String, uid: Option<Uid>, steps: usize) -> Told {
        let above = uid.filter(|_| steps > 0).and_then(|uid| match self.store.find_uid(&uid) {
            Some(key) => self.store.get(&key),
            // What was deleted with its App is told of to those who saw it.
            None => self.store.gone(&uid),
        });
        match above {
            Some(above) => {
                let told = self.told_of(&above, steps - 1);
                // An Event is written by whoever saw it, and is its object's owner's.
                Told { owner: if kind == Event::INFO { told.owner } else { owner }, ..told }
            }
            None => Told { owner, sharing: Sharing::default() },
        }
    }

    /// Resolves when an answer that goes on (a watch, a log that is followed) must end, with the reason: what proved the identity
    /// ended or was taken back, or what it may do changed.
    pub async fn revoked(&self, who: &Identity) -> Status {
        if who.is_master() && who.expires.is_none() && who.uid.is_none() {
            return std::future::pending().await;
        }
        let mut changes = self.changed.subscribe();
        let before = self.subject(who);
        loop {
            if let Err(status) = self.still(who) {
                return status;
            }
            if self.subject(who) != before {
                return Status::new(Reason::Expired, "what you may do has changed: ask again");
            }
            let changed = pin!(async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            });
            match who.expires {
                None => changed.await,
                Some(at) => {
                    let end = pin!(self.clock.sleep_until(at));
                    if let Either::Right(_) = select(changed, end).await
                        && self.clock.now() >= at
                    {
                        return expired();
                    }
                }
            }
        }
    }

    /// Whether what proved an identity still does.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub fn still(&self, who: &Identity) -> Result<(), Status> {
        if who.expires.is_some_and(|at| at <= self.clock.now()) {
            return Err(expired());
        }
        let there = |key: Key| self.store.get(&key).is_some();
        let proved = match &who.proof {
            Proof::Token(name) => there(Key::of::<Token>("", name)),
            Proof::Session(name) => there(Key::of::<Session>("", name)),
            Proof::Oidc(subject) => self.is_still(who, subject),
            Proof::Password(shown) => {
                let credential = records::find::<Credential>(&self.store, &user_credential(&who.name));
                credential.is_some_and(|kept| authenticator::fingerprint(&kept) == *shown)
            }
            _ => true,
        };
        let Some(uid) = &who.uid else {
            return if proved { Ok(()) } else { Err(unauthorized()) };
        };
        let user = self.store.get(&Key::of::<User>("", &who.name)).and_then(|user| user.typed::<User>());
        let good = user.is_some_and(|user| {
            user.uid() == uid && !user.spec.locked && user.spec.groups.iter().all(|group| who.groups.contains(group))
        });
        if proved && good { Ok(()) } else { Err(unauthorized()) }
    }

    /// Tells everybody who waits in [`Authority::revoked`] of changes, until the end.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let follow = |kind: &'static KindInfo| {
            let this = self.clone();
            async move {
                loop {
                    let (_, mut watch) = this.store.list_and_watch(kind);
                    this.changed.send_replace(());
                    while watch.next().await.is_ok() {
                        this.changed.send_replace(());
                    }
                }
            }
        };
        let all = futures::future::join_all(KINDS.map(follow));
        tokio::select! {
            _ = all => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// What somebody sees who sees not everything.
#[derive(Clone)]
pub struct Viewer {
    authority: Arc<Authority>,
    subject: Arc<Subject>,
    /// Verb, group, resource, subresource.
    asked: [String; 4],
}

impl Viewer {
    /// True if they see this object.
    pub fn sees(&self, object: &StoredObject) -> bool {
        let [verb, group, resource, subresource] = &self.asked;
        let key = &object.key;
        let (namespace, name) = (&*key.namespace, &*key.name);
        let what = Attributes { verb, group, resource, subresource, namespace, name, path: "" };
        let told = self.authority.told_of(object, STEPS);
        let book = self.authority.book();
        self.subject.sees(&what, &facts(key, &told, &book))
    }
}

impl PartialEq for Viewer {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked && self.subject == other.subject
    }
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Viewer").field("subject", &self.subject).field("asked", &self.asked).finish_non_exhaustive()
    }
}

fn facts<'a>(key: &'a Key, told: &'a Told, book: &'a Book) -> Facts<'a> {
    Facts {
        namespace: &key.namespace,
        name: &key.name,
        owner: &told.owner,
        owner_group: book.first_group(&told.owner),
        sharing: told.sharing,
    }
}

fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

fn expired() -> Status {
    Status::new(Reason::Unauthorized, "what proved who you are has ended")
}

/// 403 in Kubernetes' words.
fn forbidden(who: &Identity, what: &Attributes<'_>) -> Status {
    let Attributes { verb, group, resource, subresource, namespace, name, path } = *what;
    let narrowed = if who.scope.is_some() { "; the token may do less than its user" } else { "" };
    if !path.is_empty() {
        let message = format!("forbidden: User \"{}\" cannot {verb} path \"{path}\"{narrowed}", who.name);
        return Status::new(Reason::Forbidden, message);
    }
    let slash = if subresource.is_empty() { "" } else { "/" };
    let scope = match namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let full = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let which = if name.is_empty() { full } else { format!("{full} \"{name}\"") };
    let message = format!(
        "{which} is forbidden: User \"{}\" cannot {verb} resource \"{resource}{slash}{subresource}\" in API group \"{group}\" {scope}{narrowed}",
        who.name
    );
    let mut status = Status::new(Reason::Forbidden, message);
    let details = &mut status.details;
    (details.name, details.group, details.kind) = (name.to_owned(), group.to_owned(), resource.to_owned());
    status
}
