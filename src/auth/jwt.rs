//! Access tokens: JWTs that live a quarter of an hour (RFC 9068's shape), signed with Ed25519.
//!
//! One algorithm, and nothing in a token chooses it: the header must be, byte for byte, the header that a key of ours writes.
//! So `alg: none`, another algorithm, another `kid`, `jku` or `crit` are not refused by a rule, they are simply not one of
//! the two or three texts that are known. Every claim is required, unknown ones are refused.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::secret;
use crate::api::Uid;

/// How long an access token is good.
pub const LIFE: i64 = 15 * 60;
/// How long one may be that somebody has asked for who cannot fetch the next one: as long as its session, which each request asks for.
pub const LONGEST_LIFE: i64 = 30 * 24 * 60 * 60;
/// Who issues them.
pub const ISSUER: &str = "appm";
/// For whom they are.
pub const AUDIENCE: &str = "appm.dev/v1";
/// How far in the future a token may begin: the clock was set back a little.
const SKEW: i64 = 5;
/// Longer ones are not looked at.
const LONGEST: usize = 4096;

/// What a token says. All of it is required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom.
    pub aud: String,
    /// The User's name.
    pub sub: String,
    /// The User's uid.
    pub uid: Uid,
    /// The Session's name.
    pub sid: String,
    /// When it was made, in seconds.
    pub iat: i64,
    /// From when it is good.
    pub nbf: i64,
    /// Until when.
    pub exp: i64,
    /// Its own name.
    pub jti: String,
}

impl Claims {
    /// The claims of a new token.
    pub fn new(user: &str, uid: &Uid, session: &str, now: Timestamp) -> Self {
        Self::lasting(user, uid, session, now, LIFE)
    }

    /// The claims of a token that is good for so many seconds, within bounds.
    pub fn lasting(user: &str, uid: &Uid, session: &str, now: Timestamp, life: i64) -> Self {
        let now = now.as_second();
        Self {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_owned(),
            uid: uid.clone(),
            sid: session.to_owned(),
            iat: now,
            nbf: now,
            exp: now + life.clamp(1, LONGEST_LIFE),
            jti: secret::text(&secret::random::<12>()),
        }
    }

    /// The same for somebody else: such a token opens nothing here.
    #[must_use]
    pub(super) fn of(self, audience: &str) -> Self {
        Self { aud: audience.to_owned(), jti: secret::text(&secret::random::<12>()), ..self }
    }

    /// Whether they are those of a token that is good at this second, and for this one.
    pub(super) fn are_good(&self, now: i64, audience: &str) -> bool {
        self.iss == ISSUER
            && self.aud == audience
            && self.iat <= now + SKEW
            && self.nbf <= now + SKEW
            && now < self.exp
            && (0..=LONGEST_LIFE).contains(&self.exp.saturating_sub(self.iat))
    }
}

/// A key that signs, or did.
pub struct Key {
    pair: Ed25519KeyPair,
    /// Its name.
    pub kid: String,
    header: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.kid)
    }
}

impl Key {
    /// The key of a seed of 32 bytes; `None` if it is none.
    pub fn of(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let kid = secret::text(
            &aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pair.public_key().as_ref()).as_ref()[..12],
        );
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}).to_string();
        Some(Self { pair, kid, header: secret::text(header.as_bytes()) })
    }

    /// A token.
    pub fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).expect("claims are plain data");
        let signed = format!("{}.{}", self.header, secret::text(&claims));
        let signature = secret::text(self.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    /// What a token of this key says; `None` if it is not one, or not good now.
    fn read(&self, token: &str, now: Timestamp, audience: &str) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        if header != self.header {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let public =
            aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, self.pair.public_key());
        public.verify(signed.as_bytes(), &signature).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        claims.are_good(now.as_second(), audience).then_some(claims)
    }

    /// For whoever wants to verify tokens by themselves (RFC 8037).
    fn jwk(&self) -> Value {
        let x = secret::text(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid, "x": x})
    }
}

/// True for what may be one of ours: three parts.
pub fn looks_like_one(token: &str) -> bool {
    token.len() <= LONGEST && token.bytes().filter(|b| *b == b'.').count() == 2
}

/// What a token of one of the keys says; `None` if it is not one, not good now, or for another audience.
pub fn read<'a>(
    token: &str,
    mut keys: impl Iterator<Item = &'a Key>,
    now: Timestamp,
    audience: &str,
) -> Option<Claims> {
    if !looks_like_one(token) {
        return None;
    }
    keys.find_map(|key| key.read(token, now, audience))
}

