//! The language by tables: what everything gives, and what is said of what is wrong.

use serde_json::{Value as Json, json};

use super::*;

/// A scope of some JSON, in which a job `ok` has succeeded and a job `bad` has failed.
struct World(Object);

impl World {
    fn new(json: &Json) -> World {
        match Value::from_json(json) {
            Value::Object(roots) => World(roots),
            _ => panic!("roots are by name"),
        }
    }
}

impl Scope for World {
    fn root(&self, name: &str) -> Option<Value> {
        self.0.get(name).cloned()
    }

    fn status(&self, which: Status, jobs: &[Arc<str>]) -> Option<bool> {
        Some(match which {
            Status::Success => !jobs.is_empty() && jobs.iter().all(|job| &**job == "ok"),
            Status::Failure => jobs.is_empty() || jobs.iter().any(|job| &**job == "bad"),
            Status::Cancelled => false,
            Status::Always => true,
        })
    }

    fn hash_files(&self, patterns: &[Arc<str>]) -> Result<String, String> {
        Ok(format!("hash of {}", patterns.join(" ")))
    }
}

fn world() -> World {
    World::new(&json!({
        "inputs": {"env": "prod", "dry_run": false, "count": 3, "empty": "", "Big-Key": {"x_1": "deep"}},
        "needs": {"build": {"result": "success", "outputs": {"digest": "abc", "list": "[1,2]"}}, "lint": {"result": "failure", "outputs": {}}},
        "github": {"event": {"commits": [{"id": 1, "by": {"name": "Ann"}}, {"id": 2}, 7, {"id": null}]}, "ref": "refs/heads/main"},
        "secrets": {"TOKEN": "hunter2"},
        "matrix": {"os": ["linux", "mac"], "nested": [[1, 2], [3]], "none": null}
    }))
}

fn evaluate(text: &str) -> Result<Json, Fault> {
    Expression::parse(text)?.evaluate(&world(), Limits::default()).map(|value| value.to_json())
}

#[track_caller]
fn gives(rows: &[(&str, Json)]) {
    for (text, wanted) in rows {
        assert_eq!(evaluate(text).as_ref(), Ok(wanted), "{text}");
    }
}

#[test]
fn literals() {
    gives(&[
        ("null", json!(null)),
        ("true", json!(true)),
        ("-2.9e-2", json!(-0.029)),
        (".5", json!(0.5)),
        ("+7", json!(7)),
        ("0xff", json!(255)),
        ("0o17", json!(15)),
        ("'it''s ''fine'''", json!("it's 'fine'")),
        ("''", json!("")),
        ("format('{0} {1} {2}', Infinity, -Infinity, NaN)", json!("Infinity -Infinity NaN")),
        (" \t\r\n 1 \u{a0}", json!(1)),
    ]);
}

#[test]
fn operators_bind_as_they_do_there() {
    gives(&[
        ("true || false && false", json!(true)),
        ("(true || false) && false", json!(false)),
        ("1 == 1 == true", json!(true)),
        ("1 < 2 == 3 > 2", json!(true)),
        ("!false == true", json!(true)),
        ("!(false == true)", json!(true)),
        ("!!'x'", json!(true)),
        ("!needs.build.result", json!(false)),
        ("'a' && 'b' && 0 && 'c'", json!(0)),
        ("'' || null || 'c' || 'd'", json!("c")),
        ("3 > 2 > 1", json!(false)),
    ]);
}

#[test]
fn kinds_are_coerced_as_they_are_there() {
    gives(&[
        ("null == 0", json!(true)),
        ("null == ''", json!(true)),
        ("true == 1", json!(true)),
        ("'true' == true", json!(false)),
        ("'1' == true", json!(true)),
        ("' 0x10 ' == 16", json!(true)),
        ("'x' == 0", json!(false)),
        ("NaN == NaN", json!(false)),
        ("NaN != NaN", json!(true)),
        ("'ABC' == 'abc'", json!(true)),
        ("'a' < 'B'", json!(true)),
        ("'b' >= 'B'", json!(true)),
        ("null >= null", json!(true)),
        ("null > null", json!(false)),
        ("'10' < 9", json!(false)),
        ("'10' < '9'", json!(true)),
        ("needs == needs", json!(true)),
        ("needs.build == needs['BUILD']", json!(true)),
        ("fromJSON('[]') == fromJSON('[]')", json!(false)),
        ("needs == 'Object'", json!(false)),
        ("needs.* == needs.*", json!(false)),
        ("!needs", json!(false)),
        ("'false' && 1", json!(1)),
        ("NaN || -0 || 'z'", json!("z")),
    ]);
}

