//! The broker's promises, one by one: who gets what, and what is told to whoever gets nothing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinHandle;

use super::{Broker, Delivery, Failure, FetchError, GiveError, Next, Order, Outcome, Payload, Sent, Worker};
use crate::{
    api::{Status, TaskState, Tasks, Uid},
    clock::{Clock, SharedClock, Virtual},
    drivers::{End, Ended, StartKey},
    policy::tasks::Bounds,
    store::{Limits, Memory, Store},
};

const PATIENCE: Duration = Duration::from_secs(5);

struct World {
    broker: Arc<Broker>,
    clock: Virtual,
}

impl World {
    async fn new() -> Self {
        let clock = Virtual::new("2026-11-22T08:00:00Z".parse().expect("a time"), 1);
        let shared: SharedClock = Arc::new(clock.clone());
        let store = Store::open(Memory::new().engine(), shared.clone(), Limits::default()).await.expect("opens");
        Self { broker: Arc::new(Broker::new(store, shared)), clock }
    }

    fn order(&self, caller: &str, text: &str) -> Order {
        Order {
            namespace: "default".to_owned(),
            app: "web".to_owned(),
            uid: app(),
            caller: caller.to_owned(),
            payload: Bytes::copy_from_slice(text.as_bytes()).into(),
            timeout: PATIENCE,
            idempotent: false,
            streamed: false,
            bounds: Bounds { most_waiting: 3, each: 1 },
            held: None,
        }
    }

    /// Sends; what comes of it is asked for later.
    fn send(&self, order: Order) -> JoinHandle<Outcome> {
        let sent = self.broker.send(order).expect("room in line");
        tokio::spawn(sent.answer())
    }

    fn text(&self, text: &str) -> JoinHandle<Outcome> {
        self.send(self.order("ada", text))
    }

    fn fetch(&self, worker: &Worker) -> JoinHandle<Result<Delivery, FetchError>> {
        let (broker, worker) = (self.broker.clone(), worker.clone());
        tokio::spawn(async move { broker.fetch(&worker, None).await })
    }

    /// The next task of a worker, taken to its end: its name and its text.
    async fn take(&self, worker: &Worker) -> (String, String) {
        taken(self.broker.fetch(worker, None).await.expect("a task"))
    }

    fn give(&self, worker: &Worker, named: Option<&str>, text: &'static str) -> Result<(), GiveError> {
        self.broker.give(worker, named, None, Bytes::from_static(text.as_bytes()).into())
    }

    fn end(&self, worker: &Worker, end: End, ago: SignedDuration) {
        let finish_time = self.clock.now() - ago;
        let ended = Ended { end, oom_killed: false, start_time: Timestamp::UNIX_EPOCH, finish_time };
        self.broker.ended(&worker.attempt, &ended);
    }

    fn states(&self) -> Vec<TaskState> {
        self.broker.tasks_of(&app()).iter().map(|task| task.state).collect()
    }

    /// Nothing is left of anybody.
    fn is_empty(&self) -> bool {
        let inner = self.broker.inner();
        let nobody_waits = inner.questions.is_empty() && inner.due.at.is_empty();
        inner.desks.is_empty() && inner.tasks.is_empty() && inner.owed.is_empty() && nobody_waits
    }
}

fn app() -> Uid {
    "app".into()
}

fn worker(name: &str) -> Worker {
    let attempt = StartKey { uid: name.into(), attempt: 1 };
    Worker { attempt, app: app(), instance: format!("web-1-{name}"), held: None, leaves: false, over: None }
}

fn taken(delivery: Delivery) -> (String, String) {
    let name = delivery.name();
    let bytes = delivery.begun().flatten().collect::<Vec<u8>>();
    (name, String::from_utf8(bytes).expect("text"))
}

async fn result(sent: JoinHandle<Outcome>) -> Result<String, Failure> {
    let done = sent.await.expect("no panic")?;
    Ok(String::from_utf8(done.result.to_bytes().to_vec()).expect("text"))
}

