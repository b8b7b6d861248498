//! What lies on top of a screen and takes the keys: help, the command line, the letters of the screens.

pub mod help;
pub mod leap;
pub mod palette;

use help::Help;
use leap::Leap;
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
    /// A letter goes to a screen.
    Leap(Leap),
}

impl Overlay {
    /// The help of a screen.
    pub fn help(screen: &dyn Screen) -> Self {
        Self::Help(Help::new(screen))
    }
}
