//! What is remembered of runs that go on, so that a pass costs what is new and not all that the run ever did.
//!
//! All of it can be made anew from the store: a controller that has just begun remembers nothing, and comes to the same.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use jiff::Timestamp;

use crate::api::{Key, Object, Rev, Run, StoredObject, WorkflowRun};

/// Runs that are kept in their typed form: those that were last gone through.
const DECODED: usize = 16;
/// How long they are as JSON, together; what is decoded takes some times as much. One is kept however long it is.
const LONGEST: usize = 4 << 20;

/// Of all runs.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    runs: BTreeMap<Key, Remembered>,
    /// Runs whose pass is under way, and what was heard of meanwhile.
    passes: BTreeMap<Key, Heard>,
    /// What each run's last pass wrote.
    written: BTreeMap<Key, Rev>,
    /// When each run ended, if it has, by the version that says so: who keeps the history of a Workflow asks it of all its runs.
    ends: BTreeMap<Key, (Rev, Option<Timestamp>)>,
    /// Everybody who asks for the typed form while it is held here finds it made.
    decoded: VecDeque<Decoded>,
}

/// A run in its typed form.
#[derive(Debug)]
pub(super) struct Decoded {
    pub run: Arc<Object<WorkflowRun>>,
    /// As JSON.
    pub length: usize,
}

/// What was heard of while a pass was under way.
#[derive(Debug, Default)]
struct Heard {
    /// The newest version of the run.
    newest: Rev,
    /// Of its steps: in which revisions they ended, without repetition.
    steps: Vec<Rev>,
}

