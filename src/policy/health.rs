//! Whether an object is what it was declared to be: what somebody waits for who has applied it.

use serde_json::Value;

use crate::api::{App, Kind, KindInfo, Run, Schedule, Source, WorkflowRun, at};

/// How an object is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// There is nothing to wait for.
    Well,
    /// Not yet, or not now.
    Waiting(String),
    /// It has ended badly, and stays so.
    Failed(String),
}

/// True for kinds that somebody waits for; those whose objects are only read are always well.
pub fn can_be_unwell(kind: &KindInfo) -> bool {
    [App::INFO, Schedule::INFO, Source::INFO, Run::INFO, WorkflowRun::INFO].contains(&kind)
}

/// How an object of a kind is doing, by its own status.
pub fn health(kind: &KindInfo, object: &Value) -> Health {
    if *kind == *Run::INFO || *kind == *WorkflowRun::INFO {
        return match (condition(object, "Failed"), condition(object, "Complete")) {
            (Some(failed), _) if failed["status"] == "True" => Health::Failed(said(failed)),
            (_, Some(complete)) if complete["status"] == "True" => Health::Well,
            _ => Health::Waiting("it has not ended".to_owned()),
        };
    }
    if !can_be_unwell(kind) || at(object, &["spec", "suspend"]) == true {
        return Health::Well;
    }
    let status = &object["status"];
    if status["observedGeneration"].as_i64() != object["metadata"]["generation"].as_i64() {
        return Health::Waiting("nobody has looked at its last change yet".to_owned());
    }
    // While a new revision is put in place, the instances of the old one are still ready.
    let (current, update) = (&status["currentRevision"], &status["updateRevision"]);
    match condition(object, "Ready") {
        Some(ready) if ready["status"] == "True" && current == update => Health::Well,
        Some(ready) if ready["status"] == "True" => Health::Waiting("its new revision is not in place yet".to_owned()),
        Some(ready) => Health::Waiting(said(ready)),
        None => Health::Waiting("it has not said yet that it is ready".to_owned()),
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    at(object, &["status", "conditions"]).as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn said(condition: &Value) -> String {
    let text = |field: &str| condition[field].as_str().unwrap_or_default();
    match text("message") {
        "" => text("reason").to_owned(),
        message => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::ConfigMap;

    #[test]
    fn an_app_is_well_when_it_is_ready_as_it_was_declared_last() {
        let app = |seen: i64, ready: &str, current: &str| {
            json!({"metadata": {"generation": 2}, "spec": {}, "status": {"observedGeneration": seen,
                "currentRevision": current, "updateRevision": "b",
                "conditions": [{"type": "Ready", "status": ready, "message": "1 of 2"}]}})
        };
        assert_eq!(health(App::INFO, &app(2, "True", "b")), Health::Well);
        for (app, expected) in [
            (app(1, "True", "b"), "nobody has looked at its last change yet"),
            (app(2, "False", "b"), "1 of 2"),
            (app(2, "True", "a"), "its new revision is not in place yet"),
        ] {
            assert_eq!(health(App::INFO, &app), Health::Waiting(expected.to_owned()));
        }
        assert_eq!(health(App::INFO, &json!({"metadata": {"generation": 1}, "spec": {"suspend": true}})), Health::Well);
        assert_eq!(health(ConfigMap::INFO, &json!({"metadata": {"generation": 1}})), Health::Well);
    }

    #[test]
    fn a_run_is_well_when_it_has_succeeded_and_failed_for_good() {
        let run = |kind: &str| json!({"spec": {}, "status": {"conditions": [{"type": kind, "status": "True", "reason": "DeadlineExceeded"}]}});
        assert_eq!(health(Run::INFO, &run("Complete")), Health::Well);
        assert_eq!(health(Run::INFO, &run("Failed")), Health::Failed("DeadlineExceeded".to_owned()));
        assert_eq!(health(Run::INFO, &run("Suspended")), Health::Waiting("it has not ended".to_owned()));
    }
}
