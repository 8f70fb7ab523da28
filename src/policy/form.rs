//! What a body must look like: the compiled shape and schema of everything that is served.
//!
//! Compiled once, at first use. Unknown fields are found by walking the shape, so that the right name can be proposed
//! and the field pruned where the client asked for that; types and values are found by the schema, without nulls,
//! which the shape has already taken out.

use std::sync::{Arc, LazyLock, OnceLock};

use jsonschema::{
    Validator,
    error::{TypeKind, ValidationError, ValidationErrorKind},
    types::JsonType,
};
use serde_json::{Map, Value, json};

use super::shape::Shape;
use crate::api::{FieldPath, KindInfo, Problem, Served, Violation, kinds, schema};

/// Mistakes that are told, and looked behind: to repair each of a million would take for ever.
const MOST_TOLD: usize = 100;
/// How often what is left is looked at again: so deep does what is needed lie.
const MOST_ROUNDS: usize = 12;

/// The compiled form of one thing that is served.
#[derive(Debug)]
pub struct Form {
    /// How it is merged.
    pub shape: Arc<Shape>,
    validator: Validator,
    /// Looks at `status` alone.
    of_status: Validator,
}

static FORMS: LazyLock<Vec<(Served, OnceLock<Form>)>> =
    LazyLock::new(|| kinds::served().map(|served| (served, OnceLock::new())).collect());

/// The form of what is served.
pub fn of(served: Served) -> &'static Form {
    let same = |s: &Served| s.kind == served.kind && (s.group(), s.version()) == (served.group(), served.version());
    let (served, form) = FORMS.iter().find(|(s, _)| same(s)).expect("only what is served gets here");
    form.get_or_init(|| Form::compile(*served))
}

