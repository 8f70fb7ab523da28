//! `/sealing`: with which keys what is stored is sealed, and `/sealing/rotate`: new ones.

use hyper::Method;

use super::{
    documents::not_allowed,
    query::Params,
    respond::{self, Answer},
    state::State,
};
use crate::{
    api::{Reason, Status},
    auth::{Attributes, Identity},
    store::RotateError,
};

/// The path of the one and of the other.
pub(super) const PATHS: [&str; 2] = ["sealing", "sealing/rotate"];

/// Answers either.
pub(super) async fn answer(
    state: &State,
    path: &str,
    method: &Method,
    params: &Params,
    who: &Identity,
) -> Result<Answer, Status> {
    let (verb, expected) = if path == PATHS[0] { ("get", Method::GET) } else { ("post", Method::POST) };
    let asked = format!("/{path}");
    state.admission.authority().must(who, &Attributes { verb, path: &asked, ..Attributes::default() })?;
    if *method != expected {
        return Err(not_allowed());
    }
    let sealing = if path == PATHS[0] {
        state.store.sealing().ok_or_else(|| refused(&RotateError::Unsealed))?
    } else {
        state.store.rotate_keys(params.flag("dataKeys")?).await.map_err(|e| refused(&e))?
    };
    Ok(respond::ok(&serde_json::to_value(sealing).map_err(|e| Status::internal(e.to_string()))?))
}

/// Whoever may change keys may read where they are, and why it failed.
fn refused(error: &RotateError) -> Status {
    let reason = match error {
        RotateError::NoNewKey { .. } | RotateError::Gone { .. } | RotateError::KeyFile(_) => Reason::Conflict,
        RotateError::Unsealed => Reason::NotFound,
        RotateError::Engine(_) | RotateError::Closed => Reason::ServiceUnavailable,
    };
    Status::new(reason, error.to_string())
}
