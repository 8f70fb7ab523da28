//! Long-lived API tokens: made here, listed and revoked as objects.
//!
//! The secret is `appm_<name>_<43 characters>`: it names its Token, so that nothing is searched, and secret scanners know its
//! form. It is answered once; what is kept is a hash.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Attributes, Identity, Proof,
    authenticator::{Authenticator, TOKEN_PREFIX},
    records, secret,
};
use crate::api::{
    Credential, Key, Kind, OWNER, ObjectMeta, OwnerReference, PolicyRule, Reason, Status, Time, Token, TokenSpec,
    TokenStatus, User, token_credential,
};

/// What making a token takes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// Whose; absent: one's own.
    #[serde(default)]
    pub user: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// How long it is good; absent: until it is deleted.
    #[serde(default)]
    pub expiration_seconds: Option<i64>,
    /// What it is good for; none: everything that the user may do.
    #[serde(default)]
    pub rules: Vec<PolicyRule>,
}

/// A new token.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenIssued {
    /// The secret, shown this once.
    pub token: String,
    /// Its name, by which it is listed and deleted.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

impl Authenticator {
    /// Makes a token for oneself, or for somebody whom one may impersonate.
    ///
    /// # Errors
    /// `Forbidden` for others, and for whoever bears a token: a token makes no token that outlives it. `NotFound` without the User.
    pub async fn issue(&self, who: &Identity, ask: &TokenRequest) -> Result<TokenIssued, Status> {
        let name = ask.user.as_deref().unwrap_or(&who.name);
        let forbidden = |why: &str| Err(Status::new(Reason::Forbidden, why));
        if who.scope.is_some() || matches!(who.proof, Proof::Token(_)) {
            return forbidden("a token makes no tokens: log in, or use the socket");
        }
        if name != who.name || matches!(who.proof, Proof::Impersonated(_)) {
            let what = Attributes { verb: "impersonate", resource: "users", name, ..Attributes::default() };
            self.authority.must(who, &what)?;
        }
        let now = self.clock.now();
        let expires = match ask.expiration_seconds {
            None => None,
            Some(seconds) => {
                let end = now.checked_add(SignedDuration::from_secs(seconds)).ok().filter(|_| seconds > 0);
                let end =
                    end.ok_or_else(|| Status::new(Reason::Invalid, "expirationSeconds: must be positive, and end"))?;
                Some(Time(end))
            }
        };
        let user = records::find::<User>(&self.store, name);
        let user = user.ok_or_else(|| Status::not_found(&Key::of::<User>("", name)))?;
        let spec = TokenSpec {
            user: name.to_owned(),
            description: ask.description.clone(),
            expiration_time: expires,
            rules: ask.rules.clone(),
        };
        let token_name = format!("t{}", &secret::digest(&[&secret::new()])[..15]);
        let metadata = ObjectMeta {
            generation: 1,
            annotations: [(OWNER.to_owned(), name.to_owned())].into_iter().collect(),
            owner_references: vec![OwnerReference::to(&user)],
            ..records::metadata(&token_name, &*self.clock)
        };
        let token = Token { spec, status: TokenStatus::default() };
        check(&token)?;
        let secret = secret::new();
        let kept =
            Credential { of: metadata.uid.clone(), token_hash: Some(secret::kept(&secret)), ..Credential::default() };
        let name_of_kept = token_credential(&token_name);
        let writes =
            vec![records::make(metadata, token), records::make(records::metadata(&name_of_kept, &*self.clock), kept)];
        let made = self.write(writes, "a token was asked for").await?;
        made.ok_or_else(|| Status::busy("try again"))?;
        let token = format!("{TOKEN_PREFIX}{token_name}_{secret}");
        Ok(TokenIssued { token, name: token_name, user: name.to_owned(), expiration_time: expires })
    }
}

/// A token is made here and not in admission; what is wrong with it is found by its kind all the same.
fn check(token: &Token) -> Result<(), Status> {
    let value: Value = serde_json::to_value(token).expect("plain data");
    let mut found = (Token::INFO.check)(&value, None);
    if token.spec.description.len() > 1024 || token.spec.rules.len() > 100 {
        let at = crate::api::FieldPath::of("spec");
        found.push(crate::api::Violation::new(
            at,
            crate::api::Problem::Invalid,
            "the description or the rules are too long",
        ));
    }
    if found.is_empty() { Ok(()) } else { Err(Status::invalid(Token::INFO, "", &found)) }
}
