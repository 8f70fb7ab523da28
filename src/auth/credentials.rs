//! A User's password on its way from a manifest into the Credential: the only thing of a User that is never seen again.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::password::{self, Asked, Settled};
use crate::api::{Credential, FieldPath, Problem, SecretValue, Time, Uid, Violation, at};

/// kubectl's copy of what was applied, passwords included.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Takes the password out of a User as it is to be stored: `spec.password` becomes an empty object, and what was in it comes back
/// as the next state of the Credential; `None` if that stays as it is. A password that fits the hash that is there changes
/// nothing: a manifest may say it again and again. A User without `spec.password` has none, and loses the one it had.
///
/// # Errors
/// For a hash that is none, or costs too much; for a password that is not among those that are `settled`.
pub fn take(
    user: &mut Value,
    of: &Uid,
    now: Time,
    live: Option<&Credential>,
    settled: &HashMap<Asked, Settled>,
) -> Result<Option<Credential>, Untaken> {
    forget_in_annotation(user);
    let live = live.filter(|credential| credential.of.as_ref() == Some(of));
    let kept = live.and_then(|credential| credential.password_hash.as_ref());
    let given = at(user, &["spec", "password"]).clone();
    if given.is_object() {
        user["spec"]["password"] = json!({});
    }
    let hash = match (given["plain"].as_str(), given["hash"].as_str()) {
        (Some(plain), _) => {
            let asked = Asked { plain: plain.to_owned(), kept: kept.map(text) };
            match settled.get(&asked) {
                Some(Settled::Stays) => return Ok(None),
                Some(Settled::Becomes(hash)) => Some(hash.clone()),
                None => return Err(Untaken::Unsettled(asked)),
            }
        }
        (None, Some(hash)) if kept.is_some_and(|kept| text(kept) == hash) => return Ok(None),
        (None, Some(hash)) => {
            let bad = |why| Violation::new(FieldPath::of("spec.password.hash"), Problem::Invalid, why);
            password::check_hash(hash).map_err(|why| Untaken::Wrong(bad(why)))?;
            Some(hash.to_owned())
        }
        (None, None) if given.is_object() || kept.is_none() => return Ok(None),
        (None, None) => None,
    };
    let before = live.cloned().unwrap_or_default();
    Ok(Some(Credential {
        of: Some(of.clone()),
        password_hash: hash.map(|hash| SecretValue::of(hash.as_bytes())),
        password_time: Some(now),
        ..before
    }))
}

/// Why a password was not taken.
pub enum Untaken {
    /// It cannot be one.
    Wrong(Violation),
    /// A core must work on it first ([`password::Passwords::settle`]); then it is to be taken again.
    Unsettled(Asked),
}

fn text(kept: &SecretValue) -> String {
    kept.bytes().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Takes the password out of kubectl's copy too; a copy that cannot be read goes as a whole.
fn forget_in_annotation(user: &mut Value) {
    let Some(annotations) = user["metadata"]["annotations"].as_object_mut() else { return };
    let Some(copy) = annotations.get(LAST_APPLIED).and_then(Value::as_str) else { return };
    match serde_json::from_str::<Map<String, Value>>(copy).map(Value::Object) {
        Ok(mut applied) if applied["spec"]["password"].is_object() => {
            applied["spec"]["password"] = json!({});
            annotations.insert(LAST_APPLIED.to_owned(), applied.to_string().into());
        }
        Ok(_) => {}
        Err(_) => drop(annotations.shift_remove(LAST_APPLIED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken once all is settled.
    fn attempt(user: &mut Value, live: Option<&Credential>) -> Result<Option<Credential>, Violation> {
        let now = Time("2026-11-21T08:00:00Z".parse().expect("a time"));
        let mut settled = HashMap::new();
        loop {
            let mut attempt = user.clone();
            match take(&mut attempt, &Uid::from("u"), now, live, &settled) {
                Err(Untaken::Unsettled(asked)) => {
                    let stays = asked.kept.as_ref().is_some_and(|kept| password::fits(&asked.plain, kept));
                    let outcome = if stays { Settled::Stays } else { Settled::Becomes(password::hash(&asked.plain)) };
                    settled.insert(asked, outcome);
                }
                Err(Untaken::Wrong(violation)) => return Err(violation),
                Ok(taken) => {
                    *user = attempt;
                    return Ok(taken);
                }
            }
        }
    }

    fn taken(user: &mut Value, live: Option<&Credential>) -> Option<Credential> {
        attempt(user, live).expect("a good password")
    }

    fn with(password: Value) -> Value {
        json!({"metadata": {"name": "ada"}, "spec": {"password": password}})
    }

    #[test]
    fn a_password_is_taken_once_and_never_shown() {
        let mut user = with(json!({"plain": "correct horse"}));
        let first = taken(&mut user, None).expect("new");
        assert_eq!(user["spec"]["password"], json!({}));
        assert!(password::fits("correct horse", &text(first.password_hash.as_ref().expect("a hash"))));
        for (again, changes) in [
            (json!({"plain": "correct horse"}), false),
            (json!({}), false),
            (json!({"hash": text(first.password_hash.as_ref().expect("a hash"))}), false),
            (json!({"plain": "another horse"}), true),
            (Value::Null, true),
        ] {
            assert_eq!(taken(&mut with(again.clone()), Some(&first)).is_some(), changes, "{again}");
        }
        let mut none = json!({"metadata": {"name": "ada"}, "spec": {}});
        assert_eq!(taken(&mut none, Some(&first)).expect("a change").password_hash, None);
        assert_eq!(none["spec"], json!({}));
    }

    #[test]
    fn another_user_of_the_same_name_inherits_nothing() {
        let other = Credential {
            of: Some(Uid::from("another")),
            password_hash: Some(SecretValue::of(password::hash("correct horse").as_bytes())),
            ..Credential::default()
        };
        let mut user = with(json!({"plain": "correct horse"}));
        assert!(taken(&mut user, Some(&other)).is_some());
        assert_eq!(taken(&mut with(json!({})), Some(&other)), None);
    }

    #[test]
    fn kubectls_copy_has_no_password_either() {
        let mut user = with(json!({"plain": "correct horse"}));
        user["metadata"]["annotations"] = json!({LAST_APPLIED: user.to_string(), "other": "stays"});
        taken(&mut user, None);
        assert!(!user.to_string().contains("correct horse"), "{user}");
        assert_eq!(user["metadata"]["annotations"]["other"], "stays");
        user["metadata"]["annotations"][LAST_APPLIED] = json!("{\"spec\": {\"password\": {\"plain\": \"correct");
        taken(&mut user, None);
        assert_eq!(user["metadata"]["annotations"], json!({"other": "stays"}));
    }

    #[test]
    fn a_hash_must_be_one() {
        let refused = attempt(&mut with(json!({"hash": "$argon2id$nonsense"})), None);
        assert_eq!(refused.expect_err("nonsense").path.to_string(), "spec.password.hash");
    }
}
