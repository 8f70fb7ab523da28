//! kubectl's JSONPath: `{.status.conditions[?(@.type=="Ready")].status}`, `{range .items[*]}{.metadata.name}{"\n"}{end}`.
//!
//! It is a template with paths in it, older than RFC 9535 and another language: text stands around the braces, names need no
//! quotes and escape dots (`a\.b`), `range` repeats a part, a missing field prints nothing. The crates that are kept up
//! (serde_json_path, jsonpath-rust) speak the RFC only, and would have to be wrapped in a parser as long as this one.
//!
//! ```text
//! text ── parse ──► parts: text, path, range ── print(value) ──► text
//! ```

mod parse;

use std::cmp::Ordering;

use serde_json::Value;

/// A template: text, paths and repeated parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPath {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    /// `{range PATH}PARTS{end}`
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    /// Negative: from the end.
    Index(i64),
    /// `[from:to:by]`
    Slice(Option<i64>, Option<i64>, usize),
    /// `*`
    All,
    /// `..`: the value and everything in it.
    Deep,
    /// `[a,b]`
    Union(Vec<Step>),
    /// `[?(…)]`
    Where(Box<Filter>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Exists(Vec<Step>),
    Compare(Operand, Operator, Operand),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operand {
    Path(Vec<Step>),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Everything that the first path finds.
    pub(super) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let first = self.parts.iter().find_map(|part| match part {
            Part::Path(steps) | Part::Range(steps, _) => Some(steps),
            Part::Text(_) => None,
        });
        first.map(|steps| walk(steps, value)).unwrap_or_default()
    }

    /// The name of the field that the first path begins with.
    pub(super) fn first_field(&self) -> Option<&str> {
        match self.parts.first()? {
            Part::Path(steps) => match steps.first()? {
                Step::Field(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The template, filled in.
    pub(super) fn print(&self, value: &Value) -> String {
        fill(&self.parts, value)
    }
}

fn fill(parts: &[Part], value: &Value) -> String {
    let fill_one = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Path(steps) => walk(steps, value).into_iter().map(plain).collect::<Vec<_>>().join(" "),
        Part::Range(steps, inner) => walk(steps, value).into_iter().map(|each| fill(inner, each)).collect(),
    };
    parts.iter().map(fill_one).collect()
}

/// A text without its quotes; anything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Orders values as `--sort-by` and filters do: nothing, then truth, numbers by size, texts by letters.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or_default().total_cmp(&y.as_f64().unwrap_or_default()),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn walk<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let Some((step, rest)) = steps.split_first() else { return vec![value] };
    step.from(value).into_iter().flat_map(|next| walk(rest, next)).collect()
}

impl Step {
    fn from<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Step::Index(index), Value::Array(items)) => {
                usize::try_from(from_end(*index, items.len())).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Step::Slice(start, end, by), Value::Array(items)) => {
                let place = |at: i64| usize::try_from(from_end(at, items.len())).unwrap_or(0).min(items.len());
                let (start, end) = (start.map_or(0, place), end.map_or(items.len(), place));
                items.get(start..end).unwrap_or_default().iter().step_by(*by).collect()
            }
            (Step::All, value) => children(value),
            (Step::Deep, value) => {
                std::iter::once(value).chain(children(value).into_iter().flat_map(|c| Step::Deep.from(c))).collect()
            }
            (Step::Union(members), value) => members.iter().flat_map(|member| member.from(value)).collect(),
            (Step::Where(filter), Value::Array(items)) => items.iter().filter(|item| filter.holds(item)).collect(),
            _ => Vec::new(),
        }
    }
}

fn from_end(index: i64, length: usize) -> i64 {
    if index < 0 { index + i64::try_from(length).unwrap_or(i64::MAX) } else { index }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        match self {
            Filter::Exists(path) => !walk(path, item).is_empty(),
            Filter::Compare(left, operator, right) => {
                let rights = right.values(item);
                left.values(item).iter().any(|left| rights.iter().any(|right| operator.holds(left, right)))
            }
        }
    }
}

impl Operand {
    fn values<'a>(&'a self, item: &'a Value) -> Vec<&'a Value> {
        match self {
            Operand::Path(path) => walk(path, item),
            Operand::Value(value) => vec![value],
        }
    }
}

