//! A grid of values as colours: layers up, tokens across, later layers higher.
//!
//! Always: the cursor is on the part that is shown; each cell carries more than colour where there is room (its text or
//! digits, and without colours a shade or a sign); what a click at a place means is returned. Scales: `crate::tui::theme`.

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::super::theme::{Scale, Theme, Tier};
use super::put::put;
use super::table::scroll;
use super::text::{fit, prose, width};

/// What to draw. Rows and columns count from 0; row 0 is drawn lowest.
pub struct HeatMap<'a> {
    /// A label above each column.
    pub columns: &'a [String],
    /// A label beside each row, the lowest row first.
    pub rows: &'a [String],
    /// The value of (row, column), NaN for none.
    pub value: &'a dyn Fn(usize, usize) -> f32,
    /// The text of (row, column), such as its top token; asked only for cells that are shown.
    pub text: Option<&'a dyn Fn(usize, usize) -> String>,
    /// Whether (row, column) stands out, as the places of an answer do: bold and underlined. Asked only for what is shown.
    pub marked: Option<&'a dyn Fn(usize, usize) -> bool>,
    /// With the value in digits where no text is.
    pub digits: bool,
    /// Colours by amount or by sign.
    pub scale: Scale,
    /// The value at the low end of the scale.
    pub lo: f32,
    /// The value at its high end.
    pub hi: f32,
    /// The cell (row, column) that the keys move.
    pub cursor: Option<(usize, usize)>,
    /// The first row and column shown before; it moves no further than the cursor needs. `(0, 0)` will do.
    pub offset: (usize, usize),
    /// Columns of the terminal for each cell, a gap included; at least 1.
    pub cell_width: u16,
    /// The values are of before, new ones are being computed.
    pub stale: bool,
}

/// What was drawn where, for the mouse and for the next frame's offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeatHits {
    /// Rows that are shown.
    pub rows: Range<usize>,
    /// Columns that are shown.
    pub columns: Range<usize>,
    /// Where the cells are, labels apart.
    pub cells: Rect,
    /// Columns of the terminal for each cell.
    pub cell_width: u16,
}

impl HeatHits {
    /// The (row, column) drawn at a place of the screen.
    pub fn at(&self, x: u16, y: u16) -> Option<(usize, usize)> {
        let area = self.cells;
        let inside = x >= area.x && x < area.right() && y >= area.y && y < area.bottom();
        if !inside || self.cell_width == 0 {
            return None;
        }
        let row = self.rows.start + usize::from(area.bottom() - 1 - y);
        let column = self.columns.start + usize::from((x - area.x) / self.cell_width);
        (self.rows.contains(&row) && self.columns.contains(&column)).then_some((row, column))
    }

    /// Where (row, column) was drawn, none if it is not shown.
    pub fn cell(&self, row: usize, column: usize) -> Option<Rect> {
        if !self.rows.contains(&row) || !self.columns.contains(&column) {
            return None;
        }
        let x = (column - self.columns.start) as u16 * self.cell_width;
        let y = self.cells.height - 1 - (row - self.rows.start) as u16;
        Some(Rect::new(
            self.cells.x + x,
            self.cells.y + y,
            self.cell_width,
            1,
        ))
    }
}

/// Draws the grid: row labels at the left, column labels above, as many cells as there is room for.
pub fn heat_map(buffer: &mut Buffer, area: Rect, map: &HeatMap<'_>, theme: Theme) -> HeatHits {
    // A rectangle that runs past the last column a terminal can have would overflow what is computed from it.
    let area = area.intersection(buffer.area);
    let widest = map.rows.iter().map(|label| width(label)).max().unwrap_or(0);
    let head = (widest.min(usize::from(area.width) / 3)) as u16;
    let (left, top) = (if head > 0 { head + 1 } else { 0 }, 1);
    let cell_width = map.cell_width.max(1);
    let (wide, high) = (
        area.width.saturating_sub(left),
        area.height.saturating_sub(top),
    );
    // Columns that fit whole; a single one that does not is shown cut.
    let fitting = usize::from(wide / cell_width).max(usize::from(wide > 0));
    let shown = |cursor: Option<usize>, offset: usize, room: usize, len: usize| {
        let from = scroll(cursor, offset, room, len);
        from..(from + room).min(len)
    };
    let rows = shown(
        map.cursor.map(|c| c.0),
        map.offset.0,
        usize::from(high),
        map.rows.len(),
    );
    let columns = shown(
        map.cursor.map(|c| c.1),
        map.offset.1,
        fitting,
        map.columns.len(),
    );
    if rows.is_empty() || columns.is_empty() {
        return HeatHits::default();
    }
    let cell_width = cell_width.min(wide);
    let height = rows.len() as u16;
    let hits = HeatHits {
        cells: Rect::new(
            area.x + left,
            area.y + top,
            columns.len() as u16 * cell_width,
            height,
        ),
        rows,
        columns,
        cell_width,
    };
    labels(buffer, area, map, &hits, head, theme);
    for row in hits.rows.clone() {
        for column in hits.columns.clone() {
            if let Some(place) = hits.cell(row, column) {
                cell(buffer, place, map, (row, column), theme);
            }
        }
    }
    hits
}

