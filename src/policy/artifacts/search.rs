//! Which files are meant by the lines of `path`: `out`, `out/**/*.log`, `!out/tmp`.
//!
//! As GitHub's upload action reads them: a directory means everything in it, `!` takes out again what lines before it meant, and the
//! names in the artifact begin below what the searches have in common.

/// The lines of `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// Its steps; none means everything.
    steps: Vec<String>,
    /// It takes out.
    out: bool,
}

const MARKS: [char; 3] = ['*', '?', '['];

impl Search {
    /// Reads the lines.
    ///
    /// # Errors
    /// Why a line leads nowhere.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let lines = lines.map(Line::parse).collect::<Result<Vec<_>, _>>()?;
        match lines.iter().any(|line| !line.out) {
            true => Ok(Self(lines)),
            false => Err("it names no file and no directory".to_owned()),
        }
    }

    /// Where to look, each without marks: a file, or a directory with everything below it. The empty text is the workspace.
    pub fn places(&self) -> Vec<String> {
        let mut all: Vec<Vec<String>> = self.searches().map(<[String]>::to_vec).collect();
        all.sort();
        all.dedup();
        let whole = all.clone();
        let below =
            |place: &Vec<String>| whole.iter().any(|other| other.len() < place.len() && place.starts_with(other));
        all.iter().filter(|place| !below(place)).map(|place| place.join("/")).collect()
    }

    /// Whether a file is meant.
    pub fn takes(&self, path: &str) -> bool {
        let steps: Vec<&str> = path.split('/').collect();
        let meant = self.0.iter().rfind(|line| line.means(&steps));
        meant.is_some_and(|line| !line.out)
    }

    /// What the searches have in common: names in the artifact begin below it. If that is a file, its directory.
    pub fn base(&self, is_file: impl FnOnce(&str) -> bool) -> String {
        let mut searches = self.searches();
        let first = searches.next().unwrap_or_default();
        let common = searches.fold(first, |common, next| {
            let same = common.iter().zip(next).take_while(|(a, b)| a == b).count();
            &common[..same]
        });
        let base = common.join("/");
        match is_file(&base) {
            true => common[..common.len().saturating_sub(1)].join("/"),
            false => base,
        }
    }

    fn searches(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().filter(|line| !line.out).map(|line| {
            let plain = line.steps.iter().take_while(|step| !step.contains(MARKS)).count();
            &line.steps[..plain]
        })
    }
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let (out, text) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, line),
        };
        if text.starts_with(['/', '~']) {
            return Err(format!("`{text}` is to be said from the workspace on"));
        }
        let steps: Vec<String> = text.split('/').filter(|step| !matches!(*step, "" | ".")).map(str::to_owned).collect();
        if steps.iter().any(|step| step == "..") || text.contains('\0') {
            return Err(format!("`{text}` leads out of the workspace"));
        }
        Ok(Self { steps, out })
    }

    /// Whether it means this path, or a directory above it.
    fn means(&self, path: &[&str]) -> bool {
        self.steps.is_empty() || (1..=path.len()).any(|length| steps_match(&self.steps, &path[..length]))
    }
}

fn steps_match(pattern: &[String], path: &[&str]) -> bool {
    // Where to go on when what follows the last `**` does not match: one step of the path further.
    let (mut p, mut at, mut again) = (0, 0, None);
    loop {
        match pattern.get(p) {
            Some(step) if step == "**" => {
                again = Some((p + 1, at));
                p += 1;
            }
            Some(step) if at < path.len() && matches_name(step, path[at]) => (p, at) = (p + 1, at + 1),
            None if at == path.len() => return true,
            _ => match again {
                Some((after, from)) if from < path.len() => {
                    again = Some((after, from + 1));
                    (p, at) = (after, from + 1);
                }
                _ => return false,
            },
        }
    }
}

