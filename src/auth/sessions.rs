//! Logins: a short access token, and a refresh token that is another one after each use.
//!
//! Whoever shows a refresh token that was used before has stolen it, or it was stolen from them: the session ends, for both. But an
//! answer can get lost on its way: for some seconds the token before the present one is answered again with the very same
//! successor, which is made of it and of a secret of the session.

use aws_lc_rs::hmac;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Identity, Proof,
    authenticator::{Authenticator, From, Proven, Shown, fingerprint, unauthorized},
    jwt::{self, Claims},
    records::{self, Found},
    secret,
};
use crate::{
    api::{Key, LoginProof, SecretValue, Session, Status, Time, User},
    store::Write,
};

/// A session that nobody refreshes ends after this time.
const IDLE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// And any after this.
const LONGEST: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long the refresh token before the present one is answered again.
const LOST_ANSWER: SignedDuration = SignedDuration::from_secs(30);
/// How many spent refresh tokens are told from those that never were.
const SPENT: usize = 64;
/// How many sessions a user has; the oldest make room.
const MOST: usize = 50;
/// How often a change is decided anew because another one came first.
const ATTEMPTS: usize = 20;
/// How refresh tokens begin.
const PREFIX: &str = "appmr_";

/// What a login takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginRequest {
    /// The User's name.
    pub username: String,
    /// The password.
    pub password: String,
    /// A code of the authenticator, or a recovery code.
    #[serde(default)]
    pub code: Option<String>,
}

/// What a login and a refresh give.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// When it ends.
    pub expiration_time: Time,
    /// For the next access token; none where nothing but the enrolment of a second factor is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// True: a second factor is required and none is enrolled, nothing but the enrolment is open.
    pub must_enroll: bool,
    /// The User's name.
    pub username: String,
}

impl Authenticator {
    /// Lets somebody in.
    ///
    /// # Errors
    /// `Unauthorized`, with the cause [`super::CODE_REQUIRED`] if only a code is missing; 429 for whoever guesses.
    pub async fn login(&self, ask: &LoginRequest, from: &From) -> Result<Granted, Status> {
        self.login_for(ask, from, jwt::LIFE).await
    }

    /// The same, with an access token that is good for so many seconds (at most 30 days): for clients that cannot fetch the next one. It
    /// ends with its session, as every other does.
    ///
    /// # Errors
    /// As [`Authenticator::login`].
    pub async fn login_for(&self, ask: &LoginRequest, from: &From, life: i64) -> Result<Granted, Status> {
        for _ in 0..ATTEMPTS {
            let shown = Shown { name: &ask.username, password: &ask.password, code: ask.code.as_deref() };
            let proven = self.prove(&shown, from).await?;
            if let Some(granted) = self.open(proven, from, life).await? {
                return Ok(granted);
            }
        }
        Err(Status::busy("the user changes too fast; try again later"))
    }

    /// The same, with an access token that is for somebody else: it opens nothing here, and there is no other one to be had for it.
    ///
    /// # Errors
    /// As [`Authenticator::login`].
    pub async fn login_to(
        &self,
        audience: &str,
        ask: &LoginRequest,
        from: &From,
        life: i64,
    ) -> Result<Granted, Status> {
        let granted = self.login_for(ask, from, life).await?;
        let claims = self.keys.read(&granted.access_token, jwt::AUDIENCE).ok_or_else(unauthorized)?;
        let access_token = self.keys.sign(&claims.of(audience)).await?;
        Ok(Granted { access_token, refresh_token: None, ..granted })
    }

