//! How the workbench looks: every style has a meaning, and only here has it a colour.
//!
//! Always: the terminal's own background stays, save under heat cells and the cursor; no meaning is told by colour alone,
//! so a theme without colours sets none at all (an empty colour command of crossterm 0.29 would undo the cursor's
//! inversion). What the terminal can show: `detect`. Colours of values: `scale`. Nearest colours: `palette`.

mod detect;
mod names;
mod palette;
mod scale;

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

pub use palette::rgb;
pub use scale::Scale;

use crate::audit::report::{glyph, plain_glyph};
use crate::audit::verdict::Verdict;

/// How many colours the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// None: bold, dim and inverted text only.
    NoColour,
    /// The 16 that the terminal's own palette names.
    Ansi16,
    /// xterm's 256.
    Ansi256,
    /// 24 bits.
    True,
}

/// What the terminal's own background is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Light text on dark.
    Dark,
    /// Dark text on light.
    Light,
}

/// What the terminal can show, and so how every meaning looks on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// How many colours.
    pub tier: Tier,
    /// On which background.
    pub background: Background,
    /// With no character outside ASCII.
    pub ascii: bool,
}

/// One meaning's colour: 24 bits on dark, 24 bits on light, then the named colours of the 16 on dark and on light.
type Hue = (Color, Color, Color, Color);

/// The one accent of the workbench.
const ACCENT: Hue = (
    Color::Rgb(116, 184, 252),
    Color::Rgb(0, 92, 158),
    Color::LightBlue,
    Color::Blue,
);
const FAINT: Hue = (
    Color::Rgb(148, 152, 160),
    Color::Rgb(98, 102, 110),
    Color::DarkGray,
    Color::DarkGray,
);
const LINE: Hue = (
    Color::Rgb(92, 98, 110),
    Color::Rgb(168, 172, 180),
    Color::DarkGray,
    Color::Gray,
);
const RED: Hue = (
    Color::Rgb(255, 123, 102),
    Color::Rgb(178, 40, 16),
    Color::LightRed,
    Color::Red,
);
const ORANGE: Hue = (
    Color::Rgb(240, 176, 48),
    Color::Rgb(138, 86, 0),
    Color::LightYellow,
    Color::Magenta,
);
const GREEN: Hue = (
    Color::Rgb(58, 196, 150),
    Color::Rgb(0, 108, 78),
    Color::LightGreen,
    Color::Green,
);
const PURPLE: Hue = (
    Color::Rgb(222, 150, 194),
    Color::Rgb(146, 58, 110),
    Color::LightMagenta,
    Color::Blue,
);

/// Okabe and Ito's colours for categories, told apart by every kind of colour vision, without black; darker on light
/// so that they stay readable as text. Source: Okabe & Ito 2008, "Color Universal Design".
const CATEGORIES: [Hue; 7] = [
    (
        Color::Rgb(230, 159, 0),
        Color::Rgb(150, 95, 0),
        Color::LightYellow,
        Color::Yellow,
    ),
    (
        Color::Rgb(86, 180, 233),
        Color::Rgb(0, 106, 160),
        Color::LightCyan,
        Color::Cyan,
    ),
    (
        Color::Rgb(0, 158, 115),
        Color::Rgb(0, 112, 80),
        Color::LightGreen,
        Color::Green,
    ),
    (
        Color::Rgb(240, 228, 66),
        Color::Rgb(112, 104, 0),
        Color::Yellow,
        Color::DarkGray,
    ),
    (
        Color::Rgb(60, 150, 215),
        Color::Rgb(0, 114, 178),
        Color::LightBlue,
        Color::Blue,
    ),
    (
        Color::Rgb(235, 116, 40),
        Color::Rgb(180, 78, 0),
        Color::LightRed,
        Color::Red,
    ),
    (
        Color::Rgb(204, 121, 167),
        Color::Rgb(140, 50, 100),
        Color::LightMagenta,
        Color::Magenta,
    ),
];

/// Borders of `-`, `|` and `+`.
const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const ASCII_SPINNER: [&str; 4] = ["|", "/", "-", "\\"];
const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
const ASCII_RAMP: [&str; 9] = [" ", ".", ":", "-", "=", "+", "*", "#", "@"];

impl Theme {
    /// A theme of `tier` colours on `background`, in ASCII alone if `ascii`.
    pub const fn new(tier: Tier, background: Background, ascii: bool) -> Self {
        Self {
            tier,
            background,
            ascii,
        }
    }

