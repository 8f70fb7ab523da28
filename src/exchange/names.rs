//! Names of objects, made of names that may be anything.

use std::collections::BTreeSet;

use crate::api::check_label;

/// The names that were given so far.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// A name as near to `wanted` as there can be, that nobody has yet.
    pub(super) fn take(&mut self, wanted: &str, longest: usize) -> String {
        let base = label(wanted, longest);
        let room = longest.saturating_sub(6);
        let cut = |base: &str| base.chars().take(room).collect::<String>().trim_end_matches('-').to_owned();
        let numbered = (2..).map(|n| format!("{}-{n}", cut(&base)));
        let name = std::iter::once(base.clone()).chain(numbered).find(|name| !self.0.contains(name));
        let name = name.expect("there is always another number");
        self.0.insert(name.clone());
        name
    }
}

/// A label of DNS.
pub(super) fn label(text: &str, longest: usize) -> String {
    if text.len() <= longest && check_label(text).is_ok() {
        return text.to_owned();
    }
    let dashed = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let mut plain = String::new();
    for c in dashed {
        if c != '-' || !plain.ends_with('-') {
            plain.push(c);
        }
    }
    let cut: String = plain.trim_matches('-').chars().take(longest).collect();
    let cut = cut.trim_end_matches('-');
    if cut.is_empty() { "app".to_owned() } else { cut.to_owned() }
}