/// Lets everything that can run do so.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_task_goes_to_whoever_asks_and_its_result_comes_back() {
    let world = World::new().await;
    let (early, late) = (worker("a"), worker("b"));
    let asked = world.fetch(&early);
    settle().await;
    let sent = world.text("ping");
    let (_, text) = taken(asked.await.expect("no panic").expect("a task"));
    assert_eq!((text.as_str(), world.states()), ("ping", vec![TaskState::Working]));
    assert_eq!(world.give(&late, None, "not mine"), Err(GiveError::NobodyWaits));
    assert_eq!(world.give(&early, None, "pong"), Ok(()));
    assert_eq!(result(sent).await, Ok("pong".to_owned()));
    assert_eq!(world.give(&early, None, "again"), Err(GiveError::NobodyWaits));
    let sent = world.text("");
    assert_eq!(world.take(&late).await.1, "");
    assert_eq!(world.give(&late, None, ""), Ok(()));
    assert_eq!(result(sent).await, Ok(String::new()));
    assert!(world.is_empty());
}

/// Where bytes are.
fn places(pieces: impl Iterator<Item = Bytes>) -> Vec<(*const u8, usize)> {
    pieces.map(|piece| (piece.as_ptr(), piece.len())).collect()
}

#[tokio::test]
async fn what_is_long_is_passed_on_where_it_lies_and_never_copied() {
    let world = World::new().await;
    let by = worker("a");
    let long = |byte: u8| (0..64).map(move |_| Bytes::from(vec![byte; 1 << 20])).collect::<Vec<_>>();
    let payload = |pieces: &[Bytes]| {
        let mut payload = Payload::default();
        pieces.iter().for_each(|piece| payload.push(piece.clone()));
        payload
    };
    let (task, answer) = (long(1), long(2));
    let sent = world.send(Order { payload: payload(&task), ..world.order("ada", "") });
    let delivery = world.broker.fetch(&by, None).await.expect("a task");
    assert_eq!(places(delivery.begun()), places(task.into_iter()));
    assert_eq!(world.broker.give(&by, None, None, payload(&answer)), Ok(()));
    let done = sent.await.expect("no panic").expect("a result");
    assert_eq!(places(done.result.into_pieces()), places(answer.into_iter()));
}

#[tokio::test]
async fn a_process_is_told_of_what_it_has_and_nobody_waits_for() {
    let world = World::new().await;
    let (over, mut told) = tokio::sync::mpsc::unbounded_channel();
    let by = worker("a").told(over);
    let (late, gone) = (world.text("late"), world.broker.send(world.order("ada", "gone")).expect("room in line"));
    let (name, _) = world.take(&by).await;
    world.clock.advance(SignedDuration::try_from(PATIENCE).expect("short"));
    result(late).await.expect_err("late");
    let (task, why) = told.recv().await.expect("told");
    assert_eq!((task, why.starts_with("no result in 5s")), (name, true), "{why}");
    // The other one had less time than it took, too, and was with nobody.
    drop(gone);
    let sent = world.send(Order { timeout: Duration::from_secs(60), ..world.order("ada", "done") });
    assert_eq!(world.give(&by, None, "late"), Err(GiveError::NobodyWaits));
    world.take(&by).await;
    assert_eq!(world.give(&by, None, "done"), Ok(()));
    assert_eq!(result(sent).await, Ok("done".to_owned()));
    assert!(told.try_recv().is_err(), "what was given is not told");
}

#[tokio::test]
async fn callers_with_little_time_are_told_before_those_with_much() {
    let world = World::new().await;
    let order = |seconds| Order { timeout: Duration::from_secs(seconds), ..world.order("ada", "x") };
    let (long, short, longer) = (world.send(order(60)), world.send(order(1)), world.send(order(90)));
    settle().await;
    let late = |seconds| Failure::TimedOut { after: Duration::from_secs(seconds), at: None, asked: false };
    world.clock.advance(SignedDuration::from_secs(1));
    assert_eq!(result(short).await, Err(late(1)));
    assert_eq!(world.states().len(), 2);
    world.clock.advance(SignedDuration::from_secs(59));
    assert_eq!(result(long).await, Err(late(60)));
    world.clock.advance(SignedDuration::from_secs(30));
    assert_eq!(result(longer).await, Err(late(90)));
    assert!(world.is_empty());
    // And once more, when there was nothing to wait for.
    let again = world.send(order(5));
    settle().await;
    world.clock.advance(SignedDuration::from_secs(5));
    assert_eq!(result(again).await, Err(late(5)));
}

