//! Facts to findings. Pure: the same facts give the same words on any machine.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};

use crate::{
    audit::Verdict as Verified,
    daemon::examine::{Examination, Found},
};

use super::look::{
    Certificate, Cgroups, ClockFacts, Database, Directory, Engine, Keeper, Kubeconfig, Lock, Processes, Server,
};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// It works, and may not for long, or not for everything.
    Warning,
    /// It does not work.
    Problem,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) message: String,
    /// What to do.
    pub(super) mend: Option<String>,
}

fn ok(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Ok, message: message.into(), mend: None }
}

fn warning(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check, verdict: Verdict::Warning, message: message.into(), mend: Some(mend.into()) }
}

fn problem(check: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Problem, ..warning(check, message, mend) }
}

const MIB: u64 = 1 << 20;
/// Below this a server soon cannot write.
const SCARCE: u64 = 100 * MIB;
const LITTLE: u64 = 1024 * MIB;

pub(super) fn directory(facts: &Directory) -> Vec<Finding> {
    const CHECK: &str = "data directory";
    let path = facts.path.display();
    let mut findings = vec![match facts.there {
        None => ok(CHECK, format!("{path} is not there yet; the server makes it")),
        Some(inode) if !inode.is_directory => {
            problem(CHECK, format!("{path} is no directory"), "choose another one with --data-dir")
        }
        Some(inode) if inode.owner != facts.uid && facts.uid != 0 => problem(
            CHECK,
            format!("{path} belongs to uid {}, and you are {}", inode.owner, facts.uid),
            format!("run as that user, or: sudo chown -R {} {path}", facts.uid),
        ),
        Some(inode) if inode.mode & 0o077 != 0 => {
            warning(CHECK, format!("others may look into {path} (mode {:o})", inode.mode), format!("chmod 700 {path}"))
        }
        Some(_) => ok(CHECK, format!("{path}")),
    }];
    findings.push(match facts.free {
        None => ok("free space", "unknown"),
        Some(free) if free < SCARCE => {
            problem("free space", format!("{} MiB", free / MIB), format!("make room on the filesystem of {path}"))
        }
        Some(free) if free < LITTLE => {
            warning("free space", format!("{} MiB", free / MIB), format!("make room on the filesystem of {path}"))
        }
        Some(free) => ok("free space", format!("{} MiB", free / MIB)),
    });
    findings.push(match facts.filesystem.as_str() {
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "glusterfs" | "vboxsf" => problem(
            "filesystem",
            format!("{} does not keep locks and syncs as a database needs them", facts.filesystem),
            "choose a directory on a local disk with --data-dir",
        ),
        "tmpfs" | "ramfs" => warning(
            "filesystem",
            "it is memory: everything is gone after a reboot",
            "choose a directory on a disk with --data-dir",
        ),
        kind => ok("filesystem", kind),
    });
    findings
}

pub(super) fn lock(facts: &Lock, server: &Server) -> Finding {
    match (facts.is_held, server) {
        (true, Server::Away { .. }) => problem(
            "lock",
            format!("process {} holds the data directory and does not answer", facts.pid),
            format!("look what it is: ps -fp {0}; if it hangs: kill {0}", facts.pid),
        ),
        (true, _) => ok("lock", format!("held by process {}", facts.pid)),
        (false, _) if facts.pid.is_empty() => ok("lock", "free"),
        (false, _) => ok("lock", format!("free; process {} had it last", facts.pid)),
    }
}

pub(super) fn server(facts: &Server, own: &str) -> Finding {
    const CHECK: &str = "server";
    match facts {
        Server::Away { endpoint } => warning(CHECK, format!("none answers at {endpoint}"), "appm up -d"),
        Server::Odd { why } => problem(CHECK, why.clone(), "appm server stop && appm up -d"),
        Server::There { not_ready: Some(why), .. } => problem(
            CHECK,
            format!("not ready: {why}"),
            "wait a moment; its log says more: DATA_DIR/server.log or the journal",
        ),
        // `v1.33.0+appm.0.1.0`: Kubernetes' version, for clients that ask, and appm's.
        Server::There { version, .. } if version.rsplit("+appm.").next() != Some(own) => {
            warning(CHECK, format!("is {version}, and this command line is {own}"), "appm server stop && appm up -d")
        }
        Server::There { version, .. } => ok(CHECK, format!("ready, {version}")),
    }
}

pub(super) fn keeper(facts: &Keeper) -> Finding {
    match facts {
        Keeper::Absent => ok("keeper", "none runs; the server starts it"),
        Keeper::Answers => ok("keeper", "alive"),
        Keeper::Refuses => warning(
            "keeper",
            "its socket is there, and nobody answers",
            "the next start of the server mends it: appm up -d",
        ),
    }
}

