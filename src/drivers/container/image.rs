//! Having the image: looked for, fetched once for all who want it, told about while it comes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bollard::{
    auth::DockerCredentials,
    models::CreateImageInfo,
    query_parameters::{CreateImageOptions, CreateImageOptionsBuilder},
};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared as SharedFuture},
};
use jiff::Timestamp;

use super::{Shared, engine::Engine, sentence, verdict};
use crate::{
    api::ImagePullPolicy,
    clock::{Clock, System},
    drivers::{DriverEvent, Fetched, Login, Need, PrepareError, Unreachable},
    policy::image::{choose, tagged},
};

/// How often it is told how far a pull has come.
const TELL: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

type Pull = SharedFuture<BoxFuture<'static, Result<Fetched, PrepareError>>>;

/// The pulls that are under way: one for each image and credentials, whoever wants it.
#[derive(Default)]
pub(super) struct Pulls(Mutex<BTreeMap<(String, Login), (Pull, Told)>>);

impl std::fmt::Debug for Pulls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pulls")
    }
}

/// How far a pull has come, for everybody who waits for it.
type Told = tokio::sync::watch::Receiver<String>;

/// Makes sure that an engine has the image. `None`: it had it already.
pub(super) async fn ensure(shared: &Arc<Shared>, need: Need) -> Result<Option<Fetched>, PrepareError> {
    let no_engine = |Unreachable(why)| PrepareError::NoEngine(why);
    let engine = shared.engine_for(need.runtime).await.map_err(no_engine)?;
    let image = tagged(&need.image);
    if need.policy != ImagePullPolicy::Always && size(shared, &engine, &image).await?.is_some() {
        return Ok(None);
    }
    if need.policy == ImagePullPolicy::Never {
        let why = format!("the engine has no image \"{}\", and imagePullPolicy is Never", need.image);
        return Err(PrepareError::Absent(why));
    }
    let login = choose(&need.image, &need.logins).cloned().unwrap_or_default();
    let (pull, mut told) = shared.pulls.join(shared, &engine, image, login);
    let tell = |said: String| shared.report(DriverEvent::Fetching(need.uid.clone(), said));
    tell(told.borrow_and_update().clone());
    tokio::pin!(pull);
    loop {
        tokio::select! {
            fetched = &mut pull => return fetched.map(Some),
            // When nobody tells any more, the pull is over.
            Ok(()) = told.changed() => tell(told.borrow_and_update().clone()),
        }
    }
}

/// The size of an image; `None`: the engine does not have it.
async fn size(shared: &Shared, engine: &Engine, image: &str) -> Result<Option<u64>, PrepareError> {
    match engine.docker.inspect_image(image).await {
        Ok(found) => Ok(Some(found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))),
        Err(error) => match verdict(&error) {
            Some((404, _)) => Ok(None),
            Some((_, message)) => Err(PrepareError::Image(message.trim().to_owned())),
            None => Err(PrepareError::NoEngine(shared.unreachable(engine, &error).0)),
        },
    }
}

impl Pulls {
    /// The pull of an image, begun if nobody has.
    fn join(&self, shared: &Arc<Shared>, engine: &Engine, image: String, login: Login) -> (Pull, Told) {
        let key = (format!("{} {image}", engine.host), login.clone());
        let mut under_way = self.0.lock().expect("no holder panics");
        under_way.retain(|_, (pull, _)| pull.peek().is_none());
        let begin = || {
            let (tell, told) = tokio::sync::watch::channel(format!("pulling {image}"));
            let (shared, engine) = (shared.clone(), engine.clone());
            (pull(shared, engine, image, login, tell).boxed().shared(), told)
        };
        under_way.entry(key).or_insert_with(begin).clone()
    }
}

async fn pull(
    shared: Arc<Shared>,
    engine: Engine,
    image: String,
    login: Login,
    tell: tokio::sync::watch::Sender<String>,
) -> Result<Fetched, PrepareError> {
    let begun = System.now();
    let options: CreateImageOptions = CreateImageOptionsBuilder::default().from_image(&image).build();
    let mut pieces = Box::pin(engine.docker.create_image(Some(options), None, credentials(login)));
    let mut progress = Progress::default();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => progress.take(piece),
            Err(error) => {
                return Err(match (&error, verdict(&error)) {
                    (bollard::errors::Error::DockerStreamError { .. }, _) | (_, Some(_)) => {
                        PrepareError::Image(sentence(&error))
                    }
                    _ => PrepareError::NoEngine(shared.unreachable(&engine, &error).0),
                });
            }
        }
        if let Some(said) = progress.sentence(&image, System.now()) {
            tell.send_replace(said);
        }
    }
    let took = Duration::try_from(System.now().duration_since(begun)).unwrap_or_default();
    match size(&shared, &engine, &image).await? {
        Some(size) => Ok(Fetched { took, size }),
        None => Err(PrepareError::Image(format!("the engine pulled \"{image}\" and does not have it"))),
    }
}

fn credentials(login: Login) -> Option<DockerCredentials> {
    if login == Login::default() {
        return None;
    }
    let some = |text: String| (!text.is_empty()).then_some(text);
    Some(DockerCredentials {
        username: some(login.username),
        password: some(login.password),
        identitytoken: some(login.identity_token),
        ..DockerCredentials::default()
    })
}

/// How many bytes of each layer have come.
#[derive(Debug, Default)]
struct Progress {
    layers: BTreeMap<String, (i64, i64)>,
    told: Option<Timestamp>,
}

impl Progress {
    fn take(&mut self, piece: CreateImageInfo) {
        let is_download = piece.status.as_deref() == Some("Downloading");
        if let (Some(layer), Some(detail)) = (piece.id, piece.progress_detail.filter(|_| is_download)) {
            let entry = self.layers.entry(layer).or_default();
            *entry = (detail.current.unwrap_or(entry.0), detail.total.unwrap_or(entry.1));
        }
    }

    fn sentence(&mut self, image: &str, now: Timestamp) -> Option<String> {
        if self.layers.is_empty() || self.told.is_some_and(|told| now.duration_since(told) < TELL) {
            return None;
        }
        self.told = Some(now);
        let (come, of) = self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        Some(format!("pulling {image}: {} of {} MB", come / 1_000_000, of / 1_000_000))
    }
}