#[tokio::test]
async fn a_full_line_takes_nothing_more_and_begins_nothing() {
    let usual = Tasks::default().max_queue as usize;
    assert_eq!(usual, 512);
    for most_waiting in [3, usual] {
        let world = World::new().await;
        let order = |caller| Order { bounds: Bounds { most_waiting, each: 1 }, ..world.order(caller, "x") };
        let waiting: Vec<_> = (0..most_waiting).map(|_| world.send(order("ada"))).collect();
        let refused = world.broker.send(order("bob")).err().expect("full");
        assert_eq!(refused, Failure::Full { waiting: most_waiting });
        let status = Status::from(&refused);
        assert_eq!((status.reason.code(), status.details.retry_after_seconds), (503, Some(1)));
        waiting.iter().for_each(JoinHandle::abort);
        settle().await;
        assert!(world.is_empty());
    }
}

#[tokio::test]
async fn time_that_is_over_says_whether_the_work_may_have_begun() {
    let world = World::new().await;
    let lonely = world.text("x");
    settle().await;
    world.clock.advance(SignedDuration::from_secs(5));
    let failure = result(lonely).await.expect_err("no result");
    assert_eq!(failure, Failure::TimedOut { after: PATIENCE, at: None, asked: false });
    assert!(failure.to_string().contains("no instance of the App asks for tasks"), "{failure}");
    let (slow, held, queued) = (worker("a"), world.text("slow"), world.text("queued"));
    world.take(&slow).await;
    settle().await;
    world.clock.advance(SignedDuration::from_secs(5));
    let failure = result(held).await.expect_err("no result");
    assert!(failure.may_have_begun() && failure.to_string().contains("web-1-a"), "{failure}");
    let failure = result(queued).await.expect_err("no result");
    assert!(!failure.may_have_begun() && failure.to_string().contains("every instance had other tasks"), "{failure}");
    assert_eq!(world.give(&slow, None, "late"), Err(GiveError::NobodyWaits));
    assert!(world.is_empty());
}

#[tokio::test]
async fn a_worker_that_dies_takes_its_task_with_it_and_says_how() {
    let world = World::new().await;
    let (dying, other) = (worker("a"), worker("b"));
    let (held, queued) = (world.text("one"), world.text("two"));
    world.take(&dying).await;
    let question = world.fetch(&dying);
    settle().await;
    world.end(&dying, End::Code(7), SignedDuration::ZERO);
    let failure = result(held).await.expect_err("no result");
    assert!(failure.may_have_begun() && failure.to_string().contains("exit code 7"), "{failure}");
    let status = Status::from(&failure);
    let causes: Vec<_> = status.details.causes.iter().map(|c| (c.reason.as_str(), c.message.as_str())).collect();
    assert_eq!(causes[1..], [("MayHaveBegun", "true"), ("ExitCode", "7")]);
    assert_eq!(question.await.expect("no panic").err(), Some(FetchError::Superseded));
    assert_eq!(world.broker.fetch(&dying, None).await.err(), Some(FetchError::Superseded));
    assert_eq!(world.take(&other).await.1, "two", "what waited goes to the next");
    assert_eq!(world.give(&other, None, "done"), Ok(()));
    assert_eq!(result(queued).await, Ok("done".to_owned()));
    assert!(world.is_empty());
}

#[tokio::test]
async fn only_what_is_idempotent_is_done_again_and_not_for_ever() {
    let world = World::new().await;
    let sent = world.send(Order { idempotent: true, ..world.order("ada", "again") });
    for name in ["a", "b"] {
        let dying = worker(name);
        assert_eq!(world.take(&dying).await.1, "again");
        world.end(&dying, End::Signal(9), SignedDuration::ZERO);
    }
    let last = worker("c");
    assert_eq!(world.take(&last).await.1, "again");
    assert_eq!(world.broker.tasks_of(&app())[0].deliveries, 3);
    world.end(&last, End::Signal(9), SignedDuration::ZERO);
    let failure = result(sent).await.expect_err("no result");
    assert!(failure.to_string().contains("by SIGKILL"), "{failure}");
}

