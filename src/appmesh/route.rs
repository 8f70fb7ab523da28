//! The calls, by method and path, each with the door that it stands behind.

use crate::api::TASK_LIMIT;

/// The longest body about one object.
const OBJECT: usize = 3 << 20;

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A name and a password for a token.
    Login,
    /// Whether a token is good, and for what.
    Auth,
    /// The token is not to be good any more.
    Logoff,
    /// All applications.
    ListApps,
    /// One of them.
    GetApp(String),
    /// One is made, or made another one.
    PutApp(String),
    /// One is removed.
    DeleteApp(String),
    /// One is turned on or off.
    EnableApp(String, bool),
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
    /// A process asks for work.
    FetchTask(String),
    /// A process gives its result.
    GiveTask(String),
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
    pub fn door(&self) -> Door {
        match self {
            Route::Login | Route::FetchTask(_) | Route::GiveTask(_) => Door::Open,
            _ => Door::Known,
        }
    }

    /// The longest body.
    pub fn longest(&self) -> usize {
        match self {
            Route::RunTask(_) | Route::GiveTask(_) => TASK_LIMIT,
            Route::PutApp(_) | Route::RunSync | Route::RunAsync => OBJECT,
            _ => 0,
        }
    }
}

/// The call of a method and a path; `None` if there is none.
pub fn route(method: &str, path: &str) -> Option<Route> {
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    Some(match (method, steps.strip_prefix(&["appmesh"][..])?) {
        ("POST", ["login"]) => Route::Login,
        ("POST", ["auth"]) => Route::Auth,
        ("POST", ["self", "logoff"]) => Route::Logoff,
        ("GET", ["applications"]) => Route::ListApps,
        ("POST", ["app", "run"]) => Route::RunAsync,
        ("POST", ["app", "syncrun"]) => Route::RunSync,
        ("GET", ["app", name]) => Route::GetApp((*name).to_owned()),
        ("PUT", ["app", name]) => Route::PutApp((*name).to_owned()),
        ("DELETE", ["app", name]) => Route::DeleteApp((*name).to_owned()),
        ("POST", ["app", name, "enable"]) => Route::EnableApp((*name).to_owned(), true),
        ("POST", ["app", name, "disable"]) => Route::EnableApp((*name).to_owned(), false),
        ("GET", ["app", name, "health"]) => Route::AppHealth((*name).to_owned()),
        ("GET", ["app", name, "output"]) => Route::AppOutput((*name).to_owned()),
        ("POST", ["app", name, "task"]) => Route::RunTask((*name).to_owned()),
        ("DELETE", ["app", name, "task"]) => Route::CancelTask((*name).to_owned()),
        ("GET", ["app", name, "task"]) => Route::FetchTask((*name).to_owned()),
        ("PUT", ["app", name, "task"]) => Route::GiveTask((*name).to_owned()),
        _ => return None,
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
            ("GET", "/appmesh/login", None),
            ("GET", "/appmesh", None),
            ("GET", "/app/web/task", None),
        ] {
            assert_eq!(route(method, path), expected, "{method} {path}");
        }
    }
}
