//! Somebody wants to know what is used now: the agent looks at everything that runs, and answers when that is written.
//!
//! Asking again within a second gets the answer of the look before, so that no number of dashboards makes an agent busy.

use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};

/// A look that is younger than this is as good as a new one.
const FRESH: SignedDuration = SignedDuration::from_secs(1);
/// Who asks does not wait longer: what is known is better than nothing.
const PATIENCE: Duration = Duration::from_secs(2);

type Asker = oneshot::Sender<()>;

/// Asks an agent to look.
#[derive(Clone, Debug)]
pub struct Looker {
    asks: Vec<mpsc::UnboundedSender<Asker>>,
}

impl Looker {
    /// Resolves when what is used now is in the store, or after a moment.
    pub async fn look(&self) {
        let answers = self.asks.iter().map(|ask| {
            let (asker, answered) = oneshot::channel();
            // An agent that has ended answers by dropping the question.
            drop(ask.send(asker));
            answered
        });
        let _ = tokio::time::timeout(PATIENCE, join_all(answers)).await;
    }
}

/// The agent's side: one for the Instances, one for the Node.
#[derive(Debug)]
pub(super) struct Looks {
    questions: mpsc::UnboundedReceiver<Asker>,
    waiting: Vec<Asker>,
    looked: Option<Timestamp>,
}

/// What an agent is asked.
#[derive(Debug)]
pub struct Questions {
    pub(super) of_instances: Looks,
    pub(super) of_node: Looks,
}

/// A looker, and what an agent needs to hear it.
pub fn looker() -> (Looker, Questions) {
    let looks = || {
        let (ask, questions) = mpsc::unbounded_channel();
        (ask, Looks { questions, waiting: Vec::new(), looked: None })
    };
    let ((instances, of_instances), (node, of_node)) = (looks(), looks());
    (Looker { asks: vec![instances, node] }, Questions { of_instances, of_node })
}

impl Looks {
    /// Somebody asks. Cancel-safe. Never resolves once nobody can ask any more.
    pub(super) async fn asked(&mut self) -> Asker {
        match self.questions.recv().await {
            Some(asker) => asker,
            None => std::future::pending().await,
        }
    }

    /// True if a look must begin for this question; else it is answered, now or together with the others.
    pub(super) fn begins(&mut self, asker: Asker, now: Timestamp) -> bool {
        if self.is_under_way() {
            self.waiting.push(asker);
            return false;
        }
        if self.looked.is_some_and(|at| now.duration_since(at).abs() < FRESH) {
            // Nobody waits any more: fine.
            let _ = asker.send(());
            return false;
        }
        self.waiting.push(asker);
        self.looked = Some(now);
        true
    }

    /// Somebody waits.
    pub(super) fn is_under_way(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everything was looked at, and is written.
    pub(super) fn answer(&mut self) {
        for asker in self.waiting.drain(..) {
            // Nobody waits any more: fine.
            let _ = asker.send(());
        }
    }
}
