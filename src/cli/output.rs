//! `-o`: the forms in which objects are printed.

use std::str::FromStr;

use serde_json::{Value, json};

use super::{error::CliError, jsonpath::JsonPath, resources::qualified, screen};
use crate::api::kinds;

/// A form of output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    #[default]
    Table,
    /// For people with a wide screen.
    Wide,
    Yaml,
    Json,
    /// `app.appm.dev/web`.
    Name,
    /// `jsonpath={.status.readyReplicas}`.
    JsonPath(JsonPath),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Format::Table),
            "wide" => Ok(Format::Wide),
            "yaml" => Ok(Format::Yaml),
            "json" => Ok(Format::Json),
            "name" => Ok(Format::Name),
            _ => match text.strip_prefix("jsonpath=") {
                Some(path) => path.parse().map(Format::JsonPath),
                None => Err("expected table, wide, yaml, json, name or jsonpath=…".to_owned()),
            },
        }
    }
}

/// The flag, for commands that print objects.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct OutputArgs {
    /// Form of the output: table, wide, yaml, json, name, jsonpath={.path}
    #[arg(short, long, value_name = "FORM", default_value = "table", hide_default_value = true)]
    pub(super) output: Format,
}

/// Prints objects in a form that is no table: one as it is, several as a `List`.
pub(super) fn objects(format: &Format, mut all: Vec<Value>, as_list: bool) -> Result<(), CliError> {
    match format {
        Format::Name => {
            for object in &all {
                screen::line(name_line(object))?;
            }
        }
        Format::Yaml | Format::Json => {
            let document = match all.len() {
                1 if !as_list => all.remove(0),
                _ => json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": all}),
            };
            value(format, &document)?;
        }
        Format::JsonPath(path) => {
            let document = if as_list || all.len() != 1 { json!({"items": all}) } else { all.remove(0) };
            screen::line(path.print(&document))?;
        }
        Format::Table | Format::Wide => unreachable!("tables are printed by the commands"),
    }
    Ok(())
}

/// Prints one value as YAML or JSON.
pub(super) fn value(format: &Format, value: &Value) -> Result<(), CliError> {
    match format {
        Format::Yaml => screen::print(yaml(value))?,
        _ => screen::line(serde_json::to_string_pretty(value).expect("JSON prints"))?,
    }
    Ok(())
}

/// A value as YAML text.
pub(super) fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("JSON is YAML")
}

/// `app.appm.dev/web`.
pub(super) fn name_line(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match kinds::find_served(text("apiVersion"), text("kind")) {
        Some(served) => qualified(served, name),
        None => format!("{}/{name}", text("kind").to_lowercase()),
    }
}

/// Takes out what nobody reads.
pub(super) fn without_managed_fields(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    object
}
