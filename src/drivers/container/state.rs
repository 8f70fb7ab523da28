//! From what an engine says of a container to what a driver says of an attempt. Pure.

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HealthStatusEnum};
use jiff::Timestamp;

use crate::drivers::{Attempt, CheckState, End, Ended, ImageCheck, Started};

/// A container that has never run was given this code by its engine if its program could not be executed.
const NOT_EXECUTED: i64 = 128;
/// An exit code above this means a signal, as a shell says it and as runc does.
const SIGNALLED: i32 = 128;
/// The last signal that there is.
const LAST_SIGNAL: i32 = 64;
/// How much is told of what a check printed.
const TOLD: usize = 512;

/// What a container's state means; `None`: it has not been started, and may be.
pub(super) fn attempt(state: &ContainerState, now: Timestamp) -> Option<Attempt> {
    let started = time(state.started_at.as_deref());
    let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    if state.running == Some(true) || state.paused == Some(true) {
        return Some(Attempt::Running(Started { pid, start_time: started.unwrap_or(now), adopted: false }));
    }
    if let (Some(ContainerStateStatusEnum::CREATED), Some(start_time)) = (state.status, started) {
        // Podman, which looks at this very moment at a container that ends, and does not know its code yet; or, without a process,
        // after its machine died.
        let lost = Ended { end: End::Lost, oom_killed: false, start_time, finish_time: now };
        let ends = Started { pid, start_time, adopted: false };
        return Some(if pid > 0 { Attempt::Running(ends) } else { Attempt::Ended(lost) });
    }
    let code = state.exit_code.unwrap_or(0);
    let Some(start_time) = started else {
        // Podman says nothing of a start that failed; then it is as if it had never been tried, which is as true.
        let failed = code != 0 || state.error.as_deref().is_some_and(|error| !error.is_empty());
        let code = if code == 0 { NOT_EXECUTED } else { code };
        let end = End::Code(i32::try_from(code).unwrap_or(SIGNALLED));
        return failed.then_some(Attempt::Ended(Ended { end, oom_killed: false, start_time: now, finish_time: now }));
    };
    let finish_time = time(state.finished_at.as_deref()).filter(|at| *at >= start_time).unwrap_or(now);
    let oom_killed = state.oom_killed == Some(true);
    Some(Attempt::Ended(Ended { end: end(code), oom_killed, start_time, finish_time }))
}

/// The address of a container on a network of the engine.
pub(super) fn address(found: &ContainerInspectResponse) -> Option<String> {
    let networks = found.network_settings.as_ref()?.networks.as_ref()?;
    networks.values().filter_map(|network| network.ip_address.clone()).filter(|address| !address.is_empty()).min()
}

/// What the check of a container's image says; `None`: it has none, or somebody switched it off.
pub(super) fn check(found: &ContainerInspectResponse) -> Option<ImageCheck> {
    let health = found.state.as_ref()?.health.as_ref()?;
    let state = match health.status? {
        HealthStatusEnum::STARTING => CheckState::Starting,
        HealthStatusEnum::HEALTHY => CheckState::Healthy,
        HealthStatusEnum::UNHEALTHY => CheckState::Unhealthy,
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => return None,
    };
    let last = health.log.as_ref().and_then(|log| log.last());
    let said = last.and_then(|last| {
        let printed = last.output.as_deref().unwrap_or_default().trim();
        let from = printed.ceil_char_boundary(printed.len().saturating_sub(TOLD));
        let code = last.exit_code.filter(|code| *code != 0).map(|code| format!("exit code {code}"));
        if printed.is_empty() { code } else { Some(printed[from..].to_owned()) }
    });
    Some(ImageCheck { state, said: said.unwrap_or_default() })
}

/// What an exit code says. A program may well exit with 137 by itself; nobody can tell that from SIGKILL.
fn end(code: i64) -> End {
    let Ok(code) = i32::try_from(code) else { return End::Lost };
    match code - SIGNALLED {
        signal if (1..=LAST_SIGNAL).contains(&signal) => End::Signal(signal),
        _ => End::Code(code),
    }
}

