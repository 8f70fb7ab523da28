//! What a run is told: the inputs that its maker gave, held against what the Workflow asks for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::{EventName, FieldPath, InputType, Problem, Scalar, Triggers, Violation, WorkflowInput};

/// Longer inputs are refused, all of a run together.
const LONGEST: usize = 256 * 1024;

/// The inputs that a Workflow asks for, of a run that is started so; `None`: it may not be started so.
pub fn asked(on: &Triggers, event: EventName) -> Option<&BTreeMap<String, WorkflowInput>> {
    static NONE: BTreeMap<String, WorkflowInput> = BTreeMap::new();
    match event {
        EventName::WorkflowCall => Some(&on.workflow_call.as_ref()?.inputs),
        // By itself it is told what it would be told by hand: the defaults.
        EventName::Manual | EventName::Schedule | EventName::AppEvent => {
            Some(on.by_hand().map_or(&NONE, |manual| &manual.inputs))
        }
    }
}

/// What the run is told: what was given, read as the type that is asked for, and the defaults.
///
/// # Errors
/// Everything that is wrong with it, seen from `inputs`.
pub fn settled(
    asked: &BTreeMap<String, WorkflowInput>,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<Violation>> {
    let (mut found, mut told, at) = (Vec::new(), Map::new(), FieldPath::of("inputs"));
    for name in given.keys().filter(|name| !asked.contains_key(*name)) {
        let known: Vec<String> = asked.keys().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        found.push(Violation::new(
            at.field(name),
            Problem::Invalid,
            format!("the workflow has no such input; {known}"),
        ));
    }
    for (name, input) in asked {
        let value = given.get(name).filter(|value| !value.is_null());
        let read = match value.or(input.default.as_ref()) {
            Some(value) => read(input, value).map_err(|why| Violation::new(at.field(name), Problem::Invalid, why)),
            None if input.required => {
                let what =
                    if input.description.is_empty() { String::new() } else { format!(": {}", input.description) };
                let message = format!("a {} that the workflow has no default for{what}", word(input.kind));
                Err(Violation::new(at.field(name), Problem::Required, message))
            }
            None => Ok(unsaid(input.kind)),
        };
        match read {
            Ok(value) => drop(told.insert(name.clone(), value)),
            Err(violation) => found.push(violation),
        }
    }
    let length: usize = told.values().map(|value| value.as_str().map_or(8, str::len)).sum();
    if length > LONGEST {
        found.push(Violation::new(at, Problem::TooLong, format!("must be no more than {LONGEST} bytes in all")));
    }
    if found.is_empty() { Ok(told) } else { Err(found) }
}

/// A value as the type that an input has. A text that says a number or a boolean is one, as on a command line.
///
/// # Errors
/// What is expected.
pub fn read(input: &WorkflowInput, value: &Value) -> Result<Value, String> {
    let text =
        serde_json::from_value::<Scalar>(value.clone()).map_err(|_| format!("must be a {}", word(input.kind)))?;
    match input.kind {
        InputType::String => Ok(Value::String(text.0)),
        InputType::Boolean => match text.as_str() {
            "true" => Ok(json!(true)),
            "false" => Ok(json!(false)),
            other => Err(format!("`{other}` must be `true` or `false`")),
        },
        InputType::Number => match text.as_str().trim().parse::<f64>() {
            Ok(number) if number.is_finite() && !value.is_boolean() => Ok(number_of(number)),
            _ => Err(format!("`{text}` must be a number")),
        },
        InputType::Choice if input.options.contains(&text) => Ok(Value::String(text.0)),
        InputType::Choice => {
            let options: Vec<String> = input.options.iter().map(|option| format!("`{option}`")).collect();
            Err(format!("`{text}` must be one of {}", options.join(", ")))
        }
    }
}

/// `2` and not `2.0`.
fn number_of(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "compared right after")]
    let whole = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "what does not come back the same is left as it was")]
    let same = whole as f64 == number && whole.unsigned_abs() < 1 << 53;
    if same { json!(whole) } else { json!(number) }
}

fn unsaid(kind: InputType) -> Value {
    match kind {
        InputType::String | InputType::Choice => json!(""),
        InputType::Boolean => json!(false),
        InputType::Number => json!(0),
    }
}

/// The type, for people.
fn word(kind: InputType) -> &'static str {
    match kind {
        InputType::String => "text",
        InputType::Number => "number",
        InputType::Boolean => "boolean",
        InputType::Choice => "choice",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers() -> Triggers {
        let on = json!({
            "manual": {"inputs": {
                "env": {"type": "choice", "options": ["staging", "prod"], "required": true, "description": "where to"},
                "dry_run": {"type": "boolean", "default": "true"},
                "count": {"type": "number"},
                "note": {},
            }},
            "workflow_call": {"inputs": {"region": {"required": true}}},
        });
        serde_json::from_value(on).expect("triggers")
    }

    fn told(event: EventName, given: &Value) -> String {
        let on = triggers();
        let asked = asked(&on, event).expect("it may be started so");
        match settled(asked, given.as_object().expect("an object")) {
            Ok(told) => Value::Object(told).to_string(),
            Err(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        }
    }

    #[test]
    fn texts_are_read_as_the_type_that_is_asked_for_and_defaults_are_filled_in() {
        let manual = |given| told(EventName::Manual, &given);
        assert_eq!(
            manual(json!({"env": "prod", "count": "2.50", "note": 7})),
            r#"{"count":2.5,"dry_run":true,"env":"prod","note":"7"}"#
        );
        assert_eq!(
            manual(json!({"env": "staging", "count": 3.0, "dry_run": false})),
            r#"{"count":3,"dry_run":false,"env":"staging","note":""}"#
        );
        insta::assert_snapshot!(manual(json!({"dry_run": "yes", "count": true, "note": [], "enf": "prod"})), @r"
        inputs.enf: Invalid value: the workflow has no such input; it has `count`, `dry_run`, `env`, `note`
        inputs.count: Invalid value: `true` must be a number
        inputs.dry_run: Invalid value: `yes` must be `true` or `false`
        inputs.env: Required value: a choice that the workflow has no default for: where to
        inputs.note: Invalid value: must be a text
        ");
        assert_eq!(
            manual(json!({"env": "test"})),
            "inputs.env: Invalid value: `test` must be one of `staging`, `prod`"
        );
        assert!(manual(json!({"env": "prod", "note": "x".repeat(LONGEST + 1)})).contains("Too long"));
    }

    #[test]
    fn a_workflow_is_called_only_if_it_says_how() {
        assert_eq!(told(EventName::WorkflowCall, &json!({"region": "eu"})), r#"{"region":"eu"}"#);
        assert!(asked(&Triggers::default(), EventName::WorkflowCall).is_none());
        assert!(asked(&Triggers::default(), EventName::Manual).is_some_and(BTreeMap::is_empty));
    }
}
