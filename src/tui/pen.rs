//! The few strokes that frame and screens share: a line of text, a panel, a card.
//!
//! Always: nothing is written outside the rectangle or the buffer, whatever the size.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Block, Clear, Widget};

use super::cells;
use super::theme::Theme;

/// Writes text that is already visible and fitted on a row of an area.
pub fn line(area: Rect, row: u16, text: &str, style: Style, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    if row < area.height && area.width > 0 {
        buf.set_stringn(area.x, area.y + row, text, area.width.into(), style);
    }
}

/// Empties a row of an area.
pub fn clear_line(area: Rect, row: u16, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    if row < area.height {
        Clear.render(
            Rect {
                y: area.y + row,
                height: 1,
                ..area
            },
            buf,
        );
    }
}

/// A bordered, emptied area with a title; gives what is inside.
pub fn panel(area: Rect, title: &str, theme: &Theme, buf: &mut Buffer) -> Rect {
    let area = area.intersection(buf.area);
    if area.width < 3 || area.height < 3 {
        return Rect {
            width: 0,
            height: 0,
            ..area
        };
    }
    Clear.render(area, buf);
    let title = cells::fit(title, usize::from(area.width) - 2, theme.ascii);
    let block = Block::bordered()
        .border_set(theme.boxes())
        .border_style(theme.border())
        .title(title)
        .title_style(theme.title());
    let inner = block.inner(area);
    block.render(area, buf);
    inner
}

/// A rectangle of at most this size in the middle of an area.
pub fn popup(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    }
}

/// A card: what is empty, going on, or wrong, in words that wrap.
pub fn card(area: Rect, title: &str, body: &str, theme: &Theme, buf: &mut Buffer) {
    let at = popup(area, 64, 12);
    let inner = panel(at, title, theme, buf);
    let text = cells::prose(body, theme.ascii);
    for (i, row) in wrapped(&text, inner.width.into()).iter().enumerate() {
        line(inner, i as u16, row, theme.text(), buf);
    }
}

/// Words over lines of a width; a word that is longer is cut.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word = cells::fit(word, width, false);
        let last = lines.last().map_or(0, |l| cells::width(l));
        if last > 0 && last + 1 + cells::width(&word) > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
    }
    lines
}
