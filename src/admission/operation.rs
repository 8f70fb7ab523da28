//! One step of a transaction: what a verb makes of one object.
//!
//! Pure but for the clock's uids: reads the plan's overlay, and puts the new state into it. Every path ends in
//! [`Context::insert`], [`Context::replace`] or [`Context::delete`], where the server's own fields, validation and field
//! management are; so no verb can forget them.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    Caller, DeleteOptions, FieldValidation, Patch,
    decode::{Decoded, shown},
    foresee::Lack,
    managers::{Conflict, Managers, Writer},
    metadata, namespace,
    plan::Plan,
    scale, workflows,
};
use crate::{
    api::{
        Cause, FOREGROUND_FINALIZER, FieldPath, Key, Kind, KindInfo, Namespace, ORPHAN_FINALIZER, Outcome,
        Preconditions, Problem, PropagationPolicy, Reason, Served, Status, Subresource, User, Violation, at,
    },
    auth::{
        Attributes, Authority,
        password::{Asked, Settled},
    },
    clock::{Clock, name_suffix},
    policy::{
        form::{self, Form},
        json_patch,
        merge::merge_patch,
        shape::Shape,
        strategic,
    },
    store::Store,
};

/// How much of a `generateName` is taken, as in Kubernetes: what is made of it is at most 63 characters long.
const PREFIX_MAX: usize = 58;
/// Violations of one object that are told: whoever sends a million mistakes does not read them.
const MOST_VIOLATIONS: usize = 100;
/// How often another name is tried when the one that was made is taken, as in Kubernetes.
const NAME_ATTEMPTS: usize = 8;

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) served: Served,
    /// Empty for cluster-scoped kinds.
    pub(super) namespace: String,
    /// Empty for `Create`, where the body names the object.
    pub(super) name: String,
    pub(super) subresource: Option<Subresource>,
    pub(super) preconditions: Preconditions,
    pub(super) action: Action,
    /// What is made has its status already.
    pub(super) with_status: bool,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Create(Value),
    Update {
        body: Value,
        /// True if the body must name the revision that it replaces.
        versioned: bool,
    },
    Patch(Patch),
    Delete(DeleteOptions),
    /// One of many that were selected together: a verb of its own.
    DeleteOfMany(DeleteOptions),
}

/// What a step did, once its transaction is committed.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) key: Key,
    pub(super) outcome: Outcome,
    pub(super) warnings: Vec<String>,
    /// True if the object is not there any more.
    pub(super) gone: bool,
}

/// Why a step cannot be done.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The object is not as it should be. All violations.
    Invalid(&'static KindInfo, String, Vec<Violation>),
    /// Anything else.
    Status(Status),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// Why a patch was not applied.
enum Unpatched {
    /// It makes no sense on any object.
    Senseless(String),
    /// It would make too much.
    TooLong(String),
    /// It does not fit this one.
    Unfit(String),
}

impl From<json_patch::PatchError> for Unpatched {
    fn from(error: json_patch::PatchError) -> Self {
        match error {
            json_patch::PatchError::Malformed(_) => Self::Senseless(error.to_string()),
            json_patch::PatchError::TooLong(_) => Self::TooLong(error.to_string()),
            error => Self::Unfit(error.to_string()),
        }
    }
}

impl From<strategic::StrategicError> for Unpatched {
    fn from(error: strategic::StrategicError) -> Self {
        Self::Senseless(error.to_string())
    }
}

/// What every step of a transaction shares.
pub(super) struct Context<'a> {
    pub(super) store: &'a Store,
    pub(super) authority: &'a Authority,
    pub(super) clock: &'a dyn Clock,
    pub(super) caller: &'a Caller,
    pub(super) field_validation: Option<FieldValidation>,
    /// Fields that the body's text has twice.
    pub(super) repeated: &'a [FieldPath],
    /// The passwords that are set, and what becomes of each.
    pub(super) settled: &'a HashMap<Asked, Settled>,
    /// Those of which that is not known yet: the plan is good for nothing but to find them.
    pub(super) unsettled: RefCell<Vec<Asked>>,
    /// The rights that were found missing since somebody took them.
    pub(super) lacks: RefCell<Vec<Lack>>,
    /// RFC 3339.
    pub(super) now: String,
}

