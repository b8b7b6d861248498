//! Drawing: how it stands, the lanes over the tokens, the token under the cursor, the text.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::branch::Branch;
use super::dose;
use super::rows::{Window, below, divergence, lanes};
use super::written::{number, state};
use super::{Labels, ScopePane};
use crate::features::scope::{Turn, Turns};
use crate::tui::screen::View;
use crate::tui::screens::generate::flow::{Piece, flow};
use crate::tui::shared::ModelState;
use crate::tui::theme::Theme;
use crate::tui::{cells, pen};

/// Lines of text.
const TEXT: u16 = 3;

pub(super) fn draw(pane: &ScopePane, view: &View, area: Rect, buf: &mut Buffer, labels: Labels) {
    let area = area.intersection(buf.area);
    let Some(branch) = pane.branch().filter(|branch| branch.shown() > 0) else {
        let (title, body) = empty(pane, view);
        return pen::card(area, title, &body, view.theme, buf);
    };
    let theme = *view.theme;
    put(
        area,
        0,
        &state(pane, branch),
        status(pane, theme),
        theme,
        buf,
    );
    put(
        area,
        1,
        &turns(pane, branch),
        turned_style(pane, branch, theme),
        theme,
        buf,
    );
    let text = if area.height >= 14 { TEXT } else { 1 };
    let height = area.height.saturating_sub(2 + 1 + 2 + text);
    let middle = Rect {
        y: area.y + 2.min(area.height),
        height,
        ..area
    };
    let window = Window::of(pane, branch, middle);
    let used = divergence(pane, &window, middle, theme, buf);
    lanes(
        pane,
        branch,
        &window,
        below(middle, used),
        (buf, theme, labels),
    );
    let rest = |from: u16, height: u16| {
        let y = (middle.bottom() + from).min(area.bottom());
        Rect {
            y,
            height: height.min(area.bottom() - y),
            ..area
        }
    };
    axis(pane, branch, &window, rest(0, 1), theme, buf);
    for (i, (line, style)) in detail(pane, branch, labels, theme).iter().enumerate() {
        put(rest(1, 2), i as u16, line, *style, theme, buf);
    }
    strip(pane, branch, rest(3, text), theme, buf);
}

pub(super) fn put(area: Rect, row: u16, text: &str, style: Style, theme: Theme, buf: &mut Buffer) {
    let text = cells::fit(
        &cells::prose(text, theme.ascii),
        area.width.into(),
        theme.ascii,
    );
    pen::line(area, row, &text, style, buf);
}

fn empty(pane: &ScopePane, view: &View) -> (&'static str, String) {
    match (&view.shared.model, &view.shared.prompt_error, &pane.failed) {
        (ModelState::Loading { name }, ..) => ("opening", format!("{name} is being opened")),
        (ModelState::Failed { name, why }, ..) => ("failed", format!("{name}: {why}")),
        (ModelState::None, ..) => ("no model", "`:open NAME` opens one".into()),
        (_, Some(why), _) => ("this prompt cannot be read", why.clone()),
        (_, None, Some(why)) => ("failed", format!("{why}. space tries again")),
        _ if view.shared.tokens.is_empty() => ("nothing to read", "the prompt is empty".into()),
        _ if pane.held => ("paused", "space reads the prompt".into()),
        _ => ("reading", "the prompt is being read".into()),
    }
}

fn status(pane: &ScopePane, theme: Theme) -> Style {
    match pane.failed {
        Some(_) => theme.error(),
        None if pane.running() => theme.accent(),
        None => theme.dim(),
    }
}

