//! Chains of facts that somebody could meet at three in the morning.

use serde_json::json;

use super::*;
use crate::api::{Authorship, FieldChange, HistoryMetadata, MicroTime};

fn at(minute: u32) -> String {
    format!("2026-11-21T08:{minute:02}:00Z")
}

fn version(
    minute: u32,
    revision: &str,
    user: &str,
    change: VersionChange,
    field: Option<(&str, Value, Value)>,
) -> Version {
    let by = Authorship {
        user: user.to_owned(),
        manager: "appm".to_owned(),
        request_id: if user.starts_with("system:") { String::new() } else { "r-1".to_owned() },
        reason: if user.starts_with("system:") {
            "create revision web-2; create instance web-2-0 because it is wanted".to_owned()
        } else {
            String::new()
        },
        cause: user.starts_with("system:").then(|| "30".to_owned()),
    };
    let fields: Vec<FieldChange> = field
        .into_iter()
        .map(|(path, before, after)| FieldChange {
            path: path.to_owned(),
            old: Some(before),
            new: Some(after),
            secret: false,
        })
        .collect();
    let time = Some(MicroTime(at(minute).parse().unwrap()));
    let (revision, changed_fields) = (revision.to_owned(), fields.len());
    Version { revision, time, uid: "u".into(), change, by, pins: Vec::new(), fields, changed_fields }
}

fn crashing() -> Facts {
    let condition = |kind: &str, status: &str, reason: &str, message: &str, minute| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(minute)});
    let history = |items| History::of(HistoryMetadata::default(), items);
    Facts {
        subject: "app/web".to_owned(),
        object: json!({"kind": "App", "metadata": {"name": "web"}, "spec": {"replicas": 2, "process": {"script": "exit 3"}},
            "status": {"readyReplicas": 1, "conditions": [condition("Ready", "False", "CrashLooping", "1 instance keeps crashing", 6)]}}),
        members: vec![json!({"kind": "Instance", "metadata": {"name": "web-2-0"}, "status": {"restarts": 4,
            "state": {"waiting": {"reason": "CrashLooping", "message": "the next attempt is due"}},
            "lastExit": {"code": 3, "finishTime": at(9), "message": "starting\nno such table: users"}}})],
        events: vec![
            json!({"type": "Warning", "reason": "BackOff", "message": "restarting is held back", "count": 4, "lastTimestamp": at(8),
            "involvedObject": {"kind": "Instance", "name": "web-2-0"}}),
        ],
        histories: vec![
            (
                "app/web".to_owned(),
                history(vec![
                    version(
                        10,
                        "40",
                        "bob",
                        VersionChange::Changed,
                        Some(("metadata.labels.tier", json!("a"), json!("b"))),
                    ),
                    version(
                        5,
                        "30",
                        "ann",
                        VersionChange::Changed,
                        Some(("spec.process.script", json!("serve"), json!("exit 3"))),
                    ),
                    version(1, "10", "ann", VersionChange::Created, None),
                ]),
            ),
            (
                "instance/web-2-0".to_owned(),
                history(vec![
                    version(
                        7,
                        "35",
                        "system:app",
                        VersionChange::Changed,
                        Some(("metadata.labels.x", json!(1), json!(2))),
                    ),
                    version(5, "31", "system:app", VersionChange::Created, None),
                ]),
            ),
        ],
        unreadable: vec!["the Source ops/prod may not be read".to_owned()],
        ..Facts::default()
    }
}

fn told(why: &Why) -> String {
    let mut text = format!("{}\n", why.summary);
    for link in &why.links {
        let time = link.time.map_or_else(|| "-".to_owned(), |at| at.strftime("%H:%M").to_string());
        text += &format!("{time} {:?} {}: {}\n", link.sort, link.about, link.text);
        link.lines.iter().for_each(|line| text += &format!("      | {line}\n"));
    }
    text
}

