//! Reading: get, list and watch, each authorized, each through the caller's selectors.

use std::sync::Arc;

use futures::stream;

use super::{Admission, Caller, reveal::Eyes};
use crate::{
    api::{Key, Reason, Rev, Served, Status, StoredObject},
    auth::{Attributes, May, Viewer},
    client::{ChangeType, Listing, Query, WatchEvent, WatchStream},
    policy::selector::{FieldSelector, LabelSelector},
    store::{Change, Snapshot, Watch, WatchError},
};

/// Which objects a caller sees.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// Whose eyes it is seen through; `None`: theirs who see all there is.
    viewer: Option<Box<Viewer>>,
    /// How what they see is shown to them.
    eyes: Eyes,
}

impl Filter {
    fn parse(served: Served, query: &Query) -> Result<Self, Status> {
        let labels = LabelSelector::parse(&query.label_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        let fields =
            FieldSelector::parse(served, &query.field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
        Ok(Self {
            namespace: query.namespace.clone().filter(|n| !n.is_empty()),
            labels,
            fields,
            viewer: None,
            eyes: Eyes::Open,
        })
    }

    fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.viewer.is_none()
    }

    fn listing(&self, snapshot: Snapshot) -> Listing {
        let Snapshot { revision, mut items } = snapshot;
        if !self.selects_all() {
            items.retain(|object| self.sees(object));
        }
        self.show_all(&mut items);
        Listing { revision, items }
    }

    pub(super) fn show_all(&self, items: &mut [Arc<StoredObject>]) {
        if matches!(self.eyes, Eyes::Half(_)) {
            items.iter_mut().for_each(|object| *object = self.eyes.show(object.clone()));
        }
    }

    pub(super) fn sees(&self, object: &StoredObject) -> bool {
        self.namespace.as_deref().is_none_or(|n| *object.key.namespace == *n)
            && (self.labels.is_empty() || self.labels.matches(&object.meta().labels))
            && (self.fields.is_empty() || self.fields.matches(object))
            && self.viewer.as_ref().is_none_or(|viewer| viewer.sees(object))
    }

    /// A change as somebody sees it who sees only what is selected.
    fn event(&self, change: &Change) -> Option<(ChangeType, Arc<StoredObject>)> {
        let Change { old, new, deleted, old_known } = change;
        if self.namespace.as_deref().is_some_and(|n| *new.key.namespace != *n) {
            return None;
        }
        let was = old.as_ref().is_some_and(|old| self.sees(old));
        let is = !deleted && self.sees(new);
        let event = match (was, is) {
            (true, true) => Some((ChangeType::Modified, new.clone())),
            (false, true) if *old_known => Some((ChangeType::Added, new.clone())),
            // Whether it was seen before cannot be known: "modified" is right for whoever has it, and adds it elsewhere.
            (false, true) => Some((ChangeType::Modified, new.clone())),
            (true, false) if *deleted => Some((ChangeType::Deleted, new.clone())),
            (true, false) => old.as_ref().map(|old| (ChangeType::Deleted, at(old, new.revision))),
            (false, false) if *old_known => None,
            (false, false) => Some((ChangeType::Deleted, new.clone())),
        };
        event.map(|(change, object)| (change, self.eyes.show(object)))
    }
}

/// An old state at the revision at which it was left.
fn at(old: &StoredObject, revision: Rev) -> Arc<StoredObject> {
    Arc::new(StoredObject::new(old.key.clone(), revision, &old.body()).expect("it was stored before"))
}

/// The changes of one commit that a watcher sees.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The commit's revision: resume from here.
    pub revision: Rev,
    /// What is to be seen of it, in order; empty if nothing is.
    pub events: Vec<(ChangeType, Arc<StoredObject>)>,
}

/// A watch through a caller's selectors.
pub struct Watching {
    watch: Watch,
    filter: Filter,
}

