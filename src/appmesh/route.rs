//! The calls, by method and path, each with the door that it stands behind.

use hyper::HeaderMap;

use super::login;
use crate::api::TASK_LIMIT;

/// The longest body about one object.
const OBJECT: usize = 3 << 20;
/// The longest body about a login, a user, a role or a setting.
const WORDS: usize = 64 << 10;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A name and a password for a token.
    Login,
    /// A code with the challenge that the password got.
    ValidateTotp,
    /// Whether a token is good, and for what.
    Auth,
    /// Another token in place of this one.
    Renew,
    /// The token is not to be good any more.
    Logoff,
    /// The secret of a second factor.
    TotpSecret,
    /// A first code of it.
    TotpSetup,
    /// Somebody's is given up.
    TotpDisable(String),
    /// All applications.
    ListApps,
    /// One of them.
    GetApp(String),
    /// One is made, or made another one.
    PutApp(String),
    /// One is removed.
    DeleteApp(String),
    /// One is turned on.
    EnableApp(String),
    /// One is turned off.
    DisableApp(String),
    /// Whether one is well.
    AppHealth(String),
    /// What one has written.
    AppOutput(String),
    /// Something is run and waited for.
    RunSync,
    /// Something is run.
    RunAsync,
    /// Work for an App's process, and its result.
    RunTask(String),
    /// What an App's process is at work on is cancelled.
    CancelTask(String),
    /// What happens to one is told from now on.
    Subscribe(String),
    /// What happens to all of them is.
    SubscribeAll,
    /// It is not told any more.
    Unsubscribe,
    /// A process asks for work.
    FetchTask(String),
    /// A process gives its result.
    GiveTask(String),
    /// A file comes down.
    Download,
    /// A file goes up.
    Upload,
    /// The labels of the machine.
    Labels,
    /// One is set.
    SetLabel(String),
    /// One is taken away.
    DeleteLabel(String),
    /// The settings.
    Config,
    /// Some are changed.
    SetConfig,
    /// The machine.
    Resources,
    /// Figures for Prometheus.
    Metrics,
    /// Whoever asks.
    OwnUser,
    /// What whoever asks may do.
    OwnPermissions,
    /// Who issues tokens, and for whom.
    AuthConfig,
    /// Whoever asks, in the third generation's words.
    OwnPrincipal,
    /// All of them.
    Principals,
    /// One is changed.
    PutPrincipal(String),
    /// One is removed.
    DeletePrincipal(String),
    /// All users.
    Users,
    /// All groups.
    Groups,
    /// One user is made, or changed.
    PutUser(String),
    /// One is removed.
    DeleteUser(String),
    /// One is locked out.
    LockUser(String),
    /// One is let in again.
    UnlockUser(String),
    /// One gets another password.
    Password(String),
    /// All permissions.
    Permissions,
    /// All roles.
    Roles,
    /// One role is made, or changed.
    PutRole(String),
    /// One is removed.
    DeleteRole(String),
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Whoever says who they are in the call itself.
    Open,
    /// Somebody who has proved who they are.
    Known,
}

impl Route {
    /// Who may ask.
    pub fn door(&self, headers: &HeaderMap) -> Door {
        match self {
            Route::Login | Route::ValidateTotp | Route::AuthConfig => Door::Open,
            Route::FetchTask(_) | Route::GiveTask(_) => Door::Open,
            // Whose token is for somebody else is nobody here.
            Route::Auth if login::is_for_another(headers) => Door::Open,
            Route::Renew if headers.contains_key("x-refresh-token") => Door::Open,
            _ => Door::Known,
        }
    }

    /// The longest body.
    pub fn longest(&self) -> usize {
        match self {
            Route::RunTask(_) | Route::GiveTask(_) => TASK_LIMIT,
            Route::PutApp(_) | Route::RunSync | Route::RunAsync => OBJECT,
            Route::ValidateTotp | Route::SetConfig | Route::PutUser(_) | Route::Password(_) => WORDS,
            Route::PutRole(_) | Route::PutPrincipal(_) => WORDS,
            _ => 0,
        }
    }
}

/// How a call is made of the one step of its path that is a name.
type Make = fn(String) -> Route;

