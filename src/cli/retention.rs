//! How long the history keeps what was, as flags, variables and `appm.yaml` say it.

use std::{ffi::OsString, time::Duration};

use clap::Args;

use crate::{daemon::HistorySettings, policy::moment::Moment};

/// What a server can be told of its history. Beside it stays what still stood at its begin, and what is pinned.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "History")]
pub(super) struct HistoryOptions {
    /// How long versions of objects are remembered, 7d or 36h
    #[arg(long, value_name = "TIME", env = "APPM_HISTORY_MAX_AGE", hide_env_values = true, default_value = "7d", value_parser = age)]
    history_max_age: Age,
    /// MiB of versions that are remembered; the oldest go first
    #[arg(long, value_name = "MIB", env = "APPM_HISTORY_MAX_SIZE", hide_env_values = true, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    history_max_size: u32,
    /// How many versions are remembered
    #[arg(long, value_name = "COUNT", env = "APPM_HISTORY_MAX_VERSIONS", hide_env_values = true, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..))]
    history_max_versions: u64,
}

/// A span of time as it was written.
#[derive(Clone, Debug)]
struct Age {
    text: String,
    span: Duration,
}

/// Less is no history.
const SHORTEST: Duration = Duration::from_secs(60);

fn age(text: &str) -> Result<Age, String> {
    match Moment::parse(text) {
        Ok(Moment::Ago(span)) if span >= SHORTEST => Ok(Age { text: text.to_owned(), span }),
        Ok(Moment::Ago(_)) => Err("expected a minute or more: `7d`, `36h`".to_owned()),
        _ => Err("expected a span of time: `7d`, `36h`, `90m`".to_owned()),
    }
}

impl Default for HistoryOptions {
    fn default() -> Self {
        let HistorySettings { max_age, max_bytes, max_versions } = HistorySettings::default();
        let days = max_age.as_secs() / 86_400;
        Self {
            history_max_age: Age { text: format!("{days}d"), span: max_age },
            history_max_size: u32::try_from(max_bytes >> 20).unwrap_or(u32::MAX),
            history_max_versions: max_versions,
        }
    }
}

impl HistoryOptions {
    pub(super) fn settings(&self) -> HistorySettings {
        HistorySettings {
            max_age: self.history_max_age.span,
            max_bytes: u64::from(self.history_max_size) << 20,
            max_versions: self.history_max_versions,
        }
    }

    /// The same as flags.
    pub(super) fn flags(&self) -> [OsString; 6] {
        [
            "--history-max-age".into(),
            self.history_max_age.text.clone().into(),
            "--history-max-size".into(),
            self.history_max_size.to_string().into(),
            "--history-max-versions".into(),
            self.history_max_versions.to_string().into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_span_of_a_minute_or_more() {
        assert_eq!(age("2d").map(|age| age.span), Ok(Duration::from_secs(172_800)));
        for wrong in ["10s", "0", "2026-11-21T08:00:00Z", "week", ""] {
            assert!(age(wrong).is_err_and(|why| why.contains("`7d`")), "{wrong}");
        }
    }
}
