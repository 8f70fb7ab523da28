//! The bearer token of the built-in principal: 256 random bits, of which only the SHA-256 is kept.
//!
//! A fast hash is right here and wrong for passwords: the token has as much entropy as the hash, so there is nothing to
//! guess, and a request must not cost 60 ms of argon2.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::Clock;

/// A new token, `appm_` and 43 characters.
pub fn new_token(chance: &dyn Clock) -> String {
    let words = [chance.random(), chance.random(), chance.random(), chance.random()];
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
    format!("appm_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits, surrounding white space allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(hash))
    }

    /// True if `token` is the one. Takes the same time for every wrong token.
    pub fn matches(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }
}

impl fmt::Display for TokenHash {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_matches_its_hash() {
        let token = new_token(&crate::clock::System);
        assert_eq!(token.len(), 48);
        let hash = TokenHash::parse(&format!("{}\n", TokenHash::of(&token))).expect("64 digits");
        assert!(hash.matches(&token));
        assert!(!hash.matches(""));
        assert!(!hash.matches(&new_token(&crate::clock::System)));
    }

    #[test]
    fn anything_but_64_digits_is_no_hash() {
        for bad in ["", "ab", &"g".repeat(64), &"ä".repeat(32)] {
            assert_eq!(TokenHash::parse(bad), None, "{bad}");
        }
    }
}
