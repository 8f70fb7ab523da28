//! What of an object the history remembers: all but its status.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::Body;

/// The body without its `status`: what the history keeps. Copies text, builds no tree.
pub(super) fn without_status(body: &Body) -> Body {
    let mut text = String::with_capacity(body.json().len());
    let mut reader = serde_json::Deserializer::from_slice(body.json());
    let copied = reader.deserialize_map(CopyFields(&mut text));
    match copied.ok().and_then(|()| Body::from_json(text.into()).ok()) {
        Some(stripped) => stripped,
        None => body.clone(),
    }
}

struct CopyFields<'t>(&'t mut String);

impl<'de> Visitor<'de> for CopyFields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an API object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut before = '{';
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if name.get() != r#""status""# {
                self.0.push(before);
                self.0.push_str(name.get());
                self.0.push(':');
                self.0.push_str(value.get());
                before = ',';
            }
        }
        self.0.push('}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_history_forgets_the_status_and_nothing_else() {
        let mut object = json!({
            "apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "x", "labels": {"status": "kept"}},
            "spec": {"status": [1, "}"], "text": "\"status\""}, "status": {"replicas": 3},
        });
        let stripped = without_status(&Body::new(object.clone()));
        object.as_object_mut().unwrap().remove("status");
        assert_eq!(serde_json::from_slice::<Value>(stripped.json()).unwrap(), object);
    }
}