#[tokio::test]
async fn what_never_reached_its_worker_goes_to_another_one() {
    let world = World::new().await;
    let (gone, other) = (worker("a"), worker("b"));
    let sent = world.text("first");
    let second = world.text("second");
    // It was taken out of line for a connection that then broke.
    drop(world.broker.fetch(&gone, None).await.expect("a task"));
    assert_eq!(world.states(), [TaskState::Waiting, TaskState::Waiting]);
    // And sent to a process that was dead before.
    world.take(&gone).await;
    world.end(&gone, End::Code(0), SignedDuration::from_secs(1));
    assert_eq!(world.take(&other).await.1, "first", "it has kept its place");
    assert_eq!(world.give(&other, None, "done"), Ok(()));
    assert_eq!(result(sent).await, Ok("done".to_owned()));
    second.abort();
}

#[tokio::test]
async fn whoever_asks_no_more_gets_nothing() {
    let world = World::new().await;
    let (gone, other) = (worker("a"), worker("b"));
    let question = world.fetch(&gone);
    settle().await;
    question.abort();
    settle().await;
    assert!(world.is_empty());
    let sent = world.text("x");
    assert_eq!(world.states(), [TaskState::Waiting]);
    // Chosen, and gone before it could take anything.
    let question = world.fetch(&gone);
    settle().await;
    assert_eq!(world.states(), [TaskState::Working]);
    drop(question);
    assert_eq!(world.states(), [TaskState::Waiting]);
    assert_eq!(world.take(&other).await.1, "x");
    sent.abort();
    settle().await;
    assert_eq!(world.give(&other, None, "nobody waits"), Err(GiveError::NobodyWaits));
    let leaving = Worker { leaves: true, ..worker("c") };
    assert_eq!(world.broker.fetch(&leaving, None).await.err(), Some(FetchError::Superseded));
    let idle = world.fetch(&other);
    settle().await;
    world.clock.advance(SignedDuration::from_secs(240));
    assert_eq!(idle.await.expect("no panic").err(), Some(FetchError::Nothing));
    assert!(world.is_empty());
}

#[tokio::test]
async fn callers_and_others_can_cancel() {
    let world = World::new().await;
    let (busy, held, queued) = (worker("a"), world.text("held"), world.text("queued"));
    let (name, _) = world.take(&busy).await;
    let names: Vec<String> = world.broker.tasks_of(&app()).into_iter().map(|task| task.metadata.name).collect();
    assert_eq!(names[0], name);
    assert!(!world.broker.cancel(&"other".into(), &names[1], "bob") && !world.broker.cancel(&app(), "x-1", "bob"));
    assert!(world.broker.cancel(&app(), &names[1], "bob"));
    assert_eq!(result(queued).await, Err(Failure::Cancelled { by: "bob".to_owned(), at: None }));
    assert_eq!(world.broker.cancel_working(&app(), "bob"), 1);
    let failure = result(held).await.expect_err("cancelled");
    assert!(failure.may_have_begun(), "{failure}");
    assert!(!world.broker.cancel(&app(), &name, "bob"));
    assert_eq!(world.give(&busy, Some(&name), "late"), Err(GiveError::NobodyWaits));
    assert_eq!(world.broker.cancel_working(&app(), "bob"), 0);
    assert!(world.is_empty());
}

#[tokio::test]
async fn a_process_with_several_tasks_says_which_one_it_means() {
    let world = World::new().await;
    let pool = worker("a");
    let wide = |text| Order { bounds: Bounds { most_waiting: 9, each: 2 }, ..world.order("ada", text) };
    let (one, two, three) = (world.send(wide("1")), world.send(wide("2")), world.send(wide("3")));
    let on = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    let fetch = async |port| taken(world.broker.fetch(&pool, on(port)).await.expect("a task"));
    let ((first, _), (_, text)) = (fetch(1).await, fetch(2).await);
    assert_eq!(text, "2");
    let third = world.fetch(&pool);
    settle().await;
    assert!(!third.is_finished(), "it has two already");
    let payload = |text: &'static str| Bytes::from_static(text.as_bytes()).into();
    assert_eq!(world.broker.give(&pool, None, on(9), payload("?")), Err(GiveError::WhichOne));
    assert_eq!(world.broker.give(&pool, None, on(2), payload("of 2")), Ok(()));
    assert_eq!(world.broker.give(&pool, Some(&first), on(9), payload("of 1")), Ok(()));
    assert_eq!((result(one).await, result(two).await), (Ok("of 1".to_owned()), Ok("of 2".to_owned())));
    taken(third.await.expect("no panic").expect("a task"));
    assert_eq!(world.broker.give(&pool, None, on(9), payload("of 3")), Ok(()), "the only one");
    assert_eq!(result(three).await, Ok("of 3".to_owned()));
    assert!(world.is_empty());
}