    /// Makes a session of a login; `None` if something that it stands on has changed.
    pub(super) async fn open(&self, proven: Proven, from: &From, life: i64) -> Result<Option<Granted>, Status> {
        let Proven { user, how, mut writes, .. } = proven;
        let now = self.clock.now();
        let (name, secret) = (secret::digest(&[&secret::new()]), secret::new());
        let uid = user.uid().clone();
        let enrols = how == LoginProof::Enrolment;
        let (idle, life) = if enrols { (SignedDuration::from_secs(jwt::LIFE), jwt::LIFE) } else { (IDLE, life) };
        let session = Session {
            user: user.metadata.name.clone(),
            uid: uid.clone(),
            refresh_hash: secret::kept(&secret),
            chain: SecretValue::of(&secret::random::<32>()),
            spent: Vec::new(),
            created: Time(now),
            refreshed: Time(now),
            expires: Time(now + idle),
            proof: how,
            source: from.source(),
            agent: from.agent.chars().filter(|c| !c.is_control()).take(200).collect(),
        };
        let mut others: Vec<Found<Session>> =
            records::all::<Session>(&self.store).into_iter().filter(|s| s.uid == uid).collect();
        others.sort_by_key(|session| std::cmp::Reverse(session.refreshed));
        writes.extend(others.iter().skip(MOST - 1).map(records::remove));
        writes.push(records::make(records::metadata(&name, &*self.clock), session));
        if how != LoginProof::Enrolment {
            writes.extend(self.status(&user, |status| status["lastLoginTime"] = json!(Time(now).to_string())));
        }
        let Some(()) = self.write(writes, "a login").await? else { return Ok(None) };
        let refresh = (how != LoginProof::Enrolment).then(|| Self::refresh_token(&name, &secret));
        self.grant(&user.metadata.name, &uid, &name, refresh, life).await.map(Some)
    }

    pub(super) async fn grant(
        &self,
        user: &str,
        uid: &crate::api::Uid,
        session: &str,
        refresh_token: Option<String>,
        life: i64,
    ) -> Result<Granted, Status> {
        let claims = Claims::lasting(user, uid, session, self.clock.now(), life);
        let access_token = self.keys.sign(&claims).await?;
        let expiration_time = Time(jiff::Timestamp::from_second(claims.exp).unwrap_or_default());
        let must_enroll = refresh_token.is_none();
        Ok(Granted { access_token, expiration_time, refresh_token, must_enroll, username: user.to_owned() })
    }

    /// The refresh token of a session.
    pub(super) fn refresh_token(session: &str, secret: &str) -> String {
        format!("{PREFIX}{session}_{secret}")
    }

    /// When a session ends that is used now.
    pub(super) fn until(&self, created: jiff::Timestamp) -> Time {
        Time((self.clock.now() + IDLE).min(created + LONGEST))
    }

    /// The write that changes a User's status.
    pub(super) fn status(&self, user: &Found<User>, change: impl FnOnce(&mut serde_json::Value)) -> Option<Write> {
        let key = Key::of::<User>("", &user.metadata.name);
        records::edit(&self.store, key, user.uid(), |user| change(&mut user["status"]))
    }

    /// The next access token and the next refresh token.
    ///
    /// # Errors
    /// `Unauthorized`: one must log in again.
    pub async fn refresh(&self, token: &str) -> Result<Granted, Status> {
        self.refresh_for(token, jwt::LIFE).await
    }

    /// The same, with an access token that is good for so many seconds.
    ///
    /// # Errors
    /// As [`Authenticator::refresh`].
    pub async fn refresh_for(&self, token: &str, life: i64) -> Result<Granted, Status> {
        let (name, given) =
            token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or_else(unauthorized)?;
        for _ in 0..ATTEMPTS {
            let session = records::find::<Session>(&self.store, name).ok_or_else(unauthorized)?;
            let now = self.clock.now();
            let user = self.authority.user(&session.user, Proof::Session(name.to_owned()));
            let theirs = user.is_some_and(|user| user.uid.as_ref() == Some(&session.uid));
            if !theirs || session.expires.0 <= now || session.proof == LoginProof::Enrolment {
                return Err(unauthorized());
            }
            let next = || format!("{PREFIX}{name}_{}", successor(&session.chain, given));
            if secret::is(given, &session.refresh_hash) {
                let token = next();
                let (_, secret) = token.rsplit_once(&format!("{name}_")).expect("it was put together just now");
                let mut spent = session.spent.clone();
                spent.push(session.refresh_hash.clone());
                let too_many = spent.len().saturating_sub(SPENT);
                spent.drain(..too_many);
                let body = Session {
                    refresh_hash: secret::kept(secret),
                    spent,
                    refreshed: Time(now),
                    expires: self.until(session.created.0),
                    ..session.body.clone()
                };
                let Some(()) = self.write(vec![records::replace(&session, body)], "a refresh").await? else { continue };
                return self.grant(&session.user, &session.uid, name, Some(token), life).await;
            }
            let Some(place) = session.spent.iter().rposition(|spent| secret::is(given, spent)) else {
                return Err(unauthorized());
            };
            let lost = place + 1 == session.spent.len() && now.duration_since(session.refreshed.0) <= LOST_ANSWER;
            if lost {
                return self.grant(&session.user, &session.uid, name, Some(next()), life).await;
            }
            tracing::warn!(user = session.user, session = name, "a refresh token was used twice: the session ends");
            let Some(()) = self.write(vec![records::remove(&session)], "a refresh token was used twice").await? else {
                continue;
            };
            return Err(unauthorized());
        }
        Err(Status::busy("the session changes too fast; try again later"))
    }

