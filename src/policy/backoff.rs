//! How long to wait before something is tried again.

use std::time::Duration;

use crate::api::Backoff;

/// The pause before a restart, when `consecutive` restarts have happened since the last stable run: none for the first,
/// then `initial`, doubling up to `max`.
pub fn restart(backoff: &Backoff, consecutive: u32) -> Duration {
    match consecutive {
        0 => Duration::ZERO,
        n => doubled(backoff.initial.0, n - 1).min(backoff.max.0),
    }
}

/// The pause before a failed pass or request is repeated: 5 ms, doubling up to a minute, shortened by up to a quarter at
/// random so that what failed together does not come back together.
pub fn retry(failures: u32, random: u64) -> Duration {
    let full = doubled(Duration::from_millis(5), failures).min(Duration::from_secs(60));
    full - full / 4 * u32::try_from(random % 1024).expect("below 1024") / 1024
}

fn doubled(pause: Duration, times: u32) -> Duration {
    pause.saturating_mul(2_u32.saturating_pow(times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_wait_not_at_all_then_longer_and_longer_up_to_the_limit() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (0..12).map(|n| restart(&backoff, n).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(restart(&backoff, u32::MAX).as_secs(), 300);
    }

    #[test]
    fn retries_stay_between_three_quarters_and_the_whole() {
        for failures in [0, 1, 5, 20, 40, u32::MAX] {
            let longest = retry(failures, 0);
            for random in [0, 1, 1023, u64::MAX] {
                let pause = retry(failures, random);
                assert!(pause <= longest && pause >= longest * 3 / 4, "{failures} {random}");
            }
        }
        assert_eq!((retry(0, 0).as_millis(), retry(99, 0).as_secs()), (5, 60));
    }
}