impl Step {
    /// The stored kind.
    pub(super) fn kind(&self) -> &'static KindInfo {
        self.served.kind
    }

    fn key(&self) -> Key {
        Key::new(self.kind(), &self.namespace, &self.name)
    }

    fn subresource_name(&self) -> &'static str {
        self.subresource.map_or("", Subresource::word)
    }

    pub(super) fn verb(&self) -> &'static str {
        match &self.action {
            Action::Create(_) => "create",
            Action::Update { .. } => "update",
            Action::Patch(_) => "patch",
            Action::Delete(_) => "delete",
            Action::DeleteOfMany(_) => "deletecollection",
        }
    }

    /// May the caller ask for this at all? Before anything is looked up.
    pub(super) fn authorize(&self, authority: &Authority, caller: &Caller) -> Result<(), Status> {
        authority.may(&caller.who, &self.attributes(self.verb())).map(drop)
    }

    /// What allows this, for people.
    pub(super) fn rule(&self, authority: &Authority, caller: &Caller) -> String {
        authority.reason(&caller.who, &self.attributes(self.verb()))
    }

    pub(super) fn attributes<'a>(&'a self, verb: &'a str) -> Attributes<'a> {
        Attributes {
            verb,
            group: self.served.group(),
            resource: self.served.plural(),
            subresource: self.subresource_name(),
            namespace: &self.namespace,
            name: &self.name,
            path: "",
        }
    }
}

