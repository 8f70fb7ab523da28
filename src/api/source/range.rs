//! Ranges of versions, as a Source names them: `>=1.2, <2`, `~1.4`, `1.x`, or several with `||` between them.
//!
//! They are Cargo's (crate `semver`) with one difference: a bare `1.2` is refused, because Cargo takes it for `^1.2`, Helm and Flux
//! for `=1.2`, and whoever meant the other would get a version that nobody chose.

use std::{fmt, str::FromStr};

use semver::{Version, VersionReq};

/// Which versions are wanted.
#[derive(Clone, Debug)]
pub struct VersionRange(Vec<VersionReq>);

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRange(String);

impl fmt::Display for BadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VersionRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        text.split("||").map(str::trim).map(alternative).collect::<Result<_, _>>().map(Self)
    }
}

fn alternative(text: &str) -> Result<VersionReq, BadRange> {
    let bare = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit()) && !part.contains(['x', 'X', '*']);
    if let Some(bare) = text.split(',').map(str::trim).find(bare) {
        let message =
            format!("does not say what else than {bare} may be taken: write `={bare}`, `~{bare}` or `^{bare}`");
        return Err(BadRange(message));
    }
    VersionReq::parse(text)
        .map_err(|wrong| BadRange(format!("is no range of versions, such as `>=1.2, <2`, `~1.4` or `1.x`: {wrong}")))
}

impl VersionRange {
    /// The version that a tag names, `v` before it or not, if it is in the range. Versions before their release
    /// (`2.0.0-rc.1`) are in it only if the range names one of the same release.
    pub fn version(&self, tag: &str) -> Option<Version> {
        let version = Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()?;
        self.0.iter().any(|range| range.matches(&version)).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_what_it_takes() {
        for (range, inside, outside) in [
            (">=1.2, <2", &["1.2.0", "v1.9.9"][..], &["1.1.9", "2.0.0", "1.3.0-rc.1", "release-1.3.0", "1.3"][..]),
            ("~1.4", &["1.4.7"], &["1.5.0"]),
            ("^0.3", &["0.3.9"], &["0.4.0"]),
            ("1.x", &["1.0.0", "1.99.0"], &["2.0.0"]),
            ("=1.2.3", &["v1.2.3", "1.2.3+build"], &["1.2.4"]),
            (">=2.0.0-0", &["2.0.0-rc.1", "2.0.0", "3.1.0"], &["2.1.0-rc.1", "1.9.9"]),
            ("~1.0 || ~3.0", &["1.0.5", "3.0.1"], &["2.0.0"]),
            ("*", &["0.0.1"], &["1.0.0-a"]),
        ] {
            let range: VersionRange = range.parse().expect("a range");
            inside.iter().for_each(|tag| assert!(range.version(tag).is_some(), "{range:?} {tag}"));
            outside.iter().for_each(|tag| assert!(range.version(tag).is_none(), "{range:?} {tag}"));
        }
    }

    #[test]
    fn what_could_be_meant_in_two_ways_is_refused() {
        for (range, says) in [
            ("1.2.3", "write `=1.2.3`, `~1.2.3` or `^1.2.3`"),
            (">=1, 2", "write `=2`"),
            ("", "is no range"),
            ("v1", "is no range"),
            (">=1 <2", "is no range"),
            ("1.x || latest", "is no range"),
        ] {
            let wrong = range.parse::<VersionRange>().map(|_| ()).expect_err("no range").to_string();
            assert!(wrong.contains(says), "{range}: {wrong}");
        }
    }
}
