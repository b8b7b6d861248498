//! A slider: where a number stands between two ends, and which number a click on its track means.
//!
//! Always: the value drawn is kept within the ends; a track without room, or ends that are no range, draw what they can.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::super::theme::Theme;
use super::put::put;

/// Where a slider's track is and what its ends mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SliderHits {
    /// The cells that the knob moves on, one line.
    pub track: Rect,
    /// The value at the left end.
    pub lo: f32,
    /// The value at the right end.
    pub hi: f32,
}

impl SliderHits {
    /// The value that a click at a place of the screen means, none beside the track.
    pub fn at(&self, x: u16, y: u16) -> Option<f32> {
        let track = self.track;
        if y != track.y || x < track.x || x >= track.right() || track.height == 0 {
            return None;
        }
        let last = f32::from(track.width - 1).max(1.0);
        Some(self.lo + (self.hi - self.lo) * f32::from(x - track.x) / last)
    }
}

/// Draws `◀───●───▶ +1.50` on the first line of `area`; zero has a mark of its own where it lies within the ends.
pub fn slider(
    buffer: &mut Buffer,
    area: Rect,
    value: f32,
    lo: f32,
    hi: f32,
    focus: bool,
    theme: Theme,
) -> SliderHits {
    let area = area.intersection(buffer.area);
    let shown = if value.is_nan() {
        "n/a".to_owned()
    } else {
        format!("{value:+.2}")
    };
    let words = shown.len() as u16 + 1;
    // Two ends and at least three cells between them, or the number alone.
    let Some(width) = area
        .width
        .checked_sub(words + 2)
        .filter(|w| *w >= 3 && area.height > 0)
    else {
        put(buffer, area, 0, 0, &shown, theme.text());
        return SliderHits::default();
    };
    let (line, style) = (
        theme.pick("─", "-"),
        if focus { theme.accent() } else { theme.dim() },
    );
    put(buffer, area, 0, 0, theme.pick("◀", "<"), style);
    put(buffer, area, 1, 0, &line.repeat(usize::from(width)), style);
    put(buffer, area, 1 + width, 0, theme.pick("▶", ">"), style);
    let place = |v: f32| {
        let part = (f64::from(v) - f64::from(lo)) / (f64::from(hi) - f64::from(lo));
        let part = if part.is_nan() {
            0.0
        } else {
            part.clamp(0.0, 1.0)
        };
        (part * f64::from(width - 1)).round() as u16
    };
    if lo < 0.0 && hi > 0.0 {
        put(buffer, area, 1 + place(0.0), 0, theme.pick("┼", "+"), style);
    }
    if !value.is_nan() {
        let knob = if focus {
            theme.cursor()
        } else {
            theme.accent()
        };
        put(
            buffer,
            area,
            1 + place(value),
            0,
            theme.pick("●", "O"),
            knob,
        );
    }
    put(buffer, area, 3 + width, 0, &shown, theme.text());
    SliderHits {
        track: Rect::new(area.x + 1, area.y, width, 1),
        lo,
        hi,
    }
}
