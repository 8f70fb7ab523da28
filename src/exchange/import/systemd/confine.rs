//! Settings of a service that limit and confine it: systemd.exec(5) and systemd.resource-control(5).

use serde_json::json;

use super::super::super::{
    draft::Draft,
    quantity,
    report::{Spot, brief},
};

/// A limit, or what keeps a process from something.
pub(super) fn setting(key: &str, value: &str, spot: &Spot, draft: &mut Draft) -> Result<(), String> {
    if let Some(name) = key.strip_prefix("Limit") {
        return rlimit(name, key, value, spot, draft);
    }
    let never = matches!(value, "infinity" | "");
    match key {
        "MemoryMax" | "MemoryLimit" if never => draft.carried(spot, key),
        "MemoryMax" | "MemoryLimit" => match quantity::bytes(value) {
            Some(size) => draft.set(spot, key, "resources.limits.memory", size),
            None => draft.dropped(spot, key, "a share of the machine's memory: write bytes"),
        },
        "MemorySwapMax" => match (quantity::bytes(value), draft.get("resources.limits.memory").is_null()) {
            (Some(size), true) if size == "0" => draft.carried(spot, key),
            _ => draft.dropped(
                spot,
                key,
                "`memorySwap` is memory and swap together; without it there is no swap beside `memory`",
            ),
        },
        "MemoryHigh" | "MemoryLow" | "MemoryMin" | "StartupMemoryMax" => {
            draft.dropped(spot, key, "there is one limit, `resources.limits.memory`");
        }
        "CPUQuota" => match value.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok()) {
            Some(percent) if (1.0..=100_000.0).contains(&percent) => {
                draft.set(spot, key, "resources.limits.cpu", quantity::cores((percent * 10.0).round() as u64));
            }
            _ => return Err(format!("`{}` is no percentage", brief(value))),
        },
        "TasksMax" if never => draft.carried(spot, key),
        "TasksMax" => match value.parse::<u64>() {
            Ok(most) => draft.set(spot, key, "resources.limits.pids", most.to_string()),
            Err(_) => draft.dropped(spot, key, "a share of what the machine allows: write a number"),
        },
        "IOWeight" => match value.parse::<u32>() {
            Ok(weight) if (1..=10_000).contains(&weight) => {
                draft.set(spot, key, "resources.limits.ioWeight", weight.to_string());
            }
            _ => return Err(format!("`{}` is not from 1 to 10000", brief(value))),
        },
        "CPUAccounting" | "MemoryAccounting" | "TasksAccounting" | "IOAccounting" | "BlockIOAccounting"
        | "IPAccounting" => {
            draft.carried(spot, key);
        }
        "SyslogIdentifier"
        | "SyslogFacility"
        | "SyslogLevel"
        | "SyslogLevelPrefix"
        | "LogLevelMax"
        | "LogExtraFields"
        | "LogRateLimitIntervalSec"
        | "LogRateLimitBurst"
        | "LogFilterPatterns"
        | "LogNamespace" => {
            draft.dropped(spot, key, "output goes into appm's logs as it is");
        }
        "RuntimeDirectory" | "StateDirectory" | "CacheDirectory" | "LogsDirectory" | "ConfigurationDirectory" => {
            let base = match key {
                "RuntimeDirectory" => "/run",
                "StateDirectory" => "/var/lib",
                "CacheDirectory" => "/var/cache",
                "LogsDirectory" => "/var/log",
                _ => "/etc",
            };
            let remark = format!(
                "make {base}/{} yourself, for the App's user",
                value.split([' ', ':']).next().unwrap_or_default()
            );
            draft.dropped(spot, key, &remark);
        }
        _ if key.ends_with("DirectoryMode") || key.ends_with("DirectoryPreserve") => {
            draft.dropped(spot, key, "of directories that are made by hand here");
        }
        "PAMName" => {
            draft.put("process.login", true);
            draft.nearly(spot, key, "through a login shell of the user");
        }
        "OOMScoreAdjust" | "OOMPolicy" | "ManagedOOMSwap" | "ManagedOOMMemoryPressure" | "CoredumpFilter" => {
            draft.dropped(spot, key, "beyond `resources.limits.memory` the kernel ends the instance");
        }
        "Slice" | "Delegate" | "DelegateSubgroup" | "DisableControllers" => {
            draft.dropped(spot, key, "each instance has a control group of its own")
        }
        _ if key.starts_with("CPU")
            || key.starts_with("IO")
            || key.starts_with("BlockIO")
            || key.starts_with("Allowed")
            || key.starts_with("Startup")
            || key.starts_with("NUMA") =>
        {
            draft.dropped(spot, key, "`resources.limits` has memory, cpu, pids and ioWeight");
        }
        _ if CONFINING.iter().any(|prefix| key.starts_with(prefix)) => {
            draft.dropped(spot, key, "a process is not confined beyond its user and limits; a container is");
        }
        _ if key.starts_with("X-") => draft.carried(spot, key),
        _ => draft.dropped(spot, key, "no setting of a service that is known"),
    }
    Ok(())
}

/// How the settings begin that take something away from a process: systemd.exec(5), "Sandboxing" to "System Call Filtering".
const CONFINING: [&str; 44] = [
    "Protect",
    "Private",
    "Restrict",
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "SystemCall",
    "ReadWrite",
    "ReadOnly",
    "Inaccessible",
    "ExecPaths",
    "NoExecPaths",
    "TemporaryFileSystem",
    "BindPaths",
    "BindReadOnlyPaths",
    "BindLogSockets",
    "Root",
    "Mount",
    "ExtensionImages",
    "ExtensionDirectories",
    "DynamicUser",
    "SupplementaryGroups",
    "SetLoginEnvironment",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "RemoveIPC",
    "SecureBits",
    "KeyringMode",
    "Personality",
    "IgnoreSIGPIPE",
    "SELinuxContext",
    "AppArmorProfile",
    "SmackProcessLabel",
    "DeviceAllow",
    "DevicePolicy",
    "IPAddress",
    "IPIngress",
    "IPEgress",
    "SocketBind",
    "NetworkNamespacePath",
    "UtmpIdentifier",
    "UtmpMode",
    "TTY",
    "LoadCredential",
];

fn rlimit(name: &str, key: &str, value: &str, spot: &Spot, draft: &mut Draft) -> Result<(), String> {
    let name = name.to_ascii_lowercase();
    let in_bytes = ["as", "core", "data", "fsize", "memlock", "stack", "rss", "msgqueue"].contains(&name.as_str());
    let one = |part: &str| match part.trim() {
        "infinity" => Some("unlimited".to_owned()),
        part if in_bytes => quantity::bytes(part)?.parse::<crate::api::Quantity>().ok().map(|q| q.units().to_string()),
        part => part
            .parse::<u64>()
            .ok()
            .map(|n| n.to_string())
            .or_else(|| quantity::span(part).map(|ms| (ms / 1000).to_string())),
    };
    let parts: Option<Vec<String>> = value.splitn(2, ':').map(one).collect();
    let Some(parts) = parts else { return Err(format!("`{}` is no limit", brief(value))) };
    match name.as_str() {
        "rss" | "locks" => draft.dropped(spot, key, "a limit that Linux does not keep"),
        _ => {
            draft.spec["process"]["rlimits"][name] = json!(parts.join(":"));
            draft.carried(spot, key);
        }
    }
    Ok(())
}
