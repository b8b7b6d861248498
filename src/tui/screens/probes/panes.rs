//! Beside the map: test prompts by score with the wrong ones marked, or every layer's probe on every other layer.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::work::{Row, Swept};
use super::{CARRIED, EXAMPLE, ProbesScreen, wrong};
use crate::tui::cells::{self, Entry, HeatMap, Table};
use crate::tui::screen::{Hits, Target, View};
use crate::tui::theme::{Scale, Theme};

pub(super) fn examples(
    screen: &ProbesScreen,
    swept: &Swept,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let all = screen.examples(view.shared);
    let misses = all.iter().filter(|(s, row)| wrong(*s, row)).count();
    let n = all.len();
    let of = if n < swept.rows.len() {
        format!("{n} of {} test prompts", swept.rows.len())
    } else {
        format!("{n} test prompts")
    };
    let title = format!("{of} by score, {misses} wrong");
    let inner = cells::panel(buf, area, &title, false, theme);
    if all.is_empty() {
        cells::put(
            buf,
            inner,
            0,
            0,
            "no example holds these words",
            theme.dim(),
        );
        return;
    }
    let at = screen.example.min(n - 1);
    let room = usize::from(inner.height.saturating_sub(1));
    let from = cells::scroll(Some(at), at.saturating_sub(room / 2), room, n);
    let seen = &all[from..(from + room).min(n)];
    let rows: Vec<Vec<Entry>> = seen.iter().map(|(s, row)| entry(*s, row, theme)).collect();
    let shown = cells::table(
        buf,
        inner,
        &Table {
            headers: &["score", "", "label", "prompt"],
            rows: &rows,
            widths: &[],
            selected: Some(at - from),
            offset: 0,
            focus: false,
        },
        theme,
    );
    for (row, line) in shown.lines() {
        hits.add(line, Target::Place(EXAMPLE, 0, from + row));
    }
}

fn entry(score: f64, row: &Row, theme: Theme) -> Vec<Entry> {
    let (mark, style) = if wrong(score, row) {
        (theme.pick("✗", "x"), theme.error())
    } else {
        (" ", theme.text())
    };
    let label = if row.positive { "harmful" } else { "harmless" };
    vec![
        Entry::number(format!("{score:+.2}"), theme.text()),
        Entry::new(mark, style),
        Entry::new(label, theme.dim()),
        Entry::new(
            row.text.clone(),
            style.remove_modifier(ratatui::style::Modifier::BOLD),
        ),
    ]
}

/// Rows are where probes were fitted, columns where they are judged.
pub(super) fn carried(
    screen: &ProbesScreen,
    swept: &Swept,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let point = swept.points.get(screen.column());
    let name = point.map_or("", |point| point.info().name);
    let arrow = theme.pick("fitted ↑ judged →", "fitted up, judged across");
    let title = format!("{name}: test AUROC, {arrow}");
    let inner = cells::panel(buf, area, &title, false, theme);
    let Some(matrix) = swept.transfer.get(screen.column()) else {
        return;
    };
    let value = |from: usize, to: usize| {
        let row = matrix.get(from).and_then(|row| row.get(to));
        row.copied().unwrap_or(f32::NAN)
    };
    let n = swept.n_layers;
    let labels: Vec<String> = (0..n).map(|layer| format!("L{layer}")).collect();
    let layer = screen.layer(view.shared);
    let wide = (inner.width.saturating_sub(5) / n.max(1) as u16).clamp(4, 7);
    let high = usize::from(inner.height.saturating_sub(1));
    let drawn = cells::heat_map(
        buf,
        inner,
        &HeatMap {
            columns: &labels,
            rows: &labels,
            value: &value,
            text: None,
            marked: None,
            digits: true,
            // What was learned in one layer may mean the opposite in another.
            scale: Scale::Sequential,
            lo: 0.0,
            hi: 1.0,
            cursor: Some((layer, layer)),
            offset: (
                layer.saturating_sub(high / 2),
                layer.saturating_sub(usize::from(inner.width / wide) / 2),
            ),
            cell_width: wide,
            stale: screen.pending.job.is_some(),
        },
        theme,
    );
    for row in drawn.rows.clone() {
        for column in drawn.columns.clone() {
            if let Some(place) = drawn.cell(row, column) {
                hits.add(place, Target::Place(CARRIED, column, row));
            }
        }
    }
    cells::legend(buf, area, Scale::Sequential, ("0", "1"), theme);
    cells::note(buf, area, &format!("n = {}, chance 0.5", swept.n[2]), theme);
}
