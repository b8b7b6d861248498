//! What a latent's page is made of: lines of bits, each with its look and perhaps a latent that a click on it leads to.
//!
//! Always: a bit's text is visible and as wide as it says; no line is wider than asked for; a token says how strongly the
//! latent fires on it in every theme, in colours or by brackets.

use ratatui::style::{Modifier, Style};

use crate::tui::cells;
use crate::tui::theme::{Scale, Theme, Tier};

/// Columns of a row's name.
pub(super) const NAME: usize = 9;

/// A piece of a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bit {
    pub text: String,
    pub style: Style,
    /// The latent that it names.
    pub to: Option<usize>,
}

pub(super) type Line = Vec<Bit>;

impl Bit {
    /// Foreign text made visible.
    pub(super) fn new(text: &str, style: Style, theme: Theme) -> Self {
        Self {
            text: cells::prose(text, theme.ascii),
            style,
            to: None,
        }
    }

    fn width(&self) -> usize {
        cells::width(&self.text)
    }
}

/// Words one after the other in one look.
pub(super) fn words(text: &str, style: Style, theme: Theme) -> Vec<Bit> {
    let word = |word: &str| Bit::new(&format!("{word} "), style, theme);
    text.split_whitespace().map(word).collect()
}

/// A row with its name before it, in as many lines as it takes.
pub(super) fn row(name: &str, bits: Vec<Bit>, width: usize, theme: Theme) -> Vec<Line> {
    let head = cells::fit(name, NAME, theme.ascii);
    let mut all = vec![Bit::new(&head, theme.dim(), theme)];
    all.extend(bits);
    flow(all, NAME, width, theme)
}

/// Bits over lines of a width, those after the first indented; a bit that is wider than a line is cut.
pub(super) fn flow(bits: Vec<Bit>, indent: usize, width: usize, theme: Theme) -> Vec<Line> {
    let (mut lines, mut used): (Vec<Line>, usize) = (vec![Vec::new()], 0);
    let mut bits = bits.into_iter().peekable();
    while let Some(mut bit) = bits.next() {
        let fresh = lines.len() > 1 && used == indent;
        // What is said of a latent stays beside its number.
        let text = match bits.peek().filter(|_| bit.to.is_some()) {
            Some(next) => bit.text.clone() + &next.text,
            None => bit.text.clone(),
        };
        if used > 0 && !fresh && used + cells::width(text.trim_end()) > width {
            let blank = Bit::new(&" ".repeat(indent.min(width)), theme.text(), theme);
            lines.push(vec![blank]);
            used = indent;
        }
        let room = width.saturating_sub(used);
        if bit.width() > room {
            bit.text = cells::cut(bit.text.trim_end(), room, theme.ascii);
        }
        used += bit.width();
        if let Some(line) = lines.last_mut() {
            line.push(bit);
        }
    }
    lines
}

/// A token with a value: the stronger, the further up the scale; `peak` for the one that is meant. Silent tokens are plain.
pub(super) fn token(text: &str, value: f32, most: f32, peak: bool, theme: Theme) -> Vec<Bit> {
    let share = value / most;
    if share.is_nan() || share <= 0.0 {
        return vec![Bit::new(text, theme.text(), theme)];
    }
    let shown = cells::prose(text, theme.ascii);
    // A blank before a word stays blank; a token that is nothing else is shown whole.
    let blank = shown.len() - shown.trim_start().len();
    let (blank, word) = match blank {
        all if all == shown.len() => ("", cells::visible(text, theme.ascii)),
        _ => (&shown[..blank], shown[blank..].to_owned()),
    };
    let mut style = theme.heat(Scale::Sequential, share.min(1.0));
    let word = match (theme.tier, peak) {
        (Tier::NoColour, true) => format!("[[{word}]]"),
        (Tier::NoColour, false) => format!("[{word}]"),
        _ => word,
    };
    if peak {
        style = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
    }
    let mut bits = Vec::new();
    if !blank.is_empty() {
        bits.push(Bit::new(blank, theme.text(), theme));
    }
    bits.push(Bit::new(&word, style, theme));
    bits
}

/// As many tokens around the one at `at` as fit into `room`, two thirds of them before it; what is left out is marked.
pub(super) fn around(tokens: Vec<Vec<Bit>>, at: usize, room: usize, theme: Theme) -> Line {
    let wide: Vec<usize> = (tokens.iter())
        .map(|bits| bits.iter().map(Bit::width).sum())
        .collect();
    let room = room.saturating_sub(2);
    let at = at.min(tokens.len().saturating_sub(1));
    let (mut from, mut to) = (at, (at + 1).min(tokens.len()));
    let mut used: usize = wide[from..to].iter().sum();
    while from > 0 && used + wide[from - 1] <= room * 2 / 3 {
        from -= 1;
        used += wide[from];
    }
    while to < tokens.len() && used + wide[to] <= room {
        used += wide[to];
        to += 1;
    }
    // Room that is left at the end of a text belongs to its beginning.
    while from > 0 && used + wide[from - 1] <= room {
        from -= 1;
        used += wide[from];
    }
    let more = || Bit::new(theme.pick("…", "~"), theme.dim(), theme);
    let mut line = Vec::new();
    if from > 0 {
        line.push(more());
    }
    let n = tokens.len();
    line.extend(tokens.into_iter().skip(from).take(to - from).flatten());
    if to < n {
        line.push(more());
    }
    line
}

