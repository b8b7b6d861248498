//! The list beside the map: the next tokens of the cursor's cell, and what else is known of it.
//!
//! Always: what is said here belongs to the cell under the cursor, and says so in its title; the unedited model's numbers
//! stand beside the edited ones where they are compared.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::reading::{Column, Place};
use super::{LISTED, LensScreen, Pane};
use crate::tui::cells;
use crate::tui::screen::{Hits, Target, View};

/// Columns of the percentage and of a token.
const PERCENT: usize = 6;
const WORD: usize = 13;

pub(super) fn draw(
    screen: &LensScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let (shared, theme) = (view.shared, *view.theme);
    let (row, at) = (screen.row(shared), shared.position);
    let layer = if row == 0 {
        "embedding".to_owned()
    } else {
        format!("L{}", row - 1)
    };
    let after = shared.tokens.get(at).map_or(String::new(), |token| {
        cells::visible(&token.text, theme.ascii)
    });
    let title = format!("{layer}, after {after}");
    let inner = cells::panel(buf, area, &title, screen.pane == Pane::List, theme);
    let Some((column, place)) = screen
        .held
        .columns
        .get(&at)
        .and_then(|column| Some((column, column.places.get(row)?)))
    else {
        cells::put(buf, inner, 0, 0, "being computed", theme.dim());
        return;
    };
    let old = !column.wish.serves(&screen.wish(shared)) || screen.held.tokens != shared.tokens;
    let base = column.base.as_ref().and_then(|base| base.get(row));
    let facts = facts(screen, view, column, place, base, row);
    let below = (facts.len() as u16).min(inner.height.saturating_sub(3));
    let list = Rect {
        height: inner.height - below,
        ..inner
    };
    let style = if old { theme.stale() } else { theme.text() };
    let most = place.cell.top.first().map_or(1.0, |top| top.probability) as f32;
    let high = usize::from(list.height);
    let left = screen.left(shared);
    let at = left.partition_point(|i| *i < screen.picked);
    let from = at.saturating_sub(high.saturating_sub(1));
    if left.is_empty() {
        cells::put(
            buf,
            list,
            0,
            0,
            "no listed token holds these words",
            theme.dim(),
        );
    }
    let top = left
        .iter()
        .filter_map(|i| Some((*i, place.cell.top.get(*i)?)));
    for (y, (i, top)) in top.skip(from).take(high).enumerate() {
        let word = cells::fit(
            &cells::visible(screen.held.word(top.id), theme.ascii),
            WORD,
            theme.ascii,
        );
        let mark = if screen.target == Some(top.id) {
            theme.pick("▸", ">")
        } else {
            " "
        };
        let share = format!(
            "{:>width$.1}%",
            top.probability * 100.0,
            width = PERCENT - 1
        );
        let room = usize::from(list.width).saturating_sub(WORD + PERCENT + 4);
        let bar = cells::bar(
            top.probability as f32,
            most.max(f32::MIN_POSITIVE),
            room,
            theme,
        );
        let text = format!("{mark}{word} {share} {bar}");
        let here = screen.pane == Pane::List && i == screen.picked;
        let y = y as u16;
        let style = if here { theme.cursor() } else { style };
        cells::put(
            buf,
            list,
            0,
            y,
            &cells::fit(&text, list.width.into(), theme.ascii),
            style,
        );
        hits.add(
            Rect {
                y: list.y + y,
                height: 1,
                ..list
            },
            Target::Place(LISTED, 0, i),
        );
    }
    for (i, text) in facts.iter().enumerate().take(below.into()) {
        let text = cells::fit(text, inner.width.into(), theme.ascii);
        cells::put(buf, inner, 0, list.height + i as u16, &text, style);
    }
}

/// What is known of the cell, a line each.
fn facts(
    screen: &LensScreen,
    view: &View,
    column: &Column,
    place: &Place,
    base: Option<&Place>,
    row: usize,
) -> Vec<String> {
    let (theme, cell) = (*view.theme, &place.cell);
    let vocab = view
        .shared
        .model
        .facts()
        .map_or(0, |facts| facts.config.vocab_size);
    let with = |text: String, base: Option<String>| match base {
        Some(base) => format!("{text}, was {base}"),
        None => text,
    };
    let target = cells::visible(screen.held.word(column.target), theme.ascii);
    let own = if screen.target.is_none() {
        "own next"
    } else {
        "target"
    };
    let probability = |place: &Place| match place.cell.target_log_prob.exp() {
        small if small < 1e-4 => format!("{small:.0e}"),
        share => format!("{:.2}%", share * 100.0),
    };
    let rank = format!(" rank {} of {vocab}", cell.target_rank);
    let course: Vec<f32> = column
        .places
        .iter()
        .map(|p| p.cell.target_log_prob.exp() as f32)
        .collect();
    let entropy = match base {
        None => format!(
            "entropy {:.2} of {:.2} nats",
            cell.entropy,
            (vocab.max(1) as f64).ln()
        ),
        Some(base) => format!(
            "entropy {:.2} nats, was {:.2}",
            cell.entropy, base.cell.entropy
        ),
    };
    let mut lines = vec![
        format!("{own} {target}"),
        with(rank, base.map(|b| b.cell.target_rank.to_string())),
        with(format!(" p {}", probability(place)), base.map(probability)),
        format!(
            " {}",
            cells::sparkline(&course, course.len().min(31), theme)
        ),
        format!(" {}", settled(column)),
        entropy,
        with(
            format!("KL(final||here) {:.2} nats", cell.kl),
            base.map(|b| format!("{:.2}", b.cell.kl)),
        ),
        with(
            format!("norm {:.1}", cell.norm),
            base.map(|b| format!("{:.1}", b.cell.norm)),
        ),
    ];
    if let Some(along) = place.projection {
        let base = base.and_then(|b| b.projection).map(|b| format!("{b:+.2}"));
        lines.push(with(format!("projection {along:+.2}"), base));
    }
    if base.is_some() {
        lines.push("was: without interventions".to_owned());
    } else if row + 1 == column.places.len() {
        lines.push("last layer: the model's output".to_owned());
    }
    lines
}

/// From which layer on the target is the likeliest token.
pub(super) fn settled(column: &Column) -> String {
    let ranks: Vec<usize> = column
        .places
        .iter()
        .map(|place| place.cell.target_rank)
        .collect();
    let on_top = ranks.iter().rev().take_while(|rank| **rank == 1).count();
    match ranks.len() - on_top {
        _ if on_top == 0 => "not the likeliest at the end".to_owned(),
        0 => "likeliest from the embedding on".to_owned(),
        row => format!("likeliest from L{} on", row - 1),
    }
}
