//! What the figures of a machine mean: its conditions, and whether they are worth a write. Pure.

use jiff::{SignedDuration, Timestamp};

use super::Measured;
use crate::api::{ConditionStatus, NodeCondition, NodeStatus, Time};

/// Below so much memory the machine runs short: Kubernetes' default.
const LEAST_MEMORY: u64 = 100 << 20;
/// A written status is repeated after so long, so that it can be seen that the agent is alive.
pub(super) const HEARTBEAT: SignedDuration = SignedDuration::from_mins(5);

/// One condition as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Judged {
    /// The agent is alive.
    pub(super) fn ready(since: Timestamp) -> Self {
        let message = format!("the agent has been running since {}", Time(since));
        Self { kind: "Ready", holds: true, reason: "AgentReady", message }
    }

    /// What happens is recorded, or why it is not and changes are refused.
    pub(super) fn audit(trouble: Option<String>) -> Self {
        let reason = if trouble.is_none() { "AuditLogWritable" } else { "AuditLogUnwritable" };
        let message = trouble.map(|why| format!("{why}; changes are refused until it can")).unwrap_or_default();
        Self { kind: "AuditLogReady", holds: message.is_empty(), reason, message }
    }

    /// The engine of containers answers, or why it does not.
    pub(super) fn engine(trouble: Option<String>) -> Self {
        let reason = if trouble.is_none() { "EngineAnswers" } else { "EngineUnavailable" };
        Self { kind: "ContainerEngineReady", holds: trouble.is_none(), reason, message: trouble.unwrap_or_default() }
    }
}

/// Whether the machine runs short of something.
pub(super) fn pressures(measured: &Measured) -> Vec<Judged> {
    let memory = &measured.host.memory;
    let short_of_memory = memory.total_bytes > 0 && memory.available_bytes < LEAST_MEMORY.min(memory.total_bytes / 20);
    // A tenth of the bytes, a twentieth of the files: Kubernetes' defaults.
    let disk = &measured.disk;
    let short_of_disk = disk.bytes_available < disk.bytes / 10 || disk.files_available < disk.files / 20;
    let short_of_pids = measured.pids.1 > 0 && measured.pids.0 > measured.pids.1 / 10 * 9;
    let judged = |kind, holds, reasons: (&'static str, &'static str), short: String, fine: &str| Judged {
        kind,
        holds,
        reason: if holds { reasons.0 } else { reasons.1 },
        message: if holds { short } else { fine.to_owned() },
    };
    vec![
        judged(
            "DiskPressure",
            short_of_disk,
            ("AgentHasDiskPressure", "AgentHasNoDiskPressure"),
            format!(
                "{} MiB and {} files are left for the data directory",
                disk.bytes_available >> 20,
                disk.files_available
            ),
            "the data directory has room",
        ),
        judged(
            "MemoryPressure",
            short_of_memory,
            ("AgentHasInsufficientMemory", "AgentHasSufficientMemory"),
            format!("{} MiB of memory are available", memory.available_bytes >> 20),
            "enough memory is available",
        ),
        judged(
            "PIDPressure",
            short_of_pids,
            ("AgentHasInsufficientPID", "AgentHasSufficientPID"),
            format!("{} of {} process ids are used", measured.pids.0, measured.pids.1),
            "enough process ids are available",
        ),
    ]
}

/// `before` with `now` in it: transition times stay where nothing flipped. Sorted by type.
pub(super) fn conditions(before: &[NodeCondition], judged: Vec<Judged>, now: Timestamp) -> Vec<NodeCondition> {
    let mut all = before.to_vec();
    for Judged { kind, holds, reason, message } in judged {
        let status = ConditionStatus::from(holds);
        let old = all.iter().position(|c| c.kind == kind).map(|at| all.remove(at));
        let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time);
        all.push(NodeCondition {
            kind: kind.to_owned(),
            status,
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
            reason: reason.to_owned(),
            message,
        });
    }
    all.sort_by(|a, b| a.kind.cmp(&b.kind));
    all
}

