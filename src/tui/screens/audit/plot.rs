//! A chart of an audit, drawn with characters.
//!
//! Always: what is not finite is a gap, what does not fit is left out and said so, and a chart from a foreign file costs no
//! more than its first points. The data: `crate::audit::charts`; the same as SVG: `crate::audit::report::draw`.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::curves::curves;
use super::detail::Lines;
use super::tracks::{Row, tracks};
use crate::audit::charts::{Chart, Mark, Plot};
use crate::audit::wording;
use crate::tui::cells::{self, HeatMap, put};
use crate::tui::theme::{Scale, Theme};

/// Points of one series, bars, strips or draws that are looked at.
pub(super) const MOST_POINTS: usize = 8192;
/// Rows and columns of a heat map that are looked at.
const MOST_CELLS: usize = 512;
/// Columns of the labels at the left.
pub(super) const LABEL: u16 = 9;

/// Draws title, sentence, plot and legend. `layer` is marked where the chart is by layer.
pub(super) fn draw(chart: &Chart, area: Rect, layer: usize, theme: Theme, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    let mut head = Lines::new(area.width.into(), theme);
    head.add("", &chart.title, theme.title());
    head.add("", &chart.about, theme.dim());
    head.all.truncate(4);
    let mut foot = Lines::new(area.width.into(), theme);
    legend(chart, layer, &mut foot, theme);
    let most = usize::from(area.height / 3);
    head.all.truncate(most.max(1));
    foot.all.truncate(most);
    let (above, below) = (head.all.len() as u16, foot.all.len() as u16);
    write(&head.all, area, 0, buf);
    let Some(height) = area
        .height
        .checked_sub(above + below)
        .filter(|h| *h >= 3 && area.width >= 24)
    else {
        return;
    };
    let body = Rect {
        y: area.y + above,
        height,
        ..area
    };
    match &chart.plot {
        Plot::Line { series } => curves(chart, series, body, layer, theme, buf),
        Plot::Bars { bars } => {
            let rows: Vec<Row> = bars.iter().take(MOST_POINTS).map(Row::of_bar).collect();
            tracks(chart, &rows, true, body, theme, buf);
        }
        Plot::Strip { rows } => {
            let rows: Vec<Row> = rows.iter().take(MOST_POINTS).map(Row::of_strip).collect();
            tracks(chart, &rows, false, body, theme, buf);
        }
        Plot::Histogram { values, marks } => histogram(chart, values, marks, body, theme, buf),
        Plot::Heat {
            rows,
            cols,
            cells,
            centre,
        } => heat(chart, (rows, cols, cells, *centre), body, layer, theme, buf),
    }
    write(&foot.all, area, area.height - below, buf);
}

fn write(lines: &[(String, Style)], area: Rect, from: u16, buf: &mut Buffer) {
    for (i, (text, style)) in lines.iter().enumerate() {
        put(buf, area, 0, from + i as u16, text, *style);
    }
}

pub(super) fn number(value: f64) -> String {
    wording::number("", value)
}

/// The ends of all that is finite, apart at least a little; none where there is nothing, or too much to subtract.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
    if low < high && (high - low).is_finite() {
        Some((low, high))
    } else if low == high {
        let around = (low.abs() * 0.1).max(0.5);
        Some((low - around, high + around)).filter(|(low, high)| (high - low).is_finite())
    } else {
        None
    }
}

/// Which of `count` places a value has between two ends; none outside.
pub(super) fn place(value: f64, (low, high): (f64, f64), count: usize) -> Option<usize> {
    let part = (value - low) / (high - low);
    (count > 0 && (-1e-9..=1.0 + 1e-9).contains(&part))
        .then(|| (part * (count - 1) as f64).round() as usize)
}

pub(super) fn by_layer(label: &str) -> bool {
    label.to_lowercase().contains("layer")
}

