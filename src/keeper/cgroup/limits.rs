//! What is written into a group's files for given limits. Pure: one table for both versions.

use super::find::Controller;
use crate::drivers::Limits;

/// The scheduler's period, in microseconds; the quota is a part of it for each core.
const PERIOD: u64 = 100_000;
/// The least quota that the kernel takes.
const LEAST_QUOTA: u64 = 1_000;

/// Which interface the files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Names of the same thing; the first that is there is written.
    pub files: &'static [&'static str],
    pub value: String,
    /// False: the machine may do without (swap that is not there; a wish, not a limit).
    pub required: bool,
}

/// A controller that the limits need; true if without it they could not be enforced.
pub(super) fn needed(limits: &Limits) -> Vec<(Controller, bool)> {
    let asked = [
        (Controller::Memory, limits.memory.is_some() || limits.memory_swap.is_some(), true),
        (Controller::Cpu, limits.cpu.is_some() || limits.cpu_request.is_some(), limits.cpu.is_some()),
        (Controller::Pids, limits.pids.is_some(), true),
        (Controller::Io, limits.io_weight.is_some(), true),
    ];
    asked.into_iter().filter(|(_, asked, _)| *asked).map(|(controller, _, required)| (controller, required)).collect()
}

/// What one controller is told, in this order.
pub(super) fn settings(controller: Controller, limits: &Limits, version: Version) -> Vec<Setting> {
    let must = |files, value: String| Setting { files, value, required: true };
    let may = |files, value: String| Setting { files, value, required: false };
    let mut told = Vec::new();
    match (controller, version) {
        (Controller::Memory, Version::V2) => {
            if let Some(memory) = limits.memory {
                told.push(must(&["memory.max"], memory.to_string()));
                // All of it or none: half an App that lost a helper process is of no use to anybody.
                told.push(may(&["memory.oom.group"], "1".to_owned()));
            }
            told.extend(both(limits).map(|(bytes, asked)| Setting {
                files: &["memory.swap.max"],
                value: bytes.saturating_sub(limits.memory.unwrap_or(0)).to_string(),
                required: asked,
            }));
        }
        (Controller::Memory, Version::V1) => {
            if let Some(memory) = limits.memory {
                told.push(must(&["memory.limit_in_bytes"], memory.to_string()));
            }
            // Memory and swap together; not there if the kernel does not account for swap.
            told.extend(both(limits).map(|(bytes, asked)| Setting {
                files: &["memory.memsw.limit_in_bytes"],
                value: bytes.to_string(),
                required: asked,
            }));
        }
        (Controller::Cpu, Version::V2) => {
            told.extend(limits.cpu.map(|milli| must(&["cpu.max"], format!("{} {PERIOD}", quota(milli)))));
            let weight = |milli| may(&["cpu.weight"], (1 + (shares(milli) - 2) * 9999 / 262_142).to_string());
            told.extend(limits.cpu_request.map(weight));
        }
        (Controller::Cpu, Version::V1) => {
            if let Some(milli) = limits.cpu {
                told.push(must(&["cpu.cfs_period_us"], PERIOD.to_string()));
                told.push(must(&["cpu.cfs_quota_us"], quota(milli).to_string()));
            }
            told.extend(limits.cpu_request.map(|milli| may(&["cpu.shares"], shares(milli).to_string())));
        }
        (Controller::Pids, _) => told.extend(limits.pids.map(|pids| must(&["pids.max"], pids.to_string()))),
        (Controller::Io, Version::V2) => {
            told.extend(limits.io_weight.map(|weight| must(&["io.weight"], format!("default {weight}"))));
        }
        (Controller::Io, Version::V1) => {
            // From 1–10000 to the 10–1000 of the old schedulers.
            let weight = |weight: u64| (10 + weight.saturating_sub(1) * 990 / 9999).to_string();
            told.extend(limits.io_weight.map(|w| must(&["blkio.bfq.weight", "blkio.weight"], weight(w))));
        }
    }
    told
}