impl Context<'_> {
    /// Notes that a right is missing.
    pub(super) fn lacks(&self, what: &Attributes<'_>, why: &Status) {
        self.lacks.borrow_mut().push(Lack::of(what, &why.message));
    }

    /// Does one step in the plan.
    pub(super) fn run(&self, step: &Step, plan: &mut Plan<'_>) -> Result<Planned, Refusal> {
        if !step.served.verbs().allow(step.verb()) {
            let message = format!("{} does not allow this method: {}", step.served.qualified(), step.verb());
            return Err(Status::new(Reason::MethodNotAllowed, message).into());
        }
        if let Some(missing) = step.subresource.filter(|s| !step.served.has(*s)) {
            let message = format!("{} has no {} subresource", step.served.qualified(), missing.word());
            return Err(Status::new(Reason::NotFound, message).into());
        }
        self.act(step, plan).map_err(|refusal| match refusal {
            Refusal::Status(status) => Refusal::Status(status.in_words_of(step.served)),
            invalid @ Refusal::Invalid(..) => invalid,
        })
    }

    fn act(&self, step: &Step, plan: &mut Plan<'_>) -> Result<Planned, Refusal> {
        match &step.action {
            Action::Create(body) => self.create(step, body, plan),
            Action::Update { body, versioned } => self.update(step, body.clone(), *versioned, plan),
            Action::Patch(Patch::Json(patch)) => {
                self.check_looks(step, patch, plan)?;
                let patched = self.patched(step, plan, |target| Ok(json_patch::apply(target, patch)?))?;
                self.update(step, patched, false, plan)
            }
            Action::Patch(Patch::Merge(patch)) => {
                if !patch.is_object() {
                    return Err(Status::bad_request("a merge patch must be an object").into());
                }
                let patched = self.patched(step, plan, |target| {
                    merge_patch(target, patch);
                    Ok(())
                })?;
                self.update(step, patched, false, plan)
            }
            Action::Patch(Patch::Strategic(patch)) => {
                if !step.kind().is_kubernetes_own() {
                    let message = format!("{} has no strategic merge patch", step.kind().qualified());
                    return Err(Status::new(Reason::UnsupportedMediaType, message).into());
                }
                let shape = match step.subresource {
                    Some(Subresource::Scale) => &Shape::Free,
                    _ => &*form::of(step.served).shape,
                };
                let patched = self.patched(step, plan, |target| Ok(strategic::apply(shape, target, patch)?))?;
                self.update(step, patched, false, plan)
            }
            Action::Patch(Patch::Apply { object, force }) => self.apply(step, object, *force, plan),
            Action::Delete(options) | Action::DeleteOfMany(options) => self.delete(step, options, plan),
        }
    }

    fn create(&self, step: &Step, body: &Value, plan: &mut Plan<'_>) -> Result<Planned, Refusal> {
        if !matches!(metadata::text(body, "resourceVersion"), "" | "0") {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created").into());
        }
        let decoded = self.decode(step, body.clone(), None)?;
        let (name, prefix) = (metadata::text(&decoded.object, "name"), metadata::text(&decoded.object, "generateName"));
        let key = |name: &str| Key::new(step.kind(), &step.namespace, name);
        let key = match (name, prefix) {
            ("", "") => key(""),
            ("", prefix) => {
                let prefix: String = prefix.chars().take(PREFIX_MAX).collect();
                let mut made = (0..NAME_ATTEMPTS).map(|_| key(&format!("{prefix}{}", name_suffix(self.clock))));
                made.find(|key| plan.live(key).is_none()).ok_or_else(|| no_name_left(step, &prefix))?
            }
            (name, _) => key(name),
        };
        self.insert(step, &key, decoded, plan, "Update")
    }

    /// Puts an object into the plan that is not there yet.
    fn insert(
        &self,
        step: &Step,
        key: &Key,
        decoded: Decoded,
        plan: &mut Plan<'_>,
        operation: &str,
    ) -> Result<Planned, Refusal> {
        let kind = key.kind;
        if kind.is_namespaced() {
            namespace::admits(plan.live(&namespace::key(&key.namespace)).map(|live| &**live), key)?;
        }
        if plan.live(key).is_some() || plan.is_going(key) {
            return Err(Status::already_exists(key).into());
        }
        let form = form::stored(kind);
        let Decoded { mut object, unknown, warnings } = decoded;
        metadata::strip(&mut object);
        let adopted = metadata::adopt_within(&mut object, key, self.caller, plan);
        if kind.has(Subresource::Status) && !step.with_status {
            remove_field(&mut object, "status");
        }
        let mut managers = Managers::default();
        let api_version = kind.api_version();
        let writer = self.writer(step, &api_version);
        metadata::of(&mut object).insert("name".to_owned(), json!(&*key.name));
        if operation == "Apply" {
            let nothing = json!({});
            managers.apply(&form.shape, &nothing, &object, false, writer).expect("nobody else owns anything");
            (kind.defaults)(&mut object);
        } else {
            (kind.defaults)(&mut object);
            managers.update(&form.shape, &json!({}), &object, writer);
        }
        if kind == Namespace::INFO {
            namespace::prepare(&mut object);
        }
        let owner = adopted.unwrap_or_else(|| metadata::owner_of(&object, self.caller, self.store));
        self.complete(key, &mut object);
        self.settle_run(key, None, &mut object, plan)?;
        self.settle_workflow_run(key, None, &mut object, plan)?;
        metadata::stamp_new(&mut object, key, &owner, &self.now, self.clock);
        let mut violations = unknown;
        violations.extend(name_violation(&object));
        violations.extend(self.judge(form, kind, &object, None));
        violations.extend(step.served.view.into_iter().flat_map(|view| (view.check)(&object, None)));
        refuse(key, violations)?;
        self.permit(key, None, &object)?;
        let credential = self.take_password(key, &mut object, plan)?;
        plan.put(key, object, false);
        plan.own(key, &managers);
        if let Some(credential) = credential {
            self.put_credential(key, credential, plan);
        }
        Ok(Planned { key: key.clone(), outcome: Outcome::Created, warnings, gone: false })
    }

    /// The object that is there, if the caller may do to it what the step does.
    fn live(&self, step: &Step, key: &Key, plan: &mut Plan<'_>) -> Result<Arc<Value>, Status> {
        let live = plan.live(key).ok_or_else(|| Status::not_found(key))?.clone();
        self.authority.on(&self.caller.who, &step.attributes(step.verb()), key, &live)?;
        Ok(live)
    }

    /// The object in the form that the step speaks, with a patch done to it.
    fn patched(
        &self,
        step: &Step,
        plan: &mut Plan<'_>,
        patch: impl FnOnce(&mut Value) -> Result<(), Unpatched>,
    ) -> Result<Value, Refusal> {
        let key = step.key();
        self.live(step, &key, plan)?;
        let whole = plan.whole(&key).ok_or_else(|| Status::not_found(&key))?;
        let mut target = shown(step, &whole).into_owned();
        patch(&mut target).map_err(|error| match error {
            Unpatched::Senseless(why) => Status::bad_request(why),
            Unpatched::TooLong(why) => Status::too_large(why),
            Unpatched::Unfit(why) => {
                let violation = Violation::new(FieldPath::of("patch"), Problem::Invalid, why);
                Status::invalid(key.kind, &key.name, &[violation])
            }
        })?;
        Ok(target)
    }

    /// Replaces the part of an object that the step's subresource stands for.
    fn update(&self, step: &Step, body: Value, versioned: bool, plan: &mut Plan<'_>) -> Result<Planned, Refusal> {
        let key = step.key();
        let live = self.live(step, &key, plan)?;
        expect(&key, &live, &step.preconditions)?;
        expect_body(&key, &live, &body)?;
        let mut decoded = self.decode(step, body, Some(&live))?;
        let body = decoded.object.take();
        decoded.unknown.extend(version_violation(&body).filter(|_| versioned));
        let mut new = match step.subresource {
            Some(Subresource::Scale) => scale::lift(&live, &body),
            Some(part) => put_part(&live, body, key.kind, Some(part)),
            None => {
                decoded.unknown.extend(metadata::rewritten(&body, &live));
                put_part(&live, body, key.kind, None)
            }
        };
        metadata::keep(&mut new, &live);
        (key.kind.defaults)(&mut new);
        self.complete(&key, &mut new);
        self.settle_run(&key, Some(&live), &mut new, plan)?;
        self.settle_workflow_run(&key, Some(&live), &mut new, plan)?;
        let written = metadata::of(&mut new).shift_remove("managedFields").unwrap_or_default();
        let mut managers = Managers::after_write(&written, || plan.managers(&key));
        let api_version = key.kind.api_version();
        managers.update(&form::stored(key.kind).shape, &live, &new, self.writer(step, &api_version));
        decoded.unknown.extend(step.served.view.into_iter().flat_map(|view| (view.check)(&new, Some(&live))));
        self.replace(&key, &live, new, managers, decoded, plan)
    }

    /// Server-side apply.
    fn apply(&self, step: &Step, body: &Value, force: bool, plan: &mut Plan<'_>) -> Result<Planned, Refusal> {
        let key = step.key();
        if self.caller.manager.is_empty() {
            let message = "fieldManager: Required value: is required for apply patch";
            return Err(Status::new(Reason::Invalid, message).into());
        }
        if body["metadata"]["managedFields"].as_array().is_some_and(|list| !list.is_empty()) {
            return Err(Status::bad_request("metadata.managedFields must be nil").into());
        }
        let live = plan.live(&key).cloned();
        let mut decoded = self.decode(step, body.clone(), live.as_deref())?;
        let Some(live) = live else {
            return self.apply_new(step, &key, decoded, plan);
        };
        self.authority.on(&self.caller.who, &step.attributes("patch"), &key, &live)?;
        expect(&key, &live, &step.preconditions)?;
        expect_body(&key, &live, &decoded.object)?;
        let mut applied = match step.subresource {
            Some(Subresource::Scale) => scale::applied(decoded.object.take()),
            _ => decoded.object.take(),
        };
        metadata::strip(&mut applied);
        metadata::of(&mut applied).insert("name".to_owned(), json!(&*key.name));
        match step.subresource {
            Some(Subresource::Status) => keep_only(&mut applied, "status"),
            _ if key.kind.has(Subresource::Status) => remove_field(&mut applied, "status"),
            _ => {}
        }
        if key.kind.has(Subresource::Finalize) {
            remove_field(&mut applied, "spec");
        }
        let form = form::stored(key.kind);
        let api_version = key.kind.api_version();
        let writer = self.writer(step, &api_version);
        let mut managers = plan.managers(&key).unwrap_or_default();
        managers.adopt_unmanaged(&form.shape, &live, writer);
        let mut new = managers
            .apply(&form.shape, &live, &applied, force, writer)
            .map_err(|conflicts| conflict_status(&key, &conflicts))?;
        metadata::keep(&mut new, &live);
        (key.kind.defaults)(&mut new);
        self.complete(&key, &mut new);
        self.settle_run(&key, Some(&live), &mut new, plan)?;
        self.settle_workflow_run(&key, Some(&live), &mut new, plan)?;
        decoded.unknown.extend(step.served.view.into_iter().flat_map(|view| (view.check)(&new, Some(&live))));
        self.replace(&key, &live, new, managers, decoded, plan)
    }

    fn apply_new(&self, step: &Step, key: &Key, decoded: Decoded, plan: &mut Plan<'_>) -> Result<Planned, Refusal> {
        if step.subresource.is_some() {
            return Err(Status::not_found(key).into());
        }
        let asked = &step.preconditions;
        let has_version =
            asked.resource_version.is_some() || !metadata::text(&decoded.object, "resourceVersion").is_empty();
        if has_version || asked.uid.is_some() || !metadata::text(&decoded.object, "uid").is_empty() {
            let why = "the provided object names a uid or a resourceVersion, and there is no such object";
            return Err(Status::conflict(key, why).into());
        }
        let create = step.attributes("create");
        self.authority.must(&self.caller.who, &create).inspect_err(|status| self.lacks(&create, status))?;
        self.insert(step, key, decoded, plan, "Apply")
    }

    /// Puts the next state of an object that is there into the plan.
    fn replace(
        &self,
        key: &Key,
        live: &Value,
        mut new: Value,
        managers: Managers,
        decoded: Decoded,
        plan: &mut Plan<'_>,
    ) -> Result<Planned, Refusal> {
        let done = |outcome, gone| Planned { key: key.clone(), outcome, warnings: decoded.warnings, gone };
        let asked = (key.kind == User::INFO).then(|| new.clone());
        let credential = self.take_password(key, &mut new, plan)?;
        let wants = metadata::wants_differ(&new, live) || credential.is_some();
        let about = metadata::metadata_differs(&new, live);
        let status = new.get("status") != live.get("status");
        // What is not touched is not judged: an object that an older appm let in can still be deleted.
        let touched = |v: &Violation| match v.path.as_str().split(['.', '[']).next().unwrap_or_default() {
            "metadata" => about,
            "status" => status,
            _ => wants,
        };
        let mut violations = decoded.unknown;
        let form = form::stored(key.kind);
        let only_status = status && !wants && !about;
        if (wants || about || status) && !(only_status && form.admits_status(&new)) {
            let found = self.judge(form, key.kind, asked.as_ref().unwrap_or(&new), Some(live));
            violations.extend(found.into_iter().filter(touched));
        }
        refuse(key, violations)?;
        let mut same_owners = || plan.managers(key).is_some_and(|before| before.own_the_same(&managers));
        if !wants && !about && !status && same_owners() {
            return Ok(done(Outcome::Unchanged, false));
        }
        if wants {
            raise_generation(&mut new);
        }
        // A password that stays as it is was not asked for.
        self.permit(key, Some(live), asked.as_ref().filter(|_| credential.is_some()).unwrap_or(&new))?;
        if metadata::is_deleting(&new) && may_vanish(key, &new) {
            self.forget_user(key, plan);
            plan.delete(key, new);
            plan.own(key, &managers);
            return Ok(done(Outcome::Deleted, true));
        }
        plan.put(key, new, !wants && !about);
        plan.own(key, &managers);
        if let Some(credential) = credential {
            self.put_credential(key, credential, plan);
        }
        Ok(done(Outcome::Configured, false))
    }

    fn delete(&self, step: &Step, options: &DeleteOptions, plan: &mut Plan<'_>) -> Result<Planned, Refusal> {
        let key = step.key();
        let live = self.live(step, &key, plan)?;
        expect(&key, &live, &step.preconditions)?;
        expect(&key, &live, &options.preconditions)?;
        if options.grace_period_seconds.is_some_and(|seconds| seconds < 0) {
            let at = FieldPath::of("gracePeriodSeconds");
            let negative = Violation::new(at, Problem::Invalid, "must not be negative");
            return Err(Refusal::Invalid(key.kind, key.name.to_string(), vec![negative]));
        }
        if key.kind == Namespace::INFO {
            namespace::may_go(&key)?;
        }
        self.permit_deletion(&key)?;
        let mut new = (*live).clone();
        self.hold_for_dependents(&mut new, options.propagation_policy);
        let done = |gone| Planned { key: key.clone(), outcome: Outcome::Deleted, warnings: Vec::new(), gone };
        if may_vanish(&key, &new) {
            self.forget_user(&key, plan);
            plan.delete(&key, new);
            return Ok(done(true));
        }
        if !metadata::is_deleting(&new) {
            new["metadata"]["deletionTimestamp"] = json!(self.now);
            raise_generation(&mut new);
        }
        let before = new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(i64::MAX);
        if let Some(seconds) = options.grace_period_seconds.filter(|seconds| *seconds < before) {
            new["metadata"]["deletionGracePeriodSeconds"] = json!(seconds);
        }
        if key.kind == Namespace::INFO {
            namespace::terminating(&mut new);
        }
        if new != *live {
            plan.put(&key, new, false);
        }
        Ok(done(false))
    }

    /// Puts the finalizers in place that the propagation policy needs. Without dependents there is nothing to wait for.
    fn hold_for_dependents(&self, object: &mut Value, policy: Option<PropagationPolicy>) {
        let Some(policy) = policy else { return };
        let alone = self.store.dependents(&metadata::text(object, "uid").into()).is_empty();
        let hold = match policy {
            PropagationPolicy::Foreground if !alone => Some(FOREGROUND_FINALIZER),
            PropagationPolicy::Orphan if !alone => Some(ORPHAN_FINALIZER),
            _ => None,
        };
        let words = metadata::words(object, "finalizers");
        let others = words.into_iter().filter(|name| ![FOREGROUND_FINALIZER, ORPHAN_FINALIZER].contains(name));
        let finalizers: Vec<String> = others.chain(hold).map(str::to_owned).collect();
        if finalizers.is_empty() {
            metadata::of(object).shift_remove("finalizers");
        } else {
            metadata::of(object).insert("finalizers".to_owned(), json!(finalizers));
        }
    }

    fn writer<'w>(&'w self, step: &Step, api_version: &'w str) -> Writer<'w> {
        Writer { manager: &self.caller.manager, api_version, subresource: step.subresource_name(), now: &self.now }
    }

    /// Everything that is wrong with an object.
    fn judge(&self, form: &Form, kind: &KindInfo, new: &Value, live: Option<&Value>) -> Vec<Violation> {
        let mut found = metadata::violations(new, live);
        found.truncate(MOST_VIOLATIONS);
        let (mut schema, rest) = form.judge(kind, new, live);
        schema.extend(workflows::violations(kind, new, live, rest.as_ref().unwrap_or(new), &schema));
        let known: Vec<FieldPath> = found.iter().map(|v| v.path.clone()).collect();
        found.extend(schema.into_iter().filter(|v| !known.contains(&v.path)));
        found
    }
}

