//! What is known of the Apps that `up` watches: a picture for a terminal, sentences for a pipe. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{APP_LABEL, App, Condition, Instance, InstanceStatus, Object, at, last_exit_word},
    cli::{ages, screen::Screen, table::Table},
};

/// Namespace and name.
pub(super) type Id = (String, String);

/// Apps and their instances, as last seen.
#[derive(Default)]
pub(super) struct Board {
    /// Only these Apps; none: every one.
    only: BTreeSet<Id>,
    apps: BTreeMap<Id, Object<App>>,
    instances: BTreeMap<Id, Object<Instance>>,
}

/// Something that somebody who looks on wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// A sentence.
    Said(String),
    /// A run of an instance failed; its output says why.
    Failed {
        namespace: String,
        instance: String,
        /// How it ended.
        exit: String,
        attempt: u32,
        /// False once the next attempt has begun.
        is_last: bool,
    },
}

impl Board {
    /// A board of these Apps; of all, if none is given.
    pub(super) fn of(only: impl IntoIterator<Item = Id>) -> Self {
        Self { only: only.into_iter().collect(), ..Self::default() }
    }

    fn shown(&self, namespace: &str, app: &str) -> bool {
        self.only.is_empty() || self.only.contains(&(namespace.to_owned(), app.to_owned()))
    }

    /// Takes a change of an App.
    pub(super) fn app(&mut self, change: &str, object: Value) -> Vec<Happening> {
        let Ok(app) = serde_json::from_value::<Object<App>>(object) else { return Vec::new() };
        let id = (app.metadata.namespace.clone(), app.metadata.name.clone());
        if !self.shown(&id.0, &id.1) {
            return Vec::new();
        }
        if change == "DELETED" {
            self.apps.remove(&id);
            return vec![Happening::Said(format!("app {} is deleted", id.1))];
        }
        let before = self.apps.get(&id).map(ready_word);
        let now = ready_word(&app);
        self.apps.insert(id.clone(), app);
        match before {
            Some(before) if before == now => Vec::new(),
            _ => vec![Happening::Said(format!("app {}: {now}", id.1))],
        }
    }

    /// Takes a change of an instance.
    pub(super) fn instance(&mut self, change: &str, object: Value) -> Vec<Happening> {
        let Ok(instance) = serde_json::from_value::<Object<Instance>>(object) else { return Vec::new() };
        let app = instance.metadata.labels.get(APP_LABEL).unwrap_or_default().to_owned();
        let id = (instance.metadata.namespace.clone(), instance.metadata.name.clone());
        if !self.shown(&id.0, &app) {
            return Vec::new();
        }
        if change == "DELETED" {
            self.instances.remove(&id);
            return vec![Happening::Said(format!("{} is gone", id.1))];
        }
        let before = self.instances.insert(id.clone(), instance);
        let now = &self.instances[&id];
        let mut happenings = Vec::new();
        let seen = before.as_ref().and_then(|b| b.status.last_exit.as_ref()).map_or(0, |e| e.attempt);
        if let Some(exit) = now.status.last_exit.as_ref().filter(|e| e.attempt > seen && failed(&now.status)) {
            happenings.push(Happening::Failed {
                namespace: id.0.clone(),
                instance: id.1.clone(),
                exit: exit_sentence(&now.status),
                attempt: exit.attempt,
                is_last: now.status.attempt <= exit.attempt,
            });
        }
        let word = state_sentence(now);
        if before.as_ref().map(state_sentence).as_deref() != Some(word.as_str()) {
            happenings.push(Happening::Said(format!("{}: {word}", id.1)));
        }
        happenings
    }

    /// True when every App that is watched is ready.
    pub(super) fn all_ready(&self) -> bool {
        let known = self.only.iter().all(|id| self.apps.contains_key(id));
        known && self.apps.values().all(|app| app.spec.suspend || is_ready(app))
    }

