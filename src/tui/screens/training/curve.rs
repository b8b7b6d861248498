//! Curves over the steps, drawn with braille dots, and what happened on the axis below them.
//!
//! Always: runs are told apart by their form as well as by their colour: the first is a line, the second is dots, numbers of
//! evaluation are signs; what is not finite is a gap; nothing depends on how many points there are but time.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::course::{Mark, Series};
use super::metrics;
use crate::train::log::Kind;
use crate::tui::cells::{self, put};
use crate::tui::theme::Theme;

/// Columns of the values at the left.
const LABEL: u16 = 9;
/// Rows below the canvas: what happened, and the steps.
const BELOW: u16 = 2;
/// Columns from one sign of evaluation to the next, at least.
const SIGNS: u16 = 4;
/// Bits of a braille cell, by column and row of its dots.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// One run's part of the chart.
pub(super) struct Curve<'a> {
    /// The metric in training.
    pub train: Option<&'a Series>,
    /// The metric in evaluation.
    pub eval: Option<&'a Series>,
}

/// The chart.
pub(super) struct Chart<'a> {
    /// The selected run, and the one it is compared with.
    pub curves: Vec<Curve<'a>>,
    /// What happened in the selected run.
    pub marks: &'a [Mark],
    /// The step under the cursor.
    pub cursor: Option<u64>,
    /// Values by their logarithm; those that have none are gaps.
    pub logarithmic: bool,
}

/// The sign of what happened, and the word for it.
pub(super) fn sign(kind: Kind, theme: Theme) -> Option<(&'static str, &'static str, Style)> {
    Some(match kind {
        Kind::Alert => ("!", "alert", theme.error()),
        Kind::Resumed => (theme.pick("»", ">"), "resumed", theme.accent()),
        Kind::Checkpoint => (theme.pick("▪", "#"), "checkpoint", theme.dim()),
        Kind::Stopped => (theme.pick("■", "X"), "end", theme.text()),
        _ => return None,
    })
}

/// Signs of the evaluation of both runs.
pub(super) fn eval_sign(run: usize, theme: Theme) -> &'static str {
    match run {
        0 => theme.pick("◆", "@"),
        _ => theme.pick("◇", "%"),
    }
}

/// How a run is drawn: in colour, and the word for its form.
pub(super) fn form(run: usize, theme: Theme) -> (&'static str, &'static str, Style) {
    match run {
        0 => (theme.pick("━━", "**"), "line", theme.category(1)),
        _ => (theme.pick("┄┄", ".."), "dots", theme.category(0)),
    }
}

/// The ends of all that is finite, apart at least a little.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite() && value.abs() < 1e300);
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    match low.partial_cmp(&high)? {
        std::cmp::Ordering::Less => Some((low, high)),
        std::cmp::Ordering::Equal => {
            let around = (low.abs() * 0.1).max(1e-6);
            Some((low - around, high + around))
        }
        std::cmp::Ordering::Greater => None,
    }
}

impl Chart<'_> {
    fn points(&self) -> impl Iterator<Item = (u64, f64)> {
        let series = self.curves.iter().flat_map(|c| [c.train, c.eval]);
        series.flatten().flat_map(Series::all)
    }

    /// Draws it; gives the canvas, whose columns are steps.
    pub(super) fn draw(&self, area: Rect, theme: Theme, buf: &mut Buffer) -> Option<Rect> {
        if area.width < LABEL + 8 || area.height < BELOW + 2 {
            return None;
        }
        let scale = |value: f64| {
            if self.logarithmic {
                value.log10()
            } else {
                value
            }
        };
        let Some(y) = ends(self.points().map(|point| scale(point.1))) else {
            let none = if self.logarithmic {
                "no value above zero; u: linear axis"
            } else {
                "no finite value yet"
            };
            put(buf, area, 0, 0, none, theme.dim());
            return None;
        };
        let first = self.points().map(|point| point.0).min()?;
        let last = self.points().map(|point| point.0).max()?.max(first + 1);
        let canvas = Rect {
            x: area.x + LABEL,
            width: area.width - LABEL,
            height: area.height - BELOW,
            ..area
        };
        let grid = Grid {
            area: canvas,
            x: (first as f64, last as f64),
            y,
            fine: !theme.ascii,
            scale: &scale,
        };
        self.frame(area, &grid, theme, buf);
        if let Some(at) = self.cursor.and_then(|step| grid.column(step as f64)) {
            for row in 0..canvas.height {
                put(buf, canvas, at, row, theme.pick("│", "|"), theme.dim());
            }
        }
        // The selected run last: it lies on top.
        for (run, curve) in self.curves.iter().enumerate().rev() {
            if let Some(series) = curve.train {
                grid.curve(series, run, theme, buf);
            }
        }
        for (run, curve) in self.curves.iter().enumerate().rev() {
            let mut before: Option<u16> = None;
            for (step, value) in curve.eval.into_iter().flat_map(Series::all) {
                if let (Some(at), Some(row)) = (grid.column(step as f64), grid.row(value)) {
                    // So many that they would hide the curve are drawn here and there.
                    if before.is_some_and(|before| at < before.saturating_add(SIGNS)) {
                        continue;
                    }
                    before = Some(at);
                    let style = form(run, theme).2;
                    put(buf, canvas, at, row, eval_sign(run, theme), style);
                }
            }
        }
        Some(canvas)
    }

    /// Values at the left, what happened and the steps below.
    fn frame(&self, area: Rect, grid: &Grid, theme: Theme, buf: &mut Buffer) {
        let room = usize::from(LABEL - 1);
        let canvas = grid.area;
        let last = canvas.height - 1;
        let middle = last / 2;
        let part = f64::from(middle) / f64::from(last.max(1));
        let between = grid.y.1 + (grid.y.0 - grid.y.1) * part;
        let mut labels = vec![(0, grid.y.1), (last, grid.y.0)];
        if canvas.height >= 7 {
            labels.push((middle, between));
        }
        for (row, value) in labels {
            let value = if self.logarithmic {
                10f64.powf(value)
            } else {
                value
            };
            let text = format!("{:>room$}", metrics::value(value));
            let text = cells::fit(&text, room, theme.ascii);
            put(buf, area, 0, row, &text, theme.dim());
        }
        let below = canvas.height;
        let axis = theme.pick("─", "-").repeat(canvas.width.into());
        put(buf, area, LABEL, below, &axis, theme.border());
        let mut marks: Vec<&Mark> = self.marks.iter().collect();
        // What is seen last is most wanted where two fall into one column.
        marks.sort_by_key(|mark| match mark.kind {
            Kind::Checkpoint => 0,
            Kind::Stopped => 1,
            Kind::Resumed => 2,
            _ => 3,
        });
        for mark in marks {
            let at = grid.column(mark.step as f64);
            if let (Some((sign, _, style)), Some(at)) = (sign(mark.kind, theme), at) {
                put(buf, area, LABEL + at, below, sign, style);
            }
        }
        let (from, to) = (format!("{:.0}", grid.x.0), format!("{:.0}", grid.x.1));
        put(buf, area, LABEL, below + 1, &from, theme.dim());
        let end = area.width.saturating_sub(to.len() as u16);
        put(buf, area, end, below + 1, &to, theme.dim());
        let middle = LABEL + (canvas.width / 2).saturating_sub(2);
        if usize::from(middle) > usize::from(LABEL) + from.len() && middle + 5 < end {
            put(buf, area, middle, below + 1, "step", theme.dim());
        }
        if let Some(step) = self.cursor
            && let Some(at) = grid.column(step as f64)
        {
            let text = step.to_string();
            let at = LABEL + at;
            let from = at.saturating_sub(text.len() as u16 / 2).max(LABEL);
            let from = from.min(area.width.saturating_sub(text.len() as u16));
            put(buf, area, from, below + 1, &text, theme.cursor());
        }
    }
}

