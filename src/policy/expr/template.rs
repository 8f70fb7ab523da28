//! Text with expressions in `${{ }}`.

use std::sync::Arc;

use super::eval::Evaluation;
use super::{Expression, Fault, Limits, Scope, Span, Value};

/// Text with expressions in it. One lone `${{ }}` gives the expression's own value, everything else gives a string.
#[derive(Debug, Clone)]
pub struct Template {
    text: Arc<str>,
    parts: Vec<Part>,
}

/// What a template is made of, in order.
#[derive(Debug, Clone)]
pub enum Part {
    /// Plain text.
    Text(Span),
    /// An expression.
    Splice(Splice),
}

/// An expression in a text.
#[derive(Debug, Clone)]
pub struct Splice {
    /// From `${{` to `}}`, both included.
    pub span: Span,
    /// What stands in it. Its spans are of the whole text.
    pub expression: Expression,
}

impl Template {
    /// Reads a text. What is not closed, and what is not an expression, is a fault.
    pub fn parse(text: &str) -> Result<Template, Fault> {
        let text: Arc<str> = text.into();
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(begin) = text[at..].find("${{").map(|found| at + found) {
            if begin > at {
                parts.push(Part::Text((at..begin).into()));
            }
            let inner = begin + 3;
            let Some(length) = close(&text[inner..]) else {
                return Err(Fault { offset: begin, message: "`${{` is not closed by `}}`".into() });
            };
            let expression = Expression::within(&text, inner..inner + length)?;
            at = inner + length + 2;
            parts.push(Part::Splice(Splice { span: (begin..at).into(), expression }));
        }
        if at < text.len() {
            parts.push(Part::Text((at..text.len()).into()));
        }
        Ok(Template { text, parts })
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.text
    }

    /// Text and expressions, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The expressions, in order.
    pub fn splices(&self) -> impl Iterator<Item = &Splice> {
        self.parts.iter().filter_map(|part| match part {
            Part::Splice(splice) => Some(splice),
            Part::Text(_) => None,
        })
    }

    /// The expression that is all of the text.
    pub fn lone(&self) -> Option<&Expression> {
        match &self.parts[..] {
            [Part::Splice(splice)] => Some(&splice.expression),
            _ => None,
        }
    }

    /// Its value: of a lone expression its own, otherwise a string.
    pub fn evaluate(&self, scope: &dyn Scope, limits: Limits) -> Result<Value, Fault> {
        if let Some(expression) = self.lone() {
            return expression.evaluate(scope, limits);
        }
        let mut evaluation = Evaluation::new(scope, limits);
        let mut made = String::new();
        for part in &self.parts {
            match part {
                Part::Text(span) => evaluation.add(&mut made, &self.text[span.range()])?,
                Part::Splice(splice) => {
                    let value = evaluation.value(&splice.expression.node)?;
                    evaluation.add(&mut made, &value.to_text())?;
                }
            }
        }
        Ok(made.into())
    }
}

/// How far it is to the `}}` that is not in a string.
fn close(text: &str) -> Option<usize> {
    let mut quoted = false;
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|at| {
        quoted ^= bytes[*at] == b'\'';
        !quoted && bytes[*at..].starts_with(b"}}")
    })
}
