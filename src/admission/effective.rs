//! What a caller may not bring about, whatever verb, patch or transaction it is done by: judged on the object as it would be.
//!
//! - Nobody gives what they do not have: a Role's rules, and what a User has through roles and groups, must be its writer's
//!   own. What a User could do already counts too: whoever sets a password can log in.
//! - Host powers (to run as a certain user of the operating system, privileged containers, …) are one list. Each is the verb
//!   `use` on the resource `hostpowers` of that name.
//! - What built-in roles allow is the binary's own; who has them is not.

use std::sync::Arc;

use serde_json::Value;

use super::{
    foresee::Lack,
    operation::{Context, Refusal},
};
use crate::{
    api::{
        App, BUILT_IN_ROLES, Cause, FieldPath, GROUP, Instance, Key, Kind, Problem, Role, RoleSpec, Run, Schedule,
        Source, Status, User, UserSpec, Violation, Workflow, WorkflowRun, at,
    },
    auth::{Attributes, Identity, May, Proof},
    policy::{
        access::Subject,
        powers::{self, Power},
    },
};

/// Fields that say how many and whether, not what: to change them needs no host power.
const COUNTS: &[&str] = &["replicas", "suspend", "paused"];

impl Context<'_> {
    /// Puts in what the owner's User says where the object says nothing: the OS user of processes.
    pub(super) fn complete(&self, key: &Key, new: &mut Value) {
        if key.kind != App::INFO && key.kind != Run::INFO {
            return;
        }
        let maker = self.maker(key, new);
        if maker.is_master() {
            return;
        }
        let Some(exec_user) = self.authority.exec_user(&maker.name) else { return };
        let Some(Value::Object(process)) = new.get_mut("spec").and_then(|spec| spec.get_mut("process")) else { return };
        if !process.contains_key("user") && !process.contains_key("adopt") {
            process.insert("user".to_owned(), exec_user.into());
        }
    }

    /// Whether the caller may leave an object so.
    ///
    /// # Errors
    /// `Forbidden`, with a cause for everything that is too much.
    pub(super) fn permit(&self, key: &Key, live: Option<&Value>, new: &Value) -> Result<(), Refusal> {
        // What a Run does was judged when it was made, and stays.
        if live.is_some() && (key.kind == Run::INFO || key.kind == WorkflowRun::INFO) {
            return Ok(());
        }
        let who = &*self.maker(key, new);
        // What it allows stays as it is; who has it may be said.
        if live.is_none_or(|live| live["spec"]["rules"] != new["spec"]["rules"]) {
            self.not_built_in(key, "changed")?;
        }
        if who.is_master() {
            return Ok(());
        }
        let found = match key.kind {
            kind if kind == Role::INFO => self.given_by_role(key, live, new),
            kind if kind == User::INFO => self.given_to_user(key, live, new),
            kind if kind == App::INFO || kind == Instance::INFO => self.powers(who, &key.namespace, live, new),
            // One of an App was judged when the App's template was put in.
            kind if kind == Run::INFO && live.is_none() && new["spec"]["app"].is_null() => {
                self.powers(who, &key.namespace, None, new)
            }
            kind if kind == Workflow::INFO => self.acts_as(live, new),
            kind if kind == Schedule::INFO => self.schedules_as(live, new),
            kind if kind == Source::INFO => {
                let mut found = self.powers(who, &key.namespace, live, new);
                found.extend(self.syncs_as(live, new));
                found.extend(self.approves(key, live, new));
                found
            }
            _ => Vec::new(),
        };
        self.lacking(key, &found).map_or(Ok(()), |status| Err(status.into()))
    }

    /// The refusal that says what somebody may not use; `None` if they lack nothing.
    pub(super) fn lacking(&self, key: &Key, found: &[Violation]) -> Option<Status> {
        if found.is_empty() {
            return None;
        }
        let words: Vec<String> = found.iter().map(ToString::to_string).collect();
        let mut status = Status::forbidden(key, &words.join("; "));
        status.details.causes.extend(found.iter().map(Cause::from));
        Some(status)
    }

    /// Whether the caller may delete an object that they may otherwise delete.
    ///
    /// # Errors
    /// `Forbidden` for what is built in.
    pub(super) fn permit_deletion(&self, key: &Key) -> Result<(), Status> {
        self.not_built_in(key, "deleted")
    }

    /// What is built in is the binary's own.
    fn not_built_in(&self, key: &Key, done: &str) -> Result<(), Status> {
        match key.kind == Role::INFO && BUILT_IN_ROLES.contains(&&*key.name) && self.caller.who.proof != Proof::Part {
            true => Err(Status::forbidden(key, &format!("it is built in, and cannot be {done}"))),
            false => Ok(()),
        }
    }

    fn subject(&self) -> Arc<Subject> {
        self.authority.subject(&self.caller.who)
    }

    fn may_escalate(&self, verb: &str, name: &str) -> bool {
        let what = Attributes { verb, group: GROUP, resource: "roles", name, ..Attributes::default() };
        matches!(self.authority.may(&self.caller.who, &what), Ok(May::Always))
    }

    fn given_by_role(&self, key: &Key, live: Option<&Value>, new: &Value) -> Vec<Violation> {
        let same = |field: &str| live.is_some_and(|live| live["spec"][field] == new["spec"][field]);
        let gives = !same("subjects") && !self.may_escalate("bind", &key.name);
        if (same("rules") && !gives) || self.may_escalate("escalate", &key.name) {
            return Vec::new();
        }
        let spec: RoleSpec = serde_json::from_value(new["spec"].clone()).unwrap_or_default();
        let (subject, at) = (self.subject(), FieldPath::of("spec.rules"));
        let too_much = spec.rules.iter().enumerate().filter_map(|(i, rule)| {
            let lacking = subject.lacks(std::slice::from_ref(rule), &[])?;
            Some(Violation::new(
                at.index(i),
                Problem::Forbidden,
                format!("you may not give what you do not have: {lacking}"),
            ))
        });
        too_much.collect()
    }

    fn given_to_user(&self, key: &Key, live: Option<&Value>, new: &Value) -> Vec<Violation> {
        if live.is_some_and(|live| live["spec"] == new["spec"]) && at(new, &["spec", "password", "plain"]).is_null() {
            return Vec::new();
        }
        let (book, subject) = (self.authority.book(), self.subject());
        let mut found = Vec::new();
        let read = |object: &Value| serde_json::from_value::<UserSpec>(object["spec"].clone()).unwrap_or_default();
        let after = read(new);
        for (i, binding) in after.roles.iter().enumerate() {
            let path = FieldPath::of("spec.roles").index(i).field("name");
            let Some(rules) = book.role(&binding.name) else {
                let message = format!("there is no role `{}` yet: who knows what it will allow?", binding.name);
                found.push(Violation::new(path, Problem::Forbidden, message));
                continue;
            };
            if let Some(lacking) = subject.lacks(rules, &binding.namespaces)
                && !self.may_escalate("bind", &binding.name)
            {
                let message = format!("you may not give what you do not have: {lacking}");
                found.push(Violation::new(path, Problem::Forbidden, message));
            }
        }
        let before = live.map(read).unwrap_or_default();
        let by_groups = book.given(&key.name, &after.groups, &[]);
        let already = book.given(&key.name, &before.groups, &before.roles);
        if let Some(lacking) = subject.lacks_of(&by_groups) {
            let message = format!("the groups may do what you may not: {lacking}");
            found.push(Violation::new(FieldPath::of("spec.groups"), Problem::Forbidden, message));
        }
        if let Some(lacking) = subject.lacks_of(&already) {
            let message = format!("the user may do what you may not: {lacking}");
            found.push(Violation::new(FieldPath::of("spec"), Problem::Forbidden, message));
        }
        if let Some(user) = after.exec_user.filter(|user| before.exec_user.as_ref() != Some(user)) {
            let power = Power { at: FieldPath::of("spec.execUser"), name: format!("user:{user}") };
            found.extend(self.without(&self.caller.who, &power, ""));
        }
        found
    }

    /// The host powers that `who` lacks for an object that becomes so.
    pub(super) fn powers(&self, who: &Identity, namespace: &str, live: Option<&Value>, new: &Value) -> Vec<Violation> {
        let template = |object: &Value| {
            let mut spec = object["spec"].clone();
            if let Value::Object(spec) = &mut spec {
                spec.retain(|name, _| !COUNTS.contains(&name.as_str()));
            }
            spec
        };
        if live.is_some_and(|live| template(live) == template(new)) {
            return Vec::new();
        }
        let own = self.authority.exec_user(&who.name).map(|user| format!("user:{user}"));
        let needed = powers::needed(&new["spec"], self.authority.host());
        needed
            .iter()
            .filter(|p| own.as_ref() != Some(&p.name))
            .filter_map(|p| self.without(who, p, namespace))
            .collect()
    }

    /// That somebody does not have a host power.
    fn without(&self, who: &Identity, power: &Power, namespace: &str) -> Option<Violation> {
        let (verb, resource, name) = ("use", powers::RESOURCE, power.name.as_str());
        let what = Attributes { verb, group: GROUP, resource, namespace, name, ..Attributes::default() };
        match self.authority.may(who, &what) {
            Ok(May::Always) => None,
            _ => {
                let message = format!("needs the host power `{name}`, which you may not use");
                self.lacks.borrow_mut().push(Lack::of(&what, &message));
                Some(Violation::new(power.at.clone(), Problem::Forbidden, message))
            }
        }
    }
}
