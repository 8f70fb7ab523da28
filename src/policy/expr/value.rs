//! Values, and what the language makes of one kind where it wants another.
//!
//! Clones share their data. Arrays and objects are equal to themselves only, as in GitHub's runner, so whoever wants
//! `needs == needs` to hold hands out clones of one value.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value as Json;

use super::number;

/// Objects of more fields than this have a table of their keys.
const FEW: usize = 8;

/// What an expression gives.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`, and whatever is not there.
    Null,
    /// `true` and `false`.
    Bool(bool),
    /// Any number, NaN and the infinities included.
    Number(f64),
    /// A text.
    String(Arc<str>),
    /// Values in order.
    Array(Array),
    /// Values by name.
    Object(Object),
}

/// What a value is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A text.
    String,
    /// Values in order.
    Array,
    /// Values by name.
    Object,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "boolean",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }
}

/// Values in order.
#[derive(Debug, Clone)]
pub struct Array(Arc<Items>);

#[derive(Debug)]
struct Items {
    values: Vec<Value>,
    /// Made by `.*`: a property of it is that property of each item.
    filtered: bool,
}

impl Array {
    /// An array of these.
    pub fn new(values: Vec<Value>) -> Array {
        Array(Arc::new(Items { values, filtered: false }))
    }

    pub(super) fn filtered(values: Vec<Value>) -> Array {
        Array(Arc::new(Items { values, filtered: true }))
    }

    pub(super) fn is_filtered(&self) -> bool {
        self.0.filtered
    }

    /// Its items.
    pub fn items(&self) -> &[Value] {
        &self.0.values
    }
}

/// Values by name. Names are kept as they were written, and found whatever their case.
#[derive(Debug, Clone)]
pub struct Object(Arc<Fields>);

#[derive(Debug, Default)]
struct Fields {
    entries: Vec<(Arc<str>, Value)>,
    /// Where each folded key is. Empty: there are so few that looking at each is faster.
    places: HashMap<Box<str>, usize>,
}

impl Object {
    /// An object of these fields, in this order. Of names that differ in case only, the first counts.
    pub fn new<K: Into<Arc<str>>>(fields: impl IntoIterator<Item = (K, Value)>) -> Object {
        let mut made = Fields::default();
        for (key, value) in fields {
            let key = key.into();
            if made.place(&key).is_none() {
                made.push(key, value);
            }
        }
        Object(Arc::new(made))
    }

    /// The field of this name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        Some(&self.0.entries[self.0.place(key)?].1)
    }

    /// Names and values, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.entries.iter().map(|(key, value)| (&**key, value))
    }

    pub(super) fn len(&self) -> usize {
        self.0.entries.len()
    }
}

impl Fields {
    fn place(&self, key: &str) -> Option<usize> {
        if self.places.is_empty() {
            return self.entries.iter().position(|(other, _)| same_text(other, key));
        }
        self.places.get(&*fold(key)).copied()
    }

    fn push(&mut self, key: Arc<str>, value: Value) {
        self.entries.push((key, value));
        match self.entries.len() {
            0..=FEW => {}
            n if n == FEW + 1 => {
                self.places = self.entries.iter().enumerate().map(|(at, (key, _))| (fold(key).into(), at)).collect();
            }
            n => {
                let folded = fold(&self.entries[n - 1].0).into();
                self.places.insert(folded, n - 1);
            }
        }
    }
}

