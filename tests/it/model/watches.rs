//! The judge of watches: every change of what is selected, once, in order, with its right word.

use serde_json::Value;

use super::{
    check::{Floors, Timeline},
    content::{Key, revision},
    history::{Session, Start, Wrong},
};

impl Timeline {
    /// Can this watch have been served?
    pub(super) fn session(&self, session: &Session, moments: &Floors) -> Result<(), Wrong> {
        let floor = moments.floor(session.begin);
        match session.start {
            Start::After(from) => self.follows(session, from, &session.events),
            Start::Streamed => self.streamed(session, floor),
            Start::Everything => self.everything(session, floor),
        }
    }

    /// The events up to the mark are the state at the mark's revision.
    fn streamed(&self, session: &Session, floor: u64) -> Result<(), Wrong> {
        let is_mark = |(kind, object): &(String, Value)| {
            kind == "BOOKMARK" && object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
        };
        let Some(mark) = session.events.iter().position(is_mark) else {
            // Hung up before it came.
            return Ok(());
        };
        let at = revision(&session.events[mark].1);
        if at < floor {
            return Err(bad(session, &format!("the list is of {at}, although {floor} was there"), None, at));
        }
        self.is_state(session, &session.events[..mark], at)?;
        self.follows(session, at, &session.events[mark + 1..])
    }

    /// The first events are the state at some revision, and the others follow it.
    fn everything(&self, session: &Session, floor: u64) -> Result<(), Wrong> {
        let revisions = self.order.iter().map(|(now, ..)| *now).filter(|now| *now >= floor);
        let mut nearest = None;
        for at in [floor].into_iter().chain(revisions) {
            let count = self.listed(at, session.namespace.as_deref(), &session.selector).len();
            let count = count.min(session.events.len());
            let fits = self
                .is_state(session, &session.events[..count], at)
                .and_then(|()| self.follows(session, at, &session.events[count..]));
            match fits {
                Ok(()) => return Ok(()),
                Err(why) => nearest = Some(why),
            }
        }
        let why = nearest.expect("tried at least once");
        Err(bad(
            session,
            &format!("begins with the state of no revision from {floor} on, the last of which: {}", why.what),
            why.key,
            why.near,
        ))
    }

    /// A beginning of the state at a revision, as additions in the order of lists.
    fn is_state(&self, session: &Session, events: &[(String, Value)], at: u64) -> Result<(), Wrong> {
        let expected = self.listed(at, session.namespace.as_deref(), &session.selector);
        let same = |((kind, object), wanted): (&(String, Value), &&Value)| kind == "ADDED" && object == *wanted;
        match events.len() <= expected.len()
            && events.iter().zip(&expected).all(same)
            && is_whole(session, events, expected.len())
        {
            true => Ok(()),
            false => Err(bad(session, &format!("the initial events are not the state at {at}"), None, at)),
        }
    }

    /// Every change after `from` that is selected, in order; bookmarks only behind what was sent.
    fn follows(&self, session: &Session, from: u64, events: &[(String, Value)]) -> Result<(), Wrong> {
        let (namespace, selector) = (session.namespace.as_deref(), &session.selector);
        let start = self.order.partition_point(|(now, ..)| *now <= from);
        let mut coming = self.order[start..]
            .iter()
            .filter_map(|(now, key, place)| Some((*now, key, self.event(key, *place, namespace, selector)?)))
            .peekable();
        for (kind, object) in events {
            let now = revision(object);
            match kind.as_str() {
                "BOOKMARK" => {
                    if let Some((missing, key, _)) = coming.peek().filter(|(next, ..)| *next <= now) {
                        let what = format!("a bookmark of {now} skips the change of {key:?} at {missing}");
                        return Err(bad(session, &what, Some((*key).clone()), *missing));
                    }
                }
                _ => {
                    let Some((wanted_at, key, (wanted, expected))) = coming.next() else {
                        return Err(bad(
                            session,
                            &format!("{kind} at {now}, and nothing happened"),
                            Some(Key::of(object)),
                            now,
                        ));
                    };
                    if kind != wanted || *object != expected {
                        let seen = Key::of(object);
                        let what = format!(
                            "{kind} {seen:?} at {now}, and not {wanted} {key:?} at {wanted_at}\n  seen     {object}\n  expected {expected}"
                        );
                        return Err(bad(session, &what, Some(key.clone()), wanted_at));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Initial events may be cut short only where the whole watch is.
fn is_whole(session: &Session, events: &[(String, Value)], expected: usize) -> bool {
    events.len() == expected || events.len() == session.events.len()
}

fn bad(session: &Session, what: &str, key: Option<Key>, near: u64) -> Wrong {
    let Session { who, namespace, selector, start, events, .. } = session;
    let what = format!("{who} from {start:?} in {namespace:?}, {selector:?}, {} events: {what}", events.len());
    Wrong { what, key, near }
}
