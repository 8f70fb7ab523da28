//! Amounts and times as other programs write them.

/// Bytes with a suffix of powers of 1024 (`512M`, `1G`, `64KB`, `1.5g`) as a quantity (`512Mi`).
pub(super) fn bytes(text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let suffix = match suffix.trim().to_ascii_lowercase().as_str() {
        "" | "b" => "",
        "k" | "kb" | "kib" | "ki" => "Ki",
        "m" | "mb" | "mib" | "mi" => "Mi",
        "g" | "gb" | "gib" | "gi" => "Gi",
        "t" | "tb" | "tib" | "ti" => "Ti",
        _ => return None,
    };
    let made = format!("{number}{suffix}");
    (!number.is_empty()).then_some(())?;
    made.parse::<crate::api::Quantity>().ok().map(|_| made)
}

/// Cores, in thousandths where they are no whole number.
pub(super) fn cores(milli: u64) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// A text of Go's durations for milliseconds.
pub(super) fn go(millis: u64) -> String {
    match millis {
        0 => "0s".to_owned(),
        m if m.is_multiple_of(3_600_000) => format!("{}h", m / 3_600_000),
        m if m.is_multiple_of(60_000) => format!("{}m", m / 60_000),
        m if m.is_multiple_of(1000) => format!("{}s", m / 1000),
        m => format!("{m}ms"),
    }
}

/// Whole seconds, rather more than fewer.
pub(super) fn seconds(millis: u64) -> u64 {
    millis.div_ceil(1000)
}

/// A time span as systemd writes it (`5min 20s`, `90`, `100ms`), in milliseconds.
pub(super) fn span(text: &str) -> Option<u64> {
    units(text, |unit| {
        Some(match unit {
            "" | "s" | "sec" | "second" | "seconds" => 1_000_000,
            "us" | "usec" | "µs" | "μs" => 1,
            "ms" | "msec" => 1000,
            "m" | "min" | "minute" | "minutes" => 60_000_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000_000,
            "d" | "day" | "days" => 86_400_000_000,
            "w" | "week" | "weeks" => 604_800_000_000,
            "M" | "month" | "months" => 2_629_800_000_000,
            "y" | "year" | "years" => 31_557_600_000_000,
            _ => return None,
        })
    })
}

/// A time as compose writes it (`1m30s`, `500ms`), in milliseconds.
pub(super) fn duration(text: &str) -> Option<u64> {
    units(text, |unit| {
        Some(match unit {
            "us" => 1,
            "ms" => 1000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return None,
        })
    })
}

/// Numbers with units, added up; the units are in microseconds.
fn units(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut rest = text.trim();
    let mut micros: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
        let factor = unit(&rest[..end])?;
        rest = rest[end..].trim_start();
        let more = number * factor as f64;
        (more <= 1e18).then_some(())?;
        micros = micros.checked_add(more.round() as u64)?;
    }
    Some(micros.div_ceil(1000))
}