/// What is done to latents, and what waits for a branch.
fn turns(pane: &ScopePane, branch: &Branch) -> String {
    let said = |turns: &Turns| {
        let one = |turn: &Turn| {
            let edits: Vec<String> = turn.edits.iter().map(dose::words).collect();
            let edits = if edits.is_empty() {
                "as it is".to_owned()
            } else {
                edits.join(", ")
            };
            format!("from token {}: {edits}", turn.from)
        };
        turns.all().iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let mut line = if branch.trace.turns.all().is_empty() {
        " no latent is turned".to_owned()
    } else {
        format!(" turned {}", said(&branch.trace.turns))
    };
    let wanted = branch.doses.edits();
    if branch.trace.turns.at(usize::MAX) != wanted {
        let wanted: Vec<String> = wanted.iter().map(dose::words).collect();
        let wanted = if wanted.is_empty() {
            "as it is".into()
        } else {
            wanted.join(", ")
        };
        line += &format!(
            " · set: {wanted}; b branches at token {} with it",
            pane.cursor
        );
    }
    line
}

fn turned_style(_pane: &ScopePane, branch: &Branch, theme: Theme) -> Style {
    if branch.trace.turns.all().is_empty() && branch.doses.is_empty() {
        theme.dim()
    } else {
        theme.warning()
    }
}

/// Prompt and answer, where latents were turned, where two runs part, the cursor.
fn axis(
    pane: &ScopePane,
    branch: &Branch,
    window: &Window,
    area: Rect,
    theme: Theme,
    buf: &mut Buffer,
) {
    for token in window.first..window.first + window.count {
        let Some(column) = window.column(token) else {
            continue;
        };
        let line = if token < branch.trace.prompt {
            theme.pick("╌", ".")
        } else {
            theme.pick("─", "-")
        };
        let line = line.repeat(window.each.into());
        cells::put(buf, area, column, 0, &line, theme.border());
    }
    let diverges = pane.compared.as_ref().and_then(|found| found.diverges);
    let mut mark = |token: usize, sign: &str, style: Style| {
        if let Some(column) = window.column(token) {
            cells::put(buf, area, column, 0, sign, style);
        }
    };
    mark(branch.trace.prompt, theme.pick("├", "|"), theme.border());
    for turn in branch.trace.turns.all() {
        mark(turn.from, theme.pick("◆", "@"), theme.warning());
    }
    if let Some(at) = diverges {
        mark(at, theme.pick("≠", "!"), theme.error());
    }
    mark(pane.cursor, theme.pick("▲", "^"), theme.cursor());
    let words = cells::fit(" tokens", window.left.into(), theme.ascii);
    pen::line(area, 0, &words, theme.dim(), buf);
}

/// The token under the cursor, and the comparison or its strongest latents.
fn detail(pane: &ScopePane, branch: &Branch, labels: Labels, theme: Theme) -> [(String, Style); 2] {
    let at = pane.cursor;
    let Some((step, old)) = branch.step(at) else {
        return [(String::new(), theme.dim()), (String::new(), theme.dim())];
    };
    let part = if at < branch.trace.prompt {
        "prompt"
    } else {
        "answer"
    };
    let nats = |value: Option<f32>| value.map_or_else(|| "-".into(), |v| format!("{v:.2}"));
    let token = cells::visible(branch.text(at), theme.ascii);
    let first = format!(
        " token {at} '{token}' ({part}) · log p {} · entropy {} nats{}",
        nats(step.log_prob),
        nats(step.entropy),
        if old { " · of before the change" } else { "" }
    );
    let second = match &pane.compared {
        Some(found) if pane.comparing => super::written::difference(pane, found),
        _ => {
            let strong = step.strongest(8);
            let strong = strong.iter().map(|&(latent, value)| {
                let label = labels(latent).map_or_else(String::new, |label| format!(" ({label})"));
                format!("{latent} {}{label}", number(value.into()))
            });
            format!(" strongest: {}", strong.collect::<Vec<_>>().join(" · "))
        }
    };
    let style = if old { theme.stale() } else { theme.text() };
    [(first, style), (second, theme.dim())]
}

/// The text around the cursor.
fn strip(pane: &ScopePane, branch: &Branch, area: Rect, theme: Theme, buf: &mut Buffer) {
    let texts = (0..branch.shown()).map(|at| branch.text(at));
    let diverges = pane.compared.as_ref().and_then(|found| found.diverges);
    let mark = diverges.map(|at| (at, theme.pick("≠", "!")));
    let width = usize::from(area.width.saturating_sub(2));
    let lines = flow(texts, width, theme.ascii, mark);
    let of_cursor = |line: &Vec<Piece>| line.iter().any(|piece| piece.token == pane.cursor);
    let row = lines.iter().position(of_cursor).unwrap_or(0);
    // The line before the cursor's is seen too.
    let first = row.saturating_sub(usize::from(area.height / 2));
    let first = first.min(lines.len().saturating_sub(area.height.into()));
    for (row, line) in lines
        .iter()
        .skip(first)
        .take(area.height.into())
        .enumerate()
    {
        for piece in line {
            let style = match branch.step(piece.token) {
                _ if piece.token == pane.cursor => theme.cursor(),
                _ if Some(piece.token) == diverges => theme.error(),
                Some((_, true)) => theme.stale(),
                _ if piece.token < branch.trace.prompt => theme.dim(),
                _ => theme.text(),
            };
            cells::put(
                buf,
                area,
                1 + piece.x as u16,
                row as u16,
                &piece.text,
                style,
            );
        }
    }
}
