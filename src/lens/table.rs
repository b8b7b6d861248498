//! The lens for a terminal: layers down, positions across, each cell its likeliest token.
//!
//! Always: no line is wider than the terminal, token texts are made visible before they are shown, and probability is a
//! bar before it is a shade, so that nothing is told by colour alone.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use super::{Cell, LogitLens};
use crate::text::visible::{cut, fit, token_label};

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// With ANSI colours.
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
}

/// A cell is at least and at most this wide, bar included.
const NARROWEST: usize = 7;
const WIDEST: usize = 16;
/// Below this a terminal is not laid out for.
const LEAST_WIDTH: usize = 40;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// One hue with lightness rising evenly, which every kind of colour vision orders alike: (background, foreground).
const SHADES: [(u8, u8); 8] = [
    (233, 250),
    (17, 252),
    (18, 255),
    (24, 255),
    (31, 231),
    (38, 16),
    (80, 16),
    (159, 16),
];

/// The table of top tokens, in as many blocks of columns as the width asks for.
pub fn table(lens: &LogitLens, token: impl Fn(u32) -> String, look: Look) -> String {
    let label = |id: u32| token_label(&token(id));
    let width = look.width.max(LEAST_WIDTH);
    let head = lens.rows.iter().map(|r| r.label().len()).max().unwrap_or(0);
    let head = head.max("layer".len());
    let longest = |position: usize| {
        let tops = lens
            .cells
            .iter()
            .map(|cells| label(cells[position].top[0].id).width() + 2);
        tops.chain([heading(lens, position, &label).width()])
            .max()
            .unwrap_or(0)
            .clamp(NARROWEST, WIDEST)
    };
    let widths: Vec<usize> = (0..lens.positions.len()).map(longest).collect();
    let mut out = String::new();
    let mut from = 0;
    while from < widths.len() {
        let mut used = head + 1 + widths[from];
        let mut to = from + 1;
        while to < widths.len() && used + 1 + widths[to] <= width {
            used += 1 + widths[to];
            to += 1;
        }
        if from > 0 {
            out.push('\n');
        }
        block(&mut out, lens, &label, (from..to, &widths, head), look);
        from = to;
    }
    out
}

/// Columns of a block, the width of each column, the width of the row labels.
type Span<'a> = (std::ops::Range<usize>, &'a [usize], usize);

fn block(
    out: &mut String,
    lens: &LogitLens,
    label: &impl Fn(u32) -> String,
    (columns, widths, head): Span,
    look: Look,
) {
    out.push_str(&fit("layer", head));
    for i in columns.clone() {
        let _ = write!(out, " {}", fit(&heading(lens, i, label), widths[i]));
    }
    end_line(out);
    for (row, cells) in lens.rows.iter().zip(&lens.cells) {
        let name = row.label();
        let _ = write!(out, "{}{name}", " ".repeat(head.saturating_sub(name.len())));
        for i in columns.clone() {
            let top = cells[i].top[0];
            let step = level(top.probability);
            let text = format!("{} {}", fit(&label(top.id), widths[i] - 2), BARS[step]);
            let _ = if look.colour {
                let (back, fore) = SHADES[step];
                write!(out, " \u{1b}[48;5;{back};38;5;{fore}m{text}\u{1b}[0m")
            } else {
                write!(out, " {text}")
            };
        }
        end_line(out);
    }
}

fn end_line(out: &mut String) {
    let kept = out.trim_end_matches(' ').len();
    out.truncate(kept);
    out.push('\n');
}

fn heading(lens: &LogitLens, i: usize, label: &impl Fn(u32) -> String) -> String {
    format!("{}:{}", lens.positions[i], label(lens.tokens[i]))
}

/// Which eighth of `[0, 1]`.
fn level(probability: f64) -> usize {
    ((probability * 8.0) as usize).min(7)
}

