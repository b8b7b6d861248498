//! Foreign text made safe to show: prompts, completions and token names may hold anything.
//!
//! Always: what comes out has no control character, no character that reorders or hides others, and is one line; doing it
//! twice changes nothing more. Columns are counted as a terminal fills them, one grapheme after the other.
//! Forms for HTML and Markdown are in `crate::audit::report::text`; widgets that draw such text in `crate::tui::cells`.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Marks of width 0 that one grapheme may carry; every living script needs fewer.
const MOST_MARKS: usize = 4;
/// Characters of one grapheme, marks included.
const LONGEST_GRAPHEME: usize = 16;

/// `text` with whatever cannot be seen, or would act on a terminal or a reader, replaced by something that can be seen.
/// Selectors of an emoji's drawing are left out: terminals do not agree on how wide they make it.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push(' '),
            '\u{fe0e}' | '\u{fe0f}' => {}
            c => push_visible(&mut out, c),
        }
    }
    bounded(out)
}

/// A token as a label: as [`visible`], with spaces as `␣`, tabs as `⇥` and all else that is white by its number, since
/// they tell tokens apart. Never of width 0.
pub fn token_label(token: &str) -> String {
    let mut label = String::with_capacity(token.len());
    for c in token.chars() {
        match c {
            ' ' => label.push('␣'),
            '\t' => label.push('⇥'),
            '\n' => label.push('⏎'),
            c if c.is_whitespace() => push_named(&mut label, c),
            c => push_visible(&mut label, c),
        }
    }
    if label.is_empty() {
        return "∅".into();
    }
    bounded(label)
}

/// [`token_label`] for where only ASCII may be shown: `\s`, `\n`, `\t`, and all else as its bytes, `<E2><80><8B>`.
pub fn ascii_label(token: &str) -> String {
    if token.is_empty() {
        return "<>".into();
    }
    token
        .chars()
        .map(|c| if c == ' ' { "\\s".into() } else { ascii(c) })
        .collect()
}

/// [`visible`] for where only ASCII may be shown.
pub fn ascii_visible(text: &str) -> String {
    text.chars().map(ascii).collect()
}

fn ascii(c: char) -> Cow<'static, str> {
    match c {
        '\n' => "\\n".into(),
        '\t' => "\\t".into(),
        ' '..='~' => c.to_string().into(),
        c => {
            let mut shown = String::new();
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(shown, "<{byte:02X}>"); // writing to a String cannot fail
            }
            shown.into()
        }
    }
}

/// Bytes as a label: what is UTF-8 as [`token_label`], what is not as `‹E2 80›`; half a character is a whole token to
/// many models.
pub fn bytes_label(bytes: &[u8]) -> String {
    let mut label = String::new();
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            label += &token_label(chunk.valid());
        }
        if !chunk.invalid().is_empty() {
            let hex: Vec<String> = chunk.invalid().iter().map(|b| format!("{b:02X}")).collect();
            let _ = write!(label, "‹{}›", hex.join(" ")); // writing to a String cannot fail
        }
    }
    if label.is_empty() {
        "∅".into()
    } else {
        label
    }
}

/// [`bytes_label`] for where only ASCII may be shown.
pub fn ascii_bytes_label(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return ascii_label("");
    }
    let mut label = String::new();
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            label += &ascii_label(chunk.valid());
        }
        for byte in chunk.invalid() {
            let _ = write!(label, "<{byte:02X}>"); // writing to a String cannot fail
        }
    }
    label
}

/// Columns that `text` takes when drawn grapheme by grapheme, as a terminal and ratatui do.
pub fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.graphemes(true).map(UnicodeWidthStr::width).sum()
}

/// `text` cut to at most `columns` columns of a terminal, `…` at its end where something is missing.
pub fn cut(text: &str, columns: usize) -> String {
    cut_with(text, columns, "…")
}

/// [`cut`] with another mark for what is missing, one column wide. No grapheme is split.
pub fn cut_with(text: &str, columns: usize, missing: &str) -> String {
    let (mut used, mut keep) = (0, 0);
    for (at, grapheme) in text.grapheme_indices(true) {
        used += grapheme.width();
        if used > columns {
            let mark = if columns > 0 { missing } else { "" };
            return format!("{}{mark}", &text[..keep]);
        }
        if used < columns {
            keep = at + grapheme.len();
        }
    }
    text.to_owned()
}

/// `text` cut or filled with spaces to exactly `columns` columns.
pub fn fit(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let fill = columns.saturating_sub(width(&text));
    text + &" ".repeat(fill)
}

/// True for text that may be drawn as it is: [`visible`] would not change it.
pub fn is_visible(text: &str) -> bool {
    let plain = |c: char| matches!(c, ' '..='~');
    text.chars().all(plain) || (!text.contains(['\u{fe0e}', '\u{fe0f}']) && visible(text) == text)
}

fn push_visible(out: &mut String, c: char) {
    if acts_unseen(c) || c.width().is_none() {
        push_named(out, c);
    } else {
        out.push(c);
    }
}

fn push_named(out: &mut String, c: char) {
    let _ = write!(out, "⟨U+{:04X}⟩", c as u32); // writing to a String cannot fail
}

/// Every grapheme such that a terminal gives it columns of its own and no more than it can hold: more marks than any
/// script needs are cut short, `⟨+37⟩` for 37 characters left out, and a mark by itself sits on `◌`, not on its neighbour.
fn bounded(text: String) -> String {
    if text.is_ascii() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        if grapheme.width() > 0 {
            push_bounded(&mut out, grapheme);
        } else {
            let seated = format!("◌{grapheme}");
            if seated.graphemes(true).count() == 1 {
                push_bounded(&mut out, &seated);
            } else {
                grapheme.chars().for_each(|c| push_named(&mut out, c));
            }
        }
    }
    out
}