pub(super) fn database(facts: &Database) -> Finding {
    const CHECK: &str = "database";
    match facts {
        Database::Absent => ok(CHECK, "none yet"),
        Database::InUse => ok(CHECK, "in use; it is examined while no server runs"),
        Database::Sound => ok(CHECK, "sound"),
        Database::Broken(why) => {
            problem(CHECK, why.clone(), "keep a copy of the data directory, and go back to a backup")
        }
        Database::Unreadable(why) => problem(CHECK, why.clone(), "look at the owner and mode of appm.db"),
    }
}

pub(super) fn depth(found: &Result<Found, String>) -> Vec<Finding> {
    const BACKUP: &str = "keep a copy of the data directory, and go back to a backup: `appm restore --force FILE`";
    let found = match found {
        Ok(found) => found,
        Err(why) => return vec![problem("stored objects", why.clone(), BACKUP)],
    };
    let Examination { objects, rows, unknown, orphans, faults, more, .. } = &found.database;
    let mut findings = match faults.as_slice() {
        [] => vec![ok("stored objects", format!("{objects} read, and {rows} rows of logs and history"))],
        faults => {
            let rest = if *more > 0 { format!("; and {more} more") } else { String::new() };
            vec![problem("stored objects", format!("{}{rest}", faults.join("; ")), BACKUP)]
        }
    };
    if *unknown > 0 {
        let message = format!("{unknown} are of kinds that this appm does not know");
        findings.push(warning("stored objects", message, "use the appm that made them, or a later one"));
    }
    if *orphans > 0 {
        let message = format!("the owners of {orphans} are not there");
        findings.push(warning("stored objects", message, "a running server removes them: look again in a minute"));
    }
    findings.push(match &found.audit {
        Ok(Verified { fault: None, records, .. }) => ok("audit log", format!("whole, {records} records")),
        Ok(Verified { fault: Some(fault), .. }) => problem(
            "audit log",
            format!("{}:{}: {}", fault.file, fault.line, fault.what),
            "find out who could write there; `appm audit verify` tells more",
        ),
        Err(why) => problem("audit log", why.clone(), "look at the owner and mode of its files"),
    });
    findings.push(match found.spoilt.as_slice() {
        [] => ok("artifacts", format!("{} read", found.artifacts)),
        spoilt => problem("artifacts", spoilt.join("; "), "run the workflow again: `appm workflow rerun NAME`"),
    });
    findings
}

pub(super) fn kubeconfig(facts: &Kubeconfig, server_is_there: bool) -> Finding {
    const CHECK: &str = "kubeconfig";
    match facts {
        Kubeconfig::Absent => ok(CHECK, "none yet; the server writes it"),
        Kubeconfig::Unusable(why) => {
            problem(CHECK, why.clone(), "remove it and start the server again: it writes a new one")
        }
        Kubeconfig::Usable { path, mode, .. } if mode & 0o077 != 0 => problem(
            CHECK,
            format!("others may read its token (mode {mode:o})"),
            format!("chmod 600 {}; then remove it and restart the server for a new token", path.display()),
        ),
        Kubeconfig::Usable { refused: Some(why), path, .. } if server_is_there => problem(
            CHECK,
            format!("HTTPS does not work by it: {why}"),
            format!("rm {}; appm server stop && appm up -d", path.display()),
        ),
        Kubeconfig::Usable { refused: None, .. } => ok(CHECK, "HTTPS and its token work"),
        Kubeconfig::Usable { .. } => ok(CHECK, "usable once a server runs"),
    }
}

pub(super) fn certificate(facts: &Certificate, now: Timestamp) -> Finding {
    const CHECK: &str = "certificate";
    // The server makes a new one at that time, or when it is started after it; the old one is good for another ninety days.
    const GRACE: SignedDuration = SignedDuration::from_hours(90 * 24);
    match facts {
        Certificate::Absent => ok(CHECK, "none yet; the server makes it"),
        Certificate::Unreadable => warning(
            CHECK,
            "pki/server.pem does not say what it was made for",
            "move pki/ away and start the server again",
        ),
        Certificate::Made { renew, .. } if *renew + GRACE <= now => {
            problem(CHECK, "it has expired", "appm up -d: a server that runs makes a new one")
        }
        Certificate::Made { renew, .. } if *renew <= now => warning(
            CHECK,
            format!("it expires in {} days", (*renew + GRACE).duration_since(now).as_hours() / 24),
            "appm up -d: a server that runs makes a new one",
        ),
        Certificate::Made { purpose, renew } => {
            let date = renew.to_string();
            ok(CHECK, format!("{purpose}; the server renews it after {}", date.split('T').next().unwrap_or(&date)))
        }
    }
}