#[tokio::test]
async fn an_outcome_that_nobody_waits_for_is_kept_for_a_while() {
    let world = World::new().await;
    let worker = worker("a");
    let task = world.broker.send_and_keep(world.order("ada", "later")).expect("room");
    let name = task.metadata.name;
    assert_eq!((task.state, task.bytes), (TaskState::Waiting, 5));
    let (broker, asked) = (world.broker.clone(), name.clone());
    let early = tokio::spawn(async move { broker.outcome(&app(), &asked, Duration::ZERO).await });
    settle().await;
    world.clock.advance(SignedDuration::from_millis(1));
    assert!(early.await.expect("no panic").expect("known").is_err(), "not over yet");
    let (broker, asked) = (world.broker.clone(), name.clone());
    let waiting = tokio::spawn(async move { broker.outcome(&app(), &asked, PATIENCE).await });
    settle().await;
    world.take(&worker).await;
    assert_eq!(world.give(&worker, None, "done"), Ok(()));
    let kept = waiting.await.expect("no panic").expect("known").expect("over");
    assert_eq!((kept.shown.state, kept.outcome.expect("a result").result.len()), (TaskState::Succeeded, 4));
    assert_eq!(world.states(), [TaskState::Succeeded]);
    let failing = world.broker.send_and_keep(world.order("ada", "never")).expect("room").metadata.name;
    settle().await;
    world.clock.advance(SignedDuration::from_secs(5));
    settle().await;
    assert_eq!(world.broker.task(&app(), &failing).expect("kept").state, TaskState::Failed);
    assert!(world.broker.task(&"other".into(), &failing).is_none());
    world.clock.advance(SignedDuration::from_mins(20));
    let last = world.broker.send_and_keep(world.order("ada", "x")).expect("room").metadata.name;
    assert!(world.broker.cancel(&app(), &last, "bob"));
    assert_eq!(world.states(), [TaskState::Failed], "the old ones are forgotten");
}

#[tokio::test]
async fn ten_thousand_that_wait_are_served_in_turn() {
    let world = World::new().await;
    let wide = Bounds { most_waiting: 20_000, each: 1 };
    let order = |caller: &str| Order { bounds: wide, ..world.order(caller, "x") };
    let noisy: Vec<_> = (0..10_000).map(|_| world.broker.send(order("noisy")).expect("room")).collect();
    let quiet = world.send(order("quiet"));
    let worker = worker("a");
    for _ in 0..2 {
        world.take(&worker).await;
        assert_eq!(world.give(&worker, None, "done"), Ok(()));
    }
    assert_eq!(result(quiet).await, Ok("done".to_owned()), "it waits for one of the others, not for all");
    drop(noisy);
    assert!(world.is_empty());
}

/// What is told of a task whose parts its caller wants to see, up to its end.
async fn told(mut sent: Sent) -> (Vec<String>, Outcome) {
    let text = |part: Payload| String::from_utf8(part.to_bytes().to_vec()).expect("text");
    let mut parts = Vec::new();
    loop {
        match sent.next().await {
            Next::Part(part) => parts.push(text(part)),
            Next::End(Ok(done)) => {
                parts.push(text(done.result.clone()));
                return (parts, Ok(done));
            }
            Next::End(outcome) => return (parts, outcome),
        }
    }
}

fn part(text: &'static str) -> Payload {
    Bytes::from_static(text.as_bytes()).into()
}

