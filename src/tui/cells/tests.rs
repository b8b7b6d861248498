//! Widgets on small buffers as they look, and on every size as they must not break.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use super::*;
use crate::tui::theme::{Background, Scale, Theme, Tier};

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width.max(1));
    let row = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
    let rows = buffer.content.chunks(width).map(row);
    rows.map(|row| row.trim_end().to_owned()).collect()
}

fn sheet(width: u16, height: u16) -> Buffer {
    Buffer::empty(Rect::new(0, 0, width, height))
}

fn named(prefix: &str, n: usize) -> Vec<String> {
    (0..n).map(|i| format!("{prefix}{i}")).collect()
}

/// A map of `rows` by `columns` whose value grows with both.
fn grid<'a>(
    rows: &'a [String],
    columns: &'a [String],
    value: &'a dyn Fn(usize, usize) -> f32,
) -> HeatMap<'a> {
    HeatMap {
        columns,
        rows,
        value,
        text: None,
        marked: None,
        digits: true,
        scale: Scale::Sequential,
        lo: 0.0,
        hi: 1.0,
        cursor: None,
        offset: (0, 0),
        cell_width: 5,
        stale: false,
    }
}

#[test]
fn later_layers_are_higher_and_clicks_find_their_cell() {
    let (rows, columns) = (named("L", 3), named("t", 2));
    let value = |row: usize, column: usize| (row * 2 + column) as f32 / 10.0;
    let mut buffer = sheet(14, 4);
    let area = buffer.area;
    let hits = heat_map(
        &mut buffer,
        area,
        &grid(&rows, &columns, &value),
        Theme::dark(),
    );
    assert_eq!(
        lines(&buffer),
        ["   t0   t1", "L2 0.40 0.50", "L1 0.20 0.30", "L0 0.00 0.10"]
    );
    assert_eq!(hits.at(3, 3), Some((0, 0)));
    assert_eq!(hits.at(8, 1), Some((2, 1)));
    assert_eq!(hits.at(2, 1), None);
    assert_eq!(hits.at(3, 0), None);
    for row in 0..3 {
        for column in 0..2 {
            let place = hits.cell(row, column).unwrap();
            assert_eq!(hits.at(place.x, place.y), Some((row, column)));
            let back = Theme::dark().heat(Scale::Sequential, value(row, column)).bg;
            assert_eq!(buffer[(place.x, place.y)].style().bg, back);
        }
    }
}

#[test]
fn a_map_too_large_shows_its_cursor_and_says_where_there_is_more() {
    let (rows, columns) = (named("L", 30), named("t", 40));
    let mut map = grid(&rows, &columns, &|_, _| 0.5);
    for theme in [Theme::dark(), Theme::no_colour()] {
        for cursor in [(0, 0), (29, 39), (15, 7), (99, 99)] {
            map.cursor = Some(cursor);
            let mut buffer = sheet(40, 12);
            let area = buffer.area;
            let hits = heat_map(&mut buffer, area, &map, theme);
            let (row, column) = (cursor.0.min(29), cursor.1.min(39));
            let place = hits.cell(row, column).unwrap();
            let marked = buffer[(place.x, place.y)]
                .modifier
                .contains(Modifier::REVERSED);
            assert_eq!(marked, cursor == (row, column));
        }
    }
    map.cursor = Some((15, 20));
    map.offset = (10, 18);
    let mut buffer = sheet(40, 12);
    let area = buffer.area;
    let hits = heat_map(&mut buffer, area, &map, Theme::dark());
    assert_eq!((hits.rows.start, hits.columns.start), (10, 18));
    assert!(
        lines(&buffer)[0].starts_with("←→…"),
        "{:?}",
        lines(&buffer)[0]
    );
}

