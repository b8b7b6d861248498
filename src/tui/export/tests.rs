//! Exports of a small buffer as they are written, and of any buffer as they must be read.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::*;
use crate::tui::theme::{Scale, Theme};

fn small() -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 2));
    let theme = Theme::dark();
    buffer.set_string(0, 0, "┌ <a> ", theme.title());
    buffer.set_string(6, 0, "東", theme.heat(Scale::Sequential, 1.0));
    buffer.set_string(1, 1, "▄ok", Style::new().fg(Color::Rgb(1, 2, 3)));
    buffer.set_string(5, 1, "x", theme.cursor());
    buffer
}

#[test]
fn a_small_screen_as_a_picture() {
    assert_eq!(
        svg(&small(), Theme::dark()),
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 96 60\" width=\"96\" height=\"60\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"15\">\n\
         <rect width=\"96\" height=\"60\" rx=\"6\" fill=\"#16181d\"/>\n\
         <g transform=\"translate(12 12)\" shape-rendering=\"crispEdges\" fill=\"#dcdfe4\">\n\
         <rect x=\"54\" y=\"0\" width=\"18\" height=\"18\" fill=\"#fee838\"/>\n\
         <rect x=\"45\" y=\"18\" width=\"9\" height=\"18\" fill=\"#dcdfe4\"/>\n\
         <path d=\"M4.5 9H9M4.5 9V18\" stroke=\"#dcdfe4\" stroke-linecap=\"square\"/>\n\
         <text x=\"18\" y=\"13.5\" textLength=\"27\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" font-weight=\"bold\">&lt;a&gt;</text>\n\
         <text x=\"54\" y=\"13.5\" textLength=\"18\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" fill=\"#000000\">東</text>\n\
         <rect x=\"9\" y=\"27\" width=\"9\" height=\"9\" fill=\"#010203\"/>\n\
         <text x=\"18\" y=\"31.5\" textLength=\"18\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" fill=\"#010203\">ok</text>\n\
         <text x=\"45\" y=\"31.5\" textLength=\"9\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" fill=\"#16181d\" font-weight=\"bold\">x</text>\n\
         </g>\n</svg>\n"
    );
}

#[test]
fn a_small_screen_as_a_page_and_as_text() {
    let page = html(&small(), "a <b>", Theme::dark());
    assert!(page.contains("<title>a &lt;b&gt;</title>"));
    let body = page.split_once("<pre>").unwrap().1;
    assert_eq!(
        body,
        "<span style=\"font-weight:bold\">┌ &lt;a&gt; </span><span style=\"color:#000000;background:#fee838\">東</span>\n \
         <span style=\"color:#010203\">▄ok</span> <span style=\"color:#16181d;background:#dcdfe4;font-weight:bold\">x</span>  \n\
         </pre></body></html>\n"
    );
    assert_eq!(text(&small()), "┌ <a> 東\n ▄ok x\n");
}

#[test]
fn nothing_is_fetched() {
    for file in [
        svg(&small(), Theme::light()),
        html(&small(), "t", Theme::light()),
    ] {
        let file = file.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !["http", "url(", "<script", "@import"]
                .iter()
                .any(|s| file.contains(s))
        );
    }
}

/// What a strict parser of XML without a DTD minds: tags that close, attributes quoted and once, entities known, no character
/// that XML has not.
fn well_formed(text: &str) -> Result<(), String> {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if let Some(c) = text.chars().find(|c| !legal(*c)) {
        return Err(format!("{c:?} is no character of XML"));
    }
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        entities(&rest[..at])?;
        let end = rest.find('>').ok_or("a tag without an end")?;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
            continue;
        }
        let (tag, alone) = tag
            .strip_suffix('/')
            .map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        attributes_of(attributes)?;
        if !alone {
            open.push(name);
        }
    }
    entities(rest)?;
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("{open:?} left open"))
    }
}

fn attributes_of(mut text: &str) -> Result<(), String> {
    let mut names = std::collections::BTreeSet::new();
    while !text.trim().is_empty() {
        let (name, rest) = text
            .trim_start()
            .split_once("=\"")
            .ok_or(format!("`{text}`"))?;
        let (value, rest) = rest
            .split_once('"')
            .ok_or(format!("`{rest}` is not closed"))?;
        if !names.insert(name) || value.contains('<') {
            return Err(format!("attribute `{name}`"));
        }
        entities(value)?;
        text = rest;
    }
    Ok(())
}

fn entities(text: &str) -> Result<(), String> {
    for piece in text.split('&').skip(1) {
        let name = piece.split_once(';').ok_or(format!("&{piece}"))?.0;
        if !["amp", "lt", "gt", "quot", "#39"].contains(&name) {
            return Err(format!("&{name};"));
        }
    }
    Ok(())
}

#[test]
fn the_check_itself_finds_faults() {
    assert!(well_formed("<a b=\"1\"><c/>x &lt; y</a>").is_ok());
    for bad in [
        "<a>",
        "<a></b>",
        "a & b",
        "<a b=\"1\" b=\"2\"/>",
        "<a b=1/>",
        "\u{1b}",
        "<a b=\"<\"/>",
    ] {
        assert!(well_formed(bad).is_err(), "{bad}");
    }
}

fn any_cell() -> impl Strategy<Value = (String, Style)> {
    let symbol = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ a-c<>&'\"]",
        prop::sample::select(vec![
            "",
            "\u{1b}[2J",
            "\u{ffff}",
            "東",
            "]]>",
            "a\u{301}",
            "▓",
            "┼",
            "\0"
        ])
        .prop_map(String::from),
    ];
    (symbol, any::<(u8, u8, u8)>(), any::<u16>()).prop_map(|(symbol, (r, g, b), bits)| {
        let style = Style::new().fg(Color::Indexed(r)).bg(Color::Rgb(r, g, b));
        let style = if g % 2 == 0 { Style::new() } else { style };
        (
            symbol,
            style.add_modifier(Modifier::from_bits_truncate(bits)),
        )
    })
}

proptest! {
    #[test]
    fn any_buffer_gives_well_formed_files(
        cells in prop::collection::vec(any_cell(), 0..60), width in 0u16..12, title in any::<String>(), light in any::<bool>(),
    ) {
        let height = (cells.len() as u16).checked_div(width).unwrap_or(3);
        let mut buffer = Buffer::empty(Rect::new(3, 4, width, height));
        // Raw, as no widget of ours would write them.
        for (cell, (symbol, style)) in buffer.content.iter_mut().zip(&cells) {
            cell.set_symbol(symbol).set_style(*style);
        }
        let theme = if light { Theme::light() } else { Theme::dark() };
        let picture = svg(&buffer, theme);
        prop_assert_eq!(well_formed(&picture), Ok(()), "{}", picture);
        let page = html(&buffer, &title, theme);
        let page = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
        prop_assert_eq!(well_formed(page), Ok(()), "{}", page);
        let plain = text(&buffer);
        prop_assert!(!plain.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert_eq!(plain.lines().count(), usize::from(if width == 0 { 0 } else { height }));
    }
}
