//! Paging: every page of a list is cut from the same snapshot, which is held until its last page was asked for, or for a few
//! minutes.
//!
//! The token names the snapshot and the place in it. A snapshot shares its objects with the store, so holding one costs only what
//! has changed since.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    api::{KindInfo, Reason, Status, StoredObject},
    client::{Listing, Query},
    clock::Clock,
};

const MOST: usize = 64;
const KEPT: SignedDuration = SignedDuration::from_mins(5);

/// What `continue` holds.
#[derive(Serialize, Deserialize)]
struct Token {
    /// The snapshot's revision, for people who look inside.
    rv: u64,
    id: u64,
    next: usize,
}

struct Held {
    id: u64,
    until: Timestamp,
    kind: &'static KindInfo,
    query: Query,
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

/// The snapshots that are held.
#[derive(Default)]
pub(super) struct Pages(Mutex<VecDeque<Held>>);

impl Pages {
    /// The first page of a snapshot.
    pub(super) fn first(
        &self,
        listing: Listing,
        limit: Option<usize>,
        kind: &'static KindInfo,
        query: &Query,
        clock: &dyn Clock,
    ) -> Page {
        let (listing, all) = (Arc::new(listing.clone()), listing.items.len());
        let end = limit.map_or(all, |limit| limit.min(all));
        let next = (end < all).then(|| {
            let id = clock.random();
            let until = clock.now() + KEPT;
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.push_back(Held { id, until, kind, query: query.clone(), listing: listing.clone() });
            while held.len() > MOST {
                held.pop_front();
            }
            token(&listing, id, end)
        });
        Page { listing, range: 0..end, next }
    }

    /// The page that a token names.
    ///
    /// # Errors
    /// 400 for something else than a token of this very list, 410 when its snapshot is gone.
    pub(super) fn next(
        &self,
        token_text: &str,
        limit: Option<usize>,
        kind: &'static KindInfo,
        query: &Query,
        now: Timestamp,
    ) -> Result<Page, Status> {
        let invalid = || Status::bad_request("continue key is not valid");
        let Token { id, next: start, .. } = URL_SAFE_NO_PAD
            .decode(token_text)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(invalid)?;
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|h| h.until > now);
        let gone = || {
            let message = "The provided continue parameter is too old to display a consistent list result. \
                           You must start a new list without the continue parameter.";
            Status::new(Reason::Expired, message)
        };
        let at = held.iter().position(|h| h.id == id).ok_or_else(gone)?;
        if held[at].kind != kind || held[at].query != *query || start > held[at].listing.items.len() {
            return Err(invalid());
        }
        let listing = held[at].listing.clone();
        let all = listing.items.len();
        let end = limit.map_or(all, |limit| all.min(start.saturating_add(limit)));
        // The snapshot stays until its time is over: a client that missed this answer asks again.
        let next = (end < all).then(|| token(&listing, id, end));
        Ok(Page { listing, range: start..end, next })
    }
}

fn token(listing: &Listing, id: u64, next: usize) -> String {
    let token = Token { rv: listing.revision.0, id, next };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("numbers can be written"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{App, Body, Key, Kind, Node, Rev},
        clock::System,
    };

    fn listing(count: usize) -> Listing {
        let items = (0..count).map(|at| {
            let name = format!("a{at}");
            let body = Body::new(json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}}));
            Arc::new(StoredObject::new(Key::of::<App>("d", &name), Rev(1), &body).expect("object"))
        });
        Listing { revision: Rev(9), items: items.collect() }
    }

    #[test]
    fn all_pages_are_of_one_snapshot() {
        let (pages, query, now) = (Pages::default(), Query::default(), System.now());
        let first = pages.first(listing(5), Some(2), App::INFO, &query, &System);
        assert_eq!((first.items().len(), first.remaining()), (2, 3));
        let token = first.next.expect("more");
        let second = pages.next(&token, Some(2), App::INFO, &query, now).expect("page");
        let last = pages.next(&second.next.expect("more"), None, App::INFO, &query, now).expect("page");
        assert_eq!((&*last.items()[0].key.name, &last.next, last.listing.revision), ("a4", &None, Rev(9)));

        let other = Query { label_selector: "a=b".into(), ..Query::default() };
        let reason = |r: Result<Page, Status>| r.err().map(|s| s.reason);
        assert_eq!(reason(pages.next(&token, None, App::INFO, &other, now)), Some(Reason::BadRequest));
        assert_eq!(reason(pages.next(&token, None, Node::INFO, &query, now)), Some(Reason::BadRequest));
        assert_eq!(reason(pages.next("x", None, App::INFO, &query, now)), Some(Reason::BadRequest));
        let later = now + SignedDuration::from_hours(1);
        assert_eq!(reason(pages.next(&token, None, App::INFO, &query, later)), Some(Reason::Expired));
    }

    #[test]
    fn what_fits_on_one_page_is_not_held() {
        let pages = Pages::default();
        let page = pages.first(listing(2), Some(2), App::INFO, &Query::default(), &System);
        assert!(page.next.is_none() && pages.0.lock().expect("lock").is_empty());
    }
}
