//! What an exit leads to: the exit code rules first, then the restart policy.

use crate::api::{ANY_EXIT, Exit, ExitAction, Restart, RestartPolicy};

/// What an exit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start again, by backoff.
    Restart,
    /// Stay ended, for this reason: `Completed`, `Failed`, `Lost`, `Stopped` or `Removed`.
    End(&'static str),
}

/// The terminal reason on which the App controller deletes the App.
pub const REMOVED: &str = "Removed";
/// The terminal reason of an instance that used up its `maxRestarts`.
pub const CRASH_LOOPING: &str = "CrashLooping";
/// The terminal reason of an exit with code 0 that is not restarted.
pub const COMPLETED: &str = "Completed";
/// The terminal reason of one that nobody could see, and that is not restarted.
pub const LOST: &str = "Lost";
/// The terminal reason of a failure that is not restarted.
const FAILED: &str = "Failed";
/// The terminal reason of an exit by a rule that says `Stop`.
pub const STOPPED: &str = "Stopped";
/// The reason of an instance whose App is suspended.
pub const SUSPENDED: &str = "Suspended";

/// Judges an exit that nobody asked for.
pub fn judge(exit: &Exit, policy: RestartPolicy, restart: &Restart) -> Verdict {
    match rule(exit, restart) {
        Some(ExitAction::Restart) => return Verdict::Restart,
        Some(ExitAction::Stop) => return Verdict::End(STOPPED),
        Some(ExitAction::Remove) => return Verdict::End(REMOVED),
        None => {}
    }
    match policy {
        RestartPolicy::Always => Verdict::Restart,
        RestartPolicy::OnFailure if !exit.is_success() => Verdict::Restart,
        _ if exit.is_success() => Verdict::End(COMPLETED),
        _ if exit.lost => Verdict::End(LOST),
        _ => Verdict::End(FAILED),
    }
}

/// Judges the end of a process that was stopped because a probe or a hook of it failed: a failure, however it ended. Rules for
/// exit codes are about what a process does by itself.
pub fn judge_unhealthy(policy: RestartPolicy) -> Verdict {
    match policy {
        RestartPolicy::Always | RestartPolicy::OnFailure => Verdict::Restart,
        RestartPolicy::Never => Verdict::End(FAILED),
    }
}

/// Judges the end of a process that was taken over: it is never started again, since its number may be another's by now.
pub fn judge_taken_over(exit: &Exit, restart: &Restart) -> &'static str {
    match judge(exit, RestartPolicy::Never, restart) {
        Verdict::End(reason) => reason,
        Verdict::Restart => FAILED,
    }
}

/// The rule that speaks of this exit. A lost exit, and a start that failed, match none.
fn rule(exit: &Exit, restart: &Restart) -> Option<ExitAction> {
    let word = match (exit.code, &exit.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => signal.clone(),
        (None, None) => return None,
    };
    restart.exit_codes.get(&word).or_else(|| restart.exit_codes.get(ANY_EXIT)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: i32) -> Exit {
        Exit { code: Some(code), ..Exit::default() }
    }

    fn signal(name: &str) -> Exit {
        Exit { signal: Some(name.to_owned()), ..Exit::default() }
    }

    #[test]
    fn rules_come_first_then_the_policy() {
        use RestartPolicy::{Always, Never, OnFailure};
        use Verdict::{End, Restart as Again};
        let lost = Exit { lost: true, ..Exit::default() };
        let refused = Exit { message: "no such program".to_owned(), ..Exit::default() };
        let rules = [("0", ExitAction::Stop), ("75", ExitAction::Restart), ("SIGKILL", ExitAction::Remove)];
        let rules = Restart {
            exit_codes: rules.iter().map(|(word, action)| ((*word).to_owned(), *action)).collect(),
            ..Restart::default()
        };
        let mut any = rules.clone();
        any.exit_codes.insert(ANY_EXIT.to_owned(), ExitAction::Remove);
        let none = Restart::default();
        for (exit, policy, restart, verdict) in [
            (code(0), Always, &none, Again),
            (code(1), Always, &none, Again),
            (code(0), OnFailure, &none, End("Completed")),
            (code(1), OnFailure, &none, Again),
            (signal("SIGTERM"), OnFailure, &none, Again),
            (lost.clone(), OnFailure, &none, Again),
            (lost.clone(), Never, &none, End("Lost")),
            (code(0), Never, &none, End("Completed")),
            (code(2), Never, &none, End("Failed")),
            (refused, Never, &none, End("Failed")),
            (code(0), Always, &rules, End("Stopped")),
            (code(75), Never, &rules, Again),
            (signal("SIGKILL"), Always, &rules, End("Removed")),
            (code(3), Always, &any, End("Removed")),
            (signal("SIGTERM"), Never, &any, End("Removed")),
            (code(75), Never, &any, Again),
            (lost.clone(), Never, &any, End("Lost")),
            (lost, Always, &rules, Again),
        ] {
            assert_eq!(judge(&exit, policy, restart), verdict, "{exit:?} {policy:?}");
        }
    }
}
