//! What keeper and logger say to each other, in the keeper's frames.

use serde::{Deserialize, Serialize};

use crate::{
    api::Uid,
    drivers::{LogLimits, StartKey},
};

/// From the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Pump this attempt's FIFOs until all who could write are gone.
    Open {
        /// Which.
        key: StartKey,
        /// How much is kept.
        limits: LogLimits,
    },
    /// Keep more or less from now on.
    Limits {
        /// Of which Instance.
        uid: Uid,
        /// How much.
        limits: LogLimits,
    },
    /// Write nothing more for this Instance.
    Drop {
        /// Which.
        uid: Uid,
    },
}

/// From the logger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Everything that this attempt wrote is in its files, and nobody can write more.
    Drained {
        /// Which.
        key: StartKey,
    },
    /// This attempt's output is thrown away: the secret values to take out of it are gone.
    Withheld {
        /// Which.
        key: StartKey,
    },
    /// Nothing is written for this Instance any more.
    Dropped {
        /// Which.
        uid: Uid,
    },
}