/// The live object with the part that may be written through a subresource taken from `body`.
fn put_part(live: &Value, mut body: Value, kind: &KindInfo, subresource: Option<Subresource>) -> Value {
    if subresource == Some(Subresource::Finalize) {
        let mut new = live.clone();
        new["spec"]["finalizers"] = at(&body, &["spec", "finalizers"]).clone();
        return new;
    }
    if !kind.has(Subresource::Status) {
        return body;
    }
    let (mut new, status) = match subresource {
        None => (body, live.get("status").cloned()),
        Some(_) => {
            // A status may be most of an object, and the old one goes.
            let fields = live.as_object().into_iter().flatten().filter(|(name, _)| *name != "status");
            let mut new = Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect());
            match body["metadata"]["managedFields"].take() {
                Value::Null => {}
                written => new["metadata"]["managedFields"] = written,
            }
            (new, body.get_mut("status").map(Value::take))
        }
    };
    match status {
        Some(status) => new["status"] = status,
        None => remove_field(&mut new, "status"),
    }
    if kind.has(Subresource::Finalize) {
        namespace::keep_finalizers(&mut new, live);
    }
    new
}

fn keep_only(object: &mut Value, name: &str) {
    if let Value::Object(map) = object {
        map.retain(|field, _| field == name);
    }
}

