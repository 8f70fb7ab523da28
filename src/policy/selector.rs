//! Label selectors and field selectors, in Kubernetes' grammar.

use std::{borrow::Cow, collections::BTreeSet};

use super::label_names;
use crate::api::{SelectableField, Served, StoredObject, TextMap};

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
    field: Field,
    value: String,
    equal: bool,
}

/// A field of an object, named once and for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    Own(&'static SelectableField),
}

impl Field {
    fn of(served: Served, label: &str) -> Option<Self> {
        match label {
            "metadata.name" => Some(Field::Name),
            "metadata.namespace" => Some(Field::Namespace),
            label => served.field(label).map(Field::Own),
        }
    }

    fn value(self, object: &StoredObject) -> Cow<'_, str> {
        match self {
            Field::Name => Cow::Borrowed(&object.key.name),
            Field::Namespace => Cow::Borrowed(&object.key.namespace),
            Field::Own(field) => Cow::Owned((field.value)(object).unwrap_or_default()),
        }
    }
}

impl FieldSelector {
    /// Reads a selector of what is served: `field=value`, `==` or `!=`, joined by commas. `\,`, `\=` and `\\` are literal.
    ///
    /// # Errors
    /// When the text is not in the grammar, or what is served has no such field label.
    pub fn parse(served: Served, text: &str) -> Result<Self, InvalidSelector> {
        let terms = split(text).into_iter().filter(|term| !term.trim().is_empty());
        let tests: Result<Vec<FieldTest>, InvalidSelector> = terms.map(|term| field_test(served, &term)).collect();
        Ok(Self(tests?))
    }

    /// True if everything is selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one name that is selected, if the selector asks for one.
    pub fn name(&self) -> Option<&str> {
        let named = |t: &&FieldTest| t.equal && matches!(t.field, Field::Name);
        self.0.iter().find(named).map(|t| t.value.as_str())
    }

    /// True if an object has the values that are asked for.
    pub fn matches(&self, object: &StoredObject) -> bool {
        self.0.iter().all(|t| (t.field.value(object) == t.value) == t.equal)
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

fn field_test(served: Served, term: &str) -> Result<FieldTest, InvalidSelector> {
    let term = term.trim();
    let parts = term.find(['=', '!']).and_then(|at| {
        let (field, rest) = term.split_at(at);
        let operator = ["!=", "==", "="].into_iter().find(|operator| rest.starts_with(operator))?;
        Some((field, operator != "!=", &rest[operator.len()..]))
    });
    let Some((label, equal, value)) = parts else {
        return Err(InvalidSelector(format!("invalid selector: '{term}'; can't understand '{term}'")));
    };
    let Some(field) = Field::of(served, label.trim()) else {
        return Err(InvalidSelector(format!("field label not supported: {label}")));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{App, Body, Event, Instance, Key, Kind, KindInfo, Rev};

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
            ("type=Warning", true),
            ("reason=", true),
        ];
        for (text, expected) in table {
            assert_eq!(
                FieldSelector::parse(Event::INFO.stored_form(), text).expect(text).matches(&event),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_view_has_field_labels_of_its_own() {
        let object = json!({
            "apiVersion": "appm.dev/v1", "kind": "Instance", "metadata": {"name": "web-1-0"},
            "spec": {"nodeName": "host-a", "revision": "web-1", "process": {"command": ["a"]}},
            "status": {"address": "127.0.0.1"},
        });
        let (instance, forms) = (stored(Instance::INFO, object), Instance::INFO.served().collect::<Vec<_>>());
        for (text, expected) in [
            ("spec.nodeName=host-a,status.phase!=Succeeded,status.phase!=Failed", true),
            ("status.podIP=127.0.0.1,spec.restartPolicy=Always", true),
            ("spec.restartPolicy=Never", false),
        ] {
            assert_eq!(FieldSelector::parse(forms[1], text).expect(text).matches(&instance), expected, "{text}");
        }
        assert!(FieldSelector::parse(forms[0], "status.podIP=127.0.0.1").is_err());
    }

    #[test]
    fn unknown_field_labels_are_refused_in_kubernetes_words() {
        let error = |text| FieldSelector::parse(App::INFO.stored_form(), text).expect_err("refused").to_string();
        assert_eq!(error("spec.replicas=1"), "field label not supported: spec.replicas");
        assert_eq!(error("metadata.name"), "invalid selector: 'metadata.name'; can't understand 'metadata.name'");
    }

    #[test]
    fn escaped_commas_and_equal_signs_are_literal() {
        let selector = FieldSelector::parse(App::INFO.stored_form(), r"metadata.name=a\,b\=c").expect("valid");
        assert_eq!(selector.name(), Some("a,b=c"));
        for bad in [r"metadata.name=a\", r"metadata.name=a\b", "metadata.name=a=b"] {
            assert!(FieldSelector::parse(App::INFO.stored_form(), bad).is_err(), "{bad}");
        }
    }
}
