//! Names, parsed once at the door. After that no bare `String` means a name.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The syntax of object names: an RFC 1123 label, at most 63 bytes (Kubernetes' rule for names that become DNS labels).
pub const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Longest RFC 1123 label.
pub const LABEL_MAX: usize = 63;
/// Longest RFC 1123 subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// Why a text is not a name. Its message says what is expected, as Kubernetes words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a lowercase RFC 1123 {what}: lower case letters, digits and '-'{dots}, starting and ending with a letter or digit, at most {max} characters (got `{text}`)"
)]
pub struct InvalidName {
    what: &'static str,
    dots: &'static str,
    max: usize,
    text: String,
}

fn label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LABEL_MAX
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// True for an RFC 1123 label: what a namespace and the name of an App are.
pub fn check_label(text: &str) -> Result<(), InvalidName> {
    if label(text) {
        return Ok(());
    }
    Err(InvalidName { what: "label", dots: "", max: LABEL_MAX, text: clip(text) })
}

/// True for an RFC 1123 subdomain: labels joined by dots, what names of most objects may be.
pub fn check_subdomain(text: &str) -> Result<(), InvalidName> {
    if text.len() <= SUBDOMAIN_MAX && text.split('.').all(label) {
        return Ok(());
    }
    Err(InvalidName { what: "subdomain", dots: " and '.'", max: SUBDOMAIN_MAX, text: clip(text) })
}

/// At most the first 64 characters, so that an error never repeats a megabyte of somebody's input.
fn clip(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $name {
            /// Takes a text that is known to be well-formed: read back from the store, or made by appm itself.
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            /// As `From<&str>`.
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
    };
}

text_newtype!(
    /// The identity of one object for ever; a re-created object of the same name has another.
    Uid
);

/// The store's revision counter: `resourceVersion` and watch cursor. Always a decimal integer above zero on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rev(pub u64);

impl Rev {
    /// Parses a `resourceVersion`: decimal, no sign, no leading zero; `0` is allowed and means "any".
    pub fn parse(text: &str) -> Option<Rev> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let padded = text.len() > 1 && text.starts_with('0');
        if !plain || padded {
            return None;
        }
        text.parse().ok().map(Rev)
    }

    /// The revision after this one.
    pub fn next(self) -> Rev {
        Rev(self.0 + 1)
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_rfc_1123() {
        for good in ["a", "web", "web-1", "0a", &"x".repeat(63)] {
            assert!(check_label(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        assert!(check_subdomain("a.b-c.d").is_ok());
        assert!(check_subdomain("a..b").is_err());
    }

    #[test]
    fn resource_versions_are_plain_decimals() {
        assert_eq!(Rev::parse("12"), Some(Rev(12)));
        assert_eq!(Rev::parse("0"), Some(Rev(0)));
        for bad in ["", "01", "+1", "-1", "1x", "99999999999999999999"] {
            assert_eq!(Rev::parse(bad), None, "{bad}");
        }
    }
}
