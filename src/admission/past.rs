//! Reading the past, and keeping versions of it.
//!
//! Whoever reads must be allowed to read the object now; whose it is and what is shared of it is judged on the object as it was. What
//! is in a Secret is shown as it would be now, and what changed in one is named and never shown.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::{Admission, Caller};
use crate::{
    api::{
        Authorship, FieldChange, FieldPath, History, HistoryMetadata, HistoryPin, Key, MicroTime, ObjectChange,
        PastTransactionInfo, PastTransactionList, Problem, Reason, Rev, Served, Status, StoredObject, Time, Version,
        VersionChange, Violation,
    },
    auth::{Attributes, May},
    client::Query,
    policy::field_changes::changes,
    store::{
        AsOf, EngineError, HistoryEntry, Horizon, MOST_PINS, PAGE_BYTES, PastTouch, PastTransaction, Pin, Provenance,
        Transactions,
    },
};

/// So many fields of a change are told.
const MOST_FIELDS: usize = 100;
/// A value of a field that is longer than this, as JSON, is cut.
const LONGEST_VALUE: usize = 2048;
/// So many objects of a transaction are named in a list.
const NAMED: usize = 50;
/// Longest name of a pin.
const LONGEST_PIN: usize = 63;

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At that revision.
    Revision(Rev),
    /// At that time.
    Time(Timestamp),
}

/// A part of a collection as it stood.
#[derive(Clone, Debug)]
pub struct PastPage {
    /// The revision.
    pub at: Rev,
    /// What stood, sorted by namespace and name.
    pub items: Vec<Arc<StoredObject>>,
    /// Where it goes on.
    pub next: Option<(String, String)>,
}

impl Admission {
    /// An object as it was: spec and metadata, no status.
    ///
    /// # Errors
    /// `NotFound` where there was none, `Forbidden`, `Expired`; `BadRequest` for kinds without a history and for what is to come.
    pub async fn past(
        &self,
        caller: &Caller,
        served: Served,
        key: &Key,
        when: When,
    ) -> Result<Arc<StoredObject>, Status> {
        self.may_read(caller, served, key)?;
        remembered(served)?;
        let at = match (when, self.revision_of(when).await) {
            (_, Ok((at, _))) => at,
            (When::Revision(at), Err(too_old)) => {
                let pins = self.inner.store.pins(key).await.map_err(unreadable)?;
                if !pins.iter().any(|pin| pin.revision == at) {
                    return Err(too_old);
                }
                at
            }
            (When::Time(_), Err(too_old)) => return Err(too_old),
        };
        let absent = || Status::not_found(key).in_words_of(served);
        let stood = self.inner.store.versions(key, Some(at.next()), 1).await.map_err(unreadable)?.pop();
        let object = stood.and_then(|entry| object(key, &entry)).ok_or_else(absent)?;
        self.must_see(caller, served, "get", &object)?;
        Ok(self.eyes(caller, key.kind).show(object))
    }

    /// What a query selects of a collection as it stood, from `after` on.
    ///
    /// # Errors
    /// As [`Admission::past`]; `BadRequest` for a selector that cannot be read.
    pub async fn past_page(
        &self,
        caller: &Caller,
        served: Served,
        query: &Query,
        when: When,
        after: Option<(String, String)>,
        limit: usize,
    ) -> Result<PastPage, Status> {
        let filter = self.filter(caller, "list", served, query)?;
        remembered(served)?;
        let (at, _) = self.revision_of(when).await?;
        let namespace = query.namespace.clone().filter(|namespace| !namespace.is_empty());
        let mut of = AsOf { kind: served.kind, namespace, at, after };
        let (mut items, mut bytes) = (Vec::new(), 0);
        loop {
            let stood = self.inner.store.as_of(&of, limit - items.len()).await.map_err(unreadable)?;
            for found in stood.objects.iter().filter_map(|(key, entry)| object(key, entry)) {
                if filter.sees(&found) {
                    bytes += found.json.len();
                    items.push(found);
                }
            }
            of.after = stood.next;
            if of.after.is_none() || items.len() >= limit || bytes >= PAGE_BYTES {
                filter.show_all(&mut items);
                return Ok(PastPage { at, items, next: of.after });
            }
        }
    }

