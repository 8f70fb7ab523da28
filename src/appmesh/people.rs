//! Users, groups, roles and permissions in App Mesh's words: Users and Roles as they are for everybody.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{Call, Reply, Sdk, caller, names, permission};
use crate::{
    admission::{Caller, DeleteOptions, Patch, Target, WriteOptions},
    api::{Key, Kind, Reason, Role, Status, StoredObject, User},
    auth::{Identity, May, PasswordRequest},
    client::Query,
};

/// What App Mesh says of a user and we have no place for.
pub(super) const EMAIL: &str = "appm.dev/app-mesh-email";
const METADATA: &str = "appm.dev/app-mesh-metadata";

impl Sdk {
    /// Whoever asks.
    pub(super) fn own_user(&self, who: &Identity) -> Reply {
        let found = self.admission.store().get(&Key::of::<User>("", &who.name));
        let found = found.filter(|user| user.meta().uid == who.uid);
        let nobody = || json!({"name": who.name, "group": who.groups.first(), "locked": false, "mfa_enabled": false, "roles": []});
        let mut user = found.map_or_else(nobody, |user| shown(&user));
        user["audience"] = json!(["appmesh-service"]);
        Reply::json(200, user)
    }

    pub(super) fn list_users(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let users = self.admission.list(&caller(who, call), User::INFO.stored_form(), &Query::default())?.items;
        let all: Map<String, Value> = users.iter().map(|user| (user.key.name.to_string(), shown(user))).collect();
        Ok(Reply::json(200, Value::Object(all)))
    }

    pub(super) fn list_groups(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let users = self.admission.list(&caller(who, call), User::INFO.stored_form(), &Query::default())?.items;
        let typed = users.iter().filter_map(|user| user.typed::<User>());
        let groups: BTreeSet<String> = typed.flat_map(|user| user.spec.groups.clone()).collect();
        Ok(Reply::json(200, json!(groups)))
    }

    /// Makes a user, or changes what is said of one. What App Mesh has no words for stays.
    pub(super) async fn put_user(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let json = call.json()?;
        let caller = caller(who, call);
        let live = self.there::<User>(&caller, name)?;
        let mut spec = live.as_ref().map_or_else(|| json!({}), |user| user.value()["spec"].clone());
        let mut annotations = Map::new();
        for (said, value) in &json {
            let text =
                || value.as_str().map_or(Value::Null, |text| if text.is_empty() { Value::Null } else { json!(text) });
            match said.as_str() {
                "key" if !text().is_null() => spec["password"] = json!({"plain": value}),
                "group" => spec["groups"] = groups(&spec["groups"], value.as_str().unwrap_or_default()),
                "exec_user" => spec["execUser"] = text(),
                "locked" => spec["locked"] = json!(value == true),
                "roles" => spec["roles"] = roles(&spec["roles"], value),
                "email" => drop(annotations.insert(EMAIL.to_owned(), text())),
                "metadata" => drop(annotations.insert(METADATA.to_owned(), json!(value.to_string()))),
                _ => {}
            }
        }
        if live.is_none() && spec["password"].is_null() {
            return Err(Status::bad_request("a new user needs a password: `key`"));
        }
        let whole = json!({"metadata": {"annotations": annotations}, "spec": spec});
        self.write::<User>(&caller, name, live.is_some(), whole).await?;
        Ok(Reply::message(200, "User add success"))
    }

    pub(super) async fn delete_user(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let done = self.delete::<User>(&caller(who, call), name).await;
        done.map_err(|status| match status.is(Reason::NotFound) {
            true => Status::new(Reason::NotFound, "user not found"),
            false => status,
        })?;
        Ok(Reply::message(200, "User delete success"))
    }

    pub(super) async fn lock_user(&self, name: &str, lock: bool, who: &Identity, call: &Call) -> Result<Reply, Status> {
        self.write::<User>(&caller(who, call), name, true, json!({"spec": {"locked": lock}})).await?;
        Ok(Reply::message(200, if lock { "Lock user success" } else { "Unlock user success" }))
    }

    /// One's own with the old one; that of others by the right to change their User.
    pub(super) async fn change_password(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let json = call.json()?;
        let (old, new) = (password(&json, "old_password"), password(&json, "new_password"));
        if name == "self" || name == who.name {
            let code = Some(call.header("x-totp-code")).filter(|code| !code.is_empty()).map(str::to_owned);
            self.authenticator.change_password(who, &PasswordRequest { old, new, code }, &call.from).await?;
        } else {
            let change = json!({"spec": {"password": {"plain": new}}});
            self.write::<User>(&caller(who, call), name, true, change).await?;
        }
        Ok(Reply::message(200, "password changed success"))
    }

    /// What whoever asks may do.
    pub(super) fn own_permissions(&self, who: &Identity) -> Reply {
        Reply::json(200, json!(self.permissions_of(who)))
    }

