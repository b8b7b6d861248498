//! The words after `/`: which rows of a list are left, and how the cursor moves among them.
//!
//! Always: a row is left if it holds every word, in any case and anywhere; without words all are left. The frame keeps one
//! filter for each list (`Shared::filter`) and edits it; a screen names its list and its rows, and draws what is left.

/// Longest filter, bytes.
const LONGEST: usize = 256;

/// Words that a row must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    text: String,
    words: Vec<String>,
}

/// A filter that leaves everything.
pub static ALL: Filter = Filter {
    text: String::new(),
    words: Vec::new(),
};

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
        assert_eq!(Filter::default(), ALL);
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