pub(super) fn clock(facts: &ClockFacts, now: Timestamp) -> Finding {
    const CHECK: &str = "clock";
    let slack = SignedDuration::from_mins(1);
    match (facts.last_write, facts.is_synchronized) {
        (Some(written), _) if written > now + slack => problem(
            CHECK,
            format!("it went back: the database was written at {written}, and now is {now}"),
            "sudo timedatectl set-ntp true",
        ),
        (_, Some(false)) => warning(CHECK, "nothing keeps it right", "sudo timedatectl set-ntp true"),
        (_, Some(true)) => ok(CHECK, "synchronized"),
        (_, None) => ok(CHECK, "plausible; whether it is synchronized is not known here"),
    }
}

pub(super) fn port(address: SocketAddr, taken: Option<String>, server_is_there: bool) -> Finding {
    match taken {
        None => ok("port", format!("{address} is free")),
        Some(_) if server_is_there => ok("port", format!("{address} is in use, and a server runs")),
        Some(why) => problem(
            "port",
            format!("nobody can listen on {address}: {why}"),
            format!(
                "see who has it: ss -ltnp 'sport = :{}'; or choose another: appm server --listen 127.0.0.1:0",
                address.port()
            ),
        ),
    }
}

pub(super) fn files(limits: Option<(u64, u64)>) -> Finding {
    // Two FIFOs and a log file for each instance, a socket for each client.
    const WANTED: u64 = 4096;
    match limits {
        None => ok("open files", "unknown"),
        Some((_, hard)) if hard < WANTED => warning(
            "open files",
            format!("{hard} at most; {WANTED} are wanted for a thousand instances"),
            "LimitNOFILE=65536 in the unit, or a line in /etc/security/limits.d",
        ),
        Some((soft, hard)) => ok("open files", format!("{soft}, at most {hard}")),
    }
}

pub(super) fn processes(facts: &Processes) -> Finding {
    const FEW: u64 = 4096;
    let most = facts.pid_max.into_iter().chain(facts.per_user).min();
    match most {
        Some(most) if most < FEW => {
            warning("processes", format!("{most} at most"), "sudo sysctl kernel.pid_max=4194304, or ulimit -u")
        }
        Some(most) => ok("processes", format!("{most} at most")),
        None => ok("processes", "unknown"),
    }
}