/// True if somebody would want to know: a condition flipped, a twentieth of the memory or a hundredth of a disk moved, the
/// processors' use moved by a quarter of one, the interfaces changed, or the heartbeat is due. Who asks wants to know small moves, too.
pub(super) fn differs(before: &NodeStatus, after: &NodeStatus, asked: bool, now: Timestamp) -> bool {
    let flips = |status: &NodeStatus| status.conditions.iter().map(|c| (c.kind.clone(), c.status)).collect::<Vec<_>>();
    let (Some(used), Some(uses)) = (&before.usage, &after.usage) else { return true };
    let (Some(was), Some(is)) = (&before.host, &after.host) else { return true };
    let age = used.time.map_or(HEARTBEAT, |time| now.duration_since(time.0));
    let memory = is.memory.total_bytes / if asked { 200 } else { 20 };
    let processors = if asked { 0.01 } else { 0.25 };
    let disks = was.filesystems.len() != is.filesystems.len()
        || was.filesystems.iter().zip(&is.filesystems).any(|(was, is)| {
            was.mount_point != is.mount_point || was.available_bytes.abs_diff(is.available_bytes) > is.size_bytes / 100
        });
    flips(before) != flips(after)
        || age >= HEARTBEAT
        || asked && age >= SignedDuration::from_mins(1)
        || used.memory_bytes.abs_diff(uses.memory_bytes) > memory
        || (used.cpu_cores - uses.cpu_cores).abs() > processors
        || disks
        || was.interfaces != is.interfaces
        || before.capacity != after.capacity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::node::machine::Disk,
        api::{Host, HostMemory, MicroTime, Usage},
    };

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().expect("a time")
    }

    fn measured(available: u64, disk: u64, pids: u64) -> Measured {
        let memory = HostMemory { total_bytes: 8 << 30, available_bytes: available, ..HostMemory::default() };
        Measured {
            host: Host { memory, ..Host::default() },
            disk: Disk { bytes: 100 << 30, bytes_available: disk, files: 1000, files_available: 900 },
            pids: (pids, 32768),
            ..Measured::default()
        }
    }

    #[test]
    fn a_machine_that_runs_short_says_of_what() {
        let holding = |measured: &Measured| {
            let judged = pressures(measured);
            judged.into_iter().filter(|j| j.holds).map(|j| j.kind).collect::<Vec<_>>()
        };
        assert!(holding(&measured(4 << 30, 50 << 30, 500)).is_empty());
        assert_eq!(holding(&measured(99 << 20, 50 << 30, 500)), ["MemoryPressure"]);
        assert_eq!(holding(&measured(4 << 30, 9 << 30, 500)), ["DiskPressure"]);
        assert_eq!(holding(&measured(4 << 30, 50 << 30, 32000)), ["PIDPressure"]);
        assert!(holding(&Measured::default()).is_empty(), "what could not be measured is no pressure");
    }

    #[test]
    fn conditions_keep_their_times_until_they_flip() {
        let first = conditions(&[], pressures(&measured(4 << 30, 50 << 30, 1)), now());
        let later = now() + SignedDuration::from_secs(60);
        let second = conditions(&first, pressures(&measured(4 << 30, 5 << 30, 1)), later);
        let times: Vec<_> = second.iter().map(|c| (c.kind.as_str(), c.last_transition_time)).collect();
        let (then, now) = (Some(Time(now())), Some(Time(later)));
        assert_eq!(times, [("DiskPressure", now), ("MemoryPressure", then), ("PIDPressure", then)]);
        assert!(second.iter().all(|c| c.last_heartbeat_time == now));
    }

    #[test]
    fn small_moves_are_not_worth_a_write_until_the_heartbeat_or_a_question() {
        let status = |cpu_cores: f64, seconds: i64| {
            let time = Some(MicroTime(now() + SignedDuration::from_secs(seconds)));
            NodeStatus {
                usage: Some(Usage { cpu_cores, memory_bytes: 1 << 30, time, ..Usage::default() }),
                host: Some(measured(4 << 30, 50 << 30, 1).host),
                ..NodeStatus::default()
            }
        };
        let at = |seconds| now() + SignedDuration::from_secs(seconds);
        assert!(differs(&NodeStatus::default(), &status(0.1, 0), false, now()));
        assert!(!differs(&status(0.1, 0), &status(0.2, 60), false, at(60)));
        assert!(differs(&status(0.1, 0), &status(0.5, 60), false, at(60)));
        assert!(differs(&status(0.1, 0), &status(0.1, 300), false, at(300)));
        assert!(differs(&status(0.1, 0), &status(0.12, 5), true, at(5)));
    }
}
