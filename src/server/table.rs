//! Objects as clients' tables and as metadata only: `meta.k8s.io/v1` Table and PartialObjectMetadata.

use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};

use crate::api::{Column, Served, StoredObject, at};

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

/// The column definitions: NAME, the kind's own, AGE.
pub(super) fn columns(served: Served) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "description": "name of the object", "priority": 0,
    });
    let age = json!({
        "name": "Age", "type": "string", "format": "", "description": "time since the object was made", "priority": 0,
    });
    let own = served.kind.columns.iter().map(|c| {
        // Times are shown as ages already, so to clients they are texts.
        let data_type = if c.data_type == "date" { "string" } else { c.data_type };
        json!({
            "name": c.name, "type": data_type, "format": "", "description": c.description,
            "priority": i32::from(c.wide),
        })
    });
    std::iter::once(name).chain(own).chain([age]).collect()
}

/// One row, as JSON text.
pub(super) fn row(served: Served, object: &StoredObject, include: IncludeObject, now: Timestamp) -> String {
    let value = object.value();
    let mut cells = vec![json!(&*object.key.name)];
    cells.extend(served.kind.columns.iter().map(|c| cell(c, &value, now)));
    cells.push(match object.meta().creation_timestamp {
        Some(made) => age(now, made.0).into(),
        None => "<unknown>".into(),
    });
    let cells = Value::Array(cells);
    match include {
        IncludeObject::None => format!(r#"{{"cells":{cells}}}"#),
        IncludeObject::Metadata => format!(r#"{{"cells":{cells},"object":{}}}"#, metadata_only(&object.json)),
        IncludeObject::Object => {
            let shown = served.view.map_or_else(|| value.to_string(), |view| (view.project)(&value).to_string());
            format!(r#"{{"cells":{cells},"object":{shown}}}"#)
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

/// An age as `kubectl` prints it: two units at most, the coarser the older.
pub(super) fn age(now: Timestamp, since: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let seconds = now.duration_since(since).as_secs();
    let pair = |large: i64, small: i64, names: [&str; 2]| match seconds % large / small {
        0 => format!("{}{}", seconds / large, names[0]),
        rest => format!("{}{}{rest}{}", seconds / large, names[0], names[1]),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => pair(MINUTE, 1, ["m", "s"]),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => pair(HOUR, MINUTE, ["h", "m"]),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => pair(DAY, HOUR, ["d", "h"]),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => pair(YEAR, DAY, ["y", "d"]),
        s => format!("{}y", s / YEAR),
    }
}

/// The state that an Instance is in, for counting: the member of `status.state` that is set.
pub(super) fn state_word(object: &Value) -> &str {
    let state = at(object, &["status", "state"]).as_object();
    state.and_then(|s| s.keys().next()).map_or("pending", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{App, Body, Key, Kind, Rev};

    #[test]
    fn ages_are_printed_as_kubectl_prints_them() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600 + 60, "9h"),
            (2 * 86400, "2d"),
            (3 * 86400 + 3600, "3d1h"),
            (400 * 86400, "400d"),
            (3 * 365 * 86400, "3y"),
        ] {
            let since = now - jiff::SignedDuration::from_secs(seconds);
            assert_eq!(age(now, since), expected, "{seconds}");
        }
    }

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
        assert_eq!((&cells[0], &cells[1], cells.last()), (&json!("web"), &json!("0/2"), Some(&json!("5m"))));
        assert_eq!(row["object"]["metadata"]["resourceVersion"], "3");
    }
}
