//! A grid of short texts for a terminal: named rows and columns, cut into blocks of columns that fit the width.
//!
//! Always: no line is wider than the terminal, but for a single column that is; cells are right-aligned under their
//! heading; labels were made visible by the caller. The grid of likeliest tokens is in `table.rs`.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use crate::text::visible::fit;

/// Columns of text between cells.
const GAP: usize = 2;

/// Rows and columns with their headings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grid {
    /// Above the row labels.
    pub corner: String,
    /// Labels.
    pub rows: Vec<String>,
    /// Headings.
    pub columns: Vec<String>,
    /// `[row][column]`
    pub cells: Vec<Vec<String>>,
}

impl Grid {
    /// A grid without rows yet.
    pub fn new<C: Into<String>>(corner: &str, columns: impl IntoIterator<Item = C>) -> Self {
        Self {
            corner: corner.to_owned(),
            columns: columns.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds a row; cells beyond the last column are not shown.
    pub fn row(&mut self, label: impl Into<String>, cells: Vec<String>) {
        self.rows.push(label.into());
        self.cells.push(cells);
    }

    /// Lines of at most `width` columns.
    pub fn draw(&self, width: usize) -> String {
        let widest = |texts: &mut dyn Iterator<Item = &String>| {
            texts.map(|text| text.width()).max().unwrap_or(0)
        };
        let head = widest(&mut self.rows.iter().chain([&self.corner]));
        let column = |c: usize| {
            let cells = self.cells.iter().filter_map(|row| row.get(c));
            widest(&mut cells.chain([&self.columns[c]]))
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(column).collect();
        let mut out = String::new();
        let mut from = 0;
        while from < widths.len() {
            let mut to = from + 1;
            let mut used = head + GAP + widths[from];
            while to < widths.len() && used + GAP + widths[to] <= width {
                used += GAP + widths[to];
                to += 1;
            }
            if from > 0 {
                out.push('\n');
            }
            let mut line = |label: &str, cells: &[String]| {
                let mut text = fit(label, head);
                for (c, width) in widths.iter().enumerate().take(to).skip(from) {
                    let cell = cells.get(c).map_or("", String::as_str);
                    let fill = (GAP + width).saturating_sub(cell.width());
                    let _ = write!(text, "{}{cell}", " ".repeat(fill));
                }
                out.push_str(text.trim_end());
                out.push('\n');
            };
            line(&self.corner, &self.columns);
            for (label, cells) in self.rows.iter().zip(&self.cells) {
                line(label, cells);
            }
            from = to;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new("layer", ["0:a", "1:東京", "2:b"]);
        grid.row("embed", vec!["1.0".into(), "2.0".into(), "300.0".into()]);
        grid.row("0", vec!["1.5".into(), "2.5".into(), "3.5".into()]);
        grid
    }

    #[test]
    fn cells_stand_under_their_headings() {
        let text =
            "layer  0:a  1:東京    2:b\nembed  1.0     2.0  300.0\n0      1.5     2.5    3.5\n";
        assert_eq!(grid().draw(80), text);
    }

    #[test]
    fn what_does_not_fit_goes_below_and_nothing_is_lost() {
        for width in 12..30 {
            let text = grid().draw(width);
            for line in text.lines() {
                assert!(line.width() <= width.max(13), "{width}: {line}");
            }
            assert_eq!(text.matches("300.0").count(), 1);
        }
        assert_eq!(grid().draw(20).matches("layer").count(), 2);
    }
}
