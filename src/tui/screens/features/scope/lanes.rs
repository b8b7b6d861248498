//! One lane: bars for what is never below 0, a curve for what has two sides.
//!
//! Always: a token has as many columns as the caller says, in every lane; a value that is not there is blank; nothing is
//! drawn outside the area.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::tui::cells::put;
use crate::tui::theme::Theme;

/// Bits of a braille cell, by column and row of its dots.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// What is drawn.
pub(super) struct Course<'a> {
    /// A value for each token that is shown.
    pub values: &'a [Option<f64>],
    /// The lowest and the highest value of the lane's scale.
    pub ends: (f64, f64),
    /// Columns of a token.
    pub each: u16,
    /// How a token is drawn.
    pub style: &'a dyn Fn(usize) -> Style,
    pub theme: Theme,
}

/// The ends of a scale: 0 is always among them, and they are apart.
pub(super) fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((0.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    if low < high {
        (low, high)
    } else {
        (low, low + 1.0)
    }
}

impl Course<'_> {
    pub(super) fn draw(&self, area: Rect, buf: &mut Buffer) {
        if self.ends.0 < 0.0 {
            self.curve(area, buf);
        } else {
            self.bars(area, buf);
        }
    }

    /// A value as a share of the scale.
    fn share(&self, value: f64) -> f64 {
        let (low, high) = self.ends;
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn bars(&self, area: Rect, buf: &mut Buffer) {
        for (i, value) in self.values.iter().enumerate() {
            let Some(value) = value.filter(|v| v.is_finite() && *v > 0.0) else {
                continue;
            };
            // What is there shows at least an eighth.
            let full = (self.share(value) * f64::from(area.height)).max(0.125);
            for row in 0..area.height {
                let part = (full - f64::from(area.height - 1 - row)).clamp(0.0, 1.0) as f32;
                if part > 0.0 {
                    let mark = self.theme.ramp(part.max(0.125));
                    put(buf, area, i as u16 * self.each, row, mark, (self.style)(i));
                }
            }
        }
    }

    /// Each two neighbours are joined, and what is not there parts them; a faint line is 0.
    fn curve(&self, area: Rect, buf: &mut Buffer) {
        let (across, up) = if self.theme.ascii { (1, 1) } else { (2, 4) };
        let (wide, high) = (
            usize::from(area.width) * across,
            usize::from(area.height) * up,
        );
        if wide == 0 || high == 0 {
            return;
        }
        let row = |value: f64| ((1.0 - self.share(value)) * (high - 1) as f64).round() as usize;
        let zero = (row(0.0) / up) as u16;
        let columns = (self.values.len() as u16)
            .saturating_mul(self.each)
            .min(area.width);
        let line = self.theme.pick("┈", ".").repeat(columns.into());
        put(buf, area, 0, zero, &line, self.theme.dim());
        let mut dots = vec![false; wide * high];
        let mut before: Option<(usize, usize)> = None;
        for (i, value) in self.values.iter().enumerate() {
            let Some(value) = value.filter(|v| v.is_finite()) else {
                before = None;
                continue;
            };
            let to = (i * usize::from(self.each) * across, row(value));
            let from = before.unwrap_or(to);
            let long = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
            for step in 0..=long {
                let between = |a: usize, b: usize| {
                    (a as f64 + (b as f64 - a as f64) * step as f64 / long as f64).round() as usize
                };
                let at = between(from.1, to.1) * wide + between(from.0, to.0);
                if let Some(dot) = dots.get_mut(at).filter(|_| between(from.0, to.0) < wide) {
                    *dot = true;
                }
            }
            before = Some(to);
        }
        self.dots(area, &dots, (across, up), buf);
    }

    fn dots(&self, area: Rect, dots: &[bool], (across, up): (usize, usize), buf: &mut Buffer) {
        let wide = usize::from(area.width) * across;
        for row in 0..usize::from(area.height) {
            for column in 0..usize::from(area.width) {
                let set = |x: usize, y: usize| dots[(row * up + y) * wide + column * across + x];
                let each = (0..across).flat_map(|x| (0..up).map(move |y| (x, y)));
                let bits = each
                    .filter(|&(x, y)| set(x, y))
                    .fold(0u8, |bits, (x, y)| bits | DOTS[x][y]);
                let mark = match char::from_u32(0x2800 + u32::from(bits)) {
                    _ if bits == 0 => continue,
                    _ if up == 1 => '*',
                    mark => mark.unwrap_or('*'),
                };
                let token = column / usize::from(self.each.max(1));
                let style = (self.style)(token);
                put(
                    buf,
                    area,
                    column as u16,
                    row as u16,
                    &mark.to_string(),
                    style,
                );
            }
        }
    }
}
