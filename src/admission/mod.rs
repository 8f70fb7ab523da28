//! The only way in: authorize, decode, merge, default, validate, authorize the effective object, commit.
