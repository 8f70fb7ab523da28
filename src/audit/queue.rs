//! What waits for the audit log's thread. It is woken for what somebody waits for; the rest is gathered for a moment, so that a thousand
//! records a second are a hundred writes and not a thousand.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::trail::Message;

/// For how long records are gathered that nobody waits for.
const GATHERED: Duration = Duration::from_millis(10);
/// So many are enough.
const ENOUGH: usize = 1024;

#[derive(Default)]
struct Waiting {
    messages: Vec<Message>,
    /// Somebody waits for what is written next.
    urgent: bool,
    /// Nobody records any more.
    closed: bool,
    /// The thread is gone: whoever waits for it is told by what they sent being dropped.
    deserted: bool,
    thread: Thread,
}

/// What the thread is at.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Thread {
    /// It writes, and looks again by itself.
    #[default]
    Writes,
    /// It wants anything.
    Sleeps,
    /// It wants to know if somebody waits.
    Gathers,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of those who record. When it is dropped the thread ends.
pub(super) struct Sender(Arc<Shared>);

/// The thread's end.
pub(super) struct Receiver(Arc<Shared>);

/// What the thread finds.
pub(super) enum Found {
    /// What has come.
    Messages(Vec<Message>),
    /// Nothing in all that time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

/// Both ends.
pub(super) fn queue() -> (Sender, Receiver) {
    let shared = Arc::new(Shared::default());
    (Sender(shared.clone()), Receiver(shared))
}

impl Sender {
    /// Never waits.
    pub(super) fn send(&self, message: Message) {
        let mut waiting = self.0.lock();
        if waiting.deserted {
            return;
        }
        waiting.urgent |= !matches!(message, Message::Note { .. });
        waiting.messages.push(message);
        let wake = match waiting.thread {
            Thread::Writes => false,
            Thread::Sleeps => true,
            Thread::Gathers => waiting.urgent || waiting.messages.len() >= ENOUGH,
        };
        drop(waiting);
        if wake {
            self.0.woken.notify_one();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.woken.notify_one();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.deserted = true;
        waiting.messages.clear();
    }
}

impl Receiver {
    /// What has come, or comes within `patience`, with what follows at once.
    pub(super) fn take(&self, patience: Option<Duration>) -> Found {
        let nothing = |waiting: &mut Waiting| waiting.messages.is_empty() && !waiting.closed;
        let waiting = self.wait(self.0.lock(), Thread::Sleeps, patience, nothing);
        if waiting.messages.is_empty() {
            return if waiting.closed { Found::Closed } else { Found::Nothing };
        }
        let more = |waiting: &mut Waiting| !waiting.urgent && !waiting.closed && waiting.messages.len() < ENOUGH;
        let mut waiting = self.wait(waiting, Thread::Gathers, Some(GATHERED), more);
        waiting.urgent = false;
        Found::Messages(std::mem::take(&mut waiting.messages))
    }

    fn wait<'a>(
        &'a self,
        mut waiting: MutexGuard<'a, Waiting>,
        at: Thread,
        patience: Option<Duration>,
        goes_on: impl FnMut(&mut Waiting) -> bool,
    ) -> MutexGuard<'a, Waiting> {
        waiting.thread = at;
        let woken = &self.0.woken;
        let mut waiting = match patience {
            Some(patience) => {
                woken.wait_timeout_while(waiting, patience, goes_on).unwrap_or_else(PoisonError::into_inner).0
            }
            None => woken.wait_while(waiting, goes_on).unwrap_or_else(PoisonError::into_inner),
        };
        waiting.thread = Thread::Writes;
        waiting
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn flush() -> Message {
        Message::Flush { reply: oneshot::channel().0 }
    }

    #[test]
    fn the_thread_is_given_everything_in_order_and_told_of_the_end() {
        let (sender, receiver) = queue();
        assert!(matches!(receiver.take(Some(Duration::from_millis(1))), Found::Nothing));
        let reader = std::thread::spawn(move || {
            let mut count = 0;
            loop {
                match receiver.take(None) {
                    Found::Messages(messages) => count += messages.len(),
                    Found::Nothing => panic!("it waits as long as it takes"),
                    Found::Closed => return count,
                }
            }
        });
        (0..10_000).for_each(|_| sender.send(flush()));
        drop(sender);
        assert_eq!(reader.join().expect("it ends"), 10_000);
    }

    #[test]
    fn nobody_waits_for_a_thread_that_is_gone() {
        let (sender, receiver) = queue();
        let (reply, mut before) = oneshot::channel();
        sender.send(Message::Flush { reply });
        drop(receiver);
        let (reply, mut after) = oneshot::channel();
        sender.send(Message::Flush { reply });
        assert!(before.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Closed));
        assert!(after.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Closed));
    }
}