/// Where values lie among the cells.
struct Grid<'a> {
    area: Rect,
    x: (f64, f64),
    /// Of scaled values.
    y: (f64, f64),
    scale: &'a dyn Fn(f64) -> f64,
    /// Eight dots a cell.
    fine: bool,
}

impl Grid<'_> {
    fn place(value: f64, (low, high): (f64, f64), count: usize) -> Option<usize> {
        let part = (value - low) / (high - low);
        let inside = part.is_finite() && (0.0..=1.0).contains(&part) && count > 0;
        inside.then(|| (part * (count - 1) as f64).round() as usize)
    }

    fn size(&self) -> (usize, usize) {
        let (wide, high) = (usize::from(self.area.width), usize::from(self.area.height));
        if self.fine {
            (wide * 2, high * 4)
        } else {
            (wide, high)
        }
    }

    fn column(&self, step: f64) -> Option<u16> {
        Self::place(step, self.x, self.size().0).map(|dot| self.cell(dot, 2))
    }

    fn row(&self, value: f64) -> Option<u16> {
        let high = self.size().1;
        Self::place((self.scale)(value), self.y, high).map(|dot| self.cell(high - 1 - dot, 4))
    }

    fn cell(&self, dot: usize, each: usize) -> u16 {
        (if self.fine { dot / each } else { dot }) as u16
    }

    /// One curve: each two neighbours are joined, and what is not finite parts them.
    fn curve(&self, series: &Series, run: usize, theme: Theme, buf: &mut Buffer) {
        let (wide, high) = self.size();
        let mut dots = vec![false; wide * high];
        let mut before: Option<(usize, usize)> = None;
        for (step, value) in series.all() {
            let at = Self::place(step as f64, self.x, wide).zip(Self::place(
                (self.scale)(value),
                self.y,
                high,
            ));
            let Some((x, y)) = at else {
                before = None;
                continue;
            };
            let y = high - 1 - y;
            let (from, to) = (before.unwrap_or((x, y)), (x, y));
            let long = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
            for i in 0..=long {
                let between = |a: usize, b: usize| {
                    (a as f64 + (b as f64 - a as f64) * i as f64 / long as f64).round() as usize
                };
                dots[between(from.1, to.1) * wide + between(from.0, to.0)] = true;
            }
            before = Some((x, y));
        }
        // Every third dot of the second run.
        let seen =
            |x: usize, y: usize| dots[y * wide + x] && (run == 0 || (x + y).is_multiple_of(3));
        let style = form(run, theme).2;
        for row in 0..usize::from(self.area.height) {
            for column in 0..usize::from(self.area.width) {
                let symbol = if self.fine {
                    let each = (0..2).flat_map(|x| (0..4).map(move |y| (x, y)));
                    let bits = each
                        .filter(|(x, y)| seen(column * 2 + x, row * 4 + y))
                        .fold(0u8, |bits, (x, y)| bits | DOTS[x][y]);
                    (bits != 0).then(|| char::from_u32(0x2800 + u32::from(bits)))
                } else {
                    seen(column, row).then_some(Some(if run == 0 { '*' } else { '.' }))
                };
                if let Some(symbol) = symbol.flatten() {
                    let (column, row) = (column as u16, row as u16);
                    put(buf, self.area, column, row, &symbol.to_string(), style);
                }
            }
        }
    }
}
