//! Colours of values: one scale for amounts, one for what has a sign, both for every kind of colour vision.
//!
//! Always: little looks like the paper, and much stands off it, so a scale has a form for dark terminals and one for light
//! ones; text on a heat cell is black or white, whichever is read better, and stands back where a signed value is next to
//! zero; a value that is no number has no colour; a theme without colours has shades instead. Who draws them:
//! `crate::tui::cells`.
//!
//! Sources: cividis, Nuñez, Anderton & Renslow 2018, at ten even steps, for dark paper; its own blue, thinned to white, for
//! light paper; blue and orange from ColorBrewer's blues and oranges (Harrower & Brewer 2003), whose two hues every colour
//! vision tells apart.

use ratatui::style::{Color, Style};

use super::palette::{contrast, nearest_256, rgb};
use super::{Background, FAINT, Theme, Tier};

type Rgb = (u8, u8, u8);

/// Which colours a value takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Amounts in `0..=1`: cividis, dark to bright; on light paper white to its blue.
    Sequential,
    /// Values in `-1..=1`: blue below zero, the paper's lightness at it, orange above.
    Diverging,
}

const CIVIDIS: [Rgb; 10] = [
    (0x00, 0x22, 0x4e),
    (0x12, 0x35, 0x70),
    (0x3b, 0x49, 0x6c),
    (0x57, 0x5d, 0x6d),
    (0x70, 0x71, 0x73),
    (0x8a, 0x86, 0x78),
    (0xa5, 0x9c, 0x74),
    (0xc3, 0xb3, 0x69),
    (0xe1, 0xcc, 0x55),
    (0xfe, 0xe8, 0x38),
];
const WHITE_BLUE: [Rgb; 5] = [
    (0xf1, 0xf5, 0xfa),
    (0xb4, 0xc8, 0xe0),
    (0x6f, 0x94, 0xc0),
    (0x3a, 0x6a, 0xa8),
    (0x0b, 0x45, 0x85),
];
const BLUE_DARK_ORANGE: [Rgb; 7] = [
    (0x9e, 0xca, 0xf1),
    (0x42, 0x8a, 0xc6),
    (0x1c, 0x44, 0x70),
    (0x22, 0x25, 0x2c),
    (0x74, 0x3c, 0x10),
    (0xd8, 0x6a, 0x1a),
    (0xfd, 0xb8, 0x6b),
];
const BLUE_ORANGE: [Rgb; 7] = [
    (0x08, 0x45, 0x94),
    (0x42, 0x92, 0xc6),
    (0x9e, 0xca, 0xe1),
    (0xf7, 0xf7, 0xf7),
    (0xfd, 0xae, 0x6b),
    (0xf1, 0x69, 0x13),
    (0xa6, 0x36, 0x03),
];
/// With the 256: the nearest to cividis that rise in lightness; the nearest alone step back where the cube has holes.
const SEQUENTIAL_256: [u8; 12] = [17, 18, 237, 239, 60, 243, 102, 246, 144, 179, 185, 220];
const SEQUENTIAL_256_LIGHT: [u8; 8] = [255, 189, 153, 110, 67, 25, 18, 17];
/// With the 16: what comes nearest while rising in lightness, or parting from white.
const SEQUENTIAL_16: [Color; 4] = [
    Color::Blue,
    Color::DarkGray,
    Color::Yellow,
    Color::LightYellow,
];
const SEQUENTIAL_16_LIGHT: [Color; 4] = [Color::White, Color::Cyan, Color::DarkGray, Color::Blue];
const DIVERGING_16: [Color; 5] = [
    Color::Cyan,
    Color::Blue,
    Color::Black,
    Color::Red,
    Color::Yellow,
];
const DIVERGING_16_LIGHT: [Color; 5] = [
    Color::Blue,
    Color::Cyan,
    Color::White,
    Color::Yellow,
    Color::Red,
];
/// A signed value nearer to zero than this part of the largest is as good as none.
const NOTHING: f32 = 0.02;
const SHADES: [&str; 5] = [" ", "░", "▒", "▓", "█"];
const ASCII_SHADES: [&str; 8] = [" ", ".", ":", "-", "=", "+", "*", "#"];

impl Scale {
    /// `value` of the range `lo..=hi` on this scale's own range: `0..=1`, or `-1..=1` with zero kept at zero. NaN for what
    /// is no number, and for a range that is none.
    pub fn place(self, value: f32, lo: f32, hi: f32) -> f32 {
        let part = match self {
            Self::Sequential if hi > lo => (value - lo) / (hi - lo),
            Self::Sequential => value * 0.0,
            Self::Diverging => match lo.abs().max(hi.abs()) {
                most if most > 0.0 => value / most,
                _ => value * 0.0,
            },
        };
        if value == f32::INFINITY {
            1.0
        } else if value == f32::NEG_INFINITY {
            self.least()
        } else {
            part.clamp(self.least(), 1.0)
        }
    }

