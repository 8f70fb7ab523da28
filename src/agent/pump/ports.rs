//! A process that ended at once because somebody else has its port says so in words of its own, if at all. What the machine
//! knows of that is added to the reason for which it waits.

use jiff::SignedDuration;

use super::{Finished, Pump};
use crate::{
    agent::memory::{Memory, Note, Phase},
    api::Instance,
    drivers::StartKey,
};

/// Looks are so far apart, however many processes end meanwhile.
const APART: SignedDuration = SignedDuration::from_millis(100);

/// A port of an Instance that somebody else holds.
pub(super) struct TakenPort {
    name: String,
    /// By whom, in words.
    told: String,
}

impl Pump {
    /// An attempt has ended. If that was a failure and nothing runs now, its ports are nobody's.
    pub(super) fn look_for_taken_ports(&mut self, key: &StartKey) {
        let (now, Some(machine)) = (self.now(), self.agent.config.machine.clone()) else { return };
        let Some(slot) = self.slots.get(&key.uid) else { return };
        let own_ports = |i: &Instance| i.spec.process.as_ref().is_some_and(|_| !i.spec.ports.is_empty());
        let Some(instance) = slot.instance.clone().filter(|i| own_ports(i)) else { return };
        let is_too_early = self.ports_looked.is_some_and(|at| now.duration_since(at).abs() < APART);
        if is_too_early || !rests_after(&slot.memory, key.attempt) {
            return;
        }
        self.ports_looked = Some(now);
        let key = key.clone();
        self.work.push(Box::pin(async move {
            let look = move || {
                instance.spec.ports.iter().find_map(|port| {
                    let holder = machine.holder(port.container_port, port.protocol)?;
                    let told = format!("port {} (`{}`) is held by {holder}", port.container_port, port.name);
                    Some(TakenPort { name: port.name.clone(), told })
                })
            };
            let taken = tokio::task::spawn_blocking(look).await.ok().flatten();
            Finished::LookedForPorts(key, taken)
        }));
    }

    pub(super) fn looked_for_ports(&mut self, key: &StartKey, taken: Option<TakenPort>) {
        let Some(TakenPort { name, told }) = taken else { return };
        self.with(&key.uid, |slot, _| {
            if !rests_after(&slot.memory, key.attempt) {
                return Vec::new();
            }
            if let Phase::Waiting { message, .. } | Phase::Exited { message, .. } = &mut slot.memory.phase {
                *message = format!("{message}; {told}");
            }
            slot.memory.taken_port = Some(name);
            vec![Note::warning("PortTaken", format!("It ended, and its {told}"))]
        });
    }
}

/// Whether nothing runs since this attempt has failed.
fn rests_after(memory: &Memory, attempt: u32) -> bool {
    let rests = matches!(memory.phase, Phase::Waiting { reason: "BackOff", .. } | Phase::Exited { .. });
    rests && memory.last_exit.as_ref().is_some_and(|exit| exit.attempt == attempt && exit.code.is_some_and(|c| c != 0))
}
