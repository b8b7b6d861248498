//! What holds other things: a pane's frame, a card for a state, a chip for an intervention, a window above a screen.
//!
//! Always: a frame too small for its border is not drawn, and what is inside shrinks to nothing instead of failing.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;
use unicode_segmentation::UnicodeSegmentation;

use super::super::theme::Theme;
use super::put::put;
use super::text::{fit, prose, width};

/// Draws a frame with its title and returns the room inside; `focus` marks the pane that has the keys.
pub fn panel(buffer: &mut Buffer, area: Rect, title: &str, focus: bool, theme: Theme) -> Rect {
    if area.width < 2 || area.height < 2 {
        return Rect::new(area.x, area.y, 0, 0);
    }
    let style = if focus {
        theme.border_focus()
    } else {
        theme.border()
    };
    let (boxes, right, bottom) = (theme.boxes(), area.width - 1, area.height - 1);
    let line = |mark: &str| mark.repeat(usize::from(right - 1));
    put(buffer, area, 0, 0, boxes.top_left, style);
    let mut after = 1;
    if !title.is_empty() && area.width > 4 {
        let title = format!(" {} ", prose(title, theme.ascii));
        let room = usize::from(area.width - 2).min(width(&title));
        let style = if focus {
            theme.border_focus()
        } else {
            theme.title()
        };
        // Before the line, whose colour it would take over where it has none of its own.
        after = put(buffer, area, 1, 0, &fit(&title, room, theme.ascii), style);
    }
    for x in after..right {
        put(buffer, area, x, 0, boxes.horizontal_top, style);
    }
    put(buffer, area, right, 0, boxes.top_right, style);
    put(buffer, area, 0, bottom, boxes.bottom_left, style);
    put(
        buffer,
        area,
        1,
        bottom,
        &line(boxes.horizontal_bottom),
        style,
    );
    put(buffer, area, right, bottom, boxes.bottom_right, style);
    for y in 1..bottom {
        put(buffer, area, 0, y, boxes.vertical_left, style);
        put(buffer, area, right, y, boxes.vertical_right, style);
    }
    Rect::new(
        area.x.saturating_add(1),
        area.y.saturating_add(1),
        right - 1,
        bottom - 1,
    )
}

/// What a card says in place of a pane that has nothing to show: empty, loading or failed.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// What is the case, in a few words.
    pub title: String,
    /// How the title looks: an error, something that goes on.
    pub style: Style,
    /// What it means and what was expected, wrapped to the room there is.
    pub body: Vec<String>,
    /// What to do now.
    pub footer: String,
}

/// Draws a card in the middle of `area`, without a frame; long lines are wrapped, and the title goes last when room ends.
pub fn card(buffer: &mut Buffer, area: Rect, card: &Card, theme: Theme) {
    let columns = usize::from(area.width.saturating_sub(2)).min(72);
    if columns == 0 || area.height == 0 {
        return;
    }
    let wrapped = |text: &str| wrap(&prose(text, theme.ascii), columns);
    let mut lines: Vec<(String, Style)> = Vec::new();
    lines.extend(
        wrapped(&card.title)
            .into_iter()
            .map(|line| (line, card.style.patch(theme.title()))),
    );
    let rest = |lines: &mut Vec<(String, Style)>, text: &str, style| {
        lines.extend(wrapped(text).into_iter().map(|line| (line, style)));
    };
    if !card.body.is_empty() {
        lines.push((String::new(), theme.text()));
        for text in &card.body {
            rest(&mut lines, text, theme.text());
        }
    }
    if !card.footer.is_empty() {
        lines.push((String::new(), theme.text()));
        rest(&mut lines, &card.footer, theme.dim());
    }
    if lines.len() > usize::from(area.height) {
        lines.retain(|(line, _)| !line.is_empty());
    }
    let widest = lines.iter().map(|(line, _)| width(line)).max().unwrap_or(0);
    let left = usize::from(area.width).saturating_sub(widest) / 2;
    // A little above the middle looks like the middle.
    let top = usize::from(area.height).saturating_sub(lines.len()) * 2 / 5;
    for (i, (line, style)) in lines.iter().enumerate().take(usize::from(area.height)) {
        put(buffer, area, left as u16, (top + i) as u16, line, *style);
    }
}

/// `text` in lines of at most `columns`, broken at spaces, and anywhere in a word longer than a line.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let size = width(word);
        if used > 0 && used + 1 + size > columns {
            lines.push(String::new());
            used = 0;
        } else if used > 0 {
            if let Some(line) = lines.last_mut() {
                line.push(' ');
            }
            used += 1;
        }
        for grapheme in word.graphemes(true) {
            let size = width(grapheme);
            if used + size > columns && used > 0 {
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(grapheme);
            }
            used += size;
        }
    }
    lines
}

/// An intervention as a chip: `● −refusal@12`, hollow when it is off, so that it is told without colour.
pub fn chip(text: &str, on: bool, theme: Theme) -> Span<'static> {
    let mark = match (on, theme.ascii) {
        (true, false) => "● ",
        (false, false) => "○ ",
        (true, true) => "[x] ",
        (false, true) => "[ ] ",
    };
    let style = if on {
        theme.chip_on()
    } else {
        theme.chip_off()
    };
    Span::styled(format!("{mark}{}", prose(text, theme.ascii)), style)
}

/// A window of at most `width` by `height` in the middle of `area`, never larger than it.
pub fn popup(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect::new(
        area.x.saturating_add((area.width - width) / 2),
        area.y.saturating_add((area.height - height) / 2),
        width,
        height,
    )
}