impl Watching {
    /// The next commit. Cancel-safe.
    ///
    /// # Errors
    /// `None` if the server ended the watch (shutdown, or the watcher was too slow: resume), a `Status` if it must list anew.
    pub async fn next(&mut self) -> Result<Seen, Option<Status>> {
        let batch = self.watch.next().await.map_err(|e| match e {
            WatchError::TooSlow | WatchError::Closed => None,
            error => Some(watch_status(error)),
        })?;
        let events = batch.changes.iter().filter_map(|change| self.filter.event(change)).collect();
        Ok(Seen { revision: batch.revision, events })
    }

    /// The revision that a bookmark may carry now; `None` while changes wait.
    pub fn bookmark(&self) -> Option<Rev> {
        self.watch.bookmark()
    }

    /// The events one by one, with a bookmark after each commit, seen or not.
    pub fn into_stream(self) -> WatchStream {
        let commits = stream::unfold(Some(self), |watching| async {
            let mut watching = watching?;
            match watching.next().await {
                Ok(seen) => {
                    let changes = seen.events.into_iter().map(|(kind, object)| Ok(WatchEvent::Change(kind, object)));
                    let events: Vec<_> = changes.chain([Ok(WatchEvent::Bookmark(seen.revision))]).collect();
                    Some((stream::iter(events), Some(watching)))
                }
                Err(None) => None,
                Err(Some(status)) => Some((stream::iter(vec![Err(status)]), None)),
            }
        });
        Box::pin(futures::StreamExt::flatten(commits))
    }
}

/// What a client is told when a watch cannot begin or go on.
fn watch_status(error: WatchError) -> Status {
    match error {
        WatchError::Expired { asked, oldest } => Status::expired(asked, oldest),
        WatchError::TooSlow => Status::new(Reason::Expired, "the watcher was too slow"),
        WatchError::Closed => Status::new(Reason::ServiceUnavailable, "the server is shutting down"),
        WatchError::Future { asked, current } => Status::too_large_version(asked, current),
    }
}

/// What somebody wants to do with one object, or a subresource of it.
fn about<'a>(served: Served, verb: &'a str, subresource: &'a str, key: &'a Key) -> Attributes<'a> {
    let (namespace, name) = (&*key.namespace, &*key.name);
    Attributes { verb, group: served.group(), resource: served.plural(), subresource, namespace, name, path: "" }
}

impl Admission {
    /// One object.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`.
    pub fn get(&self, caller: &Caller, served: Served, key: &Key) -> Result<Arc<StoredObject>, Status> {
        self.get_part(caller, served, "", key)
    }

    /// One object, for whoever may see that subresource of it.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`.
    pub fn get_part(
        &self,
        caller: &Caller,
        served: Served,
        subresource: &str,
        key: &Key,
    ) -> Result<Arc<StoredObject>, Status> {
        self.part(caller, served, "get", subresource, key)
    }

    /// One object, for whoever may do that with that subresource of it.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`.
    pub fn part(
        &self,
        caller: &Caller,
        served: Served,
        verb: &str,
        subresource: &str,
        key: &Key,
    ) -> Result<Arc<StoredObject>, Status> {
        let attributes = about(served, verb, subresource, key);
        let authority = &self.inner.authority;
        let may = authority.may(&caller.who, &attributes)?;
        let found = self.inner.store.get(key).ok_or_else(|| Status::not_found(key).in_words_of(served))?;
        if may != May::Always {
            authority.on(&caller.who, &attributes, key, &found.value()).map_err(|status| status.in_words_of(served))?;
        }
        Ok(self.eyes(caller, key.kind).show(found))
    }

    /// Whether `caller` may do `verb` to this version of an object, which may be gone by now.
    pub fn is_shown(&self, caller: &Caller, verb: &str, object: &StoredObject) -> bool {
        let attributes = about(object.key.kind.stored_form(), verb, "", &object.key);
        let authority = &self.inner.authority;
        match authority.may(&caller.who, &attributes) {
            Ok(May::Always) => true,
            Ok(_) => authority.on(&caller.who, &attributes, &object.key, &object.value()).is_ok(),
            Err(_) => false,
        }
    }

