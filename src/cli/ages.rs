//! Points in time and amounts, as people read them.

use jiff::Timestamp;

/// How long ago `then` was, as kubectl prints ages: `37s`, `5m30s`, `3h`, `2d4h`, `41d`.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then).as_secs())
}

/// A number of seconds as kubectl prints it.
pub(super) fn span(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 3600;
    const DAY: i64 = 86_400;
    let two = |big: i64, big_word: &str, small: i64, small_word: &str| match small {
        0 => format!("{big}{big_word}"),
        _ => format!("{big}{big_word}{small}{small_word}"),
    };
    match seconds.max(0) {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 730 * DAY => format!("{}d", s / DAY),
        s => two(s / (365 * DAY), "y", s % (365 * DAY) / DAY, "d"),
    }
}

/// Bytes as `5.9 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_kubectls() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (3600, "60m"),
            (11_100, "3h5m"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (40 * 86_400, "40d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn bytes_have_one_decimal() {
        assert_eq!([512, 6_189_056, 3_221_225_472].map(bytes), ["512 B", "5.9 MiB", "3.0 GiB"]);
    }
}
