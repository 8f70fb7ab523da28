//! Which commit a reference is, as the repository has it now.

use super::{Credentials, ReadError, Wanted, answers::refused, call::Call};
use crate::{
    api::{GitReference, VersionRange},
    policy::versions::{Highest, highest},
};

const TAGS: &str = "refs/tags/";

/// What is wanted, found.
pub(super) struct Resolved {
    /// What is fetched: `refs/heads/main`, or a commit.
    pub(super) name: String,
    /// What a person calls it: `main`, `v1.4.2`; nothing if a commit was asked for by its own name.
    pub(super) shown: String,
    pub(super) commit: String,
}

/// Finds what is wanted.
///
/// # Errors
/// When the repository cannot be asked, has it not, or has it twice.
pub(super) async fn resolve(call: &Call, wanted: &Wanted, credentials: &Credentials) -> Result<Resolved, ReadError> {
    let named = match &wanted.reference {
        GitReference { commit: Some(commit), .. } => {
            return Ok(Resolved { name: commit.clone(), shown: String::new(), commit: commit.clone() });
        }
        GitReference { semver: Some(range), .. } => return newest(call, range, wanted, credentials).await,
        GitReference { branch: Some(branch), .. } => ("branch", format!("refs/heads/{branch}"), branch.as_str()),
        GitReference { tag: Some(tag), .. } => ("tag", format!("{TAGS}{tag}"), tag.as_str()),
        _ => ("reference", "HEAD".to_owned(), "HEAD"),
    };
    let (what, name, shown) = named;
    let peeled = format!("{name}^{{}}");
    let listed = listed(call, wanted, credentials, &["--", &wanted.url, &name, &peeled]).await?;
    match listed.iter().find(|(known, _)| *known == name) {
        Some((_, commit)) => Ok(Resolved { name, shown: shown.to_owned(), commit: commit.clone() }),
        None => Err(missing(wanted, &format!("no {what} `{shown}`"))),
    }
}

/// The tag with the highest version in a range.
async fn newest(call: &Call, range: &str, wanted: &Wanted, credentials: &Credentials) -> Result<Resolved, ReadError> {
    let parsed: VersionRange = range.parse().map_err(|wrong| ReadError::new("NoReference", format!("{wrong}")))?;
    let listed = listed(call, wanted, credentials, &["--tags", "--", &wanted.url]).await?;
    let tags = listed.iter().filter_map(|(name, commit)| Some((name.strip_prefix(TAGS)?, commit.as_str())));
    match highest(&parsed, tags) {
        Highest::One { tag, commit } => {
            Ok(Resolved { name: format!("{TAGS}{tag}"), shown: tag.to_owned(), commit: commit.to_owned() })
        }
        Highest::Nothing => Err(missing(wanted, &format!("no tag with a version in `{range}`"))),
        Highest::Ambiguous(one, other) => {
            let message = format!(
                "the tags `{one}` and `{other}` of {} are the same version and not the same commit: delete one of them, or name a \
                 tag in `ref.tag`",
                wanted.url
            );
            Err(ReadError::new("AmbiguousReference", message))
        }
    }
}

fn missing(wanted: &Wanted, what: &str) -> ReadError {
    ReadError::new("NoReference", format!("there is {what} in {}", wanted.url))
}

/// References and their commits: of an annotated tag the commit that it is of.
async fn listed(
    call: &Call,
    wanted: &Wanted,
    credentials: &Credentials,
    args: &[&str],
) -> Result<Vec<(String, String)>, ReadError> {
    let said = call.run(["ls-remote", "--quiet"].iter().chain(args).copied()).await?;
    if !said.status.success() {
        return Err(refused(&said, wanted, credentials));
    }
    Ok(read(&String::from_utf8_lossy(&said.stdout)))
}

/// `COMMIT\trefs/tags/v1`, and after it, if that is an annotated tag, `COMMIT\trefs/tags/v1^{}`.
fn read(listed: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (commit, name) in listed.lines().filter_map(|line| line.split_once('\t')) {
        let of = name.strip_suffix("^{}");
        match all.last_mut().filter(|(known, _)| Some(known.as_str()) == of) {
            Some((_, known)) => commit.clone_into(known),
            None if of.is_none() => all.push((name.to_owned(), commit.to_owned())),
            None => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotated_tag_is_the_commit_that_it_is_of() {
        let all = read("1\trefs/tags/a\n2\trefs/tags/b\n3\trefs/tags/b^{}\n4\trefs/tags/c\n");
        let found: Vec<(&str, &str)> = all.iter().map(|(name, commit)| (name.as_str(), commit.as_str())).collect();
        assert_eq!(found, [("refs/tags/a", "1"), ("refs/tags/b", "3"), ("refs/tags/c", "4")]);
    }
}
