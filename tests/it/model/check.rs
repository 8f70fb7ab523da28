//! The judge: can everything that was answered and seen have happened, one change after another?
//!
//! The changes, as the witness saw them, are the one order of everything. Each answer must then fit to some moment of that
//! order between its request and its coming: a write at its own revision and made of the state before it, a read or a
//! refusal at any moment of which it is true. Floors only go forward: what was answered before something else was asked
//! lies before it. Taking the earliest moment that fits, in the order of the answers, finds such an order if there is one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    content::{Key, State, revision},
    history::{Answer, History, Record, Wrong},
    operation::Op,
    rules::{Change, Outcome, outcome},
    selector::Selector,
};

/// A state of one key, or its absence, and how long it held.
pub(super) struct Version {
    pub(super) from: u64,
    until: u64,
    pub(super) state: Option<State>,
    /// The object; of a deletion, its last state.
    object: Value,
}

/// Every change, by key and by revision.
pub(super) struct Timeline {
    keys: BTreeMap<Key, Vec<Version>>,
    /// In order: revision, key, and the place among the key's versions.
    pub(super) order: Vec<(u64, Key, usize)>,
}

fn wrong(what: String, key: Option<&Key>, near: u64) -> Wrong {
    Wrong { what, key: key.cloned(), near }
}

/// Everything that can be said against a history, or nothing.
pub(super) fn check(history: &History) -> Result<(), Wrong> {
    let timeline = Timeline::new(&history.changes)?;
    let (moments, claims) = Judge::new(&timeline).answers(&history.records)?;
    timeline.nothing_by_itself(&history.records, &claims)?;
    history.sessions.iter().try_for_each(|session| timeline.session(session, &moments))
}

impl Timeline {
    /// Puts the changes in order, and looks whether each can follow the one before it.
    fn new(changes: &[(String, Value)]) -> Result<Self, Wrong> {
        let mut timeline = Self { keys: BTreeMap::new(), order: Vec::new() };
        let (mut last, mut uids) = (0, BTreeSet::new());
        for (kind, object) in changes {
            let (key, now) = (Key::of(object), revision(object));
            let bad =
                |what: &str| wrong(format!("{kind} {}/{} at {now}: {what}", key.namespace, key.name), Some(&key), now);
            if now < last {
                return Err(bad("revisions go back"));
            }
            last = now;
            let versions = timeline.keys.entry(key.clone()).or_insert_with(|| vec![absent(0)]);
            let before = versions.last_mut().expect("never empty");
            if before.from >= now {
                return Err(bad("the key changes twice in one revision"));
            }
            before.until = now;
            let state = State::of(object);
            match (&before.state, kind.as_str()) {
                (None, "ADDED") if state.generation != 1 => return Err(bad("a new object's generation is not 1")),
                (None, "ADDED") if !uids.insert(state.uid.clone()) => return Err(bad("a uid is used again")),
                (None, "ADDED") => {}
                (Some(old), "MODIFIED" | "DELETED") if old.uid != state.uid => return Err(bad("the uid changes")),
                (Some(_), "DELETED") if !same_but_version(&before.object, object) => {
                    return Err(bad("it goes with another state than it had"));
                }
                (Some(_), "DELETED") => {}
                (Some(old), "MODIFIED") => {
                    let spec = before.object["spec"] != object["spec"];
                    let marked = state.deleting && !old.deleting;
                    let raised = i64::from(spec) + i64::from(marked);
                    if state.generation != old.generation + raised {
                        return Err(bad(&format!("generation {} follows {}", state.generation, old.generation)));
                    }
                }
                (Some(_), _) => return Err(bad("it is there already")),
                (None, _) => return Err(bad("it is not there")),
            }
            let state = (kind != "DELETED").then_some(state);
            let version = Version { from: now, until: u64::MAX, state, object: object.clone() };
            versions.push(version);
            timeline.order.push((now, key, versions.len() - 1));
        }
        Ok(timeline)
    }