#[tokio::test]
async fn parts_are_told_in_order_before_the_result_or_put_together() {
    let world = World::new().await;
    let own = worker("a");
    for streamed in [true, false] {
        let sent = world.broker.send(Order { streamed, ..world.order("ada", "x") }).expect("room in line");
        let told = tokio::spawn(told(sent));
        let (name, _) = world.take(&own).await;
        for text in ["one ", "two "] {
            assert_eq!(world.broker.give_part(&own, Some(&name), None, part(text)).await, Ok(()));
        }
        assert_eq!(world.give(&own, None, "three"), Ok(()));
        let (parts, _) = told.await.expect("no panic");
        assert_eq!(parts, if streamed { vec!["one ", "two ", "three"] } else { vec!["one two three"] });
        let late = world.broker.give_part(&own, Some(&name), None, part("late")).await;
        assert_eq!(late, Err(GiveError::NobodyWaits));
    }
    assert!(world.is_empty());
}

#[tokio::test]
async fn a_process_waits_for_a_caller_who_takes_nothing_in_and_for_no_other() {
    let world = World::new().await;
    let own = worker("a");
    let order = Order { streamed: true, timeout: Duration::from_secs(1000), ..world.order("ada", "x") };
    let sent = world.broker.send(order).expect("room in line");
    let (name, _) = world.take(&own).await;
    let mut given = 0;
    let give = || {
        let (broker, own, name) = (world.broker.clone(), own.clone(), name.clone());
        tokio::spawn(async move { broker.give_part(&own, Some(&name), None, part("x")).await })
    };
    let waits = loop {
        let giving = give();
        settle().await;
        if !giving.is_finished() {
            break giving;
        }
        given += 1;
        assert!(given < 100, "nothing bounds it");
    };
    world.clock.advance(SignedDuration::from_secs(61));
    assert_eq!(waits.await.expect("no panic"), Err(GiveError::Slow), "it may try again");
    let waits = give();
    settle().await;
    let told = tokio::spawn(told(sent));
    assert_eq!(waits.await.expect("no panic"), Ok(()));
    assert_eq!(world.give(&own, None, "end"), Ok(()));
    assert_eq!(told.await.expect("no panic").0.len(), given + 2);
    // A caller who goes away lets it go at once.
    let sent = world.broker.send(Order { streamed: true, ..world.order("ada", "x") }).expect("room in line");
    world.take(&own).await;
    drop(sent);
    assert_eq!(world.broker.give_part(&own, None, None, part("x")).await, Err(GiveError::NobodyWaits));
}

#[tokio::test]
async fn what_was_seen_of_a_task_is_not_done_again_and_what_was_only_gathered_is_forgotten() {
    let world = World::new().await;
    for (streamed, again) in [(true, false), (false, true)] {
        let (first, second) = (worker(if again { "c" } else { "a" }), worker("b"));
        let order = Order { streamed, idempotent: true, ..world.order("ada", "x") };
        let told = tokio::spawn(told(world.broker.send(order).expect("room in line")));
        world.take(&first).await;
        assert_eq!(world.broker.give_part(&first, None, None, part("of the first ")).await, Ok(()));
        world.end(&first, End::Code(1), SignedDuration::ZERO);
        if again {
            world.take(&second).await;
            assert_eq!(world.give(&second, None, "of the second"), Ok(()));
        }
        let (parts, outcome) = told.await.expect("no panic");
        assert_eq!(outcome.is_ok(), again);
        assert_eq!(parts, [if again { "of the second" } else { "of the first " }]);
        if let Err(failure) = outcome {
            assert!(failure.may_have_begun());
        }
    }
}

#[tokio::test]
async fn a_task_whose_parts_are_told_is_late_as_any_other() {
    let world = World::new().await;
    let sent = world.broker.send(Order { streamed: true, ..world.order("ada", "x") }).expect("room in line");
    let told = tokio::spawn(told(sent));
    settle().await;
    world.clock.advance(SignedDuration::try_from(PATIENCE).expect("short"));
    let (_, outcome) = told.await.expect("no panic");
    assert!(matches!(outcome, Err(Failure::TimedOut { .. })), "{outcome:?}");
    assert!(world.is_empty());
}
