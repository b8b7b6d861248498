//! The lanes in their rows: which tokens are seen, each lane's name, value, course and scale, the parent's beside it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::branch::Branch;
use super::dose;
use super::lanes::{Course, ends};
use super::view::put;
use super::written::number;
use super::{Labels, ScopePane};
use crate::features::scope::Lane;
use crate::tui::theme::Theme;
use crate::tui::{cells, pen};

/// Columns at the left: a mark, the name, the value.
const NAME: u16 = 22;
const VALUE: u16 = 9;
/// Columns at the right: the scale's upper end.
const SCALE: u16 = 8;

/// Which tokens are seen, and where.
pub(super) struct Window {
    pub first: usize,
    pub count: usize,
    /// Columns of a token.
    pub each: u16,
    /// Columns before the first.
    pub left: u16,
    width: u16,
    name: u16,
}

impl Window {
    pub(super) fn of(pane: &ScopePane, branch: &Branch, area: Rect) -> Self {
        let name = if area.width >= 70 { NAME } else { 10 };
        let left = (name + VALUE).min(area.width);
        let right = if area.width >= 70 { SCALE } else { 0 };
        let width = area.width.saturating_sub(left + right);
        let beside = pane.beside().map_or(0, Branch::shown);
        let tokens = branch.shown().max(beside);
        let each = if tokens * 2 <= usize::from(width) {
            2
        } else {
            1
        };
        let count = usize::from(width / each).min(tokens);
        let first = cells::scroll(Some(pane.cursor), tokens, count, tokens);
        Self {
            first,
            count,
            each,
            left,
            width,
            name,
        }
    }

    /// The column of a token in the whole line.
    pub(super) fn column(&self, token: usize) -> Option<u16> {
        let at = token
            .checked_sub(self.first)
            .filter(|at| *at < self.count)?;
        Some(self.left + at as u16 * self.each)
    }
}

fn values(branch: &Branch, lane: Lane, window: &Window) -> Vec<Option<f64>> {
    let tokens = window.first..window.first + window.count;
    let value = |at| branch.step(at).and_then(|(step, _)| step.value(lane));
    tokens.map(value).collect()
}

pub(super) fn lanes(
    pane: &ScopePane,
    branch: &Branch,
    window: &Window,
    area: Rect,
    (buf, theme, labels): (&mut Buffer, Theme, Labels),
) {
    let beside = pane.beside();
    let rows = if beside.is_some() { 2 } else { 1 };
    let room = usize::from(area.height);
    pane.room.set(room / rows);
    if pane.lanes.is_empty() {
        put(
            area,
            0,
            " no lane; f fills them, `:latent N` adds one",
            theme.dim(),
            theme,
            buf,
        );
        return;
    }
    let high = (room / (pane.lanes.len() * rows)).clamp(1, 4) as u16;
    let fit = (room / (usize::from(high) * rows)).max(1);
    let first = cells::scroll(Some(pane.lane), 0, fit, pane.lanes.len());
    for (i, &lane) in pane.lanes.iter().enumerate().skip(first).take(fit) {
        let row = (i - first) as u16 * high * rows as u16;
        let here = Rect {
            y: area.y + row,
            height: (high * rows as u16).min(area.height.saturating_sub(row)),
            ..area
        };
        let all = |b: &Branch| {
            (0..b.shown())
                .filter_map(|t| b.step(t)?.0.value(lane))
                .collect::<Vec<f64>>()
        };
        // The first token is an attention sink in most models; a lane's scale is that of the others.
        let mut seen = all(branch).split_off(1.min(branch.shown()));
        seen.extend(
            beside
                .into_iter()
                .flat_map(|b| all(b).split_off(1.min(b.shown()))),
        );
        let ends = ends(seen.into_iter());
        let one = Drawn {
            pane,
            lane,
            ends,
            window,
            selected: i == pane.lane,
        };
        let (upper, lower) = (
            Rect {
                height: high.min(here.height),
                ..here
            },
            below(here, high),
        );
        one.draw(
            branch,
            &one.name(branch, labels),
            upper,
            (buf, theme),
            false,
        );
        if let Some(parent) = beside {
            one.draw(parent, "  parent", lower, (buf, theme), true);
        }
    }
}

