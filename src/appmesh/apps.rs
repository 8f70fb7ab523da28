//! Applications: looked at, put, turned on and off, removed. Each is an App or a Schedule like any other.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Call, NAMESPACE, Reply, Sdk, caller,
    definition::{self, Definition, Of},
    dependencies,
    find::Found,
    names,
};
use crate::{
    admission::{Caller, DeleteOptions, Patch, Target, WriteOptions},
    api::{
        App, AppStatus, Instance, Kind, Object, Operation, OperationVerb, Preconditions, RESTARTED_AT, Reason, Secret,
        Status, Transaction, at,
    },
    auth::Identity,
};

/// How often a write is made anew because somebody else was faster.
const ATTEMPTS: usize = 10;
/// How long an answer waits for what it says to be so: App Mesh's own has started the process when it answers.
const SETTLING: Duration = Duration::from_secs(3);
/// What App Mesh's CLI and console take it for.
pub(super) const MANAGER: &str = "appmesh";

impl Sdk {
    pub(super) fn list_apps(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        self.applications(who, call).map(|all| Reply::json(200, Value::Array(all)))
    }

    /// All applications that somebody sees, as they are shown.
    ///
    /// # Errors
    /// See [`Reply::refusal`].
    pub fn applications(&self, who: &Identity, call: &Call) -> Result<Vec<Value>, Status> {
        let found = self.all(&caller(who, call))?;
        Ok(found.iter().map(|found| self.shown(found)).collect())
    }

    pub(super) fn get_app(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let found = self.find(&caller(who, call), name)?;
        Ok(Reply::json(200, self.shown(&found)))
    }

    /// `0` is good.
    pub(super) fn health(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let found = self.find(&caller(who, call), name)?;
        Ok(Reply::text(200, found.health().to_string()))
    }

    /// Makes an application, or makes it another one.
    pub(super) async fn put_app(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let mut json = call.json()?;
        dependencies::stored(&mut json);
        let said = json.get("name").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
        let said = said.unwrap_or(name);
        let caller = caller(who, call);
        let secrets = definition::secrets(&json).map_err(Status::bad_request)?;
        // Before there is a process: its start is told as well.
        let subscription = self.subscribe_to_put(said, &caller, call)?;
        let put = self.put(&caller, said, &json, secrets.as_ref()).await;
        match subscription {
            None => put,
            Some(subscription) => put.inspect_err(|_| call.unsubscribe(&subscription)).map(|mut shown| {
                shown["subscription_id"] = json!(subscription);
                shown
            }),
        }
        .map(|shown| Reply::json(200, shown))
    }

