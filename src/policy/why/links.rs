//! The links of each sort, from the facts.

use jiff::Timestamp;
use serde_json::Value;

use super::{Facts, Link, Sort, is_silent, is_somebodys};
use crate::api::{FieldChange, Version, VersionChange, at, last_exit_word};

/// So many fields of a change are told.
const FIELDS: usize = 5;
/// So much of a value is told.
const SHOWN: usize = 80;
/// So many of the last lines of a process are told.
const LINES: usize = 8;

fn text<'v>(object: &'v Value, path: &[&str]) -> &'v str {
    at(object, path).as_str().unwrap_or_default()
}

fn time(object: &Value, path: &[&str]) -> Option<Timestamp> {
    text(object, path).parse().ok()
}

/// `app/web`
pub(super) fn name(object: &Value) -> String {
    format!("{}/{}", text(object, &["kind"]).to_lowercase(), text(object, &["metadata", "name"]))
}

/// How the subject is, in a sentence or some.
pub(super) fn observed(facts: &Facts) -> Vec<Link> {
    let object = &facts.object;
    let say = |text: String| Link::new(Sort::Observed, None, &facts.subject, text);
    if object.is_null() {
        return vec![say(format!("{} is not there", facts.subject))];
    }
    if !object["metadata"]["deletionTimestamp"].is_null() {
        let since = text(object, &["metadata", "deletionTimestamp"]);
        return vec![say(format!("{} is going since {since}", facts.subject))];
    }
    let status = &object["status"];
    let mut said = match text(object, &["kind"]) {
        "App" => {
            let (ready, wanted) = (number(&status["readyReplicas"]), number_or(&object["spec"]["replicas"], 1));
            vec![format!("{} has {ready} of {wanted} instances ready", facts.subject)]
        }
        "Instance" => vec![format!("{} {}", facts.subject, state(object))],
        "Schedule" => vec![schedule(facts)],
        _ => Vec::new(),
    };
    if object["spec"]["suspend"] == true {
        said.push("It is suspended (spec.suspend)".to_owned());
    }
    let worst = conditions_of(object).find(|condition| is_trouble(condition));
    let told =
        worst.or_else(|| conditions_of(object).find(|c| ["Failed", "Complete", "Ready"].contains(&text(c, &["type"]))));
    said.extend(told.map(sentence));
    if said.is_empty() {
        said.push(format!("{} is there, and its status says nothing", facts.subject));
    }
    said.into_iter().map(say).collect()
}

fn number(value: &Value) -> i64 {
    number_or(value, 0)
}

fn number_or(value: &Value, default: i64) -> i64 {
    value.as_i64().unwrap_or(default)
}

/// What an Instance is doing.
fn state(instance: &Value) -> String {
    let state = &instance["status"]["state"];
    let restarts = number(&instance["status"]["restarts"]);
    let often = if restarts > 0 { format!(", restarted {restarts} times") } else { String::new() };
    let with = |of: &Value| match (text(of, &["reason"]), text(of, &["message"])) {
        ("", "") => String::new(),
        (reason, "") => format!(" ({reason})"),
        ("", message) => format!(" ({message})"),
        (reason, message) => format!(" ({reason}: {message})"),
    };
    if !state["waiting"].is_null() {
        return format!("waits{}{often}", with(&state["waiting"]));
    }
    if !state["running"].is_null() {
        return format!("runs{often}");
    }
    if !state["stopping"].is_null() {
        return format!("is being stopped{}{often}", with(&state["stopping"]));
    }
    if !state["exited"].is_null() {
        return format!("has ended{}{often}", with(&state["exited"]));
    }
    "was not seen by its node yet".to_owned()
}

fn schedule(facts: &Facts) -> String {
    let status = &facts.object["status"];
    let last = text(status, &["lastScheduleTime"]);
    let next = at(status, &["nextScheduleTimes"])[0].as_str().unwrap_or_default();
    let last = if last.is_empty() { "has never fired".to_owned() } else { format!("fired last at {last}") };
    let next = if next.is_empty() { "has no next time".to_owned() } else { format!("is due next at {next}") };
    format!("{} {last} and {next}", facts.subject)
}

/// How often processes were restarted.
pub(super) fn restarts(facts: &Facts) -> String {
    let own = std::iter::once(&facts.object).chain(&facts.members);
    let instances = own.filter(|object| text(object, &["kind"]) == "Instance");
    let told: Vec<String> = instances
        .map(|instance| (text(instance, &["metadata", "name"]), number(&instance["status"]["restarts"])))
        .filter(|(_, restarts)| *restarts > 0)
        .map(|(name, restarts)| format!("instance/{name} was restarted {restarts} times"))
        .collect();
    if told.is_empty() { format!("{} was not restarted", facts.subject) } else { told.join(", ") }
}