/// Whether a name is one of those that `*`, `?` and `[…]` stand for.
pub fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut at, mut again) = (0, 0, None);
    loop {
        match pattern.get(p) {
            Some('*') => {
                again = Some((p + 1, at));
                p += 1;
                continue;
            }
            None if at == name.len() => return true,
            Some(_) if at < name.len() => {
                if let Some(length) = one(&pattern[p..], name[at]) {
                    (p, at) = (p + length, at + 1);
                    continue;
                }
            }
            _ => {}
        }
        match again {
            Some((after, from)) if from < name.len() => {
                again = Some((after, from + 1));
                (p, at) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many letters of the pattern stand for this one; nothing if they do not.
fn one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern[0] {
        '?' => Some(1),
        '[' => match pattern.iter().skip(2).position(|c| *c == ']').map(|at| at + 2) {
            Some(end) => among(&pattern[1..end], letter).then_some(end + 1),
            None => (letter == '[').then_some(1),
        },
        own => (own == letter).then_some(1),
    }
}

/// Whether a letter is one of `abc`, `a-z`, `!a-z`.
fn among(class: &[char], letter: char) -> bool {
    let (not, class) = match class {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut rest = class;
    let mut found = false;
    while let [first, after @ ..] = rest {
        match after {
            ['-', last, more @ ..] => {
                found |= (*first..=*last).contains(&letter);
                rest = more;
            }
            _ => {
                found |= *first == letter;
                rest = after;
            }
        }
    }
    found != not
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_mean_the_files_that_github_means_by_them() {
        for (lines, path, meant) in [
            ("out", "out/a/b.txt", true),
            ("out/", "out", true),
            ("out", "outer/a", false),
            ("./out//a.txt", "out/a.txt", true),
            (".", "any/thing", true),
            ("out/*.log", "out/a.log", true),
            ("out/*.log", "out/b/a.log", false),
            ("out/**/*.log", "out/a.log", true),
            ("out/**/*.log", "out/b/c/a.log", true),
            ("out/**/*.log", "out/b/c/a.txt", false),
            ("**", "x", true),
            ("**/b/*", "a/b/b/c", true),
            ("o?t/[a-c]*", "out/big", true),
            ("o?t/[!a-c]*", "out/big", false),
            ("a[b", "a[b", true),
            ("*", "dir/below/it", true),
            ("out\n!out/tmp", "out/tmp/x", false),
            ("out\n!out/tmp\nout/tmp/keep", "out/tmp/keep", true),
            ("!out\nout", "out/x", true),
        ] {
            assert_eq!(Search::parse(lines).unwrap().takes(path), meant, "{lines:?} {path}");
        }
    }

    #[test]
    fn no_line_leads_out_of_the_workspace() {
        for (lines, words) in [
            ("/etc/passwd", "`/etc/passwd` is to be said from the workspace on"),
            ("~/x", "`~/x` is to be said from the workspace on"),
            ("a/../../b", "`a/../../b` leads out of the workspace"),
            ("!../x\na", "`../x` leads out of the workspace"),
            ("", "it names no file and no directory"),
            ("!a", "it names no file and no directory"),
        ] {
            assert_eq!(Search::parse(lines).unwrap_err(), words);
        }
    }

    #[test]
    fn names_begin_below_what_the_searches_have_in_common() {
        let found = |lines: &str, file: &str| {
            let search = Search::parse(lines).unwrap();
            (search.places().join(" "), search.base(|path| path == file))
        };
        let told = |places: &str, base: &str| (places.to_owned(), base.to_owned());
        assert_eq!(found("out/a.txt", "out/a.txt"), told("out/a.txt", "out"));
        assert_eq!(found("out", ""), told("out", "out"));
        assert_eq!(found("out/**/*.log", ""), told("out", "out"));
        assert_eq!(found("out/a/*.x\nout/b\n!out/b/c", ""), told("out/a out/b", "out"));
        assert_eq!(found("a\nb", ""), told("a b", ""));
        assert_eq!(found("a\na/b", ""), told("a", "a"));
        assert_eq!(found("*.x", ""), told("", ""));
    }

    proptest! {
        #[test]
        fn whatever_is_searched_for_ends(pattern in "[a*?\\[\\]!/-]{0,40}", path in "[a/-]{0,60}") {
            if let Ok(search) = Search::parse(&pattern) {
                search.takes(&path);
            }
        }

        #[test]
        fn a_plain_path_means_itself(path in "[a-z]{1,5}(/[a-z]{1,5}){0,4}") {
            prop_assert!(Search::parse(&path).unwrap().takes(&path));
        }
    }
}
