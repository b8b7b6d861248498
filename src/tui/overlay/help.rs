//! Help: the keys of the screen, then those that mean the same everywhere, narrowed by what is typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::tui::cells;
use crate::tui::filter::Filter;
use crate::tui::keys::{Binding, GLOBAL};
use crate::tui::pen;
use crate::tui::screen::Screen;
use crate::tui::theme::Theme;

/// Columns that the help takes at most.
const WIDE: u16 = 100;

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
            KeyCode::Down => self.scroll(1),
            KeyCode::PageDown => self.scroll(10),
            KeyCode::Up => self.scroll(-1),
            KeyCode::PageUp => self.scroll(-10),
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

    fn scroll(&mut self, lines: isize) {
        // Past the end by a help's length at most, so that the way back is not longer than the help.
        let most = 4 * (self.screen.len() + GLOBAL.len());
        self.offset = self.offset.saturating_add_signed(lines).min(most);
    }

    /// The keys that are left, under the name of those they belong to: keys, words.
    fn sections(&self) -> Vec<(String, Vec<(String, &'static str)>)> {
        let search = Filter::new(&self.search);
        let fits = |keys: &str, help: &str| {
            search.is_empty()
                || search.matches(help)
                || keys.split(' ').any(|key| key == self.search)
        };
        let of = |table: &[Binding]| -> Vec<(String, &'static str)> {
            let wanted = table.iter().filter(|b| fits(b.keys, b.help));
            wanted
                .map(|b| (b.keys.replace(' ', "  "), b.help))
                .collect()
        };
        let mut everywhere = of(GLOBAL);
        let numbers = (
            "1-9",
            "Go to the screen with this number; ' and a letter goes to any",
        );
        if fits(numbers.0, numbers.1) {
            everywhere.insert(0, (numbers.0.to_owned(), numbers.1));
        }
        let all = [
            (format!("in {}", self.title), of(self.screen)),
            ("in every screen".to_owned(), everywhere),
        ];
        all.into_iter()
            .filter(|(_, keys)| !keys.is_empty())
            .collect()
    }

    /// What is drawn for a width: keys at the left, their words beside them over as many lines as they need.
    fn lines(&self, wide: usize, theme: Theme) -> Vec<(String, String, Style)> {
        let sections = self.sections();
        let keys = sections.iter().flat_map(|(_, keys)| keys);
        let left = keys.map(|(keys, _)| cells::width(keys)).max().unwrap_or(0);
        let mut lines = Vec::new();
        for (name, keys) in sections {
            if !lines.is_empty() {
                lines.push((String::new(), String::new(), theme.text()));
            }
            lines.push((name, String::new(), theme.title()));
            for (keys, help) in keys {
                let mut keys = format!("  {keys:<left$}  ");
                let room = wide.saturating_sub(cells::width(&keys)).max(8);
                for words in pen::wrapped(help, room) {
                    let blank = " ".repeat(cells::width(&keys));
                    let keys = std::mem::replace(&mut keys, blank);
                    lines.push((keys, words, theme.key()));
                }
            }
        }
        lines
    }

    /// Draws it over the screen.
    pub fn view(&self, theme: &Theme, area: Rect, buf: &mut Buffer) {
        let wide = area.width.min(WIDE);
        let lines = self.lines(usize::from(wide.saturating_sub(2)), *theme);
        let at = cells::popup(area, wide, lines.len() as u16 + 5);
        let room = usize::from(at.height).saturating_sub(5);
        let most = lines.len().saturating_sub(room);
        let offset = self.offset.min(most);
        let more = match most - offset {
            0 => String::new(),
            n => format!("; down: {n} more lines"),
        };
        let title = format!("help: {}{more}", self.title);
        let inner = pen::panel(at, &title, theme, buf);
        if inner.height < 3 {
            return;
        }
        let about = cells::cut(self.about, inner.width.into(), theme.ascii);
        pen::line(inner, 0, &about, theme.dim(), buf);
        let typed = match (self.search.is_empty(), lines.is_empty()) {
            (true, _) => "type to search, down and up scroll, esc closes".to_owned(),
            (false, true) => format!("filter: {}▏  no key does that; esc clears", self.search),
            (false, false) => format!("filter: {}▏  esc clears", self.search),
        };
        let typed = cells::prose(&typed, theme.ascii);
        pen::line(inner, 1, &typed, theme.accent(), buf);
        for (i, (keys, help, style)) in lines.iter().skip(offset).take(room).enumerate() {
            let row = i as u16 + 3;
            let x = cells::put(buf, inner, 0, row, keys, *style);
            cells::put(buf, inner, x, row, help, theme.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_do_not_fit_go_on_below_themselves() {
        let screens = crate::tui::screens::table();
        let mut help = Help::new(screens[0].as_ref());
        for wide in [40, 70, 98] {
            let lines = help.lines(wide, Theme::dark());
            let fits = |(keys, words, _): &(String, String, Style)| {
                cells::width(keys) + cells::width(words) <= wide
            };
            assert!(lines.iter().all(fits), "{wide}");
            let said: Vec<&str> = lines.iter().map(|l| l.1.trim()).collect();
            let said = said.join(" ");
            for binding in screens[0].bindings() {
                assert!(said.contains(binding.help), "{wide}: {}", binding.help);
            }
        }
        help.search = "no such key".into();
        assert!(help.lines(80, Theme::dark()).is_empty());
    }
}
