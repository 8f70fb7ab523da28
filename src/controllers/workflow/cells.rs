//! The cells of a job: every combination of its matrix, as GitHub combines.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::scope::Here;
use crate::{api::JobStatus, policy::expr};

/// Cells of one job.
const MOST: usize = 256;

/// Each cell by its name, in order. A job without a matrix is its only cell.
///
/// # Errors
/// If the matrix cannot be evaluated, or is none.
pub(super) fn cells(here: &Here<'_>) -> Result<Vec<(String, JobStatus)>, String> {
    let Some(place) = here.job else { return Ok(Vec::new()) };
    let Some(matrix) = place.job.strategy.as_ref().and_then(|strategy| strategy.matrix.as_ref()) else {
        return Ok(vec![(place.key.to_owned(), JobStatus::default())]);
    };
    let combined = combine(&here.json(matrix)?)?;
    let mut cells: Vec<(String, JobStatus)> = Vec::new();
    for cell in combined {
        let words: Vec<String> = cell.values().map(word).collect();
        let plain = format!("{} ({})", place.key, words.join(", "));
        let taken = |name: &str| cells.iter().any(|(known, _)| known == name);
        let more = (2..).map(|number| format!("{plain} #{number}"));
        let name = std::iter::once(plain.clone()).chain(more).find(|name| !taken(name)).unwrap_or_default();
        let matrix: BTreeMap<String, Value> = cell.into_iter().collect();
        cells.push((name, JobStatus { job: place.key.to_owned(), matrix, ..JobStatus::default() }));
    }
    match cells.is_empty() {
        true => Err("strategy.matrix: it has no cell".to_owned()),
        false => Ok(cells),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => value.to_string(),
        value => expr::Value::from_json(value).to_text().to_string(),
    }
}

/// A list of objects; nothing is none.
fn objects(value: Option<&Value>, name: &str) -> Result<Vec<Map<String, Value>>, String> {
    let wrong = || format!("strategy.matrix.{name}: it is no list of maps");
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_object().cloned().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

fn combine(matrix: &Value) -> Result<Vec<Map<String, Value>>, String> {
    let Some(fields) = matrix.as_object() else { return Err("strategy.matrix: it is no map".to_owned()) };
    let axes = || fields.iter().filter(|(name, _)| !["include", "exclude"].contains(&name.as_str()));
    let mut cells = vec![Map::new()];
    for (name, values) in axes() {
        let Some(values) = values.as_array() else { return Err(format!("strategy.matrix.{name}: it is no list")) };
        if cells.len().saturating_mul(values.len()) > MOST {
            return Err(format!("strategy.matrix: it has more than {MOST} cells"));
        }
        let with = |cell: &Map<String, Value>, value: &Value| {
            let mut cell = cell.clone();
            cell.insert(name.clone(), value.clone());
            cell
        };
        cells = cells.iter().flat_map(|cell| values.iter().map(move |value| with(cell, value))).collect();
    }
    if axes().next().is_none() {
        cells.clear();
    }
    for out in objects(fields.get("exclude"), "exclude")? {
        cells.retain(|cell| !out.iter().all(|(name, value)| cell.get(name) == Some(value)));
    }
    // What is in a cell from the beginning is not written over; what was added to it is.
    let first = cells.len();
    for more in objects(fields.get("include"), "include")? {
        let fits = |cell: &Map<String, Value>| {
            more.iter().all(|(name, value)| !fields.contains_key(name) || cell.get(name) == Some(value))
        };
        let mut added = false;
        for cell in cells[..first].iter_mut().filter(|cell| fits(cell)) {
            cell.extend(more.clone());
            added = true;
        }
        if !added {
            cells.push(more);
        }
        if cells.len() > MOST {
            return Err(format!("strategy.matrix: it has more than {MOST} cells"));
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_combined_as_github_documents_it() {
        let matrix = json!({
            "fruit": ["apple", "pear"],
            "animal": ["cat", "dog"],
            "include": [
                {"color": "green"},
                {"color": "pink", "animal": "cat"},
                {"fruit": "apple", "shape": "circle"},
                {"fruit": "banana"},
                {"fruit": "banana", "animal": "cat"},
            ],
        });
        let shown: Vec<String> = combine(&matrix).unwrap().iter().map(|cell| json!(cell).to_string()).collect();
        assert_eq!(
            shown,
            [
                r#"{"fruit":"apple","animal":"cat","color":"pink","shape":"circle"}"#,
                r#"{"fruit":"apple","animal":"dog","color":"green","shape":"circle"}"#,
                r#"{"fruit":"pear","animal":"cat","color":"pink"}"#,
                r#"{"fruit":"pear","animal":"dog","color":"green"}"#,
                r#"{"fruit":"banana"}"#,
                r#"{"fruit":"banana","animal":"cat"}"#,
            ]
        );
        let less = json!({"os": ["a", "b"], "n": [1, 2], "exclude": [{"os": "a"}, {"os": "b", "n": 1}]});
        assert_eq!(json!(combine(&less).unwrap()), json!([{"os": "b", "n": 2}]));
        assert!(combine(&json!({"n": (0..20).collect::<Vec<_>>(), "m": (0..20).collect::<Vec<_>>()})).is_err());
    }
}
