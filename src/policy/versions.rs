//! Which of a repository's tags has the highest version.

use std::cmp::Ordering;

use crate::api::VersionRange;

/// The tag with the highest version in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Highest<'a> {
    /// No tag is a version in it.
    Nothing,
    /// This one, and the commit that it is.
    One {
        /// `v1.4.2`
        tag: &'a str,
        /// The name of its commit.
        commit: &'a str,
    },
    /// Two are the same version and not the same commit: `v1.4.2` and `1.4.2`, or builds of one version.
    Ambiguous(&'a str, &'a str),
}

/// The highest of `tags`, each with its commit. What an order of tags would decide, nobody does.
pub fn highest<'a>(range: &VersionRange, tags: impl Iterator<Item = (&'a str, &'a str)>) -> Highest<'a> {
    let mut versions = tags.filter_map(|(tag, commit)| Some((range.version(tag)?, tag, commit)));
    let Some(mut best) = versions.next() else { return Highest::Nothing };
    let mut twin = None;
    for next in versions {
        match next.0.cmp_precedence(&best.0) {
            Ordering::Greater => (best, twin) = (next, None),
            Ordering::Equal if next.2 != best.2 => twin = Some(next.1),
            _ => {}
        }
    }
    let (_, tag, commit) = best;
    match twin {
        Some(twin) => Highest::Ambiguous(tag, twin),
        None => Highest::One { tag, commit },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(range: &str, tags: &[(&'a str, &'a str)]) -> Highest<'a> {
        highest(&range.parse().expect("a range"), tags.iter().copied())
    }

    #[test]
    fn the_highest_version_wins_and_not_the_last_name() {
        let tags = [("v1.9.0", "a"), ("v1.10.0", "b"), ("v2.0.0-rc.1", "c"), ("nightly", "d"), ("1.2.0", "e")];
        assert_eq!(of("1.x", &tags), Highest::One { tag: "v1.10.0", commit: "b" });
        assert_eq!(of(">=2.0.0-0", &tags), Highest::One { tag: "v2.0.0-rc.1", commit: "c" });
        assert_eq!(of(">=2", &tags), Highest::Nothing);
    }

    #[test]
    fn one_version_with_two_commits_is_nobodys_choice() {
        assert_eq!(of("*", &[("v1.0.0", "a"), ("1.0.0", "b")]), Highest::Ambiguous("v1.0.0", "1.0.0"));
        assert_eq!(of("*", &[("1.0.0+x", "a"), ("1.0.0+y", "b")]), Highest::Ambiguous("1.0.0+x", "1.0.0+y"));
        assert_eq!(of("*", &[("v1.0.0", "a"), ("1.0.0", "a")]), Highest::One { tag: "v1.0.0", commit: "a" });
        // What is not the highest may be as it likes.
        let tags = [("v1.0.0", "a"), ("1.0.0", "b"), ("1.1.0", "c")];
        assert_eq!(of("*", &tags), Highest::One { tag: "1.1.0", commit: "c" });
    }
}
