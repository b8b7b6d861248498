//! A screen as an SVG picture: a grid of cells, backgrounds below, text above.
//!
//! Always: every run is stretched to its columns, so that the grid holds whatever font the reader has; bars, shades and
//! frames are shapes, since fonts leave gaps between them.

use std::fmt::Write;

use ratatui::buffer::Buffer;
use unicode_segmentation::UnicodeSegmentation;

use super::super::theme::Theme;
use super::runs::{Ink, Run, hex, rows};
use crate::audit::report::text::escaped;
use crate::text::visible::width;

/// A cell in units of the drawing; 0.6 of the font's size is how wide monospaced fonts are.
const WIDE: f64 = 9.0;
const HIGH: f64 = 18.0;
const FONT: f64 = 15.0;
const BASELINE: f64 = 13.5;
const MARGIN: f64 = 12.0;

/// The buffer as a drawing on the theme's paper. Nothing is fetched to show it.
pub fn svg(buffer: &Buffer, theme: Theme) -> String {
    let (paper, text) = theme.paper();
    let size = |cells: u16, unit: f64| f64::from(cells) * unit + 2.0 * MARGIN;
    let (width, height) = (
        size(buffer.area.width, WIDE),
        size(buffer.area.height, HIGH),
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"{FONT}\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{}\"/>\n\
         <g transform=\"translate({MARGIN} {MARGIN})\" shape-rendering=\"crispEdges\" fill=\"{}\">\n",
        hex(paper),
        hex(text)
    );
    let rows = rows(buffer, theme);
    for (y, runs) in rows.iter().enumerate() {
        for run in runs {
            background(&mut out, run, y);
        }
    }
    for (y, runs) in rows.iter().enumerate() {
        for run in runs {
            foreground(&mut out, run, y, hex(text));
        }
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn background(out: &mut String, run: &Run, y: usize) {
    if let Some(back) = run.ink.back {
        let (x, wide) = (run.column as f64 * WIDE, run.columns as f64 * WIDE);
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"{wide}\" height=\"{HIGH}\" fill=\"{}\"/>",
            y as f64 * HIGH,
            hex(back)
        ); // writing to a String cannot fail
    }
}

/// A run's text, parted at the characters that are drawn as shapes.
fn foreground(out: &mut String, run: &Run, y: usize, text: String) {
    let colour = run.ink.fore.map_or(text, hex);
    let (mut words, mut from, mut column) = (String::new(), run.column, run.column);
    for grapheme in run.text.graphemes(true) {
        if let Some(shape) = shape(grapheme, column as f64 * WIDE, y as f64 * HIGH, &colour) {
            write_text(out, &words, (from, column), y, run.ink);
            words.clear();
            out.push_str(&shape);
            out.push('\n');
            column += 1;
            from = column;
        } else {
            words.push_str(grapheme);
            column += width(grapheme).max(1);
        }
    }
    write_text(out, &words, (from, column), y, run.ink);
}

/// Text over the columns `from..to`; blanks at its ends are not written unless a line is drawn under them.
fn write_text(out: &mut String, words: &str, (from, to): (usize, usize), y: usize, ink: Ink) {
    let lined = ink.underlined || ink.struck;
    let (mut words, mut from, mut to) = (words, from, to);
    if !lined {
        let rest = words.trim_start_matches(' ');
        from += words.len() - rest.len();
        words = rest.trim_end_matches(' ');
        to -= rest.len() - words.len();
    }
    if words.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\"",
        from as f64 * WIDE,
        y as f64 * HIGH + BASELINE,
        (to - from) as f64 * WIDE
    );
    if let Some(fore) = ink.fore {
        let _ = write!(out, " fill=\"{}\"", hex(fore));
    }
    if ink.bold {
        out.push_str(" font-weight=\"bold\"");
    }
    if ink.italic {
        out.push_str(" font-style=\"italic\"");
    }
    match (ink.underlined, ink.struck) {
        (true, true) => out.push_str(" text-decoration=\"underline line-through\""),
        (true, false) => out.push_str(" text-decoration=\"underline\""),
        (false, true) => out.push_str(" text-decoration=\"line-through\""),
        (false, false) => {}
    }
    let _ = writeln!(out, ">{}</text>", escaped(words));
}

/// A block or line character at its place, none for any other.
fn shape(grapheme: &str, x: f64, y: f64, colour: &str) -> Option<String> {
    let mut chars = grapheme.chars();
    let (c, None) = (chars.next()?, chars.next()) else {
        return None;
    };
    let rect = |x: f64, y: f64, wide: f64, high: f64, opacity: f64| {
        let faint = if opacity < 1.0 {
            format!(" fill-opacity=\"{opacity}\"")
        } else {
            String::new()
        };
        Some(format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\" fill=\"{colour}\"{faint}/>"
        ))
    };
    match c {
        '▁'..='█' => {
            let high = HIGH * f64::from(c as u32 - '▁' as u32 + 1) / 8.0;
            rect(x, y + HIGH - high, WIDE, high, 1.0)
        }
        '▉'..='▏' => rect(
            x,
            y,
            WIDE * f64::from('▏' as u32 - c as u32 + 1) / 8.0,
            HIGH,
            1.0,
        ),
        '░'..='▓' => rect(
            x,
            y,
            WIDE,
            HIGH,
            0.25 * f64::from(c as u32 - '░' as u32 + 1),
        ),
        _ => lines(c).map(|arms| arms_path(arms, x, y, colour)),
    }
}

/// To which sides a line character goes: left, right, up, down.
fn lines(c: char) -> Option<[bool; 4]> {
    let sides = match c {
        '─' => "lr",
        '│' => "ud",
        '┌' => "rd",
        '┐' => "ld",
        '└' => "ru",
        '┘' => "lu",
        '├' => "rud",
        '┤' => "lud",
        '┬' => "lrd",
        '┴' => "lru",
        '┼' => "lrud",
        _ => return None,
    };
    Some(['l', 'r', 'u', 'd'].map(|side| sides.contains(side)))
}

fn arms_path(arms: [bool; 4], x: f64, y: f64, colour: &str) -> String {
    let (middle, centre) = (x + WIDE / 2.0, y + HIGH / 2.0);
    let ends = [
        format!("H{x}"),
        format!("H{}", x + WIDE),
        format!("V{y}"),
        format!("V{}", y + HIGH),
    ];
    let mut path = String::new();
    for (end, _) in ends.iter().zip(arms).filter(|(_, there)| *there) {
        let _ = write!(path, "M{middle} {centre}{end}");
    }
    format!("<path d=\"{path}\" stroke=\"{colour}\" stroke-linecap=\"square\"/>")
}
