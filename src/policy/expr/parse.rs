//! Tokens into a tree, by precedence climbing: `||`, `&&`, `== !=`, `< <= > >=`, `!`, and `[] .` which bind most.

use std::ops::Range;
use std::sync::Arc;

use super::functions::Function;
use super::lex::{self, Comparison, Token};
use super::value::Value;
use super::{Fault, Span};

/// The deepest tree, and the deepest nesting of brackets.
pub(super) const DEEPEST: u8 = 50;
/// The longest expression, in characters.
pub(super) const LONGEST: usize = 21_000;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) form: Form,
    depth: u8,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    Literal(Value),
    Root(Arc<str>),
    Key { of: Box<Node>, key: Box<Node> },
    Each { of: Box<Node> },
    Not(Box<Node>),
    Compare { how: Comparison, left: Box<Node>, right: Box<Node> },
    All(Vec<Node>),
    Any(Vec<Node>),
    Call { function: Function, name: Span, arguments: Vec<Node> },
}

impl Node {
    /// The nodes right under this one, from left to right.
    pub(super) fn children(&self) -> Vec<&Node> {
        match &self.form {
            Form::Literal(_) | Form::Root(_) => vec![],
            Form::Key { of, key } => vec![of, key],
            Form::Each { of } | Form::Not(of) => vec![of],
            Form::Compare { left, right, .. } => vec![left, right],
            Form::All(nodes) | Form::Any(nodes) | Form::Call { arguments: nodes, .. } => nodes.iter().collect(),
        }
    }
}

/// The tree of a part of `text`. `None`: there is nothing in it.
pub(super) fn parse(text: &str, part: Range<usize>) -> Result<Option<Node>, Fault> {
    if text[part.clone()].chars().nth(LONGEST).is_some() {
        return Err(Fault { offset: part.start, message: format!("an expression has at most {LONGEST} characters") });
    }
    let tokens = lex::tokens(text, part.clone())?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut parser = Parser { text, tokens, next: 0, nesting: 0, end: part.end };
    let node = parser.expression(0)?;
    if parser.next < parser.tokens.len() {
        return Err(parser.unexpected());
    }
    Ok(Some(node))
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Span)>,
    next: usize,
    nesting: u8,
    end: usize,
}

/// How strongly an operator binds.
fn binding(token: &Token) -> Option<u8> {
    match token {
        Token::Or => Some(1),
        Token::And => Some(2),
        Token::Compare(Comparison::Equal | Comparison::NotEqual) => Some(3),
        Token::Compare(_) => Some(4),
        _ => None,
    }
}

