//! Doors for the fuzzer (`fuzz/`) to what reads credentials. Nobody else comes in here.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jiff::Timestamp;
use serde_json::json;

use super::{OidcIssuer, authenticator::parse_basic, jwt, oidc, password, secret, totp};
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
    jwt::read(token, [&key()].into_iter(), Timestamp::UNIX_EPOCH, jwt::AUDIENCE).is_some()
}

/// An issuer whose one key everybody knows, that key, and a token that is good at [`Timestamp::UNIX_EPOCH`].
pub fn good_issuer_token() -> (OidcIssuer, String, String) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes");
    let issuer = json!({"issuer": "https://a.example", "audiences": ["appm"], "groupsClaim": "groups"});
    let x = secret::text(pair.public_key().as_ref());
    let key = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x}]});
    let claims = json!({"iss": "https://a.example", "aud": "appm", "sub": "ada", "exp": 60, "groups": ["devs"]});
    let parts = [json!({"alg": "EdDSA", "kid": "1"}), claims].map(|part| secret::text(part.to_string().as_bytes()));
    let signed = parts.join(".");
    let signature = secret::text(pair.sign(signed.as_bytes()).as_ref());
    let issuer = serde_json::from_value(issuer).expect("an issuer");
    (issuer, key.to_string(), format!("{signed}.{signature}"))
}

/// Whether a token of an issuer is good at a Unix time, were these its keys.
pub fn issuer_token(token: &str, keys: &[u8], issuer: &OidcIssuer, second: i64) -> bool {
    oidc::would_believe(token, keys, issuer, Timestamp::from_second(second).unwrap_or_default())
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
