//! Faults of manifests, shown where they are written: `file:line:col: field.path: message`, the line, and a caret.

use std::path::PathBuf;

use unicode_width::UnicodeWidthStr;

use crate::policy::manifest::Place;

use super::screen::{self, Screen};

/// Characters of a source line that are shown at most.
const EXCERPT: usize = 160;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Diagnostic {
    /// Which of the files, in the order in which they were given.
    pub(super) file: usize,
    pub(super) place: Place,
    /// The field; empty for the text itself.
    pub(super) path: String,
    pub(super) message: String,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub(super) name: PathBuf,
    pub(super) text: String,
}

/// Every diagnostic, sorted, once.
pub(super) fn render(mut all: Vec<Diagnostic>, files: &[SourceFile], screen: &Screen) -> Vec<String> {
    all.sort();
    all.dedup();
    all.iter().map(|one| render_one(one, &files[one.file], screen)).collect()
}

fn render_one(one: &Diagnostic, file: &SourceFile, screen: &Screen) -> String {
    let at = screen.paint(screen::BOLD, &format!("{}:{}:", file.name.display(), one.place));
    let path = if one.path.is_empty() { String::new() } else { format!("{}: ", screen::harmless(&one.path)) };
    let headline = format!("{at} {path}{}", screen::harmless(&one.message));
    let Some(source) = file.text.lines().nth(one.place.line.saturating_sub(1)) else { return headline };
    let (shown, before) = excerpt(source.trim_end(), one.place.column.saturating_sub(1));
    let number = one.place.line.to_string();
    let indent = " ".repeat(before.width());
    let (bar, caret) = (screen.paint(screen::DIM, "|"), screen.paint(screen::BAD, "^"));
    format!("{headline}\n  {number} {bar} {shown}\n  {} {bar} {indent}{caret}", " ".repeat(number.len()))
}

/// The part of a line around a column (counted from 0) that is worth showing, and what of it stands before the column.
fn excerpt(line: &str, column: usize) -> (String, String) {
    let skipped = if column < EXCERPT { 0 } else { column - EXCERPT / 2 };
    let mut rest = line.chars().skip(skipped);
    let part: Vec<char> = rest.by_ref().take(EXCERPT).collect();
    let (start, end) = (if skipped > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
    let text = |part: &[char]| screen::harmless(&part.iter().collect::<String>());
    let before = &part[..part.len().min(column - skipped)];
    (format!("{start}{}{end}", text(&part)), format!("{start}{}", text(before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_points_at_the_mistake() {
        let files = [SourceFile { name: "web.yaml".into(), text: "spec:\n  ünï: {replicas: two}\n".into() }];
        let at = |line, column, path: &str, message: &str| Diagnostic {
            file: 0,
            place: Place { line, column },
            path: path.into(),
            message: message.into(),
        };
        let all = vec![at(2, 19, "spec.ünï.replicas", "not a number"), at(1, 1, "spec", "Required value: `process`")];
        insta::assert_snapshot!(render(all, &files, &Screen::plain()).join("\n"), @r"
        web.yaml:1:1: spec: Required value: `process`
          1 | spec:
            | ^
        web.yaml:2:19: spec.ünï.replicas: not a number
          2 |   ünï: {replicas: two}
            |                   ^
        ");
    }

    #[test]
    fn of_an_endless_line_only_what_is_near_the_mistake_is_shown() {
        let (shown, before) = excerpt(&format!("{}!{}", "x".repeat(1000), "y".repeat(1_000_000)), 1000);
        assert_eq!(shown, format!("…{}!{}…", "x".repeat(80), "y".repeat(79)));
        assert_eq!(before, format!("…{}", "x".repeat(80)));
        assert_eq!(excerpt("short", 2), ("short".to_owned(), "sh".to_owned()));
        assert_eq!(excerpt("short", 9), ("short".to_owned(), "short".to_owned()));
        let (_, before) = excerpt("short", 9000);
        assert_eq!(before, "…", "a place beyond the line");
    }
}
