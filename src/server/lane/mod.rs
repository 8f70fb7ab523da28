//! The fast lane: tasks in frames over the Unix socket (`docs/design/031-fast-lane.md`).
//!
//! ```text
//!  frames in ─► SEND ─► what HTTP does of a task ─► RESULT, REFUSED ─┐
//!            ─► WORK, and each GIVE ─► a question ─► TASK ───────────┼─► frames out
//!            ─► GIVE, PART, FAIL ─► the broker ─► GONE ──────────────┘
//! ```
//! A connection is one task of a runtime: what it waits for is polled in it, and what is ready goes out in one write. It reads on only when there
//! is room for what comes of it. When it ends, so does what its callers wait for. All lanes run on one thread ([`Track`]): a caller's task and the process
//! that does it meet without waking another one.

mod call;
mod frame;
mod track;
mod work;

use std::{collections::HashMap, io, pin::Pin, sync::Arc};

use futures::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use rustix::net::RecvFlags;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{UnixStream, unix::OwnedReadHalf},
    sync::mpsc,
    time::Sleep,
};

pub(super) use self::track::Track;
use self::{
    frame::{Frame, Intake, Outbox, PREFACE, Said, Told},
    work::Works,
};
use super::{
    bounds::Line as TurnLine,
    connection::Impatient,
    handle::Peer,
    state::State,
    tasks::stopping,
    turn::{InTurn, Turns},
};
use crate::{
    api::Status,
    auth::Identity,
    broker::{Delivery, Done, FetchError, Over, Payload},
};

/// Tasks that a connection has under way at most; the next frame is read when there is room.
const AT_ONCE: usize = 1024;
/// So much waits to be written at most before nothing more is made of what has come.
const HELD: usize = 1 << 20;
/// What is read at a time.
const READ: usize = 16 << 10;
/// The same where more is to come.
const READ_MORE: usize = 256 << 10;
/// So much more than what is to come, or the runtime asks the kernel once more whether there is nothing behind it.
const SPARE: usize = 64;
/// Parts that wait to be written; who gives more waits.
const PARTS: usize = 4;

/// True if a connection begins as the lane's do. Waits for its first byte, as long as a connection may idle.
pub(super) async fn is_meant(stream: &UnixStream, state: &State) -> io::Result<bool> {
    let first = stream.async_io(Interest::READABLE, || {
        let mut byte = [0];
        let (count, _) = rustix::net::recv(stream, &mut byte, RecvFlags::PEEK)?;
        Ok(count == 1 && byte[0] == PREFACE[0])
    });
    tokio::select! {
        first = tokio::time::timeout(state.turnstile.bounds().idle, first) => first?,
        () = state.stopping.cancelled() => Err(io::Error::other("the server stops")),
    }
}

/// Serves a connection to its end.
async fn serve(stream: UnixStream, identity: Identity, line: TurnLine<Arc<str>>, state: Arc<State>) {
    let peer = Peer::Local(identity);
    let turns = Turns::new(line, &peer);
    InTurn::new(std::pin::pin!(Conversation::new(peer, state).converse(stream)), turns).await;
}

/// What happens beside what comes.
enum Event {
    /// What came of a caller's task.
    Answered { number: u32, answer: Result<Done, Status> },
    /// A caller gave it up.
    Forgotten,
    /// What came of a question.
    Fetched(Result<Delivery, FetchError>),
}

struct Lane {
    peer: Peer,
    state: Arc<State>,
    out: Outbox,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    /// The caller's tasks that are under way.
    sent: HashMap<u32, AbortHandle>,
    works: Works,
    /// A part that its caller has no room for yet: nothing is read meanwhile.
    giving: Option<BoxFuture<'static, Option<(u32, Status)>>>,
    parts: mpsc::Sender<(u32, Payload)>,
    /// Is told of what the process has and nobody waits for any more.
    over: Over,
    /// Nothing more is read.
    ending: bool,
}

impl Lane {
    /// Something can be made of what comes.
    fn has_room(&self) -> bool {
        !self.ending && self.giving.is_none() && self.sent.len() < AT_ONCE && self.out.len() < HELD
    }

    fn take(&mut self, frame: Frame) {
        let number = frame.number;
        let done = match frame.said {
            Said::Send => self.send(frame),
            Said::Cancel => {
                if let Some(task) = self.sent.remove(&number) {
                    task.abort();
                }
                Ok(())
            }
            Said::Work => self.work(&frame),
            Said::Give | Said::Part | Said::Fail => self.give(frame),
        };
        if let Err(refused) = done {
            self.refuse(number, &refused);
        }
    }

