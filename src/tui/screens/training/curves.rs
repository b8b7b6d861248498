//! The curves of a run: the list of its metrics, the chart, the value at the cursor, the legend.
//!
//! Always: what is shown by colour is also told by a form or a number, so that it is read without colours.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::TrainingScreen;
use super::course::Course;
use super::curve::{self, Chart, Curve};
use super::metrics::{self, EVAL};
use super::panes::{beside, list};
use super::view::{CHART, split};
use crate::train::log::Kind;
use crate::tui::cells::{self, Entry, Table, put};
use crate::tui::pen;
use crate::tui::screen::{Hits, Target, View};
use crate::tui::theme::Theme;

/// From here on metrics have a course beside them.
const WIDE: u16 = 110;
/// Columns of that course.
const SPARK: usize = 9;

pub(super) fn draw(
    screen: &TrainingScreen,
    run: &Course,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let names = screen.names(run);
    let Some(name) = screen.name(run) else {
        let why = if run.series.is_empty() {
            "the run has not logged a step yet; its numbers come here with the first one"
        } else {
            "no metric holds these words; esc shows all again"
        };
        return pen::card(area, "no metrics", why, view.theme, buf);
    };
    let wide = area.width >= WIDE;
    let (left, right) = beside(area, if wide { 50 } else { 30 });
    let rows: Vec<Vec<Entry>> = names
        .iter()
        .filter_map(|name| {
            let series = run.series.get(*name)?;
            let last = series
                .last
                .map_or("-".to_owned(), |(_, v)| metrics::value(v));
            let mut row = vec![
                Entry::new(*name, theme.text()),
                Entry::number(last, theme.text()),
            ];
            if wide {
                let values: Vec<f32> = series.points.iter().map(|p| p.1 as f32).collect();
                row.push(Entry::new(
                    cells::sparkline(&values, SPARK, theme),
                    theme.bar(),
                ));
            }
            Some(row)
        })
        .collect();
    let widths: &[u16] = if wide {
        &[28, 9, SPARK as u16]
    } else {
        &[19, 8]
    };
    let table = Table {
        headers: &["metric", "last", "course"][..widths.len()],
        rows: &rows,
        widths,
        selected: Some(screen.row(run)),
        offset: 0,
        focus: screen.inside,
    };
    list(screen, "metrics", &table, (left, theme), buf, hits);
    chart(screen, run, name, view, right, buf, hits);
}

fn chart(
    screen: &TrainingScreen,
    run: &Course,
    name: &str,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let theme = *view.theme;
    let unit = metrics::unit(name, &run.method);
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(", {unit}")
    };
    let axis = if screen.logarithmic {
        ", logarithmic axis"
    } else {
        ""
    };
    let inner = pen::panel(
        area,
        &cells::prose(&format!("{name}{unit}{axis}"), theme.ascii),
        view.theme,
        buf,
    );
    let said = at_cursor(screen, run, name);
    let said = pen::wrapped(&cells::prose(&said, theme.ascii), inner.width.into());
    let above = if inner.height >= 16 {
        said.len().min(2)
    } else {
        1
    } as u16;
    for (row, line) in said.iter().take(above.into()).enumerate() {
        pen::line(inner, row as u16, line, theme.text(), buf);
    }
    let legend = legend(screen, run, name, theme);
    let rows = folded(&legend, inner.width);
    let room = inner.height.saturating_sub(above);
    let below = (rows.len() as u16).min(room / 3);
    let (body, foot) = split(split(inner, above).1, room - below);
    let eval = format!("{EVAL}{name}");
    let of = |run: &'_ Course| {
        (
            run.series.get(name).cloned(),
            run.series.get(&eval).cloned(),
        )
    };
    let held: Vec<_> = [Some(run), screen.other()]
        .into_iter()
        .flatten()
        .map(of)
        .collect();
    let chart = Chart {
        curves: held
            .iter()
            .map(|(train, eval)| Curve {
                train: train.as_ref(),
                eval: eval.as_ref(),
            })
            .collect(),
        marks: &run.marks,
        cursor: screen.cursor,
        logarithmic: screen.logarithmic,
    };
    if let Some(canvas) = chart.draw(body, theme, buf) {
        for column in 0..canvas.width {
            let place = Rect {
                x: canvas.x + column,
                width: 1,
                ..canvas
            };
            hits.add(
                place,
                Target::Place(CHART, column.into(), canvas.width.into()),
            );
        }
    }
    for (row, parts) in rows.iter().take(below.into()).enumerate() {
        let mut at = 0;
        for (text, style) in parts {
            at = put(buf, foot, at, row as u16, text, *style) + 2;
        }
    }
}

/// Value of the metric at a step, of both runs.
pub(super) fn at_cursor(screen: &TrainingScreen, run: &Course, name: &str) -> String {
    let newest = run.series.get(name).and_then(|series| series.last);
    let step = screen
        .cursor
        .or(newest.map(|last| last.0))
        .unwrap_or(run.step);
    let eval = format!("{EVAL}{name}");
    let told = |run: &Course| {
        let value = |name: &str| {
            let (at, value) = run.series.get(name)?.at(step)?;
            let place = if at == step {
                String::new()
            } else {
                format!(" at {at}")
            };
            Some((metrics::value(value), place))
        };
        let train = value(name).map_or("no value".to_owned(), |(value, at)| format!("{value}{at}"));
        let eval = value(&eval).map_or(String::new(), |(value, at)| format!(", eval {value}{at}"));
        format!("{train}{eval}")
    };
    let other = screen.other().map_or(String::new(), |other| {
        format!("; {}: {}", other.name(), told(other))
    });
    let newest = if screen.cursor.is_none() {
        " (newest)"
    } else {
        ""
    };
    format!("step {step}{newest}: {}{other}", told(run))
}

pub(super) type Piece = (String, Style);

/// What the forms and signs of the chart mean, of those that are in it.
fn legend(screen: &TrainingScreen, run: &Course, name: &str, theme: Theme) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let eval = format!("{EVAL}{name}");
    let runs = [Some(run), screen.other()];
    for (i, run) in runs.into_iter().flatten().enumerate() {
        let (sign, word, style) = curve::form(i, theme);
        let who = cells::prose(&run.name(), theme.ascii);
        let who = cells::cut(&who, 24, theme.ascii);
        pieces.push((format!("{sign} {who} ({word})"), style));
        if run.series.contains_key(&eval) {
            let sign = curve::eval_sign(i, theme);
            pieces.push((format!("{sign} its evaluation"), style));
        }
    }
    for kind in [Kind::Alert, Kind::Checkpoint, Kind::Resumed, Kind::Stopped] {
        let there = run.marks.iter().any(|mark| mark.kind == kind);
        if let Some((sign, word, style)) = curve::sign(kind, theme).filter(|_| there) {
            pieces.push((format!("{sign} {word}"), style));
        }
    }
    pieces
}

/// Pieces in rows of a width, two columns apart.
fn folded(pieces: &[Piece], width: u16) -> Vec<Vec<Piece>> {
    let mut rows: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut used = 0;
    for piece in pieces {
        let wide = cells::width(&piece.0) + 2;
        if used > 0 && used + wide > usize::from(width) + 2 {
            rows.push(Vec::new());
            used = 0;
        }
        used += wide;
        if let Some(row) = rows.last_mut() {
            row.push(piece.clone());
        }
    }
    rows
}
