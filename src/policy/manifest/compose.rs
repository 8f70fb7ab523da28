//! Parser events to a tree of nodes with places. Bounded in depth and size, so that no input can exhaust memory.

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::{
    Fault, Place,
    scalar::{self, LeadingZero},
};
use crate::api::FieldPath;

/// Deeper trees are refused; the server's JSON reader has a limit of 128.
const MAX_DEPTH: usize = 100;
/// Larger documents are refused, aliases counted as often as they are used.
const MAX_NODES: usize = 500_000;

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) shape: Shape,
}

#[derive(Clone, Debug)]
pub(super) enum Shape {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

/// Every document of a text. After a syntax error, reading goes on at the next line that begins with `---`.
pub(super) fn all(text: &str, zero: LeadingZero, faults: &mut Vec<Fault>) -> Vec<Node> {
    let mut roots = Vec::new();
    let mut skipped = 0;
    let mut rest = text;
    loop {
        let mut composer = Composer::new(rest, skipped, zero, faults);
        let Err(stopped) = composer.documents(&mut roots) else { return roots };
        let place = stopped.place;
        faults.push(stopped);
        let Some(next) = next_document(text, place.line.max(skipped + 1)) else { return roots };
        skipped = next;
        let start: usize = text.split_inclusive('\n').take(next).map(str::len).sum();
        rest = &text[start..];
    }
}

/// How many lines come before the first document marker below line `after` (from 1).
fn next_document(text: &str, after: usize) -> Option<usize> {
    let marker = |line: &str| {
        line.strip_prefix("---").is_some_and(|tail| tail.is_empty() || tail.starts_with([' ', '\t', '\r']))
    };
    text.lines().enumerate().skip(after).find(|(_, line)| marker(line)).map(|(index, _)| index)
}

struct Composer<'t, 'f> {
    parser: Parser<'t, serde_saphyr::granit_parser::StrInput<'t>>,
    skipped: usize,
    zero: LeadingZero,
    faults: &'f mut Vec<Fault>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    last: Place,
}

impl<'t, 'f> Composer<'t, 'f> {
    fn new(text: &'t str, skipped: usize, zero: LeadingZero, faults: &'f mut Vec<Fault>) -> Self {
        let last = Place { line: skipped + 1, column: 1 };
        Self { parser: Parser::new_from_str(text), skipped, zero, faults, anchors: HashMap::new(), nodes: 0, last }
    }

    /// Composes documents until the stream ends or cannot be read any further.
    fn documents(&mut self, roots: &mut Vec<Node>) -> Result<(), Fault> {
        while let Some((event, _)) = self.next()? {
            match event {
                Event::DocumentStart(..) => {
                    self.anchors.clear();
                    self.nodes = 0;
                    let (event, place) = self.expect()?;
                    let root = self.node(event, place, &FieldPath::root(), 0)?;
                    roots.push(root);
                }
                Event::StreamEnd => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Place)>, Fault> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let place = self.place(&span.start);
                self.last = place;
                Ok(Some((event, place)))
            }
            Some(Err(error)) => Err(self.syntax(&error)),
        }
    }

    fn expect(&mut self) -> Result<(Event<'t>, Place), Fault> {
        let end = self.last;
        self.next()?.ok_or_else(|| fault(end, &FieldPath::root(), "the text ends in the middle of a document"))
    }

    fn place(&self, marker: &Marker) -> Place {
        Place { line: marker.line() + self.skipped, column: marker.col() + 1 }
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        fault(self.place(error.marker()), &FieldPath::root(), format!("not valid YAML: {}", error.info()))
    }

    fn grown(&mut self, by: usize, place: Place) -> Result<(), Fault> {
        self.nodes += by;
        if self.nodes > MAX_NODES {
            return Err(fault(place, &FieldPath::root(), "the document is too large, its aliases counted"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, place: Place, path: &FieldPath, depth: usize) -> Result<Node, Fault> {
        if depth > MAX_DEPTH {
            return Err(fault(place, path, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.grown(1, place)?;
        let (shape, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (Shape::Scalar(self.scalar(&text, style, tag.as_deref(), place, path)), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "seq", place, path);
                (self.list(path, depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "map", place, path);
                (self.map(path, depth)?, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, place, path),
            _ => return Err(fault(place, path, "a value is missing")),
        };
        let node = Node { place, shape };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, place: Place, path: &FieldPath) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(fault(place, path, "an alias may not stand inside of what it names"));
        };
        self.grown(size(&node), place)?;
        Ok(Node { place, ..node })
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place, path: &FieldPath) -> Value {
        let read = match tag {
            Some(tag) => match tag.core_suffix() {
                Some(core) => scalar::tagged(core, text, self.zero),
                None if tag.handle().is_empty() && tag.suffix() == "!" => Ok(Value::String(text.to_owned())),
                None => Err(format!("the tag `{}` has no meaning in a manifest", tag.original())),
            },
            None if style == ScalarStyle::Plain => scalar::plain(text, self.zero),
            None => Ok(Value::String(text.to_owned())),
        };
        read.unwrap_or_else(|message| {
            self.faults.push(fault(place, path, message));
            Value::String(text.to_owned())
        })
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, own: &str, place: Place, path: &FieldPath) {
        if let Some(tag) = tag.filter(|tag| tag.core_suffix() != Some(own)) {
            self.faults.push(fault(place, path, format!("the tag `{}` has no meaning in a manifest", tag.original())));
        }
    }

    fn list(&mut self, path: &FieldPath, depth: usize) -> Result<Shape, Fault> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.expect()?;
            if event == Event::SequenceEnd {
                return Ok(Shape::List(items));
            }
            items.push(self.node(event, place, &path.index(items.len()), depth + 1)?);
        }
    }

    fn map(&mut self, path: &FieldPath, depth: usize) -> Result<Shape, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        let mut seen = HashMap::new();
        loop {
            let (event, place) = self.expect()?;
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(fault(place, path, "a key must be a plain text")),
            };
            let (event, value_place) = self.expect()?;
            let value = self.node(event, value_place, &path.field(&key), depth + 1)?;
            if key == "<<" && plain {
                merged.push((place, value));
            } else if let Some(first) = seen.insert(key.clone(), place) {
                let message = format!("`{key}` is there twice; the first is at line {}", first.line);
                self.faults.push(fault(place, &path.field(&key), message));
            } else {
                entries.push(Entry { key, place, value });
            }
        }
        for (place, value) in merged {
            self.merge(&mut entries, value, place, path);
        }
        Ok(Shape::Map(entries))
    }

    /// `<<: *base` or `<<: [*a, *b]`: entries that are not there yet.
    fn merge(&mut self, entries: &mut Vec<Entry>, source: Node, place: Place, path: &FieldPath) {
        match source.shape {
            Shape::Map(more) => {
                for entry in more {
                    if entries.iter().all(|e| e.key != entry.key) {
                        entries.push(entry);
                    }
                }
            }
            Shape::List(sources) => sources.into_iter().for_each(|source| self.merge(entries, source, place, path)),
            Shape::Scalar(_) => self.faults.push(fault(place, path, "`<<` takes a mapping or a list of mappings")),
        }
    }
}

fn fault(place: Place, path: &FieldPath, message: impl Into<String>) -> Fault {
    Fault { place, path: path.clone(), message: message.into() }
}

fn size(node: &Node) -> usize {
    1 + match &node.shape {
        Shape::Scalar(_) => 0,
        Shape::List(items) => items.iter().map(size).sum(),
        Shape::Map(entries) => entries.iter().map(|entry| size(&entry.value)).sum(),
    }
}
