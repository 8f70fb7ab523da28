//! The operations that prove who somebody is, and what they take and give.

use serde_json::{Map, Value, json};

use super::{
    answers,
    operation::{Described, JSON, Shape, form},
    shapes::{list_of, object, text, texts_of},
};

/// The tag.
pub(super) const TAG: &str = "Login";

/// Operations by their paths.
type Operations = Vec<(&'static str, Described)>;

/// The operations: those that are posted, and those that are read.
pub(super) fn all() -> (Operations, Operations) {
    let post = |id, summary, takes: &str| {
        Described::new(TAG, id, summary).body("What is asked for.", &[form(JSON, Shape::of(takes))], true)
    };
    let json = |shape| [form(JSON, Shape::of(shape))];
    let nothing = "Done.";
    let posted = vec![
        (
            "/auth/v1/login",
            post("login", "Log in with a password", "LoginRequest")
                .public()
                .description(
                    "Whoever guesses waits: 429 with `Retry-After`, by account and by source. Where a second factor is enrolled and \
                     `code` is missing, the 401 has the cause `TOTPRequired`.",
                )
                .answers(200, "An access token, and what the next one is had with.", &json("LoginTokens"))
                .refuses(answers::OPEN_LOGIN),
        ),
        (
            "/auth/v1/refresh",
            post("refreshLogin", "Get the next access token", "RefreshRequest")
                .public()
                .description(
                    "The refresh token is another one each time. Whoever shows one that was used before ends the session; an answer \
                     that was lost can be had again for some seconds.",
                )
                .answers(200, "The next tokens.", &json("LoginTokens"))
                .refuses(answers::OPEN_LOGIN),
        ),
        ("/auth/v1/token", in_oauths_words()),
        (
            "/auth/v1/logout",
            post("logout", "End one's session, or all of them", "LogoutRequest")
                .answers(200, "How many have ended.", &json("LogoutAnswer"))
                .refuses(answers::LOGIN),
        ),
        (
            "/auth/v1/password",
            post("changeOwnPassword", "Change one's own password", "PasswordRequest")
                .description("All other sessions of the user end.")
                .answers(200, nothing, &json("LoginDone"))
                .refuses(answers::LOGIN),
        ),
        (
            "/auth/v1/tokens",
            post("issueToken", "Make a long-lived API token", "TokenRequest")
                .description("Its secret is in the answer and nowhere else. It is listed and revoked as the Token of that name.")
                .answers(201, "The token.", &json("TokenIssued"))
                .refuses(answers::LOGIN),
        ),
        (
            "/auth/v1/totp/enroll",
            post("enrollSecondFactor", "Begin to enrol a second factor", "LoginDone")
                .answers(201, "What an authenticator app reads.", &json("Enrolment"))
                .refuses(answers::LOGIN),
        ),
        (
            "/auth/v1/totp/confirm",
            post("confirmSecondFactor", "Confirm the enrolment with a first code", "CodeRequest")
                .answers(200, "Recovery codes, shown this once.", &json("RecoveryCodes"))
                .refuses(answers::LOGIN),
        ),
        (
            "/auth/v1/totp/recovery",
            post("renewRecoveryCodes", "Get new recovery codes", "CodeRequest")
                .answers(200, "Recovery codes, shown this once; the old ones are worth nothing.", &json("RecoveryCodes"))
                .refuses(answers::LOGIN),
        ),
        (
            "/auth/v1/totp/disable",
            post("disableSecondFactor", "Give a second factor up", "CodeRequest")
                .description("One's own with a code; somebody else's without, by whoever may update that User.")
                .answers(200, nothing, &json("LoginDone"))
                .refuses(answers::LOGIN),
        ),
    ];
    let read = |id, summary, description, shape| {
        Described::new(TAG, id, summary).public().answers(200, description, &json(shape))
    };
    let keys =
        read("getSigningKeys", "Read the keys that verify access tokens", "The keys (RFC 7517).", "JsonWebKeySet");
    let issuer = read(
        "getIssuer",
        "Read how this server issues tokens, in OpenID's words",
        "Where tokens and keys are.",
        "IssuerDescription",
    );
    let resource = read(
        "getProtectedResource",
        "Read whose tokens are believed (RFC 9728)",
        "This server, and the issuers.",
        "ProtectedResource",
    );
    let reads = vec![
        ("/openid/v1/jwks", keys),
        ("/.well-known/openid-configuration", issuer),
        ("/.well-known/oauth-protected-resource", resource),
    ];
    (posted, reads)
}

/// The token endpoint. It answers in OAuth's words when it refuses, too.
fn in_oauths_words() -> Described {
    let takes = [JSON, "application/x-www-form-urlencoded"].map(|kind| form(kind, Shape::of("OAuthRequest")));
    let gives = |shape| [form(JSON, Shape::of(shape))];
    let described = Described::new(TAG, "grantToken", "Get an access token, in OAuth's words")
        .public()
        .description(
            "RFC 6749, the grants `password` and `refresh_token`: the same login as `/auth/v1/login`. OAuth's own clients post a form; a JSON object of \
             the same fields is taken too.",
        )
        .body("What is asked for.", &takes, true)
        .answers(200, "The token.", &gives("OAuthToken"));
    let refusals = [
        (400, "It is not granted, or not understood."),
        (413, "The body is too large."),
        (429, "Whoever guesses waits: `Retry-After`."),
        (500, "A mistake of the server."),
        (503, "The server cannot judge now."),
        (504, "The body did not come in time."),
    ];
    refusals.into_iter().fold(described, |described, (code, why)| described.answers(code, why, &gives("OAuthRefusal")))
}

/// The shapes.
pub(super) fn shapes() -> Vec<(&'static str, Value)> {
    let closed = |description, required: &[&str], properties| {
        let mut shape = object(description, required, properties);
        shape["additionalProperties"] = json!(false);
        shape
    };
    let hidden = |description| {
        let mut shape = text(description);
        shape["writeOnly"] = json!(true);
        shape["format"] = json!("password");
        shape
    };
    let time = |description| json!({"type": "string", "format": "date-time", "description": description});
    let code = || text("A code of the authenticator, or a recovery code.");
    vec![
        (
            "IssuerDescription",
            object(
                "As much of OpenID Connect as there is: no page that takes a password. Of the token endpoint there are the grants `password` and `refresh_token` (RFC 6749).",
                &["issuer", "token_endpoint", "jwks_uri", "grant_types_supported"],
                json!({
                    "issuer": text("This server, as it was addressed."), "token_endpoint": text("Where tokens are."),
                    "jwks_uri": text("Where the keys are."), "grant_types_supported": texts_of("The grants."),
                    "response_types_supported": texts_of("None."), "scopes_supported": texts_of("`offline_access`: a refresh token too."),
                    "subject_types_supported": texts_of("`public`."), "id_token_signing_alg_values_supported": texts_of("How tokens are signed."),
                    "token_endpoint_auth_methods_supported": texts_of("How a client says who it is."),
                }),
            ),
        ),
        (
            "ProtectedResource",
            object(
                "A resource that tokens are for (RFC 9728).",
                &["resource", "authorization_servers"],
                json!({
                    "resource": text("This server, as it was addressed."), "resource_name": text("`appm`."),
                    "authorization_servers": texts_of("Issuers whose tokens are believed."),
                    "bearer_methods_supported": texts_of("Where a token is shown."),
                }),
            ),
        ),
        (
            "OAuthRequest",
            object(
                "What is asked for in OAuth's words (RFC 6749, 4.3 and 6).",
                &["grant_type"],
                json!({
                    "grant_type": text("`password` or `refresh_token`."), "username": text("The User's name."),
                    "password": hidden("The password."), "totp": text("A code of the second factor, where one is enrolled."),
                    "refresh_token": hidden("The one of the last answer."), "scope": text("`offline_access`: a refresh token too."),
                }),
            ),
        ),
        (
            "OAuthToken",
            object(
                "A token (RFC 6749, 5.1).",
                &["access_token", "token_type", "expires_in"],
                json!({
                    "access_token": text("For `Authorization: Bearer`."), "token_type": text("`Bearer`."),
                    "expires_in": {"type": "integer", "format": "int64", "description": "Seconds for which it is good."},
                    "refresh_token": text("For the next one, if it was asked for."),
                }),
            ),
        ),
        (
            "OAuthRefusal",
            object(
                "Why there is no token (RFC 6749, 5.2).",
                &["error", "error_description"],
                json!({
                    "error": text("`invalid_request`, `invalid_grant`, `unsupported_grant_type`, `mfa_required` or `temporarily_unavailable`."),
                    "error_description": text("The same for people."),
                }),
            ),
        ),
        (
            "LoginRequest",
            closed(
                "Who one is, and what proves it.",
                &["username", "password"],
                json!({"username": text("The User's name."), "password": hidden("The password."), "code": code()}),
            ),
        ),
        (
            "LoginTokens",
            object(
                "What a login gives.",
                &["accessToken", "expirationTime", "mustEnroll", "username"],
                json!({
                    "accessToken": text("For `Authorization: Bearer`."), "expirationTime": time("When it ends."),
                    "refreshToken": text("For the next one; absent where nothing but the enrolment is open."),
                    "mustEnroll": {"type": "boolean", "description": "True: a second factor is required, and none is enrolled."},
                    "username": text("The User's name."),
                }),
            ),
        ),
        (
            "RefreshRequest",
            closed(
                "A refresh token.",
                &["refreshToken"],
                json!({"refreshToken": hidden("The one of the last answer.")}),
            ),
        ),
        (
            "LogoutRequest",
            closed(
                "Which sessions end.",
                &[],
                json!({"all": {"type": "boolean", "default": false, "description": "True: all of the user's; else this one."}}),
            ),
        ),
        (
            "LogoutAnswer",
            object(
                "What has ended.",
                &["ended"],
                json!({"ended": {"type": "integer", "description": "How many sessions."}}),
            ),
        ),
        (
            "PasswordRequest",
            closed(
                "A change of one's own password.",
                &["old", "new"],
                json!({"old": hidden("The password until now."), "new": hidden("The password from now on."), "code": code()}),
            ),
        ),
        (
            "TokenRequest",
            closed(
                "A token that is to be made.",
                &[],
                json!({
                    "user": text("Whose; absent: one's own."), "description": text("What it is for."),
                    "expirationSeconds": {"type": "integer", "format": "int64", "minimum": 1, "description": "How long it is good; absent: until it is deleted."},
                    "rules": list_of("PolicyRule", "What it is good for; none: everything that the user may do."),
                }),
            ),
        ),
        (
            "TokenIssued",
            object(
                "A new token.",
                &["token", "name", "user"],
                json!({
                    "token": text("The secret, shown this once."), "name": text("The Token's name."),
                    "user": text("Whose it is."), "expirationTime": time("When it ends."),
                }),
            ),
        ),
        (
            "Enrolment",
            object(
                "A new authenticator, shown this once.",
                &["uri", "secret"],
                json!({"uri": text("For a QR code: `otpauth://…`."), "secret": text("For typing.")}),
            ),
        ),
        (
            "CodeRequest",
            closed(
                "A code.",
                &[],
                json!({"code": code(), "user": text("Whose second factor is disabled; absent: one's own.")}),
            ),
        ),
        (
            "RecoveryCodes",
            object(
                "Codes that are good once each.",
                &["recoveryCodes"],
                json!({"recoveryCodes": texts_of("The codes.")}),
            ),
        ),
        ("LoginDone", object("Nothing more to say.", &[], Value::Object(Map::new()))),
        (
            "JsonWebKeySet",
            object(
                "The keys.",
                &["keys"],
                json!({"keys": {"type": "array", "description": "One for each key that signs, or did.",
                    "items": {"type": "object", "additionalProperties": {"type": "string"}}}}),
            ),
        ),
    ]
}
