//! The first user. No password is the same on two machines, and none is in a log: it is read from a file, or made and shown once.

use std::path::Path;

use serde_json::json;

use crate::{
    api::{Kind, Operation, OperationVerb, Reason, Status, Transaction, User},
    auth::password,
    client::{Query, SharedClient},
};

/// The name of the first user.
pub(super) const ADMIN: &str = "admin";

/// Makes the User `admin` where there is no user at all. The password, if it was made here.
///
/// # Errors
/// When the file cannot be read or has no usable password, or the store does not take it.
pub(super) async fn make_first_user(client: &SharedClient, file: Option<&Path>) -> Result<Option<String>, Status> {
    if !client.list(User::INFO, &Query::default()).await?.items.is_empty() {
        return Ok(None);
    }
    let (plain, told) = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|e| Status::bad_request(format!("cannot read `{}`: {e}", file.display())))?;
            (text.trim_end_matches(['\r', '\n']).to_owned(), None)
        }
        None => {
            let made = password::random();
            (made.clone(), Some(made))
        }
    };
    let user = json!({
        "apiVersion": User::INFO.api_version(), "kind": User::INFO.kind, "metadata": {"name": ADMIN},
        "spec": {"displayName": "Administrator", "roles": [{"name": "admin"}], "password": {"plain": plain}},
    });
    let create = Operation::new(OperationVerb::Create, user);
    match client.transact(Transaction::new("appm-bootstrap", vec![create])).await {
        Err(status) if status.is(Reason::AlreadyExists) => Ok(None),
        Err(status) => Err(status),
        Ok(_) => Ok(told),
    }
}
