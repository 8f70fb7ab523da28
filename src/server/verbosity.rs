//! `/log-level`: how much the server says in its log, and more or less of it while it runs.

use hyper::Method;
use serde_json::json;

use super::{
    documents::not_allowed,
    query::Params,
    respond::{self, Answer},
    state::State,
};
use crate::{
    api::Status,
    auth::{Attributes, Identity},
};

/// The path.
pub(super) const PATH: &str = "log-level";

/// Answers it.
pub(super) fn answer(state: &State, method: &Method, params: &Params, who: &Identity) -> Result<Answer, Status> {
    let verb = if *method == Method::POST { "post" } else { "get" };
    let asked = Attributes { verb, path: "/log-level", ..Attributes::default() };
    state.admission.authority().must(who, &asked)?;
    match *method {
        Method::GET => {}
        Method::POST => {
            let level = params.get("level");
            state.verbosity.set(level).map_err(Status::bad_request)?;
            tracing::warn!(user = who.name, level, "how much is logged was changed");
        }
        _ => return Err(not_allowed()),
    }
    Ok(respond::ok(&json!({"level": state.verbosity.said()})))
}
