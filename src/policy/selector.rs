//! Label selectors and field selectors, in Kubernetes' grammar.

use std::collections::BTreeSet;

use super::label_names;
use crate::api::{Event, Instance, InstanceState, Kind, KindInfo, Namespace, Secret, StoredObject, TextMap};

/// A selector that cannot be read. The text is for the client (400).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSelector(String);

/// Which labels an object must have. Empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Above(i64),
    Below(i64),
}

impl Requirement {
    fn holds(&self, labels: &TextMap) -> bool {
        let value = labels.get(&self.key);
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::In(set) => value.is_some_and(|v| set.contains(v)),
            Test::NotIn(set) => value.is_none_or(|v| !set.contains(v)),
            Test::Above(limit) => number().is_some_and(|n| n > *limit),
            Test::Below(limit) => number().is_some_and(|n| n < *limit),
        }
    }
}

impl LabelSelector {
    /// Reads a selector: requirements joined by commas.
    ///
    /// # Errors
    /// When the text is not in the grammar, or a key or value is not well-formed.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        let mut found = Vec::new();
        if parser.peek() == &Token::End {
            return Ok(Self(found));
        }
        loop {
            found.push(parser.requirement()?);
            match parser.next() {
                Token::End => return Ok(Self(found)),
                Token::Comma => {}
                other => return Err(unexpected(&other, "',' or the end")),
            }
        }
    }

    /// True if everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if labels meet every requirement.
    pub fn matches(&self, labels: &TextMap) -> bool {
        self.0.iter().all(|r| r.holds(labels))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Equals,
    NotEquals,
    Not,
    Above,
    Below,
    Comma,
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Result<Vec<Token>, InvalidSelector> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '=' if rest.starts_with("==") => (Token::Equals, 2),
            '=' => (Token::Equals, 1),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '!' => (Token::Not, 1),
            '>' => (Token::Above, 1),
            '<' => (Token::Below, 1),
            ',' => (Token::Comma, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "=!><,()".contains(c)).unwrap_or(rest.len());
                (Token::Word(rest[..end].to_owned()), end)
            }
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    found.push(Token::End);
    Ok(found)
}

