//! How the server's Tables are shown: which of its columns, and what stands beside them.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::Served;

use super::{
    super::{ages, context::namespace_of, output::Format, resources::qualified, table::Table},
    GetArgs,
};

/// Which of the server's columns are shown, and what stands beside them.
pub(super) struct Layout {
    served: Served,
    columns: Vec<(usize, String, bool)>,
    label_columns: Vec<String>,
    with_event: bool,
    with_namespace: bool,
    with_kind: bool,
    with_labels: bool,
}

impl Layout {
    pub(super) fn new(args: &GetArgs, served: Served, with_kind: bool, answer: Option<&Value>) -> Self {
        let wide = args.output.output == Format::Wide;
        let definitions = answer.and_then(|a| a["columnDefinitions"].as_array()).map_or(&[][..], Vec::as_slice);
        let shown = definitions.iter().enumerate().filter(|(_, d)| wide || d["priority"].as_i64().unwrap_or(0) == 0);
        let column = |(index, d): (usize, &Value)| {
            (index, d["name"].as_str().unwrap_or_default().to_uppercase(), d["type"] == "date")
        };
        Self {
            served,
            columns: shown.map(column).collect(),
            label_columns: args.label_columns.clone(),
            with_event: args.watch && args.output_watch_events,
            with_namespace: args.all_namespaces && served.kind.is_namespaced(),
            with_kind,
            with_labels: args.show_labels,
        }
    }

    /// True if the server has not said yet which columns there are.
    pub(super) fn is_blank(&self) -> bool {
        self.columns.is_empty()
    }

    pub(super) fn table(&self) -> Table {
        let mut headings = Vec::new();
        headings.extend(self.with_event.then(|| "EVENT".to_owned()));
        headings.extend(self.with_namespace.then(|| "NAMESPACE".to_owned()));
        headings.extend(self.columns.iter().map(|(_, name, _)| name.clone()));
        let short = |label: &String| label.rsplit('/').next().unwrap_or_default().to_uppercase();
        headings.extend(self.label_columns.iter().map(short));
        headings.extend(self.with_labels.then(|| "LABELS".to_owned()));
        Table::new(headings).judge(&["STATUS", "TYPE"])
    }

    /// Adds a row of a `Table` from the server, of an object that was listed.
    pub(super) fn add(&self, table: &mut Table, row: &Value, now: Timestamp) {
        self.add_change(table, "ADDED", row, now);
    }

    /// Adds a row of a `Table` from the server, and says what happened to the object.
    pub(super) fn add_change(&self, table: &mut Table, change: &str, row: &Value, now: Timestamp) {
        let labels_of = &row["object"]["metadata"]["labels"];
        let mut cells = Vec::new();
        cells.extend(self.with_event.then(|| change.to_owned()));
        cells.extend(self.with_namespace.then(|| namespace_of(&row["object"])));
        for (position, (index, _, is_date)) in self.columns.iter().enumerate() {
            let text = cell(&row["cells"][*index], *is_date, now);
            let first = position == 0 && self.with_kind;
            cells.push(if first { qualified(self.served, &text) } else { text });
        }
        cells.extend(self.label_columns.iter().map(|label| labels_of[label].as_str().unwrap_or("-").to_owned()));
        cells.extend(self.with_labels.then(|| labels(labels_of)));
        table.add(cells);
    }
}

fn cell(value: &Value, is_date: bool, now: Timestamp) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(then) if is_date => ages::age(then, now),
            _ => text.clone(),
        },
        other => other.to_string(),
    }
}

/// `a=b,c=d`.
pub(in crate::cli) fn labels(labels: &Value) -> String {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    let all: Vec<String> = labels.as_object().into_iter().flatten().map(pair).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}