/// How far the distributions are apart, token by token, above the lanes; the rows it takes.
pub(super) fn divergence(
    pane: &ScopePane,
    window: &Window,
    area: Rect,
    theme: Theme,
    buf: &mut Buffer,
) -> u16 {
    let found = pane.compared.as_ref().filter(|_| area.height >= 4);
    let Some(kl) = found.map(|found| &found.kl).filter(|kl| !kl.is_empty()) else {
        return 0;
    };
    let tokens = window.first..window.first + window.count;
    let values: Vec<Option<f64>> = tokens.map(|at| kl.get(at).copied()).collect();
    let here = kl
        .get(pane.cursor)
        .map_or_else(|| "-".into(), |kl| number(*kl));
    let name = cells::fit("  KL to parent", window.name.into(), theme.ascii);
    let line = format!("{name}{here:>width$}", width = usize::from(VALUE) - 1);
    pen::line(area, 0, &line, theme.text(), buf);
    let course = Course {
        values: &values,
        ends: ends(kl.iter().copied()),
        each: window.each,
        style: &|_| theme.error(),
        theme,
    };
    let graph = Rect {
        x: area.x + window.left,
        width: window.width,
        height: 1,
        ..area
    };
    course.draw(graph, buf);
    let right = window.left + window.width;
    let top = format!(" {}", number(course.ends.1));
    cells::put(buf, area, right, 0, &top, theme.dim());
    1
}

pub(super) fn below(area: Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    }
}

/// A lane on its way to the buffer.
struct Drawn<'a> {
    pane: &'a ScopePane,
    lane: Lane,
    ends: (f64, f64),
    window: &'a Window,
    selected: bool,
}

impl Drawn<'_> {
    fn name(&self, branch: &Branch, labels: Labels) -> String {
        let label = match self.lane {
            Lane::Latent(latent) => labels(latent).map(|label| format!("{latent} {label}")),
            _ => None,
        };
        label.unwrap_or_else(|| branch.trace.name(self.lane))
    }

    fn draw(
        &self,
        branch: &Branch,
        name: &str,
        area: Rect,
        (buf, theme): (&mut Buffer, Theme),
        parent: bool,
    ) {
        let window = self.window;
        let mark = if self.selected && !parent {
            theme.pick("▸ ", "> ")
        } else {
            "  "
        };
        let name = cells::prose(&format!("{mark}{name}"), theme.ascii);
        let name = cells::fit(&name, window.name.into(), theme.ascii);
        let style = match (self.selected, parent) {
            (_, true) => theme.dim(),
            (true, _) => theme.selected(),
            _ => theme.text(),
        };
        pen::line(area, 0, &name, style, buf);
        let here = branch
            .step(self.pane.cursor)
            .and_then(|(step, _)| step.value(self.lane));
        let value = here.map_or_else(|| "-".into(), number);
        let value = format!("{value:>width$} ", width = usize::from(VALUE) - 1);
        cells::put(buf, area, window.name, 0, &value, style);
        self.second(branch, area, (buf, theme), parent);
        let graph = Rect {
            x: area.x + window.left,
            width: window.width,
            ..area
        };
        if let Some(column) = window.column(self.pane.cursor) {
            for row in 0..area.height {
                cells::put(buf, area, column, row, theme.pick("┊", ":"), theme.dim());
            }
        }
        let latent = match self.lane {
            Lane::Latent(latent) => Some(latent),
            _ => None,
        };
        let style = |i: usize| {
            let token = window.first + i;
            let edits = branch.trace.turns.at(token);
            let turned = edits.iter().any(|edit| Some(edit.latent) == latent);
            match branch.step(token) {
                Some((_, true)) => theme.stale(),
                _ if token == self.pane.cursor => theme.text().add_modifier(Modifier::BOLD),
                _ if turned => theme.warning(),
                _ if parent => theme.category(0),
                _ => theme.bar(),
            }
        };
        let course = Course {
            values: &values(branch, self.lane, window),
            ends: self.ends,
            each: window.each,
            style: &style,
            theme,
        };
        course.draw(graph, buf);
        let right = window.left + window.width;
        if right < area.width {
            let top = format!(" {}", number(self.ends.1));
            cells::put(buf, area, right, 0, &top, theme.dim());
            if area.height > 1 {
                let bottom = format!(" {}", number(self.ends.0));
                cells::put(buf, area, right, area.height - 1, &bottom, theme.dim());
            }
        }
    }

    /// Under the name: how the latent is turned, and what it was without.
    fn second(
        &self,
        branch: &Branch,
        area: Rect,
        (buf, theme): (&mut Buffer, Theme),
        parent: bool,
    ) {
        let Lane::Latent(latent) = self.lane else {
            return;
        };
        let edits = branch.doses.edits();
        let dose = edits.iter().find(|edit| edit.latent == latent);
        let Some(dose) = dose.filter(|_| area.height > 1 && !parent) else {
            return;
        };
        let step = branch.step(self.pane.cursor).map(|(step, _)| step);
        let was = step.map_or(0.0, |step| step.unedited(latent));
        let text = format!("  {} (was {})", dose::words(dose), number(was.into()));
        let room = usize::from(self.window.left.saturating_sub(1));
        let text = cells::fit(&cells::prose(&text, theme.ascii), room, theme.ascii);
        pen::line(area, 1, &text, theme.warning(), buf);
    }
}