/// Method, path below `/appmesh`, where `*` is a name, and the call.
const ROUTES: &[(&str, &str, Make)] = &[
    ("GET", "auth/config", |_| Route::AuthConfig),
    ("GET", "principal/self", |_| Route::OwnPrincipal),
    ("GET", "principal/self/permissions", |_| Route::OwnPermissions),
    ("GET", "principals", |_| Route::Principals),
    ("POST", "principal/*", Route::PutPrincipal),
    ("DELETE", "principal/*", Route::DeletePrincipal),
    ("POST", "login", |_| Route::Login),
    ("POST", "auth", |_| Route::Auth),
    ("POST", "token/renew", |_| Route::Renew),
    ("POST", "self/logoff", |_| Route::Logoff),
    ("POST", "totp/validate", |_| Route::ValidateTotp),
    ("POST", "totp/secret", |_| Route::TotpSecret),
    ("POST", "totp/setup", |_| Route::TotpSetup),
    ("POST", "totp/*/disable", Route::TotpDisable),
    ("GET", "applications", |_| Route::ListApps),
    ("POST", "app/run", |_| Route::RunAsync),
    ("POST", "app/syncrun", |_| Route::RunSync),
    ("GET", "app/*", Route::GetApp),
    ("PUT", "app/*", Route::PutApp),
    ("DELETE", "app/*", Route::DeleteApp),
    ("POST", "app/*/enable", Route::EnableApp),
    ("POST", "app/*/disable", Route::DisableApp),
    ("GET", "app/*/health", Route::AppHealth),
    ("GET", "app/*/output", Route::AppOutput),
    ("POST", "app/*/task", Route::RunTask),
    ("DELETE", "app/*/task", Route::CancelTask),
    ("GET", "app/*/task", Route::FetchTask),
    ("PUT", "app/*/task", Route::GiveTask),
    ("POST", "app/*/subscribe", Route::Subscribe),
    ("DELETE", "app/*/subscribe", |_| Route::Unsubscribe),
    ("POST", "subscribe", |_| Route::SubscribeAll),
    ("DELETE", "subscribe", |_| Route::Unsubscribe),
    ("GET", "file/download", |_| Route::Download),
    ("POST", "file/upload", |_| Route::Upload),
    // Where clients of the WebSocket send and fetch files.
    ("GET", "file/download/ws", |_| Route::Download),
    ("POST", "file/upload/ws", |_| Route::Upload),
    ("GET", "labels", |_| Route::Labels),
    ("PUT", "label/*", Route::SetLabel),
    ("DELETE", "label/*", Route::DeleteLabel),
    ("GET", "config", |_| Route::Config),
    ("POST", "config", |_| Route::SetConfig),
    ("GET", "resources", |_| Route::Resources),
    ("GET", "metrics", |_| Route::Metrics),
    ("GET", "user/self", |_| Route::OwnUser),
    ("GET", "user/permissions", |_| Route::OwnPermissions),
    ("GET", "user/groups", |_| Route::Groups),
    ("GET", "users", |_| Route::Users),
    ("PUT", "user/*", Route::PutUser),
    ("DELETE", "user/*", Route::DeleteUser),
    ("POST", "user/*/lock", Route::LockUser),
    ("POST", "user/*/unlock", Route::UnlockUser),
    ("POST", "user/*/passwd", Route::Password),
    ("GET", "permissions", |_| Route::Permissions),
    ("GET", "roles", |_| Route::Roles),
    ("POST", "role/*", Route::PutRole),
    ("DELETE", "role/*", Route::DeleteRole),
];

/// Every method and path, with `*` for a name.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|(method, path, _)| (*method, *path))
}

/// The call of a method and a path; `None` if there is none.
pub fn route(method: &str, path: &str) -> Option<Route> {
    let path = path.trim_matches('/').strip_prefix("appmesh/")?;
    ROUTES.iter().filter(|(known, ..)| *known == method).find_map(|(_, pattern, make)| {
        let mut name = String::new();
        let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return Some(make(name)),
                (Some("*"), Some(step)) if !step.is_empty() => step.clone_into(&mut name),
                (Some(word), Some(step)) if word == step => {}
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_method_and_path() {
        for (method, path, expected) in [
            ("POST", "/appmesh/login", Some(Route::Login)),
            ("POST", "appmesh/self/logoff", Some(Route::Logoff)),
            ("GET", "/appmesh/app/web/task", Some(Route::FetchTask("web".to_owned()))),
            ("DELETE", "/appmesh/app/web/task", Some(Route::CancelTask("web".to_owned()))),
            ("POST", "/appmesh/app/run", Some(Route::RunAsync)),
            ("GET", "/appmesh/app/run", Some(Route::GetApp("run".to_owned()))),
            ("POST", "/appmesh/totp/self/disable", Some(Route::TotpDisable("self".to_owned()))),
            ("POST", "/appmesh/totp/secret", Some(Route::TotpSecret)),
            ("GET", "/appmesh/app/a/b", None),
            ("GET", "/appmesh/login", None),
            ("GET", "/appmesh", None),
            ("GET", "/app/web/task", None),
        ] {
            assert_eq!(route(method, path), expected, "{method} {path}");
        }
        for (method, path) in routes() {
            assert!(route(method, &format!("/appmesh/{}", path.replace('*', "x"))).is_some(), "{method} {path}");
        }
    }
}
