//! A field on the screen: which lines are shown, how far the cursor's line is moved, where a click puts the cursor.
//!
//! Always: the cursor is shown wherever it is; what cannot be seen in the text is made visible, cell for cell; nothing is
//! remembered between two drawings, so a field looks the same after any way to the same text and cursor.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use unicode_segmentation::UnicodeSegmentation;

use super::super::cells::{prose, put, visible, width};
use super::super::theme::Theme;
use super::Field;

/// A line that is shown: its bytes, and the byte from which it is drawn.
struct Shown {
    start: usize,
    end: usize,
    from: usize,
}

impl Field {
    /// Draws the field; with `focus` the cursor too. The cursor's line moves sideways under it, other lines stand.
    pub fn draw(&self, buffer: &mut Buffer, area: Rect, theme: Theme, focus: bool) {
        let area = area.intersection(buffer.area);
        for (y, line) in self.shown(area, theme.ascii).iter().enumerate() {
            let mut x = 0;
            let text = &self.text[line.from..line.end];
            for (at, grapheme) in text.grapheme_indices(true) {
                let here = focus && line.from + at == self.cursor;
                let style = if here { theme.cursor() } else { theme.text() };
                let next = put(
                    buffer,
                    area,
                    x,
                    y as u16,
                    &seen(grapheme, theme.ascii),
                    style,
                );
                if next == x {
                    break; // no room for it, and what follows must not take its place
                }
                x = next;
            }
            if line.from > line.start {
                put(buffer, area, 0, y as u16, theme.pick("…", "~"), theme.dim());
            }
            let at_end = focus && self.cursor == line.end && line.from <= self.cursor;
            if at_end {
                let x = x.min(area.width.saturating_sub(1));
                put(buffer, area, x, y as u16, " ", theme.cursor());
            }
        }
    }

    /// Puts the cursor where a click at a place of the screen was, with the field drawn in `area`.
    pub fn click(&mut self, area: Rect, x: u16, y: u16, theme: Theme) -> bool {
        if x < area.x || y < area.y || x >= area.right() || y >= area.bottom() {
            return false;
        }
        let shown = self.shown(area, theme.ascii);
        let Some(line) = shown.get(usize::from(y - area.y)).or(shown.last()) else {
            return false;
        };
        let aim = usize::from(x - area.x);
        let mut used = 0;
        let mut graphemes = self.text[line.from..line.end].grapheme_indices(true);
        let hit = graphemes.find(|(_, grapheme)| {
            used += width(&seen(grapheme, theme.ascii));
            used > aim
        });
        let to = hit.map_or(line.end, |(at, _)| line.from + at);
        self.go(to);
        true
    }

    /// The lines that `area` shows: the cursor's, and those around it, two thirds of the room before it.
    fn shown(&self, area: Rect, ascii: bool) -> Vec<Shown> {
        let (columns, height) = (usize::from(area.width), usize::from(area.height));
        if columns == 0 || height == 0 {
            return Vec::new();
        }
        let (mut start, mut end) = (self.line_start(), self.line_end());
        let below = self.text[end..].matches('\n').take(height).count();
        let above = (height * 2 / 3).max(height.saturating_sub(below + 1));
        for _ in 0..above.min(height - 1) {
            if start > 0 {
                start = self.text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
            }
        }
        let mut lines = Vec::new();
        while lines.len() < height {
            let rest = self.text[start..].find('\n');
            end = rest.map_or(self.text.len(), |at| start + at);
            let here = (start..=end).contains(&self.cursor);
            let from = if here {
                self.first(start, end, columns, ascii)
            } else {
                start
            };
            lines.push(Shown { start, end, from });
            if end == self.text.len() {
                break;
            }
            start = end + 1;
        }
        lines
    }

    /// From which byte the cursor's line is drawn: its start if the cursor then shows, else so that two thirds of the room
    /// lie before the cursor, more where less text follows. Looks at no more text than fits.
    fn first(&self, start: usize, end: usize, columns: usize, ascii: bool) -> usize {
        let after = span(self.text[self.cursor..end].graphemes(true), columns, ascii).1;
        // The cursor at the end needs a cell of its own.
        let room = (columns * 2 / 3).max(columns.saturating_sub(after.max(1)));
        let before = self.text[start..self.cursor].graphemes(true).rev();
        let (bytes, _) = span(before, room, ascii);
        self.cursor - bytes
    }
}

/// How many bytes and columns of graphemes fit in `room`.
fn span<'a>(graphemes: impl Iterator<Item = &'a str>, room: usize, ascii: bool) -> (usize, usize) {
    let (mut bytes, mut columns) = (0, 0);
    for grapheme in graphemes {
        let more = width(&seen(grapheme, ascii));
        if columns + more > room {
            break;
        }
        bytes += grapheme.len();
        columns += more;
    }
    (bytes, columns)
}

/// One grapheme as it is drawn, never without width; a tab is a mark here, since its width would be anyone's guess.
fn seen(grapheme: &str, ascii: bool) -> String {
    let shown = if grapheme == "\t" {
        String::new()
    } else {
        prose(grapheme, ascii)
    };
    if shown.is_empty() {
        visible(grapheme, ascii)
    } else {
        shown
    }
}
