//! What a client of the third generation asks before it has a token: who issues such tokens, and for whom they must be.

use serde_json::{Value, json};

use super::{Call, Reply, Sdk};
use crate::auth::OidcIssuer;

/// The client that App Mesh's own programs are, where nobody says another.
const CLIENT: &str = "appmesh-cli";

impl Sdk {
    /// This server, as an issuer of tokens: as it was addressed, because its clients know it by no other name.
    pub(super) fn issuer(&self, call: &Call) -> String {
        match call.host.as_str() {
            "" => format!("https://{}", self.here.address),
            host => format!("https://{host}"),
        }
    }

    /// The first issuer that is configured; without one, this server.
    pub(super) fn auth_config(&self, call: &Call) -> Reply {
        Reply::json(200, described(self.authenticator.issuers().next(), &self.issuer(call)))
    }
}

fn described(configured: Option<&OidcIssuer>, own: &str) -> Value {
    let (issuer, audience, client, scopes, flows) = match configured {
        Some(issuer) => {
            let audience = issuer.audiences.first().map_or("", String::as_str);
            let client = issuer.public_client_id.as_deref().unwrap_or(audience);
            let scopes = json!(["openid", "profile", "email", "groups", "offline_access"]);
            (issuer.issuer.as_str(), audience, client, scopes, json!(["authorization_code_pkce", "device_code"]))
        }
        None => (own, crate::auth::AUDIENCE, CLIENT, json!(["openid", "offline_access"]), json!(["password"])),
    };
    json!({
        "issuer": issuer, "resource": own, "browser_entry": issuer, "audience": audience, "public_client_id": client,
        "scopes": scopes, "flows": flows, "refresh_token": true,
        "first_admin_enrollment": {"available": false, "subject": ""},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_issuer_comes_before_this_server() {
        let own = described(None, "https://localhost:6060");
        assert_eq!((&own["issuer"], &own["flows"]), (&json!("https://localhost:6060"), &json!(["password"])));
        let issuer = json!({"issuer": "https://sso.example/r", "audiences": ["appmesh-api"], "publicClientId": "cli"});
        let issuer: OidcIssuer = serde_json::from_value(issuer).expect("one");
        let shown = described(Some(&issuer), "https://localhost:6060");
        for (name, expected) in [
            ("issuer", "https://sso.example/r"),
            ("resource", "https://localhost:6060"),
            ("audience", "appmesh-api"),
            ("public_client_id", "cli"),
        ] {
            assert_eq!(shown[name], expected, "{name}");
        }
    }
}