fn remove_field(object: &mut Value, name: &str) {
    if let Value::Object(map) = object {
        map.shift_remove(name);
    }
}

fn raise_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    object["metadata"]["generation"] = json!(generation + 1);
}

/// True if nobody has to act any more before a deleted object goes.
fn may_vanish(key: &Key, object: &Value) -> bool {
    let inner = &object["spec"]["finalizers"];
    let empty = key.kind != Namespace::INFO || inner.as_array().is_none_or(Vec::is_empty);
    empty && metadata::words(object, "finalizers").is_empty()
}

fn refuse(key: &Key, violations: Vec<Violation>) -> Result<(), Refusal> {
    match violations.is_empty() {
        true => Ok(()),
        false => {
            let told = violations.into_iter().take(MOST_VIOLATIONS).collect();
            Err(Refusal::Invalid(key.kind, key.name.to_string(), told))
        }
    }
}

fn no_name_left(step: &Step, prefix: &str) -> Status {
    let key = Key::new(step.kind(), &step.namespace, prefix);
    let message =
        format!("{}, the server was not able to generate a unique name for the object", Status::already_exists(&key));
    Status { message, ..Status::already_exists(&key) }
}

/// What an update lacks that must say which revision it replaces.
fn version_violation(body: &Value) -> Option<Violation> {
    let at = FieldPath::of("metadata.resourceVersion");
    matches!(metadata::text(body, "resourceVersion"), "" | "0")
        .then(|| Violation::new(at, Problem::Invalid, "0x0: must be specified for an update"))
}

