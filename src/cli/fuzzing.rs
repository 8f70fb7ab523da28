//! Doors for the fuzzer (`fuzz/`) to what reads the command line's small languages. Nobody else comes in here.

use serde_json::Value;

use super::jsonpath::JsonPath;

/// What `-o jsonpath` prints of an object; `None` if the path is refused.
pub fn jsonpath(path: &str, object: &Value) -> Option<String> {
    Some(path.parse::<JsonPath>().ok()?.print(object))
}
