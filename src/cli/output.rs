//! `-o`: the forms in which objects are printed.

use std::str::FromStr;

use serde_json::{Value, json};

use super::{
    columns::Columns,
    error::{CliError, did_you_mean},
    jsonpath::JsonPath,
    resources::qualified,
    screen,
};
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
    /// `jsonpath-as-json={.path}`: what the path finds, as a JSON list.
    Found(JsonPath),
    /// `custom-columns=NAME:.metadata.name`
    Columns(Columns),
}

/// The forms with a single word.
const WORDS: [&str; 5] = ["table", "wide", "yaml", "json", "name"];

impl Format {
    /// True if it is made for people.
    pub(super) fn is_table(&self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }
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
            _ => with_argument(text),
        }
    }
}

/// Every form, those with an argument with their equals sign.
pub(super) fn forms() -> impl Iterator<Item = &'static str> {
    let more = ["jsonpath=", "jsonpath-file=", "jsonpath-as-json=", "custom-columns=", "custom-columns-file="];
    WORDS.into_iter().chain(more)
}

/// `form=argument`; what ends in `-file` has the argument in a file.
fn with_argument(text: &str) -> Result<Format, String> {
    let (form, argument) = text.split_once('=').unwrap_or((text, ""));
    let argument = match form.strip_suffix("-file") {
        Some(_) => std::fs::read_to_string(argument).map_err(|e| format!("cannot read `{argument}`: {e}"))?,
        None => argument.to_owned(),
    };
    match form {
        "jsonpath" | "jsonpath-file" | "jsonpath-as-json" | "custom-columns" | "custom-columns-file"
            if argument.is_empty() =>
        {
            Err(format!("`{form}` wants something behind it: `{form}=…`"))
        }
        "jsonpath" | "jsonpath-file" => argument.trim_end_matches('\n').parse().map(Format::JsonPath),
        "jsonpath-as-json" => argument.parse().map(Format::Found),
        "custom-columns" => argument.parse().map(Format::Columns),
        "custom-columns-file" => Columns::from_file(&argument).map(Format::Columns),
        "go-template" | "go-template-file" | "template" | "templatefile" => {
            Err("templates of Go are not understood here; use jsonpath=… or custom-columns=…".to_owned())
        }
        _ => {
            let hint = did_you_mean(form, forms().map(|known| known.trim_end_matches('=')));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Err(format!("expected one of {}{hint}", forms().collect::<Vec<_>>().join(", ")))
        }
    }
}

/// The flag, for commands that print objects.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct OutputArgs {
    /// Form of the output: table, wide, yaml, json, name, jsonpath={.path}, custom-columns=NAME:.path
    #[arg(short, long, value_name = "FORM", default_value = "table", hide_default_value = true, add = super::complete::forms())]
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
            // A template that ends its lines itself is not given another end.
            let text = path.print(&document);
            screen::print(format_args!("{text}{}", if text.ends_with('\n') { "" } else { "\n" }))?;
        }
        Format::Found(path) => {
            let document = if as_list || all.len() != 1 { json!({"items": all}) } else { all.remove(0) };
            value(format, &path.find(&document).into_iter().cloned().collect())?;
        }
        Format::Columns(columns) => screen::print(columns.table(&all).render(&screen::Screen::plain(), true))?,
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
