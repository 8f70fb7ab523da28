//! What must be there before a start: the image of a container.
//!
//! Fetching is no attempt: it uses up no number and counts as no restart, because nothing was started. What is wanted may
//! change meanwhile; an image that comes too late is simply there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    forms::ENGINE_UNAVAILABLE,
    memory::{Memory, Note, Phase},
};
use crate::{
    api::{Container, Instance, Key, Object, Secret, Uid},
    client::SharedClient,
    drivers::{Fetched, Login, Need, PrepareError, SharedDriver},
    policy::backoff,
};

/// Nothing runs yet because the image is on its way.
pub(super) const PULLING: &str = "PullingImage";
const ERR_PULL: &str = "ErrImagePull";
const ERR_NEVER: &str = "ErrImageNeverPull";
const BACK_OFF: &str = "ImagePullBackOff";
/// How often an engine that is away is asked again.
const ENGINE_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);
/// The entry of a Secret that holds credentials for registries.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// True for a word that says that a fetch is to be repeated: a restart that is asked for does not hurry it.
pub(super) fn is_pause(reason: &str) -> bool {
    [ERR_PULL, ERR_NEVER, BACK_OFF, ENGINE_UNAVAILABLE].contains(&reason)
}

/// How far the fetching of what the next start needs has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fetch {
    /// Not begun.
    #[default]
    Needed,
    /// The driver has been asked.
    UnderWay,
    /// All is there.
    Done,
}

impl Memory {
    /// True if the next start of this Instance has to wait for an image.
    pub(super) fn lacks_image(&self, instance: Option<&Object<Instance>>) -> bool {
        self.fetch != Fetch::Done && instance.is_some_and(|i| i.spec.container.is_some())
    }

