//! How an application is, in App Mesh's words.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Sdk,
    definition::{Definition, Of},
    find::Found,
    names,
};
use crate::api::{Condition, Exit, Instance, MicroTime, OWNER, Object, RunExit, TaskState, signal_number};

/// An exit that nobody saw, as App Mesh says it of containers.
const UNKNOWN: i32 = -200;
/// Which fields have their time a second time, for people.
const TIMES: [&str; 6] =
    ["register_time", "start_time", "end_time", "last_start_time", "last_exit_time", "next_start_time"];

/// The code of an exit: of one by a signal the signal's number, as App Mesh tells it.
pub(super) fn code(code: Option<i32>, signal: Option<&str>) -> i32 {
    code.or_else(|| signal_number(signal?)).unwrap_or(UNKNOWN)
}

impl Found {
    /// The code of the last end, if nothing runs.
    pub(super) fn exit_code(&self) -> Option<i32> {
        if let Some(run) = self.run.as_ref().filter(|run| run.status.is_over()) {
            let exit = run.status.exit.clone().unwrap_or_else(RunExit::lost);
            return Some(code(exit.code, exit.signal.as_deref()));
        }
        if self.of != Of::App {
            return None;
        }
        let status = &self.instance.as_ref()?.status;
        let exit = status.last_exit.as_ref().filter(|_| status.state.pid().is_none())?;
        Some(code(exit.code, exit.signal.as_deref()))
    }

    /// What a client names the last start by: of an App its Instance's uid, of a Run its own.
    pub(super) fn process(&self) -> Option<String> {
        match (&self.run, &self.instance) {
            (Some(run), _) => Some(run.uid().to_string()),
            (None, instance) => instance.as_ref().map(|instance| instance.uid().to_string()),
        }
    }

    /// Whether nothing of it runs any more, until something is changed or the time comes.
    pub(super) fn is_over(&self) -> bool {
        match (&self.run, &self.instance) {
            (Some(run), _) => run.status.is_over(),
            (None, Some(instance)) => instance.status.state.pid().is_none() && instance.status.last_exit.is_some(),
            (None, None) => false,
        }
    }

    fn is_healthy(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| match self.of {
            Of::App => Condition::holds(&instance.status.conditions, "Ready"),
            _ => instance.status.state.running.is_some(),
        })
    }

    /// `0` is good.
    pub(super) fn health(&self) -> i32 {
        i32::from(!self.is_healthy())
    }

    /// Why it does not run as it should.
    fn last_error(&self) -> Option<String> {
        let status = &self.instance.as_ref()?.status;
        let state = &status.state;
        let sentence = |reason: &str, message: &str| match message {
            "" => reason.to_owned(),
            message => format!("{reason}: {message}"),
        };
        let waits = state.waiting.as_ref().filter(|waiting| waiting.reason != "Starting");
        let waits = waits.map(|waiting| sentence(&waiting.reason, &waiting.message));
        let failed = status.last_exit.as_ref().filter(|exit| !exit.is_success());
        waits.or_else(|| failed.map(of_exit))
    }
}

pub(super) fn of_exit(exit: &Exit) -> String {
    match (&exit.signal, exit.code, exit.message.as_str()) {
        (None, None, "") => "nobody saw how it ended".to_owned(),
        (None, None, message) => message.to_owned(),
        _ if exit.oom_killed => "the kernel ended it for want of memory".to_owned(),
        _ => format!("exited with return code: {}", code(exit.code, exit.signal.as_deref())),
    }
}

impl Sdk {
    /// An application as App Mesh shows it.
    pub(super) fn shown(&self, found: &Found) -> Value {
        let object = found.value();
        let mut shown = Map::new();
        shown.insert("name".to_owned(), json!(names::shown(&object)));
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                shown.insert(name.to_owned(), value);
            }
        };
        let meta = found.object.meta();
        let owner = meta.annotations.get(OWNER).unwrap_or_default();
        put("owner", json!(owner));
        put("owner_principal_id", json!(owner));
        put("owner_display_name", json!(owner));
        put("register_time", meta.creation_timestamp.map_or(Value::Null, |at| seconds(at.0)));
        put("starts", json!(found.starts));
        put("health", json!(found.health()));
        if found.of == Of::Schedule {
            let next = object["status"]["nextScheduleTimes"][0].as_str().and_then(|at| at.parse().ok());
            put("next_start_time", next.map_or(Value::Null, seconds));
        }
        if let Some(code) = found.exit_code() {
            put("return_code", json!(code));
        }
        put("last_error", found.last_error().map_or(Value::Null, Value::from));
        let instance = found.instance.clone();
        let definition = Definition::of(found.of, object);
        for (name, value) in definition.shown() {
            put(&name, value);
        }
        if found.of == Of::Run {
            put("status", json!(2));
        }
        let runs_as = match found.of {
            Of::App => self.admission.authority().exec_user(owner),
            Of::Schedule | Of::Run => None,
        };
        put("execution_user", runs_as.map_or(Value::Null, Value::from));
        // A pid of the definition is that of a process that was taken over, and this is it.
        if let Some(instance) = instance {
            self.of_instance(&instance, found, &mut put);
        }
        if found.of == Of::App {
            self.show_dependencies(found, &mut shown);
        }
        for name in TIMES {
            if let Some(at) = shown.get(name).and_then(Value::as_i64).and_then(|at| Timestamp::from_second(at).ok()) {
                shown.insert(format!("{name}_TEXT"), json!(at.strftime("%Y-%m-%dT%H:%M:%S+00").to_string()));
            }
        }
        Value::Object(shown)
    }

    fn of_instance(&self, instance: &Object<Instance>, found: &Found, put: &mut impl FnMut(&str, Value)) {
        let status = &instance.status;
        let state = &status.state;
        let running = state.running.as_ref().map(|running| running.start_time);
        let running = running.or_else(|| state.stopping.as_ref().map(|stopping| stopping.start_time));
        let last = status.last_exit.as_ref();
        let micro = |at: Option<MicroTime>| at.map_or(Value::Null, |at| seconds(at.0));
        put("last_start_time", micro(running.or_else(|| last?.start_time)));
        put("last_exit_time", micro(last.and_then(|exit| exit.finish_time)));
        put("next_start_time", micro(status.next_start_time));
        let kept = u64::from(instance.spec.logs.max_files.max(1)).min(u64::from(status.attempt));
        put("stdout_cache_size", json!(kept));
        put("stdout_file_count", json!(kept));
        let Some(pid) = state.pid() else { return };
        put("pid", json!(pid));
        let user = instance.spec.process.as_ref().and_then(|process| process.user.clone());
        put("pid_user", user.map_or(Value::Null, Value::from));
        if let Some(usage) = &status.usage {
            put("memory", json!(usage.memory_bytes));
            put("cpu", json!(usage.cpu_cores * 100.0));
            put("fd", json!(usage.fds));
        }
        if found.of == Of::App {
            let tasks = self.admission.broker().tasks_of(found.object.meta().uid());
            let works = tasks.iter().any(|task| task.state == TaskState::Working);
            put("task_status", json!(if works { "busy" } else { "idle" }));
            put("task_id", json!(tasks.len()));
        }
    }
}

fn seconds(at: Timestamp) -> Value {
    json!(at.as_second())
}
