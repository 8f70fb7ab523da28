//! One subscription: what the store and the kernel say, told in the order in which it happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Event, Exit, Health, Push, Removed, Sequence, Start, Stdout, Subscribed, Turned,
    news::{News, Told},
};
use crate::{
    admission::{Admission, Caller},
    api::{
        App, Instance, Key, Kind, KindInfo, Object, ObjectMeta, RUN_LABEL, Rev, Run, SCHEDULE_LABEL, Schedule, Status,
        StoredObject, Subresource, Uid,
    },
    appmesh::{
        NAMESPACE, OutputSource, Sdk,
        definition::Of,
        find::{MADE_HERE, is_shown},
        names,
        output::{self, Wanted},
        state,
    },
    clock::{self, SharedClock},
    logger::notices::Notices,
    store::{Batch, Change, Watch},
};

/// How much output is in one event at most.
const PIECE: usize = 64 << 10;
/// What is written within this time is told at once. The first of it is not kept waiting.
const TOGETHER: Duration = Duration::from_millis(50);

/// Why a subscription ends.
type Why = String;

/// An application that is told of.
#[derive(Debug)]
struct Subject {
    of: Of,
    /// What App Mesh calls it.
    name: String,
    suspended: bool,
    /// It was removed, and something of it is left.
    removed: bool,
    /// Of a Run: its end was told.
    over: bool,
}

/// An Instance of one.
struct Heard {
    told: Told,
    revision: Rev,
    instance: Arc<Object<Instance>>,
    subject: Uid,
    /// The attempt whose output is told, and the place up to which it was.
    output: Option<(u32, u64)>,
}

/// A subscription that goes on.
pub(super) struct Following {
    admission: Admission,
    clock: SharedClock,
    output: OutputSource,
    sequence: Sequence,
    caller: Caller,
    subscribed: Subscribed,
    push: Push,
    /// If output is told.
    notices: Option<Notices>,
    subjects: BTreeMap<Uid, Subject>,
    instances: BTreeMap<Uid, Heard>,
    /// Whose output is not told up to the end.
    unread: BTreeSet<Uid>,
    due: Instant,
    watches: Watches,
}

/// The changes of what there is to hear of.
struct Watches {
    instances: Watch,
    apps: Watch,
    schedules: Watch,
    runs: Watch,
}

impl Following {
    /// Listens from now on: what happens before the first call of `run` is told as well.
    pub(super) fn new(sdk: &Sdk, caller: Caller, subscribed: Subscribed, push: Push) -> Result<Self, Status> {
        let notices = match subscribed.happenings.contains(&Stdout) {
            true => Some((sdk.notices)().map_err(|error| {
                tracing::warn!(%error, "output cannot be watched");
                Status::busy("too many listen to output; try again later")
            })?),
            false => None,
        };
        let (watches, there) = Watches::begin(&sdk.admission);
        let mut following = Self {
            admission: sdk.admission.clone(),
            clock: sdk.clock.clone(),
            output: sdk.output.clone(),
            sequence: sdk.sequence.clone(),
            caller,
            subscribed,
            push,
            notices,
            subjects: BTreeMap::new(),
            instances: BTreeMap::new(),
            unread: BTreeSet::new(),
            due: Instant::now(),
            watches,
        };
        for object in there {
            following.notice(&object, true);
        }
        Ok(following)
    }

    /// Tells until it cannot, and says why.
    pub(super) async fn run(mut self) -> Why {
        match self.tell_all().await {
            Ok(never) => match never {},
            Err(why) => why,
        }
    }