    /// The versions of an object, newest first, with what each changed.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`; `BadRequest` for kinds without a history.
    pub async fn history(
        &self,
        caller: &Caller,
        served: Served,
        key: &Key,
        below: Option<Rev>,
        limit: usize,
    ) -> Result<History, Status> {
        let sees_all = self.may_read(caller, served, key)? == May::Always;
        remembered(served)?;
        let store = &self.inner.store;
        // One more: what the oldest of them changed is told by the one before it.
        let entries = store.versions(key, below, limit + 1).await.map_err(unreadable)?;
        let pins = store.pins(key).await.map_err(unreadable)?;
        let seen = |entry| object(key, entry).filter(|object| !self.is_hidden(caller, served, object));
        let objects: Vec<_> = entries.iter().map(seen).collect();
        // Of large ones fewer come; then the oldest waits for the next page, where the one before it is.
        let bytes: usize = entries.iter().flat_map(|entry| &entry.body).map(|body| body.json().len() + 256).sum();
        let more = entries.len() > limit || bytes >= PAGE_BYTES;
        let shown = if more { limit.min(entries.len().saturating_sub(1)) } else { entries.len() };
        let mut items = Vec::new();
        for (at, entry) in entries.iter().enumerate().take(shown) {
            let (this, before) = (&objects[at], objects.get(at + 1).and_then(Option::as_ref));
            // Whoever may not see what was deleted is not told that it was.
            if this.is_none() && (entry.body.is_some() || (before.is_none() && !sees_all)) {
                continue;
            }
            let earlier = entries.get(at + 1).map(|e| e.body.is_some());
            let mut version = version(entry, this.as_deref(), before.map(|b| &**b), earlier);
            version.pins =
                pins.iter().filter(|pin| pin.revision == entry.revision).map(|pin| pin.name.clone()).collect();
            items.push(version);
        }
        let live = || store.get(key).is_some_and(|live| !self.is_hidden(caller, served, &live));
        if items.is_empty() && !more && !live() {
            return Err(Status::not_found(key).in_words_of(served));
        }
        let next = entries.get(shown.saturating_sub(1)).filter(|_| more).map(|last| last.revision.to_string());
        let mut metadata = self.told_horizon().await?;
        metadata.name = key.name.to_string();
        metadata.namespace = key.namespace.to_string();
        metadata.next = next.unwrap_or_default();
        Ok(History::of(metadata, items))
    }

    /// Keeps the version of an object that stood at a revision, or stands now, under a name. A pin of that name moves.
    ///
    /// # Errors
    /// `NotFound` where none stood, `Forbidden`, `Invalid` for a name that cannot be, `Expired`; `BadRequest` where there are too many.
    pub async fn pin(
        &self,
        caller: &Caller,
        served: Served,
        key: &Key,
        name: &str,
        revision: Option<Rev>,
    ) -> Result<HistoryPin, Status> {
        self.authority().may(&caller.who, &about(served, "update", key))?;
        remembered(served)?;
        check_name(name)?;
        let store = &self.inner.store;
        let at = match revision {
            Some(at) => self.revision_of(When::Revision(at)).await?.0,
            None => store.revision(),
        };
        let absent = || Status::not_found(key).in_words_of(served);
        let stood = store.versions(key, Some(at.next()), 1).await.map_err(unreadable)?.pop().ok_or_else(absent)?;
        let object = object(key, &stood).ok_or_else(absent)?;
        self.must_see(caller, served, "update", &object)?;
        let pins = store.pins(key).await.map_err(unreadable)?;
        if pins.len() >= MOST_PINS && !pins.iter().any(|pin| pin.name == name) {
            return Err(Status::bad_request(format!("an object has at most {MOST_PINS} pins; take one back first")));
        }
        let pin = Pin {
            key: key.clone(),
            name: name.to_owned(),
            revision: stood.revision,
            at: self.inner.clock.now(),
            actor: caller.who.name.clone(),
        };
        if store.pin(pin.clone()).await.map_err(unwritable)? { Ok(told_pin(pin)) } else { Err(absent()) }
    }

