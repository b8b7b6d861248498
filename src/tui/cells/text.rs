//! Foreign text for cells: the forms of `crate::text::visible`, chosen by whether the terminal shows more than ASCII.
//!
//! Always: what comes out acts on no terminal and is as wide as [`width`] says; made so twice, it is the same.

use crate::text::visible as forms;

/// A token made visible: spaces `␣`, newline `⏎`, tab `⇥`, whatever acts or hides by its number; never of width 0.
pub fn visible(token: &str, ascii: bool) -> String {
    if ascii {
        forms::ascii_label(token)
    } else {
        forms::token_label(token)
    }
}

/// A token's bytes made visible: as [`visible`], with what is no UTF-8 as `‹E2 80›` or `<E2><80>`.
pub fn visible_bytes(token: &[u8], ascii: bool) -> String {
    if ascii {
        forms::ascii_bytes_label(token)
    } else {
        forms::bytes_label(token)
    }
}

/// Running text on one line made visible: inner spaces stay, so that it reads.
pub fn prose(text: &str, ascii: bool) -> String {
    if ascii {
        forms::ascii_visible(text)
    } else {
        forms::visible(text)
    }
}

/// Columns that visible text takes.
pub fn width(text: &str) -> usize {
    forms::width(text)
}

/// Visible text cut to at most `columns`, as [`fit`] without filling.
pub fn cut(text: &str, columns: usize, ascii: bool) -> String {
    forms::cut_with(text, columns, if ascii { "~" } else { "…" })
}

/// As [`cut`], but what is missing is the beginning.
pub fn cut_front(text: &str, columns: usize, ascii: bool) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mark = if ascii { "~" } else { "…" };
    let ends = text.char_indices().map(|(at, _)| &text[at..]);
    let end = ends.skip(1).find(|end| width(end) < columns);
    format!("{mark}{}", end.unwrap_or_default())
}

/// Visible text cut or filled with spaces to exactly `columns`; where something is missing stands `…`, `~` in ASCII.
pub fn fit(text: &str, columns: usize, ascii: bool) -> String {
    let cut = cut(text, columns, ascii);
    let fill = columns.saturating_sub(width(&cut));
    cut + &" ".repeat(fill)
}
