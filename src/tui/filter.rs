//! The words after `/`: which rows of a list are left, and how the cursor moves among them.
//!
//! Always: a row is left if it holds every word, in any case and anywhere; without words all are left. The frame keeps one
//! filter for each list of each screen and edits it here; a screen names its list with its rows, and draws what is left.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::App;

/// Longest filter, bytes.
const LONGEST: usize = 256;

/// Words that a row must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    text: String,
    words: Vec<String>,
}

impl Filter {
    /// Of a text as it was typed; what is too long is cut.
    pub fn new(text: &str) -> Self {
        let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
        while text.len() > LONGEST {
            text.pop();
        }
        let words = text.to_lowercase();
        Self {
            words: words.split_whitespace().map(ToOwned::to_owned).collect(),
            text,
        }
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it leaves everything.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether a row is left.
    pub fn matches(&self, row: &str) -> bool {
        if self.is_empty() {
            return true;
        }
        let row = row.to_lowercase();
        self.words.iter().all(|word| row.contains(word))
    }

    /// The numbers of the rows that are left.
    pub fn left<S: AsRef<str>>(&self, rows: impl IntoIterator<Item = S>) -> Vec<usize> {
        let rows = rows.into_iter().enumerate();
        let left = rows.filter(|(_, row)| self.matches(row.as_ref()));
        left.map(|(i, _)| i).collect()
    }
}

/// A list that `/` narrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, by which its filter is kept: `prompts`.
    pub name: &'static str,
    /// Every row, also those that are not shown now, as the text that is searched.
    pub rows: Vec<String>,
}

/// The row `by` rows further among those that are left, at its ends the last or first; `at` where none is left.
pub fn step(left: &[usize], at: usize, by: isize) -> usize {
    let place = left.partition_point(|row| *row < at);
    let on = left.get(place) == Some(&at);
    // From between two rows a step down goes to the next one, which is `place` itself.
    let by = if !on && by > 0 { by - 1 } else { by };
    let last = left.len().saturating_sub(1);
    let to = place.saturating_add_signed(by).min(last);
    left.get(to).copied().unwrap_or(at)
}

/// How far a list is narrowed, for the footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowed {
    /// The filter as it was typed.
    pub text: String,
    /// Rows that are left.
    pub left: usize,
    /// Of so many.
    pub of: usize,
}

impl App {
    /// `/`: from now on keys are the filter's.
    pub(super) fn open_filter(&mut self) {
        match self.screen().list(&self.shared) {
            Some(_) => self.filtering = true,
            None => self.say("there is no list here that could be filtered"),
        }
    }

    /// How far the list of the screen is narrowed; none without a list or a filter that is being written.
    pub(super) fn narrowed(&self) -> Option<Narrowed> {
        if self.filters.is_empty() && !self.filtering {
            return None;
        }
        let list = self.screen().list(&self.shared)?;
        let filter = self.filters.get(&(self.screen().id(), list.name));
        let filter = filter.filter(|filter| !filter.is_empty());
        if filter.is_none() && !self.filtering {
            return None;
        }
        let of = list.rows.len();
        Some(Narrowed {
            text: filter.map_or_else(String::new, |filter| filter.text().to_owned()),
            left: filter.map_or(of, |filter| filter.left(&list.rows).len()),
            of,
        })
    }

    /// Another filter for the list of the screen that is shown.
    pub(super) fn set_filter(&mut self, text: &str) {
        let Some(list) = self.screen().list(&self.shared) else {
            return;
        };
        let filter = Filter::new(text);
        self.with_current(|screen, cx| screen.narrow(list.name, &filter, cx));
        let key = (self.screen().id(), list.name);
        if filter.text().is_empty() {
            self.filters.remove(&key);
        } else {
            self.filters.insert(key, filter);
        }
    }

    /// Clears the filter of the list that is shown; false if there is none.
    pub(super) fn clear_filter(&mut self) -> bool {
        let there = self.broken().is_none() && self.narrowed().is_some();
        if there {
            self.set_filter("");
        }
        there
    }

    /// A key while the filter is written; true if it was one of its keys.
    pub(super) fn filter_key(&mut self, key: KeyEvent) -> bool {
        let Some(mut text) = self.narrowed().map(|narrowed| narrowed.text) else {
            // The list went away under it.
            self.filtering = false;
            return false;
        };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => self.filtering = false,
            KeyCode::Esc => {
                self.set_filter("");
                self.filtering = false;
            }
            KeyCode::Backspace => {
                // Out of an empty field, as out of the command line.
                self.filtering = text.pop().is_some();
                self.set_filter(&text);
            }
            KeyCode::Char('u') if control => self.set_filter(""),
            KeyCode::Char(c) if !control => {
                text.push(c);
                self.set_filter(&text);
            }
            // The rows that are left can be walked while it is written.
            KeyCode::Up | KeyCode::Down => return false,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_in_any_case_and_anywhere() {
        let filter = Filter::new(" Lock PICK ");
        assert!(filter.matches("how to pick a LOCK"));
        assert!(!filter.matches("how to pick a door"));
        assert_eq!(
            filter.left(["picklock", "lock", "Unlocked, unpicked"]),
            [0, 2]
        );
        assert!(Filter::new("ÄRGER").matches("Verärgert"));
        for empty in ["", "  ", "\u{1b}\n"] {
            assert!(Filter::new(empty).is_empty() && Filter::new(empty).matches(""));
        }
        assert_eq!(Filter::new(&"é".repeat(500)).text().len(), LONGEST);
    }

    #[test]
    fn steps_go_over_what_is_left() {
        let left = [2, 5, 9];
        for (at, by, to) in [
            (2, 1, 5),
            (5, 1, 9),
            (9, 1, 9),
            (9, -1, 5),
            (2, -1, 2),
            (2, 10, 9),
            // From a row that is not left.
            (3, 1, 5),
            (3, -1, 2),
            (3, 0, 5),
            (20, -1, 9),
            (20, 1, 9),
            (0, -1, 2),
        ] {
            assert_eq!(step(&left, at, by), to, "{at} by {by}");
        }
        assert_eq!(step(&[], 4, 1), 4);
    }
}
