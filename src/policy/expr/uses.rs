//! What an expression reads and calls, for whoever judges it before there are any values.

use std::sync::Arc;

use super::functions::Function;
use super::lex::Comparison;
use super::parse::{Form, Node};
use super::{Expression, Kind, Span, Value};

/// Something that an expression reads: a root, and the way into it as far as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// All of it: `needs.build.outputs.digest`.
    pub span: Span,
    /// Its root, in lower case: `needs`.
    pub root: Arc<str>,
    /// The way from there.
    pub path: Vec<Segment>,
}

/// A step of the way into a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// `.key` or `['key']`, as it was written.
    Key(Arc<str>),
    /// `.*` or `[*]`.
    Each,
    /// `[…]` with something that is known only when it runs.
    Computed,
}

impl Use {
    /// The key at this place of the path.
    pub fn key(&self, at: usize) -> Option<&str> {
        match self.path.get(at)? {
            Segment::Key(key) => Some(key),
            Segment::Each | Segment::Computed => None,
        }
    }
}

/// A function's call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The function's name, where it was written.
    pub span: Span,
    /// Which.
    pub function: Function,
    /// Its arguments, those that are strings: `success('build')`.
    pub texts: Vec<Option<Arc<str>>>,
}

impl Expression {
    /// Everything that is read, from left to right.
    pub fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        collect_uses(&self.node, &mut uses);
        uses
    }

    /// Everything that is called, from left to right.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        collect_calls(&self.node, &mut calls);
        calls
    }

    /// Whether it asks how what came before has ended.
    pub fn asks_status(&self) -> bool {
        self.calls().iter().any(|call| matches!(call.function, Function::Status(_)))
    }

    /// What its value is whatever it reads, where that can be said.
    pub fn kind(&self) -> Option<Kind> {
        kind(&self.node)
    }
}

fn collect_uses(node: &Node, uses: &mut Vec<Use>) {
    if let Some(found) = way(node) {
        uses.push(found);
    }
    let mut at = node;
    // Of a way only what is computed on it is looked at further.
    while way(at).is_some() {
        match &at.form {
            Form::Key { of, key } => {
                collect_uses(key, uses);
                at = of;
            }
            Form::Each { of } => at = of,
            _ => return,
        }
    }
    at.children().into_iter().for_each(|child| collect_uses(child, uses));
}

/// The way from a root that a node is, if it is one.
fn way(node: &Node) -> Option<Use> {
    let segment = match &node.form {
        Form::Root(root) => return Some(Use { span: node.span, root: root.clone(), path: vec![] }),
        Form::Key { key, .. } => match &key.form {
            Form::Literal(Value::String(key)) => Segment::Key(key.clone()),
            _ => Segment::Computed,
        },
        Form::Each { .. } => Segment::Each,
        _ => return None,
    };
    let (Form::Key { of, .. } | Form::Each { of }) = &node.form else { return None };
    let mut found = way(of)?;
    found.path.push(segment);
    found.span = node.span;
    Some(found)
}

/// Whether anything of this root is read.
pub(super) fn reads(node: &Node, root: &str) -> bool {
    matches!(&node.form, Form::Root(name) if &**name == root)
        || node.children().into_iter().any(|node| reads(node, root))
}

fn collect_calls(node: &Node, calls: &mut Vec<Call>) {
    if let Form::Call { function, name, arguments } = &node.form {
        let text = |argument: &Node| match &argument.form {
            Form::Literal(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        calls.push(Call { span: *name, function: *function, texts: arguments.iter().map(text).collect() });
    }
    node.children().into_iter().for_each(|child| collect_calls(child, calls));
}

fn kind(node: &Node) -> Option<Kind> {
    match &node.form {
        Form::Literal(value) => Some(value.kind()),
        Form::Root(_) | Form::Key { .. } => None,
        Form::Each { .. } => Some(Kind::Array),
        Form::Not(_) | Form::Compare { .. } => Some(Kind::Bool),
        Form::All(nodes) | Form::Any(nodes) => {
            let first = kind(nodes.first()?)?;
            nodes.iter().all(|node| kind(node) == Some(first)).then_some(first)
        }
        Form::Call { function, .. } => function.kind(),
    }
}

impl Expression {
    /// What may be all or a part of its value, as it was read: not what is only compared, counted or asked for its truth.
    pub fn comes_out(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        collect_outcome(&self.node, &mut uses);
        uses
    }

    /// What is held against a text by `==` or `!=`, and the text.
    pub fn compared(&self) -> Vec<(Use, Arc<str>)> {
        let mut found = Vec::new();
        collect_compared(&self.node, &mut found);
        found
    }
}

fn collect_outcome(node: &Node, uses: &mut Vec<Use>) {
    if let Some(found) = way(node) {
        uses.push(found);
        return;
    }
    match &node.form {
        Form::Literal(_) | Form::Root(_) | Form::Not(_) | Form::Compare { .. } => {}
        Form::Key { of, .. } | Form::Each { of } => collect_outcome(of, uses),
        // What comes out of the others is false, zero or empty.
        Form::All(nodes) => nodes.last().into_iter().for_each(|node| collect_outcome(node, uses)),
        Form::Any(nodes) => nodes.iter().for_each(|node| collect_outcome(node, uses)),
        Form::Call { function, arguments, .. } => match function {
            Function::Case => {
                let last = arguments.len() - 1;
                let out = arguments.iter().enumerate().filter(|(at, _)| at % 2 == 1 || *at == last);
                out.for_each(|(_, node)| collect_outcome(node, uses));
            }
            Function::Format | Function::FromJson | Function::Join | Function::ToJson => {
                arguments.iter().for_each(|node| collect_outcome(node, uses));
            }
            Function::Contains
            | Function::EndsWith
            | Function::HashFiles
            | Function::StartsWith
            | Function::Status(_) => {}
        },
    }
}

fn collect_compared(node: &Node, found: &mut Vec<(Use, Arc<str>)>) {
    if let Form::Compare { how: Comparison::Equal | Comparison::NotEqual, left, right } = &node.form {
        for (read, with) in [(left, right), (right, left)] {
            if let (Some(read), Form::Literal(Value::String(text))) = (way(read), &with.form) {
                found.push((read, text.clone()));
            }
        }
    }
    node.children().into_iter().for_each(|child| collect_compared(child, found));
}
