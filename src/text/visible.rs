//! Foreign text made safe to show: prompts, completions and token names may hold anything.
//!
//! Always: what comes out has no control character, no character that reorders or hides others, and is one line.
//! Forms for HTML and Markdown are in `crate::audit::report::text`.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

/// `text` with whatever cannot be seen, or would act on a terminal or a reader, replaced by something that can be seen.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push(' '),
            c if acts_unseen(c) => {
                let _ = write!(out, "⟨U+{:04X}⟩", c as u32); // writing to a String cannot fail
            }
            c => out.push(c),
        }
    }
    out
}

/// A token as a label: as [`visible`], with spaces as `␣` and tabs as `⇥`, since they tell tokens apart. Never of width 0.
pub fn token_label(token: &str) -> String {
    let marked: String = token
        .chars()
        .map(|c| match c {
            ' ' => '␣',
            '\t' => '⇥',
            c => c,
        })
        .collect();
    let label = visible(&marked);
    match label.width() {
        0 if label.is_empty() => "∅".into(),
        // A combining mark by itself would sit on its neighbour.
        0 => format!("◌{label}"),
        _ => label,
    }
}

/// `text` cut to at most `columns` columns of a terminal, `…` at its end where something is missing.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_string();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if out.width() + 1 > columns {
            out.pop();
            break;
        }
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// `text` cut or filled with spaces to exactly `columns` columns.
pub fn fit(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let fill = columns.saturating_sub(text.width());
    text + &" ".repeat(fill)
}

/// Controls, marks and overrides of direction, zero-width characters, line separators, tags and non-characters.
fn acts_unseen(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_becomes_something_to_see() {
        assert_eq!(token_label("\u{1b}[2J"), "⟨U+001B⟩[2J");
        assert_eq!(token_label("\u{202e}x\u{200b}"), "⟨U+202E⟩x⟨U+200B⟩");
        assert_eq!(token_label(" Paris"), "␣Paris");
        assert_eq!(token_label("\t\n"), "⇥⏎");
        assert_eq!(token_label(""), "∅");
        assert_eq!(token_label("\u{301}"), "◌\u{301}");
    }

    #[test]
    fn text_fits_its_columns_whatever_its_width() {
        for text in ["", "a", "abcdefgh", "東京都庁", "e\u{301}tude", "👩‍🚀👩‍🚀"]
        {
            for columns in 0..12 {
                assert!(cut(text, columns).width() <= columns, "{text} {columns}");
                assert_eq!(fit(text, columns).width(), columns, "{text} {columns}");
            }
        }
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("東京都", 4), "東…");
    }
}