    async fn tell_all(&mut self) -> Result<std::convert::Infallible, Why> {
        self.find_places().await?;
        loop {
            let due = self.due;
            let noticed = async {
                match &mut self.notices {
                    Some(notices) => notices.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                batch = self.watches.instances.next() => match batch {
                    Ok(batch) => self.of_instances(&batch).await?,
                    Err(_) => self.begin_anew().await?,
                },
                batch = self.watches.apps.next() => self.of_owners(batch.ok()).await?,
                batch = self.watches.schedules.next() => self.of_owners(batch.ok()).await?,
                batch = self.watches.runs.next() => self.of_owners(batch.ok()).await?,
                () = tokio::time::sleep_until(due), if !self.unread.is_empty() => self.tell_output().await?,
                news = noticed => {
                    self.unread.extend(news.map_err(|error| error.to_string())?);
                }
            }
        }
    }

    /// Too much happened at once: what came of it is told.
    async fn begin_anew(&mut self) -> Result<(), Why> {
        let (watches, there) = Watches::begin(&self.admission);
        self.watches = watches;
        let still: BTreeSet<&Uid> = there.iter().filter_map(|object| object.meta().uid.as_ref()).collect();
        let gone = |known: Vec<Uid>| known.into_iter().filter(|uid| !still.contains(uid)).collect::<Vec<_>>();
        let (instances, subjects) =
            (gone(self.instances.keys().cloned().collect()), gone(self.subjects.keys().cloned().collect()));
        for object in &there {
            match object.key.kind == Instance::INFO {
                true => self.of_instance(object, false).await?,
                false => self.of_owner(object, false).await?,
            }
        }
        for uid in instances {
            self.instance_gone(&uid).await?;
        }
        for uid in subjects {
            self.subject_gone(&uid).await?;
        }
        Ok(())
    }

    /// Of those that run already: where their output is from when somebody began to listen. Of a Run everything is told, because whoever
    /// waits for it has begun it.
    async fn find_places(&mut self) -> Result<(), Why> {
        let running: Vec<Uid> = self.instances.keys().cloned().collect();
        for uid in running {
            let Some(heard) = self.instances.get(&uid) else { continue };
            let Some(attempt) = heard.told.runs() else { continue };
            let is_run = self.subjects.get(&heard.subject).is_some_and(|subject| subject.of == Of::Run);
            let wanted = Wanted { start: output::Start::Attempt(attempt), from: None, most: 0, ended: false };
            let place = match is_run {
                true => 0,
                false => (self.output)(heard.instance.clone(), wanted).await.ok().flatten().map_or(0, |w| w.next),
            };
            self.listen(&uid, attempt, place);
        }
        Ok(())
    }

    /// Changes of Instances, of which all are known.
    async fn of_instances(&mut self, batch: &Batch) -> Result<(), Why> {
        for Change { new, deleted, .. } in &batch.changes {
            self.of_instance(new, *deleted).await?;
        }
        Ok(())
    }

    /// Changes of what Instances belong to. Whatever happened to the Instances before these comes first: the store gives each kind its changes in one
    /// order, so it waits there already.
    async fn of_owners(&mut self, batch: Option<Arc<Batch>>) -> Result<(), Why> {
        let Some(batch) = batch else { return self.begin_anew().await };
        while let Some(Ok(earlier)) = self.watches.instances.next().now_or_never() {
            self.of_instances(&earlier).await?;
        }
        for Change { new, deleted, .. } in &batch.changes {
            self.of_owner(new, *deleted).await?;
        }
        Ok(())
    }

    async fn of_instance(&mut self, object: &Arc<StoredObject>, deleted: bool) -> Result<(), Why> {
        let Some(uid) = object.meta().uid.clone() else { return Ok(()) };
        if !self.instances.contains_key(&uid) && !deleted {
            self.notice(object, false);
        }
        let Some(heard) = self.instances.get_mut(&uid).filter(|heard| heard.revision < object.revision) else {
            return Ok(());
        };
        heard.revision = object.revision;
        if let Some(instance) = object.typed::<Instance>() {
            let news = heard.told.hear(&instance.status);
            heard.instance = instance;
            for news in news {
                self.tell_news(&uid, news).await?;
            }
        }
        if deleted {
            return self.instance_gone(&uid).await;
        }
        let Some(subject) = self.instances.get(&uid).map(|heard| heard.subject.clone()) else { return Ok(()) };
        self.removed(&subject).await
    }

    async fn instance_gone(&mut self, uid: &Uid) -> Result<(), Why> {
        if let Some(news) = self.instances.get_mut(uid).and_then(|heard| heard.told.gone()) {
            self.tell_news(uid, news).await?;
        }
        let Some(heard) = self.instances.remove(uid) else { return Ok(()) };
        self.unread.remove(uid);
        if let Some(notices) = &mut self.notices {
            notices.forget(uid);
        }
        self.removed(&heard.subject).await
    }

    async fn of_owner(&mut self, object: &Arc<StoredObject>, deleted: bool) -> Result<(), Why> {
        let Some(uid) = object.meta().uid.clone() else { return Ok(()) };
        if deleted {
            return self.subject_gone(&uid).await;
        }
        let known = self.subjects.contains_key(&uid);
        if known && !self.is_seen(object) {
            // It is nothing to whoever listens any more.
            self.subjects.remove(&uid);
            return Ok(());
        }
        if !known {
            self.notice(object, true);
        }
        let (suspended, over) = (is_suspended(object), end_of(object));
        let Some(subject) = self.subjects.get_mut(&uid) else { return Ok(()) };
        let before = std::mem::replace(&mut subject.suspended, suspended);
        if before != suspended {
            let word = |suspended| if suspended { "disabled" } else { "enabled" };
            let data = json!({"status": word(suspended), "previous_status": word(before)});
            self.tell(&uid, Turned, data).await?;
        }
        // One that never had a process has an end all the same.
        if let Some(code) = over.filter(|_| !self.is_at_work(&uid))
            && self.subjects.get_mut(&uid).is_some_and(|subject| !std::mem::replace(&mut subject.over, true))
        {
            self.tell(&uid, Exit, json!({"exit_code": code, "pid": 0, "last_error": ""})).await?;
        }
        Ok(())
    }

    async fn subject_gone(&mut self, uid: &Uid) -> Result<(), Why> {
        let Some(subject) = self.subjects.get_mut(uid) else { return Ok(()) };
        subject.removed = true;
        self.removed(uid).await
    }

    /// Tells that an application is gone when nothing of it is left: what waits for its next start may be started once more before it goes.
    async fn removed(&mut self, uid: &Uid) -> Result<(), Why> {
        let is_left = |heard: &Heard| heard.told.runs().is_some() || heard.instance.metadata.controller().is_some();
        let mut own = self.instances.values().filter(|heard| heard.subject == *uid);
        if !self.subjects.get(uid).is_some_and(|subject| subject.removed) || own.any(is_left) {
            return Ok(());
        }
        self.tell(uid, Removed, Value::Null).await?;
        self.subjects.remove(uid);
        Ok(())
    }

    fn is_at_work(&self, subject: &Uid) -> bool {
        self.instances.values().any(|heard| heard.subject == *subject && heard.told.runs().is_some())
    }

    /// Gets to know an object, if it is one that is told of. What is so already is no news of one that was there `before`.
    fn notice(&mut self, object: &Arc<StoredObject>, before: bool) {
        let Some(uid) = object.meta().uid.clone() else { return };
        if object.key.kind != Instance::INFO {
            if let Some(subject) = self.subject(object) {
                self.subjects.entry(uid).or_insert(subject);
            }
            return;
        }
        // Of the Instances of others nothing more is read than this.
        let Some(subject) = self.known_owner(object.meta()) else { return };
        let Some(instance) = object.typed::<Instance>() else { return };
        let (told, revision) = match before {
            true => (Told::all_of(&instance.status), object.revision),
            false => (Told::nothing(), Rev(0)),
        };
        self.instances.insert(uid, Heard { told, revision, instance, subject, output: None });
    }

    /// What an Instance belongs to, if that is told of. An App that is known may be gone by now.
    fn known_owner(&mut self, instance: &ObjectMeta) -> Option<Uid> {
        let controller = &instance.controller()?.uid;
        if self.subjects.get(controller).is_some_and(|subject| subject.of == Of::App) {
            return Some(controller.clone());
        }
        let owner = self.owner(instance)?;
        let uid = owner.meta().uid.clone()?;
        if !self.subjects.contains_key(&uid) {
            let new = self.subject(&owner)?;
            self.subjects.insert(uid.clone(), new);
        }
        Some(uid)
    }

    /// What an Instance belongs to as App Mesh has it.
    fn owner(&self, instance: &ObjectMeta) -> Option<Arc<StoredObject>> {
        let store = self.admission.store();
        let controller = instance.controller()?;
        if controller.kind == App::INFO.kind {
            return store.get(&Of::App.key(&controller.name));
        }
        let run = instance.labels.get(RUN_LABEL).and_then(|run| store.get(&Of::Run.key(run)))?;
        match run.meta().labels.get(SCHEDULE_LABEL) {
            Some(schedule) => store.get(&Of::Schedule.key(schedule)),
            None => Some(run),
        }
    }

    /// An object as an application that is told of.
    fn subject(&self, object: &Arc<StoredObject>) -> Option<Subject> {
        let of = of_kind(object.key.kind)?;
        let is_meant = self.subscribed.app.as_ref().is_none_or(|(name, _)| *object.key.name == **name);
        let is_here = *object.key.namespace == *NAMESPACE;
        (is_meant && is_here && is_shown(of, object) && self.is_seen(object)).then(|| Subject {
            of,
            name: names::shown(&object.value()),
            suspended: is_suspended(object),
            removed: false,
            over: end_of(object).is_some(),
        })
    }

    /// Of this version of it: by now it may be gone, and that is told, too.
    fn is_seen(&self, object: &StoredObject) -> bool {
        self.admission.is_shown(&self.caller, "watch", object)
    }

    /// Whether the listener may read what an Instance writes.
    fn may_read(&self, heard: &Heard) -> bool {
        let log = Subresource::Log.word();
        let key: Key = match heard.instance.metadata.labels.get(RUN_LABEL) {
            Some(run) => Of::Run.key(run),
            None => heard.instance.key(),
        };
        self.admission.get_part(&self.caller, key.kind.stored_form(), log, &key).is_ok()
    }

    /// From here on what an attempt writes is told.
    fn listen(&mut self, uid: &Uid, attempt: u32, place: u64) {
        let may = self.instances.get(uid).is_some_and(|heard| self.may_read(heard));
        if let (Some(notices), Some(heard), true) = (&mut self.notices, self.instances.get_mut(uid), may) {
            notices.watch(uid);
            heard.output = Some((attempt, place));
            self.unread.insert(uid.clone());
        }
    }

    async fn tell_news(&mut self, uid: &Uid, news: News) -> Result<(), Why> {
        let Some(subject) = self.instances.get(uid).map(|heard| heard.subject.clone()) else { return Ok(()) };
        match news {
            News::Start { attempt, pid } => {
                let process = self.run_of(uid).unwrap_or_else(|| uid.clone());
                self.tell(&subject, Start, json!({"pid": pid, "process_uuid": process})).await?;
                self.listen(uid, attempt, 0);
                Ok(())
            }
            News::Exit { attempt, pid, code, error } => {
                if self.instances.get(uid).and_then(|heard| heard.output).is_some_and(|(of, _)| of == attempt) {
                    while self.tell_piece(uid, true).await? {}
                }
                if let Some(heard) = self.instances.get_mut(uid) {
                    heard.output = None;
                }
                self.unread.remove(uid);
                if let Some(subject) = self.subjects.get_mut(&subject) {
                    subject.over = true;
                }
                self.tell(&subject, Exit, json!({"exit_code": code, "pid": pid, "last_error": error})).await
            }
            News::Health { now, before } => {
                self.tell(&subject, Health, json!({"health": now, "previous_health": before})).await
            }
        }
    }

    /// The Run of an Instance: by it a client names the process.
    fn run_of(&self, uid: &Uid) -> Option<Uid> {
        let run = self.instances.get(uid)?.instance.metadata.controller()?;
        (run.kind == Run::INFO.kind).then(|| run.uid.clone())
    }

    /// Tells what was written lately: of everybody a piece, so that nobody who writes much holds up the others.
    async fn tell_output(&mut self) -> Result<(), Why> {
        let mut more = false;
        for uid in self.unread.clone() {
            if self.tell_piece(&uid, false).await? {
                more = true;
            } else {
                self.unread.remove(&uid);
            }
        }
        self.due = Instant::now() + if more { Duration::ZERO } else { TOGETHER };
        Ok(())
    }

    /// Tells a piece of an Instance's output; true if there may be more.
    async fn tell_piece(&mut self, uid: &Uid, ended: bool) -> Result<bool, Why> {
        let Some(heard) = self.instances.get(uid) else { return Ok(false) };
        let Some((attempt, place)) = heard.output else { return Ok(false) };
        let subject = heard.subject.clone();
        let start = output::Start::Attempt(attempt);
        let wanted = Wanted { start, from: Some(place), most: PIECE, ended };
        // Of one that was removed the output is gone with it.
        let Ok(Some(written)) = (self.output)(heard.instance.clone(), wanted).await else { return Ok(false) };
        let full = written.bytes.len() >= PIECE;
        let kept = if ended && !full { 0 } else { unfinished(&written.bytes) };
        let told = &written.bytes[..written.bytes.len() - kept];
        let next = written.next - kept as u64;
        if let Some(heard) = self.instances.get_mut(uid) {
            heard.output = Some((attempt, next));
        }
        if told.is_empty() {
            return Ok(false);
        }
        let text = String::from_utf8_lossy(told);
        let data = json!({"output": text, "position": next - told.len() as u64, "finished": ended && !full});
        self.tell(&subject, Stdout, data).await?;
        Ok(full)
    }

    async fn tell(&mut self, subject: &Uid, what: super::Happening, data: Value) -> Result<(), Why> {
        let Some(subject) = self.subjects.get(subject).filter(|_| self.subscribed.happenings.contains(&what)) else {
            return Ok(());
        };
        let word = super::HAPPENINGS.iter().find(|(_, known)| *known == what).map_or("", |(word, _)| *word);
        let id = self.subscribed.id.clone();
        let body = json!({
            "subscription_id": id, "event_type": word, "app_name": subject.name,
            "timestamp": self.clock.now().as_second(), "sequence": self.sequence.next(), "data": data,
        });
        let headers =
            [("x-subscription-id", id), ("x-event-type", word.to_owned()), ("x-app-name", subject.name.clone())];
        let uuid = clock::new_uid(&*self.clock).to_string();
        match (self.push)(Event { uuid, headers, body: body.to_string() }).await {
            true => Ok(()),
            false => Err("the connection takes no more".to_owned()),
        }
    }
}

impl Watches {
    /// From now on, and what there is now: owners first.
    fn begin(admission: &Admission) -> (Self, Vec<Arc<StoredObject>>) {
        let store = admission.store();
        let mut there = Vec::new();
        let mut all = |kind| {
            let (snapshot, watch) = store.list_and_watch(kind);
            there.extend(snapshot.items);
            watch
        };
        let (apps, schedules, runs) = (all(App::INFO), all(Schedule::INFO), all(Run::INFO));
        let instances = all(Instance::INFO);
        (Self { instances, apps, schedules, runs }, there)
    }
}

fn of_kind(kind: &'static KindInfo) -> Option<Of> {
    [Of::App, Of::Schedule, Of::Run].into_iter().find(|of| of.info() == kind)
}

fn is_suspended(object: &StoredObject) -> bool {
    object.value()["spec"]["suspend"] == true
}

/// The exit code of a Run that is over.
fn end_of(object: &StoredObject) -> Option<i32> {
    let run = object.typed::<Run>().filter(|_| object.meta().labels.get(MADE_HERE).is_some())?;
    run.status.is_over().then(|| {
        let exit = run.status.exit.clone().unwrap_or_else(crate::api::RunExit::lost);
        state::code(exit.code, exit.signal.as_deref())
    })
}

/// How many bytes at the end are the beginning of a letter that is not there yet.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let begins = tail.iter().rposition(|byte| *byte >= 0xc0);
    let Some(rest) = begins.map(|at| &tail[at..]) else { return 0 };
    let length = match rest[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return 0,
    };
    let goes_on = rest[1..].iter().all(|byte| (0x80..0xc0).contains(byte));
    if goes_on && rest.len() < length { rest.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_not_told_in_halves() {
        for (text, kept) in [
            (&b""[..], 0),
            (b"abc", 0),
            ("h\u{e9}".as_bytes(), 0),
            (b"h\xc3", 1),
            (b"a\xe4\xb8", 2),
            (b"\xf0\x9f\x98", 3),
            ("\u{1f600}".as_bytes(), 0),
            (b"a\xff", 0),
            (b"a\xc3b", 0),
            (b"\x80\x80", 0),
        ] {
            assert_eq!(unfinished(text), kept, "{text:?}");
        }
    }
}
