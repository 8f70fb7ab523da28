//! Tokens of issuers: who they are, what is refused, and what happens where the issuer is away.

use std::{sync::Arc, time::Duration};

use appm::{
    api::Reason,
    auth::{OidcIssuer, fuzzing},
    client::http::{Request, RequestError},
    clock::{Clock, SharedClock, System, Virtual},
    store::Limits,
};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Api,
    issuer::{Issuer, Odd, Signer, text},
    login::{USERS, WHO_AM_I, client, name_of, post},
};

async fn server(issuer: &Issuer, clock: SharedClock) -> Api {
    Api::configured(Limits::default(), clock, |config| config.oidc = vec![issuer.settings()]).await
}

fn now() -> i64 {
    System.now().as_second()
}

async fn says(api: &Api, token: &str) -> String {
    match client(api, Some(token)).call(Request::post(WHO_AM_I, &json!({}))).await {
        Ok(answer) => answer.json().unwrap()["status"]["userInfo"]["username"].as_str().unwrap().to_owned(),
        Err(RequestError::Refused(status)) => status.message,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_token_of_an_issuer_is_somebody_in_its_groups_or_the_user_who_names_it() {
    let issuer = Issuer::start().await;
    let signers = Signer::all();
    issuer.has(signers.iter().map(|signer| signer.jwk(signer.algorithm())).collect());
    let api = server(&issuer, Arc::new(System)).await;
    let claims = issuer.claims(now());
    for signer in &signers {
        let token = signer.sign(signer.algorithm(), &claims);
        assert_eq!(name_of(&api, &token).await, Ok(json!("sso:1234")), "{}", signer.algorithm());
    }
    assert_eq!(issuer.asked(), 1, "keys are kept");

    let token = signers[4].sign("EdDSA", &claims);
    let who = post(&api, Some(&token), WHO_AM_I, json!({})).await.unwrap()["status"]["userInfo"].take();
    assert_eq!(who["groups"], json!(["system:authenticated", "sso:devs", "sso:ops"]));
    // Groups give roles.
    let apps = super::APPS;
    assert!(client(&api, Some(&token)).call(Request::get(apps)).await.is_err());
    let role = json!({"metadata": {"name": "readers"}, "spec": {
        "subjects": [{"kind": "Group", "name": "sso:devs"}],
        "rules": [{"apiGroups": ["appm.dev"], "resources": ["apps"], "verbs": ["get", "list", "watch"]}]}});
    api.post("/apis/appm.dev/v1/roles", &role).await.expect(201);
    client(&api, Some(&token)).call(Request::get(apps)).await.unwrap();

    // The same subject, once a User names it: that User.
    let ada = json!({"metadata": {"name": "ada"}, "spec": {
        "groups": ["people"], "oidc": {"issuer": issuer.url, "subject": "1234"}}});
    api.post(USERS, &ada).await.expect(201);
    let who = post(&api, Some(&token), WHO_AM_I, json!({})).await.unwrap()["status"]["userInfo"].take();
    assert_eq!(who["username"], "ada");
    assert_eq!(who["groups"], json!(["people", "system:authenticated", "sso:devs", "sso:ops"]));

    // A lock ends what is open, and lets nobody in.
    let ada = client(&api, Some(&token));
    let watch = Request::get(format!("{apps}?watch=true&resourceVersion=0"));
    let mut open = ada.lines(watch).await.unwrap();
    api.patch(&format!("{USERS}/ada"), "application/merge-patch+json", r#"{"spec":{"locked":true}}"#).await.expect(200);
    let ended = tokio::time::timeout(crate::harness::PATIENCE, async { while open.next().await.is_some() {} });
    ended.await.expect("the watch ends");
    assert_eq!(name_of(&api, &token).await, Err(Reason::Unauthorized));

    // A User of the name that a token would get is somebody else; two Users for one subject are nobody.
    let other = signers[4].sign("EdDSA", &with(&claims, "sub", json!("55")));
    assert_eq!(name_of(&api, &other).await, Ok(json!("sso:55")));
    let two = json!({"metadata": {"name": "eve"}, "spec": {"oidc": {"issuer": issuer.url, "subject": "55"}}});
    api.post(USERS, &two).await.expect(201);
    assert_eq!(name_of(&api, &other).await, Ok(json!("eve")));
    let mut three = two.clone();
    three["metadata"]["name"] = json!("mallory");
    api.post(USERS, &three).await.expect(201);
    assert!(says(&api, &other).await.contains("nobody is meant by it"));
    api.server.stop().await;
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

/// What a server that has the issuer's keys would say.
struct Judge {
    keys: Vec<u8>,
    settings: OidcIssuer,
}

impl Judge {
    fn believes(&self, token: &str) -> bool {
        fuzzing::issuer_token(token, &self.keys, &self.settings, now())
    }
}

#[tokio::test]
async fn nothing_but_what_the_issuer_signed_for_us_is_believed() {
    let issuer = Issuer::start().await;
    let signers = Signer::all();
    let set: Vec<Value> = signers.iter().map(|signer| signer.jwk(signer.algorithm())).collect();
    let judge = Judge { keys: json!({"keys": set}).to_string().into_bytes(), settings: issuer.settings() };
    let claims = issuer.claims(now());
    for signer in &signers {
        let algorithm = signer.algorithm();
        let good = signer.sign(algorithm, &claims);
        assert!(judge.believes(&good), "{algorithm}");
        assert!(judge.believes(&signer.token(&json!({"alg": algorithm}), &claims)), "a key without a name is found");
        // Another algorithm than the key's, none, a MAC with what is public, and what a header may lead astray with.
        for other in ["none", "None", "", "HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "RS512", "EdDSA"] {
            let token = signer.token(&json!({"alg": other, "kid": algorithm}), &claims);
            assert_eq!(judge.believes(&token), other == algorithm, "{algorithm} as {other}");
        }
        let public = signer.jwk(algorithm).to_string();
        let signed =
            format!("{}.{}", text(json!({"alg": "HS256", "kid": algorithm}).to_string()), text(claims.to_string()));
        let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
        assert!(!judge.believes(&format!("{signed}.{}", text(aws_lc_rs::hmac::sign(&mac, signed.as_bytes())))));
        let (head, _) = good.rsplit_once('.').unwrap();
        assert!(!judge.believes(&format!("{head}.")) && !judge.believes(head));
        // Every byte counts.
        for at in (0..good.len()).step_by(3) {
            for bit in 0..8 {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(!judge.believes(&changed), "{algorithm} {at} {bit}");
                }
            }
            let (before, after) = good.split_at(at);
            for extra in ["A", "=", ".", " ", "\n"] {
                assert!(!judge.believes(&format!("{before}{extra}{after}")), "{algorithm} {at} {extra:?}");
            }
            assert!(!judge.believes(before) && (at == 0 || !judge.believes(after)), "{algorithm} {at}");
        }
    }
    let signer = &signers[4];
    for header in [
        json!({"alg": "EdDSA", "kid": "EdDSA", "crit": ["exp"]}),
        json!({"alg": "EdDSA", "kid": "EdDSA", "typ": "logout+jwt"}),
        json!({"alg": "EdDSA", "kid": "RS256"}),
        json!({"alg": "EdDSA", "kid": "nobody's"}),
        json!({"alg": "EdDSA", "kid": 5}),
        json!({"alg": ["EdDSA"]}),
        json!([]),
    ] {
        assert!(!judge.believes(&signer.token(&header, &claims)), "{header}");
    }
    let inner = Signer::ed(9);
    let own_key =
        json!({"alg": "EdDSA", "jwk": inner.jwk("x"), "jku": "https://127.0.0.1:1/", "x5u": "file:///etc/passwd"});
    assert!(!judge.believes(&inner.token(&own_key, &claims)), "a key in the token is nobody's");
    let sign = |claims: &Value| signer.sign("EdDSA", claims);
    let second = now();
    for (name, value, good) in [
        ("iss", json!("https://other.example"), false),
        ("iss", json!(format!("{}/", issuer.url)), false),
        ("iss", json!([issuer.url]), false),
        ("aud", json!("other"), false),
        ("aud", json!([]), false),
        ("aud", json!(["other", "appm"]), true),
        ("aud", json!({"appm": true}), false),
        ("aud", json!("appm "), false),
        ("exp", json!(second - 1), false),
        ("exp", json!(second), false),
        ("exp", json!(second as f64 + 90.5), true),
        ("exp", json!((second + 60).to_string()), false),
        ("exp", Value::Null, false),
        ("exp", json!(1e300), false),
        ("exp", json!(i64::MAX), false),
        ("nbf", json!(second + 600), false),
        ("nbf", json!(second - 600), true),
        ("nbf", json!("soon"), false),
        ("iat", json!(second + 600), false),
        ("sub", json!(""), false),
        ("sub", json!(7), false),
        ("sub", json!("a\nb"), false),
        ("sub", json!("x".repeat(256)), false),
        ("tier", json!("guest"), false),
        ("tier", json!(["staff"]), false),
        ("groups", json!("devs"), true),
        ("groups", Value::Null, true),
        ("groups", json!([7]), false),
        ("groups", json!(["a\u{0}"]), false),
        ("groups", json!(vec!["g"; 300]), false),
        ("more", json!("x".repeat(20_000)), false),
        ("more", json!("x".repeat(5_000)), true),
    ] {
        assert_eq!(judge.believes(&sign(&with(&claims, name, value.clone()))), good, "{name}: {value}");
    }
    for name in ["iss", "aud", "exp", "sub", "tier"] {
        let mut without = claims.clone();
        without.as_object_mut().unwrap().remove(name);
        assert!(!judge.believes(&sign(&without)), "without {name}");
    }
    // Names that are appm's own, and addresses that nobody has verified.
    let settings = |field: &str, value: Value| {
        let mut all = serde_json::to_value(issuer.settings()).unwrap();
        all[field] = value;
        Judge { keys: judge.keys.clone(), settings: serde_json::from_value(all).unwrap() }
    };
    let bare = settings("usernamePrefix", json!(""));
    assert!(!bare.believes(&sign(&with(&claims, "sub", json!("system:appm:agent")))));
    let mail = settings("usernameClaim", json!("email"));
    let mut addressed = with(&claims, "email", json!("ada@example.org"));
    for (verified, good) in [(json!(true), true), (json!(false), false), (json!("true"), false)] {
        addressed["email_verified"] = verified;
        assert_eq!(mail.believes(&sign(&addressed)), good, "{addressed}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_away_is_missed_only_for_what_is_not_known() {
    let issuer = Issuer::start().await;
    let (first, second) = (Signer::ed(1), Signer::ed(2));
    let clock = Virtual::new(Timestamp::from_second(now()).unwrap(), 7);
    let api = server(&issuer, Arc::new(clock.clone())).await;
    let day = SignedDuration::from_hours(24);
    let pause = SignedDuration::from_secs(11);
    // The whole test takes less than three days.
    let claims = with(&issuer.claims(now()), "exp", json!(now() + 7 * 24 * 3600));
    let (one, two) = (first.sign("1", &claims), second.sign("2", &claims));

    for odd in [
        Odd::Status(500, ""),
        Odd::Status(302, "https://127.0.0.1:1/"),
        Odd::Body(b"not keys".to_vec()),
        Odd::Body(vec![b' '; 1 << 20]),
    ] {
        for path in ["/keys", "/openid-configuration"] {
            issuer.odd(path, Some(odd.clone()));
            assert_eq!(name_of(&api, &one).await, Err(Reason::ServiceUnavailable));
            issuer.odd(path, None);
            clock.advance(pause);
        }
    }
    let elsewhere = json!({"issuer": "https://other.example", "jwks_uri": format!("{}/keys", issuer.url)});
    let in_the_clear = json!({"issuer": issuer.url, "jwks_uri": "http://127.0.0.1:1/keys"});
    for description in [elsewhere, in_the_clear, json!({"issuer": issuer.url})] {
        issuer.odd("/openid-configuration", Some(Odd::Body(description.to_string().into_bytes())));
        assert_eq!(name_of(&api, &one).await, Err(Reason::ServiceUnavailable));
        clock.advance(pause);
    }
    issuer.odd("/openid-configuration", None);

    issuer.has(vec![first.jwk("1")]);
    assert_eq!(name_of(&api, &one).await, Ok(json!("sso:1234")));
    let asked = issuer.asked();
    // A key that is not there is looked for once, whoever asks for it and however often.
    clock.advance(pause);
    for _ in 0..5 {
        assert_eq!(name_of(&api, &two).await, Err(Reason::Unauthorized));
    }
    assert_eq!(issuer.asked(), asked + 1);
    issuer.has(vec![first.jwk("1"), second.jwk("2")]);
    clock.advance(pause);
    assert_eq!(name_of(&api, &two).await, Ok(json!("sso:1234")));
    assert!(says(&api, &first.sign("1", &with(&claims, "exp", json!(1)))).await.contains("it has ended"));

    // Away: what is known goes on for a day, and no longer.
    issuer.stop();
    clock.advance(day - pause);
    assert_eq!(name_of(&api, &one).await, Ok(json!("sso:1234")));
    clock.advance(pause);
    let missed = says(&api, &one).await;
    assert!(missed.contains("cannot be asked"), "{missed}");
    api.server.stop().await;
}

#[tokio::test]
async fn a_token_that_ends_ends_what_was_opened_with_it() {
    let issuer = Issuer::start().await;
    let signer = Signer::ed(1);
    issuer.has(vec![signer.jwk("1")]);
    let clock = Virtual::new(Timestamp::from_second(now()).unwrap(), 7);
    let api = server(&issuer, Arc::new(clock.clone())).await;
    let role = json!({"metadata": {"name": "readers"}, "spec": {
        "subjects": [{"kind": "User", "name": "sso:1234"}],
        "rules": [{"apiGroups": ["appm.dev"], "resources": ["apps"], "verbs": ["list", "watch"]}]}});
    api.post("/apis/appm.dev/v1/roles", &role).await.expect(201);
    let token = signer.sign("1", &issuer.claims(now()));
    let bearer = client(&api, Some(&token));
    let watch = Request::get(format!("{}?watch=true&resourceVersion=0", super::APPS));
    let mut open = bearer.lines(watch).await.unwrap();
    clock.advance(SignedDuration::from_secs(601));
    let last = tokio::time::timeout(Duration::from_secs(60), async {
        let mut last = Value::Null;
        while let Some(Ok(line)) = open.next().await {
            last = serde_json::from_slice(&line).unwrap();
        }
        last
    });
    assert_eq!(last.await.expect("the watch ends")["object"]["code"], 401);
    assert_eq!(name_of(&api, &token).await, Err(Reason::Unauthorized));
    api.server.stop().await;
}