    /// The versions of a key; one of absence if nobody ever heard of it.
    fn versions(&self, key: &Key) -> &[Version] {
        static NEVER: [Version; 1] = [absent(0)];
        self.keys.get(key).map_or(&NEVER, Vec::as_slice)
    }

    /// The place of the version that begins at a revision.
    fn at(&self, key: &Key, from: u64) -> Option<usize> {
        self.versions(key).iter().position(|v| v.from == from && from > 0)
    }

    /// What is selected at a revision, by namespace and name.
    pub(super) fn listed(&self, at: u64, namespace: Option<&str>, selector: &Selector) -> Vec<&Value> {
        let now = |versions: &'_ Vec<Version>| versions.iter().rposition(|v| v.from <= at);
        let there = self.keys.values().filter_map(|versions| {
            let version = &versions[now(versions)?];
            version.state.is_some().then_some(&version.object)
        });
        there.filter(|object| selector.selects(namespace, object)).collect()
    }

    /// The event that a watcher of what is selected must see of a change, if any.
    pub(super) fn event(
        &self,
        key: &Key,
        place: usize,
        namespace: Option<&str>,
        selector: &Selector,
    ) -> Option<(&'static str, Value)> {
        let versions = &self.keys[key];
        let (old, new) = (&versions[place - 1], &versions[place]);
        let was = old.state.is_some() && selector.selects(namespace, &old.object);
        let is = new.state.is_some() && selector.selects(namespace, &new.object);
        let left = || {
            let mut object = if new.state.is_some() { old.object.clone() } else { new.object.clone() };
            object["metadata"]["resourceVersion"] = new.from.to_string().into();
            object
        };
        match (was, is) {
            (true, true) => Some(("MODIFIED", new.object.clone())),
            (false, true) => Some(("ADDED", new.object.clone())),
            (true, false) => Some(("DELETED", left())),
            (false, false) => None,
        }
    }

    /// Every change must be somebody's: whose answer claims it, whose answer was lost, or a controller's, which writes
    /// status only.
    fn nothing_by_itself(&self, records: &[Record], claims: &BTreeSet<(Key, u64)>) -> Result<(), Wrong> {
        let lost: Vec<&Record> = records.iter().filter(|r| r.answer.is_none()).collect();
        let mut unclaimed: BTreeMap<u64, Vec<&Key>> = BTreeMap::new();
        for (now, key, place) in &self.order {
            if !claims.contains(&(key.clone(), *now)) && !self.is_status_only(key, *place) {
                unclaimed.entry(*now).or_default().push(key);
            }
        }
        let makers: Vec<Vec<usize>> = unclaimed
            .iter()
            .map(|(now, keys)| {
                let made_all = |r: &Record| keys.iter().all(|key| self.explains(r, key, *now));
                (0..lost.len()).filter(|i| made_all(lost[*i])).collect()
            })
            .collect();
        let once = |record: usize| !matches!(lost[record].op, Op::DeleteCollection { .. });
        let mut taken = BTreeMap::new();
        for (place, (now, keys)) in unclaimed.iter().enumerate() {
            if !given_a_maker(place, &makers, &once, &mut taken, &mut BTreeSet::new()) {
                return Err(wrong(format!("nobody made the change of {keys:?} at {now}"), Some(keys[0]), *now));
            }
        }
        Ok(())
    }

    fn is_status_only(&self, key: &Key, place: usize) -> bool {
        let versions = &self.keys[key];
        let wanted = |state: &State| {
            let fields: Vec<_> = state.fields.clone().into_iter().filter(|(p, _)| !p.starts_with("status.")).collect();
            (fields, state.deleting)
        };
        match (&versions[place - 1].state, &versions[place].state) {
            (Some(old), Some(new)) => wanted(old) == wanted(new),
            _ => false,
        }
    }

