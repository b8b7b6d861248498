//! A chart of an audit, drawn with characters.
//!
//! Always: what is not finite is a gap, what does not fit is left out and said so, and a chart from a foreign file costs no
//! more than its first points. The data: `crate::audit::charts`; the same as SVG: `crate::audit::report::draw`.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::detail::Lines;
use crate::audit::charts::{Bar, Chart, Mark, Plot, Series, Strip};
use crate::audit::wording;
use crate::tui::cells::{self, HeatMap, put};
use crate::tui::theme::{Scale, Theme};

/// Points of one series, bars, strips or draws that are looked at.
const MOST_POINTS: usize = 8192;
/// Rows and columns of a heat map that are looked at.
const MOST_CELLS: usize = 512;
/// Columns of the labels at the left.
const LABEL: u16 = 9;

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

fn number(value: f64) -> String {
    wording::number("", value)
}

/// The ends of all that is finite, apart at least a little; none where there is nothing, or too much to subtract.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
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
fn place(value: f64, (low, high): (f64, f64), count: usize) -> Option<usize> {
    let part = (value - low) / (high - low);
    (count > 0 && (-1e-9..=1.0 + 1e-9).contains(&part))
        .then(|| (part * (count - 1) as f64).round() as usize)
}

fn by_layer(label: &str) -> bool {
    label.to_lowercase().contains("layer")
}

/// A series' mark where colours cannot tell it.
fn mark(i: usize, theme: Theme) -> &'static str {
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
    let axes = format!(
        "across: {}; up: {}",
        name(&chart.x_label),
        name(&chart.y_label)
    );
    foot.add("", &axes, theme.dim());
}

fn name(label: &str) -> &str {
    if label.is_empty() { "no unit" } else { label }
}

/// Curves over a common axis: the canvas has the marks, the frame around it the ends.
fn curves(
    chart: &Chart,
    series: &[Series],
    area: Rect,
    layer: usize,
    theme: Theme,
    buf: &mut Buffer,
) {
    let points = || {
        series
            .iter()
            .flat_map(|one| one.points.iter().take(MOST_POINTS))
    };
    let bands = series
        .iter()
        .flat_map(|one| one.band.iter().take(MOST_POINTS))
        .flat_map(|(low, high)| [*low, *high]);
    let rules = chart.rules.iter().map(|rule| rule.at);
    let x = range(points().map(|point| point.0));
    let y = range(points().map(|point| point.1).chain(bands).chain(rules));
    let (Some(x), Some(y)) = (x, y) else {
        put(buf, area, 0, 0, "no finite point", theme.dim());
        return;
    };
    let canvas = Rect {
        x: area.x + LABEL,
        width: area.width - LABEL,
        height: area.height - 1,
        ..area
    };
    let (wide, high) = (usize::from(canvas.width), usize::from(canvas.height));
    let row = |value: f64| place(value, y, high).map(|at| (high - 1 - at) as u16);
    let column = |value: f64| place(value, x, wide).map(|at| at as u16);
    ends(area, y, theme, buf);
    for (i, at) in [x.0, x.1].into_iter().enumerate() {
        let text = number(at);
        let shift = if i == 0 {
            LABEL
        } else {
            area.width - (text.len() as u16).min(area.width)
        };
        put(buf, area, shift, area.height - 1, &text, theme.dim());
    }
    for at in chart.rules.iter().filter_map(|rule| row(rule.at)) {
        put(
            buf,
            canvas,
            0,
            at,
            &theme.pick("┄", "-").repeat(wide),
            theme.warning(),
        );
    }
    if let Some(at) = column(layer as f64).filter(|_| by_layer(&chart.x_label)) {
        for line in 0..canvas.height {
            put(buf, canvas, at, line, theme.pick("│", "|"), theme.dim());
        }
    }
    for (i, one) in series.iter().enumerate() {
        let style = theme.category(i);
        for (point, (low, high)) in one.points.iter().zip(&one.band).take(MOST_POINTS) {
            let Some(at) = column(point.0) else { continue };
            for end in [low, high] {
                if let Some(line) = row(*end) {
                    put(buf, canvas, at, line, theme.pick("·", "."), style);
                }
            }
        }
        for pair in one.points[..one.points.len().min(MOST_POINTS)].windows(2) {
            between(pair[0], pair[1], &column, &row, (x, wide), |at, line| {
                put(buf, canvas, at, line, mark(i, theme), style);
            });
        }
        if let [only] = &one.points[..]
            && let (Some(at), Some(line)) = (column(only.0), row(only.1))
        {
            put(buf, canvas, at, line, mark(i, theme), style);
        }
    }
}

/// The cells between two points of a curve, both ends included.
fn between(
    from: (f64, f64),
    to: (f64, f64),
    column: &dyn Fn(f64) -> Option<u16>,
    row: &dyn Fn(f64) -> Option<u16>,
    (x, wide): ((f64, f64), usize),
    mut paint: impl FnMut(u16, u16),
) {
    let (Some(first), Some(last)) = (column(from.0), column(to.0)) else {
        return;
    };
    if first == last || to.0 <= from.0 {
        for (x, y) in [from, to] {
            if let (Some(at), Some(line)) = (column(x), row(y)) {
                paint(at, line);
            }
        }
        return;
    }
    for at in first..=last {
        let here = x.0 + (x.1 - x.0) * f64::from(at) / (wide.max(2) - 1) as f64;
        let part = ((here - from.0) / (to.0 - from.0)).clamp(0.0, 1.0);
        if let Some(line) = row(from.1 + part * (to.1 - from.1)) {
            paint(at, line);
        }
    }
}