    /// Takes a pin back.
    ///
    /// # Errors
    /// `NotFound` where there is none, `Forbidden`.
    pub async fn unpin(&self, caller: &Caller, served: Served, key: &Key, name: &str) -> Result<HistoryPin, Status> {
        self.authority().may(&caller.who, &about(served, "update", key))?;
        remembered(served)?;
        let absent =
            || Status::new(Reason::NotFound, format!("{} \"{}\" has no pin \"{name}\"", served.qualified(), key.name));
        let store = &self.inner.store;
        let pins = store.pins(key).await.map_err(unreadable)?;
        let pin = pins.into_iter().find(|pin| pin.name == name).ok_or_else(absent)?;
        let pinned = store.versions(key, Some(pin.revision.next()), 1).await.map_err(unreadable)?.pop();
        if let Some(object) = pinned.and_then(|entry| object(key, &entry)) {
            self.must_see(caller, served, "update", &object)?;
        }
        if store.unpin(key, name).await.map_err(unwritable)? { Ok(told_pin(pin)) } else { Err(absent()) }
    }

    /// The caller's own transactions before a revision, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn past_transactions(
        &self,
        caller: &Caller,
        below: Option<Rev>,
        limit: usize,
    ) -> Result<PastTransactionList, Status> {
        let of = Transactions::Of { actor: caller.who.name.clone(), below, touched: NAMED };
        let found = self.inner.store.transactions(&of, limit).await.map_err(unreadable)?;
        let mut metadata = self.told_horizon().await?;
        if let Some(last) = found.last().filter(|_| found.len() >= limit) {
            metadata.next = last.revision.to_string();
        }
        let told = found.into_iter().map(|one| self.told_transaction(caller, one));
        Ok(PastTransactionList::of(metadata, told.filter(|one| one.changed_objects > 0).collect()))
    }

    /// One of the caller's own transactions, with all that it changed.
    ///
    /// # Errors
    /// `NotFound` where it is none of theirs.
    pub async fn past_transaction(&self, caller: &Caller, at: Rev) -> Result<PastTransactionInfo, Status> {
        let found = self.inner.store.transactions(&Transactions::At(at), 1).await.map_err(unreadable)?.pop();
        let own = found.filter(|one| one.provenance.actor == caller.who.name && !one.provenance.request_id.is_empty());
        let absent = || Status::new(Reason::NotFound, format!("no transaction of yours has the revision {at}"));
        own.map(|one| self.told_transaction(caller, one)).ok_or_else(absent)
    }

    fn told_transaction(&self, caller: &Caller, of: PastTransaction) -> PastTransactionInfo {
        // What is never served (credentials, sessions) is nobody's wish.
        let (shown, inner): (Vec<&PastTouch>, Vec<&PastTouch>) =
            of.touched.iter().partition(|touch| touch.key.kind.stored_form().has_history());
        let readable = |touch: &&&PastTouch| self.may_read(caller, touch.key.kind.stored_form(), &touch.key).is_ok();
        let changes: Vec<ObjectChange> = shown.iter().filter(readable).map(|touch| told_touch(touch)).collect();
        PastTransactionInfo {
            revision: of.revision.to_string(),
            time: Some(MicroTime(of.at)),
            by: authorship(&of.provenance),
            hidden: shown.len() - changes.len(),
            changes,
            changed_objects: of.count - inner.len(),
        }
    }

    /// The revision that a moment means, if what stood then is known.
    async fn revision_of(&self, when: When) -> Result<(Rev, Horizon), Status> {
        let store = &self.inner.store;
        let (horizon, newest) = (store.horizon().await.map_err(unreadable)?, store.revision());
        let since = || horizon.since.map_or_else(|| "now".to_owned(), |at| MicroTime(at).to_string());
        match when {
            When::Revision(at) if at > newest => {
                Err(Status::bad_request(format!("revision {at} is still to come: the newest is {newest}")))
            }
            When::Revision(at) if at < horizon.oldest => {
                let message = format!(
                    "revision {at} is too long ago: the past is known from revision {} on ({})",
                    horizon.oldest,
                    since()
                );
                Err(Status::new(Reason::Expired, message))
            }
            When::Revision(at) => Ok((at, horizon)),
            When::Time(at) if horizon.since.is_none_or(|since| at < since) => {
                let message = format!("{} is too long ago: the past is known from {} on", Time(at), since());
                Err(Status::new(Reason::Expired, message))
            }
            When::Time(at) => {
                let found = store.revision_at(at).await.map_err(unreadable)?;
                Ok((found.max(horizon.oldest), horizon))
            }
        }
    }

    async fn told_horizon(&self) -> Result<HistoryMetadata, Status> {
        let Horizon { oldest, since } = self.inner.store.horizon().await.map_err(unreadable)?;
        let oldest_time = since.map(MicroTime);
        Ok(HistoryMetadata { oldest_revision: oldest.to_string(), oldest_time, ..HistoryMetadata::default() })
    }

    fn may_read(&self, caller: &Caller, served: Served, key: &Key) -> Result<May, Status> {
        self.authority().may(&caller.who, &about(served, "get", key))
    }

    fn must_see(&self, caller: &Caller, served: Served, verb: &str, object: &StoredObject) -> Result<(), Status> {
        let what = about(served, verb, &object.key);
        if self.authority().may(&caller.who, &what)? == May::Always {
            return Ok(());
        }
        let judged = self.authority().on(&caller.who, &what, &object.key, &object.value());
        judged.map_err(|status| status.in_words_of(served))
    }

    fn is_hidden(&self, caller: &Caller, served: Served, object: &StoredObject) -> bool {
        self.must_see(caller, served, "get", object).is_err()
    }
}

