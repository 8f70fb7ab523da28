//! Credentials become an [`Identity`] here, whatever transport brought them, and nowhere else.
//!
//! ```text
//!  Basic ────► guard ─► argon2 (a few at a time) ─┐
//!  appm_…    ► Token's hash                       ├─► the User: there, the same, not locked ─► Identity
//!  JWT       ► signing keys, then its Session     │
//!            ► an issuer's keys, then its claims  ┘  (a User who names it, or somebody without one)
//! ```
//! Nothing is remembered between requests but the passwords of Basic, for half a minute and as keyed hashes: a request must not
//! cost 20 ms of argon2. Whoever was let in and should not be any more is thrown out by [`Authority::revoked`].

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::SignedDuration;

use super::{
    Authority, Identity, Proof,
    guard::{self, Attempt, Guard},
    jwt,
    keys::Keys,
    lately::Lately,
    oidc::{Issuers, OidcIssuer},
    password::Passwords,
    records::{self, Found},
    secret, totp,
};
use crate::{
    api::{
        Cause, Credential, Durability, Key, Kind, LoginProof, Object, Reason, Requirement, Session, Status, Time,
        Token, TokenStatus, Uid, User, token_credential, user_credential,
    },
    clock::SharedClock,
    store::{CommitError, Store, Write},
};

/// How long a password that was right is not compared again.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How many such passwords there are.
const MOST_REMEMBERED: usize = 1024;
/// `status.lastUsedTime` of a token is right to about that much.
const LAST_USED: SignedDuration = SignedDuration::from_hours(1);
/// The longest user name and password that are looked at.
const LONGEST: usize = 1024;
/// The cause of a refusal that a code mends.
pub const CODE_REQUIRED: &str = "TOTPRequired";

/// Where a request comes from.
#[derive(Clone, Debug, Default)]
pub struct From {
    /// The address; none: the Unix socket.
    pub address: Option<IpAddr>,
    /// True for the owner of the server at its socket, who is never made to wait.
    pub owner: bool,
    /// With what, for people.
    pub agent: String,
}

impl From {
    /// The source, as it is counted.
    pub(super) fn source(&self) -> String {
        if self.owner { "owner".to_owned() } else { guard::source(self.address) }
    }
}

/// Finds out who somebody is.
pub struct Authenticator {
    pub(super) store: Arc<Store>,
    pub(super) clock: SharedClock,
    pub(super) authority: Arc<Authority>,
    pub(super) keys: Keys,
    pub(super) guard: Guard,
    issuers: Issuers,
    pub(super) passwords: Arc<Passwords>,
    /// Never leaves the process.
    pub(super) seal: hmac::Key,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    known: Mutex<(u64, HashSet<String>)>,
    /// Whose tokens have been shown lately.
    sessions: Lately<String, Found<Session>>,
}

/// A password that was right.
struct Remembered {
    user: String,
    /// Of the User and of the hash that it fitted.
    of: (Uid, String),
    /// The uptime when it is to be compared again.
    until: Duration,
}

/// A user whose password was right, and the code if one was needed.
pub(super) struct Proven {
    pub(super) user: Found<User>,
    pub(super) credential: Found<Credential>,
    pub(super) how: LoginProof,
    /// The authenticator's next state, to be written with whatever comes of it.
    pub(super) writes: Vec<Write>,
}

/// What was shown.
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    pub(super) password: &'a str,
    pub(super) code: Option<&'a str>,
}

impl Authenticator {
    /// The one of a server.
    pub fn new(authority: Arc<Authority>, passwords: Arc<Passwords>, store: Arc<Store>, clock: SharedClock) -> Self {
        Self {
            issuers: Issuers::default(),
            keys: Keys::new(store.clone(), clock.clone()),
            guard: Guard::new(store.clone(), clock.clone()),
            passwords,
            seal: hmac::Key::new(hmac::HMAC_SHA256, &secret::random::<32>()),
            remembered: Mutex::default(),
            known: Mutex::default(),
            sessions: Lately::of(Session::INFO),
            store,
            clock,
            authority,
        }
    }

    /// The issuers whose tokens are believed beside our own.
    pub fn issuers(&self) -> impl Iterator<Item = &OidcIssuer> {
        self.issuers.settings()
    }

    /// The same, which believes the tokens of these issuers.
    #[must_use]
    pub fn believing(self, issuers: Vec<OidcIssuer>) -> Self {
        Self { issuers: Issuers::new(issuers, &self.clock), ..self }
    }