fn unexpected(token: &Token, expected: &str) -> InvalidSelector {
    let shown = match token {
        Token::Word(word) => word.as_str(),
        Token::Equals => "=",
        Token::NotEquals => "!=",
        Token::Not => "!",
        Token::Above => ">",
        Token::Below => "<",
        Token::Comma => ",",
        Token::Open => "(",
        Token::Close => ")",
        Token::End => "",
    };
    InvalidSelector(format!("unable to parse requirement: found '{shown}', expected: {expected}"))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn requirement(&mut self) -> Result<Requirement, InvalidSelector> {
        if self.peek() == &Token::Not {
            self.next();
            return Ok(Requirement { key: self.key()?, test: Test::Missing });
        }
        let key = self.key()?;
        let test = match self.peek().clone() {
            Token::End | Token::Comma => Test::Exists,
            Token::Equals => {
                self.next();
                Test::In(BTreeSet::from([self.value()?]))
            }
            Token::NotEquals => {
                self.next();
                Test::NotIn(BTreeSet::from([self.value()?]))
            }
            Token::Above => {
                self.next();
                Test::Above(self.number()?)
            }
            Token::Below => {
                self.next();
                Test::Below(self.number()?)
            }
            Token::Word(word) if word == "in" => {
                self.next();
                Test::In(self.values()?)
            }
            Token::Word(word) if word == "notin" => {
                self.next();
                Test::NotIn(self.values()?)
            }
            other => return Err(unexpected(&other, "in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Requirement { key, test })
    }

    fn key(&mut self) -> Result<String, InvalidSelector> {
        match self.next() {
            Token::Word(key) => match label_names::check_key(&key) {
                Ok(()) => Ok(key),
                Err(why) => Err(InvalidSelector(format!("unable to parse requirement: key {key:?}: {why}"))),
            },
            other => Err(unexpected(&other, "!, identifier")),
        }
    }

    /// A value may be left out: `key=` asks for the empty one.
    fn value(&mut self) -> Result<String, InvalidSelector> {
        let value = match self.peek().clone() {
            Token::Word(value) => {
                self.next();
                value
            }
            Token::End | Token::Comma | Token::Close => String::new(),
            other => return Err(unexpected(&other, "identifier")),
        };
        match label_names::check_value(&value) {
            Ok(()) => Ok(value),
            Err(why) => Err(InvalidSelector(format!("unable to parse requirement: value {value:?}: {why}"))),
        }
    }

    fn number(&mut self) -> Result<i64, InvalidSelector> {
        let value = self.value()?;
        let wrong = || InvalidSelector(format!("unable to parse requirement: {value:?} is not an integer"));
        value.parse().map_err(|_| wrong())
    }

    fn values(&mut self) -> Result<BTreeSet<String>, InvalidSelector> {
        match self.next() {
            Token::Open => {}
            other => return Err(unexpected(&other, "'('")),
        }
        let mut found = BTreeSet::new();
        loop {
            found.insert(self.value()?);
            match self.next() {
                Token::Comma => {}
                Token::Close => return Ok(found),
                other => return Err(unexpected(&other, "',' or ')'")),
            }
        }
    }
}

/// Which values some fields must have. Empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldTest>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldTest {
    field: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Reads a selector of a kind: `field=value`, `==` or `!=`, joined by commas. `\,`, `\=` and `\\` are literal.
    ///
    /// # Errors
    /// When the text is not in the grammar, or the kind has no such field label.
    pub fn parse(kind: &KindInfo, text: &str) -> Result<Self, InvalidSelector> {
        let terms = split(text).into_iter().filter(|term| !term.trim().is_empty());
        let tests: Result<Vec<FieldTest>, InvalidSelector> = terms.map(|term| field_test(kind, &term)).collect();
        Ok(Self(tests?))
    }

    /// True if everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one name that is selected, if the selector asks for one.
    pub fn name(&self) -> Option<&str> {
        self.0.iter().find(|t| t.equal && t.field == "metadata.name").map(|t| t.value.as_str())
    }

    /// True if an object has the values that are asked for.
    pub fn matches(&self, object: &StoredObject) -> bool {
        self.0.iter().all(|t| (value_of(object, &t.field).unwrap_or_default() == t.value) == t.equal)
    }
}

/// Cuts at commas that no backslash precedes; the backslashes stay.
fn split(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(String::new());
        } else {
            terms.last_mut().expect("never empty").push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

fn field_test(kind: &KindInfo, term: &str) -> Result<FieldTest, InvalidSelector> {
    let term = term.trim();
    let parts = term.find(['=', '!']).and_then(|at| {
        let (field, rest) = term.split_at(at);
        let operator = ["!=", "==", "="].into_iter().find(|operator| rest.starts_with(operator))?;
        Some((field, operator != "!=", &rest[operator.len()..]))
    });
    let Some((field, equal, value)) = parts else {
        return Err(InvalidSelector(format!("invalid selector: '{term}'; can't understand '{term}'")));
    };
    let field = canonical(kind, field.trim());
    let Some(field) = field else {
        let asked = term.split(['=', '!']).next().unwrap_or_default();
        return Err(InvalidSelector(format!("field label not supported: {asked}")));
    };
    Ok(FieldTest { field, value: unescape(value.trim())?, equal })
}

/// A value without its backslashes. Kubernetes, too, knows three escapes and takes no bare equal sign.
fn unescape(text: &str) -> Result<String, InvalidSelector> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(InvalidSelector(format!("invalid field selector: invalid escape sequence: \\{other}")));
                }
            },
            ('=', _) => {
                return Err(InvalidSelector("invalid field selector: unescaped character in value: =".to_owned()));
            }
            (c, _) => out.push(c),
        }
    }
    Ok(out)
}

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The label in its stored form, if the kind has it.
fn canonical(kind: &KindInfo, label: &str) -> Option<String> {
    if matches!(label, "metadata.name" | "metadata.namespace") {
        return Some(label.to_owned());
    }
    if kind == Instance::INFO {
        return matches!(label, "spec.nodeName" | "status.phase").then(|| label.to_owned());
    }
    if kind == Secret::INFO {
        return (label == "type").then(|| label.to_owned());
    }
    if kind == Namespace::INFO {
        return (label == "status.phase").then(|| label.to_owned());
    }
    if kind == Event::INFO {
        let stored = match label.strip_prefix("regarding.") {
            Some(rest) => format!("involvedObject.{rest}"),
            None if label == "reportingController" => "reportingComponent".to_owned(),
            None => label.to_owned(),
        };
        return EVENT_FIELDS.contains(&stored.as_str()).then_some(stored);
    }
    None
}

