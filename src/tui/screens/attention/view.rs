//! Drawing attention: what goes where, the pattern of the head, the effect of the cuts. The lists beside the pattern are
//! `lists.rs`, the map of all heads in its place `survey.rs`.
//!
//! Always: every size draws; later queries stand lower, as the pattern is read; what a query cannot see is dim, not zero.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::reading::{LEAST, Layer, Value};
use super::{AttentionScreen, EDGE, chip, token};
use crate::tui::cells::{self, Card, HeatMap};
use crate::tui::screen::{Hits, Target, View};
use crate::tui::screens::unready::{self, say};
use crate::tui::theme::{Scale, Theme};

/// Columns of the list of heads, and the least width at which it stands beside the pattern.
const LIST: (u16, u16) = (46, 60);

/// Draws the screen.
pub(super) fn draw(
    screen: &AttentionScreen,
    view: &View,
    area: Rect,
    buf: &mut Buffer,
    hits: &mut Hits,
) {
    let area = area.intersection(buf.area);
    if area.is_empty() {
        return;
    }
    if let Some(card) = card(screen, view) {
        cells::card(buf, area, &card, *view.theme);
        return;
    }
    let Some(layer) = screen
        .layer
        .as_ref()
        .filter(|layer| !layer.tokens.is_empty())
    else {
        return;
    };
    let cut = view.shared.interventions.iter().any(|chip| chip.on);
    let strip = match area.height {
        0..14 => 0,
        30.. if cut => 5,
        _ => 3,
    };
    let main = Rect {
        height: area.height - strip,
        ..area
    };
    let below = Rect {
        y: area.y + main.height,
        height: strip,
        ..area
    };
    let beside = if main.width >= LIST.1 {
        LIST.0.min(main.width * 9 / 20)
    } else {
        0
    };
    let left = Rect {
        width: beside,
        ..main
    };
    let right = Rect {
        x: main.x + beside,
        width: main.width - beside,
        ..main
    };
    let drawing = Drawing {
        screen,
        view,
        layer,
        theme: *view.theme,
    };
    if beside > 0 {
        let wanted = layer.heads as u16 + 2;
        let list = Rect {
            height: wanted.min(left.height * 2 / 3),
            ..left
        };
        let bars = Rect {
            y: left.y + list.height,
            height: left.height - list.height,
            ..left
        };
        drawing.heads(list, buf, hits);
        drawing.bars(bars, buf, hits);
    }
    if screen.surveying {
        drawing.survey(right, buf, hits);
    } else {
        drawing.pattern(right, buf, hits);
    }
    if strip > 0 {
        drawing.effect(below, buf);
    }
}

/// What stands in place of everything while there is nothing to show.
fn card(screen: &AttentionScreen, view: &View) -> Option<Card> {
    let (theme, shared) = (view.theme, view.shared);
    let say = |title: &str, style, body, footer: &str| Some(say(title, style, body, footer));
    let unready = unready::model(shared, *theme, "Attention is read from an open model.", "");
    if unready.is_some() {
        return unready;
    }
    if let Some(why) = &shared.prompt_error {
        return say(
            "The prompt cannot be read",
            theme.error(),
            why.clone(),
            "a goes to the lens, where p edits it",
        );
    }
    if shared.tokens.is_empty() {
        return say(
            "The prompt is empty",
            theme.dim(),
            "There is no token that could look.".into(),
            "a goes to the lens, where p writes one",
        );
    }
    if let Some((_, why)) = &screen.failed {
        return say(
            "The attention could not be read",
            theme.error(),
            why.clone(),
            "r tries again; X switches all interventions off",
        );
    }
    if screen.layer.is_none() {
        if screen.stopped.is_some() {
            return say(
                "Stopped",
                theme.dim(),
                "Nothing has been computed yet.".into(),
                "r computes it",
            );
        }
        let body = format!("Layer {}, {} tokens.", shared.layer, shared.tokens.len());
        return say("Reading the patterns", theme.accent(), body, "esc stops it");
    }
    None
}

/// What every part is drawn with.
pub(super) struct Drawing<'a> {
    pub(super) screen: &'a AttentionScreen,
    pub(super) view: &'a View<'a>,
    pub(super) layer: &'a Layer,
    pub(super) theme: Theme,
}

