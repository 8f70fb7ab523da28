//! Paging: every page of a list is cut from the same snapshot.
//!
//! The token names the snapshot's revision and the object after which to go on. The snapshot itself is held for a few minutes;
//! one shares its objects with the store, so holding it costs only what has changed since. One that is not held any more may
//! still be rebuilt from the recent changes; where it cannot, the answer is 410 with a token that goes on with the list as it
//! is then, as in Kubernetes.

use std::{
    collections::{VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    admission::Eyes,
    api::{KindInfo, Reason, Rev, Status, StoredObject},
    auth::Viewer,
    client::{Listing, Query},
};

const MOST: usize = 64;
const KEPT: SignedDuration = SignedDuration::from_mins(5);

/// What `continue` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    /// The snapshot's revision; 0 is the newest.
    rv: u64,
    /// Which list this is: of which kind, with which selectors.
    of: u64,
    /// The last object that was shown.
    ns: String,
    name: String,
}

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// In which snapshot; 0 is the newest.
    pub revision: Rev,
    after: (String, String),
}

/// Which list: of what, and through whose eyes. Nobody goes on with a list of somebody who sees something else.
#[derive(Clone)]
pub(super) struct Which {
    pub kind: &'static KindInfo,
    pub query: Query,
    /// `None`: theirs who see all there is.
    pub viewer: Option<Viewer>,
    /// How it is shown to them.
    pub eyes: Eyes,
}

struct Held {
    until: Timestamp,
    of: Which,
    listing: Arc<Listing>,
}

/// One page.
pub(super) struct Page {
    /// The snapshot.
    pub listing: Arc<Listing>,
    /// Which part of it.
    pub range: std::ops::Range<usize>,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
}

impl Page {
    /// The objects.
    pub(super) fn items(&self) -> &[Arc<StoredObject>] {
        &self.listing.items[self.range.clone()]
    }

    /// How many come after this page.
    pub(super) fn remaining(&self) -> usize {
        self.listing.items.len() - self.range.end
    }
}

/// The place that a token names.
///
/// # Errors
/// 400 for something else than a token of this very list.
pub(super) fn place(token: &str, of: &Which) -> Result<Place, Status> {
    let read = |text: &str| serde_json::from_slice::<Token>(&URL_SAFE_NO_PAD.decode(text).ok()?).ok();
    match read(token) {
        None => Err(Status::bad_request("continue key is not valid")),
        Some(token) if token.of != of.fingerprint() => {
            Err(Status::bad_request("continue key is not valid: it was given for another list"))
        }
        Some(token) => Ok(Place { revision: Rev(token.rv), after: (token.ns, token.name) }),
    }
}

/// 410: the snapshot of a place is gone; with the token to go on without it.
pub(super) fn expired(place: Place, of: &Which) -> Status {
    let message = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                   list without the continue parameter, or use the continue token in this response to retrieve the \
                   remainder of the results. Continuing with the provided token results in an inconsistent list: objects \
                   that were created, modified, or deleted between the time the first chunk was returned and now may show \
                   up in the list.";
    let mut status = Status::new(Reason::Expired, message);
    status.go_on = Some(write(Rev(0), of, place.after).into());
    status
}

/// The snapshots that are held.
#[derive(Default)]
pub(super) struct Pages(Mutex<VecDeque<Held>>);

impl Pages {
    /// A page of a snapshot: its beginning, or what comes after a place. If more is to come, the snapshot is held.
    pub(super) fn cut(
        &self,
        listing: Arc<Listing>,
        place: Option<&Place>,
        limit: Option<usize>,
        of: &Which,
        now: Timestamp,
    ) -> Page {
        let (start, all) = (place.map_or(0, |place| place.start(&listing)), listing.items.len());
        let end = limit.map_or(all, |limit| all.min(start.saturating_add(limit)));
        let next = (end < all).then(|| {
            self.hold(&listing, of, now);
            let last = &listing.items[end - 1].key;
            write(listing.revision, of, (last.namespace.to_string(), last.name.to_string()))
        });
        Page { listing, range: start..end, next }
    }