/// The line that explains bars and rows.
pub fn legend() -> &'static str {
    "rows: residual stream after each layer, through the final norm and unembedding (logit lens); columns: position:token\n\
     bar: probability of the token shown, ▁ below 1/8 to █ from 7/8"
}

/// Every number of one position, a line for each row.
///
/// # Panics
/// Never for an index into `lens.positions`.
pub fn detail(lens: &LogitLens, i: usize, token: impl Fn(u32) -> String, look: Look) -> String {
    let label = |id: u32| token_label(&token(id));
    let room = look.width.max(LEAST_WIDTH).saturating_sub(66).clamp(8, 20);
    let target = cut(&label(lens.targets[i]), room);
    let mut out = format!(
        "position {} after {}; target {target}; KL is KL(final ‖ layer), nats\n",
        lens.positions[i],
        cut(&label(lens.tokens[i]), room)
    );
    let _ = writeln!(
        out,
        "{:>5}  {}  {:>6}  {:>7}  {:>8}  {:>6}  {:>8}  {:>8}",
        "layer",
        fit("top token", room),
        "p",
        "entropy",
        "KL",
        "rank",
        "log p",
        "norm"
    );
    for (row, cells) in lens.rows.iter().zip(&lens.cells) {
        let Cell {
            top,
            entropy,
            kl,
            target_rank,
            target_log_prob,
            norm,
        } = &cells[i];
        let _ = writeln!(
            out,
            "{:>5}  {}  {:>6.4}  {entropy:>7.3}  {kl:>8.4}  {target_rank:>6}  {target_log_prob:>8.3}  {norm:>8.2}",
            row.label(),
            fit(&label(top[0].id), room),
            top[0].probability,
        );
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::lens::{LensRow, Ranked};

    const WORDS: [&str; 6] = [
        " the",
        "\u{1b}[2J\u{202e}",
        "東京都庁の職員です",
        "e\u{301}",
        "",
        "a very long token indeed",
    ];

    fn lens(positions: usize) -> LogitLens {
        let cell = |i: usize| Cell {
            top: vec![Ranked {
                id: (i % 6) as u32,
                probability: i as f64 / 10.0,
            }],
            entropy: 1.0,
            kl: 0.5,
            target_rank: 3,
            target_log_prob: -2.0,
            norm: 10.0,
        };
        LogitLens {
            rows: LensRow::all(3),
            positions: (0..positions).collect(),
            tokens: (0..positions).map(|i| (i % 6) as u32).collect(),
            targets: vec![0; positions],
            cells: (0..4)
                .map(|r| (0..positions).map(|p| cell((r + p) % 11)).collect())
                .collect(),
        }
    }

    fn word(id: u32) -> String {
        WORDS[id as usize].to_string()
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_nothing_acts_on_it() {
        for width in [40, 61, 80, 133] {
            let look = Look {
                colour: false,
                width,
            };
            let text = table(&lens(13), word, look) + &detail(&lens(13), 2, word, look);
            for line in text.lines() {
                assert!(line.width() <= width.max(80), "{width}: {line}");
                assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'));
            }
            for line in table(&lens(13), word, look).lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn colour_adds_escapes_and_changes_no_text() {
        let plain = table(
            &lens(5),
            word,
            Look {
                colour: false,
                width: 90,
            },
        );
        let colour = table(
            &lens(5),
            word,
            Look {
                colour: true,
                width: 90,
            },
        );
        let mut stripped = String::new();
        let mut rest = colour.as_str();
        while let Some(at) = rest.find("\u{1b}[") {
            stripped.push_str(&rest[..at]);
            rest = &rest[at..];
            rest = &rest[rest.find('m').unwrap() + 1..];
        }
        stripped.push_str(rest);
        assert_ne!(colour, plain);
        assert_eq!(stripped, plain);
    }

    #[test]
    fn a_bar_is_an_eighth() {
        assert_eq!(
            [0.0, 0.124, 0.125, 0.5, 0.999, 1.0].map(level),
            [0, 0, 1, 4, 7, 7]
        );
    }
}
