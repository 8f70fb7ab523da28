//! Taking a transaction back: which ones can be, and what it takes for each object.
//!
//! An undo is itself a transaction, with the reason `undo of N`. So which are undone follows from the reasons alone, and an undo that is
//! undone leaves the first one done again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::restore::{Owned, restore};
use crate::api::{Operation, OperationVerb, Preconditions, Rev};

const REASON: &str = "undo of ";

/// The reason of the transaction that takes `revision` back.
pub fn reason(revision: Rev) -> String {
    format!("{REASON}{revision}")
}

/// What a transaction of that reason took back, if anything.
pub fn undoes(reason: &str) -> Option<Rev> {
    Rev::parse(reason.strip_prefix(REASON)?)
}

/// Which transactions are taken back, and by which; of somebody's transactions with their reasons, newest first.
pub fn undone<'a>(newest_first: impl DoubleEndedIterator<Item = (Rev, &'a str)>) -> BTreeMap<Rev, Rev> {
    let (mut undone, mut took_back) = (BTreeMap::new(), BTreeMap::new());
    for (revision, reason) in newest_first.rev() {
        let Some(of) = undoes(reason) else { continue };
        took_back.insert(revision, of);
        undone.insert(of, revision);
        if let Some(first) = took_back.get(&of) {
            undone.remove(first);
        }
    }
    undone
}

/// One object of a transaction, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its uid after the transaction.
    pub uid: String,
    /// How it was before; `None`: there was none.
    pub before: Option<Value>,
    /// True if the transaction deleted it, or asked it to go.
    pub deleted: bool,
    /// How it is.
    pub live: Option<Value>,
    /// Who changed it since, and when: in words, the newest first. What was taken back since, and what took it back, is left out.
    pub since: Vec<String>,
}

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is as it was before.
    Nothing,
    /// It was made, and goes.
    Delete(Operation),
    /// It was changed, and becomes as it was.
    Restore(Vec<Operation>),
    /// It was deleted, and is made anew.
    Recreate(Vec<Operation>),
    /// It cannot be taken back; why, and whether force would do it.
    Refuse {
        /// In words, after the object's name.
        why: String,
        /// True where `--force` helps.
        forcible: bool,
    },
}

