//! Rows: tables with a head, plain lists, and how far they scroll.
//!
//! Always: the selected row is shown, wherever the offset was; the head stays; texts are cut, columns never overlap.

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::super::theme::Theme;
use super::put::put;
use super::text::{fit, prose, width};

/// One cell of a table or a line of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it says; made visible when drawn.
    pub text: String,
    /// How it looks.
    pub style: Style,
    /// Numbers stand at the right.
    pub right: bool,
}

impl Entry {
    /// Text at the left.
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
            right: false,
        }
    }

    /// A number, at the right.
    pub fn number(text: impl Into<String>, style: Style) -> Self {
        Self {
            right: true,
            ..Self::new(text, style)
        }
    }
}

/// A table to draw.
#[derive(Clone, Debug, Default)]
pub struct Table<'a> {
    /// A word above each column.
    pub headers: &'a [&'a str],
    /// The rows; a row may be short.
    pub rows: &'a [Vec<Entry>],
    /// Columns of the terminal for each column; 0 is as wide as its widest of the shown, the last takes what is left.
    pub widths: &'a [u16],
    /// The row that the keys move.
    pub selected: Option<usize>,
    /// The first row shown before.
    pub offset: usize,
    /// The pane has the keys: the selected row is under the cursor, else it is marked.
    pub focus: bool,
}

/// Which rows were drawn where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowHits {
    /// Rows that are shown.
    pub rows: Range<usize>,
    /// Where they are, one line each, the head apart.
    pub area: Rect,
}

impl RowHits {
    /// The rows that are shown, each with its line.
    pub fn lines(&self) -> impl Iterator<Item = (usize, Rect)> {
        let area = self.area;
        self.rows.clone().zip(area.y..).map(move |(row, y)| {
            let line = Rect {
                y,
                height: 1,
                ..area
            };
            (row, line)
        })
    }

    /// The row drawn at a place of the screen.
    pub fn at(&self, x: u16, y: u16) -> Option<usize> {
        let inside = x >= self.area.x && x < self.area.right() && y >= self.area.y;
        let row = self.rows.start + usize::from(y.saturating_sub(self.area.y));
        (inside && self.rows.contains(&row)).then_some(row)
    }
}

/// The first of `len` things to show in `room`: `offset`, moved as little as shows `cursor` and leaves no room empty.
pub fn scroll(cursor: Option<usize>, offset: usize, room: usize, len: usize) -> usize {
    let mut from = offset.min(len.saturating_sub(room));
    if let Some(cursor) = cursor.filter(|_| room > 0 && len > 0) {
        let cursor = cursor.min(len - 1);
        from = from.clamp((cursor + 1).saturating_sub(room), cursor);
    }
    from
}

/// Draws a table; two columns are one blank apart at least.
pub fn table(buffer: &mut Buffer, area: Rect, table: &Table<'_>, theme: Theme) -> RowHits {
    let area = area.intersection(buffer.area);
    let head = u16::from(!table.headers.is_empty());
    let body = below(area, head);
    let hits = shown(body, table.selected, table.offset, table.rows.len());
    let rows = &table.rows[hits.rows.clone()];
    let widths = widths(table, rows, area.width, theme);
    let heads: Vec<Entry> = (table.headers.iter().enumerate())
        .map(|(i, text)| Entry {
            right: rows
                .first()
                .and_then(|row| row.get(i))
                .is_some_and(|e| e.right),
            ..Entry::new(*text, theme.title())
        })
        .collect();
    if head > 0 {
        row(buffer, area, &heads, &widths, None, theme);
    }
    for (i, entries) in rows.iter().enumerate() {
        let line = below(body, i as u16);
        let over = cursor_style(
            table.selected == Some(hits.rows.start + i),
            table.focus,
            theme,
        );
        row(buffer, line, entries, &widths, over, theme);
    }
    hits
}

/// Draws one entry a line.
pub fn list(
    buffer: &mut Buffer,
    area: Rect,
    items: &[Entry],
    selected: Option<usize>,
    offset: usize,
    focus: bool,
    theme: Theme,
) -> RowHits {
    let area = area.intersection(buffer.area);
    let hits = shown(area, selected, offset, items.len());
    for (i, item) in items[hits.rows.clone()].iter().enumerate() {
        let over = cursor_style(selected == Some(hits.rows.start + i), focus, theme);
        let entries = std::slice::from_ref(item);
        row(
            buffer,
            below(area, i as u16),
            entries,
            &[area.width],
            over,
            theme,
        );
    }
    hits
}

fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect::new(area.x, area.y + lines, area.width, area.height - lines)
}

fn shown(area: Rect, selected: Option<usize>, offset: usize, len: usize) -> RowHits {
    let room = usize::from(area.height);
    let from = scroll(selected, offset, room, len);
    RowHits {
        rows: from..(from + room).min(len),
        area,
    }
}

fn cursor_style(selected: bool, focus: bool, theme: Theme) -> Option<Style> {
    selected.then(|| {
        if focus {
            theme.cursor()
        } else {
            theme.selected()
        }
    })
}

/// How wide each column is drawn: as asked, or as its widest; what does not fit is taken from the last ones.
fn widths(table: &Table<'_>, rows: &[Vec<Entry>], room: u16, theme: Theme) -> Vec<u16> {
    let count = rows
        .iter()
        .map(Vec::len)
        .max()
        .unwrap_or(0)
        .max(table.headers.len());
    let natural = |i: usize| {
        let entry = |row: &Vec<Entry>| {
            row.get(i)
                .map_or(0, |e| width(&prose(&e.text, theme.ascii)))
        };
        let head = table.headers.get(i).map_or(0, |text| width(text));
        rows.iter()
            .map(entry)
            .max()
            .unwrap_or(0)
            .max(head)
            .min(usize::from(u16::MAX)) as u16
    };
    let mut left = room;
    let mut widths = Vec::with_capacity(count);
    for i in 0..count {
        let asked = table.widths.get(i).copied().unwrap_or(0);
        let wanted = match asked {
            0 if i + 1 == count => left,
            0 => natural(i),
            asked => asked,
        };
        let given = wanted.min(left);
        left = left.saturating_sub(given.saturating_add(1));
        widths.push(given);
    }
    widths
}

fn row(
    buffer: &mut Buffer,
    line: Rect,
    entries: &[Entry],
    widths: &[u16],
    over: Option<Style>,
    theme: Theme,
) {
    if let Some(style) = over {
        // The whole line in one look, gaps too: a cursor with holes or patches is hard to follow.
        put(
            buffer,
            line,
            0,
            0,
            &" ".repeat(usize::from(line.width)),
            style,
        );
    }
    let mut x = 0u16;
    for (entry, columns) in entries.iter().zip(widths) {
        let room = usize::from(*columns);
        let text = prose(&entry.text, theme.ascii);
        let text = if entry.right {
            " ".repeat(room.saturating_sub(width(&text))) + &text
        } else {
            text
        };
        let style = over.unwrap_or(entry.style);
        put(buffer, line, x, 0, &fit(&text, room, theme.ascii), style);
        x = x.saturating_add(columns.saturating_add(1));
    }
}