fn labels(
    buffer: &mut Buffer,
    area: Rect,
    map: &HeatMap<'_>,
    hits: &HeatHits,
    head: u16,
    theme: Theme,
) {
    let style = |here: bool| if here { theme.accent() } else { theme.dim() };
    for column in hits.columns.clone() {
        let here = map.cursor.is_some_and(|c| c.1 == column);
        let x = (hits.cells.x - area.x) + (column - hits.columns.start) as u16 * hits.cell_width;
        // A blank before the next label, where a label would not be one character.
        let room = usize::from(hits.cell_width - u16::from(hits.cell_width > 2));
        let label = fit(&prose(&map.columns[column], theme.ascii), room, theme.ascii);
        put(buffer, area, x, 0, &label, style(here));
    }
    for row in hits.rows.clone() {
        let here = map.cursor.is_some_and(|c| c.0 == row);
        let y = (hits.cells.y - area.y) + (hits.rows.end - 1 - row) as u16;
        let label = fit(
            &prose(&map.rows[row], theme.ascii),
            usize::from(head),
            theme.ascii,
        );
        put(buffer, area, 0, y, &label, style(here));
    }
    // More to the left, right, below or above is said in the corner, in the same order.
    let more = [
        (hits.columns.start > 0, "←", "<"),
        (hits.columns.end < map.columns.len(), "→", ">"),
        (hits.rows.start > 0, "↓", "v"),
        (hits.rows.end < map.rows.len(), "↑", "^"),
    ];
    let marks: String = more
        .iter()
        .filter(|(there, ..)| *there)
        .map(|(_, unicode, ascii)| theme.pick(unicode, ascii))
        .collect();
    put(
        buffer,
        area,
        0,
        0,
        &fit(&marks, usize::from(head).min(width(&marks)), theme.ascii),
        theme.dim(),
    );
}

fn cell(
    buffer: &mut Buffer,
    place: Rect,
    map: &HeatMap<'_>,
    (row, column): (usize, usize),
    theme: Theme,
) {
    let value = (map.value)(row, column);
    let placed = map.scale.place(value, map.lo, map.hi);
    let room = usize::from(place.width);
    let plain = theme.tier == Tier::NoColour;
    let content = match map.text {
        Some(text) => labelled(placed, &prose(&text(row, column), theme.ascii), room, theme),
        None if map.digits && !value.is_nan() => fit(&digits(value, room), room, theme.ascii),
        None if plain => shaded(placed, room, map.scale, theme),
        None if value.is_nan() => fit(theme.shade(f32::NAN), room, theme.ascii),
        None => " ".repeat(room),
    };
    let mut style = theme.heat(map.scale, placed);
    if style == Style::new() && !plain {
        style = theme.dim();
    }
    if map.stale {
        // Dim text on a bright cell could not be read: italics say it there.
        style = style.add_modifier(if plain {
            Modifier::DIM
        } else {
            Modifier::ITALIC
        });
    }
    if map.cursor == Some((row, column)) {
        // Not over the cell's own colour: inverted, a bright cell on dark paper would look like a hole.
        style = theme.cursor().add_modifier(style.add_modifier);
    }
    put(buffer, place, 0, 0, &content, style);
    if map.marked.is_some_and(|marked| marked(row, column)) {
        // The words alone: lines through whole cells would make a ruled sheet of the map.
        let mark = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
        put(buffer, place, 0, 0, content.trim_end(), mark);
    }
}

/// Columns of the colours in a legend.
const LEGEND: usize = 12;

/// The scale's colours between what its ends mean, on the lower border of a panel at the right; nothing where there is no
/// room for it.
pub fn legend(buffer: &mut Buffer, panel: Rect, scale: Scale, ends: (&str, &str), theme: Theme) {
    let (lo, hi) = ends;
    let (lo, hi) = (
        format!(" {} ", prose(lo, theme.ascii)),
        format!(" {} ", prose(hi, theme.ascii)),
    );
    let wide = width(&lo) + LEGEND + width(&hi);
    if panel.height < 2 || wide + 4 > usize::from(panel.width) {
        return;
    }
    let (x, y) = (panel.width - 2 - wide as u16, panel.height - 1);
    // The border may be bold; what lies on it is not.
    let plain = Modifier::BOLD;
    let mut x = put(buffer, panel, x, y, &lo, theme.dim().remove_modifier(plain));
    for i in 0..LEGEND {
        let part = i as f32 / (LEGEND - 1) as f32;
        let value = scale.least() + (1.0 - scale.least()) * part;
        let mark = match (theme.tier, scale) {
            (Tier::NoColour, Scale::Diverging) if i == 0 => "-",
            (Tier::NoColour, Scale::Diverging) if i + 1 == LEGEND => "+",
            (Tier::NoColour, _) => theme.shade(value),
            _ => " ",
        };
        x = put(buffer, panel, x, y, mark, theme.heat(scale, value));
    }
    put(buffer, panel, x, y, &hi, theme.dim().remove_modifier(plain));
}

