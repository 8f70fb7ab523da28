//! `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+other}`, `$NAME` and `$$` in a Compose file.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::super::{
    report::{Fate, Refusal, Report, harmless},
    tree::{Tree, step},
};

/// How deep defaults may stand in defaults.
const DEEPEST: usize = 16;

/// Everything in a value that is text; it stands at `path`.
pub(super) fn all(
    value: &mut Value,
    path: &str,
    tree: &Tree,
    variables: &BTreeMap<String, String>,
    report: &mut Report<Value>,
) -> Result<(), Vec<Refusal>> {
    let mut reader = Reader { tree, variables, report, refusals: Vec::new() };
    reader.value(value, path);
    if reader.refusals.is_empty() { Ok(()) } else { Err(reader.refusals) }
}

struct Reader<'a> {
    tree: &'a Tree,
    variables: &'a BTreeMap<String, String>,
    report: &'a mut Report<Value>,
    refusals: Vec<Refusal>,
}

impl Reader<'_> {
    fn value(&mut self, value: &mut Value, path: &str) {
        match value {
            Value::String(text) if text.contains('$') => {
                let mut unset = Vec::new();
                match expanded(text, self.variables, &mut unset, 0) {
                    Ok(new) => *text = new,
                    Err(why) => self.refusals.push(Refusal::new(&self.tree.spot(path), format!("{path}: {why}"))),
                }
                for name in unset {
                    let remark = "it is not set: nothing stands in its place; `--env-file` says more";
                    self.report.note(&self.tree.spot(path), &format!("${{{name}}}"), Fate::Approximated, remark);
                }
            }
            Value::Array(list) => {
                for (at, item) in list.iter_mut().enumerate() {
                    self.value(item, &format!("{path}[{at}]"));
                }
            }
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    self.value(item, &step(path, key));
                }
            }
            _ => {}
        }
    }
}

fn expanded(
    text: &str,
    variables: &BTreeMap<String, String>,
    unset: &mut Vec<String>,
    depth: usize,
) -> Result<String, String> {
    if depth > DEEPEST {
        return Err(format!("more than {DEEPEST} defaults stand in each other"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = after.strip_prefix('{') {
            let (inside, tail) = braced(inner).ok_or("a `${` is not closed")?;
            let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
            let (name, rule) = inside.split_at(end);
            if name.is_empty() {
                return Err(format!("`${{{}}}` names no variable; `$$` is a dollar sign", harmless(inside)));
            }
            let (or_empty, rule) = rule.strip_prefix(':').map_or((false, rule), |rule| (true, rule));
            let there = variables.get(name).filter(|value| !(or_empty && value.is_empty()));
            let mut other = |text: &str| expanded(text, variables, unset, depth + 1);
            match (rule.chars().next(), there) {
                (None, Some(value)) | (Some('-' | '?'), Some(value)) => out.push_str(value),
                (None, None) => unset.push(name.to_owned()),
                (Some('-'), None) => out.push_str(&other(&rule[1..])?),
                (Some('+'), Some(_)) => out.push_str(&other(&rule[1..])?),
                (Some('+'), None) => {}
                (Some('?'), None) => {
                    let message = if rule.len() > 1 { rule[1..].to_owned() } else { "it must be set".to_owned() };
                    return Err(format!(
                        "`{name}`: {}; set it in `.env` or in a file of `--env-file`",
                        harmless(&message)
                    ));
                }
                _ => return Err(format!("`${{{}}}` is no variable", harmless(inside))),
            }
            rest = tail;
        } else {
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            let name = &after[..end];
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err("a lone `$`; `$$` is a dollar sign".to_owned());
            }
            match variables.get(name) {
                Some(value) => out.push_str(value),
                None => unset.push(name.to_owned()),
            }
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands before the brace that closes, and what behind it.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut open = 0;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'$' if text.as_bytes().get(at + 1) == Some(&b'{') => {
                open += 1;
                bytes.next();
            }
            b'}' if open == 0 => return Some((&text[..at], &text[at + 1..])),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_as_compose_does() {
        let variables: BTreeMap<String, String> =
            [("A", "1"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let put = |text: &str| expanded(text, &variables, &mut Vec::new(), 0);
        for (text, made) in [
            ("x$A-${A}", "x1-1"),
            ("$$A", "$A"),
            ("${EMPTY-d}|${EMPTY:-d}|${NO-d}", "|d|d"),
            ("${NO:-${A:-x}}", "1"),
            ("${A:+yes}${NO:+no}", "yes"),
            ("${NO}", ""),
        ] {
            assert_eq!(put(text).as_deref(), Ok(made), "{text}");
        }
        for text in ["${", "${}", "${A!}", "$", "$1", "${NO:?say it}", &"${N:-".repeat(40)] {
            assert!(put(text).is_err(), "{text}");
        }
    }
}