    /// The low end of its own range.
    pub fn least(self) -> f32 {
        match self {
            Self::Sequential => 0.0,
            Self::Diverging => -1.0,
        }
    }

    /// Where in `0..=1` of the list of colours, none for NaN.
    fn fraction(self, value: f32) -> Option<f32> {
        let least = self.least();
        (!value.is_nan()).then(|| (value.clamp(least, 1.0) - least) / (1.0 - least))
    }

    /// The 24-bit colour of `value` on this paper, none for NaN.
    pub fn colour(self, value: f32, paper: Background) -> Option<(u8, u8, u8)> {
        let anchors: &[Rgb] = match (self, paper) {
            (Self::Sequential, Background::Dark) => &CIVIDIS,
            (Self::Sequential, Background::Light) => &WHITE_BLUE,
            (Self::Diverging, Background::Dark) => &BLUE_DARK_ORANGE,
            (Self::Diverging, Background::Light) => &BLUE_ORANGE,
        };
        let at = self.fraction(value)? * (anchors.len() - 1) as f32;
        let from = (at as usize).min(anchors.len() - 2);
        let part = at - from as f32;
        let mix =
            |a: u8, b: u8| (f32::from(a) + part * (f32::from(b) - f32::from(a))).round() as u8;
        let (a, b) = (anchors[from], anchors[from + 1]);
        Some((mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2)))
    }
}

impl Theme {
    /// The background of `value`, in the scale's own range, and the text that is read on it. Nothing for NaN and in a
    /// theme without colours.
    pub fn heat(self, scale: Scale, value: f32) -> Style {
        let Some(exact) = scale.colour(value, self.background) else {
            return Style::new();
        };
        let back = match self.tier {
            Tier::NoColour => return Style::new(),
            Tier::Ansi16 => of_16(scale, value, self.background),
            Tier::Ansi256 => of_256(scale, value, exact, self.background),
            Tier::True => Color::Rgb(exact.0, exact.1, exact.2),
        };
        if scale == Scale::Diverging && value.abs() < NOTHING && self.tier == Tier::True {
            return self.hue(FAINT).bg(back);
        }
        let solid = rgb(back).unwrap_or(exact);
        let bright = contrast(solid, (0, 0, 0)) > contrast(solid, (255, 255, 255));
        let ink = match (self.tier, bright) {
            (Tier::Ansi16, true) => Color::Black,
            (Tier::Ansi16, false) => Color::White,
            (Tier::Ansi256, true) => Color::Indexed(16),
            (Tier::Ansi256, false) => Color::Indexed(231),
            (_, true) => Color::Rgb(0, 0, 0),
            (_, false) => Color::Rgb(255, 255, 255),
        };
        Style::new().bg(back).fg(ink)
    }

    /// A shade one column wide for the size of `value`, for where there are no colours; `·` (`?` in ASCII) for NaN.
    pub fn shade(self, value: f32) -> &'static str {
        let shades: &[&'static str] = if self.ascii { &ASCII_SHADES } else { &SHADES };
        if value.is_nan() {
            return self.pick("·", "?");
        }
        shades[(value.abs().min(1.0) * (shades.len() - 1) as f32).round() as usize]
    }
}

fn of_16(scale: Scale, value: f32, paper: Background) -> Color {
    let colours: &[Color] = match (scale, paper) {
        (Scale::Sequential, Background::Dark) => &SEQUENTIAL_16,
        (Scale::Sequential, Background::Light) => &SEQUENTIAL_16_LIGHT,
        (Scale::Diverging, Background::Dark) => &DIVERGING_16,
        (Scale::Diverging, Background::Light) => &DIVERGING_16_LIGHT,
    };
    colours[step(scale, value, colours.len())]
}

fn of_256(scale: Scale, value: f32, exact: Rgb, paper: Background) -> Color {
    let colours: &[u8] = match (scale, paper) {
        (Scale::Sequential, Background::Dark) => &SEQUENTIAL_256,
        (Scale::Sequential, Background::Light) => &SEQUENTIAL_256_LIGHT,
        (Scale::Diverging, _) => return nearest_256(exact),
    };
    Color::Indexed(colours[step(scale, value, colours.len())])
}

