//! `POST …/namespaces/NAMESPACE/sources/NAME/webhook`: a git server says that there is something new, and the Source looks.
//!
//! It needs no login: what is sent is signed with a secret that the Source names, and does nothing but let it look, as it does by itself
//! in intervals. So a replay is harmless. Whoever asks learns nothing: a Source that there is not, one without a webhook and a wrong
//! signature have the same answer, after the same work. The body is no more than signed: nothing of it is kept, or read.
//!
//! Each who asks has a few requests a second, and each Source is asked to look once a second at most; what comes within a second of a
//! request is asked for at the end of it, so that none is forgotten.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::{HeaderMap, Method, StatusCode};
use serde_json::json;

use super::{
    body::Lent,
    documents::not_allowed,
    handle::Peer,
    metrics::RequestLabels,
    path::Resource,
    respond::{self, Answer},
    state::State,
};
use crate::{
    admission::{Caller, Patch, Target, WriteOptions},
    api::{GROUP, Key, Kind, Reason, SYNC_REQUESTED, Secret, Source, Status, Time, VERSION, WEBHOOK_TOKEN},
    auth::{Identity, signature::Verifier},
};

/// The last word of the path.
pub(super) const WORD: &str = "webhook";
/// The longest body, as GitHub sends it. None of it is kept.
const LIMIT: usize = 25 << 20;
/// As many a second of one source of requests.
const PER_SECOND: u32 = 20;
/// Between two looks that a Source is asked for.
const PAUSE: Duration = Duration::from_secs(1);

/// Which Sources were asked to look within the last second.
#[derive(Default)]
pub(super) struct Webhooks(Mutex<BTreeMap<Key, Lately>>);

struct Lately {
    at: Duration,
    /// Somebody asks once more at the end of the second.
    waiting: bool,
}

/// True for what is answered here.
pub(super) fn serves(resource: &Resource<'_>) -> bool {
    (resource.group, resource.version, resource.plural, resource.subresource)
        == (GROUP, VERSION, Source::INFO.plural, WORD)
        && !resource.namespace.is_empty()
        && !resource.watched
}

/// Lets a Source look, if that was signed.
pub(super) async fn answer(
    state: &Arc<State>,
    peer: &Peer,
    resource: &Resource<'_>,
    (method, headers): (&Method, &HeaderMap),
    body: Lent,
    labels: &mut RequestLabels,
) -> Result<Answer, Status> {
    labels.resource = format!("{}/{WORD}", resource.plural);
    if method != Method::POST {
        return Err(not_allowed());
    }
    state.turnstile.ask(&format!("webhook from {:?}", peer.source()), PER_SECOND)?;
    let key = Key::of::<Source>(resource.namespace, resource.name);
    let caller = Caller::new(Identity::system(WORD), &format!("appm-{WORD}"));
    let token = token(state, &caller, &key);
    let mut verifier = Verifier::new(token.as_deref());
    read(body, &mut verifier, state.turnstile.bounds().body).await?;
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        // Of two, somebody else may go by the other one.
        all.next().filter(|_| all.next().is_none()).map(hyper::header::HeaderValue::as_bytes)
    };
    if !verifier.is_signed(one) {
        return Err(Status::new(Reason::Unauthorized, "Unauthorized"));
    }
    state.webhooks.called(state, &caller, key).await?;
    Ok(respond::whole(StatusCode::ACCEPTED, "application/json", respond::success(&json!({})).to_string()))
}

/// The secret that a Source shares with whoever may call it.
fn token(state: &State, caller: &Caller, key: &Key) -> Option<Vec<u8>> {
    let source = state.admission.get(caller, Source::INFO.stored_form(), key).ok()?.typed::<Source>()?;
    let name = &source.spec.webhook.as_ref()?.secret_ref.name;
    let secret = Key::of::<Secret>(&key.namespace, name);
    let secret = state.admission.get(caller, Secret::INFO.stored_form(), &secret).ok()?.typed::<Secret>()?;
    secret.data.get(WEBHOOK_TOKEN)?.bytes()
}

/// Takes in a body without keeping it.
async fn read(mut body: Lent, verifier: &mut Verifier, patience: Duration) -> Result<(), Status> {
    let pieces = async {
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Status::bad_request("the request's body broke off"))?;
            let Some(data) = frame.data_ref() else { continue };
            length += data.len();
            if length > LIMIT {
                return Err(Status::too_large(format!("Request entity too large: limit is {LIMIT}")));
            }
            verifier.update(data);
        }
        Ok(())
    };
    let late = |_| Status::new(Reason::Timeout, "the request's body did not come in time");
    tokio::time::timeout(patience, pieces).await.map_err(late)?
}

impl Webhooks {
    fn lately(&self) -> MutexGuard<'_, BTreeMap<Key, Lately>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a Source to look: now, or when a second has gone since it was asked last.
    async fn called(&self, state: &Arc<State>, caller: &Caller, key: Key) -> Result<(), Status> {
        let now = state.clock.uptime();
        let wait = {
            let mut lately = self.lately();
            lately.retain(|_, last| last.waiting || last.at + PAUSE > now);
            match lately.get_mut(&key) {
                Some(last) if last.waiting => return Ok(()),
                Some(last) => {
                    last.waiting = true;
                    last.at + PAUSE - now
                }
                None => {
                    lately.insert(key.clone(), Lately { at: now, waiting: false });
                    Duration::ZERO
                }
            }
        };
        if wait.is_zero() {
            return look(state, caller, &key).await;
        }
        let (again, caller) = (state.clone(), caller.clone());
        let later = async move {
            again.clock.sleep(wait).await;
            again.webhooks.lately().insert(key.clone(), Lately { at: again.clock.uptime(), waiting: false });
            if let Err(status) = look(&again, &caller, &key).await {
                tracing::debug!(source = %key, message = status.message, "it is not looked at");
            }
        };
        tokio::spawn(state.stopping.clone().run_until_cancelled_owned(later));
        Ok(())
    }
}

/// Asks a Source to look, as `appm source sync` does.
async fn look(state: &State, caller: &Caller, key: &Key) -> Result<(), Status> {
    let asked = format!("{}#{:x}", Time(state.clock.now()), state.clock.random());
    let patch = json!({"metadata": {"annotations": {SYNC_REQUESTED: asked}}});
    let served = Source::INFO.stored_form();
    let target = Target { served, namespace: &key.namespace, name: &key.name, subresource: None };
    let caller = Caller { reason: "a webhook said that there is something new".to_owned(), ..caller.clone() };
    state.admission.patch(&caller, &target, Patch::Merge(patch), &WriteOptions::default()).await.map(drop)
}
