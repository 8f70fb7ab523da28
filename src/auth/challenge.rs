//! A login in two steps, as App Mesh's clients do it: the password gets a challenge, the challenge and a code get the session. And a session that is
//! exchanged for another one, so that whoever has the token of the old one has nothing.
//!
//! Nothing is kept of a challenge: it is a MAC over the user, the hash of the password that was right, and its end. So it is good while this
//! server runs, for some minutes, for that user and that password; the code in it is good once.

use aws_lc_rs::hmac;
use jiff::Timestamp;

use super::{
    Identity, Proof,
    authenticator::{Authenticator, From, Proven, fingerprint, unauthorized},
    records::{self, Found},
    secret,
    sessions::Granted,
    totp,
};
use crate::api::{Credential, LoginProof, Reason, Session, Status, Time, User, user_credential};

/// How long a code may be looked for.
const LIFE: i64 = 180;
const ATTEMPTS: usize = 20;

/// What a code is to be shown with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The text.
    pub text: String,
    /// When it ends.
    pub expires: Timestamp,
}

impl Authenticator {
    /// The challenge of a user whose password was right, and who has shown no code ([`super::CODE_REQUIRED`]).
    pub fn challenge(&self, name: &str) -> Option<Challenge> {
        let (user, credential) = self.enrolled(name)?;
        let expires = Timestamp::from_second(self.clock.now().as_second() + LIFE).ok()?;
        let seal = hmac::sign(&self.seal, &sealed(&user, &credential, expires));
        Some(Challenge { text: format!("{}.{}", expires.as_second(), secret::text(seal.as_ref())), expires })
    }

    /// Lets in who shows a code with a challenge.
    ///
    /// # Errors
    /// `Unauthorized`; 429 for whoever guesses.
    pub async fn answer_challenge(
        &self,
        name: &str,
        challenge: &str,
        code: &str,
        from: &From,
        life: i64,
    ) -> Result<Granted, Status> {
        let wrong =
            || Status::new(Reason::Unauthorized, "the code or its challenge is wrong, or the challenge is over");
        for _ in 0..ATTEMPTS {
            // Guesses at a code are guesses like any other, though who makes them has proved a password.
            let attempt = self.guard.begin(&format!("code of {name}"), "", true)?;
            let now = self.clock.now();
            let proven = self.enrolled(name).filter(|(user, credential)| self.is_of(user, credential, challenge, now));
            let after = proven.and_then(|(user, credential)| {
                let after = totp::used(credential.totp.as_ref()?, code, now)?;
                Some((user, credential, after))
            });
            let Some((user, credential, after)) = after else {
                self.guard.failed(attempt).await;
                return Err(wrong());
            };
            self.guard.succeeded(attempt).await;
            let body = Credential { totp: Some(after), ..credential.body.clone() };
            let writes = vec![records::replace(&credential, body)];
            let proven = Proven { user, credential, how: LoginProof::SecondFactor, writes };
            if let Some(granted) = self.open(proven, from, life).await? {
                return Ok(granted);
            }
        }
        Err(Status::busy("the user changes too fast; try again later"))
    }

    /// A user who can be let in, with a second factor.
    fn enrolled(&self, name: &str) -> Option<(Found<User>, Found<Credential>)> {
        let user = records::find::<User>(&self.store, name)?;
        let credential = records::find::<Credential>(&self.store, &user_credential(name))?;
        let good = credential.of.as_ref() == Some(user.uid())
            && credential.totp.as_ref().is_some_and(|totp| totp.confirmed)
            && !user.spec.locked
            && !user.metadata.is_deleting();
        good.then_some((user, credential))
    }

    fn is_of(&self, user: &Found<User>, credential: &Found<Credential>, challenge: &str, now: Timestamp) -> bool {
        let Some((end, _)) = challenge.split_once('.') else { return false };
        let Some(expires) = end.parse().ok().and_then(|second| Timestamp::from_second(second).ok()) else {
            return false;
        };
        let seal = hmac::sign(&self.seal, &sealed(user, credential, expires));
        let expected = format!("{}.{}", expires.as_second(), secret::text(seal.as_ref()));
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), challenge.as_bytes()).is_ok();
        same && now < expires
    }

    /// Another session in place of somebody's own, with a token that is good for so many seconds. The old one's is good no more.
    ///
    /// # Errors
    /// 400 for whoever has come by something else than a login.
    pub async fn renew(&self, who: &Identity, life: i64) -> Result<Granted, Status> {
        let Proof::Session(name) = &who.proof else {
            return Err(Status::bad_request("only the token of a login can be renewed"));
        };
        for _ in 0..ATTEMPTS {
            let session = records::find::<Session>(&self.store, name).ok_or_else(unauthorized)?;
            if session.proof == LoginProof::Enrolment {
                return Err(Status::bad_request("log in again, with a code of the second factor that was enrolled"));
            }
            if let Some(granted) = self.exchange(&session, life).await? {
                return Ok(granted);
            }
        }
        Err(Status::busy("the session changes too fast; try again later"))
    }

    async fn exchange(&self, session: &Found<Session>, life: i64) -> Result<Option<Granted>, Status> {
        let (name, secret) = (secret::digest(&[&secret::new()]), secret::new());
        let body = Session {
            refresh_hash: secret::kept(&secret),
            chain: crate::api::SecretValue::of(&secret::random::<32>()),
            spent: Vec::new(),
            refreshed: Time(self.clock.now()),
            expires: self.until(session.created.0),
            ..session.body.clone()
        };
        let (user, uid) = (session.user.clone(), session.uid.clone());
        let writes = vec![records::remove(session), records::make(records::metadata(&name, &*self.clock), body)];
        let Some(()) = self.write(writes, "a token was renewed").await? else { return Ok(None) };
        self.grant(&user, &uid, &name, Some(Self::refresh_token(&name, &secret)), life).await.map(Some)
    }
}

fn sealed(user: &Found<User>, credential: &Found<Credential>, expires: Timestamp) -> Vec<u8> {
    let parts = ["challenge", user.metadata.name.as_str(), user.uid().as_str(), &fingerprint(credential)];
    format!("{}\0{}", parts.join("\0"), expires.as_second()).into_bytes()
}
