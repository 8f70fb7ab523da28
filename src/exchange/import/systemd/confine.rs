//! Settings of a service that limit and confine it: systemd.exec(5) and systemd.resource-control(5).

use serde_json::json;

use super::{
    super::super::{
        draft::Draft,
        quantity,
        report::{Spot, brief},
    },
    environment,
    find::Unit,
};

/// A limit, or what keeps a process from something.
pub(super) fn setting(unit: &Unit, key: &str, value: &str, spot: &Spot, draft: &mut Draft) -> Result<(), String> {
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
            directory(unit, key, spot, draft);
        }
        _ if key.ends_with("DirectoryMode") && environment::is_root(unit) => draft.carried(spot, key),
        _ if key.ends_with("DirectoryMode") => draft.dropped(spot, key, "of directories that are made by hand here"),
        "RuntimeDirectoryPreserve" => draft.nearly(spot, key, "a directory stays as it is when the App ends"),
        _ if key.ends_with("DirectoryAccounting") || key.ends_with("DirectoryQuota") => {
            draft.dropped(spot, key, "what a directory may hold is its file system's affair");
        }
        "PAMName" => {
            draft.put("process.login", true);
            draft.nearly(spot, key, "through a login shell of the user");
        }
        "CoredumpFilter" => draft.dropped(spot, key, "`process.rlimits.core` limits what is dumped"),
        "OOMScoreAdjust" | "OOMPolicy" => {
            draft.dropped(spot, key, "beyond `resources.limits.memory` the kernel ends the instance");
        }
        _ if key.starts_with("ManagedOOM") => {
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
            || key.starts_with("NUMA")
            || key.starts_with("DefaultMemory")
            || key.starts_with("DefaultStartup") =>
        {
            draft.dropped(spot, key, "`resources.limits` has memory, cpu, pids and ioWeight");
        }
        "MemoryHigh"
        | "MemoryLow"
        | "MemoryMin"
        | "MemoryZSwapMax"
        | "MemoryZSwapWriteback"
        | "MemoryKSM"
        | "MemoryPressureWatch"
        | "MemoryPressureThresholdSec" => {
            draft.dropped(spot, key, "there is one limit, `resources.limits.memory`");
        }
        "BusPolicy" | "SysVStartPriority" => draft.dropped(spot, key, "systemd itself knows it no longer"),
        "TimerSlackNSec" | "IgnoreSIGPIPE" | "CoredumpReceive" | "SetLoginEnvironment" => {
            draft.dropped(spot, key, "a process has what its user, limits and variables say; a wrapper can set more");
        }
        "StandardInputData" => draft.dropped(spot, key, "`process.stdin` is text"),
        "TTYPath" | "TTYReset" | "TTYVHangup" | "TTYVTDisallocate" | "TTYRows" | "TTYColumns" => {
            draft.dropped(spot, key, "`process.tty: true` is a terminal of its own");
        }
        "UtmpIdentifier" | "UtmpMode" => draft.dropped(spot, key, "no logins are recorded"),
        "SetCredential"
        | "SetCredentialEncrypted"
        | "LoadCredential"
        | "LoadCredentialEncrypted"
        | "ImportCredential" => {
            draft.dropped(spot, key, "a Secret holds it: `env` with `secretKeyRef`, or `files`");
        }
        "ExecSearchPath" => draft.dropped(spot, key, "write the program's path, or set PATH in `env`"),
        "RootDirectory"
        | "RootImage"
        | "RootImageOptions"
        | "RootImagePolicy"
        | "RootHash"
        | "RootHashSignature"
        | "RootVerity"
        | "RootEphemeral"
        | "MountImages"
        | "MountImagePolicy"
        | "ExtensionImages"
        | "ExtensionImagePolicy"
        | "ExtensionDirectories"
        | "MountAPIVFS"
        | "MountFlags"
        | "BindPaths"
        | "BindReadOnlyPaths"
        | "BindLogSockets"
        | "TemporaryFileSystem" => {
            draft.dropped(spot, key, "a process sees the machine's files; a container has an image and mounts");
        }
        "SupplementaryGroups" => draft.dropped(spot, key, "a process has the groups of its user"),
        "DynamicUser" if !super::service::is_true(value) => draft.carried(spot, key),
        "DynamicUser" => draft.dropped(spot, key, "users are not made: name one that is there in `process.user`"),
        "NetClass" | "NFTSet" => draft.dropped(spot, key, "the machine's firewall does not know of Apps"),
        "BPFProgram" => draft.dropped(spot, key, "no programs are loaded into the kernel"),
        _ => draft.dropped(spot, key, "a process is not confined beyond its user and limits; a container is"),
    }
    Ok(())
}

/// A directory that systemd makes before a start.
fn directory(unit: &Unit, key: &str, spot: &Spot, draft: &mut Draft) {
    let all = environment::directories(unit);
    let Some((_, paths, mode)) = all.iter().find(|(setting, ..)| *setting == key) else { return };
    if environment::is_root(unit) {
        return draft.nearly(spot, key, "made by a shell before each start, and left there at the end");
    }
    let owner = unit.value("Service", "User").map_or(String::new(), |user| format!(" -o {user}"));
    let remark =
        format!("make it yourself after each start of the machine: `install -d -m {mode}{owner} {}`", paths.join(" "));
    draft.dropped(spot, key, &remark);
}

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
