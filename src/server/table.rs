//! Objects as clients' tables and as metadata only: `meta.k8s.io/v1` Table and PartialObjectMetadata.

use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};

use crate::api::{Column, Served, StoredObject, age};

/// Which object goes with each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum IncludeObject {
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
    /// None.
    None,
}

impl IncludeObject {
    /// The parameter `includeObject`; anything unknown is the default.
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "Object" => Self::Object,
            "None" => Self::None,
            _ => Self::Metadata,
        }
    }
}

/// The column definitions: NAME, the kind's own, AGE, and what only `-o wide` shows.
pub(super) fn columns(served: Served) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "description": "name of the object", "priority": 0,
    });
    let age = json!({
        "name": "Age", "type": "string", "format": "", "description": "time since the object was made", "priority": 0,
    });
    let own = |wide: bool| {
        served.columns().iter().filter(move |c| c.wide == wide).map(|c| {
            // Times are shown as ages already, so to clients they are texts.
            let data_type = if c.data_type == "date" { "string" } else { c.data_type };
            json!({
                "name": c.name, "type": data_type, "format": "", "description": c.description,
                "priority": i32::from(c.wide),
            })
        })
    };
    std::iter::once(name).chain(own(false)).chain([age]).chain(own(true)).collect()
}

/// One row, as JSON text.
pub(super) fn row(served: Served, object: &StoredObject, include: IncludeObject, now: Timestamp) -> String {
    let own = served.view.filter(|view| view.columns.is_some());
    let value = match own {
        Some(view) => serde_json::from_slice(&object.projected(view)).unwrap_or_default(),
        None => object.value(),
    };
    let cells = |wide: bool| {
        let value = &value;
        served.columns().iter().filter(move |c| c.wide == wide).map(move |c| cell(c, value, now))
    };
    let made = match object.meta().creation_timestamp {
        Some(made) => age(now, made.0).into(),
        None => "<unknown>".into(),
    };
    let cells: Value =
        std::iter::once(json!(&*object.key.name)).chain(cells(false)).chain([made]).chain(cells(true)).collect();
    match include {
        IncludeObject::None => format!(r#"{{"cells":{cells}}}"#),
        IncludeObject::Metadata => {
            format!(r#"{{"cells":{cells},"object":{}}}"#, metadata_only(&object.served_as(served)))
        }
        IncludeObject::Object => {
            format!(r#"{{"cells":{cells},"object":{}}}"#, String::from_utf8_lossy(&object.served_as(served)))
        }
    }
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let shown = (column.cell)(object, now);
    if column.data_type != "date" {
        return shown;
    }
    match shown.as_str().and_then(|text| text.parse().ok()) {
        Some(time) => age(now, time).into(),
        None => "<unknown>".into(),
    }
}

/// PartialObjectMetadata, as JSON text; the metadata is copied as it stands.
pub(super) fn metadata_only(json: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let metadata = serde_json::from_slice::<Envelope<'_>>(json).map_or("{}", |e| e.metadata.get());
    format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{App, Body, Key, Kind, Rev};

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let body = Body::new(json!({"apiVersion": "appm.dev/v1", "kind": "App", "spec": {"replicas": 2},
            "metadata": {"name": "web", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}}));
        let object = StoredObject::new(Key::of::<App>("default", "web"), Rev(3), &body).expect("object");
        let served = App::INFO.served().next().expect("stored form");
        let now = "2026-01-01T00:05:00Z".parse().expect("time");
        let row: Value = serde_json::from_str(&row(served, &object, IncludeObject::Metadata, now)).expect("JSON");
        let cells = row["cells"].as_array().expect("cells");
        assert_eq!(cells.len(), columns(served).as_array().expect("columns").len());
        assert_eq!((&cells[0], &cells[1]), (&json!("web"), &json!("0/2")));
        assert!(cells.contains(&json!("5m")));
        assert_eq!(row["object"]["metadata"]["resourceVersion"], "3");
    }
}
