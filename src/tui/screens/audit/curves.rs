//! Curves of an audit's chart, drawn with characters: marks on a canvas, the ends of both axes around it.
//!
//! Always: points that are not finite are gaps. Who decides what is drawn where: `plot.rs`.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::plot::{LABEL, MOST_POINTS, by_layer, ends, mark, number, place, range};
use crate::audit::charts::{Chart, Series};
use crate::tui::cells::put;
use crate::tui::theme::Theme;

/// Curves over a common axis: the canvas has the marks, the frame around it the ends.
pub(super) fn curves(
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
