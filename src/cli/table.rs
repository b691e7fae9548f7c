//! Tables for a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};

/// What a cell shows where there is nothing to show.
pub const NONE: &str = "-";

/// How wide and high the terminal is that standard output goes to; none where it goes elsewhere.
pub fn terminal() -> Option<(usize, usize)> {
    let size = stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(stdout()).ok()).flatten()?;
    // A terminal that does not know its size says 0.
    let known = |cells: u16, otherwise: usize| if cells == 0 { otherwise } else { usize::from(cells) };
    Some((known(size.ws_col, 80), known(size.ws_row, 24)))
}

/// A text from elsewhere as a terminal may get it: nothing in it moves the cursor or turns the direction of the line.
pub fn plain(text: &str) -> String {
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if odd(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

/// Columns under their heads. Heads that end in `>` stand to the right, as numbers do.
#[derive(Debug)]
pub struct Table<const N: usize> {
    heads: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub fn new(heads: [&'static str; N]) -> Self {
        Self { heads, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)));
    }

    /// The table as text, each line cut to `width`.
    pub fn render(&self, width: Option<usize>) -> String {
        let heads = self.heads.map(|head| head.trim_end_matches('>').to_owned());
        let mut widths = [0; N];
        for cells in self.rows.iter().chain([&heads]) {
            for (column, cell) in cells.iter().enumerate() {
                widths[column] = widths[column].max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for cells in [&heads].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                let width = widths[column];
                let _ = match self.heads[column].ends_with('>') {
                    true => write!(line, "{gap}{cell:>width$}"),
                    false => write!(line, "{gap}{cell:<width$}"),
                };
            }
            text.push_str(&cut(line.trim_end(), width));
            text.push('\n');
        }
        text
    }
}

/// A line that fits, with `…` where something is missing.
pub fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            let mut short: String = line.chars().take(width.saturating_sub(1)).collect();
            short.push('…');
            short
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_fit() {
        let mut table = Table::new(["ID", "FPS>", "ERROR"]);
        table.row(["gate".into(), "25.0".into(), "-".into()]);
        table.row(["a".into(), "1".into(), "the camera refused\nthe password".into()]);
        assert_eq!(
            table.render(None),
            "ID     FPS  ERROR\ngate  25.0  -\na        1  the camera refused\\nthe password\n"
        );
        assert_eq!(table.render(Some(16)), "ID     FPS  ERR…\ngate  25.0  -\na        1  the…\n");
    }

    #[test]
    fn nothing_odd_reaches_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c é"), "a\\u{1b}[2Jb\\u{202e}c é");
    }
}
