//! What a client says of an application, each thing said one way: the third generation's names become the second's, what is empty or the
//! default is not there, and durations are seconds.

use serde_json::{Map, Value, json};

use super::words;

/// What is said, by the second generation's names.
pub(super) type Said = Map<String, Value>;

/// A name of the second generation, the third's, and how what it says is written there.
pub(super) const RENAMED: [(&str, &str); 5] = [
    ("status", "enabled"),
    ("sec_env", "secret_env"),
    ("retention", "stop_grace_period"),
    ("stdout_cache_num", "stdout_backup_count"),
    ("start_interval_seconds", "interval"),
];

/// Everything of `json` that is known, said one way. A client of one generation sends back what it does not know as it was shown; so of
/// two names for a thing the one counts that says something else than `shown`.
pub(super) fn said(json: &Map<String, Value>, shown: &Said) -> Result<Said, String> {
    let mut said = Said::new();
    let old = second(json)?;
    let new = third(json)?;
    for (name, value) in old.into_iter().chain(new) {
        let is_news = !said.contains_key(&name) || shown.get(&name) == said.get(&name);
        if is_news {
            said.insert(name, value);
        }
    }
    said.retain(|_, value| !value.is_null());
    if said.contains_key("command") || said.contains_key("docker_image") {
        // What is started has the process id of its last start, where a client sends everything back.
        said.shift_remove("pid");
    }
    if said.contains_key("session_login") {
        said.shift_remove("shell");
    }
    for (name, default) in [("status", json!(1)), ("behavior", json!({"exit": "standby"}))] {
        said.entry(name).or_insert(default);
    }
    Ok(said)
}

/// What stands there by the second generation's names; `Null` for what is said to be empty.
fn second(json: &Map<String, Value>) -> Result<Said, String> {
    let mut said = Said::new();
    let is_cron = json.get("cron").is_some_and(|cron| *cron == Value::Bool(true));
    for (name, value) in json.iter().filter(|(_, value)| !value.is_null()) {
        let normal = match name.as_str() {
            "command" | "docker_image" | "working_dir" | "description" | "health_check_cmd" => text(name, value)?,
            "shell" | "session_login" | "cron" => flag(name, value)?,
            "stdout_cache_num" | "version" | "pid" | "start_time" | "end_time" => number(name, value)?,
            "permission" => permission(value)?,
            "status" => status(value)?,
            "env" | "sec_env" => variables(name, value)?,
            "metadata" => metadata(value),
            "retention" => duration(name, value)?,
            "start_interval_seconds" if is_cron => text(name, value)?,
            "start_interval_seconds" => duration(name, value)?,
            "daily_limitation" => daily(value)?,
            "behavior" => behavior(value)?,
            "resource_limit" => resources(value)?,
            "depends_on" => names(name, value)?,
            _ => continue,
        };
        said.insert(name.clone(), normal);
    }
    Ok(said)
}

/// What stands there by the third generation's own names.
fn third(json: &Map<String, Value>) -> Result<Said, String> {
    let mut said = Said::new();
    let is_cron = json.get("cron").is_some_and(|cron| *cron == Value::Bool(true));
    for (old, new) in RENAMED {
        let Some(value) = json.get(new).filter(|value| !value.is_null()) else { continue };
        let normal = match new {
            "enabled" => json!(i64::from(value.as_bool().ok_or("`enabled` must be true or false")?)),
            "secret_env" => variables(new, value)?,
            "stdout_backup_count" => number(new, value)?,
            // As clients of 1.6 say it.
            "interval" if is_cron => text(new, value)?,
            _ => duration(new, value)?,
        };
        said.insert(old.to_owned(), normal);
    }
    if let Some(value) = json.get("cron_schedule").filter(|value| !value.is_null()) {
        let cron = text("cron_schedule", value)?;
        if !cron.is_null() {
            said.insert("start_interval_seconds".to_owned(), cron);
            said.insert("cron".to_owned(), json!(true));
        }
    }
    Ok(said)
}

fn filled(value: Value, is_empty: bool) -> Value {
    if is_empty { Value::Null } else { value }
}

fn text(name: &str, value: &Value) -> Result<Value, String> {
    let text = value.as_str().ok_or_else(|| format!("`{name}` must be a text"))?.trim();
    Ok(filled(json!(text), text.is_empty()))
}

fn flag(name: &str, value: &Value) -> Result<Value, String> {
    let flag = value.as_bool().ok_or_else(|| format!("`{name}` must be true or false"))?;
    Ok(filled(json!(true), !flag))
}

/// A whole number that is not negative, also as a text.
fn whole(name: &str, value: &Value) -> Result<u64, String> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok());
    number.ok_or_else(|| format!("`{name}` must be a number that is not negative"))
}

