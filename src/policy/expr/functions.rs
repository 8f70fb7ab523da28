//! The functions, and what each makes of its arguments.

use std::sync::Arc;

use super::eval::Evaluation;
use super::parse::Node;
use super::value::{Kind, Value, fold, quote};
use super::{Fault, number};

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Function {
    /// `case(if, then, …, otherwise)`.
    Case,
    /// `contains(where, what)`.
    Contains,
    /// `endsWith(text, end)`.
    EndsWith,
    /// `format('{0}', …)`.
    Format,
    /// `fromJSON(text)`.
    FromJson,
    /// `hashFiles(pattern, …)`.
    HashFiles,
    /// `join(array, between)`.
    Join,
    /// `startsWith(text, begin)`.
    StartsWith,
    /// `toJSON(value)`.
    ToJson,
    /// How what came before has ended.
    Status(Status),
}

/// The functions that ask how what came before has ended. An `if` without one holds only where `success()` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Nothing has failed, and nobody has cancelled.
    Success,
    /// Something has failed.
    Failure,
    /// The run is being cancelled.
    Cancelled,
    /// In any case.
    Always,
}

const MOST: usize = 255;

const FUNCTIONS: [(&str, Function, usize, usize); 13] = [
    ("case", Function::Case, 3, MOST),
    ("contains", Function::Contains, 2, 2),
    ("endsWith", Function::EndsWith, 2, 2),
    ("format", Function::Format, 1, MOST),
    ("fromJSON", Function::FromJson, 1, 1),
    ("hashFiles", Function::HashFiles, 1, MOST),
    ("join", Function::Join, 1, 2),
    ("startsWith", Function::StartsWith, 2, 2),
    ("toJSON", Function::ToJson, 1, 1),
    ("success", Function::Status(Status::Success), 0, MOST),
    ("failure", Function::Status(Status::Failure), 0, MOST),
    ("cancelled", Function::Status(Status::Cancelled), 0, 0),
    ("always", Function::Status(Status::Always), 0, 0),
];

impl Function {
    /// Its name, as documents write it.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> &'static (&'static str, Function, usize, usize) {
        FUNCTIONS.iter().find(|(_, function, ..)| *function == self).expect("all functions are listed")
    }

    /// The function of this name, in whatever case, or why there is none.
    pub(super) fn of(name: &str) -> Result<Function, String> {
        if let Some((_, function, ..)) = FUNCTIONS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)) {
            return Ok(*function);
        }
        let folded = name.to_ascii_lowercase();
        let distance = |known: &str| strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &folded);
        let close = FUNCTIONS.iter().map(|(known, ..)| (distance(known), known)).min();
        match close.filter(|(distance, _)| *distance <= 2) {
            Some((_, meant)) => Err(format!("there is no function `{name}`; did you mean `{meant}`?")),
            None => Err(format!("there is no function `{name}`")),
        }
    }

    /// What its value always is, where that is one thing.
    pub(super) fn kind(self) -> Option<Kind> {
        match self {
            Function::Case | Function::FromJson => None,
            Function::Contains | Function::StartsWith | Function::EndsWith | Function::Status(_) => Some(Kind::Bool),
            Function::Format | Function::Join | Function::ToJson | Function::HashFiles => Some(Kind::String),
        }
    }

    pub(super) fn takes(self, count: usize) -> Result<(), String> {
        let (name, _, least, most) = self.row();
        let arguments = |n: usize| if n == 1 { "1 argument".into() } else { format!("{n} arguments") };
        if count < *least {
            return Err(format!("`{name}` takes at least {}, not {count}", arguments(*least)));
        }
        if count > *most {
            return Err(format!("`{name}` takes at most {}, not {count}", arguments(*most)));
        }
        if self == Function::Case && count.is_multiple_of(2) {
            return Err("`case` takes pairs of a condition and a value, and one value for otherwise".into());
        }
        Ok(())
    }
}