/// Tokens with the one at `at` in the same column whatever stands before it, so that a reader runs down what fires: three
/// fifths of the room are for what comes before.
pub(super) fn aligned(tokens: Vec<Vec<Bit>>, at: usize, room: usize, theme: Theme) -> Line {
    let wide: Vec<usize> = (tokens.iter())
        .map(|bits| bits.iter().map(Bit::width).sum())
        .collect();
    let at = at.min(tokens.len().saturating_sub(1));
    // A column at either end is for what is left out.
    let (before, mut used, mut from) = ((room * 3 / 5).saturating_sub(1), 0, at);
    while from > 0 && used + wide[from - 1] <= before {
        from -= 1;
        used += wide[from];
    }
    let after = room.saturating_sub(before + 2);
    let (mut to, mut right) = (at, 0);
    while to < tokens.len() && (right + wide[to] <= after || to == at) {
        right += wide[to];
        to += 1;
    }
    let more = |there: bool| {
        let mark = if there { theme.pick("…", "~") } else { " " };
        Bit::new(mark, theme.dim(), theme)
    };
    let pad = Bit::new(&" ".repeat(before - used), theme.text(), theme);
    let mut line = vec![pad, more(from > 0)];
    let n = tokens.len();
    line.extend(tokens.into_iter().skip(from).take(to - from).flatten());
    line.push(more(to < n));
    line
}

/// A value in few characters; a dash where there is none.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".into(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.01.. => format!("{value:.2}"),
        0.0 => "0".into(),
        _ => format!("{value:.0e}"),
    }
}

/// Counts as a line of at most so many bars, by their roots, so that the rare ones are seen; neighbours are summed where
/// there are more.
pub(super) fn bars(counts: &[u64], width: usize, theme: Theme) -> String {
    let together = counts.len().div_ceil(width.max(1)).max(1);
    let sums = counts.chunks(together).map(|some| some.iter().sum());
    let counts: Vec<u64> = sums.collect();
    let most = counts.iter().copied().max().unwrap_or(0) as f64;
    let bar = |&count: &u64| match count {
        0 => " ",
        count => theme.ramp((count as f64 / most).sqrt().max(0.125) as f32),
    };
    counts.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line) -> String {
        line.iter().map(|bit| bit.text.as_str()).collect()
    }

    #[test]
    fn rows_are_wrapped_and_indented() {
        let theme = Theme::no_colour();
        let bits = words("one two three four", theme.text(), theme);
        let lines = row("label", bits, 18, theme);
        let lines: Vec<String> = lines.iter().map(text).collect();
        assert_eq!(
            lines,
            ["label    one two ", "         three ", "         four "]
        );
        let long = row("x", words("abcdefghijkl", theme.text(), theme), 14, theme);
        assert_eq!(text(&long[0]), "x        ");
        assert_eq!(text(&long[1]), "         abcd…");
    }

    #[test]
    fn without_colours_a_token_stands_in_brackets() {
        let of = |theme, value, peak| text(&token(" lock", value, 2.0, peak, theme));
        let plain = Theme::no_colour();
        assert_eq!(of(plain, 1.0, false), " [lock]");
        assert_eq!(of(plain, 2.0, true), " [[lock]]");
        for silent in [0.0, -1.0, f32::NAN] {
            assert_eq!(of(plain, silent, true), " lock");
        }
        let bits = token(" lock", 1.0, 2.0, false, Theme::dark());
        assert_eq!((bits[0].style.bg, bits[1].text.as_str()), (None, "lock"));
        assert!(bits[1].style.bg.is_some());
        let blank = token(" ", 1.0, 1.0, false, plain);
        assert_eq!(text(&blank), "[␣]");
        assert!(!text(&token("\u{1b}[31m", 1.0, 1.0, true, plain)).contains('\u{1b}'));
    }

    #[test]
    fn tokens_around_the_peak_fill_the_room() {
        let theme = Theme::no_colour();
        let tokens = || -> Vec<Vec<Bit>> {
            let one = |c: char| vec![Bit::new(&c.to_string(), theme.text(), theme)];
            ('a'..='z').map(one).collect()
        };
        for (at, room, expected) in [
            (0, 7, "abcde…"),
            (25, 7, "…vwxyz"),
            (12, 8, "…jklmno…"),
            (3, 40, "abcdefghijklmnopqrstuvwxyz"),
        ] {
            assert_eq!(text(&around(tokens(), at, room, theme)), expected);
        }
        assert_eq!(text(&around(Vec::new(), 3, 9, theme)), "");
    }

    #[test]
    fn the_peak_stands_in_the_same_column() {
        let theme = Theme::no_colour();
        let tokens = |n: usize| -> Vec<Vec<Bit>> {
            let one = |c: char| vec![Bit::new(&c.to_string(), theme.text(), theme)];
            ('a'..='z').take(n).map(one).collect()
        };
        for (at, n, expected) in [
            (0, 3, "      abc "),
            (2, 9, "    abcdef…"),
            (9, 26, "…efghijklm…"),
        ] {
            let line = text(&aligned(tokens(n), at, 11, theme));
            assert_eq!(line.trim_end(), expected.trim_end());
            let peak = tokens(n)[at][0].text.clone();
            let column = line.chars().position(|c| c.to_string() == peak);
            assert_eq!(column, Some(6));
        }
        assert_eq!(text(&aligned(Vec::new(), 3, 0, theme)), "  ");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [123.4, 31.25, 1.0, 0.0123, 0.0, -0.001, f64::NAN].map(number);
        assert_eq!(shown, ["123", "31.2", "1.00", "0.01", "0", "-1e-3", "-"]);
        assert_eq!(bars(&[4, 0, 1], 3, Theme::dark()), "█ ▄");
        assert_eq!(bars(&[1, 3, 0, 0, 1], 3, Theme::dark()), "█ ▄");
        assert_eq!(bars(&[], 0, Theme::dark()), "");
    }
}