    /// 24-bit colours on a dark terminal.
    pub const fn dark() -> Self {
        Self::new(Tier::True, Background::Dark, false)
    }

    /// 24-bit colours on a light terminal.
    pub const fn light() -> Self {
        Self::new(Tier::True, Background::Light, false)
    }

    /// No colours, characters outside ASCII allowed.
    pub const fn no_colour() -> Self {
        Self::new(Tier::NoColour, Background::Dark, false)
    }

    fn hue(self, hue: Hue) -> Style {
        let dark = self.background == Background::Dark;
        let full = if dark { hue.0 } else { hue.1 };
        match self.tier {
            Tier::NoColour => Style::new(),
            Tier::Ansi16 => Style::new().fg(if dark { hue.2 } else { hue.3 }),
            Tier::Ansi256 => Style::new().fg(palette::nearest_256(rgb(full).unwrap_or_default())),
            Tier::True => Style::new().fg(full),
        }
    }

    /// Text that is read: the terminal's own colour.
    pub fn text(self) -> Style {
        Style::new()
    }

    /// Text that stands back: units, hints, what is not chosen.
    pub fn dim(self) -> Style {
        match self.tier {
            Tier::NoColour => Style::new().add_modifier(Modifier::DIM),
            _ => self.hue(FAINT),
        }
    }

    /// What is to be noticed first.
    pub fn accent(self) -> Style {
        match self.tier {
            Tier::NoColour => Style::new().add_modifier(Modifier::BOLD),
            _ => self.hue(ACCENT),
        }
    }

    /// Titles of panes and cards, heads of tables.
    pub fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// A pane's border.
    pub fn border(self) -> Style {
        match self.tier {
            Tier::NoColour => Style::new().add_modifier(Modifier::DIM),
            _ => self.hue(LINE),
        }
    }

    /// The border of the pane that has the keys.
    pub fn border_focus(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// A key in the footer and in help.
    pub fn key(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// What the cursor stands on, in every tier: inverted and bold.
    pub fn cursor(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }

    /// A bar or a course of numbers beside the numbers themselves.
    pub fn bar(self) -> Style {
        match self.tier {
            Tier::NoColour => Style::new(),
            _ => self.hue(ACCENT),
        }
    }

    /// What is chosen in a pane that has not the keys.
    pub fn selected(self) -> Style {
        self.accent().add_modifier(Modifier::UNDERLINED)
    }

    /// A chip whose intervention is on.
    pub fn chip_on(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// A chip whose intervention is off.
    pub fn chip_off(self) -> Style {
        self.dim()
    }

    /// What went wrong.
    pub fn error(self) -> Style {
        self.hue(RED).add_modifier(Modifier::BOLD)
    }

    /// What a person should look at.
    pub fn warning(self) -> Style {
        self.hue(ORANGE)
    }

    /// What is as it should be.
    pub fn good(self) -> Style {
        self.hue(GREEN)
    }

    /// Values of before, shown while new ones are computed.
    pub fn stale(self) -> Style {
        Style::new().add_modifier(Modifier::DIM | Modifier::ITALIC)
    }

    /// The `i`-th of the categories that a chart tells apart; they repeat after seven.
    pub fn category(self, i: usize) -> Style {
        self.hue(CATEGORIES[i % CATEGORIES.len()])
    }

    /// A verdict's mark, its word, and the style of both.
    pub fn verdict(self, verdict: Verdict) -> (&'static str, &'static str, Style) {
        let mark = if self.ascii {
            plain_glyph(verdict)
        } else {
            glyph(verdict)
        };
        let style = match verdict {
            Verdict::Pass => self.good(),
            Verdict::Underpowered => self.hue(PURPLE),
            Verdict::Review => self.warning(),
            Verdict::Block => self.error(),
        };
        (mark, verdict.word(), style)
    }

    /// A bar one column wide for `value` in `0..=1`: blank to full in eighths, blank for NaN.
    pub fn ramp(self, value: f32) -> &'static str {
        let step = (value.clamp(0.0, 1.0) * 8.0).round() as usize; // NaN becomes 0
        if self.ascii {
            ASCII_RAMP[step]
        } else {
            EIGHTHS[step]
        }
    }

    /// What frames are drawn with.
    pub fn boxes(self) -> border::Set<'static> {
        if self.ascii {
            ASCII_BORDER
        } else {
            border::PLAIN
        }
    }

    /// The `tick`-th picture of something that goes on.
    pub fn spinner(self, tick: usize) -> &'static str {
        if self.ascii {
            ASCII_SPINNER[tick % ASCII_SPINNER.len()]
        } else {
            SPINNER[tick % SPINNER.len()]
        }
    }

