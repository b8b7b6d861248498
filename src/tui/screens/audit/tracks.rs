//! Bars and strips of an audit's chart: one line each on a common axis, with interval and estimate.
//!
//! Always: what does not fit is counted. Who decides what is drawn where: `plot.rs`.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::plot::{MOST_POINTS, number, place, range};
use crate::audit::charts::{Bar, Chart, Strip};
use crate::tui::cells::{self, put};
use crate::tui::theme::Theme;

/// A bar or a strip of dots: one line.
pub(super) struct Row<'a> {
    label: &'a str,
    estimate: Option<f64>,
    interval: Option<(f64, f64)>,
    points: &'a [f64],
}

impl<'a> Row<'a> {
    pub(super) fn of_bar(bar: &'a Bar) -> Self {
        Self {
            label: &bar.label,
            estimate: Some(bar.value),
            interval: bar.interval,
            points: &[],
        }
    }

    pub(super) fn of_strip(strip: &'a Strip) -> Self {
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
pub(super) fn tracks(
    chart: &Chart,
    rows: &[Row],
    filled: bool,
    area: Rect,
    theme: Theme,
    buf: &mut Buffer,
) {
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