    /// Who bears a token: a Token's secret, an access token, or a token of an issuer.
    ///
    /// # Errors
    /// `Unauthorized`; `ServiceUnavailable` if an issuer has to be asked and cannot be.
    pub async fn bearer(&self, token: &str, from: &From) -> Result<Identity, Status> {
        let identity = match parts(token) {
            Some((name, secret)) => self.token(name, secret, from),
            None => self.access_token(token, jwt::AUDIENCE),
        };
        if let Some(identity) = identity {
            return Ok(identity);
        }
        let vouched = self.issuers.vouch(token).await.ok_or_else(unauthorized)??;
        let identity = self.authority.vouched(&vouched).ok_or_else(|| {
            let message = format!("Unauthorized: the token of {}: nobody is meant by it", vouched.subject.issuer);
            Status::new(Reason::Unauthorized, message)
        })?;
        self.note_login(&identity);
        Ok(identity)
    }

    /// Notes that somebody came with a token of an issuer, at most once an hour.
    fn note_login(&self, who: &Identity) {
        let now = self.clock.now();
        let user = records::find::<User>(&self.store, &who.name).filter(|user| user.metadata.uid == who.uid);
        let noted =
            |user: &Found<User>| user.status.last_login_time.is_some_and(|at| now.duration_since(at.0) < LAST_USED);
        let Some(user) = user.filter(|user| !noted(user)) else { return };
        let write = self.status(&user, |status| status["lastLoginTime"] = Time(now).to_string().into());
        let store = self.store.clone();
        tokio::spawn(async move {
            let reason = "somebody came with a token of an issuer";
            // Whoever was first has noted it.
            let _ = records::commit(&store, now, write.into_iter().collect(), Durability::Relaxed, reason).await;
        });
    }

    fn token(&self, name: &str, given: &str, from: &From) -> Option<Identity> {
        let credential = records::find::<Credential>(&self.store, &token_credential(name))?;
        if !secret::is(given, credential.token_hash.as_ref()?) {
            return None;
        }
        let token = records::find::<Token>(&self.store, name)?;
        let expires = token.spec.expiration_time.map(|at| at.0);
        if credential.of != token.metadata.uid || expires.is_some_and(|at| at <= self.clock.now()) {
            return None;
        }
        let identity = self.authority.user(&token.spec.user, Proof::Token(name.to_owned()))?;
        // Made for another user of that name?
        let theirs = token.metadata.owner_references.iter().any(|owner| Some(&owner.uid) == identity.uid.as_ref());
        let scope = (!token.spec.rules.is_empty()).then(|| token.spec.rules.clone().into());
        theirs.then(|| {
            self.note_use(&token, from);
            Identity { scope, expires, ..identity }
        })
    }

    /// Notes that a token was used, at most once an hour.
    fn note_use(&self, token: &Found<Token>, from: &From) {
        let now = self.clock.now();
        let noted = token.status.last_used_time.is_some_and(|at| now.duration_since(at.0) < LAST_USED);
        let Some(uid) = token.metadata.uid.clone().filter(|_| !noted) else { return };
        let status = TokenStatus { last_used_time: Some(now.into()), last_used_from: from.source() };
        let (store, key) = (self.store.clone(), Key::of::<Token>("", &token.metadata.name));
        tokio::spawn(async move {
            let write = records::edit(&store, key, &uid, |token| {
                token["status"] = serde_json::to_value(&status).expect("plain data");
            });
            let reason = "a token was used";
            // Whoever was first has noted it.
            let _ = records::commit(&store, now, write.into_iter().collect(), Durability::Relaxed, reason).await;
        });
    }