    /// The snapshot of a place, if it is held.
    pub(super) fn held(&self, revision: Rev, of: &Which, now: Timestamp) -> Option<Arc<Listing>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|h| h.until > now);
        held.iter().find(|h| h.listing.revision == revision && h.of.is(of)).map(|h| h.listing.clone())
    }

    fn hold(&self, listing: &Arc<Listing>, of: &Which, now: Timestamp) {
        if self.held(listing.revision, of, now).is_some() {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.push_back(Held { until: now + KEPT, of: of.clone(), listing: listing.clone() });
        while held.len() > MOST {
            held.pop_front();
        }
    }
}

impl Which {
    fn is(&self, other: &Which) -> bool {
        self.kind == other.kind && self.query == other.query && self.viewer == other.viewer && self.eyes == other.eyes
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let Query { namespace, label_selector, field_selector } = &self.query;
        (self.kind, namespace, label_selector, field_selector).hash(&mut hasher);
        hasher.finish()
    }
}

impl Place {
    fn start(&self, listing: &Listing) -> usize {
        let after = (self.after.0.as_str(), self.after.1.as_str());
        listing.items.partition_point(|object| (&*object.key.namespace, &*object.key.name) <= after)
    }
}

fn write(revision: Rev, list: &Which, (ns, name): (String, String)) -> String {
    let token = Token { rv: revision.0, of: list.fingerprint(), ns, name };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("numbers and texts can be written"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{App, Body, Key, Kind, Node, Rev},
        clock::{Clock, System},
    };

    fn listing(count: usize) -> Listing {
        let items = (0..count).map(|at| {
            let name = format!("a{at}");
            let body = Body::new(json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}}));
            Arc::new(StoredObject::new(Key::of::<App>("d", &name), Rev(1), &body).expect("object"))
        });
        Listing { revision: Rev(9), items: items.collect() }
    }

    fn all_apps() -> Which {
        Which { kind: App::INFO, query: Query::default(), viewer: None, eyes: Eyes::Open }
    }

    #[test]
    fn all_pages_are_of_one_snapshot() {
        let (pages, of, now) = (Pages::default(), all_apps(), System.now());
        let at = |token: &str| place(token, &of).expect("a place");
        let held = |at: &Place, now| pages.held(at.revision, &of, now);
        let page = |listing, at: Option<&Place>, limit| pages.cut(listing, at, limit, &of, now);

        let first = page(Arc::new(listing(5)), None, Some(2));
        assert_eq!((first.items().len(), first.remaining()), (2, 3));
        let token = first.next.expect("more");
        let second = page(held(&at(&token), now).expect("held"), Some(&at(&token)), Some(2));
        let place_2 = at(&second.next.expect("more"));
        let last = page(held(&place_2, now).expect("held"), Some(&place_2), None);
        assert_eq!((&*last.items()[0].key.name, &last.next, last.listing.revision), ("a4", &None, Rev(9)));

        let selected = Which { query: Query { label_selector: "a=b".into(), ..Query::default() }, ..all_apps() };
        let nodes = Which { kind: Node::INFO, ..all_apps() };
        for wrong in [place(&token, &selected), place(&token, &nodes), place("x", &of)] {
            assert_eq!(wrong.expect_err("not of this list").reason, Reason::BadRequest);
        }
        assert!(held(&at(&token), now + SignedDuration::from_hours(1)).is_none());
        let gone = expired(at(&token), &of);
        assert_eq!(at(&gone.go_on.expect("a token")), Place { revision: Rev(0), ..at(&token) });
    }

    #[test]
    fn what_fits_on_one_page_is_not_held() {
        let pages = Pages::default();
        let page = pages.cut(Arc::new(listing(2)), None, Some(2), &all_apps(), System.now());
        assert!(page.next.is_none() && pages.0.lock().expect("lock").is_empty());
    }
}
