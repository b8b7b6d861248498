//! Help: the keys of the screen, then those that mean the same everywhere, narrowed by what is typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::cells;
use crate::tui::filter::Filter;
use crate::tui::keys::{Binding, GLOBAL};
use crate::tui::pen;
use crate::tui::screen::Screen;
use crate::tui::theme::Theme;

/// The help of one screen.
pub struct Help {
    title: String,
    about: &'static str,
    screen: &'static [Binding],
    search: String,
    offset: usize,
}

impl Help {
    /// Of a screen.
    pub fn new(screen: &dyn Screen) -> Self {
        Self {
            title: screen.id().to_string(),
            about: screen.about(),
            screen: screen.bindings(),
            search: String::new(),
            offset: 0,
        }
    }

    /// A key; true when it closes the help.
    pub fn key(&mut self, key: KeyEvent) -> bool {
        match key.code {
            KeyCode::Esc if !self.search.is_empty() => {
                self.search.clear();
                self.offset = 0;
            }
            KeyCode::Esc | KeyCode::Enter => return true,
            // The key that begins a filter elsewhere; here typing does.
            KeyCode::Char('/') if self.search.is_empty() => {}
            KeyCode::Char('?') if self.search.is_empty() => return true,
            KeyCode::Down | KeyCode::PageDown => self.offset += 1,
            KeyCode::Up | KeyCode::PageUp => self.offset = self.offset.saturating_sub(1),
            KeyCode::Backspace => {
                self.search.pop();
                self.offset = 0;
            }
            KeyCode::Char(c)
                if !key.modifiers.contains(KeyModifiers::CONTROL) && self.search.len() < 64 =>
            {
                self.search.push(c);
                self.offset = 0;
            }
            _ => {}
        }
        false
    }

    /// The lines that are left: key, words.
    pub fn lines(&self) -> Vec<(String, String)> {
        let search = Filter::new(&self.search);
        let wanted = |binding: &&Binding| {
            search.is_empty()
                || search.matches(binding.help)
                || binding.keys.split(' ').any(|key| key == self.search)
        };
        let line = |binding: &Binding| (binding.keys.to_string(), binding.help.to_string());
        let numbers = (
            "1-9".to_string(),
            "Go to the screen with this number".to_string(),
        );
        let mut lines: Vec<_> = self.screen.iter().filter(wanted).map(line).collect();
        lines.extend(GLOBAL.iter().filter(wanted).map(line));
        if search.matches(&numbers.1) {
            lines.push(numbers);
        }
        lines
    }

    /// Draws it over the screen.
    pub fn view(&self, theme: &Theme, area: Rect, buf: &mut Buffer) {
        let lines = self.lines();
        let at = cells::popup(area, 76, lines.len() as u16 + 5);
        let inner = pen::panel(at, &format!("help: {}", self.title), theme, buf);
        if inner.height < 2 {
            return;
        }
        pen::line(
            inner,
            0,
            &cells::fit(self.about, inner.width.into(), theme.ascii),
            theme.dim(),
            buf,
        );
        let typed = if self.search.is_empty() {
            "type to search; Esc closes".to_string()
        } else {
            let dot = theme.pick("·", "-");
            let search = cells::prose(&self.search, theme.ascii);
            // The keys of the screen, those of every screen, and the numbers.
            let of = self.screen.len() + GLOBAL.len() + 1;
            format!("filter: {search} {dot} {} of {of}; Esc clears", lines.len())
        };
        pen::line(inner, 1, &typed, theme.accent(), buf);
        let room = usize::from(inner.height).saturating_sub(3);
        let offset = self.offset.min(lines.len().saturating_sub(room));
        for (i, (keys, help)) in lines.iter().skip(offset).take(room).enumerate() {
            let row = i as u16 + 3;
            pen::line(inner, row, &format!("{keys:>12}"), theme.key(), buf);
            if inner.width > 14 {
                let words = Rect {
                    x: inner.x + 14,
                    width: inner.width - 14,
                    ..inner
                };
                let text = cells::fit(help, words.width.into(), theme.ascii);
                pen::line(words, row, &text, theme.text(), buf);
            }
        }
    }
}