/// The largest value above, the smallest below.
fn ends(area: Rect, (low, high): (f64, f64), theme: Theme, buf: &mut Buffer) {
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

/// A bar or a strip of dots: one line.
struct Row<'a> {
    label: &'a str,
    estimate: Option<f64>,
    interval: Option<(f64, f64)>,
    points: &'a [f64],
}

impl<'a> Row<'a> {
    fn of_bar(bar: &'a Bar) -> Self {
        Self {
            label: &bar.label,
            estimate: Some(bar.value),
            interval: bar.interval,
            points: &[],
        }
    }

    fn of_strip(strip: &'a Strip) -> Self {
        let points = &strip.points[..strip.points.len().min(MOST_POINTS)];
        Self {
            label: &strip.label,
            estimate: strip.estimate,
            interval: strip.interval,
            points,
        }
    }

    fn numbers(&self) -> impl Iterator<Item = f64> + '_ {
        let ends = self.interval.map(|(low, high)| [low, high]);
        self.points
            .iter()
            .copied()
            .chain(self.estimate)
            .chain(ends.into_iter().flatten())
    }

    fn words(&self) -> String {
        let ends = self.interval.map_or_else(String::new, |(low, high)| {
            format!(" [{}, {}]", number(low), number(high))
        });
        self.estimate
            .map_or_else(String::new, |value| format!("{}{ends}", number(value)))
    }
}

/// One line for each row, on a common axis: dots, interval, estimate; `filled` from zero, as bars are.
fn tracks(chart: &Chart, rows: &[Row], filled: bool, area: Rect, theme: Theme, buf: &mut Buffer) {
    let zero = filled.then_some(0.0);
    let all = rows
        .iter()
        .flat_map(Row::numbers)
        .chain(chart.rules.iter().map(|rule| rule.at))
        .chain(zero);
    let Some(axis) = range(all) else {
        put(buf, area, 0, 0, "no finite number", theme.dim());
        return;
    };
    let words: Vec<String> = rows.iter().map(Row::words).collect();
    let widest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let label = widest(
        &mut rows
            .iter()
            .map(|row| cells::width(&cells::prose(row.label, theme.ascii))),
    )
    .min(usize::from(area.width) / 4);
    let value = widest(&mut words.iter().map(String::len)).min(usize::from(area.width) / 3);
    let room = usize::from(area.width).saturating_sub(label + value + 2);
    let left = label as u16 + 1;
    let lines = area.height - 1;
    for (i, (row, words)) in rows.iter().zip(&words).enumerate() {
        let y = i as u16;
        if y + 1 == lines && rows.len() > usize::from(lines) {
            put(
                buf,
                area,
                0,
                y,
                &format!("{} more", rows.len() - i),
                theme.dim(),
            );
            break;
        }
        let name = cells::fit(&cells::prose(row.label, theme.ascii), label, theme.ascii);
        put(buf, area, 0, y, &name, theme.text());
        track(
            row,
            filled,
            axis,
            Rect {
                x: area.x + left,
                y: area.y + y,
                width: room as u16,
                height: 1,
            },
            theme,
            buf,
        );
        for at in chart
            .rules
            .iter()
            .filter_map(|rule| place(rule.at, axis, room))
        {
            put(
                buf,
                area,
                left + at as u16,
                y,
                theme.pick("┊", "|"),
                theme.warning(),
            );
        }
        put(buf, area, left + room as u16 + 1, y, words, theme.text());
    }
    let bottom = (rows.len() as u16).min(lines);
    let (low, high) = (number(axis.0), number(axis.1));
    put(buf, area, left, bottom, &low, theme.dim());
    let at = (left + room as u16).saturating_sub(high.len() as u16);
    put(buf, area, at, bottom, &high, theme.dim());
}

fn track(row: &Row, filled: bool, axis: (f64, f64), line: Rect, theme: Theme, buf: &mut Buffer) {
    let room = usize::from(line.width);
    let at = |value: f64| place(value, axis, room).map(|at| at as u16);
    for point in row.points.iter().filter_map(|value| at(*value)) {
        put(buf, line, point, 0, theme.pick("·", "."), theme.dim());
    }
    if let (true, Some(from), Some(to)) = (filled, at(0.0), row.estimate.and_then(at)) {
        let (from, to) = (from.min(to), from.max(to));
        put(
            buf,
            line,
            from,
            0,
            &theme.pick("▄", "#").repeat(usize::from(to - from) + 1),
            theme.category(1),
        );
    }
    if let Some((Some(low), Some(high))) = row.interval.map(|(low, high)| (at(low), at(high)))
        && low <= high
    {
        put(
            buf,
            line,
            low,
            0,
            &theme.pick("━", "=").repeat(usize::from(high - low) + 1),
            theme.accent(),
        );
    }
    if let Some(estimate) = row.estimate.and_then(at) {
        put(buf, line, estimate, 0, theme.pick("●", "*"), theme.title());
    }
}

/// How many draws fall into each of as many bins as there are columns.
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
    let mut counts = vec![0u32; room];
    for bin in values.iter().filter_map(|value| place(*value, axis, room)) {
        counts[bin] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let high = f64::from(canvas.height);
    for (column, count) in counts.iter().enumerate() {
        let full = f64::from(*count) / f64::from(most) * high;
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
