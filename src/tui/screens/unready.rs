//! What stands in place of a screen that reads the open model while there is none to read.

use ratatui::style::Style;

use crate::tui::cells::Card;
use crate::tui::shared::{ModelState, Shared};
use crate::tui::theme::Theme;

/// A card of one paragraph.
pub(super) fn say(title: &str, style: Style, body: String, footer: &str) -> Card {
    Card {
        title: title.to_owned(),
        style,
        body: vec![body],
        footer: footer.to_owned(),
    }
}

/// What there is to say while no model is open: `reads` is the screen's sentence, `meanwhile` what can be done while one
/// is being opened.
pub(super) fn model(shared: &Shared, theme: Theme, reads: &str, meanwhile: &str) -> Option<Card> {
    match &shared.model {
        ModelState::None => Some(say(
            "No model is open",
            theme.dim(),
            reads.into(),
            "models lists what there is; `:open NAME` opens one, `toy` is always there",
        )),
        ModelState::Loading { name } => Some(say(
            "Opening",
            theme.accent(),
            format!("{name} is being opened."),
            meanwhile,
        )),
        ModelState::Failed { name, why } => Some(say(
            "The model could not be opened",
            theme.error(),
            format!("{name}: {why}"),
            "models lists what there is; `:open NAME` opens another, `toy` is always there",
        )),
        ModelState::Ready(_) => None,
    }
}
