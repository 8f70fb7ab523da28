//! A token of an issuer (RFC 7519, OpenID Connect Core 3.1.3.7): read, and judged by the issuer's settings. Pure.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    jwk::{Algorithm, Jwk},
    settings::{EMAIL, OidcIssuer},
};
use crate::api::OidcSubject;

/// Longer ones are not looked at.
const LONGEST: usize = 16 * 1024;
/// How far the issuer's clock may be ahead.
const SKEW: i64 = 60;
/// The longest name of a user or group.
const LONGEST_NAME: usize = 253;
/// As many groups as nobody is in.
const MOST_GROUPS: usize = 256;

/// A token that nobody has vouched for yet.
pub(super) struct Unverified<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

/// Of a header, all that is looked at: no key and no address in it is.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// What an issuer vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::auth) struct Vouched {
    /// Who it is to the issuer.
    pub(in crate::auth) subject: OidcSubject,
    /// The name, with what stands before it.
    pub(in crate::auth) name: String,
    /// The groups, with what stands before each.
    pub(in crate::auth) groups: Vec<String>,
    /// Until when.
    pub(in crate::auth) expires: Timestamp,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart; `None` if it is none that could be believed.
    pub(super) fn read(token: &'a str) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        // Strict: no padding, no bits that say nothing, so there is one way to write a token.
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header: Header = serde_json::from_slice(&bytes(header)?).ok()?;
        let is_for_us = header.typ.as_deref().is_none_or(|typ| {
            let typ = typ.to_ascii_lowercase();
            matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
        });
        // What must be understood and is not.
        if header.crit.is_some() || !is_for_us {
            return None;
        }
        let Value::Object(claims) = serde_json::from_slice(&bytes(claims)?).ok()? else { return None };
        Some(Self {
            algorithm: Algorithm::read(&header.alg)?,
            kid: header.kid,
            claims,
            signed,
            signature: bytes(signature)?,
        })
    }

    /// Whose token it says that it is.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Whether one of the keys signed it.
    pub(super) fn is_signed_by<'k>(&self, mut keys: impl Iterator<Item = &'k Jwk>) -> bool {
        keys.any(|key| key.signed(self.algorithm, self.signed.as_bytes(), &self.signature))
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str().filter(|text| !text.is_empty())
    }

    /// Seconds; fractions are cut off, as RFC 7519 allows them.
    fn time(&self, claim: &str) -> Result<Option<i64>, &'static str> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let whole = value.as_i64().or_else(|| value.as_f64().filter(|f| f.abs() < 1e15).map(|f| f as i64));
        whole.map(Some).ok_or("its times are not understood")
    }

    /// What it says, if it may be believed now; the signature is another question.
    ///
    /// # Errors
    /// Why not, in words for whoever shows it.
    pub(super) fn judge(&self, settings: &OidcIssuer, now: Timestamp) -> Result<Vouched, &'static str> {
        if self.issuer() != Some(&settings.issuer) {
            return Err("it is of another issuer");
        }
        let is_meant = |audience: &Value| settings.audiences.iter().any(|known| audience == known.as_str());
        if !self
            .claims
            .get("aud")
            .is_some_and(|aud| aud.as_array().map_or_else(|| is_meant(aud), |all| all.iter().any(is_meant)))
        {
            return Err("it is for another audience");
        }
        let second = now.as_second();
        let expires = self.time("exp")?.ok_or("it has no end")?;
        if expires <= second {
            return Err("it has ended");
        }
        if self.time("nbf")?.into_iter().chain(self.time("iat")?).any(|begin| begin > second + SKEW) {
            return Err("it is not good yet");
        }
        let subject = self.text("sub").filter(|sub| sub.len() <= 255).ok_or("it has no subject")?;
        for (claim, value) in &settings.required_claims {
            if self.claims.get(claim).and_then(Value::as_str) != Some(value) {
                return Err("it lacks a claim that is required");
            }
        }
        let name = self.text(&settings.username_claim).ok_or("it has no user name")?;
        let unverified = self.claims.get("email_verified").is_some_and(|verified| *verified != true);
        if settings.username_claim == EMAIL && unverified {
            return Err("its email is not verified");
        }
        let name = format!("{}{name}", settings.prefix());
        if !is_a_name(&name) || name.starts_with("system") {
            return Err("its user name cannot be used");
        }
        Ok(Vouched {
            subject: OidcSubject { issuer: settings.issuer.clone(), subject: subject.to_owned() },
            name,
            groups: self.groups(settings)?,
            expires: Timestamp::from_second(expires).map_err(|_| "its times are not understood")?,
        })
    }

    fn groups(&self, settings: &OidcIssuer) -> Result<Vec<String>, &'static str> {
        let claim = settings.groups_claim.as_ref().and_then(|claim| self.claims.get(claim));
        let found: Vec<&Value> = match claim {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(all)) => all.iter().collect(),
            Some(one) => vec![one],
        };
        if found.len() > MOST_GROUPS {
            return Err("it has too many groups");
        }
        let named: Option<Vec<String>> =
            found.into_iter().map(|group| Some(format!("{}{}", settings.groups_prefix, group.as_str()?))).collect();
        let mut named =
            named.filter(|all| all.iter().all(|group| is_a_name(group))).ok_or("its groups cannot be used")?;
        // What appm keeps for its own parts is nobody's.
        named.retain(|group| !group.starts_with("system:"));
        Ok(named)
    }
}

fn is_a_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}
