//! Notices at once that the time of day was set: by somebody, by a time service that steps, or because a machine that was
//! suspended woke up.
//!
//! The kernel tells it through a timer that would never fire and is cancelled when the clock is set (timerfd_create(2),
//! `TFD_TIMER_CANCEL_ON_SET`). Nobody polls. A clock that is only slewed takes the uptime with it, and nothing is told.

use std::{convert::Infallible, io, sync::LazyLock};

use rustix::{
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};
use tokio::{io::unix::AsyncFd, sync::watch};

/// Changes whenever the time of day was set.
pub type Steps = watch::Receiver<()>;

static STEPS: LazyLock<watch::Sender<()>> = LazyLock::new(|| watch::Sender::new(()));

/// The steps of the machine's clock, if somebody runs [`notice_steps`].
pub(super) fn steps() -> Steps {
    STEPS.subscribe()
}

/// Tells everybody who goes by the machine's clock when it was set. Runs until it is dropped; one in a process is enough.
///
/// # Errors
/// When the kernel has no such timer.
pub async fn notice_steps() -> io::Result<Infallible> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(&timer, flags, &Itimerspec { it_interval: none, it_value: never })?;
    // What was set before this moment was set before anybody asked.
    #[allow(deprecated, reason = "sound for an owned descriptor that stays what it is; the other form is unsafe")]
    let timer = AsyncFd::new(timer)?;
    loop {
        let mut readable = timer.readable().await?;
        match readable.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)) {
            Err(_would_block) => {}
            // It stays armed, and is cancelled again by the next step.
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) => {
                tracing::warn!("the time of day was set");
                STEPS.send_replace(());
            }
            Ok(read) => drop(read?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_kernel_can_be_asked_and_tells_nothing_while_nobody_sets_the_clock() {
        let mut steps = steps();
        let asked = tokio::time::timeout(Duration::from_millis(100), notice_steps()).await;
        assert!(asked.is_err(), "{asked:?}");
        assert!(!steps.has_changed().expect("the sender is for ever"));
        steps.mark_unchanged();
    }
}
