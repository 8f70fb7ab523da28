//! App Mesh's run API: a Run, waited for or not. What is run is said in full, or is an App with other variables and another standard input.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Call, NAMESPACE, Reply, Sdk,
    apps::{MANAGER, owner, secret_of},
    caller,
    definition::{self, Definition, Of},
    find::{Found, MADE_HERE},
    names,
    output::{Start, Wanted},
};
use crate::{
    admission::Caller,
    api::{Kind, Operation, OperationVerb, Reason, Run, Status, Transaction},
    auth::Identity,
    clock,
};

/// How long it may run if nothing is said, how long it is kept, and both at most: in seconds.
const RUNS: u64 = 2 * 86_400;
const KEPT: u64 = RUNS + RUNS / 4;
const LONGEST: u64 = 3 * 86_400;
/// How much longer than it may run its end is waited for.
const SPARE: Duration = Duration::from_secs(60);
/// How much output comes with the end. The rest can be read of a run that is not waited for.
const MOST: usize = 16 << 20;

impl Sdk {
    /// Runs it, and waits for its end.
    pub(super) async fn run_sync(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let caller = caller(who, call);
        let times = Times::asked(call)?;
        let made = self.run(&caller, call, &times).await?;
        let name = made.name();
        let look = || match self.find(&caller, &name) {
            Ok(now) if now.object.meta().uid == made.object.meta().uid => now.is_over().then_some(Some(now)),
            _ => Some(None),
        };
        let patience = Duration::from_secs(if times.runs == 0 { LONGEST } else { times.runs }) + SPARE;
        let Some(Some(ended)) = self.until(Run::INFO, patience, look).await else {
            return Err(Status::new(Reason::Timeout, "its end was not seen"));
        };
        let wanted = Wanted { start: Start::Ago(0), from: Some(0), most: MOST, ended: true };
        let written = match ended.instance.clone() {
            Some(instance) => (self.output)(instance, wanted).await?.unwrap_or_default(),
            None => Default::default(),
        };
        // Whoever was told needs it no more. What cannot be removed goes by itself.
        let _ = self.remove(&caller, &ended).await;
        let code = ended.exit_code().unwrap_or_default();
        let reply = Reply::text(200, written.bytes).with("x-exit-code", code.to_string());
        Ok(reply.with("x-output-position", written.next.to_string()))
    }

    /// Runs it, and says by what it is known.
    pub(super) async fn run_async(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let times = Times::asked(call)?;
        let made = self.run(&caller(who, call), call, &times).await?;
        Ok(Reply::json(200, json!({"name": made.name(), "process_uuid": made.process()})))
    }

