//! A Plan in lines, for people: objects first, then what becomes of processes in the order of time, then a summary.
//!
//! One text for everybody: `appm plan`, `apply --confirm` and what a Source that waits for approval shows.

use serde_json::Value;

use crate::api::{
    FieldChange, MissingRight, Plan, PlannedAction, PlannedApp, PlannedChange, PlannedObject, PlannedVerb,
};

/// What a line is about, which may be shown by a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something comes.
    Comes,
    /// Something becomes different.
    Changes,
    /// Something goes.
    Goes,
    /// A heading, a summary.
    Head,
    /// What nobody needs to look at.
    Quiet,
    /// Everything else.
    Plain,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about.
    pub tone: Tone,
    /// Its text.
    pub text: String,
}

/// As many characters of a value are shown.
const VALUE: usize = 100;
/// As many actions are shown.
const ACTIONS: usize = 100;
/// So much of the hash is shown.
const HASH: usize = 12;

/// A plan in lines.
pub fn lines(plan: &Plan) -> Vec<Line> {
    let mut all = Vec::new();
    let told = plan.objects.iter().filter(|object| object.change != PlannedChange::Unchanged);
    told.for_each(|object| all.extend(of_object(object)));
    if !plan.missing_rights.is_empty() {
        all.push(line(Tone::Head, "Rights that are missing".to_owned()));
        plan.missing_rights.iter().for_each(|right| all.extend(of_right(right)));
    }
    if !plan.actions.is_empty() {
        all.push(line(Tone::Plain, String::new()));
        all.push(line(Tone::Head, "What becomes of processes".to_owned()));
        all.extend(of_actions(&plan.actions));
        let apps: Vec<Line> = plan.apps.iter().filter_map(of_app).collect();
        if !apps.is_empty() {
            all.push(line(Tone::Plain, String::new()));
            all.extend(apps);
        }
        all.push(line(Tone::Plain, String::new()));
        let granted = plan.assumptions.iter().map(|assumption| format!("  Taken for granted: {assumption}."));
        all.extend(granted.map(|text| line(Tone::Quiet, text)));
    }
    if !plan.incomplete.is_empty() {
        all.push(line(Tone::Changes, format!("  This may not be all: {}.", plan.incomplete)));
    }
    if !all.is_empty() {
        all.push(line(Tone::Plain, String::new()));
    }
    all.push(line(Tone::Head, summary(plan)));
    all
}

fn line(tone: Tone, text: String) -> Line {
    Line { tone, text }
}

/// `app/web in default`
fn place(kind: &str, name: &str, namespace: &str) -> String {
    let kind = kind.to_lowercase();
    match namespace {
        "" => format!("{kind}/{name}"),
        namespace => format!("{kind}/{name} in {namespace}"),
    }
}

fn of_object(object: &PlannedObject) -> Vec<Line> {
    let made = || object.fields.iter().find(|field| field.path == "metadata.generateName");
    let name = match (object.name.as_str(), made().and_then(|field| field.new.as_ref()?.as_str())) {
        ("", Some(prefix)) => format!("{prefix}…"),
        (name, _) => name.to_owned(),
    };
    let place = place(&object.kind, &name, &object.namespace);
    let (mark, tone, word) = match object.change {
        PlannedChange::Created => ('+', Tone::Comes, "is created"),
        PlannedChange::Changed => ('~', Tone::Changes, "is changed"),
        PlannedChange::Deleted => ('-', Tone::Goes, "is deleted"),
        PlannedChange::Unchanged => (' ', Tone::Quiet, "stays as it is"),
    };
    let mut all = vec![line(tone, format!("{mark} {place} {word}"))];
    let width = object.fields.iter().map(|field| field.path.chars().count()).max().unwrap_or(0).min(48);
    all.extend(object.fields.iter().map(|field| of_field(field, object.change, width)));
    if object.more_fields > 0 {
        all.push(line(Tone::Quiet, format!("      and {} more fields", object.more_fields)));
    }
    all.extend(object.warnings.iter().map(|warning| line(Tone::Changes, format!("      ! {warning}"))));
    all
}

fn of_field(field: &FieldChange, change: PlannedChange, width: usize) -> Line {
    let path = &field.path;
    let (mark, tone, text) = match (&field.old, &field.new) {
        _ if field.secret => match change {
            PlannedChange::Created => ('+', Tone::Comes, "(a secret value)".to_owned()),
            _ => ('~', Tone::Changes, "(a secret value becomes different)".to_owned()),
        },
        (Some(old), Some(new)) => ('~', Tone::Changes, format!("{} → {}", value(old), value(new))),
        (None, Some(new)) => ('+', Tone::Comes, value(new)),
        (Some(old), None) => ('-', Tone::Goes, value(old)),
        (None, None) => ('~', Tone::Changes, String::new()),
    };
    line(tone, format!("    {mark} {path:width$}  {text}").trim_end().to_owned())
}

