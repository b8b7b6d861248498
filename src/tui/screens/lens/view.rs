//! Drawing the lens: the prompt as a strip of tokens or as a field, the map of layers over tokens, the list beside it.
//!
//! Always: every size draws; token texts pass through `cells`; values of before are marked as old until new ones are there.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::editor::Editor;
use super::modes::Mode;
use super::reading::{Place, direction, window};
use super::{CELL, LensScreen, Pane, TOKEN, detail};
use crate::tui::cells::{self, Card, HeatMap};
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready::{self, say};
use crate::tui::theme::Scale;

/// The list beside the map, and the least width at which there is one.
const LIST: (u16, u16) = (36, 66);

/// Draws the screen.
pub(super) fn draw(
    screen: &LensScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let area = area.intersection(buf.area);
    if area.is_empty() {
        return;
    }
    let prompt = match &screen.editor {
        Some(editor) => (editor.turns().len() as u16 + 6).min(area.height),
        None if area.height < 10 => 0,
        None => 3,
    };
    let top = Rect {
        height: prompt,
        ..area
    };
    let rest = Rect {
        y: area.y + prompt,
        height: area.height - prompt,
        ..area
    };
    match &screen.editor {
        Some(editor) => edited(editor, view, top, buf),
        None if prompt > 0 => strip(view, top, buf, hits),
        None => {}
    }
    if let Some(card) = card(screen, view) {
        cells::card(buf, rest, &card, *view.theme);
        return;
    }
    let beside = if rest.width >= LIST.1 {
        LIST.0.min(rest.width / 2)
    } else {
        0
    };
    let map = Rect {
        width: rest.width - beside,
        ..rest
    };
    let list = Rect {
        x: rest.x + map.width,
        width: beside,
        ..rest
    };
    self::map(screen, view, map, buf, hits);
    if beside > 0 {
        detail::draw(screen, view, list, buf, hits);
    }
}

/// What stands in place of map and list while there is nothing in them.
fn card(screen: &LensScreen, view: &View) -> Option<Card> {
    let theme = view.theme;
    let say = |title: &str, style, body, footer: &str| Some(say(title, style, body, footer));
    let shared = view.shared;
    let unready = unready::model(
        shared,
        *theme,
        "The lens reads an open model.",
        "the prompt can be edited meanwhile: p",
    );
    if unready.is_some() {
        return unready;
    }
    if let Some(why) = &shared.prompt_error {
        return say(
            "The prompt cannot be read",
            theme.error(),
            why.clone(),
            "p edits it; P reads it without the chat template",
        );
    }
    if shared.tokens.is_empty() {
        return say(
            "The prompt is empty",
            theme.dim(),
            "There is no token to look at.".into(),
            "p writes one",
        );
    }
    if let Some((_, why)) = &screen.failed {
        return say(
            "The lens could not be read",
            theme.error(),
            why.clone(),
            "r tries again; X switches all interventions off",
        );
    }
    if screen.held.columns.is_empty() {
        if screen.stopped.is_some() {
            return say(
                "Stopped",
                theme.dim(),
                "Nothing has been computed yet.".into(),
                "r computes it",
            );
        }
        let body = format!(
            "Every layer is read through the final norm and unembedding, {} tokens.",
            shared.tokens.len()
        );
        return say("Reading the layers", theme.accent(), body, "esc stops it");
    }
    None
}

/// The prompt's tokens around the cursor, each a thing to click.
fn strip(view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let (shared, theme) = (view.shared, view.theme);
    let kind = match (&shared.prompt.raw, shared.prompt.turns.len()) {
        (Some(_), _) => "raw text".to_owned(),
        (None, 1) => "1 turn".to_owned(),
        (None, n) => format!("{n} turns"),
    };
    let n = shared.tokens.len();
    let place = if n == 0 {
        String::new()
    } else {
        format!(", token {} of {n}", shared.position)
    };
    let inner = cells::panel(buf, area, &format!("prompt: {kind}{place}"), false, *theme);
    let room = usize::from(inner.width);
    let label = |at: usize| cells::visible(&shared.tokens[at].text, theme.ascii);
    let cursor = shared.position.min(n.saturating_sub(1));
    let mut from = cursor;
    let mut used = 0;
    while n > 0 && from > 0 {
        used += cells::width(&label(from - 1)) + 1;
        if used > room * 2 / 3 {
            break;
        }
        from -= 1;
    }
    let mut x = 0;
    for at in from..n {
        if x >= inner.width {
            break;
        }
        let style = if at == cursor {
            theme.cursor()
        } else {
            theme.text()
        };
        let text = label(at);
        let end = cells::put(
            buf,
            inner,
            x,
            0,
            &cells::fit(&text, cells::width(&text).min(room), theme.ascii),
            style,
        );
        hits.add(
            Rect {
                x: inner.x + x,
                width: end - x,
                height: 1.min(inner.height),
                ..inner
            },
            Target::Place(TOKEN, at, 0),
        );
        x = end + 1;
    }
}