impl Evaluation<'_> {
    /// A call's value. Arguments that the outcome does not hang on are not looked at.
    pub(super) fn call(&mut self, at: &Node, function: Function, arguments: &[Node]) -> Result<Value, Fault> {
        match function {
            Function::Case => self.case(arguments),
            Function::Contains => self.contains(arguments),
            Function::StartsWith => self.compare_ends(arguments, |text, part| text.starts_with(part)),
            Function::EndsWith => self.compare_ends(arguments, |text, part| text.ends_with(part)),
            Function::Format => self.format(at, arguments),
            Function::Join => self.join(arguments),
            Function::ToJson => {
                let value = self.value(&arguments[0])?;
                let mut written = String::new();
                self.write_json(&value, 0, &mut written)?;
                Ok(written.into())
            }
            Function::FromJson => {
                let text = self.value(&arguments[0])?.to_text();
                self.make(text.len())?;
                let json: serde_json::Value = serde_json::from_str(&text)
                    .map_err(|error| self.fault(format!("what `fromJSON` was given is not JSON: {error}")))?;
                Ok(json.into())
            }
            Function::HashFiles => {
                let patterns = self.texts(arguments)?;
                let hash = self.scope.hash_files(&patterns).map_err(|message| self.fault(message))?;
                Ok(hash.into())
            }
            Function::Status(which) => {
                let jobs = self.texts(arguments)?;
                match self.scope.status(which, &jobs) {
                    Some(holds) => Ok(holds.into()),
                    None => Err(self.fault(format!("`{}` cannot be asked here", function.name()))),
                }
            }
        }
    }

    fn texts(&mut self, arguments: &[Node]) -> Result<Vec<Arc<str>>, Fault> {
        arguments.iter().map(|argument| Ok(self.value(argument)?.to_text())).collect()
    }

    fn case(&mut self, arguments: &[Node]) -> Result<Value, Fault> {
        let (otherwise, pairs) = arguments.split_last().expect("counted when it was read");
        for pair in pairs.chunks_exact(2) {
            match self.value(&pair[0])? {
                Value::Bool(true) => return self.value(&pair[1]),
                Value::Bool(false) => {}
                other => {
                    let kind = other.kind().name();
                    return Err(self.fault(format!("a condition of `case` is a boolean, and this is of kind {kind}")));
                }
            }
        }
        self.value(otherwise)
    }

    fn contains(&mut self, arguments: &[Node]) -> Result<Value, Fault> {
        let (place, what) = (self.value(&arguments[0])?, &arguments[1]);
        let holds = match &place {
            Value::Object(_) => false,
            Value::Array(array) if array.items().is_empty() => false,
            Value::Array(array) => {
                let what = self.value(what)?;
                let mut found = false;
                for item in array.items() {
                    self.equality(&what, item)?;
                    found = what.equals(item);
                    if found {
                        break;
                    }
                }
                found
            }
            _ => {
                let what = self.value(what)?;
                let (text, part) = (place.to_text(), what.to_text());
                self.look(text.len() + part.len())?;
                what.is_primitive() && fold(&text).contains(&*fold(&part))
            }
        };
        Ok(holds.into())
    }

    fn compare_ends(&mut self, arguments: &[Node], holds: impl Fn(&str, &str) -> bool) -> Result<Value, Fault> {
        let text = self.value(&arguments[0])?;
        if !text.is_primitive() {
            return Ok(false.into());
        }
        let part = self.value(&arguments[1])?;
        let (whole, end) = (text.to_text(), part.to_text());
        self.look(whole.len() + end.len())?;
        Ok((part.is_primitive() && holds(&fold(&whole), &fold(&end))).into())
    }

    fn join(&mut self, arguments: &[Node]) -> Result<Value, Fault> {
        let array = match self.value(&arguments[0])? {
            Value::Array(array) => array,
            Value::Object(_) => return Ok("".into()),
            primitive => return Ok(Value::String(primitive.to_text())),
        };
        let mut between: Arc<str> = ",".into();
        if let (Some(argument), [_, _, ..]) = (arguments.get(1), array.items()) {
            let value = self.value(argument)?;
            if value.is_primitive() {
                between = value.to_text();
            }
        }
        let mut joined = String::new();
        for (at, item) in array.items().iter().enumerate() {
            if at > 0 {
                self.add(&mut joined, &between)?;
            }
            self.add(&mut joined, &item.to_text())?;
        }
        Ok(joined.into())
    }

    fn format(&mut self, at: &Node, arguments: &[Node]) -> Result<Value, Fault> {
        let format = self.value(&arguments[0])?.to_text();
        let pieces = pieces(&format).map_err(|message| self.fault_at(at, message))?;
        let mut values: Vec<Option<Arc<str>>> = vec![None; arguments.len() - 1];
        let absent = |piece: &Piece<'_>| matches!(piece, Piece::Argument(n) if *n >= values.len());
        if let Some(Piece::Argument(n)) = pieces.iter().find(|piece| absent(piece)) {
            let message = format!("`format` has no argument for `{{{n}}}` of '{}'", super::shorten(&format));
            return Err(self.fault_at(at, message));
        }
        let mut made = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.add(&mut made, text)?,
                Piece::Argument(n) => {
                    let text = match &values[n] {
                        Some(text) => text.clone(),
                        None => self.value(&arguments[n + 1])?.to_text(),
                    };
                    self.add(&mut made, &text)?;
                    values[n] = Some(text);
                }
            }
        }
        Ok(made.into())
    }

    /// A value as JSON, in two spaces' steps.
    fn write_json(&mut self, value: &Value, level: usize, into: &mut String) -> Result<(), Fault> {
        let before = into.len();
        match value {
            Value::Null => into.push_str("null"),
            Value::Bool(value) => into.push_str(if *value { "true" } else { "false" }),
            Value::Number(value) => into.push_str(&number::text(*value)),
            Value::String(text) => quote(text, into),
            Value::Array(array) if array.items().is_empty() => into.push_str("[]"),
            Value::Object(object) if object.len() == 0 => into.push_str("{}"),
            Value::Array(array) => {
                into.push('[');
                for (at, item) in array.items().iter().enumerate() {
                    self.line(at > 0, level + 1, into)?;
                    self.write_json(item, level + 1, into)?;
                }
                self.line(false, level, into)?;
                into.push(']');
                return Ok(());
            }
            Value::Object(object) => {
                into.push('{');
                for (at, (key, item)) in object.entries().enumerate() {
                    self.line(at > 0, level + 1, into)?;
                    quote(key, into);
                    into.push_str(": ");
                    self.make(key.len())?;
                    self.write_json(item, level + 1, into)?;
                }
                self.line(false, level, into)?;
                into.push('}');
                return Ok(());
            }
        }
        self.make(into.len() - before)
    }

    fn line(&mut self, follows: bool, level: usize, into: &mut String) -> Result<(), Fault> {
        into.push_str(if follows { ",\n" } else { "\n" });
        into.extend(std::iter::repeat_n("  ", level));
        self.make(4 + 2 * level)
    }

    /// What a comparison of these two costs.
    pub(super) fn equality(&mut self, left: &Value, right: &Value) -> Result<(), Fault> {
        match (left, right) {
            (Value::String(left), Value::String(right)) => self.look(left.len().min(right.len())),
            (Value::String(text), _) | (_, Value::String(text)) => self.look(text.len()),
            _ => self.look(0),
        }
    }
}

/// What a format is made of.
#[derive(Debug)]
enum Piece<'a> {
    Text(&'a str),
    Argument(usize),
}

/// `{0}` is an argument, `{{` and `}}` are braces.
fn pieces(format: &str) -> Result<Vec<Piece<'_>>, String> {
    let invalid = || format!("'{}' is not a format: braces are written `{{{{` and `}}}}`", super::shorten(format));
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, braced) = rest.split_at(at);
        if braced.starts_with("{{") || braced.starts_with("}}") {
            pieces.push(Piece::Text(&rest[..=at]));
            rest = &braced[2..];
            continue;
        }
        let end = braced.find('}').filter(|end| *end > 1).ok_or_else(invalid)?;
        let number = &braced[1..end];
        let number = number.strip_suffix(':').unwrap_or(number);
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let argument = number.parse::<u8>().ok().filter(|_| is_number).ok_or_else(invalid)?;
        pieces.push(Piece::Text(text));
        pieces.push(Piece::Argument(argument.into()));
        rest = &braced[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}
