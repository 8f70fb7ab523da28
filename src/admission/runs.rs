//! Runs: what one of an App runs is settled when it is made, and judged as if its maker changed the App so.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    metadata,
    operation::{Context, Refusal},
    plan::Plan,
};
use crate::{
    api::{
        App, AppSpec, FieldPath, GROUP, Key, Kind, Problem, Reason, Run, RunSpec, RunTemplate, Status, Violation,
        WorkflowRun, at,
    },
    auth::{Attributes, Identity, OWNER_NAME, Proof},
};

impl Context<'_> {
    /// As whom a Run or an App is judged: its maker, or, where a part of appm makes it for a User, that one.
    pub(super) fn maker(&self, key: &Key, object: &Value) -> Cow<'_, Identity> {
        let who = &self.caller.who;
        let made_for = [Run::INFO, WorkflowRun::INFO, App::INFO].contains(&key.kind) && who.proof == Proof::Part;
        let user = made_for.then(|| metadata::owner_of(object, self.caller, self.store));
        let user = user.and_then(|name| self.authority.user(&name, Proof::Part));
        user.map_or(Cow::Borrowed(who), Cow::Owned)
    }

    /// What a part of appm makes for a User is refused if that User is gone or locked: it would act as nobody, or as the part.
    pub(super) fn somebody(&self, key: &Key, object: &Value) -> Result<(), Refusal> {
        if self.caller.who.proof != Proof::Part {
            return Ok(());
        }
        self.known(key, &metadata::owner_of(object, self.caller, self.store))
    }

    /// The same of a User by name.
    pub(super) fn known(&self, key: &Key, owner: &str) -> Result<(), Refusal> {
        let known = owner == OWNER_NAME || owner.starts_with("system:appm:");
        match known || self.authority.user(owner, Proof::Part).is_some() {
            true => Ok(()),
            false => {
                let why = format!("there is no user `{owner}` any more for whom it would be done, or it is locked");
                Err(Status::forbidden(key, &why).into())
            }
        }
    }

    /// Puts what an App runs into a new Run of it; in one that is there it stays.
    ///
    /// # Errors
    /// Who may not change the App may not run it either, and may not use it with powers over the host that they lack.
    pub(super) fn settle_run(
        &self,
        key: &Key,
        live: Option<&Value>,
        new: &mut Value,
        plan: &mut Plan<'_>,
    ) -> Result<(), Refusal> {
        if key.kind == App::INFO && live.is_none() {
            return self.somebody(key, new);
        }
        if key.kind != Run::INFO {
            return Ok(());
        }
        if let Some(live) = live {
            if let (Some(template), Some(Value::Object(spec))) = (live["spec"].get("template"), new.get_mut("spec")) {
                spec.insert("template".to_owned(), template.clone());
            }
            return Ok(());
        }
        self.somebody(key, new)?;
        let who = self.maker(key, new).into_owned();
        let Some(Value::Object(spec)) = new.get_mut("spec") else { return Ok(()) };
        spec.shift_remove("template");
        if spec.contains_key("step") && self.caller.who.proof != Proof::Part {
            let violation = Violation::new(FieldPath::of("spec.step"), Problem::Forbidden, "only a workflow has steps");
            return Err(Refusal::Invalid(key.kind, key.name.to_string(), vec![violation]));
        }
        let Some(name) = spec.get("app").and_then(Value::as_str).map(str::to_owned) else { return Ok(()) };
        // What cannot be read is refused by the schema.
        let Ok(run) = RunSpec::deserialize(&Value::Object(spec.clone())) else { return Ok(()) };
        let app_key = Key::of::<App>(&key.namespace, &name);
        let what = Attributes {
            verb: "update",
            group: GROUP,
            resource: App::INFO.plural,
            namespace: &key.namespace,
            name: &name,
            ..Attributes::default()
        };
        self.authority.may(&who, &what)?;
        let wrong = |at: &str, problem, why: String| {
            let violation = Violation::new(FieldPath::of("spec").field(at), problem, why);
            Err(Refusal::Invalid(key.kind, key.name.to_string(), vec![violation]))
        };
        let absent = || wrong("app", Problem::Invalid, format!("there is no app `{name}`"));
        let Some(app) = plan.live(&app_key).cloned() else { return absent() };
        match self.authority.on(&who, &what, &app_key, &app) {
            Err(status) if status.is(Reason::NotFound) => return absent(),
            judged => judged?,
        }
        let Ok(app_spec) = AppSpec::deserialize(&app["spec"]) else {
            return wrong("app", Problem::Invalid, format!("the app `{name}` cannot be read by this appm"));
        };
        let revision = at(&app, &["status", "updateRevision"]).as_str().unwrap_or_default();
        let base = RunTemplate::of_app(&app_spec, revision);
        let template = base.clone().overridden(&run);
        if let Some(why) = template.unfit(&run) {
            return wrong(why.0, Problem::Forbidden, why.1.to_owned());
        }
        let as_spec = |template: &RunTemplate| json!({"spec": template});
        let lacking = self.powers(&who, &key.namespace, Some(&as_spec(&base)), &as_spec(&template));
        if let Some(status) = self.lacking(key, &lacking) {
            return Err(status.into());
        }
        spec.insert("template".to_owned(), json!(template));
        Ok(())
    }
}
