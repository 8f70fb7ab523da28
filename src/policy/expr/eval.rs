//! A tree and what it is asked about into a value, within bounds.

use std::cmp::Ordering;
use std::sync::Arc;

use super::lex::Comparison;
use super::parse::{Form, Node};
use super::value::{Array, Value};
use super::{Fault, Limits, Scope};

/// One evaluation: what it reads, what it has read, and what it may still spend.
pub(super) struct Evaluation<'a> {
    pub(super) scope: &'a dyn Scope,
    /// Roots that were read: `needs == needs` holds, because both are one value.
    roots: Vec<(Arc<str>, Value)>,
    steps: usize,
    bytes: usize,
    limits: Limits,
    at: usize,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(scope: &'a dyn Scope, limits: Limits) -> Evaluation<'a> {
        Evaluation { scope, roots: Vec::new(), steps: 0, bytes: 0, limits, at: 0 }
    }

    /// What cannot be evaluated, at the innermost call.
    pub(super) fn fault(&self, message: String) -> Fault {
        Fault { offset: self.at, message }
    }

    pub(super) fn fault_at(&self, node: &Node, message: String) -> Fault {
        Fault { offset: node.span.start, message }
    }

    /// Looking at so many bytes is a step, and one more for each 64.
    pub(super) fn look(&mut self, bytes: usize) -> Result<(), Fault> {
        self.steps += 1 + bytes / 64;
        if self.steps > self.limits.steps {
            return Err(self.fault(format!("the expression takes more than {} steps", self.limits.steps)));
        }
        Ok(())
    }

    /// So many bytes are made.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes {
            return Err(self.fault(format!("the expression makes more than {} bytes", self.limits.bytes)));
        }
        Ok(())
    }

    pub(super) fn add(&mut self, text: &mut String, more: &str) -> Result<(), Fault> {
        self.look(0)?;
        self.make(more.len())?;
        text.push_str(more);
        Ok(())
    }

    /// The value of a node.
    pub(super) fn value(&mut self, node: &Node) -> Result<Value, Fault> {
        self.look(0)?;
        match &node.form {
            Form::Literal(value) => Ok(value.clone()),
            Form::Root(name) => self.root(node, name),
            Form::Key { of, key } => {
                let of = self.value(of)?;
                let key = self.value(key)?;
                self.field(&of, &key)
            }
            Form::Each { of } => {
                let of = self.value(of)?;
                self.each(&of)
            }
            Form::Not(of) => Ok((!self.value(of)?.is_truthy()).into()),
            Form::Compare { how, left, right } => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.equality(&left, &right)?;
                Ok(compare(*how, &left, &right).into())
            }
            Form::All(nodes) => self.until(nodes, false),
            Form::Any(nodes) => self.until(nodes, true),
            Form::Call { function, arguments, .. } => {
                let outer = std::mem::replace(&mut self.at, node.span.start);
                let value = self.call(node, *function, arguments)?;
                self.at = outer;
                Ok(value)
            }
        }
    }

    /// The first value that is as truthy as asked, or the last one.
    fn until(&mut self, nodes: &[Node], truthy: bool) -> Result<Value, Fault> {
        let mut value = Value::Null;
        for node in nodes {
            value = self.value(node)?;
            if value.is_truthy() == truthy {
                break;
            }
        }
        Ok(value)
    }

    fn root(&mut self, node: &Node, name: &Arc<str>) -> Result<Value, Fault> {
        if let Some((_, value)) = self.roots.iter().find(|(known, _)| known == name) {
            return Ok(value.clone());
        }
        let Some(value) = self.scope.root(name) else {
            return Err(self.fault_at(node, format!("there is no `{name}` here")));
        };
        self.roots.push((name.clone(), value.clone()));
        Ok(value)
    }

    fn field(&mut self, of: &Value, key: &Value) -> Result<Value, Fault> {
        match of {
            Value::Array(array) if array.is_filtered() => {
                let mut found = Vec::new();
                for item in array.items() {
                    self.look(0)?;
                    found.extend(member(item, key));
                }
                self.collected(found)
            }
            other => Ok(member(other, key).unwrap_or(Value::Null)),
        }
    }

    /// `.*`: what is in an array or an object, and of what `.*` gave, what is in each.
    fn each(&mut self, of: &Value) -> Result<Value, Fault> {
        let mut found = Vec::new();
        match of {
            Value::Array(array) if array.is_filtered() => {
                for item in array.items() {
                    self.look(0)?;
                    self.members(item, &mut found)?;
                }
            }
            other => self.members(other, &mut found)?,
        }
        self.collected(found)
    }

    fn members(&mut self, of: &Value, into: &mut Vec<Value>) -> Result<(), Fault> {
        let before = into.len();
        match of {
            Value::Array(array) => into.extend_from_slice(array.items()),
            Value::Object(object) => into.extend(object.entries().map(|(_, value)| value.clone())),
            _ => {}
        }
        self.steps += into.len() - before;
        self.look(0)
    }

    fn collected(&mut self, found: Vec<Value>) -> Result<Value, Fault> {
        self.make(found.len() * size_of::<usize>())?;
        Ok(Value::Array(Array::filtered(found)))
    }
}

/// What is in `of` by this key.
fn member(of: &Value, key: &Value) -> Option<Value> {
    match of {
        Value::Object(object) if key.is_primitive() => object.get(&key.to_text()).cloned(),
        Value::Array(array) => array.items().get(place(key)?).cloned(),
        _ => None,
    }
}

/// A key as a place in an array.
fn place(key: &Value) -> Option<usize> {
    let number = key.to_number().floor();
    (0.0..=f64::from(i32::MAX)).contains(&number).then_some(number as usize)
}

fn compare(how: Comparison, left: &Value, right: &Value) -> bool {
    let order = || left.order(right);
    match how {
        Comparison::Equal => left.equals(right),
        Comparison::NotEqual => !left.equals(right),
        Comparison::Less => order() == Some(Ordering::Less),
        Comparison::Greater => order() == Some(Ordering::Greater),
        Comparison::LessOrEqual => left.equals(right) || order() == Some(Ordering::Less),
        Comparison::GreaterOrEqual => left.equals(right) || order() == Some(Ordering::Greater),
    }
}
