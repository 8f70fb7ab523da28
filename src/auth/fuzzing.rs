//! Doors for the fuzzer (`fuzz/`) to what reads credentials. Nobody else comes in here.

use jiff::Timestamp;

use super::{authenticator::parse_basic, jwt, password, totp};
use crate::api::{SecretValue, Totp, Uid};

/// A key that everybody knows.
fn key() -> jwt::Key {
    jwt::Key::of(&[7; 32]).expect("32 bytes")
}

/// A token that is good at [`Timestamp::UNIX_EPOCH`].
pub fn good_token() -> String {
    key().sign(&jwt::Claims::new("ada", &Uid::from("u"), "s", Timestamp::UNIX_EPOCH))
}

/// Whether an access token is good at [`Timestamp::UNIX_EPOCH`].
pub fn access_token(token: &str) -> bool {
    jwt::read(token, [&key()].into_iter(), Timestamp::UNIX_EPOCH).is_some()
}

/// User name and password of a Basic header.
pub fn basic(value: &str) -> Option<(String, String)> {
    parse_basic(value)
}

/// Whether a code is good, for a secret that everybody knows.
pub fn code(given: &str) -> bool {
    let secret = SecretValue::of(b"12345678901234567890");
    let totp = Totp { secret, confirmed: true, last_step: u64::MAX, recovery: Vec::new() };
    totp::used(&totp, given, Timestamp::UNIX_EPOCH).is_some()
}

/// Whether a password's hash is taken.
pub fn hash(text: &str) -> bool {
    password::check_hash(text).is_ok()
}