/// How many layers a chart by layer has.
pub(super) fn layers(chart: &Chart) -> Option<usize> {
    match &chart.plot {
        Plot::Line { series } if by_layer(&chart.x_label) => {
            let points = series
                .iter()
                .flat_map(|one| one.points.iter().take(MOST_POINTS));
            let last = points
                .map(|point| point.0)
                .filter(|x| (0.0..1e6).contains(x))
                .fold(None, |most: Option<f64>, x| {
                    Some(most.map_or(x, |m| m.max(x)))
                })?;
            Some(last.round() as usize + 1)
        }
        Plot::Heat { rows, .. } if by_layer(&chart.y_label) => {
            Some(rows.len().min(MOST_CELLS)).filter(|count| *count > 0)
        }
        _ => None,
    }
}

/// A series' mark where colours cannot tell it.
pub(super) fn mark(i: usize, theme: Theme) -> &'static str {
    const MARKS: [(&str, &str); 5] = [("●", "*"), ("○", "o"), ("▲", "^"), ("□", "#"), ("◆", "x")];
    let (unicode, ascii) = MARKS[i % MARKS.len()];
    theme.pick(unicode, ascii)
}

/// What the marks mean, and the values at the layer that is looked at.
fn legend(chart: &Chart, layer: usize, foot: &mut Lines, theme: Theme) {
    if let Plot::Line { series } = &chart.plot {
        for (i, one) in series.iter().take(16).enumerate() {
            let here = by_layer(&chart.x_label)
                .then(|| {
                    one.points
                        .iter()
                        .position(|(x, _)| (x - layer as f64).abs() < 0.5)
                })
                .flatten();
            let value = here.map_or_else(String::new, |at| {
                let ends = one.band.get(at).map_or_else(String::new, |(low, high)| {
                    format!(" [{}, {}]", number(*low), number(*high))
                });
                format!(
                    ": {}{ends} at layer {layer} (h/l: others)",
                    number(one.points[at].1)
                )
            });
            foot.add(
                &format!("{} ", mark(i, theme)),
                &format!("{}{value}", one.name),
                theme.category(i),
            );
        }
    }
    if let Plot::Histogram { marks, .. } = &chart.plot {
        for one in marks.iter().take(8) {
            foot.add(
                &format!("{} ", theme.pick("▲", "^")),
                &format!("{} ({})", one.label, number(one.at)),
                theme.accent(),
            );
        }
    }
    for rule in chart.rules.iter().take(8) {
        foot.add(
            &format!("{} ", theme.pick("┊", "|")),
            &format!("{} ({})", rule.label, number(rule.at)),
            theme.warning(),
        );
    }
    let axes = [("across", &chart.x_label), ("up", &chart.y_label)];
    let said = axes.iter().filter(|(_, label)| !label.is_empty());
    let axes: Vec<String> = said.map(|(way, label)| format!("{way}: {label}")).collect();
    foot.add("", &axes.join("; "), theme.dim());
}

/// The largest value above, the smallest below.
pub(super) fn ends(area: Rect, (low, high): (f64, f64), theme: Theme, buf: &mut Buffer) {
    for (line, value) in [(0, high), (area.height.saturating_sub(2), low)] {
        let text = number(value);
        let room = usize::from(LABEL - 1);
        let text = format!("{text:>room$}");
        put(
            buf,
            area,
            0,
            line,
            &cells::fit(&text, room, theme.ascii),
            theme.dim(),
        );
    }
}

/// Bins for so many draws in so many columns: few draws in many bins are a barcode, not a shape.
fn bins(draws: usize, columns: usize) -> usize {
    let fair = (2.0 * (draws as f64).sqrt()).ceil() as usize;
    fair.max(5).min(columns)
}

