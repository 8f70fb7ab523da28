//! A matrix, and the cells that it stands for: GitHub's rules for `include` and `exclude`.
//!
//! `exclude` takes out every combination that has all its values. Then each entry of `include` in turn is added to the combinations of
//! which it overwrites no value that the matrix gave them (what an earlier entry added may be overwritten), and where there is none, it is
//! a cell of its own, to which nothing is added any more.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Cells that a matrix may have.
pub const MOST_CELLS: usize = 256;
/// Combinations that are looked at, before `exclude`.
const MOST_COMBINATIONS: usize = 4096;
/// Entries of `include` and of `exclude`.
const MOST_ENTRIES: usize = 1024;
/// Longer names of cells are cut.
const LONGEST_NAME: usize = 200;

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// `build (linux, 1.95)`
    pub name: String,
    /// Its values by name.
    pub values: Map<String, Value>,
}

/// The cells of a job's matrix in which every expression has its value; in the order in which GitHub has them.
///
/// # Errors
/// What is wrong with it, with the field within the matrix, which is empty if it is all of it.
pub fn cells(job: &str, matrix: &Value) -> Result<Vec<Cell>, (String, String)> {
    let Value::Object(matrix) = matrix else { return Err((String::new(), format!("{} is no matrix", shown(matrix)))) };
    let at = |field: &str, why: String| (field.to_owned(), why);
    let entries = |field: &str| entries(matrix.get(field)).map_err(|why| at(field, why));
    let (exclude, include) = (entries("exclude")?, entries("include")?);
    let mut vectors = Vec::new();
    let mut combinations = 1_usize;
    for (name, values) in matrix.iter().filter(|(name, _)| !is_word(name)) {
        match values {
            Value::Array(values) if !values.is_empty() => {
                combinations = combinations.saturating_mul(values.len());
                vectors.push((name, values));
            }
            Value::Array(_) => return Err(at(name, "has no values".to_owned())),
            other => return Err(at(name, format!("{} must be a list of values", shown(other)))),
        }
    }
    if combinations > MOST_COMBINATIONS {
        let why = format!(
            "has {combinations} combinations, and a job at most {MOST_CELLS} cells; `exclude` may take them out of \
             {MOST_COMBINATIONS} combinations at most"
        );
        return Err(at("", why));
    }
    for entry in &exclude {
        if let Some(unknown) = entry.keys().find(|key| !vectors.iter().any(|(name, _)| name == key)) {
            return Err(at("exclude", format!("the matrix has no `{unknown}`")));
        }
    }
    let mut all = product(&vectors);
    all.retain(|cell| !exclude.iter().any(|entry| entry.iter().all(|(name, value)| cell.get(name) == Some(value))));
    let all = included(all, &include);
    match all.len() {
        0 => Err(at("", "has no cell".to_owned())),
        many if many > MOST_CELLS => Err(at("", format!("has {many} cells; at most {MOST_CELLS} are allowed"))),
        _ => Ok(named(job, all)),
    }
}

fn is_word(name: &str) -> bool {
    name == "include" || name == "exclude"
}

fn entries(list: Option<&Value>) -> Result<Vec<&Map<String, Value>>, String> {
    let list = match list {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("{} must be a list", shown(other))),
    };
    if list.len() > MOST_ENTRIES {
        return Err(format!("has {} entries; at most {MOST_ENTRIES} are allowed", list.len()));
    }
    let entries = list.iter().map(|value| {
        let entry = value.as_object().filter(|entry| !entry.is_empty());
        entry.ok_or_else(|| format!("{} must be a map of values by name", shown(value)))
    });
    entries.collect()
}

/// The last name changes fastest.
fn product(vectors: &[(&String, &Vec<Value>)]) -> Vec<Map<String, Value>> {
    if vectors.is_empty() {
        return Vec::new();
    }
    vectors.iter().fold(vec![Map::new()], |cells, (name, values)| {
        let with = |cell: &Map<String, Value>, value: &Value| {
            let mut cell = cell.clone();
            cell.insert((*name).clone(), value.clone());
            cell
        };
        cells.iter().flat_map(|cell| values.iter().map(move |value| with(cell, value))).collect()
    })
}

fn included(originals: Vec<Map<String, Value>>, include: &[&Map<String, Value>]) -> Vec<Map<String, Value>> {
    let mut cells = originals.clone();
    let mut own = Vec::new();
    for entry in include {
        let mut added = false;
        for (cell, original) in cells.iter_mut().zip(&originals) {
            if entry.iter().all(|(name, value)| original.get(name).is_none_or(|given| given == value)) {
                cell.extend(entry.iter().map(|(name, value)| (name.clone(), value.clone())));
                added = true;
            }
        }
        if !added {
            own.push((*entry).clone());
        }
    }
    cells.extend(own);
    cells
}

