//! What proves who somebody is, over one store: passwords out of manifests, logins, tokens, second factors, and their ends.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::FutureExt;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{tests::served, *};
use crate::{
    api::{Credential, Kind, Reason, Session, Status, Token, User},
    auth::{
        self, Authenticator, CODE_REQUIRED, CodeRequest, Granted, LoginRequest, PasswordRequest, Proof, TokenRequest,
        totp_code,
    },
    clock::{Clock, Virtual},
    policy::powers::Host,
    store::{Limits, Memory},
};

struct World {
    clock: Virtual,
    admission: Admission,
    door: Authenticator,
}

const PASSWORD: &str = "correct horse";

fn from(address: &str) -> auth::From {
    auth::From { address: Some(address.parse().expect("an address")), owner: false, agent: "tester".to_owned() }
}

fn home() -> auth::From {
    from("10.0.0.1")
}

impl World {
    async fn new() -> Self {
        let clock = Virtual::new("2026-11-21T08:00:00Z".parse().expect("a time"), 1);
        let shared: SharedClock = Arc::new(clock.clone());
        let store = Store::open(Memory::new().engine(), shared.clone(), Limits::default()).await.expect("opens");
        let admission = Admission::new(store.clone(), shared.clone(), Host::default());
        let door = Authenticator::new(admission.authority().clone(), admission.passwords().clone(), store, shared);
        let world = Self { clock, admission, door };
        world.apply(json!({"groups": ["devs"], "password": {"plain": PASSWORD}})).await.expect("made");
        world
    }

    /// What a git repository says of Ada.
    async fn apply(&self, spec: Value) -> Result<Written, Status> {
        let object = json!({"apiVersion": "appm.dev/v1", "kind": "User", "metadata": {"name": "ada"}, "spec": spec});
        let patch = Patch::Apply { object, force: true };
        self.patch(patch).await
    }

    async fn merge(&self, spec: Value) -> Written {
        self.patch(Patch::Merge(json!({"spec": spec}))).await.expect("patched")
    }

    async fn patch(&self, patch: Patch) -> Result<Written, Status> {
        let caller = Caller::new(Identity::admin(Proof::Peer), "tester");
        let target = Target { served: served("users"), namespace: "", name: "ada", subresource: None };
        self.admission.patch(&caller, &target, patch, &WriteOptions::default()).await
    }

    async fn remove(&self) {
        let caller = Caller::new(Identity::admin(Proof::Peer), "tester");
        let target = Target { served: served("users"), namespace: "", name: "ada", subresource: None };
        let options = WriteOptions::default();
        self.admission.delete(&caller, &target, &DeleteOptions::default(), &options).await.expect("deleted");
    }

    async fn login_with(&self, password: &str, code: Option<&str>, from: &auth::From) -> Result<Granted, Status> {
        let code = code.map(str::to_owned);
        self.door.login(&LoginRequest { username: "ada".into(), password: password.into(), code }, from).await
    }

    async fn login(&self) -> Granted {
        self.login_with(PASSWORD, None, &home()).await.expect("the right password")
    }

    fn who(&self, granted: &Granted) -> Result<Identity, Status> {
        self.door.bearer(&granted.access_token, &home()).now_or_never().expect("nobody is asked")
    }

    fn count<K: Kind>(&self) -> usize {
        self.admission.store().list(K::INFO, None).items.len()
    }

    fn user(&self) -> Value {
        self.admission.store().get(&crate::api::Key::of::<User>("", "ada")).expect("there").value()
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }

    fn code(&self, secret: &str) -> String {
        totp_code(secret, self.clock.now()).expect("base32")
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) {
    assert_eq!(answer.expect_err("refused").reason, Reason::Unauthorized);
}

#[tokio::test]
async fn a_password_is_taken_once_and_shown_nowhere() {
    let world = World::new().await;
    let user = world.user();
    assert_eq!(user["spec"]["password"], json!({}));
    let again = world.apply(json!({"groups": ["devs"], "password": {"plain": PASSWORD}})).await.expect("applied");
    assert_eq!(again.outcome, Outcome::Unchanged, "a manifest may say it again");
    assert_eq!(world.user()["metadata"]["generation"], user["metadata"]["generation"]);
    world.merge(json!({"displayName": "Ada"})).await;
    world.login().await;
    let short = world.apply(json!({"password": {"plain": "short"}})).await.expect_err("too short");
    assert_eq!(short.reason, Reason::Invalid);
    assert!(!short.message.contains("short\""), "{}", short.message);
    for stored in world.admission.store().list(User::INFO, None).items {
        assert!(!String::from_utf8_lossy(&stored.json).contains("argon2"));
    }
}

#[tokio::test]
async fn users_whose_passwords_wait_to_be_hashed_keep_nobody_waiting() {
    let world = World::new().await;
    let everybody = world.admission.passwords().occupied().await;
    let caller = Caller::new(Identity::admin(Proof::Peer), "tester");
    let make = |i: usize| {
        let (admission, caller) = (world.admission.clone(), caller.clone());
        let spec = json!({"password": {"plain": format!("{PASSWORD} {i}")}});
        let user = json!({"metadata": {"name": format!("user-{i}")}, "spec": spec});
        tokio::spawn(async move {
            admission.create(&caller, served("users"), "", user, &WriteOptions::default()).await.map(drop)
        })
    };
    let waiting: Vec<_> = (0..10).map(make).collect();
    // On this one thread others write and read meanwhile.
    world.merge(json!({"displayName": "Ada"})).await;
    assert_eq!(world.count::<User>(), 1);
    assert!(waiting.iter().all(|user| !user.is_finished()));
    drop(everybody);
    for user in waiting {
        user.await.expect("no panic").expect("made");
    }
    assert_eq!(world.count::<User>(), 11);
    // And no more wait than there are places.
    let everybody = world.admission.passwords().occupied().await;
    let crowd: Vec<_> = (11..100).map(make).collect();
    let turned_away = async {
        while crowd.iter().filter(|user| user.is_finished()).count() < 25 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), turned_away).await.expect("those beyond the line");
    let (refused, waiting): (Vec<_>, Vec<_>) = crowd.into_iter().partition(|user| user.is_finished());
    assert_eq!((refused.len(), waiting.len()), (25, 64));
    for user in refused {
        assert_eq!(user.await.expect("no panic").expect_err("refused").reason, Reason::TooManyRequests);
    }
    drop(everybody);
}

#[tokio::test]
async fn a_login_opens_a_session_and_the_user_says_when() {
    let world = World::new().await;
    let granted = world.login().await;
    let who = world.who(&granted).expect("let in");
    assert_eq!(
        (who.name.as_str(), who.groups.as_slice()),
        ("ada", ["devs".to_owned(), auth::AUTHENTICATED.to_owned()].as_slice())
    );
    assert_eq!(world.user()["status"]["lastLoginTime"], "2026-11-21T08:00:00Z");
    refused(world.login_with("wrong horse", None, &home()).await);
    world.pass(15 * 60);
    refused(world.who(&granted));
    let next = world.door.refresh(granted.refresh_token.as_deref().expect("one")).await.expect("refreshed");
    world.who(&next).expect("let in");
}