fn about<'a>(served: Served, verb: &'a str, key: &'a Key) -> Attributes<'a> {
    let (namespace, name) = (&key.namespace, &key.name);
    Attributes { verb, group: served.group(), resource: served.plural(), subresource: "", namespace, name, path: "" }
}

/// The version as an object; `None` for a deletion.
fn object(key: &Key, entry: &HistoryEntry) -> Option<Arc<StoredObject>> {
    StoredObject::new(key.clone(), entry.revision, entry.body.as_ref()?).ok().map(Arc::new)
}

/// Whether the kind has a history.
fn remembered(served: Served) -> Result<(), Status> {
    if served.kind.stored_form().has_history() {
        return Ok(());
    }
    Err(Status::bad_request(format!("{} have no history", served.qualified())))
}

fn check_name(name: &str) -> Result<(), Status> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    let ends = [name.bytes().next(), name.bytes().last()];
    let begins_with_a_letter = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let ends_well = ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()));
    if letters && begins_with_a_letter && ends_well && name.len() <= LONGEST_PIN {
        return Ok(());
    }
    let message = format!(
        "{name:?}: at most {LONGEST_PIN} lower-case letters, digits, `-` and `.`, beginning with a letter and ending with none of the two"
    );
    Err(Status::invalid_option("HistoryPin", &Violation::new(FieldPath::of("name"), Problem::Invalid, message)))
}

fn told_pin(pin: Pin) -> HistoryPin {
    HistoryPin {
        api_version: crate::api::API_VERSION.to_owned(),
        kind: HistoryPin::KIND.to_owned(),
        name: pin.name,
        revision: pin.revision.to_string(),
        time: Some(MicroTime(pin.at)),
        user: pin.actor,
    }
}