/// A time, unless it is Go's zero, which stands for never.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|at| *at > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_check_is_told_by_its_state_and_the_end_of_what_it_printed_last() {
        let long = "x".repeat(TOLD) + "refused\n";
        let check = |health: serde_json::Value| {
            let found = serde_json::from_value(json!({"State": {"Running": true, "Health": health}}));
            let found = check(&found.expect("what an engine says"))?;
            Some((found.state.word(), found.said))
        };
        let of =
            |status: &str, log: serde_json::Value| check(json!({"Status": status, "FailingStreak": 1, "Log": log}));
        assert_eq!(check(json!(null)), None);
        assert_eq!(of("none", json!([])), None);
        assert_eq!(of("", json!(null)), None);
        assert_eq!(of("starting", json!(null)), Some(("starting", String::new())));
        let log = json!([{"ExitCode": 0, "Output": "fine"}, {"ExitCode": 1, "Output": long}]);
        let end = "x".repeat(TOLD - "refused".len()) + "refused";
        assert_eq!(of("unhealthy", log), Some(("unhealthy", end)));
        let log = json!([{"ExitCode": 7, "Output": ""}]);
        assert_eq!(of("unhealthy", log), Some(("unhealthy", "exit code 7".to_owned())));
        assert_eq!(of("healthy", json!([{"ExitCode": 0, "Output": ""}])), Some(("healthy", String::new())));
    }

    #[test]
    fn states_mean_what_they_say() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let (never, at, later) = ("0001-01-01T00:00:00Z", "2026-11-21T19:03:20.5Z", "2026-11-21T19:03:21Z");
        let mut said = Vec::new();
        for (what, state) in [
            ("created", json!({"Status": "created", "StartedAt": never, "FinishedAt": never, "ExitCode": 0})),
            ("no program", json!({"Status": "created", "StartedAt": never, "ExitCode": 127, "Error": "no such file"})),
            ("running", json!({"Status": "running", "Running": true, "Pid": 42, "StartedAt": at, "FinishedAt": never})),
            (
                "Podman, ending",
                json!({"Status": "created", "Pid": 42, "StartedAt": at, "FinishedAt": later, "ExitCode": 0}),
            ),
            (
                "Podman, rebooted",
                json!({"Status": "created", "Pid": 0, "StartedAt": at, "FinishedAt": never, "ExitCode": 0}),
            ),
            ("paused", json!({"Status": "paused", "Paused": true, "Pid": 42, "StartedAt": at})),
            ("exited", json!({"Status": "exited", "StartedAt": at, "FinishedAt": later, "ExitCode": 3})),
            ("terminated", json!({"Status": "exited", "StartedAt": at, "FinishedAt": later, "ExitCode": 143})),
            ("255", json!({"Status": "exited", "StartedAt": at, "FinishedAt": later, "ExitCode": 255})),
            (
                "out of memory",
                json!({"Status": "exited", "StartedAt": at, "FinishedAt": later, "ExitCode": 137, "OOMKilled": true}),
            ),
        ] {
            let state: ContainerState = serde_json::from_value(state).expect("a state");
            said.push(match attempt(&state, now) {
                None => format!("{what}: not started"),
                Some(Attempt::Running(Started { pid, start_time, .. })) => format!("{what}: {pid} since {start_time}"),
                Some(Attempt::Ended(ended)) => {
                    format!("{what}: {:?} oom={} at {}", ended.end, ended.oom_killed, ended.finish_time)
                }
            });
        }
        insta::assert_snapshot!(said.join("\n"), @r"
        created: not started
        no program: Code(127) oom=false at 2027-01-15T08:00:00Z
        running: 42 since 2026-11-21T19:03:20.5Z
        Podman, ending: 42 since 2026-11-21T19:03:20.5Z
        Podman, rebooted: Lost oom=false at 2027-01-15T08:00:00Z
        paused: 42 since 2026-11-21T19:03:20.5Z
        exited: Code(3) oom=false at 2026-11-21T19:03:21Z
        terminated: Signal(15) oom=false at 2026-11-21T19:03:21Z
        255: Code(255) oom=false at 2026-11-21T19:03:21Z
        out of memory: Signal(9) oom=true at 2026-11-21T19:03:21Z
        ");
    }
}