/// How many draws fall into each bin; a bin is as many columns as there is room for.
fn histogram(
    chart: &Chart,
    values: &[f64],
    marks: &[Mark],
    area: Rect,
    theme: Theme,
    buf: &mut Buffer,
) {
    let values = &values[..values.len().min(MOST_POINTS)];
    let others = marks.iter().chain(&chart.rules).map(|one| one.at);
    let Some(axis) = range(values.iter().copied().chain(others)) else {
        put(buf, area, 0, 0, "no finite draw", theme.dim());
        return;
    };
    let room = usize::from(area.width - LABEL);
    let canvas = Rect {
        x: area.x + LABEL,
        width: area.width - LABEL,
        height: area.height - 2,
        ..area
    };
    let many = bins(values.len(), room);
    let mut counts = vec![0u32; many];
    for value in values.iter().filter(|value| value.is_finite()) {
        let part = (value - axis.0) / (axis.1 - axis.0);
        counts[((part * many as f64) as usize).min(many - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let high = f64::from(canvas.height);
    for column in 0..room {
        let count = counts[column * many / room];
        let full = f64::from(count) / f64::from(most) * high;
        for line in 0..canvas.height {
            let below = f64::from(canvas.height - 1 - line);
            let symbol = theme.ramp((full - below).clamp(0.0, 1.0) as f32);
            put(buf, canvas, column as u16, line, symbol, theme.category(1));
        }
    }
    ends(
        Rect {
            height: area.height - 1,
            ..area
        },
        (0.0, f64::from(most)),
        theme,
        buf,
    );
    for at in chart
        .rules
        .iter()
        .filter_map(|rule| place(rule.at, axis, room))
    {
        for line in 0..canvas.height {
            put(
                buf,
                canvas,
                at as u16,
                line,
                theme.pick("┊", "|"),
                theme.warning(),
            );
        }
    }
    for at in marks.iter().filter_map(|one| place(one.at, axis, room)) {
        put(
            buf,
            canvas,
            at as u16,
            canvas.height,
            theme.pick("▲", "^"),
            theme.accent(),
        );
    }
    let (low, top) = (number(axis.0), number(axis.1));
    put(buf, area, LABEL, area.height - 1, &low, theme.dim());
    put(
        buf,
        area,
        area.width.saturating_sub(top.len() as u16),
        area.height - 1,
        &top,
        theme.dim(),
    );
}

type Grid<'a> = (
    &'a [String],
    &'a [String],
    &'a [Vec<Option<f64>>],
    Option<f64>,
);

/// Cells by colour, with their numbers where there is room; the first row below.
fn heat(
    chart: &Chart,
    (rows, cols, cells, centre): Grid,
    area: Rect,
    layer: usize,
    theme: Theme,
    buf: &mut Buffer,
) {
    let (rows, cols) = (
        &rows[..rows.len().min(MOST_CELLS)],
        &cols[..cols.len().min(MOST_CELLS)],
    );
    let of = |row: usize, col: usize| {
        let cell = cells
            .get(row)
            .and_then(|row| row.get(col))
            .copied()
            .flatten();
        cell.filter(|value| value.is_finite())
            .map_or(f64::NAN, |value| value - centre.unwrap_or(0.0))
    };
    let all = (0..rows.len()).flat_map(|row| (0..cols.len()).map(move |col| (row, col)));
    let Some((low, high)) = range(all.map(|(row, col)| of(row, col))) else {
        put(buf, area, 0, 0, "no finite cell", theme.dim());
        return;
    };
    let layered = by_layer(&chart.y_label) && layer < rows.len();
    let room = usize::from(area.width.saturating_sub(LABEL)) / cols.len().max(1);
    let value = |row: usize, col: usize| of(row, col) as f32;
    let map = HeatMap {
        columns: cols,
        rows,
        value: &value,
        text: None,
        marked: None,
        digits: centre.is_none_or(|centre| centre == 0.0) && room >= 5,
        scale: if centre.is_some() {
            Scale::Diverging
        } else {
            Scale::Sequential
        },
        lo: low as f32,
        hi: high as f32,
        cursor: layered.then_some((layer, 0)),
        offset: (0, 0),
        cell_width: room.clamp(2, 8) as u16,
        stale: false,
    };
    let map_area = Rect {
        height: area.height - 1,
        ..area
    };
    cells::heat_map(buf, map_area, &map, theme);
    let shift = centre.unwrap_or(0.0);
    let text = format!("from {} to {}", number(low + shift), number(high + shift));
    put(buf, area, 0, area.height - 1, &text, theme.dim());
}
