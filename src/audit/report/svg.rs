//! A small SVG writer: shapes, a linear scale with round ticks, and the frame of a chart.
//!
//! Always: colours come from CSS classes (so one drawing serves light, dark and print), coordinates have one decimal, all
//! text is escaped, and every drawing has a role, a title and a description. What is drawn in it: [`super::draw`].

use std::fmt::Write;

use super::text::escaped;

/// Width of a chart in its own units.
pub const WIDTH: f64 = 640.0;

/// A drawing being written.
pub struct Svg {
    out: String,
}

/// Where text is anchored.
#[derive(Clone, Copy)]
pub enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

impl Svg {
    /// A drawing [`WIDTH`] wide and `height` high, with its words for those who cannot see it.
    pub fn new(height: f64, title: &str, about: &str) -> Self {
        let (title, about) = (escaped(title), escaped(about));
        let out = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}. {about}\">\
             <title>{title}</title><desc>{about}</desc>"
        );
        Self { out }
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let _ = write!(
            self.out,
            "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A rectangle with a tip shown when pointed at.
    pub fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), tip: &str) {
        let (x, y, w, h) = (at.0, at.1, size.0.max(0.0), size.1.max(0.0));
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\">{}</rect>",
            tip_of(tip)
        );
    }

    /// A rectangle of a computed colour.
    pub fn cell(&mut self, colour: &str, at: (f64, f64), size: (f64, f64), tip: &str) {
        let (x, y, w, h) = (at.0, at.1, size.0, size.1);
        let _ = write!(
            self.out,
            "<rect fill=\"{colour}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\">{}</rect>",
            tip_of(tip)
        );
    }

    /// A dot.
    pub fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, tip: &str) {
        let _ = write!(
            self.out,
            "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\">{}</circle>",
            at.0,
            at.1,
            tip_of(tip)
        );
    }

    /// A path through `points`; closed for an area. A point that is not finite lifts the pen of an open path.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)], closed: bool) {
        let mut d = String::new();
        let mut pen = 'M';
        for (x, y) in points {
            if x.is_finite() && y.is_finite() {
                let _ = write!(d, "{pen}{x:.1} {y:.1}");
                pen = 'L';
            } else if !closed {
                pen = 'M';
            }
        }
        if !d.is_empty() {
            let _ = write!(
                self.out,
                "<path class=\"{class}\" d=\"{d}{}\"/>",
                if closed { "Z" } else { "" }
            );
        }
    }

    /// A piece of text.
    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = write!(
            self.out,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            at.0,
            at.1,
            escaped(text)
        );
    }

    /// Text that reads upwards, for the name of a vertical axis.
    pub fn upward(&mut self, at: (f64, f64), text: &str) {
        let _ = write!(
            self.out,
            "<text class=\"name\" transform=\"translate({:.1} {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            at.0,
            at.1,
            escaped(text)
        );
    }

    /// The finished drawing.
    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }

    /// The finished drawing for a file of its own: with its name space, and with the report's colours in it.
    pub fn alone(self) -> String {
        let open = "<svg xmlns=\"http://www.w3.org/2000/svg\" font-family=\"system-ui, sans-serif\" \
                    style=\"background:var(--card)\"";
        let style = format!(
            "><style>{}</style>",
            include_str!("../../../assets/report/report.css")
        );
        let drawing = self.finish().replacen("<svg", open, 1);
        drawing.replacen('>', &style, 1)
    }
}

fn tip_of(tip: &str) -> String {
    if tip.is_empty() {
        String::new()
    } else {
        format!("<title>{}</title>", escaped(tip))
    }
}

/// A linear scale from numbers to places, with round ticks.
#[derive(Clone, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    /// The numbers to mark.
    pub ticks: Vec<f64>,
    decimals: usize,
}

impl Scale {
    /// A scale that covers the finite ones of `numbers`, widened to round ticks, onto the places `from` to `to`.
    pub fn over(numbers: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = numbers
            .filter(|number| number.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), number| {
                (low.min(number), high.max(number))
            });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low <= f64::EPSILON * high.abs().max(low.abs()).max(f64::MIN_POSITIVE) {
            let pad = if low == 0.0 { 0.5 } else { low.abs() * 0.1 };
            (low, high) = (low - pad, high + pad);
        }
        let step = round_step((high - low) / 5.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks: Vec<f64> = (0..=(last - first).clamp(0.0, 20.0) as usize)
            .map(|i| (first + i as f64) * step)
            .collect();
        let decimals = (-step.log10().floor()).clamp(0.0, 8.0) as usize;
        Self {
            low: first * step,
            high: last * step,
            from,
            to,
            ticks,
            decimals,
        }
    }

    /// The place of `number`.
    pub fn place(&self, number: f64) -> f64 {
        self.from + (number - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The number at a tick, with as many decimals as the ticks need.
    pub fn label(&self, tick: f64) -> String {
        let decimals = self.decimals;
        if tick.abs() >= 1e6 || (tick != 0.0 && decimals >= 8) {
            return format!("{tick:.1e}");
        }
        let plain = if tick.abs() < 1e-12 { 0.0 } else { tick };
        format!("{plain:.decimals$}")
    }

    /// The ends that the scale covers.
    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_numbers() {
        let scale = Scale::over([0.03, 0.97].into_iter(), 0.0, 100.0);
        let labels: Vec<_> = scale.ticks.iter().map(|tick| scale.label(*tick)).collect();
        assert_eq!(labels, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert!((scale.place(0.5) - 50.0).abs() < 1e-9);
        let one = Scale::over([3.0].into_iter(), 0.0, 1.0);
        assert!(one.ends().0 < 3.0 && one.ends().1 > 3.0);
        let none = Scale::over([f64::NAN].into_iter(), 0.0, 1.0);
        assert_eq!(none.ends(), (0.0, 1.0));
    }

    #[test]
    fn a_gap_lifts_the_pen() {
        let mut svg = Svg::new(10.0, "t", "a");
        svg.path("c", &[(0.0, 0.0), (f64::NAN, 1.0), (2.0, 2.0)], false);
        assert!(svg.finish().contains("d=\"M0.0 0.0M2.0 2.0\""));
    }
}
