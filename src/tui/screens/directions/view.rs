//! Drawing the directions: the map, what runs by layer beside it, what is known of the place under the cursor below.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::work::{Found, short};
use super::{CELL, DirectionsScreen, Job, detail};
use crate::tui::cells::{self, Card, Entry, HeatMap, Table};
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready;
use crate::tui::theme::Theme;

pub(super) fn draw(
    screen: &DirectionsScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let Some(found) = &screen.found else {
        return cells::card(buf, area, &card(screen, view), theme);
    };
    let below = detail::height(area.height);
    let above = Rect {
        height: area.height - below,
        ..area
    };
    let columns = found.wheres.len().max(1) as u16;
    let beside = if area.width < 70 {
        0
    } else {
        (area.width * 2 / 5).max(34)
    };
    let wide = area.width - beside;
    let cell = (wide.saturating_sub(7) / columns).clamp(5, 9);
    let left = Rect {
        width: wide,
        ..above
    };
    map(screen, found, view, (left, cell), buf, hits);
    let right = Rect {
        x: area.x + wide,
        width: beside,
        ..above
    };
    by_layer(screen, found, view, right, buf);
    let rest = Rect {
        y: area.y + above.height,
        height: below,
        ..area
    };
    detail::draw(screen, found, view, rest, buf);
}

fn card(screen: &DirectionsScreen, view: &View) -> Card {
    let theme = *view.theme;
    let reads = "Directions are read off the stream of an open model.";
    if let Some(card) = unready::model(view.shared, theme, reads, "") {
        return card;
    }
    if let Some(why) = &screen.pending.failed {
        let next = "r tries again; X switches all interventions off";
        return unready::say("No directions were made", theme.error(), why.clone(), next);
    }
    if let Some((_, job)) = screen.pending.job {
        let body = format!("Now {}; how far it is stands above.", job.words());
        return unready::say("Making directions", theme.accent(), body, "esc stops it");
    }
    Card {
        title: "No direction was made yet".into(),
        style: theme.accent(),
        body: vec![
            "The stream of 32 harmful and 32 harmless prompts, parted by their means at every layer and position; judged on 32 and 32 others.".into(),
            "That is a pass over some 160 short prompts. Which direction refusal hangs on is found out by trying them.".into(),
        ],
        footer: "r makes them".into(),
    }
}

fn map(
    screen: &DirectionsScreen,
    found: &Found,
    view: &View,
    (area, cell): (Rect, u16),
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let quantity = screen.quantity;
    let width = found.wheres.len();
    let mut values = vec![f64::NAN; found.n_layers * width];
    for candidate in &found.candidates {
        let column = found.wheres.iter().position(|w| *w == candidate.where_);
        if let Some(column) = column {
            let tried = screen.tried.get(&(candidate.layer, candidate.where_));
            values[candidate.layer * width + column] = quantity.of(found, candidate, tried);
        }
    }
    let known = values.iter().filter(|v| v.is_finite()).count();
    let count = if quantity.tried() && known < found.candidates.len() {
        format!(", {known} of {} tried", found.candidates.len())
    } else {
        String::new()
    };
    let title = format!("{}{count}", quantity.name());
    let inner = cells::panel(buf, area, &title, true, theme);
    let (scale, lo, hi) = quantity.scale(&values);
    let columns: Vec<String> = found.wheres.iter().map(|w| short(*w)).collect();
    let rows: Vec<String> = (0..found.n_layers).map(|l| format!("L{l}")).collect();
    let cursor = (
        view.shared.layer.min(found.n_layers.saturating_sub(1)),
        screen.column.min(width.saturating_sub(1)),
    );
    let chosen = screen.reference();
    let marked = |row: usize, column: usize| chosen == Some((row, found.wheres[column]));
    let high = usize::from(inner.height.saturating_sub(1));
    let drawn = cells::heat_map(
        buf,
        inner,
        &HeatMap {
            columns: &columns,
            rows: &rows,
            value: &|row, column| values[row * width + column] as f32,
            text: None,
            marked: Some(&marked),
            digits: true,
            scale,
            lo,
            hi,
            cursor: Some(cursor),
            offset: (cursor.0.saturating_sub(high / 2), 0),
            cell_width: cell,
            stale: matches!(screen.pending.job, Some((_, Job::Find))),
        },
        theme,
    );
    for row in drawn.rows.clone() {
        for column in drawn.columns.clone() {
            if let Some(place) = drawn.cell(row, column) {
                hits.add(place, Target::Place(CELL, column, row));
            }
        }
    }
    let ends = [lo, hi].map(|end| format!("{end:.2}"));
    cells::legend(buf, area, scale, (&ends[0], &ends[1]), theme);
    cells::note(buf, area, &quantity.baseline(found), theme);
}

/// Length and cosine by layer, at the position under the cursor.
fn by_layer(screen: &DirectionsScreen, found: &Found, view: &View, area: Rect, buf: &mut Buffer) {
    let theme = *view.theme;
    let Some((here, place)) = screen.place(view.shared) else {
        return;
    };
    let reference = screen.reference().and_then(|at| screen.candidate(at));
    let with = reference.map_or(String::new(), |c| {
        format!(", cosine with L{} {}", c.layer, short(c.where_))
    });
    let title = format!("position {}: length{with}", short(place));
    let inner = cells::panel(buf, area, &title, false, theme);
    let longest = found
        .candidates
        .iter()
        .filter(|c| c.where_ == place)
        .map(|c| c.direction.norm)
        .fold(0.0, f64::max);
    let bars = usize::from(inner.width.saturating_sub(23) / 2).min(16);
    let rows: Vec<Vec<Entry>> = (0..found.n_layers)
        .rev()
        .map(|layer| {
            let label = if layer == here {
                theme.accent()
            } else {
                theme.dim()
            };
            let label = Entry::new(format!("L{layer}"), label);
            row(
                screen,
                (layer, place),
                label,
                (reference, longest),
                bars,
                theme,
            )
        })
        .collect();
    let selected = found.n_layers.saturating_sub(1).saturating_sub(here);
    let room = usize::from(inner.height.saturating_sub(1));
    cells::table(
        buf,
        inner,
        &Table {
            headers: &["", "length", "", "cos", ""],
            rows: &rows,
            widths: &[],
            // A line under a row of bars would strike them out: its label says where the cursor is.
            selected: None,
            offset: selected.saturating_sub(room / 2),
            focus: false,
        },
        theme,
    );
}

fn row(
    screen: &DirectionsScreen,
    place: super::Place,
    label: Entry,
    (reference, longest): (Option<&crate::steer::Candidate>, f64),
    bars: usize,
    theme: Theme,
) -> Vec<Entry> {
    let Some(candidate) = screen.candidate(place) else {
        return vec![label, Entry::number("equal", theme.dim())];
    };
    let norm = candidate.direction.norm;
    let bar = |value: f64, most: f64| {
        Entry::new(
            cells::bar(value as f32, most as f32, bars, theme),
            theme.bar(),
        )
    };
    let cosine = reference.and_then(|other| candidate.direction.cosine(&other.direction).ok());
    let said = cosine.map_or(String::new(), |cosine| format!("{cosine:+.2}"));
    vec![
        label,
        Entry::number(format!("{norm:.2}"), theme.text()),
        bar(norm, longest),
        Entry::number(said, theme.text()),
        bar(cosine.unwrap_or(0.0).abs(), 1.0),
    ]
}