/// Of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered {
    /// The Runs of steps that have ended, if they left something that later steps may ask for.
    pub ended: BTreeMap<String, Option<Arc<Object<Run>>>>,
    /// Steps of whose standard output something is made, once somebody has looked.
    pub printed: Option<Arc<BTreeSet<String>>>,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of the memory panics")
    }

    /// A pass begins.
    pub(super) fn begin(&self, key: &Key) {
        self.inner().passes.insert(key.clone(), Heard::default());
    }

    /// A pass is over, and wrote this. True if something else was heard of meanwhile.
    pub(super) fn end(&self, key: &Key, written: Option<Rev>) -> bool {
        let mut inner = self.inner();
        let heard = inner.passes.remove(key).unwrap_or_default();
        if let Some(written) = written.filter(|_| inner.runs.contains_key(key)) {
            inner.written.insert(key.clone(), written);
        }
        // It may hear only now of what an earlier one wrote.
        let own = written.or(inner.written.get(key).copied());
        heard.newest > own.unwrap_or(Rev(0)) || heard.steps.iter().any(|revision| Some(*revision) != own)
    }

    /// Whether a step of the run ended in that revision by somebody else's doing than its own last pass's. While one is under way that is
    /// told at its end.
    pub(super) fn is_other(&self, key: &Key, revision: Rev) -> bool {
        let mut inner = self.inner();
        match inner.passes.get_mut(key) {
            Some(heard) => {
                if heard.steps.last() != Some(&revision) {
                    heard.steps.push(revision);
                }
                false
            }
            None => inner.written.get(key) != Some(&revision),
        }
    }

    /// Whether that version of a run is a reason for a pass. What its own pass wrote is none: each goes as far as it comes. While one
    /// is under way nobody can tell yet, so it is told at its end.
    pub(super) fn is_news(&self, key: &Key, revision: Rev) -> bool {
        let mut inner = self.inner();
        match inner.passes.get_mut(key) {
            Some(heard) => {
                heard.newest = revision.max(heard.newest);
                false
            }
            None => inner.written.get(key) != Some(&revision),
        }
    }

    /// Takes out what is known of a run, for its pass.
    pub(super) fn take(&self, key: &Key) -> Remembered {
        self.inner().runs.remove(key).unwrap_or_default()
    }

    /// Puts it back.
    pub(super) fn keep(&self, key: &Key, known: Remembered, decoded: Option<Decoded>) {
        let mut inner = self.inner();
        inner.runs.insert(key.clone(), known);
        if let Some(decoded) = decoded {
            inner.decoded.retain(|other| other.run.uid() != decoded.run.uid());
            inner.decoded.push_front(decoded);
            let mut together = 0;
            let fits = inner.decoded.iter().take(DECODED).take_while(|decoded| {
                together += decoded.length;
                together <= LONGEST
            });
            let fits = fits.count().max(1);
            inner.decoded.truncate(fits);
        }
    }

    /// Nobody has written for a while: what is typed is let go of, which is many times as large as what is stored.
    pub(super) fn rest(&self) {
        self.inner().decoded = VecDeque::new();
    }

    /// When a run ended; `None` while it goes on. Each version of it is read once.
    pub(super) fn ended(&self, run: &StoredObject, now: Timestamp) -> Option<Timestamp> {
        if let Some((_, at)) = self.inner().ends.get(&run.key).filter(|(revision, _)| *revision == run.revision) {
            return *at;
        }
        let typed = run.typed::<WorkflowRun>()?;
        let at = typed.status.is_over().then(|| typed.status.completion_time.map_or(now, |at| at.0));
        self.inner().ends.insert(run.key.clone(), (run.revision, at));
        at
    }

    /// The run is gone.
    pub(super) fn gone(&self, key: &Key) {
        self.forget(key);
        self.inner().ends.remove(key);
    }

    /// The run has ended, or is gone.
    pub(super) fn forget(&self, key: &Key) {
        let mut inner = self.inner();
        inner.runs.remove(key);
        inner.written.remove(key);
        inner.decoded.retain(|decoded| decoded.run.key() != *key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_pass_wrote_itself_is_no_news_whenever_it_is_heard_of() {
        let (memory, key) = (Memory::default(), Key::of::<WorkflowRun>("default", "a"));
        assert!(memory.is_news(&key, Rev(3)));
        memory.begin(&key);
        assert!(!memory.is_news(&key, Rev(4)));
        memory.keep(&key, Remembered::default(), None);
        assert!(!memory.end(&key, Some(Rev(4))), "it heard of its own write alone");
        assert!(!memory.is_news(&key, Rev(4)));
        assert!(memory.is_news(&key, Rev(5)));
        memory.begin(&key);
        assert!(!memory.is_news(&key, Rev(6)));
        assert!(memory.end(&key, None), "somebody has written meanwhile");
        memory.begin(&key);
        memory.is_news(&key, Rev(7));
        memory.is_news(&key, Rev(8));
        assert!(memory.end(&key, Some(Rev(7))), "somebody has written after it");
        memory.forget(&key);
        assert!(memory.is_news(&key, Rev(7)));
    }

    #[test]
    fn what_is_kept_decoded_is_bounded_by_its_length() {
        let memory = Memory::default();
        let keep = |name: &str, length: usize| {
            let metadata = json!({"name": name, "namespace": "default", "uid": name});
            let run = json!({"metadata": metadata, "spec": {"workflow": "demo", "identity": "ada"}});
            let run: Object<WorkflowRun> = serde_json::from_value(run).expect("a run");
            memory.keep(&run.key(), Remembered::default(), Some(Decoded { run: run.into(), length }));
            memory.inner().decoded.iter().map(|decoded| decoded.run.metadata.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(keep("a", LONGEST / 2), ["a"]);
        assert_eq!(keep("b", LONGEST / 2), ["b", "a"]);
        assert_eq!(keep("c", 1), ["c", "b"]);
        assert_eq!(keep("b", 1), ["b", "c"], "one has one place");
        assert_eq!(keep("d", 2 * LONGEST), ["d"], "the last is kept however long it is");
        (0..2 * DECODED).for_each(|n| drop(keep(&format!("n{n}"), 1)));
        assert_eq!(keep("e", 1).len(), DECODED);
    }

    #[test]
    fn a_step_whose_end_the_pass_itself_wrote_is_no_reason_for_another() {
        let (memory, key) = (Memory::default(), Key::of::<WorkflowRun>("default", "a"));
        memory.begin(&key);
        assert!(!memory.is_other(&key, Rev(4)));
        memory.keep(&key, Remembered::default(), None);
        assert!(!memory.end(&key, Some(Rev(4))));
        assert!(!memory.is_other(&key, Rev(4)));
        assert!(memory.is_other(&key, Rev(3)), "it may be heard of late");
        memory.begin(&key);
        memory.is_other(&key, Rev(5));
        memory.is_other(&key, Rev(6));
        assert!(memory.end(&key, Some(Rev(6))), "another step ended before what it wrote, and it may not have looked");
    }
}
