//! App Mesh's workflow engine: an application `workflow` that is spoken to by tasks, `{"action": …, "token": …}`.
//!
//! Here there is no such application: what is asked for is done with Workflows and WorkflowRuns of the namespace `default`, in the name of
//! whoever bears the token, by the same rights as everywhere. An App of that name that somebody has made goes before it.

mod shapes;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, NAMESPACE, Reply, Sdk, Start, Wanted};
use crate::{
    admission::{Caller, Patch, Target, WriteOptions},
    api::{
        API_VERSION, App, CancelMode, EventName, Instance, Key, Kind, Object, Operation, OperationVerb, Run, Status,
        Subresource, Transaction, WORKFLOW_LABEL, Workflow, WorkflowRun,
    },
    auth::Identity,
    client::Query,
    policy::{manifest, workflow::inputs},
};

/// The name of the engine among App Mesh's applications.
const ENGINE: &str = "workflow";
/// What App Mesh's files say beside the body: the name is the object's, the others are not asked for here.
const BESIDE: &[&str] = &["name", "owner", "permission"];
/// How much of what a step printed is told.
const MOST: usize = 64 << 10;
/// Steps of a run of which that is told with the rest.
const MOST_STEPS: usize = 200;

/// What is asked of the engine.
#[derive(Deserialize)]
struct Asked {
    action: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    workflow: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    job: String,
    #[serde(default)]
    step: String,
    #[serde(default)]
    inputs: Option<Map<String, Value>>,
}

/// A sentence, and what was asked for.
type Answer = Result<(String, Value), Status>;

fn done(message: &str, data: Value) -> Answer {
    Ok((message.to_owned(), data))
}

impl Sdk {
    /// Whether a task for this application is one for the engine.
    pub(super) fn is_engine(&self, app: &str) -> bool {
        app == ENGINE && self.admission.store().get(&Key::of::<App>(NAMESPACE, ENGINE)).is_none()
    }

    /// Answers as the engine does: what went wrong stands in the answer, too.
    pub(super) async fn ask_engine(&self, who: &Identity, call: &Call) -> Reply {
        let (status, message, data) = match self.engine(who, call).await {
            Ok((message, data)) => ("ok", message, data),
            Err(refusal) => ("error", refusal.message, Value::Null),
        };
        Reply::json(200, json!({"status": status, "message": message, "data": data}))
    }

    async fn engine(&self, who: &Identity, call: &Call) -> Answer {
        let asked: Asked = serde_json::from_slice(&call.body.to_bytes())
            .map_err(|error| Status::bad_request(format!("the payload asks for no action: {error}")))?;
        let who = match asked.token.as_str() {
            "" => who.clone(),
            token => self.authenticator.bearer(token, &call.from).await?,
        };
        let caller = super::caller(&who, call);
        match asked.action.as_str() {
            "workflow_add" => self.add_workflow(&caller, &asked).await,
            "workflow_get" => self.show_workflow(&caller, &asked),
            "workflow_list" => self.list_workflows(&caller),
            "workflow_rm" => self.remove_workflow(&caller, &asked).await,
            "workflow_inputs" => self.inputs_of(&caller, &asked),
            "run" => self.start_run(&caller, &asked).await,
            "rerun" => self.run_again(&caller, &asked).await,
            "cancel" => self.cancel_run(&caller, &asked).await,
            "runs" => self.runs_of(&caller, &asked),
            "run_detail" => self.tell_run(&caller, &asked).await,
            "log" => done("", json!(shapes::flow(&*self.one_run(&caller, &asked)?))),
            "step_log" => self.step_log(&caller, &asked).await,
            other => Err(Status::bad_request(format!("unknown action: {other}"))),
        }
    }

    async fn add_workflow(&self, caller: &Caller, asked: &Asked) -> Answer {
        let object = declared(asked)?;
        let apply = Operation { force: true, ..Operation::new(OperationVerb::Apply, object) };
        self.admission.transact(caller, Transaction::new("appmesh", vec![apply])).await?;
        done("workflow registered", Value::Null)
    }

    fn one_workflow(&self, caller: &Caller, name: &str) -> Result<std::sync::Arc<Object<Workflow>>, Status> {
        let key = Key::of::<Workflow>(NAMESPACE, &stored(name));
        let object = self.admission.get(caller, Workflow::INFO.stored_form(), &key)?;
        object.typed::<Workflow>().ok_or_else(|| Status::internal("the workflow cannot be read"))
    }