    /// Ends the session that somebody is in, or all of theirs. How many have ended.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn logout(&self, who: &Identity, all: bool) -> Result<usize, Status> {
        let own = match &who.proof {
            Proof::Session(name) => Some(name.as_str()),
            _ => None,
        };
        let mut ended = 0;
        for session in records::all::<Session>(&self.store) {
            let mine = Some(&session.uid) == who.uid.as_ref() && session.user == who.name;
            let this = own == Some(session.metadata.name.as_str());
            if mine && (all || this) {
                ended += self.end(&session).await?;
            }
        }
        Ok(ended)
    }

    async fn end(&self, session: &Found<Session>) -> Result<usize, Status> {
        let name = session.metadata.name.as_str();
        for _ in 0..ATTEMPTS {
            let Some(found) = records::find::<Session>(&self.store, name) else { return Ok(0) };
            if let Some(()) = self.write(vec![records::remove(&found)], "a logout").await? {
                return Ok(1);
            }
        }
        Err(Status::busy("the session changes too fast; try again later"))
    }

    /// Ends a user's sessions, all but one: their password or second factor has changed.
    pub(super) fn others_of(&self, who: &Identity) -> Vec<Write> {
        let own = match &who.proof {
            Proof::Session(name) => name.as_str(),
            _ => "",
        };
        let all = records::all::<Session>(&self.store).into_iter();
        let others = all.filter(|s| Some(&s.uid) == who.uid.as_ref() && s.metadata.name != own);
        others.map(|session| records::remove(&session)).collect()
    }

    /// Changes one's own password.
    ///
    /// # Errors
    /// `Unauthorized` if the old one is wrong; 429 for whoever guesses; `Invalid` if the new one is too short.
    pub async fn change_password(&self, who: &Identity, ask: &PasswordRequest, from: &From) -> Result<(), Status> {
        if who.uid.is_none() || who.scope.is_some() || matches!(who.proof, Proof::Token(_) | Proof::Impersonated(_)) {
            return Err(Status::new(crate::api::Reason::Forbidden, "only who is logged in changes the own password"));
        }
        if !(8..=1024).contains(&ask.new.chars().count()) {
            return Err(Status::new(crate::api::Reason::Invalid, "a password has 8 to 1024 characters"));
        }
        for _ in 0..ATTEMPTS {
            let shown = Shown { name: &who.name, password: &ask.old, code: ask.code.as_deref() };
            let proven = self.prove(&shown, from).await?;
            let hash = self.passwords.hash(ask.new.clone()).await?;
            // What the code has changed is part of the same state.
            let used = proven.writes.first().and_then(|write| write.body.as_ref());
            let used = used.and_then(|body| serde_json::from_slice(body.json()).ok());
            let before = used.unwrap_or_else(|| proven.credential.body.clone());
            let body = crate::api::Credential {
                password_hash: Some(SecretValue::of(hash.as_bytes())),
                password_time: Some(Time(self.clock.now())),
                ..before
            };
            debug_assert_ne!(fingerprint(&proven.credential), secret::digest(&[&hash]), "each hash has its own salt");
            let mut writes = self.others_of(who);
            writes.push(records::replace(&proven.credential, body));
            if let Some(()) = self.write(writes, "a user has changed the own password").await? {
                return Ok(());
            }
        }
        Err(Status::busy("the user changes too fast; try again later"))
    }
}

/// What a change of one's own password takes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasswordRequest {
    /// The password until now.
    pub old: String,
    /// The password from now on.
    pub new: String,
    /// A code, where a second factor is enrolled.
    #[serde(default)]
    pub code: Option<String>,
}

fn successor(chain: &SecretValue, given: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &chain.bytes().unwrap_or_default());
    secret::text(hmac::sign(&key, given.as_bytes()).as_ref())
}
