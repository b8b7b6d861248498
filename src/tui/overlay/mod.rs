//! What lies on top of a screen and takes the keys: help, and the command line.

pub mod help;
pub mod palette;

use help::Help;
use palette::Palette;

use super::screen::Screen;

/// At most one.
pub enum Overlay {
    /// None.
    None,
    /// Every key of a screen.
    Help(Help),
    /// A line for commands.
    Palette(Palette),
}

impl Overlay {
    /// The help of a screen.
    pub fn help(screen: &dyn Screen) -> Self {
        Self::Help(Help::new(screen))
    }
}
