//! What is told of an issuer of OpenID Connect: whose tokens are believed, and what they say of people.

use std::{collections::BTreeMap, path::PathBuf};

use hyper::Uri;
use serde::{Deserialize, Serialize};

/// An issuer whose tokens are believed. The names are those of Kubernetes' structured authentication as far as it has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcIssuer {
    /// Its URL, exactly as in `iss`; `https` only.
    pub issuer: String,
    /// A token must be for one of these (`aud`): the ids of clients.
    pub audiences: Vec<String>,
    /// The client that programs on people's machines are there, as App Mesh's clients are told. Default: the first audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_client_id: Option<String>,
    /// The claim with the name.
    #[serde(default = "sub")]
    pub username_claim: String,
    /// What stands before the name. Default: the issuer's URL and `#`, but nothing before an `email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_prefix: Option<String>,
    /// The claim with the groups; without one there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
    /// What stands before each group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub groups_prefix: String,
    /// The authority of its certificate, in PEM. Default: whom the machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Claims that a token must have with just this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub required_claims: BTreeMap<String, String>,
}

fn sub() -> String {
    "sub".to_owned()
}

/// The claim that may not be believed unless it is said to be verified.
pub(super) const EMAIL: &str = "email";

impl OidcIssuer {
    /// What stands before the name.
    pub(super) fn prefix(&self) -> String {
        match &self.username_prefix {
            Some(prefix) => prefix.clone(),
            None if self.username_claim == EMAIL => String::new(),
            None => format!("{}#", self.issuer),
        }
    }

    /// What is wrong with all of them, the first thing of it.
    ///
    /// # Errors
    /// That, with the issuer's name.
    pub fn check(all: &[Self]) -> Result<(), String> {
        for (i, issuer) in all.iter().enumerate() {
            let wrong = |why: &str| Err(format!("issuer `{}`: {why}", issuer.issuer));
            let uri = issuer.issuer.parse::<Uri>().ok();
            let plain = uri.as_ref().is_some_and(|uri| {
                uri.scheme_str() == Some("https")
                    && uri.authority().is_some_and(|a| !a.as_str().contains('@') && !a.host().is_empty())
                    && uri.query().is_none()
            });
            if !plain || issuer.issuer.contains('#') {
                return wrong("must be https://HOST[:PORT][/PATH]");
            }
            if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
                return wrong(
                    "`audiences` must say for whom its tokens are: a token for somebody else is nobody's here",
                );
            }
            if issuer.username_claim.is_empty() || issuer.groups_claim.as_deref() == Some("") {
                return wrong("a claim has a name");
            }
            if issuer.prefix().starts_with("system") {
                return wrong("names that begin with `system` are appm's own");
            }
            if all[..i].iter().any(|other| other.issuer == issuer.issuer) {
                return wrong("is there twice");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_can_be_believed_is_taken() {
        let check = |value: serde_json::Value| {
            let issuer: OidcIssuer = serde_json::from_value(value).map_err(|e| e.to_string())?;
            OidcIssuer::check(&[issuer])
        };
        assert_eq!(check(json!({"issuer": "https://a.example/realm", "audiences": ["appm"]})), Ok(()));
        for (wrong, why) in [
            (json!({"issuer": "http://127.0.0.1", "audiences": ["a"]}), "https"),
            (json!({"issuer": "https://u@a", "audiences": ["a"]}), "https"),
            (json!({"issuer": "https://a?b", "audiences": ["a"]}), "https"),
            (json!({"issuer": "https://a#b", "audiences": ["a"]}), "https"),
            (json!({"issuer": "a", "audiences": ["a"]}), "https"),
            (json!({"issuer": "https://a"}), "audiences"),
            (json!({"issuer": "https://a", "audiences": []}), "audiences"),
            (json!({"issuer": "https://a", "audiences": ["a"], "usernamePrefix": "system:"}), "appm's own"),
            (json!({"issuer": "https://a", "audiences": ["a"], "audience": "b"}), "unknown field"),
        ] {
            let error = check(wrong).expect_err("wrong");
            assert!(error.contains(why), "{error}");
        }
        let one: OidcIssuer = serde_json::from_value(json!({"issuer": "https://a", "audiences": ["a"]})).expect("one");
        assert_eq!(one.prefix(), "https://a#");
        assert!(OidcIssuer::check(&[one.clone(), one]).expect_err("twice").contains("twice"));
    }
}
