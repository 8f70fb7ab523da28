//! `--namespace-quota` and `--user-quota`: how much namespaces and users may have where nobody says anything else.

use std::str::FromStr;

use crate::{
    api::{Quantity, UserLimits},
    daemon::{Quotas, quota_bounds},
};

use super::error::CliError;

/// One bound: `objects=1000`; or `none`: nothing of what is usual holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuotaWord {
    /// As it is written.
    pub(super) text: String,
    /// What it bounds; `None` for `none`.
    limits: Option<UserLimits>,
}

impl FromStr for QuotaWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self { text: text.to_owned(), limits: None });
        }
        let (name, amount) = text.split_once('=').ok_or("it is written NAME=AMOUNT, or `none`")?;
        let count = || amount.parse::<u32>().map(Some).map_err(|_| format!("`{amount}` is no number"));
        let quantity = || amount.parse::<Quantity>().map(Some);
        let mut limits = UserLimits::default();
        match name {
            "objects" => limits.objects = count()?,
            "instances" => limits.instances = count()?,
            "cpu" => limits.cpu = quantity()?,
            "memory" => limits.memory = quantity()?,
            "watches" => limits.watches = count()?,
            "requests-per-second" => limits.requests_per_second = count()?,
            other => {
                return Err(format!(
                    "there is no `{other}`: objects, instances, cpu, memory, watches, requests-per-second"
                ));
            }
        }
        Ok(Self { text: text.to_owned(), limits: Some(limits) })
    }
}

/// What the words make of what is usual.
///
/// # Errors
/// When a namespace is given what only users have.
pub(super) fn of(namespace: &[QuotaWord], user: &[QuotaWord]) -> Result<Quotas, CliError> {
    let usual = Quotas::default();
    let forgets = |words: &[QuotaWord]| words.iter().any(|word| word.limits.is_none());
    let merged = |words: &[QuotaWord], usual: &UserLimits| {
        let usual = if forgets(words) { UserLimits::default() } else { usual.clone() };
        let said = words.iter().filter_map(|word| word.limits.clone());
        said.fold(usual, |limits, bound| bound.or(&limits))
    };
    let of_namespace = merged(namespace, &UserLimits::default());
    if of_namespace.watches.is_some() || of_namespace.requests_per_second.is_some() {
        return Err(CliError::usage("watches and requests are counted by user").help("use --user-quota"));
    }
    let mut bounds = quota_bounds(&of_namespace);
    if !forgets(namespace) {
        let unsaid =
            usual.namespace.into_iter().filter(|bound| bounds.iter().all(|said| said.measure != bound.measure));
        bounds.extend(unsaid.collect::<Vec<_>>());
    }
    Ok(Quotas { namespace: bounds, user: merged(user, &usual.user) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<QuotaWord> {
        text.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().expect(word)).collect()
    }

    #[test]
    fn what_is_said_comes_before_what_is_usual() {
        let usual = Quotas::default();
        assert_eq!(of(&[], &[]).expect("usual").user, usual.user);
        let said = of(&words("objects=7"), &words("none,watches=3")).expect("good");
        let shown: Vec<String> = said.namespace.iter().map(|b| format!("{}={}", b.name, b.hard)).collect();
        assert_eq!(shown, ["objects=7", "instances=10000"]);
        assert_eq!(said.user, UserLimits { watches: Some(3), ..UserLimits::default() });
        assert!(of(&words("none"), &[]).expect("good").namespace.is_empty());
        let more = of(&[], &words("requests-per-second=50")).expect("good").user;
        assert_eq!((more.requests_per_second, more.objects), (Some(50), usual.user.objects));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for bad in ["objects", "objects=many", "disk=1", "cpu=x"] {
            assert!(bad.parse::<QuotaWord>().is_err(), "{bad}");
        }
        assert!(of(&words("watches=1"), &[]).is_err());
    }
}
