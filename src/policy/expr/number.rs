//! Numbers as the language reads and writes them: what .NET's `double` does in GitHub's runner.

/// The number that a text stands for, or NaN: as JavaScript's `Number()` but for what the runner does not read (`0b1`, `0X1`).
///
/// Hexadecimal and octal digits are those of 32 bits with a sign: `0xffffffff` is -1.
pub(super) fn parse(text: &str) -> f64 {
    let text = text.trim();
    match text {
        "" => 0.0,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ if is_decimal(text) => text.parse().unwrap_or(f64::NAN),
        _ => match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
            (Some(digits), _) => of_radix(digits, 16),
            (_, Some(digits)) => of_radix(digits, 8),
            _ => f64::NAN,
        },
    }
}

fn of_radix(digits: &str, radix: u32) -> f64 {
    match u32::from_str_radix(digits, radix) {
        Ok(bits) if !digits.starts_with('+') => f64::from(bits.cast_signed()),
        _ => f64::NAN,
    }
}

/// A sign, digits with a point or without, an exponent. Rust's own reader takes `inf` and `nan`, too.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let some_digit = !(whole.is_empty() && fraction.is_empty());
    some_digit && are_digits(whole) && are_digits(fraction) && exponent.is_none_or(|e| !e.is_empty() && are_digits(e))
}

/// A number's text: .NET's format `G15`, at most 15 digits that say something, and an exponent of at least two digits
/// where the number is below 0.0001 or has more than 15 digits before its point.
pub(super) fn text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    if number == 0.0 {
        return "0".into();
    }
    let scientific = format!("{:.14e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("Rust prints an exponent here");
    let exponent: i32 = exponent.parse().expect("Rust prints exponents as whole numbers");
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    let sign = if number < 0.0 { "-" } else { "" };
    let after = |from: usize| digits.get(from..).filter(|rest| !rest.is_empty()).map(|rest| format!(".{rest}"));
    match usize::try_from(exponent) {
        Ok(whole) if whole < 15 => {
            let end = (whole + 1).min(digits.len());
            let zeros = "0".repeat(whole + 1 - end);
            format!("{sign}{}{zeros}{}", &digits[..end], after(whole + 1).unwrap_or_default())
        }
        Err(_) if exponent > -5 => {
            let zeros = "0".repeat(usize::try_from(-exponent - 1).expect("a small negative exponent"));
            format!("{sign}0.{zeros}{digits}")
        }
        _ => {
            let exponent_sign = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{}{}E{exponent_sign}{:02}", &digits[..1], after(1).unwrap_or_default(), exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_runner_reads_them() {
        for (text, number) in [
            ("", 0.0),
            ("  ", 0.0),
            (" 12 ", 12.0),
            ("-1.5e-3", -0.0015),
            ("+.5", 0.5),
            ("1.", 1.0),
            ("0xff", 255.0),
            ("0xFF", 255.0),
            ("0xffffffff", -1.0),
            ("0o17", 15.0),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("1e999", f64::INFINITY),
        ] {
            assert_eq!(parse(text), number, "{text:?}");
        }
        let none = [
            "a",
            "1a",
            ".",
            "+",
            "-",
            "1e",
            "1e+",
            "e1",
            "0x",
            "0x1g",
            "0x+1",
            "-0x1",
            "0X1",
            "0b1",
            "0o8",
            "0x100000000",
        ];
        for text in none.into_iter().chain(["inf", "nan", "infinity", "1 2", "1_000", "١", "--1", "1.2.3"]) {
            assert!(parse(text).is_nan(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_as_the_runner_writes_them() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (100.0, "100"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333333333333"),
            (0.0001, "0.0001"),
            (0.00001, "1E-05"),
            (0.000012345, "1.2345E-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1E+15"),
            (1234567890123456.0, "1.23456789012346E+15"),
            (-1e100, "-1E+100"),
            (999_999_999_999_999.9, "1E+15"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(super::text(number), text);
        }
    }
}
