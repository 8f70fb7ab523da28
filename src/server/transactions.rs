//! `POST /apis/appm.dev/v1/transactions`: several changes, all or nothing.

use serde_json::{Value, json};

use super::{
    accept::Encoding,
    body::{MOST_VALUES, Parsed},
    call::Call,
    respond::{self, Answer},
    state::State,
};
use crate::{
    api::{Durability, Rev, Status, TRANSACTION_LIMIT, Transaction},
    client::Done,
};

/// Does a transaction, or tells by a Plan what it would do. The answer has one result for each operation; its objects are the store's own bytes.
pub(super) async fn transact(state: &State, call: &mut Call) -> Result<Answer, Status> {
    let plan = call.params.flag("plan")?;
    let transaction = read(call).await?;
    let caller = call.caller();
    if plan {
        let plan = state.admission.plan(&caller, transaction).await?;
        let body = serde_json::to_vec(&plan).expect("a plan is plain data");
        return respond::encoded(hyper::StatusCode::OK, body.into(), call.form()?.encoding);
    }
    let done = state.admission.transact(&caller, transaction).await?;
    let revision = done.iter().map(|d| d.object.revision).max().unwrap_or_else(|| state.store.revision());
    respond::encoded(hyper::StatusCode::OK, answer(revision, &done).into(), Encoding::Json)
}

async fn read(call: &mut Call) -> Result<Transaction, Status> {
    let Some(Parsed { value, duplicates }) = call.parsed(TRANSACTION_LIMIT).await? else {
        return Err(Status::bad_request("the request needs a body"));
    };
    if let Some(path) = duplicates.first() {
        return Err(Status::bad_request(format!("strict decoding error: duplicate field \"{path}\"")));
    }
    for operation in value["operations"].as_array().into_iter().flatten() {
        if count(&operation["object"]) > MOST_VALUES {
            return Err(Status::too_large(format!("an object of the transaction has more than {MOST_VALUES} values")));
        }
    }
    let mut transaction: Transaction = serde_path_to_error::deserialize(value)
        .map_err(|e| Status::bad_request(format!("the body is not a Transaction: {}: {}", e.path(), e.inner())))?;
    transaction.dry_run |= call.params.dry_run("Transaction")?;
    transaction.durability = Durability::Durable;
    if transaction.field_manager.is_empty() {
        transaction.field_manager = call.caller().manager;
    }
    Ok(transaction)
}

/// The values and keys of a value.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(|value| 1 + count(value)).sum::<usize>(),
        _ => 1,
    }
}

fn answer(revision: Rev, done: &[Done]) -> Vec<u8> {
    let mut text = format!(r#"{{"resourceVersion":"{revision}","results":["#).into_bytes();
    for (at, Done { outcome, object, warnings }) in done.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        text.extend_from_slice(format!(r#"{comma}{{"outcome":{},"object":"#, json!(outcome)).as_bytes());
        text.extend_from_slice(&object.json);
        if !warnings.is_empty() {
            text.extend_from_slice(format!(r#","warnings":{}"#, json!(warnings)).as_bytes());
        }
        text.push(b'}');
    }
    text.extend_from_slice(b"]}");
    text
}
