//! Drawing the lists beside the pattern: the heads of the layer with their kinds, and where the query looks.
//!
//! Always: the cursor inverts words and numbers, never the bar beside them, which would read as its opposite.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::reading::Value;
use super::view::{Drawing, words};
use super::{HEAD, KEY, edge_label, head_label};
use crate::tui::cells;
use crate::tui::screen::{Hits, Target};

impl Drawing<'_> {
    /// The heads of the layer: kind, score, and where the query looks; or what the next token would lose without each.
    pub(super) fn heads(&self, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let (shared, theme) = (self.view.shared, self.theme);
        let impacts = self
            .screen
            .impacts(shared)
            .filter(|_| self.screen.wants_impact);
        let layer = self.layer.wish.layer;
        let of = match (self.old(), impacts) {
            (true, _) => "being read",
            (false, None) => "kind, score, looks at",
            (false, Some(_)) => "kind, KL if cut (nats)",
        };
        let title = format!("layer {layer}: {of}");
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
            let at = Rect {
                y: inner.y + y as u16,
                height: 1,
                ..inner
            };
            let cut = self.cut(&head_label(layer, head));
            let mark = if cut { theme.pick("⊘", "x") } else { " " };
            let (kind, score) = match self.screen.kind(head) {
                Some(summary) => (
                    summary.kind.label(),
                    format!("{:.2}", summary.scores.kind().1),
                ),
                None => ("text too short", String::new()),
            };
            let score = match impacts.map(|kl| kl.get(head)) {
                None => score,
                Some(None) => theme.pick("…", "~").to_owned(),
                Some(Some(kl)) => format!("{kl:.3}"),
            };
            let text = format!("{mark}H{head:<3}{kind:<15} {score:>5}");
            let room = usize::from(inner.width).saturating_sub(cells::width(&text) + 1);
            let course = match impacts {
                None => self.course(head, room),
                Some(kl) => {
                    let kl = kl.get(head).copied().unwrap_or(f64::NAN);
                    cells::bar(kl as f32, most as f32, room, theme)
                }
            };
            self.row(at, &text, &course, head == self.head(), buf);
            hits.add(at, Target::Place(HEAD, 0, head));
        }
    }

    /// One row of a list: what it says, and the same as a picture.
    fn row(&self, at: Rect, text: &str, picture: &str, current: bool, buf: &mut Buffer) {
        let style = if current {
            self.theme.cursor()
        } else {
            self.style()
        };
        let text = cells::cut(text, at.width.into(), self.theme.ascii);
        let x = cells::put(buf, at, 0, 0, &text, style);
        cells::put(buf, at, x + 1, 0, picture, self.theme.bar());
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

    /// Where the query looks in the head, the strongest first.
    pub(super) fn bars(&self, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
        let (theme, value) = (self.theme, self.value());
        let (head, query) = (self.head(), self.query());
        let layer = self.layer.wish.layer;
        let title = format!(
            "{layer}.{head} from {} ({query}): {}",
            self.label(query),
            words(value)
        );
        let inner = cells::panel(buf, area, &title, false, theme);
        let row = self.layer.row(value, head, query);
        let mut order: Vec<usize> = (0..row.len()).filter(|key| row[*key].is_finite()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        let high = usize::from(inner.height);
        let here = self.key();
        let at = order.iter().position(|key| *key == here);
        let from = cells::scroll(at, 0, high, order.len());
        let finite = row.iter().copied().filter(|v| v.is_finite());
        let lo = finite.clone().fold(f32::INFINITY, f32::min);
        let most = finite.fold(f32::MIN_POSITIVE, f32::max);
        for (i, key) in order.iter().enumerate().skip(from).take(high) {
            let word = cells::fit(&self.label(*key), 12, theme.ascii);
            let room = usize::from(inner.width).saturating_sub(26);
            let bar = match value {
                // Scores have no zero: the lowest of the row is where bars begin.
                Value::Score => cells::bar(row[*key] - lo, most - lo, room, theme),
                _ => cells::bar(row[*key], most, room, theme),
            };
            let cut = self.cut(&edge_label(layer, head, query, *key));
            let mark = if cut { theme.pick("⊘", "x") } else { " " };
            let text = format!("{mark}{key:>4} {word} {:>6.3}", row[*key]);
            let at = Rect {
                y: inner.y + (i - from) as u16,
                height: 1,
                ..inner
            };
            self.row(at, &text, &bar, *key == here, buf);
            hits.add(at, Target::Place(KEY, *key, 0));
        }
    }
}
