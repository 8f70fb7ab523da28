//! Tables of what rules allow, and of who may give what.

use serde_json::{Value, json};

use super::*;

fn book(value: &Value) -> Book {
    let users: Vec<(String, User)> = value["users"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, spec)| {
            (name.clone(), User { spec: serde_json::from_value(spec.clone()).unwrap(), ..User::default() })
        })
        .collect();
    let roles: Vec<(String, Role)> = value["roles"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, spec)| (name.clone(), Role { spec: serde_json::from_value(spec.clone()).unwrap() }))
        .collect();
    Book::new(users.iter().map(|(n, u)| (n.as_str(), u)), roles.iter().map(|(n, r)| (n.as_str(), r)))
}

fn with_rules(rules: Value) -> Subject {
    let book = book(&json!({"users": {"ada": {"roles": [{"name": "r"}]}}, "roles": {"r": {"rules": rules}}}));
    book.subject("ada", &["devs".to_owned()])
}

/// `VERB RESOURCE[/PART][.GROUP] [NAMESPACE[/NAME]]`, or `VERB /PATH`
fn asked(text: &str) -> Attributes<'_> {
    let mut words = text.split(' ');
    let (verb, what, place) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
    if what.starts_with('/') {
        return Attributes { verb, path: what, ..Attributes::default() };
    }
    let (what, group) = what.split_once('.').unwrap_or((what, ""));
    let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
    let (namespace, name) = place.split_once('/').unwrap_or((place, ""));
    Attributes { verb, group, resource, subresource, namespace, name, path: "" }
}

#[test]
fn names_that_begin_alike_or_differ_in_case_are_other_names() {
    let subject = with_rules(json!([
        {"apiGroups": ["appm.dev"], "resources": ["apps", "apps/log"], "verbs": ["get", "list"],
            "resourceNames": ["web"], "namespaces": ["team"]},
        {"nonResourceURLs": ["/metrics", "/audit/*"], "verbs": ["get"]},
    ]));
    for allowed in ["get apps.appm.dev team/web", "get apps/log.appm.dev team/web", "get /metrics", "get /audit/verify"]
    {
        assert_ne!(subject.may(&asked(allowed)), May::Never, "{allowed}");
    }
    for other in [
        "get apps.appm.dev team/web-admin",
        "get apps.appm.dev team/we",
        "get apps.appm.dev team/Web",
        "get apps.appm.dev team/web/",
        "get apps.appm.dev team/*",
        "get apps.appm.dev team-2/web",
        "get apps.appm.dev tea/web",
        "get apps.appm.dev Team/web",
        "get apps.appm.dev */web",
        "get appsx.appm.dev team/web",
        "get app.appm.dev team/web",
        "get Apps.appm.dev team/web",
        "get apps/logs.appm.dev team/web",
        "get apps/lo.appm.dev team/web",
        "get apps.appm.dev.evil team/web",
        "get apps.appm team/web",
        "get apps.APPM.DEV team/web",
        "get apps team/web",
        "GET apps.appm.dev team/web",
        "ge apps.appm.dev team/web",
        "* apps.appm.dev team/web",
        "get /metricsx",
        "get /metric",
        "get /Metrics",
        "get /audit",
        "get /auditx/verify",
    ] {
        assert_eq!(subject.may(&asked(other)), May::Never, "{other}");
    }
    let book = book(&json!({"users": {"ada": {"roles": [{"name": "view"}]}, "ad": {}, "Ada": {}},
        "roles": {"view": {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
            "subjects": [{"kind": "Group", "name": "devs"}]}, "vie": {"rules": []}}}));
    for (name, groups) in [("ad", "dev"), ("Ada", "Devs"), ("ada ", "devs-2"), ("", ""), ("adaa", "*")] {
        assert_eq!(book.subject(name, &[groups.to_owned()]).roles(), [""; 0], "{name} in {groups}");
    }
}

#[test]
fn an_empty_set_of_anything_allows_nothing() {
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let rule = |field: &str| {
        let mut rule = everything[0].clone();
        rule[field] = json!([]);
        with_rules(json!([rule]))
    };
    let full = with_rules(everything.clone());
    for nothing in [
        Subject::nobody("ada"),
        with_rules(json!([])),
        with_rules(json!([{"verbs": []}])),
        rule("apiGroups"),
        rule("resources"),
        rule("verbs"),
        full.clone().within(Some([].into())),
        full.clone().within(Some([PolicyRule::default()].into())),
    ] {
        for what in ["get apps.appm.dev default/web", "list apps.appm.dev", "create users.appm.dev", "get /metrics"] {
            assert_eq!(nothing.may(&asked(what)), May::Never, "{what} by {nothing:?}");
            let facts = Facts { namespace: "default", name: "web", ..Facts::default() };
            assert!(!nothing.sees(&asked(what), &facts), "{what} by {nothing:?}");
        }
    }
    assert_eq!(full.may(&asked("get apps.appm.dev default/web")), May::Always);
}