#[test]
fn keys_are_found_whatever_their_case_and_what_is_not_there_is_null() {
    gives(&[
        ("INPUTS.Env", json!("prod")),
        ("inputs['ENV']", json!("prod")),
        ("inputs.big-key.X_1", json!("deep")),
        ("inputs[format('{0}{1}', 'e', 'nv')]", json!("prod")),
        ("inputs.none", json!(null)),
        ("inputs.none.of.it", json!(null)),
        ("inputs.env.length", json!(null)),
        ("inputs[needs]", json!(null)),
        ("inputs.true", json!(null)),
        ("matrix.os[1]", json!("mac")),
        ("matrix.os[1.9]", json!("mac")),
        ("matrix.os['1']", json!("mac")),
        ("matrix.os[true]", json!("mac")),
        ("matrix.os[null]", json!("linux")),
        ("matrix.os[2]", json!(null)),
        ("matrix.os[-1]", json!(null)),
        ("matrix.os.linux", json!(null)),
        ("matrix.os[Infinity]", json!(null)),
        ("fromJSON('{\"a\": [1, {\"b\": 2}]}').a[1].b", json!(2)),
        ("(needs.build).result", json!("success")),
    ]);
}

#[test]
fn a_star_maps_what_follows_and_drops_what_misses() {
    gives(&[
        ("github.event.commits.*.id", json!([1, 2, null])),
        ("github.event.commits[*].by.name", json!(["Ann"])),
        ("github.event.commits.*.by.*", json!(["Ann"])),
        ("matrix.nested.*", json!([[1, 2], [3]])),
        ("matrix.nested.*[0]", json!([1, 3])),
        ("(matrix.nested.*)[1]", json!([2])),
        ("matrix.nested.*.*", json!([1, 2, 3])),
        ("inputs.env.*", json!([])),
        ("inputs.none.*", json!([])),
        ("needs.*.result", json!(["success", "failure"])),
        ("contains(needs.*.result, 'FAILURE')", json!(true)),
        ("join(needs.*.result)", json!("success,failure")),
    ]);
}

