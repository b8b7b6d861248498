//! The few strokes that frame and screens share: a line of text, a panel, a card.
//!
//! Always: nothing is written outside the rectangle or the buffer, whatever the size.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Clear, Widget};

use super::cells;
use super::theme::Theme;
use crate::text::visible::cut_with;

/// Writes text that is already visible and fitted on a row of an area.
pub fn line(area: Rect, row: u16, text: &str, style: Style, buf: &mut Buffer) {
    cells::put(buf, area, 0, row, text, style);
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

/// A framed, emptied area with a title; gives what is inside.
pub fn panel(area: Rect, title: &str, theme: &Theme, buf: &mut Buffer) -> Rect {
    let area = area.intersection(buf.area);
    Clear.render(area, buf);
    cells::panel(buf, area, title, false, *theme)
}

/// A panel of lines that is scrolled so far; the title says where it stands and how to go on. Gives what is inside, the lines
/// that are shown there, and how far it can be scrolled.
pub fn scrolled(
    area: Rect,
    (title, lines): (&str, usize),
    (scroll, keys): (usize, &str),
    theme: &Theme,
    buf: &mut Buffer,
) -> (Rect, std::ops::Range<usize>, usize) {
    let most = lines.saturating_sub(area.height.saturating_sub(2).into());
    let from = scroll.min(most);
    let more = if most > 0 {
        format!(", line {} of {lines}{keys}", from + 1)
    } else {
        String::new()
    };
    let title = cells::prose(&format!("{title}{more}"), theme.ascii);
    let inner = panel(area, &title, theme, buf);
    let until = lines.min(from + usize::from(inner.height));
    (inner, from..until, most)
}

/// A card: what is empty, going on, or wrong, in words that wrap.
pub fn card(area: Rect, title: &str, body: &str, theme: &Theme, buf: &mut Buffer) {
    let at = cells::popup(area, 64, 12);
    let inner = panel(at, title, theme, buf);
    let text = cells::prose(body, theme.ascii);
    for (i, row) in wrapped(&text, inner.width.into()).iter().enumerate() {
        line(inner, i as u16, row, theme.text(), buf);
    }
}

/// Words over lines of a width; a word that is longer is broken, since it may be a hash or a path.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |l| cells::width(l));
        if last > 0 && last + 1 + cells::width(word) > width {
            lines.push(String::new());
        }
        let mut rest = word;
        while cells::width(rest) > width {
            let piece = cut_with(rest, width, "");
            if piece.is_empty() {
                break;
            }
            rest = &rest[piece.len()..];
            if let Some(line) = lines.last_mut() {
                line.push_str(&piece);
            }
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(rest);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_long_ones_broken() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a abcdefgh", 5), ["a", "abcd", "efgh"]);
        assert_eq!(wrapped("東京", 1), ["東京"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn a_panel_is_emptied_and_its_border_goes_on_after_its_title() {
        let area = Rect::new(0, 0, 8, 3);
        let mut buf = Buffer::filled(area, ratatui::buffer::Cell::new("x"));
        panel(area, "ab", &Theme::no_colour(), &mut buf);
        let top: String = (0..8).map(|x| buf[(x, 0)].symbol()).collect();
        assert_eq!(top, "┌ ab ──┐");
        assert_eq!(buf[(3, 1)].symbol(), " ");
    }
}
