//! The syntax of label and annotation keys and of label values, as Kubernetes has it.

use crate::api::check_subdomain;

/// Longest name part of a key, and longest label value.
const MAX: usize = 63;

fn is_name(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Checks a key: `name` or `prefix/name`.
///
/// # Errors
/// What is expected, in a sentence.
pub fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if name.len() > MAX || !is_name(name) {
        return Err(format!(
            "a key's name must consist of at most {MAX} letters, digits, '-', '_' or '.', and begin and end with a letter or digit"
        ));
    }
    match prefix {
        Some(prefix) => check_subdomain(prefix).map_err(|e| format!("a key's prefix {e}")),
        None => Ok(()),
    }
}

/// Checks a label's value.
///
/// # Errors
/// What is expected, in a sentence.
pub fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || (value.len() <= MAX && is_name(value)) {
        return Ok(());
    }
    Err(format!(
        "a label's value must be empty or consist of at most {MAX} letters, digits, '-', '_' or '.', and begin and end with a letter or digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_follow_kubernetes() {
        for good in ["app", "app.kubernetes.io/name", "A_b.c-1", "1"] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "-a", "a-", "ä", "A.b/c_", "UP/x", &"x".repeat(64)] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        for good in ["", "v", "1.2_3-x"] {
            assert!(check_value(good).is_ok(), "{good}");
        }
        for bad in ["-", "a b", "a/b", &"x".repeat(64)] {
            assert!(check_value(bad).is_err(), "{bad}");
        }
    }
}
