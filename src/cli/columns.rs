//! `-o custom-columns=NAME:.metadata.name,IMAGE:.spec.process.command[0]`: a table of one's own.

use std::str::FromStr;

use serde_json::Value;

use super::{
    jsonpath::{JsonPath, plain},
    table::Table,
};

/// Headings, and where the cells are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns(Vec<(String, JsonPath)>);

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let column = |part: &str| {
            let wrong = || format!("`{part}` is no column; write HEADING:.path, for example NAME:.metadata.name");
            let (heading, path) =
                part.split_once(':').filter(|(h, p)| !h.is_empty() && !p.is_empty()).ok_or_else(wrong)?;
            Ok((heading.trim().to_owned(), path.trim().parse()?))
        };
        split(text).into_iter().map(column).collect::<Result<_, String>>().map(Self)
    }
}

/// Cuts at commas that are not part of a path: `A:.x[0,1],B:.y`.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let outside = |c: char| {
        depth += i32::from(matches!(c, '[' | '(')) - i32::from(matches!(c, ']' | ')'));
        c == ',' && depth == 0
    };
    text.split(outside).map(str::trim).filter(|part| !part.is_empty()).collect()
}

impl Columns {
    /// A file with two lines: the headings, and below them the paths.
    pub(super) fn from_file(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty()).map(|l| l.split_whitespace().collect());
        let (headings, paths): (Vec<&str>, Vec<&str>) =
            (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if headings.is_empty() || headings.len() != paths.len() {
            let counts = format!("{} headings and {} paths", headings.len(), paths.len());
            return Err(format!(
                "a file of columns has a line of headings and a line with as many paths; this has {counts}"
            ));
        }
        let pair = |(heading, path): (&str, &str)| Ok((heading.to_owned(), path.parse()?));
        headings.into_iter().zip(paths).map(pair).collect::<Result<_, String>>().map(Self)
    }

    /// A row for each object; `<none>` where a path finds nothing, as kubectl writes it.
    pub(super) fn table(&self, objects: &[Value]) -> Table {
        let mut table = Table::new(self.0.iter().map(|(heading, _)| heading.as_str()));
        for object in objects {
            table.add(self.0.iter().map(|(_, path)| match path.find(object).as_slice() {
                [] => "<none>".to_owned(),
                found => found.iter().map(|value| plain(value)).collect::<Vec<_>>().join(","),
            }));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Screen;

    #[test]
    fn columns_are_kubectls() {
        let objects = [
            json!({"metadata": {"name": "web"}, "spec": {"args": ["a", "b"]}}),
            json!({"metadata": {"name": "a-long-name"}, "spec": {"replicas": 3}}),
        ];
        let columns: Columns =
            "NAME:.metadata.name,ARGS:{.spec.args[*]},TWO:.spec.args[0,1],N:spec.replicas".parse().expect("columns");
        insta::assert_snapshot!(columns.table(&objects).render(&Screen::plain(), true), @r"
        NAME          ARGS     TWO      N
        web           a,b      a,b      <none>
        a-long-name   <none>   <none>   3
        ");
        let file = Columns::from_file("NAME         N\n.metadata.name  .spec.replicas\n").expect("columns");
        assert_eq!(file.0.len(), 2);
        assert!(Columns::from_file("NAME N\n.metadata.name\n").is_err());
        assert!("NAME".parse::<Columns>().is_err());
        assert!(":x".parse::<Columns>().is_err());
    }
}
