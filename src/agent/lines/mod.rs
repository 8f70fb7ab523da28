//! Speaks to processes that do tasks by lines (`spec.task.mode: Lines`), through pipes that outlive the server.
//!
//! ```text
//!  broker ─ fetch ─► {"id":7,"data":"…"} ─► in.fifo ─► process ─► lines.fifo ─► {"id":7,"data":"…"} ─ give ─► broker
//!                                                                     └─ what is no answer ─► out.fifo, its log
//! ```
//! One conversation for each attempt. A task is fetched when the one before it is in the pipe, and the broker lets no process have more than its App says. When
//! the attempt has ended, what it had written by then is read first, and only then is its end told: a process may answer and end.

mod answer;
mod intake;

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::mpsc,
};

pub(super) use self::intake::LONGEST;
use self::{
    answer::{Answer, Said, order},
    intake::{Intake, Piece},
};
use crate::{
    broker::{Broker, Delivery, FetchError, GiveError, Superseded},
    drivers::{Ended, Lines, StartKey},
};

/// What is read at a time.
const READ: usize = 64 << 10;

/// Tasks of a process that are remembered; of more than that it has never answered the oldest.
const REMEMBERED: usize = 16_384;

/// Tells a conversation that its attempt has ended. Dropped, it breaks off.
pub(super) type End = mpsc::UnboundedSender<Ended>;

/// An attempt that is spoken to.
pub(super) struct Party {
    pub broker: Arc<Broker>,
    pub app: String,
    pub key: StartKey,
    /// Nobody has spoken to it before.
    pub fresh: bool,
    /// Before the number of each task: an answer to an earlier server's is none to ours.
    pub first: u64,
}

/// Begins a conversation.
pub(super) fn begin(party: Party, pipes: Lines) -> End {
    let (end, ended) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (key, broker) = (party.key.clone(), party.broker.clone());
        let mut ended = ended;
        match Conversation::new(party, pipes).hold(&mut ended).await {
            Ok(Some(ended)) => broker.ended(&key, &ended),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%key, %error, "a process that does tasks by lines cannot be spoken to any more");
                if let Some(ended) = ended.recv().await {
                    broker.ended(&key, &ended);
                }
            }
        }
    });
    end
}

struct Conversation {
    party: Party,
    input: pipe::Sender,
    answers: pipe::Receiver,
    output: pipe::Sender,
    intake: Intake,
    /// What is on its way into the process.
    out: Bytes,
    question: Option<BoxFuture<'static, Result<Delivery, FetchError>>>,
    /// The names of the tasks that it has, by their numbers.
    has: BTreeMap<u64, String>,
    last: u64,
}

/// The next task for a process, however long that takes.
fn ask(party: &Party) -> BoxFuture<'static, Result<Delivery, FetchError>> {
    let (broker, app, key) = (party.broker.clone(), party.app.clone(), party.broker.key_of(&party.key));
    Box::pin(async move {
        loop {
            let worker = broker.worker(&app, &key).map_err(|Superseded| FetchError::Superseded)?;
            match broker.fetch(&worker, None).await {
                Err(FetchError::Nothing) => {}
                fetched => return fetched,
            }
        }
    })
}

impl Conversation {
    fn new(party: Party, pipes: Lines) -> Self {
        let Lines { input, answers, output } = pipes;
        // What an earlier server may have left of a line ends here.
        let out = if party.fresh { Bytes::new() } else { Bytes::from_static(b"\n") };
        let (question, last) = (Some(ask(&party)), party.first);
        Self { party, input, answers, output, intake: Intake::default(), out, question, has: BTreeMap::new(), last }
    }

    /// Until the attempt has ended, or whoever would tell so is gone.
    async fn hold(mut self, ended: &mut mpsc::UnboundedReceiver<Ended>) -> io::Result<Option<Ended>> {
        loop {
            self.intake.bytes.reserve(READ);
            let Self { input, answers, intake, out, question, .. } = &mut self;
            tokio::select! {
                biased;
                end = ended.recv() => {
                    if end.is_some() {
                        self.read_out().await?;
                    }
                    return Ok(end);
                }
                read = answers.read_buf(&mut intake.bytes) => {
                    if read? == 0 {
                        // Nobody has the other end any more: the word of its end is on the way.
                        return Ok(ended.recv().await);
                    }
                    self.take().await?;
                }
                written = input.write(out), if !out.is_empty() => out.advance(written?),
                fetched = async { question.as_mut().expect("there is one").await }, if question.is_some() && out.is_empty() => {
                    self.question = None;
                    // Nothing more is for a process that is to end; what it has it may still give.
                    if let Ok(task) = fetched {
                        self.send(task);
                        self.question = Some(ask(&self.party));
                    }
                }
            }
        }
    }

    fn send(&mut self, task: Delivery) {
        self.last += 1;
        self.has.insert(self.last, task.name());
        if self.has.len() > REMEMBERED {
            self.has.pop_first();
        }
        let mut payload: Vec<Bytes> = task.begun().collect();
        let whole = if payload.len() == 1 { payload.remove(0) } else { payload.concat().into() };
        self.out = order(self.last, &whole).into();
    }

    /// What it had written when it ended.
    async fn read_out(&mut self) -> io::Result<()> {
        let mut left = LONGEST;
        while left > 0 {
            self.intake.bytes.reserve(READ);
            match self.answers.try_read_buf(&mut self.intake.bytes) {
                Ok(0) => break,
                Ok(count) => left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            self.take().await?;
        }
        let rest = self.intake.rest();
        self.print(&rest).await
    }

    async fn take(&mut self) -> io::Result<()> {
        while let Some(piece) = self.intake.next() {
            match piece {
                Piece::Output(text) => self.print(&text).await?,
                Piece::Line(line) => match Answer::read(&line) {
                    Some(answer) => self.answered(answer).await,
                    None => self.print(&line).await?,
                },
            }
        }
        Ok(())
    }

    async fn print(&mut self, text: &[u8]) -> io::Result<()> {
        self.output.write_all(text).await
    }

    async fn answered(&mut self, answer: Answer) {
        let Answer { id, said } = answer;
        let Some(name) = self.has.get(&id).cloned() else {
            return tracing::info!(key = %self.party.key, id, "a process answers what it was not asked, or what nobody waits for any more");
        };
        let Party { broker, app, key, .. } = &self.party;
        let Ok(worker) = broker.worker(app, &broker.key_of(key)) else { return };
        let is_last = !matches!(said, Said::Part(_));
        let given = match said {
            // Its next lines wait with it.
            Said::Part(part) => broker.give_part(&worker, Some(&name), None, part.into()).await,
            Said::Result(result) => broker.give(&worker, Some(&name), None, result.into()),
            Said::Error(message) => broker.fail(&worker, Some(&name), None, &message),
        };
        if is_last || given == Err(GiveError::NobodyWaits) {
            self.has.remove(&id);
        }
        if let Err(error) = given {
            tracing::debug!(%key, id, ?error, "what a process gives is not taken");
        }
    }
}
