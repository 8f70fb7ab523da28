//! What is carried over from a file of GitHub's, and what is refused.

use super::*;

fn imported(text: &str) -> String {
    let wanted = Wanted {
        name: "ci".into(),
        secret: "ci".into(),
        repository: Some("https://git.example.com/me/it".into()),
        namespace: None,
    };
    import(text, &wanted)
        .unwrap_or_else(|faults| faults.into_iter().map(|(place, message)| format!("{place}: {message}\n")).collect())
}

#[test]
fn run_steps_and_the_checkout_are_carried_over_and_the_rest_is_said() {
    let text = r#"
name: CI
on:
  push: {branches: [main]}
  pull_request:
  schedule: [{cron: "0 2 * * *"}]
  workflow_dispatch:
    inputs:
      level: {type: choice, options: [a, b], default: a, deprecationMessage: no}
permissions: {contents: read}
env: {CARGO_TERM_COLOR: always}
jobs:
  test:
    runs-on: ${{ matrix.os }}
    strategy: {matrix: {os: [ubuntu-latest], rust: ["1.94"]}}
    services:
      db: {image: "postgres:17", ports: ["5432:5432", 80], options: --health-cmd pg_isready}
    outputs: {digest: "${{ steps.pack.outputs.digest }}"}
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, path: src}
      - name: test
        run: cargo test
        env: {TOKEN: "${{ secrets.TOKEN }}", LEVEL: "${{ inputs.level }}"}
      - id: pack
        if: success() && github.ref == 'refs/heads/main'
        run: echo "digest=1" >> "$GITHUB_OUTPUT"
  deploy:
    needs: test
    uses: ./.github/workflows/Deploy_It.yml
    with: {digest: "${{ needs.test.outputs.digest }}"}
    secrets: inherit
"#;
    insta::assert_snapshot!(imported(text), @r#"
    #! line 2: its name was "CI"
    #! line 4: `on: push` was left out: start it by hand, by a schedule or from a hook of your host
    #! line 5: `on: pull_request` was left out: start it by hand, by a schedule or from a hook of your host
    #! line 9: `deprecationMessage` of an input was left out
    #! line 10: `permissions` were left out: a run may do what its identity's roles allow
    #! line 14: `runs-on: "${{ matrix.os }}"` was left out: any node runs it; name labels of yours
    #! line 17: `options` of service `db` was left out; `readinessProbe` says when it is ready
    #! line 24: put the value of `secrets.TOKEN` into the Secret `ci`
    #! line 32: `secrets` of a call were left out: a Workflow names its own Secrets
    apiVersion: appm.dev/v1
    kind: Workflow
    metadata:
      name: ci
    spec:
      "on":
        schedule:
        - cron: 0 2 * * *
          timeZone: UTC
        manual:
          inputs:
            level:
              type: choice
              options:
              - a
              - b
              default: a
      env:
        CARGO_TERM_COLOR: always
      jobs:
        test:
          strategy:
            matrix:
              os:
              - ubuntu-latest
              rust:
              - "1.94"
          services:
            db:
              image: postgres:17
              ports:
              - name: port-5432
                containerPort: 5432
                hostPort: 5432
              - name: port-80
                containerPort: 80
          outputs:
            digest: ${{ steps.pack.outputs.digest }}
          steps:
          - name: checkout
            run: |
              git init --quiet "$CHECKOUT_PATH"
              cd "$CHECKOUT_PATH"
              git fetch --quiet "$CHECKOUT_REPOSITORY" "$CHECKOUT_REF"
              git checkout --quiet --force FETCH_HEAD
            env:
              CHECKOUT_REPOSITORY: https://git.example.com/me/it
              CHECKOUT_REF: HEAD
              CHECKOUT_PATH: src
          - name: test
            run: cargo test
            env:
              LEVEL: ${{ inputs.level }}
            sec_env:
              TOKEN:
                secret: ci
                key: TOKEN
          - id: pack
            if: success() && github.ref == 'refs/heads/main'
            run: echo "digest=1" >> "$GITHUB_OUTPUT"
        deploy:
          needs: test
          steps:
          - workflow: deploy-it
            with:
              digest: ${{ needs.test.outputs.digest }}
    "#);
}

#[test]
fn what_would_do_something_else_is_refused_with_its_place() {
    let text = r#"
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    container: node:20
    steps:
      - uses: actions/setup-node@v4
      - run: curl -u me:${{ secrets.TOKEN }} x
      - if: ${{ matrix.x }} == 'y'
        run: echo ${{ vars.X }}
      - run: echo ${{ github. }}
      - runs: typo
  other:
    uses: octo/repo/.github/workflows/x.yml@main
"#;
    insta::assert_snapshot!(imported(text), @r"
    6:16: jobs in containers are not carried over: make each step an App with a container
    8:15: `uses: actions/setup-node@v4`: actions are not run here; write what it does as `run`
    9:14: a secret reaches a step as a variable only: `env: {NAME: ${{ secrets.KEY }}}`
    10:13: text around `${{ }}` makes a string, which always holds: put all of the condition inside, or leave `${{ }}` out (at ` == 'y'`)
    11:14: there are no `vars` here: make it `env`, or an input
    12:14: the expression ends too early (at `}}`)
    13:9: `runs` is nothing that is known of GitHub's workflows
    15:11: `uses: octo/repo/.github/workflows/x.yml@main` is of another repository: import it, too, and call it by its name
    ");
    assert_eq!(imported("[]").lines().count(), 1);
    assert_eq!(imported("on: push"), "1:1: there are no jobs\n");
}
