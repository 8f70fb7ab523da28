//! What an App's process is given, seen from outside: through the API and the command line, on real processes.

mod adopt;
mod attributes;
mod hostile;
mod references;
mod tree;
mod trouble;

use serde_json::{Value, json};

use crate::harness::{INSTANCES, World, app_path, wait_for};

/// An App that runs a script, with more fields.
fn app(name: &str, script: &str, more: Value) -> Value {
    let mut spec = json!({
        "process": {"script": script},
        "restart": {"backoff": {"initial": "100ms", "max": "300ms"}},
        "terminationGracePeriodSeconds": 2,
    });
    for (field, value) in more.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": name}, "spec": spec})
}

fn apply(world: &World, app: &Value) {
    let answer = world.api().apply(app).unwrap();
    assert!(answer.is_ok(), "{}", String::from_utf8_lossy(&answer.body));
}

/// The one Instance of an App, as soon as `look` is content with it.
fn instance(world: &World, app: &str, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || {
        let list =
            world.api().list(&format!("{INSTANCES}?labelSelector=appm.dev/app={app}")).map_err(|e| e.to_string())?;
        match list.as_slice() {
            [one] if look(one) => Ok(one.clone()),
            other => Err(format!("{other:?} of {:?}", world.api().get(&app_path(app)))),
        }
    })
}

/// What an App has printed, as soon as it ends with `end`.
fn printed(world: &World, app: &str, end: &str) -> String {
    wait_for("the output", || {
        let output = world.command(&["logs", app]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if said.ends_with(end) { Ok(said) } else { Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))) }
    })
}
