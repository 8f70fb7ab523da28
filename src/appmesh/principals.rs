//! Principals, as the third generation calls people: Users, and whoever an issuer speaks for. The id of one is the name by which everything here knows
//! them, an application's owner too.

use serde_json::{Map, Value, json};

use super::{Call, Reply, Sdk, caller, people::roles};
use crate::{
    api::{Key, Kind, Reason, Status, StoredObject, User},
    auth::Identity,
    client::Query,
};

impl Sdk {
    /// Whoever asks.
    pub(super) fn own_principal(&self, who: &Identity, call: &Call) -> Reply {
        let mut shown = self.of_whoever_asks(who, call);
        shown["permissions"] = json!(self.permissions_of(who));
        Reply::json(200, shown)
    }

    fn of_whoever_asks(&self, who: &Identity, call: &Call) -> Value {
        let found = self.admission.store().get(&Key::of::<User>("", &who.name));
        let issuer = self.issuer(call);
        match found.filter(|user| who.uid.is_none() || user.meta().uid == who.uid) {
            Some(user) => shown(&user, &issuer),
            None => {
                let kind = if who.name.starts_with("system:") { "service" } else { "user" };
                // `ISSUER#SUBJECT`, where the settings say nothing else.
                let by_issuer = who.name.rsplit_once('#').filter(|(issuer, _)| issuer.starts_with("https://"));
                let (issuer, subject) = by_issuer.unwrap_or((&issuer, &who.name));
                principal(&who.name, kind, (issuer, subject), &User::default(), "")
            }
        }
    }

    /// All that whoever asks may see, and themselves.
    pub(super) fn list_principals(&self, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let users = self.admission.list(&caller(who, call), User::INFO.stored_form(), &Query::default())?.items;
        let issuer = self.issuer(call);
        let mut all: Map<String, Value> =
            users.iter().map(|user| (user.key.name.to_string(), shown(user, &issuer))).collect();
        all.entry(who.name.clone()).or_insert_with(|| self.of_whoever_asks(who, call));
        Ok(Reply::json(200, Value::Object(all)))
    }

    /// Changes what is said of somebody; makes the User of whom an issuer speaks for, if it is said who that is.
    pub(super) async fn put_principal(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        let json = call.json()?;
        let caller = caller(who, call);
        let live = self.there::<User>(&caller, name)?;
        let mut spec = live.as_ref().map_or_else(|| json!({}), |user| user.value()["spec"].clone());
        for (said, value) in &json {
            let text = || match value {
                Value::String(text) if !text.is_empty() => Ok(json!(text)),
                Value::Null | Value::String(_) => Ok(Value::Null),
                _ => Err(Status::bad_request(format!("`{said}` must be a text"))),
            };
            match said.as_str() {
                "status" => {
                    spec["locked"] = match value.as_str().unwrap_or_default() {
                        "active" => json!(false),
                        "disabled" => json!(true),
                        _ => return Err(Status::bad_request("`status` is `active` or `disabled`")),
                    }
                }
                "execution_user" => spec["execUser"] = text()?,
                "roles" if value.as_array().is_some_and(|all| all.iter().all(Value::is_string)) => {
                    spec["roles"] = roles(&spec["roles"], value);
                }
                "roles" => return Err(Status::bad_request("`roles` must be a list of names")),
                "issuer" | "subject" if live.is_none() => spec["oidc"][said] = text()?,
                _ => {}
            }
        }
        if live.is_none() && (spec["oidc"]["issuer"].is_null() || spec["oidc"]["subject"].is_null()) {
            return Err(Status::new(
                Reason::NotFound,
                format!(
                    "there is no principal `{name}`: say whose word makes it one (`issuer` and `subject`), or make a user"
                ),
            ));
        }
        self.write::<User>(&caller, name, live.is_some(), json!({"spec": spec})).await?;
        Ok(Reply::message(200, "Principal update success"))
    }

    pub(super) async fn delete_principal(&self, name: &str, who: &Identity, call: &Call) -> Result<Reply, Status> {
        self.delete::<User>(&caller(who, call), name).await?;
        Ok(Reply::empty(204))
    }
}

fn shown(user: &StoredObject, own_issuer: &str) -> Value {
    let email = user.meta().annotations.get(super::people::EMAIL).unwrap_or_default();
    let Some(found) = user.typed::<User>() else { return json!({}) };
    let name = &*user.key.name;
    let by = found.spec.oidc.as_ref().map_or((own_issuer, name), |oidc| (oidc.issuer.as_str(), oidc.subject.as_str()));
    principal(name, "user", by, &found.body, email)
}

fn principal(id: &str, kind: &str, (issuer, subject): (&str, &str), user: &User, email: &str) -> Value {
    let roles: Vec<&str> = user.spec.roles.iter().map(|role| role.name.as_str()).collect();
    json!({
        "principal_id": id, "kind": kind, "issuer": issuer, "subject": subject, "display_name": id, "email": email,
        "connector_id": "", "status": if user.spec.locked { "disabled" } else { "active" },
        "execution_user": user.spec.exec_user.as_deref().unwrap_or_default(), "roles": roles,
    })
}
