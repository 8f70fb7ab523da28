//! The house rules that no compiler knows: layers, module heads, sizes, reasons for lifted lints, files that must be
//! there and be current.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and may speak")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers of `src/`, lowest first. A module uses modules of lower layers, and of its own.
const LAYERS: &[&[&str]] = &[
    &["api"],
    &["policy"],
    &["clock", "client", "store", "drivers", "keeper", "logger"],
    &["runtime", "admission", "auth", "audit", "broker"],
    &["controllers", "agent"],
    &["server", "appmesh", "exchange"],
    &["daemon"],
    &["cli"],
    &["lib", "main"],
];

/// Uses of a higher layer that are right, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// What the CLI may use: it talks to the API like anyone else.
const CLI_USES: &[&str] =
    &["api", "appmesh", "audit", "policy", "client", "clock", "daemon", "exchange", "keeper", "logger"];

/// Lines above which a file is reported, and above which the test fails.
const LONG: usize = 600;
const TOO_LONG: usize = 800;

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The module directly under `src/`.
    fn module(&self) -> String {
        let inside = self.path.strip_prefix(root().join("src")).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        first.trim_end_matches(".rs").to_owned()
    }

    fn shown(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(directory), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(Source { text: fs::read_to_string(&path).unwrap(), path });
        }
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Fails with all that is wrong at once.
fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The modules of this crate that a line of code names: `crate::x`, and each of `crate::{x::…, y}` at its top level.
fn crate_uses(text: &str) -> Vec<String> {
    let mut uses = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => uses.extend(top_level_names(group)),
            None => uses.push(first_word(rest)),
        }
    }
    uses
}

fn top_level_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && !c.is_whitespace() => {
                names.push(first_word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The text without comments' text, so that a sentence about a module is no use of it.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.find("//").map_or(line, |at| &line[..at])).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_use_of_another_module_points_downward() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let module = source.module();
        let Some(own) = layer(&module) else {
            wrong.push(format!("{}: `{module}` stands in no layer of tests/tidy.rs", source.shown()));
            continue;
        };
        for used in crate_uses(&without_comments(&source.text)) {
            let excepted = EXCEPTIONS.iter().any(|(file, name, _)| source.shown() == *file && used == *name);
            let allowed = match (module.as_str(), layer(&used)) {
                // A macro or an item of the crate's root.
                (_, None) => true,
                ("cli", Some(_)) if used != "cli" => CLI_USES.contains(&used.as_str()),
                (_, Some(other)) => used == module || other < own || (other == own && own > 0),
            };
            if !allowed && !excepted {
                wrong.push(format!("{}: `{module}` must not use `{used}`", source.shown()));
            }
        }
    }
    report(&wrong);
}

#[test]
fn every_module_says_what_it_is() {
    let silent = |s: &Source| !s.text.trim_start().starts_with("//!");
    let wrong: Vec<_> = ["src", "tests", "benches"]
        .iter()
        .filter(|directory| root().join(directory).is_dir())
        .flat_map(|directory| sources(directory))
        .filter(silent)
        .map(|s| format!("{}: no `//!` head", s.shown()))
        .collect();
    report(&wrong);
}

#[test]
fn no_file_holds_more_than_a_reader_can() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let lines = source.text.lines().count();
        if lines > LONG {
            eprintln!("{}: {lines} lines; look for the two ideas in it", source.shown());
        }
        if lines > TOO_LONG {
            wrong.push(format!("{}: {lines} lines, over {TOO_LONG}", source.shown()));
        }
    }
    report(&wrong);
}

#[test]
fn every_lifted_lint_has_its_reason() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        let text = without_comments(&source.text);
        for (at, _) in text.match_indices("[allow(") {
            let end = text[at..].find(")]").map_or(text.len(), |e| at + e);
            if !text[..at].ends_with(['#', '!']) || text[at..end].contains("reason = ") {
                continue;
            }
            let line = text[..at].lines().count();
            wrong.push(format!("{}:{line}: an `allow` without a `reason`", source.shown()));
        }
    }
    report(&wrong);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        for (n, line) in source.text.lines().enumerate() {
            let code = line.find("//").map_or(line, |at| &line[..at]);
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            let above: Vec<_> = source.text.lines().take(n + 1).collect();
            if !above.iter().rev().take(8).any(|l| l.contains("SAFETY:")) {
                wrong.push(format!("{}:{}: `unsafe` without a SAFETY comment", source.shown(), n + 1));
            }
        }
    }
    report(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X:"].concat()];
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (n, line) in source.text.lines().enumerate() {
            if words.iter().any(|w| line.contains(w.as_str())) {
                wrong.push(format!("{}:{}: {}", source.shown(), n + 1, line.trim()));
            }
        }
    }
    report(&wrong);
}

#[test]
fn the_files_that_everybody_looks_for_are_there() {
    let wanted = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE",
        "Cargo.lock",
        "deny.toml",
        ".ci/run",
        "tests/run",
        "bench/supervise",
        "bench/soak",
        "manifests/quickstart",
        "openapi/appm.json",
        "schemas",
        "migrations",
    ];
    report(&wanted.iter().filter(|p| !root().join(p).exists()).map(|p| format!("{p} is missing")).collect::<Vec<_>>());
}

#[test]
fn the_files_that_the_readme_runs_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut wrong = Vec::new();
    for word in readme.split(|c: char| c.is_whitespace() || "`()[]\"'".contains(c)) {
        let word = word.trim_end_matches(['.', ',', ':', ';']).trim_start_matches("./");
        let ours = ["manifests/", "bench/", "tests/", "docs/", "schemas/", "openapi/", ".ci/"];
        if ours.iter().any(|p| word.starts_with(p)) && !word.contains(['*', '<', '…']) && !root().join(word).exists()
        {
            wrong.push(format!("README.md names {word}, which does not exist"));
        }
    }
    report(&wrong);
}

#[test]
fn every_class_of_holes_has_tests_and_they_are_there() {
    let tests: String =
        ["src", "tests", "fuzz"].iter().flat_map(|dir| sources(dir)).map(|source| source.text).collect();
    let text = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let table = text.split("## Classes of holes").nth(1).unwrap();
    let mut wrong = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let names: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        if names.is_empty() && !cells[2].contains("come with") {
            wrong.push(format!("`{}` has no test", cells[0]));
        }
        let absent = names.iter().filter(|name| !tests.contains(&format!("fn {name}(")));
        wrong.extend(absent.map(|name| format!("`{}`: there is no test `{name}`", cells[0])));
    }
    report(&wrong);
}
