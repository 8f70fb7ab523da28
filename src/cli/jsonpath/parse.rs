//! Text to [`JsonPath`].

use std::str::FromStr;

use serde_json::Value;

use super::{Filter, JsonPath, Operand, Operator, Part, Step};

impl FromStr for JsonPath {
    type Err = String;

    /// With braces a template, without them one path.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('{') {
            return Ok(Self { parts: vec![Part::Path(steps(text)?)] });
        }
        let mut rest = text;
        let parts = parts(&mut rest, false)?;
        Ok(Self { parts })
    }
}

/// Reads up to the end, or up to the `{end}` of a range.
fn parts(rest: &mut &str, in_range: bool) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let end = unquoted(after, |c| c == '}').ok_or("a { is not closed")?;
        let inside = after[..end].trim();
        *rest = &after[end + 1..];
        match inside {
            "end" if in_range => return Ok(parts),
            "end" => return Err("an {end} without a {range …}".to_owned()),
            "range" => return Err("{range} wants a path, `{range .items[*]}` say".to_owned()),
            _ => {}
        }
        parts.push(match (inside.strip_prefix("range "), quoted(inside)) {
            (Some(path), _) => {
                let path = steps(path)?;
                Part::Range(path, self::parts(rest, true)?)
            }
            (None, Some(text)) => Part::Text(text),
            (None, None) => Part::Path(steps(inside)?),
        });
    }
    if in_range {
        return Err("a {range …} has no {end}".to_owned());
    }
    if !rest.is_empty() {
        parts.push(Part::Text((*rest).to_owned()));
        *rest = "";
    }
    Ok(parts)
}

/// Where the first character that is wanted stands outside of quotes.
fn unquoted(text: &str, wanted: impl Fn(char) -> bool) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        if std::mem::take(&mut escaped) {
            return None;
        }
        match (quote, c) {
            (_, '\\') => escaped = true,
            (None, c) if wanted(c) => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        None
    })
}

/// What stands in quotes, if the whole text does.
fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inside = text[1..].strip_suffix(quote)?;
    let mut plain = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c if c == quote => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let path = path.trim();
    let mut rest = path.strip_prefix(['$', '@']).unwrap_or(path);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = closing(inside).ok_or_else(|| format!("a [ is not closed in `{path}`"))?;
            steps.push(bracket(inside[..end].trim())?);
            rest = &inside[end + 1..];
            continue;
        }
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Deep);
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
        let (name, end) = name(rest);
        match name.as_str() {
            "" if (rest.is_empty() && steps.last() != Some(&Step::Deep)) || rest.starts_with('[') => {}
            "" => return Err(format!("`{path}` has an empty step")),
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
        rest = &rest[end..];
    }
    Ok(steps)
}

/// A name without its escapes, and where it ends.
fn name(text: &str) -> (String, usize) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, at),
            c => name.push(c),
        }
    }
    (name, text.len())
}

/// Where the bracket that was opened ends; those inside of it are counted, quotes minded.
fn closing(inside: &str) -> Option<usize> {
    let mut from = 0;
    let mut open = 0;
    loop {
        let at = from + unquoted(&inside[from..], |c| matches!(c, '[' | ']'))?;
        match (inside.as_bytes()[at], open) {
            (b']', 0) => return Some(at),
            (b']', _) => open -= 1,
            _ => open += 1,
        }
        from = at + 1;
    }
}

/// Cuts at every comma outside of quotes.
fn split_at_commas(text: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let mut rest = text;
    while let Some(at) = unquoted(rest, |c| c == ',') {
        members.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    members.push(rest);
    members
}

fn bracket(inside: &str) -> Result<Step, String> {
    if let Some(filter) = inside.strip_prefix('?') {
        let filter = filter.trim().strip_prefix('(').and_then(|t| t.strip_suffix(')'));
        return filter.map_or(Err("a filter is written `[?(@.field==\"text\")]`".to_owned()), self::filter);
    }
    let members = split_at_commas(inside);
    if members.len() > 1 {
        return members.into_iter().map(|member| bracket(member.trim())).collect::<Result<_, _>>().map(Step::Union);
    }
    if inside == "*" {
        return Ok(Step::All);
    }
    if let Some(name) = quoted(inside) {
        return Ok(Step::Field(name));
    }
    if let Ok(index) = inside.parse() {
        return Ok(Step::Index(index));
    }
    match slice(inside) {
        Some(Step::Slice(_, _, 0)) => Err("a slice cannot go on by 0".to_owned()),
        Some(slice) => Ok(slice),
        None => Err(format!("`[{inside}]` is not understood; a name in brackets is quoted: ['{inside}']")),
    }
}

fn slice(inside: &str) -> Option<Step> {
    let bounds: Vec<&str> = inside.split(':').map(str::trim).collect();
    let bound = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    match bounds.as_slice() {
        [start, end] => Some(Step::Slice(bound(start)?, bound(end)?, 1)),
        [start, end, by] => {
            Some(Step::Slice(bound(start)?, bound(end)?, if by.is_empty() { 1 } else { by.parse().ok()? }))
        }
        _ => None,
    }
}

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

fn filter(text: &str) -> Result<Step, String> {
    let Some(at) = unquoted(text, |c| "=!<>&|".contains(c)) else {
        return Ok(Step::Where(Box::new(Filter::Exists(steps(text)?))));
    };
    let (left, rest) = text.split_at(at);
    if rest.starts_with("=~") {
        return Err("regular expressions (`=~`) are not part of JSONPath filters".to_owned());
    }
    let several = || "a filter has one comparison; `&&` and `||` are not understood".to_owned();
    let (sign, operator) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)).ok_or_else(several)?;
    let right = &rest[sign.len()..];
    if unquoted(right, |c| "&|".contains(c)).is_some() {
        return Err(several());
    }
    Ok(Step::Where(Box::new(Filter::Compare(operand(left)?, *operator, operand(right)?))))
}

fn operand(text: &str) -> Result<Operand, String> {
    let text = text.trim();
    if let Some(text) = quoted(text) {
        return Ok(Operand::Value(Value::String(text)));
    }
    if text.starts_with(['@', '$', '.']) {
        return Ok(Operand::Path(steps(text)?));
    }
    // Numbers and truth values; a word without quotes is a text, as scripts write it.
    Ok(Operand::Value(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))))
}
