//! The lower part of the terminal, painted over and over, with lines that stay scrolling by above it.

use std::io::{self, IsTerminal, Write};

use crossterm::{
    cursor::MoveUp,
    queue,
    terminal::{self, Clear, ClearType},
};

/// Where things are shown.
pub(in crate::cli) enum Canvas {
    /// A terminal: how many lines of it are painted at present.
    Terminal {
        /// Lines of the present picture.
        painted: u16,
    },
    /// A pipe or a file: lines only.
    Lines,
}

impl Canvas {
    pub(in crate::cli) fn new() -> Self {
        if io::stdout().is_terminal() { Canvas::Terminal { painted: 0 } } else { Canvas::Lines }
    }

    pub(in crate::cli) fn is_terminal(&self) -> bool {
        matches!(self, Canvas::Terminal { .. })
    }

    /// How many lines there are to paint on.
    pub(in crate::cli) fn height() -> usize {
        terminal::size().map_or(24, |(_, rows)| usize::from(rows)).max(5)
    }

    /// How many columns there are; `None` if nobody knows.
    pub(in crate::cli) fn width() -> Option<usize> {
        terminal::size().ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
    }

    /// Takes the picture away.
    pub(in crate::cli) fn wipe(&mut self) -> io::Result<()> {
        let Canvas::Terminal { painted } = self else { return Ok(()) };
        if *painted == 0 {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        queue!(out, MoveUp(*painted), Clear(ClearType::FromCursorDown))?;
        *painted = 0;
        out.flush()
    }

    /// Paints a picture in place of the one before.
    pub(in crate::cli) fn paint(&mut self, picture: &str) -> io::Result<()> {
        self.wipe()?;
        let Canvas::Terminal { painted } = self else { return Ok(()) };
        let mut out = io::stdout().lock();
        out.write_all(picture.as_bytes())?;
        *painted = u16::try_from(picture.lines().count()).unwrap_or(u16::MAX);
        out.flush()
    }

    /// A line that stays. The picture is gone until it is painted again.
    pub(in crate::cli) fn line(&mut self, text: &str) -> io::Result<()> {
        self.wipe()?;
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }
}