    /// True if a request whose answer was lost may have made a change: the whole of it, or nothing.
    fn explains(&self, record: &Record, key: &Key, now: u64) -> bool {
        let made = |key: &Key, change: &Change, manager: &str| match self.at(key, now) {
            Some(place) => self.fits(key, place, change, manager),
            None => {
                let versions = self.versions(key);
                let before = versions.iter().rposition(|v| v.from < now).expect("the first version begins at 0");
                outcome(versions[before].state.as_ref(), change, manager) == Outcome::Unchanged
            }
        };
        match &record.op {
            Op::Write { key: of, change, manager } => of == key && made(key, change, manager),
            Op::Transaction { steps, manager } => {
                steps.iter().any(|(of, _)| of == key) && steps.iter().all(|(of, change)| made(of, change, manager))
            }
            Op::DeleteCollection { namespace, manager, .. } => {
                key.namespace == *namespace && made(key, &Change::Delete { uid: None, version: None }, manager)
            }
            Op::Get(_) | Op::List { .. } => false,
        }
    }

    /// True if a change makes this version out of the one before it.
    fn fits(&self, key: &Key, place: usize, change: &Change, manager: &str) -> bool {
        let versions = self.versions(key);
        let (old, new) = (&versions[place - 1], &versions[place]);
        match outcome(old.state.as_ref(), change, manager) {
            Outcome::Written { fields, owners, deleting } => new
                .state
                .as_ref()
                .is_some_and(|new| new.fields == fields && new.owners == owners && new.deleting == deleting),
            Outcome::Gone => new.state.is_none(),
            // Lists have an order, which the flat fields do not show.
            Outcome::Unchanged => {
                let same = |a: &State, b: &State| a.fields == b.fields && a.owners == b.owners;
                let both = old.state.as_ref().zip(new.state.as_ref());
                both.is_some_and(|(a, b)| same(a, b)) && old.object["spec"] != new.object["spec"]
            }
            Outcome::Refused(_) => false,
        }
    }
}

/// Finds a request for the revision at `place`, by giving other revisions another request where they had this one: if each
/// can have one of its own, it is found. `taken` has the place that each request is given to; one that may be used `once`
/// only has one.
fn given_a_maker(
    place: usize,
    makers: &[Vec<usize>],
    once: &impl Fn(usize) -> bool,
    taken: &mut BTreeMap<usize, usize>,
    tried: &mut BTreeSet<usize>,
) -> bool {
    for &record in &makers[place] {
        if !once(record) {
            return true;
        }
        if !tried.insert(record) {
            continue;
        }
        let free = match taken.get(&record) {
            None => true,
            Some(&other) => given_a_maker(other, makers, once, taken, tried),
        };
        if free {
            taken.insert(record, place);
            return true;
        }
    }
    false
}

fn same_but_version(old: &Value, new: &Value) -> bool {
    let mut old = old.clone();
    old["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
    old == *new
}

const fn absent(from: u64) -> Version {
    Version { from, until: u64::MAX, state: None, object: Value::Null }
}

/// When each answer can have become true, for those who came later.
#[derive(Default)]
pub(super) struct Floors(Vec<(u64, u64)>);

impl Floors {
    /// The least revision that somebody must see who asks at `begin`.
    pub(super) fn floor(&self, begin: u64) -> u64 {
        let before = self.0.partition_point(|(end, _)| *end < begin);
        before.checked_sub(1).map_or(0, |i| self.0[i].1)
    }

    fn add(&mut self, end: u64, revision: u64) {
        let highest = self.0.last().map_or(0, |(_, highest)| *highest);
        self.0.push((end, highest.max(revision)));
    }
}

/// Goes through the answers in their order.
struct Judge<'a> {
    timeline: &'a Timeline,
    moments: Floors,
    claims: BTreeSet<(Key, u64)>,
}

impl<'a> Judge<'a> {
    fn new(timeline: &'a Timeline) -> Self {
        Self { timeline, moments: Floors::default(), claims: BTreeSet::new() }
    }

