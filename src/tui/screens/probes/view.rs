//! Drawing the probes: the map of layers and points, the examples or the transfer beside it, the cell below.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::work::{C, ROWS, Swept};
use super::{CELL, ProbesScreen, Quantity, detail, panes};
use crate::hooks::Point;
use crate::tui::cells::{self, Card, HeatMap};
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready;
use crate::tui::theme::Scale;

pub(super) fn draw(
    screen: &ProbesScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let Some(swept) = &screen.swept else {
        return cells::card(buf, area, &card(screen, view), theme);
    };
    let below = detail::height(area.height);
    let above = Rect {
        height: area.height - below,
        ..area
    };
    let columns = swept.points.len().max(1) as u16;
    let wide = if area.width < 70 {
        area.width
    } else {
        (7 + columns * 7).max(40).min(area.width / 2)
    };
    let cell = (wide.saturating_sub(7) / columns).clamp(5, 7);
    let left = Rect {
        width: wide,
        ..above
    };
    map(screen, swept, view, (left, cell), buf, hits);
    let right = Rect {
        x: area.x + wide,
        width: area.width - wide,
        ..above
    };
    if screen.carried {
        panes::carried(screen, swept, view, right, buf, hits);
    } else {
        panes::examples(screen, swept, view, right, buf, hits);
    }
    let rest = Rect {
        y: area.y + above.height,
        height: below,
        ..area
    };
    detail::draw(screen, swept, view, rest, buf, hits);
}

fn card(screen: &ProbesScreen, view: &View) -> Card {
    let theme = *view.theme;
    let reads = "Probes read the activations of an open model.";
    if let Some(card) = unready::model(view.shared, theme, reads, "") {
        return card;
    }
    if let Some(why) = &screen.pending.failed {
        return unready::say(
            "No probe was fitted",
            theme.error(),
            why.clone(),
            "r tries again",
        );
    }
    if screen.pending.job.is_some() {
        let body = "The prompts are read once, then a probe is fitted at every layer and point; how far it is stands above.";
        return unready::say(
            "Fitting probes",
            theme.accent(),
            body.into(),
            "esc stops it",
        );
    }
    let [train, validation, test] = ROWS;
    let n = 2 * (train + validation + test);
    Card {
        title: "No probe was fitted yet".into(),
        style: theme.accent(),
        body: vec![
            format!(
                "Harmful against harmless prompts at the last token, logistic with C {C}: fitted on {train} of each, judged on {test} others, beside shuffled labels and control tasks."
            ),
            format!(
                "That is one pass over {n} short prompts, and a fit for every layer and point."
            ),
        ],
        footer: "r fits them".into(),
    }
}

/// A point's name in a few letters; the whole one stands below.
fn short(point: Point) -> &'static str {
    match point {
        Point::ResidPre => "pre",
        Point::ResidMid => "mid",
        Point::ResidPost => "post",
        Point::AttnOut => "attn",
        Point::MlpOut => "mlp",
        other => other.info().name,
    }
}

fn map(
    screen: &ProbesScreen,
    swept: &Swept,
    view: &View,
    (area, cell): (Rect, u16),
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let inner = cells::panel(buf, area, screen.quantity.name(), true, theme);
    let of = |row, column| swept.cell(row, column);
    let value =
        |row, column| of(row, column).map_or(f32::NAN, |cell| screen.quantity.of(cell) as f32);
    let best = swept.cells.get(swept.chosen).map(|cell| cell.point);
    let marked = |row, column| best.is_some() && of(row, column).map(|c| c.point) == best;
    let columns: Vec<String> = swept.points.iter().map(|p| short(*p).to_owned()).collect();
    let rows: Vec<String> = (0..swept.n_layers).map(|l| format!("L{l}")).collect();
    let (scale, lo, hi) = match screen.quantity {
        Quantity::Test => (Scale::Sequential, 0.5, 1.0),
        Quantity::Shuffled | Quantity::Control => (Scale::Sequential, 0.0, 1.0),
        Quantity::Selectivity => (Scale::Diverging, -0.5, 0.5),
    };
    let cursor = (screen.layer(view.shared), screen.column());
    let high = usize::from(inner.height.saturating_sub(1));
    let drawn = cells::heat_map(
        buf,
        inner,
        &HeatMap {
            columns: &columns,
            rows: &rows,
            value: &value,
            text: None,
            marked: Some(&marked),
            digits: true,
            scale,
            lo,
            hi,
            cursor: Some(cursor),
            offset: (cursor.0.saturating_sub(high / 2), 0),
            cell_width: cell,
            stale: screen.pending.job.is_some(),
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
    let ends = [lo, hi].map(|end| format!("{end:.1}"));
    cells::legend(buf, area, scale, (&ends[0], &ends[1]), theme);
    cells::note(buf, area, &format!("n = {} test", swept.n[2]), theme);
}
