//! Drawing attention: the heads of the layer, the row of the query as bars, the pattern of the head, the effect of the cuts.
//!
//! Always: every size draws; later queries stand lower, as the pattern is read; what a query cannot see is dim, not zero.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::reading::{LEAST, Layer, Value};
use super::{AttentionScreen, EDGE, HEAD, KEY, chip, edge_label, head_label, token};
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
    drawing.pattern(right, buf, hits);
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
struct Drawing<'a> {
    screen: &'a AttentionScreen,
    view: &'a View<'a>,
    layer: &'a Layer,
    theme: Theme,
}

impl Drawing<'_> {
    /// What is shown is of another layer, prompt or set of interventions than the header says.
    fn old(&self) -> bool {
        !self.layer.serves(&self.screen.wish(self.view.shared))
    }

    fn style(&self) -> Style {
        if self.old() {
            self.theme.stale()
        } else {
            self.theme.text()
        }
    }

    fn head(&self) -> usize {
        self.screen
            .head(self.view.shared)
            .min(self.layer.heads.saturating_sub(1))
    }

    fn query(&self) -> usize {
        self.view
            .shared
            .position
            .min(self.layer.tokens.len().saturating_sub(1))
    }

    fn key(&self) -> usize {
        self.screen.key(self.view.shared).min(self.query())
    }

    fn label(&self, at: usize) -> String {
        let text = self.layer.tokens.get(at).map_or("", |token| &token.text);
        cells::visible(text, self.theme.ascii)
    }

    /// Scores show only once they were captured.
    fn value(&self) -> Value {
        match self.screen.value {
            Value::Score if self.layer.scores.is_empty() => Value::Weight,
            value => value,
        }
    }

    fn cut(&self, label: &str) -> bool {
        let at = chip(self.view.shared, label);
        at.is_some_and(|at| self.view.shared.interventions[at].on)
    }

    fn heads(&self, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let (shared, theme) = (self.view.shared, self.theme);
        let impacts = self
            .screen
            .impacts(shared)
            .filter(|_| self.screen.wants_impact);
        let of = if impacts.is_some() {
            "KL if cut, nats"
        } else {
            "score"
        };
        let old = if self.old() { ", being read" } else { "" };
        let title = format!(
            "layer {}: {} heads, kind, {of}{old}",
            self.layer.wish.layer, self.layer.heads
        );
        let inner = cells::panel(buf, area, &title, false, theme);
        let room = usize::from(inner.height);
        let left = self.screen.left(shared);
        let place = left.partition_point(|head| *head < self.head());
        let from = cells::scroll(Some(place), 0, room, left.len());
        if left.is_empty() {
            cells::put(buf, inner, 0, 0, "no head holds these words", theme.dim());
        }
        let most = impacts.map_or(0.0, |kl| kl.iter().copied().fold(0.0, f64::max));
        let shown = left.iter().copied().filter(|head| *head < self.layer.heads);
        for (y, head) in shown.skip(from).take(room).enumerate() {
            let y = y as u16;
            let cut = self.cut(&head_label(self.layer.wish.layer, head));
            let mark = if cut { theme.pick("⊘", "x") } else { " " };
            let (kind, score) = match self.screen.kind(head) {
                Some(summary) => (
                    summary.kind.label(),
                    format!("{:.2}", summary.scores.kind().1),
                ),
                None => ("text too short", String::new()),
            };
            let (score, course) = match impacts {
                None => (
                    score,
                    self.course(head, usize::from(inner.width).saturating_sub(28)),
                ),
                Some(kl) => match kl.get(head) {
                    None => ("…".to_owned(), String::new()),
                    Some(kl) => {
                        let width = usize::from(inner.width).saturating_sub(30);
                        (
                            format!("{kl:.3}"),
                            cells::bar(*kl as f32, most as f32, width, theme),
                        )
                    }
                },
            };
            let text = format!("{mark}H{head:<3}{kind:<15} {score:>5} {course}");
            let at = Rect {
                y: inner.y + y,
                height: 1,
                ..inner
            };
            self.row(at, &text, head == self.head(), buf);
            hits.add(at, Target::Place(HEAD, 0, head));
        }
    }

    /// One row of a list.
    fn row(&self, at: Rect, text: &str, current: bool, buf: &mut Buffer) {
        let style = if current {
            self.theme.cursor()
        } else {
            self.style()
        };
        let text = cells::fit(text, at.width.into(), self.theme.ascii);
        cells::put(buf, at, 0, 0, &text, style);
    }

    /// Where the query looks, key by key, as a line.
    fn course(&self, head: usize, width: usize) -> String {
        let row = self.layer.row(Value::Weight, head, self.query());
        if row.len() > width {
            // The last keys: a mean over far ones would hide the one that counts.
            return cells::sparkline(&row[row.len() - width..], width, self.theme);
        }
        cells::sparkline(&row, row.len(), self.theme)
    }

    fn bars(&self, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let (theme, value) = (self.theme, self.value());
        let (head, query) = (self.head(), self.query());
        let title = format!("from {} ({query}), {}", self.label(query), words(value));
        let inner = cells::panel(buf, area, &title, false, theme);
        let row = self.layer.row(value, head, query);
        let mut order: Vec<usize> = (0..row.len()).filter(|key| row[*key].is_finite()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        let high = usize::from(inner.height);
        let at = order.iter().position(|key| *key == self.key());
        let from = cells::scroll(at, 0, high, order.len());
        let finite = row.iter().copied().filter(|v| v.is_finite());
        let lo = finite.clone().fold(f32::INFINITY, f32::min);
        let most = finite.fold(f32::MIN_POSITIVE, f32::max);
        for (i, key) in order.iter().enumerate().skip(from).take(high) {
            let y = (i - from) as u16;
            let word = cells::fit(&self.label(*key), 12, theme.ascii);
            let room = usize::from(inner.width).saturating_sub(26);
            let bar = match value {
                // Scores have no zero: the lowest of the row is where bars begin.
                Value::Score => cells::bar(row[*key] - lo, most - lo, room, theme),
                _ => cells::bar(row[*key], most, room, theme),
            };
            let cut = self.cut(&edge_label(self.layer.wish.layer, head, query, *key));
            let mark = if cut { theme.pick("⊘", "x") } else { " " };
            let text = format!("{mark}{key:>4} {word} {:>6.3} {bar}", row[*key]);
            let at = Rect {
                y: inner.y + y,
                height: 1,
                ..inner
            };
            self.row(at, &text, *key == self.key(), buf);
            hits.add(at, Target::Place(KEY, *key, 0));
        }
    }

    fn pattern(&self, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let (theme, value, n) = (self.theme, self.value(), self.layer.tokens.len());
        let head = self.head();
        let summary = self.screen.kind(head);
        let kind = summary.map_or(String::new(), |summary| {
            format!(" {}", summary.kind.label())
        });
        let after = match summary {
            Some(summary) => format!("mean entropy {:.2} nats", summary.scores.entropy),
            None => format!("kinds need {LEAST} tokens"),
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
        let title = format!(
            "head {}.{head}{kind}: {} {lo:.2} to {hi:.2}, {axes}, {after}",
            self.layer.wish.layer,
            words(value),
        );
        let inner = cells::panel(buf, area, &title, true, theme);
        let columns: Vec<String> = (0..n).map(|at| self.label(at)).collect();
        let rows: Vec<String> = (0..n).rev().map(|at| self.label(at)).collect();
        let cursor = (n - 1 - self.query().min(n - 1), self.key());
        let high = usize::from(inner.height.saturating_sub(1));
        let wide = usize::from(inner.width.saturating_sub(10) / self.screen.cell_width.max(1));
        let map = HeatMap {
            columns: &columns,
            rows: &rows,
            value: &number,
            text: None,
            digits: self.screen.digits && self.screen.cell_width > 2,
            scale,
            lo,
            hi,
            cursor: Some(cursor),
            offset: (
                cursor.0.saturating_sub(high / 2),
                cursor.1.saturating_sub(wide / 2),
            ),
            cell_width: self.screen.cell_width,
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
    }

    fn effect(&self, area: Rect, buf: &mut Buffer) {
        let (shared, theme) = (self.view.shared, self.theme);
        let on = shared.interventions.iter().filter(|chip| chip.on).count();
        let layer = shared.layer;
        if on == 0 {
            let inner = cells::panel(buf, area, "effect on the next token", false, theme);
            let (query, key) = (self.query(), self.key());
            let text = format!(
                "x cuts head {layer}.{}; E cuts its edge from {} to {}; what the next token loses is shown here",
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

/// The name of a value.
pub(super) fn words(value: Value) -> &'static str {
    match value {
        Value::Weight => "weight",
        Value::Weighted => "weight x ||W_O v||",
        Value::Score => "score before the softmax",
    }
}
