//! The part of kubectl's JSONPath that scripts use: `{.status.conditions[0].type}`, `{.items[*].metadata.name}`,
//! `{.status.conditions[?(@.type=="Ready")].status}`, `{.metadata.labels.a\.b/c}`, with text around the braces.

use std::str::FromStr;

use serde_json::Value;

/// A template: text and paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPath {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    /// Negative: from the end.
    Index(i64),
    All,
    /// `[?(@.path=="text")]`
    Where(Vec<Step>, String),
}

impl FromStr for JsonPath {
    type Err = String;

    /// With braces a template, without them one path.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('{') {
            return Ok(Self { parts: vec![Part::Path(steps(text)?)] });
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(unescape(before)));
            }
            let (inside, tail) = after.split_once('}').ok_or("a { is not closed")?;
            match inside.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
                Some(literal) => parts.push(Part::Text(unescape(literal))),
                None => parts.push(Part::Path(steps(inside)?)),
            }
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(unescape(rest)));
        }
        Ok(Self { parts })
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let path = path.trim();
    let mut rest = path.strip_prefix('$').or(path.strip_prefix('@')).unwrap_or(path);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let end = closing(inside).ok_or_else(|| format!("a [ is not closed in `{path}`"))?;
            steps.push(bracket(&inside[..end])?);
            rest = &inside[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let mut name = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        match name.as_str() {
            "" if rest.is_empty() || rest.starts_with('[') => {}
            "" => return Err(format!("`{path}` has an empty step")),
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
        rest = &rest[end..];
    }
    Ok(steps)
}

/// Where the bracket that was opened ends, quotes minded.
fn closing(inside: &str) -> Option<usize> {
    let mut quote = None;
    inside.char_indices().find_map(|(at, c)| {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        None
    })
}

fn bracket(inside: &str) -> Result<Step, String> {
    let inside = inside.trim();
    let unquoted = |t: &str| t.trim().trim_matches(['\'', '"']).to_owned();
    if inside == "*" {
        return Ok(Step::All);
    }
    if let Ok(index) = inside.parse() {
        return Ok(Step::Index(index));
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        let (path, wanted) = filter.split_once("==").ok_or("a filter is `?(@.field==\"text\")`")?;
        return Ok(Step::Where(steps(path)?, unquoted(wanted)));
    }
    if inside.starts_with(['\'', '"']) {
        return Ok(Step::Field(unquoted(inside)));
    }
    Err(format!("`[{inside}]` is not understood"))
}

impl JsonPath {
    /// Everything that the first path finds.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let path = self.parts.iter().find_map(|p| if let Part::Path(steps) = p { Some(steps) } else { None });
        path.map(|steps| walk(steps, value)).unwrap_or_default()
    }

    /// The template, filled in.
    pub(super) fn print(&self, value: &Value) -> String {
        let fill = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Path(steps) => walk(steps, value).into_iter().map(plain).collect::<Vec<_>>().join(" "),
        };
        self.parts.iter().map(fill).collect()
    }
}

/// A text without its quotes; anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return vec![value] };
    let next: Vec<&Value> = match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let at = if *index < 0 { items.len() as i64 + index } else { *index };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where(path, wanted), Value::Array(items)) => {
            items.iter().filter(|item| walk(path, item).into_iter().any(|found| plain(found) == *wanted)).collect()
        }
        _ => Vec::new(),
    };
    next.into_iter().flat_map(|value| walk(rest, value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_what_kubectls_find() {
        let object = json!({
            "metadata": {"name": "web", "labels": {"a.b/c": "x"}},
            "items": [{"n": 1}, {"n": 2}],
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, printed) in [
            (".metadata.name", "web"),
            ("{.metadata.name}", "web"),
            ("{.metadata.labels.a\\.b/c}", "x"),
            ("{.metadata.labels['a.b/c']}", "x"),
            ("{.items[*].n}", "1 2"),
            ("{.items[-1].n}", "2"),
            ("{.status.conditions[?(@.type==\"Ready\")].status}", "True"),
            ("name={.metadata.name}, n={$.items[0].n}{\"\\n\"}", "name=web, n=1\n"),
            ("{.nothing.here}", ""),
            ("{.metadata.labels}", r#"{"a.b/c":"x"}"#),
        ] {
            assert_eq!(path.parse::<JsonPath>().map(|p| p.print(&object)).as_deref(), Ok(printed), "{path}");
        }
        for bad in ["{.a", "{.a[}", "{.a[b]}", "{.a..b}"] {
            assert!(bad.parse::<JsonPath>().is_err(), "{bad}");
        }
    }
}
