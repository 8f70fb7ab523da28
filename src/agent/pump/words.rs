//! What an attempt said last becomes the message of its exit, where the App asks for that.
//!
//! It comes after the exit is durable and acknowledged, so that neither a restart nor an exit's record waits for output;
//! what an agent that dies in between has not told, stays in the logs.

use super::{Finished, Pump};
use crate::{agent::memory::Note, drivers::StartKey};

/// Output that might hold secrets is thrown away.
pub(super) fn withheld() -> Note {
    let message = "Its output is withheld: logs.redactSecrets asks for secret values to be taken out of it, and they are not known \
                   any more, or there is no memory to keep them in. Restart it to have it written again";
    Note::warning("OutputWithheld", message.to_owned())
}

impl Pump {
    /// The end of an attempt is recorded.
    pub(super) fn ask_for_last_words(&mut self, key: StartKey) {
        let Some(slot) = self.slots.get(&key.uid) else { return };
        let is_asked = slot.instance.as_ref().is_some_and(|i| i.spec.termination_message_policy.is_some());
        if !is_asked || !slot.memory.is_silent_failure(key.attempt) {
            return;
        }
        let driver = self.agent.drivers.of(slot.form).clone();
        self.work.push(Box::pin(async move {
            let words = driver.last_words(&key).await;
            Finished::LastWords(key, words)
        }));
    }

    pub(super) fn take_last_words(&mut self, key: &StartKey, words: String) {
        self.with(&key.uid, |slot, _| {
            if slot.memory.is_silent_failure(key.attempt)
                && let Some(exit) = &mut slot.memory.last_exit
            {
                exit.message = words;
            }
            Vec::new()
        });
    }
}