    /// Who bears an access token that is for somebody else ([`Authenticator::login_to`]), who asks here whether it is good.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub fn bearer_to(&self, audience: &str, token: &str) -> Result<Identity, Status> {
        let identity = self.access_token(token, audience);
        // Whoever can do nothing but enrol a second factor has not proved enough.
        identity.filter(|identity| identity.scope.is_none()).ok_or_else(unauthorized)
    }

    fn access_token(&self, token: &str, audience: &str) -> Option<Identity> {
        let claims = self.keys.read(token, audience)?;
        let found = || records::find::<Session>(&self.store, &claims.sid);
        let session = self.sessions.get(&self.store, claims.sid.clone(), found)?;
        if session.user != claims.sub || session.uid != claims.uid {
            return None;
        }
        let identity = self.authority.user(&claims.sub, Proof::Session(claims.sid))?;
        let scope = (session.proof == LoginProof::Enrolment).then(|| [].into());
        let expires = jiff::Timestamp::from_second(claims.exp).ok();
        (identity.uid.as_ref() == Some(&claims.uid)).then_some(Identity { scope, expires, ..identity })
    }

    /// Who shows `Authorization: Basic …`, decoded or not.
    ///
    /// # Errors
    /// `Unauthorized`; 429 for whoever guesses.
    pub async fn basic(&self, header: &str, from: &From) -> Result<Identity, Status> {
        let (name, password) = parse_basic(header).ok_or_else(unauthorized)?;
        let mark = self.mark(&name, &password);
        if let Some(identity) = self.remembered(&mark) {
            return Ok(identity);
        }
        let proven = self.prove(&Shown { name: &name, password: &password, code: None }, from).await?;
        if proven.how == LoginProof::Enrolment {
            return Err(unauthorized());
        }
        let hash = fingerprint(&proven.credential);
        let identity = self.authority.user(&name, Proof::Password(hash.clone())).ok_or_else(unauthorized)?;
        let uid = proven.user.metadata.uid.clone().ok_or_else(unauthorized)?;
        let now = self.clock.uptime();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(mark, Remembered { user: name, of: (uid, hash), until: now + REMEMBERED });
        Ok(identity)
    }

    fn mark(&self, name: &str, password: &str) -> [u8; 32] {
        let text = [&(name.len() as u64).to_be_bytes(), name.as_bytes(), password.as_bytes()].concat();
        hmac::sign(&self.seal, &text).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    fn remembered(&self, mark: &[u8; 32]) -> Option<Identity> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = remembered.get(mark)?;
        let fresh = self.clock.uptime() < entry.until;
        let identity = self.authority.user(&entry.user, Proof::Password(entry.of.1.clone()));
        let same = identity.filter(|identity| fresh && identity.uid.as_ref() == Some(&entry.of.0));
        let same = same.filter(|identity| self.authority.still(identity).is_ok());
        if same.is_none() {
            remembered.remove(mark);
        }
        same
    }

    /// Whether password and code are right. Whoever is not known costs the same, and is told the same.
    ///
    /// # Errors
    /// `Unauthorized`, with the cause [`CODE_REQUIRED`] if only a code is missing; 429 for whoever guesses.
    pub(super) async fn prove(&self, shown: &Shown<'_>, from: &From) -> Result<Proven, Status> {
        if shown.name.len() > LONGEST || shown.password.len() > LONGEST {
            return Err(unauthorized());
        }
        let source = from.source();
        let attempt = match from.owner {
            true => None,
            false => Some(self.guard.begin(shown.name, &source, self.is_known(shown.name, &source))?),
        };
        let user = records::find::<User>(&self.store, shown.name);
        let credential = records::find::<Credential>(&self.store, &user_credential(shown.name));
        let credential = credential.filter(|c| c.of.is_some() && user.as_ref().map(|u| &u.metadata.uid) == Some(&c.of));
        let hash = credential.as_ref().and_then(|credential| credential.password_hash.as_ref());
        let fits = match self.passwords.fit(shown.password.to_owned(), hash).await {
            Ok(fits) => fits,
            Err(busy) => {
                self.forgive(attempt).await;
                return Err(busy);
            }
        };
        let (Some(user), Some(credential), true) = (user, credential, fits) else {
            return Err(self.fail(attempt, shown.name, &source).await);
        };
        if user.spec.locked || user.metadata.is_deleting() {
            return Err(self.fail(attempt, shown.name, &source).await);
        }
        let required = user.spec.mfa.unwrap_or_default().totp;
        let enrolled = credential.totp.as_ref().filter(|totp| totp.confirmed && required != Requirement::Off);
        let (how, writes) = match (enrolled, shown.code) {
            (None, _) if required == Requirement::Required => (LoginProof::Enrolment, Vec::new()),
            (None, _) => (LoginProof::Password, Vec::new()),
            (Some(_), None | Some("")) => {
                self.forgive(attempt).await;
                return Err(code_required());
            }
            (Some(totp), Some(code)) => {
                let Some(after) = totp::used(totp, code, self.clock.now()) else {
                    return Err(self.fail(attempt, shown.name, &source).await);
                };
                let body = Credential { totp: Some(after), ..credential.body.clone() };
                (LoginProof::SecondFactor, vec![records::replace(&credential, body)])
            }
        };
        if let Some(attempt) = attempt {
            self.guard.succeeded(attempt).await;
        }
        Ok(Proven { user, credential, how, writes })
    }

    async fn fail(&self, attempt: Option<Attempt>, name: &str, source: &str) -> Status {
        if let Some(attempt) = attempt {
            self.guard.failed(attempt).await;
        }
        tracing::warn!(user = name, source, "a login failed");
        Status::new(Reason::Unauthorized, "the user name, the password or the code is wrong")
    }

    async fn forgive(&self, attempt: Option<Attempt>) {
        if let Some(attempt) = attempt {
            self.guard.forgiven(attempt).await;
        }
    }

    /// True if the user has a session from that source.
    fn is_known(&self, user: &str, source: &str) -> bool {
        let changes = self.store.changes_of(Session::INFO);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != changes {
            let now = self.clock.now();
            let live = records::all::<Session>(&self.store).into_iter().filter(|session| session.expires.0 > now);
            *known = (changes, live.map(|session| secret::digest(&[&session.user, &session.source])).collect());
        }
        known.1.contains(&secret::digest(&[user, source]))
    }

    /// The keys that verify access tokens (RFC 7517).
    pub fn published_keys(&self) -> serde_json::Value {
        self.keys.published()
    }

    /// Writes what was decided; `None` if somebody else was faster, and it is to be decided anew.
    pub(super) async fn write(&self, writes: Vec<Write>, reason: &str) -> Result<Option<()>, Status> {
        match records::commit(&self.store, self.clock.now(), writes, Durability::Durable, reason).await {
            Ok(()) => Ok(Some(())),
            Err(CommitError::Conflict(_)) => Ok(None),
            Err(error) => Err(records::trouble(&error)),
        }
    }

    /// Takes away what has ended: sessions, counts of failures, keys, and what belonged to users and tokens that are gone.
    pub async fn tidy(&self) {
        self.guard.tidy().await;
        let now = self.clock.now();
        let mut ended = self.keys.spent();
        ended.extend(records::all::<Session>(&self.store).iter().filter_map(|session| {
            let user = records::find::<User>(&self.store, &session.user);
            let there = user.is_some_and(|user| user.metadata.uid.as_ref() == Some(&session.uid));
            (!there || session.expires.0 <= now).then(|| records::remove(session))
        }));
        ended.extend(records::all::<Credential>(&self.store).iter().filter_map(|credential| {
            let there = match credential.metadata.name.split_once('.') {
                Some(("user", name)) => uid_of::<User>(&self.store, name),
                Some((_, name)) => uid_of::<Token>(&self.store, name),
                None => None,
            };
            (there.is_none() || there != credential.of).then(|| records::remove(credential))
        }));
        let over = |token: &Found<Token>| token.spec.expiration_time.is_some_and(|at| at.0 <= now);
        ended.extend(records::all::<Token>(&self.store).iter().filter(|token| over(token)).map(records::remove));
        // One by one: what is used meanwhile is not to hold the others up.
        for write in ended {
            match records::commit(&self.store, now, vec![write], Durability::Relaxed, "it has ended").await {
                Ok(()) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return tracing::warn!(%error, "what has ended is not taken away"),
            }
        }
    }

    /// Tidies now and then, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.clock.sleep(TIDY).await;
            self.tidy().await;
        }
    }
}