#[test]
fn functions() {
    gives(&[
        ("contains('Hello', 'ELL')", json!(true)),
        ("contains(inputs, 'env')", json!(false)),
        ("contains(matrix.os, 'Mac')", json!(true)),
        ("contains('abc', matrix.os)", json!(false)),
        ("contains(matrix.nested, 1)", json!(false)),
        ("contains(123, 2)", json!(true)),
        ("startsWith(github.ref, 'refs/HEADS/')", json!(true)),
        ("endsWith('abc', '')", json!(true)),
        ("endsWith('abc', needs)", json!(false)),
        ("startsWith(needs, '')", json!(false)),
        ("format('{1}-{0}-{1} {{0}} }}{{', 'a', 'b')", json!("b-a-b {0} }{")),
        ("format('{0}', null)", json!("")),
        ("format('{0} {1} {2}', needs, matrix.os, 1.50)", json!("Object Array 1.5")),
        ("join(matrix.os, '-')", json!("linux-mac")),
        ("join(matrix.nested, null)", json!("ArrayArray")),
        ("join('x', '-')", json!("x")),
        ("join(needs)", json!("")),
        ("join(fromJSON('[]'), '-')", json!("")),
        ("fromJSON('{\"a\": 1, \"A\": 2, \"a\": 3}')", json!({"a": 3})),
        ("fromJSON(needs.build.outputs.list)[1]", json!(2)),
        ("fromJSON('1') == 1", json!(true)),
        ("hashFiles('a', 'b')", json!("hash of a b")),
        ("case(false, 1, inputs.count == 3, 'three', 'else')", json!("three")),
        ("CASE(false, 1, 'else')", json!("else")),
        ("case(true, 1, fromJSON('nonsense'))", json!(1)),
        ("success('ok')", json!(true)),
        ("success('ok', 'bad')", json!(false)),
        ("always() && !cancelled()", json!(true)),
        ("tojson(fromjson('[]'))", json!("[]")),
    ]);
    let written = evaluate(
        "toJSON(fromJSON('{\"a\": [1, {}, [], {\"b\": null}], \"c\\n\": \"x\\u2028\\u0001/\\\"\", \"d\": 1e20}'))",
    );
    insta::assert_snapshot!(written.unwrap().as_str().unwrap(), @r#"
    {
      "a": [
        1,
        {},
        [],
        {
          "b": null
        }
      ],
      "c\n": "x\u2028\u0001/\"",
      "d": 1E+20
    }
    "#);
}

#[test]
fn faults_say_what_is_wrong_and_where() {
    let texts = [
        "",
        "1 +",
        "1 + 1",
        "5 % 2",
        "\"x\"",
        "'x",
        "a = b",
        "a & b",
        "a.",
        "a.1",
        "a[",
        "a[1",
        "(1",
        "1)",
        "1 2",
        "'a'.b",
        "1.2.3",
        "foo(",
        "foot()",
        "contain('a', 'b')",
        "join()",
        "join(1,2,3)",
        "case(true, 1)",
        "format('x',)",
        "b@r",
        "a.b@r",
        "a..b",
        "* 1",
        "== 1",
        "1 ==",
        "!",
        "é",
        "a['b'",
        "null.x",
        "true(1)",
        "${{ a }}",
    ];
    let said: Vec<String> = texts
        .iter()
        .map(|text| {
            let fault = Expression::parse(text).expect_err(text);
            format!("{text:20} {:2} {}", fault.offset, fault.message)
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
                          0 there is no expression
    1 +                   2 `+` is not an operator: there is no arithmetic in expressions
    1 + 1                 2 `+` is not an operator: there is no arithmetic in expressions
    5 % 2                 2 `%` is not an operator: there is no arithmetic in expressions
    "x"                   0 strings are in single quotes: 'like this'
    'x                    0 a string that begins here does not end
    a = b                 2 `=` is not an operator: equality is `==`
    a & b                 2 `&` is not an operator: it is `&&`
    a.                    2 the expression ends too early
    a.1                   2 unexpected `1`
    a[                    2 the expression ends too early
    a[1                   3 the expression ends too early, where `]` should be
    (1                    2 the expression ends too early, where `)` should be
    1)                    1 unexpected `)`
    1 2                   2 unexpected `2`
    'a'.b                 3 unexpected `.`
    1.2.3                 0 `1.2.3` is not a number
    foo(                  0 there is no function `foo`
    foot()                0 there is no function `foot`
    contain('a', 'b')     0 there is no function `contain`; did you mean `contains`?
    join()                0 `join` takes at least 1 argument, not 0
    join(1,2,3)           0 `join` takes at most 2 arguments, not 3
    case(true, 1)         0 `case` takes at least 3 arguments, not 2
    format('x',)         11 unexpected `)`
    b@r                   0 unexpected `b@r`
    a.b@r                 2 unexpected `b@r`
    a..b                  2 `.b` is not a number
    * 1                   0 unexpected `*`
    == 1                  0 unexpected `==`
    1 ==                  4 the expression ends too early
    !                     1 the expression ends too early
    é                     0 unexpected `é`
    a['b'                 5 the expression ends too early, where `]` should be
    null.x                4 unexpected `.`
    true(1)               4 unexpected `(`
    ${{ a }}              0 `${{` stands inside of an expression
    "#);
    let texts = [
        "nothing.x",
        "format('{0} {1}', 'a')",
        "format('{')",
        "format('{a}', 1)",
        "format('}')",
        "format('{256}', 1)",
        "fromJSON('{')",
        "fromJSON('')",
        "case(1, 2, 3)",
        "1 && format('{0x}', 1)",
    ];
    let said: Vec<String> = texts
        .iter()
        .map(|text| {
            let fault = evaluate(text).expect_err(text);
            format!("{text:24} {:2} {}", fault.offset, fault.message)
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    nothing.x                 0 there is no `nothing` here
    format('{0} {1}', 'a')    0 `format` has no argument for `{1}` of '{0} {1}'
    format('{')               0 '{' is not a format: braces are written `{{` and `}}`
    format('{a}', 1)          0 '{a}' is not a format: braces are written `{{` and `}}`
    format('}')               0 '}' is not a format: braces are written `{{` and `}}`
    format('{256}', 1)        0 '{256}' is not a format: braces are written `{{` and `}}`
    fromJSON('{')             0 what `fromJSON` was given is not JSON: EOF while parsing an object at line 1 column 1
    fromJSON('')              0 what `fromJSON` was given is not JSON: EOF while parsing a value at line 1 column 0
    case(1, 2, 3)             0 a condition of `case` is a boolean, and this is of kind number
    1 && format('{0x}', 1)    5 '{0x}' is not a format: braces are written `{{` and `}}`
    ");
}

#[test]
fn bombs_end_in_a_fault() {
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(evaluate(&nested(49)), Ok(json!(1)));
    let texts = [
        nested(10_000),
        "!".repeat(20_000) + "1",
        format!("a{}", ".b".repeat(50)),
        ["1"; 60].join(" == "),
        "a[".repeat(5_000),
        "join(".repeat(4_000),
    ];
    for text in texts {
        let fault = Expression::parse(&text).expect_err("it is too deep");
        assert_eq!(fault.message, "an expression is at most 50 levels deep", "{}", &text[..20]);
    }
    let long = Expression::parse(&format!("'{}'", "x".repeat(21_000))).expect_err("it is too long");
    assert_eq!(long.message, "an expression has at most 21000 characters");
    assert!(Expression::parse(&["1"; 4_000].join(" && ")).is_ok());

    // Each level is three times the one below.
    let tripled = (0..12).fold("'0123456789abcdef'".to_owned(), |text, _| format!("format('{{0}}{{0}}{{0}}', {text})"));
    assert_eq!(
        evaluate(&tripled).expect_err("3^12 × 16 bytes").message,
        "the expression makes more than 2097152 bytes"
    );
    let few = Limits { steps: 50_000, ..Limits::default() };
    let many = World::new(&json!({"big": (0..10_000).collect::<Vec<_>>(), "text": "x".repeat(1 << 16)}));
    let slow =
        [["contains(big, 'x')"; 10].join(" || "), ["text == text"; 100].join(" && "), ["big.*.*"; 9].join(" && ")];
    for text in slow {
        let fault = Expression::parse(&text).unwrap().evaluate(&many, few).expect_err(&text);
        assert!(fault.message.starts_with("the expression "), "{fault}");
    }
}

#[test]
fn what_is_read_and_called_is_known_without_values() {
    let text = "needs.build.outputs['Digest'] == inputs[matrix.os] || success('a', x) && github.event.commits.*.id || format('{0}', env.A).b";
    let expression = Expression::parse(text).unwrap();
    let uses: Vec<String> = expression
        .uses()
        .iter()
        .map(|used| format!("{} {} {:?}", &text[used.span.range()], used.root, used.path))
        .collect();
    insta::assert_snapshot!(uses.join("\n"), @r#"
    needs.build.outputs['Digest'] needs [Key("build"), Key("outputs"), Key("Digest")]
    inputs[matrix.os] inputs [Computed]
    matrix.os matrix [Key("os")]
    x x []
    github.event.commits.*.id github [Key("event"), Key("commits"), Each, Key("id")]
    env.A env [Key("A")]
    "#);
    let calls: Vec<String> =
        expression.calls().iter().map(|call| format!("{} {:?}", &text[call.span.range()], call.texts)).collect();
    insta::assert_snapshot!(calls.join("\n"), @r#"
    success [Some("a"), None]
    format [Some("{0}"), None]
    "#);
    assert!(expression.asks_status());
    for (text, kind) in [
        ("1 == 2 && !x", Some(Kind::Bool)),
        ("x == 2 && x", None),
        ("format('x') || 'y'", Some(Kind::String)),
        ("x.y", None),
        ("x.*", Some(Kind::Array)),
    ] {
        assert_eq!(Expression::parse(text).unwrap().kind(), kind, "{text}");
    }
}

#[test]
fn a_lone_splice_is_its_value_and_text_around_makes_a_string() {
    let evaluate =
        |text: &str| Template::parse(text).and_then(|t| t.evaluate(&world(), Limits::default())).map(|v| v.to_json());
    for (text, wanted) in [
        ("plain }} ' text", json!("plain }} ' text")),
        ("", json!("")),
        ("${{ inputs.count }}", json!(3)),
        ("${{ inputs.count }} ", json!("3 ")),
        ("a${{ inputs.env }}${{ inputs.none }}b ${{ needs }}", json!("aprodb Object")),
        ("${{ format('}}{0}}}{{', '}}') }}", json!("}}}}{")),
        ("${{'${{'}}", json!("${{")),
    ] {
        assert_eq!(evaluate(text), Ok(wanted), "{text}");
    }
    for (text, offset) in
        [("a ${{ b", 2), ("a ${{ }}", 5), ("${{ ' }}", 0), ("ä ${{ 1 + }}", 9), ("${{ 1 }} ${{ x. }}", 16)]
    {
        assert_eq!(evaluate(text).expect_err(text).offset, offset, "{text}");
    }
    let template = Template::parse("echo ${{ github.ref }} ${{ inputs.env }}").unwrap();
    let spans: Vec<&str> = template.splices().map(|splice| &template.source()[splice.span.range()]).collect();
    assert_eq!(spans, ["${{ github.ref }}", "${{ inputs.env }}"]);
    let used = template.splices().nth(1).unwrap().expression.uses().remove(0);
    assert_eq!(&template.source()[used.span.range()], "inputs.env");
    assert!(template.lone().is_none());
}

#[test]
fn an_if_without_a_status_function_asks_success_first() {
    let explain = |text: &str| Condition::parse(text).unwrap().explain_false(&world(), Limits::default()).unwrap();
    assert_eq!(explain("success('ok') && inputs.env == 'prod'"), None);
    assert_eq!(explain(" ${{ failure() }}\n"), None);
    let texts = [
        "",
        "inputs.env == 'prod'",
        "always() && inputs.env == 'dev'",
        "always() && inputs.dry_run",
        "${{ always() && !(inputs.env == 'prod' || inputs.count > 5) }}",
        "always() && (inputs.empty || needs.lint.result == 'success' && inputs.env)",
        "success() || cancelled()",
        "always() && contains(needs.*.result, 'skipped')",
        "always() && secrets.TOKEN == 'x'",
        "!always()",
        "always() && inputs.none.of.it",
        "always() && startsWith(github.ref, 'refs/tags/')",
    ];
    let said: Vec<String> = texts.iter().map(|text| format!("{text}\n  {}", explain(text).unwrap())).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
      `success()` is false, which an `if` asks that has no status function of its own
    inputs.env == 'prod'
      `success()` is false, which an `if` asks that has no status function of its own
    always() && inputs.env == 'dev'
      `inputs.env == 'dev'` is false: `inputs.env` is 'prod'
    always() && inputs.dry_run
      `inputs.dry_run` is false
    ${{ always() && !(inputs.env == 'prod' || inputs.count > 5) }}
      `inputs.env == 'prod'` is true: `inputs.env` is 'prod'
    always() && (inputs.empty || needs.lint.result == 'success' && inputs.env)
      `inputs.empty` is '', and `needs.lint.result == 'success'` is false: `needs.lint.result` is 'failure'
    success() || cancelled()
      `success()` is false, and `cancelled()` is false
    always() && contains(needs.*.result, 'skipped')
      `contains(needs.*.result, 'skipped')` is false: `needs.*.result` is ["success","failure"]
    always() && secrets.TOKEN == 'x'
      `secrets.TOKEN == 'x'` is false: `secrets.TOKEN` is ***
    !always()
      `always()` is true
    always() && inputs.none.of.it
      `inputs.none.of.it` is null
    always() && startsWith(github.ref, 'refs/tags/')
      `startsWith(github.ref, 'refs/tags/')` is false: `github.ref` is 'refs/heads/main'
    "#);
    for (text, offset) in
        [("${{ a }} == 'y'", 8), ("x ${{ a }}", 0), ("${{ a }} && ${{ b }}", 12), ("${{ a", 0), ("a ==", 4)]
    {
        assert_eq!(Condition::parse(text).expect_err(text).offset, offset, "{text}");
    }
    assert!(Condition::parse("contains(x, '${{')").is_ok());
}