impl Value {
    /// What it is.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        }
    }

    /// Whether it counts as true: everything but null, false, 0, NaN and the empty string. `'false'` does.
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(value) => *value != 0.0 && !value.is_nan(),
            Value::String(value) => !value.is_empty(),
            Value::Array(_) | Value::Object(_) => true,
        }
    }

    pub(super) fn is_primitive(&self) -> bool {
        !matches!(self, Value::Array(_) | Value::Object(_))
    }

    /// As a number; NaN if it is none.
    pub fn to_number(&self) -> f64 {
        match self {
            Value::Null => 0.0,
            Value::Bool(value) => f64::from(u8::from(*value)),
            Value::Number(value) => *value,
            Value::String(value) => number::parse(value),
            Value::Array(_) | Value::Object(_) => f64::NAN,
        }
    }

    /// As a text: null is empty, arrays and objects are the words `Array` and `Object`.
    pub fn to_text(&self) -> Arc<str> {
        match self {
            Value::Null => "".into(),
            Value::Bool(true) => "true".into(),
            Value::Bool(false) => "false".into(),
            Value::Number(value) => number::text(*value).into(),
            Value::String(value) => value.clone(),
            Value::Array(_) => "Array".into(),
            Value::Object(_) => "Object".into(),
        }
    }

    /// The language's `==`.
    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::String(left), Value::String(right)) => same_text(left, right),
            (Value::Array(left), Value::Array(right)) => Arc::ptr_eq(&left.0, &right.0),
            (Value::Object(left), Value::Object(right)) => Arc::ptr_eq(&left.0, &right.0),
            // The numbers of arrays and objects are NaN, which equals nothing.
            _ => self.to_number() == other.to_number(),
        }
    }

    /// The language's order. `None`: neither is before the other, and they need not be equal.
    pub(super) fn order(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Null, Value::Null) => None,
            (Value::String(left), Value::String(right)) => Some(order_texts(left, right)),
            _ => self.to_number().partial_cmp(&other.to_number()),
        }
    }

    /// This value of JSON.
    pub fn from_json(json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(value) => Value::Number(value.as_f64().unwrap_or(f64::NAN)),
            Json::String(value) => Value::from(value.as_str()),
            Json::Array(items) => Value::Array(Array::new(items.iter().map(Value::from_json).collect())),
            Json::Object(fields) => {
                Value::Object(Object::new(fields.iter().map(|(key, value)| (key.as_str(), Value::from_json(value)))))
            }
        }
    }

    /// This value as JSON. Whole numbers are written without a point; what JSON has no word for (NaN) is null.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(value) => number_json(*value),
            Value::String(value) => Json::String(value.to_string()),
            Value::Array(array) => array.items().iter().map(Value::to_json).collect(),
            Value::Object(object) => {
                Json::Object(object.entries().map(|(key, value)| (key.to_owned(), value.to_json())).collect())
            }
        }
    }
}

/// Whole numbers that a double holds exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn number_json(number: f64) -> Json {
    if number.fract() == 0.0 && number.abs() <= EXACT { Json::from(number as i64) } else { Json::from(number) }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Number(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Value {
        Value::Array(Array::new(values))
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Value {
        Value::from_json(&json)
    }
}

/// One letter in capitals, where that is one letter. The two letters whose capitals are those of other letters stay.
fn capital(letter: char) -> char {
    let mut capitals = letter.to_uppercase();
    match (letter, capitals.next(), capitals.next()) {
        ('ı' | 'ſ', ..) => letter,
        (_, Some(capital), None) => capital,
        _ => letter,
    }
}

/// A text without the difference of its cases.
pub(super) fn fold(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        return text.chars().map(capital).collect::<String>().into();
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) { text.to_ascii_uppercase().into() } else { text.into() }
}

/// Whether two texts are the same but for their cases.
pub(super) fn same_text(left: &str, right: &str) -> bool {
    if left.is_ascii() && right.is_ascii() {
        return left.eq_ignore_ascii_case(right);
    }
    left.chars().map(capital).eq(right.chars().map(capital))
}

/// By UTF-16's units, as .NET and JavaScript compare.
fn order_texts(left: &str, right: &str) -> Ordering {
    fold(left).encode_utf16().cmp(fold(right).encode_utf16())
}

/// A text as JSON writes it; the line ends that only Unicode knows are escaped, too.
pub(super) fn quote(text: &str, into: &mut String) {
    into.push('"');
    for letter in text.chars() {
        match letter {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            '\u{8}' => into.push_str("\\b"),
            '\u{c}' => into.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                write!(into, "\\u{:04x}", u32::from(letter)).expect("a string takes everything");
            }
            _ => into.push(letter),
        }
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_names_that_differ_in_case_the_first_counts_and_all_are_found() {
        for many in [3, 40] {
            let fields = (0..many).map(|n| (format!("Key{n}"), Value::Number(f64::from(n))));
            let object = Object::new(fields.chain([("KEY1".to_owned(), Value::Null)]));
            assert_eq!(object.len(), many as usize);
            for n in 0..many {
                assert_eq!(object.get(&format!("kEY{n}")).map(Value::to_number), Some(f64::from(n)));
            }
            assert!(object.get("Key").is_none());
        }
    }

    #[test]
    fn values_come_back_from_json_as_they_went() {
        let json = json!({"b": [1, 1.5, "x", null, true, {}], "a": {"Z": -3}});
        assert_eq!(Value::from(json.clone()).to_json().to_string(), json.to_string());
        assert_eq!(Value::Number(f64::NAN).to_json(), Json::Null);
        assert_eq!(Value::Number(1e300).to_json(), json!(1e300));
    }

    #[test]
    fn case_is_ignored_letter_by_letter() {
        assert!(same_text("ÄÖ", "äö"));
        assert!(!same_text("ß", "SS"));
        assert!(!same_text("ı", "I"));
        assert!(!same_text("ſ", "S"));
        assert_eq!(order_texts("a", "B"), Ordering::Less);
        // A letter outside of the first plane comes before some inside of it.
        assert_eq!(order_texts("\u{1f600}", "\u{ff21}"), Ordering::Less);
    }
}