fn authorship(of: &Provenance) -> Authorship {
    Authorship {
        user: of.actor.clone(),
        manager: of.manager.clone(),
        request_id: of.request_id.clone(),
        reason: of.reason.clone(),
        cause: of.cause.map(|cause| cause.to_string()),
    }
}

fn told_touch(touch: &PastTouch) -> ObjectChange {
    let kind = touch.key.kind;
    ObjectChange {
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        namespace: touch.key.namespace.to_string(),
        name: touch.key.name.to_string(),
        uid: touch.uid.clone(),
        change: match (touch.was, touch.deleted) {
            (_, true) => VersionChange::Deleted,
            (true, false) => VersionChange::Changed,
            (false, false) => VersionChange::Created,
        },
    }
}

/// What a version is, seen from the one before it. `earlier`: whether that one was no deletion; `None` if there is none.
fn version(
    entry: &HistoryEntry,
    this: Option<&StoredObject>,
    before: Option<&StoredObject>,
    earlier: Option<bool>,
) -> Version {
    let is_new = |object: &StoredObject| {
        // Made a moment before it was committed, and told in whole seconds.
        object
            .meta()
            .creation_timestamp
            .is_some_and(|made| (-1..=5).contains(&(entry.at.as_second() - made.0.as_second())))
    };
    let change = match (this, before, earlier) {
        (None, ..) => VersionChange::Deleted,
        (Some(object), None, None) if is_new(object) => VersionChange::Created,
        (Some(_), None, None) => VersionChange::Kept,
        (Some(_), _, Some(false)) => VersionChange::Recreated,
        (Some(object), Some(before), _) if object.meta().uid != before.meta().uid => VersionChange::Recreated,
        (Some(object), Some(before), _) if is_going(object) && !is_going(before) => VersionChange::Deleting,
        (Some(_), ..) => VersionChange::Changed,
    };
    let (mut fields, mut changed_fields) = (Vec::new(), 0);
    if let (VersionChange::Changed | VersionChange::Deleting, Some(this), Some(before)) = (change, this, before) {
        let (old, new) = (before.value(), this.value());
        let found = changes(Some(&old), Some(&new));
        changed_fields = found.len();
        let cut = |value: Option<Value>| value.as_ref().map(shortened);
        let told = found.into_iter().take(MOST_FIELDS);
        fields = told.map(|of| FieldChange { old: cut(of.old), new: cut(of.new), ..of }).collect();
    }
    Version {
        revision: entry.revision.to_string(),
        time: Some(MicroTime(entry.at)).filter(|at| at.0 != Timestamp::UNIX_EPOCH),
        uid: entry.uid.clone(),
        change,
        by: authorship(&entry.provenance),
        pins: Vec::new(),
        fields,
        changed_fields,
    }
}

fn is_going(object: &StoredObject) -> bool {
    object.meta().deletion_timestamp.is_some()
}

/// A value that is not too long to be told.
fn shortened(value: &Value) -> Value {
    let text = match value {
        Value::String(text) if text.len() > LONGEST_VALUE => text.clone(),
        Value::Object(_) | Value::Array(_) => {
            let text = value.to_string();
            if text.len() <= LONGEST_VALUE {
                return value.clone();
            }
            text
        }
        _ => return value.clone(),
    };
    let head: String = text.chars().take(LONGEST_VALUE / 4).collect();
    Value::String(format!("{head}… ({} bytes)", text.len()))
}

fn unreadable(error: EngineError) -> Status {
    tracing::error!(%error, "the history cannot be read");
    Status::internal("the history cannot be read")
}

fn unwritable(error: EngineError) -> Status {
    tracing::error!(%error, "a pin cannot be written");
    Status::new(Reason::ServiceUnavailable, "the store cannot write at present")
}