/// What takes back limits that are not wanted any more: written where the file is there.
pub(super) fn lifted(controller: Controller, limits: &Limits, version: Version) -> Vec<Setting> {
    let all: &[(bool, &'static [&'static str], &str)] = match (controller, version) {
        (Controller::Memory, Version::V2) => &[
            (limits.memory.is_some(), &["memory.max"], "max"),
            (limits.memory.is_some(), &["memory.oom.group"], "0"),
            (both(limits).is_some(), &["memory.swap.max"], "max"),
        ],
        (Controller::Memory, Version::V1) => &[
            (both(limits).is_some(), &["memory.memsw.limit_in_bytes"], "-1"),
            (limits.memory.is_some(), &["memory.limit_in_bytes"], "-1"),
        ],
        (Controller::Cpu, Version::V2) => &[
            (limits.cpu.is_some(), &["cpu.max"], "max 100000"),
            (limits.cpu_request.is_some(), &["cpu.weight"], "100"),
        ],
        (Controller::Cpu, Version::V1) => &[
            (limits.cpu.is_some(), &["cpu.cfs_quota_us"], "-1"),
            (limits.cpu_request.is_some(), &["cpu.shares"], "1024"),
        ],
        (Controller::Pids, _) => &[(limits.pids.is_some(), &["pids.max"], "max")],
        (Controller::Io, Version::V2) => &[(limits.io_weight.is_some(), &["io.weight"], "default 100")],
        (Controller::Io, Version::V1) => &[
            (limits.io_weight.is_some(), &["blkio.bfq.weight"], "100"),
            (limits.io_weight.is_some(), &["blkio.weight"], "500"),
        ],
    };
    let unwanted = all.iter().filter(|(wanted, ..)| !wanted);
    unwanted.map(|&(_, files, value)| Setting { files, value: value.to_owned(), required: false }).collect()
}

/// Bytes of memory and swap together, and whether there must be swap for that. A memory limit alone means none.
fn both(limits: &Limits) -> Option<(u64, bool)> {
    let memory = limits.memory.unwrap_or(0);
    match limits.memory_swap {
        Some(bytes) => Some((bytes, bytes > memory)),
        None => limits.memory.map(|memory| (memory, false)),
    }
}

fn quota(milli: u64) -> u64 {
    (milli.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA)
}

/// Kubernetes' rule.
fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits, version: Version) -> Vec<String> {
        let each = needed(limits).into_iter().flat_map(|(controller, _)| settings(controller, limits, version));
        each.map(|s| format!("{}{}={}", s.files[0], if s.required { "" } else { "?" }, s.value)).collect()
    }

    #[test]
    fn limits_are_written_in_each_versions_own_words() {
        let all = Limits {
            memory: Some(64 << 20),
            memory_swap: Some(65 << 20),
            cpu: Some(1500),
            cpu_request: Some(100),
            pids: Some(20),
            io_weight: Some(500),
        };
        assert_eq!(
            written(&all, Version::V2),
            [
                "memory.max=67108864",
                "memory.oom.group?=1",
                "memory.swap.max=1048576",
                "cpu.max=150000 100000",
                "cpu.weight?=4",
                "pids.max=20",
                "io.weight=default 500",
            ]
        );
        assert_eq!(
            written(&all, Version::V1),
            [
                "memory.limit_in_bytes=67108864",
                "memory.memsw.limit_in_bytes=68157440",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpu.shares?=102",
                "pids.max=20",
                "blkio.bfq.weight=59",
            ]
        );
    }

    #[test]
    fn a_memory_limit_alone_allows_no_swap_and_does_without_swap_accounting() {
        let memory = Limits { memory: Some(4096), ..Limits::default() };
        assert_eq!(written(&memory, Version::V2)[2], "memory.swap.max?=0");
        assert_eq!(written(&memory, Version::V1)[1], "memory.memsw.limit_in_bytes?=4096");
    }

    #[test]
    fn a_tiny_share_is_the_least_that_the_kernel_takes() {
        let tiny = Limits { cpu: Some(1), cpu_request: Some(1), ..Limits::default() };
        assert_eq!(written(&tiny, Version::V1)[1..], ["cpu.cfs_quota_us=1000", "cpu.shares?=2"]);
        assert_eq!(written(&tiny, Version::V2), ["cpu.max=1000 100000", "cpu.weight?=1"]);
    }

    #[test]
    fn a_wish_for_processor_time_is_no_limit() {
        let wish = Limits { cpu_request: Some(100), ..Limits::default() };
        assert_eq!(needed(&wish), [(Controller::Cpu, false)]);
        assert!(needed(&Limits::default()).is_empty());
    }
}