/// The turns, the one that is edited as a field.
fn edited(editor: &Editor, view: &View, area: Rect, buf: &mut Buffer) {
    let theme = *view.theme;
    let title = match editor.turn() {
        None => "prompt, raw text: alt-enter begins a line".to_owned(),
        Some(_) => "prompt: tab goes to the next turn, alt-enter begins a line".to_owned(),
    };
    let inner = cells::panel(buf, area, &title, true, theme);
    let Some(turn) = editor.turn() else {
        return editor.field().draw(buf, inner, theme, true);
    };
    let others = editor.turns().len().saturating_sub(1) as u16;
    let high = inner.height.saturating_sub(others).max(1);
    let mut y = 0;
    for (i, message) in editor.turns().iter().enumerate() {
        let role = cells::fit(&cells::prose(&message.role, theme.ascii), 10, theme.ascii);
        let style = if i == turn {
            theme.accent()
        } else {
            theme.dim()
        };
        let x = cells::put(buf, inner, 0, y, &role, style);
        if i == turn {
            let field = Rect {
                x: inner.x + x,
                y: inner.y.saturating_add(y),
                width: inner.width.saturating_sub(x),
                height: high.min(inner.height.saturating_sub(y)),
            };
            editor.field().draw(buf, field, theme, true);
            y += high;
        } else {
            let room = usize::from(inner.width.saturating_sub(x));
            let text = cells::fit(
                &cells::prose(&message.content, theme.ascii),
                room,
                theme.ascii,
            );
            cells::put(buf, inner, x, y, &text, theme.text());
            y += 1;
        }
    }
}

/// What the map shows, worked out once for a frame.
struct Shown<'a> {
    screen: &'a LensScreen,
    compares: bool,
    ascii: bool,
}

impl Shown<'_> {
    /// The number of a cell, or the difference that the interventions make.
    fn number(&self, row: usize, at: usize) -> f32 {
        let mode = self.screen.mode;
        let value = |place: Option<&Place>| place.map_or(f32::NAN, |place| mode.value(place));
        let now = value(self.screen.held.place(row, at));
        if !self.compares {
            return now;
        }
        let base = value(self.screen.held.base(row, at));
        match mode {
            // A rank moves by factors.
            Mode::Rank => now.log10() - base.log10(),
            _ => now - base,
        }
    }

    fn shade(&self, row: usize, at: usize) -> f32 {
        let number = self.number(row, at);
        if self.compares {
            number
        } else {
            self.screen.mode.shade(number)
        }
    }

    fn text(&self, row: usize, at: usize) -> String {
        let (held, mode) = (&self.screen.held, self.screen.mode);
        let Some(place) = held.place(row, at) else {
            return String::new();
        };
        if self.screen.digits {
            return match (self.compares, mode, held.base(row, at)) {
                (false, ..) => mode.digits(self.number(row, at)),
                (true, Mode::Rank, Some(base)) => {
                    mode.difference(mode.value(place) - mode.value(base))
                }
                (true, ..) => mode.difference(self.number(row, at)),
            };
        }
        let top = |place: &Place| place.cell.top.first().map(|top| top.id);
        let Some(id) = top(place) else {
            return String::new();
        };
        let word = cells::visible(held.word(id), self.ascii);
        let changed = self.compares
            && held
                .base(row, at)
                .and_then(top)
                .is_some_and(|base| base != id);
        let mark = match (changed, self.ascii) {
            (false, _) => "",
            (true, false) => "≠",
            (true, true) => "!",
        };
        // A blank before the next token, where a token would not be one character.
        let room = usize::from(self.screen.cell_width);
        let room = if room > 2 { room - 1 } else { room };
        cells::fit(&format!("{mark}{word}"), room, self.ascii)
    }
}