impl Operator {
    fn holds(self, left: &Value, right: &Value) -> bool {
        // A number that is compared with a text is compared as it is written: `@.port=="80"`.
        let equal =
            plain(left) == plain(right) || (left.is_number() && right.is_number() && compare(left, right).is_eq());
        let same_type = std::mem::discriminant(left) == std::mem::discriminant(right);
        match self {
            Operator::Equal => equal,
            Operator::Unequal => !equal,
            Operator::Less => same_type && compare(left, right).is_lt(),
            Operator::LessOrEqual => same_type && compare(left, right).is_le(),
            Operator::Greater => same_type && compare(left, right).is_gt(),
            Operator::GreaterOrEqual => same_type && compare(left, right).is_ge(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "metadata": {"name": "web", "labels": {"a.b/c": "x"}},
            "items": [
                {"n": 1, "name": "one", "on": true, "ports": [{"port": 80}]},
                {"n": 2, "name": "two", "ports": [{"port": 443}, {"port": 8443}]},
                {"n": 10, "name": "ten"},
            ],
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]},
        })
    }

    #[test]
    fn paths_find_what_kubectls_find() {
        for (path, printed) in [
            (".metadata.name", "web"),
            ("metadata.name", "web"),
            ("{.metadata.name}", "web"),
            ("{ .metadata.name }", "web"),
            ("{.metadata.labels.a\\.b/c}", "x"),
            ("{.metadata.labels['a.b/c']}", "x"),
            ("{['metadata']['name']}", "web"),
            ("{.items[*].n}", "1 2 10"),
            ("{.items[-1].n}", "10"),
            ("{.items[0:2].n}", "1 2"),
            ("{.items[1:].n}", "2 10"),
            ("{.items[:-1].n}", "1 2"),
            ("{.items[::2].n}", "1 10"),
            ("{.items[0,2].n}", "1 10"),
            ("{.items[0]['n','name']}", "1 one"),
            ("{.items[*]['n','name']}", "1 one 2 two 10 ten"),
            ("{..port}", "80 443 8443"),
            ("{.items[1]..port}", "443 8443"),
            ("{.metadata.*}", r#"web {"a.b/c":"x"}"#),
            ("{.status.conditions[?(@.type==\"Ready\")].status}", "True"),
            ("{.status.conditions[?(@.type=='Ready')].status}", "True"),
            ("{.status.conditions[?( @.type != 'Ready' )].type}", "A"),
            ("{.items[?(@.n>1)].name}", "two ten"),
            ("{.items[?(@.n>=2)].name}", "two ten"),
            ("{.items[?(@.n<2)].name}", "one"),
            ("{.items[?(@.n==2)].name}", "two"),
            ("{.items[?(@.n==\"2\")].name}", "two"),
            ("{.items[?(@.on==true)].name}", "one"),
            ("{.items[?(@.on)].name}", "one"),
            ("{.items[?(@.ports[*].port==8443)].name}", "two"),
            ("name={.metadata.name}, n={$.items[0].n}{\"\\n\"}", "name=web, n=1\n"),
            ("{.metadata.name}\\n", "web\\n"),
            ("{range .items[*]}{.name}{\"\\t\"}{.n}{\"\\n\"}{end}", "one\t1\ntwo\t2\nten\t10\n"),
            ("{range .items[*]}{.name}:{range .ports[*]} {@.port}{end};{end}.", "one: 80;two: 443 8443;ten:;."),
            ("{range .items[*]}{'}'}{end}", "}}}"),
            ("{.nothing.here}", ""),
            ("{.items[9].n}", ""),
            ("{.metadata.labels}", r#"{"a.b/c":"x"}"#),
            ("{.}", &object().to_string()),
        ] {
            assert_eq!(path.parse::<JsonPath>().map(|p| p.print(&object())).as_deref(), Ok(printed), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_the_reason() {
        for (bad, why) in [
            ("{.a", "a { is not closed"),
            ("{.a[}", "a [ is not closed in `.a[`"),
            ("{.a[b]}", "`[b]` is not understood; a name in brackets is quoted: ['b']"),
            ("{.a...b}", "`.a...b` has an empty step"),
            ("{.a[?(@.x=~\"y\")]}", "regular expressions (`=~`) are not part of JSONPath filters"),
            ("{.a[?(@.x==1 && @.y==2)]}", "a filter has one comparison; `&&` and `||` are not understood"),
            ("{.a[?@.x==1]}", "a filter is written `[?(@.field==\"text\")]`"),
            ("{range .a}", "a {range …} has no {end}"),
            ("{end}", "an {end} without a {range …}"),
            ("{range}{end}", "{range} wants a path, `{range .items[*]}` say"),
            ("{.a[::0]}", "a slice cannot go on by 0"),
        ] {
            assert_eq!(bad.parse::<JsonPath>(), Err(why.to_owned()), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\].*@$?()'\"\\\\=<>!,:a-c0-2 -]{0,24}") {
            if let Ok(path) = text.parse::<JsonPath>() {
                path.print(&object());
            }
        }
    }
}