/// The form in which objects of a kind are stored.
pub fn stored(kind: &'static KindInfo) -> &'static Form {
    of(Served { kind, view: None })
}

impl Form {
    fn compile(served: Served) -> Self {
        let schema = schema::of(served);
        let shape = Shape::compile(&schema);
        let mut simple = schema;
        simplify(&mut simple);
        let compile = |schema: &Value| {
            let compiled = jsonschema::options().should_validate_formats(true).build(schema);
            compiled.expect("the schemas of the API types compile")
        };
        let validator = compile(&simple);
        if let Value::Object(root) = &mut simple {
            root.remove("required");
            if let Some(Value::Object(properties)) = root.get_mut("properties") {
                properties.retain(|name, _| name == "status");
            }
        }
        Self { shape, validator, of_status: compile(&simple) }
    }

    /// True if nothing is wrong with an object's status: what programs write most, and most often alone. A kind's own rules do not
    /// speak of it.
    pub fn admits_status(&self, object: &Value) -> bool {
        let shape = self.shape.field("status").unwrap_or(&Shape::Free);
        self.of_status.is_valid(object) && object.get("status").is_none_or(|s| shape.duplicates(s).is_empty())
    }

    /// Everything that is wrong with an object in its stored form: types, values, duplicates, and the kind's own rules.
    pub fn violations(&self, kind: &KindInfo, new: &Value, old: Option<&Value>) -> Vec<Violation> {
        self.judge(kind, new, old).0
    }

    /// The same, and where types or values are wrong the object without these, for whoever knows more rules.
    pub fn judge(&self, kind: &KindInfo, new: &Value, old: Option<&Value>) -> (Vec<Violation>, Option<Value>) {
        let mut found = self.shape.duplicates(new);
        if found.is_empty() && self.validator.is_valid(new) {
            found = (kind.check)(new, old);
            if found.is_empty() {
                found.extend(unreadable(kind, new));
            }
            return (found, None);
        }
        let mut repaired = None;
        for (told, error) in self.validator.iter_errors(new).enumerate() {
            if told >= MOST_TOLD {
                return (found, repaired.map(|rest| self.mended(rest)));
            }
            found.extend(explain(&error, kind));
            repair(repaired.get_or_insert_with(|| new.clone()), &error);
        }
        // The kind's rules expect what the schema admits. Where optional fields are at fault, the rest can be judged.
        let judged = match &repaired {
            None => Some(new),
            Some(rest) => self.validator.is_valid(rest).then_some(rest),
        };
        let known: Vec<FieldPath> = found.iter().map(|v| v.path.clone()).collect();
        let rules = judged.map(|object| (kind.check)(object, old)).unwrap_or_default();
        found.extend(rules.into_iter().filter(|v| !known.contains(&v.path)));
        (found, repaired.map(|rest| self.mended(rest)))
    }

    /// An object without what is still wrong with it: where something had to be taken out of something that needs it, that goes, too.
    fn mended(&self, mut object: Value) -> Value {
        for _ in 0..MOST_ROUNDS {
            let before = object.clone();
            for error in self.validator.iter_errors(&before).take(MOST_TOLD) {
                take_out(&mut object, error.instance_path().as_str(), true);
            }
            if object == before {
                break;
            }
        }
        object
    }
}

/// The last word: what is stored must be readable as the typed value that everybody works with.
fn unreadable(kind: &KindInfo, object: &Value) -> Option<Violation> {
    let json = serde_json::to_vec(object).expect("a JSON value can be written");
    let error = (kind.decode)(&json, None).err()?;
    let text = error.to_string();
    let text = match kind.sealed {
        true => "a field has a value of a wrong type".to_owned(),
        false => text.split(" at line ").next().unwrap_or_default().to_owned(),
    };
    Some(Violation::new(FieldPath::root(), Problem::Invalid, text))
}

/// A text that is too long is there all the same, and shorter; a number in the place of a text is its text; an entry of a list is an empty one,
/// so that those behind it stay where they are. What else is wrong is taken out.
fn repair(object: &mut Value, error: &ValidationError<'_>) {
    let pointer = error.instance_path().as_str();
    let above = pointer.rsplit_once('/').and_then(|(above, _)| object.pointer(above));
    let is_entry = above.is_some_and(Value::is_array);
    match (error.kind(), object.pointer_mut(pointer)) {
        (ValidationErrorKind::MaxLength { limit }, Some(Value::String(text))) => {
            let most = usize::try_from(*limit).unwrap_or(usize::MAX);
            text.truncate(text.char_indices().nth(most).map_or(text.len(), |(at, _)| at));
        }
        (ValidationErrorKind::Type { kind }, Some(value)) => match instead(kind, value, is_entry) {
            Some(other) => *value = other,
            None => take_out(object, pointer, false),
        },
        (ValidationErrorKind::Enum { options }, Some(value)) if is_entry => *value = options[0].clone(),
        _ => take_out(object, pointer, false),
    }
}

/// What stands for a value of a wrong type.
fn instead(kind: &TypeKind, value: &Value, is_entry: bool) -> Option<Value> {
    let wanted = |word: JsonType| match kind {
        TypeKind::Single(one) => *one == word,
        TypeKind::Multiple(several) => several.contains(word),
    };
    match value {
        Value::Number(_) | Value::Bool(_) if wanted(JsonType::String) => Some(json!(value.to_string())),
        _ if is_entry && wanted(JsonType::Object) => Some(json!({})),
        _ if is_entry && wanted(JsonType::String) => Some(json!("")),
        _ => None,
    }
}

/// Takes the value at a pointer out, if it is a field of an object. Of an entry of a list the list goes, if that is wanted.
fn take_out(object: &mut Value, pointer: &str, lists: bool) {
    let Some((above, last)) = pointer.rsplit_once('/') else { return };
    match object.pointer_mut(above) {
        Some(Value::Object(map)) => drop(map.shift_remove(&last.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(_)) if lists => take_out(object, above, lists),
        _ => {}
    }
}

/// Makes a schema say only what the shape has not checked, in the words that give one error for one mistake.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("additionalProperties") == Some(&Value::Bool(false)) {
                map.remove("additionalProperties");
            }
            for word in ["description", "default", "title", "examples"] {
                if !map.get(word).is_some_and(Value::is_object) || word == "default" {
                    map.remove(word);
                }
            }
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                properties.remove("managedFields");
            }
            without_null(map);
            one_enum(map);
            map.values_mut().for_each(simplify);
        }
        Value::Array(list) => list.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// `anyOf: [X, null]` becomes X, `type: [T, null]` becomes T.