pub(super) fn cgroups(facts: &Cgroups) -> Finding {
    const CHECK: &str = "cgroups";
    match facts {
        Cgroups::V2 { controllers, is_writable: true } => ok(CHECK, format!("v2, writable: {controllers}")),
        Cgroups::V2 { .. } => warning(
            CHECK,
            "v2, but this process may not make groups",
            "run the server as root, or by systemd with Delegate=yes",
        ),
        Cgroups::V1 => warning(CHECK, "v1", "boot with systemd.unified_cgroup_hierarchy=1"),
        Cgroups::Absent => warning(CHECK, "none are mounted", "sudo mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

pub(super) fn engines(facts: &[Engine]) -> Finding {
    const CHECK: &str = "container engines";
    if let Some((name, Err(why))) = facts.iter().find(|(_, version)| version.is_err()) {
        return warning(
            CHECK,
            format!("{name} has a socket and does not answer: {why}"),
            format!("systemctl status {name}"),
        );
    }
    let found: Vec<String> =
        facts.iter().filter_map(|(name, version)| Some(format!("{name} {}", version.as_ref().ok()?))).collect();
    ok(CHECK, if found.is_empty() { "none; Apps are processes and need none".to_owned() } else { found.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::{super::look::Inode, *};

    fn verdict(finding: &Finding) -> &'static str {
        assert_eq!(finding.mend.is_some(), finding.verdict != Verdict::Ok, "what is wrong can be mended: {finding:?}");
        match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }

    #[test]
    fn a_data_directory_is_judged_by_owner_mode_space_and_filesystem() {
        let inode = Inode { owner: 1000, mode: 0o700, is_directory: true };
        let good = Directory {
            path: "/d".into(),
            there: Some(inode),
            uid: 1000,
            free: Some(9 << 30),
            filesystem: "ext4".into(),
        };
        let other = |change: fn(&mut Directory)| {
            let mut facts = good.clone();
            change(&mut facts);
            directory(&facts).iter().map(verdict).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(other(|_| {}), "ok ok ok");
        assert_eq!(other(|d| d.there = None), "ok ok ok");
        assert_eq!(other(|d| d.uid = 0), "ok ok ok");
        assert_eq!(other(|d| d.uid = 1), "problem ok ok");
        assert_eq!(other(|d| d.there.as_mut().unwrap().mode = 0o755), "warning ok ok");
        assert_eq!(other(|d| d.there.as_mut().unwrap().is_directory = false), "problem ok ok");
        assert_eq!(other(|d| d.free = Some(50 << 20)), "ok problem ok");
        assert_eq!(other(|d| d.free = Some(500 << 20)), "ok warning ok");
        assert_eq!(other(|d| d.filesystem = "nfs4".into()), "ok ok problem");
        assert_eq!(other(|d| d.filesystem = "tmpfs".into()), "ok ok warning");
    }

    #[test]
    fn a_server_is_judged_by_what_it_answers() {
        let there = |version: &str, not_ready: Option<&str>| Server::There {
            version: version.into(),
            not_ready: not_ready.map(str::to_owned),
        };
        let away = Server::Away { endpoint: "/s".into() };
        assert_eq!(verdict(&server(&there("v1.33.0+appm.1.2.3", None), "1.2.3")), "ok");
        assert_eq!(verdict(&server(&there("v1.33.0+appm.1.2.2", None), "1.2.3")), "warning");
        assert_eq!(verdict(&server(&there("v1.2.3", Some("no")), "1.2.3")), "problem");
        assert_eq!(verdict(&server(&away, "1")), "warning");
        assert_eq!(verdict(&server(&Server::Odd { why: "?".into() }, "1")), "problem");
        let held = Lock { pid: "7".into(), is_held: true };
        assert_eq!(verdict(&lock(&held, &away)), "problem");
        assert_eq!(verdict(&lock(&held, &there("v1", None))), "ok");
        assert_eq!(verdict(&lock(&Lock { is_held: false, ..held }, &away)), "ok");
        assert_eq!(verdict(&keeper(&Keeper::Refuses)), "warning");
        assert_eq!(verdict(&port(([127, 0, 0, 1], 6060).into(), Some("taken".into()), false)), "problem");
        assert_eq!(verdict(&port(([127, 0, 0, 1], 6060).into(), Some("taken".into()), true)), "ok");
    }

    #[test]
    fn times_are_judged_against_the_clock() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let made = |renew| Certificate::Made { purpose: "made by ca for host".into(), renew };
        for (facts, expected) in [
            (made(days(10)), "ok"),
            (made(days(-10)), "warning"),
            (made(days(-91)), "problem"),
            (Certificate::Absent, "ok"),
            (Certificate::Unreadable, "warning"),
        ] {
            assert_eq!(verdict(&certificate(&facts, now)), expected, "{facts:?}");
        }
        let facts = |last_write, is_synchronized| ClockFacts { last_write, is_synchronized };
        assert_eq!(verdict(&clock(&facts(Some(days(-1)), None), now)), "ok");
        assert_eq!(verdict(&clock(&facts(Some(days(1)), Some(true)), now)), "problem");
        assert_eq!(verdict(&clock(&facts(None, Some(false)), now)), "warning");
    }

    #[test]
    fn what_the_machine_gives_is_judged() {
        assert_eq!(verdict(&files(Some((256, 1024)))), "warning");
        assert_eq!(verdict(&files(Some((1024, 524_288)))), "ok");
        assert_eq!(verdict(&processes(&Processes { pid_max: Some(32_768), per_user: Some(1000) })), "warning");
        assert_eq!(verdict(&cgroups(&Cgroups::V2 { controllers: "cpu memory".into(), is_writable: false })), "warning");
        assert_eq!(verdict(&cgroups(&Cgroups::V2 { controllers: "cpu memory".into(), is_writable: true })), "ok");
        assert_eq!(verdict(&engines(&[])), "ok");
        assert_eq!(verdict(&engines(&[("docker", Err("denied".into()))])), "warning");
        let usable = |mode, refused: Option<&str>| Kubeconfig::Usable {
            path: "/k".into(),
            mode,
            refused: refused.map(str::to_owned),
        };
        assert_eq!(verdict(&kubeconfig(&usable(0o600, None), true)), "ok");
        assert_eq!(verdict(&kubeconfig(&usable(0o644, None), true)), "problem");
        assert_eq!(verdict(&kubeconfig(&usable(0o600, Some("bad certificate")), true)), "problem");
        assert_eq!(verdict(&kubeconfig(&usable(0o600, Some("refused")), false)), "ok");
        assert_eq!(verdict(&database(&Database::Broken("page 3".into()))), "problem");
    }
}