    fn answers(mut self, records: &[Record]) -> Result<(Floors, BTreeSet<(Key, u64)>), Wrong> {
        let mut in_order: Vec<&Record> = records.iter().collect();
        in_order.sort_by_key(|record| record.end);
        for record in in_order {
            let Some(answer) = &record.answer else { continue };
            let floor = self.moments.floor(record.begin);
            let moment = self.answer(record, answer, floor)?;
            self.moments.add(record.end, moment);
        }
        Ok((self.moments, self.claims))
    }

    /// The earliest revision at which an answer can have been true.
    fn answer(&mut self, record: &Record, answer: &Answer, floor: u64) -> Result<u64, Wrong> {
        // "Come back later" says nothing about anything.
        if [410, 429, 503, 504].contains(&answer.code) {
            return Ok(0);
        }
        match &record.op {
            Op::Write { key, change, manager } if answer.code < 300 => {
                self.written(record, (key, change, manager), &answer.body, floor)
            }
            Op::Write { key, change, manager } => self.refused(record, answer, &[(key, change)], manager, floor),
            Op::Transaction { steps, manager } if answer.code < 300 => {
                let whole = answer.body["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or(0);
                let results = || answer.body["results"].as_array().into_iter().flatten();
                let wrote = results().any(|r| r["outcome"] != "unchanged" && revision(&r["object"]) == whole);
                let mut latest = 0;
                for (i, (key, change)) in steps.iter().enumerate() {
                    let object = &answer.body["results"][i]["object"];
                    // What is going already is deleted, and nothing is written.
                    let idle =
                        answer.body["results"][i]["outcome"] == "unchanged" || matches!(change, Change::Delete { .. });
                    if !idle && revision(object) != whole {
                        let what =
                            format!("{record:?}: a step of revision {} in a transaction of {whole}", revision(object));
                        return Err(wrong(what, Some(key), whole));
                    }
                    // A step that changed nothing found what it found when the others were done.
                    let versions = self.timeline.versions(key);
                    let found = versions.iter().find(|v| v.from == revision(object));
                    if wrote && idle && found.is_some_and(|v| v.from < whole && v.until < whole) {
                        let what =
                            format!("{record:?}: a step stands on {} in a transaction of {whole}", revision(object));
                        return Err(wrong(what, Some(key), whole));
                    }
                    latest = latest.max(self.written(record, (key, change, manager), object, floor)?);
                }
                Ok(latest)
            }
            Op::Transaction { steps, manager } => {
                let steps: Vec<_> = steps.iter().map(|(key, change)| (key, change)).collect();
                self.refused(record, answer, &steps, manager, floor)
            }
            Op::DeleteCollection { manager, .. } if answer.code < 300 => {
                let mut latest = 0;
                for item in answer.body["items"].as_array().into_iter().flatten() {
                    let uid = item["metadata"]["uid"].as_str().map(str::to_owned);
                    let change = Change::Delete { uid, version: None };
                    latest = latest.max(self.written(record, (&Key::of(item), &change, manager), item, floor)?);
                }
                Ok(latest)
            }
            Op::DeleteCollection { .. } => Err(wrong(format!("a collection was not deleted: {record:?}"), None, floor)),
            Op::Get(key) => self.got(record, key, answer, floor),
            Op::List { namespace, selector, .. } => self.listed(record, answer, namespace.as_deref(), selector, floor),
        }
    }

    /// A write that was done, or had nothing to do.
    fn written(
        &mut self,
        record: &Record,
        (key, change, manager): (&Key, &Change, &str),
        body: &Value,
        floor: u64,
    ) -> Result<u64, Wrong> {
        let bad = |what: &str, near| Err(wrong(format!("{what}\n  {record:?}"), Some(key), near));
        let versions = self.timeline.versions(key);
        let now = match body["details"]["uid"].as_str() {
            // The answer to a delete names the uid only.
            Some(uid) => {
                let gone =
                    versions.iter().find(|v| v.from > 0 && v.state.is_none() && v.object["metadata"]["uid"] == uid);
                gone.map_or(0, |v| v.from)
            }
            None => revision(body),
        };
        let Some(place) = self.timeline.at(key, now) else {
            return bad(&format!("an acknowledged write is in no change (revision {now})"), now);
        };
        let is_object = body["kind"] == "App";
        if is_object && *body != versions[place].object {
            return bad(&format!("the answer is not what was stored: {}", versions[place].object), now);
        }
        let claim = (key.clone(), now);
        let can_have_made = !self.claims.contains(&claim) && self.timeline.fits(key, place, change, manager);
        if can_have_made && now > floor {
            self.claims.insert(claim);
            return Ok(now);
        }
        let state = versions[place].state.as_ref();
        if state.is_some() && outcome(state, change, manager) == Outcome::Unchanged {
            return match versions[place].until > floor {
                true => Ok(now.max(floor)),
                false => bad(&format!("nothing to do at {now}, although {floor} was there before it was asked"), now),
            };
        }
        if can_have_made {
            return bad(&format!("written at {now}, although {floor} was there before it was asked for"), now);
        }
        let expected = outcome(versions[place - 1].state.as_ref(), change, manager);
        bad(&format!("revision {now} cannot have come of this; the state before it gives\n  {expected:?}"), now)
    }

    /// A write that was refused: there must be a reason.
    fn refused(
        &self,
        record: &Record,
        answer: &Answer,
        steps: &[(&Key, &Change)],
        manager: &str,
        floor: u64,
    ) -> Result<u64, Wrong> {
        let reason = answer.body["reason"].as_str().unwrap_or_default();
        let fits = |(key, change): &(&Key, &Change)| {
            let later = self.timeline.versions(key).iter().filter(|v| v.until > floor);
            let mut fitting = later.filter(
                |v| matches!(outcome(v.state.as_ref(), change, manager), Outcome::Refused(why) if why == reason),
            );
            fitting.next().map(|v| v.from.max(floor))
        };
        let earliest = steps.iter().filter_map(fits).min();
        earliest.ok_or_else(|| wrong(format!("refused for no reason\n  {record:?}"), Some(steps[0].0), floor))
    }

    fn got(&self, record: &Record, key: &Key, answer: &Answer, floor: u64) -> Result<u64, Wrong> {
        let wanted = (answer.code == 200).then_some(&answer.body);
        let near = revision(&answer.body);
        let same = |v: &&Version| match wanted {
            Some(object) => v.state.is_some() && v.object == *object,
            None => v.state.is_none(),
        };
        let found = self.timeline.versions(key).iter().filter(|v| v.until > floor).find(same);
        found.map(|v| v.from.max(floor)).ok_or_else(|| {
            wrong(format!("read what was not there (any more) at {floor}\n  {record:?}"), Some(key), near)
        })
    }

    fn listed(
        &self,
        record: &Record,
        answer: &Answer,
        namespace: Option<&str>,
        selector: &Selector,
        floor: u64,
    ) -> Result<u64, Wrong> {
        let now = revision(&answer.body);
        if answer.code != 200 || now < floor || answer.pages.iter().any(|page| *page != now) {
            return Err(wrong(
                format!("a list of {now}, pages {:?}, after {floor}: {record:?}", answer.pages),
                None,
                floor,
            ));
        }
        let expected = self.timeline.listed(now, namespace, selector);
        let items: Vec<&Value> = answer.body["items"].as_array().into_iter().flatten().collect();
        match items == expected {
            true => Ok(now),
            false => {
                let differs = items.iter().zip(&expected).find(|(a, b)| a != b).map(|(a, _)| Key::of(a));
                let what = format!(
                    "a list is not the state at {now}: {} items, not {}\n  {record:?}",
                    items.len(),
                    expected.len()
                );
                Err(wrong(what, differs.as_ref(), now))
            }
        }
    }
}