fn without_null(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(branches)) = map.get_mut("anyOf") {
        branches.retain(|b| b["type"] != "null");
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            map.remove("anyOf");
            map.extend(only);
        }
    }
}

/// `oneOf` of constants, which schemars writes for documented enums, becomes `enum`.
fn one_enum(map: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = map.get("oneOf") else { return };
    let mut words = Vec::new();
    for branch in branches {
        match (branch.get("const"), branch.get("enum")) {
            (Some(word), _) => words.push(word.clone()),
            (None, Some(Value::Array(several))) => words.extend(several.iter().cloned()),
            _ => return,
        }
    }
    map.remove("oneOf");
    map.insert("type".to_owned(), json!("string"));
    map.insert("enum".to_owned(), Value::Array(words));
}

/// The violations that one schema error stands for.
fn explain(error: &ValidationError<'_>, kind: &KindInfo) -> Vec<Violation> {
    let at = FieldPath::from_pointer(error.instance_path().as_str());
    let shown = if kind.sealed { "the value".to_owned() } else { clip(error.instance()) };
    let invalid = |message: String| vec![Violation::new(at.clone(), Problem::Invalid, message)];
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            vec![Violation::new(at.field(property.as_str().unwrap_or_default()), Problem::Required, "")]
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<String> = options.as_array().into_iter().flatten().map(Value::to_string).collect();
            let message = format!("{shown}: supported values: {}", words.join(", "));
            vec![Violation::new(at, Problem::NotSupported, message)]
        }
        ValidationErrorKind::Constant { expected_value } => {
            vec![Violation::new(at, Problem::NotSupported, format!("{shown}: must be {expected_value}"))]
        }
        ValidationErrorKind::Type { kind } => invalid(format!("{shown}: must be {}", types(kind))),
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            closest(context, &at, &shown, kind)
        }
        ValidationErrorKind::Minimum { limit } => invalid(format!("{shown}: must be greater than or equal to {limit}")),
        ValidationErrorKind::Maximum { limit } => invalid(format!("{shown}: must be less than or equal to {limit}")),
        ValidationErrorKind::MinLength { limit: 1 } => invalid("must not be empty".to_owned()),
        ValidationErrorKind::MinLength { limit } => invalid(format!("must have at least {limit} characters")),
        ValidationErrorKind::MaxLength { limit } => invalid(format!("must have at most {limit} characters")),
        ValidationErrorKind::MinItems { limit } => invalid(format!("must have at least {limit} items")),
        ValidationErrorKind::MaxItems { limit } => invalid(format!("must have at most {limit} items")),
        ValidationErrorKind::MaxProperties { limit } => invalid(format!("must have at most {limit} entries")),
        ValidationErrorKind::Pattern { pattern } => invalid(format!("{shown}: must match {pattern}")),
        ValidationErrorKind::Format { format } => invalid(format!("{shown}: must be a {format}")),
        other => invalid(format!("{shown}: does not satisfy `{}`", other.keyword())),
    }
}