impl Drawing<'_> {
    /// What is shown is of another layer, prompt or set of interventions than the header says.
    pub(super) fn old(&self) -> bool {
        !self.layer.serves(&self.screen.wish(self.view.shared))
    }

    pub(super) fn style(&self) -> Style {
        if self.old() {
            self.theme.stale()
        } else {
            self.theme.text()
        }
    }

    pub(super) fn head(&self) -> usize {
        self.screen
            .head(self.view.shared)
            .min(self.layer.heads.saturating_sub(1))
    }

    pub(super) fn query(&self) -> usize {
        self.view
            .shared
            .position
            .min(self.layer.tokens.len().saturating_sub(1))
    }

    pub(super) fn key(&self) -> usize {
        self.screen.key(self.view.shared).min(self.query())
    }

    pub(super) fn label(&self, at: usize) -> String {
        let text = self.layer.tokens.get(at).map_or("", |token| &token.text);
        cells::visible(text, self.theme.ascii)
    }

    /// Scores show only once they were captured.
    pub(super) fn value(&self) -> Value {
        match self.screen.value {
            Value::Score if self.layer.scores.is_empty() => Value::Weight,
            value => value,
        }
    }

    pub(super) fn cut(&self, label: &str) -> bool {
        let at = chip(self.view.shared, label);
        at.is_some_and(|at| self.view.shared.interventions[at].on)
    }

    fn pattern(&self, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let (theme, value, n) = (self.theme, self.value(), self.layer.tokens.len());
        let head = self.head();
        let summary = self.screen.kind(head);
        let kind = match summary {
            Some(summary) if area.width >= 60 => format!(" ({})", summary.kind.label()),
            _ => String::new(),
        };
        // The lowest row of the map is the last query.
        let number = |row: usize, key: usize| self.layer.value(value, head, n - 1 - row, key);
        // A pass over all edges, so only where the scale needs it.
        let ends = || {
            let row = |query| (0..=query).map(move |key| self.layer.value(value, head, query, key));
            let finite = (0..n).flat_map(row).filter(|v| v.is_finite());
            finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), v| {
                (lo.min(v), hi.max(v))
            })
        };
        let (scale, lo, hi) = match value {
            Value::Weight => (Scale::Sequential, 0.0, 1.0),
            Value::Weighted => (Scale::Sequential, 0.0, ends().1),
            Value::Score => {
                let (lo, hi) = ends();
                (Scale::Diverging, lo, hi)
            }
        };
        let axes = theme.pick("query ↓ key →", "query down, key across");
        let layer = self.layer.wish.layer;
        let title = format!("head {layer}.{head}{kind}: {}, {axes}", words(value));
        let inner = cells::panel(buf, area, &title, true, theme);
        let cell_width = cell_width(inner.width, n, self.screen.wider);
        let columns: Vec<String> = (0..n).map(|at| self.label(at)).collect();
        let rows: Vec<String> = (0..n).rev().map(|at| self.label(at)).collect();
        let cursor = (n - 1 - self.query().min(n - 1), self.key());
        let high = usize::from(inner.height.saturating_sub(1));
        let wide = usize::from(inner.width.saturating_sub(10) / cell_width);
        let map = HeatMap {
            columns: &columns,
            rows: &rows,
            value: &number,
            text: None,
            marked: None,
            digits: self.screen.digits && cell_width > 2,
            scale,
            lo,
            hi,
            cursor: Some(cursor),
            offset: (
                cursor.0.saturating_sub(high / 2),
                cursor.1.saturating_sub(wide / 2),
            ),
            cell_width,
            stale: self.old(),
        };
        let drawn = cells::heat_map(buf, inner, &map, theme);
        for row in drawn.rows.clone() {
            for key in drawn.columns.clone() {
                if let Some(place) = drawn.cell(row, key) {
                    hits.add(place, Target::Place(EDGE, key, n - 1 - row));
                }
            }
        }
        let ends = [lo, hi].map(|end| format!("{end:.2}"));
        cells::legend(buf, area, scale, (&ends[0], &ends[1]), theme);
        let note = match summary {
            Some(summary) => format!("mean entropy {:.2} nats", summary.scores.entropy),
            None => format!("kinds need {LEAST} tokens"),
        };
        cells::note(buf, area, &note, theme);
    }

    fn effect(&self, area: Rect, buf: &mut Buffer) {
        let (shared, theme) = (self.view.shared, self.theme);
        let on = shared.interventions.iter().filter(|chip| chip.on).count();
        let layer = shared.layer;
        if on == 0 {
            let inner = cells::panel(buf, area, "effect on the next token", false, theme);
            let (query, key) = (self.query(), self.key());
            let text = format!(
                "x cuts head {layer}.{}, E its edge from {} to {}; the change is shown here",
                self.head(),
                token(shared, query, theme.ascii),
                token(shared, key, theme.ascii),
            );
            cells::put(
                buf,
                inner,
                0,
                0,
                &cells::fit(&text, inner.width.into(), theme.ascii),
                theme.dim(),
            );
            return;
        }
        let Some(changed) = self.screen.changed.as_ref() else {
            let title = format!("effect of {on} interventions on the next token");
            let inner = cells::panel(buf, area, &title, false, theme);
            cells::put(buf, inner, 0, 0, "being computed", theme.dim());
            return;
        };
        let fresh = self.screen.effect(shared).is_some();
        let title = format!(
            "next token, without to with {on} intervention{}: KL(without || with) {:.4} nats{}",
            if on == 1 { "" } else { "s" },
            changed.effect.kl,
            if fresh { "" } else { ", being computed again" },
        );
        let inner = cells::panel(buf, area, &title, false, theme);
        let style = if fresh { theme.text() } else { theme.stale() };
        let arrow = theme.pick("→", ">");
        let (mut x, mut y) = (0, 0);
        for change in &changed.effect.changes {
            let word = changed.words.get(&change.id).map_or("", String::as_str);
            let word = cells::visible(word, theme.ascii);
            let text = format!(
                "{word} {:.1}% {arrow} {:.1}%",
                change.before * 100.0,
                change.after * 100.0
            );
            let width = cells::width(&text) as u16;
            if x > 0 && x + width > inner.width {
                (x, y) = (0, y + 1);
            }
            if y >= inner.height {
                break;
            }
            x = cells::put(buf, inner, x, y, &text, style) + 3;
        }
    }
}

/// How wide a cell is by itself: as there is room for all keys, between digits that can be read and a word.
fn cell_width(wide: u16, keys: usize, wider: i16) -> u16 {
    let all = u16::try_from(keys.max(1)).unwrap_or(u16::MAX);
    let itself = (wide.saturating_sub(10) / all).clamp(4, 9);
    itself.saturating_add_signed(wider).clamp(1, 16)
}

/// The name of a value.
pub(super) fn words(value: Value) -> &'static str {
    match value {
        Value::Weight => "weight",
        Value::Weighted => "weight x ||W_O v||",
        Value::Score => "score before the softmax",
    }
}