/// A few words on the lower border of a panel at the left, where a legend leaves room for them.
pub fn note(buffer: &mut Buffer, panel: Rect, words: &str, theme: Theme) {
    let words = format!(" {} ", prose(words, theme.ascii));
    if panel.height < 2 || width(&words) + 34 > usize::from(panel.width) {
        return;
    }
    let style = theme.dim().remove_modifier(Modifier::BOLD);
    put(buffer, panel, 2, panel.height - 1, &words, style);
}

/// Words with a gap before the next cell; without colours a shade before them, apart from them in ASCII, where shades
/// are characters that words have too.
fn labelled(placed: f32, words: &str, room: usize, theme: Theme) -> String {
    let shade = match (theme.tier, theme.ascii) {
        (Tier::NoColour, false) => theme.shade(placed).to_owned(),
        (Tier::NoColour, true) => format!("{} ", theme.shade(placed)),
        _ => String::new(),
    };
    let words = format!("{shade}{words}");
    let most = room.saturating_sub(usize::from(room > 2));
    fit(&words, most, theme.ascii) + &" ".repeat(room - most)
}

/// Without colours: the cell filled with a shade, after the sign where values have one.
fn shaded(placed: f32, room: usize, scale: Scale, theme: Theme) -> String {
    let sign = match scale {
        Scale::Diverging if placed < 0.0 && room > 1 => "-",
        Scale::Diverging if placed > 0.0 && room > 1 => "+",
        _ => "",
    };
    let fill = room.saturating_sub(sign.len() + usize::from(room > 2));
    let shades = theme.shade(placed).repeat(fill);
    fit(&format!("{sign}{shades}"), room, theme.ascii)
}

/// `value` in at most `room` characters, as exact as they allow; `#` where even its whole part does not fit.
fn digits(value: f32, room: usize) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+inf" } else { "-inf" }
            .chars()
            .take(room)
            .collect();
    }
    // A gap after the digits keeps neighbours apart where there is room for it.
    let room = room.saturating_sub(usize::from(room > 2));
    for decimals in (0..=2).rev() {
        let text = format!("{value:.decimals$}");
        let short = text.replacen(
            "0.",
            ".",
            usize::from(text.starts_with("0.") || text.starts_with("-0.")),
        );
        let text = if text.len() <= room { text } else { short };
        if !text.is_empty() && text.len() <= room {
            return text;
        }
    }
    let power = format!("{value:.0e}");
    if power.len() <= room {
        power
    } else {
        "#".repeat(room.min(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_as_exact_as_there_is_room() {
        assert_eq!(digits(0.5, 5), "0.50");
        assert_eq!(digits(0.5, 4), ".50");
        assert_eq!(digits(-0.25, 5), "-.25");
        assert_eq!(digits(12.345, 5), "12.3");
        assert_eq!(digits(1234.5, 5), "1234");
        assert_eq!(digits(123456.0, 5), "1e5");
        assert_eq!(digits(123456.0, 2), "#");
        assert_eq!(digits(1.0, 0), "");
    }

    #[test]
    fn a_legend_spans_the_scale_between_its_ends_and_needs_room() {
        let row = |wide: u16, scale, theme: Theme| {
            let area = Rect::new(0, 0, wide, 3);
            let mut buffer = Buffer::empty(area);
            legend(&mut buffer, area, scale, ("0", "1"), theme);
            let text: String = (0..wide).map(|x| buffer[(x, 2)].symbol()).collect();
            (text, buffer)
        };
        let (text, _) = row(24, Scale::Sequential, Theme::no_colour());
        assert_eq!(text, "     0   ░░░▒▒▓▓▓██ 1   ");
        let (text, _) = row(24, Scale::Diverging, Theme::no_colour());
        assert!(text.contains("0 -") && text.contains("+ 1"), "{text}");
        let (_, buffer) = row(24, Scale::Sequential, Theme::dark());
        let colour = |x: u16| buffer[(x, 2)].bg;
        assert_eq!(
            Some(colour(7)),
            Theme::dark().heat(Scale::Sequential, 0.0).bg
        );
        assert_eq!(
            Some(colour(18)),
            Theme::dark().heat(Scale::Sequential, 1.0).bg
        );
        let (text, _) = row(21, Scale::Sequential, Theme::dark());
        assert_eq!(text.trim(), "");
    }

    #[test]
    fn without_colours_a_cell_has_a_shade_and_a_sign() {
        let theme = Theme::no_colour();
        assert_eq!(shaded(1.0, 4, Scale::Sequential, theme), "███ ");
        assert_eq!(shaded(-0.5, 4, Scale::Diverging, theme), "-▒▒ ");
        assert_eq!(shaded(-0.5, 1, Scale::Diverging, theme), "▒");
        assert_eq!(labelled(0.5, "lock", 7, theme), "▒lock  ");
        assert_eq!(labelled(0.5, "padlock", 7, theme), "▒padl… ");
        assert_eq!(labelled(0.5, "padlock", 7, Theme::dark()), "padlo… ");
        let ascii = Theme {
            ascii: true,
            ..theme
        };
        assert_eq!(labelled(1.0, "lock", 7, ascii), "# lock ");
    }
}
