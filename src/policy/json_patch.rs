//! RFC 6902 JSON Patch, with the one liberty that Kubernetes' clients rely on: testing a missing path against null passes.

use serde::Deserialize;
use serde_json::Value;

/// Why a patch was not applied. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is no list of operations.
    #[error("the patch is not a JSON Patch: {0}")]
    Malformed(String),
    /// A path leads nowhere.
    #[error("operation {at}: there is nothing at `{path}`")]
    NoSuchPath {
        /// Which operation, from 0.
        at: usize,
        /// The path.
        path: String,
    },
    /// A test failed.
    #[error("operation {at}: testing `{path}` failed")]
    TestFailed {
        /// Which operation, from 0.
        at: usize,
        /// The path.
        path: String,
    },
    /// There are too many operations.
    #[error("the allowed maximum operations in a JSON patch is {MAX_STEPS}, got {0}")]
    TooLong(usize),
    /// The copies add up to too much.
    #[error("operation {at}: the patch copies more than {MAX_COPIED} bytes")]
    CopiesTooMuch {
        /// Which operation, from 0.
        at: usize,
    },
    /// The value would be nested too deeply.
    #[error("operation {at}: nested too deeply at `{path}`")]
    TooDeep {
        /// Which operation, from 0.
        at: usize,
        /// The path.
        path: String,
    },
    /// A value would be moved into itself.
    #[error("operation {at}: `{path}` cannot be moved into itself")]
    IntoItself {
        /// Which operation, from 0.
        at: usize,
        /// The path.
        path: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Step {
    Add {
        path: String,
        #[serde(default)]
        value: Value,
    },
    Remove {
        path: String,
    },
    Replace {
        path: String,
        #[serde(default)]
        value: Value,
    },
    Move {
        from: String,
        path: String,
    },
    Copy {
        from: String,
        path: String,
    },
    Test {
        path: String,
        #[serde(default)]
        value: Value,
    },
}

/// Longest patch, as in Kubernetes.
const MAX_STEPS: usize = 10_000;
/// Most bytes of text, and of what stands around it, that the copies of one patch may make: copying doubles what is
/// there, so thirty operations would fill the memory. As in Kubernetes.
const MAX_COPIED: usize = 3 << 20;
/// Deepest nesting of what an operation makes. Copies of copies would go deeper than any recursion over them can, and JSON
/// parsers, the store's among them, read no more than 128 levels.
pub const MAX_DEPTH: usize = 100;

/// Applies a patch.
///
/// # Errors
/// See [`PatchError`]; `target` is then left half patched and must be dropped.
pub fn apply(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let steps = Vec::<Step>::deserialize(patch).map_err(|e| PatchError::Malformed(e.to_string()))?;
    if steps.len() > MAX_STEPS {
        return Err(PatchError::TooLong(steps.len()));
    }
    let mut copied = 0;
    steps.into_iter().enumerate().try_for_each(|(at, step)| do_step(target, step, at, &mut copied))
}

fn do_step(target: &mut Value, step: Step, at: usize, copied: &mut usize) -> Result<(), PatchError> {
    let nowhere = |path: &str| PatchError::NoSuchPath { at, path: path.to_owned() };
    match step {
        Step::Add { path, value } => put(target, path, value, at),
        Step::Remove { path } => remove(target, &path).map(drop).ok_or_else(|| nowhere(&path)),
        Step::Replace { path, value } => {
            shallow(&path, &value, at)?;
            *target.pointer_mut(&path).ok_or_else(|| nowhere(&path))? = value;
            Ok(())
        }
        Step::Move { from, path } if from == path => target.pointer(&from).map(drop).ok_or_else(|| nowhere(&from)),
        Step::Move { from, path } if path.starts_with(&format!("{from}/")) => {
            Err(PatchError::IntoItself { at, path: from })
        }
        Step::Move { from, path } => {
            let value = remove(target, &from).ok_or_else(|| nowhere(&from))?;
            put(target, path, value, at)
        }
        Step::Copy { from, path } => {
            let source = target.pointer(&from).ok_or_else(|| nowhere(&from))?;
            *copied += size(source);
            if *copied > MAX_COPIED {
                return Err(PatchError::CopiesTooMuch { at });
            }
            let value = source.clone();
            put(target, path, value, at)
        }
        Step::Test { path, value } => match target.pointer(&path).unwrap_or(&Value::Null) == &value {
            true => Ok(()),
            false => Err(PatchError::TestFailed { at, path }),
        },
    }
}

fn put(target: &mut Value, path: String, value: Value, at: usize) -> Result<(), PatchError> {
    shallow(&path, &value, at)?;
    add(target, &path, value).ok_or(PatchError::NoSuchPath { at, path })
}

/// What a value takes as text, roughly.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 8 + items.iter().map(size).sum::<usize>(),
        Value::Object(fields) => 8 + fields.iter().map(|(name, value)| 8 + name.len() + size(value)).sum::<usize>(),
        Value::String(text) => 8 + text.len(),
        _ => 8,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a value at that path stays within the depth.
fn shallow(path: &str, value: &Value, at: usize) -> Result<(), PatchError> {
    let below = path.bytes().filter(|byte| *byte == b'/').count();
    match below + depth(value) > MAX_DEPTH {
        true => Err(PatchError::TooDeep { at, path: path.to_owned() }),
        false => Ok(()),
    }
}

/// The parent's pointer, and the last step of the path.
fn parent(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn index(step: &str, length: usize) -> Option<usize> {
    let padded = step.len() > 1 && step.starts_with('0');
    let plain = step.bytes().all(|b| b.is_ascii_digit()) && !padded;
    step.parse().ok().filter(|at| plain && *at < length)
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (above, last) = parent(path)?;
    match target.pointer_mut(above)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => {
            let at = index(&last, list.len() + 1)?;
            list.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, path: &str) -> Option<Value> {
    if path.is_empty() {
        return Some(target.take());
    }
    let (above, last) = parent(path)?;
    match target.pointer_mut(above)? {
        Value::Object(map) => map.shift_remove(&last),
        Value::Array(list) => {
            let at = index(&last, list.len())?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_do_what_the_standard_says() {
        let table = [
            (json!({"a": 1}), json!([{"op": "add", "path": "/b", "value": 2}]), json!({"a": 1, "b": 2})),
            (json!({"a": [1, 3]}), json!([{"op": "add", "path": "/a/1", "value": 2}]), json!({"a": [1, 2, 3]})),
            (json!({"a": [1]}), json!([{"op": "add", "path": "/a/-", "value": 2}]), json!({"a": [1, 2]})),
            (json!({"a": 1}), json!([{"op": "remove", "path": "/a"}]), json!({})),
            (json!({"a": [1, 2]}), json!([{"op": "remove", "path": "/a/0"}]), json!({"a": [2]})),
            (json!({"a": 1}), json!([{"op": "replace", "path": "/a", "value": null}]), json!({"a": null})),
            (json!({"a": {"b": 1}}), json!([{"op": "move", "from": "/a/b", "path": "/c"}]), json!({"a": {}, "c": 1})),
            (json!({"a": 1}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), json!({"a": 1, "b": 1})),
            (
                json!({"a/b": 1, "m~n": 2}),
                json!([{"op": "remove", "path": "/a~1b"}, {"op": "test", "path": "/m~0n", "value": 2}]),
                json!({"m~n": 2}),
            ),
            (json!({}), json!([{"op": "test", "path": "/metadata/finalizers", "value": null}]), json!({})),
        ];
        for (mut target, patch, expected) in table {
            assert_eq!(apply(&mut target, &patch), Ok(()), "{patch}");
            assert_eq!(target, expected, "{patch}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let table = [
            (json!({}), json!([{"op": "remove", "path": "/a"}]), "operation 0: there is nothing at `/a`"),
            (json!({}), json!([{"op": "replace", "path": "/a", "value": 1}]), "operation 0: there is nothing at `/a`"),
            (json!({}), json!([{"op": "add", "path": "/a/b", "value": 1}]), "operation 0: there is nothing at `/a/b`"),
            (
                json!({"a": [1]}),
                json!([{"op": "add", "path": "/a/3", "value": 1}]),
                "operation 0: there is nothing at `/a/3`",
            ),
            (
                json!({"a": [1, 2]}),
                json!([{"op": "remove", "path": "/a/01"}]),
                "operation 0: there is nothing at `/a/01`",
            ),
            (json!({"a": 1}), json!([{"op": "test", "path": "/a", "value": 2}]), "operation 0: testing `/a` failed"),
            (
                json!({"a": {}}),
                json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
                "operation 0: `/a` cannot be moved into itself",
            ),
        ];
        for (mut target, patch, message) in table {
            assert_eq!(apply(&mut target, &patch).expect_err("refused").to_string(), message);
        }
        assert!(matches!(apply(&mut json!({}), &json!({"op": "add"})), Err(PatchError::Malformed(_))));
    }

    #[test]
    fn copies_of_copies_are_bounded() {
        let doubling = |at: usize| json!({"op": "copy", "from": "/a", "path": format!("/a/{at}")});
        let patch: Vec<Value> = (0..60).map(doubling).collect();
        let refused = apply(&mut json!({"a": {"text": "x"}}), &patch.into()).expect_err("refused");
        assert!(matches!(refused, PatchError::CopiesTooMuch { .. }), "{refused}");
        let nesting = json!({"op": "copy", "from": "/a", "path": "/a/a"});
        let refused = apply(&mut json!({"a": {}}), &vec![nesting; 5_000].into()).expect_err("refused");
        assert!(matches!(refused, PatchError::CopiesTooMuch { .. } | PatchError::TooDeep { .. }), "{refused}");
        let steps = vec![json!({"op": "test", "path": "/x", "value": null}); MAX_STEPS + 1];
        assert_eq!(apply(&mut json!({}), &steps.into()), Err(PatchError::TooLong(MAX_STEPS + 1)));
    }
}
