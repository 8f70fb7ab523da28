//! GitHub's expression language: `needs.build.result == 'success' && !cancelled()`. Pure, and bounded.
//!
//! An [`Expression`] is read once and evaluated against a [`Scope`], which knows the roots (`needs`, `inputs`…) and how what
//! came before has ended. A [`Template`] is text with expressions in `${{ }}`, a [`Condition`] is what stands after `if`.
//!
//! The rules are those of GitHub's runner (actions/runner, `src/Sdk/Expressions`), also where its own npm package
//! `@actions/expressions` follows JavaScript instead; `docs/design/024-expressions.md` lists where, and `tests/clients/expressions`
//! compares the two. What was read says what lint wants to know, without values: [`Expression::uses`], [`Expression::calls`].
//!
//! Every expression ends: it has at most 21,000 characters and 50 levels, and an evaluation counts what it looks at and
//! what it makes ([`Limits`]).

mod condition;
mod eval;
mod functions;
mod lex;
mod number;
mod parse;
mod template;
mod uses;
mod value;

use std::ops::Range;
use std::sync::Arc;

use eval::Evaluation;
use parse::Node;

pub use condition::Condition;
pub use functions::{Function, Status};
pub use template::{Part, Splice, Template};
pub use uses::{Call, Segment, Use};
pub use value::{Array, Kind, Object, Value};

/// What is wrong with an expression, and where, in bytes from the beginning of the text that was parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Where.
    pub offset: usize,
    /// What, in words.
    pub message: String,
}

/// A part of the text that was parsed, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The first byte after it.
    pub end: usize,
}

impl Span {
    /// As a range, to cut the text by.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Span {
        Span { start: range.start, end: range.end }
    }
}

/// What one evaluation may spend.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nodes, items of arrays, and 64 bytes of compared text are a step each.
    pub steps: usize,
    /// Bytes of the texts and arrays that functions and templates make. Reading makes none.
    pub bytes: usize,
}

impl Default for Limits {
    /// A million steps (some ten milliseconds), and twice the largest output of a step.
    fn default() -> Limits {
        Limits { steps: 1_000_000, bytes: 2 << 20 }
    }
}

/// What an expression is asked about.
pub trait Scope {
    /// The value of a root, whose name is in lower case. `None`: there is no such root here.
    fn root(&self, name: &str) -> Option<Value>;

    /// What a status function says, of these jobs or of all that came before. `None`: it cannot be asked here.
    fn status(&self, _which: Status, _jobs: &[Arc<str>]) -> Option<bool> {
        None
    }

    /// The hash of the files that match, as hexadecimal digits; empty if there are none.
    fn hash_files(&self, _patterns: &[Arc<str>]) -> Result<String, String> {
        Err("`hashFiles` cannot be asked here".into())
    }
}

/// An expression that was read.
#[derive(Debug, Clone)]
pub struct Expression {
    /// All of the text in which it stands; the spans are in this.
    text: Arc<str>,
    node: Node,
}

impl Expression {
    /// Reads an expression, without `${{ }}` around it.
    pub fn parse(text: &str) -> Result<Expression, Fault> {
        Expression::within(&text.into(), 0..text.len())
    }

    fn within(text: &Arc<str>, part: Range<usize>) -> Result<Expression, Fault> {
        let offset = part.start;
        match parse::parse(text, part)? {
            Some(node) => Ok(Expression { text: text.clone(), node }),
            None => Err(Fault { offset, message: "there is no expression".into() }),
        }
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        self.written(&self.node)
    }

    fn written(&self, node: &Node) -> &str {
        &self.text[node.span.range()]
    }

    /// Where it stands in the text that was parsed.
    pub fn span(&self) -> Span {
        self.node.span
    }

    /// Its value.
    pub fn evaluate(&self, scope: &dyn Scope, limits: Limits) -> Result<Value, Fault> {
        Evaluation::new(scope, limits).value(&self.node)
    }
}

/// A text that stands in a message.
fn shorten(text: &str) -> String {
    const LONG: usize = 60;
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
