//! Faults of manifests, shown where they are written: `file:line:col: field.path: message`, the line, and a caret.

use std::path::PathBuf;

use unicode_width::UnicodeWidthStr;

use crate::policy::manifest::Place;

use super::screen::{self, Screen};

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
    let before: String = source.chars().take(one.place.column.saturating_sub(1)).collect();
    let number = one.place.line.to_string();
    let indent = " ".repeat(screen::harmless(&before).width());
    let (bar, caret) = (screen.paint(screen::DIM, "|"), screen.paint(screen::BAD, "^"));
    format!(
        "{headline}\n  {number} {bar} {}\n  {} {bar} {indent}{caret}",
        screen::harmless(source.trim_end()),
        " ".repeat(number.len())
    )
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
}