    pub(super) fn permissions_of(&self, who: &Identity) -> Vec<&'static str> {
        let authority = self.admission.authority();
        let has = |name: &&str| {
            permission::named(name).is_some_and(|all| all.iter().all(|what| authority.may(who, what).is_ok()))
        };
        permission::all().filter(has).collect()
    }

    pub(super) fn list_permissions() -> Reply {
        Reply::json(200, json!(permission::all().collect::<Vec<_>>()))
    }

    /// Of each role the permissions that its rules come to.
    pub(super) fn list_roles(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let roles = self.admission.list(&caller(who, call), Role::INFO.stored_form(), &Query::default())?.items;
        let book = self.admission.authority().book();
        let all = roles.iter().map(|role| {
            let subject = book.grant(&role.key.name);
            let has = |name: &&str| {
                let asked = permission::named(name).unwrap_or_default();
                !asked.is_empty() && asked.iter().all(|what| subject.may(what) != May::Never)
            };
            (names::shown(&role.value()), json!(permission::all().filter(has).collect::<Vec<_>>()))
        });
        Ok(Reply::json(200, Value::Object(all.collect())))
    }

    /// A role of these permissions; of none, none.
    pub(super) async fn put_role(&self, said: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let permissions: Vec<String> = serde_json::from_slice(&call.body.to_bytes())
            .map_err(|_| Status::bad_request("the body is not a list of permissions"))?;
        let caller = caller(who, call);
        if permissions.is_empty() {
            return self.delete_role(said, who, call).await;
        }
        let rules = permission::rules(&permissions);
        let rules = rules.map_err(|odd| Status::bad_request(format!("there is no permission `{odd}`")))?;
        let name = role_name(said);
        let live = self.there::<Role>(&caller, &name)?;
        let before = live.as_ref().and_then(|role| role.typed::<Role>());
        let role = permission::role(rules, before.as_ref().map(|role| &role.body));
        let mut whole = json!({"spec": role.spec});
        if name != said {
            whole["metadata"]["annotations"][names::NAMED] = json!(said);
        }
        self.write::<Role>(&caller, &name, live.is_some(), whole).await?;
        Ok(Reply::message(200, "Role update success"))
    }

    pub(super) async fn delete_role(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        match self.delete::<Role>(&caller(who, call), &role_name(name)).await {
            Err(status) if !status.is(Reason::NotFound) => Err(status),
            _ => Ok(Reply::message(200, "Role delete success")),
        }
    }

    pub(super) fn there<K: Kind>(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<Option<std::sync::Arc<StoredObject>>, Status> {
        match self.admission.get(caller, K::INFO.stored_form(), &Key::of::<K>("", name)) {
            Err(status) if status.is(Reason::NotFound) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Makes one, or merges into the one that is there.
    pub(super) async fn write<K: Kind>(
        &self,
        caller: &Caller,
        name: &str,
        is_there: bool,
        change: Value,
    ) -> Result<(), Status> {
        let served = K::INFO.stored_form();
        let options = WriteOptions::default();
        if is_there {
            let target = Target { served, namespace: "", name, subresource: None };
            return self.admission.patch(caller, &target, Patch::Merge(change), &options).await.map(drop);
        }
        let mut whole = change;
        whole["apiVersion"] = json!(K::INFO.api_version());
        whole["kind"] = json!(K::INFO.kind);
        whole["metadata"]["name"] = json!(name);
        prune(&mut whole);
        self.admission.create(caller, served, "", whole, &options).await.map(drop)
    }

    pub(super) async fn delete<K: Kind>(&self, caller: &Caller, name: &str) -> Result<(), Status> {
        let target = Target { served: K::INFO.stored_form(), namespace: "", name, subresource: None };
        self.admission.delete(caller, &target, &DeleteOptions::default(), &WriteOptions::default()).await.map(drop)
    }
}

/// What is taken away where there is nothing yet.
fn prune(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(prune);
    }
}

/// A user without anything secret.
fn shown(user: &StoredObject) -> Value {
    let annotation = |name: &str| user.meta().annotations.get(name);
    let Some(User { spec, status }) = user.typed::<User>().map(|user| user.body.clone()) else { return json!({}) };
    let roles: Vec<&str> = spec.roles.iter().map(|role| role.name.as_str()).collect();
    let metadata = annotation(METADATA).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let mut shown = json!({
        "name": &*user.key.name, "email": annotation(EMAIL).unwrap_or_default(),
        "group": spec.groups.first().cloned().unwrap_or_default(), "exec_user": spec.exec_user.unwrap_or_default(),
        "locked": spec.locked, "mfa_enabled": status.mfa_enabled, "roles": roles,
    });
    if let Some(metadata) = metadata {
        shown["metadata"] = metadata;
    }
    shown
}

/// App Mesh's one group comes first; others stay.
fn groups(before: &Value, group: &str) -> Value {
    let others = before.as_array().into_iter().flatten().skip(1).filter(|other| **other != group);
    json!(Some(json!(group)).filter(|_| !group.is_empty()).into_iter().chain(others.cloned()).collect::<Vec<_>>())
}

/// The Role of a name: App Mesh's may have capitals and underscores, as applications.
fn role_name(said: &str) -> String {
    names::stored(said).unwrap_or_else(|_| said.to_owned())
}

/// Those that are named; where one is had in some namespaces only, that stays.
pub(super) fn roles(before: &Value, named: &Value) -> Value {
    let named = named.as_array().into_iter().flatten().filter_map(Value::as_str).map(role_name);
    let known = |name: &str| before.as_array().into_iter().flatten().find(|role| role["name"] == name).cloned();
    json!(named.map(|name| known(&name).unwrap_or_else(|| json!({"name": name}))).collect::<Vec<_>>())
}

/// In base64, as newer clients send it, or as it is.
fn password(json: &Map<String, Value>, name: &str) -> String {
    let text = json.get(name).and_then(Value::as_str).unwrap_or_default();
    let decoded = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.unwrap_or_else(|| text.to_owned())
}