    /// The picture, at most `height` lines.
    pub(super) fn picture(&self, screen: &Screen, height: usize, now: Timestamp) -> String {
        let mut rows: Vec<(bool, Vec<String>)> = Vec::new();
        let mut with_instances = BTreeSet::new();
        for ((namespace, _), instance) in &self.instances {
            let app = instance.metadata.labels.get(APP_LABEL).unwrap_or_default().to_owned();
            with_instances.insert((namespace.clone(), app.clone()));
            rows.push((calm(instance), instance_row(&app, instance, now)));
        }
        for ((namespace, name), app) in &self.apps {
            if !with_instances.contains(&(namespace.clone(), name.clone())) {
                let word = if app.spec.suspend { "Suspended".to_owned() } else { ready_reason(app) };
                let dash = || "-".to_owned();
                rows.push((true, vec![name.clone(), dash(), word, dash(), dash(), dash(), dash()]));
            }
        }
        // Where not everything can be shown, what needs attention is shown.
        let room = height.saturating_sub(3).max(1);
        let hidden = rows.len().saturating_sub(room);
        if hidden > 0 {
            rows.sort_by_key(|(calm, _)| *calm);
            rows.truncate(room);
        }
        let mut table =
            Table::new(["APP", "INSTANCE", "STATUS", "PID", "FOR", "RESTARTS", "LAST EXIT"]).judge(&["STATUS"]);
        rows.into_iter().for_each(|(_, row)| table.add(row));
        let mut text = table.render(screen, true);
        if hidden > 0 {
            text += &format!("… and {hidden} more\n");
        }
        let ready = self.apps.values().filter(|app| is_ready(app)).count();
        text + &format!("{ready} of {} Apps ready\n", self.apps.len())
    }
}

fn is_ready(app: &Object<App>) -> bool {
    app.status.observed_generation >= app.metadata.generation && Condition::holds(&app.status.conditions, "Ready")
}

fn ready_reason(app: &Object<App>) -> String {
    Condition::find(&app.status.conditions, "Ready").map_or_else(|| "Pending".to_owned(), |c| c.reason.clone())
}

fn ready_word(app: &Object<App>) -> String {
    match Condition::find(&app.status.conditions, "Ready") {
        Some(condition) if !condition.message.is_empty() => format!("{} ({})", condition.reason, condition.message),
        Some(condition) => condition.reason.clone(),
        None => "Pending".to_owned(),
    }
}

/// True for an instance that needs no attention.
fn calm(instance: &Object<Instance>) -> bool {
    instance.status.state.running.is_some() && Condition::holds(&instance.status.conditions, "Ready")
}

fn failed(status: &InstanceStatus) -> bool {
    status.last_exit.as_ref().is_some_and(|exit| !exit.is_success() && asked_to_end(status).is_none())
}

/// Whether it is being ended because somebody wants it so.
fn asked_to_end(status: &InstanceStatus) -> Option<&str> {
    let exited =
        status.state.exited.as_ref().map(|e| e.reason.as_str()).filter(|r| *r == "Suspended" || *r == "Removed");
    exited.or(status.state.stopping.as_ref().map(|s| s.reason.as_str()))
}

fn exit_sentence(status: &InstanceStatus) -> String {
    let Some(exit) = &status.last_exit else { return String::new() };
    let value = serde_json::to_value(exit).unwrap_or_default();
    match (exit.code, &exit.signal) {
        _ if !exit.message.is_empty() => format!("could not be started: {}", exit.message),
        (Some(code), _) => format!("exited with code {code}"),
        (_, Some(_)) if exit.oom_killed => "was killed for want of memory".to_owned(),
        (_, Some(signal)) => format!("was killed by {signal}"),
        _ => format!("ended ({})", last_exit_word(&value)),
    }
}

fn state_sentence(instance: &Object<Instance>) -> String {
    let state = &instance.status.state;
    if let Some(running) = &state.running {
        let ready =
            if Condition::holds(&instance.status.conditions, "Ready") { "Running" } else { "Running, not ready" };
        return format!("{ready} (pid {})", running.pid);
    }
    if let Some(stopping) = &state.stopping {
        return format!("Stopping (pid {}, {})", stopping.pid, stopping.reason);
    }
    let (reason, message) = match (&state.waiting, &state.exited) {
        (Some(waiting), _) => (&waiting.reason, &waiting.message),
        (_, Some(exited)) => (&exited.reason, &exited.message),
        _ => return "Pending".to_owned(),
    };
    if message.is_empty() { reason.clone() } else { format!("{reason} ({message})") }
}

