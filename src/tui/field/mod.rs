//! A text field: one line with a history, or a prompt of several lines.
//!
//! Always: the cursor is between two graphemes; the text never grows past [`LIMIT`], and what would make it is refused with
//! its size; no key costs more than a pass over the text, and drawing costs the size of the screen plus the count of lines.
//! Editing: `edit`. Drawing and clicks: `draw`.

mod draw;
mod edit;

use std::collections::VecDeque;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// The most bytes a field holds: 1 MiB.
pub const LIMIT: usize = 1 << 20;
/// Lines of history that are kept.
const REMEMBERED: usize = 200;
/// Bytes of a line that history keeps; a pasted book is not recalled with the arrow keys.
const RECALLABLE: usize = 64 << 10;

/// What a key did to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The text is another.
    Changed,
    /// Only the cursor moved, or could not.
    Moved,
    /// Enter: the text is meant.
    Submitted,
    /// Esc: it is not.
    Cancelled,
    /// Nothing was put in, because there would be too much.
    Refused(TooLong),
    /// Not a key of the field's: the screen may have it.
    Ignored,
}

/// Text that a field would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not put in: the field would hold {bytes} bytes, and takes {LIMIT} at most; for longer text give a file on the command line"
)]
pub struct TooLong {
    /// What the field would have held.
    pub bytes: usize,
}

/// Editable text with a cursor.
#[derive(Clone, Debug, Default)]
pub struct Field {
    text: String,
    /// Byte offset, always at a grapheme's edge.
    cursor: usize,
    /// The column that going up and down aims at.
    aim: Option<usize>,
    multiline: bool,
    history: VecDeque<String>,
    /// Which line of history is shown, and what was being written before.
    recalled: Option<(usize, String)>,
}

impl Field {
    /// An empty field of one line: Enter submits, up and down recall what was submitted before.
    pub fn single() -> Self {
        Self::default()
    }

    /// An empty field of several lines: Enter submits, Alt-Enter or Ctrl-J begins a line.
    pub fn multi() -> Self {
        Self {
            multiline: true,
            ..Self::default()
        }
    }

    /// The text as it is.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the cursor is, in bytes.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// True without text.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Replaces the text and puts the cursor at its end.
    ///
    /// # Errors
    /// Text over [`LIMIT`]; the field is as before.
    pub fn set(&mut self, text: &str) -> Result<(), TooLong> {
        let text = self.allowed(text);
        if text.len() > LIMIT {
            return Err(TooLong { bytes: text.len() });
        }
        self.cursor = text.len();
        self.text = text;
        self.aim = None;
        self.recalled = None;
        Ok(())
    }

    /// Empties the field.
    pub fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
        self.aim = None;
        self.recalled = None;
    }

    /// Takes the text out, keeps it in the history and empties the field.
    pub fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.clear();
        self.remember(&text);
        text
    }

    /// Adds a line to the history, unless it is empty, the last one again, or over 64 KiB.
    pub fn remember(&mut self, text: &str) {
        let recallable = (1..=RECALLABLE).contains(&text.len());
        if recallable && self.history.back().is_none_or(|last| last != text) {
            self.history.push_back(text.to_owned());
            if self.history.len() > REMEMBERED {
                self.history.pop_front();
            }
        }
    }

    /// What was pasted, put in at the cursor: line ends as `\n`, or as blanks in a field of one line.
    pub fn paste(&mut self, text: &str) -> Outcome {
        self.insert(text)
    }

    /// Answers a key: editing as in a shell (Ctrl-A E B F W U K H D, Alt-B F D, arrows, Home, End) and nothing else.
    pub fn key(&mut self, key: KeyEvent) -> Outcome {
        if key.kind == KeyEventKind::Release {
            return Outcome::Ignored;
        }
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        match key.code {
            KeyCode::Enter if self.multiline && (alt || shift) => self.insert("\n"),
            KeyCode::Enter => Outcome::Submitted,
            KeyCode::Esc => Outcome::Cancelled,
            KeyCode::Left if ctrl || alt => self.go(self.word_before()),
            KeyCode::Right if ctrl || alt => self.go(self.word_after()),
            KeyCode::Left => self.go(self.before()),
            KeyCode::Right => self.go(self.after()),
            KeyCode::Home if ctrl => self.go(0),
            KeyCode::End if ctrl => self.go(self.text.len()),
            KeyCode::Home => self.go(self.line_start()),
            KeyCode::End => self.go(self.line_end()),
            KeyCode::Up => self.up(),
            KeyCode::Down => self.down(),
            KeyCode::Backspace if ctrl || alt => self.delete(self.word_before(), self.cursor),
            KeyCode::Delete if ctrl || alt => self.delete(self.cursor, self.word_after()),
            KeyCode::Backspace => self.delete(self.before(), self.cursor),
            KeyCode::Delete => self.delete(self.cursor, self.after()),
            KeyCode::Char(c) if ctrl && !alt => self.control(c),
            KeyCode::Char(c) if alt && !ctrl => self.meta(c),
            // Both together is how AltGr arrives: the character is meant.
            KeyCode::Char(c) => self.insert(c.encode_utf8(&mut [0; 4])),
            _ => Outcome::Ignored,
        }
    }

    fn control(&mut self, c: char) -> Outcome {
        match c {
            'a' => self.go(self.line_start()),
            'e' => self.go(self.line_end()),
            'b' => self.go(self.before()),
            'f' => self.go(self.after()),
            'h' => self.delete(self.before(), self.cursor),
            'd' => self.delete(self.cursor, self.after()),
            'w' => self.delete(self.word_before(), self.cursor),
            'u' => self.delete(self.line_start(), self.cursor),
            'k' => self.delete(self.cursor, self.line_end()),
            'j' if self.multiline => self.insert("\n"),
            _ => Outcome::Ignored,
        }
    }

    fn meta(&mut self, c: char) -> Outcome {
        match c {
            'b' => self.go(self.word_before()),
            'f' => self.go(self.word_after()),
            'd' => self.delete(self.cursor, self.word_after()),
            _ => Outcome::Ignored,
        }
    }
}

#[cfg(test)]
mod tests;