fn number(name: &str, value: &Value) -> Result<Value, String> {
    let number = whole(name, value)?;
    Ok(filled(json!(number), number == 0))
}

fn duration(name: &str, value: &Value) -> Result<Value, String> {
    let seconds = match value {
        Value::String(text) if text.trim().is_empty() => 0,
        Value::String(text) => words::seconds(text).map_err(|why| format!("`{name}`: {why}"))?,
        value => whole(name, value)?,
    };
    Ok(filled(json!(seconds.to_string()), seconds == 0))
}

fn status(value: &Value) -> Result<Value, String> {
    match whole("status", value)? {
        status @ (0 | 1) => Ok(json!(status)),
        // What the run API makes is shown so, and may come back.
        2 => Ok(Value::Null),
        _ => Err("`status` must be 1 (enabled) or 0 (disabled)".to_owned()),
    }
}

/// Two digits: what the group and what others may do. Nothing for both is what is so if nothing is said.
fn permission(value: &Value) -> Result<Value, String> {
    let digits = whole("permission", value)?;
    let [others, group] = [digits / 10, digits % 10].map(|digit| digit.max(1));
    if others > 3 || group > 3 {
        return Err(
            "`permission` has two digits, of others and of the group: 1 deny, 2 read, 3 read and write".to_owned()
        );
    }
    Ok(filled(json!(others * 10 + group), (others, group) == (1, 1)))
}

fn variables(name: &str, value: &Value) -> Result<Value, String> {
    let all = value.as_object().ok_or_else(|| format!("`{name}` must be an object of texts"))?;
    match all.iter().find(|(_, value)| !value.is_string()) {
        Some((odd, _)) => Err(format!("`{name}.{odd}` must be a text")),
        None => Ok(filled(value.clone(), all.is_empty())),
    }
}

/// JSON in a text is JSON.
pub(super) fn metadata(value: &Value) -> Value {
    let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let value = parsed.filter(|value| value.is_object() || value.is_array()).unwrap_or_else(|| value.clone());
    let is_empty = value.as_str() == Some("") || value.as_object().is_some_and(Map::is_empty);
    filled(value, is_empty)
}

/// Seconds of the day, of which whole minutes count; of points in time, the part that is of the day.
fn daily(value: &Value) -> Result<Value, String> {
    if value.as_object().is_some_and(Map::is_empty) {
        return Ok(Value::Null);
    }
    let part = |name: &str| match value.get(name).filter(|value| !value.is_null()) {
        Some(value) => Ok(whole(name, value)? % 86_400 / 60 * 60),
        None => Err(format!("`daily_limitation` needs `{name}`")),
    };
    let (start, end) = (part("daily_start")?, part("daily_end")?);
    Ok(filled(json!({"daily_start": start, "daily_end": end}), start == end))
}

fn behavior(value: &Value) -> Result<Value, String> {
    let all = value.as_object().ok_or("`behavior` must be an object")?;
    let action = |value: &Value| match value.as_str().unwrap_or_default().to_lowercase().as_str() {
        "" | "standby" => Ok("standby"),
        // It differs from `restart` for what runs by time alone.
        "restart" | "keepalive" => Ok("restart"),
        "remove" => Ok("remove"),
        _ => Err("invalid action input: standby, restart, keepalive and remove are known".to_owned()),
    };
    let mut normal = json!({"exit": action(all.get("exit").unwrap_or(&Value::Null))?});
    let codes = ["control", "exit_code_actions"].into_iter().filter_map(|name| all.get(name)?.as_object());
    let mut control = Map::new();
    for (code, value) in codes.flatten() {
        let code: i64 = code.trim().parse().map_err(|_| format!("`behavior.control`: `{code}` is no exit code"))?;
        control.insert(code.to_string(), json!(action(value)?));
    }
    if !control.is_empty() {
        control.sort_keys();
        normal["control"] = Value::Object(control);
    }
    Ok(normal)
}

fn resources(value: &Value) -> Result<Value, String> {
    let all = value.as_object().ok_or("`resource_limit` must be an object")?;
    let mut normal = Map::new();
    for name in ["memory_mb", "memory_virt_mb", "cpu_shares"] {
        let amount = all.get(name).filter(|value| !value.is_null()).map_or(Ok(0), |value| whole(name, value))?;
        if amount > 0 {
            normal.insert(name.to_owned(), json!(amount));
        }
    }
    let is_empty = normal.is_empty();
    Ok(filled(Value::Object(normal), is_empty))
}

fn names(name: &str, value: &Value) -> Result<Value, String> {
    let all = value.as_array().filter(|all| all.iter().all(Value::is_string));
    let all = all.ok_or_else(|| format!("`{name}` must be a list of names"))?;
    Ok(filled(value.clone(), all.is_empty()))
}
