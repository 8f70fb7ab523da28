//! `appm schedule trigger`: what `kubectl create job --from=cronjob/NAME` does.

use serde_json::{Value, json};

use super::super::{
    context::{Context, name_of, served},
    error::CliError,
    of_kind::Named,
    output::{self, Format, without_managed_fields},
    resources::qualified,
    screen, task,
};
use crate::{
    api::{Kind, Object, Run, SCHEDULE_LABEL, Schedule, Served, WorkflowRun},
    client::http::{Request, path_of},
};

pub(super) async fn run(args: &Named<Schedule>, context: &Context) -> Result<(), CliError> {
    for name in &args.of.names {
        let object = context.get(served::<Schedule>(), context.namespace(), name).await?;
        let schedule: Object<Schedule> = serde_json::from_value(object.clone())
            .map_err(|e| CliError::failed(format!("schedule `{name}` cannot be read: {e}")))?;
        match (&schedule.spec.workflow, &schedule.spec.task) {
            (Some(workflow), _) => {
                let spec = json!({"workflow": workflow.name, "inputs": workflow.inputs});
                make(served::<WorkflowRun>(), &spec, &object, args, context).await?;
            }
            (None, Some(sent)) => {
                screen::bytes(&task::send_as(sent, context).await?)?;
            }
            (None, None) => make(served::<Run>(), &object["spec"]["run"], &object, args, context).await?,
        }
    }
    Ok(())
}

/// Makes what belongs to the Schedule, as the ones of its times do.
async fn make(
    served: Served,
    spec: &Value,
    schedule: &Value,
    args: &Named<Schedule>,
    context: &Context,
) -> Result<(), CliError> {
    let name = name_of(schedule);
    let owner = json!({
        "apiVersion": schedule["apiVersion"], "kind": Schedule::INFO.kind, "name": name,
        "uid": schedule["metadata"]["uid"], "controller": true,
    });
    let object = json!({
        "apiVersion": served.api_version(),
        "kind": served.kind.kind,
        "metadata": {
            "generateName": format!("{name}-manual-"),
            "labels": {SCHEDULE_LABEL: name},
            "ownerReferences": [owner],
        },
        "spec": spec,
    });
    let path = path_of(served.kind, Some(context.namespace()), None) + "?fieldManager=appm-cli";
    let made: Value = context.call(Request::post(path, &object)).await?.json()?;
    match &args.output.output {
        Format::Table | Format::Wide => {
            Ok(screen::line(format_args!("{} created", qualified(served, &name_of(&made))))?)
        }
        format => output::objects(format, vec![without_managed_fields(made)], false),
    }
}