fn instance_row(app: &str, instance: &Object<Instance>, now: Timestamp) -> Vec<String> {
    let status = &instance.status;
    let state = &status.state;
    let word = match (&state.running, &state.stopping, &state.waiting, &state.exited) {
        (Some(_), ..) if Condition::holds(&status.conditions, "Ready") => "Running".to_owned(),
        (Some(_), ..) => "Starting".to_owned(),
        (_, Some(_), ..) => "Stopping".to_owned(),
        (_, _, Some(waiting), _) => waiting.reason.clone(),
        (.., Some(exited)) => exited.reason.clone(),
        _ => "Pending".to_owned(),
    };
    let value = serde_json::to_value(&status.last_exit).unwrap_or_default();
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let lasted = state.start_time().map(|t| ages::age(t.0, now));
    let due = status.next_start_time.filter(|_| state.waiting.is_some());
    let due = due.map(|t| format!("in {}", ages::span(t.0.duration_since(now).as_secs())));
    vec![
        app.to_owned(),
        instance.metadata.name.clone(),
        word,
        state.pid().map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        lasted.or(due).unwrap_or_else(|| "-".to_owned()),
        status.restarts.to_string(),
        dash(last_exit_word(at(&value, &[]))),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance(state: Value, last_exit: Value, attempt: u32) -> Value {
        let ready = if state["running"].is_object() { "True" } else { "False" };
        json!({
            "apiVersion": "appm.dev/v1", "kind": "Instance",
            "metadata": {"name": "web-1-0", "namespace": "default", "labels": {"appm.dev/app": "web"}},
            "spec": {"nodeName": "n", "revision": "web-1", "process": {"command": ["x"]}},
            "status": {"attempt": attempt, "state": state, "lastExit": last_exit, "conditions": [
                {"type": "Ready", "status": ready, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        })
    }

    fn running(pid: i32) -> Value {
        json!({"running": {"pid": pid, "startTime": "2026-01-01T00:00:00.000000Z"}})
    }

    fn app() -> Value {
        json!({
            "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web", "namespace": "default", "generation": 1},
            "spec": {"process": {"command": ["x"]}},
            "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True", "reason": "AllReady",
                "message": "1 of 1 instances are ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        })
    }

    #[test]
    fn changes_become_sentences_and_failures_are_told_once() {
        let mut board = Board::of([("default".to_owned(), "web".to_owned())]);
        let said = |text: &str| Happening::Said(text.to_owned());
        assert_eq!(board.app("ADDED", app()), [said("app web: AllReady (1 of 1 instances are ready)")]);
        assert_eq!(board.app("MODIFIED", app()), []);
        let first = instance(running(7), Value::Null, 1);
        assert_eq!(board.instance("ADDED", first), [said("web-1-0: Running (pid 7)")]);
        let backing_off = instance(
            json!({"waiting": {"reason": "BackOff", "message": "starts again in 2s"}}),
            json!({"attempt": 1, "code": 3}),
            1,
        );
        let failed = Happening::Failed {
            namespace: "default".into(),
            instance: "web-1-0".into(),
            exit: "exited with code 3".into(),
            attempt: 1,
            is_last: true,
        };
        let told = board.instance("MODIFIED", backing_off.clone());
        assert_eq!(told, [failed, said("web-1-0: BackOff (starts again in 2s)")]);
        assert_eq!(board.instance("MODIFIED", backing_off), []);
        let again = instance(running(8), json!({"attempt": 1, "code": 3}), 2);
        assert_eq!(board.instance("MODIFIED", again), [said("web-1-0: Running (pid 8)")]);
        assert!(board.all_ready());
    }

    #[test]
    fn other_apps_are_none_of_our_business() {
        let mut board = Board::of([("default".to_owned(), "db".to_owned())]);
        assert_eq!(board.app("ADDED", app()), []);
        assert_eq!(board.instance("ADDED", instance(running(7), Value::Null, 1)), []);
        assert!(!board.all_ready(), "db has not been seen");
    }

    #[test]
    fn the_picture_shows_what_needs_attention_first() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let mut board = Board::default();
        board.app("ADDED", app());
        board.instance("ADDED", instance(running(7), json!({"attempt": 1, "signal": "SIGKILL"}), 2));
        insta::assert_snapshot!(board.picture(&Screen::plain(), 24, now), @r"
        APP   INSTANCE   STATUS    PID   FOR   RESTARTS   LAST EXIT
        web   web-1-0    Running   7     60s   0          SIGKILL
        1 of 1 Apps ready
        ");
        let mut other = instance(json!({"waiting": {"reason": "BackOff"}}), Value::Null, 1);
        other["metadata"]["name"] = json!("web-1-1");
        board.instance("ADDED", other);
        insta::assert_snapshot!(board.picture(&Screen::plain(), 4, now), @r"
        APP   INSTANCE   STATUS    PID   FOR   RESTARTS   LAST EXIT
        web   web-1-1    BackOff   -     -     0          -
        … and 1 more
        1 of 1 Apps ready
        ");
    }
}
