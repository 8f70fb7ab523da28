//! `GET …/instances/NAME/processes`: who an instance consists of now.

use std::sync::Arc;

use super::{
    bounds::Work,
    call::Call,
    documents::not_allowed,
    path::Resource,
    respond::{self, Answer},
    state::State,
};
use crate::api::{Instance, InstanceProcesses, Served, Status};

/// Answers with the processes of an instance; of one that does not run there are none.
pub(super) async fn read(
    state: &Arc<State>,
    call: &Call,
    served: Served,
    resource: &Resource<'_>,
    verb: &str,
) -> Result<Answer, Status> {
    if verb != "get" {
        return Err(not_allowed());
    }
    let object = state.admission.get_part(&call.caller(), served, resource.subresource, &resource.key(served))?;
    let instance = object.typed::<Instance>().ok_or_else(|| Status::internal("the instance cannot be read"))?;
    let _seat = state.turnstile.seat(&call.who.name, Work::Reading, 0).await?;
    let nothing = InstanceProcesses { attempt: instance.status.attempt, ..InstanceProcesses::default() };
    let found = (state.processes)(instance.clone()).await.unwrap_or(nothing);
    let told = found.of(&instance.metadata.name, &instance.metadata.namespace);
    let json = serde_json::to_vec(&told).map_err(|_| Status::internal("the processes cannot be told"))?;
    respond::encoded(hyper::StatusCode::OK, json.into(), call.form()?.encoding)
}