    fn send(&mut self, frame: Frame) -> Result<(), Status> {
        let number = frame.number;
        if self.sent.contains_key(&number) {
            return Err(Status::bad_request(format!("there is a task of the number {number} already")));
        }
        let head = frame.head()?;
        let (abort, registration) = AbortHandle::new_pair();
        self.sent.insert(number, abort);
        let answer =
            call::answer(self.state.clone(), self.peer.clone(), head, frame.body, (number, self.parts.clone()));
        let answer = Abortable::new(answer, registration).map(move |answer| match answer {
            Ok(answer) => Event::Answered { number, answer },
            Err(_) => Event::Forgotten,
        });
        self.events.push(answer.boxed());
        Ok(())
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Forgotten => {}
            Event::Answered { number, answer } => {
                self.sent.remove(&number);
                match answer {
                    Ok(Done { task, instance, result }) => {
                        let head = json!({"task": task, "instance": instance});
                        self.out.put(Told::Result, number, &head, result.len(), result.into_pieces());
                    }
                    Err(refused) => self.refuse(number, &refused),
                }
            }
            Event::Fetched(fetched) => self.fetched(fetched),
        }
    }

    fn refuse(&mut self, number: u32, refused: &Status) {
        self.out.put(Told::Refused, number, &refused.to_json(), 0, std::iter::empty());
    }

    /// Nothing more is read, and what is under way is over.
    fn end(&mut self, why: &Status) {
        self.ending = true;
        let under_way: Vec<u32> = self
            .sent
            .drain()
            .map(|(number, task)| {
                task.abort();
                number
            })
            .collect();
        under_way.into_iter().chain([0]).for_each(|number| self.refuse(number, why));
        self.events.clear();
        self.giving = None;
    }
}

/// A lane and what comes on it.
struct Conversation {
    lane: Lane,
    intake: Intake,
    told: mpsc::Receiver<(u32, Payload)>,
    /// No more of them than the process has tasks.
    over: mpsc::UnboundedReceiver<(String, String)>,
    /// Runs out in the middle of a frame.
    late: Option<Pin<Box<Sleep>>>,
}

impl Conversation {
    fn new(peer: Peer, state: Arc<State>) -> Self {
        let (parts, told) = mpsc::channel(PARTS);
        let (tell_over, over) = mpsc::unbounded_channel();
        let lane = Lane {
            peer,
            state,
            out: Outbox::default(),
            events: FuturesUnordered::new(),
            sent: HashMap::new(),
            works: Works::default(),
            giving: None,
            parts,
            over: tell_over,
            ending: false,
        };
        Self { lane, intake: Intake::default(), told, over, late: None }
    }

    async fn converse(mut self, stream: UnixStream) {
        let (mut reader, writer) = stream.into_split();
        let bounds = *self.lane.state.turnstile.bounds();
        let mut writer = Impatient::new(writer, bounds.stalled);
        let stopping_now = self.lane.state.stopping.clone();
        let mut stops = std::pin::pin!(stopping_now.cancelled());
        loop {
            self.read_on();
            let Self { lane, intake, told, over, late } = &mut self;
            if lane.ending && lane.out.len() == 0 {
                return;
            }
            tokio::select! {
                biased;
                () = &mut stops, if !lane.ending => lane.end(&stopping()),
                read = more(&mut reader, intake), if lane.has_room() => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                Some(event) = lane.events.next(), if lane.out.len() < HELD => lane.happened(event),
                Some((number, part)) = told.recv(), if lane.out.len() < HELD => {
                    if lane.sent.contains_key(&number) {
                        lane.out.put(Told::Part, number, &json!({}), part.len(), part.into_pieces());
                    }
                }
                Some((task, why)) = over.recv(), if lane.out.len() < HELD => lane.over(&task, &why),
                given = async { lane.giving.as_mut().expect("there is one").await }, if lane.giving.is_some() => {
                    lane.giving = None;
                    if let Some((number, gone)) = given {
                        lane.out.put(Told::Gone, number, &json!({"message": gone.message}), 0, std::iter::empty());
                    }
                }
                () = async { late.as_mut().expect("there is one").await }, if late.is_some() => {
                    lane.end(&Status::new(crate::api::Reason::Timeout, "the rest of a frame did not come in time"));
                    *late = None;
                }
                written = async { writer.write_vectored(&lane.out.slices()).await }, if lane.out.len() > 0 => match written {
                    Ok(0) | Err(_) => return,
                    Ok(count) => lane.out.written(count),
                },
            }
        }
    }

    /// Makes something of what has come, as far as there is room.
    fn read_on(&mut self) {
        let state = self.lane.state.clone();
        while self.lane.has_room() {
            match self.intake.next(&state.turnstile) {
                Ok(Some(frame)) => {
                    self.late = None;
                    self.lane.take(frame);
                }
                Ok(None) => break,
                Err(broken) => return self.lane.end(&broken),
            }
        }
        if !self.lane.has_room() || !self.intake.is_partial() {
            self.late = None;
        } else if self.late.is_none() {
            self.late = Some(Box::pin(tokio::time::sleep(state.turnstile.bounds().body)));
        }
    }
}

/// Reads what has come. Memory is taken as it comes, not as it is announced.
async fn more(reader: &mut OwnedReadHalf, intake: &mut Intake) -> io::Result<usize> {
    intake.bytes.reserve((intake.wanted() + SPARE).clamp(READ, READ_MORE));
    reader.read_buf(&mut intake.bytes).await
}
