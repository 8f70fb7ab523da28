//! Why a task has no result, and what its caller is told.

use std::{fmt, time::Duration};

use crate::{
    api::{Cause, GoDuration, Reason, Status, signal_name},
    drivers::{End, Ended, StartKey},
};

/// Why a task has no result. Each tells whether the work may have begun.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// As many tasks wait as may. Nothing was begun.
    Full {
        /// How many.
        waiting: usize,
    },
    /// No instance is wanted that could do it. Nothing was begun.
    Nobody,
    /// The caller's time was over.
    TimedOut {
        /// How long it was.
        after: Duration,
        /// The instance that has it; it may still be at work.
        at: Option<String>,
        /// False: no instance has asked for a task all the while.
        asked: bool,
    },
    /// Somebody has cancelled it.
    Cancelled {
        /// Who.
        by: String,
        /// The instance that has it; it may still be at work.
        at: Option<String>,
    },
    /// The instance that had it has ended. The work may have begun.
    Died {
        /// The instance.
        instance: String,
        /// Its attempt.
        key: StartKey,
        /// How it ended.
        ended: Ended,
    },
    /// The process says that it could not do it.
    Failed {
        /// Its instance.
        instance: String,
        /// What it says.
        message: String,
    },
}

impl Failure {
    /// One word.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Full { .. } => "TaskQueueFull",
            Failure::Nobody => "NoInstance",
            Failure::TimedOut { .. } => "TaskTimedOut",
            Failure::Cancelled { .. } => "TaskCancelled",
            Failure::Died { .. } => "InstanceEnded",
            Failure::Failed { .. } => "TaskFailed",
        }
    }

    /// Whether the handler may have begun with it.
    pub fn may_have_begun(&self) -> bool {
        match self {
            Failure::Full { .. } | Failure::Nobody => false,
            Failure::TimedOut { at, .. } | Failure::Cancelled { at, .. } => at.is_some(),
            Failure::Died { .. } | Failure::Failed { .. } => true,
        }
    }
}

fn how(ended: &Ended) -> String {
    let oom = if ended.oom_killed { ", for want of memory" } else { "" };
    match ended.end {
        End::Code(code) => format!("with exit code {code}{oom}"),
        End::Signal(number) => format!("by {}{oom}", signal_name(number)),
        End::Lost => "nobody knows how".to_owned(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Full { waiting } => write!(f, "{waiting} tasks wait already, which is as many as may")?,
            Failure::Nobody => f.write_str("the App has no instances")?,
            Failure::TimedOut { after, at: Some(at), .. } => {
                write!(f, "no result in {}: the instance `{at}` still has it", GoDuration(*after))?;
            }
            Failure::TimedOut { after, asked: true, .. } => {
                write!(f, "no result in {}: every instance had other tasks", GoDuration(*after))?;
            }
            Failure::TimedOut { after, .. } => {
                write!(f, "no result in {}: no instance of the App asks for tasks", GoDuration(*after))?;
            }
            Failure::Cancelled { by, .. } => write!(f, "it was cancelled by {by}")?,
            Failure::Died { instance, key, ended } => {
                write!(f, "the instance `{instance}` (attempt {}) ended {}", key.attempt, how(ended))?;
            }
            // It has begun, and says what came of it.
            Failure::Failed { instance, message } => return write!(f, "the instance `{instance}` failed: {message}"),
        }
        f.write_str(if self.may_have_begun() { "; the work may have begun" } else { "; nothing was begun" })
    }
}

impl From<&Failure> for Status {
    fn from(failure: &Failure) -> Self {
        let (reason, retry) = match failure {
            Failure::Full { .. } => (Reason::ServiceUnavailable, Some(1)),
            Failure::Nobody => (Reason::ServiceUnavailable, None),
            Failure::TimedOut { .. } => (Reason::Timeout, None),
            Failure::Cancelled { .. } => (Reason::Conflict, None),
            Failure::Died { .. } | Failure::Failed { .. } => (Reason::InternalError, None),
        };
        let mut status = Status::new(reason, format!("the task has no result: {failure}"));
        let cause = |reason: &str, message: String| Cause { reason: reason.to_owned(), message, field: String::new() };
        status.details.causes = vec![
            cause(failure.reason(), failure.to_string()),
            cause("MayHaveBegun", failure.may_have_begun().to_string()),
        ];
        if let Failure::Died { ended, .. } = failure {
            let exit = match ended.end {
                End::Code(code) => cause("ExitCode", code.to_string()),
                End::Signal(number) => cause("Signal", signal_name(number)),
                End::Lost => cause("Lost", "nobody could see how it ended".to_owned()),
            };
            status.details.causes.push(exit);
            if ended.oom_killed {
                status.details.causes.push(cause("OOMKilled", "it used more memory than it may".to_owned()));
            }
        }
        status.details.retry_after_seconds = retry;
        status
    }
}