fn named(job: &str, cells: Vec<Map<String, Value>>) -> Vec<Cell> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let name = |values: Map<String, Value>| {
        let mut words = Vec::new();
        values.values().for_each(|value| leaves(value, &mut words));
        let mut name = format!("{job} ({})", words.join(", "));
        if let Some((end, _)) = name.char_indices().nth(LONGEST_NAME) {
            name.truncate(end);
            name.push_str("…)");
        }
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        let name = if *count > 1 { format!("{name} #{count}") } else { name };
        Cell { name, values }
    };
    cells.into_iter().map(name).collect()
}

/// The texts of a value, of a structure those of its parts.
fn leaves(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| leaves(value, words)),
        Value::Object(map) => map.values().for_each(|value| leaves(value, words)),
        Value::String(text) => words.push(text.replace(char::is_control, " ")),
        other => words.push(other.to_string()),
    }
}

/// What can be said of a matrix before its expressions have values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// The names of its values; `None`: only the run knows.
    pub(super) names: Option<Vec<String>>,
    /// How many cells it has; `None`: only the run knows.
    pub(super) cells: Option<usize>,
}

/// Looks at a matrix as it is written.
///
/// # Errors
/// As of [`cells`].
pub(super) fn outline(matrix: &Value) -> Result<Outline, (String, String)> {
    if is_expression(matrix) {
        return Ok(Outline::default());
    }
    let parts = matrix.as_object().into_iter().flatten();
    let open = parts.clone().any(|(_, part)| {
        is_expression(part) || part.as_array().is_some_and(|list| list.iter().any(is_expression_of_entries))
    });
    let included = ["include"]
        .into_iter()
        .filter_map(|word| matrix.get(word))
        .any(|part| is_expression(part) || part.as_array().is_some_and(|entries| entries.iter().any(is_expression)));
    let names = || {
        let own = parts.clone().map(|(name, _)| name).filter(|name| !is_word(name));
        let added = matrix["include"].as_array().into_iter().flatten().filter_map(Value::as_object).flat_map(Map::keys);
        let mut names: Vec<String> = own.chain(added).cloned().collect();
        names.sort();
        names.dedup();
        names
    };
    // Where some part is an expression, the others are judged with a single value in its place.
    let count = match open {
        false => Some(cells("", matrix)?.len()),
        true => {
            cells("", &with_stand_ins(matrix)).map(|_| ())?;
            None
        }
    };
    Ok(Outline { names: (!included).then(names), cells: count })
}

fn is_expression(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("${{"))
}

/// A value of a list may be an expression and is one value; in `include` and `exclude` it decides what is matched.
fn is_expression_of_entries(value: &Value) -> bool {
    match value {
        Value::Object(entry) => is_expression(value) || entry.values().any(is_expression),
        other => is_expression(other) && other.is_object(),
    }
}

fn with_stand_ins(matrix: &Value) -> Value {
    let parts = matrix.as_object().into_iter().flatten();
    let stood = parts.filter_map(|(name, part)| match part {
        part if is_word(name) && (is_expression(part) || is_expression_inside(part)) => None,
        part if is_expression(part) => Some((name.clone(), Value::Array(vec![part.clone()]))),
        part => Some((name.clone(), part.clone())),
    });
    let mut stood: Map<String, Value> = stood.collect();
    // Nothing but what is not known yet.
    if stood.is_empty() {
        stood.insert("include".to_owned(), serde_json::json!([{"known": "later"}]));
    }
    Value::Object(stood)
}

fn is_expression_inside(list: &Value) -> bool {
    let entries = list.as_array().into_iter().flatten();
    entries.into_iter().any(|entry| is_expression(entry) || is_expression_of_entries(entry))
}

