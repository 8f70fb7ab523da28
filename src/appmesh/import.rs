//! What App Mesh's files say of applications, roles and users, as objects here: for `appm import appmesh`.
//!
//! The same table as for its clients ([`definition`]); what the table has no row for is told by name.

use serde_json::{Map, Value, json};

use super::{apps::secret_of, definition, definition::Definition, definition::Of, names, permission};
use crate::api::{BUILT_IN_ROLES, Kind, Role, User};

/// What is made, and which settings are not in it, each with the reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// In the order in which they are applied.
    pub objects: Vec<Value>,
    /// Settings that something close stands for.
    pub approximated: Vec<(String, String)>,
    /// Settings that nothing stands for.
    pub dropped: Vec<(String, String)>,
}

/// What an application may say, by the names of both generations.
const KNOWN: [&str; 36] = [
    "name",
    "command",
    "shell",
    "session_login",
    "docker_image",
    "metadata",
    "working_dir",
    "description",
    "status",
    "enabled",
    "env",
    "sec_env",
    "secret_env",
    "permission",
    "stdout_cache_num",
    "stdout_backup_count",
    "health_check_cmd",
    "start_interval_seconds",
    "interval",
    "cron",
    "cron_schedule",
    "start_time",
    "end_time",
    "daily_limitation",
    "retention",
    "stop_grace_period",
    "behavior",
    "resource_limit",
    "version",
    "depends_on",
    "register_time",
    "starts",
    "last_start_time",
    "last_exit_time",
    "return_code",
    "startup_phase",
];

/// An application of a file.
///
/// # Errors
/// A sentence for whoever wrote it.
pub fn application(json: &Map<String, Value>) -> Result<Imported, String> {
    let said = json.get("name").and_then(Value::as_str).ok_or("an application has a `name`")?.trim();
    let name = names::stored(said).map_err(|status| status.message)?;
    let mut made = Imported::default();
    let mut json = json.clone();
    let sealed = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("v2:"));
    for field in ["sec_env", "secret_env"] {
        let Some(values) = json.get_mut(field).and_then(Value::as_object_mut) else { continue };
        for (key, _) in values.iter().filter(|(_, value)| sealed(value)) {
            let why = format!("sealed with its owner's password: put `{key}` into the Secret `{name}-sec-env`");
            made.dropped.push((format!("{field}.{key}"), why));
        }
        values.retain(|_, value| !sealed(value));
    }
    let of = Of::said(&json);
    let mut definition = Definition::new(of, &name);
    definition.update(&json, true)?;
    let mut object = definition.into_object();
    if name != said {
        object["metadata"]["annotations"][names::NAMED] = json!(said);
        made.approximated.push((
            "name".to_owned(),
            format!("`{said}` became `{name}`; App Mesh's clients go on to call it `{said}`"),
        ));
    }
    if let Some(values) = definition::secrets(&json)? {
        let run = if of == Of::Schedule { &mut object["spec"]["run"] } else { &mut object["spec"] };
        made.objects.push(secret_of(&name, &values, run));
    }
    made.objects.push(object);
    for key in json.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
        let why = match key.as_str() {
            "owner" | "owner_principal_id" | "owner_display_name" => "its owner is who applies it",
            "execution_user" => "`process.user`, or `execUser` of its owner",
            "pid" => "`process.adopt.pid` takes over what runs",
            _ => "nothing that is known of App Mesh's applications",
        };
        made.dropped.push((key.clone(), why.to_owned()));
    }
    Ok(made)
}

/// The name of a role: one that every server has is not changed.
fn role_name(name: &str) -> String {
    if BUILT_IN_ROLES.contains(&name) {
        return format!("app-mesh-{name}");
    }
    names::stored(name).unwrap_or_else(|_| name.to_owned())
}

/// A role of a file.
///
/// # Errors
/// A sentence for whoever wrote it.
pub fn role(name: &str, permissions: &Value) -> Result<Imported, String> {
    let keys: Vec<String> =
        permissions.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let rules = permission::rules(&keys).map_err(|odd| format!("role `{name}`: there is no permission `{odd}`"))?;
    let made = role_name(name);
    let spec = permission::role(rules, None).spec;
    let mut object = json!({
        "apiVersion": Role::INFO.api_version(), "kind": Role::INFO.kind, "metadata": {"name": made}, "spec": spec,
    });
    if made != name && names::stored(name).as_deref() == Ok(made.as_str()) {
        object["metadata"]["annotations"][names::NAMED] = json!(name);
    }
    let mut imported = Imported { objects: vec![object], ..Imported::default() };
    if made != name {
        imported.approximated.push((name.to_owned(), format!("its name became `{made}`")));
    }
    Ok(imported)
}

/// A user of a file.
pub fn user(name: &str, said: &Value) -> Imported {
    let mut imported = Imported::default();
    if name == "admin" {
        imported.dropped.push((name.to_owned(), "there is an `admin` already: `appm user passwd admin`".to_owned()));
        return imported;
    }
    let mut spec = Map::new();
    for (key, value) in said.as_object().into_iter().flatten() {
        let text = value.as_str().filter(|text| !text.is_empty());
        match key.as_str() {
            "email" => spec.extend(text.map(|text| ("email".to_owned(), json!(text)))),
            "group" => spec.extend(text.map(|text| ("groups".to_owned(), json!([text])))),
            "exec_user" => spec.extend(text.map(|text| ("execUser".to_owned(), json!(text)))),
            "locked" if *value == json!(true) => drop(spec.insert("locked".to_owned(), json!(true))),
            "roles" => {
                let named = value.as_array().into_iter().flatten().filter_map(Value::as_str);
                let bound: Vec<Value> = named.map(|role| json!({"name": role_name(role)})).collect();
                if !bound.is_empty() {
                    spec.insert("roles".to_owned(), json!(bound));
                }
            }
            "key" => {
                imported
                    .dropped
                    .push((format!("{name}.key"), format!("a password of another hash: `appm user passwd {name}`")));
            }
            "mfa_enabled" | "mfa_key" if *value == json!(true) || key == "mfa_key" && text.is_some() => {
                imported.dropped.push((
                    format!("{name}.{key}"),
                    "a second factor is enrolled anew: `appm user mfa enroll`".to_owned(),
                ));
            }
            "metadata" if !value.is_null() && *value != "" => {
                imported.dropped.push((format!("{name}.{key}"), "nothing reads it".to_owned()));
            }
            "locked" | "mfa_enabled" | "mfa_key" | "token_epoch" | "metadata" | "name" => {}
            _ => {
                imported.dropped.push((format!("{name}.{key}"), "nothing that is known of App Mesh's users".to_owned()))
            }
        }
    }
    let object = json!({"apiVersion": User::INFO.api_version(), "kind": User::INFO.kind, "metadata": {"name": name}, "spec": spec});
    imported.objects.push(object);
    imported
}