/// A new object must have a name or a prefix for one.
fn name_violation(object: &Value) -> Option<Violation> {
    let at = FieldPath::of("metadata.name");
    metadata::text(object, "name")
        .is_empty()
        .then(|| Violation::new(at, Problem::Required, "name or generateName is required"))
}

/// The explicit preconditions of a request.
fn expect(key: &Key, live: &Value, preconditions: &Preconditions) -> Result<(), Status> {
    let uid = metadata::text(live, "uid");
    if let Some(asked) = preconditions.uid.as_ref().filter(|asked| asked.as_str() != uid) {
        let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {uid}");
        return Err(Status::conflict(key, &why));
    }
    let version = metadata::text(live, "resourceVersion");
    match &preconditions.resource_version {
        Some(asked) if asked != version => {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {version}"
            );
            Err(Status::conflict(key, &why))
        }
        _ => Ok(()),
    }
}

/// The preconditions that a written object carries in its own metadata.
fn expect_body(key: &Key, live: &Value, body: &Value) -> Result<(), Status> {
    let (asked, uid) = (metadata::text(body, "uid"), metadata::text(live, "uid"));
    if !asked.is_empty() && asked != uid {
        let why = format!("Precondition failed: UID in precondition: {asked}, UID in object meta: {uid}");
        return Err(Status::conflict(key, &why));
    }
    match metadata::text(body, "resourceVersion") {
        "" | "0" => Ok(()),
        asked if asked == metadata::text(live, "resourceVersion") => Ok(()),
        _ => Err(Status::stale(key)),
    }
}

/// 409 with a cause for each field, in the words that kubectl looks for.
fn conflict_status(key: &Key, conflicts: &[Conflict]) -> Status {
    let count: usize = conflicts.iter().map(|c| c.paths.len()).sum();
    let listed: Vec<String> = conflicts
        .iter()
        .map(|c| match c.paths.as_slice() {
            [only] => format!("conflict with {}: {only}", c.manager),
            several => format!("conflicts with {}:\n- {}", c.manager, several.join("\n- ")),
        })
        .collect();
    let plural = if count == 1 { "" } else { "s" };
    let message = format!("Apply failed with {count} conflict{plural}: {}", listed.join("\n"));
    let mut status = Status::conflict(key, "");
    status.message = message;
    status.details.causes = conflicts
        .iter()
        .flat_map(|c| {
            c.paths.iter().map(|path| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {}", c.manager),
                field: path.clone(),
            })
        })
        .collect();
    status
}