#[test]
fn a_rule_allows_what_it_says_and_nothing_beside_it() {
    use May::{Always, Never, Partly};
    let apps = json!([{"apiGroups": ["appm.dev"], "resources": ["apps"], "verbs": ["get", "list"]}]);
    let there =
        json!([{"apiGroups": ["*"], "resources": ["apps", "*/log"], "verbs": ["*"], "namespaces": ["a", "ab"]}]);
    let named = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"], "verbs": ["get", "list", "create"]}]);
    let owned = json!([{"apiGroups": ["appm.dev"], "resources": ["apps"], "verbs": ["*"], "owned": true}]);
    let paths = json!([{"nonResourceURLs": ["/metrics", "/logs/*"], "verbs": ["get"]}]);
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    for (rules, question, answer) in [
        (&apps, "get apps.appm.dev default/web", Always),
        (&apps, "list apps.appm.dev", Always),
        (&apps, "get apps default/web", Never),
        (&apps, "get apps/status.appm.dev default/web", Never),
        (&apps, "get app.appm.dev default/web", Never),
        (&apps, "get appsx.appm.dev default/web", Never),
        (&apps, "GET apps.appm.dev default/web", Never),
        (&apps, "delete apps.appm.dev default/web", Never),
        (&apps, "get /apps", Never),
        (&there, "delete apps.appm.dev a/web", Always),
        (&there, "delete apps.appm.dev abc/web", Never),
        (&there, "delete apps.appm.dev A/web", Never),
        (&there, "get instances/log.appm.dev ab/web-0", Always),
        (&there, "get instances.appm.dev ab/web-0", Never),
        (&there, "list apps.appm.dev", Partly),
        (&there, "create apps.appm.dev", Never),
        (&there, "get apps.appm.dev", Never),
        (&named, "get secrets default/x", Always),
        (&named, "get secrets default/xx", Never),
        (&named, "list secrets default", Partly),
        (&named, "create secrets default", Never),
        (&owned, "get apps.appm.dev default/web", Partly),
        (&owned, "create apps.appm.dev default", Always),
        (&paths, "get /metrics", Always),
        (&paths, "get /metricsx", Never),
        (&paths, "get /logs/a/b", Always),
        (&paths, "post /metrics", Never),
        (&paths, "get metrics", Never),
        (&everything, "use hostpowers.appm.dev /user:root", Always),
        (&everything, "get /metrics", Never),
    ] {
        assert_eq!(with_rules(rules.clone()).may(&asked(question)), answer, "{question} by {rules}");
    }
    assert_eq!(Subject::nobody("ada").may(&asked("get apps.appm.dev default/web")), Never);
}

#[test]
fn roles_come_from_the_user_and_from_the_role_and_are_narrowed_by_both() {
    let book = book(&json!({
        "users": {"ada": {"groups": ["devs"], "roles": [{"name": "view", "namespaces": ["b"]}, {"name": "absent"}]}},
        "roles": {
            "view": {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"], "namespaces": ["a", "b"]}]},
            "dev": {
                "subjects": [{"kind": "Group", "name": "devs", "namespaces": ["c"]}, {"kind": "User", "name": "dev"}],
                "rules": [{"apiGroups": ["*"], "resources": ["apps"], "verbs": ["delete"]}],
            },
        },
    }));
    let may = |name: &str, groups: &[&str], question: &str| {
        let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        book.subject(name, &groups).may(&asked(question)) == May::Always
    };
    assert!(may("ada", &["devs"], "get apps b/x"));
    assert!(!may("ada", &["devs"], "get apps a/x"), "the user has the role in b only");
    assert!(may("ada", &["devs"], "delete apps c/x"));
    assert!(!may("ada", &["devs"], "delete apps a/x"));
    assert!(!may("ada", &[], "delete apps c/x"), "groups count as they were proved");
    assert!(may("dev", &[], "delete apps a/x"));
    assert!(!may("devs", &[], "delete apps a/x"), "a user is no group");
    assert!(!may("ad", &["dev"], "get apps b/x"));
    assert_eq!(book.first_group("ada"), "devs");
}

#[test]
fn an_owned_rule_is_about_ones_own_and_what_is_shared() {
    let who = with_rules(json!([
        {"apiGroups": ["*"], "resources": ["apps", "apps/log"], "verbs": ["*"], "owned": true, "namespaces": ["a"]},
    ]));
    let sees = |question: &str, owner: &str, group: Access, others: Access| {
        let sharing = Sharing { group, others };
        let facts = Facts { namespace: "a", name: "x", owner, owner_group: "devs", sharing };
        who.sees(&asked(question), &facts)
    };
    use Access::{None, Read, ReadWrite};
    assert!(sees("delete apps a/x", "ada", None, None));
    assert!(!sees("get apps a/x", "bob", None, None));
    assert!(sees("get apps a/x", "bob", Read, None));
    assert!(sees("get apps/log a/x", "bob", Read, None));
    assert!(!sees("patch apps a/x", "bob", Read, None));
    assert!(sees("patch apps a/x", "bob", ReadWrite, None));
    assert!(sees("watch apps a/x", "bob", None, Read));
    assert!(!sees("create apps/log a/x", "bob", Read, Read));
    let elsewhere = Facts { namespace: "b", owner: "ada", ..Facts::default() };
    assert!(!who.sees(&asked("get apps b/x"), &elsewhere));
    let stranger = with_rules(json!([{"apiGroups": ["*"], "resources": ["apps"], "verbs": ["*"], "owned": true}]));
    let of_nobody = Facts { namespace: "a", ..Facts::default() };
    assert!(!stranger.sees(&asked("get apps a/x"), &of_nobody));
}

#[test]
fn a_scope_takes_away_and_gives_nothing() {
    let scope: Vec<PolicyRule> = serde_json::from_value(json!([
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"]},
    ]))
    .unwrap();
    let who =
        with_rules(json!([{"apiGroups": ["*"], "resources": ["apps"], "verbs": ["*"]}])).within(Some(scope.into()));
    assert_eq!(who.may(&asked("get apps a/x")), May::Always);
    assert_eq!(who.may(&asked("delete apps a/x")), May::Never);
    assert_eq!(who.may(&asked("get secrets a/x")), May::Never);
    let nothing = with_rules(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])).within(Some([].into()));
    assert_eq!(nothing.may(&asked("get apps a/x")), May::Never, "an empty scope is good for nothing");
}

