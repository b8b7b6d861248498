//! Drawing the points: the list, and below it the definition and what was seen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{HooksScreen, Row, Seen, rows};
use crate::tui::cells::{self, Entry, Table};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready;
use crate::tui::theme::Theme;

/// Lines of the lower part, and where there are few.
const DETAIL: [u16; 2] = [10, 9];

pub(super) fn draw(
    screen: &HooksScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let rows = rows(view.shared);
    if rows.is_empty() {
        let reads = "The points are those of an open model.";
        if let Some(card) = unready::model(view.shared, theme, reads, "") {
            cells::card(buf, area, &card, theme);
        }
        return;
    }
    let detail = DETAIL[usize::from(area.height < 30)].min(area.height / 2);
    let list = Rect {
        height: area.height - detail,
        ..area
    };
    let layer = view.shared.layer;
    let title = format!("points, layer {layer}, in the order of the pass");
    let inner = cells::panel(buf, list, &title, true, theme);
    let selected = screen.selected.min(rows.len() - 1);
    let left = screen.left(view.shared);
    let place = left.partition_point(|i| *i < selected);
    let entries: Vec<Vec<Entry>> = (left.iter())
        .map(|i| entry(&rows[*i], layer, theme))
        .collect();
    let shown = cells::table(
        buf,
        inner,
        &Table {
            headers: &["point", "where", "shape", "what it is"],
            rows: &entries,
            widths: &[],
            selected: Some(place),
            offset: place.saturating_sub(usize::from(inner.height) / 2),
            focus: true,
        },
        theme,
    );
    if left.is_empty() {
        cells::put(buf, inner, 0, 1, "no point holds these words", theme.dim());
    }
    for (row, at) in shown.lines() {
        hits.add(at, Target::Place(0, 0, left[row]));
    }
    let below = Rect {
        y: list.y + list.height,
        height: detail,
        ..area
    };
    let at = screen.at(view.shared).to_string();
    let inner = cells::panel(buf, below, &at, false, theme);
    let mut lines = Vec::new();
    for (name, text, style) in facts(screen, &rows[selected], &at, view) {
        let text = cells::prose(&text, theme.ascii);
        let room = usize::from(inner.width).saturating_sub(NAME).max(8);
        for (i, line) in pen::wrapped(&text, room).into_iter().enumerate() {
            lines.push((if i == 0 { name } else { "" }, line, style));
        }
    }
    for (y, (name, text, style)) in lines.iter().enumerate() {
        let name = format!("{name:<NAME$}");
        let x = cells::put(buf, inner, 0, y as u16, &name, theme.dim());
        cells::put(buf, inner, x, y as u16, text, *style);
    }
}

/// Columns of a fact's name.
const NAME: usize = 17;

fn entry(row: &Row, layer: usize, theme: Theme) -> Vec<Entry> {
    let style = if row.missing.is_some() {
        theme.dim()
    } else {
        theme.text()
    };
    let place = if row.info.per_layer {
        format!("L{layer}")
    } else {
        "once".to_owned()
    };
    vec![
        Entry::new(row.info.name, style),
        Entry::new(place, theme.dim()),
        Entry::new(row.shape.clone(), style),
        Entry::new(words(row), theme.dim()),
    ]
}

/// What is known of the point: name, words, how they look.
fn facts(
    screen: &HooksScreen,
    row: &Row,
    at: &str,
    view: &View,
) -> Vec<(&'static str, String, Style)> {
    let theme = *view.theme;
    let alias = match row.info.alias {
        "" => "has no such point".into(),
        alias => alias.replace("{L}", &view.shared.layer.to_string()),
    };
    let mut facts = vec![
        ("what it is", row.info.definition.to_string(), theme.text()),
        ("TransformerLens", alias, theme.text()),
    ];
    if let Some(why) = row.missing {
        facts.push(("not here", why.to_string(), theme.warning()));
    } else if let Some(why) = &screen.failed {
        facts.push(("failed", format!("{why}; enter tries again"), theme.error()));
    } else if view.busy {
        facts.push(("", "running the prompt".into(), theme.accent()));
    } else if let Some((version, seen)) = &screen.seen {
        let old = match (*version == view.shared.version(), seen.at == at) {
            (true, true) => "",
            (true, false) => "at another point",
            (false, _) => "before the last change",
        };
        facts.extend(describe(seen, old, theme));
    } else {
        let say = "enter runs the prompt and shows what passes here";
        facts.push(("", say.into(), theme.accent()));
    }
    facts
}

fn words(row: &Row) -> &str {
    row.missing.unwrap_or(row.info.definition)
}

/// What was seen, as numbers.
pub(super) fn numbers(seen: &Seen, old: bool) -> String {
    let old = if old { " (before the last change)" } else { "" };
    format!("{}{old}: {}", shape(seen), statistics(seen))
}

fn shape(seen: &Seen) -> String {
    let shape: Vec<String> = seen.shape.iter().map(ToString::to_string).collect();
    format!("{} [{}]", seen.at, shape.join(", "))
}

fn statistics(seen: &Seen) -> String {
    format!(
        "mean {:.4}, sd {:.4}, from {:.3} to {:.3}, {} not finite",
        seen.mean, seen.deviation, seen.low, seen.high, seen.not_finite
    )
}

/// What a pass left at the point; of another point or an older pass it stands back, and says so.
fn describe(seen: &Seen, old: &'static str, theme: Theme) -> Vec<(&'static str, String, Style)> {
    let (style, of) = match old {
        "" => (theme.text(), String::new()),
        old => (theme.stale(), format!(" ({old}; enter looks again)")),
    };
    let mut facts = vec![
        ("seen", format!("{}{of}", shape(seen)), style),
        ("numbers", statistics(seen), style),
    ];
    let finite = || seen.norms.iter().copied().filter(|norm| norm.is_finite());
    if let Some(highest) = finite().reduce(f32::max) {
        let lowest = finite().fold(highest, f32::min);
        let line: String = (seen.norms.iter())
            .map(|norm| theme.ramp(norm / highest.max(f32::MIN_POSITIVE)))
            .collect();
        let n = seen.norms.len();
        let text = format!("{line} of {n} positions, {lowest:.1} to {highest:.1}");
        facts.push(("norm by position", text, style));
    }
    facts
}
