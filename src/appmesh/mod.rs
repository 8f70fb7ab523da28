//! App Mesh's own wire, second and third generation: its clients in Python, Go, Rust, JavaScript and Java work here as they are.
//!
//! ```text
//!  HTTPS (server::appmesh) ─┐  Call                 Reply  ┌─ status, headers, body as App Mesh has them
//!                           ├──────► route ─► handler ─────┤
//!  another transport       ─┘        (one for each call)   └─ errors: {"message": …}
//! ```
//! A transport brings a [`Call`], and who asks where the [`Route`] says that somebody must; what it gets is a [`Reply`]. A handler is thin:
//! it says in App Mesh's words what admission, authenticator and broker do for everybody. Apps are those of the namespace `default`.
//!
//! Where the original has a bug, its clients have learnt to live with the right thing: whoever may not gets 403, a token that is none 401.

mod apps;
mod definition;
mod dependencies;
mod discovery;
mod events;
mod files;
mod find;
mod host;
pub mod import;
mod login;
mod multipart;
mod names;
mod output;
mod people;
mod permission;
mod principals;
mod reply;
mod route;
mod runs;
mod state;
mod tasks;
mod verbosity;
mod wait;
mod workflows;

use std::{net::SocketAddr, sync::Arc};

use hyper::{HeaderMap, header};
use serde_json::{Map, Value};

pub use self::{
    events::{EVENT_PATH, Event, Listener, Push, Seat, are_events_wanted, events_of_a_peer},
    files::{LARGEST_FILE, Upload},
    host::{Here, open_files},
    names::NAMED as APP_MESH_NAME,
    output::{NoticeSource, OutputSource, Start, Wanted, Written},
    reply::{Content, Reply},
    route::{Door, Route, route, routes},
    verbosity::Verbosity,
};
use crate::{
    admission::{Admission, Caller},
    api::{App, Key, Status},
    auth::{Authenticator, From, Identity},
    broker::Payload,
    clock::SharedClock,
};

/// The namespace of what App Mesh's clients name.
const NAMESPACE: &str = "default";
/// The cookie that bears the token.
const COOKIE: &str = "appmesh_auth_token";

/// What the handlers stand on.
pub struct Sdk {
    admission: Admission,
    authenticator: Arc<Authenticator>,
    clock: SharedClock,
    output: OutputSource,
    notices: NoticeSource,
    here: Here,
    sequence: events::Sequence,
}

/// A request, whatever transport brought it.
pub struct Call {
    /// The parameters, decoded, in their order.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Payload,
    /// How this server was addressed; empty where a transport does not say.
    pub host: String,
    /// Where it comes from.
    pub from: From,
    /// The connection that it came on, if it can be told from others.
    pub connection: Option<SocketAddr>,
    /// Who is told of events on it, where they can be pushed.
    pub listener: Option<Arc<Listener>>,
    /// Its name in the log.
    pub request_id: String,
}

impl Call {
    /// A parameter, or an empty text.
    fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// A parameter that is a number; nonsense counts as none, as in App Mesh.
    fn number(&self, name: &str) -> Option<u64> {
        self.query(name).parse().ok()
    }

    /// A parameter that is on.
    fn flag(&self, name: &str) -> bool {
        matches!(self.query(name), "1" | "true")
    }

    /// Ends a subscription that was made for it.
    fn unsubscribe(&self, subscription: &str) {
        if let Some(listener) = &self.listener {
            listener.forget(subscription);
        }
    }

    /// The body, an object.
    fn json(&self) -> Result<Map<String, Value>, Status> {
        let parsed = serde_json::from_slice(&self.body.to_bytes());
        parsed.map_err(|error| Status::bad_request(format!("the body is not an object of JSON: {error}")))
    }