/// Which of `count` colours.
fn step(scale: Scale, value: f32, count: usize) -> usize {
    (scale.fraction(value).unwrap_or(0.0) * (count - 1) as f32).round() as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::palette::luminance;
    use super::*;

    const SCALES: [Scale; 2] = [Scale::Sequential, Scale::Diverging];

    fn steps(scale: Scale) -> impl Iterator<Item = f32> {
        (0..=500).map(move |i| scale.least() + (1.0 - scale.least()) * i as f32 / 500.0)
    }

    #[test]
    fn cividis_is_cividis() {
        // matplotlib 3.11.2, `colormaps['cividis']` at a quarter, a half and three quarters.
        for (value, (r, g, b)) in [
            (0.25, (0x43, 0x4e, 0x6c)),
            (0.5, (0x7d, 0x7c, 0x78)),
            (0.75, (0xbc, 0xae, 0x6c)),
        ] {
            let found = Scale::Sequential.colour(value, Background::Dark).unwrap();
            let near = |a: u8, b: u8| a.abs_diff(b) <= 4;
            assert!(
                near(found.0, r) && near(found.1, g) && near(found.2, b),
                "{value}: {found:?}"
            );
        }
    }

    fn coloured() -> impl Iterator<Item = Theme> {
        let papers = [Background::Dark, Background::Light];
        let tiers = [Tier::Ansi16, Tier::Ansi256, Tier::True];
        let of = move |tier| papers.map(|paper| Theme::new(tier, paper, false));
        tiers.into_iter().flat_map(of)
    }

    #[test]
    fn text_is_read_on_the_whole_of_every_scale() {
        for theme in coloured() {
            for scale in SCALES {
                for value in steps(scale) {
                    let style = theme.heat(scale, value);
                    let (back, ink) = (rgb(style.bg.unwrap()), rgb(style.fg.unwrap()));
                    let contrast = contrast(back.unwrap(), ink.unwrap());
                    assert!(contrast >= 4.5, "{theme:?} {scale:?} {value}: {contrast}");
                }
            }
        }
    }

    #[test]
    fn little_is_near_the_paper_and_more_is_always_further_from_it() {
        for theme in coloured() {
            let light =
                |scale, value| luminance(rgb(theme.heat(scale, value).bg.unwrap()).unwrap());
            let away = match theme.background {
                Background::Dark => 1.0,
                Background::Light => -1.0,
            };
            let mut furthest = f64::NEG_INFINITY;
            for value in steps(Scale::Sequential) {
                let now = light(Scale::Sequential, value) * away;
                assert!(now >= furthest - 1e-3, "{theme:?} {value}");
                furthest = furthest.max(now);
            }
            let ends = [0.0, 1.0].map(|v| light(Scale::Sequential, v));
            assert!((ends[1] - ends[0]) * away > 0.5, "{theme:?} {ends:?}");
            let middle = light(Scale::Diverging, 0.0);
            let ends = [-1.0, 1.0].map(|v| light(Scale::Diverging, v));
            assert!(
                ends.iter().all(|end| (end - middle) * away > 0.4),
                "{theme:?} {middle} {ends:?}"
            );
            let hue = |v| rgb(theme.heat(Scale::Diverging, v).bg.unwrap()).unwrap();
            assert!(hue(-0.8).2 > hue(-0.8).0 && hue(0.8).0 > hue(0.8).2);
        }
    }

    #[test]
    fn what_is_no_number_has_no_colour_and_without_colours_nothing_has() {
        for scale in SCALES {
            assert_eq!(Theme::dark().heat(scale, f32::NAN), Style::new());
            assert_eq!(Theme::no_colour().heat(scale, 0.5), Style::new());
        }
        let plain = Theme::no_colour();
        assert_eq!(
            [0.0, 0.3, -0.5, 1.0, 7.0, f32::NAN].map(|v| plain.shade(v)),
            [" ", "░", "▒", "█", "█", "·"]
        );
    }

    #[test]
    fn values_find_their_place() {
        let (amount, signed) = (Scale::Sequential, Scale::Diverging);
        assert_eq!(amount.place(5.0, 0.0, 10.0), 0.5);
        assert_eq!(amount.place(-5.0, 0.0, 10.0), 0.0);
        assert_eq!(amount.place(3.0, 3.0, 3.0), 0.0);
        assert_eq!(signed.place(-2.0, -2.0, 8.0), -0.25);
        assert_eq!(signed.place(0.0, -9.0, 1.0), 0.0);
        assert_eq!(signed.place(f32::NEG_INFINITY, 0.0, 1.0), -1.0);
        assert_eq!(amount.place(f32::INFINITY, 0.0, 1.0), 1.0);
        assert!(amount.place(f32::NAN, 0.0, 1.0).is_nan());
        assert!(signed.place(f32::NAN, 0.0, 0.0).is_nan());
    }
}
