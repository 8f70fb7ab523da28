//! What stands after `if`, and which part of it was false.

use super::eval::Evaluation;
use super::functions::{Function, Status};
use super::parse::{Form, Node};
use super::uses::reads;
use super::{Expression, Fault, Limits, Scope, Template, Value, shorten};

/// What stands after `if`: an expression, with `${{ }}` around it or without. One that asks no status function holds only
/// where `success()` does, too.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    expression: Option<Expression>,
}

impl Condition {
    /// Reads an `if`. Nothing is `success()`. Text around `${{ }}` is a fault: it would make a string, which always holds.
    pub fn parse(text: &str) -> Result<Condition, Fault> {
        if text.trim().is_empty() {
            return Ok(Condition { expression: None });
        }
        let is_spliced = text.trim_start().starts_with("${{");
        let expression = match Template::parse(text) {
            Err(fault) if is_spliced => return Err(fault),
            Ok(template) if template.splices().next().is_some() => inside(&template)?,
            _ => Expression::parse(text)?,
        };
        Ok(Condition { expression: Some(expression) })
    }

    /// What was written, if anything was.
    pub fn expression(&self) -> Option<&Expression> {
        self.expression.as_ref()
    }

    /// Whether it holds only where nothing has failed, because it does not ask itself.
    pub fn implies_success(&self) -> bool {
        !self.expression.as_ref().is_some_and(Expression::asks_status)
    }

    /// Whether it holds.
    pub fn holds(&self, scope: &dyn Scope, limits: Limits) -> Result<bool, Fault> {
        Ok(self.explain_false(scope, limits)?.is_none())
    }

    /// Which part of it is false, in words. `None`: it holds.
    ///
    /// What is read of `secrets` is not shown; secrets that came in by other ways are for the caller to cover.
    pub fn explain_false(&self, scope: &dyn Scope, limits: Limits) -> Result<Option<String>, Fault> {
        if self.implies_success() && scope.status(Status::Success, &[]) == Some(false) {
            return Ok(Some("`success()` is false, which an `if` asks that has no status function of its own".into()));
        }
        match &self.expression {
            Some(expression) if !expression.evaluate(scope, limits)?.is_truthy() => {
                let mut evaluation = Evaluation::new(scope, limits);
                Words { expression, evaluation: &mut evaluation }.explain(&expression.node, false).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// The expression of a template that is nothing else.
fn inside(template: &Template) -> Result<Expression, Fault> {
    let source = template.source();
    let mut splices = template.splices();
    let first = splices.next().expect("looked for before");
    let after = first.span.end;
    let around = match splices.next() {
        Some(second) => Some(second.span.start),
        None if !source[..first.span.start].trim().is_empty() => Some(0),
        None if !source[after..].trim().is_empty() => Some(after),
        None => None,
    };
    let Some(offset) = around else { return Ok(first.expression.clone()) };
    let message = "text around `${{ }}` makes a string, which always holds: put all of the condition inside, or leave `${{ }}` out";
    Err(Fault { offset, message: message.into() })
}

/// Tells of one evaluation.
struct Words<'a, 'b> {
    expression: &'a Expression,
    evaluation: &'a mut Evaluation<'b>,
}

impl Words<'_, '_> {
    /// Why this node is false, or why it is true.
    fn explain(&mut self, node: &Node, truth: bool) -> Result<String, Fault> {
        match &node.form {
            Form::All(nodes) if !truth => self.those(nodes, false, 1),
            Form::Any(nodes) if !truth => self.those(nodes, false, nodes.len()),
            Form::All(nodes) => self.those(nodes, true, nodes.len()),
            Form::Any(nodes) => self.those(nodes, true, 1),
            Form::Not(of) => self.explain(of, !truth),
            Form::Compare { left, right, .. } => self.with_values(node, &[left, right], truth),
            Form::Call { function: Function::Status(_), .. } => Ok(format!("`{}` is {truth}", self.written(node))),
            Form::Call { function, arguments, .. } if function.kind() == Some(super::Kind::Bool) => {
                self.with_values(node, &arguments.iter().collect::<Vec<_>>(), truth)
            }
            _ => self.shown(node),
        }
    }

    /// The first so many of the nodes that are so.
    fn those(&mut self, nodes: &[Node], truth: bool, most: usize) -> Result<String, Fault> {
        let mut words = Vec::new();
        for node in nodes {
            if words.len() < most && self.evaluation.value(node)?.is_truthy() == truth {
                words.push(self.explain(node, truth)?);
            }
        }
        Ok(words.join(", and "))
    }

    /// A node that is true or false, and what it was made of.
    fn with_values(&mut self, node: &Node, of: &[&Node], truth: bool) -> Result<String, Fault> {
        let mut values = Vec::new();
        for part in of {
            if !matches!(part.form, Form::Literal(_)) {
                values.push(self.shown(part)?);
            }
        }
        let said = format!("`{}` is {truth}", self.written(node));
        Ok(if values.is_empty() { said } else { format!("{said}: {}", values.join(", ")) })
    }

    fn shown(&mut self, node: &Node) -> Result<String, Fault> {
        let value = self.evaluation.value(node)?;
        let value = match &value {
            _ if reads(node, "secrets") => if value.is_truthy() { "***" } else { "empty" }.to_owned(),
            Value::Null => "null".into(),
            Value::String(text) => format!("'{}'", shorten(text)),
            Value::Array(_) | Value::Object(_) => shorten(&value.to_json().to_string()),
            Value::Bool(_) | Value::Number(_) => value.to_text().to_string(),
        };
        Ok(format!("`{}` is {value}", self.written(node)))
    }

    fn written(&self, node: &Node) -> String {
        shorten(self.expression.written(node))
    }
}