    /// The better of two characters that this terminal shows.
    pub fn pick(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.ascii { ascii } else { unicode }
    }

    /// The colours an export gives to the terminal's own: (background, text), as 24 bits.
    pub fn paper(self) -> ((u8, u8, u8), (u8, u8, u8)) {
        match self.background {
            Background::Dark => ((22, 24, 29), (220, 223, 228)),
            Background::Light => ((255, 255, 255), (32, 36, 42)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn every() -> impl Iterator<Item = Theme> {
        let tiers = [Tier::NoColour, Tier::Ansi16, Tier::Ansi256, Tier::True];
        tiers.into_iter().flat_map(|tier| {
            [Background::Dark, Background::Light]
                .into_iter()
                .flat_map(move |back| [false, true].map(|ascii| Theme::new(tier, back, ascii)))
        })
    }

    fn styles(theme: Theme) -> Vec<Style> {
        let mut all = vec![
            theme.text(),
            theme.dim(),
            theme.accent(),
            theme.title(),
            theme.border(),
            theme.border_focus(),
            theme.key(),
            theme.cursor(),
            theme.bar(),
            theme.selected(),
            theme.chip_on(),
            theme.chip_off(),
            theme.error(),
            theme.warning(),
            theme.good(),
            theme.stale(),
        ];
        all.extend((0..7).map(|i| theme.category(i)));
        all.extend(Verdict::ALL.map(|verdict| theme.verdict(verdict).2));
        all
    }

    #[test]
    fn the_background_is_never_painted_and_without_colour_nothing_is() {
        for theme in every() {
            for style in styles(theme) {
                assert_eq!(style.bg, None, "{theme:?}");
                assert!(theme.tier != Tier::NoColour || style.fg.is_none());
            }
            let cursor = theme.cursor();
            assert!(cursor.add_modifier.contains(Modifier::REVERSED));
            assert_ne!(theme.chip_on(), theme.chip_off());
        }
    }

    #[test]
    fn text_colours_can_be_read_on_common_backgrounds() {
        // Black to a common dark theme's grey; white to a warm paper.
        let papers = [
            (Background::Dark, [(0, 0, 0), (40, 42, 54)]),
            (Background::Light, [(255, 255, 255), (245, 240, 230)]),
        ];
        for (background, papers) in papers {
            for tier in [Tier::True, Tier::Ansi256] {
                let theme = Theme::new(tier, background, false);
                let lines = [theme.border().fg];
                for style in styles(theme) {
                    let Some(ink) = style.fg.filter(|fg| !lines.contains(&Some(*fg))) else {
                        continue;
                    };
                    for paper in papers {
                        let contrast = palette::contrast(rgb(ink).unwrap(), paper);
                        assert!(contrast >= 4.0, "{tier:?} {ink:?} on {paper:?}: {contrast}");
                    }
                }
            }
        }
    }

    #[test]
    fn verdicts_are_told_apart_by_mark_and_word_and_ascii_is_ascii() {
        for theme in every() {
            let marks: std::collections::BTreeSet<_> =
                Verdict::ALL.iter().map(|v| theme.verdict(*v).0).collect();
            assert_eq!(marks.len(), 4);
            let mut shown: Vec<&str> = marks.into_iter().collect();
            shown.extend((0..12).map(|tick| theme.spinner(tick)));
            shown.extend((-1..12).map(|v| theme.ramp(v as f32 / 10.0)));
            shown.extend([theme.boxes().top_left, theme.pick("…", "~")]);
            assert_eq!(theme.ascii, shown.iter().all(|text| text.is_ascii()));
        }
    }

    #[test]
    fn a_ramp_rises_from_blank_to_full() {
        let theme = Theme::dark();
        assert_eq!(theme.ramp(f32::NAN), " ");
        assert_eq!(
            [-1.0, 0.0, 0.125, 0.5, 1.0, 9.0].map(|v| theme.ramp(v)),
            [" ", " ", "▁", "▄", "█", "█"]
        );
        let ascii = Theme::new(Tier::True, Background::Dark, true);
        assert_eq!([0.0, 0.5, 1.0].map(|v| ascii.ramp(v)), [" ", "=", "@"]);
    }
}