    /// Every object that the query selects, from one snapshot.
    ///
    /// # Errors
    /// `BadRequest` for a selector that cannot be read, `Forbidden`.
    pub fn list(&self, caller: &Caller, served: Served, query: &Query) -> Result<Listing, Status> {
        self.selected(caller, "list", served, query)
    }

    /// Every object that the query selects for `verb`, which is done to many: `list`, or `deletecollection`, which as in Kubernetes
    /// needs no other verb and shows those that may be deleted.
    ///
    /// # Errors
    /// As [`Admission::list`].
    pub fn selected(&self, caller: &Caller, verb: &str, served: Served, query: &Query) -> Result<Listing, Status> {
        let filter = self.filter(caller, verb, served, query)?;
        Ok(filter.listing(self.inner.store.list(served.kind, filter.namespace.as_deref())))
    }

    /// Every object that the query selected at a revision; `None` if that is too long ago.
    ///
    /// # Errors
    /// As [`Admission::list`].
    pub fn selected_at(
        &self,
        caller: &Caller,
        verb: &str,
        served: Served,
        query: &Query,
        at: Rev,
    ) -> Result<Option<Listing>, Status> {
        let filter = self.filter(caller, verb, served, query)?;
        let snapshot = self.inner.store.list_at(served.kind, filter.namespace.as_deref(), at);
        Ok(snapshot.map(|snapshot| filter.listing(snapshot)))
    }

    /// Through whose eyes a caller who does `verb` sees what a query selects; `None`: theirs who see all there is.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn viewer(&self, caller: &Caller, verb: &str, served: Served, query: &Query) -> Result<Option<Viewer>, Status> {
        self.authorize_kind(caller, served, verb, query.namespace.as_deref().unwrap_or_default())
    }

    /// What a caller sees of what a query selects.
    pub(super) fn filter(&self, caller: &Caller, verb: &str, served: Served, query: &Query) -> Result<Filter, Status> {
        let viewer = self.viewer(caller, verb, served, query)?;
        let eyes = self.eyes(caller, served.kind);
        Ok(Filter { viewer: viewer.map(Box::new), eyes, ..Filter::parse(served, query)? })
    }

    /// Every change after `from` of what the query selects.
    ///
    /// # Errors
    /// `Expired` if the history from there on is gone, `BadRequest` for a selector that cannot be read, `Forbidden`.
    pub async fn watch(&self, caller: &Caller, served: Served, query: &Query, from: Rev) -> Result<Watching, Status> {
        let filter = self.filter(caller, "watch", served, query)?;
        let watch = self.inner.store.watch(served.kind, from).await.map_err(watch_status)?;
        Ok(Watching { watch, filter })
    }

    /// A list, and every change after it. Nothing falls between the two.
    ///
    /// # Errors
    /// As [`Admission::list`].
    pub fn list_and_watch(
        &self,
        caller: &Caller,
        served: Served,
        query: &Query,
    ) -> Result<(Listing, Watching), Status> {
        let filter = self.filter(caller, "watch", served, query)?;
        let (snapshot, watch) = self.inner.store.list_and_watch(served.kind);
        let mut items: Vec<_> = snapshot.items.into_iter().filter(|object| filter.sees(object)).collect();
        filter.show_all(&mut items);
        Ok((Listing { revision: snapshot.revision, items }, Watching { watch, filter }))
    }

    pub(super) fn authorize_kind(
        &self,
        caller: &Caller,
        served: Served,
        verb: &str,
        namespace: &str,
    ) -> Result<Option<Viewer>, Status> {
        let attributes =
            Attributes { verb, group: served.group(), resource: served.plural(), namespace, ..Attributes::default() };
        self.inner.authority.viewer(&caller.who, &attributes)
    }
}