#[test]
fn nobody_gives_what_they_do_not_have() {
    let who = with_rules(json!([
        {"apiGroups": ["appm.dev"], "resources": ["apps"], "verbs": ["get", "list"]},
        {"apiGroups": ["appm.dev"], "resources": ["runs", "runs/log"], "verbs": ["*"], "namespaces": ["a", "b"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "owned": true},
        {"nonResourceURLs": ["/logs/*"], "verbs": ["get"]},
    ]));
    let lacks = |rule: Value, namespaces: &[&str]| {
        let rules: Vec<PolicyRule> = vec![serde_json::from_value(rule).unwrap()];
        let namespaces: Vec<String> = namespaces.iter().map(|n| (*n).to_owned()).collect();
        who.lacks(&rules, &namespaces)
    };
    let rule =
        |resource: &str, verb: &str| json!({"apiGroups": ["appm.dev"], "resources": [resource], "verbs": [verb]});
    assert_eq!(lacks(rule("apps", "get"), &[]), None);
    assert_eq!(lacks(rule("apps", "*"), &[]).as_deref(), Some("* apps.appm.dev"));
    assert_eq!(lacks(rule("*", "get"), &[]).as_deref(), Some("get *.appm.dev"));
    assert_eq!(lacks(rule("apps/*", "get"), &[]).as_deref(), Some("get apps/*.appm.dev"));
    assert_eq!(lacks(rule("runs", "*"), &["a"]), None);
    assert_eq!(lacks(rule("runs", "escalate"), &["b", "a"]), None);
    assert_eq!(lacks(rule("runs", "get"), &["a", "c"]).as_deref(), Some("get runs.appm.dev in namespace c"));
    assert_eq!(
        lacks(rule("runs", "get"), &[]).as_deref(),
        Some("get runs.appm.dev"),
        "everywhere is more than a and b"
    );
    let mut narrow = rule("runs", "get");
    narrow["namespaces"] = json!(["a"]);
    assert_eq!(lacks(narrow.clone(), &[]), None);
    assert_eq!(lacks(narrow, &["c"]), None, "a and c have nothing in common");
    let secret =
        |names: Value| json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": names});
    assert_eq!(lacks(secret(json!(["x"])), &[]), None);
    assert_eq!(lacks(secret(json!(["x", "y"])), &[]).as_deref(), Some("get secrets \"y\""));
    assert!(lacks(secret(json!([])), &[]).is_some());
    let settings =
        |owned: bool| json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "owned": owned});
    assert_eq!(lacks(settings(true), &[]), None);
    assert!(lacks(settings(false), &[]).is_some());
    assert_eq!(lacks(json!({"nonResourceURLs": ["/logs/a*"], "verbs": ["get"]}), &[]), None);
    assert_eq!(lacks(json!({"nonResourceURLs": ["*"], "verbs": ["get"]}), &[]).as_deref(), Some("get *"));
    assert_eq!(Subject::nobody("x").lacks(&[], &[]), None);
}
