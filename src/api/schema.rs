//! JSON Schema and OpenAPI components, both from the one derive on the API types.
//!
//! Reading the store is lenient, writing is strict: [`strict`] closes every object schema that lists its properties, so
//! that a misspelt field is a violation with a path and not silently dropped.

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform},
};
use serde_json::{Map, Value, json};

use super::{Served, kinds};

/// The schema of one served form, 2020-12, with `$defs`, closed.
pub fn of(served: Served) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = served.schema(&mut generator);
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        schema.insert("$defs".into(), Value::Object(definitions));
    }
    strict(&mut schema);
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(served.name()));
    name_type(&mut schema, served);
    schema.to_value()
}

/// Says of every list that is merged how strategic merge patches merge it, in the words that kubectl looks for.
fn name_patches(schema: &mut Schema) {
    RecursiveTransform(|schema: &mut Schema| {
        let key = schema.get("x-kubernetes-list-map-keys").and_then(|keys| keys.get(0)).cloned();
        if schema.get("x-kubernetes-list-type").is_some_and(|merged| merged == "map" || merged == "set") {
            schema.insert("x-kubernetes-patch-strategy".into(), json!("merge"));
        }
        if let Some(key) = key {
            schema.insert("x-kubernetes-patch-merge-key".into(), key);
        }
    })
    .transform(schema);
}

/// Every component of the OpenAPI document, by name, references pointing into `#/components/schemas`.
pub fn components() -> Map<String, Value> {
    let mut generator = component_generator();
    let mut all = Map::new();
    for served in kinds::served() {
        let mut schema = served.schema(&mut generator);
        strict(&mut schema);
        name_patches(&mut schema);
        name_type(&mut schema, served);
        all.insert(component_name(served), schema.to_value());
    }
    add::<super::Transaction>(&mut generator, &mut all, "Transaction");
    add::<super::TransactionResult>(&mut generator, &mut all, "TransactionResult");
    add::<super::Plan>(&mut generator, &mut all, "Plan");
    add::<super::InstanceProcesses>(&mut generator, &mut all, super::InstanceProcesses::KIND);
    add::<super::Task>(&mut generator, &mut all, super::Task::KIND);
    add::<super::TaskList>(&mut generator, &mut all, super::TaskList::KIND);
    add::<super::History>(&mut generator, &mut all, super::History::KIND);
    add::<super::HistoryPin>(&mut generator, &mut all, super::HistoryPin::KIND);
    add::<super::PastTransactionList>(&mut generator, &mut all, super::PastTransactionList::KIND);
    add::<super::PastTransactionInfo>(&mut generator, &mut all, "PastTransactionInfo");
    add::<super::StatusDetails>(&mut generator, &mut all, "StatusDetails");
    add::<super::Reason>(&mut generator, &mut all, "Reason");
    for (name, definition) in generator.take_definitions(true) {
        let mut definition = Schema::try_from(definition).expect("a definition is a schema");
        strict(&mut definition);
        name_patches(&mut definition);
        all.insert(name, definition.to_value());
    }
    all.sort_keys();
    all
}

/// The component's name: the kind. A view that bears the name of another kind has its group and version before it
/// (`EventsV1Event`).
pub fn component_name(served: Served) -> String {
    let taken = |name| kinds::KINDS.iter().any(|kind| kind.kind == name);
    match served.view {
        Some(view) if taken(view.kind) => {
            let upper = |word: &str| word[..1].to_uppercase() + &word[1..];
            let group = view.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
            format!("{}{}{}", upper(group), upper(view.version), view.kind)
        }
        _ => served.name().to_owned(),
    }
}

fn component_generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        })
        .into_generator()
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator, all: &mut Map<String, Value>, name: &str) {
    let mut schema = T::json_schema(generator);
    strict(&mut schema);
    all.insert(name.to_owned(), schema.to_value());
}

/// `apiVersion` and `kind` admit the one value that makes sense.
fn name_type(schema: &mut Schema, served: Served) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    properties.insert("apiVersion".into(), json!({"type": "string", "enum": [served.api_version()]}));
    properties.insert("kind".into(), json!({"type": "string", "enum": [served.name()]}));
    schema.insert(
        "x-kubernetes-group-version-kind".into(),
        json!([{"group": served.group(), "version": served.version(), "kind": served.name()}]),
    );
}

/// Closes every object that lists its properties.
fn strict(schema: &mut Schema) {
    RecursiveTransform(|schema: &mut Schema| {
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
            schema.insert("additionalProperties".into(), json!(false));
        }
    })
    .transform(schema);
}
