//! The command line: `:` and a name, with all that it may become above it, completed with Tab.

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
    completions: Vec<Offer>,
    chosen: Option<usize>,
}

/// A command that can be typed, arguments in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    text: String,
    about: String,
}

/// Commands that every screen knows.
const EVERYWHERE: [(&str, &str); 5] = [
    ("open MODEL", "Open a model: a name, a folder, a .gguf file"),
    ("layer N", "Go to a layer"),
    ("theme NAME", "dark, light, 16, 16-light, none, ascii"),
    ("help", "Show every key of this screen"),
    ("quit", "Leave"),
];
/// Most commands that are listed at once.
const LISTED: usize = 16;

/// Longest command.
const LONGEST: usize = 4096;

impl Palette {
    /// Nothing typed yet: everything is offered.
    pub fn new(screens: &[Box<dyn Screen>]) -> Self {
        Self {
            completions: matching("", screens),
            ..Self::default()
        }
    }

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
            self.completions = matching(&self.text, screens);
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
            self.completions = matching(&self.text, screens);
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
        let words = self.completions[next].text.split(' ');
        let fixed: Vec<&str> = words
            .take_while(|w| !w.chars().all(char::is_uppercase))
            .collect();
        self.text = fixed.join(" ");
        if fixed.len() < self.completions[next].text.split(' ').count() {
            self.text.push(' ');
        }
    }

    /// Draws it on the last lines, what it may become above it.
    pub fn view(&self, theme: &Theme, area: Rect, buf: &mut Buffer) {
        if area.height == 0 {
            return;
        }
        let last = area.height - 1;
        let line = format!(":{}▏", cells::prose(&self.text, theme.ascii));
        pen::clear_line(area, last, buf);
        let line = cells::fit(&line, area.width.into(), theme.ascii);
        pen::line(area, last, &line, theme.accent(), buf);
        let room = LISTED.min(usize::from(last).saturating_sub(4));
        let high = self.completions.len().clamp(1, room.max(1)) as u16 + 2;
        if room == 0 || high > last {
            return;
        }
        let above = Rect {
            y: area.y + last - high,
            height: high,
            width: area.width.min(100),
            ..area
        };
        let title = match self.completions.len() {
            0 => "no such command; esc closes".to_owned(),
            n => format!("{n} commands: tab takes one, enter runs it, esc closes"),
        };
        let inner = pen::panel(above, &title, theme, buf);
        let wide = self.completions.iter().map(|o| cells::width(&o.text)).max();
        let wide = wide.unwrap_or(0).min(usize::from(inner.width) / 2);
        let from = cells::scroll(self.chosen, 0, room, self.completions.len());
        let shown = self.completions.iter().enumerate().skip(from).take(room);
        for (i, offer) in shown {
            let y = (i - from) as u16;
            let chosen = self.chosen == Some(i);
            let style = if chosen { theme.cursor() } else { theme.key() };
            let name = format!(" {} ", cells::fit(&offer.text, wide, theme.ascii));
            let x = cells::put(buf, inner, 0, y, &name, style);
            let left = usize::from(inner.width.saturating_sub(x + 1));
            let about = cells::cut(&cells::prose(&offer.about, theme.ascii), left, theme.ascii);
            cells::put(buf, inner, x + 1, y, &about, theme.dim());
        }
    }
}

fn offers(screens: &[Box<dyn Screen>]) -> Vec<Offer> {
    let offer = |text: &str, about: &str| Offer {
        text: text.to_owned(),
        about: about.to_owned(),
    };
    let mut all: Vec<Offer> = screens.iter().map(|s| offer(s.id(), s.about())).collect();
    all.extend(EVERYWHERE.map(|(text, about)| offer(text, about)));
    for screen in screens {
        let about = format!("in {}", screen.id());
        all.extend(screen.commands().iter().map(|text| offer(text, &about)));
    }
    all
}

/// Every command there is, arguments in capitals.
pub fn known(screens: &[Box<dyn Screen>]) -> Vec<String> {
    offers(screens)
        .into_iter()
        .map(|offer| offer.text)
        .collect()
}

fn matching(text: &str, screens: &[Box<dyn Screen>]) -> Vec<Offer> {
    let typed = text.trim_start();
    let name = typed.split(' ').next().unwrap_or_default();
    let fits = |offer: &Offer| {
        let first = offer.text.split(' ').next().unwrap_or_default();
        // Once the name is typed, what follows it is the argument.
        offer.text.starts_with(typed) || (typed.contains(' ') && first == name)
    };
    offers(screens).into_iter().filter(fits).collect()
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