/// At most 40 characters of a value.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(matrix: Value) -> String {
        match cells("build", &matrix) {
            Ok(cells) => {
                let line = |cell: Cell| format!("{} {}", cell.name, Value::Object(cell.values));
                cells.into_iter().map(line).collect::<Vec<_>>().join("\n")
            }
            Err((at, why)) => format!("{at}: {why}"),
        }
    }

    #[test]
    fn the_example_of_githubs_documentation_has_its_six_cells() {
        let matrix = json!({
            "fruit": ["apple", "pear"], "animal": ["cat", "dog"],
            "include": [
                {"color": "green"}, {"color": "pink", "animal": "cat"}, {"fruit": "apple", "shape": "circle"},
                {"fruit": "banana"}, {"fruit": "banana", "animal": "cat"},
            ],
        });
        insta::assert_snapshot!(told(matrix), @r#"
        build (apple, cat, pink, circle) {"fruit":"apple","animal":"cat","color":"pink","shape":"circle"}
        build (apple, dog, green, circle) {"fruit":"apple","animal":"dog","color":"green","shape":"circle"}
        build (pear, cat, pink) {"fruit":"pear","animal":"cat","color":"pink"}
        build (pear, dog, green) {"fruit":"pear","animal":"dog","color":"green"}
        build (banana) {"fruit":"banana"}
        build (banana, cat) {"fruit":"banana","animal":"cat"}
        "#);
    }

    #[test]
    fn exclude_takes_out_every_combination_that_has_all_its_values_and_include_may_bring_one_back() {
        let matrix = json!({
            "os": ["linux", "windows"], "rust": [1.94, 1.95, "beta"],
            "exclude": [{"os": "windows", "rust": 1.94}, {"rust": "beta"}],
            "include": [{"os": "windows", "rust": "beta", "slow": true}],
        });
        insta::assert_snapshot!(told(matrix), @r#"
        build (linux, 1.94) {"os":"linux","rust":1.94}
        build (linux, 1.95) {"os":"linux","rust":1.95}
        build (windows, 1.95) {"os":"windows","rust":1.95}
        build (windows, beta, true) {"os":"windows","rust":"beta","slow":true}
        "#);
    }

    #[test]
    fn names_are_distinct_and_structures_are_named_by_their_values() {
        let matrix = json!({"v": ["1", 1, {"os": "linux", "arch": ["x64"]}]});
        insta::assert_snapshot!(told(matrix), @r#"
        build (1) {"v":"1"}
        build (1) #2 {"v":1}
        build (linux, x64) {"v":{"os":"linux","arch":["x64"]}}
        "#);
        assert_eq!(told(json!({"include": [{"a": 1}, {"a": 2}]})), "build (1) {\"a\":1}\nbuild (2) {\"a\":2}");
    }

    #[test]
    fn what_is_no_matrix_or_too_large_is_refused_at_once() {
        let many: Vec<usize> = (0..100_000).collect();
        let ten: Vec<usize> = (0..10).collect();
        for (matrix, why) in [
            (json!([]), ": `[]` is no matrix"),
            (json!({}), ": has no cell"),
            (json!({"os": []}), "os: has no values"),
            (json!({"os": "linux"}), "os: `\"linux\"` must be a list of values"),
            (json!({"os": ["a"], "exclude": [{"os": "a"}]}), ": has no cell"),
            (json!({"os": ["a"], "exclude": [{"on": "a"}]}), "exclude: the matrix has no `on`"),
            (json!({"os": ["a"], "include": ["a"]}), "include: `\"a\"` must be a map of values by name"),
            (
                json!({"n": many}),
                ": has 100000 combinations, and a job at most 256 cells; `exclude` may take them out of 4096 combinations at most",
            ),
            (
                json!({"a": ten, "b": ten, "c": ten, "d": ten, "e": ten}),
                ": has 100000 combinations, and a job at most 256 cells; `exclude` may take them out of 4096 combinations at most",
            ),
            (json!({"a": ten, "b": ten, "c": ten}), ": has 1000 cells; at most 256 are allowed"),
        ] {
            assert_eq!(told(matrix), why);
        }
    }

    #[test]
    fn of_a_matrix_with_expressions_is_said_what_is_known() {
        let outline = |matrix| outline(&matrix).map(|o| (o.names.map(|names| names.join(",")), o.cells));
        let known = |names: &str, cells| Ok((Some(names.to_owned()), cells));
        assert_eq!(outline(json!("${{ fromJSON(inputs.m) }}")), Ok((None, None)));
        assert_eq!(outline(json!({"os": ["a", "${{ inputs.b }}"]})), known("os", Some(2)));
        assert_eq!(outline(json!({"os": "${{ fromJSON(inputs.m) }}", "v": [1]})), known("os,v", None));
        assert_eq!(outline(json!({"v": [1], "include": "${{ inputs.m }}"})), Ok((None, None)));
        assert_eq!(outline(json!({"include": "${{ inputs.m }}"})), Ok((None, None)));
        assert_eq!(outline(json!({"v": [1], "include": [{"w": "${{ inputs.m }}"}]})), known("v,w", None));
        assert!(outline(json!({"os": "${{ fromJSON(inputs.m) }}", "v": 1})).is_err());
    }
}