/// On one line, and not too long.
fn value(value: &Value) -> String {
    let text = value.to_string();
    match text.chars().nth(VALUE) {
        None => text,
        Some(_) => text.chars().take(VALUE - 1).chain(['…']).collect(),
    }
}

fn of_right(right: &MissingRight) -> Vec<Line> {
    let MissingRight { verb, group, resource, namespace, name, .. } = right;
    let resource = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
    let which = if name.is_empty() { String::new() } else { format!(" `{name}`") };
    let place =
        if namespace.is_empty() { "at the cluster scope".to_owned() } else { format!("in namespace {namespace}") };
    let roles = match right.granted_by.as_slice() {
        [] => "no built-in role grants it".to_owned(),
        roles => format!("granted by role {}", roles.join(", ")),
    };
    vec![
        line(Tone::Goes, format!("  ✗ {verb} {resource}{which} {place}: {roles}")),
        line(Tone::Quiet, format!("      {}", right.message)),
    ]
}

/// `now`, `+1.5s`, `+2m10s`
fn moment(seconds: f64) -> String {
    if seconds < 0.0005 { "now".to_owned() } else { format!("+{}", span(seconds)) }
}

fn span(seconds: f64) -> String {
    let minutes = (seconds / 60.0).floor();
    let rest = (seconds - minutes * 60.0) * 1000.0;
    let rest = (rest.round() / 1000.0).to_string();
    if minutes > 0.0 { format!("{minutes}m{rest}s") } else { format!("{rest}s") }
}

fn lasts(seconds: f64) -> String {
    if seconds < 0.0005 { "a moment".to_owned() } else { span(seconds) }
}

fn of_actions(actions: &[PlannedAction]) -> Vec<Line> {
    let owner = |action: &PlannedAction| place(&action.owner_kind, &action.owner, &action.namespace);
    let shown = || actions.iter().take(ACTIONS);
    let width = |of: &dyn Fn(&PlannedAction) -> usize| shown().map(of).max().unwrap_or(0);
    let times = width(&|action| moment(action.after_seconds).chars().count());
    let owners = width(&|action| owner(action).chars().count());
    let names = width(&|action| action.instance.chars().count());
    let of = |action: &PlannedAction| {
        let (mark, tone, word) = match action.verb {
            PlannedVerb::Start => ('+', Tone::Comes, "start"),
            PlannedVerb::Stop => ('-', Tone::Goes, "stop"),
            PlannedVerb::Restart => ('↻', Tone::Changes, "restart"),
            PlannedVerb::Replace => ('+', Tone::Changes, "replace"),
            PlannedVerb::Resize => ('~', Tone::Changes, "resize"),
        };
        let (at, owner, name) = (moment(action.after_seconds), owner(action), &action.instance);
        let anyway = if action.anyway { " (also without this change)" } else { "" };
        let tone = if action.anyway { Tone::Quiet } else { tone };
        let because = &action.because;
        line(tone, format!("  {at:>times$}  {mark} {word:<7}  {owner:<owners$}  {name:<names$}  {because}{anyway}"))
    };
    let mut all: Vec<Line> = shown().map(of).collect();
    if let Some(more) = actions.len().checked_sub(ACTIONS).filter(|more| *more > 0) {
        all.push(line(Tone::Quiet, format!("  and {more} more; -o json shows all")));
    }
    all
}

/// What users of an App notice.
fn of_app(app: &PlannedApp) -> Option<Line> {
    let name = place("app", &app.name, &app.namespace);
    let PlannedApp { ready_before: before, ready_at_least: least, ready_after: after, .. } = app;
    let settled = moment(app.settled_after_seconds);
    let (tone, text) = if *before == 0 && *after == 0 {
        return None;
    } else if *before == 0 {
        (Tone::Comes, format!("{after} ready, the last at {settled}"))
    } else if *after == 0 {
        (Tone::Goes, format!("{before} → 0 ready at {settled}: it is not available any more"))
    } else if *least == 0 {
        (Tone::Goes, format!("{before} → {after} ready; none at all for {}", lasts(app.unavailable_seconds)))
    } else if *least < *before.min(after) {
        let below = lasts(app.below_seconds);
        (Tone::Changes, format!("{before} → {after} ready; fewer than before for {below}, never less than {least}"))
    } else {
        (Tone::Plain, format!("{before} → {after} ready; never less than {least}"))
    };
    Some(line(tone, format!("  {name}: {text}")))
}