#[tokio::test]
async fn nobody_knows_from_an_answer_whether_there_is_such_a_user() {
    let world = World::new().await;
    let wrong = world.login_with("wrong horse", None, &home()).await.expect_err("wrong");
    let ask = LoginRequest { username: "nobody".into(), password: PASSWORD.into(), code: None };
    assert_eq!(world.door.login(&ask, &home()).await.expect_err("nobody"), wrong);
    world.merge(json!({"locked": true})).await;
    assert_eq!(world.login_with(PASSWORD, None, &home()).await.expect_err("locked"), wrong);
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_lost_answer_can_be_had_again() {
    let world = World::new().await;
    let first = world.login().await.refresh_token.expect("one");
    let second = world.door.refresh(&first).await.expect("refreshed").refresh_token.expect("one");
    assert_ne!(first, second);
    let again = world.door.refresh(&first).await.expect("the answer was lost").refresh_token.expect("one");
    assert_eq!(again, second, "the very same");
    world.pass(31);
    let third = world.door.refresh(&second).await.expect("refreshed");
    refused(world.door.refresh(&first).await);
    assert_eq!(world.count::<Session>(), 0, "whoever shows a spent one ends the session");
    refused(world.who(&third));
    refused(world.door.refresh(third.refresh_token.as_deref().expect("one")).await);
}

#[tokio::test]
async fn a_refresh_token_that_never_was_ends_nothing() {
    let world = World::new().await;
    let granted = world.login().await;
    let token = granted.refresh_token.clone().expect("one");
    for bad in
        ["", "appmr_", "appmr_x_y", "appmr__", &token[..token.len() - 1], &format!("{token}A"), &token.to_uppercase()]
    {
        refused(world.door.refresh(bad).await);
    }
    world.who(&granted).expect("still in");
    world.door.refresh(&token).await.expect("still good");
}

#[tokio::test]
async fn whoever_is_locked_or_gone_or_has_another_password_is_out_at_once() {
    for (patch, comes_back) in [
        (json!({"locked": true}), true),
        (json!({"password": {"plain": "another horse"}}), false),
        (json!({"password": null}), false),
    ] {
        let world = World::new().await;
        let granted = world.login().await;
        let basic = BASE64_STANDARD.encode(format!("ada:{PASSWORD}"));
        let by_basic = world.door.basic(&basic, &home()).await.expect("let in");
        world.merge(patch.clone()).await;
        refused(world.who(&granted));
        refused(world.door.basic(&basic, &home()).await);
        refused(world.admission.authority().still(&by_basic));
        if comes_back {
            world.merge(json!({"locked": false})).await;
            world.who(&granted).expect("a lock is no end of a session");
        }
        assert_eq!(world.count::<Session>(), usize::from(comes_back), "{patch}");
    }
    let world = World::new().await;
    let granted = world.login().await;
    world.remove().await;
    assert_eq!((world.count::<Session>(), world.count::<Credential>()), (0, 0));
    world.apply(json!({"password": {"plain": PASSWORD}})).await.expect("another of the same name");
    refused(world.who(&granted));
}

#[tokio::test]
async fn basic_costs_one_comparison_and_is_refused_where_a_code_is_needed() {
    let world = World::new().await;
    let basic = BASE64_STANDARD.encode(format!("ada:{PASSWORD}"));
    for _ in 0..50 {
        world.door.basic(&basic, &home()).await.expect("let in");
    }
    for bad in [
        "",
        "!",
        "YWRh",
        &BASE64_STANDARD.encode(":x"),
        &BASE64_STANDARD.encode("ada:"),
        &BASE64_STANDARD.encode([0xff, b':', 1]),
    ] {
        refused(world.door.basic(bad, &home()).await);
    }
    world.merge(json!({"mfa": {"totp": "Required"}})).await;
    world.pass(31);
    refused(world.door.basic(&basic, &home()).await);
}

#[tokio::test]
async fn a_token_is_good_until_it_ends_and_for_what_it_was_made() {
    let world = World::new().await;
    let who = world.who(&world.login().await).expect("let in");
    let ask =
        |seconds| TokenRequest { expiration_seconds: seconds, description: "ci".into(), ..TokenRequest::default() };
    let forever = world.door.issue(&who, &ask(None)).await.expect("made");
    let short = world.door.issue(&who, &ask(Some(60))).await.expect("made");
    let rule = crate::api::PolicyRule {
        api_groups: vec!["appm.dev".into()],
        resources: vec!["apps".into()],
        verbs: vec!["get".into()],
        ..Default::default()
    };
    let narrow = world.door.issue(&who, &TokenRequest { rules: vec![rule.clone()], ..ask(None) }).await.expect("made");
    let bearer = |token: &str| world.door.bearer(token, &home()).now_or_never().expect("nobody is asked");
    assert_eq!(bearer(&forever.token).expect("let in").name, "ada");
    assert_eq!(bearer(&narrow.token).expect("let in").scope.as_deref(), Some([rule].as_slice()));
    bearer(&short.token).expect("let in");
    world.pass(60);
    refused(bearer(&short.token));
    // None of its characters can be another one.
    for at in 0..forever.token.len() {
        let mut other = forever.token.clone().into_bytes();
        other[at] = if other[at] == b'x' { b'y' } else { b'x' };
        refused(bearer(&String::from_utf8(other).expect("ASCII")));
        refused(bearer(&forever.token[..at]));
    }
    refused(bearer(&forever.token.replacen(&forever.name, &narrow.name, 1)));
    let by_token = bearer(&forever.token).expect("let in");
    assert_eq!(world.door.issue(&by_token, &ask(None)).await.expect_err("no").reason, Reason::Forbidden);
    for stored in world.admission.store().list(Token::INFO, None).items {
        let secret = forever.token.splitn(3, '_').nth(2).expect("three parts");
        assert!(!String::from_utf8_lossy(&stored.json).contains(secret));
    }
    world.remove().await;
    refused(bearer(&forever.token));
    world.apply(json!({})).await.expect("another of the same name");
    refused(bearer(&forever.token));
}

#[tokio::test]
async fn nobody_makes_a_token_for_somebody_else_without_leave() {
    let world = World::new().await;
    let caller = Caller::new(Identity::admin(Proof::Peer), "tester");
    let eve = json!({"metadata": {"name": "eve"}, "spec": {"password": {"plain": PASSWORD}}});
    world.admission.create(&caller, served("users"), "", eve, &WriteOptions::default()).await.expect("made");
    let who = world.who(&world.login().await).expect("let in");
    let ask = TokenRequest { user: Some("eve".into()), ..TokenRequest::default() };
    assert_eq!(world.door.issue(&who, &ask).await.expect_err("no").reason, Reason::Forbidden);
    let admin = Identity::admin(Proof::Peer);
    let made = world.door.issue(&admin, &ask).await.expect("made");
    assert_eq!(world.door.bearer(&made.token, &home()).await.expect("let in").name, "eve");
    let mut borrowed = world.admission.authority().user("eve", Proof::Impersonated("ada".into())).expect("a user");
    assert_eq!(world.door.issue(&borrowed, &TokenRequest::default()).await.expect_err("no").reason, Reason::Forbidden);
    borrowed.proof = Proof::Certificate;
    world.door.issue(&borrowed, &TokenRequest::default()).await.expect("one's own");
}

#[tokio::test]
async fn a_second_factor_is_enrolled_asked_for_and_given_up() {
    let world = World::new().await;
    let granted = world.login().await;
    let who = world.who(&granted).expect("let in");
    let shown = world.door.enrol(&who).await.expect("begun");
    world.login().await;
    refused(world.door.confirm(&who, "000000").await);
    let first = world.code(&shown.secret);
    let codes = world.door.confirm(&who, &first).await.expect("confirmed").recovery_codes;
    assert_eq!(world.user()["status"]["mfaEnabled"], true);
    assert!(world.door.enrol(&who).await.is_err(), "one is enough");
    let missing = world.login_with(PASSWORD, None, &home()).await.expect_err("no code");
    assert_eq!(missing.details.causes[0].reason, CODE_REQUIRED);
    let wrong = world.login_with("wrong horse", None, &home()).await.expect_err("wrong");
    assert!(wrong.details.causes.is_empty(), "whoever has not the password is told nothing of codes");
    refused(world.login_with(PASSWORD, Some(&first), &home()).await);
    world.pass(30);
    let next = world.code(&shown.secret);
    world.login_with(PASSWORD, Some(&next), &home()).await.expect("let in");
    refused(world.login_with(PASSWORD, Some(&next), &home()).await);
    world.login_with(PASSWORD, Some(&codes[0]), &home()).await.expect("let in");
    refused(world.login_with(PASSWORD, Some(&codes[0]), &home()).await);
    world.door.disable(&who, &CodeRequest { code: codes[1].clone(), user: None }).await.expect("given up");
    assert_eq!(world.user()["status"]["mfaEnabled"], false);
    world.pass(300);
    world.login().await;
}

#[tokio::test]
async fn where_a_second_factor_is_required_a_password_opens_only_the_enrolment() {
    let world = World::new().await;
    world.merge(json!({"mfa": {"totp": "Required"}, "roles": []})).await;
    let granted = world.login().await;
    assert!(granted.must_enroll && granted.refresh_token.is_none());
    let who = world.who(&granted).expect("let in");
    assert_eq!(who.scope.as_deref(), Some([].as_slice()), "and may nothing");
    assert_eq!(world.door.issue(&who, &TokenRequest::default()).await.expect_err("no").reason, Reason::Forbidden);
    let shown = world.door.enrol(&who).await.expect("begun");
    world.door.confirm(&who, &world.code(&shown.secret)).await.expect("confirmed");
    world.pass(30);
    let granted = world.login_with(PASSWORD, Some(&world.code(&shown.secret)), &home()).await.expect("let in");
    assert!(!granted.must_enroll);
}

#[tokio::test]
async fn whoever_guesses_waits_and_ada_at_home_does_not() {
    let world = World::new().await;
    world.login().await;
    let away = from("203.0.113.9");
    let mut waits = None;
    for _ in 0..20 {
        let refused = world.login_with("a guess", None, &away).await.expect_err("wrong");
        if refused.reason == Reason::TooManyRequests {
            waits = refused.details.retry_after_seconds;
            break;
        }
    }
    assert_eq!(waits, Some(1));
    assert_eq!(world.login_with(PASSWORD, None, &away).await.expect_err("not yet").reason, Reason::TooManyRequests);
    world.login().await;
    let socket = auth::From { owner: true, ..auth::From::default() };
    for _ in 0..20 {
        refused(world.login_with("a guess", None, &socket).await);
    }
    world.login_with(PASSWORD, None, &socket).await.expect("the owner at the socket never waits");
    let app = auth::From::default();
    let guess = async || world.login_with("a guess", None, &app).await.expect_err("wrong").reason;
    assert_eq!(guess().await, Reason::TooManyRequests, "everybody else there does");
}

#[tokio::test]
async fn a_user_changes_the_own_password_and_only_the_own_session_stays() {
    let world = World::new().await;
    let (mine, other) = (world.login().await, world.login().await);
    let who = world.who(&mine).expect("let in");
    let ask = |old: &str| PasswordRequest { old: old.into(), new: "a new horse".into(), code: None };
    refused(world.door.change_password(&who, &ask("wrong horse"), &home()).await);
    world.door.change_password(&who, &ask(PASSWORD), &home()).await.expect("changed");
    world.who(&mine).expect("still in");
    refused(world.who(&other));
    refused(world.login_with(PASSWORD, None, &home()).await);
    world.login_with("a new horse", None, &home()).await.expect("let in");
}

#[tokio::test]
async fn a_logout_ends_one_session_or_all() {
    let world = World::new().await;
    let all = [world.login().await, world.login().await, world.login().await];
    let who = world.who(&all[0]).expect("let in");
    assert_eq!(world.door.logout(&who, false).await, Ok(1));
    refused(world.who(&all[0]));
    let who = world.who(&all[1]).expect("still in");
    assert_eq!(world.door.logout(&who, true).await, Ok(2));
    refused(world.who(&all[2]));
}

#[tokio::test]
async fn what_has_ended_is_taken_away() {
    let world = World::new().await;
    let who = world.who(&world.login().await).expect("let in");
    let ask = TokenRequest { expiration_seconds: Some(60), ..TokenRequest::default() };
    world.door.issue(&who, &ask).await.expect("made");
    refused(world.login_with("a guess", None, &home()).await);
    assert_eq!((world.count::<Session>(), world.count::<Token>(), world.count::<Credential>()), (1, 1, 2));
    world.pass(31 * 24 * 3600);
    // The first time takes tokens, the second one what belonged to them.
    world.door.tidy().await;
    world.door.tidy().await;
    assert_eq!((world.count::<Session>(), world.count::<Token>(), world.count::<Credential>()), (0, 0, 1));
    assert_eq!(world.count::<crate::api::Throttle>(), 0);
}
