//! Writing text into a buffer: the one place where characters enter cells.
//!
//! Always: nothing is written outside the area or the buffer, a wide grapheme is never half written, and what would act
//! on the terminal is made visible first, since ratatui's cells take any symbol as it is.

use std::borrow::Cow;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

use crate::text::visible::{is_visible, visible};

/// Writes `text` at column `x` and row `y` counted from the corner of `area`; returns the column after it, again from
/// the corner. What does not fit is left out.
pub fn put(buffer: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) -> u16 {
    let Some((column, row)) = area
        .x
        .checked_add(x)
        .zip(area.y.checked_add(y))
        .filter(|_| x < area.width && y < area.height)
    else {
        return x;
    };
    let seen = area.intersection(buffer.area);
    if row < seen.y || row >= seen.bottom() || column < seen.x || column >= seen.right() {
        return x;
    }
    let text = if is_visible(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(visible(text))
    };
    let room = usize::from(seen.right() - column);
    let (end, _) = buffer.set_stringn(column, row, text, room, style);
    x + (end - column)
}

/// Writes spans one after the other, as [`put`].
pub fn put_spans(buffer: &mut Buffer, area: Rect, x: u16, y: u16, spans: &[Span<'_>]) -> u16 {
    let mut at = x;
    for span in spans {
        at = put(buffer, area, at, y, &span.content, span.style);
    }
    at
}