const TIDY: Duration = Duration::from_secs(10 * 60);

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator")
    }
}

fn uid_of<K: Kind>(store: &Store, name: &str) -> Option<Uid> {
    store.get(&Key::of::<K>("", name))?.meta().uid.clone()
}

/// How the secrets of Tokens begin.
pub(super) const TOKEN_PREFIX: &str = "appm_";

/// What tells one password of a user from another.
pub(super) fn fingerprint(credential: &Object<Credential>) -> String {
    let hash = credential.password_hash.as_ref().and_then(crate::api::SecretValue::bytes).unwrap_or_default();
    secret::digest(&[&String::from_utf8_lossy(&hash)])
}

/// Name and secret of an API token.
fn parts(token: &str) -> Option<(&str, &str)> {
    token.strip_prefix(TOKEN_PREFIX)?.split_once('_')
}

/// The name of an API token: no secret.
pub fn token_name(token: &str) -> Option<&str> {
    parts(token).map(|(name, _)| name)
}

/// User name and password of a Basic header's value.
pub fn parse_basic(value: &str) -> Option<(String, String)> {
    if value.len() > 4 * LONGEST {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    (!name.is_empty()).then(|| (name.to_owned(), password.to_owned()))
}

pub(super) fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

fn code_required() -> Status {
    let mut status = Status::new(Reason::Unauthorized, "a code of the second factor is required");
    status.details.causes =
        vec![Cause { reason: CODE_REQUIRED.to_owned(), message: status.message.clone(), field: "code".to_owned() }];
    status
}
