//! Drawing the lens: what goes where, and the map of layers over tokens. The prompt above it is `prompt.rs`, the list
//! beside it `detail.rs`.
//!
//! Always: every size draws; token texts pass through `cells`; values of before are marked as old until new ones are there.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::modes::Mode;
use super::reading::{Place, direction, window};
use super::{CELL, LensScreen, Pane, detail, prompt};
use crate::tui::cells::{self, Card, HeatMap};
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready::{self, say};
use crate::tui::theme::Scale;

/// The list beside the map: its width in a wide screen and from which on that is one, and in a narrow one.
const LIST: [(u16, u16); 2] = [(36, 100), (28, 60)];
/// From here on there are lines for a frame around the prompt.
const TALL: u16 = 26;
/// From here on a line at the foot says what its numbers mean.
const LEAST_EXPLAINED: u16 = 9;
/// What cells are wide by themselves: as there is room for all tokens, within these.
const CELLS: (u16, u16) = (9, 16);

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
    let lines = match &screen.editor {
        Some(editor) if area.height < TALL => (editor.turns().len() as u16 + 3).min(area.height),
        Some(editor) => editor.turns().len() as u16 + 6,
        None if area.height < 10 => 0,
        None if area.height < TALL => 1,
        None => 3,
    };
    let top = Rect {
        height: lines,
        ..area
    };
    let rest = Rect {
        y: area.y + lines,
        height: area.height - lines,
        ..area
    };
    match &screen.editor {
        Some(editor) => prompt::edited(editor, view, top, buf),
        None if lines > 0 => prompt::strip(view, top, buf, hits),
        None => {}
    }
    if let Some(card) = card(screen, view) {
        cells::card(buf, rest, &card, *view.theme);
        return;
    }
    let said = explained(screen).filter(|_| rest.height >= LEAST_EXPLAINED);
    let rest = Rect {
        height: rest.height - u16::from(said.is_some()),
        ..rest
    };
    if let Some(said) = said {
        let line = Rect {
            y: rest.bottom(),
            height: 1,
            ..rest
        };
        let room = usize::from(line.width.saturating_sub(1));
        let said = cells::cut(&said, room, view.theme.ascii);
        cells::put(buf, line, 1, 0, &said, view.theme.dim());
    }
    let fits = LIST.into_iter().find(|(_, least)| rest.width >= *least);
    let beside = fits.map_or(0, |(wide, _)| wide);
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

/// What the number of a file means: a line at the foot.
fn explained(screen: &LensScreen) -> Option<String> {
    let file = screen.sources.loaded(screen.mode)?;
    Some(file.about.clone())
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

/// What the map shows, worked out once for a frame.
struct Shown<'a> {
    screen: &'a LensScreen,
    compares: bool,
    ascii: bool,
    /// Columns of a cell.
    wide: u16,
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
        let room = usize::from(self.wide);
        let room = if room > 2 { room - 1 } else { room };
        cells::cut(&format!("{mark}{word}"), room, self.ascii)
    }
}

impl Shown<'_> {
    /// Whether the layer already says what the text is followed by there: the target, or the model's own next token.
    fn answers(&self, row: usize, at: usize) -> bool {
        let column = self.screen.held.columns.get(&at);
        column.is_some_and(|column| {
            let top = column.places.get(row).and_then(|p| p.cell.top.first());
            top.is_some_and(|top| top.id == column.target)
        })
    }
}

/// How wide a cell is in a map of this width over so many tokens: all of them if they fit, and what the keys add to it.
fn cell_width(wide: u16, tokens: usize, wider: i16) -> u16 {
    let all = u16::try_from(tokens.max(1)).unwrap_or(u16::MAX);
    let itself = (wide.saturating_sub(6) / all).clamp(CELLS.0, CELLS.1);
    itself.saturating_add_signed(wider).clamp(2, 24)
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
        wide: cell_width(area.width, len, screen.wider),
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
    let mut title = title(screen, view);
    if window.len() < len {
        title += &format!("; tokens {} to {}", window.start, window.end - 1);
    }
    if stale {
        title += if screen.stopped.is_some() {
            "; stopped, r goes on"
        } else {
            "; old values"
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
    let wide = usize::from(inner.width.saturating_sub(5) / shown.wide);
    let map = HeatMap {
        columns: &columns,
        rows: &names,
        value: &|row, at| shown.shade(row, at),
        text: Some(&|row, at| shown.text(row, at)),
        marked: Some(&|row, at| shown.answers(row, at)),
        digits: false,
        scale,
        lo,
        hi,
        cursor: Some(cursor),
        offset: (
            cursor.0.saturating_sub(high / 2),
            cursor.1.saturating_sub(wide / 2),
        ),
        cell_width: shown.wide,
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
    let ends = ends(screen.mode, shown.compares, (lo, hi));
    cells::legend(buf, area, scale, (&ends.0, &ends.1), theme);
}

/// What stands at the ends of the colours.
fn ends(mode: Mode, compares: bool, (lo, hi): (f32, f32)) -> (String, String) {
    let end = |shade: f32| match (mode, compares) {
        (Mode::Rank, true) => format!("x{:.2}", 10f32.powf(shade)),
        (Mode::Rank, false) => mode.digits(10f32.powf(-shade)),
        (Mode::Top, true) => mode.difference(shade) + " points",
        (_, true) => mode.difference(shade) + mode.unit(),
        (_, false) => mode.digits(shade) + mode.unit(),
    };
    (end(lo), end(hi))
}

fn title(screen: &LensScreen, view: &View) -> String {
    let mode = screen.mode;
    let mut what = mode.words().to_owned();
    if let Some(why) = screen.sources.lacks(mode, view.shared) {
        return format!("{why}; v shows another value");
    }
    if let Some(file) = screen.sources.loaded(mode) {
        let kind = if mode == Mode::Probe {
            "score of"
        } else {
            "projection on"
        };
        what = format!("{kind} {}", cells::visible(file.name(), view.theme.ascii));
    } else if let (Mode::Projection, Some((label, _))) = (mode, direction(view.shared)) {
        what += &format!(" of {label}");
    }
    if mode == Mode::Rank
        && let Some(id) = screen.target
    {
        what = format!(
            "rank of {}",
            cells::visible(screen.held.word(id), view.theme.ascii)
        );
    }
    if screen.compares(view.shared) {
        what += ", with minus without";
    }
    if screen.digits {
        what
    } else {
        format!("top token, colour: {what}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_share_the_room_within_what_can_be_read() {
        assert_eq!(cell_width(84, 5, 0), 15);
        assert_eq!(cell_width(84, 1, 0), 16);
        assert_eq!(cell_width(84, 42, 0), 9);
        assert_eq!(cell_width(84, 42, -20), 2);
        assert_eq!(cell_width(84, 42, 40), 24);
        assert_eq!(cell_width(0, 0, 0), 9);
    }

    #[test]
    fn the_ends_of_the_colours_have_their_unit() {
        assert_eq!(
            ends(Mode::Top, false, (0.0, 1.0)),
            ("0.0%".into(), "100.0%".into())
        );
        assert_eq!(
            ends(Mode::Rank, false, (-3.0, 0.0)),
            ("1000".into(), "1".into())
        );
        assert_eq!(
            ends(Mode::Rank, true, (-1.0, 1.0)),
            ("x0.10".into(), "x10.00".into())
        );
        assert_eq!(
            ends(Mode::Entropy, true, (-0.5, 0.5)),
            ("-0.50 nats".into(), "+0.50 nats".into())
        );
    }
}
