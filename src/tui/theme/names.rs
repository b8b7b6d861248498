//! Themes by name, for `--theme`, `:theme` and the key that goes through them.

use super::{Background, Theme, Tier};

const NAMED: [(&str, Theme); 6] = [
    ("dark", Theme::dark()),
    ("light", Theme::light()),
    ("16", Theme::new(Tier::Ansi16, Background::Dark, false)),
    (
        "16-light",
        Theme::new(Tier::Ansi16, Background::Light, false),
    ),
    ("none", Theme::no_colour()),
    ("ascii", Theme::new(Tier::NoColour, Background::Dark, true)),
];

impl Theme {
    /// The theme of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMED
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, theme)| *theme)
    }

    /// The names.
    pub fn names() -> Vec<&'static str> {
        NAMED.iter().map(|(name, _)| *name).collect()
    }

    /// Its name; of a detected one that has none, what it shows.
    pub fn name(self) -> &'static str {
        NAMED
            .iter()
            .find(|(_, theme)| *theme == self)
            .map_or("256 colours", |(name, _)| name)
    }

    /// The one after it.
    pub fn next(self) -> Self {
        let at = NAMED.iter().position(|(_, theme)| *theme == self);
        NAMED[at.map_or(0, |at| (at + 1) % NAMED.len())].1
    }
}
