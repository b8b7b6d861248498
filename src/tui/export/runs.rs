//! A buffer as runs: text of one look, with its place, colours resolved to 24 bits.
//!
//! Always: runs of a row follow each other without a gap; a wide grapheme counts its columns once; inverted and dim are
//! already worked into the colours, so that a writer of files knows no terminal.

use ratatui::buffer::Buffer;
use ratatui::style::Modifier;

use super::super::theme::{Theme, rgb};
use crate::text::visible::width;

type Rgb = (u8, u8, u8);

/// How a run looks on the theme's paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ink {
    /// The text's colour, none for the paper's own.
    pub fore: Option<Rgb>,
    /// What is behind it, none for the paper.
    pub back: Option<Rgb>,
    pub bold: bool,
    pub italic: bool,
    pub underlined: bool,
    pub struck: bool,
}

/// Text of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Its first column.
    pub column: usize,
    /// How many it takes.
    pub columns: usize,
    pub text: String,
    pub ink: Ink,
}

/// The rows of the buffer, each as its runs.
pub(super) fn rows(buffer: &Buffer, theme: Theme) -> Vec<Vec<Run>> {
    let columns = usize::from(buffer.area.width);
    if columns == 0 {
        return Vec::new();
    }
    let rows = buffer.content.chunks(columns);
    rows.map(|cells| {
        let mut runs: Vec<Run> = Vec::new();
        let mut column = 0;
        while let Some(cell) = cells.get(column) {
            let symbol = if cell.symbol().is_empty() {
                " "
            } else {
                cell.symbol()
            };
            let wide = width(symbol).clamp(1, columns - column);
            let ink = ink(cell.fg, cell.bg, cell.modifier, theme);
            match runs.last_mut() {
                Some(run) if run.ink == ink => {
                    run.text.push_str(symbol);
                    run.columns += wide;
                }
                _ => runs.push(Run {
                    column,
                    columns: wide,
                    text: symbol.to_owned(),
                    ink,
                }),
            }
            column += wide;
        }
        runs
    })
    .collect()
}

fn ink(
    fore: ratatui::style::Color,
    back: ratatui::style::Color,
    modifier: Modifier,
    theme: Theme,
) -> Ink {
    let (paper, text) = theme.paper();
    let (mut fore, mut back) = (rgb(fore), rgb(back));
    if modifier.contains(Modifier::REVERSED) {
        (fore, back) = (Some(back.unwrap_or(paper)), Some(fore.unwrap_or(text)));
    }
    if modifier.contains(Modifier::DIM) {
        let (full, behind) = (fore.unwrap_or(text), back.unwrap_or(paper));
        let mix = |a: u8, b: u8| ((u16::from(a) * 3 + u16::from(b) * 2) / 5) as u8;
        fore = Some((
            mix(full.0, behind.0),
            mix(full.1, behind.1),
            mix(full.2, behind.2),
        ));
    }
    if modifier.contains(Modifier::HIDDEN) {
        fore = Some(back.unwrap_or(paper));
    }
    Ink {
        fore,
        back,
        bold: modifier.contains(Modifier::BOLD),
        italic: modifier.contains(Modifier::ITALIC),
        underlined: modifier.contains(Modifier::UNDERLINED),
        struck: modifier.contains(Modifier::CROSSED_OUT),
    }
}

/// `#rrggbb`.
pub(super) fn hex((r, g, b): Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The buffer's characters, rows without the blanks at their ends, each ended by a newline.
pub fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for runs in rows(buffer, Theme::no_colour()) {
        let row: String = runs.iter().map(|run| run.text.as_str()).collect();
        out.push_str(&crate::text::visible::visible(row.trim_end()));
        out.push('\n');
    }
    out
}
