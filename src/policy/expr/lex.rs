//! Text into tokens, each with its place.

use std::ops::Range;
use std::sync::Arc;

use super::{Fault, Span, number};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    Comma,
    Dot,
    Star,
    Not,
    And,
    Or,
    Compare(Comparison),
    Number(f64),
    Text(Arc<str>),
    Word(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

const PAIRS: [(&str, Token); 6] = [
    ("!=", Token::Compare(Comparison::NotEqual)),
    ("==", Token::Compare(Comparison::Equal)),
    ("<=", Token::Compare(Comparison::LessOrEqual)),
    (">=", Token::Compare(Comparison::GreaterOrEqual)),
    ("&&", Token::And),
    ("||", Token::Or),
];

/// The tokens of a part of `text`, with their places in all of it.
pub(super) fn tokens(text: &str, part: Range<usize>) -> Result<Vec<(Token, Span)>, Fault> {
    let mut tokens: Vec<(Token, Span)> = Vec::new();
    let mut at = part.start;
    while let Some(letter) = text[at..part.end].chars().next() {
        if letter.is_whitespace() {
            at += letter.len_utf8();
            continue;
        }
        let rest = &text[at..part.end];
        let (token, length) = token(rest, letter, tokens.last().map(|(token, _)| token))
            .map_err(|message| Fault { offset: at, message })?;
        tokens.push((token, Span { start: at, end: at + length }));
        at += length;
    }
    Ok(tokens)
}

/// The first token of `rest`, which begins with `letter`, and its length.
fn token(rest: &str, letter: char, before: Option<&Token>) -> Result<(Token, usize), String> {
    if let Some((_, token)) = PAIRS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
        return Ok((token.clone(), 2));
    }
    let simple = match letter {
        '(' => Token::Open,
        ')' => Token::Close,
        '[' => Token::OpenIndex,
        ']' => Token::CloseIndex,
        ',' => Token::Comma,
        '*' => Token::Star,
        '!' => Token::Not,
        '<' => Token::Compare(Comparison::Less),
        '>' => Token::Compare(Comparison::Greater),
        '.' if before.is_some_and(ends_operand) => Token::Dot,
        '\'' => return quoted(rest),
        '.' | '+' | '-' | '0'..='9' => return numeral(rest),
        _ => return word(rest, letter),
    };
    Ok((simple, 1))
}

/// Whether a point after this token looks into something; otherwise it begins a number.
fn ends_operand(token: &Token) -> bool {
    matches!(token, Token::Close | Token::CloseIndex | Token::Star | Token::Word(_) | Token::Number(_) | Token::Text(_))
}

/// A text in single quotes, of which a doubled one stands for itself.
fn quoted(rest: &str) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut at = 1;
    loop {
        let Some(end) = rest[at..].find('\'') else { return Err("a string that begins here does not end".into()) };
        text.push_str(&rest[at..at + end]);
        at += end + 1;
        if !rest[at..].starts_with('\'') {
            return Ok((Token::Text(text.into()), at));
        }
        text.push('\'');
        at += 1;
    }
}

fn numeral(rest: &str) -> Result<(Token, usize), String> {
    let length = 1 + until(&rest[1..], |letter| is_boundary(letter) && letter != '.');
    let text = &rest[..length];
    let number = number::parse(text);
    if !number.is_nan() {
        return Ok((Token::Number(number), length));
    }
    Err(match text {
        "+" | "-" => format!("`{text}` is not an operator: there is no arithmetic in expressions"),
        _ => format!("`{text}` is not a number"),
    })
}

fn word(rest: &str, letter: char) -> Result<(Token, usize), String> {
    let length = letter.len_utf8() + until(&rest[letter.len_utf8()..], is_boundary);
    let text = &rest[..length];
    let begins = letter.is_ascii_alphabetic() || letter == '_';
    if begins && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Ok((Token::Word(text.into()), length));
    }
    Err(match letter {
        '"' => "strings are in single quotes: 'like this'".into(),
        '=' => "`=` is not an operator: equality is `==`".into(),
        '&' | '|' => format!("`{letter}` is not an operator: it is `{letter}{letter}`"),
        '/' | '%' | '^' => format!("`{letter}` is not an operator: there is no arithmetic in expressions"),
        '$' if text.starts_with("${{") => "`${{` stands inside of an expression".into(),
        _ => format!("unexpected `{text}`"),
    })
}

fn until(text: &str, is_end: impl Fn(char) -> bool) -> usize {
    text.find(is_end).unwrap_or(text.len())
}

fn is_boundary(letter: char) -> bool {
    matches!(letter, '(' | '[' | ')' | ']' | ',' | '.' | '!' | '>' | '<' | '=' | '&' | '|') || letter.is_whitespace()
}