impl Parser<'_> {
    fn take(&mut self, wanted: &Token) -> Option<Span> {
        let (token, span) = self.tokens.get(self.next)?;
        let span = *span;
        (token == wanted).then(|| {
            self.next += 1;
            span
        })
    }

    fn expect(&mut self, wanted: &Token, word: &str) -> Result<Span, Fault> {
        let Some(span) = self.take(wanted) else {
            let Fault { offset, message } = self.unexpected();
            return Err(Fault { offset, message: format!("{message}, where {word} should be") });
        };
        Ok(span)
    }

    fn unexpected(&self) -> Fault {
        match self.tokens.get(self.next) {
            Some((_, span)) => {
                Fault { offset: span.start, message: format!("unexpected `{}`", &self.text[span.range()]) }
            }
            None => Fault { offset: self.end, message: "the expression ends too early".into() },
        }
    }

    fn nested<T>(&mut self, at: usize, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.nesting += 1;
        if self.nesting > DEEPEST {
            return Err(too_deep(at));
        }
        let read = read(self);
        self.nesting -= 1;
        read
    }

    fn expression(&mut self, least: u8) -> Result<Node, Fault> {
        let mut left = self.operand()?;
        while let Some((token, span)) = self.tokens.get(self.next) {
            let (token, at) = (token.clone(), span.start);
            let Some(binding) = binding(&token).filter(|binding| *binding > least) else { break };
            self.next += 1;
            let right = self.nested(at, |parser| parser.expression(binding))?;
            left = joined(token, left, right)?;
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Node, Fault> {
        if let Some(span) = self.take(&Token::Not) {
            let of = self.nested(span.start, Parser::operand)?;
            return node(span.start..of.span.end, Form::Not(Box::new(of)));
        }
        let Some((token, span)) = self.tokens.get(self.next) else { return Err(self.unexpected()) };
        let (token, span) = (token.clone(), *span);
        let literal = |value| node(span.range(), Form::Literal(value));
        let operand = match token {
            Token::Number(number) => literal(Value::Number(number)),
            Token::Text(text) => literal(Value::String(text)),
            Token::Word(word) => match &*word {
                "null" => literal(Value::Null),
                "true" => literal(Value::Bool(true)),
                "false" => literal(Value::Bool(false)),
                "NaN" => literal(Value::Number(f64::NAN)),
                "Infinity" => literal(Value::Number(f64::INFINITY)),
                _ => {
                    self.next += 1;
                    let named = self.named(&word, span)?;
                    return self.within(named);
                }
            },
            Token::Open => {
                self.next += 1;
                let mut inner = self.nested(span.start, |parser| parser.expression(0))?;
                let close = self.expect(&Token::Close, "`)`")?;
                inner.span = Span { start: span.start, end: close.end };
                return self.within(inner);
            }
            _ => return Err(self.unexpected()),
        }?;
        self.next += 1;
        Ok(operand)
    }

    /// A root, or a function's call.
    fn named(&mut self, word: &Arc<str>, name: Span) -> Result<Node, Fault> {
        if self.take(&Token::Open).is_none() {
            return node(name.range(), Form::Root(word.to_ascii_lowercase().into()));
        }
        let at = |message| Fault { offset: name.start, message };
        let function = Function::of(word).map_err(at)?;
        let mut arguments = Vec::new();
        let mut close = self.take(&Token::Close);
        while close.is_none() {
            arguments.push(self.nested(name.start, |parser| parser.expression(0))?);
            close = self.take(&Token::Close);
            if close.is_none() {
                self.expect(&Token::Comma, "`,` or `)`")?;
            }
        }
        function.takes(arguments.len()).map_err(at)?;
        let end = close.map_or(self.end, |span| span.end);
        node(name.start..end, Form::Call { function, name, arguments })
    }

    /// What follows a root, a call or a group: `.key`, `.*`, `[key]`, `[*]`.
    fn within(&mut self, mut of: Node) -> Result<Node, Fault> {
        loop {
            if self.take(&Token::Dot).is_some() {
                let Some((token, span)) = self.tokens.get(self.next) else { return Err(self.unexpected()) };
                let (token, span) = (token.clone(), *span);
                let whole = of.span.start..span.end;
                of = match token {
                    Token::Star => node(whole, Form::Each { of: Box::new(of) })?,
                    Token::Word(word) => {
                        let key = node(span.range(), Form::Literal(Value::String(word)))?;
                        node(whole, Form::Key { of: Box::new(of), key: Box::new(key) })?
                    }
                    _ => return Err(self.unexpected()),
                };
                self.next += 1;
            } else if let Some(open) = self.take(&Token::OpenIndex) {
                if self.take(&Token::Star).is_some() {
                    let close = self.expect(&Token::CloseIndex, "`]`")?;
                    of = node(of.span.start..close.end, Form::Each { of: Box::new(of) })?;
                } else {
                    let key = self.nested(open.start, |parser| parser.expression(0))?;
                    let close = self.expect(&Token::CloseIndex, "`]`")?;
                    of = node(of.span.start..close.end, Form::Key { of: Box::new(of), key: Box::new(key) })?;
                }
            } else {
                return Ok(of);
            }
        }
    }
}

fn too_deep(offset: usize) -> Fault {
    Fault { offset, message: format!("an expression is at most {DEEPEST} levels deep") }
}

/// A node, if it is not too deep.
fn node(span: Range<usize>, form: Form) -> Result<Node, Fault> {
    let mut made = Node { span: span.into(), form, depth: 0 };
    made.depth = 1 + made.children().iter().map(|child| child.depth).max().unwrap_or(0);
    shallow(made)
}

fn shallow(node: Node) -> Result<Node, Fault> {
    if node.depth > DEEPEST { Err(too_deep(node.span.start)) } else { Ok(node) }
}

/// Two operands and what stands between them. Chains of `&&` are one node, and of `||`.
fn joined(token: Token, left: Node, right: Node) -> Result<Node, Fault> {
    let span = left.span.start..right.span.end;
    match (token, left.form) {
        (Token::And, Form::All(nodes)) => longer(span, left.depth, nodes, right, Form::All),
        (Token::Or, Form::Any(nodes)) => longer(span, left.depth, nodes, right, Form::Any),
        (token, form) => {
            let left = Node { form, ..left };
            let form = match token {
                Token::And => Form::All(vec![left, right]),
                Token::Or => Form::Any(vec![left, right]),
                Token::Compare(how) => Form::Compare { how, left: Box::new(left), right: Box::new(right) },
                _ => unreachable!("only operators bind"),
            };
            node(span, form)
        }
    }
}

/// A chain with one more link.
fn longer(
    span: Range<usize>,
    depth: u8,
    mut nodes: Vec<Node>,
    last: Node,
    form: impl Fn(Vec<Node>) -> Form,
) -> Result<Node, Fault> {
    let depth = depth.max(1 + last.depth);
    nodes.push(last);
    shallow(Node { span: span.into(), form: form(nodes), depth })
}