fn map(screen: &LensScreen, view: &View, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    let (shared, theme) = (view.shared, *view.theme);
    let held = &screen.held;
    let (rows, len) = (held.rows(), held.tokens.len());
    let wish = screen.wish(shared);
    let shown = Shown {
        screen,
        compares: screen.compares(shared),
        ascii: theme.ascii,
    };
    let window = window(len, shared.position);
    let shades: Vec<f32> = window
        .clone()
        .flat_map(|at| (0..rows).map(move |row| (row, at)))
        .map(|(row, at)| shown.shade(row, at))
        .collect();
    let vocab = shared
        .model
        .facts()
        .map_or(0, |facts| facts.config.vocab_size);
    let (scale, (lo, hi)) = if shown.compares {
        let most = shades
            .iter()
            .filter(|v| v.is_finite())
            .fold(0.0f32, |most, v| most.max(v.abs()));
        (Scale::Diverging, (-most, most))
    } else {
        (
            screen.mode.scale(),
            screen.ends.of(screen.mode, vocab, &shades),
        )
    };
    let same_text = held.tokens == shared.tokens;
    let fresh = |at: usize| {
        held.columns
            .get(&at)
            .is_some_and(|column| column.wish.serves(&wish))
    };
    let stale = !same_text || !window.clone().all(fresh);
    let mut title = title(screen, view, (lo, hi));
    if window.len() < len {
        title += &format!("; tokens {} to {} of {len}", window.start, window.end - 1);
    }
    if stale {
        title += if screen.stopped.is_some() {
            "; stopped, r goes on"
        } else {
            "; old values in italics"
        };
    }
    let inner = cells::panel(
        buf,
        area,
        &title,
        screen.pane == Pane::Map && screen.editor.is_none(),
        theme,
    );
    let label = |at: usize| cells::visible(&held.tokens[at].text, theme.ascii);
    let columns: Vec<String> = (0..len).map(label).collect();
    let names: Vec<String> = (0..rows)
        .map(|row| {
            if row == 0 {
                "emb".to_owned()
            } else {
                format!("L{}", row - 1)
            }
        })
        .collect();
    let cursor = (
        screen.row(shared).min(rows.saturating_sub(1)),
        shared.position.min(len.saturating_sub(1)),
    );
    // The cursor in the middle, as far as the map goes on around it.
    let high = usize::from(inner.height.saturating_sub(1));
    let wide = usize::from(inner.width.saturating_sub(5) / screen.cell_width.max(1));
    let map = HeatMap {
        columns: &columns,
        rows: &names,
        value: &|row, at| shown.shade(row, at),
        text: Some(&|row, at| shown.text(row, at)),
        digits: false,
        scale,
        lo,
        hi,
        cursor: Some(cursor),
        offset: (
            cursor.0.saturating_sub(high / 2),
            cursor.1.saturating_sub(wide / 2),
        ),
        cell_width: screen.cell_width,
        stale,
    };
    let drawn = cells::heat_map(buf, inner, &map, theme);
    for row in drawn.rows.clone() {
        for at in drawn.columns.clone() {
            if let Some(place) = drawn.cell(row, at) {
                hits.add(place, Target::Place(CELL, at, row));
            }
        }
    }
}

fn title(screen: &LensScreen, view: &View, (lo, hi): (f32, f32)) -> String {
    let mode = screen.mode;
    let mut what = mode.words().to_owned();
    if mode == Mode::Projection {
        match direction(view.shared) {
            Some((label, _)) => what += &format!(" of {label}"),
            None => {
                return "projection: no intervention has a direction; v shows another value"
                    .to_owned();
            }
        }
    }
    if mode == Mode::Rank {
        what += &match screen.target {
            Some(id) => format!(
                " {}",
                cells::visible(screen.held.word(id), view.theme.ascii)
            ),
            None => " (the model's own next token)".to_owned(),
        };
    }
    if screen.compares(view.shared) {
        let (unit, most) = match mode {
            Mode::Rank => ("factor", format!("{:.2}", 10f32.powf(hi))),
            _ => ("difference", mode.difference(hi)),
        };
        return format!("{what}: with interventions minus without, largest {unit} {most}");
    }
    let end = |shade: f32| match mode {
        Mode::Rank => mode.digits(10f32.powf(-shade)),
        _ => mode.digits(shade),
    };
    format!("{what}, {} to {}", end(lo), end(hi))
}
