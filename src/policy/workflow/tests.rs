//! Workflows that are wrong, and what is said of them.

use serde_json::{Value, json};

use super::{check::check, *};
use crate::api::WorkflowSpec;

fn found(spec: &Value) -> Vec<Finding> {
    check(&serde_json::from_value::<WorkflowSpec>(spec.clone()).expect("a spec"))
}

fn told(spec: &Value) -> String {
    found(spec).iter().map(|finding| finding.violation.to_string()).collect::<Vec<_>>().join("\n")
}

/// What is said of one job of the name `a`; beside it there is a job `b`.
fn job(job: &Value) -> String {
    told(&json!({
        "on": {"manual": {"inputs": {
            "text": {}, "flag": {"type": "boolean"}, "where": {"type": "choice", "options": ["x", "y"]}, "n": {"type": "number"},
        }}},
        "jobs": {"a": job, "b": {"outputs": {"out": "1"}, "steps": [{"id": "s", "run": "true"}]}},
    }))
}

fn step(step: Value) -> String {
    job(&json!({"needs": "b", "steps": [{"id": "first", "message": {"app": "a", "payload": ""}}, step]}))
}

#[test]
fn a_workflow_of_everything_is_right() {
    let spec = json!({
        "on": {
            "manual": {"inputs": {
                "env": {"type": "choice", "options": ["staging", "prod"], "default": "staging", "required": true},
                "dry_run": {"type": "boolean", "default": false},
            }},
            "schedule": [{"cron": "0 2 * * *", "timeZone": "UTC"}],
            "app_event": {"app": "collector", "events": ["EXIT"], "condition": "exit_code == 0"},
            "workflow_call": {
                "inputs": {"region": {"required": true}}, "outputs": {"url": {"value": "${{ jobs.deploy.outputs.url }}"}},
            },
        },
        "concurrency": {"group": "release-${{ inputs.env }}", "cancel-in-progress": false},
        "env": {"VERSION": 2.0}, "sec_env": {"TOKEN": {"secret": "release", "key": "token"}},
        "execution_identity": "deployer",
        "defaults": {"run": {"shell": "bash", "working-directory": "/srv/build"}},
        "timeout-minutes": 360,
        "jobs": {
            "build": {
                "strategy": {"max-parallel": 4, "matrix": {"os": ["linux"], "rust": ["1.94", "1.95"], "include": [], "exclude": []}},
                "runs-on": {"role": "builder"}, "timeout-minutes": "${{ fromJSON('30') }}",
                "outputs": {"digest": "${{ steps.pack.outputs.digest }}"},
                "steps": [
                    {"name": "compile", "command": "make build", "retry": {"max": 3, "backoff": "exponential", "interval": 1}},
                    {"id": "pack", "run": "echo ${{ matrix.rust }} >> $GITHUB_OUTPUT", "env": {"OS": "${{ matrix.os }}"}},
                ],
            },
            "test": {
                "needs": ["build"], "if": "${{ !cancelled() && inputs.dry_run == false }}", "continue-on-error": false,
                "services": {"db": {"image": "postgres:17"}},
                "steps": [
                    {"name": "e2e", "app": "e2e-runner", "timeout": 300, "env": {"DB": "${{ job.services.db.ports.main }}"}},
                    {"name": "ask", "message": {"app": "pytask", "payload": "print(1+1, end='')"}},
                ],
            },
            "deploy": {
                "needs": ["build", "test"],
                "outputs": {"url": "${{ steps.push.outputs.url }}"},
                "steps": [
                    {"id": "push", "workflow": "deploy-region", "with": {"region": "eu", "digest": "${{ needs.build.outputs.digest }}"}},
                    {"name": "verify", "command": "curl -fsS ${{ steps.push.outputs.url }}", "if": "success()"},
                ],
                "finally": [{"name": "tell", "command": "echo ${{ job.status }}", "if": "always()"}],
            },
        },
    });
    assert_eq!(told(&spec), "");
}

