//! What proves who somebody is: kinds that are stored, sealed, and never served. There is no route to them, no schema of
//! them is published, and no field of a served kind can hold what they hold.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{ChangeLog, Kind, KindInfo, Scope, SecretValue, Time, Uid, Verbs};

/// The group of what is not served.
const INTERNAL: &str = "internal.appm.dev";

/// The name of a User's Credential.
pub fn user_credential(user: &str) -> String {
    format!("user.{user}")
}

/// The name of a Token's Credential.
pub fn token_credential(token: &str) -> String {
    format!("token.{token}")
}

/// What proves a User or is a Token. Named by [`user_credential`] or [`token_credential`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// The uid of the User or Token: another one of the same name has nothing of it.
    pub of: Option<Uid>,
    /// argon2id, in the PHC format; the bytes of that text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub password_hash: Option<SecretValue>,
    /// When the password was set: what was proved before by the old one counts no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_time: Option<Time>,
    /// SHA-256 of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub token_hash: Option<SecretValue>,
    /// The authenticator that is enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp: Option<Totp>,
}

/// An authenticator (RFC 6238: SHA-1, 6 digits, 30 s).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totp {
    /// The shared secret.
    #[schemars(with = "String")]
    pub secret: SecretValue,
    /// False until a first code has shown that the authenticator has it.
    pub confirmed: bool,
    /// The step of the last code that was used: it and those before it are refused.
    #[serde(default)]
    pub last_step: u64,
    /// SHA-256 of each recovery code that is left.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub recovery: Vec<SecretValue>,
}

/// One login: a family of refresh tokens. Named by its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The User's name.
    pub user: String,
    /// The User's uid.
    pub uid: Uid,
    /// SHA-256 of the refresh token that is good now.
    #[schemars(with = "String")]
    pub refresh_hash: SecretValue,
    /// What the next refresh token is made with, of the one before: an answer that was lost can be given again.
    #[schemars(with = "String")]
    pub chain: SecretValue,
    /// Those that were good before: whoever shows one has stolen it, or was stolen from, and the session ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub spent: Vec<SecretValue>,
    /// When the user logged in.
    pub created: Time,
    /// When it was last refreshed.
    pub refreshed: Time,
    /// When it ends.
    pub expires: Time,
    /// How the user proved who they are.
    pub proof: LoginProof,
    /// From where, for people.
    #[serde(default)]
    pub source: String,
    /// With what, for people.
    #[serde(default)]
    pub agent: String,
}

/// How a user proved who they are when they logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoginProof {
    /// With a password.
    Password,
    /// With a password and a second factor.
    SecondFactor,
    /// With a password, where a second factor is required and none is enrolled: nothing is open but the enrolment.
    Enrolment,
}

/// A key that signs access tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// The private key: Ed25519's seed.
    #[schemars(with = "String")]
    pub seed: SecretValue,
    /// When it was made.
    pub created: Time,
}

/// Failures to prove something, of one account or from one source. Named by what is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Throttle {
    /// How many there were, each that is long ago forgotten.
    pub failures: u32,
    /// When the last one was.
    pub last: Time,
    /// Until when nothing is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

macro_rules! internal {
    ($kind:ident, $plural:literal, $singular:literal, $log:expr) => {
        impl Kind for $kind {
            const INFO: &'static KindInfo = {
                static INFO: KindInfo = KindInfo {
                    group: INTERNAL,
                    version: "v1",
                    scope: Scope::Cluster,
                    verbs: Verbs::None,
                    log: $log,
                    sealed: true,
                    ..KindInfo::of::<$kind>(stringify!($kind), $plural, $singular)
                };
                &INFO
            };
        }
    };
}

internal!(Credential, "credentials", "credential", ChangeLog::Short);
internal!(Session, "sessions", "session", ChangeLog::Short);
internal!(SigningKey, "signingkeys", "signingkey", ChangeLog::Short);
internal!(Throttle, "throttles", "throttle", ChangeLog::Short);
