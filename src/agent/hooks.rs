//! What is done at the turns of an instance's life: after its start, before its end.
//!
//! A command runs under a name (`postStart`, `preStop`) at most once beside an attempt as long as its keeper or engine remembers it, so a new
//! agent that finds one under way waits for its end. A request or a pause is begun anew by a new agent: postStart as long as
//! the status does not say `started`, preStop as long as it says `stopping.preStop`. So each is done at least once; of a pause
//! before the end only what is left of it.

use std::time::Duration;

use super::probes::ask::{self, Answer, Place};
use crate::{api::LifecycleHandler, clock::SharedClock, drivers::SharedDriver};

/// How much time there is for a hook.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    /// How long it may take.
    pub(super) left: Duration,
    /// So much of it is gone since an earlier agent began it: a pause is that much shorter.
    pub(super) gone: Duration,
}

/// How long a driver that does not answer is asked again.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// How long a postStart hook may take: Kubernetes sets no limit, and a keeper wants one.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Which turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// After the start.
    PostStart,
    /// Before the stop signal.
    PreStop,
}

impl Hook {
    /// As in the manifest.
    pub(super) fn word(self) -> &'static str {
        match self {
            Hook::PostStart => "postStart",
            Hook::PreStop => "preStop",
        }
    }
}

/// Does it. The error is a sentence for people.
pub(super) async fn run(
    driver: SharedDriver,
    clock: SharedClock,
    place: Place,
    hook: Hook,
    handler: LifecycleHandler,
    time: Time,
) -> Result<(), String> {
    let timeout = time.left;
    let doing = async {
        let mut why = String::new();
        for _try in 0..TRIES {
            let answer = match &handler {
                LifecycleHandler { exec: Some(exec), .. } => {
                    ask::exec(&*driver, &place, exec, timeout, Some(hook.word())).await
                }
                LifecycleHandler { http_get: Some(get), .. } => ask::http(&*driver, &place, get).await,
                LifecycleHandler { sleep: Some(sleep), .. } => {
                    let whole = Duration::from_secs(sleep.seconds.unsigned_abs());
                    clock.sleep(whole.saturating_sub(time.gone)).await;
                    Answer::Yes
                }
                _ => Answer::Yes,
            };
            match answer {
                Answer::Yes => return Ok(()),
                Answer::No(why) => return Err(why),
                Answer::Unknown(unknown) => why = unknown,
            }
            clock.sleep(PAUSE).await;
        }
        Err(why)
    };
    tokio::select! {
        biased;
        outcome = doing => outcome,
        () = clock.sleep(timeout) => Err(format!("it did not end within {timeout:?}")),
    }
}