#[test]
fn triggers_say_everything_that_is_wrong_with_them() {
    let spec = json!({
        "on": {
            "manual": {"inputs": {
                "a": {"type": "choice"}, "b": {"type": "number", "default": "many"}, "c": {"options": ["x"], "required": true},
                "d!": {}, "e": {"type": "choice", "options": ["x"], "default": "y"}, "f": {"default": "${{ github.actor }}"},
            }},
            "workflow_dispatch": {},
            "schedule": [{"cron": "60 2 * *", "timeZone": "Berlin", "timezone": "UTC"}],
            "app_event": {"app": "Web", "events": ["EXIT"], "condition": "exitcode == 0"},
            "workflow_call": {"outputs": {"url": {"value": "${{ jobs.b.outputs.url }} ${{ needs.a.result }}"}}},
        },
        "jobs": {"a": {"steps": [{"run": "x"}]}},
    });
    insta::assert_snapshot!(told(&spec), @r"
    spec.on.workflow_dispatch: Forbidden: `manual` and `workflow_dispatch` are the same; write one of them
    spec.on.manual.inputs.a.options: Required value: a choice needs something to choose from
    spec.on.manual.inputs.b.default: Invalid value: `many` must be a number
    spec.on.manual.inputs.c.options: Forbidden: only a `choice` has options
    spec.on.manual.inputs.c.default: Required value: a run that `schedule` starts is told nothing, so that it needs a default
    spec.on.manual.inputs.d!: Invalid value: `d!` is no name of an input: at most 100 letters, digits, '-' and '_', and a letter or '_' at the beginning
    spec.on.manual.inputs.e.default: Invalid value: `y` must be one of `x`
    spec.on.manual.inputs.f.default: Invalid value: a default is a value; expressions are not put in
    spec.on.workflow_call.outputs.url.value: Invalid value: `jobs.b.outputs.url`: there is no job `b`; there is `a`
    spec.on.workflow_call.outputs.url.value: Invalid value: `needs.a.result`: `needs` cannot be read in outputs of the workflow, but `github`, `inputs`, `jobs`, `workflow` can
    spec.on.schedule[0].cron: Invalid value: it has 4 fields, not five: minute, hour, day of the month, month and day of the week; a sixth for seconds may stand before them
    spec.on.schedule[0].timezone: Forbidden: `timeZone` and `timezone` are the same; write one of them
    spec.on.schedule[0].timeZone: Unsupported value: no such time zone `Berlin`; did you mean `Europe/Berlin`?
    spec.on.app_event.app: Invalid value: must be a lowercase RFC 1123 label: lower case letters, digits and '-', starting and ending with a letter or digit, at most 63 characters (got `Web`)
    spec.on.app_event.condition: Invalid value: `exitcode`: there is no context `exitcode`; did you mean `exit_code`?
    spec.execution_identity: Required value: `schedule` starts it by itself: say which User its steps run as
    ");
}

#[test]
fn jobs_that_wait_for_themselves_are_told_with_the_way() {
    let spec = json!({"jobs": {
        "a": {"needs": "c", "steps": [{"run": "x"}]}, "b": {"needs": ["a", "a"], "steps": [{"run": "x"}]},
        "c": {"needs": ["b", "bild"], "steps": [{"run": "x"}]}, "build": {"needs": "build", "steps": [{"run": "x"}]},
    }});
    insta::assert_snapshot!(told(&spec), @r"
    spec.jobs.b.needs[1]: Duplicate value: `a`
    spec.jobs.c.needs[1]: Invalid value: there is no job `bild`; did you mean `build`?
    spec.jobs.a.needs: Invalid value: the job waits for itself: `a` needs `c` needs `b` needs `a`
    spec.jobs.build.needs: Invalid value: the job waits for itself: `build` needs `build`
    ");
}

#[test]
fn a_job_says_everything_that_is_wrong_with_it() {
    insta::assert_snapshot!(job(&json!({
        "runs-on": {"a b": "x"}, "node_label": {"b": "${{ steps.x.outputs.y }}"}, "timeout-minutes": 0, "if": "always() && runner.os == 'x'",
        "continue-on-error": "perhaps", "strategy": {"fail-fast": "${{ format('x') }}", "max-parallel": "${{ 'a' == 'b' }}", "matrix": {"os": []}},
        "env": {"GITHUB_TOKEN": "x", "1A": "x", "S": "${{ secrets.TOKEN }}", "V": "${{ vars.x }}"}, "sec_env": {"S": {"secret": "A", "key": "k"}},
        "defaults": {"run": {"shell": "fish"}}, "services": {"DB": {}},
        "outputs": {"x": "${{ steps.nobody.outputs.x }}"}, "steps": [],
    })), @r"
    spec.jobs.a.if: Invalid value: `runner.os`: `runner` cannot be read in the `if` of a job, but `github`, `inputs`, `jobs`, `needs`, `workflow` can
    spec.jobs.a.strategy.max-parallel: Invalid value: `${{ 'a' == 'b' }}` must be a whole number or one expression that is so
    spec.jobs.a.strategy.matrix.os: Invalid value: has no values
    spec.jobs.a.node_label: Forbidden: `runs-on` and `node_label` are the same; write one of them
    spec.jobs.a.runs-on.a b: Invalid value: a key's name must consist of at most 63 letters, digits, '-', '_' or '.', and begin and end with a letter or digit
    spec.jobs.a.node_label.b: Invalid value: `steps.x.outputs.y`: `steps` cannot be read in these fields of a job, but `github`, `inputs`, `jobs`, `matrix`, `needs`, `strategy`, `workflow` can
    spec.jobs.a.timeout-minutes: Invalid value: 0 is not within 1 to 43200
    spec.jobs.a.continue-on-error: Invalid value: `perhaps` must be true, false or an expression in ${{ }}
    spec.jobs.a.env.1A: Invalid value: `1A` is no name of a variable
    spec.jobs.a.env.GITHUB_TOKEN: Forbidden: variables that begin with GITHUB_ are set by appm
    spec.jobs.a.env.S: Invalid value: `secrets.TOKEN`: secrets come in by `sec_env: {NAME: {secret: …, key: …}}`, and are read as variables: $NAME
    spec.jobs.a.env.V: Invalid value: `vars.x`: there is no context `vars`; write `env`, or an input
    spec.jobs.a.sec_env.S: Duplicate value: `env` has it, too
    spec.jobs.a.sec_env.S.secret: Invalid value: must be a lowercase RFC 1123 subdomain: lower case letters, digits and '-' and '.', starting and ending with a letter or digit, at most 253 characters (got `A`)
    spec.jobs.a.defaults.run.shell: Unsupported value: `fish` is no shell that is known: bash, sh, python, pwsh, or a command line with {0} in the place of the file
    spec.jobs.a.services.DB: Invalid value: must be a lowercase RFC 1123 label: lower case letters, digits and '-', starting and ending with a letter or digit, at most 63 characters (got `DB`)
    spec.jobs.a.services.DB.image: Required value: set `image` or `process`
    spec.jobs.a.steps: Required value: a job has at least one step
    spec.jobs.a.outputs.x: Invalid value: `steps.nobody.outputs.x`: there is no step `nobody`
    ");
}

#[test]
fn steps_say_everything_that_is_wrong_with_them() {
    let steps = json!([
        {"run": "a", "command": "b", "app": "c"},
        {"name": "empty"},
        {"id": "Twice", "run": "x", "with": {"a": 1}, "timeout": 5, "timeout-minutes": 5},
        {"name": "twice", "app": "x", "shell": "bash", "workdir": "x"},
        {"id": "no id", "message": {"app": "x"}, "env": {"A": "1"}, "retry": {"max": 1, "exit_codes": [3]}},
        {"run": "x", "timeout": "${{ always() }}", "shell": "fish {0}"},
    ]);
    insta::assert_snapshot!(job(&json!({"steps": steps})), @r"
    spec.jobs.a.steps[0].run: Forbidden: `command` and `run` are the same; write one of them
    spec.jobs.a.steps[0].app: Forbidden: set either `command` or `app`, not both
    spec.jobs.a.steps[1]: Required value: say what is done: `command`, `app`, `message` or `workflow`
    spec.jobs.a.steps[2].with: Forbidden: is what a called workflow is told
    spec.jobs.a.steps[2].timeout-minutes: Forbidden: `timeout` and `timeout-minutes` are the same; write one of them
    spec.jobs.a.steps[3].shell: Forbidden: is for commands
    spec.jobs.a.steps[3].workdir: Forbidden: is for commands
    spec.jobs.a.steps[3].name: Duplicate value: `twice` is called so already (spec.jobs.a.steps[2]); give one of them another `id`
    spec.jobs.a.steps[4].id: Invalid value: `no id` is no name of a step: at most 100 letters, digits, '-' and '_', and a letter or '_' at the beginning
    spec.jobs.a.steps[4].env: Forbidden: is for commands and Apps
    spec.jobs.a.steps[4].retry.exit_codes: Forbidden: only commands and Apps have exit codes ([3])
    spec.jobs.a.steps[5].timeout: Invalid value: `always` can be asked in an `if` only
    spec.jobs.a.steps[5].timeout: Invalid value: `${{ always() }}` must be a whole number or one expression that is so
    ");
}

#[test]
fn what_is_read_must_be_there_and_may_be_read_in_that_place() {
    for (text, why) in [
        ("${{ needs.b.outputs.out }} ${{ NEEDS.B.Result }}", ""),
        ("${{ inputs.txt }}", "`inputs.txt`: there is no input `txt`; did you mean `text`?"),
        ("${{ needs.c.result }}", "`needs.c.result`: there is no job in `needs` `c`; there is `b`"),
        (
            "${{ needs.b.outputs.other }}",
            "`needs.b.outputs.other`: there is no output of job `b` called `other`; there is `out`",
        ),
        (
            "${{ needs.b.status }}",
            "`needs.b.status`: there is no property of a needed job `status`; there is `outputs`, `result`",
        ),
        ("${{ jobs.b.steps.s.stdout }}", ""),
        ("${{ jobs.b.steps.t.stdout }}", "`jobs.b.steps.t.stdout`: there is no step `t`; there is `s`"),
        ("${{ steps.later.stdout }}", "`steps.later.stdout`: there is no step `later`; there is `first`"),
        ("${{ matrix.os }}", "`matrix.os`: the job has no matrix"),
        (
            "${{ github.sha }}",
            "`github.sha`: there is no property of `github` `sha`; there is `actor`, `event`, `event_name`, `job`, `run_attempt`, `run_id`, `workflow`, `workspace`",
        ),
        ("${{ inputs['flag'] && inputs[inputs.text] }}", ""),
        ("${{ success() }}", "`success` can be asked in an `if` only"),
        ("${{ 1 + }}", "unexpected `+`"),
        ("${{ inputs.text", "`${{` is not closed by `}}`"),
        ("${{ succes() }}", "there is no function `succes`; did you mean `success`?"),
        ("${{ contains('a') }}", "`contains` takes at least 2 arguments, not 1"),
    ] {
        let said = step(json!({"run": "x", "env": {"X": text}}));
        let said = said.strip_prefix("spec.jobs.a.steps[1].env.X: Invalid value: ").unwrap_or(&said);
        if text != "${{ 1 + }}" {
            assert_eq!(said, why, "{text}");
        }
    }
}

#[test]
fn conditions_that_always_come_out_the_same_are_refused() {
    for (text, why) in [
        ("needs.b.result == 'success' || failure()", ""),
        ("${{ inputs.flag }}", ""),
        ("inputs.where != 'Y'", ""),
        (
            "${{ inputs.flag }} == true",
            "text around `${{ }}` makes a string, which always holds: put all of the condition inside, or leave `${{ }}` out",
        ),
        (
            "'sucess' == needs.b.result",
            "`needs.b.result` is never 'sucess': it is one of 'success', 'failure', 'cancelled', 'skipped'",
        ),
        (
            "inputs.flag == 'true'",
            "`inputs.flag` is a boolean, and no boolean equals a text; compare it with true or false",
        ),
        ("github.event_name == 'manual'", ""),
        (
            "github.event_name == 'workflow_dispatch'",
            "`github.event_name` of what GitHub calls 'workflow_dispatch' is 'manual' here",
        ),
        ("inputs.where == 'z'", "`inputs.where` is never 'z': it is one of 'x', 'y', ''"),
        (
            "steps.first.outcome != 'failed'",
            "`steps.first.outcome` is never 'failed': it is one of 'success', 'failure', 'cancelled', 'skipped'",
        ),
        ("success('b')", "in a step `success` takes no names of jobs"),
    ] {
        let said = step(json!({"run": "x", "if": text}));
        assert_eq!(said.strip_prefix("spec.jobs.a.steps[1].if: Invalid value: ").unwrap_or(&said), why, "{text}");
    }
    let of_job = |text: &str| job(&json!({"needs": "b", "if": text, "steps": [{"run": "x"}]}));
    assert_eq!(of_job("success('b') && !failure()"), "");
    assert!(of_job("success('a')").contains("there is no job `a` that comes before this one"));
    assert!(of_job("steps.first.outcome == 'success'").contains("`steps` cannot be read in the `if` of a job"));
}

#[test]
fn what_anybody_may_have_written_does_not_become_part_of_a_command() {
    let refused = |script: &str| {
        let spec = json!({
            "on": {"manual": {"inputs": {"text": {}, "flag": {"type": "boolean"}, "where": {"type": "choice", "options": ["x"]}}}},
            "jobs": {"a": {"steps": [{"id": "ask", "message": {"app": "a"}}, {"id": "sh", "run": "x"}, {"run": script}]}},
        });
        let found = found(&spec);
        assert!(found.len() < 2, "{found:?}");
        found.first().map(|f| (f.offset, f.violation.message.split('`').nth(1).unwrap_or_default().to_owned()))
    };
    for (script, read) in [
        ("echo ${{ inputs.text }}", Some((5, "inputs.text"))),
        ("${{ format('{0}', github.event.payload.x) }}", Some((0, "github.event.payload.x"))),
        ("${{ steps.ask.outputs.x }}", Some((0, "steps.ask.outputs.x"))),
        ("a\nb ${{ inputs.flag && inputs.text || 'none' }}", Some((4, "inputs.text"))),
        ("${{ toJSON(inputs) }}", Some((0, "inputs"))),
        ("${{ case(true, inputs.text, 'x') }}", Some((0, "inputs.text"))),
        ("${{ inputs.flag }} ${{ inputs.where }} ${{ steps.sh.outputs.x }} ${{ github.actor }}", None),
        ("${{ inputs.text == 'full' && '--full' || '' }}", None),
        ("${{ contains(inputs.text, 'x') }} ${{ case(inputs.text == 'a', '1', '2') }}", None),
        ("echo \"$TEXT\"", None),
    ] {
        assert_eq!(refused(script), read.map(|(at, read)| (Some(at), read.to_owned())), "{script}");
    }
    let said = told(
        &json!({"on": {"manual": {"inputs": {"dry-run": {}}}}, "jobs": {"a": {"steps": [{"run": "x ${{ inputs.dry-run }}"}]}}}),
    );
    let shells = step(json!({"run": "x", "shell": "sh ${{ inputs.text }} {0}"}));
    assert!(
        shells.starts_with("spec.jobs.a.steps[1].shell: Forbidden: what others wrote into `inputs.text`"),
        "{shells}"
    );
    assert_eq!(step(json!({"run": "x", "shell": "sh ${{ inputs.flag && '-x' || '-e' }} {0}"})), "");
    insta::assert_snapshot!(said, @r#"
    spec.jobs.a.steps[0].run: Forbidden: what others wrote into `inputs.dry-run` would be run as part of the command; pass it through `env: {DRY_RUN: ${{ inputs.dry-run }}}` and write "$DRY_RUN"
    "#);
}

#[test]
fn a_matrix_is_judged_by_what_is_known_of_it() {
    let cell = |matrix: Value, text: &str| {
        job(&json!({"strategy": {"matrix": matrix}, "steps": [{"run": "x", "env": {"X": text}}]}))
    };
    assert_eq!(
        cell(json!({"os": ["a"], "include": [{"os": "a", "more": 1}]}), "${{ matrix.os }} ${{ matrix.more }}"),
        ""
    );
    assert_eq!(cell(json!("${{ fromJSON(inputs.text) }}"), "${{ matrix.anything }}"), "");
    assert!(
        cell(json!({"os": ["a"]}), "${{ matrix.on }}").contains("there is no value of the matrix `on`; there is `os`")
    );
    assert!(cell(json!({"os": "${{ matrix.x }}"}), "").contains("`matrix` cannot be read in the `strategy` of a job"));
    let many: Vec<usize> = (0..257).collect();
    assert!(cell(json!({"n": many}), "").contains("has 257 cells; at most 256 are allowed"));
    let jobs: serde_json::Map<String, Value> = (0..5)
        .map(|n| (format!("j{n}"), json!({"strategy": {"matrix": {"n": many[..256]}}, "steps": [{"run": "x"}]})))
        .collect();
    assert_eq!(
        told(&json!({"jobs": jobs})),
        "spec.jobs: Too long: the matrices make 1280 jobs of them; a run has at most 1024"
    );
}

#[test]
fn what_is_too_large_is_refused_before_it_is_looked_at() {
    let jobs = |count: usize, needs: usize| {
        let job = |n: usize| {
            let needs: Vec<String> = (0..needs.min(n)).map(|m| format!("j{m}")).collect();
            (format!("j{n}"), json!({"needs": needs, "steps": [{"run": "${{ wrong"}]}))
        };
        told(&json!({"jobs": (0..count).map(job).collect::<serde_json::Map<_, _>>()}))
    };
    assert_eq!(jobs(10_000, 0), "spec.jobs: Too long: 10000 jobs are too many; at most 1024");
    assert_eq!(jobs(1000, 20), "spec.jobs: Too long: 19790 needs, all together, are too many; at most 10000");
    let steps = vec![json!({"run": "x"}); 1000];
    let eleven: serde_json::Map<String, Value> = (0..11).map(|n| (format!("j{n}"), json!({"steps": steps}))).collect();
    assert_eq!(told(&json!({"jobs": eleven})), "spec.jobs: Too long: 11000 steps are too many; at most 10000");
    assert_eq!(jobs(1000, 0).lines().count(), 100, "a hundred faults are enough");
}
