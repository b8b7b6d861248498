//! Tokens as running text: which token stands where in a column.
//!
//! Always: pure; no piece is wider than the column, every piece is visible text, and a token's pieces follow each other.

use crate::tui::cells;

/// A piece of a token on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which token.
    pub token: usize,
    /// Column.
    pub x: usize,
    /// Visible text.
    pub text: String,
}

/// Lines of at most `width` columns. A token that does not fit what is left of a line begins the next one, without the
/// blanks it opens with; a line feed ends its line. `mark` stands before the token it names.
pub fn flow<'a>(
    tokens: impl Iterator<Item = &'a str>,
    width: usize,
    ascii: bool,
    mark: Option<(usize, &str)>,
) -> Vec<Vec<Piece>> {
    let mut lines = vec![Vec::new()];
    let mut x = 0;
    if width == 0 {
        return lines;
    }
    for (token, raw) in tokens.enumerate() {
        if let Some((at, sign)) = mark
            && at == token
        {
            put(&mut lines, &mut x, width, token, sign);
        }
        let text = shown(raw, ascii);
        let fits = x + cells::width(&text) <= width;
        let text = if fits || x == 0 {
            text
        } else {
            lines.push(Vec::new());
            x = 0;
            let rest = text.trim_start_matches(' ');
            if rest.is_empty() {
                " ".into()
            } else {
                rest.to_owned()
            }
        };
        put(&mut lines, &mut x, width, token, &text);
        if raw.ends_with('\n') {
            lines.push(Vec::new());
            x = 0;
        }
    }
    lines
}

/// A token as it reads in running text; one that would not be seen is named.
fn shown(raw: &str, ascii: bool) -> String {
    let text = cells::prose(raw, ascii);
    if cells::width(&text) == 0 {
        cells::visible(raw, ascii)
    } else {
        text
    }
}

/// Puts a piece, over several lines if it is wider than one.
fn put(lines: &mut Vec<Vec<Piece>>, x: &mut usize, width: usize, token: usize, text: &str) {
    let mut piece = String::new();
    let mut wide = 0;
    let mut flush = |piece: &mut String, wide: &mut usize, x: &mut usize, end: bool| {
        if !piece.is_empty()
            && let Some(line) = lines.last_mut()
        {
            line.push(Piece {
                token,
                x: *x,
                text: std::mem::take(piece),
            });
            *x += std::mem::take(wide);
        }
        if end {
            lines.push(Vec::new());
            *x = 0;
        }
    };
    for c in text.chars() {
        let w = cells::width(c.encode_utf8(&mut [0; 4]));
        if *x + wide + w > width && *x + wide > 0 {
            flush(&mut piece, &mut wide, x, true);
        }
        piece.push(c);
        wide += w;
    }
    flush(&mut piece, &mut wide, x, false);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(tokens: &[&str], width: usize, mark: Option<(usize, &str)>) -> Vec<String> {
        let flowed = flow(tokens.iter().copied(), width, false, mark);
        flowed
            .iter()
            .map(|line| {
                let mut text = String::new();
                for piece in line {
                    assert_eq!(piece.x, cells::width(&text));
                    text += &piece.text;
                }
                assert!(cells::width(&text) <= width, "{text}");
                text
            })
            .collect()
    }

    #[test]
    fn tokens_wrap_between_them() {
        assert_eq!(
            lines(&["I", " can", "'t", " help"], 8, None),
            ["I can't", "help"]
        );
        assert_eq!(lines(&["a", "\n", "b"], 8, None), ["a⏎", "b"]);
        assert_eq!(lines(&["a", " b"], 8, Some((1, "≠"))), ["a≠ b"]);
    }

    #[test]
    fn a_token_wider_than_the_column_is_broken_and_no_width_is_no_panic() {
        assert_eq!(lines(&["abcdefg", "h"], 3, None), ["abc", "def", "gh"]);
        assert_eq!(lines(&["abc"], 0, None), [""]);
    }
}