    fn show_workflow(&self, caller: &Caller, asked: &Asked) -> Answer {
        let found = self.one_workflow(caller, &asked.workflow)?;
        let mut body = json!({"name": found.metadata.name});
        if let (Value::Object(body), Value::Object(spec)) = (&mut body, json!(found.spec)) {
            body.extend(spec);
        }
        let text = serde_saphyr::to_string(&body).map_err(|error| Status::internal(error.to_string()))?;
        done("", json!(text))
    }

    fn list_workflows(&self, caller: &Caller) -> Answer {
        let query = Query { namespace: Some(NAMESPACE.to_owned()), ..Query::default() };
        let all = self.admission.list(caller, Workflow::INFO.stored_form(), &query)?.items;
        let all = all.iter().filter_map(|object| Some(shapes::listed(&*object.typed::<Workflow>()?)));
        done("", all.collect())
    }

    async fn remove_workflow(&self, caller: &Caller, asked: &Asked) -> Answer {
        let delete = Operation::new(OperationVerb::Delete, workflow(&asked.workflow, None));
        self.admission.transact(caller, Transaction::new("appmesh", vec![delete])).await?;
        done("workflow removed", Value::Null)
    }

    fn inputs_of(&self, caller: &Caller, asked: &Asked) -> Answer {
        let found = self.one_workflow(caller, &asked.workflow)?;
        let told = inputs::asked(&found.spec.on, EventName::Manual);
        done("", told.map_or_else(|| json!({}), shapes::inputs))
    }

    async fn start_run(&self, caller: &Caller, asked: &Asked) -> Answer {
        let name = stored(&asked.workflow);
        let spec = json!({"workflow": name, "inputs": asked.inputs.clone().unwrap_or_default()});
        self.make_run(caller, &name, spec).await
    }

    async fn run_again(&self, caller: &Caller, asked: &Asked) -> Answer {
        let earlier = self.one_run(caller, asked)?;
        self.make_run(caller, &earlier.spec.workflow, json!({"rerun": {"of": earlier.metadata.name}})).await
    }

    async fn make_run(&self, caller: &Caller, workflow: &str, spec: Value) -> Answer {
        let object = json!({
            "apiVersion": API_VERSION, "kind": WorkflowRun::INFO.kind, "metadata": {"generateName": format!("{workflow}-")},
            "spec": spec,
        });
        let (served, options) = (WorkflowRun::INFO.stored_form(), WriteOptions::default());
        let made = self.admission.create(caller, served, NAMESPACE, object, &options).await?;
        done("pending", json!({"run_id": &*made.object.key.name}))
    }

    fn one_run(&self, caller: &Caller, asked: &Asked) -> Result<std::sync::Arc<Object<WorkflowRun>>, Status> {
        let key = Key::of::<WorkflowRun>(NAMESPACE, &asked.run_id);
        let object = self.admission.get(caller, WorkflowRun::INFO.stored_form(), &key)?;
        let run = object.typed::<WorkflowRun>().ok_or_else(|| Status::internal("the run cannot be read"))?;
        match asked.workflow.is_empty() || run.spec.workflow == stored(&asked.workflow) {
            true => Ok(run),
            false => Err(Status::not_found(&key)),
        }
    }

    async fn cancel_run(&self, caller: &Caller, asked: &Asked) -> Answer {
        let run = self.one_run(caller, asked)?;
        if run.status.is_over() {
            return Err(Status::bad_request(format!("run {} is not active", asked.run_id)));
        }
        let (served, name) = (WorkflowRun::INFO.stored_form(), &*asked.run_id);
        let target = Target { served, namespace: NAMESPACE, name, subresource: None };
        let patch = Patch::Merge(json!({"spec": {"cancel": CancelMode::Stop}}));
        self.admission.patch(caller, &target, patch, &WriteOptions::default()).await?;
        done("cancelled", Value::Null)
    }