    async fn put(
        &self,
        caller: &Caller,
        said: &str,
        json: &Map<String, Value>,
        secrets: Option<&Map<String, Value>>,
    ) -> Result<Value, Status> {
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            match self.put_once(caller, said, json, secrets).await {
                Ok(()) => {
                    self.settled(&names::stored(said)?).await;
                    return Ok(self.shown(&self.find(caller, said)?));
                }
                Err(status) if is_race(&status) => refused = Some(status),
                Err(status) => return Err(status),
            }
        }
        Err(refused.unwrap_or_else(|| Status::busy("the application changes too fast; try again later")))
    }

    async fn put_once(
        &self,
        caller: &Caller,
        said: &str,
        json: &Map<String, Value>,
        secrets: Option<&Map<String, Value>>,
    ) -> Result<(), Status> {
        let name = names::stored(said)?;
        let live = match self.find(caller, said) {
            Ok(found) if found.of == Of::Run => {
                let message = format!("`{said}` is a run that is still kept: delete it first");
                return Err(Status::conflict(&Of::Run.key(&name), &message));
            }
            Ok(found) => Some(found),
            Err(status) if status.is(Reason::NotFound) => None,
            Err(status) => return Err(status),
        };
        let of = Of::said(json);
        let same = live.as_ref().filter(|live| live.of == of);
        let mut definition = match same {
            Some(live) => Definition::of(of, live.value()),
            None => Definition::new(of, &name),
        };
        definition.update(json, same.is_none()).map_err(Status::bad_request)?;
        let mut object = definition.into_object();
        if name != said {
            object["metadata"]["annotations"][names::NAMED] = json!(said);
        }
        let now = self.clock.now();
        if of == Of::Schedule && object["spec"]["every"]["anchor"].is_null() && object["spec"]["every"].is_object() {
            // As in App Mesh: from now on.
            let next = jiff::Timestamp::from_second(now.as_second() + 1).unwrap_or(now);
            object["spec"]["every"]["anchor"] = json!(next.to_string());
        }
        let run = if of == Of::Schedule { &mut object["spec"]["run"] } else { &mut object["spec"] };
        let secret = secrets.map(|values| secret_of(&name, values, run));
        if secret.is_some() && same.is_some() && of == Of::App {
            // A process sees other values after its next start only.
            object["metadata"]["annotations"][RESTARTED_AT] = json!(now.to_string());
        }
        let mut operations = Vec::new();
        if let Some(other) = live.as_ref().filter(|live| live.of != of) {
            operations.push(exactly(OperationVerb::Delete, other, other.value()));
        }
        if let Some(secret) = &secret {
            operations.push(Operation { force: true, ..Operation::new(OperationVerb::Apply, secret.clone()) });
        }
        operations.push(match same {
            Some(live) => exactly(OperationVerb::Update, live, object),
            None => Operation::new(OperationVerb::Create, object),
        });
        let done = self.admission.transact(caller, Transaction::new(MANAGER, operations)).await?;
        if let (Some(mut secret), Some(done)) = (secret, done.last()) {
            // It goes when its application does.
            secret["metadata"]["ownerReferences"] =
                json!([owner(of, &done.object.meta().name, done.object.meta().uid())]);
            let own = Operation { force: true, ..Operation::new(OperationVerb::Apply, secret) };
            self.admission.transact(caller, Transaction::new(MANAGER, vec![own])).await?;
        }
        Ok(())
    }

    /// Waits, for a moment, until what was wanted of an App is so: its process runs, has ended or cannot be started.
    async fn settled(&self, name: &str) {
        let is_so = || {
            let app = self.admission.store().get(&Of::App.key(name)).and_then(|app| app.typed::<App>());
            app.is_none_or(|app| self.is_settled(&app)).then_some(())
        };
        self.until(Instance::INFO, SETTLING, is_so).await;
    }

    fn is_settled(&self, app: &Object<App>) -> bool {
        let AppStatus { observed_generation, update_revision, .. } = &app.status;
        let instances = self.admission.store().list(Instance::INFO, Some(NAMESPACE)).items;
        let own = instances
            .iter()
            .filter(|instance| instance.meta().labels.get(crate::api::APP_LABEL) == Some(app.metadata.name.as_str()));
        let mut own = own.filter_map(|instance| instance.typed::<Instance>());
        if app.spec.suspend || app.spec.replicas == 0 {
            return own.all(|instance| instance.status.state.pid().is_none());
        }
        *observed_generation == app.metadata.generation
            && own.any(|instance| {
                let state = &instance.status.state;
                let waits = state.waiting.as_ref().is_some_and(|waiting| waiting.reason != "Starting");
                let turned_on = !instance.spec.suspend;
                instance.spec.revision == *update_revision
                    && turned_on
                    && (state.running.is_some() || state.exited.is_some() || waits)
            })
    }

    pub(super) async fn enable(&self, name: &str, on: bool, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let caller = caller(who, call);
        let found = self.find(&caller, name)?;
        let word = if on { "Enable" } else { "Disable" };
        if found.of == Of::Run {
            return Err(Status::bad_request("a run is over when it has ended, and cannot be turned on and off"));
        }
        let mut change = json!({"spec": {"suspend": !on}});
        if on && found.value()["spec"]["replicas"] == 0 {
            change["spec"]["replicas"] = json!(1);
        }
        let name_here = &found.object.key.name;
        let served = found.of.info().stored_form();
        let target = Target { served, namespace: NAMESPACE, name: name_here, subresource: None };
        self.admission.patch(&caller, &target, Patch::Merge(change), &WriteOptions::default()).await?;
        self.settled(name_here).await;
        Ok(Reply::message(200, &format!("{word} <{name}> success.")))
    }

    pub(super) async fn delete_app(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let caller = caller(who, call);
        let found = self.find(&caller, name)?;
        self.remove(&caller, &found).await?;
        Ok(Reply::message(200, &format!("Application <{name}> removed.")))
    }

    pub(super) async fn remove(&self, caller: &Caller, found: &Found) -> Result<(), Status> {
        let (served, name) = (found.of.info().stored_form(), &found.object.key.name);
        let target = Target { served, namespace: NAMESPACE, name, subresource: None };
        let uid = found.object.meta().uid.clone();
        let delete = DeleteOptions {
            preconditions: Preconditions { uid, ..Preconditions::default() },
            ..DeleteOptions::default()
        };
        self.admission.delete(caller, &target, &delete, &WriteOptions::default()).await.map(drop)
    }
}

/// An operation on the object as it was found.
fn exactly(verb: OperationVerb, found: &Found, object: Value) -> Operation {
    let meta = found.object.meta();
    let preconditions =
        Preconditions { uid: meta.uid.clone(), resource_version: Some(found.object.revision.to_string()) };
    Operation { preconditions, ..Operation::new(verb, object) }
}

fn is_race(status: &Status) -> bool {
    status.is(Reason::Conflict) || status.is(Reason::AlreadyExists)
}

/// The Secret of an application's `sec_env`; what is run gets it as variables.
pub(super) fn secret_of(name: &str, values: &Map<String, Value>, run: &mut Value) -> Value {
    let secret = format!("{}-sec-env", name.chars().take(54).collect::<String>().trim_end_matches('-'));
    let known = at(run, &["envFrom"]).as_array().into_iter().flatten().any(|from| from["secretRef"]["name"] == *secret);
    if !known {
        let mut all = at(run, &["envFrom"]).as_array().cloned().unwrap_or_default();
        all.push(json!({"secretRef": {"name": secret}}));
        run["envFrom"] = json!(all);
    }
    json!({
        "apiVersion": Secret::INFO.api_version(), "kind": Secret::INFO.kind,
        "metadata": {"name": secret, "namespace": NAMESPACE}, "stringData": values,
    })
}

/// A reference to what owns a Secret.
pub(super) fn owner(of: Of, name: &str, uid: &crate::api::Uid) -> Value {
    let info = of.info();
    json!({"apiVersion": info.api_version(), "kind": info.kind, "name": name, "uid": uid})
}
