//! Random secrets, and what is kept of them.
//!
//! A fast hash is right here and wrong for passwords: these secrets have as much entropy as the hash, so there is nothing to
//! guess, and a request must not cost 20 ms of argon2. Their randomness is the cryptographic library's own: secrets are the
//! one thing that a simulation must not foresee.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::api::SecretValue;

/// Random bytes.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A new secret of 256 bits: 43 characters.
pub(super) fn new() -> String {
    text(&random::<32>())
}

/// Bytes as a text that fits into a URL and a header.
pub(super) fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a secret.
pub(super) fn kept(secret: &str) -> SecretValue {
    SecretValue::of(&Sha256::digest(secret.as_bytes()))
}

/// True if `given` is the secret that something was kept of. Takes the same time for every wrong one.
pub(super) fn is(given: &str, kept: &SecretValue) -> bool {
    let kept = kept.bytes().unwrap_or_default();
    verify_slices_are_equal(&Sha256::digest(given.as_bytes()), &kept).is_ok()
}

/// A few hexadecimal digits that stand for a text of any length and any characters.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..16])
}
