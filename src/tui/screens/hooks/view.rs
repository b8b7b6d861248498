//! Drawing the points: the list, and below it the definition and what was seen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{HooksScreen, Row, Seen, rows};
use crate::tui::cells;
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::shared::ModelState;

/// Lines of the lower part.
const DETAIL: u16 = 7;

pub(super) fn draw(
    screen: &HooksScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let ascii = view.theme.ascii;
    let rows = rows(view.shared);
    if rows.is_empty() {
        let (title, body) = match &view.shared.model {
            ModelState::Loading { name } => ("opening", format!("{name} is being opened")),
            ModelState::Failed { name, why } => ("failed", format!("{name}: {why}")),
            _ => (
                "no model",
                "`:open NAME` opens one; screen `models` lists them".to_string(),
            ),
        };
        return pen::card(area, title, &body, view.theme, buf);
    }
    let detail = DETAIL.min(area.height / 2);
    let list = Rect {
        height: area.height - detail,
        ..area
    };
    let inner = pen::panel(
        list,
        &format!("points, layer {}", view.shared.layer),
        view.theme,
        buf,
    );
    let room = usize::from(inner.height);
    let selected = screen.selected.min(rows.len() - 1);
    let left = screen.left(view.shared);
    let place = left.partition_point(|i| *i < selected);
    let offset = place
        .saturating_sub(room / 2)
        .min(left.len().saturating_sub(room));
    if left.is_empty() {
        pen::line(
            inner,
            0,
            "no point holds these words",
            view.theme.dim(),
            buf,
        );
    }
    for (at, i) in left.iter().copied().skip(offset).take(room).enumerate() {
        let (at, row) = (at as u16, &rows[i]);
        let style = match row.missing {
            _ if i == selected => view.theme.cursor(),
            Some(_) => view.theme.dim(),
            None => view.theme.text(),
        };
        let text = format!("{:<16} {:<34} {}", row.info.name, row.shape, words(row));
        pen::line(
            inner,
            at,
            &cells::fit(&text, inner.width.into(), ascii),
            style,
            buf,
        );
        let hit = Rect {
            y: inner.y + at,
            height: 1,
            ..inner
        };
        hits.add(hit, Target::Place(0, 0, i));
    }
    let below = Rect {
        y: list.y + list.height,
        height: detail,
        ..area
    };
    let row = &rows[selected];
    let inner = pen::panel(below, &screen.at(view.shared).to_string(), view.theme, buf);
    let mut lines = vec![row.info.definition.to_string()];
    lines.push(match row.info.alias {
        "" => "TransformerLens has no such point".into(),
        alias => format!(
            "TransformerLens: {}",
            alias.replace("{L}", &view.shared.layer.to_string())
        ),
    });
    if let Some(why) = &screen.failed {
        lines.push(format!("failed: {why}"));
    } else if view.busy {
        lines.push("running the prompt".into());
    } else if let Some((version, seen)) = &screen.seen {
        lines.extend(describe(seen, *version != view.shared.version(), view));
    } else {
        lines.push("enter runs the prompt and shows what passes here".into());
    }
    for (i, text) in lines.iter().enumerate() {
        let text = cells::prose(text, ascii);
        pen::line(
            inner,
            i as u16,
            &cells::fit(&text, inner.width.into(), ascii),
            view.theme.text(),
            buf,
        );
    }
}

fn words(row: &Row) -> &str {
    row.missing.unwrap_or(row.info.definition)
}

/// What was seen, as numbers.
pub(super) fn numbers(seen: &Seen, old: bool) -> String {
    let old = if old { " (before the last change)" } else { "" };
    let shape: Vec<String> = seen.shape.iter().map(ToString::to_string).collect();
    format!(
        "{} [{}]{old}: mean {:.4}, sd {:.4}, from {:.3} to {:.3}{}",
        seen.at,
        shape.join(", "),
        seen.mean,
        seen.deviation,
        seen.low,
        seen.high,
        if seen.not_finite > 0 {
            format!(", {} not finite", seen.not_finite)
        } else {
            String::new()
        }
    )
}

fn describe(seen: &Seen, old: bool, view: &View) -> Vec<String> {
    let mut lines = vec![numbers(seen, old)];
    if !seen.norms.is_empty() {
        let highest = seen.norms.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        let line: String = seen
            .norms
            .iter()
            .map(|norm| view.theme.ramp(norm / highest))
            .collect();
        lines.push(format!("norm by position, up to {highest:.1}: {line}"));
    }
    lines
}