/// Of several alternatives, the one whose type fits says what is wrong.
fn closest(context: &[Vec<ValidationError<'static>>], at: &FieldPath, shown: &str, kind: &KindInfo) -> Vec<Violation> {
    let wrong_type = |e: &ValidationError<'_>| matches!(e.kind(), ValidationErrorKind::Type { .. });
    match context.iter().find(|errors| !errors.iter().any(wrong_type)) {
        Some(errors) => errors.iter().flat_map(|e| explain(e, kind)).collect(),
        None => {
            let words = context.iter().flatten().filter_map(|e| match e.kind() {
                ValidationErrorKind::Type { kind } => Some(types(kind)),
                _ => None,
            });
            let message = format!("{shown}: must be {}", words.collect::<Vec<_>>().join(" or "));
            vec![Violation::new(at.clone(), Problem::Invalid, message)]
        }
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => format!("of type {one}"),
        TypeKind::Multiple(several) => {
            let words: Vec<String> = several.iter().map(|t| format!("of type {t}")).collect();
            words.join(" or ")
        }
    }
}

/// At most 64 characters of a value, so that an error never repeats a megabyte of somebody's input.
fn clip(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(spec: Value) -> Vec<String> {
        let object = json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web"}, "spec": spec});
        let served = kinds::find_by_word("app").expect("a kind");
        of(served).violations(served.kind, &object, None).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_object_has_no_violations() {
        let spec = json!({
            "process": {"command": ["true"]}, "logs": {"maxSize": "1Mi"}, "restart": {"backoff": {"initial": "1s"}},
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        });
        assert_eq!(app(spec), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_path() {
        let spec = json!({
            "replicas": "three", "restartPolicy": "Sometimes", "terminationGracePeriodSeconds": -1,
            "process": {"command": ["a"], "script": "b"},
            "ports": [{"containerPort": 99999}],
            "logs": {"maxSize": "10 Mi"},
            "restart": {"backoff": {"initial": "soon"}},
        });
        insta::assert_snapshot!(app(spec).join("\n"), @r#"
        spec.replicas: Invalid value: "three": must be of type integer
        spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
        spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0
        spec.ports[0].name: Required value
        spec.ports[0].containerPort: Invalid value: 99999: must be less than or equal to 65535
        spec.logs.maxSize: Invalid value: "10 Mi": must match ^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]{1,2})?$
        spec.restart.backoff.initial: Invalid value: "soon": must match ^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$
        "#);
    }

    #[test]
    fn rules_between_fields_are_judged_although_an_optional_field_has_a_wrong_type() {
        let found = app(json!({"replicas": "three", "process": {}}));
        assert_eq!(
            found,
            [
                "spec.replicas: Invalid value: \"three\": must be of type integer",
                "spec.process.command: Required value: set `command` or `script`",
            ]
        );
    }

    #[test]
    fn entries_of_lists_keep_their_places_whatever_is_wrong_with_them() {
        let ports = json!(["x", {"name": "a", "containerPort": 99999}]);
        let mut found = app(json!({"process": {"command": ["a", 5, {}]}, "ports": ports}));
        found.sort();
        let said = [
            "spec.ports[0]: Invalid value: \"x\": must be of type object",
            "spec.ports[1].containerPort: Invalid value: 99999: must be less than or equal to 65535",
            "spec.process.command[1]: Invalid value: 5: must be of type string",
            "spec.process.command[2]: Invalid value: {}: must be of type string",
        ];
        assert_eq!(found, said);
    }

    #[test]
    fn a_text_that_is_too_long_is_not_missed_as_well() {
        let found = app(json!({"process": {"script": "x".repeat(300_000)}}));
        assert_eq!(found, ["spec.process.script: Invalid value: must have at most 262144 characters"]);
    }

    #[test]
    fn a_status_is_judged_alone_as_it_is_with_the_rest() {
        let served = kinds::find_by_word("app").expect("a kind");
        let good = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "A", "message": ""});
        for (status, admitted) in [
            (json!({"replicas": 1, "conditions": [good]}), true),
            (json!({"replicas": "one"}), false),
            (json!({"conditions": [good, good]}), false),
            (json!("none"), false),
        ] {
            let mut object =
                json!({"apiVersion": "appm.dev/v1", "kind": "App", "metadata": {"name": "web"}, "status": status});
            assert_eq!(of(served).admits_status(&object), admitted, "{status}");
            object["spec"] = json!({"process": {"command": ["true"]}});
            assert_eq!(of(served).violations(served.kind, &object, None).is_empty(), admitted, "{status}");
        }
    }

    #[test]
    fn every_form_compiles() {
        for served in kinds::served() {
            assert!(matches!(*of(served).shape, Shape::Object { .. }), "{}", served.name());
        }
    }
}
