//! Names: App Mesh allows capitals, underscores and 128 letters. What is a name here as well stays as it is; of the others one is made that is
//! readable and always the same (`My_App` → `my-app-5f0c2c1e`), and the object says in an annotation what it is called.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::{Status, check_label};

/// The annotation that says what App Mesh calls it.
pub const NAMED: &str = "appm.dev/app-mesh-name";
const LONGEST: usize = 128;
/// As much of a name as leaves room for what tells it from others, and for what is made of it.
const KEPT: usize = 40;

/// The name of an object.
///
/// # Errors
/// 400 for what is no name in App Mesh either.
pub(super) fn stored(name: &str) -> Result<String, Status> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(good) {
        let message = "a name has 1 to 128 letters, digits, `-` and `_`";
        return Err(Status::bad_request(message));
    }
    if check_label(name).is_ok() {
        return Ok(name.to_owned());
    }
    let plain = name.to_ascii_lowercase().replace('_', "-");
    let plain: String = plain.trim_matches('-').chars().take(KEPT).collect();
    let digest = hex::encode(&Sha256::digest(name)[..4]);
    let parts = [plain.trim_end_matches('-'), &digest];
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-"))
}

/// What App Mesh calls an object.
pub(super) fn shown(object: &Value) -> String {
    let own = object["metadata"]["name"].as_str().unwrap_or_default();
    let said = object["metadata"]["annotations"][NAMED].as_str();
    said.filter(|said| stored(said).is_ok_and(|name| name == own)).unwrap_or(own).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_that_is_one_here_stays() {
        for name in ["ping", "py-task", "8y", &"x".repeat(63)] {
            assert_eq!(stored(name).as_deref(), Ok(name));
        }
        for name in ["", "a b", "a/b", "ä", "a.b", "..", &"x".repeat(129)] {
            assert!(stored(name).is_err(), "{name}");
        }
        let made = stored("My_App").expect("a name");
        assert!(made.starts_with("my-app-") && made != stored("my-app_").expect("a name"), "{made}");
        let object = |said: &str| json!({"metadata": {"name": made, "annotations": {NAMED: said}}});
        assert_eq!((shown(&object("My_App")), shown(&object("admin"))), ("My_App".to_owned(), made.clone()));
    }

    proptest! {
        #[test]
        fn every_name_of_app_mesh_has_one_here(name in "[A-Za-z0-9_-]{1,128}") {
            let made = stored(&name).expect("a name");
            prop_assert!(check_label(&made).is_ok() && (made == name || made.len() <= 52), "{}", made);
        }
    }
}
