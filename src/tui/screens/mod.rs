//! The screens. Adding one is a folder here and a line in [`table`].

pub mod hooks;

use super::screen::Screen;

/// All screens, in the order of their numbers.
pub fn table() -> Vec<Box<dyn Screen>> {
    vec![Box::new(hooks::HooksScreen::default())]
}
