//! Drawing the time machine: where the slider stands, the prompt, the layers, what is said next, the chart.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::held::Seen;
use super::{TimeScreen, chart};
use crate::pipeline::stations::{Station, Stations};
use crate::tui::cells::{self, Card, Entry, Table, put};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::{run, unready};
use crate::tui::theme::Theme;

/// Places of the mouse: checkpoints.
pub(super) const STATION: u16 = 0;
/// Tokens of the prompt.
pub(super) const TOKEN: u16 = 1;
/// Next tokens.
pub(super) const NEXT: u16 = 2;

/// From here on layers and next tokens stand beside each other.
const WIDE: u16 = 60;

pub(super) fn draw(
    screen: &TimeScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let area = area.intersection(buf.area);
    let typing = screen.line.typing || screen.editor.is_some();
    let below = if typing { 3.min(area.height) } else { 0 };
    let (area, line) = split(area, area.height - below);
    if screen.line.typing {
        let title = "folder of a pipeline or of a training run (enter opens, esc closes)";
        screen.line.draw(line, title, theme, buf);
    } else if let Some(editor) = &screen.editor {
        let title = "prompt of every checkpoint (enter reads it, esc closes)";
        let inner = pen::panel(line, title, view.theme, buf);
        editor.field().draw(buf, inner, theme, true);
    }
    let shows = "The time machine moves one prompt through the checkpoints of a run: what each says next, layer by layer.";
    if let Some(card) = run::card(view.shared, theme, shows, "checkpoints") {
        return cells::card(buf, area, &card, theme);
    }
    let Some(stations) = view.shared.run.stations() else {
        return;
    };
    let (head, rest) = split(area, 4);
    slider(screen, stations, view, head, buf, hits);
    let (strip, rest) = split(rest, 1);
    prompt(screen, strip, theme, buf, hits);
    let Some((seen, old)) = screen.here(view.shared) else {
        return cells::card(buf, rest, &waiting(screen, view), theme);
    };
    if rest.width < WIDE {
        let (above, below) = split(rest, rest.height * 3 / 5);
        layers(screen, seen, old, view, above, buf);
        return over(screen, view, below, buf, hits);
    }
    let wide = (rest.width * 11 / 20).min(90);
    let left = Rect {
        width: wide,
        ..rest
    };
    let right = Rect {
        x: rest.x + wide,
        width: rest.width - wide,
        ..rest
    };
    layers(screen, seen, old, view, left, buf);
    let (above, below) = split(
        right,
        right.height - (right.height * 2 / 5).max(5).min(right.height),
    );
    next(screen, seen, old, view, above, buf, hits);
    over(screen, view, below, buf, hits);
}

/// The first so many rows, and the others.
fn split(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let below = Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    };
    (
        Rect {
            height: rows,
            ..area
        },
        below,
    )
}

fn waiting(screen: &TimeScreen, view: &View) -> Card {
    let theme = *view.theme;
    let name = screen
        .station(view.shared)
        .map_or_else(String::new, Station::name);
    match screen.trouble() {
        Some(why) => unready::say(
            "This checkpoint cannot be read",
            theme.error(),
            why.to_owned(),
            "left and right go to others; r looks at the run again",
        ),
        None => unready::say(
            "Reading",
            theme.accent(),
            format!("{name} is being opened and read."),
            "left and right go on meanwhile",
        ),
    }
}

