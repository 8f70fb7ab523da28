//! Tokens of issuers of OpenID Connect: who somebody is by another server's word (docs/design/018-oidc.md).
//!
//! ```text
//!  token ─► taken apart ─► iss is one that we know ─► its keys (fetched, kept) ─► signature ─► claims ─► Vouched
//!                                    │ no                    │ not to be had
//!                                    └► none of ours         └► 503, not 401: the token may be good
//! ```
//! A User who names the issuer and subject (`spec.oidc`) is meant by it; else somebody of the name that the settings make of it.

mod cache;
mod jwk;
mod settings;
mod subjects;
mod token;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

pub use settings::OidcIssuer;
pub(super) use subjects::Subjects;
pub(super) use token::Vouched;

use crate::{
    api::{Reason, Status},
    client::http::{FetchError, Fetched, Wanted, fetch},
    clock::SharedClock,
};
use cache::{Held, Known, Next, fresh};
use jwk::Jwk;
use token::Unverified;

/// The largest description of an issuer, and the largest set of keys.
const LARGEST: usize = 256 * 1024;
/// How long an issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// All issuers whose tokens are believed.
#[derive(Default)]
pub(super) struct Issuers(Vec<Arc<Issuer>>);

/// An issuer.
struct Issuer {
    settings: OidcIssuer,
    clock: SharedClock,
    known: Mutex<Known>,
    /// Held by whoever asks it: others wait for the same answer.
    asking: tokio::sync::Mutex<()>,
}

/// Why an issuer has no keys for us.
#[derive(Debug, thiserror::Error)]
enum IssuerError {
    /// The settings name a file that cannot be read.
    #[error("cannot read `{}`", path.display())]
    Authority { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It describes another issuer than itself, or no address of keys.
    #[error("its description is not that of the issuer")]
    Description,
    /// What should be keys is something else.
    #[error("its keys cannot be read")]
    Keys,
}

impl Issuers {
    /// Those of the settings. Nobody is asked yet.
    pub(super) fn new(all: Vec<OidcIssuer>, clock: &SharedClock) -> Self {
        let issuer = |settings| {
            let (known, asking) = (Mutex::default(), tokio::sync::Mutex::default());
            Arc::new(Issuer { settings, clock: clock.clone(), known, asking })
        };
        Self(all.into_iter().map(issuer).collect())
    }

    /// What was said of them.
    pub(super) fn settings(&self) -> impl Iterator<Item = &OidcIssuer> {
        self.0.iter().map(|issuer| &issuer.settings)
    }

    /// What a token says that one of them vouches for; `None` if it is of none of them.
    ///
    /// # Errors
    /// `Unauthorized` with the reason; `ServiceUnavailable` if the issuer has to be asked and cannot be.
    pub(super) async fn vouch(&self, token: &str) -> Option<Result<Vouched, Status>> {
        if self.0.is_empty() {
            return None;
        }
        let unverified = Unverified::read(token)?;
        let issuer = self.0.iter().find(|issuer| unverified.issuer() == Some(&issuer.settings.issuer))?;
        Some(issuer.vouch(&unverified).await)
    }
}

impl Issuer {
    async fn vouch(self: &Arc<Self>, token: &Unverified<'_>) -> Result<Vouched, Status> {
        let name = &self.settings.issuer;
        let refuse = |why: &str| Status::new(Reason::Unauthorized, format!("Unauthorized: the token of {name}: {why}"));
        let fits = |key: &&Jwk| key.fits(token.kid.as_deref(), token.algorithm);
        let keys = self.keys(|keys| keys.iter().any(|key| fits(&key))).await.map_err(|next| match next {
            Next::Away => {
                let message = format!("the issuer {name} cannot be asked for its keys now; try again later");
                Status::new(Reason::ServiceUnavailable, message)
            }
            _ => refuse("it is signed with no key of the issuer"),
        })?;
        if !token.is_signed_by(keys.iter().filter(fits)) {
            return Err(refuse("it is signed with no key of the issuer"));
        }
        token.judge(&self.settings, self.clock.now()).map_err(refuse)
    }

