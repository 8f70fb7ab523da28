//! Tables for people: columns as wide as they must be, cut with `…` where the terminal is too narrow, never where there is none.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::screen::{self, Screen};

/// Between columns.
const GAP: usize = 3;
/// No column is cut below this.
const NARROWEST: usize = 6;

/// Rows under headings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns whose words are coloured by what they say.
    judged: Vec<usize>,
}

impl Table {
    pub(super) fn new<T: Into<String>>(headings: impl IntoIterator<Item = T>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new(), judged: Vec::new() }
    }

    /// Colours the words of the columns with these headings.
    #[must_use]
    pub(super) fn judge(mut self, headings: &[&str]) -> Self {
        let at = |h: &&str| self.headings.iter().position(|known| known == h);
        self.judged = headings.iter().filter_map(at).collect();
        self
    }

    pub(super) fn add<T: AsRef<str>>(&mut self, row: impl IntoIterator<Item = T>) {
        self.rows.push(row.into_iter().map(|cell| screen::harmless(cell.as_ref())).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The widths that the table wants, grown to at least `widths`, so that rows which come later line up.
    pub(super) fn widths(&self, widths: &[usize], with_headings: bool) -> Vec<usize> {
        let headings = self.headings.iter().map(|h| if with_headings { h.width() } else { 0 });
        let mut wanted: Vec<usize> = headings.collect();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate().take(wanted.len()) {
                wanted[column] = wanted[column].max(cell.width());
            }
        }
        wanted.iter().enumerate().map(|(i, w)| *widths.get(i).unwrap_or(&0).max(w)).collect()
    }

    /// The lines, fitted to the screen.
    pub(super) fn render(&self, screen: &Screen, with_headings: bool) -> String {
        let widths = fitted(self.widths(&[], with_headings), screen.width);
        self.render_with(&widths, screen, with_headings)
    }

    /// The lines, with given widths.
    pub(super) fn render_with(&self, widths: &[usize], screen: &Screen, with_headings: bool) -> String {
        let mut text = String::new();
        if with_headings {
            text += &line(&self.headings, widths, |_, cell| screen.paint(screen::BOLD, cell));
        }
        for row in &self.rows {
            text += &line(row, widths, |column, cell| match self.judged.contains(&column) {
                true => screen.paint(screen::judge(cell), cell),
                false => cell.to_owned(),
            });
        }
        text
    }
}

/// One line; the last column is not padded.
fn line(cells: &[String], widths: &[usize], paint: impl Fn(usize, &str) -> String) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = cut(cell, *width);
        text += &paint(column, &cell);
        if column + 1 < cells.len().min(widths.len()) {
            text += &" ".repeat(width.saturating_sub(cell.width()) + GAP);
        }
    }
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
    text
}

/// At most `width` columns of `text`, `…` in place of what is missing.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used < width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Takes from the widest column until the table fits.
pub(super) fn fitted(mut widths: Vec<usize>, screen: Option<usize>) -> Vec<usize> {
    let Some(screen) = screen else { return widths };
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > screen {
        let Some(widest) = widths.iter_mut().max().filter(|w| **w > NARROWEST) else { return widths };
        *widest -= 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["NAME", "STATUS", "COMMAND"]).judge(&["STATUS"]);
        table.add(["web", "Running", "python3 -m http.server --directory /srv/some/long/path"]);
        table.add(["ünï-東京", "BackOff", "x\ty\u{1b}[31m"]);
        table
    }

    #[test]
    fn piped_tables_are_never_cut() {
        insta::assert_snapshot!(sample().render(&Screen::plain(), true), @r"
        NAME       STATUS    COMMAND
        web        Running   python3 -m http.server --directory /srv/some/long/path
        ünï-東京   BackOff   x y\u{1b}[31m
        ");
    }

    #[test]
    fn tables_fit_the_terminal() {
        let screen = Screen { colour: false, width: Some(40) };
        let text = sample().render(&screen, true);
        insta::assert_snapshot!(text, @r"
        NAME       STATUS    COMMAND
        web        Running   python3 -m http.se…
        ünï-東京   BackOff   x y\u{1b}[31m
        ");
        assert!(text.lines().all(|l| l.width() <= 40));
    }

    #[test]
    fn colour_does_not_move_columns() {
        let screen = Screen { colour: true, width: None };
        let text = sample().render(&screen, false);
        assert!(text.contains("\u{1b}[32mRunning\u{1b}[0m   python3"), "{text:?}");
    }

    proptest::proptest! {
        #[test]
        fn cut_text_fits(text in "\\PC{0,30}", width in 1_usize..20) {
            proptest::prop_assert!(cut(&text, width).width() <= width);
        }
    }
}
