//! Moving and changing: graphemes, words, lines, history.
//!
//! Always: every position given back is at a grapheme's edge of the text as it is now, found near the cursor without
//! a pass over the whole text.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::super::cells::{prose, width};
use super::{Field, LIMIT, Outcome, TooLong};

impl Field {
    /// `text` as this field may hold it.
    pub(super) fn allowed(&self, text: &str) -> String {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        if self.multiline {
            text
        } else {
            text.replace('\n', " ")
        }
    }

    pub(super) fn insert(&mut self, text: &str) -> Outcome {
        // Counted before it is copied: a paste may be of any size.
        let bytes = self.text.len().saturating_add(text.len());
        if bytes > LIMIT {
            return Outcome::Refused(TooLong { bytes });
        }
        let text = self.allowed(text);
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
        self.settle();
        self.changed()
    }

    pub(super) fn delete(&mut self, from: usize, to: usize) -> Outcome {
        if from >= to {
            return Outcome::Moved;
        }
        self.text.replace_range(from..to, "");
        self.cursor = from;
        self.settle();
        self.changed()
    }

    fn changed(&mut self) -> Outcome {
        self.aim = None;
        self.recalled = None;
        Outcome::Changed
    }

    /// A change may have joined what stands at the cursor into one grapheme: the cursor goes after it.
    fn settle(&mut self) {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        if at.is_boundary(&self.text, 0) != Ok(true) {
            self.cursor = self.after();
        }
    }

    pub(super) fn go(&mut self, to: usize) -> Outcome {
        self.cursor = to;
        self.aim = None;
        Outcome::Moved
    }

    /// The edge before the cursor.
    pub(super) fn before(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    /// The edge after the cursor.
    pub(super) fn after(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        let next = at.next_boundary(&self.text, 0).ok().flatten();
        next.unwrap_or(self.text.len())
    }

    /// Where the word before the cursor begins: over what is no word, then over the word.
    pub(super) fn word_before(&self) -> usize {
        let text = &self.text[..self.cursor];
        let rest = text.trim_end_matches(|c: char| !c.is_alphanumeric());
        let mut to = rest.trim_end_matches(char::is_alphanumeric).len();
        if rest.is_empty() {
            to = 0;
        }
        // Inside a grapheme (a mark is no letter): its beginning, so that the cursor moves whatever the script.
        let mut edge = GraphemeCursor::new(to, self.text.len(), true);
        if edge.is_boundary(&self.text, 0) == Ok(true) {
            return to;
        }
        let before = edge.prev_boundary(&self.text, 0).ok().flatten();
        before.unwrap_or(0)
    }

    /// Where the word after the cursor ends.
    pub(super) fn word_after(&self) -> usize {
        let text = &self.text[self.cursor..];
        let rest = text.trim_start_matches(|c: char| !c.is_alphanumeric());
        let rest = rest.trim_start_matches(char::is_alphanumeric);
        self.edge(self.text.len() - rest.len())
    }

    /// `at`, or the grapheme's end that it is inside of.
    pub(super) fn edge(&self, at: usize) -> usize {
        let mut edge = GraphemeCursor::new(at, self.text.len(), true);
        if edge.is_boundary(&self.text, 0) == Ok(true) {
            return at;
        }
        let next = edge.next_boundary(&self.text, 0).ok().flatten();
        next.unwrap_or(self.text.len())
    }

    pub(super) fn line_start(&self) -> usize {
        self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    pub(super) fn line_end(&self) -> usize {
        let rest = self.text[self.cursor..].find('\n');
        rest.map_or(self.text.len(), |at| self.cursor + at)
    }

    pub(super) fn up(&mut self) -> Outcome {
        let start = self.line_start();
        if !self.multiline {
            return self.recall_older();
        }
        if start == 0 {
            return self.go(0);
        }
        let above = self.text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
        self.go_to_line(above, start - 1)
    }

    pub(super) fn down(&mut self) -> Outcome {
        if !self.multiline {
            return self.recall_newer();
        }
        let end = self.line_end();
        if end == self.text.len() {
            return self.go(end);
        }
        let rest = self.text[end + 1..].find('\n');
        let below = rest.map_or(self.text.len(), |at| end + 1 + at);
        self.go_to_line(end + 1, below)
    }

    /// To the column aimed at of the line `from..to`, or its end.
    fn go_to_line(&mut self, from: usize, to: usize) -> Outcome {
        let aim = self
            .aim
            .unwrap_or_else(|| columns(&self.text[self.line_start()..self.cursor]));
        self.cursor = from + at_column(&self.text[from..to], aim);
        self.aim = Some(aim);
        Outcome::Moved
    }

    fn recall_older(&mut self) -> Outcome {
        let (i, kept) = match self.recalled.take() {
            None if self.history.is_empty() => return Outcome::Moved,
            None => (self.history.len() - 1, self.text.clone()),
            Some((i, kept)) => (i.saturating_sub(1), kept),
        };
        self.show(self.history[i].clone(), Some((i, kept)))
    }

    fn recall_newer(&mut self) -> Outcome {
        match self.recalled.take() {
            None => Outcome::Moved,
            Some((i, kept)) if i + 1 < self.history.len() => {
                self.show(self.history[i + 1].clone(), Some((i + 1, kept)))
            }
            Some((_, kept)) => self.show(kept, None),
        }
    }

    fn show(&mut self, text: String, recalled: Option<(usize, String)>) -> Outcome {
        self.cursor = text.len();
        self.text = text;
        self.recalled = recalled;
        Outcome::Changed
    }
}

/// Columns of text as a field draws it.
pub(super) fn columns(text: &str) -> usize {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.len();
    }
    text.graphemes(true).map(drawn_width).sum()
}

/// The byte of `line` at which the grapheme over `column` begins.
pub(super) fn at_column(line: &str, column: usize) -> usize {
    let mut used = 0;
    for (at, grapheme) in line.grapheme_indices(true) {
        used += drawn_width(grapheme);
        if used > column {
            return at;
        }
    }
    line.len()
}

/// Columns of one grapheme made visible; the same in ASCII is wider, and only aiming and clicking use this.
fn drawn_width(grapheme: &str) -> usize {
    width(&prose(grapheme, false))
}
