//! One quantity over the checkpoints of a run: a bar for each that was read, a dot for each that was not.
//!
//! Always: what was not read is no bar, and what was read for another prompt or place is none either; the bar of the checkpoint
//! that is looked at is under the cursor's colours and its number is said in the title, so that it is read without colours.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::TimeScreen;
use super::held::Seen;
use crate::tui::cells::{self, put};
use crate::tui::shared::Shared;
use crate::tui::theme::Theme;

/// What the chart shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// KL to the first checkpoint.
    #[default]
    Kl,
    /// Probability of the followed token.
    Token,
    /// The stream's length after the last layer.
    Norm,
    /// What stands beside the layers, at the last one.
    Beside,
}

impl Quantity {
    const ALL: [Self; 4] = [Self::Kl, Self::Token, Self::Norm, Self::Beside];

    /// The one so many further on.
    pub(super) fn turned(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

impl TimeScreen {
    /// What stands beside a layer.
    pub(super) fn beside(&self, layer: &crate::compare::Layer) -> Option<f64> {
        if self.projects {
            layer.along
        } else {
            layer.refusal
        }
    }

    /// What stands beside the layers, in words.
    pub(super) fn beside_word(&self, shared: &Shared) -> String {
        match self.direction(shared).filter(|_| self.projects) {
            Some(along) => format!("along {}", along.spec),
            None if self.projects => "along no direction".to_owned(),
            None => "refusal score".to_owned(),
        }
    }

    /// The quantity of a checkpoint.
    pub(super) fn value(&self, seen: &Seen) -> Option<f64> {
        match self.quantity {
            Quantity::Kl => seen.kl,
            Quantity::Token => seen.probability(self.followed()?),
            Quantity::Norm => seen.moment.norm(),
            Quantity::Beside => self.beside(seen.last()?),
        }
    }

    /// Of every checkpoint of the run, as far as it was read.
    pub(super) fn values(&self, shared: &Shared) -> Vec<Option<f64>> {
        let wish = self.wish(shared);
        let count = shared.run.stations().map_or(0, |run| run.all.len());
        let value = |at| self.value(self.held.fresh(at, &wish)?);
        (0..count).map(value).collect()
    }

    /// The quantity's name with its unit.
    pub(super) fn quantity_word(&self, shared: &Shared) -> String {
        match self.quantity {
            Quantity::Kl => "KL from the first checkpoint, nats".to_owned(),
            Quantity::Token => {
                let word = self.followed().map(|id| self.held.word(id));
                let word = crate::text::visible::visible(word.unwrap_or_default());
                format!("probability of `{word}`")
            }
            Quantity::Norm => "length of the stream after the last layer".to_owned(),
            Quantity::Beside => format!("{}, last layer", self.beside_word(shared)),
        }
    }
}

/// A number in few characters.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e5).contains(&size) {
        format!("{value:.1e}")
    } else if size >= 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// Draws bars into an area that is emptied already; `at` is the checkpoint that is looked at.
pub(super) fn draw(
    values: &[Option<f64>],
    at: usize,
    area: Rect,
    theme: Theme,
    buf: &mut Buffer,
) -> Vec<(usize, Rect)> {
    let area = area.intersection(buf.area);
    let finite = || values.iter().flatten().copied().filter(|v| v.is_finite());
    // A bar's length means something from 0 on.
    let low = finite().fold(0.0, f64::min);
    let high = finite().fold(0.0, f64::max);
    let ends = [number(high), number(low)];
    let head = ends
        .iter()
        .map(|text| cells::width(text))
        .max()
        .unwrap_or(0) as u16
        + 1;
    if area.height == 0 || area.width <= head + 2 || values.is_empty() {
        return Vec::new();
    }
    put(buf, area, 0, 0, &ends[0], theme.dim());
    if area.height > 1 {
        put(buf, area, 0, area.height - 1, &ends[1], theme.dim());
    }
    let room = usize::from(area.width - head);
    // As wide as there is room for, with a gap from three columns on.
    let wide = (room / values.len()).clamp(1, 6);
    let bar = if wide > 2 { wide - 1 } else { wide };
    let from = cells::scroll(
        Some(at),
        at.saturating_sub(room / wide / 2),
        room / wide,
        values.len(),
    );
    let mut places = Vec::new();
    for (i, value) in values.iter().enumerate().skip(from).take(room / wide) {
        let x = head + ((i - from) * wide) as u16;
        let style = if i == at { theme.accent() } else { theme.bar() };
        match value.filter(|value| value.is_finite()) {
            None => {
                let mark = theme.pick("·", ".");
                put(buf, area, x, area.height - 1, mark, theme.dim());
            }
            Some(value) => {
                let share = if high > low {
                    (value - low) / (high - low)
                } else {
                    0.0
                };
                let filled = share * f64::from(area.height);
                for row in 0..area.height {
                    // Rows count from above, bars from below.
                    let above = filled - f64::from(area.height - 1 - row);
                    let part = if row + 1 == area.height {
                        above.max(0.126)
                    } else {
                        above
                    };
                    if part > 0.0 {
                        let mark = theme.ramp(part.min(1.0) as f32);
                        put(buf, area, x, row, &mark.repeat(bar), style);
                    }
                }
            }
        }
        if i == at {
            // Told without colours too.
            let top = put_at(values, i, (low, high), area.height);
            put(buf, area, x, top, theme.pick("▾", "v"), theme.cursor());
        }
        let place = Rect::new(area.x + x, area.y, bar as u16, area.height);
        places.push((i, place.intersection(area)));
    }
    places
}

/// The row above a bar, or its own first where there is none above.
fn put_at(values: &[Option<f64>], at: usize, (low, high): (f64, f64), height: u16) -> u16 {
    let share = match values[at].filter(|value| value.is_finite()) {
        Some(value) if high > low => (value - low) / (high - low),
        _ => 0.0,
    };
    let filled = (share * f64::from(height)).ceil().max(1.0) as u16;
    height.saturating_sub(filled + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[Option<f64>], at: usize, wide: u16) -> Vec<String> {
        let area = Rect::new(0, 0, wide, 4);
        let mut buf = Buffer::empty(area);
        draw(values, at, area, Theme::no_colour(), &mut buf);
        let row = |y| (0..wide).map(|x| buf[(x, y)].symbol()).collect::<String>();
        (0..4).map(row).collect()
    }

    #[test]
    fn bars_are_as_high_as_their_values_and_what_is_not_read_is_a_dot() {
        let values = [Some(4.0), Some(1.0), None, Some(0.0)];
        assert_eq!(
            drawn(&values, 1, 10),
            ["4.000 █   ", "      █   ", "      █▾  ", "0.000 ██·▁"]
        );
    }

    #[test]
    fn what_does_not_fit_moves_with_the_cursor() {
        let values: Vec<Option<f64>> = (0..9).map(|i| Some(f64::from(i))).collect();
        let last = drawn(&values, 8, 10);
        assert!(last[3].ends_with("████"), "{last:?}");
        assert_eq!(drawn(&values, 8, 4), ["    "; 4]);
        assert_eq!(drawn(&[], 0, 10), vec![" ".repeat(10); 4]);
    }

    #[test]
    fn numbers_are_short() {
        let said: Vec<String> = [0.0, 0.5, -12.25, 123.456, 1e-5].map(number).into();
        assert_eq!(said, ["0.000", "0.500", "-12.250", "123.5", "1.0e-5"]);
    }
}
