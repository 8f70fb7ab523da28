//! Watch lines, made once for all watchers: a thousand watchers of one change share one piece of memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use crate::{
    api::{Served, StoredObject},
    client::ChangeType,
};

/// How much is remembered. Watchers of one change ask within moments of each other, so little is enough.
const MOST_BYTES: usize = 512 * 1024;
const MOST_LINES: usize = 64;

/// The word on the wire.
pub(super) fn word(change: ChangeType) -> &'static str {
    match change {
        ChangeType::Added => "ADDED",
        ChangeType::Modified => "MODIFIED",
        ChangeType::Deleted => "DELETED",
    }
}

/// One line.
pub(super) fn line(word: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + word.len() + 24);
    for part in [br#"{"type":""#.as_slice(), word.as_bytes(), br#"","object":"#, object, b"}\n"] {
        out.extend_from_slice(part);
    }
    out.into()
}

/// The latest lines of whole objects.
#[derive(Default)]
pub(super) struct Lines(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    /// The object is held, so its address is not used for another one meanwhile.
    lines: VecDeque<Line>,
    bytes: usize,
}

struct Line {
    change: ChangeType,
    view: Option<(&'static str, &'static str)>,
    object: Arc<StoredObject>,
    text: Bytes,
}

impl Lines {
    /// The line of a change, from memory if somebody else had it made just now.
    pub(super) fn get(&self, served: Served, change: ChangeType, object: &Arc<StoredObject>) -> Bytes {
        let view = served.view.map(|v| (v.group, v.plural));
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |l: &&Line| l.change == change && l.view == view && Arc::ptr_eq(&l.object, object);
        if let Some(known) = recent.lines.iter().rev().find(same) {
            return known.text.clone();
        }
        let text = line(word(change), &object.served_as(served));
        recent.bytes += text.len();
        recent.lines.push_back(Line { change, view, object: object.clone(), text: text.clone() });
        while recent.lines.len() > MOST_LINES || recent.bytes > MOST_BYTES {
            let Some(oldest) = recent.lines.pop_front() else { break };
            recent.bytes -= oldest.text.len();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{App, Body, Key, Kind, Rev};

    fn object(name: &str) -> Arc<StoredObject> {
        let body = Body::new(json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}}));
        Arc::new(StoredObject::new(Key::of::<App>("default", name), Rev(1), &body).expect("object"))
    }

    #[test]
    fn a_line_is_made_once_for_each_change() {
        let (lines, web, apps) = (Lines::default(), object("web"), App::INFO.stored_form());
        let first = lines.get(apps, ChangeType::Added, &web);
        assert_eq!(first.as_ptr(), lines.get(apps, ChangeType::Added, &web).as_ptr());
        assert!(first.starts_with(b"{\"type\":\"ADDED\",\"object\":{") && first.ends_with(b"}\n"));
        assert!(lines.get(apps, ChangeType::Deleted, &web).starts_with(b"{\"type\":\"DELETED\""));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let lines = Lines::default();
        for at in 0..1000 {
            lines.get(App::INFO.stored_form(), ChangeType::Added, &object(&format!("o{at}")));
        }
        assert!(lines.0.lock().expect("lock").lines.len() <= MOST_LINES);
    }
}
