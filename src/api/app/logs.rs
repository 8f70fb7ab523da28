//! How much output is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::Quantity;

/// How much output of an instance is kept: so many files of that size at most, over all its runs. It goes with the instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// The size at which a log file is rotated; default 10Mi.
    #[serde(default = "ten_mebi")]
    pub max_size: Quantity,
    /// How many files are kept, the current one included; default 5.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_files: u32,
    /// How much is kept of all instances together, those of a rolling update included; each gets an equal share, in smaller or fewer
    /// files. Without it, each keeps `maxSize` times `maxFiles`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total_size: Option<Quantity>,
    /// True: `***` stands in the output wherever the process writes a value that it was given out of a Secret, as it is or encoded
    /// (base64, hexadecimal, URL, JSON, XML, shell), and in what probes, hooks and exits say of it. Values of fewer than 4 bytes are
    /// not looked for. May be changed while it runs, for what is written from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redact_secrets: bool,
}

/// The least that a log file may hold.
pub(super) const LEAST: u64 = 4096;

impl Logs {
    /// What each of so many instances keeps.
    pub fn shared_by(&self, instances: u32) -> Logs {
        let Some(total) = &self.max_total_size else { return self.clone() };
        let share = total.units() / u64::from(instances.max(1));
        // Of two files the older one is still there when a new one has just been begun.
        let fits = if self.max_files > 1 { share / 2 } else { share };
        let max_size = if self.max_size.units() <= fits { self.max_size.clone() } else { bytes(fits.max(LEAST)) };
        let files = u32::try_from(share / max_size.units().max(1)).unwrap_or(u32::MAX);
        Logs {
            max_size,
            max_files: files.clamp(1, self.max_files.max(1)),
            max_total_size: None,
            redact_secrets: self.redact_secrets,
        }
    }
}

fn bytes(number: u64) -> Quantity {
    number.to_string().parse().expect("a number is a quantity")
}

/// What is taken for the message of an exit that was a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TerminationMessagePolicy {
    /// The end of what the attempt wrote: at most 2 KiB and 80 lines. Whoever may read the Instance reads it.
    FallbackToLogsOnError,
}

fn ten_mebi() -> Quantity {
    "10Mi".parse().expect("a quantity")
}
fn five() -> u32 {
    5
}

impl Default for Logs {
    fn default() -> Self {
        Self { max_size: ten_mebi(), max_files: five(), max_total_size: None, redact_secrets: false }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logs(max_size: u64, max_files: u32, total: Option<u64>) -> Logs {
        Logs { max_size: bytes(max_size), max_files, max_total_size: total.map(bytes), redact_secrets: false }
    }

    #[test]
    fn a_total_is_shared_in_fewer_files_first_and_then_in_smaller_ones() {
        const MI: u64 = 1 << 20;
        for (max_files, total, instances, expected) in [
            (5, None, 9, (10 * MI, 5)),
            (5, Some(1000 * MI), 4, (10 * MI, 5)),
            (5, Some(100 * MI), 4, (10 * MI, 2)),
            (5, Some(100 * MI), 10, (5 * MI, 2)),
            (1, Some(100 * MI), 10, (10 * MI, 1)),
            (1, Some(100 * MI), 20, (5 * MI, 1)),
            (5, Some(4 * MI), 1_000_000, (LEAST, 1)),
        ] {
            let share = logs(10 * MI, max_files, total).shared_by(instances);
            assert_eq!((share.max_size.units(), share.max_files), expected, "{max_files} {total:?} {instances}");
        }
    }

    proptest! {
        #[test]
        fn all_together_keep_no_more_than_the_total(
            max_size in LEAST..1 << 30, max_files in 1u32..1000, total in 0u64..1 << 40, instances in 0u32..5000,
        ) {
            let share = logs(max_size, max_files, Some(total)).shared_by(instances);
            let each = share.max_size.units() * u64::from(share.max_files);
            prop_assert!(each <= LEAST || each * u64::from(instances.max(1)) <= total);
            prop_assert!(share.max_size.units() <= max_size && share.max_files <= max_files);
        }
    }
}
