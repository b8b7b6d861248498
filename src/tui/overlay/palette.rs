//! The command line: `:` and a name, completed with Tab, remembered in a history.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::cells;
use crate::tui::pen;
use crate::tui::screen::Screen;
use crate::tui::theme::Theme;

/// What a key led to.
pub enum Outcome {
    /// It is still open.
    Open,
    /// It was closed.
    Closed,
    /// Run this.
    Run(String),
}

/// The line.
#[derive(Default)]
pub struct Palette {
    text: String,
    completions: Vec<String>,
    chosen: Option<usize>,
}

/// Longest command.
const LONGEST: usize = 4096;

impl Palette {
    /// A key.
    pub fn key(&mut self, key: KeyEvent, screens: &[Box<dyn Screen>]) -> Outcome {
        match key.code {
            KeyCode::Esc => return Outcome::Closed,
            KeyCode::Enter => return Outcome::Run(std::mem::take(&mut self.text)),
            KeyCode::Backspace => {
                if self.text.pop().is_none() {
                    return Outcome::Closed;
                }
                self.chosen = None;
            }
            KeyCode::Tab | KeyCode::BackTab => self.complete(screens, key.code == KeyCode::BackTab),
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) => {
                if self.text.len() < LONGEST {
                    self.text.push(c);
                }
                self.chosen = None;
            }
            _ => {}
        }
        if self.chosen.is_none() {
            self.completions = matching(&self.text, &known(screens));
        }
        Outcome::Open
    }

    /// Pasted text: its first line.
    pub fn paste(&mut self, text: &str) {
        let line = text.lines().next().unwrap_or_default();
        let room = LONGEST.saturating_sub(self.text.len());
        self.text
            .extend(line.chars().filter(|c| !c.is_control()).take(room));
        self.chosen = None;
    }

    fn complete(&mut self, screens: &[Box<dyn Screen>], back: bool) {
        if self.chosen.is_none() {
            self.completions = matching(&self.text, &known(screens));
        }
        let count = self.completions.len();
        if count == 0 {
            return;
        }
        let next = match (self.chosen, back) {
            (None, false) => 0,
            (None, true) => count - 1,
            (Some(i), false) => (i + 1) % count,
            (Some(i), true) => (i + count - 1) % count,
        };
        self.chosen = Some(next);
        // What stands after the name is for the user to say.
        let words = self.completions[next].split(' ');
        let fixed: Vec<&str> = words
            .take_while(|w| !w.chars().all(char::is_uppercase))
            .collect();
        self.text = fixed.join(" ");
        if fixed.len() < self.completions[next].split(' ').count() {
            self.text.push(' ');
        }
    }

    /// Draws it on the last lines.
    pub fn view(&self, theme: &Theme, area: Rect, buf: &mut Buffer) {
        if area.height == 0 {
            return;
        }
        let last = area.height - 1;
        let line = format!(":{}▏", cells::prose(&self.text, theme.ascii));
        pen::clear_line(area, last, buf);
        pen::line(
            area,
            last,
            &cells::fit(&line, area.width.into(), theme.ascii),
            theme.accent(),
            buf,
        );
        if last > 0 {
            let offers = if self.completions.is_empty() {
                "no such command; Esc closes".to_string()
            } else {
                self.completions.join("   ")
            };
            pen::clear_line(area, last - 1, buf);
            let offers = cells::fit(&offers, area.width.into(), theme.ascii);
            pen::line(area, last - 1, &offers, theme.dim(), buf);
        }
    }
}

/// Every command there is, arguments in capitals.
pub fn known(screens: &[Box<dyn Screen>]) -> Vec<String> {
    let mut all: Vec<String> = screens.iter().map(|s| s.id().to_string()).collect();
    all.extend(["open MODEL", "layer N", "theme NAME", "help", "quit"].map(String::from));
    for screen in screens {
        all.extend(screen.commands().iter().map(ToString::to_string));
    }
    all
}

fn matching(text: &str, known: &[String]) -> Vec<String> {
    let typed = text.trim_start();
    known
        .iter()
        .filter(|name| name.starts_with(typed))
        .cloned()
        .collect()
}

/// A hint at what was meant.
pub fn nearest(typed: &str, known: &[String]) -> String {
    let distance = |name: &String| {
        let name = name.split(' ').next().unwrap_or_default();
        let common = name
            .chars()
            .zip(typed.chars())
            .take_while(|(a, b)| a == b)
            .count();
        (usize::MAX - common, name.len().abs_diff(typed.len()))
    };
    known
        .iter()
        .min_by_key(|name| distance(name))
        .map_or_else(String::new, |name| format!("did you mean `{name}`?"))
}