    /// The keys, if some of them fit.
    async fn keys(self: &Arc<Self>, has: impl Fn(&[Jwk]) -> bool) -> Result<Arc<[Jwk]>, Next> {
        loop {
            let known = self.known().clone();
            let next = known.decide(self.clock.uptime(), &has);
            let held = || known.keys.as_ref().map(|held| held.keys.clone()).unwrap_or_default();
            match next {
                Next::Use => return Ok(held()),
                Next::UseAndFetch => {
                    let this = self.clone();
                    tokio::spawn(async move {
                        if let Ok(_one) = this.asking.try_lock() {
                            this.ask().await;
                        }
                    });
                    return Ok(held());
                }
                Next::Fetch => {
                    let _one = self.asking.lock().await;
                    // Somebody else's answer is as good.
                    if self.known().tried == known.tried {
                        self.ask().await;
                    }
                }
                Next::Unknown | Next::Away => return Err(next),
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the keys, and notes what came of it.
    async fn ask(&self) {
        let etag = self.known().keys.as_ref().and_then(|held| held.etag.clone());
        let asked = self.fetched(etag.as_deref()).await;
        let now = self.clock.uptime();
        let mut known = self.known();
        known.tried = Some((now, asked.is_ok()));
        match asked {
            Ok((Some(keys), Fetched { etag, max_age, .. })) => {
                known.keys = Some(Held { keys, etag, at: now, fresh: fresh(max_age) });
            }
            Ok((None, Fetched { max_age, .. })) => {
                if let Some(held) = &mut known.keys {
                    (held.at, held.fresh) = (now, fresh(max_age));
                }
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(issuer = self.settings.issuer, %error, cause, "an issuer's keys cannot be had");
            }
        }
    }

    /// The issuer's keys; none if they are those with that tag.
    async fn fetched(&self, etag: Option<&str>) -> Result<(Option<Arc<[Jwk]>>, Fetched), IssuerError> {
        let authority = match &self.settings.ca_file {
            None => None,
            Some(path) => {
                let read = tokio::fs::read(path).await;
                Some(read.map_err(|source| IssuerError::Authority { path: path.clone(), source })?)
            }
        };
        let get = async |url: &str, etag| {
            let authority = authority.as_deref();
            fetch(&Wanted { url, authority, etag, limit: LARGEST, patience: PATIENCE }).await
        };
        let issuer = &self.settings.issuer;
        let described =
            get(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')), None).await?;
        let keys_at = keys_address(&described.body.unwrap_or_default(), issuer).ok_or(IssuerError::Description)?;
        let fetched = get(&keys_at, etag).await?;
        let keys = match &fetched.body {
            None => None,
            Some(body) => Some(jwk::read_set(body).ok_or(IssuerError::Keys)?.into()),
        };
        Ok((keys, fetched))
    }
}

/// Where an issuer's description says that its keys are; `None` if it is the description of another issuer.
fn keys_address(described: &Bytes, issuer: &str) -> Option<String> {
    let described: Value = serde_json::from_slice(described).ok()?;
    (described["issuer"] == issuer).then(|| described["jwks_uri"].as_str().map(str::to_owned)).flatten()
}

/// Whether a token would be believed, were these the issuer's keys: for the fuzzer.
pub(super) fn would_believe(token: &str, keys: &[u8], settings: &OidcIssuer, now: Timestamp) -> bool {
    let (Some(token), Some(keys)) = (Unverified::read(token), jwk::read_set(keys)) else { return false };
    let fit = keys.iter().filter(|key| key.fits(token.kid.as_deref(), token.algorithm));
    token.is_signed_by(fit) && token.judge(settings, now).is_ok()
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|issuer| &issuer.settings.issuer)).finish()
    }
}