    async fn run(&self, caller: &Caller, call: &Call, times: &Times) -> Result<Found, Status> {
        let json = call.json()?;
        let said = json.get("name").and_then(Value::as_str).map(str::trim).unwrap_or_default();
        let known = match said {
            "" => None,
            said => match self.find(caller, said) {
                Ok(found) => Some(found),
                Err(status) if status.is(Reason::NotFound) => None,
                Err(status) => return Err(status),
            },
        };
        let app = known.as_ref().filter(|found| found.of == Of::App);
        if known.is_some() && app.is_none() {
            let message = format!("there is an application `{said}` already, and it is none that can be run like this");
            return Err(Status::conflict(&Of::Run.key(said), &message));
        }
        let name = match app {
            Some(app) => format!("{}-{}", clipped(&app.object.key.name), clock::name_suffix(&*self.clock)),
            None if said.is_empty() => format!("run-{}", clock::name_suffix(&*self.clock)),
            None => names::stored(said)?,
        };
        let mut object = match app {
            Some(app) => of_app(&name, &app.object.key.name, &json)?,
            None => {
                let mut definition = Definition::new(Of::Run, &name);
                definition.update(&json, true).map_err(Status::bad_request)?;
                definition.into_object()
            }
        };
        if name != said && app.is_none() && !said.is_empty() {
            object["metadata"]["annotations"][names::NAMED] = json!(said);
        }
        object["metadata"]["labels"] = json!({MADE_HERE: "true"});
        times.write(&mut object["spec"]);
        let secrets = definition::secrets(&json).map_err(Status::bad_request)?;
        if app.is_some() && secrets.is_some() {
            return Err(Status::bad_request("a run of an application has its secrets: `sec_env` cannot be changed"));
        }
        let secret = secrets.map(|values| secret_of(&name, &values, &mut object["spec"]));
        let applied = |secret: Value| Operation { force: true, ..Operation::new(OperationVerb::Apply, secret) };
        let mut operations: Vec<Operation> = secret.clone().map(applied).into_iter().collect();
        operations.push(Operation::new(OperationVerb::Create, object));
        let done = self.admission.transact(caller, Transaction::new(MANAGER, operations)).await?;
        let made = done.last().map(|done| done.object.clone()).ok_or_else(|| Status::internal("nothing was made"))?;
        if let Some(mut secret) = secret {
            secret["metadata"]["ownerReferences"] = json!([owner(Of::Run, &name, made.meta().uid())]);
            self.admission.transact(caller, Transaction::new(MANAGER, vec![applied(secret)])).await?;
        }
        let run = made.typed::<Run>();
        Ok(Found { of: Of::Run, object: made, run, instance: None, starts: 0 })
    }
}

/// What is made of an App's name has room for what is made of it.
fn clipped(name: &str) -> &str {
    name[..name.len().min(48)].trim_end_matches('-')
}

/// A Run of an App. Only variables and the standard input can be others.
fn of_app(name: &str, app: &str, json: &Map<String, Value>) -> Result<Value, Status> {
    if json.get("command").and_then(Value::as_str).is_some_and(|command| !command.trim().is_empty()) {
        let message =
            "a run of an application that is there has its command: only metadata, env and sec_env can be given";
        return Err(Status::bad_request(message));
    }
    let mut spec = json!({"app": app});
    if let Some(env) = json.get("env").and_then(Value::as_object) {
        let vars =
            env.iter().map(|(name, value)| json!({"name": name, "value": value.as_str().map(definition::escaped)}));
        spec["env"] = vars.collect();
    }
    match json.get("metadata") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => spec["stdin"] = json!(text),
        Some(value) => spec["stdin"] = json!(value.to_string()),
    }
    let info = Run::INFO;
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    Ok(json!({"apiVersion": info.api_version(), "kind": info.kind, "metadata": metadata, "spec": spec}))
}

/// How long it may run, and how long it is kept, in seconds.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    runs: u64,
    kept: u64,
}

impl Times {
    fn asked(call: &Call) -> Result<Self, Status> {
        let time = |name: &str, default: u64| match call.query(name) {
            "" => Ok(default),
            text => definition::seconds(text).map_err(|why| Status::bad_request(format!("`{name}`: {why}"))),
        };
        let (runs, kept) = (time("timeout", RUNS)?, time("lifecycle", KEPT)?);
        if runs == 0 && kept == 0 {
            return Err(Status::bad_request("`timeout` and `lifecycle` cannot both be 0"));
        }
        if runs > LONGEST || kept > LONGEST {
            return Err(Status::bad_request(format!("`timeout` and `lifecycle` are at most {LONGEST} seconds")));
        }
        Ok(Self { runs, kept: kept.max(runs) })
    }

    fn write(&self, spec: &mut Value) {
        if self.runs > 0 {
            spec["activeDeadlineSeconds"] = json!(self.runs);
        }
        spec["ttlSecondsAfterFinished"] = json!(self.kept.saturating_sub(self.runs).max(60));
        if spec["terminationGracePeriodSeconds"].is_null() {
            // As in App Mesh, its time is over when it is over.
            spec["terminationGracePeriodSeconds"] = json!(0);
        }
    }
}