    /// A header, or an empty text.
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Sdk {
    /// Handlers over these.
    pub fn new(
        admission: Admission,
        authenticator: Arc<Authenticator>,
        clock: SharedClock,
        output: OutputSource,
        notices: NoticeSource,
        here: Here,
    ) -> Self {
        Self { admission, authenticator, clock, output, notices, here, sequence: events::Sequence::default() }
    }

    /// Answers what needs nobody's name: whoever logs in, and processes, which have a key.
    ///
    /// # Errors
    /// See [`Reply::refusal`].
    pub async fn open(&self, route: &Route, call: Call) -> Result<Reply, Status> {
        match route {
            Route::Login => self.login(&call).await,
            Route::ValidateTotp => self.validate_totp(&call).await,
            Route::Auth => self.auth_of_another(&call),
            Route::Renew => self.refresh(&call).await,
            Route::FetchTask(app) => Ok(self.fetch_task(app, &call).await),
            Route::GiveTask(app) => Ok(self.give_task(app, call).await),
            Route::AuthConfig => Ok(self.auth_config(&call)),
            _ => Err(Status::no_route()),
        }
    }

    /// Answers somebody.
    ///
    /// # Errors
    /// See [`Reply::refusal`].
    pub async fn known(&self, route: &Route, who: &Identity, call: Call) -> Result<Reply, Status> {
        match route {
            Route::Auth => self.auth(who, &call),
            Route::Logoff => self.logoff(who).await,
            Route::Renew => self.renew(who, &call).await,
            Route::TotpSecret => self.totp_secret(who).await,
            Route::TotpSetup => self.totp_setup(who, &call).await,
            Route::TotpDisable(user) => self.totp_disable(user, who, &call).await,
            Route::Download => self.download(who, &call).await,
            Route::Labels => self.labels(who, &call),
            Route::SetLabel(label) => self.label(label, true, who, &call).await,
            Route::DeleteLabel(label) => self.label(label, false, who, &call).await,
            Route::Config => self.config(who, &call),
            Route::SetConfig => self.set_config(who, &call).await,
            Route::Resources => self.resources(who, &call),
            Route::OwnUser => Ok(self.own_user(who)),
            Route::OwnPermissions => Ok(self.own_permissions(who)),
            Route::OwnPrincipal => Ok(self.own_principal(who, &call)),
            Route::Principals => self.list_principals(who, &call),
            Route::PutPrincipal(id) => self.put_principal(id, who, &call).await,
            Route::DeletePrincipal(id) => self.delete_principal(id, who, &call).await,
            Route::Users => self.list_users(who, &call),
            Route::Groups => self.list_groups(who, &call),
            Route::PutUser(user) => self.put_user(user, who, &call).await,
            Route::DeleteUser(user) => self.delete_user(user, who, &call).await,
            Route::LockUser(user) => self.lock_user(user, true, who, &call).await,
            Route::UnlockUser(user) => self.lock_user(user, false, who, &call).await,
            Route::Password(user) => self.change_password(user, who, &call).await,
            Route::Permissions => Ok(Self::list_permissions()),
            Route::Roles => self.list_roles(who, &call),
            Route::PutRole(role) => self.put_role(role, who, &call).await,
            Route::DeleteRole(role) => self.delete_role(role, who, &call).await,
            Route::ListApps => self.list_apps(who, &call),
            Route::GetApp(app) => self.get_app(app, who, &call),
            Route::PutApp(app) => self.put_app(app, who, &call).await,
            Route::DeleteApp(app) => self.delete_app(app, who, &call).await,
            Route::EnableApp(app) => self.enable(app, true, who, &call).await,
            Route::DisableApp(app) => self.enable(app, false, who, &call).await,
            Route::AppHealth(app) => self.health(app, who, &call),
            Route::AppOutput(app) => self.output(app, who, &call).await,
            Route::RunSync => self.run_sync(who, &call).await,
            Route::RunAsync => self.run_async(who, &call).await,
            Route::RunTask(app) => self.run_task(app, who, call).await,
            Route::CancelTask(app) => self.cancel_task(app, who, &call),
            Route::Subscribe(app) => self.subscribe(Some(app), who, &call),
            Route::SubscribeAll => self.subscribe(None, who, &call),
            Route::Unsubscribe => self.unsubscribe(&call),
            _ => Err(Status::no_route()),
        }
    }

    fn app(name: &str) -> Result<Key, Status> {
        Ok(Key::of::<App>(NAMESPACE, &names::stored(name)?))
    }
}

fn caller(who: &Identity, call: &Call) -> Caller {
    Caller { request_id: call.request_id.clone(), ..Caller::new(who.clone(), "appmesh") }
}

/// The token of a request, as every other door takes it: with its scheme before it, or in the cookie.
pub fn credentials(headers: &HeaderMap) -> HeaderMap {
    let mut own = headers.clone();
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::trim);
    let token = match shown {
        Some(shown) if shown.contains(' ') => return own,
        Some(bare) => Some(bare),
        None => headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).find_map(in_cookie),
    };
    if let Some(value) = token.and_then(|token| format!("Bearer {token}").parse().ok()) {
        own.insert(header::AUTHORIZATION, value);
    }
    own
}

fn in_cookie(cookies: &str) -> Option<&str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value.trim_matches('"')).find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_in_three_ways() {
        let with = |name: &'static str, value: &'static str| {
            let headers = HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))]);
            credentials(&headers).get(header::AUTHORIZATION).map(|v| v.to_str().expect("text").to_owned())
        };
        for (name, value, expected) in [
            ("authorization", "Bearer a.b.c", Some("Bearer a.b.c")),
            ("authorization", "a.b.c", Some("Bearer a.b.c")),
            ("authorization", "Basic eA==", Some("Basic eA==")),
            ("cookie", "x=y; appmesh_auth_token=a.b.c; Path=/", Some("Bearer a.b.c")),
            ("cookie", "appmesh_auth_token=", None),
            ("cookie", "other=a", None),
        ] {
            assert_eq!(with(name, value).as_deref(), expected, "{name}: {value}");
        }
    }
}
