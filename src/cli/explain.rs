//! `appm explain`: what a field means, from the same JSON Schema that the server checks manifests against.

use clap::Args;
use serde_json::Value;

use crate::api::schema;

use super::{
    error::{CliError, Exit, did_you_mean},
    output::{self, Format, OutputArgs},
    resources,
    screen::{self, Screen},
};

/// Explain a resource or a field of it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  appm explain app
  appm explain app.spec.restart.backoff
  appm explain app.spec --recursive
  appm explain app -o json              the JSON Schema")]
pub(super) struct ExplainArgs {
    /// `app`, `app.spec.process`
    #[arg(value_name = "RESOURCE[.FIELD]", add = super::complete::fields())]
    path: String,
    /// The fields below, too
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &ExplainArgs, screen: &Screen) -> Result<(), CliError> {
    let (word, fields) = args.path.split_once('.').unwrap_or((args.path.as_str(), ""));
    let served = resources::resource(word)?;
    let root = schema::of(served);
    let schema = Schema { root: &root };
    let mut here = schema.resolve(&root);
    let mut walked = served.singular().to_owned();
    for field in fields.split('.').filter(|f| !f.is_empty()) {
        let Some(next) = schema.field(here, field) else {
            let known: Vec<&str> = schema.fields(here).into_iter().map(|(name, _)| name).collect();
            let error = CliError::new(Exit::NotFound, format!("`{walked}` has no field `{field}`"));
            let others = (!known.is_empty()).then(|| format!("it has {}", known.join(", ")));
            return Err(error.maybe_help(others).maybe_help(did_you_mean(field, known)));
        };
        walked = format!("{walked}.{field}");
        here = next;
    }
    if matches!(args.output.output, Format::Json | Format::Yaml) {
        let mut whole = here.clone();
        if !std::ptr::eq(here, &root)
            && let Some(map) = whole.as_object_mut()
        {
            map.insert("$defs".into(), root["$defs"].clone());
        }
        return output::value(&args.output.output, &whole);
    }
    let mut text = format!("{} {} ({})\n", screen.paint(screen::BOLD, "KIND:"), served.name(), served.api_version());
    if !fields.is_empty() {
        text += &format!("{} {walked} <{}>\n", screen.paint(screen::BOLD, "FIELD:"), schema.kind_of(here));
    }
    text += &schema.notes(here, "");
    if !schema.fields(here).is_empty() {
        text += &format!("{}\n", screen.paint(screen::BOLD, "FIELDS:"));
        text += &schema.list(here, 1, args.recursive, screen);
    }
    screen::print(text)?;
    Ok(())
}

/// The names of the fields below `app.spec`, for completion.
pub(super) fn fields_at(root: &Value, path: &str) -> Vec<String> {
    let schema = Schema { root };
    let here = path.split('.').skip(1).try_fold(schema.resolve(root), |here, field| schema.field(here, field));
    here.into_iter().flat_map(|here| schema.fields(here)).map(|(name, _)| name.to_owned()).collect()
}

/// A schema with its definitions.
struct Schema<'a> {
    root: &'a Value,
}

impl<'a> Schema<'a> {
    /// Follows references, and takes the one real member of `anyOf: [X, null]`.
    fn resolve(&self, mut schema: &'a Value) -> &'a Value {
        for _ in 0..32 {
            if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
                schema = &self.root["$defs"][name];
            } else if let Some(member) = schema["anyOf"].as_array().and_then(|any| {
                let mut real = any.iter().filter(|m| m["type"] != "null");
                real.next().filter(|_| real.next().is_none())
            }) {
                schema = member;
            } else {
                break;
            }
        }
        schema
    }

