//! What a scalar means: YAML 1.2's core schema, without the traps.

use serde_json::{Number, Value};

/// What a number that begins with a zero is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeadingZero {
    /// Octal to some readers and decimal to others: nobody's.
    Refused,
    /// Octal, as in YAML 1.1 and for the readers of Kubernetes and Compose: `0644` is 420. With an 8 or a 9 it is decimal.
    Octal,
}

/// The value of a plain (unquoted, untagged) scalar.
///
/// # Errors
/// A sentence, for scalars that different YAML readers understand differently or that JSON cannot carry.
pub(super) fn plain(text: &str, zero: LeadingZero) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` is no number that JSON can carry"));
    }
    let leads = unsigned.len() > 1 && unsigned.starts_with('0') && unsigned.bytes().all(|b| b.is_ascii_digit());
    if leads && zero == LeadingZero::Octal {
        let octal = i64::from_str_radix(unsigned, 8).map(|value| if text.starts_with('-') { -value } else { value });
        return Ok(octal.map_or_else(|_| number(text, unsigned).into(), Value::from));
    }
    if leads {
        return Err(format!("`{text}` is octal to some readers and decimal to others; write \"{text}\" if it is text"));
    }
    Ok(number(text, unsigned).map_or_else(|| Value::String(text.to_owned()), Value::Number))
}

/// The value of a scalar with a tag of YAML's core schema.
pub(super) fn tagged(tag: &str, text: &str, zero: LeadingZero) -> Result<Value, String> {
    let value = if tag == "str" { Value::String(text.to_owned()) } else { plain(text, zero)? };
    let fits = match tag {
        "str" => true,
        "null" => value.is_null(),
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        _ => return Err(format!("the tag `!!{tag}` has no meaning in a manifest")),
    };
    if fits { Ok(value) } else { Err(format!("`{text}` is no `!!{tag}`")) }
}

fn number(text: &str, unsigned: &str) -> Option<Number> {
    let based =
        [("0x", 16), ("0o", 8)].iter().find_map(|(prefix, radix)| Some((unsigned.strip_prefix(prefix)?, *radix)));
    if let Some((digits, radix)) = based {
        let plain = !digits.starts_with(['+', '-']);
        return plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten().map(Number::from);
    }
    if !looks_numeric(unsigned) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

/// `[0-9]+`, `[0-9]*.[0-9]*`, with an exponent: what YAML 1.2 calls a number.
fn looks_numeric(unsigned: &str) -> bool {
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && !exponent.is_empty()
        && digits(exponent)
}