fn push_bounded(out: &mut String, grapheme: &str) {
    let mut marks = 0;
    let kept = grapheme.chars().enumerate().take_while(|(i, c)| {
        marks += usize::from(*i > 0 && c.width() == Some(0));
        marks <= MOST_MARKS && *i < LONGEST_GRAPHEME
    });
    let kept: usize = kept.map(|(_, c)| c.len_utf8()).sum();
    out.push_str(&grapheme[..kept]);
    let left = grapheme[kept..].chars().count();
    if left > 0 {
        let _ = write!(out, "⟨+{left}⟩"); // writing to a String cannot fail
    }
}

/// Controls, marks and overrides of direction, what Unicode calls ignorable by default (width 0 and no mark of its own),
/// line separators, tags, fillers, non-characters, and signs that swallow what follows them into one grapheme.
fn acts_unseen(c: char) -> bool {
    let low = c as u32 & 0xffff;
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}'
        | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || low >= 0xfffe
        || joins_what_follows(c)
}

/// Unicode's `Prepend` of grapheme breaking: number signs of Arabic, Syriac and Kaithi, letters before a cluster.
fn joins_what_follows(c: char) -> bool {
    matches!(c,
        '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{d4e}' | '\u{110bd}' | '\u{110cd}'
        | '\u{111c2}' | '\u{111c3}' | '\u{113d1}' | '\u{1193f}' | '\u{11941}' | '\u{11a3a}' | '\u{11a84}'..='\u{11a89}'
        | '\u{11d46}' | '\u{11f02}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_a_terminal_becomes_something_to_see() {
        assert_eq!(token_label("\u{1b}[2J"), "⟨U+001B⟩[2J");
        assert_eq!(token_label("\u{202e}x\u{200b}"), "⟨U+202E⟩x⟨U+200B⟩");
        assert_eq!(token_label(" Paris"), "␣Paris");
        assert_eq!(token_label("\t\n"), "⇥⏎");
        assert_eq!(token_label(""), "∅");
        assert_eq!(token_label("\u{301}"), "◌\u{301}");
        assert_eq!(token_label("❤\u{fe0f}"), "❤⟨U+FE0F⟩");
        assert_eq!(visible("I ❤\u{fe0f} you\n"), "I ❤ you⏎");
    }

    #[test]
    fn marks_are_counted_and_capped() {
        let zalgo = format!("a{}b", "\u{301}".repeat(41));
        assert_eq!(visible(&zalgo), "a\u{301}\u{301}\u{301}\u{301}⟨+37⟩b");
        assert_eq!(visible("Tiếng Việt, क्ष्म्य"), "Tiếng Việt, क्ष्म्य");
    }

    #[test]
    fn ascii_forms_and_bytes_that_are_no_text() {
        assert_eq!(ascii_label(" a\n\té"), "\\sa\\n\\t<C3><A9>");
        assert_eq!(ascii_label("\u{1b}[0m"), "<1B>[0m");
        assert_eq!(ascii_label(""), "<>");
        assert_eq!(ascii_visible("two words…"), "two words<E2><80><A6>");
        assert_eq!(bytes_label(b" a\xe2\x80"), "␣a‹E2 80›");
        assert_eq!(bytes_label(b"\xff\xc3\xa9"), "‹FF›é");
        assert_eq!(bytes_label(b""), "∅");
        assert_eq!(ascii_bytes_label(b" a\xe2\x80"), "\\sa<E2><80>");
    }

    #[test]
    fn text_fits_its_columns_whatever_its_width() {
        for text in ["", "a", "abcdefgh", "東京都庁", "e\u{301}tude", "👩‍🚀👩‍🚀"]
        {
            for columns in 0..12 {
                assert!(width(&cut(text, columns)) <= columns, "{text} {columns}");
                assert_eq!(width(&fit(text, columns)), columns, "{text} {columns}");
            }
        }
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("東京都", 4), "東…");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 2), "e\u{301}…");
    }

    /// Any text, with what does harm far more often than chance would have it.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>(),
            prop::sample::select(vec![
                ' ',
                '\n',
                '\t',
                '\u{1b}',
                '\u{202e}',
                '\u{200d}',
                '\u{fe0f}',
                '\u{301}',
                '👩',
                '東',
                '\u{600}',
                '\u{d4e}',
                '\u{1160}',
                '🇫',
                'ل',
                'ا',
                '\u{93e}',
                '\u{94d}',
                'क',
                '\u{e0041}',
                '\u{9b}',
            ]),
        ];
        prop::collection::vec(piece, 0..60).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_comes_out_is_seen_and_stays_the_same(text in hostile(), columns in 0usize..40) {
            for (form, shown) in [
                (visible as fn(&str) -> String, visible(&text)),
                (token_label, token_label(&text)),
                (ascii_label, ascii_label(&text)),
                (ascii_visible, ascii_visible(&text)),
            ] {
                prop_assert!(!shown.chars().any(|c| c.is_control() || acts_unseen(c)), "{shown:?}");
                for grapheme in shown.graphemes(true) {
                    prop_assert!(grapheme.width() > 0, "{shown:?}");
                }
                prop_assert_eq!(&form(&shown), &shown);
                prop_assert!(is_visible(&shown));
                prop_assert_eq!(width(&fit(&shown, columns)), columns);
                prop_assert!(is_visible(&cut(&shown, columns)));
            }
            prop_assert!(ascii_label(&text).is_ascii() && ascii_visible(&text).is_ascii());
            prop_assert!(width(&token_label(&text)) > 0);
        }
    }
}
