//! The rules between a WorkflowRun's fields, and what of it never changes.

use serde_json::Value;

use super::CancelMode;
use crate::api::{FieldPath, Problem, Violation, check_label_name};

pub(super) fn check(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let (spec, root) = (&new["spec"], FieldPath::of("spec"));
    let mut found: Vec<Violation> = check_label_name(new).into_iter().collect();
    if spec["workflow"].as_str().unwrap_or_default().is_empty() && spec["rerun"].is_null() {
        found.push(Violation::new(root.field("workflow"), Problem::Required, "say which workflow is to be run"));
    }
    let rerun = &spec["rerun"];
    if !rerun["from"].is_null() && !matches!(rerun["jobs"].as_str(), None | Some("All")) {
        let message = "set either `jobs` or `from`, not both";
        found.push(Violation::new(root.field("rerun").field("from"), Problem::Forbidden, message));
    }
    if let Some(old) = old {
        found.extend(check_change(spec, &old["spec"], &root));
    }
    found
}

fn check_change(new: &Value, old: &Value, root: &FieldPath) -> Option<Violation> {
    let changed = |name: &str| new[name] != old[name];
    let names = [new, old].into_iter().filter_map(Value::as_object).flat_map(|spec| spec.keys());
    let mut names: Vec<&String> = names.filter(|name| *name != "cancel" && changed(name)).collect();
    names.sort();
    if let Some(first) = names.first() {
        let message = "cannot be changed; make another run, or set `cancel`";
        return Some(Violation::new(root.field(first), Problem::Forbidden, message));
    }
    let strength = |spec: &Value| serde_json::from_value::<CancelMode>(spec["cancel"].clone()).ok();
    (strength(new) < strength(old)).then(|| {
        let message = "may grow stronger, from Drain to Stop to Kill, and cannot be taken back";
        Violation::new(root.field("cancel"), Problem::Forbidden, message)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(new: &Value, old: Option<&Value>) -> String {
        let object = |spec: &Value| json!({"metadata": {"name": "release-1"}, "spec": spec});
        let old = old.map(object);
        check(&object(new), old.as_ref()).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_run_stays_what_it_is_but_may_be_cancelled_harder() {
        let run = json!({"workflow": "release", "inputs": {"a": 1}});
        let with = |name: &str, value: Value| {
            let mut run = run.clone();
            run[name] = value;
            run
        };
        let (drained, killed) = (with("cancel", json!("Drain")), with("cancel", json!("Kill")));
        assert_eq!(told(&run, None), "");
        assert_eq!([told(&drained, Some(&run)), told(&killed, Some(&drained))], ["", ""]);
        assert!(told(&drained, Some(&killed)).starts_with("spec.cancel: Forbidden: may grow stronger"));
        assert!(told(&run, Some(&killed)).starts_with("spec.cancel: Forbidden"));
        assert!(told(&with("inputs", json!({"a": 2})), Some(&run)).starts_with("spec.inputs: Forbidden: cannot be"));
        assert_eq!(told(&json!({}), None), "spec.workflow: Required value: say which workflow is to be run");
        let both = json!({"rerun": {"of": "a", "jobs": "Failed", "from": {"job": "b"}}});
        assert!(told(&both, None).starts_with("spec.rerun.from: Forbidden"));
    }
}
