//! Which form of an answer a client wants: the object, a Table of it or its metadata; in JSON or YAML.
//!
//! The list in `Accept` is walked in order, as Kubernetes does; protobuf and CBOR are skipped, never refused, because
//! clients offer JSON beside them.

use crate::api::{Reason, Status};

/// What is shown of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// The whole object.
    Object,
    /// `meta.k8s.io/v1` Table: rows of cells.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata, or the list of it.
    Metadata,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// `application/json`
    Json,
    /// `application/json` with line breaks, for people.
    Pretty,
    /// `application/yaml`
    Yaml,
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// What is shown.
    pub shape: Shape,
    /// How it is written.
    pub encoding: Encoding,
}

impl Form {
    /// Plain JSON.
    pub(super) const JSON: Form = Form { shape: Shape::Object, encoding: Encoding::Json };
}

/// One entry of an `Accept` header.
pub(super) struct MediaType<'a> {
    /// `application/json`
    pub name: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> MediaType<'a> {
    /// One entry.
    pub(super) fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let params =
            parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim().trim_matches('"'))).collect();
        Self { name, params }
    }

    /// A parameter, or an empty text.
    pub(super) fn param(&self, name: &str) -> &'a str {
        self.params.iter().find(|(k, _)| *k == name).map_or("", |(_, value)| value)
    }
}

/// The entries of an `Accept` header, in order.
pub(super) fn entries(header: &str) -> impl Iterator<Item = MediaType<'_>> {
    header.split(',').map(str::trim).filter(|e| !e.is_empty()).map(MediaType::parse)
}

/// Chooses a form. No `Accept` means JSON.
///
/// # Errors
/// 406 when nothing fits.
pub(super) fn negotiate(header: &str) -> Result<Form, Status> {
    if header.trim().is_empty() {
        return Ok(Form::JSON);
    }
    entries(header).find_map(|entry| form(&entry)).ok_or_else(|| {
        Status::new(
            Reason::NotAcceptable,
            "only the following media types are accepted: application/json, application/yaml, \
             application/json;as=Table;v=v1;g=meta.k8s.io, application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        )
    })
}

/// The content type of a watch: JSON documents one a line are called `application/json` by Kubernetes, and `application/jsonl` by
/// everybody else. Whoever asks for the latter gets it, and so does who takes anything `under_its_own_path`.
pub(super) fn lines(header: &str, under_its_own_path: bool) -> &'static str {
    let default = if under_its_own_path { JSON_LINES } else { "application/json" };
    let chosen = entries(header).find_map(|entry| match entry.name {
        JSON_LINES => Some(JSON_LINES),
        "application/json" => Some("application/json"),
        "*/*" | "application/*" => Some(default),
        _ => None,
    });
    chosen.unwrap_or(default)
}

const JSON_LINES: &str = "application/jsonl";

fn form(entry: &MediaType<'_>) -> Option<Form> {
    let encoding = match entry.name {
        "application/json" | JSON_LINES | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let known = entry.param("g") == "meta.k8s.io" && entry.param("v") == "v1";
    let shape = match entry.param("as") {
        "" => Shape::Object,
        "Table" if known => Shape::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" if known => Shape::Metadata,
        _ => return None,
    };
    Some(Form { shape, encoding })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_fits_wins() {
        use Encoding::{Json, Yaml};
        use Shape::{Metadata, Object, Table};
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (header, shape, encoding) in [
            ("", Object, Json),
            ("*/*", Object, Json),
            (kubectl, Table, Json),
            ("application/vnd.kubernetes.protobuf,application/json", Object, Json),
            ("application/cbor;q=1, application/yaml", Object, Yaml),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", Object, Json),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Metadata, Json),
            ("application/json; charset=utf-8", Object, Json),
        ] {
            assert_eq!(negotiate(header), Ok(Form { shape, encoding }), "{header}");
        }
        assert_eq!(lines("application/jsonl, application/json", false), "application/jsonl");
        assert_eq!((lines("*/*", true), lines("", false)), ("application/jsonl", "application/json"));
        assert!(negotiate("text/html").is_err());
        assert!(negotiate("application/vnd.kubernetes.protobuf").is_err());
    }
}