#[test]
fn a_crash_loop_is_followed_back_to_the_change_and_its_author() {
    let why = why(&crashing(), None).expect("is told");
    assert_eq!(why.origin, "30");
    let decision = why.links.iter().find(|link| link.sort == Sort::Decision).unwrap();
    assert_eq!(
        (decision.because.as_str(), decision.cause.as_str()),
        ("create instance web-2-0 because it is wanted", "30")
    );
    insta::assert_snapshot!(told(&why), @r#"
    app/web has 1 of 2 instances ready. Ready is False: CrashLooping, 1 instance keeps crashing. instance/web-2-0 ended with exit code 3. It goes back to ann, who changed spec.process.script from serve to "exit 3" (app/web, revision 30)
    - Observed app/web: app/web has 1 of 2 instances ready
    - Observed app/web: Ready is False: CrashLooping, 1 instance keeps crashing
    08:10 Change app/web: changed metadata.labels.tier from a to b
          | metadata.labels.tier from a to b
    08:09 Exit instance/web-2-0: ended with exit code 3
          | starting
          | no such table: users
    08:08 Event instance/web-2-0: restarting is held back (BackOff, 4 times)
    08:06 Condition app/web: Ready is False: CrashLooping, 1 instance keeps crashing
    08:05 Decision instance/web-2-0: made instance/web-2-0
    08:05 Change app/web: changed spec.process.script from serve to "exit 3"
          | spec.process.script from serve to "exit 3"
    08:01 Change app/web: made app/web
    - Unreadable app/web: the Source ops/prod may not be read
    "#);
}

#[test]
fn a_field_leaves_out_what_does_not_concern_it() {
    let of = |field: &str| why(&crashing(), Some(field)).expect("is told");
    let sorts = |why: &Why| why.links.iter().map(|link| format!("{:?}", link.sort)).collect::<Vec<_>>().join(" ");
    assert!(
        of("restarts")
            .summary
            .starts_with("instance/web-2-0 was restarted 4 times. instance/web-2-0 ended with exit code 3")
    );
    assert_eq!(sorts(&of("restarts")), "Observed Change Exit Event Decision Change Change Unreadable");
    let script = of("spec.process.script");
    assert_eq!(sorts(&script), "Observed Decision Change Change Unreadable");
    assert_eq!(script.links[0].text, r#"spec.process.script is "exit 3""#);
    assert!(of("process").summary.contains("ann, who changed spec.process.script"));
    assert!(of("ready").summary.starts_with("Ready is False"));
    assert_eq!(of("status.readyReplicas").links[0].text, "status.readyReplicas is 1");
    let unknown = why(&crashing(), Some("replica")).unwrap_err();
    assert!(
        unknown.known.contains(&"spec.replicas".to_owned()) && unknown.known.contains(&"restarts".to_owned()),
        "{unknown:?}"
    );
}

#[test]
fn what_is_gone_goes_back_to_who_deleted_it() {
    let mut facts = crashing();
    facts.object = Value::Null;
    facts.members.clear();
    facts.events.clear();
    facts.histories[0].1.items.insert(0, version(20, "50", "eve", VersionChange::Deleted, None));
    let why = why(&facts, None).expect("is told");
    assert_eq!(why.summary, "app/web is not there. It goes back to eve, who deleted app/web (app/web, revision 50)");
}

#[test]
fn a_schedule_says_when_it_fired_and_that_it_is_suspended() {
    let facts = Facts {
        subject: "schedule/nightly".to_owned(),
        object: json!({"kind": "Schedule", "metadata": {"name": "nightly"}, "spec": {"suspend": true},
            "status": {"lastScheduleTime": at(0), "nextScheduleTimes": []}}),
        ..Facts::default()
    };
    let why = why(&facts, None).expect("is told");
    assert_eq!(
        why.summary,
        "schedule/nightly fired last at 2026-11-21T08:00:00Z and has no next time. It is suspended (spec.suspend)"
    );
}