    /// The driver says how the fetching goes on.
    pub(super) fn fetching(&mut self, said: String, image: &str) -> Vec<Note> {
        match &mut self.phase {
            Phase::Waiting { reason, message, .. } if self.fetch == Fetch::UnderWay => {
                let begun = std::mem::replace(reason, PULLING) != PULLING;
                *message = said;
                begun.then(|| Note::normal("Pulling", format!("Pulling image \"{image}\""))).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The driver has fetched what it needs, or could not.
    pub(super) fn fetched(
        &mut self,
        image: &str,
        result: Result<Option<Fetched>, PrepareError>,
        now: Timestamp,
    ) -> Vec<Note> {
        let Phase::Waiting { reason, message, at } = &mut self.phase else { return Vec::new() };
        if self.fetch != Fetch::UnderWay {
            return Vec::new();
        }
        match result {
            Ok(fetched) => {
                (self.fetch, self.fetch_failures) = (Fetch::Done, 0);
                (*reason, *message, *at) = ("Starting", String::new(), now);
                let told = fetched.map(|Fetched { took, size }| {
                    let seconds = took.as_secs_f64();
                    let message = format!("Pulled image \"{image}\" in {seconds:.1} s ({size} bytes)");
                    Note::normal("Pulled", message)
                });
                told.into_iter().collect()
            }
            Err(PrepareError::NoEngine(why)) => {
                self.fetch = Fetch::Needed;
                (*reason, *message, *at) = (ENGINE_UNAVAILABLE, why, now + ENGINE_AGAIN);
                Vec::new()
            }
            Err(PrepareError::Image(why) | PrepareError::Absent(why)) if self.fetch_failures > 0 => {
                self.fetch = Fetch::Needed;
                (*reason, *message, *at) = (BACK_OFF, why, now + backoff::fetch(self.fetch_failures));
                self.fetch_failures += 1;
                vec![Note::warning("BackOff", format!("Back-off pulling image \"{image}\""))]
            }
            Err(failed) => {
                self.fetch = Fetch::Needed;
                self.fetch_failures = 1;
                let (word, why) = match failed {
                    PrepareError::Absent(why) => (ERR_NEVER, why),
                    PrepareError::Image(why) | PrepareError::NoEngine(why) => (ERR_PULL, why),
                };
                let note = Note::warning("Failed", format!("Failed to pull image \"{image}\": {why}"));
                (*reason, *message, *at) = (word, why, now + backoff::fetch(0));
                vec![note]
            }
        }
    }
}

/// Fetches what an Instance needs, with the credentials that its Secrets hold.
pub(super) async fn fetch(
    client: SharedClient,
    driver: SharedDriver,
    uid: Uid,
    namespace: String,
    container: Container,
) -> Result<Option<Fetched>, PrepareError> {
    let mut logins = BTreeMap::new();
    for secret in &container.image_pull_secrets {
        // One that is not there, or says nothing, is as in Kubernetes no reason not to try: the registry will tell.
        match client.get(&Key::of::<Secret>(&namespace, &secret.name)).await {
            Ok(Some(object)) => logins.extend(object.typed::<Secret>().map(|s| logins_of(&s)).unwrap_or_default()),
            Ok(None) => tracing::warn!(namespace, secret = secret.name, "there is no such secret to pull with"),
            Err(status) => tracing::warn!(%status, "a secret to pull with cannot be read"),
        }
    }
    let Container { image, image_pull_policy, runtime, .. } = container;
    driver.prepare(Need { uid, image, policy: image_pull_policy, runtime, logins }).await
}

/// The credentials in a Secret of type `kubernetes.io/dockerconfigjson`, by the place that they are for.
fn logins_of(secret: &Object<Secret>) -> BTreeMap<String, Login> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        auths: BTreeMap<String, Auth>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    struct Auth {
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
        #[serde(default)]
        auth: String,
        #[serde(default)]
        identitytoken: String,
    }
    let config = secret.data.get(DOCKER_CONFIG).and_then(|value| value.bytes());
    let config = config.and_then(|bytes| serde_json::from_slice::<Config>(&bytes).ok());
    let auths = config.map(|config| config.auths).unwrap_or_default();
    let login = |auth: Auth| {
        // `auth` is both, as `docker login` writes it.
        let pair = Login::pair(&auth.auth).filter(|_| auth.username.is_empty());
        let (username, password) = pair.unwrap_or((auth.username, auth.password));
        Login { username, password, identity_token: auth.identitytoken }
    };
    auths.into_iter().map(|(place, auth)| (place, login(auth))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::InstanceStatus;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn a_pull_that_fails_is_repeated_ever_more_slowly_and_uses_up_no_attempt() {
        let mut memory = Memory::new(&InstanceStatus::default(), at(0));
        let mut said = Vec::new();
        let refused = || Err(PrepareError::Image("no such manifest".to_owned()));
        let answers =
            [refused(), refused(), refused(), Err(PrepareError::NoEngine("away".to_owned())), refused(), Ok(None)];
        for result in answers {
            memory.fetch = Fetch::UnderWay;
            let notes = memory.fetched("redis", result, at(100));
            let Phase::Waiting { reason, at: due, .. } = &memory.phase else { panic!("it waits") };
            let notes: Vec<_> = notes.iter().map(|note| note.reason).collect();
            said.push(format!("{reason} +{} {notes:?}", due.as_second() - 100));
        }
        insta::assert_snapshot!(said.join("\n"), @r#"
        ErrImagePull +10 ["Failed"]
        ImagePullBackOff +20 ["BackOff"]
        ImagePullBackOff +40 ["BackOff"]
        EngineUnavailable +2 []
        ImagePullBackOff +80 ["BackOff"]
        Starting +0 []
        "#);
        assert_eq!((memory.attempt, memory.restarts, memory.fetch), (0, 0, Fetch::Done));
    }

    #[test]
    fn an_image_that_comes_too_late_changes_nothing() {
        let mut memory = Memory::new(&InstanceStatus::default(), at(0));
        memory.fetch = Fetch::UnderWay;
        assert_eq!(memory.fetching("1 of 2 MB".to_owned(), "redis").len(), 1);
        assert_eq!(memory.fetching("2 of 2 MB".to_owned(), "redis").len(), 0);
        memory.rest("Suspended", String::new(), 1);
        let before = memory.clone();
        assert!(memory.fetched("redis", Ok(None), at(1)).is_empty());
        assert_eq!(memory, before);
    }

    #[test]
    fn credentials_are_read_as_docker_login_writes_them() {
        let config = json!({"auths": {
            "registry.example": {"auth": "YWRhOnM6ZWNyZXQ="},
            "localhost:5000": {"username": "bob", "password": "p"},
            "cloud.example": {"identitytoken": "t"},
        }});
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, config.to_string());
        let secret: Object<Secret> = serde_json::from_value(json!({
            "metadata": {"name": "pull", "namespace": "default"},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {DOCKER_CONFIG: encoded},
        }))
        .expect("a secret");
        let logins = logins_of(&secret);
        let login = |place: &str| (logins[place].username.as_str(), logins[place].password.as_str());
        assert_eq!(login("registry.example"), ("ada", "s:ecret"));
        assert_eq!(login("localhost:5000"), ("bob", "p"));
        assert_eq!(logins["cloud.example"].identity_token, "t");
        assert!(!format!("{logins:?}").contains("ecret"));
    }
}
