//! Going to a screen by a letter: `'` shows every screen with its letter, and the letter goes there.
//!
//! Always: the letters are those of the screens' own names, each of one screen; the screens that have no number come first, so
//! that theirs are the first letters of their names.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::cells;
use crate::tui::pen;
use crate::tui::screen::Screen;
use crate::tui::theme::Theme;

/// Screens with a number: one for each digit but 0.
pub const NUMBERED: usize = 9;

/// What a key led to.
pub enum Outcome {
    /// It was closed.
    Closed,
    /// Go to this screen.
    Go(&'static str),
}

/// The list of letters.
pub struct Leap {
    rows: Vec<(char, &'static str, &'static str)>,
}

/// A letter for each screen, in their order.
pub fn letters(ids: &[&'static str]) -> Vec<char> {
    let mut letters = vec!['?'; ids.len()];
    let unnumbered = NUMBERED.min(ids.len())..ids.len();
    for at in unnumbered.chain(0..NUMBERED.min(ids.len())) {
        let own = ids[at].chars();
        let free = own.chain('a'..='z').find(|c| !letters.contains(c));
        letters[at] = free.unwrap_or('?');
    }
    letters
}

impl Leap {
    /// Of all screens.
    pub fn new(screens: &[Box<dyn Screen>]) -> Self {
        let ids: Vec<&'static str> = screens.iter().map(|screen| screen.id()).collect();
        let rows = letters(&ids).into_iter().zip(screens);
        Self {
            rows: rows
                .map(|(letter, screen)| (letter, screen.id(), screen.about()))
                .collect(),
        }
    }

    /// A key; one that is no letter of a screen closes it.
    pub fn key(&self, key: KeyEvent) -> Outcome {
        let KeyCode::Char(c) = key.code else {
            return Outcome::Closed;
        };
        let command = KeyModifiers::CONTROL | KeyModifiers::ALT;
        let found = self.rows.iter().find(|(letter, ..)| *letter == c);
        match found.filter(|_| !key.modifiers.intersects(command)) {
            Some((_, id, _)) => Outcome::Go(id),
            None => Outcome::Closed,
        }
    }

    /// Draws it over the screen.
    pub fn view(&self, theme: &Theme, area: Rect, buf: &mut Buffer) {
        let at = cells::popup(area, 100, self.rows.len() as u16 + 2);
        let title = "go to a screen: its letter; esc closes";
        let inner = pen::panel(at, title, theme, buf);
        for (row, (letter, id, about)) in self.rows.iter().enumerate() {
            let row = row as u16;
            let x = cells::put(buf, inner, 1, row, &letter.to_string(), theme.key());
            let name = cells::fit(id, 11, theme.ascii);
            let x = cells::put(buf, inner, x + 2, row, &name, theme.text());
            let left = usize::from(inner.width.saturating_sub(x + 1));
            let about = cells::cut(&cells::prose(about, theme.ascii), left, theme.ascii);
            cells::put(buf, inner, x + 1, row, &about, theme.dim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_screen_has_a_letter_of_its_own() {
        let screens = crate::tui::screens::table();
        let ids: Vec<&'static str> = screens.iter().map(|s| s.id()).collect();
        let letters = letters(&ids);
        for (i, letter) in letters.iter().enumerate() {
            assert!(letter.is_ascii_lowercase(), "{}: {letter}", ids[i]);
            assert!(!letters[..i].contains(letter), "{}: {letter}", ids[i]);
            if i >= NUMBERED {
                assert!(ids[i].starts_with(*letter), "{}: {letter}", ids[i]);
            }
        }
        let leap = Leap::new(&screens);
        for (letter, id) in letters.iter().zip(&ids) {
            let key = KeyEvent::new(KeyCode::Char(*letter), KeyModifiers::NONE);
            assert!(matches!(leap.key(key), Outcome::Go(to) if to == *id));
        }
        let key = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        assert!(matches!(leap.key(key), Outcome::Closed));
    }
}
