//! The logger: pumps, rotates and indexes what processes print, beside the keeper.