fn summary(plan: &Plan) -> String {
    let of = &plan.summary;
    if !plan.missing_rights.is_empty() {
        let count = plan.missing_rights.len();
        return format!("This would be refused: {count} right{} missing.", if count == 1 { " is" } else { "s are" });
    }
    let counts =
        [(of.created, "to create"), (of.changed, "to change"), (of.deleted, "to delete"), (of.unchanged, "unchanged")];
    let listed = |all: &[(i64, &str)]| {
        let some = all.iter().filter(|(count, _)| *count > 0);
        some.map(|(count, word)| format!("{count} {word}")).collect::<Vec<String>>().join(", ")
    };
    if plan.changes_nothing() {
        let unchanged = if of.unchanged > 0 { format!(" ({} unchanged)", of.unchanged) } else { String::new() };
        return format!("Nothing to do{unchanged}.");
    }
    let processes = [
        (of.starts, "started"),
        (of.replacements, "replaced"),
        (of.restarts, "restarted"),
        (of.stops, "stopped"),
        (of.resizes, "resized"),
    ];
    let processes = listed(&processes);
    let processes =
        if processes.is_empty() { "no process is touched".to_owned() } else { format!("instances: {processes}") };
    format!("Plan {:.HASH$}: {}; {processes}.", plan.hash, listed(&counts))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(plan: Value) -> String {
        let mut all = json!({"apiVersion": "appm.dev/v1", "kind": "Plan", "resourceVersion": "7", "summary": {}});
        all.as_object_mut().unwrap().extend(plan.as_object().unwrap().clone());
        let plan: Plan = serde_json::from_value(all).unwrap();
        lines(&plan).into_iter().map(|line| line.text + "\n").collect()
    }

    #[test]
    fn objects_come_first_then_time_then_the_sum() {
        let action = |at: f64, verb: &str, name: &str, because: &str| {
            json!({"afterSeconds": at, "verb": verb, "ownerKind": "App", "namespace": "default", "owner": "web", "instance": name,
                "attempt": 1, "because": because})
        };
        let object = |kind: &str, name: &str, change: &str, fields: Value| json!({"apiVersion": "v1", "kind": kind, "namespace": "default", "name": name, "change": change, "fields": fields});
        let plan = json!({
            "hash": "0123456789abcdef0123",
            "summary": {"created": 1, "changed": 2, "deleted": 1, "unchanged": 4, "replacements": 1},
            "objects": [
                object("App", "web", "Changed", json!([
                    {"path": "spec.replicas", "old": 1, "new": 2},
                    {"path": "spec.process.command", "old": ["a"], "new": ["b"]},
                    {"path": "metadata.labels.tier", "new": "x"},
                ])),
                object("Secret", "s", "Changed", json!([{"path": "data.key", "secret": true}])),
                object("ConfigMap", "old", "Deleted", json!([])),
                object("ConfigMap", "same", "Unchanged", json!([])),
            ],
            "actions": [
                action(0.0, "Replace", "web-b-0", "it takes the place of one of revision web-a"),
                action(61.5, "Stop", "web-a-0", "revision web-b takes its place"),
            ],
            "apps": [{"namespace": "default", "name": "web", "readyBefore": 1, "readyAtLeast": 1, "readyAfter": 2,
                "unavailableSeconds": 0.0, "belowSeconds": 0.0, "settledAfterSeconds": 61.5}],
            "assumptions": ["all goes well"],
        });
        insta::assert_snapshot!(text(plan), @r#"
        ~ app/web in default is changed
            ~ spec.replicas         1 → 2
            ~ spec.process.command  ["a"] → ["b"]
            + metadata.labels.tier  "x"
        ~ secret/s in default is changed
            ~ data.key  (a secret value becomes different)
        - configmap/old in default is deleted

        What becomes of processes
              now  + replace  app/web in default  web-b-0  it takes the place of one of revision web-a
          +1m1.5s  - stop     app/web in default  web-a-0  revision web-b takes its place

          app/web in default: 1 → 2 ready; never less than 1

          Taken for granted: all goes well.

        Plan 0123456789ab: 1 to create, 2 to change, 1 to delete, 4 unchanged; instances: 1 replaced.
        "#);
    }

    #[test]
    fn every_right_that_is_missing_is_told_with_what_grants_it() {
        let plan = json!({"missingRights": [
            {"operation": 0, "verb": "create", "group": "appm.dev", "resource": "apps", "namespace": "prod", "name": "web",
                "message": "no", "grantedBy": ["admin", "edit"]},
            {"operation": 1, "verb": "use", "group": "appm.dev", "resource": "hostpowers", "name": "user:root", "message": "no"},
        ]});
        insta::assert_snapshot!(text(plan), @r"
        Rights that are missing
          ✗ create apps.appm.dev `web` in namespace prod: granted by role admin, edit
              no
          ✗ use hostpowers.appm.dev `user:root` at the cluster scope: no built-in role grants it
              no

        This would be refused: 2 rights are missing.
        ");
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        assert_eq!(text(json!({"summary": {"unchanged": 3}})), "Nothing to do (3 unchanged).\n");
    }
}