/// What it takes to take a transaction of `manager` back for one object.
pub fn step(facts: &Facts, manager: &str, force: bool) -> Step {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let refuse = |why: String, forcible| Step::Refuse { why, forcible };
    if let Some(live) = &facts.live
        && !live["metadata"]["deletionTimestamp"].is_null()
    {
        return refuse("is still going: try again when it is gone".to_owned(), false);
    }
    if !force {
        let other = facts.live.as_ref().is_some_and(|live| uid(live) != facts.uid);
        match (&facts.live, facts.deleted) {
            (Some(_), _) if facts.since.is_empty() => {}
            (Some(_), true) => return refuse(since("was made anew since", facts), true),
            (Some(_), false) if other => return refuse(since("was deleted and made anew since", facts), true),
            (Some(_), false) => return refuse(since("was changed since", facts), true),
            (None, false) if facts.before.is_some() => return refuse(since("was deleted since", facts), true),
            _ => {}
        }
    }
    match (&facts.before, &facts.live) {
        (None, None) => Step::Nothing,
        (None, Some(live)) => {
            let metadata = json!({"name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"]});
            let object = json!({"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata});
            let preconditions = Preconditions {
                uid: Some(uid(live).as_str().into()),
                resource_version: live["metadata"]["resourceVersion"].as_str().map(str::to_owned).filter(|_| !force),
            };
            Step::Delete(Operation { preconditions, ..Operation::new(OperationVerb::Delete, object) })
        }
        (Some(before), live) => match restore(live.as_ref(), before, manager, force) {
            Ok(operations) if operations.is_empty() => Step::Nothing,
            Ok(operations) if live.is_none() => Step::Recreate(operations),
            Ok(operations) => Step::Restore(operations),
            Err(owned) => refuse(owned_by(&owned), true),
        },
    }
}

fn since(what: &str, facts: &Facts) -> String {
    match facts.since.first() {
        Some(who) => format!("{what}: {who}"),
        None => what.to_owned(),
    }
}

/// `has fields that others own: spec.replicas (source:prod)`
pub fn owned_by(owned: &[Owned]) -> String {
    let fields: Vec<String> = owned.iter().map(|one| format!("{} ({})", one.paths.join(", "), one.manager)).collect();
    format!("has fields that others own: {}", fields.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_takes_back_and_an_undo_of_it_gives_back() {
        let told = |reasons: &[(u64, &str)]| -> Vec<(u64, u64)> {
            let newest_first: Vec<(Rev, &str)> = reasons.iter().rev().map(|(at, reason)| (Rev(*at), *reason)).collect();
            undone(newest_first.into_iter()).into_iter().map(|(of, by)| (of.0, by.0)).collect()
        };
        assert_eq!(told(&[(1, ""), (2, "")]), []);
        assert_eq!(told(&[(1, ""), (2, ""), (3, "undo of 2")]), [(2, 3)]);
        assert_eq!(told(&[(1, ""), (2, ""), (3, "undo of 2"), (4, "undo of 1")]), [(1, 4), (2, 3)]);
        assert_eq!(told(&[(1, ""), (2, ""), (3, "undo of 2"), (4, "undo of 3")]), [(3, 4)]);
        assert_eq!(told(&[(2, ""), (3, "undo of 2"), (4, "undo of 3"), (5, "undo of 2")]), [(2, 5), (3, 4)]);
        assert_eq!((undoes("undo of x"), undoes("redo of 1"), undoes(&reason(Rev(7)))), (None, None, Some(Rev(7))));
    }

    #[test]
    fn each_object_goes_comes_back_or_is_refused() {
        let app = |uid: &str, replicas: u32| {
            Some(json!({"apiVersion": "appm.dev/v1", "kind": "App", "spec": {"replicas": replicas},
                "metadata": {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": "3"}}))
        };
        let going = app("u", 1).map(|mut app| {
            app["metadata"]["deletionTimestamp"] = json!("2026-11-21T08:00:00Z");
            app
        });
        let ann = vec!["ann, at revision 9".to_owned()];
        let facts = |before: Option<Value>, deleted: bool, live: Option<Value>, since: &[String]| Facts {
            uid: "u".to_owned(),
            before,
            deleted,
            live,
            since: since.to_vec(),
        };
        let word = |facts: &Facts, force: bool| match step(facts, "appm", force) {
            Step::Nothing => "nothing".to_owned(),
            Step::Delete(_) => "delete".to_owned(),
            Step::Restore(_) => "restore".to_owned(),
            Step::Recreate(_) => "recreate".to_owned(),
            Step::Refuse { why, .. } => why,
        };
        for (facts, plain, forced) in [
            (facts(None, false, app("u", 1), &[]), "delete", "delete"),
            (facts(None, false, None, &[]), "nothing", "nothing"),
            (facts(None, false, app("u", 1), &ann), "was changed since: ann, at revision 9", "delete"),
            (facts(app("u", 1), false, app("u", 2), &[]), "restore", "restore"),
            (facts(app("u", 1), false, app("u", 1), &[]), "nothing", "nothing"),
            (facts(app("u", 1), false, app("u", 2), &ann), "was changed since: ann, at revision 9", "restore"),
            (
                facts(app("u", 1), false, app("v", 2), &ann),
                "was deleted and made anew since: ann, at revision 9",
                "restore",
            ),
            // An undo of a deletion made it anew.
            (facts(app("u", 1), false, app("v", 2), &[]), "restore", "restore"),
            (facts(app("u", 1), false, None, &ann), "was deleted since: ann, at revision 9", "recreate"),
            (facts(app("u", 1), true, None, &[]), "recreate", "recreate"),
            (facts(app("u", 1), true, app("v", 1), &ann), "was made anew since: ann, at revision 9", "nothing"),
            (
                facts(app("u", 1), true, going, &[]),
                "is still going: try again when it is gone",
                "is still going: try again when it is gone",
            ),
        ] {
            assert_eq!((word(&facts, false).as_str(), word(&facts, true).as_str()), (plain, forced), "{facts:?}");
        }
    }
}