/// The set of keys (RFC 7517).
pub fn jwks<'a>(keys: impl Iterator<Item = &'a Key>) -> Value {
    json!({"keys": keys.map(Key::jwk).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn key(seed: u8) -> Key {
        Key::of(&[seed; 32]).expect("32 bytes")
    }

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().expect("a time")
    }

    fn claims() -> Claims {
        Claims::new("ada", &Uid::from("u-1"), "s-1", now())
    }

    fn good(token: &str, now: Timestamp) -> bool {
        read(token, [&key(1)].into_iter(), now, AUDIENCE).is_some()
    }

    /// Signed rightly, whatever it says.
    fn signed(key: &Key, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", secret::text(header.as_bytes()), secret::text(claims.as_bytes()));
        let signature = secret::text(key.pair.sign(signed.as_bytes()).as_ref());
        format!("{signed}.{signature}")
    }

    #[test]
    fn a_token_is_good_for_a_quarter_of_an_hour() {
        let token = key(1).sign(&claims());
        assert_eq!(read(&token, [&key(2), &key(1)].into_iter(), now(), AUDIENCE), Some(claims_of(&token)));
        for (seconds, is_good) in [(-6, false), (-5, true), (0, true), (LIFE - 1, true), (LIFE, false)] {
            assert_eq!(good(&token, now() + SignedDuration::from_secs(seconds)), is_good, "{seconds}");
        }
        assert_eq!(read(&token, [&key(2)].into_iter(), now(), AUDIENCE), None, "another key");
        assert_eq!(read(&token, std::iter::empty(), now(), AUDIENCE), None, "no key");
    }

    fn claims_of(token: &str) -> Claims {
        let claims = token.split('.').nth(1).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("claims")
    }

    #[test]
    fn no_token_with_any_bit_changed_or_any_byte_left_out_or_added_is_good() {
        let token = key(1).sign(&claims());
        assert!(good(&token, now()));
        let refused = |bytes: &[u8]| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                assert!(!good(text, now()), "{text}");
            }
        };
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                refused(&bytes);
            }
            let mut shorter = token.clone().into_bytes();
            shorter.remove(at);
            refused(&shorter);
            for extra in [b'A', b'=', b'.', b' ', b'\n'] {
                let mut longer = token.clone().into_bytes();
                longer.insert(at, extra);
                refused(&longer);
            }
            refused(&token.as_bytes()[..at]);
        }
        for tail in ["=", "A", ".", " ", "\0", ".."] {
            refused(format!("{token}{tail}").as_bytes());
        }
    }

    #[test]
    fn no_other_header_is_good_though_it_is_signed_with_the_key() {
        let key = key(1);
        let text = serde_json::to_string(&claims()).expect("plain data");
        let right = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, key.kid);
        assert!(good(&signed(&key, &right, &text), now()));
        for header in [
            r#"{"alg":"none"}"#.to_owned(),
            r#"{"alg":"none","typ":"JWT"}"#.to_owned(),
            right.replace("EdDSA", "none"),
            right.replace("EdDSA", "None"),
            right.replace("EdDSA", "HS256"),
            right.replace("EdDSA", "RS256"),
            right.replace("EdDSA", "ES256"),
            right.replace(&key.kid, "other"),
            right.replace(&key.kid, "../../dev/null"),
            right.replace("at+jwt", "JWT"),
            right.replace("{", r#"{"crit":["exp"],"#),
            right.replace("{", r#"{"jku":"https://example.org/","#),
            right.replace("{", "{ "),
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#.to_owned(),
            String::new(),
        ] {
            assert!(!good(&signed(&key, &header, &text), now()), "{header}");
        }
        // Signed by nobody, or by whoever knows only what is public.
        let parts: Vec<&str> = right.split('.').collect();
        let bare = format!("{}.{}.", secret::text(parts[0].as_bytes()), secret::text(text.as_bytes()));
        assert!(!good(&bare, now()));
        let signed = format!("{}.{}", secret::text(right.as_bytes()), secret::text(text.as_bytes()));
        let public = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.pair.public_key().as_ref());
        let forged = secret::text(aws_lc_rs::hmac::sign(&public, signed.as_bytes()).as_ref());
        assert!(!good(&format!("{signed}.{forged}"), now()));
    }

    #[test]
    fn every_claim_is_required_and_must_be_right_though_it_is_signed_with_the_key() {
        let key = key(1);
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, key.kid);
        let judge = |claims: &Value| good(&signed(&key, &header, &claims.to_string()), now());
        let right = serde_json::to_value(claims()).expect("plain data");
        assert!(judge(&right));
        let second = now().as_second();
        for name in ["iss", "aud", "sub", "uid", "sid", "iat", "nbf", "exp", "jti"] {
            let mut without = right.clone();
            without.as_object_mut().expect("an object").remove(name);
            assert!(!judge(&without), "without {name}");
            for odd in [Value::Null, json!([]), json!({}), json!(true), json!(1.5), json!([right[name]])] {
                let mut other = right.clone();
                other[name] = odd;
                assert!(!judge(&other), "{other}");
            }
        }
        for (name, value) in [
            ("iss", json!("")),
            ("iss", json!("appm2")),
            ("aud", json!("appm.dev")),
            ("aud", json!(["appm.dev/v1", "other"])),
            ("exp", json!(second)),
            ("exp", json!(second + LONGEST_LIFE + 1)),
            ("exp", json!(i64::MAX)),
            ("iat", json!(second + 60)),
            ("iat", json!(i64::MIN)),
            ("nbf", json!(second + 60)),
            ("exp", json!((second + 60).to_string())),
            ("scope", json!("admin")),
        ] {
            let mut other = right.clone();
            other[name] = value;
            assert!(!judge(&other), "{other}");
        }
    }

    #[test]
    fn anybody_can_verify_with_the_published_key() {
        let key = key(1);
        let set = jwks([&key].into_iter());
        let x = URL_SAFE_NO_PAD.decode(set["keys"][0]["x"].as_str().expect("text")).expect("base64");
        let token = key.sign(&claims());
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let public = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, x);
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).expect("base64")).expect("its signature");
        assert_eq!(set["keys"][0]["kid"], key.kid);
        assert!(!set.to_string().contains(&secret::text(&[1; 32])), "nothing private");
    }
}