#[test]
fn a_table_cuts_aligns_and_keeps_its_head() {
    let row = |name: &str, n: &str| {
        vec![
            Entry::new(name, Style::new()),
            Entry::number(n, Style::new()),
        ]
    };
    let rows = [
        row("refusal rate", ".93"),
        row("a\u{1b}[2Jb", "1.5"),
        row("c", "2"),
    ];
    let mut buffer = sheet(18, 3);
    let area = buffer.area;
    let it = Table {
        headers: &["signal", "value"],
        rows: &rows,
        widths: &[8, 5],
        selected: Some(2),
        offset: 0,
        focus: true,
    };
    let hits = table(&mut buffer, area, &it, Theme::dark());
    assert_eq!(
        lines(&buffer),
        ["signal   value", "a⟨U+001…   1.5", "c            2"]
    );
    assert_eq!(hits.rows, 1..3);
    assert_eq!(hits.at(0, 0), None);
    assert_eq!(hits.at(3, 2), Some(2));
    assert!(buffer[(17, 2)].modifier.contains(Modifier::REVERSED));
    assert!(!buffer[(0, 1)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn scrolling_moves_as_little_as_it_must() {
    assert_eq!(scroll(Some(5), 3, 4, 10), 3);
    assert_eq!(scroll(Some(7), 3, 4, 10), 4);
    assert_eq!(scroll(Some(1), 3, 4, 10), 1);
    assert_eq!(scroll(None, 9, 4, 10), 6);
    assert_eq!(scroll(Some(3), 0, 0, 10), 0);
    assert_eq!(scroll(Some(3), 5, 4, 0), 0);
}

#[test]
fn a_slider_stands_where_its_value_is_and_a_click_means_the_same() {
    let mut buffer = sheet(20, 1);
    let area = buffer.area;
    let hits = slider(&mut buffer, area, 1.0, -2.0, 2.0, true, Theme::dark());
    assert_eq!(lines(&buffer), ["◀──────┼─●───▶ +1.00"]);
    assert_eq!(hits.at(hits.track.x, 0), Some(-2.0));
    assert_eq!(hits.at(hits.track.right() - 1, 0), Some(2.0));
    assert_eq!(hits.at(0, 0), None);
    let mut small = sheet(6, 1);
    let area = small.area;
    slider(&mut small, area, 1.0, -2.0, 2.0, true, Theme::dark());
    assert_eq!(lines(&small), ["+1.00"]);
}

#[test]
fn cards_and_panels_hold_their_words() {
    let mut buffer = sheet(30, 9);
    let area = buffer.area;
    let inside = panel(&mut buffer, area, "lens", true, Theme::dark());
    assert_eq!(inside, Rect::new(1, 1, 28, 7));
    let failed = Card {
        title: "no model".into(),
        style: Theme::dark().error(),
        body: vec!["models.safetensors is cut short at byte 812".into()],
        footer: "o open another".into(),
    };
    card(&mut buffer, inside, &failed, Theme::dark());
    assert_eq!(
        lines(&buffer),
        [
            "┌ lens ──────────────────────┐",
            "│ no model                   │",
            "│                            │",
            "│ models.safetensors is cut  │",
            "│ short at byte 812          │",
            "│                            │",
            "│ o open another             │",
            "│                            │",
            "└────────────────────────────┘"
        ]
    );
    assert_eq!(
        popup(Rect::new(0, 0, 80, 24), 20, 4),
        Rect::new(30, 10, 20, 4)
    );
    assert_eq!(popup(Rect::new(5, 5, 3, 2), 20, 4), Rect::new(5, 5, 3, 2));
    assert_eq!(
        chip("refusal@12", true, Theme::dark()).content,
        "● refusal@12"
    );
    let ascii = Theme::new(Tier::Ansi16, Background::Dark, true);
    assert_eq!(chip("refusal@12", false, ascii).content, "[ ] refusal@12");
}

#[test]
fn nothing_raw_reaches_a_cell() {
    let mut buffer = sheet(20, 1);
    let area = buffer.area;
    let end = put(&mut buffer, area, 1, 0, "\u{1b}[2J\u{202e}", Style::new());
    assert_eq!(lines(&buffer), [" ⟨U+001B⟩[2J⟨U+202E⟩"]);
    assert_eq!(end, 20);
    let mut narrow = sheet(3, 1);
    put(
        &mut narrow,
        Rect::new(0, 0, 3, 1),
        0,
        0,
        "東京",
        Style::new(),
    );
    assert_eq!(narrow[(2, 0)].symbol(), " ");
}

fn anywhere() -> impl Strategy<Value = Rect> {
    let edge = || prop_oneof![0u16..50, (u16::MAX - 40)..=u16::MAX];
    (edge(), edge(), edge(), edge()).prop_map(|(x, y, width, height)| Rect {
        x,
        y,
        width,
        height,
    })
}

proptest! {
    #[test]
    fn no_size_and_no_place_breaks_a_widget(
        area in anywhere(), at in (0u16..5, 0u16..5), size in (0u16..60, 0u16..30), text in any::<String>(),
        value in any::<f32>(), ends in any::<(f32, f32)>(), counts in (0usize..12, 0usize..12),
        cursor in prop::option::of((0usize..14, 0usize..14)), offset in (0usize..20, 0usize..20),
        cell_width in 0u16..12, flags in any::<[bool; 4]>(), tier in 0usize..4,
    ) {
        let tier = [Tier::NoColour, Tier::Ansi16, Tier::Ansi256, Tier::True][tier];
        let theme = Theme::new(tier, Background::Light, flags[0]);
        let mut buffer = Buffer::empty(Rect::new(at.0, at.1, size.0, size.1));
        let buffer = &mut buffer;
        let (rows, columns) = (vec![text.clone(); counts.0], vec![text.clone(); counts.1]);
        let label = |_: usize, _: usize| text.clone();
        let cell = |_: usize, _: usize| value;
        let map = HeatMap {
            text: flags[1].then_some(&label as &dyn Fn(usize, usize) -> String),
            marked: None,
            digits: flags[2], stale: flags[3], lo: ends.0, hi: ends.1, cursor, offset, cell_width,
            ..grid(&rows, &columns, &cell)
        };
        let hits = heat_map(buffer, area, &map, theme);
        prop_assert!(hits.rows.end <= counts.0 && hits.columns.end <= counts.1);
        prop_assert!(hits.rows.is_empty() || hits.cells.intersection(buffer.area) == hits.cells);
        if let (Some((row, column)), false) = (cursor, hits.rows.is_empty()) {
            prop_assert!(hits.cell(row.min(counts.0 - 1), column.min(counts.1 - 1)).is_some());
        }
        let entries = vec![vec![Entry::number(&text, Style::new()); counts.0]; counts.1];
        let widths = [cell_width, 0, u16::MAX];
        let it = Table {
            headers: &["one", "two"], rows: &entries, widths: &widths, selected: cursor.map(|c| c.0), offset: offset.0, focus: flags[1],
        };
        table(buffer, area, &it, theme);
        let flat: Vec<Entry> = entries.into_iter().flatten().collect();
        list(buffer, area, &flat, cursor.map(|c| c.0), offset.1, flags[2], theme);
        slider(buffer, area, value, ends.0, ends.1, flags[3], theme);
        let inside = panel(buffer, area, &text, flags[1], theme);
        card(buffer, inside, &Card { title: text.clone(), body: vec![text.clone()], footer: text.clone(), style: Style::new() }, theme);
        put_spans(buffer, area, at.0, at.1, &[chip(&text, flags[2], theme)]);
        let window = popup(area, size.0, size.1);
        prop_assert!(window.width <= area.width && window.height <= area.height);
        for cell in &buffer.content {
            prop_assert!(crate::text::visible::is_visible(cell.symbol()), "{:?}", cell.symbol());
            prop_assert!(!flags[0] || cell.symbol().is_ascii());
        }
    }
}

#[test]
fn of_a_cut_beginning_the_end_stays() {
    assert_eq!(
        super::cut_front("runs/dpo/merged", 15, false),
        "runs/dpo/merged"
    );
    assert_eq!(
        super::cut_front("runs/dpo/merged", 11, false),
        "…dpo/merged"
    );
    assert_eq!(super::cut_front("runs/dpo/merged", 11, true), "~dpo/merged");
    // Wide characters are never halved.
    assert_eq!(super::cut_front("模型/检查点", 6, false), "…查点");
    for columns in 1..20 {
        assert!(super::width(&super::cut_front("a/模型/检查点/step-9", columns, false)) <= columns);
    }
}