    /// What is inside of lists and maps, which have no fields of their own.
    fn inner(&self, schema: &'a Value) -> &'a Value {
        let mut here = self.resolve(schema);
        loop {
            let items = if here["items"].is_object() { &here["items"] } else { &here["additionalProperties"] };
            if here["properties"].is_object() || !items.is_object() {
                return here;
            }
            here = self.resolve(items);
        }
    }

    fn fields(&self, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
        let properties = self.inner(schema)["properties"].as_object();
        properties.into_iter().flatten().map(|(name, field)| (name.as_str(), field)).collect()
    }

    fn field(&self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        self.fields(schema).into_iter().find(|(known, _)| *known == name).map(|(_, field)| field)
    }

    fn kind_of(&self, schema: &'a Value) -> String {
        let here = self.resolve(schema);
        if here["items"].is_object() {
            return format!("list of {}", self.kind_of(&here["items"]));
        }
        if here["additionalProperties"].is_object() && !here["properties"].is_object() {
            return format!("map to {}", self.kind_of(&here["additionalProperties"]));
        }
        match &here["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => {
                kinds.iter().filter_map(Value::as_str).find(|k| *k != "null").unwrap_or("any").to_owned()
            }
            _ if here["enum"].is_array() || here["oneOf"].is_array() => "string".to_owned(),
            _ => "any".to_owned(),
        }
    }

    /// The words that are allowed, if they are counted.
    fn words(&self, schema: &'a Value) -> Vec<String> {
        let here = self.resolve(schema);
        let members = here["oneOf"].as_array().into_iter().flatten();
        let constants =
            members.flat_map(|m| std::iter::once(&m["const"]).chain(m["enum"].as_array().into_iter().flatten()));
        let own = here["enum"].as_array().into_iter().flatten();
        own.chain(constants).filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn notes(&self, schema: &'a Value, indent: &str) -> String {
        let described = schema["description"].as_str().or_else(|| self.resolve(schema)["description"].as_str());
        let mut text = String::new();
        if let Some(described) = described {
            let joined = described.split_whitespace().collect::<Vec<_>>().join(" ");
            text += &format!("{indent}{joined}\n");
        }
        let words = self.words(schema);
        if !words.is_empty() {
            text += &format!("{indent}One of: {}\n", words.join(", "));
        }
        if !schema["default"].is_null() && !schema["default"].is_object() {
            text += &format!("{indent}Default: {}\n", super::jsonpath::plain(&schema["default"]));
        }
        text
    }

    fn list(&self, schema: &'a Value, depth: usize, recursive: bool, screen: &Screen) -> String {
        let required = self.inner(schema)["required"].as_array().map_or(&[][..], Vec::as_slice);
        let indent = "  ".repeat(depth);
        let mut text = String::new();
        for (name, field) in self.fields(schema) {
            let must = if required.iter().any(|r| r == name) { " -required-" } else { "" };
            text += &format!("{indent}{} <{}>{must}\n", screen.paint(screen::BOLD, name), self.kind_of(field));
            if recursive && depth < 12 {
                text += &self.list(field, depth + 1, true, screen);
            } else {
                text += &self.notes(field, &format!("{indent}  "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{App, Kind, Served};

    #[test]
    fn fields_are_found_through_references_lists_and_options() {
        let root = schema::of(Served { kind: App::INFO, view: None });
        let schema = Schema { root: &root };
        let walk = |path: &str| {
            path.split('.').try_fold(&root, |here, field| schema.field(here, field)).map(|found| schema.kind_of(found))
        };
        for (path, kind) in [
            ("spec", "object"),
            ("spec.replicas", "integer"),
            ("spec.process.command", "list of string"),
            ("spec.env", "list of object"),
            ("spec.env.valueFrom.fieldRef.fieldPath", "string"),
            ("spec.restart.backoff.initial", "string"),
            ("spec.restart.exitCodes", "map to string"),
            ("metadata.labels", "map to string"),
        ] {
            assert_eq!(walk(path).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(walk("spec.nothing"), None);
        let policy = schema.field(schema.field(&root, "spec").expect("spec"), "restartPolicy").expect("there");
        assert_eq!(schema.words(policy), ["Always", "OnFailure", "Never"]);
    }
}
