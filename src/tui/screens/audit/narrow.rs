//! What `/` leaves of the signals and of the prompts behind one.
//!
//! Always: it narrows further what `f` shows; a row holds what is drawn of it and what names it.

use super::items;
use super::rows::{self, Row};
use super::{AuditScreen, Part};
use crate::audit::result::{Audit, Item, SignalResult};
use crate::tui::filter::{Filter, Listed};

impl AuditScreen {
    /// The rows of an audit that both filters leave.
    pub(super) fn of<'a>(&self, audit: &'a Audit) -> Vec<Row<'a>> {
        let mut rows = rows::rows(audit, self.filter);
        rows.retain(|row| self.words.is_empty() || self.words.matches(&row.text()));
        rows
    }

    /// The prompts of a signal that label and filter leave.
    pub(super) fn prompts<'a>(&'a self, signal: &'a SignalResult) -> Vec<&'a Item> {
        let words = &self.prompt_words;
        items::shown(signal, self.label.as_deref())
            .filter(|item| words.is_empty() || words.matches(&items::text(item)))
            .collect()
    }

    /// The list that the keys move in, all its rows.
    pub(super) fn listed(&self) -> Option<Listed> {
        let audit = self.audit()?;
        match (self.explaining, self.part) {
            (false, None) => Some(Listed {
                name: "signals",
                rows: rows::rows(audit, self.filter)
                    .iter()
                    .map(|row| row.text())
                    .collect(),
            }),
            (false, Some(Part::Prompts)) => Some(Listed {
                name: "prompts",
                rows: items::shown(self.signal()?, self.label.as_deref())
                    .map(items::text)
                    .collect(),
            }),
            _ => None,
        }
    }

    /// Another filter of a list; the same signal stays under the cursor where it is left.
    pub(super) fn take_words(&mut self, list: &'static str, filter: &Filter) {
        if list == "prompts" {
            self.prompt_words = filter.clone();
            self.item = 0;
            return;
        }
        let id = self.row().map(|row| row.id().to_owned());
        self.words = filter.clone();
        let mut rows = self.rows().into_iter();
        let at = rows.position(|row| Some(row.id()) == id.as_deref());
        self.selected = at.unwrap_or(0);
    }
}