/// Where the slider stands: the checkpoint in words, and a mark for each.
fn slider(
    screen: &TimeScreen,
    run: &Stations,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let count = run.all.len();
    let at = screen.at.min(count - 1);
    let station = &run.all[at];
    let play = if screen.playing { ", playing" } else { "" };
    let title = format!(
        "{}: checkpoint {} of {count}{play}",
        run::name(run, theme),
        at + 1
    );
    let inner = cells::panel(buf, area, &title, true, theme);
    let wish = screen.wish(view.shared);
    let mut x = put(
        buf,
        inner,
        0,
        0,
        &cells::prose(&station.name(), theme.ascii),
        theme.title(),
    );
    if let Some(verdict) = station.verdict {
        let (mark, word, style) = theme.verdict(verdict);
        x = put(buf, inner, x + 2, 0, &format!("{mark} {word}"), style);
    }
    let value = screen
        .here(view.shared)
        .and_then(|(seen, _)| screen.value(seen));
    if let Some(value) = value {
        let said = format!(
            "{}: {}",
            screen.quantity_word(view.shared),
            chart::number(value)
        );
        let said = cells::prose(&said, theme.ascii);
        let room = usize::from(inner.width.saturating_sub(x + 3));
        put(
            buf,
            inner,
            x + 3,
            0,
            &cells::cut(&said, room, theme.ascii),
            theme.dim(),
        );
    }
    // A mark for each, a bar where a stage begins.
    let room = usize::from(inner.width);
    let mut marks: Vec<(Option<usize>, &str, Style)> = Vec::new();
    for (i, station) in run.all.iter().enumerate() {
        if i > 0 && run.all[i - 1].stage != station.stage {
            marks.push((None, theme.pick("│", "|"), theme.dim()));
        }
        let read = screen.held.fresh(i, &wish).is_some();
        let failed = screen.held.at(i).is_some_and(Result::is_err);
        let (mark, style) = match (read, failed) {
            (true, _) => (theme.pick("●", "o"), theme.accent()),
            (_, true) => (theme.pick("✖", "x"), theme.error()),
            _ => (theme.pick("○", "."), theme.dim()),
        };
        let style = if i == at { theme.cursor() } else { style };
        marks.push((Some(i), mark, style));
    }
    let here = marks.iter().position(|(i, ..)| *i == Some(at));
    let wide = (room / marks.len().max(1)).clamp(1, 4);
    let shown = room / wide;
    let from = cells::scroll(
        here,
        here.unwrap_or(0).saturating_sub(shown / 2),
        shown,
        marks.len(),
    );
    for (column, (i, mark, style)) in marks.iter().skip(from).take(shown).enumerate() {
        let x = (column * wide) as u16;
        put(buf, inner, x, 1, mark, *style);
        if let Some(i) = i {
            let place = Rect::new(inner.x + x, inner.y + 1, wide as u16, 1);
            hits.add(place.intersection(inner), Target::Place(STATION, *i, 0));
        }
    }
}

/// The prompt's tokens with the one that is looked after.
fn prompt(screen: &TimeScreen, area: Rect, theme: Theme, buf: &mut Buffer, hits: &mut Hits) {
    let mut x = put(buf, area, 1, 0, "after ", theme.dim());
    let Some(words) = &screen.words else {
        return;
    };
    let Some(last) = words.tokens.len().checked_sub(1) else {
        return;
    };
    let at = screen.place.unwrap_or(last).min(last);
    let label = |at: usize| cells::visible(&words.tokens[at].text, theme.ascii);
    // As much before the token as leaves room for it and some after.
    let room = usize::from(area.width.saturating_sub(x)) * 3 / 4;
    let mut used = 0;
    let before = (0..=at).rev().take_while(|i| {
        used += cells::width(&label(*i)) + 1;
        used <= room || *i == at
    });
    let from = at + 1 - before.count();
    if from > 0 {
        x = put(buf, area, x, 0, theme.pick("…", "~"), theme.dim()) + 1;
    }
    for i in from..=last {
        let style = if i == at {
            theme.cursor()
        } else {
            theme.text()
        };
        let left = usize::from(area.width.saturating_sub(x));
        let text = cells::cut(&label(i), left, theme.ascii);
        let end = put(buf, area, x, 0, &text, style);
        if end == x {
            break;
        }
        let place = Rect::new(area.x + x, area.y, end - x, 1);
        hits.add(place.intersection(area), Target::Place(TOKEN, i, 0));
        x = end + 1;
    }
}

/// `0.123`, as a share of one.
fn share(probability: f64) -> String {
    format!("{probability:.3}")
}

