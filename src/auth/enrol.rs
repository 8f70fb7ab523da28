//! The second factor of a user: enrolled, confirmed with a first code, given up.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Attributes, Identity, Proof,
    authenticator::Authenticator,
    records::{self, Found},
    totp,
};
use crate::{
    api::{Credential, GROUP, Key, Reason, Status, Totp, User, user_credential},
    store::Write,
};

const ATTEMPTS: usize = 20;

/// A new authenticator, shown this once.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// For a QR code: `otpauth://…`
    pub uri: String,
    /// For typing.
    pub secret: String,
}

/// Recovery codes, shown this once.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryCodes {
    /// Each is good once.
    pub recovery_codes: Vec<String>,
}

/// A code, where one is asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeRequest {
    /// Of the authenticator, or a recovery code.
    #[serde(default)]
    pub code: String,
    /// Whose; absent: one's own. Somebody else's can only be disabled.
    #[serde(default)]
    pub user: Option<String>,
}

impl Authenticator {
    /// Begins the enrolment: from then on a first code confirms it.
    ///
    /// # Errors
    /// `Conflict` if one is enrolled already; `Forbidden` for whoever is not logged in.
    pub async fn enrol(&self, who: &Identity) -> Result<Enrolment, Status> {
        self.change(who, &who.name, |credential| {
            if credential.totp.as_ref().is_some_and(|totp| totp.confirmed) {
                let key = Key::of::<User>("", &who.name);
                return Err(Status::conflict(&key, "a second factor is enrolled; disable it first"));
            }
            let totp = totp::enrol();
            let shown = Enrolment { uri: totp::uri(&totp, &who.name), secret: totp::typed(&totp) };
            Ok((Some(totp), shown))
        })
        .await
    }

    /// Ends the enrolment with a first code. Other sessions of the user end.
    ///
    /// # Errors
    /// `Unauthorized` if the code is wrong.
    pub async fn confirm(&self, who: &Identity, code: &str) -> Result<RecoveryCodes, Status> {
        self.change(who, &who.name, |credential| {
            let begun = credential.totp.as_ref().filter(|totp| !totp.confirmed);
            let begun = begun.ok_or_else(|| Status::bad_request("no enrolment was begun"))?;
            let used = totp::used(begun, code, self.clock.now()).ok_or_else(wrong)?;
            let (recovery_codes, recovery) = totp::recovery();
            Ok((Some(Totp { confirmed: true, recovery, ..used }), RecoveryCodes { recovery_codes }))
        })
        .await
    }

    /// New recovery codes in place of the old ones.
    ///
    /// # Errors
    /// `Unauthorized` if the code is wrong.
    pub async fn recovery(&self, who: &Identity, code: &str) -> Result<RecoveryCodes, Status> {
        self.change(who, &who.name, |credential| {
            let used = totp::used(enrolled(credential)?, code, self.clock.now()).ok_or_else(wrong)?;
            let (recovery_codes, recovery) = totp::recovery();
            Ok((Some(Totp { recovery, ..used }), RecoveryCodes { recovery_codes }))
        })
        .await
    }

    /// Gives the second factor up: one's own with a code; that of somebody whose User one may change without.
    ///
    /// # Errors
    /// `Unauthorized` if the code is wrong; `Forbidden`.
    pub async fn disable(&self, who: &Identity, ask: &CodeRequest) -> Result<(), Status> {
        let name = ask.user.as_deref().unwrap_or(&who.name);
        let what = Attributes { verb: "update", group: GROUP, resource: "users", name, ..Attributes::default() };
        let by_right = ask.code.is_empty() && self.authority.must(who, &what).is_ok();
        if name != who.name && !by_right {
            self.authority.must(who, &what)?;
        }
        self.change(who, name, |credential| {
            let enrolled = enrolled(credential)?;
            if !by_right {
                totp::used(enrolled, &ask.code, self.clock.now()).ok_or_else(wrong)?;
            }
            Ok((None, ()))
        })
        .await
    }

    async fn change<T>(
        &self,
        who: &Identity,
        name: &str,
        change: impl Fn(&Credential) -> Result<(Option<Totp>, T), Status>,
    ) -> Result<T, Status> {
        let enrolling = who.scope.as_ref().is_some_and(|scope| scope.is_empty());
        let proved = matches!(who.proof, Proof::Session(_) | Proof::Peer | Proof::OwnToken);
        if !proved || (who.scope.is_some() && !enrolling) {
            let message = "only who is logged in, or comes by the socket, changes a second factor";
            return Err(Status::new(Reason::Forbidden, message));
        }
        for _ in 0..ATTEMPTS {
            let key = Key::of::<User>("", name);
            let user = records::find::<User>(&self.store, name).ok_or_else(|| Status::not_found(&key))?;
            let found = records::find::<Credential>(&self.store, &user_credential(name));
            let found = found.filter(|credential| credential.of.as_ref() == Some(user.uid()));
            let none = Credential { of: Some(user.uid().clone()), ..Credential::default() };
            let before = found.as_ref().map_or(&none, |found| &found.body);
            // Guesses at a code are guesses like any other, though who makes them has proved a password.
            let attempt = self.guard.begin(&format!("code of {name}"), "", true)?;
            let (after, told) = match change(before) {
                Err(wrong) if wrong.is(Reason::Unauthorized) => {
                    self.guard.failed(attempt).await;
                    return Err(wrong);
                }
                changed => {
                    self.guard.succeeded(attempt).await;
                    changed?
                }
            };
            let enabled = after.as_ref().is_some_and(|totp| totp.confirmed);
            let mut writes = self.put(name, found.as_ref(), Credential { totp: after, ..before.clone() });
            writes.extend(self.status(&user, |status| status["mfaEnabled"] = json!(enabled)));
            if let Some(()) = self.write(writes, "the second factor of a user has changed").await? {
                return Ok(told);
            }
        }
        Err(Status::busy("the user changes too fast; try again later"))
    }

    fn put(&self, user: &str, found: Option<&Found<Credential>>, body: Credential) -> Vec<Write> {
        vec![match found {
            Some(found) => records::replace(found, body),
            None => records::make(records::metadata(&user_credential(user), &*self.clock), body),
        }]
    }
}

fn enrolled(credential: &Credential) -> Result<&Totp, Status> {
    let enrolled = credential.totp.as_ref().filter(|totp| totp.confirmed);
    enrolled.ok_or_else(|| Status::bad_request("no second factor is enrolled"))
}

fn wrong() -> Status {
    Status::new(Reason::Unauthorized, "the code is wrong, or was used before")
}
