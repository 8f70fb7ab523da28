//! How long to wait before something is tried again.

use std::time::Duration;

use crate::api::Backoff;

/// The pause before a restart, when `consecutive` restarts have happened since the last stable run: none for the first,
/// then `initial`, doubling up to `max`; shortened by up to a quarter by `spread`, so that what failed together does not
/// come back together.
pub fn restart(backoff: &Backoff, consecutive: u32, spread: u64) -> Duration {
    match consecutive {
        0 => Duration::ZERO,
        n => shortened(doubled(backoff.initial.0, n - 1).min(backoff.max.0), spread),
    }
}

/// A spread for [`restart`] that is the same whenever the same is judged again.
pub fn spread(uid: &str, attempt: u32) -> u64 {
    // FNV-1a, with its upper bits folded down: the lower ones alone change too little between attempts.
    let bytes = uid.bytes().chain(attempt.to_le_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash ^ (hash >> 32)
}

/// The longest pause between two attempts of a Run.
pub const LONGEST_ATTEMPT: Duration = Duration::from_secs(360);

/// The pause before a Run is tried again, after so many attempts that failed: as of a Job, 10 s, doubling up to 6 minutes.
pub fn attempt(failed: u32) -> Duration {
    doubled(Duration::from_secs(10), failed.saturating_sub(1)).min(LONGEST_ATTEMPT)
}

/// The pause before an image is fetched again, after so many failures before the last one: 10 s, doubling up to 5 minutes.
pub fn fetch(failures: u32) -> Duration {
    doubled(Duration::from_secs(10), failures).min(Duration::from_secs(300))
}

/// The pause before a failed pass or request is repeated: 5 ms, doubling up to a minute, shortened by up to a quarter at
/// random so that what failed together does not come back together.
pub fn retry(failures: u32, random: u64) -> Duration {
    shortened(doubled(Duration::from_millis(5), failures).min(Duration::from_secs(60)), random)
}

fn shortened(full: Duration, random: u64) -> Duration {
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
        let seconds: Vec<u64> = (0..12).map(|n| restart(&backoff, n, 0).as_secs()).collect();
        assert_eq!(seconds, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(restart(&backoff, u32::MAX, 0).as_secs(), 300);
    }

    #[test]
    fn attempts_wait_as_those_of_a_job() {
        let seconds: Vec<u64> = (1..9).map(|n| attempt(n).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 360, 360]);
    }

    #[test]
    fn ten_thousand_that_crash_together_come_back_apart() {
        let backoff = Backoff::default();
        let mut hundredths = [0; 100];
        for n in 0..10_000 {
            let pause = restart(&backoff, 7, spread(&format!("0b5c{n:04x}-4a1e-4d0c"), 8));
            assert!(pause <= Duration::from_secs(64) && pause > Duration::from_secs(48));
            hundredths[(pause.as_millis() - 48_000) as usize / 160 % 100] += 1;
        }
        assert!(hundredths.iter().all(|n| (50..200).contains(n)), "{hundredths:?}");
        assert_eq!(restart(&backoff, 0, 1023), Duration::ZERO);
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