fn layers(screen: &TimeScreen, seen: &Seen, old: bool, view: &View, area: Rect, buf: &mut Buffer) {
    let theme = *view.theme;
    let beside = cells::cut(&screen.beside_word(view.shared), 24, theme.ascii);
    let stale = if old { " (of before)" } else { "" };
    let title = cells::prose(&format!("layers, the last above{stale}"), theme.ascii);
    let inner = cells::panel(buf, area, &title, false, theme);
    let text = if old { theme.stale() } else { theme.text() };
    let most = seen
        .moment
        .layers
        .iter()
        .filter_map(|layer| screen.beside(layer))
        .fold(0.0f64, |most, value| most.max(value.abs()));
    let bars = usize::from(inner.width.saturating_sub(54)).min(12);
    let rows: Vec<Vec<Entry>> = seen
        .moment
        .layers
        .iter()
        .rev()
        .map(|layer| {
            let mut row = vec![Entry::new(layer.row.label(), theme.dim())];
            let first = layer.top.first();
            row.push(Entry::new(
                first.map_or_else(String::new, |top| {
                    cells::visible(screen.held.word(top.id), theme.ascii)
                }),
                text,
            ));
            row.push(Entry::number(
                first.map_or_else(String::new, |top| share(top.probability)),
                text,
            ));
            row.push(Entry::number(chart::number(layer.norm), theme.dim()));
            let value = screen.beside(layer);
            row.push(Entry::number(
                value.map_or("-".to_owned(), |value| format!("{value:+.2}")),
                text,
            ));
            let bar = value.map_or_else(String::new, |value| {
                cells::bar(value.abs() as f32, most as f32, bars, theme)
            });
            row.push(Entry::new(bar, theme.bar()));
            row
        })
        .collect();
    let headers = ["layer", "says next", "p", "length", &beside, ""];
    let room = usize::from(inner.height.saturating_sub(1));
    cells::table(
        buf,
        inner,
        &Table {
            headers: &headers,
            rows: &rows,
            widths: &[5, 14, 5, 8],
            selected: None,
            offset: screen.scroll.min(rows.len().saturating_sub(room)),
            focus: false,
        },
        theme,
    );
}

fn next(
    screen: &TimeScreen,
    seen: &Seen,
    old: bool,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let stale = if old { " (of before)" } else { "" };
    let title = format!("next tokens{stale}");
    let inner = cells::panel(buf, area, &title, false, theme);
    let text = if old { theme.stale() } else { theme.text() };
    let bars = usize::from(inner.width.saturating_sub(25)).min(20);
    let followed = screen.followed();
    let rows: Vec<Vec<Entry>> = seen
        .top
        .iter()
        .map(|top| {
            let mark = if followed == Some(top.id) {
                theme.pick("▸", ">")
            } else {
                " "
            };
            let word = cells::visible(screen.held.word(top.id), theme.ascii);
            vec![
                Entry::new(format!("{mark} {word}"), text),
                Entry::number(share(top.probability), text),
                Entry::new(
                    cells::bar(top.probability as f32, 1.0, bars, theme),
                    theme.bar(),
                ),
            ]
        })
        .collect();
    let drawn = cells::table(
        buf,
        inner,
        &Table {
            headers: &["token", "p", ""],
            rows: &rows,
            widths: &[16, 5],
            selected: rows
                .len()
                .checked_sub(1)
                .map(|last| screen.picked.min(last)),
            offset: 0,
            focus: false,
        },
        theme,
    );
    for (row, at) in drawn.lines() {
        hits.add(at, Target::Place(NEXT, 0, row));
    }
}

/// The chart over the checkpoints.
fn over(screen: &TimeScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let theme = *view.theme;
    let values = screen.values(view.shared);
    let read = values.iter().flatten().count();
    let title = format!(
        "{} ({read} of {} read)",
        screen.quantity_word(view.shared),
        values.len()
    );
    let title = cells::prose(&title, theme.ascii);
    let inner = cells::panel(buf, area, &title, false, theme);
    for (at, place) in chart::draw(&values, screen.at, inner, theme, buf) {
        hits.add(place, Target::Place(STATION, at, 0));
    }
}