fn value_of(object: &StoredObject, field: &str) -> Option<String> {
    match field {
        "metadata.name" => Some(object.key.name.to_string()),
        "metadata.namespace" => Some(object.key.namespace.to_string()),
        _ if object.key.kind == Instance::INFO => {
            let instance = object.typed::<Instance>()?;
            Some(match field {
                "spec.nodeName" => instance.spec.node_name.clone(),
                _ => phase(&instance.status.state).to_owned(),
            })
        }
        _ if object.key.kind == Secret::INFO => Some(object.typed::<Secret>()?.kind.clone()),
        _ if object.key.kind == Namespace::INFO => Some(object.typed::<Namespace>()?.status.phase.clone()),
        _ if object.key.kind == Event::INFO => event_field(&object.typed::<Event>()?.body, field),
        _ => None,
    }
}

/// A Pod's phase: `Succeeded` and `Failed` are for what has ended for good.
fn phase(state: &InstanceState) -> &'static str {
    match &state.exited {
        Some(exited) if exited.reason == "Completed" => "Succeeded",
        Some(exited) if exited.reason != "Suspended" => "Failed",
        _ if state.pid().is_some() => "Running",
        _ => "Pending",
    }
}

fn event_field(event: &Event, field: &str) -> Option<String> {
    let about = &event.involved_object;
    let text = match field {
        "reason" => &event.reason,
        "type" => &event.kind,
        "reportingComponent" => &event.reporting_component,
        "source" if event.source.component.is_empty() => &event.reporting_component,
        "source" => &event.source.component,
        "involvedObject.kind" => &about.kind,
        "involvedObject.namespace" => &about.namespace,
        "involvedObject.name" => &about.name,
        "involvedObject.uid" => &about.uid,
        "involvedObject.apiVersion" => &about.api_version,
        "involvedObject.resourceVersion" => &about.resource_version,
        "involvedObject.fieldPath" => &about.field_path,
        _ => return None,
    };
    Some(text.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{App, Body, Key, Rev};

    fn labels(pairs: &[(&str, &str)]) -> TextMap {
        pairs.iter().copied().collect()
    }

    #[test]
    fn label_selectors_select() {
        let has = labels(&[("app", "web"), ("tier", "front"), ("size", "5"), ("x.y/z", "")]);
        let table = [
            ("", true),
            ("app", true),
            ("!app", false),
            ("other", false),
            ("!other", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier=front", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("other notin (a)", true),
            ("size>4", true),
            ("size<4", false),
            ("x.y/z=", true),
            ("x.y/z", true),
            ("app in ()", false),
            ("app=web,tier!=front", false),
        ];
        for (text, expected) in table {
            assert_eq!(LabelSelector::parse(text).expect(text).matches(&has), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_in_the_grammar_is_refused() {
        for bad in ["=", "a in", "a in b", "a in (b", "a b", "a,,b", ",a", "a,", "a=b=c", "-a=b", "a=b c", "a>x", "(a)"]
        {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
        let error = LabelSelector::parse("a,,b").expect_err("refused").to_string();
        assert_eq!(error, "unable to parse requirement: found ',', expected: !, identifier");
    }

    fn stored(kind: &'static KindInfo, object: serde_json::Value) -> StoredObject {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        StoredObject::new(Key::new(kind, "default", &name), Rev(1), &Body::new(object)).expect("metadata")
    }

    #[test]
    fn field_selectors_select() {
        let event = stored(
            Event::INFO,
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "type": "Warning",
                "involvedObject": {"kind": "App", "name": "web", "uid": "u1"},
            }),
        );
        let table = [
            ("", true),
            ("metadata.name=e", true),
            ("metadata.namespace!=default", false),
            ("involvedObject.kind=App,involvedObject.uid==u1", true),
            ("regarding.name=web", true),
            ("involvedObject.name!=web", false),
            ("type=Normal", false),
            ("reason=", true),
        ];
        for (text, expected) in table {
            assert_eq!(FieldSelector::parse(Event::INFO, text).expect(text).matches(&event), expected, "{text}");
        }
    }

    #[test]
    fn unknown_field_labels_are_refused_in_kubernetes_words() {
        let error = |text| FieldSelector::parse(App::INFO, text).expect_err("refused").to_string();
        assert_eq!(error("spec.replicas=1"), "field label not supported: spec.replicas");
        assert_eq!(error("metadata.name"), "invalid selector: 'metadata.name'; can't understand 'metadata.name'");
    }

    #[test]
    fn escaped_commas_and_equal_signs_are_literal() {
        let selector = FieldSelector::parse(App::INFO, r"metadata.name=a\,b\=c").expect("valid");
        assert_eq!(selector.name(), Some("a,b=c"));
        for bad in [r"metadata.name=a\", r"metadata.name=a\b", "metadata.name=a=b"] {
            assert!(FieldSelector::parse(App::INFO, bad).is_err(), "{bad}");
        }
    }
}