fn conditions_of(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// The names of an object's conditions.
pub(super) fn condition_types(object: &Value) -> Vec<String> {
    conditions_of(object).map(|condition| text(condition, &["type"]).to_owned()).collect()
}

/// Conditions that are good when they are not `True`.
const BAD_WHEN_TRUE: [&str; 6] = ["Failed", "FailureTarget", "ReplicaFailure", "RolledBack", "Stalled", "Drifted"];

fn is_trouble(condition: &Value) -> bool {
    let bad = BAD_WHEN_TRUE.contains(&text(condition, &["type"]));
    match text(condition, &["status"]) {
        "True" => bad,
        "False" => matches!(text(condition, &["type"]), "Ready" | "Available" | "Progressing"),
        _ => false,
    }
}

/// `Ready is False: CrashLooping, 1 of 2 instances keeps crashing`
fn sentence(condition: &Value) -> String {
    let [kind, status, reason, message] =
        ["type", "status", "reason", "message"].map(|field| text(condition, &[field]));
    let why = [reason, message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
    if why.is_empty() { format!("{kind} is {status}") } else { format!("{kind} is {status}: {why}") }
}

/// What a condition says.
pub(super) fn condition_text(object: &Value, kind: &str) -> String {
    let found = conditions_of(object).find(|condition| text(condition, &["type"]) == kind);
    found.map_or_else(|| format!("{kind} is not told"), sentence)
}

/// The conditions of the subject; of members and owners those that tell of trouble.
pub(super) fn conditions(facts: &Facts) -> Vec<Link> {
    let link = |object: &Value, condition: &Value| {
        let since = time(condition, &["lastTransitionTime"]);
        let trouble = since.filter(|_| is_trouble(condition));
        Link { trouble, ..Link::new(Sort::Condition, since, name(object), sentence(condition)) }
    };
    let own = conditions_of(&facts.object).map(|condition| link(&facts.object, condition));
    let others = facts.members.iter().chain(&facts.owners);
    let others = others.flat_map(|object| {
        conditions_of(object).filter(|condition| is_trouble(condition)).map(move |condition| link(object, condition))
    });
    own.chain(others).collect()
}

/// How processes ended last, and what they said then.
pub(super) fn exits(facts: &Facts) -> Vec<Link> {
    let all = std::iter::once(&facts.object).chain(&facts.members).chain(&facts.owners);
    all.filter_map(|object| {
        let status = &object["status"];
        let exit = if status["lastExit"].is_null() { &status["exit"] } else { &status["lastExit"] };
        if exit.is_null() {
            return None;
        }
        let how = match last_exit_word(exit).as_str() {
            "" => "could not be started".to_owned(),
            "OOMKilled" => "was killed by the kernel: it took more memory than it may have".to_owned(),
            "lost" => "ended while nobody could see how".to_owned(),
            "0" => "ended well, with exit code 0".to_owned(),
            code if code.bytes().all(|b| b.is_ascii_digit() || b == b'-') => format!("ended with exit code {code}"),
            signal => format!("was ended by {signal}"),
        };
        let ended = time(exit, &["finishTime"]).or_else(|| time(status, &["completionTime"]));
        let mut link = Link::new(Sort::Exit, ended, name(object), how);
        link.trouble = time(exit, &["startTime"]).or(ended).filter(|_| exit["code"] != 0);
        let words: Vec<&str> = text(exit, &["message"]).lines().collect();
        link.lines = words[words.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect();
        Some(link)
    })
    .collect()
}

/// What Events tell, each once.
pub(super) fn events(facts: &Facts) -> Vec<Link> {
    let link = |event: &Value| {
        let times = [at(event, &["series", "lastObservedTime"]), &event["lastTimestamp"], &event["eventTime"]];
        let when = times.iter().find_map(|time| time.as_str()?.parse().ok());
        let about = &event["involvedObject"];
        let about = format!("{}/{}", text(about, &["kind"]).to_lowercase(), text(about, &["name"]));
        let count = at(event, &["series", "count"]).as_i64().or(event["count"].as_i64()).unwrap_or(1);
        let often = if count > 1 { format!(", {count} times") } else { String::new() };
        let is_warning = event["type"] == "Warning";
        let said = format!("{} ({}{often})", text(event, &["message"]), text(event, &["reason"]));
        let first = [&event["firstTimestamp"], &event["eventTime"], at(event, &["metadata", "creationTimestamp"])];
        let trouble = first.iter().find_map(|time| time.as_str()?.parse().ok()).or(when).filter(|_| is_warning);
        Link { trouble, ..Link::new(Sort::Event, when, about, said) }
    };
    facts.events.iter().map(link).collect()
}

/// What was changed, by people and by appm.
pub(super) fn versions(facts: &Facts) -> Vec<Link> {
    let all =
        facts.histories.iter().flat_map(|(about, history)| history.items.iter().map(move |version| (about, version)));
    let told = all.filter(|(about, version)| {
        // That appm keeps labels and live fields of what it has made up to date explains nothing.
        let upkeep = **about != facts.subject && !is_somebodys(version) && version.change == VersionChange::Changed;
        !is_silent(version) && !upkeep
    });
    told.map(|(about, version)| changed(about, version)).collect()
}

fn changed(about: &str, version: &Version) -> Link {
    let sort = if is_somebodys(version) { Sort::Change } else { Sort::Decision };
    let what = match version.change {
        VersionChange::Created => format!("made {about}"),
        VersionChange::Recreated => format!("made {about} anew"),
        VersionChange::Deleting => format!("asked {about} to go"),
        VersionChange::Deleted => format!("deleted {about}"),
        VersionChange::Kept => format!("had declared {about} before the history begins"),
        VersionChange::Changed => match (version.fields.first(), version.changed_fields) {
            (Some(field), 1) => format!("changed {}", field_text(field)),
            (Some(field), n) => format!("changed {} and {} more", field_text(field), n - 1),
            (None, _) => format!("changed {about}"),
        },
    };
    let mut link = Link::new(sort, version.time.map(|at| at.0), about, what);
    link.because = because(about, &version.by.reason);
    link.lines = version.fields.iter().take(FIELDS).map(field_text).collect();
    link.user = version.by.user.clone();
    link.manager = version.by.manager.clone();
    link.revision = version.revision.clone();
    link.cause = version.by.cause.clone().unwrap_or_default();
    link.request_id = version.by.request_id.clone();
    link
}

/// What of a reason speaks of the object: a controller gives one for all that it does at once, with semicolons between.
fn because(about: &str, reason: &str) -> String {
    let name = about.split_once('/').map_or(about, |(_, name)| name);
    let own: Vec<&str> = reason.split("; ").filter(|part| part.split(' ').any(|word| word == name)).collect();
    if own.is_empty() { reason.to_owned() } else { own.join("; ") }
}

/// `spec.replicas from 2 to 3`
fn field_text(field: &FieldChange) -> String {
    match (&field.old, &field.new) {
        _ if field.secret => format!("{} (not shown)", field.path),
        (None, Some(new)) => format!("{} to {}", field.path, short(new)),
        (Some(old), Some(new)) => format!("{} from {} to {}", field.path, short(old), short(new)),
        (Some(old), None) => format!("{} from {} to nothing", field.path, short(old)),
        (None, None) => field.path.clone(),
    }
}

/// A value in a line.
pub(super) fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        value => value.to_string(),
    };
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() { cut + "…" } else { text }
}

/// What is wished at a path.
pub(super) fn wished(object: &Value, path: &str) -> String {
    let full =
        if path.starts_with("spec") || path.starts_with("metadata") { path.to_owned() } else { format!("spec.{path}") };
    let steps: Vec<&str> = full.split(['.', '[']).map(|step| step.trim_end_matches(']')).collect();
    let mut value = object;
    for step in steps {
        let named = |items: &Vec<Value>| items.iter().position(|item| item["name"] == step);
        value = match value.as_array().and_then(named) {
            Some(place) => &value[place],
            None => &value[step],
        };
    }
    if value.is_null() { format!("{full} is not set") } else { format!("{full} is {}", short(value)) }
}

/// Where it was declared.
pub(super) fn source(facts: &Facts) -> Option<Link> {
    let source = facts.source.as_ref()?;
    let (status, spec) = (&source["status"], &source["spec"]);
    let at = [&spec["git"]["url"], &spec["directory"]["path"], &spec["directory"]];
    let place = at.into_iter().find_map(Value::as_str).unwrap_or("what it reads").to_owned();
    let revision = text(status, &["lastAppliedRevision"]);
    let of = if revision.is_empty() { String::new() } else { format!(" at {revision}") };
    let mut link = Link::new(
        Sort::Source,
        time(status, &["lastAppliedTime"]),
        name(source),
        format!("keeps {} as {place}{of} declares it", facts.subject),
    );
    link.lines = conditions_of(source).filter(|condition| is_trouble(condition)).map(sentence).collect();
    link.revision = revision.to_owned();
    Some(link)
}