    fn runs_of(&self, caller: &Caller, asked: &Asked) -> Answer {
        let name = stored(&asked.workflow);
        // Runs of an earlier one with the same name may still be there for a moment.
        let of = if name.is_empty() { None } else { Some(self.one_workflow(caller, &asked.workflow)?) };
        let since = of.and_then(|workflow| workflow.metadata.creation_timestamp);
        let label_selector = if name.is_empty() { String::new() } else { format!("{WORKFLOW_LABEL}={name}") };
        let query = Query { namespace: Some(NAMESPACE.to_owned()), label_selector, ..Query::default() };
        let all = self.admission.list(caller, WorkflowRun::INFO.stored_form(), &query)?.items;
        let mut all: Vec<_> = all.iter().filter_map(|object| object.typed::<WorkflowRun>()).collect();
        all.retain(|run| run.metadata.creation_timestamp >= since);
        all.sort_by_key(|run| std::cmp::Reverse((run.metadata.creation_timestamp, run.metadata.name.clone())));
        let now = self.clock.now();
        done("", all.iter().map(|run| shapes::run(run, now)).collect())
    }

    async fn tell_run(&self, caller: &Caller, asked: &Asked) -> Answer {
        let run = self.one_run(caller, asked)?;
        let mut printed = BTreeMap::new();
        for (job, cell) in &run.status.jobs {
            for step in cell.steps.iter().filter(|step| !step.run.is_empty()) {
                if printed.len() < MOST_STEPS
                    && let Ok(text) = self.printed(caller, &step.run).await
                {
                    printed.insert((job.clone(), step.id.clone()), text);
                }
            }
        }
        done("", shapes::detail(&run, &printed, self.clock.now()))
    }

    async fn step_log(&self, caller: &Caller, asked: &Asked) -> Answer {
        let run = self.one_run(caller, asked)?;
        let absent = |what: String| Status::bad_request(format!("run {} has no {what}", asked.run_id));
        let cell = run.status.jobs.get(&asked.job).ok_or_else(|| absent(format!("job '{}'", asked.job)))?;
        let step = cell.steps.iter().find(|step| step.id == asked.step);
        let step = step.ok_or_else(|| absent(format!("step '{}/{}'", asked.job, asked.step)))?;
        let text = match (step.run.as_str(), step.outputs.get("response")) {
            ("", Some(response)) => response.clone(),
            ("", None) => step.message.clone(),
            (run, _) => self.printed(caller, run).await?,
        };
        done("", json!(text))
    }

    /// What the Run of a step wrote.
    async fn printed(&self, caller: &Caller, run: &str) -> Result<String, Status> {
        let key = Key::of::<Run>(NAMESPACE, run);
        let object = self.admission.get_part(caller, Run::INFO.stored_form(), Subresource::Log.word(), &key)?;
        let run = object.typed::<Run>().ok_or_else(|| Status::internal("the run cannot be read"))?;
        let instance = self.admission.store().get(&Key::of::<Instance>(NAMESPACE, &run.status.instance));
        let Some(instance) = instance.and_then(|object| object.typed::<Instance>()) else { return Ok(String::new()) };
        let wanted = Wanted { start: Start::Ago(0), from: Some(0), most: MOST, ended: run.status.is_over() };
        let written = (self.output)(instance, wanted).await?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&written.bytes).into_owned())
    }
}

/// The Workflow of a file of App Mesh's.
fn declared(asked: &Asked) -> Result<Value, Status> {
    let read = manifest::read(&asked.content);
    let faults = read.faults.iter().map(|fault| {
        let place = fault.place;
        format!("{}:{}: {}", place.line, place.column, fault.message)
    });
    let faults: Vec<String> = faults.collect();
    let mut body = match (read.documents.as_slice(), faults.is_empty()) {
        ([document], true) => document.value(),
        (_, false) => return Err(Status::bad_request(faults.join("; "))),
        _ => return Err(Status::bad_request("the content is not one workflow")),
    };
    let said = body["name"].as_str().unwrap_or(&asked.workflow).to_owned();
    if said != asked.workflow && !asked.workflow.is_empty() {
        let message = format!("workflow name '{}' does not match YAML name '{said}'", asked.workflow);
        return Err(Status::bad_request(message));
    }
    if let Value::Object(body) = &mut body {
        BESIDE.iter().for_each(|word| drop(body.shift_remove(*word)));
    }
    Ok(workflow(&said, Some(body)))
}

/// App Mesh's names may have capitals and underscores.
fn stored(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    name.trim_matches('-').to_owned()
}

fn workflow(name: &str, spec: Option<Value>) -> Value {
    let mut object = json!({
        "apiVersion": API_VERSION, "kind": Workflow::INFO.kind, "metadata": {"namespace": NAMESPACE, "name": stored(name)},
    });
    if let Some(spec) = spec {
        object["spec"] = spec;
    }
    object
}
