//! Swagger 2 in protobuf, as kubectl before 1.29 wants it: gnostic's `openapi.v2.Document`, the fields that are read.
//! Field numbers are those of `OpenAPIv2.proto`.

use serde_json::Value;

use crate::server::protobuf::Message;

/// Content type of the answer.
pub(in crate::server) const CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Encodes what [`super::v2::document`] made.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let info = Message::new().text(1, text(&document["info"]["title"])).text(2, text(&document["info"]["version"]));
    let paths = Message::new()
        .each(2, fields(&document["paths"]), |(path, item)| Message::new().text(1, path).message(2, path_item(item)));
    let definitions = Message::new().each(1, fields(&document["definitions"]), named_schema);
    Message::new().text(1, "2.0").message(2, info).message(8, paths).message(9, definitions).into_bytes()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn path_item(item: &Value) -> Message {
    [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)]
        .into_iter()
        .filter_map(|(method, field)| item.get(method).map(|o| (field, operation(o))))
        .fold(Message::new(), |out, (field, operation)| out.message(field, operation))
}

fn operation(operation: &Value) -> Message {
    let responses = Message::new().each(1, fields(&operation["responses"]), |(code, response)| {
        let response = Message::new().text(1, text(&response["description"]));
        Message::new().text(1, code).message(2, Message::new().message(1, response))
    });
    Message::new()
        .text(5, text(&operation["operationId"]))
        .each(8, items(&operation["parameters"]), |p| Message::new().message(1, parameter(p)))
        .message(9, responses)
        .each(13, extensions(operation), extension)
}

fn parameter(parameter: &Value) -> Message {
    let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
    if place == "body" {
        let body = Message::new().text(2, name).text(3, place).flag(4, parameter["required"] == true);
        return Message::new().message(1, body.message(5, schema(&parameter["schema"])));
    }
    let data_type = text(&parameter["type"]);
    let one = match place {
        "path" => {
            Message::new().message(4, Message::new().flag(1, true).text(2, place).text(4, name).text(5, data_type))
        }
        _ => Message::new().message(3, Message::new().text(2, place).text(4, name).text(6, data_type)),
    };
    Message::new().message(2, one)
}

fn named_schema((name, value): (&String, &Value)) -> Message {
    Message::new().text(1, name).message(2, schema(value))
}

fn schema(value: &Value) -> Message {
    let mut out = Message::new()
        .text(1, text(&value["$ref"]))
        .text(2, text(&value["format"]))
        .text(4, text(&value["description"]));
    for name in items(&value["required"]) {
        out = out.text(19, text(name));
    }
    if let Some(additional) = value.get("additionalProperties") {
        out = out.message(21, Message::new().message(1, schema(additional)));
    }
    if let Some(data_type) = value["type"].as_str() {
        out = out.message(22, Message::new().text(1, data_type));
    }
    if let Some(item) = value.get("items") {
        out = out.message(23, Message::new().message(1, schema(item)));
    }
    if value.get("properties").is_some() {
        out = out.message(25, Message::new().each(1, fields(&value["properties"]), named_schema));
    }
    out.each(31, extensions(value), extension)
}

fn extensions(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    fields(value).filter(|(name, _)| name.starts_with("x-"))
}

/// A `NamedAny`: the value as YAML, of which JSON is a part.
fn extension((name, value): (&String, &Value)) -> Message {
    Message::new().text(1, name).message(2, Message::new().text(2, &value.to_string()))
}
